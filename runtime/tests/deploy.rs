//! The control side without Kafka: what a process starts with, what changes it, and what is refused.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use weir::chain::{Share, Unit};
use weir::config::{Config, Surroundings};
use weir::deploy::{Change, Deployment, Done, Means, Mode, Refused, Source};
use weir::guest::Digest;
use weir::io::{Event, ReadLimit};
use weir::metrics::Metrics;
use weir::store::{By, Cause, Store};
use weir::worker::{Control, End, Settings, Worker};

use crate::fakes::{Kafka, committed, partition, texts};
use crate::util::{host, wasm};
use crate::worker::settings;

/// A folder with a config file, its modules, and its data.
struct Site {
    folder: tempfile::TempDir,
    metrics: Metrics,
}

const KEEP_EVEN: &str = "n % 2 == 0";

impl Site {
    fn new() -> Site {
        let site = Site {
            folder: tempfile::tempdir().unwrap(),
            metrics: Metrics::default(),
        };
        site.put("filter.wasm", &wasm("filter"));
        site.put("faulty.wasm", &wasm("faulty"));
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    fn config(&self, transforms: &str) -> Config {
        let text = format!(
            "[kafka]\n\"bootstrap.servers\" = \"localhost:1\"\n[pipelines.p]\ninput = \"in\"\noutput = \"out\"\n{transforms}"
        );
        let surroundings = Surroundings {
            variable: &|name| (name == "LIMIT").then(|| "n < 100".to_string()),
            setting: &|_, _, _| Ok(()),
        };
        Config::parse(&self.path("weir.toml"), &text, surroundings).unwrap()
    }

    fn store(&self) -> Store {
        Store::open(&self.path("data"), "blue").unwrap()
    }

    fn load(&self, transforms: &str) -> Arc<Deployment> {
        let config = self.config(transforms);
        let means = Means {
            host: host().clone(),
            store: self.store(),
            metrics: self.metrics.clone(),
            id_key: None,
        };
        let loaded = Deployment::load(means, &config.pipelines[0]);
        let loaded = loaded.unwrap_or_else(|problems| panic!("{problems:?}"));
        Arc::new(loaded)
    }

    /// As a process starts it.
    fn start(&self, transforms: &str) -> Arc<Deployment> {
        let deployment = self.load(transforms);
        run(deployment.keep_start());
        deployment
    }

    fn audit(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.path("data/instances/blue/audit.jsonl"));
        let text = text.unwrap_or_default();
        let lines = text.lines().map(|it| serde_json::from_str(it).unwrap());
        lines.collect()
    }
}

