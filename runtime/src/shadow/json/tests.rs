//! Fields that differ, and the texts held to serde_json's trees.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

type Shown<'a> = (&'a str, Option<&'a str>, Option<&'a str>);

#[track_caller]
fn check(active: &str, tried: &str, expected: &[Shown<'_>]) {
    let diff = diff(active.as_bytes(), tried.as_bytes(), 10).expect("both are JSON");
    let shown: Vec<Shown<'_>> = diff
        .fields
        .iter()
        .map(|it| (&it.path[..], it.active, it.tried))
        .collect();
    assert_eq!(shown, expected, "{active} {tried}");
    assert_eq!(diff.more, 0);
}

#[test]
fn fields_are_found_by_their_paths() {
    check(
        r#"{"a":1,"b":{"c":[1,{"d":"x"}]},"e":null}"#,
        r#"{"a":1,"b":{"c":[1,{"d":"y"},3]},"f":{}}"#,
        &[
            ("b.c[1].d", Some("\"x\""), Some("\"y\"")),
            ("b.c[2]", None, Some("3")),
            ("e", Some("null"), None),
            ("f", None, Some("{}")),
        ],
    );
    check("1", "2", &[("", Some("1"), Some("2"))]);
    check(" [ ] ", "{}", &[("", Some("[ ]"), Some("{}"))]);
    check("[[1],2]", "[[1,0],2]", &[("[0][1]", None, Some("0"))]);
    check(
        r#"{"a.b":1,"c[0]":1,"\\":1,"":1}"#,
        "{}",
        &[
            ("", Some("1"), None),
            (r"\\", Some("1"), None),
            (r"a\.b", Some("1"), None),
            (r"c\[0]", Some("1"), None),
        ],
    );
    // Strings with all that could end them too early.
    check(
        r#"{"a":"}],\"\\","b":[",",{"]":"["}]}"#,
        r#"{"a":"}],\"\\","b":[",",{"]":"}"}]}"#,
        &[("b[1].]", Some("\"[\""), Some("\"}\""))],
    );
}

#[test]
fn only_the_formatting_differs() {
    check(r#"{"a":1,"b":[2]}"#, "{ \"b\" : [ 2 ],\r\n\t\"a\":1 }", &[]);
    check(r#"{"\u0061":"\u00fc"}"#, r#"{"a":"ü"}"#, &[]);
    check(r#"["\/"]"#, r#"["/"]"#, &[]);
}

#[test]
fn numbers_are_what_stands_there() {
    check("1.0", "1.00", &[("", Some("1.0"), Some("1.00"))]);
    let (one, other) = ("9007199254740993.0", "9007199254740992.0");
    check(one, other, &[("", Some(one), Some(other))]);
}

#[test]
fn names_that_are_there_twice_are_two_fields() {
    check(
        r#"{"a":1,"b":0,"a":2}"#,
        r#"{"a":1,"a":3,"b":0,"a":4}"#,
        &[("a", Some("2"), Some("3")), ("a", None, Some("4"))],
    );
}

#[test]
fn what_is_no_json_is_no_field() {
    for (active, tried) in [
        (&b"{}"[..], &b"x"[..]),
        (b"", b"{}"),
        (b"{\"a\":1", b"{}"),
        (b"{}{}", b"{}"),
        (b"\"\xff\"", b"\"\""),
        (b"{}", &vec![b' '; LARGEST + 1]),
    ] {
        assert_eq!(diff(active, tried, 10), None);
    }
}

#[test]
fn more_fields_than_are_kept_are_counted() {
    let active: String = (0..30).map(|it| format!("\"{it}\":1,")).collect();
    let active = format!("{{{active}\"z\":0}}");
    let diff = diff(active.as_bytes(), b"{}", 10).unwrap();
    assert_eq!((diff.fields.len(), diff.more), (10, 21));
}

#[test]
fn deep_values_are_compared_and_not_descended_into_for_ever() {
    let deep = |inner: &str| "[".repeat(100_000) + inner + &"]".repeat(100_000);
    let (active, tried) = (deep("1"), deep("2"));
    let diff = diff(active.as_bytes(), tried.as_bytes(), 10).unwrap();
    assert_eq!(diff.fields.len(), 1);
    assert_eq!(diff.fields[0].path, "[0]".repeat(DEEPEST));
}

#[test]
fn half_a_character_is_what_stands_there() {
    let (one, other) = (r#""\ud800""#, r#""\ud801""#);
    check(one, other, &[("", Some(one), Some(other))]);
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3i64..3).prop_map(Value::from),
        "[a\"\\\\,:{}\\[\\] ü\n]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[ab.\"]{1,2}", inner), 0..4)
                .prop_map(|them| Value::Object(them.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_differs_is_what_serde_json_finds_different(active in value(), tried in value(), pretty: bool) {
        let text = |value: &Value| match pretty {
            true => serde_json::to_string_pretty(value).unwrap(),
            false => value.to_string(),
        };
        let (active_text, tried_text) = (active.to_string(), text(&tried));
        let found = diff(active_text.as_bytes(), tried_text.as_bytes(), usize::MAX).unwrap();
        prop_assert_eq!(found.fields.is_empty(), active == tried);
        for field in found.fields {
            let of = |text: Option<&str>| text.map(|it| serde_json::from_str::<Value>(it).unwrap());
            prop_assert_ne!(of(field.active), of(field.tried));
        }
        let same = text(&active);
        let found = diff(active_text.as_bytes(), same.as_bytes(), 1).unwrap();
        prop_assert_eq!(found, Diff { fields: Vec::new(), more: 0 });
    }
}
