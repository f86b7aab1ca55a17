//! The filter as a pipeline sees it: config in, records in, records or refusals out.

use filter::Filter;
use weir_guest::testing::{Harness, Input, Outcome};
use weir_guest::{Needs, Transform};

const SEED: &str =
    r#"{"stock_name":"BTC-USD","stock_value":37812.759521484375,"event_time":1634221557010}"#;

fn harness(config: &str) -> Harness<Filter> {
    Harness::new(config).unwrap()
}

fn keep(expression: &str) -> Harness<Filter> {
    harness(&serde_json::json!({ "keep": expression }).to_string())
}

/// Why an expression is refused by `init`.
fn refused(expression: &str) -> String {
    match Harness::<Filter>::new(&serde_json::json!({ "keep": expression }).to_string()) {
        Ok(_) => panic!("{expression} is accepted"),
        Err(error) => error,
    }
}

#[track_caller]
fn check_refused(expression: &str, expected: &str) {
    let error = refused(expression);
    let first = error.lines().next().unwrap_or_default();
    assert_eq!(first, format!("`keep`, {expected}"), "{expression}");
}

#[track_caller]
fn check_kept(expression: &str, input: Input, expected: bool) {
    let outcome = keep(expression).run_one(input);
    assert_eq!(outcome.refused, [], "{expression}");
    assert_eq!(outcome.sent.len() == 1, expected, "{expression}");
}

#[track_caller]
fn check_refusal(expression: &str, value: &str, expected: &str) {
    let outcome = keep(expression).run_one(Input::value(value));
    assert_eq!(outcome.refusal(), expected, "{expression}");
}

