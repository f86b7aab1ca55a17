//! Exactly-once: what a reader of committed records sees, whatever goes wrong.

use std::time::Duration;

use weir::config::{MaxRefused, Policy};
use weir::io::{Event, ReadLimit};
use weir::worker::{End, Rules, Settings};

use crate::fakes::{Kafka, State, Step, Trouble, committed, partition, texts};
use crate::util::{chain, version};
use crate::worker::{Running, halted, settings, start};

fn exactly_once() -> Settings {
    Settings {
        exactly_once: true,
        ..settings()
    }
}

fn start_on(kafka: &Kafka, settings: Settings) -> Running {
    kafka.event(Event::Assigned(vec![partition(0), partition(1)]));
    start(kafka, chain([]), settings)
}

fn letters_of(alphabet: &str) -> Vec<String> {
    alphabet.chars().map(String::from).collect()
}

/// All of these, each once, in this order.
#[track_caller]
fn sees(state: &State, expected: &[String]) {
    assert_eq!(texts(&state.visible), expected, "committed");
}

/// Runs letters through partition 0 while something goes wrong, and expects each of them once.
fn survives(trouble: &[(Step, Trouble)], check: impl Fn(&State)) {
    let kafka = Kafka::new();
    kafka.change(|it| it.trouble = trouble.iter().copied().collect());
    let all = letters_of("abcdefghijklmnopqrstuvwxyz");
    let running = start_on(&kafka, exactly_once());
    for letter in &all {
        kafka.feed(0, [letter.as_str()]);
    }
    let end = all.len() as u64;
    drop(kafka.until("all is committed", |it| committed(it, 0) == Some(end)));
    assert!(matches!(running.stop(), End::Stopped));
    let state = kafka.until("left", |it| it.assigned.is_empty());
    sees(&state, &all);
    assert!(state.trouble.is_empty(), "all of it happened: {trouble:?}");
    check(&state);
}

#[test]
fn records_and_offsets_are_committed_together() {
    survives(&[], |state| {
        assert_eq!(state.opened, 1);
        assert_eq!(state.aborted, 0);
        assert!(state.seeks.is_empty());
    });
}

#[test]
fn what_is_aborted_is_read_again() {
    use Trouble::Abort;
    let again = |state: &State| assert!(!state.seeks.is_empty());
    survives(&[(Step::Commit, Abort)], again);
    survives(
        &[
            (Step::Commit, Abort),
            (Step::Commit, Abort),
            (Step::Commit, Abort),
        ],
        again,
    );
}

#[test]
fn a_client_that_cannot_go_on_is_replaced_and_the_brokers_are_asked() {
    use Trouble::{Abort, Fatal, FatalAfterAll};
    let replaced = |state: &State| assert_eq!(state.opened, 2);
    survives(&[(Step::Commit, Fatal)], replaced);
    survives(&[(Step::Begin, Fatal)], replaced);
    survives(&[(Step::Commit, Abort), (Step::Abort, Fatal)], replaced);
    // The commit went well, though nobody said so: nothing may come twice.
    survives(&[(Step::Commit, FatalAfterAll)], replaced);
}

#[test]
fn a_failed_delivery_aborts() {
    let kafka = Kafka::new();
    kafka.change(|it| it.fail = vec![b"c".to_vec(), b"c".to_vec(), b"e".to_vec()]);
    let all = letters_of("abcdef");
    kafka.feed(0, all.iter().map(String::as_str));
    let running = start_on(&kafka, exactly_once());
    drop(kafka.until("all is committed", |it| committed(it, 0) == Some(6)));
    running.stop();
    let state = kafka.until("left", |_| true);
    sees(&state, &all);
    assert!(state.aborted >= 2, "{}", state.aborted);
}

