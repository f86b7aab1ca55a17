//! Commands that run to their end, as a person or a program would read them.

use std::path::PathBuf;

use serde_json::{Value, json};
use weir_tests::{
    Finished, MINUTE, Pipeline, Proxy, Record, Scratch, Topic, Weir, broker, config, config_at,
    guest,
};

/// Runs a command to its end, with the code that it must end with.
#[track_caller]
fn run(scratch: &Scratch, code: i32, arguments: &[&str]) -> Finished {
    let finished = Weir::command(scratch, MINUTE, arguments);
    assert_eq!(finished.code, Some(code), "{finished:?}");
    finished
}

/// One JSON value for each line of standard output.
#[track_caller]
fn lines(finished: &Finished) -> Vec<Value> {
    let line =
        |line: &str| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"));
    finished.stdout.lines().map(line).collect()
}

fn written(scratch: &Scratch, pipelines: &[&Pipeline]) -> PathBuf {
    scratch.write("weir.toml", config(pipelines))
}

#[test]
fn check_says_that_all_is_right() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(3), Topic::create(2));
    let pipeline = Pipeline::new("stocks", &input, &output).seed("");
    written(&scratch, &[&pipeline]);
    let checked = run(&scratch, 0, &["check"]);
    for line in [
        "pipeline stocks",
        input.name(),
        "3 partitions",
        "2 partitions",
        pipeline.group(),
        "add-uuid",
        "weir.toml: all right\n",
    ] {
        assert!(
            checked.stdout.contains(line),
            "no {line:?} in {}",
            checked.stdout
        );
    }
    let checked = &lines(&run(&scratch, 0, &["check", "--json"]))[0];
    assert_eq!(checked["problems"], json!([]));
    let stocks = &checked["pipelines"][0];
    assert_eq!(
        stocks["inputs"],
        json!([{"topic": input.name(), "partitions": 3}])
    );
    let topic = output.name();
    assert_eq!(
        stocks["outputs"],
        json!([{"name": "default", "topic": topic, "partitions": 2, "partition": "key"}])
    );
    assert_eq!(stocks["dead_letter"], Value::Null);
    assert_eq!(stocks["delivery"], "at-least-once");
    assert_eq!(stocks["transforms"][2]["on_refused"], "stop");
    assert_eq!(stocks["transforms"][2]["name"], "even");
    // It looked, and joined nothing.
    assert_eq!(input.committed(pipeline.group()), [None; 3]);
}

