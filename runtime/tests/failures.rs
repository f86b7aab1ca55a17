//! Records that a transform can't process: only they suffer, and nothing of them is lost.

use std::time::Duration;

use weir::chain::Version;
use weir::config::{MaxRefused, Policy};
use weir::guest::Limits;
use weir::io::{Event, ReadLimit};
use weir::letter::{Class, Letter};
use weir::metrics::Metrics;
use weir::worker::{End, Rules, Settings};

use crate::fakes::{Kafka, Sent, committed, partition, texts};
use crate::util::{chain, version};
use crate::worker::{halted, settings, start};

/// The dead letter topic's index: there's one output.
const LETTERS: usize = 1;

fn with(rules: Rules) -> Settings {
    Settings {
        rules: vec![rules],
        dead_letters: Some(LETTERS),
        batch: ReadLimit {
            records: 16,
            bytes: 1 << 20,
        },
        ..settings()
    }
}

fn all_to(policy: Policy) -> Rules {
    Rules {
        on_refused: policy,
        on_broken: policy,
        retries: 0,
        max_refused: MaxRefused { share: 1.0, of: 1 },
    }
}

/// A guest that runs out of time soon.
fn faulty() -> Version {
    Version {
        limits: Limits {
            deadline: Duration::from_millis(40),
            record_deadline: Duration::from_millis(20),
            memory: 2 << 20,
            ..Limits::default()
        },
        ..version("faulty", "{}")
    }
}

fn outputs(sent: &[Sent]) -> Vec<String> {
    texts(sent.iter().filter(|it| it.output == 0))
}

fn letters(sent: &[Sent]) -> Vec<(Sent, Letter)> {
    let letters = sent.iter().filter(|it| it.output == LETTERS);
    letters
        .map(|sent| {
            let headers: Vec<_> = sent
                .headers
                .iter()
                .map(|(name, value)| (&name[..], value.as_deref()))
                .collect();
            let (letter, own) = Letter::read(&headers).expect("a dead letter");
            assert_eq!(own, 0, "the fake's records have no headers");
            (sent.clone(), letter)
        })
        .collect()
}

/// Runs records through `faulty` until the offset of the last is committed.
fn run(settings: Settings, values: &[&str]) -> (Vec<Sent>, Metrics) {
    let kafka = Kafka::new();
    kafka.feed(0, values.iter().copied());
    kafka.event(Event::Assigned(vec![partition(0)]));
    let running = start(&kafka, chain([faulty()]), settings);
    let all = values.len() as u64;
    drop(kafka.until("all is settled", |it| committed(it, 0) == Some(all)));
    running.control.stop();
    assert!(matches!(running.thread.join().unwrap(), End::Stopped));
    let sent = kafka.until("left", |_| true).sent.clone();
    (sent, running.metrics)
}

/// How often `faulty` hit this limit.
fn hits(metrics: &Metrics, limit: &str) -> u64 {
    metrics.sum("weir_limit_hits_total", &[("limit", limit)])
}

#[test]
fn each_poison_record_is_alone_in_its_dead_letter() {
    let values = [
        "keep 0",
        "panic:ouch",
        "keep 2",
        "keep 3",
        "refuse:no-such-stock",
        "keep 5",
        "spin",
        "keep 7",
        "keep 8",
        "grow",
        "keep 10",
        "lie:take-index",
        "keep 12",
        "keep 13",
        "err:it-is-over",
        "keep 15",
        // The next batch.
        "keep 16",
    ];
    let (sent, metrics) = run(with(all_to(Policy::DeadLetter)), &values);
    let good = values.iter().filter(|it| it.starts_with("keep"));
    assert!(outputs(&sent).iter().eq(good), "{:?}", outputs(&sent));
    for (class, count) in [
        ("trap", 2),
        ("refused", 1),
        ("deadline", 1),
        ("memory", 1),
        ("output", 1),
    ] {
        let labels = [("transform", "faulty"), ("class", class)];
        let counted = metrics.sum("weir_records_dead_lettered_total", &labels);
        assert_eq!(counted, count, "{class}");
    }
    let digest = faulty().module.digest().to_string();
    let letters = letters(&sent);
    let seen: Vec<_> = letters
        .iter()
        .map(|(_, it)| (it.offset, it.class))
        .collect();
    assert_eq!(
        seen,
        [
            (1, Class::Trap),
            (4, Class::Refused),
            (6, Class::Deadline),
            (9, Class::Memory),
            (11, Class::Output),
            (14, Class::Trap),
        ]
    );
    for ((sent, letter), word) in letters.iter().zip([
        "ouch",
        "no-such-stock",
        "record_deadline",
        "memory",
        "take",
        "it-is-over",
    ]) {
        let offset = letter.offset as usize;
        assert_eq!(sent.value.as_deref(), Some(values[offset].as_bytes()));
        assert_eq!(sent.timestamp, 1_634_221_557_011 + offset as i64);
        assert_eq!(sent.key, None);
        assert!(letter.reason.contains(word), "{word}: {}", letter.reason);
        assert_eq!(letter.pipeline, "test");
        assert_eq!((letter.topic.as_str(), letter.partition), ("in", 0));
        let (transform, module) = letter.transform.as_ref().unwrap();
        assert_eq!(transform, "faulty");
        assert_eq!(*module, digest);
        assert_eq!(letter.replays, 0);
    }
}

