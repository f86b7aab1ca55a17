//! What is read, and from where on.

use weir_tests::{MINUTE, Pipeline, Record, Scratch, Topic, Weir, config};

/// How soon a consumer sees topics and partitions that are new.
const REFRESH: &str = "\"topic.metadata.refresh.interval.ms\" = 200";

/// Records with these numbers as values, and times of as many seconds, and a millisecond: librdkafka takes 0 for no time.
fn numbers(numbers: std::ops::Range<i64>) -> impl Iterator<Item = Record> {
    numbers.map(|n| Record::new(None, Some(n.to_string().as_bytes())).timestamp(n * 1_000 + 1))
}

/// The numbers in a topic, in order.
fn numbers_in(topic: &Topic) -> Vec<i64> {
    let number = |value: Vec<u8>| String::from_utf8(value).unwrap().parse().unwrap();
    let values = topic.consume().into_iter().filter_map(|it| it.value);
    let mut numbers: Vec<i64> = values.map(number).collect();
    numbers.sort_unstable();
    numbers
}

/// Waits until the topic holds just these numbers.
fn wait_for(weir: &mut Weir, topic: &Topic, numbers: impl IntoIterator<Item = i64>) {
    let wanted: Vec<i64> = numbers.into_iter().collect();
    weir.wait_until(
        &format!("{} records in {topic}", wanted.len()),
        MINUTE,
        |_| (topic.len() >= wanted.len()).then_some(()),
    );
    assert_eq!(numbers_in(topic), wanted);
}

#[test]
fn several_pipelines_in_one_process() {
    let scratch = Scratch::new();
    let (first, second) = (Topic::create(2), Topic::create(3));
    let (copy, even, both) = (Topic::create(2), Topic::create(1), Topic::create(4));
    first.produce(numbers(0..1_000));
    second.produce(numbers(1_000..3_000));
    let keep = "config = { keep = \"int(string(record.timestamp.getSeconds())) % 2 == 0\" }";
    let pipelines = [
        Pipeline::new("copy", &first, &copy),
        Pipeline::new("even", &first, &even).transform("even", "filter", keep),
        Pipeline::between("both", first.name(), both.name()).replace(
            &format!("{:?}", first.name()),
            &format!("[{:?}, {:?}]", first.name(), second.name()),
        ),
    ];
    let mut weir = Weir::start(&scratch, &config(&pipelines.iter().collect::<Vec<_>>()));
    for pipeline in &pipelines {
        weir.wait_done(&first, pipeline.group());
    }
    weir.wait_done(&second, pipelines[2].group());
    let count = |name, pipeline| weir.counter(name, &[&format!("pipeline=\"{pipeline}\"")]);
    for (pipeline, records_in, records_out) in [
        ("copy", 1_000, 1_000),
        ("even", 1_000, 500),
        ("both", 3_000, 3_000),
    ] {
        assert_eq!(
            count("weir_records_in_total", pipeline),
            records_in,
            "{pipeline}"
        );
        assert_eq!(
            count("weir_records_out_total", pipeline),
            records_out,
            "{pipeline}"
        );
    }
    assert_eq!(weir.terminate(), Some(0));
    assert!(numbers_in(&copy).into_iter().eq(0..1_000));
    assert!(numbers_in(&even).into_iter().eq((0..1_000).step_by(2)));
    assert!(numbers_in(&both).into_iter().eq(0..3_000));
    assert_eq!(second.committed(pipelines[0].group()), [None; 3]);
}

