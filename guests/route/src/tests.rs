//! Routing as a pipeline sees it: config and outputs in, records in, records with an output or refusals out.

use serde_json::{Value, json};
use weir_guest::testing::{Harness, Input, Outcome};
use weir_guest::{Needs, Transform};

use crate::Route;

const OUTPUTS: [&str; 4] = ["other", "btc", "eth", "big"];

fn route(config: Value) -> Harness<Route> {
    Harness::with_outputs(&config.to_string(), &OUTPUTS).unwrap()
}

/// Rules of the given conditions, each to the next one of `btc`, `eth` and `big`.
fn rules(conditions: &[&str]) -> Value {
    let rules = conditions.iter().zip(&OUTPUTS[1..]);
    rules
        .map(|(when, to)| json!({ "when": when, "to": to }))
        .collect()
}

/// Why `init` refuses a config, in one line.
fn refused(config: Value) -> String {
    let error = Harness::<Route>::with_outputs(&config.to_string(), &OUTPUTS).err();
    let error = error.unwrap_or_else(|| panic!("{config} is accepted"));
    error.lines().next().unwrap_or_default().to_owned()
}

#[track_caller]
fn check(outcome: &Outcome, expected: &[Option<&str>]) {
    assert_eq!(outcome.refused, []);
    assert_eq!(outcome.outputs(), expected);
}

