//! `weir run` with an empty chain: what comes out is what went in.

use weir_tests::{MINUTE, Record, Scratch, Topic, Weir, broker};

use crate::records::odd;

/// Copies a topic to another one, partition by partition.
fn config(input: &Topic, output: &Topic) -> String {
    format!(
        "\
[kafka]
\"bootstrap.servers\" = \"{}\"

[pipelines.copy]
input = [\"{input}\"]
output = \"{output}\"
group = \"{input}\"
partition = \"same\"
workers = 2
commit_interval = \"50ms\"

[pipelines.copy.consumer]
# The least that Kafka takes: how long a killed process keeps its partitions from the next one.
\"session.timeout.ms\" = 6000
",
        broker().bootstrap()
    )
}

#[test]
fn an_empty_chain_keeps_every_byte() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(4), Topic::create(4));
    input.produce((0..1_000).map(odd));

    let mut weir = Weir::start(&scratch, &config(&input, &output));
    weir.wait_ready();
    weir.wait_until("all offsets are committed", MINUTE, |_| {
        (input.committed(input.name()) == [Some(250); 4]).then_some(())
    });
    assert_eq!(weir.counter("weir_records_in_total", &[]), 1_000);
    assert_eq!(weir.counter("weir_records_out_total", &[]), 1_000);
    assert_eq!(weir.terminate(), Some(0), "{}", weir.log());
    assert_eq!(output.consume(), input.consume());
}

#[test]
fn a_killed_process_loses_nothing() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(4), Topic::create(4));
    let number = |n: i64| Record::new(None, Some(&n.to_be_bytes())).partition((n % 4) as i32);
    input.produce((0..50_000).map(number));

    let mut weir = Weir::start(&scratch, &config(&input, &output));
    weir.wait_until("some records came out", MINUTE, |_| {
        (output.ends().iter().sum::<i64>() > 0).then_some(())
    });
    weir.kill();
    input.produce((50_000..60_000).map(number));
    let mut weir = Weir::start(&scratch, &config(&input, &output));
    weir.wait_until("all offsets are committed", MINUTE, |_| {
        (input.committed(input.name()) == [Some(15_000); 4]).then_some(())
    });
    assert_eq!(weir.terminate(), Some(0), "{}", weir.log());

    // At least once: some may be there twice, but none is missing, and each comes first after those before it.
    let consumed = output.consume();
    for partition in 0..4 {
        let records = consumed
            .iter()
            .filter(|record| record.partition == partition);
        let mut next = i64::from(partition);
        for value in records.filter_map(|record| record.value.as_deref()) {
            let n = i64::from_be_bytes(value.try_into().unwrap());
            assert!(n <= next, "{n} came before {next}");
            next = next.max(n + 4);
        }
        assert_eq!(next, 60_000 + i64::from(partition));
    }
}

#[test]
fn a_misspelt_key_ends_it_before_the_first_record() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(1), Topic::create(1));
    let config = config(&input, &output).replace("commit_interval", "comit_interval");
    let config = scratch.write("weir.toml", config);
    let finished = Weir::command(&scratch, MINUTE, &["run", "-c", config.to_str().unwrap()]);
    assert_eq!(finished.code, Some(2));
    assert!(finished.stderr.contains("commit_interval"), "{finished:?}");
    assert_eq!(input.committed(input.name()), [None]);
}
