//! What no transform touches comes out byte for byte, in the partition and at the offset that it had.

use weir_tests::{Consumed, Pipeline, Record, Scratch, Topic, Weir, config};

/// Pipelines that touch nothing: one without transforms, one whose filter reads the records' own fields and keeps all,
/// and one whose transform is handed values and headers and changes none.
fn copies(input: &Topic, outputs: [&Topic; 3]) -> Vec<Pipeline> {
    let [plain, filter, faulty] = outputs;
    let keep = "config = { keep = \"record.offset >= 0 && (!has(record.headers.none) || record.topic != '')\" }";
    let pipelines = vec![
        Pipeline::new("plain", input, plain),
        Pipeline::new("filter", input, filter).transform("all", "filter", keep),
        Pipeline::new("two", input, faulty)
            .transform("all", "filter", keep)
            .transform(
                "again",
                "filter",
                "config = { drop = \"record.partition < 0\" }",
            ),
    ];
    let same = |it: Pipeline| it.set("partition = \"same\"");
    pipelines.into_iter().map(same).collect()
}

/// Copies `input`, and checks that all copies are alike to it.
fn check(input: &Topic, settings: &[(&str, &str)], producer: &str) {
    let scratch = Scratch::new();
    let outputs = [(); 3].map(|()| Topic::create_with(input.partitions(), settings));
    let pipelines = copies(input, outputs.each_ref());
    let pipelines: Vec<Pipeline> = pipelines
        .into_iter()
        .map(|it| it.producer(producer))
        .collect();
    let mut weir = Weir::start(&scratch, &config(&pipelines.iter().collect::<Vec<_>>()));
    for pipeline in &pipelines {
        weir.wait_done(input, pipeline.group());
    }
    assert_eq!(weir.terminate(), Some(0));
    let inputs = input.consume();
    for output in &outputs {
        let outputs = output.consume();
        for (output, input) in outputs.iter().zip(&inputs) {
            assert!(output == input, "{}\n{}", start(output), start(input));
        }
        assert_eq!(outputs.len(), inputs.len());
    }
}

/// Enough of a record to tell it by.
fn start(record: &Consumed) -> String {
    format!("{record:?}").chars().take(500).collect()
}

#[test]
fn keys_values_headers_and_timestamps() {
    let bytes = |kind: usize, n: usize| match kind {
        0 => None,
        1 => Some(Vec::new()),
        2 => Some(format!("{{\"n\": {n}.50, \"n\":1e3 }} ").into_bytes()),
        _ => Some([&n.to_be_bytes()[..], b"\xff\x00\xfe\xc3\x28"].concat()),
    };
    // Every kind of key with every kind of value and of headers, in each partition.
    let records = (0..4 * 4 * 6 * 4).map(|n| {
        let record = Record {
            key: bytes(n % 4, n),
            value: bytes(n / 4 % 4, n),
            ..Record::default()
        };
        let record = match n / 16 % 6 {
            0 => record,
            1 => record.header(b"name", Some(b"value")),
            2 => record.header(b"null", None).header(b"empty", Some(b"")),
            3 => record
                .header(b"same", Some(b"1"))
                .header(b"other", None)
                .header(b"same", Some(b"1"))
                .header(b"same", Some(b"2")),
            4 => record.header(b"", Some(b"\x00\xff")).header(b"", None),
            _ => record
                .header(b"\xff\xfe", Some(b"\xc3\x28"))
                .header("Größe".as_bytes(), Some(&[0; 300])),
        };
        // From 1970 to the year 5138.
        let time = 1 + (n as i64).pow(5) * 12_000;
        record.partition(n as i32 / 96).timestamp(time)
    });
    // Otherwise a broker takes nothing from more than an hour ahead.
    let settings = [("message.timestamp.after.max.ms", "9223372036854775807")];
    let input = Topic::create_with(4, &settings);
    input.produce(records);
    assert_eq!(input.len(), 384);
    check(&input, &settings, "\"linger.ms\" = 5");
}

#[test]
fn timestamps_that_the_broker_set() {
    let input = Topic::create_with(1, &[("message.timestamp.type", "LogAppendTime")]);
    input.produce((0..10).map(|n| Record::new(None, Some(b"value")).timestamp(1_000 + n)));
    assert!(input.consume()[0].timestamp > Some(1_500_000_000_000));
    check(&input, &[], "\"linger.ms\" = 5");
}

#[test]
fn records_of_a_megabyte_and_more() {
    let settings = [("max.message.bytes", "8388608")];
    let input = Topic::create_with(2, &settings);
    let large = |n: usize| -> Vec<u8> { (0..3 << 20).map(|at| (at * n / 7) as u8).collect() };
    input.produce((0..12).map(|n| {
        let size = [0, 1, 1_000_000, 1 << 20, 3 << 20][n % 5];
        let (value, other) = (&large(n)[..size], &large(n + 1)[..size / 3]);
        let record = match n % 3 {
            0 => Record::new(None, Some(value)),
            1 => Record::new(Some(value), Some(other)),
            _ => Record::new(Some(other), None).header(b"large", Some(value)),
        };
        record.partition(n as i32 % 2)
    }));
    check(&input, &settings, "\"message.max.bytes\" = 8388608");
}