#[test]
fn a_worker_whose_place_was_taken_ends_and_commits_nothing_more() {
    let kafka = Kafka::new();
    kafka.change(|it| it.trouble = [(Step::Commit, Trouble::Fenced)].into());
    kafka.feed(0, ["a", "b"]);
    let running = start_on(&kafka, exactly_once());
    match running.thread.join().unwrap() {
        End::Failed(why) => assert!(format!("{why:#}").contains("Fenced"), "{why:#}"),
        other => panic!("{other:?}"),
    }
    let state = kafka.until("left", |it| it.assigned.is_empty());
    sees(&state, &[]);
    assert_eq!((state.commits_done, state.aborted), (0, 0));
}

#[test]
fn a_commit_takes_its_time_and_the_next_batches_wait_for_it() {
    let kafka = Kafka::new();
    let all = letters_of("abcdefghij");
    kafka.change(|it| it.slow_commits = 5);
    kafka.feed(0, all.iter().map(String::as_str));
    let settings = Settings {
        commit_interval: Duration::ZERO,
        ..exactly_once()
    };
    let running = start_on(&kafka, settings);
    drop(kafka.until("all is committed", |it| committed(it, 0) == Some(10)));
    running.stop();
    sees(&kafka.until("left", |_| true), &all);
}

#[test]
fn bytes_end_a_transaction_before_its_time() {
    let kafka = Kafka::new();
    let settings = Settings {
        commit_interval: Duration::from_secs(3_600),
        transaction_bytes: 10,
        ..exactly_once()
    };
    let running = start_on(&kafka, settings);
    kafka.feed(0, ["0123456789", "0123456789"]);
    drop(kafka.until("committed early", |it| committed(it, 0) == Some(2)));
    running.stop();
}

#[test]
fn a_stop_commits_what_is_in_hand() {
    let kafka = Kafka::new();
    let settings = Settings {
        commit_interval: Duration::from_secs(3_600),
        ..exactly_once()
    };
    let running = start_on(&kafka, settings);
    kafka.feed(0, ["a", "b", "c"]);
    drop(kafka.until("sent", |it| it.sent.len() == 3));
    assert!(matches!(running.stop(), End::Stopped));
    let state = kafka.until("left", |it| it.assigned.is_empty());
    sees(&state, &letters_of("abc"));
    assert_eq!(committed(&state, 0), Some(3));
}

#[test]
fn a_second_stop_aborts_what_is_in_hand() {
    let kafka = Kafka::new();
    let settings = Settings {
        commit_interval: Duration::from_secs(3_600),
        ..exactly_once()
    };
    kafka.change(|it| it.corked = true);
    let running = start_on(&kafka, settings);
    kafka.feed(0, ["a", "b", "c"]);
    drop(kafka.until("sent", |it| it.sent.len() == 3));
    running.control.hurry();
    running.thread.join().unwrap();
    let state = kafka.until("left", |it| it.assigned.is_empty());
    sees(&state, &[]);
    assert_eq!((state.aborted, committed(&state, 0)), (1, None));
}

#[test]
fn a_revoke_commits_first() {
    let kafka = Kafka::new();
    let settings = Settings {
        commit_interval: Duration::from_secs(3_600),
        ..exactly_once()
    };
    let running = start_on(&kafka, settings);
    kafka.feed(0, ["a", "b"]);
    kafka.feed(1, ["c"]);
    drop(kafka.until("sent", |it| it.sent.len() == 3));
    kafka.event(Event::Revoked {
        partitions: vec![partition(0)],
        lost: false,
    });
    let state = kafka.until("given up", |it| it.assigned.len() == 1);
    assert_eq!(committed(&state, 0), Some(2));
    assert_eq!(state.visible.len(), 3);
    drop(state);
    running.stop();
}

#[test]
fn nothing_is_committed_for_lost_partitions_and_the_others_are_read_again() {
    let kafka = Kafka::new();
    let settings = Settings {
        commit_interval: Duration::from_secs(3_600),
        ..exactly_once()
    };
    let running = start_on(&kafka, settings);
    kafka.feed(0, ["a", "b"]);
    kafka.feed(1, ["c"]);
    drop(kafka.until("sent", |it| it.sent.len() == 3));
    kafka.event(Event::Revoked {
        partitions: vec![partition(0)],
        lost: true,
    });
    drop(kafka.until("sent again", |it| it.sent.len() == 4));
    running.stop();
    let state = kafka.until("left", |it| it.assigned.is_empty());
    sees(&state, &letters_of("c"));
    assert_eq!(
        (committed(&state, 0), committed(&state, 1)),
        (None, Some(1))
    );
    assert_eq!(state.aborted, 1);
}

