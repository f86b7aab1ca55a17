//! What a person sees who writes a config file.

use super::*;
use crate::config::raw::{
    ADMIN, BATCH, INFLUXDB, MAX_REFUSED, OUTPUT, PIPELINE, PROBATION, Section, TLS, TOP, TRANSFORM,
};

/// Delivery, several outputs, dead letters, and what becomes of records that can't be processed.
mod guarantees;

const DOCS: &str = include_str!("../../../docs/config.md");

/// A file that is right, for tests to break: line 1 is `[kafka]`, 3 `[pipelines.stocks]`, 6 the transform.
const GOOD: &str = r#"[kafka]
"bootstrap.servers" = "localhost:9092"
[pipelines.stocks]
input = "realstock"
output = "stocks"
[[pipelines.stocks.transforms]]
name = "id"
module = "add-uuid.wasm"
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    let variable = |name: &str| match name {
        "TOPIC" => Some("orders".to_string()),
        "WORKERS" => Some("3".to_string()),
        "PASSWORD" => Some("hunter2".to_string()),
        _ => None,
    };
    let setting = |table: Table, key: &str, _: &str| match (table, key) {
        (_, "enable.auto.commit") => Err("\"enable.auto.commit\" is Weir's".to_string()),
        (Table::Producer, "group.id") => Err("\"group.id\" is not a producer's".to_string()),
        _ => Ok(()),
    };
    let surroundings = Surroundings {
        variable: &variable,
        setting: &setting,
    };
    Config::parse(Path::new("etc/weir.toml"), text, surroundings)
}

#[track_caller]
fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The good file with one piece replaced has exactly these problems.
#[track_caller]
fn check(piece: &str, replacement: &str, expected: &[&str]) {
    assert!(GOOD.contains(piece), "{piece}");
    check_all(&GOOD.replacen(piece, replacement, 1), expected);
}

#[track_caller]
fn check_all(text: &str, expected: &[&str]) {
    let error = match parse(text) {
        Ok(_) => panic!("no problem in\n{text}"),
        Err(error) => error.to_string(),
    };
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines, expected, "{text}");
}

#[test]
fn a_short_file_gets_the_defaults() {
    let config = good(GOOD);
    assert_eq!(config.admin.listen, None);
    assert!(config.id_key.is_none());
    assert_eq!(config.instance, None);
    let [pipeline] = &config.pipelines[..] else {
        panic!("{config:?}");
    };
    assert_eq!((pipeline.name.as_str(), pipeline.line), ("stocks", 3));
    assert_eq!(pipeline.inputs, [Input::Topic("realstock".to_string())]);
    let output = Output {
        name: "default".to_string(),
        topic: "stocks".to_string(),
        partition: Partitioning::Key,
    };
    assert_eq!(pipeline.outputs, [output]);
    assert_eq!(pipeline.group, "weir-stocks");
    assert_eq!(pipeline.start, Start::Earliest);
    assert_eq!(pipeline.workers, None);
    assert_eq!(pipeline.dead_letter, None);
    assert!(!pipeline.static_membership);
    assert_eq!(pipeline.delivery, Delivery::AtLeastOnce);
    assert_eq!(pipeline.buffer.to_string(), "8 MiB");
    assert_eq!(pipeline.in_flight.to_string(), "4 MiB");
    assert_eq!(pipeline.batch.records, 1000);
    assert_eq!(pipeline.batch.bytes.to_string(), "1 MiB");
    assert_eq!(pipeline.commit_interval, Duration::from_secs(1));
    assert_eq!(pipeline.drain_timeout, Duration::from_secs(30));
    let [transform] = &pipeline.transforms[..] else {
        panic!("{pipeline:?}");
    };
    assert_eq!((transform.name.as_str(), transform.line), ("id", 6));
    assert_eq!(transform.module, Path::new("etc/add-uuid.wasm"));
    assert_eq!(transform.config.typed(), &serde_json::json!({}));
    assert_eq!(transform.ids, Ids::Stable);
    assert_eq!(transform.limits, Limits::default());
    let policies = (transform.on_refused, transform.on_broken);
    assert_eq!(policies, (Policy::Stop, Policy::Stop));
    assert_eq!(transform.retries, 1);
    assert_eq!(transform.max_refused, MaxRefused::default());
}

