//! At least once: crashes, signals, and processes that come and go.

use std::collections::BTreeSet;

use weir_tests::{Consumed, MINUTE, Pipeline, Record, Scratch, Signal, Topic, Weir, config, seed};

const RECORDS: usize = 6_000;

/// The seed job made slow: a worker has a few hundred records in flight, and the producer holds each for a while, so
/// that a signal finds it at work.
fn slow(input: &Topic, output: &Topic, lines: &str) -> Pipeline {
    Pipeline::new("slow", input, output)
        .set("workers = 2\nin_flight = \"64KiB\"\nbatch = { records = 50 }")
        .producer("\"linger.ms\" = 100")
        .seed(lines)
}

fn committed(topic: &Topic, group: &str) -> i64 {
    topic.committed(group).into_iter().flatten().sum()
}

/// Kills the job twice in its middle, and runs it to its end. Returns the ids that each record came out with.
fn crash_and_replay(lines: &str, membership: &str) -> Vec<Vec<String>> {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(4), Topic::create(4));
    input.produce(seed::records(0..RECORDS));
    let often = slow(&input, &output, lines)
        .set("commit_interval = \"100ms\"")
        .consumer(membership);
    let group = often.group().to_string();

    let mut weir = Weir::start(&scratch, &config(&[&often]));
    weir.wait_until("the first commits", MINUTE, |_| {
        (committed(&input, &group) > 100).then_some(())
    });
    weir.kill();
    let after_first = (output.len(), committed(&input, &group));
    assert!(after_first.1 < RECORDS as i64, "it was killed at its end");

    // Nothing of this run is committed, so that all of it comes out again.
    let seldom = often.replace("100ms", "1h");
    let mut weir = Weir::start(&scratch, &config(&[&seldom]));
    weir.wait_until("more records", MINUTE, |_| {
        (output.len() > after_first.0 + 200).then_some(())
    });
    weir.kill();
    assert_eq!(committed(&input, &group), after_first.1);

    let mut weir = Weir::start(&scratch, &config(&[&often]));
    weir.wait_done(&input, &group);
    assert_eq!(weir.terminate(), Some(0));
    seed::replayed_ids(&input.consume(), &output.consume(), 3)
}

#[test]
fn kill_9_loses_nothing_and_a_replay_has_the_same_ids() {
    let ids = crash_and_replay("", "\"session.timeout.ms\" = 6000");
    let replayed = ids.iter().filter(|ids| ids.len() > 1).count();
    assert!(replayed >= 100, "only {replayed} records came out again");
    let distinct = |ids: &Vec<String>| ids.iter().collect::<BTreeSet<_>>().len();
    assert!(ids.iter().all(|ids| distinct(ids) == 1));
    let all: BTreeSet<&String> = ids.iter().flatten().collect();
    assert_eq!(all.len(), ids.len(), "two records have one id");
}

#[test]
fn random_ids_are_new_in_a_replay() {
    let ids = crash_and_replay("ids = \"random\"", "\"session.timeout.ms\" = 6000");
    let replayed = ids.iter().filter(|ids| ids.len() > 1).count();
    assert!(replayed >= 100, "only {replayed} records came out again");
    let all: BTreeSet<&String> = ids.iter().flatten().collect();
    assert_eq!(all.len(), ids.iter().map(Vec::len).sum::<usize>());
}

/// The records below a group's committed offsets.
fn below<'a>(input: &'a [Consumed], committed: &[Option<i64>]) -> Vec<Consumed> {
    let is_below = |it: &&'a Consumed| it.offset < committed[it.partition as usize].unwrap_or(0);
    input.iter().filter(is_below).cloned().collect()
}