#[test]
fn check_lists_what_is_wrong() {
    let scratch = Scratch::new();
    let input = Topic::create(1);
    let missing = Pipeline::between("missing", input.name(), "no-such-topic");
    written(&scratch, &[&missing]);
    let checked = run(&scratch, 2, &["check"]);
    let problem = "pipeline \"missing\": output: there is no topic \"no-such-topic\"";
    assert!(checked.stderr.contains(problem), "{}", checked.stderr);
    let checked = run(&scratch, 2, &["check", "--json"]);
    let message = lines(&checked)[0]["problems"][0]["message"].clone();
    assert!(message.as_str().unwrap().starts_with(problem), "{message}");
    // Without asking the broker there's nothing wrong.
    let checked = run(&scratch, 0, &["check", "--offline"]);
    assert!(
        checked.stdout.contains("the broker was not asked"),
        "{}",
        checked.stdout
    );
    // A broker that doesn't answer is no mistake in the file.
    let nobody = Proxy::closed();
    let servers = nobody.bootstrap();
    scratch.write("silent.toml", config_at(&servers, &[&missing]));
    let checked = run(&scratch, 1, &["check", "-c", "silent.toml"]);
    assert!(checked.stderr.contains(&servers), "{}", checked.stderr);

    // Several mistakes in the file, each with its line.
    scratch.write(
        "wrong.toml",
        config(&[&missing.set("workres = 1\nbuffer = \"1\"")]),
    );
    let checked = run(
        &scratch,
        2,
        &["check", "--json", "--offline", "-c", "wrong.toml"],
    );
    let problems = lines(&checked)[0]["problems"].clone();
    let line_of = |word: &str| {
        let problems = problems.as_array().unwrap();
        let problem = problems
            .iter()
            .find(|it| it["message"].as_str().unwrap().contains(word));
        problem.unwrap_or_else(|| panic!("no {word:?} in {problems:?}"))["line"].as_u64()
    };
    let text = std::fs::read_to_string(scratch.path().join("wrong.toml")).unwrap();
    let at = |key: &str| {
        text.lines()
            .position(|line| line.starts_with(key))
            .map(|at| at as u64 + 1)
    };
    assert_eq!(line_of("did you mean \"workers\"?"), at("workres"));
    assert_eq!(line_of("buffer"), at("buffer"));

    // Several modules that won't do, each with the line of its transform.
    let pipeline = Pipeline::between("missing", input.name(), "no-such-topic")
        .module("x", "add-uuid.wasm", "config = { version = 6 }")
        .module("y", "nowhere.wasm", "")
        .module("z", "filter.wasm", "config = { keep = \"a ==\" }");
    scratch.write("modules.toml", config(&[&pipeline]));
    let checked = run(&scratch, 2, &["check", "--offline", "-c", "modules.toml"]);
    let text = std::fs::read_to_string(scratch.path().join("modules.toml")).unwrap();
    let starts = text
        .lines()
        .enumerate()
        .filter(|(_, line)| line.contains("transforms]]"))
        .map(|(index, _)| index + 1);
    let said: Vec<&str> = checked.stderr.lines().collect();
    for ((line, name), what) in starts
        .zip(["x", "y", "z"])
        .zip(["6", "No such file", "keep"])
    {
        let start = format!("modules.toml:{line}: pipeline \"missing\", transform \"{name}\"");
        assert!(
            said.iter()
                .any(|it| it.starts_with(&start) && it.contains(what)),
            "no {start:?} with {what:?} in {}",
            checked.stderr
        );
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let scratch = Scratch::new();
    for arguments in [
        &["inspect", guest("filter").to_str().unwrap()][..],
        &["demo", "--records", "20000"],
    ] {
        // As in `weir inspect MODULE | true`: nobody is left to read when it writes.
        let finished = Weir::command_unread(&scratch, MINUTE, arguments);
        assert_eq!(finished.code, Some(0), "{finished:?}");
        for word in ["panicked", "Broken pipe", "_TRANSPORT"] {
            assert!(!finished.stderr.contains(word), "{finished:?}");
        }
    }
}

#[test]
fn offsets_are_shown_and_reset() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(2), Topic::create(1));
    // 100 records a partition, a second apart.
    input.produce((0..200).map(|n| {
        Record::new(None, Some(b"value"))
            .partition(n as i32 % 2)
            .timestamp((n / 2 + 1) * 1_000)
    }));
    let pipeline = Pipeline::new("copy", &input, &output);
    let group = pipeline.group();
    written(&scratch, &[&pipeline]);
    let shown = |committed: Option<i64>, lag: i64| {
        let line = |partition| {
            json!({
                "pipeline": "copy", "group": group, "topic": input.name(), "partition": partition,
                "committed": committed, "first": 0, "end": 100, "lag": lag,
            })
        };
        assert_eq!(
            lines(&run(&scratch, 0, &["offsets", "show", "--json"])),
            [line(0), line(1)]
        );
    };
    shown(None, 100);
    let mut weir = Weir::start(&scratch, &config(&[&pipeline]));
    weir.wait_done(&input, group);
    shown(Some(100), 0);

    let reset = |code: i32, arguments: &[&str]| {
        run(
            &scratch,
            code,
            &[&["offsets", "reset", "copy", "--to"], arguments].concat(),
        )
    };
    // Not while it runs.
    let refused = reset(1, &["earliest"]);
    assert!(refused.stderr.contains("has members"), "{}", refused.stderr);
    assert_eq!(weir.terminate(), Some(0));
    assert_eq!(input.committed(group), [Some(100); 2]);

    let dry = reset(0, &["earliest", "--dry-run", "--json"]);
    let line = |partition| json!({"topic": input.name(), "partition": partition, "from": 100, "to": 0, "dry_run": true});
    assert_eq!(lines(&dry), [line(0), line(1)]);
    assert_eq!(input.committed(group), [Some(100); 2]);
    for (to, expected) in [
        (&["earliest"][..], [0, 0]),
        (&["latest"], [100, 100]),
        (&["1970-01-01T00:00:50Z"], [49, 49]),
        (&["7", "--partition", "1"], [49, 7]),
        (&["2000-01-01T00:00:00Z"], [100, 100]),
        (&["60", "--topic", input.name()], [60, 60]),
    ] {
        reset(0, to);
        assert_eq!(input.committed(group), expected.map(Some), "{to:?}");
    }
    for (to, word) in [
        (&["101"][..], "101 is none of them"),
        (
            &["earliest", "--topic", "other"],
            "\"other\" is no input topic",
        ),
        (&["earliest", "--partition", "2"], "no partition was chosen"),
    ] {
        let refused = reset(2, to);
        assert!(refused.stderr.contains(word), "{}", refused.stderr);
    }
    run(&scratch, 2, &["offsets", "show", "nobody"]);
    assert_eq!(input.committed(group), [Some(60); 2]);

    // From there on, and no sooner.
    let mut weir = Weir::start(&scratch, &config(&[&pipeline]));
    weir.wait_done(&input, group);
    assert_eq!(weir.terminate(), Some(0));
    assert_eq!(output.len(), 200 + 2 * 40);
}