#[test]
fn a_dead_letter_holds_what_came_into_the_pipeline() {
    let kafka = Kafka::new();
    kafka.feed(0, [r#"{"timestamp":"never"}"#]);
    kafka.event(Event::Assigned(vec![partition(0)]));
    let id = version("add-uuid", "{}");
    let date = version(
        "format-timestamp",
        r#"{"from":"timestamp","to":"iso_date"}"#,
    );
    let rules = vec![Rules::default(), all_to(Policy::DeadLetter)];
    let settings = Settings {
        rules,
        ..with(Rules::default())
    };
    let running = start(&kafka, chain([id, date]), settings);
    drop(kafka.until("settled", |it| committed(it, 0) == Some(1)));
    running.stop();
    let sent = kafka.until("left", |_| true).sent.clone();
    let [(sent, letter)] = &letters(&sent)[..] else {
        panic!("{sent:?}");
    };
    assert_eq!(
        texts([sent]),
        [r#"{"timestamp":"never"}"#],
        "without the id"
    );
    assert_eq!(letter.transform.as_ref().unwrap().0, "format-timestamp");
}

#[test]
fn skipped_records_are_passed_over() {
    let values = ["keep", "panic", "keep", "refuse", "keep"];
    let (sent, metrics) = run(with(all_to(Policy::Skip)), &values);
    assert_eq!(texts(&sent), ["keep", "keep", "keep"]);
    for class in ["trap", "refused"] {
        let labels = [("transform", "faulty"), ("class", class)];
        assert_eq!(metrics.sum("weir_records_skipped_total", &labels), 1);
    }
}

#[test]
fn a_policy_is_for_its_kind_of_failure() {
    let rules = Rules {
        on_refused: Policy::Skip,
        ..all_to(Policy::DeadLetter)
    };
    let (sent, _) = run(with(rules), &["refuse", "panic", "keep"]);
    assert_eq!(outputs(&sent), ["keep"]);
    assert_eq!(letters(&sent).len(), 1);

    let rules = Rules {
        on_broken: Policy::Stop,
        ..all_to(Policy::DeadLetter)
    };
    let kafka = Kafka::new();
    kafka.feed(0, ["keep", "refuse", "panic:ouch", "keep"]);
    kafka.event(Event::Assigned(vec![partition(0)]));
    let running = start(&kafka, chain([faulty()]), with(rules));
    let why = halted(running.thread.join().unwrap());
    assert!(why.contains("offset 2") && why.contains("ouch"), "{why}");
    let state = kafka.until("left", |it| it.assigned.is_empty());
    assert_eq!(committed(&state, 0), Some(2), "right before it");
    assert_eq!(outputs(&state.sent), ["keep"]);
    assert_eq!(letters(&state.sent)[0].1.offset, 1);
}

#[test]
fn a_transform_that_fails_too_often_stops_the_pipeline() {
    let rules = Rules {
        max_refused: MaxRefused {
            share: 0.2,
            of: 100,
        },
        ..all_to(Policy::DeadLetter)
    };
    for (bad, said, letters_before) in [
        // Whole batches of 16: with the second one that has some, 24 are too many.
        (
            "refuse:all-of-them",
            "failed on 24 of its last 64 records",
            8,
        ),
        // Each comes alone.
        (
            "panic:all-of-them",
            "failed on 21 of its last 61 records",
            20,
        ),
    ] {
        let kafka = Kafka::new();
        kafka.feed(0, ["keep"; 40]);
        kafka.feed(0, [bad; 60]);
        kafka.event(Event::Assigned(vec![partition(0)]));
        let running = start(&kafka, chain([faulty()]), with(rules));
        let why = halted(running.thread.join().unwrap());
        for word in ["\"faulty\"", said, "0.2", "max_refused", "all-of-them"] {
            assert!(why.contains(word), "{word}: {why}");
        }
        let state = kafka.until("left", |it| it.assigned.is_empty());
        assert_eq!(letters(&state.sent).len(), letters_before);
        assert_eq!(
            committed(&state, 0),
            Some(40 + letters_before as u64),
            "what wasn't written is read again"
        );
    }
}

#[test]
fn what_the_broker_never_takes_is_a_dead_letter_and_its_neighbours_go_through() {
    let kafka = Kafka::new();
    let values: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    kafka.change(|it| it.undeliverable = vec![b"7".to_vec(), b"23".to_vec(), b"24".to_vec()]);
    kafka.feed(0, values.iter().map(String::as_str));
    kafka.feed(1, ["other"; 8]);
    kafka.event(Event::Assigned(vec![partition(0), partition(1)]));
    let running = start(&kafka, chain([]), with(Rules::default()));
    drop(kafka.until("settled", |it| {
        committed(it, 0) == Some(40) && committed(it, 1) == Some(8)
    }));
    running.stop();
    let state = kafka.until("left", |_| true);
    let letters = letters(&state.sent);
    let offsets: Vec<u64> = letters.iter().map(|(_, it)| it.offset).collect();
    assert_eq!(offsets, [7, 23, 24]);
    for (_, letter) in &letters {
        assert_eq!(letter.class, Class::Output);
        assert_eq!(letter.transform, None);
        assert!(letter.reason.contains("the broker never takes it"));
    }
    for value in &values {
        assert!(outputs(&state.sent).contains(value), "{value} came out");
    }
}

#[test]
fn what_cannot_be_sent_is_a_dead_letter() {
    let kafka = Kafka::new();
    kafka.change(|it| it.refuse = vec![b"b".to_vec()]);
    kafka.feed(0, ["a", "b", "c"]);
    kafka.event(Event::Assigned(vec![partition(0)]));
    let running = start(&kafka, chain([]), with(Rules::default()));
    drop(kafka.until("settled", |it| committed(it, 0) == Some(3)));
    running.stop();
    let state = kafka.until("left", |_| true);
    let letters = letters(&state.sent);
    let [(sent, letter)] = &letters[..] else {
        panic!("{letters:?}");
    };
    assert_eq!(texts([sent]), ["b"]);
    assert_eq!((letter.offset, letter.class), (1, Class::Output));
    assert!(letter.reason.contains("too large"), "{}", letter.reason);
    assert_eq!(outputs(&state.sent), ["a", "c"], "each once");
}

#[test]
fn of_a_record_that_became_many_all_are_sent_or_none() {
    for first in [true, false] {
        for exactly_once in [true, false] {
            let kafka = Kafka::new();
            let values = ["keep 1", "flood:3", "keep 2"];
            kafka.change(|it| match first {
                true => it.refuse = vec![b"flood:3".to_vec()],
                false => it.refuse_second = vec![b"flood:3".to_vec()],
            });
            kafka.feed(0, values);
            kafka.event(Event::Assigned(vec![partition(0)]));
            let settings = Settings {
                exactly_once,
                ..with(Rules::default())
            };
            let running = start(&kafka, chain([faulty()]), settings);
            drop(kafka.until("settled", |it| committed(it, 0) == Some(3)));
            running.stop();
            let state = kafka.until("left", |_| true);
            let sent = match exactly_once {
                true => &state.visible,
                false => &state.sent,
            };
            let offsets: Vec<u64> = letters(sent).iter().map(|(_, it)| it.offset).collect();
            assert_eq!(offsets, [1]);
            let wanted = match (first, exactly_once) {
                (true, _) | (_, true) => vec!["keep 1", "keep 2"],
                // The first of the three is out before the second is refused, and all comes again.
                (false, false) => vec!["keep 1", "flood:3", "keep 1", "keep 2"],
            };
            assert_eq!(outputs(sent), wanted);
            assert_eq!(state.aborted > 0, exactly_once && !first, "aborts");
        }
    }
}

#[test]
fn a_dead_letter_that_cannot_be_written_stops_the_pipeline() {
    for sending in [true, false] {
        let kafka = Kafka::new();
        kafka.change(|it| {
            it.everywhere = true;
            match sending {
                true => it.refuse = vec![b"b".to_vec()],
                false => it.undeliverable = vec![b"b".to_vec()],
            }
        });
        kafka.feed(0, ["a", "b", "c"]);
        kafka.event(Event::Assigned(vec![partition(0)]));
        let running = start(&kafka, chain([]), with(Rules::default()));
        let why = halted(running.thread.join().unwrap());
        assert!(
            why.starts_with("the dead letter of the record at in/0, offset 1, can't be "),
            "{why}"
        );
        let state = kafka.until("left", |it| it.assigned.is_empty());
        assert_eq!(committed(&state, 0), Some(1));
    }
}

#[test]
fn a_record_that_breaks_its_guest_alone_is_tried_again() {
    for retries in [0, 1, 3] {
        let rules = Rules {
            retries,
            ..all_to(Policy::DeadLetter)
        };
        let (sent, metrics) = run(with(rules), &["keep", "spin", "keep"]);
        assert_eq!(letters(&sent).len(), 1);
        assert_eq!(outputs(&sent), ["keep", "keep"]);
        assert_eq!(hits(&metrics, "record_deadline"), 1 + u64::from(retries));
    }
}