#[test]
fn every_key_has_its_effect() {
    let config = good(
        r#"
modules = "guests"
id_key = "0123456789abcdef"
[admin]
listen = "0.0.0.0:9000"
[kafka]
bootstrap.servers = ["a:1", "b:2"]
"socket.timeout.ms" = 500
[pipelines.b]
input = ["^orders\\..*", "one"]
output = "${TOPIC}"
group = "readers"
start = 2026-01-31T00:00:00.5+01:00
delivery = "at-least-once"
partition = "same"
workers = "${WORKERS}"
buffer = "8MiB"
in_flight = 1048576
batch = { records = 10, bytes = "1MB" }
commit_interval = "1.5s"
drain_timeout = "1m"
consumer = { "fetch.min.bytes" = 1, "socket.timeout.ms" = 700, "check.crcs" = true }
producer.linger.ms = 20
transforms = [
  { name = "x", module = "/m/x.wasm", ids = "random", deadline = "10ms", memory = "2MiB", max_output_bytes = "3MB", max_output_records = 10 },
  { name = "y", module = "y.wasm", config = { b = 1, a = [1.5, "$${x}", "${PASSWORD}"], d = 2026-01-31, n = { t = true } } },
]
[pipelines.a]
input = "two"
output = "three"
start = "latest"
"#,
    );
    assert_eq!(config.admin.listen, "0.0.0.0:9000".parse().ok());
    assert_eq!(
        config.id_key.as_ref().map(Secret::reveal),
        Some("0123456789abcdef")
    );
    let [b, a] = &config.pipelines[..] else {
        panic!("{config:?}");
    };
    assert_eq!((a.start, a.transforms.len()), (Start::Latest, 0));
    assert_eq!(b.inputs[0], Input::Pattern("^orders\\..*".to_string()));
    assert_eq!(b.inputs[1], Input::Topic("one".to_string()));
    assert_eq!(b.outputs[0].topic, "orders");
    assert_eq!(b.group, "readers");
    assert_eq!(b.start, Start::Time(1_769_814_000_500));
    assert_eq!(b.outputs[0].partition, Partitioning::Same);
    assert_eq!(b.workers, Some(3));
    assert_eq!(
        (b.buffer, b.in_flight),
        (ByteSize::mib(8), ByteSize::mib(1))
    );
    let batch = BatchLimit {
        records: 10,
        bytes: ByteSize(1_000_000),
    };
    assert_eq!(b.batch, batch);
    assert_eq!(b.commit_interval, Duration::from_millis(1_500));
    assert_eq!(b.drain_timeout, Duration::from_secs(60));
    let consumer: Vec<String> = b
        .consumer
        .iter()
        .map(|setting| format!("{setting:?}"))
        .collect();
    assert_eq!(
        consumer,
        [
            "bootstrap.servers=a:1,b:2",
            "socket.timeout.ms=700",
            "fetch.min.bytes=1",
            "check.crcs=true"
        ]
    );
    let producer: Vec<String> = b
        .producer
        .iter()
        .map(|setting| format!("{setting:?}"))
        .collect();
    assert_eq!(
        producer,
        [
            "bootstrap.servers=a:1,b:2",
            "socket.timeout.ms=500",
            "linger.ms=20"
        ]
    );
    let limits = Limits {
        deadline: Duration::from_millis(10),
        record_deadline: Duration::from_millis(10),
        memory: 2 << 20,
        max_output_bytes: 3_000_000,
        max_output_records: 10,
        ..Limits::DEFAULT
    };
    assert_eq!(b.transforms[0].limits, limits);
    assert_eq!(b.transforms[0].ids, Ids::Random);
    assert_eq!(b.transforms[0].module, Path::new("/m/x.wasm"));
    assert_eq!(b.transforms[1].module, Path::new("etc/guests/y.wasm"));
    let text = r#"{"b":1,"a":[1.5,"${x}","hunter2"],"d":"2026-01-31","n":{"t":true}}"#;
    assert_eq!(b.transforms[1].config.filled().to_string(), text);
}

