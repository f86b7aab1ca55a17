//! Exactly once: crashes, signals, and processes that come and go, seen by a reader of committed records.

use std::ops::Range;

use weir_tests::{MINUTE, Pipeline, Record, Scratch, Topic, Weir, config, seed};

/// The kinds of group membership: settings of the pipeline and of its consumer.
const COOPERATIVE: (&str, &str) = ("", "\"session.timeout.ms\" = 6000");
const STATIC: (&str, &str) = ("static_membership = true", "\"session.timeout.ms\" = 6000");
const KIP_848: (&str, &str) = ("", "\"group.protocol\" = \"consumer\"");
const KIP_848_STATIC: (&str, &str) = (
    "static_membership = true",
    "\"group.protocol\" = \"consumer\"",
);
const EAGER: (&str, &str) = (
    "",
    "\"partition.assignment.strategy\" = \"range\"\n\"session.timeout.ms\" = 6000",
);

/// The seed job with small transactions and a worker for each process.
fn pipeline(input: &Topic, output: &Topic, membership: (&str, &str)) -> Pipeline {
    Pipeline::new("exact", input, output)
        .set("delivery = \"exactly-once\"\nworkers = 1\nbatch = { records = 50 }\nin_flight = \"64KiB\"")
        .set(membership.0)
        .consumer(membership.1)
        .producer("\"transaction.timeout.ms\" = 10000\n\"linger.ms\" = 50")
        .seed("")
}

/// Records with keys enough to reach all partitions.
fn produce(input: &Topic, numbers: Range<usize>) {
    let keys = numbers
        .clone()
        .map(|number| format!("key {}", number % 100));
    let records = seed::records(numbers).zip(keys);
    input.produce(records.map(|(record, key)| Record {
        key: Some(key.into_bytes()),
        ..record
    }));
}

#[track_caller]
fn wait_output(weir: &mut Weir, output: &Topic, more_than: usize) {
    weir.wait_until("more output", MINUTE, |_| {
        (output.consume().len() > more_than).then_some(())
    });
}

/// Processes come, go and die while records flow; each record comes out once, in order.
fn survives(membership: (&str, &str)) {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(4), Topic::create(4));
    let pipeline = pipeline(&input, &output, membership);
    let group = pipeline.group().to_string();
    produce(&input, 0..6_000);

    let start =
        |name: &str| Weir::start_with(&scratch, &config(&[&pipeline]), &["--instance", name]);
    let mut first = start(&format!("first-{group}"));
    wait_output(&mut first, &output, 200);
    // Another one joins in the middle.
    let mut second = start(&format!("second-{group}"));
    second.wait_ready();
    wait_output(&mut second, &output, 600);
    // One dies, and its transaction with it.
    first.kill();
    produce(&input, 6_000..8_000);
    wait_output(&mut second, &output, 1_000);
    // It comes back under its name, which fences what it left.
    let mut first = start(&format!("first-{group}"));
    first.wait_ready();
    // One leaves in good order.
    assert_eq!(second.terminate(), Some(0));
    produce(&input, 8_000..9_000);
    first.wait_done(&input, &group);
    let aborted = first.counter("weir_transactions_total", &["result=\"aborted\""]);
    assert_eq!(first.terminate(), Some(0));
    assert!(aborted <= 2, "{aborted} transactions were aborted");

    let inputs = input.consume();
    assert_eq!(inputs.len(), 9_000);
    seed::check(&inputs, &output.consume());
}

#[test]
fn with_cooperative_rebalancing() {
    survives(COOPERATIVE);
}

#[test]
fn with_eager_rebalancing() {
    survives(EAGER);
}

#[test]
fn with_static_membership() {
    survives(STATIC);
}

#[test]
fn with_the_new_group_protocol() {
    survives(KIP_848);
}

#[test]
fn with_the_new_group_protocol_and_static_membership() {
    survives(KIP_848_STATIC);
}

#[test]
fn what_a_killed_process_sent_is_seen_by_nobody_who_reads_committed_records() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(1), Topic::create(1));
    let slow = pipeline(&input, &output, COOPERATIVE)
        .set("commit_interval = \"3s\"\ntransaction_bytes = \"1GiB\"");
    produce(&input, 0..400);
    // Under its name it ends at once what it left; another would have readers wait for the transaction's time.
    let name = ["--instance", "killed"];
    let mut weir = Weir::start_with(&scratch, &config(&[&slow]), &name);
    weir.wait_until("records are sent", MINUTE, |_| {
        (output.consume_uncommitted().len() > 50).then_some(())
    });
    weir.kill();
    assert!(output.consume().is_empty(), "nothing was committed");
    let fast = slow.replace("3s", "50ms");
    let mut weir = Weir::start_with(&scratch, &config(&[&fast]), &name);
    weir.wait_done(&input, slow.group());
    assert_eq!(weir.terminate(), Some(0));
    seed::check(&input.consume(), &output.consume());
    assert!(
        output.consume_uncommitted().len() > output.consume().len(),
        "what was sent twice is there, and aborted"
    );

    // A pipeline behind it reads none of what was aborted.
    let next = Topic::create(1);
    let behind = Pipeline::new("behind", &output, &next)
        .transform("all", "filter", "config = { keep = \"true\" }")
        .set("delivery = \"exactly-once\"");
    let mut weir = Weir::start(&scratch, &config(&[&behind]));
    weir.wait_done(&output, behind.group());
    assert_eq!(weir.terminate(), Some(0));
    let values = |topic: &Topic| -> Vec<_> {
        let records = topic.consume().into_iter();
        records.map(|it| it.value).collect()
    };
    assert_eq!(values(&next), values(&output));
}

#[test]
fn sigterm_commits_what_is_in_hand() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(2), Topic::create(2));
    let pipeline = pipeline(&input, &output, COOPERATIVE);
    for round in 0..3 {
        produce(&input, round * 2_000..(round + 1) * 2_000);
        let before = output.consume().len();
        let mut weir = Weir::start(&scratch, &config(&[&pipeline]));
        wait_output(&mut weir, &output, before + 50);
        assert_eq!(weir.terminate(), Some(0));
        // What is committed has come out, and nothing else.
        let committed = input.committed(pipeline.group());
        let below: Vec<_> = input
            .consume()
            .into_iter()
            .filter(|it| it.offset < committed[it.partition as usize].unwrap_or(0))
            .collect();
        seed::check(&below, &output.consume());
    }
}