#[test]
fn where_a_partition_starts_is_committed_without_records() {
    let kafka = Kafka::new();
    kafka.change(|it| it.starts = [(partition(0), 7)].into());
    let running = start_on(&kafka, exactly_once());
    drop(kafka.until("committed", |it| committed(it, 0) == Some(7)));
    running.stop();
}

#[test]
fn dead_letters_are_part_of_the_transaction() {
    let rules = Rules {
        on_refused: Policy::DeadLetter,
        on_broken: Policy::DeadLetter,
        retries: 0,
        max_refused: MaxRefused { share: 1.0, of: 1 },
    };
    let kafka = Kafka::new();
    let values = ["keep", "refuse", "keep", "panic", "keep", "keep", "refuse"];
    kafka.change(|it| {
        it.trouble = [
            (Step::Commit, Trouble::Abort),
            (Step::Commit, Trouble::FatalAfterAll),
        ]
        .into();
    });
    kafka.event(Event::Assigned(vec![partition(0)]));
    let settings = Settings {
        rules: vec![rules],
        dead_letters: Some(1),
        batch: ReadLimit {
            records: 4,
            bytes: 1 << 20,
        },
        ..exactly_once()
    };
    let running = start(&kafka, chain([version("faulty", "{}")]), settings);
    values.iter().for_each(|value| kafka.feed(0, [*value]));
    drop(kafka.until("all is committed", |it| committed(it, 0) == Some(7)));
    running.stop();
    let state = kafka.until("left", |_| true);
    let of = |output| texts(state.visible.iter().filter(move |it| it.output == output));
    assert_eq!(of(0), ["keep"; 4]);
    assert_eq!(of(1), ["refuse", "panic", "refuse"]);
}

#[test]
fn what_the_broker_never_takes_is_alone_in_its_transaction() {
    let kafka = Kafka::new();
    let values: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    kafka.change(|it| it.undeliverable = vec![b"7".to_vec(), b"23".to_vec(), b"24".to_vec()]);
    kafka.feed(0, values.iter().map(String::as_str));
    kafka.event(Event::Assigned(vec![partition(0)]));
    let settings = Settings {
        dead_letters: Some(1),
        batch: ReadLimit {
            records: 16,
            bytes: 1 << 20,
        },
        ..exactly_once()
    };
    let running = start(&kafka, chain([]), settings);
    drop(kafka.until("all is committed", |it| committed(it, 0) == Some(40)));
    running.stop();
    let state = kafka.until("left", |_| true);
    let of = |output| texts(state.visible.iter().filter(move |it| it.output == output));
    assert_eq!(of(1), ["7", "23", "24"]);
    let good = values
        .iter()
        .filter(|it| !["7", "23", "24"].contains(&it.as_str()));
    assert!(of(0).iter().eq(good), "each once, in order: {:?}", of(0));
}

#[test]
fn a_record_that_stops_the_pipeline_leaves_what_came_before_committed() {
    let kafka = Kafka::new();
    kafka.feed(0, ["keep", "keep", "keep", "refuse", "keep"]);
    kafka.event(Event::Assigned(vec![partition(0)]));
    let running = start(&kafka, chain([version("faulty", "{}")]), exactly_once());
    let why = halted(running.thread.join().unwrap());
    assert!(why.contains("offset 3"), "{why}");
    let state = kafka.until("left", |it| it.assigned.is_empty());
    sees(&state, &vec!["keep".to_string(); 3]);
    assert_eq!(committed(&state, 0), Some(3));
}

