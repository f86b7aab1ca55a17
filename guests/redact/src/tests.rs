//! Redaction as a pipeline sees it: config in, records in, records or refusals out.

use serde_json::{Value, json};
use weir_guest::testing::{Harness, Input, Outcome};
use weir_guest::{Needs, Transform};

use crate::Redact;

const KEY: &str = "correct horse battery staple";

fn harness(config: Value) -> Harness<Redact> {
    Harness::new(&config.to_string()).unwrap()
}

fn redact(fields: Value) -> Harness<Redact> {
    harness(json!({ "fields": fields }))
}

#[track_caller]
fn check(fields: Value, value: &str, expected: &str) {
    let outcome = redact(fields).run_one(Input::value(value));
    assert_eq!(outcome.refused, []);
    assert_eq!(outcome.values(), [expected]);
}

#[track_caller]
fn check_refusal(fields: Value, value: &str, expected: &str) {
    let outcome = redact(fields).run_one(Input::value(value));
    assert_eq!(outcome.refusal(), expected);
}

/// Why `init` refuses a config.
fn refused(config: Value) -> String {
    let error = Harness::<Redact>::new(&config.to_string()).err();
    error.unwrap_or_else(|| panic!("{config} is accepted"))
}

#[test]
fn each_action_changes_its_field_and_nothing_else() {
    let value = r#" { "id" : 1.50, "customer":{"email":"a@b.c","age": 30}, "card":"4111111111111111","x":[1, 2] } "#;
    check(
        json!([{ "path": "customer.email", "action": "remove" }]),
        value,
        r#" { "id" : 1.50, "customer":{"age": 30}, "card":"4111111111111111","x":[1, 2] } "#,
    );
    check(
        json!([
            { "path": "card", "action": "mask", "keep_first": 2, "keep_last": 4 },
            { "path": "customer.age", "action": "mask", "with": "#" },
        ]),
        value,
        r###" { "id" : 1.50, "customer":{"email":"a@b.c","age": "##"}, "card":"41**********1111","x":[1, 2] } "###,
    );
    check(
        json!([{ "path": "x", "action": "replace", "with": { "hidden": true } }, { "path": "id", "action": "replace" }]),
        value,
        r#" { "id" : null, "customer":{"email":"a@b.c","age": 30}, "card":"4111111111111111","x":{"hidden":true} } "#,
    );
    check(
        json!([{ "path": "customer.email", "action": "hash", "key": KEY, "length": 20 }]),
        value,
        r#" { "id" : 1.50, "customer":{"email":"43ef87d75366f3da1825","age": 30}, "card":"4111111111111111","x":[1, 2] } "#,
    );
}