#[test]
fn a_pattern_takes_topics_that_are_made_later() {
    let scratch = Scratch::new();
    let base = Topic::unique_name();
    let (other, output) = (
        Topic::create_named(&format!("{base}x.no"), 1, &[]),
        Topic::create(2),
    );
    other.produce(numbers(900..910));
    let pattern = format!("^{base}\\..*");
    let pipeline = Pipeline::between("orders", &pattern, output.name())
        .set("workers = 2")
        .consumer(REFRESH);
    // Nothing matches yet, so that there's nothing to join for.
    let mut weir = Weir::start(&scratch, &config(&[&pipeline]));
    weir.wait_not_ready(&["orders: 0 of 2 workers have joined the group"]);
    let mut topics = Vec::new();
    for (n, name) in ["one", "two"].iter().enumerate() {
        let topic = Topic::create_named(&format!("{base}.{name}"), 2, &[]);
        let first = n as i64 * 100;
        topic.produce(numbers(first..first + 100));
        wait_for(&mut weir, &output, 0..first + 100);
        weir.wait_ready();
        topics.push(topic);
    }
    for topic in &topics {
        weir.wait_done(topic, pipeline.group());
    }
    assert_eq!(weir.terminate(), Some(0));
    // A topic that's made while no process runs is found, too.
    let late = Topic::create_named(&format!("{base}.late"), 1, &[]);
    late.produce(numbers(200..300));
    let mut weir = Weir::start(&scratch, &config(&[&pipeline]));
    wait_for(&mut weir, &output, 0..300);
    assert_eq!(weir.terminate(), Some(0));
}

#[test]
fn a_group_without_offsets_starts_where_it_is_told() {
    let scratch = Scratch::new();
    let input = Topic::create(1);
    input.produce(numbers(1..100));
    let starts = [
        ("earliest", 1..200),
        ("latest", 100..200),
        ("1970-01-01T00:00:50Z", 50..200),
        ("1970-01-01T01:00:49.002+01:00", 50..200),
        // After the last record: from the end on.
        ("2026-01-31T00:00:00Z", 100..200),
    ];
    let outputs: Vec<Topic> = starts.iter().map(|_| Topic::create(1)).collect();
    let pipelines: Vec<Pipeline> = starts
        .iter()
        .zip(&outputs)
        .enumerate()
        .map(|(n, ((start, _), output))| {
            Pipeline::new(&format!("p{n}"), &input, output).set(&format!("start = \"{start}\""))
        })
        .collect();
    let refs: Vec<&Pipeline> = pipelines.iter().collect();
    let mut weir = Weir::start(&scratch, &config(&refs));
    weir.wait_ready();
    input.produce(numbers(100..200));
    for (output, (_, expected)) in outputs.iter().zip(&starts) {
        wait_for(&mut weir, output, expected.clone());
    }
    for pipeline in &pipelines {
        weir.wait_done(&input, pipeline.group());
    }
    assert_eq!(weir.terminate(), Some(0));

    // What the group has committed wins from now on.
    input.produce(numbers(200..210));
    let mut weir = Weir::start(&scratch, &config(&refs));
    for (output, (_, expected)) in outputs.iter().zip(&starts) {
        wait_for(&mut weir, output, expected.start..210);
    }
    assert_eq!(weir.terminate(), Some(0));
}

#[test]
fn partitions_that_are_added_are_read() {
    let scratch = Scratch::new();
    let (mut input, output) = (Topic::create(1), Topic::create(1));
    input.produce(numbers(0..10));
    let pipeline = Pipeline::new("grows", &input, &output)
        .set("workers = 2")
        .consumer(REFRESH);
    let mut weir = Weir::start(&scratch, &config(&[&pipeline]));
    wait_for(&mut weir, &output, 0..10);
    input.grow(3);
    input.produce(
        numbers(10..40)
            .enumerate()
            .map(|(n, it)| it.partition(n as i32 % 3)),
    );
    wait_for(&mut weir, &output, 0..40);
    weir.wait_done(&input, pipeline.group());
    assert_eq!(weir.terminate(), Some(0));
    assert_eq!(
        input.committed(pipeline.group()),
        [Some(20), Some(10), Some(10)]
    );
}

#[test]
fn a_worker_without_partitions_is_ready_and_waits_for_its_turn() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(1), Topic::create(1));
    let pipeline = Pipeline::new("idle", &input, &output).set("workers = 3");
    let mut weir = Weir::start(&scratch, &config(&[&pipeline]));
    weir.wait_ready();
    // So is a process without any.
    let mut spare = Weir::start(&scratch, &config(&[&pipeline]));
    spare.wait_ready();
    input.produce(numbers(0..10));
    wait_for(&mut spare, &output, 0..10);
    assert_eq!(weir.terminate(), Some(0));
    input.produce(numbers(10..20));
    wait_for(&mut spare, &output, 0..20);
    assert_eq!(spare.terminate(), Some(0));
}