#[test]
fn what_the_producer_never_took_is_not_committed() {
    let kafka = Kafka::new();
    kafka.change(|it| it.refuse_second = vec![b"flood:2".to_vec()]);
    kafka.feed(1, ["keep 1", "flood:2"]);
    // In the same turn: the pipeline stops, and commits what came before.
    kafka.feed(0, ["refuse"]);
    kafka.event(Event::Assigned(vec![partition(0), partition(1)]));
    let settings = Settings {
        commit_interval: Duration::from_secs(3_600),
        dead_letters: Some(1),
        ..exactly_once()
    };
    let running = start(&kafka, chain([version("faulty", "{}")]), settings);
    let why = halted(running.thread.join().unwrap());
    assert!(why.contains("in/0, offset 0"), "{why}");
    let state = kafka.until("left", |it| it.assigned.is_empty());
    assert_eq!(texts(&state.sent), ["keep 1", "flood:2"]);
    sees(&state, &[]);
    assert_eq!((state.aborted, committed(&state, 1)), (1, None));
}

#[test]
fn many_partitions_do_not_keep_a_transaction_open_beyond_its_time() {
    let kafka = Kafka::new();
    let partitions: Vec<_> = (0..8).map(partition).collect();
    for number in 0..8 {
        kafka.feed(number, ["a"]);
    }
    kafka.event(Event::Assigned(partitions));
    let settings = Settings {
        commit_interval: Duration::ZERO,
        ..exactly_once()
    };
    let running = start(&kafka, chain([]), settings);
    drop(kafka.until("all is committed", |it| {
        (0..8).all(|number| committed(it, number) == Some(1))
    }));
    running.stop();
    let done = kafka.until("left", |_| true).commits_done;
    assert!(done >= 8, "each batch took all of the time: {done} commits");
}

#[test]
fn an_assignment_commits_first() {
    let kafka = Kafka::new();
    let settings = Settings {
        commit_interval: Duration::from_secs(3_600),
        ..exactly_once()
    };
    kafka.event(Event::Assigned(vec![partition(0)]));
    let running = start(&kafka, chain([]), settings);
    kafka.feed(0, ["a", "b"]);
    drop(kafka.until("sent", |it| it.sent.len() == 2));
    kafka.event(Event::Assigned(vec![partition(1)]));
    drop(kafka.until("committed", |it| committed(it, 0) == Some(2)));
    running.stop();
}

#[test]
fn a_stop_does_not_wait_for_brokers_that_are_away() {
    let kafka = Kafka::new();
    kafka.change(|it| {
        it.trouble = [(Step::Commit, Trouble::Abort)].into();
        it.away = true;
    });
    let settings = Settings {
        drain: Duration::from_millis(50),
        ..exactly_once()
    };
    let running = start_on(&kafka, settings);
    kafka.feed(0, ["a"]);
    drop(kafka.until("the commit failed", |it| it.trouble.is_empty()));
    running.control.stop();
    drop(kafka.until("left", |it| it.assigned.is_empty()));
    assert!(matches!(running.thread.join().unwrap(), End::Stopped));
}

#[test]
fn a_commit_whose_answer_is_lost_counts_as_one() {
    let kafka = Kafka::new();
    kafka.change(|it| it.trouble = [(Step::Commit, Trouble::FatalAfterAll)].into());
    kafka.feed(0, ["a", "b", "c"]);
    let settings = Settings {
        commit_interval: Duration::from_secs(3_600),
        transaction_bytes: 1,
        batch: ReadLimit {
            records: 3,
            bytes: 1 << 20,
        },
        ..exactly_once()
    };
    let running = start_on(&kafka, settings);
    drop(kafka.until("replaced", |it| it.opened == 2));
    running.control.stop();
    running.thread.join().unwrap();
    sees(&kafka.until("left", |_| true), &letters_of("abc"));
    let count = |name, labels: &[(&str, &str)]| running.metrics.sum(name, labels);
    assert_eq!(count("weir_records_in_total", &[]), 3);
    let aborted = [("result", "aborted")];
    assert_eq!(count("weir_transactions_total", &aborted), 0);
}
