//! A worker with a fake source and sink, and an empty chain or a real guest.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use weir::chain::Chain;
use weir::io::{Event, ReadLimit};
use weir::metrics::Metrics;
use weir::worker::{Control, End, Settings, Shared, Worker};

use crate::fakes::{Kafka, committed, partition, values};
use crate::util::{CLUSTER, chain, version};

pub(crate) struct Running {
    pub control: Arc<Control>,
    pub shared: Arc<Shared>,
    pub metrics: Metrics,
    pub thread: JoinHandle<End>,
}

pub(crate) fn settings() -> Settings {
    Settings {
        pipeline: "test".into(),
        worker: 0,
        cluster: CLUSTER.into(),
        same_partition: vec![false],
        batch: ReadLimit {
            records: 2,
            bytes: 1 << 20,
        },
        in_flight: 1 << 20,
        exactly_once: false,
        transaction_bytes: 1 << 20,
        rules: Vec::new(),
        dead_letters: None,
        commit_interval: Duration::from_millis(5),
        drain: Duration::from_secs(20),
    }
}

pub(crate) fn start(kafka: &Kafka, chain: Chain, settings: Settings) -> Running {
    let shared = Arc::new(Shared::default());
    let control = Arc::new(Control::new(kafka.waker.clone(), shared.clone()));
    let metrics = Metrics::default();
    let counters = metrics.counters("test", &chain);
    let worker = Worker::new(
        settings,
        kafka.source(),
        kafka.sink(),
        chain,
        control.clone(),
        counters,
    );
    Running {
        control,
        shared,
        metrics,
        thread: std::thread::spawn(|| worker.run()),
    }
}

/// A worker with an empty chain that has partitions 0 and 1.
pub(crate) fn start_plain(kafka: &Kafka) -> Running {
    kafka.event(Event::Assigned(vec![partition(0), partition(1)]));
    start(kafka, chain([]), settings())
}

impl Running {
    pub fn stop(self) -> End {
        self.control.stop();
        self.thread.join().unwrap()
    }
}

pub(crate) fn halted(end: End) -> String {
    match end {
        End::Halted(why) => format!("{why:#}"),
        other => panic!("expected a halt, got {other:?}"),
    }
}

#[test]
fn records_come_out_in_order_and_are_committed() {
    let kafka = Kafka::new();
    let running = start_plain(&kafka);
    kafka.feed(0, ["a", "b", "c", "d", "e"]);
    kafka.feed(1, ["x"]);
    drop(kafka.until("all committed", |it| {
        committed(it, 0) == Some(5) && committed(it, 1) == Some(1)
    }));
    assert!(running.control.joined());
    assert!(matches!(running.stop(), End::Stopped));
    let state = kafka.until("unassigned", |it| it.assigned.is_empty());
    let of_first: Vec<String> = values(&state).into_iter().filter(|it| it != "x").collect();
    assert_eq!(of_first, ["a", "b", "c", "d", "e"]);
}

#[test]
fn nothing_undelivered_is_committed() {
    let kafka = Kafka::new();
    kafka.change(|it| it.corked = true);
    let running = start_plain(&kafka);
    kafka.feed(0, ["a", "b", "c"]);
    drop(kafka.until("sent", |it| it.sent.len() == 3));
    kafka.feed(1, ["x"]);
    let state = kafka.until("the other partition's sent too", |it| it.sent.len() == 4);
    assert!(
        state.commits.iter().all(|(_, offset)| *offset == 0),
        "{:?}",
        state.commits
    );
    drop(state);
    kafka.change(|it| it.corked = false);
    drop(kafka.until("committed", |it| {
        committed(it, 0) == Some(3) && committed(it, 1) == Some(1)
    }));
    running.stop();
}

#[test]
fn a_stop_waits_for_what_is_in_flight() {
    let kafka = Kafka::new();
    kafka.change(|it| it.corked = true);
    let running = start_plain(&kafka);
    kafka.feed(0, ["a", "b", "c"]);
    drop(kafka.until("sent", |it| it.sent.len() == 3));
    running.control.stop();
    kafka.change(|it| it.corked = false);
    assert!(matches!(running.stop(), End::Stopped));
    assert_eq!(committed(&kafka.until("left", |_| true), 0), Some(3));
}