#[test]
fn the_seed_job_keeps_even_times() {
    let inputs = [
        Input::value(r#"{"event_time":1634221557011}"#),
        Input::value(SEED)
            .key(b"\xff")
            .header("h", "1")
            .null_header("h"),
        Input::value(r#"{"event_time":3}"#),
        Input::value(r#"{"event_time":-4}"#),
    ];
    let Outcome {
        sent,
        refused,
        written,
        ..
    } = keep("event_time % 2 == 0").run(&inputs);
    assert_eq!(refused, []);
    let from: Vec<usize> = sent.iter().map(|sent| sent.from).collect();
    assert_eq!(from, [1, 3]);
    // Nothing but the indexes crosses back.
    assert_eq!(written, Needs::NONE);
    assert_eq!(sent[0].value.as_deref(), Some(SEED.as_bytes()));
    assert_eq!(sent[0].headers.len(), 2);
}

#[test]
fn drop_is_the_opposite_of_keep() {
    let inputs = [Input::value(r#"{"n":1}"#), Input::value(r#"{"n":2}"#)];
    let kept = harness(r#"{"keep":"n > 1"}"#).run(&inputs).values();
    let left = harness(r#"{"drop":"n > 1"}"#).run(&inputs).values();
    assert_eq!(kept, [r#"{"n":2}"#]);
    assert_eq!(left, [r#"{"n":1}"#]);
}

#[test]
fn what_is_missing_is_refused_dropped_or_kept() {
    let inputs = [Input::value(r#"{"n":1}"#), Input::value("{}")];
    let run = |config| {
        let outcome = harness(config).run(&inputs);
        (outcome.values(), outcome.refused)
    };
    let reason = "`keep`, line 1, column 1: there is no `n`".to_owned();
    let both = vec![r#"{"n":1}"#.to_owned(), "{}".to_owned()];
    let first = vec![r#"{"n":1}"#.to_owned()];
    assert_eq!(
        run(r#"{"keep":"n == 1"}"#),
        (first.clone(), vec![(1, reason)])
    );
    assert_eq!(
        run(r#"{"keep":"n == 1","missing":"drop"}"#),
        (first, vec![])
    );
    assert_eq!(run(r#"{"keep":"n == 1","missing":"keep"}"#), (both, vec![]));
    // With `drop`, too, `missing` says what becomes of the record, not what the expression's value is.
    assert_eq!(
        run(r#"{"drop":"n == 1","missing":"keep"}"#),
        (vec!["{}".to_owned()], vec![])
    );
}

#[test]
fn only_what_is_absent_is_missing() {
    let run = |expression: &str, value: &str| {
        let config = serde_json::json!({ "keep": expression, "missing": "drop" });
        harness(&config.to_string()).run_one(Input::value(value))
    };
    for (expression, value) in [
        ("a.b == 1", "{}"),
        ("a.b == 1", r#"{"a":{}}"#),
        ("tags[1] == 1", r#"{"tags":[1]}"#),
        ("a[b] == 1", r#"{"a":{},"b":"x"}"#),
        ("record.headers.x == b''", "{}"),
        ("tags.all(t, t.n == 1)", r#"{"tags":[{}]}"#),
        ("a > 1 && n == 1", r#"{"n":1}"#),
    ] {
        let outcome = run(expression, value);
        assert!(
            outcome.sent.is_empty() && outcome.refused.is_empty(),
            "{expression} {outcome:?}"
        );
    }
    for (expression, value) in [
        ("a.b == 1", r#"{"a":1}"#),
        ("a.b == 1", r#"{"a":null}"#),
        ("a > 1", r#"{"a":null}"#),
        ("a > 1", r#"{"a":"2"}"#),
        ("{'x': 1}[a] == 1", r#"{"a":"y"}"#),
    ] {
        let outcome = run(expression, value);
        assert_eq!(outcome.refused.len(), 1, "{expression} {outcome:?}");
    }
    // What decides without the missing part, decides.
    assert_eq!(run("a > 1 || n == 1", r#"{"n":1}"#).sent.len(), 1);
}

#[test]
fn a_tombstone_passes_is_dropped_or_refused_where_the_value_is_read() {
    let run = |config| harness(config).run(&[Input::tombstone().key("k")]);
    assert_eq!(run(r#"{"keep":"n == 1"}"#).values(), ["null"]);
    assert_eq!(
        run(r#"{"keep":"n == 1","tombstones":"pass"}"#).values(),
        ["null"]
    );
    assert_eq!(
        run(r#"{"keep":"n == 1","tombstones":"drop"}"#).values(),
        [""; 0]
    );
    let refused = run(r#"{"keep":"record.value == 1","tombstones":"refuse"}"#);
    assert_eq!(refused.refusal(), "the value is null (a tombstone)");
    // A filter that doesn't read the value judges a tombstone like any other record.
    assert_eq!(
        run(r#"{"keep":"record.key == b'k'","tombstones":"drop"}"#).values(),
        ["null"]
    );
    assert_eq!(run(r#"{"drop":"record.key == b'k'"}"#).values(), [""; 0]);
}

#[test]
fn a_value_must_be_well_formed_to_its_end() {
    let malformed = [
        (r#"{"n":1"#, "malformed JSON at byte 6: "),
        (r#"{"n":1}x"#, "malformed JSON at byte 7: "),
        ("", "malformed JSON at byte 0: "),
        ("[1]", "expected a JSON object, found an array"),
        ("1", "expected a JSON object, found a number"),
    ];
    for (value, expected) in malformed {
        let outcome = keep("n == 1").run_one(Input::value(value));
        assert!(
            outcome.refusal().starts_with(expected),
            "{value} {}",
            outcome.refusal()
        );
    }
    check_kept("record.value > 1", Input::value(" 2 "), true);
    check_kept(
        "record.value.exists(x, x == 2)",
        Input::value("[1,2]"),
        true,
    );
    // Without a look at the value anything will do.
    check_kept("record.topic == 'test'", Input::value(b"\xff\x00"), true);
}

#[test]
fn a_record_that_cant_be_judged_is_refused_with_place_and_reason() {
    check_refusal(
        "n % 2 == 0",
        r#"{"n":"1"}"#,
        "`keep`, line 1, column 3: `%` isn't defined for string and int",
    );
    check_refusal(
        "1 == 1 &&\n  n + 1 > 0",
        r#"{"n":9223372036854775807}"#,
        "`keep`, line 2, column 5: the result of `+` is out of range",
    );
    check_refusal(
        "1 / n == 1",
        r#"{"n":0}"#,
        "`keep`, line 1, column 3: division by zero",
    );
    check_refusal(
        "n",
        r#"{"n":1}"#,
        "`keep`, line 1, column 1: the result is an int, not a bool",
    );
    check_refusal(
        "a.b.c == 1",
        r#"{"a":{"b":2}}"#,
        "`keep`, line 1, column 4: there is no `c` in an int",
    );
    check_refusal(
        "a.b.c == 1",
        r#"{"a":{}}"#,
        "`keep`, line 1, column 4: there is no `a.b`",
    );
    check_refusal(
        "timestamp(t) > timestamp(0)",
        r#"{"t":"yesterday"}"#,
        "`keep`, line 1, column 1: \"yesterday\" can't be read as timestamp",
    );
    check_refusal(
        "s.matches(r)",
        r#"{"s":"a","r":"("}"#,
        "`keep`, line 1, column 10: `(` isn't a regular expression: found open group without closing ')'",
    );
    check_refusal(
        "json(s).a == 1",
        r#"{"s":"{"}"#,
        "`keep`, line 1, column 1: malformed JSON at byte 1: the text ends too early",
    );
}

#[test]
fn parts_of_the_record_are_there() {
    let input = || {
        Input::value("{}")
            .key(r#"{"stock_name":"BTC-USD"}"#)
            .header("source", "old")
            .header("source", "mobile")
            .null_header("empty")
            .timestamp(1_634_221_557_011)
            .offset(42)
    };
    for expression in [
        "record.key == b'{\"stock_name\":\"BTC-USD\"}'",
        "string(record.key).contains('BTC')",
        "json(record.key).stock_name == 'BTC-USD'",
        "json(string(record.key) + ' ').stock_name == 'BTC-USD'",
        "record.headers.source == b'mobile'",
        "string(record.headers['source']) == 'mobile'",
        "record.headers.empty == null && has(record.headers.empty) && !has(record.headers.x)",
        "size(record.headers) == 2",
        "record.timestamp == timestamp('2021-10-14T14:25:57.011Z')",
        "record.timestamp.getHours('+02:00') == 16",
        "has(record.timestamp)",
        "record.topic == 'test' && record.partition == 0 && record.offset == 42",
        "record.value == {}",
    ] {
        check_kept(expression, input(), true);
    }
    check_kept("record.key == null", Input::value("{}"), true);
    check_kept(
        "has(record.timestamp)",
        Input::value("{}").no_timestamp(),
        false,
    );
    let many = (0..40).fold(Input::value("{}"), |input, n| {
        input.header(format!("h{n}"), "x")
    });
    check_kept(
        "record.headers.h39 == b'x' && size(record.headers) == 40",
        many,
        true,
    );
}

#[test]
fn names_that_are_no_identifiers_are_reached() {
    let value = r#"{"record":1,"in":2,"a-b":{"c d":3},"type":"order","int":4,"a.b":5,"":6,"n":1,"n":7,"\u0061bc":8}"#;
    for expression in [
        "record.value.record == 1",
        "record.value['in'] == 2",
        "record.value['a-b']['c d'] == 3",
        "record.value.`a-b`.`c d` == 3",
        "type == 'order'",
        "int == 4 && type(int) == int",
        "record.value['a.b'] == 5",
        "record.value[''] == 6",
        // The last of a name counts.
        "n == 7",
        "abc == 8",
    ] {
        check_kept(expression, Input::value(value), true);
    }
}

#[test]
fn numbers_keep_their_types() {
    let value = r#"{"i":9223372036854775807,"u":18446744073709551615,"d":1.0,"e":1e2,"huge":1e400,"long":123456789012345678901234567890}"#;
    for expression in [
        "type(i) == int && i == 9223372036854775807",
        "type(u) == uint && u == 18446744073709551615u",
        "type(d) == double && d == 1",
        "type(e) == double && e == 100",
        "type(long) == double && long > 1.2e29",
        "huge > 1.7e308",
    ] {
        check_kept(expression, Input::value(value), true);
    }
}

#[test]
fn only_the_columns_that_are_read_are_asked_for() {
    for (expression, needs) in [
        ("n == 1", Needs::VALUES),
        ("record.value == 1", Needs::VALUES),
        ("record.key == b''", Needs::KEYS),
        ("size(record.headers) > 1", Needs::HEADERS),
        ("has(record.timestamp)", Needs::TIMESTAMPS),
        ("record.offset % 2 == 0", Needs::POSITIONS),
        ("record.topic == 'a' && record.partition == 1", Needs::NONE),
        ("true", Needs::NONE),
        ("n == 1 && record.key == b''", Needs::VALUES | Needs::KEYS),
    ] {
        assert_eq!(keep(expression).needs(), needs, "{expression}");
    }
}

#[test]
fn a_wrong_expression_is_refused_with_place_and_reason() {
    check_refused("", "line 1, column 1: the expression is empty");
    check_refused(
        "event_time % 2 = 0",
        "line 1, column 16: unexpected `=`; equality is `==`",
    );
    check_refused(
        "a and b",
        "line 1, column 3: unexpected `and`; a logical and is `&&`",
    );
    check_refused(
        "a & b",
        "line 1, column 3: unexpected `&`; a logical and is `&&`",
    );
    check_refused("a == ", "line 1, column 6: the expression ends too early");
    check_refused(
        "(a == 1",
        "line 1, column 8: the expression ends where ')' is expected",
    );
    check_refused("a == 1)", "line 1, column 7: unexpected `)`");
    check_refused("größe > 1", "line 1, column 3: unexpected `ö`");
    check_refused("a == 'x", "line 1, column 6: unterminated string literal");
    check_refused(
        "a == '\\d'",
        "line 1, column 6: '\\d' has an escape that CEL doesn't know; a raw string r\"…\" has none",
    );
    check_refused("a ==\n  1 +* 2", "line 2, column 6: unexpected `*`");
    check_refused(
        "package == 1",
        "line 1, column 1: `package` is a reserved word of CEL; for a field of that name, write record.value.package",
    );
    check_refused(
        "has(a)",
        "line 1, column 5: has(…) takes the selection of a field, such as has(a.b); for a field of the value itself, write has(record.value.field)",
    );
    check_refused("foo(a)", "line 1, column 1: there is no function `foo`");
    check_refused(
        "a.starts_with('b')",
        "line 1, column 14: there is no function `starts_with`; did you mean `startsWith`?",
    );
    check_refused(
        "startsWith(a, 'b')",
        "line 1, column 1: `startsWith` is called as text.startsWith(part)",
    );
    check_refused(
        "record.offsets == 1",
        "line 1, column 1: a record has no `offsets`, it has value, key, headers, timestamp, topic, partition, offset; for a field called `record`, write record.value.record",
    );
    check_refused(
        "record == 1",
        "line 1, column 1: `record` alone has no value, its parts have: record.value, record.key, record.headers, record.timestamp, record.topic, record.partition, record.offset; a field called `record` is record.value.record",
    );
    check_refused(
        "a.matches('(')",
        "line 1, column 11: `(` isn't a regular expression: found open group without closing ')'",
    );
    check_refused(
        "Point{x: 1} == a",
        "line 1, column 1: there is no message type `Point`",
    );
    check_refused(
        "9223372036854775808 > a",
        "line 1, column 1: invalid int literal",
    );
    check_refused(
        "type(a) == number",
        "line 1, column 12: expected the name of a type: null_type, bool, int, uint, double, string, bytes, list, map, google.protobuf.Timestamp, google.protobuf.Duration",
    );
}

#[test]
fn a_mistake_of_types_is_refused() {
    check_refused(
        "event_time + 1",
        "line 1, column 12: the expression gives an int, not a bool",
    );
    check_refused(
        "'a'",
        "line 1, column 1: the expression gives a string, not a bool",
    );
    check_refused(
        "1 / 0 == 1",
        "line 1, column 3: the expression always fails: division by zero",
    );
    check_refused(
        "size(a) + 'b' == 'c'",
        "line 1, column 9: `+` isn't defined for int and string",
    );
    check_refused(
        "record.topic == 1",
        "line 1, column 14: string and int are never equal",
    );
    check_refused(
        "record.key == 'a'",
        "line 1, column 12: null or bytes and string are never equal; string(…) makes text of bytes, json(…) a JSON value",
    );
    check_refused(
        "record.headers.a.contains('b')",
        "line 1, column 26: `contains` isn't defined for null or bytes and string; string(…) makes text of bytes, json(…) a JSON value",
    );
    check_refused(
        "event_time > timestamp(0)",
        "line 1, column 12: `>` isn't defined for a JSON value and timestamp; timestamp(…) makes a time of RFC 3339 text, or of seconds since 1970",
    );
    check_refused("!size(a)", "line 1, column 2: `!` isn't defined for int");
    check_refused(
        "a == 1 && 'x'",
        "line 1, column 11: `&&` isn't defined for string",
    );
    check_refused(
        "tags.all(t, size(t))",
        "line 1, column 13: `all` isn't defined for int",
    );
    check_refused(
        "record.topic.exists(c, true)",
        "line 1, column 20: there is nothing to go through in a string",
    );
    check_refused(
        "record.topic in [1, 2]",
        "line 1, column 14: a string is never in a list of int",
    );
    check_refused(
        "record.topic[0] == 'a'",
        "line 1, column 13: `[]` isn't defined for string",
    );
    check_refused(
        "record.topic.length == 1",
        "line 1, column 13: there is no `length` in a string",
    );
    // What may be right is let through.
    for expression in [
        "a",
        "dyn(1) == 'a'",
        "a == 1",
        "a[0].b > 'x'",
        "false && 1 / 0 == 1 || a",
        "tags.map(t, t)[0]",
    ] {
        keep(expression);
    }
}

#[test]
fn the_place_is_shown_in_its_line() {
    assert_eq!(
        refused("'ä' == a &&\n    'ö' = b &&\n c"),
        "`keep`, line 2, column 9: unexpected `=`; equality is `==`\n      'ö' = b &&\n          ^"
    );
    let long = format!("{}b = 2", "aaaaaaaaa || ".repeat(20));
    let error = refused(&long);
    let lines: Vec<&str> = error.lines().collect();
    assert!(lines[1].len() <= 82, "{error}");
    assert_eq!(lines[1].as_bytes()[lines[2].len() - 1], b'=', "{error}");
}

#[test]
fn an_expression_too_large_is_refused_before_it_can_exhaust_the_stack() {
    let deep = |open: &str, inner: &str, close: &str, times| {
        format!("{}{inner}{}", open.repeat(times), close.repeat(times))
    };
    // Each by far too deep; what is within the bounds runs.
    for (make, nested) in [
        (
            Box::new(|times| deep("(", "a", ")", times)) as Box<dyn Fn(usize) -> String>,
            true,
        ),
        (Box::new(|times| deep("[", "a", "]", times) + " == a"), true),
        (
            Box::new(|times| deep("{1:", "a", "}", times) + " == a"),
            true,
        ),
        (Box::new(|times| deep("dyn(", "a", ")", times)), true),
        (Box::new(|times| deep("a[", "0", "]", times)), true),
        (Box::new(|times| deep("!(", "a", ")", times)), true),
        (Box::new(|times| deep("a ? b : (", "a", ")", times)), true),
        (
            Box::new(|times| deep("a.exists(x, ", "x", ")", times)),
            true,
        ),
        (Box::new(|times| "a + ".repeat(times) + "a == 1"), false),
        (Box::new(|times| "a.".repeat(times) + "b"), false),
        (
            Box::new(|times| "a".to_owned() + &"[b]".repeat(times)),
            false,
        ),
        (
            Box::new(|times| "a".to_owned() + &".filter(x, x)".repeat(times) + ".all(x, x)"),
            false,
        ),
        (Box::new(|times| "a ? b : ".repeat(times) + "c"), false),
        (
            Box::new(|times| "a ? ".repeat(times) + "b" + &" : c".repeat(times)),
            false,
        ),
        (Box::new(|times| "a ? b || c : ".repeat(times) + "c"), false),
        (Box::new(|times| "a < ".repeat(times) + "b"), false),
        (Box::new(|times| "-!".repeat(times) + "b == 1"), false),
        (
            Box::new(|times| "@?".to_owned() + &"a?".repeat(times)),
            false,
        ),
    ] {
        let expected = if nested {
            "nested more than 32 deep"
        } else {
            "on top of each other"
        };
        let error = refused(&make(2000));
        assert!(error.contains(expected), "{error}");
        let error =
            Harness::<Filter>::new(&serde_json::json!({ "keep": make(20) }).to_string()).err();
        assert!(
            !error.is_some_and(|error| error.contains(expected)),
            "{}",
            make(20)
        );
    }
    assert!(refused(&"a || ".repeat(10_000)).contains("has 50000 bytes, 32768 are allowed"));
    // Width is no depth.
    keep(&("a || ".repeat(4000) + "b"));
    let list: Vec<String> = (0..4000).map(|n| n.to_string()).collect();
    check_kept(
        &format!("n in [{}]", list.join(",")),
        Input::value(r#"{"n":3999}"#),
        true,
    );
}

#[test]
fn the_config_is_one_expression_and_policies() {
    for (config, expected) in [
        (
            "{}",
            "`keep` or `drop` is needed: a CEL expression, such as keep = \"price > 100\"",
        ),
        (
            r#"{"keep":"a","drop":"b"}"#,
            "`keep` and `drop` are both given; give one of them",
        ),
    ] {
        assert_eq!(
            Harness::<Filter>::new(config).err().as_deref(),
            Some(expected)
        );
    }
    for config in [
        r#"{"kep":"a"}"#,
        r#"{"keep":1}"#,
        r#"{"keep":"a","missing":"x"}"#,
    ] {
        assert!(Harness::<Filter>::new(config).is_err(), "{config}");
    }
}

#[test]
fn the_schema_names_what_the_config_takes() {
    let schema: serde_json::Value = serde_json::from_str(Filter::SCHEMA).unwrap();
    let properties = schema["properties"].as_object().unwrap();
    let names: Vec<&str> = properties.keys().map(String::as_str).collect();
    assert_eq!(names, ["drop", "keep", "missing", "tombstones"]);
    assert_eq!(schema["additionalProperties"], false);
    for (name, property) in properties {
        let examples = property.get("enum").or(property.get("examples")).unwrap();
        for example in examples.as_array().unwrap() {
            let mut config = serde_json::json!({ name: example });
            if property.get("enum").is_some() {
                config["keep"] = "a".into();
                assert!(examples.as_array().unwrap().contains(&property["default"]));
            }
            if let Err(error) = Harness::<Filter>::new(&config.to_string()) {
                panic!("{config}: {error}");
            }
        }
    }
}