#[test]
fn inspect_shows_what_a_module_is() {
    let scratch = Scratch::new();
    let guests = ["add-uuid", "format-timestamp", "filter", "route", "redact"];
    let paths = guests.map(|it| guest(it).to_str().unwrap().to_string());
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let inspected = lines(&run(
        &scratch,
        0,
        &[&["inspect", "--json"], &paths[..]].concat(),
    ));
    assert_eq!(inspected.len(), guests.len());
    for (module, name) in inspected.iter().zip(guests) {
        assert_eq!(module["name"], name);
        assert_eq!(
            module["imports"],
            json!([]),
            "{name} needs something of its host"
        );
        assert_eq!(module["bytes"], guest(name).metadata().unwrap().len());
        assert_eq!(module["config_schema"]["type"], "object");
        assert_eq!(module["digest"].as_str().unwrap().len(), 64);
    }
    let shown = run(&scratch, 0, &["inspect", paths[1]]);
    for word in [
        "format-timestamp",
        "none: no clock",
        "precision",
        "needed",
        "core module",
    ] {
        assert!(
            shown.stdout.contains(word),
            "no {word:?} in {}",
            shown.stdout
        );
    }
    // What can't be run is shown all the same, with the reason.
    let import = wat::parse_str(r#"(module (import "env" "now" (func)))"#).unwrap();
    scratch.write("import.wasm", import);
    let inspected = run(&scratch, 1, &["inspect", "--json", "import.wasm"]);
    let module = &lines(&inspected)[0];
    assert_eq!(module["imports"], json!(["env::now"]));
    assert!(
        module["error"]
            .as_str()
            .unwrap()
            .starts_with("it imports env::now"),
        "{module}"
    );
}

/// Runs `weir produce` with all of a topic's records made at once, and returns their values.
fn produce(scratch: &Scratch, subject: &str, arguments: &[&str]) -> (Vec<Option<Vec<u8>>>, String) {
    let topic = Topic::unique_name();
    let bootstrap = broker().bootstrap();
    #[rustfmt::skip]
    let fixed = ["produce", subject, "--bootstrap", bootstrap, "--topic", &topic, "--rate", "max"];
    let finished = run(scratch, 0, &[&fixed[..], arguments].concat());
    assert!(
        finished.stderr.contains("made topic"),
        "{}",
        finished.stderr
    );
    let records = Topic::existing(&topic, 4).consume();
    (
        records.into_iter().map(|it| it.value).collect(),
        finished.stdout,
    )
}

#[test]
fn produce_makes_what_it_is_asked_for() {
    let scratch = Scratch::new();
    for subject in [
        "realstock",
        "pizza",
        "userbehaviour",
        "bet",
        "stock",
        "metric",
    ] {
        let (values, summary) = produce(&scratch, subject, &["--count", "300", "--seed", "7"]);
        assert_eq!(values.len(), 300, "{subject}");
        assert!(summary.starts_with("Wrote 300 records"), "{summary}");
        for value in values {
            let value: Value = serde_json::from_slice(&value.unwrap()).unwrap();
            assert!(value.is_object(), "{value}");
        }
    }
    let arguments = ["--count", "300", "--seed", "8"];
    let (first, _) = produce(&scratch, "realstock", &arguments);
    assert_eq!(first, produce(&scratch, "realstock", &arguments).0);
    assert_ne!(
        first,
        produce(&scratch, "realstock", &["--count", "300", "--seed", "9"]).0
    );
}

#[test]
fn produce_makes_some_of_them_bad() {
    let scratch = Scratch::new();
    let arguments = ["--count", "4000", "--seed", "3", "--bad", "25%"];
    let (values, summary) = produce(&scratch, "realstock", &arguments);
    // What the seed job could do nothing with.
    let is_good = |value: &Option<Vec<u8>>| {
        let json = value
            .as_deref()
            .and_then(|it| serde_json::from_slice::<Value>(it).ok());
        let time = json.and_then(|it| it["timestamp"].as_i64());
        time.and_then(chrono::DateTime::from_timestamp_millis)
            .is_some()
    };
    let bad = values.iter().filter(|it| !is_good(it)).count();
    assert!((900..1_100).contains(&bad), "{bad}");
    let said = format!(
        "{} of them bad",
        if bad < 1_000 {
            bad.to_string()
        } else {
            format!("1,{:03}", bad - 1_000)
        }
    );
    assert!(summary.contains(&said), "{bad}: {summary}");
}

#[test]
fn produce_says_what_is_wrong() {
    let scratch = Scratch::new();
    run(&scratch, 2, &["produce", "cars", "--topic", "t"]);
    let owned = run(
        &scratch,
        2,
        &["produce", "pizza", "--topic", "t", "-X", "acks=0"],
    );
    assert!(owned.stderr.contains("\"acks\""), "{}", owned.stderr);
    let nobody = Proxy::closed();
    let servers = nobody.bootstrap();
    let silent = run(
        &scratch,
        1,
        &["produce", "pizza", "--topic", "t", "--bootstrap", &servers],
    );
    assert!(silent.stderr.contains(&servers), "{}", silent.stderr);
}

/// What a demo's summary says of its records: in, out, dropped, refused.
#[track_caller]
fn summary(finished: &Finished) -> [usize; 4] {
    let line = finished
        .stdout
        .lines()
        .find(|line| line.contains("records through 3 transforms"));
    let line = line.unwrap_or_else(|| panic!("no summary in {}", finished.stdout));
    let number = |before: &str| -> usize {
        let (text, _) = line.split_once(before).unwrap();
        text.rsplit(' ')
            .next()
            .unwrap()
            .replace(',', "")
            .parse()
            .unwrap()
    };
    [" records through", " came out", " were dropped", " refused"].map(number)
}

#[test]
fn the_demo_needs_no_broker_and_ends_by_itself() {
    let scratch = Scratch::new();
    let demo = run(&scratch, 0, &["demo", "--records", "2000", "--rate", "max"]);
    let [records, out, dropped, refused] = summary(&demo);
    assert_eq!((records, refused), (2_000, 0));
    assert_eq!(out + dropped, 2_000);
    assert!((800..1_200).contains(&out), "about half are even: {out}");
    // Three records before and after, and what to do next.
    let befores = demo
        .stdout
        .lines()
        .filter(|line| line.starts_with("before  {\"stock_name\""));
    assert_eq!(befores.count(), 3);
    assert!(demo.stdout.contains("Try next:"), "{}", demo.stdout);
    assert!(!demo.stdout.contains('\x1b'), "a pipe gets plain lines");
}

#[test]
fn the_demo_runs_on_a_real_kafka_too() {
    let scratch = Scratch::new();
    let bootstrap = broker().bootstrap();
    let demo = run(
        &scratch,
        0,
        &[
            "demo",
            "--records",
            "2000",
            "--rate",
            "max",
            "--bootstrap",
            bootstrap,
        ],
    );
    let [records, out, dropped, refused] = summary(&demo);
    assert_eq!((records, out + dropped, refused), (2_000, 2_000, 0));
}

#[test]
fn health_tells_alive_from_ready() {
    let scratch = Scratch::new();
    let pipeline = Pipeline::between("stocks", "in", "out").seed("");
    // A port that nobody listens on.
    let mut weir = Weir::start(&scratch, &config_at("127.0.0.1:1", &[&pipeline]));
    weir.wait_not_ready(&["stocks"]);
    let admin = format!("http://{}", weir.admin().unwrap());
    let alive = run(&scratch, 0, &["health", "--admin", &admin]);
    assert_eq!(alive.stdout, "alive\n");
    let not_ready = run(&scratch, 1, &["health", "--ready", "--admin", &admin]);
    let reasons = weir.not_ready().unwrap();
    assert!(
        not_ready.stderr.contains(reasons.lines().next().unwrap()),
        "{} without {reasons}",
        not_ready.stderr
    );
    let arguments = ["health", "--ready", "--json", "--admin", &admin];
    let finished = run(&scratch, 1, &arguments);
    let said: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(said["ready"], json!(false));
    assert!(!said["reasons"].as_array().unwrap().is_empty(), "{said}");

    assert_eq!(weir.terminate(), Some(0));
    let gone = run(&scratch, 1, &["health", "--admin", &admin]);
    assert!(gone.stderr.contains("no Weir answers"), "{}", gone.stderr);
}