#[test]
fn a_revoke_settles_and_commits_first() {
    let kafka = Kafka::new();
    kafka.change(|it| it.corked = true);
    let running = start_plain(&kafka);
    kafka.feed(0, ["a", "b"]);
    kafka.feed(1, ["x"]);
    drop(kafka.until("sent", |it| it.sent.len() == 3));
    kafka.event(Event::Revoked {
        partitions: vec![partition(0)],
        lost: false,
    });
    drop(kafka.until("the event was taken", |it| it.events.is_empty()));
    assert_eq!(kafka.until("still assigned", |_| true).assigned.len(), 2);
    kafka.change(|it| it.corked = false);
    let state = kafka.until("given up", |it| it.assigned == [partition(1)]);
    assert_eq!(committed(&state, 0), Some(2));
    drop(state);
    // What comes for it later isn't read any more, and the other partition goes on.
    kafka.feed(0, ["late"]);
    kafka.feed(1, ["y"]);
    let state = kafka.until("the other goes on", |it| committed(it, 1) == Some(2));
    assert!(!values(&state).contains(&"late".to_string()));
    drop(state);
    running.stop();
}

#[test]
fn a_stop_commits_again_what_nobody_waited_for() {
    let kafka = Kafka::new();
    kafka.change(|it| it.lose_commits = true);
    kafka.feed(0, ["a", "b", "c"]);
    let running = start_plain(&kafka);
    let all = (partition(0), 3);
    drop(kafka.until("a commit was lost", |it| it.lost_commits.contains(&all)));
    assert!(matches!(running.stop(), End::Stopped));
    assert_eq!(committed(&kafka.until("left", |_| true), 0), Some(3));
}

#[test]
fn a_revoke_goes_on_without_its_commit() {
    let kafka = Kafka::new();
    let running = start_plain(&kafka);
    kafka.feed(0, ["a"]);
    drop(kafka.until("committed", |it| committed(it, 0) == Some(1)));
    kafka.change(|it| it.fail_commits = true);
    kafka.event(Event::Revoked {
        partitions: vec![partition(0)],
        lost: false,
    });
    drop(kafka.until("given up", |it| it.assigned == [partition(1)]));
    kafka.change(|it| it.fail_commits = false);
    kafka.feed(1, ["x"]);
    drop(kafka.until("the other goes on", |it| committed(it, 1) == Some(1)));
    assert!(matches!(running.stop(), End::Stopped));
}

#[test]
fn a_late_delivery_is_not_taken_for_one_of_the_next_assignment() {
    let kafka = Kafka::new();
    kafka.change(|it| it.corked = true);
    kafka.feed(0, ["a", "b"]);
    kafka.event(Event::Assigned(vec![partition(0)]));
    let running = start(&kafka, chain([]), settings());
    drop(kafka.until("sent", |it| it.sent.len() == 2));
    kafka.event(Event::Revoked {
        partitions: vec![partition(0)],
        lost: true,
    });
    kafka.event(Event::Assigned(vec![partition(0)]));
    drop(kafka.until("sent again", |it| it.sent.len() == 4));
    // The first two come back, and the second two don't.
    kafka.change(|it| it.deliver(2));
    running.control.hurry();
    assert!(matches!(running.stop(), End::Stopped));
    let state = kafka.until("left", |it| it.assigned.is_empty());
    assert!(committed(&state, 0) <= Some(0), "{:?}", state.commits);
}

#[test]
fn a_worker_that_lost_its_partitions_has_not_joined() {
    let kafka = Kafka::new();
    let running = start_plain(&kafka);
    drop(kafka.until("assigned", |it| it.assigned.len() == 2));
    kafka.event(Event::Revoked {
        partitions: vec![partition(0), partition(1)],
        lost: true,
    });
    drop(kafka.until("given up", |it| it.assigned.is_empty()));
    assert!(!running.control.joined());
    kafka.event(Event::Assigned(vec![partition(0)]));
    kafka.feed(0, ["a"]);
    drop(kafka.until("read", |it| it.sent.len() == 1));
    assert!(running.control.joined());
    running.stop();
}

#[test]
fn a_topics_id_is_asked_for_once_an_assignment() {
    let kafka = Kafka::new();
    let running = start_plain(&kafka);
    let state = kafka.until("assigned", |it| it.assigned.len() == 2);
    assert_eq!(state.topic_ids, 1);
    drop(state);
    running.stop();
}

#[test]
fn a_lost_partition_is_not_committed() {
    let kafka = Kafka::new();
    kafka.change(|it| it.corked = true);
    let running = start_plain(&kafka);
    kafka.feed(0, ["a", "b"]);
    drop(kafka.until("sent", |it| it.sent.len() == 2));
    kafka.event(Event::Revoked {
        partitions: vec![partition(0)],
        lost: true,
    });
    drop(kafka.until("given up", |it| it.assigned == [partition(1)]));
    kafka.change(|it| it.corked = false);
    kafka.feed(1, ["x"]);
    drop(kafka.until("the other goes on", |it| committed(it, 1) == Some(1)));
    running.stop();
    assert!(committed(&kafka.until("left", |_| true), 0) <= Some(0));
}