fn filter(keep: &str) -> String {
    format!(
        "[[pipelines.p.transforms]]\nname = \"even\"\nmodule = \"filter.wasm\"\nconfig = {{ keep = \"{keep}\" }}\n"
    )
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

fn by() -> By {
    By {
        cause: Cause::Api,
        who: Some("anna".into()),
    }
}

fn change(module: Source, config: Option<serde_json::Value>) -> Change {
    Change {
        transform: "even".into(),
        module,
        config,
        mode: Mode::Active,
        note: None,
        by: by(),
    }
}

fn keep(expression: &str) -> Change {
    change(Source::Active, Some(json!({ "keep": expression })))
}

fn active(deployment: &Deployment) -> (u64, String) {
    let versions = deployment.versions();
    (versions[0].number, versions[0].setup.config.clone())
}

/// A worker of a deployment, on its own thread.
struct Working {
    kafka: Kafka,
    control: Arc<Control>,
    thread: std::thread::JoinHandle<End>,
}

fn work(deployment: &Deployment, number: usize, adjust: impl FnOnce(&mut Settings)) -> Working {
    let kafka = Kafka::new();
    kafka.event(Event::Assigned(vec![partition(0), partition(1)]));
    let control = Arc::new(Control::new(kafka.waker.clone(), deployment.shared()));
    let enlisted = deployment.enlist(number, &control).unwrap();
    let mut settings = Settings {
        worker: number,
        rules: enlisted.rules,
        batch: ReadLimit {
            records: 10,
            bytes: 1 << 20,
        },
        ..settings()
    };
    adjust(&mut settings);
    let worker = Worker::new(
        settings,
        kafka.source(),
        kafka.sink(),
        enlisted.chain,
        control.clone(),
        enlisted.counters,
    );
    let thread = std::thread::spawn(|| worker.run());
    Working {
        kafka,
        control,
        thread,
    }
}

impl Working {
    /// Feeds numbers, and waits until they're committed; returns what came out of these.
    fn pass(&self, numbers: std::ops::Range<u64>) -> Vec<String> {
        let before = self.kafka.until("what was", |_| true).sent.len();
        let all: Vec<String> = numbers.clone().map(|n| format!("{{\"n\":{n}}}")).collect();
        self.kafka.feed(0, all.iter().map(String::as_str));
        let state = self
            .kafka
            .until("committed", |it| committed(it, 0) == Some(numbers.end));
        texts(state.sent[before..].iter())
    }

    fn stop(self) -> End {
        self.control.stop();
        self.thread.join().unwrap()
    }
}

fn numbers(texts: &[String]) -> Vec<u64> {
    let number = |it: &String| serde_json::from_str::<serde_json::Value>(it).unwrap()["n"].as_u64();
    texts.iter().filter_map(number).collect()
}

#[test]
fn a_swap_reaches_all_workers_and_outlives_the_process() {
    let site = Site::new();
    let deployment = site.start(&filter(KEEP_EVEN));
    assert_eq!(
        active(&deployment),
        (1, json!({"keep": KEEP_EVEN}).to_string())
    );
    let workers = [work(&deployment, 0, |_| ()), work(&deployment, 1, |_| ())];
    for it in &workers {
        assert_eq!(numbers(&it.pass(0..4)), [0, 2]);
    }
    let done = run(deployment.change(keep("n % 2 == 1"))).unwrap();
    let Done {
        active: now,
        was,
        workers: of,
        taken,
        ..
    } = done;
    assert_eq!((now, was, of, taken), (2, 1, 2, 2));
    for it in &workers {
        assert_eq!(numbers(&it.pass(4..8)), [5, 7]);
    }
    let done = run(deployment.roll_back("even", None, By::from(Cause::Rollback), None)).unwrap();
    assert_eq!((done.active, done.was), (1, 2));
    for it in &workers {
        assert_eq!(numbers(&it.pass(8..10)), [8]);
    }
    run(deployment.change(keep("n % 2 == 1"))).unwrap();
    for it in workers {
        assert!(matches!(it.stop(), End::Stopped));
    }
    let actions: Vec<String> = site
        .audit()
        .iter()
        .map(|it| format!("{} {} {}", it["action"], it["version"], it["outcome"]))
        .collect();
    assert_eq!(
        actions,
        [
            "\"swap\" 2 \"accepted\"",
            "\"rollback\" 1 \"accepted\"",
            "\"swap\" 2 \"accepted\""
        ]
    );
    drop(deployment);

    // The files say what they said: what was active is.
    let again = site.start(&filter(KEEP_EVEN));
    assert_eq!(
        active(&again),
        (2, json!({"keep": "n % 2 == 1"}).to_string())
    );
    let history = again.history_view("even").unwrap();
    let ran: Vec<u64> = history.history.iter().map(|it| it.version).collect();
    assert_eq!(ran, [2, 1, 2, 1]);
    drop(again);

    // The file says something else: it wins, and the next start keeps it.
    for _ in 0..2 {
        let changed = site.start(&filter("n > 5"));
        assert_eq!(active(&changed), (3, json!({"keep": "n > 5"}).to_string()));
    }
}

#[test]
fn without_a_start_that_is_kept_the_same_choice_is_made_again() {
    let site = Site::new();
    drop(site.load(&filter(KEEP_EVEN)));
    drop(site.load(&filter("n > 5")));
    // Nothing ran.
    assert!(!site.path("data/instances/blue/p.json").exists());
    let deployment = site.start(&filter(KEEP_EVEN));
    assert_eq!(active(&deployment).0, 1);
}

#[test]
fn what_is_not_fit_changes_nothing_and_says_why() {
    let site = Site::new();
    let deployment = site.start(&filter(KEEP_EVEN));
    let worker = work(&deployment, 0, |_| ());
    let refused = |change: Change| {
        let refused = run(deployment.change(change)).unwrap_err();
        (matches!(refused, Refused::Unfit(_)), refused.to_string())
    };
    let bytes = |bytes: &[u8]| Source::Bytes(bytes.to_vec());
    let faulty = |config| change(bytes(&wasm("faulty")), Some(config));
    let mut large = wasm("filter");
    large.resize(65 << 20, 0);
    for (change, why) in [
        (change(bytes(b"not wasm"), None), "module"),
        (change(bytes(&wasm("filter")[..5_000]), None), "module"),
        // A module that exports nothing.
        (
            change(bytes(&wat::parse_str("(module)").unwrap()), None),
            "weir:transform",
        ),
        (change(bytes(&large), None), "max_module_bytes"),
        (keep("n %% 2"), "refuses its config"),
        (faulty(json!({"init": "refuse"})), "refuses its config"),
        (faulty(json!({"init": "trap"})), "trap"),
        (faulty(json!({"init": "spin"})), "deadline"),
        // It breaks on the record that it's tried with.
        (
            faulty(json!({"always": "trap"})),
            "tried with {}, it breaks",
        ),
        (
            keep("${SECRET}"),
            "${SECRET} isn't in the config file's config",
        ),
        (
            change(Source::Active, Some(json!([]))),
            "must be a JSON object",
        ),
        (
            change(Source::Digest(Digest::of(b"unknown")), None),
            "module",
        ),
    ] {
        let (unfit, said) = refused(change);
        assert!(unfit && said.contains(why), "{why}: {said}");
        assert_eq!(active(&deployment).0, 1);
    }
    assert_eq!(numbers(&worker.pass(0..4)), [0, 2]);
    assert!(matches!(worker.stop(), End::Stopped));
    let refusals = site
        .metrics
        .sum("weir_swaps_total", &[("result", "refused")]);
    assert_eq!(refusals, 12);
    let outcome = |it: &serde_json::Value| it["outcome"].as_str().unwrap().starts_with("refused: ");
    let audit = site.audit();
    assert!(audit.len() == 12 && audit.iter().all(outcome), "{audit:?}");

    let unknown = Change {
        transform: "odd".into(),
        ..keep("true")
    };
    let why = run(deployment.change(unknown)).unwrap_err();
    assert!(
        matches!(&why, Refused::Unknown(it) if it.contains("it has: even")),
        "{why}"
    );
    for (result, why) in [
        (
            run(deployment.roll_back("even", None, by(), None)),
            "no version of p/even before",
        ),
        (
            run(deployment.roll_back("even", Some(1), by(), None)),
            "active already",
        ),
        (run(deployment.promote("even", by())), "nothing on trial"),
        (run(deployment.end_shadow("even", by())), "has no shadow"),
    ] {
        let said = result.unwrap_err();
        assert!(
            matches!(&said, Refused::Conflict(it) if it.contains(why)),
            "{said}"
        );
    }
    let why = run(deployment.roll_back("even", Some(9), by(), None)).unwrap_err();
    assert!(
        matches!(&why, Refused::Unknown(it) if it.contains("no version 9")),
        "{why}"
    );
}

#[test]
fn of_two_swaps_at_once_one_wins_and_the_other_is_told() {
    let site = Site::new();
    let deployment = site.start(&filter(KEEP_EVEN));
    let (one, other) = run(async {
        tokio::join!(
            deployment.change(keep("n > 1")),
            deployment.change(keep("n > 2"))
        )
    });
    let (won, lost) = match (one, other) {
        (Ok(won), Err(lost)) | (Err(lost), Ok(won)) => (won, lost),
        other => panic!("{other:?}"),
    };
    assert!(
        matches!(&lost, Refused::Busy(it) if it.contains("busy with a swap by api (anna)")),
        "{lost}"
    );
    assert_eq!(active(&deployment).0, won.version);
    // And it isn't busy for ever.
    run(deployment.change(keep("n > 3"))).unwrap();
}

#[test]
fn a_store_that_can_not_be_written_refuses_and_leaves_all_as_it_was() {
    let site = Site::new();
    let deployment = site.start(&filter(KEEP_EVEN));
    // A folder where the record's next state is to be: as on a disk that takes no more.
    let record = site.path("data/instances/blue/p.json");
    let kept = std::fs::read(&record).unwrap();
    std::fs::remove_file(&record).unwrap();
    std::fs::create_dir_all(record.join("in the way")).unwrap();
    let why = run(deployment.change(keep("n > 1"))).unwrap_err();
    assert!(matches!(&why, Refused::Unkept(_)), "{why}");
    assert_eq!(active(&deployment).0, 1);
    std::fs::remove_dir_all(&record).unwrap();
    std::fs::write(&record, kept).unwrap();
    run(deployment.change(keep("n > 1"))).unwrap();
    assert_eq!(active(&deployment).0, 2);
}

#[test]
fn secrets_are_filled_in_and_not_kept() {
    let site = Site::new();
    let deployment = site.start(&filter("${LIMIT}"));
    assert_eq!(
        active(&deployment).1,
        json!({"keep": "n < 100"}).to_string()
    );
    run(deployment.change(keep("${LIMIT} && n > 1"))).unwrap();
    assert_eq!(
        active(&deployment).1,
        json!({"keep": "n < 100 && n > 1"}).to_string()
    );
    let view = serde_json::to_string(&deployment.history_view("even").unwrap()).unwrap();
    let record = std::fs::read_to_string(site.path("data/instances/blue/p.json")).unwrap();
    for text in [view, record] {
        assert!(
            text.contains("${LIMIT} && n > 1") && !text.contains("n < 100"),
            "{text}"
        );
    }
    drop(deployment);
    let again = site.load(&filter("${LIMIT}"));
    assert_eq!(
        active(&again).1,
        json!({"keep": "n < 100 && n > 1"}).to_string()
    );
}

#[test]
fn a_canary_runs_for_its_share_and_is_the_same_after_a_restart() {
    let site = Site::new();
    let deployment = site.start(&filter("n >= 0"));
    let share = Share::new(30.0, Unit::Partitions).unwrap();
    let canary = Change {
        mode: Mode::Canary(share),
        ..keep("n % 2 == 1")
    };
    deployment.set_partitions(vec![2]);
    let why = run(deployment.change(canary.clone())).unwrap_err();
    assert!(
        why.to_string().contains("30% of 2 partitions is none"),
        "{why}"
    );
    let half = Share::new(50.0, Unit::Partitions).unwrap();
    let canary = Change {
        mode: Mode::Canary(half),
        ..canary
    };
    let done = run(deployment.change(canary)).unwrap();
    assert_eq!((done.active, done.version), (1, 2));
    drop(deployment);

    let deployment = site.start(&filter("n >= 0"));
    let worker = work(&deployment, 0, |_| ());
    let feed = |partition, from: u64| {
        let all: Vec<String> = (from..from + 4).map(|n| format!("{{\"n\":{n}}}")).collect();
        worker.kafka.feed(partition, all.iter().map(String::as_str));
    };
    feed(0, 0);
    feed(1, 100);
    let state = worker.kafka.until("both", |it| {
        committed(it, 0) == Some(4) && committed(it, 1) == Some(4)
    });
    let mut out = numbers(&texts(state.sent.iter()));
    out.sort_unstable();
    drop(state);
    // Of two partitions, the second is the half.
    assert_eq!(out, [0, 1, 2, 3, 101, 103]);
    let versions = |version: &str| {
        site.metrics
            .sum("weir_records_dropped_total", &[("version", version)])
    };
    assert_eq!((versions("1"), versions("2")), (0, 2));

    let done = run(deployment.promote("even", By::from(Cause::Promotion))).unwrap();
    assert_eq!((done.active, done.was), (2, 1));
    feed(0, 4);
    let state = worker
        .kafka
        .until("the rest", |it| committed(it, 0) == Some(8));
    assert_eq!(numbers(&texts(state.sent[6..].iter())), [5, 7]);
    drop(state);
    assert!(matches!(worker.stop(), End::Stopped));
    assert!(deployment.view()[0].trial.is_none());
    let history = deployment.history_view("even").unwrap();
    assert_eq!((history.active, history.history[0].version), (2, 2));
}

#[test]
fn a_version_past_its_probation_s_bounds_goes_by_itself() {
    let transforms = "[[pipelines.p.transforms]]\nname = \"even\"\nmodule = \"faulty.wasm\"\nconfig = { field = \"verb\" }\nprobation = { for = \"60s\" }\non_broken = \"skip\"\nmax_refused = { share = 1.0 }\n";
    let site = Site::new();
    let deployment = site.start(transforms);
    let worker = work(&deployment, 0, |it| it.batch.records = 1);
    run(async {
        let watching = tokio::spawn({
            let deployment = deployment.clone();
            async move { deployment.watch_probations().await }
        });
        // The same module reads its verbs in another field now, where the third record has a trap.
        let new = change(Source::Active, Some(json!({"field": "new"})));
        let done = deployment.change(new).await.unwrap();
        assert_eq!(done.active, 2);
        let kafka = worker.kafka.clone();
        let feeding = tokio::task::spawn_blocking(move || {
            kafka.feed(0, [r#"{"verb":"keep","new":"keep"}"#; 2]);
            kafka.feed(0, [r#"{"verb":"keep","new":"trap"}"#]);
            drop(kafka.until("all is settled", |it| committed(it, 0) == Some(3)));
        });
        feeding.await.unwrap();
        let gone = async {
            while site.metrics.sum("weir_probations_failed_total", &[]) == 0 {
                tokio::task::yield_now().await;
            }
        };
        let gone = tokio::time::timeout(Duration::from_secs(60), gone).await;
        gone.expect("it goes");
        watching.abort();
    });
    assert_eq!(active(&deployment).0, 1);
    let history = deployment.history_view("even").unwrap();
    assert_eq!(history.history[0].by.cause, Cause::Probation);
    let why = history.history[1].ended.clone().unwrap().why;
    assert!(
        why.contains("it broke") && why.contains("max_broken allows 0"),
        "{why}"
    );
    let broken = [("reason", "broken")];
    assert_eq!(site.metrics.sum("weir_probations_failed_total", &broken), 1);
    // The old one goes on where the new one ended, and counts are those of each.
    let state = worker.kafka.until("as it was", |_| true).sent.len();
    assert_eq!(state, 2);
    worker.kafka.feed(0, [r#"{"verb":"keep","new":"trap"}"#]);
    let after = worker.kafka.until("kept", |it| committed(it, 0) == Some(4));
    assert_eq!(after.sent.len(), 3);
    drop(after);
    let skipped = site.metrics.sum("weir_records_skipped_total", &[]);
    let broken = site
        .metrics
        .sum("weir_records_broken_total", &[("version", "2")]);
    assert_eq!((skipped, broken), (1, 1));
    worker.stop();
}

#[test]
fn a_probation_goes_on_after_a_restart() {
    let transforms = "[[pipelines.p.transforms]]\nname = \"even\"\nmodule = \"faulty.wasm\"\nconfig = { field = \"verb\" }\nprobation = { for = \"1h\" }\n";
    let site = Site::new();
    let deployment = site.start(transforms);
    let new = change(Source::Active, Some(json!({"field": "new"})));
    run(deployment.change(new)).unwrap();
    let until = |deployment: &Deployment| deployment.view()[0].probation_until;
    let first = until(&deployment);
    assert!(first.is_some());
    drop(deployment);

    let deployment = site.start(transforms);
    assert_eq!((active(&deployment).0, until(&deployment)), (2, first));
    drop(deployment);

    // What the config file wants no more isn't held against anyone, and what is gone back to has nothing to prove.
    let deployment = site.start(&transforms.replace("probation", "# probation"));
    assert_eq!(until(&deployment), None);
    drop(deployment);
    let deployment = site.start(transforms);
    run(deployment.roll_back("even", None, by(), None)).unwrap();
    assert_eq!(until(&deployment), None);
    drop(deployment);
    assert_eq!(until(&site.start(transforms)), None);
}

#[test]
fn what_is_prepared_is_not_taken_up_before_it_is_said() {
    let site = Site::new();
    let deployment = site.start(&filter(KEEP_EVEN));
    run(async {
        let transforms = site.config(&filter("n > 1")).pipelines[0]
            .transforms
            .clone();
        let prepared = deployment.prepare(transforms, Cause::ConfigFile).await;
        let prepared = prepared.unwrap();
        assert_eq!(active(&deployment).0, 1);
        let busy = deployment.change(keep("n > 2")).await.unwrap_err();
        assert!(matches!(&busy, Refused::Busy(it) if it.contains("a change of its files")));
        // A pause isn't of one transform, and stays.
        deployment.set_paused(true, by()).await.unwrap();
        drop(prepared);
        assert_eq!(deployment.change(keep("n > 2")).await.unwrap().active, 2);

        let transforms = site.config(&filter("n > 3")).pipelines[0]
            .transforms
            .clone();
        let prepared = deployment.prepare(transforms, Cause::ConfigFile).await;
        deployment.set_paused(false, by()).await.unwrap();
        prepared.unwrap().take_up().await.unwrap();
    });
    assert_eq!(active(&deployment).0, 3);
    let deployment = site.start(&filter("n > 3"));
    assert!(deployment.paused().is_none());
}

#[test]
fn what_the_files_say_now_is_taken_up_and_nothing_else_is_touched() {
    let two = |keep: &str, more: &str| {
        format!(
            "{}[[pipelines.p.transforms]]\nname = \"other\"\nmodule = \"other.wasm\"\nconfig = {{ keep = \"true\" }}\n{more}",
            filter(keep)
        )
    };
    let site = Site::new();
    site.put("other.wasm", &wasm("filter"));
    let deployment = site.start(&two(KEEP_EVEN, ""));
    let worker = work(&deployment, 0, |_| ());
    let reload = |text: &str, cause| {
        let transforms = site.config(text).pipelines[0].transforms.clone();
        run(async { deployment.prepare(transforms, cause).await?.take_up().await })
    };
    let before = deployment.versions();

    reload(&two(KEEP_EVEN, ""), Cause::ConfigFile).unwrap();
    assert!(Arc::ptr_eq(&before[0], &deployment.versions()[0]));

    reload(&two("n % 2 == 1", ""), Cause::ConfigFile).unwrap();
    let now = deployment.versions();
    assert_eq!((now[0].number, now[1].number), (2, 1));
    assert!(
        Arc::ptr_eq(&before[1], &now[1]),
        "the other one isn't touched"
    );
    assert_eq!(numbers(&worker.pass(0..4)), [1, 3]);

    // Another module under the same name.
    site.put("other.wasm", &wasm("faulty"));
    let why = reload(&two("n % 2 == 1", ""), Cause::ModuleFile).unwrap_err();
    assert!(format!("{why:#}").contains("other"), "{why:#}");
    assert_eq!(numbers(&worker.pass(4..6)), [5], "what ran goes on");
    site.put("other.wasm", &wasm("redact"));
    let why = reload(&two("n % 2 == 1", ""), Cause::ModuleFile);
    assert!(why.is_err(), "its config isn't for that module");
    site.put("other.wasm", &wasm("filter"));
    reload(&two("n % 2 == 1", "retries = 3\n"), Cause::ConfigFile).unwrap();
    assert!(Arc::ptr_eq(&before[1], &deployment.versions()[1]));

    // One transform less.
    reload(&filter("n > 6"), Cause::ConfigFile).unwrap();
    assert_eq!(numbers(&worker.pass(6..9)), [7, 8]);
    assert_eq!(deployment.versions().len(), 1);
    worker.stop();
    let history = deployment.history_view("even").unwrap();
    let causes: Vec<Cause> = history.history.iter().map(|it| it.by.cause).collect();
    assert_eq!(causes, [Cause::ConfigFile; 3]);
}

#[test]
fn a_pause_stops_reading_and_outlives_the_process() {
    let site = Site::new();
    let deployment = site.start(&filter("n >= 0"));
    let worker = work(&deployment, 0, |_| ());
    assert_eq!(worker.pass(0..2).len(), 2);
    assert!(run(deployment.set_paused(true, by())).unwrap());
    assert!(
        !run(deployment.set_paused(true, by())).unwrap(),
        "it's no news"
    );
    assert!(matches!(worker.stop(), End::Stopped));
    drop(deployment);

    let deployment = site.start(&filter("n >= 0"));
    assert_eq!(deployment.paused().unwrap().by, by());
    let worker = work(&deployment, 0, |_| ());
    worker.kafka.feed(0, [r#"{"n":1}"#]);
    // It answers its group all the while.
    worker.kafka.event(Event::Revoked {
        partitions: vec![partition(1)],
        lost: false,
    });
    let state = worker
        .kafka
        .until("given up", |it| it.assigned == [partition(0)]);
    assert_eq!(state.sent.len(), 0);
    drop(state);
    assert!(run(deployment.set_paused(false, by())).unwrap());
    drop(worker.kafka.until("read on", |it| it.sent.len() == 1));
    worker.stop();
}

#[test]
fn a_module_that_was_compiled_before_is_not_compiled_again() {
    let site = Site::new();
    let deployment = site.start(&filter(KEEP_EVEN));
    let compiled = || site.metrics.sum("weir_compilations_total", &[]);
    let before = compiled();
    run(deployment.change(keep("n > 1"))).unwrap();
    drop(site.load(&filter(KEEP_EVEN)));
    assert_eq!(compiled(), before);
    // A custom section makes it another module, and another one each time.
    let mut salted = wasm("filter");
    let folder = site.path("").display().to_string();
    salted.extend([0, 1 + 4 + 32, 4, b's', b'a', b'l', b't']);
    salted.extend(Digest::of(folder.as_bytes()).as_bytes());
    run(deployment.change(change(Source::Bytes(salted), None))).unwrap();
    assert_eq!(compiled(), before + 1);
}

#[test]
fn an_older_data_folder_and_its_modules_run() {
    let frozen = include_bytes!("frozen/add-uuid-contract-0.1.0.wasm");
    let site = Site::new();
    std::fs::create_dir_all(site.path("data/instances/blue")).unwrap();
    std::fs::create_dir_all(site.path("data/modules")).unwrap();
    let digest = Digest::of(frozen);
    site.put(&format!("data/modules/{digest}.wasm"), frozen);
    let file = Digest::of(&wasm("filter")).to_string();
    let record = include_str!("frozen/record-1.json").replace("FILE", &file);
    site.put("data/instances/blue/p.json", record.as_bytes());
    // As it was made by hand just now: open to others, which Weir's own never is.
    for folder in [
        "data",
        "data/modules",
        "data/instances",
        "data/instances/blue",
    ] {
        let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(site.path(folder), closed).unwrap();
    }
    let deployment = site.start(&filter("n >= 0"));
    assert_eq!(active(&deployment).0, 7);
    let worker = work(&deployment, 0, |_| ());
    let out = worker.pass(0..2);
    assert!(out.iter().all(|it| it.contains("\"frozen\":\"")), "{out:?}");
    let done = run(deployment.roll_back("even", None, By::from(Cause::Rollback), None)).unwrap();
    assert_eq!((done.active, done.was), (6, 7));
    assert_eq!(worker.pass(2..4), [r#"{"n":2}"#, r#"{"n":3}"#]);
    worker.stop();
    let history = deployment.history_view("even").unwrap();
    assert_eq!(history.history[1].note.as_deref(), Some("an id"));
}
