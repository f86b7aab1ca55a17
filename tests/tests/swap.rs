//! Versions that change while records flow: by the API, by commands, by files; and who may change them.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use weir_tests::{
    Consumed, MINUTE, Pipeline, Prometheus, Record, Scratch, Signal, Topic, Weir, config, guest,
};
use xtask::http::{self, Response};

const JSON: (&str, &str) = ("content-type", "application/json");

fn ask(weir: &Weir, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    let admin = weir.admin().expect("it has said where");
    http::request(admin, method, path, headers, body).expect("an answer")
}

fn post(weir: &Weir, path: &str, body: &Value) -> (u16, Value) {
    let response = ask(weir, "POST", path, &[JSON], body.to_string().as_bytes());
    let body = serde_json::from_str(&response.body);
    (response.status, body.expect("JSON"))
}

/// A record's value with a number in it.
fn numbered(number: u64) -> Record {
    let key = format!("key-{}", number % 97);
    let value = format!("{{\"n\":{number}}}");
    Record::new(Some(key.as_bytes()), Some(value.as_bytes()))
}

fn value(record: &Consumed) -> Value {
    serde_json::from_slice(record.value.as_deref().unwrap_or_default()).expect("JSON")
}

/// Which field a record was stamped with.
fn stamp(record: &Consumed) -> String {
    let value = value(record);
    let mut fields = value.as_object().expect("an object").keys();
    fields
        .find(|it| it.starts_with('v'))
        .expect("a stamp")
        .clone()
}

/// 200 swaps between versions that stamp their numbers into the records, under load: each record comes out once, in order,
/// and in each partition each swap is one cut.
fn swaps_under_load(delivery: &str) {
    const SWAPS: usize = 200;
    let (input, output) = (Topic::create(4), Topic::create(4));
    let pipeline = Pipeline::new("p", &input, &output)
        .set("workers = 2")
        .set("partition = \"same\"")
        .set(&format!("delivery = {delivery:?}"))
        .set("commit_interval = \"20ms\"")
        .transform("stamp", "add-uuid", "config = { field = \"v0\" }");
    let scratch = Scratch::new();
    let mut weir = Weir::start(&scratch, &config(&[&pipeline]));
    weir.wait_ready();
    let bootstrap = weir_tests::broker().bootstrap();
    let mut producing = Weir::start_command(
        &scratch,
        &[
            "produce",
            "realstock",
            "--topic",
            input.name(),
            "--bootstrap",
            bootstrap,
            "--rate",
            "20000",
            "--seed",
            "1",
        ],
    );
    weir.wait_until("records flow", MINUTE, |weir| {
        (weir.counter("weir_records_out_total", &[]) > 10_000).then_some(())
    });
    let path = "/v1/pipelines/p/transforms/stamp/versions";
    let flowed = weir.counter("weir_records_in_total", &[]);
    for number in 1..=SWAPS {
        let field = format!("v{number}");
        let (status, done) = post(&weir, path, &json!({"config": {"field": field}}));
        assert_eq!(status, 200, "{done}");
        assert_eq!(
            (&done["workers"], &done["taken"]),
            (&json!(2), &json!(2)),
            "{done}"
        );
    }
    let flowed = weir.counter("weir_records_in_total", &[]) - flowed;
    assert!(
        flowed > 5_000,
        "only {flowed} records came while it was swapped"
    );
    producing.terminate();
    weir.wait_done(&input, pipeline.group());
    let made = |result: &str| weir.counter("weir_swaps_total", &[&format!("result=\"{result}\"")]);
    assert_eq!((made("made"), made("refused")), (SWAPS as u64, 0));
    assert_eq!(weir.terminate(), Some(0));

    let (records, out) = (input.consume_uncommitted(), output.consume());
    assert_eq!(records.len(), out.len());
    let mut cuts = 0;
    for partition in 0..4 {
        let of = |all: &[Consumed]| -> Vec<Consumed> {
            all.iter()
                .filter(|it| it.partition == partition)
                .cloned()
                .collect()
        };
        let (records, out) = (of(&records), of(&out));
        assert_eq!(records.len(), out.len(), "partition {partition}");
        let mut last = 0;
        for (record, out) in records.iter().zip(&out) {
            let stamp = stamp(out);
            let mut made = value(out);
            made.as_object_mut().unwrap().remove(&stamp);
            assert_eq!(made, value(record), "offset {}", record.offset);
            let number: usize = stamp[1..].parse().unwrap();
            assert!(
                number >= last,
                "partition {partition}: version {number} after {last}"
            );
            cuts += usize::from(number != last);
            last = number;
        }
        assert_eq!(last, SWAPS);
    }
    assert!(cuts >= 50, "{cuts} cuts");
    let ids: HashSet<String> = out
        .iter()
        .map(|it| value(it)[&stamp(it)].to_string())
        .collect();
    assert_eq!(ids.len(), out.len());
}

