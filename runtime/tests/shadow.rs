//! A version that's tried beside the active one: what is reported of it, and that nothing else comes of it.

use std::sync::Arc;
use std::thread::{park_timeout, yield_now};
use std::time::{Duration, Instant};

use weir::chain::Version;
use weir::guest::Limits;
use weir::record::{Batch, Column};
use weir::shadow::{Differs, Kind, Kinds, Report, Shadow, Tap};

use crate::util::{CLUSTER, batch, chain, push, texts, version};

const KEY: [u8; 32] = [7; 32];

/// Enough for any healthy record, and little enough to wait for those that never end.
const LITTLE_TIME: Limits = Limits {
    deadline: Duration::from_millis(200),
    record_deadline: Duration::from_millis(20),
    ..Limits::DEFAULT
};

fn shadow(guest: &str, active: &str, tried: &str) -> Shadow {
    shadow_of(version(guest, active), version(guest, tried))
}

fn shadow_of(active: Version, tried: Version) -> Shadow {
    Shadow::start(Arc::new(active), Arc::new(tried)).unwrap()
}

/// `faulty` does what field `a` of a record says, and the tried version of it what field `b` says.
fn verbs(limits: Limits) -> Shadow {
    let version = |config| Version {
        limits,
        ..version("faulty", config)
    };
    shadow_of(version(r#"{"field":"a"}"#), version(r#"{"field":"b"}"#))
}

/// Records that both versions keep, but for those at these offsets, of which the tried version makes something else.
fn verbs_at(records: u64, verbs: &[(u64, &str)]) -> Batch {
    let mut batch = Batch::new("in".into(), 0);
    for offset in 0..records {
        let verb = verbs.iter().find(|it| it.0 == offset);
        let verb = verb.map_or("keep", |it| it.1);
        let value = format!(r#"{{"a":"keep","b":"{verb}"}}"#);
        push(&mut batch, offset, Some(value.as_bytes()));
    }
    batch
}

/// Waits until so many batches were looked at.
#[track_caller]
fn report_of(shadow: &Shadow, batches: u64) -> Report {
    let deadline = Instant::now() + Duration::from_secs(300);
    loop {
        let report = shadow.report();
        if report.batches >= batches {
            return report;
        }
        assert!(Instant::now() < deadline, "{report:?}");
        assert_eq!(report.ended, None);
        park_timeout(Duration::from_millis(2));
    }
}

/// Has one batch looked at.
#[track_caller]
fn report(shadow: &Shadow, batch: &Batch) -> Report {
    let before = shadow.report().batches;
    shadow.tap().offer(batch, &KEY);
    report_of(shadow, before + 1)
}

fn offsets(report: &Report) -> Vec<u64> {
    report.differences.iter().map(|it| it.offset).collect()
}

/// Both sides of what is different.
fn sides(it: &Differs) -> [Option<&str>; 2] {
    [it.active.as_deref(), it.tried.as_deref()]
}

#[test]
fn filters_of_different_expressions_keep_different_records() {
    let (active, tried) = (r#"{"keep":"n % 2 == 0"}"#, r#"{"keep":"n % 3 == 0"}"#);
    let shadow = shadow("filter", active, tried);
    let values: Vec<String> = (0..12).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
    let report = report(&shadow, &batch(values.iter().map(String::as_str)));
    assert_eq!((report.batches, report.dropped_batches), (1, 0));
    let counts = report.counts;
    assert_eq!((counts.records, counts.equal, counts.different), (12, 6, 6));
    let kinds = Kinds {
        kept_or_dropped: 6,
        ..Kinds::default()
    };
    assert_eq!(counts.kinds, kinds);
    assert_eq!(offsets(&report), [2, 3, 4, 8, 9, 10]);
    let sides: Vec<_> = report
        .differences
        .iter()
        .map(|it| sides(&it.differs[0]))
        .collect();
    assert_eq!(sides[0], [Some("kept"), Some("dropped")]);
    assert_eq!(sides[1], [Some("dropped"), Some("kept")]);
    assert_eq!(report.last_fault, None);
    assert!(report.active_ns_per_record > Some(0));
    assert!(report.tried_ns_per_record > Some(0));
}

#[test]
fn a_field_of_another_name_is_gone_on_one_side_and_new_on_the_other() {
    let config = |to: &str| format!(r#"{{"from":"t","to":"{to}"}}"#);
    let shadow = shadow("format-timestamp", &config("iso_date"), &config("date"));
    let report = report(&shadow, &batch([r#"{"t":0}"#, r#"{"t":"x"}"#]));
    let counts = report.counts;
    assert_eq!((counts.equal, counts.kinds.value), (1, 1));
    assert_eq!((counts.refused_by_active, counts.refused_by_tried), (1, 1));
    assert_eq!(offsets(&report), [0]);
    let differs = &report.differences[0].differs;
    let date = Some("\"1970-01-01T00:00:00.000Z\"");
    assert_eq!(differs.len(), 2);
    assert_eq!(differs[0].path.as_deref(), Some("date"));
    assert_eq!(sides(&differs[0]), [None, date]);
    assert_eq!(differs[1].path.as_deref(), Some("iso_date"));
    assert_eq!(sides(&differs[1]), [date, None]);
}

#[test]
fn one_record_of_a_thousand_is_found_with_its_field() {
    let hide = |path: &str| format!(r#"{{"path":"{path}","action":"mask","with":"x"}}"#);
    let active = format!(r#"{{"fields":[{}]}}"#, hide("who.name"));
    let tried = format!(
        r#"{{"fields":[{},{}]}}"#,
        hide("who.name"),
        hide("notes[*].text")
    );
    let shadow = shadow("redact", &active, &tried);
    for start in (0..1_000).step_by(250) {
        let mut batch = Batch::new("in".into(), 0);
        for offset in start..start + 250 {
            let notes = match offset {
                617 => r#","notes":[{"text":"secret"}]"#,
                _ => "",
            };
            let value = format!(r#"{{"n":{offset},"who":{{"name":"ann"}}{notes}}}"#);
            push(&mut batch, offset, Some(value.as_bytes()));
        }
        report(&shadow, &batch);
    }
    let report = shadow.report();
    let counts = report.counts;
    assert_eq!(
        (counts.records, counts.equal, counts.different),
        (1_000, 999, 1)
    );
    assert_eq!(offsets(&report), [617]);
    let differs = &report.differences[0].differs;
    assert_eq!(differs.len(), 1);
    assert_eq!(differs[0].kind, Kind::Value);
    assert_eq!(differs[0].path.as_deref(), Some("notes[0].text"));
    assert_eq!(sides(&differs[0]), [Some("\"secret\""), Some("\"xxxxxx\"")]);
}

#[test]
fn random_ids_are_no_difference() {
    let random = || Version {
        ids: None,
        ..version("add-uuid", "{}")
    };
    let shadow = shadow_of(random(), random());
    let report = report(&shadow, &batch(["{}"; 100]));
    assert_eq!(report.counts.equal, 100);
}

#[test]
fn each_way_to_break_is_reported_with_its_record_and_disturbs_no_other() {
    let shadow = verbs(Limits::default());
    for (verb, fault) in [
        ("spin", "`record_deadline`"),
        ("trap", "it trapped"),
        ("panic", "it panicked at"),
        ("stack", "nested calls"),
        ("grow", "`memory`"),
        ("flood:20000", "`max_records_per_input`"),
        ("lie:take-index", "take: index 1,"),
        ("err:why", "it gave up: why"),
    ] {
        let before = shadow.report();
        let after = report(&shadow, &verbs_at(10, &[(6, verb)]));
        let (before, counts) = (before.counts, after.counts);
        assert_eq!(counts.records, before.records + 10, "{verb}");
        assert_eq!(counts.equal, before.equal + 9, "{verb}");
        assert_eq!(counts.kinds.broken, before.kinds.broken + 1, "{verb}");
        assert_eq!(counts.broken_by_tried, before.broken_by_tried + 1);
        let batches = before.batches_broken_by_tried + 1;
        assert_eq!(counts.batches_broken_by_tried, batches);
        let last = after.last_fault.as_deref().unwrap();
        assert!(last.contains(fault), "{verb}: {last}");
        let difference = after.differences.last().unwrap();
        assert_eq!(difference.offset, 6);
        let [active, tried] = sides(&difference.differs[0]);
        let tried = tried.unwrap();
        assert_eq!(active, Some("kept"));
        assert!(tried.starts_with("broken: "), "{tried}");
        let healthy = report(&shadow, &verbs_at(10, &[]));
        assert_eq!(healthy.counts.equal, counts.equal + 10, "after {verb}");
    }
    let counts = shadow.report().counts;
    assert_eq!((counts.broken_by_active, counts.uncompared), (0, 0));
}

#[test]
fn what_the_active_version_breaks_on_the_tried_one_may_take() {
    let verb = |config| version("faulty", config);
    let shadow = shadow_of(verb(r#"{"field":"b"}"#), verb(r#"{"field":"a"}"#));
    let report = report(&shadow, &verbs_at(3, &[(1, "trap")]));
    let counts = report.counts;
    assert_eq!((counts.broken_by_active, counts.broken_by_tried), (1, 0));
    assert_eq!(counts.batches_broken_by_active, 1);
    assert_eq!(report.last_fault, None, "the tried version has none");
    assert_eq!(offsets(&report), [1]);
}

#[test]
fn a_version_that_spins_on_every_record_is_left_alone_after_a_while() {
    let shadow = verbs(LITTLE_TIME);
    let spins: Vec<(u64, &str)> = (0..200).map(|it| (it, "spin")).collect();
    let report = report(&shadow, &verbs_at(200, &spins));
    let counts = report.counts;
    assert!(counts.broken_by_tried > 0, "{counts:?}");
    assert!(counts.uncompared > 100, "{counts:?}");
    assert_eq!(counts.records + counts.uncompared, 200);
    assert_eq!(counts.records, counts.kinds.broken);
}

#[test]
fn much_that_comes_of_records_alone_is_not_kept() {
    let shadow = verbs(Limits::default());
    let big: Vec<(u64, &str)> = (0..50).map(|it| (it, "big:7")).collect();
    let report = report(&shadow, &verbs_at(50, &big));
    let counts = report.counts;
    assert_eq!(
        counts.records, 3,
        "what a whole batch may bring out, and one more"
    );
    assert_eq!((counts.kinds.value, counts.uncompared), (3, 47));
}

#[test]
fn after_many_broken_batches_no_more_are_looked_at_record_by_record() {
    let shadow = verbs(LITTLE_TIME);
    let broken = verbs_at(3, &[(1, "trap")]);
    for _ in 0..65 {
        report(&shadow, &broken);
    }
    let before = shadow.report().counts;
    assert_eq!((before.records, before.uncompared), (3 * 65, 0));
    let after = report(&shadow, &broken).counts;
    assert_eq!((after.records, after.uncompared), (3 * 65, 3));
    assert_eq!(after.batches_broken_by_tried, 66);
    let healthy = report(&shadow, &verbs_at(3, &[])).counts;
    assert_eq!(healthy.equal, after.equal + 3);
    let again = report(&shadow, &broken).counts;
    assert_eq!(again.uncompared, 3, "it's looked at again");
}

#[test]
fn offers_go_on_while_the_thread_is_busy() {
    let shadow = verbs(LITTLE_TIME);
    let tap = shadow.tap();
    let mut chain = chain([version("faulty", r#"{"field":"a"}"#)]);
    let keys = chain.id_keys(CLUSTER, &[0; 16], "in", 0);
    let spinning = verbs_at(20, &[(3, "spin")]);
    for _ in 0..1_000 {
        // What a worker does.
        tap.offer(&spinning, &KEY);
        let processed = chain.run(&spinning, 0, &keys, &mut |_, _, _| {}).unwrap();
        assert_eq!(processed.counts[0].records_out, 20);
    }
    let report = shadow.report();
    // Each batch keeps the thread for 200 ms of CPU time at least.
    assert!(report.dropped_batches > 0, "{report:?}");
    assert!(report.batches + report.dropped_batches <= 1_000);
    let all = report_of(&shadow, 1_000 - report.dropped_batches);
    assert_eq!(all.batches + all.dropped_batches, 1_000);
    assert_eq!(all.counts.broken_by_tried, all.batches);
}

#[test]
fn its_guests_take_no_log_lines_from_others() {
    let log = || version("faulty", "{}");
    let (active, tried) = (log(), log());
    let mut chain = chain([Version {
        module: active.module.clone(),
        ..log()
    }]);
    let keys = chain.id_keys(CLUSTER, &[0; 16], "in", 0);
    let records = batch(["log:100"]);
    let shadow = shadow_of(active, tried);
    assert_eq!(report(&shadow, &records).counts.equal, 1);
    let mut lines = Vec::new();
    let mut log = |_: &Version, _, line: &weir::guest::Log| lines.push(line.message.clone());
    let processed = chain.run(&records, 0, &keys, &mut log).unwrap();
    assert_eq!(
        (lines.len(), processed.counts[0].log_lines_dropped),
        (100, 0)
    );
}

#[test]
fn a_thread_that_panics_is_reported_and_taps_go_on() {
    let shadow = verbs(Limits::default());
    let tap = shadow.tap();
    let healthy = verbs_at(3, &[]);
    report(&shadow, &healthy);
    // No source makes such a batch.
    let torn = Batch {
        keys: Column::default(),
        ..verbs_at(3, &[])
    };
    tap.offer(&torn, &KEY);
    let deadline = Instant::now() + Duration::from_secs(300);
    let ended = loop {
        if let Some(ended) = shadow.report().ended {
            break ended;
        }
        assert!(Instant::now() < deadline);
        yield_now();
    };
    assert!(
        ended.starts_with("its thread panicked: index out"),
        "{ended}"
    );
    for _ in 0..10 {
        tap.offer(&healthy, &KEY);
    }
    let report = shadow.report();
    assert_eq!((report.batches, report.dropped_batches), (1, 10));
    assert_eq!(report.counts.equal, 3);
}

#[test]
fn dropping_it_ends_its_thread() {
    let versions = [r#"{"field":"a"}"#, r#"{"field":"b"}"#].map(|config| {
        Arc::new(Version {
            limits: LITTLE_TIME,
            ..version("faulty", config)
        })
    });
    let [active, tried] = &versions;
    let shadow = Shadow::start(active.clone(), tried.clone()).unwrap();
    let tap = shadow.tap();
    let spins: Vec<(u64, &str)> = (0..100).map(|it| (it, "spin")).collect();
    for _ in 0..10 {
        tap.offer(&verbs_at(100, &spins), &KEY);
    }
    drop(shadow);
    // The thread holds both while it lives.
    for version in &versions {
        assert_eq!(Arc::strong_count(version), 1);
    }
    tap.offer(&verbs_at(1, &[]), &KEY);
}

#[test]
fn its_thread_gives_way_to_all_others_and_no_other_does() {
    /// The 41st field of proc(5)'s stat.
    fn policy(thread: &str) -> Option<(String, i32)> {
        let stat = std::fs::read_to_string(format!("{thread}/stat")).ok()?;
        let (before, after) = stat.rsplit_once(") ")?;
        let name = before.split_once('(')?.1.to_string();
        Some((name, after.split(' ').nth(38)?.parse().ok()?))
    }
    let before = policy("/proc/thread-self").unwrap().1;
    let shadow = verbs(Limits::default());
    report(&shadow, &verbs_at(1, &[]));
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let of_shadows: Vec<i32> = threads
        .filter_map(|it| policy(it.ok()?.path().to_str()?))
        .filter(|(name, _)| name == "shadow")
        .map(|it| it.1)
        .collect();
    const SCHED_IDLE: i32 = 5;
    assert!(of_shadows.contains(&SCHED_IDLE), "{of_shadows:?}");
    assert_eq!(policy("/proc/thread-self").unwrap().1, before);
}

#[test]
fn a_version_that_does_not_start_is_refused() {
    let refused = |tried: Version| {
        let active = version("faulty", "{}");
        let result = Shadow::start(Arc::new(active), Arc::new(tried));
        format!("{:#}", result.err().expect("refused"))
    };
    let why = refused(version("faulty", r#"{"init":"refuse"}"#));
    assert!(
        why.contains("transform \"faulty\"") && why.contains("it refuses its config"),
        "{why}"
    );
    let mut other = version("faulty", "{}");
    other.setup.outputs.push("other".into());
    let why = refused(other);
    assert!(why.contains("different outputs"), "{why}");
}

#[test]
fn a_report_is_flat_as_json() {
    let shadow = verbs(Limits::default());
    let report = report(&shadow, &verbs_at(2, &[(1, "count")]));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["batches"], 1);
    assert_eq!(json["records"], 2);
    assert_eq!(json["kinds"]["value"], 1);
    assert_eq!(json["ended"], serde_json::Value::Null);
    let differs = serde_json::json!([{
        "kind": "value", "record": null, "path": "", "active": r#"{"a":"keep","b":"count"}"#, "tried": "1", "note": null,
    }]);
    assert_eq!(json["differences"][0]["differs"], differs);
}

#[test]
fn taps_go_to_workers_and_their_input_stays_theirs() {
    fn for_workers<T: Clone + Send + 'static>(_: &T) {}
    let shadow = verbs(Limits::default());
    for_workers::<Tap>(&shadow.tap());
    let records = verbs_at(2, &[(0, "count")]);
    report(&shadow, &records);
    assert_eq!(
        texts(&records.values),
        texts(&verbs_at(2, &[(0, "count")]).values)
    );
}