#[test]
fn a_failed_delivery_is_read_again_from_its_batch() {
    let kafka = Kafka::new();
    kafka.change(|it| it.fail = vec![b"d".to_vec()]);
    kafka.feed(0, ["a", "b", "c", "d", "e", "f"]);
    let running = start_plain(&kafka);
    let state = kafka.until("all committed", |it| committed(it, 0) == Some(6));
    assert_eq!(
        state.seeks,
        [(partition(0), 2)],
        "back to the batch of c and d, once"
    );
    let first = state.commits.iter().filter(|(id, _)| *id == partition(0));
    let offsets: Vec<u64> = first.map(|(_, offset)| *offset).collect();
    assert!(
        offsets.is_sorted(),
        "never back, and never past what failed: {offsets:?}"
    );
    let sent = values(&state);
    let again = sent.iter().rposition(|it| it == "c").unwrap();
    assert_eq!(sent[again..], ["c", "d", "e", "f"], "in order once more");
    drop(state);
    running.stop();
}

#[test]
fn a_record_that_cannot_be_sent_halts_and_loses_nothing() {
    let kafka = Kafka::new();
    kafka.change(|it| it.refuse = vec![b"d".to_vec()]);
    kafka.feed(0, ["a", "b", "c", "d", "e"]);
    let why = halted(start_plain(&kafka).thread.join().unwrap());
    assert_eq!(
        why,
        "what came of the record at in/0, offset 3, can't be delivered: the record is too large"
    );
    let state = kafka.until("left", |it| it.assigned.is_empty());
    assert_eq!(values(&state), ["a", "b", "c"]);
    assert_eq!(committed(&state, 0), Some(3));
}

#[test]
fn a_record_that_the_broker_never_takes_halts_once_it_was_tried_alone() {
    let kafka = Kafka::new();
    kafka.change(|it| it.undeliverable = vec![b"d".to_vec()]);
    kafka.feed(0, ["a", "b", "c", "d", "e"]);
    let why = halted(start_plain(&kafka).thread.join().unwrap());
    assert_eq!(
        why,
        "what came of the record at in/0, offset 3, can't be delivered: the broker never takes it"
    );
    let state = kafka.until("left", |it| it.assigned.is_empty());
    assert_eq!(values(&state).last().unwrap(), "d", "alone");
    assert_eq!(committed(&state, 0), Some(3));
}

#[test]
fn a_producer_that_fails_while_its_queue_is_full_does_not_hold_the_worker() {
    let kafka = Kafka::new();
    kafka.change(|it| it.full = usize::MAX);
    kafka.feed(0, ["a", "b"]);
    kafka.event(Event::Assigned(vec![partition(0)]));
    // So long it would wait for what was never sent.
    let settings = Settings {
        drain: Duration::from_secs(3600),
        ..settings()
    };
    let running = start(&kafka, chain([]), settings);
    drop(kafka.until("the queue is full", |it| it.full < usize::MAX));
    kafka.change(|it| it.fail_producer = 1);
    drop(kafka.until("left", |it| it.assigned.is_empty()));
    assert!(matches!(running.thread.join().unwrap(), End::Failed(_)));
}