#[test]
fn a_misspelt_key_gets_the_right_one() {
    check(
        "module =",
        "modul =",
        &[
            r#"etc/weir.toml:6: [[pipelines.stocks.transforms]] has no "module"; add it"#,
            r#"etc/weir.toml:8: unknown key "modul" in [[pipelines.stocks.transforms]]; did you mean "module"?"#,
        ],
    );
    check(
        "[kafka]",
        "[pipeline]\n[admin]\nListen='127.0.0.1:1'\n[kafka]",
        &[
            r#"etc/weir.toml:1: unknown key "pipeline" in the top level; did you mean "pipelines"?"#,
            r#"etc/weir.toml:3: unknown key "Listen" in [admin]; did you mean "listen"?"#,
        ],
    );
    check(
        "output",
        "batch.zzz = 1\noutput",
        &[
            r#"etc/weir.toml:5: unknown key "zzz" in [pipelines.stocks.batch]; it knows records, bytes"#,
        ],
    );
}

#[test]
fn a_wrong_type_says_what_is_right() {
    #[track_caller]
    fn pipeline(line: &str, expected: &str) {
        let expected = format!("etc/weir.toml:4: {expected}");
        check("input", &format!("{line}\ninput"), &[&expected]);
    }
    pipeline(
        "workers = 'two'",
        r#""workers" in [pipelines.stocks] must be a whole number, not a string"#,
    );
    pipeline(
        "workers = -1",
        r#""workers" in [pipelines.stocks] can't be negative, and is -1"#,
    );
    pipeline(
        "workers = 0",
        r#""workers" is 0, and must be from 1 to 1024"#,
    );
    pipeline(
        "group = 7",
        r#""group" in [pipelines.stocks] must be a string, not a whole number"#,
    );
    pipeline(
        "group = ''",
        r#""group" is empty; take it out for the default, weir-NAME"#,
    );
    pipeline(
        "partition = 'both'",
        r#""partition" in [pipelines.stocks] must be "key" or "same", not "both""#,
    );
    pipeline(
        "commit_interval = 5",
        r#""commit_interval" in [pipelines.stocks] needs a unit: write "5ms" or "5s""#,
    );
    pipeline(
        "commit_interval = '5 parsecs'",
        r#""commit_interval" in [pipelines.stocks] is not a duration: "5 parsecs"; write a number and a unit, such as "100ms", "1.5s", "1m" or "2h""#,
    );
    pipeline(
        "commit_interval = '2h'",
        r#""commit_interval" is 2h, and must be from 10ms to 1h"#,
    );
    pipeline(
        "buffer = '16MP'",
        r#""buffer" in [pipelines.stocks] is not a size: "16MP"; write a number of bytes, or a size such as "64KiB", "16MiB", "1GiB" or "1MB""#,
    );
    pipeline(
        "buffer = 1000",
        r#""buffer" is 1000 B, and must be from 64 KiB to 1 GiB"#,
    );
    pipeline(
        "batch.records = 0",
        r#""records" is 0, and must be from 1 to 100000"#,
    );
    pipeline(
        "batch = 5",
        r#""batch" in [pipelines.stocks] must be a table, not a whole number"#,
    );
    pipeline(
        "start = 2026-01-31",
        r#""start" must be "earliest", "latest" or a time with its offset such as "2026-01-31T00:00:00Z", not "2026-01-31""#,
    );
    pipeline(
        "drain_timeout = '5m'",
        r#""drain_timeout" is 5m, and must be below the consumer's max.poll.interval.ms, 5m"#,
    );
    pipeline(
        "consumer = { a = { b = [1] } }",
        r#""a.b" in [pipelines.stocks.consumer] must be a string, a number, true or false, or a list of strings"#,
    );
    pipeline(
        "consumer = { a = { b = 1 }, 'a.b' = 2 }",
        r#""a.b" in [pipelines.stocks.consumer] is set twice; keep one"#,
    );
    pipeline(
        "workers = 99999999999999999999",
        "the number 99999999999999999999 is out of range",
    );
}

