//! The swap on a worker: a clean cut in each partition, whatever goes on.

use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::sync::oneshot;
use weir::chain::{Chain, Share, Step, Unit, Version};
use weir::config::{MaxRefused, Policy};
use weir::io::Event;
use weir::record::{Batch, Column};
use weir::worker::{End, Next, Rules, Settings, Taken};

use crate::fakes::{Kafka, committed, partition, texts};
use crate::util::{CLUSTER, chain, version};
use crate::worker::{Running, settings, start};

/// Adds this name and an id to each record.
fn stamps(name: &str, number: u64) -> Version {
    Version {
        number,
        ..version("add-uuid", &format!(r#"{{"field":"{name}"}}"#))
    }
}

fn offer(running: &Running, versions: Vec<Version>) -> oneshot::Receiver<Taken> {
    let (taken, told) = oneshot::channel();
    let chain = chain(versions);
    running.control.set_next(Next {
        publication: running.shared.next(),
        counters: running.metrics.counters("test", &chain),
        rules: Vec::new(),
        chain,
        taken: vec![taken],
    });
    told
}

fn publish(running: &Running, versions: Vec<Version>) -> oneshot::Receiver<Taken> {
    let told = offer(running, versions);
    running.shared.publish();
    running.control.wake();
    told
}

/// Which version stamped each record: the name of its field.
fn stamp(text: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(text).unwrap();
    let fields = value.as_object().unwrap().keys();
    fields.map(String::as_str).collect::<Vec<_>>().join("+")
}

#[test]
fn it_is_taken_between_two_batches_and_only_once_it_is_published() {
    let kafka = Kafka::new();
    kafka.event(Event::Assigned(vec![partition(0)]));
    let running = start(&kafka, chain([stamps("one", 1)]), settings());
    let feed = |until: u64| {
        kafka.feed(0, ["{}"; 5]);
        drop(kafka.until("committed", |it| committed(it, 0) == Some(until)));
    };
    feed(5);
    // Laid down, and not out yet.
    let mut told = offer(&running, vec![stamps("two", 2)]);
    feed(10);
    assert!(told.try_recv().is_err());
    running.shared.publish();
    running.control.wake();
    let taken = told.blocking_recv().unwrap();
    assert_eq!(
        taken
            .before
            .versions()
            .map(|it| it.number)
            .collect::<Vec<_>>(),
        [1]
    );
    feed(15);
    assert!(matches!(running.stop(), End::Stopped));
    let state = kafka.until("left", |_| true);
    let stamps: Vec<String> = texts(state.sent.iter())
        .iter()
        .map(|it| stamp(it))
        .collect();
    assert_eq!(
        stamps,
        [["one"; 10].as_slice(), ["two"; 5].as_slice()].concat()
    );
}

#[test]
fn an_idle_worker_takes_it_at_once_and_the_last_of_several_counts() {
    let kafka = Kafka::new();
    kafka.event(Event::Assigned(vec![partition(0)]));
    let running = start(&kafka, chain([stamps("one", 1)]), settings());
    drop(kafka.until("assigned", |it| !it.assigned.is_empty()));
    publish(&running, vec![stamps("two", 2)])
        .blocking_recv()
        .unwrap();
    let lost = offer(&running, vec![stamps("three", 3)]);
    let told = publish(&running, vec![stamps("four", 4)]);
    told.blocking_recv().unwrap();
    // It was replaced before it was taken, and its worker has what took its place.
    assert!(lost.blocking_recv().is_ok());
    kafka.feed(0, ["{}"]);
    drop(kafka.until("committed", |it| committed(it, 0) == Some(1)));
    running.stop();
    let state = kafka.until("left", |_| true);
    assert_eq!(stamp(&texts(state.sent.iter())[0]), "four");
}

#[test]
fn with_exactly_once_it_is_taken_between_two_transactions() {
    let kafka = Kafka::new();
    kafka.event(Event::Assigned(vec![partition(0)]));
    let settings = Settings {
        exactly_once: true,
        // Each test's transaction ends when the worker is told to stop.
        commit_interval: Duration::from_secs(3_600),
        ..settings()
    };
    let running = start(&kafka, chain([stamps("one", 1)]), settings);
    kafka.feed(0, ["{}"; 3]);
    drop(kafka.until("sent", |it| it.sent.len() == 3));
    let mut told = publish(&running, vec![stamps("two", 2)]);
    kafka.feed(0, ["{}"; 3]);
    drop(kafka.until("sent", |it| it.sent.len() == 6));
    assert!(told.try_recv().is_err(), "a transaction is open");
    // Another partition comes: what's open ends first.
    kafka.event(Event::Assigned(vec![partition(1)]));
    told.blocking_recv().unwrap();
    kafka.feed(0, ["{}"; 3]);
    drop(kafka.until("sent", |it| it.sent.len() == 9));
    running.stop();
    let state = kafka.until("left", |_| true);
    let stamps: Vec<String> = texts(state.visible.iter())
        .iter()
        .map(|it| stamp(it))
        .collect();
    assert_eq!(
        stamps,
        [["one"; 6].as_slice(), ["two"; 3].as_slice()].concat()
    );
}

#[test]
fn the_halves_of_a_batch_go_on_with_the_new_version() {
    let faulty = |number, config: &str| Version {
        number,
        ..version("faulty", config)
    };
    let kafka = Kafka::new();
    kafka.event(Event::Assigned(vec![partition(0)]));
    let rules = Rules {
        on_broken: Policy::Skip,
        retries: 0,
        max_refused: MaxRefused { share: 1.0, of: 1 },
        ..Rules::default()
    };
    let settings = Settings {
        rules: vec![rules],
        ..settings()
    };
    let running = start(&kafka, chain([faulty(1, "{}")]), settings);
    let verbs = ["keep 0", "trap", "keep 2", "keep 3"];
    kafka.feed(0, verbs);
    drop(kafka.until("committed", |it| committed(it, 0) == Some(4)));
    publish(&running, vec![faulty(2, "{}")])
        .blocking_recv()
        .unwrap();
    kafka.feed(0, ["keep 4"]);
    drop(kafka.until("committed", |it| committed(it, 0) == Some(5)));
    let metrics = running.metrics.clone();
    running.stop();
    let out = texts(kafka.until("left", |_| true).sent.iter());
    assert_eq!(out, ["keep 0", "keep 2", "keep 3", "keep 4"]);
    let broken = |version| metrics.sum("weir_records_broken_total", &[("version", version)]);
    assert_eq!((broken("1"), broken("2")), (1, 0));
}

#[test]
fn the_same_record_has_the_same_id_before_and_after() {
    let kafka = Kafka::new();
    kafka.event(Event::Assigned(vec![partition(0)]));
    let running = start(&kafka, chain([stamps("id", 1)]), settings());
    kafka.feed(0, ["{}"; 2]);
    drop(kafka.until("committed", |it| committed(it, 0) == Some(2)));
    // Another step in front of it: keys go by a transform's name, and not by its place.
    let even = version("filter", r#"{"keep":"true"}"#);
    publish(&running, vec![even, stamps("id", 2)])
        .blocking_recv()
        .unwrap();
    kafka.change(|it| it.corked = true);
    kafka.feed(0, ["{}"; 2]);
    drop(kafka.until("sent", |it| it.sent.len() == 4));
    kafka.event(Event::Revoked {
        partitions: vec![partition(0)],
        lost: true,
    });
    kafka.event(Event::Assigned(vec![partition(0)]));
    kafka.change(|it| it.corked = false);
    drop(kafka.until("again", |it| {
        it.sent.len() == 6 && committed(it, 0) == Some(4)
    }));
    running.stop();
    let out = texts(kafka.until("left", |_| true).sent.iter());
    assert_eq!((&out[2], &out[3]), (&out[4], &out[5]));
    let ids: std::collections::HashSet<_> = out[..4].iter().collect();
    assert_eq!(ids.len(), 4);
}

/// A batch of records with these keys and verbs.
fn keyed(records: &[(Option<u8>, &str)]) -> Batch {
    let mut batch = Batch::new("in".into(), 0);
    for (offset, (key, verb)) in records.iter().enumerate() {
        batch
            .keys
            .push(key.map(|it| [it]).as_ref().map(|it| &it[..]));
        batch.values.push(Some(verb.as_bytes()));
        let name = format!("h{offset}");
        let headers = [(name.as_bytes(), None)];
        let headers = headers.into_iter().take(usize::from(offset % 2 == 0));
        batch.headers.push_record(offset, headers);
        batch.timestamps.push(offset as i64);
        batch.offsets.push(offset as u64);
    }
    batch
}

const VERBS: [&str; 5] = ["keep", "drop", "refuse:no", "flood:3", "count"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_canary_s_batch_is_put_together_as_if_it_had_not_been_split(
        records in vec((any::<Option<u8>>(), 0..VERBS.len()), 1..40),
        percent in 1.0..99.0,
    ) {
        let records: Vec<(Option<u8>, &str)> =
            records.into_iter().map(|(key, verb)| (key, VERBS[verb])).collect();
        let batch = keyed(&records);
        let share = Share::new(percent, Unit::Keys).unwrap();
        let faulty = || Arc::new(version("faulty", "{}"));
        let tried = Arc::new(Version { number: 2, ..version("faulty", "{}") });
        let mut plain = Chain::new(&[faulty()]).unwrap();
        let step = Step::new(faulty(), None).with_canary(share, tried, None);
        let mut split = Chain::of(vec![step]);
        let run = |chain: &mut Chain| {
            let keys = chain.id_keys(CLUSTER, &[0; 16], "in", 0);
            let processed = chain.run(&batch, 0, &keys, &mut |_, _, _| {}).unwrap();
            let failed: Vec<(u64, bool)> =
                processed.failed.iter().map(|it| (it.offset, it.canary)).collect();
            let counts = processed.counts.clone();
            (processed.records(&batch), failed, counts)
        };
        let (expected, all_failed, _) = run(&mut plain);
        let (out, failed, counts) = run(&mut split);
        // "count" says how many batches an instance has seen, one in both.
        prop_assert_eq!(&out.values, &expected.values);
        prop_assert_eq!(&out.offsets, &expected.offsets);
        prop_assert_eq!(&out.ordinals, &expected.ordinals);
        prop_assert_eq!(&out.keys, &expected.keys);
        prop_assert_eq!(&out.timestamps, &expected.timestamps);
        let headers = |batch: &Batch| batch.headers.gather(&(0..batch.len() as u32).collect::<Vec<_>>(), batch.len());
        prop_assert_eq!(headers(&out), headers(&expected));
        // Those whose keys are the share's went through the canary, and no others.
        let is_ours = |key: Option<u8>| key.is_some_and(|it| share.has_key(&[it]));
        for (offset, canary) in &failed {
            prop_assert_eq!(is_ours(records[*offset as usize].0), *canary);
        }
        prop_assert_eq!(failed.len(), all_failed.len());
        let ours = records.iter().filter(|(key, _)| is_ours(*key)).count() as u64;
        let tried: u64 = counts.iter().filter(|it| it.canary).map(|it| it.records_in).sum();
        let kept: u64 = counts.iter().filter(|it| !it.canary).map(|it| it.records_in).sum();
        prop_assert_eq!((tried, kept), (ours, records.len() as u64 - ours));
    }
}

#[test]
fn a_column_with_nulls_is_joined_bit_by_bit() {
    let mut batch = keyed(&[(None, "keep"), (Some(1), "keep")]);
    batch.outputs = vec![0, 3];
    let mut other = keyed(&[(Some(2), "x"), (None, "y"), (None, "z")]);
    other.ordinals = vec![0, 1, 2];
    let both = batch.followed_by(&other);
    let keys: Vec<Option<&[u8]>> = both.keys.iter().collect();
    assert_eq!(keys, [None, Some(&[1][..]), Some(&[2]), None, None]);
    assert_eq!(both.outputs, [0, 3, 0, 0, 0]);
    assert_eq!(both.ordinals, [0, 0, 0, 1, 2]);
    assert_eq!(both.headers.counts, [1, 0, 1, 0, 1]);
    let mut column = Column::default();
    ["keep", "keep", "x", "y", "z"]
        .iter()
        .for_each(|it| column.push(Some(it.as_bytes())));
    assert_eq!(both.values, column);
}
