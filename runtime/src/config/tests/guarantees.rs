use super::*;

/// The good file, exactly once, with every key that has to do with it. Line 5 is `output`.
const EXACT: &str = r#"
instance = "blue-1"
[kafka]
"bootstrap.servers" = "localhost:9092"
[pipelines.stocks]
input = "realstock"
output = { rest = "stocks.rest", even = "stocks.even", default = "stocks" }
outputs.even.partition = "key"
partition = "same"
dead_letter = "stocks.dead"
delivery = "exactly-once"
static_membership = true
transaction_bytes = "1MiB"
[[pipelines.stocks.transforms]]
name = "id"
module = "add-uuid.wasm"
on_refused = "skip"
on_broken = "dead-letter"
retries = 0
max_refused = { share = 0.5, of = 10 }
deadline = "2s"
record_deadline = "1s"
[[pipelines.stocks.transforms]]
name = "date"
module = "format-timestamp.wasm"
deadline = "20ms"
max_bytes_per_input = "2MiB"
max_records_per_input = 1
max_table_elements = 2
max_log_lines = 0
max_module_bytes = "3MiB"
max_config_bytes = "4KiB"
[pipelines.stocks.transforms.max_refused]
share = 1
"#;

/// A line in front of `input` of the good file's pipeline, which is line 4, has this problem.
#[track_caller]
fn pipeline(line: &str, expected: &str) {
    let expected = format!("etc/weir.toml:4: {expected}");
    check("input", &format!("{line}\ninput"), &[&expected]);
}

/// A line in front of `module` of the good file's transform, which is line 8, has this problem.
#[track_caller]
fn transform(line: &str, expected: &str) {
    let expected = format!("etc/weir.toml:8: {expected}");
    check("module", &format!("{line}\nmodule"), &[&expected]);
}