#[test]
fn sigterm_finishes_what_is_in_flight_and_commits_it() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(4), Topic::create(4));
    input.produce(seed::records(0..RECORDS));
    // A commit only at the end: what it commits is what it has finished.
    let pipeline = slow(&input, &output, "").set("commit_interval = \"1h\"");
    let inputs = input.consume();
    let mut done = 0;
    for _ in 0..2 {
        let mut weir = Weir::start(&scratch, &config(&[&pipeline]));
        weir.wait_until("some more records", MINUTE, |_| {
            (output.len() > done + 100).then_some(())
        });
        let before = committed(&input, pipeline.group());
        let read = weir.counter("weir_records_in_total", &[]) as i64;
        assert_eq!(weir.terminate(), Some(0));
        assert!(committed(&input, pipeline.group()) >= before + read);
        // Exactly what is committed has come out, and each record once.
        let committed = input.committed(pipeline.group());
        let outputs = output.consume();
        seed::check(&below(&inputs, &committed), &outputs);
        done = outputs.len();
        assert!(done < RECORDS / 2, "it was stopped at its end");
    }
    let often = pipeline.replace("1h", "100ms");
    let mut weir = Weir::start(&scratch, &config(&[&often]));
    weir.wait_done(&input, pipeline.group());
    assert_eq!(weir.terminate(), Some(0));
    seed::check(&inputs, &output.consume());
}

#[test]
fn a_second_signal_ends_the_wait() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(1), Topic::create(1));
    input.produce(seed::records(0..10));
    // The producer holds the records back for longer than anybody waits.
    let held = Pipeline::new("held", &input, &output)
        .set("drain_timeout = \"4m\"")
        .producer("\"linger.ms\" = 900000")
        .seed("");
    let mut weir = Weir::start(&scratch, &config(&[&held]));
    weir.wait_until("records are in flight", MINUTE, |weir| {
        (weir.counter("weir_in_flight_bytes", &[]) > 0).then_some(())
    });
    weir.signal(Signal::TERM);
    weir.wait_log(&["a second signal ends the wait"]);
    assert!(weir.get("/healthz").is_some(), "it waits");
    weir.signal(Signal::INT);
    assert_eq!(weir.wait_exit(MINUTE), Some(0));
    assert!(output.is_empty());
    // Where it began, and nothing past it.
    assert_eq!(input.committed(held.group()), [Some(0)]);

    // What it left is the next one's.
    let prompt = held.replace("\"linger.ms\" = 900000", "\"linger.ms\" = 0");
    let mut weir = Weir::start(&scratch, &config(&[&prompt]));
    weir.wait_done(&input, prompt.group());
    assert_eq!(weir.terminate(), Some(0));
    seed::check(&input.consume(), &output.consume());
}

#[test]
fn processes_share_partitions_and_take_over() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(4), Topic::create(4));
    let pipeline = Pipeline::new("shared", &input, &output)
        .set("workers = 1")
        .seed("");
    let group = pipeline.group();
    let count = |weir: &Weir| weir.counter("weir_records_in_total", &[]);
    // Enough keys to reach all partitions.
    let produce = |numbers: std::ops::Range<usize>| {
        let keys = numbers.clone().map(|n| format!("key {}", n % 100));
        let records = seed::records(numbers).zip(keys);
        input.produce(records.map(|(record, key)| Record {
            key: Some(key.into_bytes()),
            ..record
        }));
    };

    let mut first = Weir::start(&scratch, &config(&[&pipeline]));
    first.wait_ready();
    produce(0..1_000);
    first.wait_done(&input, group);
    let mut second = Weir::start(&scratch, &config(&[&pipeline]));
    second.wait_ready();
    // Cooperative: the first one gives two partitions up, and keeps the other two.
    first.wait_log(&["revoked"]);
    let log = first.log();
    let revoked = log.lines().find(|line| line.contains("revoked")).unwrap();
    assert_eq!(revoked.matches(input.name()).count(), 2, "{revoked}");

    let before = count(&first);
    produce(1_000..2_000);
    second.wait_done(&input, group);
    assert!((1..1_000).contains(&(count(&first) - before)));
    assert_eq!(count(&first) + count(&second), 2_000);

    // The first one leaves in the middle, and the second one goes on with what it left.
    produce(2_000..12_000);
    assert_eq!(first.terminate(), Some(0));
    second.wait_done(&input, group);
    produce(12_000..13_000);
    second.wait_done(&input, group);
    assert_eq!(second.terminate(), Some(0));

    // Partitions changed hands twice, and no record came out twice.
    let inputs = input.consume();
    assert_eq!(inputs.len(), 13_000);
    seed::check(&inputs, &output.consume());
}