#[test]
fn what_is_settled_is_committed_also_when_the_producer_has_failed() {
    let kafka = Kafka::new();
    kafka.change(|it| it.lose_commits = true);
    kafka.feed(0, ["a", "b"]);
    let running = start_plain(&kafka);
    drop(kafka.until("sent", |it| it.sent.len() == 2));
    kafka.change(|it| it.fail_producer = usize::MAX);
    match running.thread.join().unwrap() {
        End::Failed(why) => assert!(format!("{why:#}").contains("fenced"), "{why:#}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(committed(&kafka.until("left", |_| true), 0), Some(2));
}

#[test]
fn a_partition_that_starts_at_its_end_starts_there_again_after_a_fault() {
    let kafka = Kafka::new();
    kafka.feed(0, ["old", "old", "panic"]);
    kafka.change(|it| it.starts = [(partition(0), 2)].into());
    kafka.event(Event::Assigned(vec![partition(0)]));
    let settings = Settings {
        commit_interval: Duration::from_secs(3600),
        ..settings()
    };
    let running = start(&kafka, chain([version("faulty", "{}")]), settings);
    halted(running.thread.join().unwrap());
    assert_eq!(committed(&kafka.until("left", |_| true), 0), Some(2));
}

#[test]
fn a_refusal_halts_before_the_record() {
    let kafka = Kafka::new();
    kafka.feed(0, ["keep", "keep", "keep", "refuse", "keep"]);
    kafka.event(Event::Assigned(vec![partition(0)]));
    let running = start(&kafka, chain([version("faulty", "{}")]), settings());
    let why = halted(running.thread.join().unwrap());
    assert!(why.starts_with("transform \"faulty\" (faulty "), "{why}");
    assert!(
        why.contains("refused the record at in/0, offset 3: "),
        "{why}"
    );
    let state = kafka.until("left", |it| it.assigned.is_empty());
    assert_eq!(values(&state), ["keep", "keep", "keep"]);
    assert_eq!(committed(&state, 0), Some(3));
}

#[test]
fn a_broken_guest_halts_before_the_record() {
    let kafka = Kafka::new();
    kafka.feed(0, ["keep", "keep", "keep", "panic", "keep"]);
    kafka.event(Event::Assigned(vec![partition(0)]));
    let running = start(&kafka, chain([version("faulty", "{}")]), settings());
    let why = halted(running.thread.join().unwrap());
    assert!(
        why.contains("broke on the record at in/0, offset 3: it trapped: "),
        "{why}"
    );
    let state = kafka.until("left", |it| it.assigned.is_empty());
    assert_eq!(values(&state), ["keep", "keep", "keep"]);
    assert_eq!(committed(&state, 0), Some(3));
}

#[test]
fn dropped_records_advance_the_offset() {
    let kafka = Kafka::new();
    kafka.feed(0, ["drop", "drop", "drop"]);
    kafka.event(Event::Assigned(vec![partition(0)]));
    let running = start(&kafka, chain([version("faulty", "{}")]), settings());
    drop(kafka.until("committed", |it| committed(it, 0) == Some(3)));
    running.stop();
    assert_eq!(kafka.until("left", |_| true).sent, []);
}

#[test]
fn a_full_window_holds_reading_back_but_a_batch_always_fits() {
    let kafka = Kafka::new();
    kafka.change(|it| it.corked = true);
    kafka.feed(0, ["a", "b", "c", "d", "e", "f"]);
    kafka.event(Event::Assigned(vec![partition(0)]));
    let settings = Settings {
        in_flight: 1,
        ..settings()
    };
    let running = start(&kafka, chain([]), settings);
    drop(kafka.until("one batch is out", |it| it.sent.len() == 2));
    // Another round would read more, were there room.
    kafka.event(Event::Trouble(anyhow::anyhow!("nothing, really")));
    let state = kafka.until("the round is over", |it| it.events.is_empty());
    assert_eq!(state.sent.len(), 2);
    drop(state);
    kafka.change(|it| it.corked = false);
    drop(kafka.until("all committed", |it| committed(it, 0) == Some(6)));
    running.stop();
}

#[test]
fn a_full_send_queue_is_waited_out() {
    let kafka = Kafka::new();
    kafka.change(|it| it.full = 3);
    kafka.feed(0, ["a", "b", "c"]);
    let running = start_plain(&kafka);
    let state = kafka.until("all committed", |it| committed(it, 0) == Some(3));
    assert_eq!(values(&state), ["a", "b", "c"]);
    drop(state);
    running.stop();
}

#[test]
fn a_failing_source_ends_the_worker_with_the_cause() {
    let kafka = Kafka::new();
    kafka.change(|it| it.fail_reads = Some("in/0: offset 7 is out of range".into()));
    match start_plain(&kafka).thread.join().unwrap() {
        End::Failed(why) => assert_eq!(format!("{why:#}"), "in/0: offset 7 is out of range"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn records_that_are_gone_halt_until_somebody_says_where_to_go_on() {
    let kafka = Kafka::new();
    kafka.change(|it| it.gone = Some("in/0 has no offset 7 (any more)".into()));
    let why = halted(start_plain(&kafka).thread.join().unwrap());
    assert_eq!(why, "in/0 has no offset 7 (any more)");
}

#[test]
fn a_failed_commit_is_committed_again() {
    let kafka = Kafka::new();
    kafka.feed(0, ["a"]);
    let running = start_plain(&kafka);
    drop(kafka.until("committed", |it| committed(it, 0) == Some(1)));
    kafka.change(|it| it.commits.clear());
    kafka.event(Event::Trouble(anyhow::anyhow!(
        "committing offsets: the coordinator moved"
    )));
    drop(kafka.until("once more", |it| committed(it, 0) == Some(1)));
    running.stop();
}

#[test]
fn partition_same_keeps_the_number() {
    let kafka = Kafka::new();
    kafka.feed(1, ["a"]);
    kafka.event(Event::Assigned(vec![partition(1)]));
    let settings = Settings {
        same_partition: vec![true],
        ..settings()
    };
    let running = start(&kafka, chain([]), settings);
    let state = kafka.until("sent", |it| it.sent.len() == 1);
    assert_eq!(state.sent[0].partition, Some(1));
    drop(state);
    running.stop();
}