/// What stands in the place of the good file's output topic, at line 5, has this problem.
#[track_caller]
fn output(value: &str, expected: &str) {
    let expected = format!("etc/weir.toml:5: {expected}");
    check(r#""stocks""#, value, &[&expected]);
}

#[test]
fn every_key_has_its_effect() {
    let config = good(EXACT);
    assert_eq!(config.instance.as_deref(), Some("blue-1"));
    let [pipeline] = &config.pipelines[..] else {
        panic!("{config:?}");
    };
    let output = |name: &str, topic: &str, partition| Output {
        name: name.to_string(),
        topic: topic.to_string(),
        partition,
    };
    // The default first, the others as they stand.
    let outputs = [
        output("default", "stocks", Partitioning::Same),
        output("rest", "stocks.rest", Partitioning::Same),
        output("even", "stocks.even", Partitioning::Key),
    ];
    assert_eq!(pipeline.outputs, outputs);
    assert_eq!(pipeline.dead_letter.as_deref(), Some("stocks.dead"));
    assert_eq!(pipeline.delivery, Delivery::ExactlyOnce);
    assert_eq!(pipeline.commit_interval, Duration::from_millis(100));
    assert_eq!(pipeline.transaction_bytes, ByteSize::mib(1));
    assert!(pipeline.static_membership);
    let [id, date] = &pipeline.transforms[..] else {
        panic!("{pipeline:?}");
    };
    let policies = (id.on_refused, id.on_broken);
    assert_eq!(policies, (Policy::Skip, Policy::DeadLetter));
    assert_eq!(id.retries, 0);
    let max_refused = |share, of| MaxRefused { share, of };
    assert_eq!(id.max_refused, max_refused(0.5, 10));
    assert_eq!(id.limits.record_deadline, Duration::from_secs(1));
    // With a dead letter topic, that's where they go.
    let policies = (date.on_refused, date.on_broken);
    assert_eq!(policies, (Policy::DeadLetter, Policy::DeadLetter));
    assert_eq!(date.max_refused, max_refused(1.0, 1_000));
    let limits = Limits {
        deadline: Duration::from_millis(20),
        record_deadline: Duration::from_millis(20),
        max_bytes_per_input: 2 << 20,
        max_records_per_input: 1,
        max_table_elements: 2,
        max_log_lines: 0,
        max_module_bytes: 3 << 20,
        max_config_bytes: 4 << 10,
        ..Limits::DEFAULT
    };
    assert_eq!(date.limits, limits);
}

#[test]
fn without_a_default_the_first_output_is_it() {
    let config = good(&GOOD.replace(r#""stocks""#, r#"{ z = "one", a = "one" }"#));
    let names: Vec<&str> = config.pipelines[0]
        .outputs
        .iter()
        .map(|output| output.name.as_str())
        .collect();
    assert_eq!(names, ["z", "a"]);
    // An output that isn't named is called so.
    good(&GOOD.replace("output", "outputs.default.partition = 'same'\noutput"));
}

#[test]
fn wrong_outputs_say_what_is_right() {
    output(
        "{}",
        r#""output" names no topic; write such as output = { default = "stocks" }"#,
    );
    output(
        "['a', 'b']",
        r#""output" in [pipelines.stocks] must be a topic's name or a table of names and topics, not a list"#,
    );
    output(
        "{ a = 1 }",
        r#""output" in [pipelines.stocks] must give "a" a topic's name, not a whole number"#,
    );
    output(
        "{ a = 'b?' }",
        r#"the output topic "b?" must be 1 to 249 letters, digits, ".", "_" or "-""#,
    );
    output(
        "{ 'A b' = 'b' }",
        r#"the output name "A b" must be 1 to 100 lower-case letters, digits, ".", "_" or "-", the first a letter or digit"#,
    );
    pipeline(
        "outputs.defalt.partition = 'same'",
        r#"there is no output "defalt"; did you mean "default"?"#,
    );
    pipeline(
        "outputs.errors.partition = 'same'",
        r#"there is no output "errors"; "output" has default"#,
    );
    pipeline(
        "outputs.default.partitions = 1",
        r#"unknown key "partitions" in [pipelines.stocks.outputs.default]; did you mean "partition"?"#,
    );
    pipeline(
        "outputs = 'stocks'",
        r#""outputs" in [pipelines.stocks] must be a table of tables, not a string"#,
    );
    pipeline(
        "outputs.default = 'stocks'",
        r#""outputs" in [pipelines.stocks] must hold tables only, and "default" is a string"#,
    );
}

#[test]
fn dead_letters_have_a_topic_of_their_own() {
    pipeline(
        "dead_letter = 'dead?'",
        r#"the dead letter topic "dead?" must be 1 to 249 letters, digits, ".", "_" or "-""#,
    );
    pipeline(
        "dead_letter = 'stocks'",
        r#"the dead letter topic "stocks" is an output of the pipeline too, and its readers would take dead letters for results; give dead letters a topic of their own"#,
    );
    let advice = "and records could go round for ever; write to another topic, or put the transforms into one chain";
    pipeline(
        "dead_letter = 'realstock'",
        &format!(
            r#"the dead letter topic "realstock" is an input of pipeline "stocks" ("realstock"), {advice}"#
        ),
    );
    let other = "[pipelines.other]\ninput = '^dead'\noutput = 'x'\n";
    let text = GOOD.replacen("output", "dead_letter = 'dead'\noutput", 1);
    let expected = format!(
        r#"etc/weir.toml:5: the dead letter topic "dead" is an input of pipeline "other" ("^dead"), {advice}"#
    );
    check_all(&format!("{text}{other}"), &[&expected]);
    // Two pipelines may share one.
    let other = "[pipelines.other]\ninput = 'a'\noutput = 'x'\ndead_letter = 'dead'\n";
    good(&format!("{text}{other}"));
}

#[test]
fn wrong_policies_say_what_is_right() {
    for key in ["on_refused", "on_broken"] {
        transform(
            &format!("{key} = 'drop'"),
            &format!(
                r#""{key}" in [[pipelines.stocks.transforms]] must be "dead-letter", "skip" or "stop", not "drop""#
            ),
        );
        transform(
            &format!("{key} = 'dead-letter'"),
            &format!(
                r#""{key}" is "dead-letter", and pipeline "stocks" has no topic for dead letters; add dead_letter = "TOPIC" to [pipelines.stocks]"#
            ),
        );
    }
    transform(
        "retries = 11",
        r#""retries" is 11, and must be from 0 to 10"#,
    );
    for share in ["0.0", "-0.5", "1.01"] {
        transform(
            &format!("max_refused = {{ share = {share} }}"),
            &format!(
                r#""share" is {}, and must be above 0 and at most 1, which is all"#,
                share.parse::<f64>().unwrap()
            ),
        );
    }
    transform(
        "max_refused = { share = nan }",
        r#""share" is NaN, and must be above 0 and at most 1, which is all"#,
    );
    transform(
        "max_refused = { share = '20%' }",
        r#""share" in [pipelines.stocks.transforms.max_refused] must be a number, not a string"#,
    );
    transform(
        "max_refused = { of = 0 }",
        r#""of" is 0, and must be from 1 to 1000000"#,
    );
    transform(
        "max_refused = { off = 1 }",
        r#"unknown key "off" in [pipelines.stocks.transforms.max_refused]; did you mean "of"?"#,
    );
    transform(
        "record_deadline = '2s'",
        r#""record_deadline" is 2s, more than the whole batch's "deadline", 1s; lower it, or raise that"#,
    );
}

#[test]
fn exactly_once_has_its_rules() {
    let exactly = "delivery = 'exactly-once'";
    pipeline(
        "delivery = 'at-most-once'",
        r#""delivery" in [pipelines.stocks] must be "at-least-once" or "exactly-once", not "at-most-once""#,
    );
    // An interval that is right for one is wrong for the other.
    let text = GOOD.replacen("input", "commit_interval = '6s'\ninput", 1);
    good(&text);
    let text = text.replacen("input", &format!("{exactly}\ninput"), 1);
    let problem = r#"etc/weir.toml:4: "commit_interval" is 6s, and with exactly-once must be at most a third of the producer's transaction.timeout.ms, 15s; lower it, or raise that"#;
    check_all(&text, &[problem]);
    good(&text.replace("[kafka]", "[kafka]\n'transaction.timeout.ms' = 18000"));
    let deadline = |deadline: &str| {
        GOOD.replacen("input", &format!("{exactly}\ninput"), 1)
            .replacen("module", &format!("deadline = '{deadline}'\nmodule"), 1)
    };
    good(&deadline("14s"));
    check_all(
        &deadline("15s"),
        &[
            r#"etc/weir.toml:7: the "deadline" of transform "id" and the "commit_interval" come to 15100ms, and with exactly-once must stay below the producer's transaction.timeout.ms, 15s; lower them, or raise that"#,
        ],
    );
    let other = "producer = { 'bootstrap.servers' = 'other:9092' }";
    check(
        "output",
        &format!("{exactly}\n{other}\noutput"),
        &[
            r#"etc/weir.toml:6: pipeline "stocks" reads from one cluster and writes to another, and exactly-once can't reach across: offsets and outputs are committed in one transaction, which one cluster keeps; give consumer and producer the same "bootstrap.servers", or take delivery = "at-least-once""#,
        ],
    );
    let same = "producer = { 'metadata.broker.list' = 'LOCALHOST:9092' }";
    let text = GOOD.replacen("[kafka]", "", 1).replacen(
        "\"bootstrap.servers\" = \"localhost:9092\"",
        "",
        1,
    );
    good(&text.replacen(
        "output",
        &format!(
            "{exactly}\n{same}\nconsumer = {{ 'bootstrap.servers' = 'localhost:9092' }}\noutput"
        ),
        1,
    ));
}

#[test]
fn transactions_have_names_of_their_own() {
    let pipeline = |name: &str, group: &str| {
        format!(
            "[pipelines.{name}]\ngroup = '{group}'\ninput = 'a'\noutput = 'b'\ndelivery = 'exactly-once'\n"
        )
    };
    let kafka = "[kafka]\n'bootstrap.servers' = 'localhost:9092'\n";
    good(&[kafka, &pipeline("b-c", "a"), &pipeline("c", "a-d")].concat());
    check_all(
        &[kafka, &pipeline("b-c", "a"), &pipeline("c", "a-b")].concat(),
        &[
            r#"etc/weir.toml:8: the groups and names of pipelines "b-c" and "c" make the same "transactional.id", and they would shut each other out; give one another "group""#,
        ],
    );
}

#[test]
fn replays_have_names_of_their_own() {
    let pipeline = |name: &str, group: &str, lines: &str| {
        format!("[pipelines.{name}]\ngroup = '{group}'\ninput = 'a'\noutput = 'b'\n{lines}\n")
    };
    let kafka = "[kafka]\n'bootstrap.servers' = 'localhost:9092'\n";
    let dead = "dead_letter = 'dead'";
    let exact = "dead_letter = 'dead'\ndelivery = 'exactly-once'";
    let both = |lines: &str, others: &str| {
        [
            kafka,
            &pipeline("b-c", "a", lines),
            &pipeline("c", "a-b", others),
        ]
        .concat()
    };
    // Workers and replays never have the same name.
    good(&both(dead, ""));
    good(&both(dead, "delivery = 'exactly-once'"));
    check_all(
        &both(dead, dead),
        &[
            r#"etc/weir.toml:8: the groups and names of pipelines "b-c" and "c" make the same "transactional.id" for replays of dead letters, and they would shut each other out; give one another "group""#,
        ],
    );
    check_all(
        &both(exact, exact),
        &[
            r#"etc/weir.toml:9: the groups and names of pipelines "b-c" and "c" make the same "transactional.id", and they would shut each other out; give one another "group""#,
        ],
    );
    let group = |lines: &str| {
        [
            kafka,
            &pipeline("p", "x-replay", ""),
            &pipeline("q", "x", lines),
        ]
        .concat()
    };
    good(&group(""));
    check_all(
        &group(dead),
        &[
            r#"etc/weir.toml:3: the group of pipeline "p", "x-replay", is the one that keeps which dead letters of pipeline "q" were replayed; give one another "group""#,
        ],
    );
}

#[test]
fn instances_and_members_have_names_that_kafka_takes() {
    check(
        "[kafka]",
        "instance = 'blue/1'\n[kafka]",
        &[
            r#"etc/weir.toml:1: the instance name "blue/1" must be 1 to 100 letters, digits, ".", "_" or "-", the first a letter or digit, and not end in ".lock""#,
        ],
    );
    pipeline(
        "static_membership = 'yes'",
        r#""static_membership" in [pipelines.stocks] must be true or false, not a string"#,
    );
}