#[test]
fn the_same_text_has_the_same_hash_wherever_it_stands() {
    let mut harness = harness(json!({
        "key": KEY,
        "fields": [
            { "path": "a", "action": "hash" },
            { "path": "b[*]", "action": "hash" },
            { "path": "c.d", "action": "hash", "key": "another key of 16 bytes" },
            { "target": "key", "action": "hash" },
            { "target": "header", "name": "h", "action": "hash" },
        ],
    }));
    let input = Input::value(r#"{"a":"B\u00e4r","b":["Bär",7,"7",true,null],"c":{"d":"Bär"}}"#);
    let outcome = harness.run_one(input.key("Bär").header("h", "7"));
    let sent = &outcome.sent[0];
    let value: Value = serde_json::from_slice(sent.value.as_deref().unwrap()).unwrap();
    let key = String::from_utf8(sent.key.clone().unwrap()).unwrap();
    let header = String::from_utf8(sent.headers[0].1.clone().unwrap()).unwrap();
    assert_eq!(value["a"], key);
    assert_eq!(value["b"][0], key);
    assert_eq!(value["b"][1], header);
    assert_eq!(value["b"][2], header);
    assert_ne!(value["b"][3], header);
    assert_eq!(value["b"][4], Value::Null);
    assert_ne!(value["c"]["d"], key);
    assert_eq!(key.len(), 64);
}

#[test]
fn arrays_are_gone_through() {
    let fields = json!([
        { "path": "items[*].card", "action": "mask", "keep_last": 2 },
        { "path": "items[*].owner.name", "action": "remove" },
        { "path": "tags[*]", "action": "remove" },
        { "path": "grid[*][*]", "action": "replace", "with": 0 },
    ]);
    check(
        fields.clone(),
        r#"{"items":[ {"card":"1234","n":1.0} , {"n":2}, null,{"owner":{"name":"x","id":1},"card":99}],"tags":["a" ],"grid":[[1, 2],[ ]],"z":1}"#,
        r#"{"items":[ {"card":"**34","n":1.0} , {"n":2}, null,{"owner":{"id":1},"card":"**"}],"tags":[],"grid":[[0, 0],[ ]],"z":1}"#,
    );
    check(
        json!([{ "path": "[*].a", "action": "mask" }]),
        r#" [{"a":"x"}, {"b":"x"}] "#,
        r#"[{"a":"*"}, {"b":"x"}]"#,
    );
    // Both forms of a field.
    let fields = json!([
        { "path": "contact.email", "action": "mask" },
        { "path": "contact[*].email", "action": "mask" },
    ]);
    check(
        fields.clone(),
        r#"{"contact":{"email":"x"}}"#,
        r#"{"contact":{"email":"*"}}"#,
    );
    check(
        fields.clone(),
        r#"{"contact":[{"email":"x"}]}"#,
        r#"{"contact":[{"email":"*"}]}"#,
    );
    check_refusal(
        fields,
        r#"{"contact":"x"}"#,
        "`contact` is a string, expected an object or an array",
    );
}

#[test]
fn what_is_of_another_shape_is_refused_without_what_it_holds() {
    let mask = |path: &str| json!([{ "path": path, "action": "mask" }]);
    check_refusal(
        mask("customer.email"),
        r#"{"customer":"SECRET"}"#,
        "`customer` is a string, expected an object",
    );
    check_refusal(
        mask("customer.email"),
        r#"{"customer":[{"email":"SECRET"}]}"#,
        "`customer` is an array, expected an object",
    );
    check_refusal(
        mask("a.b.c.d"),
        r#"{"a":{"b":7}}"#,
        "`a.b` is a number, expected an object",
    );
    check_refusal(
        mask("items[*].card"),
        r#"{"items":{"card":"SECRET"}}"#,
        "`items` is an object, expected an array",
    );
    check_refusal(
        mask("items[*].card"),
        r#"{"items":[{},"SECRET"]}"#,
        "`items[*]` is a string, expected an object",
    );
    check_refusal(
        mask("a"),
        r#"{"a":["SECRET"]}"#,
        "`a` is an array, and there's no text in it to mask; for its elements, the path goes on with `[*]`",
    );
    check_refusal(
        json!([{ "path": "a", "action": "hash", "key": KEY }]),
        r#"{"a":{"b":"SECRET"}}"#,
        "`a` is an object, and there's no text in it to hash",
    );
    check_refusal(
        mask("a"),
        "[\"SECRET\"]",
        "the value: expected a JSON object, found an array",
    );
    check_refusal(
        mask("[*].a"),
        r#"{"a":"SECRET"}"#,
        "the value is an object, expected an array",
    );
    check_refusal(
        mask("a"),
        r#"{"a":"SECRET"x"#,
        "the value: malformed JSON at byte 13: expected ',' or '}'",
    );
    // Whatever it is, it can be taken out or replaced.
    check(
        json!([{ "path": "a", "action": "remove" }]),
        r#"{"a":{"b":1}}"#,
        "{}",
    );
}

#[test]
fn what_is_missing_goes_on_or_is_refused() {
    let fields = json!([
        { "path": "a.b", "action": "mask" },
        { "path": "l[*].c", "action": "remove" },
    ]);
    let run = |missing: &str, value: &str| {
        harness(json!({ "fields": fields, "missing": missing })).run_one(Input::value(value))
    };
    let whole = r#"{"a":{"b":"x"},"l":[{"c":1}]}"#;
    assert_eq!(
        run("refuse", whole).values(),
        [r#"{"a":{"b":"*"},"l":[{}]}"#]
    );
    for (value, reason) in [
        (r#"{"l":[]}"#, "`a.b` is missing"),
        (r#"{"a":null,"l":[]}"#, "`a.b` is missing"),
        (r#"{"a":{},"l":[]}"#, "`a.b` is missing"),
        (r#"{"a":{"b":1}}"#, "`l` is missing"),
        (r#"{"a":{"b":1},"l":null}"#, "`l` is missing"),
        (r#"{"a":{"b":1},"l":[{"c":1},{}]}"#, "`l[*].c` is missing"),
        (r#"{"a":{"b":1},"l":[null]}"#, "`l[*]` is missing"),
    ] {
        assert_eq!(run("refuse", value).refusal(), reason, "{value}");
        assert_eq!(run("skip", value).refused, [], "{value}");
    }
    // A field that is null is there, and has nothing to hide.
    let value = r#"{"a":{"b":null},"l":[]}"#;
    assert_eq!(run("refuse", value).values(), [value]);
    // Nothing crosses back of a record that has nothing to hide.
    let outcome = redact(json!([{ "path": "a", "action": "mask" }]))
        .run(&[Input::value("{}"), Input::value(r#"{"a":null}"#)]);
    assert_eq!(outcome.written, Needs::NONE);
}

#[test]
fn no_member_of_the_same_name_shows_what_was_hidden() {
    let mask = |path: &str| json!([{ "path": path, "action": "mask" }]);
    for (path, value, expected) in [
        ("a", r#"{"a":"SECRET","a":"x"}"#, r#"{"a":"*"}"#),
        (
            "a",
            r#"{"a":"SECRET","b":1,"a":null}"#,
            r#"{"b":1,"a":null}"#,
        ),
        ("a.b", r#"{"a":{"b":"SECRET"},"a":{}}"#, r#"{"a":{}}"#),
        ("a.b", r#"{"a":{"b":"SECRET"},"a":null}"#, r#"{"a":null}"#),
        (
            "a.b",
            r#"{"a":{"b":"SECRET"},"a":{"b":"x"}}"#,
            r#"{"a":{"b":"*"}}"#,
        ),
        ("l[*].c", r#"{"l":[{"c":"SECRET"}],"l":[]}"#, r#"{"l":[]}"#),
        (
            "l[*].c",
            r#"{"l":[{"c":"SECRET","c":"x"}]}"#,
            r#"{"l":[{"c":"*"}]}"#,
        ),
    ] {
        check(mask(path), value, expected);
    }
}

#[test]
fn keys_are_redacted_as_a_whole_or_by_field() {
    let run = |fields: Value, input: Input| redact(fields).run_one(input);
    let whole = |action: Value| {
        let mut entry = json!({ "target": "key" });
        entry
            .as_object_mut()
            .unwrap()
            .extend(action.as_object().unwrap().clone());
        json!([entry])
    };
    let input = || Input::value(b"\xff no JSON").key("user-17");
    let keys = |outcome: Outcome| outcome.keys();
    assert_eq!(
        keys(run(
            whole(json!({ "action": "mask", "keep_last": 2 })),
            input()
        )),
        ["*****17"]
    );
    assert_eq!(
        keys(run(whole(json!({ "action": "remove" })), input())),
        ["null"]
    );
    assert_eq!(
        keys(run(
            whole(json!({ "action": "replace", "with": "x" })),
            input()
        )),
        ["x"]
    );
    assert_eq!(
        keys(run(
            whole(json!({ "action": "replace", "with": [1] })),
            input()
        )),
        ["[1]"]
    );
    assert_eq!(
        keys(run(whole(json!({ "action": "replace" })), input())),
        ["null"]
    );
    let hashed = run(whole(json!({ "action": "hash", "key": KEY })), input());
    assert_eq!(hashed.sent[0].key.as_ref().unwrap().len(), 64);
    assert_eq!(hashed.written, Needs::KEYS);
    let mask = whole(json!({ "action": "mask" }));
    assert_eq!(
        run(mask.clone(), Input::tombstone().key(b"\xff")).refusal(),
        "the key isn't UTF-8, and has no characters to mask"
    );
    assert_eq!(keys(run(mask.clone(), Input::value("{}"))), ["null"]);
    let config = json!({ "fields": mask, "missing": "refuse" });
    assert_eq!(
        harness(config).run_one(Input::value("{}")).refusal(),
        "the key is missing"
    );
    let by_field = json!([{ "target": "key", "path": "user.id", "action": "mask" }]);
    let run = |key: &str| redact(by_field.clone()).run_one(Input::tombstone().key(key));
    assert_eq!(
        keys(run(r#"{"user": {"id":"abc"}, "n":1}"#)),
        [r#"{"user": {"id":"***"}, "n":1}"#]
    );
    assert_eq!(
        run(r#"{"user":1}"#).refusal(),
        "the key's `user` is a number, expected an object"
    );
    assert_eq!(
        run("user-17").refusal(),
        "the key: malformed JSON at byte 0: expected a value"
    );
}

#[test]
fn headers_are_redacted_by_name() {
    let fields = json!([
        { "target": "header", "name": "user", "action": "mask" },
        { "target": "header", "name": "token", "action": "remove" },
        { "target": "header", "name": "kind", "action": "replace", "with": "x" },
        { "target": "header", "name": "context", "path": "who", "action": "remove" },
    ]);
    let input = Input::value(b"\xff")
        .header("a", "1")
        .header("user", "ann")
        .header("token", "SECRET")
        .null_header("token")
        .null_header("user")
        .null_header("kind")
        .header("context", r#"{"who":"SECRET","n":1}"#)
        .header("context", r#"{"n":2}"#)
        .header("user", "bob")
        .header("a", "2");
    let mut by_name = redact(fields.clone());
    assert_eq!(by_name.needs(), Needs::HEADERS);
    let outcome = by_name.run_one(input);
    let headers: Vec<String> = outcome.sent[0]
        .headers
        .iter()
        .map(|(name, value)| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let value = value.as_deref().map_or("null".to_owned(), text);
            format!("{}={value}", text(name))
        })
        .collect();
    assert_eq!(
        headers,
        [
            "a=1",
            "user=***",
            "user=null",
            "kind=x",
            r#"context={"n":1}"#,
            r#"context={"n":2}"#,
            "user=***",
            "a=2"
        ]
    );
    let outcome = redact(fields.clone()).run_one(Input::value("").header("b", "1"));
    assert_eq!(outcome.written, Needs::NONE);
    let outcome = redact(fields.clone()).run_one(Input::value("").header("user", b"\xff"));
    assert_eq!(
        outcome.refusal(),
        "the header `user` isn't UTF-8, and has no characters to mask"
    );
    let outcome = redact(fields.clone()).run_one(Input::value("").header("context", "1"));
    assert_eq!(
        outcome.refusal(),
        "the header `context`: expected a JSON object, found a number"
    );
    let mut strict = harness(json!({ "fields": fields, "missing": "refuse" }));
    assert_eq!(
        strict
            .run_one(Input::value("").header("user", "x"))
            .refusal(),
        "the header `token` is missing"
    );
}

#[test]
fn a_tombstones_key_and_headers_are_redacted_all_the_same() {
    let fields = json!([
        { "path": "a", "action": "remove" },
        { "target": "key", "action": "mask" },
    ]);
    let run = |policy: &str| {
        harness(json!({ "fields": fields, "tombstones": policy }))
            .run_one(Input::tombstone().key("k"))
    };
    let outcome = run("pass");
    assert_eq!(
        (outcome.values(), outcome.keys()),
        (vec!["null".into()], vec!["*".into()])
    );
    assert_eq!(run("drop").values(), [""; 0]);
    assert_eq!(run("refuse").refusal(), "the value is null (a tombstone)");
    // Also where the value is left alone.
    let fields = json!([{ "target": "key", "action": "mask" }]);
    let mut dropping = harness(json!({ "fields": fields, "tombstones": "drop" }));
    assert_eq!(dropping.needs(), Needs::KEYS | Needs::VALUES);
    assert_eq!(
        dropping.run_one(Input::tombstone().key("k")).keys(),
        [""; 0]
    );
    assert_eq!(dropping.run_one(Input::value("").key("k")).keys(), ["*"]);
    assert_eq!(redact(fields).needs(), Needs::KEYS);
}

#[test]
fn a_wrong_config_is_refused_with_place_and_reason() {
    let check = |fields: Value, expected: &str| {
        assert_eq!(refused(json!({ "fields": fields })), expected, "{fields}");
    };
    check(
        json!([]),
        "config field `fields`: it's empty; an entry is such as { path = \"customer.email\", action = \"remove\" }",
    );
    check(
        json!([{ "action": "remove" }]),
        "config field `fields[0].path`: it's needed: the field of the value that is to be hidden",
    );
    check(
        json!([{ "path": "a", "action": "remove" }, { "path": "a[0]", "action": "remove" }]),
        "config field `fields[1].path`: `a[0]`: `[` begins `[*]`, every element of an array; single elements have no \
         path, and a bracket in a name is `\\[`",
    );
    check(
        json!([{ "path": "a.b", "action": "remove" }, { "path": "a.b", "action": "mask" }]),
        "config field `fields[1].path`: another entry has the same path",
    );
    check(
        json!([{ "path": "a", "action": "remove" }, { "path": "a[*].b", "action": "mask" }]),
        "config field `fields[1].path`: it lies inside of what another entry's path leads to",
    );
    check(
        json!([{ "path": "a.b.c", "action": "remove" }, { "path": "a.b", "action": "mask" }]),
        "config field `fields[1].path`: another entry's path leads to something inside of it",
    );
    check(
        json!([{ "path": "a", "action": "mask", "length": 16 }]),
        "config field `fields[0].length`: mask makes nothing of it; leave it out",
    );
    check(
        json!([{ "path": "a", "action": "remove", "with": 1 }]),
        "config field `fields[0].with`: remove makes nothing of it; leave it out",
    );
    check(
        json!([{ "path": "a", "action": "mask", "with": "xx" }]),
        "config field `fields[0].with`: a mask is one character, such as \"*\"",
    );
    check(
        json!([{ "path": "a", "action": "hash", "key": KEY, "length": 8 }]),
        "config field `fields[0].length`: 8 hexadecimal digits; it's 16 to 64, since of fewer different values would \
         soon have the same hash",
    );
    check(
        json!([{ "path": "a", "action": "hash" }]),
        "config field `fields[0].key`: hash needs one of at least 16 bytes, here or beside `fields` for all; give it \
         as \"${NAME}\" or \"${file:PATH}\"",
    );
    check(
        json!([{ "target": "header", "action": "remove" }]),
        "config field `fields[0].name`: it's needed: the name of the header",
    );
    check(
        json!([{ "target": "key", "name": "id", "action": "remove" }]),
        "config field `fields[0].name`: only headers have one; set target = \"header\", or use `path` for a field",
    );
    check(
        json!([{ "target": "key", "path": "id", "action": "remove" }, { "target": "key", "action": "mask" }]),
        "config field `fields[1].target`: another entry is about it too; without a `path` an entry is about all of it",
    );
    check(
        json!([{ "target": "header", "name": "h", "action": "remove" }, { "target": "header", "name": "h", "path": "a", "action": "mask" }]),
        "config field `fields[1].path`: another entry is about all of it",
    );
    let unknown = refused(json!({ "fields": [{ "path": "a", "action": "encrypt" }] }));
    assert!(
        unknown.starts_with("config field `fields[0].action`: unknown variant"),
        "{unknown}"
    );
    let unknown = refused(json!({ "fields": [{ "pth": "a", "action": "mask" }] }));
    assert!(
        unknown.starts_with("config field `fields[0].pth`: unknown field"),
        "{unknown}"
    );
    assert_eq!(
        refused(json!({ "key": KEY, "fields": [{ "path": "a", "action": "mask" }] })),
        "config field `key`: nothing is hashed with it; leave it out"
    );
}

#[test]
fn a_key_shows_in_no_message() {
    let secrets = [
        json!("hunter2hunter2"),
        json!(1234567890123456789u64),
        json!(["hunter2hunter2hunter2"]),
        json!({ "hunter2hunter2hunter2": 1 }),
        json!(true),
    ];
    for secret in secrets {
        for config in [
            json!({ "fields": [{ "path": "a", "action": "hash", "key": secret }] }),
            json!({ "fields": [{ "path": "a", "action": "hash" }], "key": secret }),
        ] {
            let error = refused(config);
            let is_silent = !error.contains("hunter2") && !error.contains("1234567");
            assert!(is_silent && error.contains("key`: a key "), "{error}");
        }
    }
    let config = json!({ "fields": [{ "path": "a", "action": "hash", "key": KEY }], "key": KEY });
    let error = refused(config.clone());
    assert!(!error.contains(KEY), "{error}");
    let config: crate::Config = serde_json::from_value(config).unwrap();
    assert!(!format!("{config:?}").contains(KEY));
}

#[test]
fn the_schema_names_what_the_config_takes() {
    let schema: Value = serde_json::from_str(Redact::SCHEMA).unwrap();
    let properties = schema["properties"].as_object().unwrap();
    let names: Vec<&str> = properties.keys().map(String::as_str).collect();
    assert_eq!(names, ["fields", "key", "missing", "tombstones"]);
    let entry = properties["fields"]["items"]["properties"]
        .as_object()
        .unwrap();
    let names: Vec<&str> = entry.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "action",
            "keep_first",
            "keep_last",
            "key",
            "length",
            "name",
            "path",
            "target",
            "with"
        ]
    );
    for fields in properties["fields"]["examples"].as_array().unwrap() {
        redact(fields.clone());
    }
    for name in ["missing", "tombstones"] {
        for case in properties[name]["enum"].as_array().unwrap() {
            harness(json!({ "fields": [{ "path": "a", "action": "mask" }], name: case }));
        }
    }
}