#[test]
fn topics_and_patterns_are_checked() {
    #[track_caller]
    fn input(value: &str, expected: &str) {
        let expected = format!("etc/weir.toml:4: {expected}");
        check(r#""realstock""#, value, &[&expected]);
    }
    input("[]", r#""input" lists no topic; name at least one"#);
    input("['a', 'a']", r#"the input "a" is listed twice; keep one"#);
    input(
        "['a', 1]",
        r#""input" in [pipelines.stocks] must list strings only, and has a whole number"#,
    );
    input(
        "'a*'",
        r#"the input topic "a*" must be 1 to 249 letters, digits, ".", "_" or "-"; a pattern starts with "^""#,
    );
    input(
        "'^a('",
        r#"the input pattern "^a(" is not a regular expression: unclosed group"#,
    );
    input(
        r"'^a\d'",
        r#"the input pattern "^a\d" has \d, which Kafka's client takes otherwise; write a class such as [0-9] or [A-Za-z0-9_]"#,
    );
    input(
        "'^(?:a)'",
        r#"the input pattern "^(?:a)" has (?, which Kafka's client doesn't know; take it out"#,
    );
    check(
        r#""stocks""#,
        r#""^stocks""#,
        &[
            r#"etc/weir.toml:5: the output topic "^stocks" must be 1 to 249 letters, digits, ".", "_" or "-""#,
        ],
    );
}

#[test]
fn records_can_not_go_round() {
    let round = r#"the output topic "stocks" is an input of pipeline "#;
    let advice = "and records could go round for ever; write to another topic, or put the transforms into one chain";
    check(
        r#""realstock""#,
        r#"["a", "stocks"]"#,
        &[&format!(
            r#"etc/weir.toml:5: {round}"stocks" ("stocks"), {advice}"#
        )],
    );
    let other = "[pipelines.other]\ninput = '^st.*s$'\noutput = 'x'\n";
    check_all(
        &format!("{GOOD}{other}"),
        &[&format!(
            r#"etc/weir.toml:5: {round}"other" ("^st.*s$"), {advice}"#
        )],
    );
    // A mirror writes a topic of the same name on another cluster.
    good(&GOOD.replace(
        "output = \"stocks\"",
        "output = 'realstock'\nproducer = { 'bootstrap.servers' = 'other:9092' }",
    ));
}

#[test]
fn what_goes_together_is_checked() {
    check_all(
        &format!("{GOOD}[pipelines.other]\ninput = 'a'\noutput = 'b'\ngroup = 'weir-stocks'\n"),
        &[
            r#"etc/weir.toml:9: pipelines "stocks" and "other" have the same group; they would take each other's partitions: give each a "group" of its own"#,
        ],
    );
    check_all(
        &format!("{GOOD}[[pipelines.stocks.transforms]]\nname = 'id'\nmodule = 'b.wasm'\n"),
        &[
            r#"etc/weir.toml:10: pipeline "stocks" has a transform "id" at line 7 already; give this one a name of its own"#,
        ],
    );
    let transform = "module = \"add-uuid.wasm\"";
    check(
        transform,
        "module = ''\ndeadline = '0s'\nmemory = '1MiB'\nmax_output_bytes = '1KiB'\nmax_output_records = 10",
        &[
            r#"etc/weir.toml:8: "module" is empty; name a file such as "add-uuid.wasm""#,
            r#"etc/weir.toml:9: "deadline" is 0s, and must be from 1ms to 1m"#,
            r#"etc/weir.toml:10: "memory" is 1 MiB, less than twice a batch's 1 MiB (a guest holds a batch and what it makes of it); raise it, or lower "bytes" in the pipeline's batch"#,
            r#"etc/weir.toml:11: "max_output_bytes" is 1 KiB, less than a batch's 1 MiB; raise it, or lower "bytes" in the pipeline's batch"#,
            r#"etc/weir.toml:12: "max_output_records" is 10, less than a batch's 1000 records; raise it, or lower "records" in the pipeline's batch"#,
        ],
    );
    check(
        "name = \"id\"",
        "name = 'My Id'",
        &[
            r#"etc/weir.toml:7: the transform name "My Id" must be 1 to 100 lower-case letters, digits, ".", "_" or "-", the first a letter or digit"#,
        ],
    );
    check(
        "module =",
        "config = 5\nmodule =",
        &[
            r#"etc/weir.toml:8: "config" in [[pipelines.stocks.transforms]] must be a table, not a whole number"#,
        ],
    );
    check(
        "module =",
        "config = { a = nan }\nmodule =",
        &[
            r#"etc/weir.toml:8: "config" in [[pipelines.stocks.transforms]] can't hold NaN, which JSON has no number for"#,
        ],
    );
}

#[test]
fn the_file_as_a_whole() {
    check_all(
        "",
        &["etc/weir.toml: no pipeline: add a [pipelines.NAME] with `input` and `output`"],
    );
    check_all(
        "[kafka\n",
        &["etc/weir.toml:1: not valid TOML: unclosed table, expected `]`"],
    );
    check_all(
        "[admin]\nlisten = 'localhost'\n[[pipelines]]\ninput = 'a'\n",
        &[
            r#"etc/weir.toml:2: "listen" in [admin] must be an address and a port such as "127.0.0.1:8080" or "0.0.0.0:8080", not "localhost""#,
            r#"etc/weir.toml:3: "pipelines" in the top level must be a table, not a list"#,
        ],
    );
    check_all(
        "[pipelines]\ninput = 'a'\n[pipelines.X]\n",
        &[
            r#"etc/weir.toml:2: "input" in [pipelines] must be a table [pipelines.input], not a string"#,
            r#"etc/weir.toml:3: [pipelines.X] has no "input"; add it"#,
            r#"etc/weir.toml:3: [pipelines.X] has no "output"; add it"#,
            r#"etc/weir.toml:3: the pipeline name "X" must be 1 to 100 lower-case letters, digits, ".", "_" or "-", the first a letter or digit"#,
        ],
    );
    check(
        "[[pipelines.stocks.transforms]]",
        "[pipelines.stocks.transforms]",
        &[
            r#"etc/weir.toml:6: "transforms" in [pipelines.stocks] must be a list of tables; write [[pipelines.stocks.transforms]] with two brackets"#,
        ],
    );
    check(
        "\"bootstrap.servers\" = \"localhost:9092\"",
        "",
        &[
            r#"etc/weir.toml:3: the consumer of pipeline "stocks" has no "bootstrap.servers"; put it into [kafka], such as "bootstrap.servers" = "localhost:9092""#,
            r#"etc/weir.toml:3: the producer of pipeline "stocks" has no "bootstrap.servers"; put it into [kafka], such as "bootstrap.servers" = "localhost:9092""#,
        ],
    );
    let error = Config::load(Path::new("/nowhere/weir.toml"), &|_, _, _| Ok(())).unwrap_err();
    let text =
        "/nowhere/weir.toml: can't read the config file: No such file or directory (os error 2)";
    assert_eq!(error.to_string(), text);
}

#[test]
fn keys_that_weir_owns_are_refused_where_they_stand() {
    check(
        "[pipelines.stocks]",
        "'enable.auto.commit' = true\n[pipelines.stocks]\nproducer = { 'group.id' = 'x' }",
        &[
            r#"etc/weir.toml:3: "enable.auto.commit" is Weir's"#,
            r#"etc/weir.toml:5: "group.id" is not a producer's"#,
        ],
    );
}

#[test]
fn references_that_lead_nowhere_are_named() {
    check(
        r#""stocks""#,
        r#""${NO_SUCH}""#,
        &[
            "etc/weir.toml:5: the environment variable NO_SUCH isn't set (or isn't UTF-8); set it, or write $${ for a plain ${",
        ],
    );
    check(
        "[pipelines.stocks]",
        "'sasl.password' = '${file:no/such}'\n[pipelines.stocks]",
        &[
            "etc/weir.toml:3: can't read etc/no/such, which ${file:no/such} names: No such file or directory (os error 2)",
        ],
    );
    check(
        "[pipelines.stocks]",
        "'sasl.password' = '${PASSWORD:-x}'\n[pipelines.stocks]",
        &[
            "etc/weir.toml:3: ${PASSWORD:-x} is neither ${VARIABLE} nor ${file:PATH}; write $${ for a plain ${",
        ],
    );
}

#[test]
fn a_file_gives_a_value_without_its_newline() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("password"), "hunter2\n").unwrap();
    let file = folder.path().join("weir.toml");
    let text = GOOD.replace("[kafka]", "[kafka]\n'sasl.password' = '${file:password}'");
    std::fs::write(&file, text).unwrap();
    let config = Config::load(&file, &|_, _, _| Ok(()));
    let pipeline = &config.unwrap().pipelines[0];
    assert_eq!(pipeline.producer.get("sasl.password"), Some("hunter2"));
}

#[test]
fn secrets_are_not_shown() {
    let config = good(
        r#"
id_key = "hunter2hunter2hunter2"
[kafka]
"bootstrap.servers" = "localhost:9092"
"sasl.password" = "hunter2"
"sasl.username" = "${PASSWORD}"
"ssl.key.pem" = ["hunter2"]
[pipelines.a]
input = "a"
output = "b"
transforms = [{ name = "x", module = "x.wasm", config = { key = "${PASSWORD}" } }]
"#,
    );
    let shown = format!("{config:#?}");
    assert!(
        shown.contains("sasl.password") && !shown.contains("hunter2"),
        "{shown}"
    );
    assert_eq!(
        config.pipelines[0].consumer.get("sasl.username"),
        Some("hunter2")
    );

    let error = parse(
        r#"
id_key = "hunter2"
[admin]
listen = "${PASSWORD}"
[pipelines."Hunter"]
input = ["^(${PASSWORD}", "a/${PASSWORD}"]
output = "${PASSWORD}?"
start = "${PASSWORD}"
partition = "${PASSWORD}"
workers = "${PASSWORD}"
buffer = "${PASSWORD}"
commit_interval = "${PASSWORD}"
delivery = "${PASSWORD}"
transforms = [{ name = "${PASSWORD} ", module = "x" }, { name = "${PASSWORD} ", module = "x" }]
"#,
    );
    let error = error.unwrap_err();
    assert_eq!(error.problems.len(), 14, "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn the_docs_list_every_key_and_no_other() {
    for Section { title, keys } in [
        TOP,
        ADMIN,
        TLS,
        INFLUXDB,
        PIPELINE,
        OUTPUT,
        BATCH,
        TRANSFORM,
        MAX_REFUSED,
        PROBATION,
    ] {
        let (_, section) = DOCS
            .split_once(&format!("\n## {title}\n"))
            .unwrap_or_else(|| panic!("docs/config.md has no section {title}"));
        let section = section.split("\n## ").next().unwrap_or_default();
        let listed: Vec<&str> = section
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .map(|(key, _)| key)
            .collect();
        assert_eq!(listed, keys, "in {title}");
    }
}

#[test]
fn the_examples_of_the_docs_are_right() {
    let examples: Vec<&str> = DOCS
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert_eq!(examples.len(), 5);
    assert_eq!(good(examples[0]).pipelines[0].transforms.len(), 3);
    let exactly = &good(examples[3]).pipelines[0];
    assert_eq!(exactly.delivery, Delivery::ExactlyOnce);
    assert_eq!(good(examples[4]).pipelines[0].outputs.len(), 3);
    let influxdb = good(&format!("{}\n{GOOD}", examples[1])).influxdb.unwrap();
    assert_eq!(influxdb.tags, [("site".to_string(), "berlin".to_string())]);
    let kafka = examples[2].replace("${file:/run/secrets/kafka}", "${PASSWORD}");
    good(&format!(
        "{kafka}\n[pipelines.a]\ninput = 'a'\noutput = 'b'"
    ));
}

#[test]
fn data_is_where_the_file_says_or_else_the_variable() {
    #[track_caller]
    fn check(line: &str, named: Option<&str>, expected: &str) {
        let variable = |name: &str| named.filter(|_| name == "WEIR_DATA").map(str::to_string);
        let surroundings = Surroundings {
            variable: &variable,
            setting: &|_, _, _| Ok(()),
        };
        let text = format!("{line}\n{GOOD}");
        let config = Config::parse(Path::new("etc/weir.toml"), &text, surroundings);
        let config = config.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.data, Path::new(expected), "{line} {named:?}");
    }
    check("", None, "etc/weir-data");
    check("", Some(""), "etc/weir-data");
    check("", Some("/var/lib/weir"), "/var/lib/weir");
    check("data = 'own'", Some("/var/lib/weir"), "etc/own");
}

#[test]
fn an_influxdb_is_of_one_version() {
    let check = |lines: &str, expected: &[&str]| {
        check_all(&format!("[influxdb]\n{lines}\n{GOOD}"), expected);
    };
    let url = "url = 'http://localhost:8086'";
    let which = "etc/weir.toml:1: [influxdb] needs \"database\" (InfluxDB 1) or \"bucket\", \"org\" and \"token\" (InfluxDB 2), and not both";
    check(
        "database = 'weir'",
        &["etc/weir.toml:1: [influxdb] has no \"url\"; add it"],
    );
    check(url, &[which]);
    check(&format!("{url}\ndatabase = 'a'\nbucket = 'b'"), &[which]);
    check(
        &format!("{url}\nbucket = 'b'\norg = 'o'"),
        &["etc/weir.toml:1: with \"bucket\", [influxdb] needs \"org\" and \"token\", too"],
    );
    check(
        &format!("{url}\ndatabase = 'a'\ntoken = 't'"),
        &["etc/weir.toml:4: \"token\" in [influxdb] doesn't go with \"database\""],
    );
    check(
        &format!("{url}\ndatabase = 'a'\nusername = 'u'"),
        &["etc/weir.toml:1: \"username\" and \"password\" in [influxdb] go together"],
    );
    check(
        "url = 'localhost:8086'\ndatabase = 'a'",
        &[
            "etc/weir.toml:2: \"url\" in [influxdb] must start with http:// or https://, as \"http://localhost:8086\" does, not \"localhost:8086\"",
        ],
    );
    check(
        &format!("{url}\ndatabase = 'a'\ninterval = '1ms'\ntags = {{ a = 1 }}"),
        &[
            "etc/weir.toml:4: \"interval\" is 1ms, and must be from 100ms to 1h",
            "etc/weir.toml:5: \"tags\" in [influxdb] must hold strings only, and \"a\" is a whole number",
        ],
    );
    let text =
        format!("[influxdb]\n{url}\nbucket = 'b'\norg = 'o'\ntoken = 'hunter2hunter2'\n{GOOD}");
    let config = parse(&text).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}