#[test]
fn two_hundred_swaps_under_load_at_least_once() {
    swaps_under_load("at-least-once");
}

#[test]
fn two_hundred_swaps_under_load_exactly_once() {
    swaps_under_load("exactly-once");
}

/// Kills its process at the nth call that changes a file, once `kill-at` in the working folder says so: before it, or
/// behind it.
const KILLER: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Processes that it starts have another count. */
__attribute__((constructor)) static void alone(void) { unsetenv("LD_PRELOAD"); }

static void count(void) {
    static int left = -1;
    if (left < 0) {
        FILE *file = fopen("kill-at", "r");
        if (!file) return;
        if (fscanf(file, "%d", &left) != 1) left = -1;
        fclose(file);
        if (left < 0) return;
    }
    if (left-- == 0) kill(getpid(), SIGKILL);
}

#define AROUND(name, parameters, arguments) \
    int name parameters { \
        static int (*real) parameters; \
        if (!real) real = (int (*) parameters)dlsym(RTLD_NEXT, #name); \
        count(); \
        int result = real arguments, saved = errno; \
        count(); \
        errno = saved; \
        return result; \
    }

AROUND(fsync, (int fd), (fd))
AROUND(fdatasync, (int fd), (fd))
AROUND(rename, (const char *from, const char *to), (from, to))
AROUND(link, (const char *from, const char *to), (from, to))
AROUND(unlink, (const char *path), (path))
AROUND(mkdir, (const char *path, unsigned mode), (path, mode))
"#;

#[test]
fn killed_at_any_step_of_a_swap_it_starts_into_a_whole_version() {
    let scratch = Scratch::new();
    let source = scratch.write("killer.c", KILLER);
    let library = scratch.path().join("killer.so");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status();
    assert!(built.expect("a C compiler").success());
    let kill_at = scratch.path().join("kill-at");
    let (input, output, pipeline) = filtering("p", "");
    // A killed member's partitions come back to it at once.
    let site = (input, output, pipeline.set("static_membership = true"));
    let text = config(&[&site.2]);
    let path = "/v1/pipelines/p/transforms/even/versions";
    let (mut next, mut odd, mut kills) = (0, false, 0);
    let mut seen = HashSet::new();
    let module = fs::read(guest("filter")).unwrap();
    loop {
        let mut weir = Weir::start_preloaded(&scratch, &text, &library);
        weir.wait_ready();
        fs::write(&kill_at, kills.to_string()).unwrap();
        // Never the same bytes, so that module and compiled code are written each time: a custom section with a number.
        let wanted = !odd;
        let keep = if wanted { "n%252==1" } else { "n%3E=0" };
        let path = format!("{path}?config=%7B%22keep%22:%22{keep}%22%7D");
        let new = [&module[..], &[0, 3, 1, b'k', kills as u8]].concat();
        let admin = weir.admin().unwrap();
        let wasm = ("content-type", "application/wasm");
        let answer = http::request(admin, "POST", &path, &[wasm], &new);
        fs::remove_file(&kill_at).unwrap();
        let survived = answer.is_ok_and(|it| it.status == 200);
        match survived {
            true => weir.kill(),
            false => assert_eq!(weir.wait_exit(MINUTE), None, "it's killed"),
        }
        // Whatever was on disk by then is what runs, whole.
        let mut weir = Weir::start(&scratch, &text);
        weir.wait_ready();
        let views = weir.get("/v1/pipelines").unwrap().body;
        let views: Value = serde_json::from_str(&views).unwrap();
        let out = pass(&mut weir, &site, next..next + 4);
        let all = (next..next + 4).collect::<Vec<u64>>();
        let odds: Vec<u64> = all.iter().copied().filter(|n| n % 2 == 1).collect();
        let now = out == odds;
        assert!(now || out == all, "{out:?}, killed at {kills}: {views}");
        assert!(!survived || now == wanted, "what was answered stays");
        next += 4;
        seen.insert(now == wanted);
        odd = now;
        assert_eq!(weir.terminate(), Some(0));
        if survived {
            break;
        }
        kills += 1;
    }
    assert!(kills >= 10, "only {kills} steps");
    assert_eq!(
        seen.len(),
        2,
        "killed early the old version runs, killed late the new one"
    );
}

/// A pipeline of one filter that keeps all, and its topics.
fn filtering(name: &str, lines: &str) -> (Topic, Topic, Pipeline) {
    let (input, output) = (Topic::create(2), Topic::create(2));
    let pipeline = Pipeline::new(name, &input, &output)
        .set("workers = 1")
        .transform(
            "even",
            "filter",
            &format!("config = {{ keep = \"n >= 0\" }}\n{lines}"),
        );
    (input, output, pipeline)
}

/// Produces numbers and waits until they're through; returns those that came out.
fn pass(
    weir: &mut Weir,
    (input, output, pipeline): &(Topic, Topic, Pipeline),
    numbers: std::ops::Range<u64>,
) -> Vec<u64> {
    let before: HashSet<(i32, i64)> = output
        .consume()
        .iter()
        .map(|it| (it.partition, it.offset))
        .collect();
    input.produce(numbers.map(numbered));
    weir.wait_done(input, pipeline.group());
    let news = output.consume();
    let news = news
        .iter()
        .filter(|it| !before.contains(&(it.partition, it.offset)));
    let mut numbers: Vec<u64> = news.map(|it| value(it)["n"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn a_new_version_that_stops_the_pipeline_gives_way() {
    let lines = "on_refused = \"stop\"\nprobation = { for = \"1h\" }";
    let (input, output, pipeline) = filtering("p", lines);
    // Each of them stops for it, one after the other.
    let site = (
        input,
        output,
        pipeline.replace("workers = 1", "workers = 2"),
    );
    let scratch = Scratch::new();
    let mut weir = Weir::start(&scratch, &config(&[&site.2]));
    weir.wait_ready();
    let path = "/v1/pipelines/p/transforms/even";
    assert_eq!(pass(&mut weir, &site, 0..6), [0, 1, 2, 3, 4, 5]);
    // It refuses every record.
    for mode in ["active", "canary"] {
        let mut body = json!({"config": {"keep": "1 / (n - n) == 1"}, "mode": mode});
        if mode == "canary" {
            body["percent"] = json!(99.99);
        }
        let (status, done) = post(&weir, &format!("{path}/versions"), &body);
        assert_eq!(status, 200, "{done}");
        assert_eq!(pass(&mut weir, &site, 6..9), [6, 7, 8], "{mode}");
        let answer = ask(&weir, "GET", &format!("{path}/versions"), &[], b"");
        let versions: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(
            (&versions["active"], &versions["trial"]),
            (&json!(1), &Value::Null),
            "{versions}"
        );
    }
    let failed = weir.counter("weir_probations_failed_total", &[]);
    assert!(failed >= 2, "{failed}");
    assert_eq!(weir.terminate(), Some(0));
}

/// Whether a canary of so many hundredths of a percent has the records of a key: as docs/config.md says it.
fn has_key(share: u64, key: &[u8]) -> bool {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(key);
    let start: [u8; 8] = digest[..8].try_into().unwrap();
    u64::from_be_bytes(start) % 10_000 < share
}

#[test]
fn a_canary_has_its_share_of_the_keys_and_the_same_after_a_restart() {
    let (input, output) = (Topic::create(4), Topic::create(4));
    let pipeline = Pipeline::new("p", &input, &output)
        .set("workers = 2")
        .transform("stamp", "add-uuid", "config = { field = \"v1\" }");
    let scratch = Scratch::new();
    let text = config(&[&pipeline]);
    let mut weir = Weir::start(&scratch, &text);
    weir.wait_ready();
    let path = "/v1/pipelines/p/transforms/stamp/versions";
    let body = json!({"config": {"field": "v2"}, "mode": "canary", "percent": 30});
    let (status, done) = post(&weir, path, &body);
    assert_eq!((status, &done["version"]), (200, &json!(2)), "{done}");
    let mut shares = HashSet::new();
    for round in 0..2 {
        let before = output.consume().len();
        input.produce((0..400).map(|number| {
            let key = format!("key-{number}");
            Record::new(Some(key.as_bytes()), Some(b"{}"))
        }));
        weir.wait_done(&input, pipeline.group());
        let out = output.consume();
        assert_eq!(out.len(), before + 400);
        let mut tried = 0;
        for record in &out {
            let key = record.key.as_deref().unwrap();
            let is_tried = stamp(record) == "v2";
            assert_eq!(is_tried, has_key(3_000, key), "round {round}: {key:?}");
            tried += usize::from(is_tried);
        }
        shares.insert(tried / (round + 1));
        weir.kill();
        weir = Weir::start(&scratch, &text);
        weir.wait_ready();
    }
    let share = shares.iter().next().unwrap();
    assert!(
        shares.len() == 1 && (80..=160).contains(share),
        "{shares:?}"
    );
    // By version, too.
    let (status, done) = post(&weir, &path.replace("versions", "promote"), &json!({}));
    assert_eq!((status, &done["active"]), (200, &json!(2)), "{done}");
    assert_eq!(weir.terminate(), Some(0));
}

#[test]
fn a_swap_is_of_one_process_and_waits_for_its_probation() {
    let lines = "probation = { for = \"1s\", max_refused = 1.0 }\non_refused = \"skip\"";
    let (input, output, pipeline) = filtering("p", lines);
    let scratch = Scratch::new();
    let text = config(&[&pipeline]);
    let mut weir = Weir::start(&scratch, &text);
    weir.wait_ready();
    let mut other = Weir::start_with(&scratch, &text, &["--instance", "other"]);
    other.wait_ready();
    let admin = format!("http://{}", weir.admin().unwrap());
    let swap = |keep: &str| {
        let config = json!({ "keep": keep }).to_string();
        let arguments = [
            "swap", "p/even", "--config", &config, "--wait", "--admin", &admin,
        ];
        let finished = Weir::command(&scratch, MINUTE, &arguments);
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        finished.stdout
    };
    let said = swap("n > 1");
    assert!(said.contains("p/even: version 2 stays"), "{said}");
    let alone = "that's this process alone";
    assert!(
        said.contains(alone) && said.contains("has 2 members"),
        "{said}"
    );
    assert_eq!(other.terminate(), Some(0));
    weir.wait_until("the group is this process's alone", MINUTE, |weir| {
        let assigned = weir.counter("weir_partitions_assigned", &[]);
        (assigned == input.partitions() as u64).then_some(())
    });
    let said = swap("n > 2");
    assert!(!said.contains(alone), "{said}");
    assert!(output.is_empty());
    assert_eq!(weir.terminate(), Some(0));
}

#[test]
fn of_two_swaps_at_once_one_wins_and_the_other_is_told() {
    let site = filtering("p", "");
    let scratch = Scratch::new();
    let mut weir = Weir::start(&scratch, &config(&[&site.2]));
    weir.wait_ready();
    let path = "/v1/pipelines/p/transforms/even/versions";
    let admin = weir.admin().unwrap();
    // Both are under way at the same time sooner or later.
    let told = (0..50).find_map(|round| {
        let swap = |number: usize| {
            let body = json!({"config": {"keep": format!("n != {}", 2 * round + number)}});
            let answer = http::request(admin, "POST", path, &[JSON], body.to_string().as_bytes());
            let answer = answer.expect("an answer");
            (
                answer.status,
                serde_json::from_str::<Value>(&answer.body).expect("JSON"),
            )
        };
        let (one, other) = std::thread::scope(|scope| {
            let other = scope.spawn(|| swap(1));
            (swap(0), other.join().unwrap())
        });
        let mut statuses = [one.0, other.0];
        statuses.sort_unstable();
        assert!(
            [[200, 200], [200, 409]].contains(&statuses),
            "{one:?}, {other:?}"
        );
        [one, other].into_iter().find(|(status, _)| *status == 409)
    });
    let (_, problem) = told.expect("one of them is told");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("busy with a swap by api"), "{detail}");
    assert_eq!(weir.terminate(), Some(0));
}

#[test]
fn the_commands_swap_roll_back_and_tell() {
    let site = filtering("p", "");
    let scratch = Scratch::new();
    let mut weir = Weir::start(&scratch, &config(&[&site.2]));
    weir.wait_ready();
    let admin = format!("http://{}", weir.admin().unwrap());
    let command = |arguments: &[&str]| {
        let all = [arguments, &["--admin", &admin]].concat();
        Weir::command(&scratch, MINUTE, &all)
    };
    let done = |arguments: &[&str]| {
        let finished = command(arguments);
        assert_eq!(
            (finished.code, &*finished.stderr),
            (Some(0), ""),
            "{arguments:?}"
        );
        finished.stdout
    };
    let odd = r#"{"keep": "n % 2 == 1"}"#;
    let said = done(&["swap", "p/even", "--config", odd, "--note", "odd ones"]);
    assert!(
        said.contains("p/even: version 2 (") && said.contains("instead of 1"),
        "{said}"
    );
    assert!(said.contains("1 workers have it"), "{said}");
    assert_eq!(pass(&mut weir, &site, 0..6), [1, 3, 5]);

    let said = done(&["versions", "p/even"]);
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines[1].contains("api (127.0.0.1)") && lines[1].contains("odd ones"),
        "{said}"
    );
    assert!(
        lines[2].contains("config-file") && lines[2].contains("swapped"),
        "{said}"
    );

    let said = done(&["rollback", "p/even"]);
    assert!(
        said.contains("version 1 (") && said.contains("instead of 2"),
        "{said}"
    );
    assert_eq!(pass(&mut weir, &site, 6..8), [6, 7]);

    let module = guest("faulty");
    let refused = command(&["swap", "p/even", module.to_str().unwrap()]);
    assert_eq!((refused.code, &*refused.stdout), (Some(1), ""));
    assert!(refused.stderr.contains("config"), "{}", refused.stderr);
    assert_eq!(pass(&mut weir, &site, 8..10), [8, 9]);
    for (arguments, code, why) in [
        (vec!["swap", "p/even"], 2, "there's nothing new"),
        (vec!["swap", "even", "x.wasm"], 2, "stocks/even"),
        (vec!["swap", "p/even", "nowhere.wasm"], 1, "nowhere.wasm"),
        (
            vec!["swap", "p/even", "--config", "{"],
            2,
            "--config isn't JSON",
        ),
        (
            vec!["swap", "q/even", "--config", odd],
            1,
            "there's no pipeline \"q\"; there are: p",
        ),
        (
            vec!["rollback", "p/odd"],
            1,
            "has no transform \"odd\"; it has: even",
        ),
        (vec!["promote", "p/even"], 1, "nothing on trial"),
    ] {
        let finished = command(&arguments);
        assert_eq!(
            finished.code,
            Some(code),
            "{arguments:?}: {}",
            finished.stderr
        );
        assert!(finished.stderr.contains(why), "{}", finished.stderr);
    }

    // Trials of versions that never ran end, and they are forgotten.
    done(&[
        "swap",
        "p/even",
        "--config",
        r#"{"keep": "n > 1"}"#,
        "--shadow",
    ]);
    let said = done(&["promote", "p/even", "--end-shadow"]);
    assert!(said.contains("version 3 ("), "{said}");
    let half = ["--canary", "50%"];
    let config = ["swap", "p/even", "--config", r#"{"keep": "n > 2"}"#];
    done(&[&config[..], &half[..]].concat());
    let said = done(&["rollback", "p/even"]);
    assert!(said.contains("version 4 ("), "{said}");

    // A shadow reports what would differ, and writes nothing.
    done(&[
        "swap",
        "p/even",
        "--config",
        r#"{"keep": "n != 13"}"#,
        "--shadow",
    ]);
    assert_eq!(pass(&mut weir, &site, 10..16).len(), 6);
    let status = weir.wait_until("the shadow has seen them", MINUTE, |_| {
        let said = done(&["status", "p"]);
        said.contains("6 records compared").then_some(said)
    });
    assert!(status.contains("5 equal, 1 different"), "{status}");
    assert!(status.contains(" -> dropped"), "{status}");
    let said = done(&["promote", "p/even"]);
    assert!(said.contains("is active, instead of 1"), "{said}");
    assert_eq!(pass(&mut weir, &site, 12..15), [12, 14]);

    let said = done(&["pause", "p"]);
    assert!(said.contains("reads no more"), "{said}");
    site.0.produce((20..23).map(numbered));
    let said = done(&["status"]);
    assert!(
        said.contains("paused since") && said.contains("api (127.0.0.1)"),
        "{said}"
    );
    done(&["resume", "p"]);
    weir.wait_done(&site.0, site.2.group());
    let views: Value = serde_json::from_str(&done(&["status", "--json"])).unwrap();
    assert_eq!(views[0]["transforms"][0]["active"]["version"], 5, "{views}");
    assert_eq!(weir.terminate(), Some(0));

    let gone = command(&["status"]);
    assert_eq!(gone.code, Some(1));
    assert!(
        gone.stderr.contains("no Weir answers at"),
        "{}",
        gone.stderr
    );
}

#[test]
fn who_may_change_things() {
    let site = filtering("p", "");
    let scratch = Scratch::new();
    let mut weir = Weir::start(&scratch, &config(&[&site.2]));
    weir.wait_ready();
    let path = "/v1/pipelines/p/transforms/even/versions";
    let body = json!({"config": {"keep": "n > 1"}}).to_string();
    let swap = |headers: &[(&str, &str)], body: &[u8]| ask(&weir, "POST", path, headers, body);
    // Without a token: a web page that somebody has open.
    for (headers, status) in [
        (vec![JSON, ("host", "evil.example")], 403),
        (vec![JSON, ("origin", "https://evil.example")], 403),
        (vec![JSON, ("origin", "null")], 403),
        (vec![("content-type", "text/plain")], 415),
        (
            vec![("content-type", "application/x-www-form-urlencoded")],
            415,
        ),
        (vec![], 415),
    ] {
        let answer = swap(&headers, body.as_bytes());
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.body);
        let problem: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(problem["status"], status);
        assert!(
            problem["detail"].is_string() && problem["title"].is_string(),
            "{problem}"
        );
    }
    assert_eq!(
        ask(
            &weir,
            "GET",
            "/v1/pipelines",
            &[("host", "evil.example")],
            b""
        )
        .status,
        403
    );
    for path in [
        "/v1/pipelines/p/pause",
        "/v1/pipelines/p/transforms/even/promote",
    ] {
        assert_eq!(ask(&weir, "POST", path, &[], b"").status, 415, "{path}");
    }
    // What isn't what it must be.
    for (body, status, why) in [
        (&b"{"[..], 400, "the body isn't what it must be"),
        (b"[]", 400, "the body isn't what it must be"),
        (b"{}", 400, "there's nothing new"),
        (br#"{"modul": "AA"}"#, 400, "unknown field"),
        (br#"{"module": "?"}"#, 400, "isn't base64"),
        (
            br#"{"digest": "abc"}"#,
            400,
            "the body isn't what it must be",
        ),
        (
            br#"{"config": {"keep": "true"}, "mode": "canary"}"#,
            400,
            "needs `percent`",
        ),
        (
            br#"{"config": {"keep": "true"}, "mode": "canary", "percent": 0}"#,
            400,
            "`percent` must be",
        ),
        (br#"{"module": "AGFzbQ=="}"#, 422, "module"),
        (br#"{"config": {"keep": "n +"}}"#, 422, "refuses its config"),
    ] {
        let answer = swap(&[JSON], body);
        assert!(
            answer.status == status && answer.body.contains(why),
            "{}: {}",
            answer.status,
            answer.body
        );
    }
    let large = vec![b' '; 90 << 20];
    assert_eq!(swap(&[JSON], &large).status, 413);
    let wasm = [("content-type", "application/wasm")];
    assert_eq!(swap(&wasm, &large).status, 413);
    assert_eq!(ask(&weir, "GET", "/v1/nothing", &[], b"").status, 404);
    let document = ask(&weir, "GET", "/v1/openapi.json", &[], b"");
    let document: Value = serde_json::from_str(&document.body).unwrap();
    let paths = document["paths"].as_object().unwrap();
    for path in [
        "/v1/pipelines",
        "/v1/pipelines/{pipeline}/transforms/{transform}/versions",
    ] {
        assert!(paths.contains_key(path), "{paths:?}");
    }
    let parameters =
        paths["/v1/pipelines/{pipeline}/transforms/{transform}/versions"]["post"]["parameters"]
            .as_array()
            .unwrap();
    let named = |name: &str| parameters.iter().any(|it| it["name"] == name);
    assert!(
        ["pipeline", "config", "mode", "percent"]
            .into_iter()
            .all(named),
        "{parameters:?}"
    );
    let scheme = &document["components"]["securitySchemes"]["token"]["scheme"];
    assert_eq!(scheme, "bearer");
    let wrong = ask(&weir, "POST", &format!("{path}?percent=x"), &wasm, b"");
    let problem: Value = serde_json::from_str(&wrong.body).expect("problem details");
    assert_eq!((wrong.status, &problem["status"]), (400, &json!(400)));
    let wrong = ask(&weir, "PUT", path, &[JSON], b"{}");
    let problem: Value = serde_json::from_str(&wrong.body).expect("problem details");
    assert_eq!((wrong.status, &problem["status"]), (405, &json!(405)));
    // A module by itself, with the rest beside it.
    let module = fs::read(guest("filter")).unwrap();
    let query = format!("{path}?note=again&config=%7B%22keep%22%3A%22n%20%3E%202%22%7D");
    let answer = ask(&weir, "POST", &query, &wasm, &module);
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(pass(&mut weir, &site, 0..5), [3, 4]);
    weir.terminate();

    // With a token: whoever has it.
    let secret = "correct-horse-battery";
    scratch.write("token", format!("{secret}\n"));
    let text = config(&[&site.2]).replacen(
        "\n[kafka]",
        "\n[admin]\ntoken = \"${file:token}\"\n\n[kafka]",
        1,
    );
    let mut weir = Weir::start(&scratch, &text);
    weir.wait_ready();
    let with = |value: &str| {
        let headers = [JSON, ("host", "weir.example"), ("authorization", value)];
        ask(&weir, "POST", path, &headers, body.as_bytes()).status
    };
    assert_eq!(with("Bearer wrong-horse-battery"), 401);
    assert_eq!(with("Bearer "), 401);
    assert_eq!(ask(&weir, "GET", "/v1/pipelines", &[], b"").status, 401);
    assert_eq!(with(&format!("Bearer {secret}")), 200);
    for open in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(ask(&weir, "GET", open, &[], b"").status, 200, "{open}");
    }
    let admin = format!("http://{}", weir.admin().unwrap());
    let status = |more: &[&str]| {
        let all = [&["status", "--admin", &admin], more].concat();
        Weir::command(&scratch, MINUTE, &all)
    };
    let refused = status(&[]);
    assert!(
        refused.code == Some(1) && refused.stderr.contains("token"),
        "{refused:?}"
    );
    assert_eq!(status(&["--token-file", "token"]).code, Some(0));
    assert!(!weir.log().contains(secret));
    weir.terminate();

    // An address that others reach, and no token.
    let text = config(&[&site.2]).replacen(
        "\n[kafka]",
        "\n[admin]\nlisten = \"0.0.0.0:0\"\n\n[kafka]",
        1,
    );
    let mut weir = Weir::start_plain(&scratch, &text, &[]);
    weir.wait_log(&["admin endpoints"]);
    let port = weir.admin().unwrap().port();
    let local = format!("127.0.0.1:{port}").parse().unwrap();
    let closed = http::request(local, "GET", "/v1/pipelines", &[], b"").unwrap();
    assert!(
        closed.status == 403 && closed.body.contains("the API is closed"),
        "{closed:?}"
    );
    assert_eq!(http::get(local, "/healthz").unwrap().status, 200);
    weir.terminate();
}

#[test]
fn with_a_certificate_tls_is_spoken() {
    let scratch = Scratch::new();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "1"])
        .args(["-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args([
            "-subj",
            "/CN=weir",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(scratch.path())
        .output()
        .expect("openssl");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let site = filtering("p", "");
    let admin = "\n[admin]\nlisten = \"127.0.0.1:0\"\ntls = { cert = \"cert.pem\", key = \"key.pem\" }\n\n[kafka]";
    let text = config(&[&site.2]).replacen("\n[kafka]", admin, 1);
    let mut weir = Weir::start_plain(&scratch, &text, &[]);
    weir.wait_log(&["tls=true"]);
    let url = format!("https://{}", weir.admin().unwrap());
    let status = |more: &[&str]| {
        Weir::command(
            &scratch,
            MINUTE,
            &[&["status", "--admin", &url], more].concat(),
        )
    };
    let told = status(&["--ca", "cert.pem"]);
    assert!(
        told.code == Some(0) && told.stdout.contains("pipeline p"),
        "{told:?}"
    );
    let stranger = status(&[]);
    assert_eq!(stranger.code, Some(1));
    assert!(
        stranger.stderr.contains("isn't trusted; --ca names"),
        "{stranger:?}"
    );
    // A client that would rather speak HTTP/2.
    let authority = scratch.path().join("cert.pem");
    let prometheus = Prometheus::start_secure(&scratch, &[weir.admin().unwrap()], &authority);
    weir.wait_until("Prometheus reads the metrics", MINUTE, |_| {
        prometheus
            .number("up{job=\"weir\"}")
            .filter(|it| *it == 1.0)
    });
    assert!(
        weir.get("/healthz").is_none_or(|it| it.status == 400),
        "it's not spoken in the clear"
    );
    weir.terminate();

    let wrong = text.replace("\"key.pem\"", "\"nokey.pem\"");
    let mut weir = Weir::start_plain(&scratch, &wrong, &[]);
    assert_eq!(weir.wait_exit(MINUTE), Some(1));
    assert!(
        weir.log().contains("nokey.pem of [admin.tls]"),
        "{}",
        weir.log()
    );
}

#[test]
fn files_that_change_are_taken_up() {
    let site = filtering("p", "");
    let scratch = Scratch::new();
    // As Kubernetes mounts a config map: a link through a folder that's a link itself.
    let mount = |name: &str, module: &Path| {
        let folder = scratch.path().join(name);
        fs::create_dir(&folder).unwrap();
        fs::copy(module, folder.join("m.wasm")).unwrap();
        symlink(name, scratch.path().join("..next")).unwrap();
        fs::rename(scratch.path().join("..next"), scratch.path().join("..data")).unwrap();
    };
    mount("..one", &guest("filter"));
    symlink("..data/m.wasm", scratch.path().join("m.wasm")).unwrap();
    let module = scratch.path().join("m.wasm").display().to_string();
    let text = config(&[&site.2]).replace("\"filter.wasm\"", &format!("{module:?}"));
    let mut weir = Weir::start(&scratch, &text);
    weir.wait_ready();
    assert_eq!(pass(&mut weir, &site, 0..2), [0, 1]);

    // The config file, in place.
    let path = scratch.path().join("weir-1.toml");
    let odd = text.replace("n >= 0", "n % 2 == 1");
    fs::write(&path, &odd).unwrap();
    weir.wait_log(&["\"even\" has version 2 instead of 1"]);
    assert_eq!(pass(&mut weir, &site, 2..6), [3, 5]);

    // A mistake in it: what ran goes on, and the log says where.
    fs::write(&path, odd.replace("workers = 1", "workers = 0")).unwrap();
    weir.wait_log(&["isn't taken up, and what ran goes on", "workers"]);
    fs::write(
        &path,
        odd.replace("modules = ", "watch = false\nmodules = "),
    )
    .unwrap();
    weir.wait_log(&["watch can't change while Weir runs"]);
    assert_eq!(pass(&mut weir, &site, 6..8), [7]);

    // Another module behind the links, which doesn't take this config; then one that does.
    mount("..two", &guest("add-uuid"));
    weir.wait_log(&["a changed module isn't taken up, and what ran goes on"]);
    assert_eq!(pass(&mut weir, &site, 8..10), [9]);
    let mut salted = fs::read(guest("filter")).unwrap();
    salted.extend([0, 5, 4, b's', b'a', b'l', b't']);
    mount("..three", &scratch.write("salted.wasm", salted));
    weir.wait_log(&["\"even\" has version 3 instead of 2"]);
    assert_eq!(pass(&mut weir, &site, 10..12), [11]);

    // One more pipeline, and other settings: only what differs is touched.
    let (from, to) = (Topic::create(1), Topic::create(1));
    let other = Pipeline::new("q", &from, &to);
    let both = config(&[&site.2, &other]).replace("\"filter.wasm\"", &format!("{module:?}"));
    fs::write(&path, both.replace("n >= 0", "n % 2 == 1")).unwrap();
    weir.wait_log(&["pipeline=\"q\" workers=1"]);
    from.produce([numbered(1)]);
    weir.wait_done(&from, other.group());
    assert_eq!(to.len(), 1);
    let starts = weir.log().matches("starting pipeline=\"p\"").count();
    assert_eq!(starts, 1, "it was never ended");

    fs::write(&path, odd.replace("workers = 1", "workers = 2")).unwrap();
    weir.signal(Signal::HUP);
    weir.wait_log(&[
        "pipeline=\"p\" workers=2",
        "not in the config file any more pipeline=\"q\"",
    ]);
    weir.wait_ready();
    assert_eq!(pass(&mut weir, &site, 12..14), [13]);
    assert_eq!(weir.terminate(), Some(0));

    // What was active is active, and nothing is compiled again.
    let mut weir = Weir::start(&scratch, &odd);
    weir.wait_ready();
    assert_eq!(weir.counter("weir_compilations_total", &[]), 0);
    assert_eq!(pass(&mut weir, &site, 14..16), [15]);
    weir.terminate();
}