#[test]
fn the_first_rule_that_holds_decides() {
    let inputs = [
        Input::value(r#"{"stock_name":"BTC-USD","stock_value":37812.759521484375}"#)
            .key(b"\xff")
            .header("h", "1"),
        Input::value(r#"{"stock_name":"ETH-USD","stock_value":3000.5}"#),
        Input::value(r#" {"stock_value":2000,"stock_name":"ADA-USD"}"#),
        Input::value(r#"{"stock_name":"DOGE-USD","stock_value":0.25}"#),
    ];
    let conditions = [
        "stock_name == 'BTC-USD'",
        "stock_name.startsWith('ETH')",
        "stock_value >= 1000",
    ];
    let mut harness = route(json!({ "rules": rules(&conditions), "default": "other" }));
    assert_eq!(harness.needs(), Needs::VALUES);
    let outcome = harness.run(&inputs);
    check(
        &outcome,
        &[Some("btc"), Some("eth"), Some("big"), Some("other")],
    );
    // Nothing but indexes and outputs crosses back.
    assert_eq!(outcome.written, Needs::NONE);
    assert_eq!(outcome.sent[0].headers.len(), 1);
}

#[test]
fn what_no_rule_matches_stays_goes_to_the_default_is_dropped_or_refused() {
    let inputs = [Input::value(r#"{"n":1}"#), Input::value(r#"{"n":2}"#)];
    let run = |more: Value| {
        let mut config = json!({ "rules": rules(&["n == 1"]) });
        config
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        route(config).run(&inputs)
    };
    check(&run(json!({})), &[Some("btc"), None]);
    check(&run(json!({ "unmatched": "keep" })), &[Some("btc"), None]);
    check(
        &run(json!({ "default": "big" })),
        &[Some("btc"), Some("big")],
    );
    check(&run(json!({ "unmatched": "drop" })), &[Some("btc")]);
    let outcome = run(json!({ "unmatched": "refuse" }));
    assert_eq!(
        outcome.refused,
        [(1, "no rule holds for the record".to_owned())]
    );
    assert_eq!(outcome.outputs(), [Some("btc")]);
}

#[test]
fn what_is_missing_refuses_the_record_or_passes_the_rule_over() {
    let inputs = [
        Input::value(r#"{"b":1}"#),
        Input::value(r#"{"a":1}"#),
        Input::value("{}"),
    ];
    let conditions = ["a == 1", "b == 1"];
    let outcome = route(json!({ "rules": rules(&conditions) })).run(&inputs);
    let missing = "`rules[0].when`, line 1, column 1: there is no `a`".to_owned();
    assert_eq!(outcome.refused, [(0, missing.clone()), (2, missing)]);
    assert_eq!(outcome.outputs(), [Some("btc")]);
    let outcome = route(json!({ "rules": rules(&conditions), "missing": "skip" })).run(&inputs);
    check(&outcome, &[Some("eth"), Some("btc"), None]);
    // A field of the wrong type isn't missing.
    let mut harness = route(json!({ "rules": rules(&["a > 1", "true"]), "missing": "skip" }));
    assert_eq!(
        harness.run_one(Input::value(r#"{"a":"x"}"#)).refusal(),
        "`rules[0].when`, line 1, column 3: `>` isn't defined for string and int"
    );
}

#[test]
fn nothing_behind_the_rule_that_holds_is_looked_at() {
    let conditions = [
        "record.headers.kind == b'avro'",
        "n == 1",
        "record.offset == 3",
    ];
    let mut harness = route(json!({ "rules": rules(&conditions), "missing": "skip" }));
    assert_eq!(
        harness.needs(),
        Needs::HEADERS | Needs::VALUES | Needs::POSITIONS
    );
    let outcome = harness.run(&[
        Input::value(b"\x00\xff").header("kind", "avro"),
        Input::value(r#"{"n":1}"#).header("kind", "json"),
        Input::value(b"\x00\xff").header("kind", "json"),
        Input::value("{}"),
    ]);
    assert_eq!(outcome.outputs(), [Some("btc"), Some("eth"), Some("big")]);
    assert_eq!(outcome.refused.len(), 1);
    let (index, reason) = &outcome.refused[0];
    assert_eq!(*index, 2);
    assert!(reason.starts_with("malformed JSON at byte 0"), "{reason}");
    // A later rule that fails doesn't count either.
    let mut harness = route(json!({ "rules": rules(&["n == 1", "n / 0 == 1"]) }));
    check(&harness.run(&[Input::value(r#"{"n":1}"#)]), &[Some("btc")]);
}

#[test]
fn rules_share_fields_and_differ_in_what_they_make_of_them() {
    let conditions = [
        "a.b == 1 && c == 1",
        "c == 2 && a.b == 1",
        "a['b'] == 3 || d.e == 'x'",
    ];
    let mut harness = route(json!({ "rules": rules(&conditions), "missing": "skip" }));
    let outcome = harness.run(&[
        Input::value(r#"{"c":2,"a":{"b":1}}"#),
        Input::value(r#"{"a":{"b":1},"c":1}"#),
        Input::value(r#"{"d":{"e":"x"}}"#),
        Input::value(r#"{"a":{"b":3},"c":1}"#),
        Input::value(r#"{"a":{"b":4},"c":1}"#),
    ]);
    check(
        &outcome,
        &[Some("eth"), Some("btc"), Some("big"), Some("big"), None],
    );
}

#[test]
fn values_of_any_kind_can_be_routed_as_a_whole() {
    let conditions = ["type(record.value) == list", "n == 1"];
    let mut harness = route(json!({ "rules": rules(&conditions) }));
    let outcome = harness.run(&[
        Input::value("[1]"),
        Input::value(r#"{"n":1}"#),
        Input::value("2"),
    ]);
    assert_eq!(outcome.outputs(), [Some("btc"), Some("eth")]);
    assert_eq!(
        outcome.refused,
        [(
            2,
            "`rules[1].when`, line 1, column 1: there is no `n` in an int".to_owned()
        )]
    );
}

#[test]
fn a_tombstone_passes_the_rules_that_read_values_or_goes_everywhere() {
    let inputs = [
        Input::tombstone().key("first"),
        Input::tombstone().key("last"),
        Input::tombstone().key("none"),
    ];
    let run = |policy: Option<&str>| {
        let mut config = json!({
            "rules": [
                { "when": "record.key == b'first'", "to": "btc" },
                { "when": "n == 1", "to": "eth" },
                { "when": "record.key == b'last'", "to": "big" },
                { "when": "n == 2", "to": "btc" },
            ],
            "default": "other",
        });
        if let Some(policy) = policy {
            config["tombstones"] = policy.into();
        }
        route(config).run(&inputs)
    };
    let passed = [Some("btc"), Some("big"), Some("other")];
    check(&run(None), &passed);
    check(&run(Some("pass")), &passed);
    check(&run(Some("drop")), &[Some("btc")]);
    let outcome = run(Some("refuse"));
    let reason = "the value is null (a tombstone)".to_owned();
    assert_eq!(outcome.refused, [(1, reason.clone()), (2, reason)]);
    let outcome = run(Some("all"));
    let everywhere = ["btc", "eth", "big", "other"].map(Some);
    check(
        &outcome,
        &[&[Some("btc")][..], &everywhere, &everywhere].concat(),
    );
    assert_eq!(outcome.keys()[1..5], ["last"; 4]);
    // Rules that never read the value treat it as any record.
    let config = json!({ "rules": rules(&["record.key != null"]), "tombstones": "drop" });
    check(&route(config).run(&inputs[..1]), &[Some("btc")]);
}

#[test]
fn an_output_that_there_isnt_is_refused_with_those_that_there_are() {
    assert_eq!(
        refused(json!({ "rules": [{ "when": "a", "to": "btc" }, { "when": "b", "to": "eht" }] })),
        "`rules[1].to`: no output is called `eht`; the pipeline's outputs are `other`, `btc`, `eth`, `big`; \
         did you mean `eth`?"
    );
    assert_eq!(
        refused(json!({ "rules": rules(&["a"]), "default": "nothing" })),
        "`default`: no output is called `nothing`; the pipeline's outputs are `other`, `btc`, `eth`, `big`"
    );
    let config = json!({ "rules": rules(&["a"]) }).to_string();
    assert_eq!(
        Harness::<Route>::new(&config).err().as_deref(),
        Some("`rules[0].to`: no output is called `btc`; the pipeline has one, `default`")
    );
}

#[test]
fn a_wrong_config_is_refused_with_place_and_reason() {
    assert_eq!(
        refused(json!({ "rules": rules(&["a == 1", "b = 2"]) })),
        "`rules[1].when`, line 1, column 3: unexpected `=`; equality is `==`"
    );
    assert_eq!(
        refused(json!({ "rules": rules(&["a + 1"]) })),
        "`rules[0].when`, line 1, column 3: the expression gives an int, not a bool"
    );
    assert_eq!(
        refused(json!({ "rules": rules(&["a == 1", "1 < 2", "b"]) })),
        "`rules[2]` is never reached, since `rules[1]` holds for every record"
    );
    assert_eq!(
        refused(json!({ "rules": [] })),
        "`rules` is empty: a rule has a CEL expression and an output, such as \
         { when = \"price > 100\", to = \"large\" }"
    );
    assert_eq!(
        refused(json!({ "rules": rules(&["a"]), "default": "btc", "unmatched": "drop" })),
        "`default` and `unmatched` are both given; give one of them: an output, or \"keep\", \"drop\" or \"refuse\""
    );
    assert_eq!(refused(json!({})), "config: missing field `rules`");
    assert_eq!(
        refused(json!({ "rules": [{ "when": "a" }] })),
        "config field `rules[0]`: missing field `to`"
    );
    let unknown = refused(json!({ "rules": [{ "when": "a", "too": "btc" }] }));
    assert!(
        unknown.starts_with("config field `rules[0].too`: unknown field `too`"),
        "{unknown}"
    );
    let unknown = refused(json!({ "rules": rules(&["a"]), "missing": "keep" }));
    assert!(unknown.starts_with("config field `missing`"), "{unknown}");
}

#[test]
fn only_the_columns_that_are_read_are_asked_for() {
    let needs = |conditions: &[&str]| route(json!({ "rules": rules(conditions) })).needs();
    assert_eq!(needs(&["record.partition == 1"]), Needs::NONE);
    assert_eq!(
        needs(&["record.key == b''", "has(record.timestamp)"]),
        Needs::KEYS | Needs::TIMESTAMPS
    );
    assert_eq!(
        needs(&["record.key == b''", "has(record.value.n)"]),
        Needs::KEYS | Needs::VALUES
    );
}

#[test]
fn the_schema_names_what_the_config_takes() {
    let schema: Value = serde_json::from_str(Route::SCHEMA).unwrap();
    let properties = schema["properties"].as_object().unwrap();
    let names: Vec<&str> = properties.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["default", "missing", "rules", "tombstones", "unmatched"]
    );
    for rules in properties["rules"]["examples"].as_array().unwrap() {
        route(json!({ "rules": rules }));
    }
    for (name, property) in properties {
        let Some(cases) = property.get("enum") else {
            continue;
        };
        assert!(cases.as_array().unwrap().contains(&property["default"]));
        for case in cases.as_array().unwrap() {
            route(json!({ "rules": rules(&["a"]), name: case }));
        }
    }
}
