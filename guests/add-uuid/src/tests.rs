//! What a pipeline's author would see.

use std::collections::HashSet;

use serde_json::{Value, json};
use weir_guest::testing::{Harness, Input, Outcome};
use weir_guest::{Needs, Transform, Uuid};

use super::AddUuid;

const SEED: &str =
    r#"{"stock_name":"BTC-USD","stock_value":37812.759521484375,"timestamp":1634221557011}"#;

fn harness(config: Value) -> Harness<AddUuid> {
    Harness::new(&config.to_string()).expect("the config is right")
}

fn run(config: Value, input: Input) -> Outcome {
    harness(config).run_one(input)
}

fn refused_config(config: Value) -> String {
    match Harness::<AddUuid>::new(&config.to_string()) {
        Ok(_) => panic!("{config} was taken"),
        Err(error) => error,
    }
}

/// The id in a JSON object's field.
fn id_in(text: &str, field: &str) -> Uuid {
    let object: Value = serde_json::from_str(text).expect("JSON");
    let id = object[field].as_str().expect("an id");
    assert_eq!(id, id.to_lowercase());
    Uuid::parse_str(id).expect("a UUID")
}

#[test]
fn the_seed_record_gets_an_id_after_its_fields_and_keeps_every_digit() {
    let value = &run(json!({}), Input::value(SEED)).values()[0];
    let id = id_in(value, "id");
    assert_eq!(id.get_version_num(), 4);
    assert_eq!(id.get_variant(), weir_guest::ids::Variant::RFC4122);
    let rest = &SEED[..SEED.len() - 1];
    assert_eq!(*value, format!(r#"{rest},"id":"{id}"}}"#));
}

#[test]
fn the_same_record_gets_the_same_id_and_others_do_not() {
    let ids = |harness: &mut Harness<AddUuid>, offset| {
        harness
            .run(&[Input::value("{}").offset(offset), Input::value("{}")])
            .values()
    };
    let mut one = harness(json!({}));
    let mut other = harness(json!({})).id_key([8; 32]);
    assert_eq!(ids(&mut one, 10), ids(&mut harness(json!({})), 10));
    assert_eq!(ids(&mut one, 10)[1], ids(&mut one, 11)[0]);
    assert_ne!(ids(&mut one, 10)[0], ids(&mut one, 11)[0]);
    assert_ne!(ids(&mut one, 10), ids(&mut other, 10));
}

#[test]
fn a_million_ids_are_all_different() {
    let mut harness = harness(json!({}));
    let mut seen = HashSet::new();
    for batch in 0..200u64 {
        let inputs: Vec<Input> = (0..5000)
            .map(|index| Input::value("{}").offset(batch * 5000 + index))
            .collect();
        for value in harness.run(&inputs).values() {
            assert!(seen.insert(value.into_bytes()));
        }
    }
    assert_eq!(seen.len(), 1_000_000);
}

#[test]
fn version_7_begins_with_the_records_timestamp() {
    let config = json!({"version": 7});
    let input = Input::value("{}").timestamp(1_634_221_557_011);
    let value = &run(config.clone(), input).values()[0];
    let id = id_in(value, "id");
    assert_eq!(id.get_version_num(), 7);
    assert_eq!(id.get_variant(), weir_guest::ids::Variant::RFC4122);
    assert_eq!(id.as_u128() >> 80, 1_634_221_557_011);

    let refusal = run(config.clone(), Input::value("{}").no_timestamp());
    assert_eq!(
        refusal.refusal(),
        "the record has no timestamp, which a version 7 id needs"
    );
    let refusal = run(config, Input::value("{}").timestamp(1 << 48));
    assert!(refusal.refusal().contains("281474976710656"));
}

#[test]
fn version_5_is_made_from_a_field() {
    // The example of RFC 9562, appendix A.4.
    let config = json!({"version": 5, "namespace": "dns", "from": "site.host"});
    let input = Input::value(r#"{"site":{"host":"www.example\u002ecom"}}"#);
    let value = &run(config.clone(), input).values()[0];
    assert_eq!(
        id_in(value, "id").to_string(),
        "2ed6657d-e927-568b-95e1-2665a8aea6a2"
    );

    let number = |text: &str| run(config.clone(), Input::value(text)).values()[0].clone();
    assert_ne!(
        id_in(&number(r#"{"site":{"host":1.0}}"#), "id"),
        id_in(&number(r#"{"site":{"host":1.00}}"#), "id")
    );
    for (value, reason) in [
        (
            "{}",
            "the value has no field `site.host` to make the id from",
        ),
        (
            r#"{"site":{"host":null}}"#,
            "field `site.host` is null; an id is made from a string, a number or a boolean",
        ),
    ] {
        assert_eq!(run(config.clone(), Input::value(value)).refusal(), reason);
    }
}

#[test]
fn the_key_becomes_an_object_with_the_id() {
    for input in [
        Input::value(SEED).key(r#"{"stock_name":"BTC-USD"}"#),
        Input::value("not JSON").key([0xff, 0x00]),
        Input::value("1"),
    ] {
        let outcome = run(json!({"into": "key"}), input);
        let key = &outcome.keys()[0];
        let id = id_in(key, "id");
        assert_eq!(*key, format!(r#"{{"id":"{id}"}}"#));
        assert_eq!(outcome.written, Needs::KEYS);
    }
    let outcome = run(
        json!({"into": "key", "field": r#"me"ta.id"#}),
        Input::value("1"),
    );
    let key = &outcome.keys()[0];
    assert!(key.starts_with(r#"{"me\"ta":{"id":""#) && key.ends_with(r#""}}"#));
    assert_eq!(key.len(), r#"{"me\"ta":{"id":""}}"#.len() + 36);
}

#[test]
fn a_header_is_added_after_the_others() {
    let input = Input::value("not JSON")
        .header("a", "1")
        .null_header("a")
        .header([0xff], "");
    let outcome = run(json!({"into": "header", "field": "x.id"}), input);
    let headers = &outcome.sent[0].headers;
    assert_eq!(headers[0], (b"a".to_vec(), Some(b"1".to_vec())));
    assert_eq!(headers[1], (b"a".to_vec(), None));
    assert_eq!(headers[2], (vec![0xff], Some(Vec::new())));
    assert_eq!(headers[3].0, b"x.id");
    let id = String::from_utf8(headers[3].1.clone().expect("an id")).expect("text");
    assert_eq!(id.len(), 36);
    assert_eq!(outcome.values(), ["not JSON"]);
    assert_eq!(outcome.written, Needs::HEADERS);
}

#[test]
fn an_existing_id_is_kept_or_replaced_or_refused() {
    let value = Input::value(r#"{"id":null,"a":1}"#);
    let key = Input::value("{}").key(r#"{"id":7,"b":2}"#);
    let header = Input::value("{}").header("id", "7").header("b", "2");
    for (into, input) in [("value", &value), ("key", &key), ("header", &header)] {
        let config = |existing: &str| json!({"into": into, "existing": existing});
        let kept = run(config("keep"), input.clone());
        assert_eq!(kept.written, Needs::NONE);
        assert_eq!(kept.sent.len(), 1);

        let refused = run(config("refuse"), input.clone());
        assert!(refused.refusal().contains("`id` already"), "{refused:?}");

        let replaced = run(config("replace"), input.clone());
        let sent = &replaced.sent[0];
        match into {
            "value" => {
                let value = &replaced.values()[0];
                let id = id_in(value, "id");
                assert_eq!(*value, format!(r#"{{"id":"{id}","a":1}}"#));
            }
            "key" => {
                let key = &replaced.keys()[0];
                assert_eq!(*key, format!(r#"{{"id":"{}"}}"#, id_in(key, "id")));
            }
            _ => {
                assert_eq!(sent.headers.len(), 2);
                assert_eq!(sent.headers[0].0, b"b");
                assert_eq!(sent.headers[1].0, b"id");
            }
        }
    }
}

#[test]
fn a_tombstone_passes_untouched_or_is_dropped_or_refused() {
    for into in ["value", "key", "header"] {
        let tombstone = || Input::tombstone().key("k").header("h", "1");
        let config = |tombstones: &str| json!({"into": into, "tombstones": tombstones, "existing": "replace"});
        // Beside one that changes, so that columns are written.
        let outcome = harness(config("pass")).run(&[Input::value("{}").key("x"), tombstone()]);
        let sent = &outcome.sent[1];
        assert_eq!(sent.key.as_deref(), Some(&b"k"[..]));
        assert_eq!(sent.value, None);
        assert_eq!(sent.headers, [(b"h".to_vec(), Some(b"1".to_vec()))]);

        let outcome = harness(config("drop")).run(&[tombstone(), Input::value("{}").key("x")]);
        assert_eq!(outcome.sent.len(), 1);
        assert_eq!(outcome.sent[0].from, 1);

        let outcome = run(config("refuse"), tombstone());
        assert_eq!(outcome.refusal(), "the value is null (a tombstone)");
    }
}

#[test]
fn a_value_that_is_no_object_is_refused_with_the_place() {
    for (value, reason) in [
        (
            r#"{"a":1"#,
            "malformed JSON at byte 6: the text ends too early",
        ),
        (r#"[1]"#, "expected a JSON object, found an array"),
        ("", "malformed JSON at byte 0: the text ends too early"),
    ] {
        assert_eq!(run(json!({}), Input::value(value)).refusal(), reason);
    }
    assert_eq!(
        run(json!({"field": "a.id"}), Input::value(r#"{"a":1}"#)).refusal(),
        "can't set `a.id`: `a` is a number, not an object"
    );
}

#[test]
fn only_what_is_needed_is_asked_for() {
    let needs = |config: Value| harness(config).needs();
    assert_eq!(needs(json!({})), Needs::VALUES | Needs::POSITIONS);
    assert_eq!(
        needs(json!({"version": 7, "into": "header"})),
        Needs::VALUES | Needs::POSITIONS | Needs::TIMESTAMPS | Needs::HEADERS
    );
    assert_eq!(
        needs(json!({"version": 5, "namespace": "url", "from": "a"})),
        Needs::VALUES
    );
    assert_eq!(
        needs(json!({"into": "key"})),
        Needs::VALUES | Needs::POSITIONS | Needs::KEYS
    );
    assert_eq!(
        needs(json!({"into": "key", "existing": "replace", "tombstones": "drop"})),
        Needs::VALUES | Needs::POSITIONS
    );
}

#[test]
fn a_wrong_config_is_refused_with_what_would_be_right() {
    for (config, error) in [
        (
            json!({"feild": "id"}),
            "config field `feild`: unknown field `feild`, expected one of `field`, `version`, `namespace`, `from`, `into`, `existing`, `tombstones`",
        ),
        (
            json!({"into": "body"}),
            "config field `into`: unknown variant `body`, expected one of `value`, `key`, `header`",
        ),
        (
            json!({"version": "4"}),
            "config field `version`: invalid type: string \"4\", expected u8",
        ),
        (
            json!({"version": 6}),
            "config field `version`: there is no version 6 here; use 4, 5 or 7",
        ),
        (
            json!({"version": 5, "from": "a"}),
            "config field `namespace`: version 5 needs it: a UUID, or dns, url, oid or x500",
        ),
        (
            json!({"version": 5, "namespace": "dsn", "from": "a"}),
            "config field `namespace`: `dsn` is no UUID, nor one of dns, url, oid and x500",
        ),
        (
            json!({"from": "a"}),
            "config field `from`: version 4 makes nothing of it; leave it out, or set version = 5",
        ),
        (
            json!({"field": "a..b"}),
            "config field `field`: field path `a..b`: a name is empty; write `name` or `object.name`",
        ),
    ] {
        assert_eq!(refused_config(config), error);
    }
}

#[test]
fn the_schema_lists_what_the_config_takes() {
    let schema: Value = serde_json::from_str(AddUuid::SCHEMA).expect("JSON");
    let properties = schema["properties"].as_object().expect("properties");
    let unknown = refused_config(json!({"?": 1}));
    let known: HashSet<&str> = unknown.split('`').skip(5).step_by(2).collect();
    let listed: HashSet<&str> = properties.keys().map(String::as_str).collect();
    assert_eq!(known, listed);
    for (name, property) in properties {
        let values = property["enum"].as_array().cloned().unwrap_or_default();
        for value in values.iter().chain(property.get("default")) {
            let mut config = json!({name: value});
            if config["version"] == 5 {
                config = json!({name: value, "namespace": "dns", "from": "a"});
            }
            assert!(
                Harness::<AddUuid>::new(&config.to_string()).is_ok(),
                "{config}"
            );
        }
        // What is left out is the default.
        if let Some(default) = property.get("default") {
            let input = Input::value("{}").key("{}");
            assert_eq!(
                run(json!({}), input.clone()),
                run(json!({name: default}), input)
            );
        }
    }
}
