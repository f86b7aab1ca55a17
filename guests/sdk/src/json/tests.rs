//! The scan and the edits against serde_json: what it refuses is refused here, and an edited text reads as the edited
//! tree.

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::{Error, Fields, Found, Kind, MAX_DEPTH, Raw, parse_u64};

/// Every path that the generated documents can have, and some that they can't.
const PATHS: [&str; 9] = [
    "a",
    "b",
    "a.b",
    "a.a",
    "b.a.b",
    "longer_name",
    r"do\.t",
    "ä",
    "a.new.deep",
];

/// A text of JSON with whitespace and escapes as writers differ in them, and duplicate names.
fn json_text() -> impl Strategy<Value = String> {
    let space = prop_oneof![
        8 => Just(""),
        1 => Just(" "),
        1 => Just("\n\t "),
        1 => Just("\r\n")
    ];
    let string = prop_oneof![
        "[a-z ]{0,40}".prop_map(|text| format!("\"{text}\"")),
        ".{0,20}".prop_map(|text| serde_json::to_string(&text).expect("a string")),
        Just(r#""\u00e4\ud83d\ude00\/\\\"""#.to_owned()),
        Just("\"ä漢😀\"".to_owned()),
    ];
    let key = prop_oneof![
        Just(r#""a""#),
        Just(r#""b""#),
        Just(r#""\u0061""#),
        Just(r#""longer_name""#),
        Just(r#""longer_naMe""#),
        Just(r#""do.t""#),
        Just(r#""ä""#),
        Just(r#""\u00E4""#),
        Just(r#""""#),
        Just(r#""aa""#),
    ];
    let number = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<u64>().prop_map(|number| number.to_string()),
        (any::<f64>().prop_filter("finite", |number| number.is_finite()))
            .prop_map(|number| format!("{number:?}")),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?",
    ];
    let scalar = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        number,
        string,
    ];
    let spaced = (space.clone(), scalar, space.clone())
        .prop_map(|(before, text, after)| format!("{before}{text}{after}"));
    spaced.prop_recursive(4, 40, 5, move |inner| {
        let array = prop::collection::vec(inner.clone(), 0..4);
        let object =
            prop::collection::vec((space.clone(), key.clone(), space.clone(), inner), 0..6);
        let array = (space.clone(), array)
            .prop_map(|(space, values)| format!("[{}{space}]", values.join(",")));
        // More often, since objects are what this is about.
        let object =
            (space.clone(), space.clone(), object).prop_map(|(before, inside, members)| {
                let members: Vec<String> = members
                    .into_iter()
                    .map(|(before, key, after, value)| format!("{before}{key}{after}:{value}"))
                    .collect();
                format!("{before}{{{}{inside}}}{before}", members.join(","))
            });
        prop_oneof![1 => array, 3 => object]
    })
}

/// The text with some bytes changed, put in, taken out or cut off.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop_oneof![
        prop::sample::select(&br#"{}[]",:\0123eE+-.tfn u/"#[..]),
        any::<u8>()
    ];
    let damage = (any::<prop::sample::Index>(), 0..4u8, bytes);
    (json_text(), prop::collection::vec(damage, 1..3)).prop_map(|(text, damages)| {
        let mut text = text.into_bytes();
        for (place, kind, byte) in damages {
            if text.is_empty() {
                break;
            }
            let at = place.index(text.len());
            match kind {
                0 => text[at] = byte,
                1 => text.insert(at, byte),
                2 => drop(text.remove(at)),
                _ => text.truncate(at),
            }
        }
        text
    })
}

/// Objects of few shapes, some of them damaged inside a value or between.
fn flat() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        4 => "[0-9]{1,40}",
        4 => "-?[0-9]{1,20}\\.[0-9]{0,20}",
        1 => Just("01".to_owned()),
        3 => "\"[a-z]{0,20}\"",
        3 => "\"[a-z]{30,70}\"",
        1 => Just("\"\\u00e4漢\\\"\"".to_owned()),
        1 => Just("\"open".to_owned()),
        1 => Just("null".to_owned()),
        1 => Just("nul".to_owned()),
        1 => Just("{}".to_owned()),
        1 => Just("[1]".to_owned()),
        1 => Just("-1.5e3".to_owned()),
        1 => Just("1}".to_owned()),
    ];
    let shapes = prop::sample::select(vec![
        [r#"{"a":"#, r#","b":"#, "}"],
        [r#"{"a":"#, r#","a":"#, "}"],
        ["\n { \"a\" : ", " ,\t\"longer_name\":", "\n}\n"],
        [r#"{"ä":"#, r#","\u0061":"#, "} "],
        [r#"{"a":"#, r#","longer_name_than_sixteen_bytes":"#, "}"],
        [
            r#"{"b":"a text that makes it long","a":"#,
            r#","b.c":"#,
            "                  }",
        ],
        [
            r#"{"longer_name_than_sixteen_bytes":"#,
            r#","the_same":1,"a":"#,
            "   }   ",
        ],
        [r#"{"x":"#, r#","b":"#, "}}"],
    ]);
    let broken = prop_oneof![20 => Just(None), 1 => any::<u8>().prop_map(Some)];
    (shapes, value.clone(), value, broken).prop_map(|([head, middle, tail], one, other, broken)| {
        let mut text = format!("{head}{one}{middle}{other}{tail}").into_bytes();
        if let Some(byte) = broken {
            let at = usize::from(byte) % text.len();
            text[at] ^= 1 << (byte % 8);
        }
        text
    })
}

fn scan_any(text: &[u8]) -> Result<Raw<'_>, Error> {
    Raw::parse(text)
}

/// What serde_json makes of a text. It reads numbers to check that they fit, which is none of the scan's business.
fn oracle(text: &[u8]) -> Result<Value, String> {
    match serde_json::from_slice::<Value>(text) {
        Err(error) if error.to_string().contains("number out of range") => {
            let zeros = exponents_to_zero(text);
            serde_json::from_slice(&zeros).map_err(|error| error.to_string())
        }
        result => result.map_err(|error| error.to_string()),
    }
}

/// The text with the digits of all exponents outside of strings made 0.
fn exponents_to_zero(text: &[u8]) -> Vec<u8> {
    let mut out = text.to_vec();
    let mut in_string = false;
    let mut in_exponent = false;
    let mut at = 0;
    while at < out.len() {
        match out[at] {
            b'\\' if in_string => at += 1,
            b'"' => in_string = !in_string,
            b'e' | b'E' if !in_string && at > 0 && out[at - 1].is_ascii_digit() => {
                in_exponent = true
            }
            b'+' | b'-' if in_exponent => {}
            b'0'..=b'9' if in_exponent => out[at] = b'0',
            _ => in_exponent = false,
        }
        at += 1;
    }
    out
}

fn check_agreement(text: &[u8]) -> Result<(), TestCaseError> {
    let ours = scan_any(text);
    let theirs = oracle(text);
    prop_assert_eq!(
        ours.is_ok(),
        theirs.is_ok(),
        "{:?}: {:?} but {:?}",
        String::from_utf8_lossy(text),
        ours,
        theirs
    );
    if let (Ok(ours), Ok(_)) = (&ours, theirs) {
        prop_assert_eq!(
            ours.text(),
            std::str::from_utf8(text)
                .expect("UTF-8")
                .trim_matches([' ', '\n', '\r', '\t'])
        );
    }
    if let Err(error) = ours {
        prop_assert!(error.at().is_some_and(|at| at <= text.len()));
    }
    // With fields to look for the answer is the same, but only objects are taken.
    let fields = Fields::new(&PATHS).expect("paths");
    let mut found = Found::default();
    let is_object = ours_is_object(text);
    prop_assert_eq!(fields.scan(text, &mut found).is_ok(), is_object);
    Ok(())
}

fn ours_is_object(text: &[u8]) -> bool {
    scan_any(text).is_ok_and(|raw| raw.kind() == Kind::Object)
}

fn names(path: &str) -> Vec<String> {
    super::fields::names(path).expect("a path")
}

fn lookup<'a>(value: &'a Value, names: &[String]) -> Option<&'a Value> {
    match names {
        [] => Some(value),
        [name, rest @ ..] => lookup(value.as_object()?.get(name)?, rest),
    }
}

fn parse(raw: Raw<'_>) -> Value {
    serde_json::from_slice(raw.as_bytes()).expect("a value's own text is a value")
}

/// Walks a value through `Raw` and rebuilds the tree.
fn rebuild(raw: Raw<'_>) -> Value {
    match raw.kind() {
        Kind::Array => Value::Array(raw.elements().expect("an array").map(rebuild).collect()),
        Kind::Object => {
            let mut map = Map::new();
            for (key, value) in raw.members().expect("an object") {
                map.insert(key.as_str().expect("a name").into_owned(), rebuild(value));
            }
            Value::Object(map)
        }
        Kind::String => Value::String(raw.as_str().expect("a string").into_owned()),
        Kind::Bool => Value::Bool(raw.as_bool().expect("a boolean")),
        Kind::Null => Value::Null,
        Kind::Number => parse(raw),
    }
}

#[derive(Clone, Debug)]
enum Edit {
    Set(usize, &'static str),
    Remove(usize),
    Rename(usize, usize),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let field = 0..PATHS.len();
    let value = prop::sample::select(vec!["null", "17", r#""x\ny""#, r#"{"b":1}"#, "[1,{}]"]);
    let edit = prop_oneof![
        (field.clone(), value).prop_map(|(field, value)| Edit::Set(field, value)),
        field.clone().prop_map(Edit::Remove),
        (field.clone(), field).prop_map(|(field, to)| Edit::Rename(field, to)),
    ];
    prop::collection::vec(edit, 0..4)
}

/// Sets a field of the tree, making objects on the way. False if something else is in the way.
fn set(tree: &mut Value, names: &[String], value: Value) -> bool {
    let Value::Object(map) = tree else {
        return false;
    };
    match names {
        [] => true,
        [name] => {
            map.insert(name.clone(), value);
            true
        }
        [name, rest @ ..] => {
            let inner = map
                .entry(name.clone())
                .or_insert_with(|| Value::Object(Map::new()));
            set(inner, rest, value)
        }
    }
}

fn remove(tree: &mut Value, names: &[String]) -> Option<Value> {
    match names {
        [] => None,
        [name] => tree.as_object_mut()?.remove(name),
        [name, rest @ ..] => remove(tree.as_object_mut()?.get_mut(name)?, rest),
    }
}

/// Whether an edit's object and another's field are the same place or inside each other: the order of such edits is
/// what `write` documents, not the tree's, and is tested by example.
fn overlap(one: &Edit, other: &Edit) -> bool {
    let places = |edit: &Edit| match *edit {
        Edit::Set(field, _) | Edit::Remove(field) => vec![names(PATHS[field])],
        Edit::Rename(field, to) => vec![names(PATHS[field]), names(PATHS[to])],
    };
    places(one).iter().any(|one| {
        places(other)
            .iter()
            .any(|other| one.starts_with(other) || other.starts_with(one))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn well_formed_texts_are_taken_and_read_as_serde_json_reads_them(text in json_text()) {
        check_agreement(text.as_bytes())?;
        let raw = scan_any(text.as_bytes()).expect("well-formed");
        let tree = oracle(text.as_bytes());
        prop_assume!(serde_json::from_str::<Value>(&text).is_ok());
        let tree = tree.expect("well-formed");
        prop_assert_eq!(&rebuild(raw), &tree);
        if raw.kind() == Kind::Object {
            let fields = Fields::new(&PATHS).expect("paths");
            let mut found = Found::default();
            let object = fields.scan(text.as_bytes(), &mut found).expect("an object");
            for (field, path) in PATHS.iter().enumerate() {
                let ours = object.get(field).map(parse);
                prop_assert_eq!(ours.as_ref(), lookup(&tree, &names(path)), "{}", path);
                prop_assert_eq!(object.has(field), ours.is_some());
            }
        }
    }

    #[test]
    fn damaged_texts_are_taken_or_refused_as_serde_json_does(text in damaged()) {
        check_agreement(&text)?;
    }

    #[test]
    fn random_bytes_are_taken_or_refused_as_serde_json_does(
        text in prop::collection::vec(prop::sample::select(&b"{}[]\",:\\0.1e-tu d8a\n\xc3\xa4"[..]), 0..12)
    ) {
        check_agreement(&text)?;
    }

    #[test]
    fn what_was_scanned_before_changes_nothing(texts in prop::collection::vec(flat(), 1..6), path in 0..PATHS.len()) {
        let fields = Fields::new(&PATHS).expect("paths");
        let others = Fields::new(&[PATHS[path]]).expect("paths");
        let mut kept = Found::default();
        for text in texts {
            // Twice, so that the second has the shape of the one before; and for other fields in between.
            for fields in [&fields, &fields, &others, &fields] {
                let mut fresh = Found::default();
                let expected = fields.scan(&text, &mut fresh);
                let result = fields.scan(&text, &mut kept);
                match (expected, result) {
                    (Ok(expected), Ok(mut result)) => {
                        prop_assert_eq!(expected.root(), result.root());
                        for field in 0..fields.len() {
                            prop_assert_eq!(expected.get(field), result.get(field));
                        }
                        result.set(0, b"1");
                        let mut out = Vec::new();
                        if result.write(&mut out).is_ok() {
                            prop_assert!(scan_any(&out).is_ok());
                        }
                    }
                    (expected, result) => prop_assert_eq!(expected.map(drop), result.map(drop)),
                }
            }
        }
    }

    #[test]
    fn digits_read_as_rust_reads_them(text in "[0-9]{1,20}", other: u8, at in 0usize..20) {
        prop_assert_eq!(parse_u64(text.as_bytes()), text.parse().ok());
        let mut bytes = text.into_bytes();
        let at = at % bytes.len();
        bytes[at] = other;
        let text = String::from_utf8(bytes.clone()).unwrap_or_default();
        // Rust reads a plus too.
        let expected = text.parse().ok().filter(|_| other != b'+');
        prop_assert_eq!(parse_u64(&bytes), expected);
    }

    #[test]
    fn numbers_read_as_rust_reads_them(text in "-?(0|[1-9][0-9]{0,22})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?") {
        let raw = scan_any(text.as_bytes()).expect("a number");
        prop_assert_eq!(raw.as_i64(), text.parse().ok());
        prop_assert_eq!(raw.as_u64(), text.parse().ok());
        prop_assert_eq!(raw.as_f64(), text.parse().ok());
        prop_assert_eq!(raw.is_integer(), !text.contains(['.', 'e', 'E']));
    }

    #[test]
    fn an_edited_text_reads_as_the_edited_tree(
        members in json_text().prop_filter("an object", |text| ours_is_object(text.as_bytes())),
        edits in edits(),
    ) {
        let text = members;
        prop_assume!(serde_json::from_str::<Value>(&text).is_ok());
        for (index, edit) in edits.iter().enumerate() {
            prop_assume!(!edits[..index].iter().any(|other| overlap(edit, other)));
        }
        let mut tree: Value = serde_json::from_str(&text).expect("JSON");
        let fields = Fields::new(&PATHS).expect("paths");
        let mut found = Found::default();
        let mut object = fields.scan(text.as_bytes(), &mut found).expect("an object");
        let mut can_be_done = true;
        for edit in &edits {
            match *edit {
                Edit::Set(field, value) => {
                    object.set(field, value.as_bytes());
                    let value = serde_json::from_str(value).expect("JSON");
                    can_be_done &= set(&mut tree, &names(PATHS[field]), value);
                }
                Edit::Remove(field) => {
                    object.remove(field);
                    remove(&mut tree, &names(PATHS[field]));
                }
                Edit::Rename(field, to) => {
                    let (from, into) = (names(PATHS[field]), names(PATHS[to]));
                    let is_there = lookup(&tree, &from).is_some();
                    let is_sibling = fields.are_siblings(field, to);
                    let is_taken = lookup(&tree, &into).is_some();
                    match object.rename(field, to) {
                        Ok(renamed) => {
                            prop_assert_eq!(renamed, is_there);
                            if renamed && field != to {
                                prop_assert!(is_sibling && !is_taken);
                                let value = remove(&mut tree, &from).expect("it's there");
                                set(&mut tree, &into, value);
                            }
                        }
                        Err(_) => prop_assert!(is_there && (!is_sibling || is_taken)),
                    }
                }
            }
        }
        let mut out = b"before".to_vec();
        let result = object.write(&mut out);
        prop_assert_eq!(result.is_ok(), can_be_done);
        prop_assert_eq!(&out[..6], b"before");
        if can_be_done {
            let out = &out[6..];
            let written: Value = serde_json::from_slice(out)
                .map_err(|error| TestCaseError::fail(format!("{error}: {text} gave {}", String::from_utf8_lossy(out))))?;
            prop_assert_eq!(&written, &tree, "{} gave {}", text, String::from_utf8_lossy(out));
            if edits.is_empty() {
                prop_assert_eq!(out, text.as_bytes());
            }
        } else {
            prop_assert_eq!(out.len(), 6);
        }
    }
}

/// Applies `edit` to the fields `paths` of `text`.
fn check(
    paths: &[&str],
    text: &str,
    edit: impl FnOnce(&mut super::Object<'_, '_>),
    expected: &str,
) {
    let fields = Fields::new(paths).expect("paths");
    let mut found = Found::default();
    let mut object = fields.scan(text.as_bytes(), &mut found).expect("an object");
    edit(&mut object);
    let mut out = Vec::new();
    object.write(&mut out).expect("an edit");
    assert_eq!(String::from_utf8(out).expect("UTF-8"), expected);
}

#[test]
fn what_no_edit_touches_stays_byte_for_byte() {
    let text =
        "{ \"n\" : 1.50e+0300 ,\r\n\t\"s\":\"\\u00e4\\/\" , \"id\" : 1 , \"d\":1,\"d\":2 } \n";
    check(&["id"], text, |_| {}, text);
    check(
        &["id"],
        text,
        |object| object.set_str(0, "a\"b\n\u{1}"),
        &text.replace("\"id\" : 1", "\"id\" : \"a\\\"b\\n\\u0001\""),
    );
}

#[test]
fn a_new_field_goes_to_the_end_as_the_first_one_stands() {
    let set = |object: &mut super::Object<'_, '_>| object.set(0, b"1");
    check(&["id"], "{}", set, r#"{"id":1}"#);
    check(&["id"], "{ }", set, r#"{"id":1 }"#);
    check(&["id"], r#"{"a":2}"#, set, r#"{"a":2,"id":1}"#);
    check(
        &["id"],
        "{\n  \"a\": 2\n}\n",
        set,
        "{\n  \"a\": 2,\n  \"id\":1\n}\n",
    );
    check(&["m.id"], r#"{"a":2}"#, set, r#"{"a":2,"m":{"id":1}}"#);
    check(
        &["m.id"],
        r#"{"m":{},"a":2}"#,
        set,
        r#"{"m":{"id":1},"a":2}"#,
    );
    check(
        &["m.id", "m.x.y", "m.x.z"],
        r#"{"a":2}"#,
        |object| {
            object.set(1, b"2");
            object.set(0, b"1");
            object.set(2, b"3");
        },
        r#"{"a":2,"m":{"id":1,"x":{"y":2,"z":3}}}"#,
    );
}

#[test]
fn a_field_goes_with_its_comma() {
    let text = r#"{ "a":1, "b":2 , "c":3 }"#;
    let paths = ["a", "b", "c"];
    for (fields, expected) in [
        (&[0][..], r#"{ "b":2 , "c":3 }"#),
        (&[1], r#"{ "a":1, "c":3 }"#),
        (&[2], r#"{ "a":1, "b":2  }"#),
        (&[1, 2], r#"{ "a":1 }"#),
        (&[2, 0], r#"{ "b":2  }"#),
        (&[0, 1, 2], "{ }"),
    ] {
        let remove = |object: &mut super::Object<'_, '_>| {
            fields.iter().for_each(|&field| object.remove(field));
        };
        check(&paths, text, remove, expected);
    }
    check(
        &["a", "new"],
        r#"{"a":1}"#,
        |object| {
            object.set(1, b"2");
            object.remove(0);
        },
        r#"{"new":2}"#,
    );
}

#[test]
fn a_missing_object_that_is_set_beside_its_own_fields_is_written_once() {
    let paths = ["m", "m.a", "m.a.x"];
    for text in ["{}", r#"{"m":{"b":1}}"#] {
        for (first, second) in [(1, 0), (0, 1), (2, 0), (2, 1)] {
            let outer = first.min(second);
            let fields = Fields::new(&paths).expect("paths");
            let mut found = Found::default();
            let mut object = fields.scan(text.as_bytes(), &mut found).expect("JSON");
            object.set(first, b"{\"n\":1}");
            object.set(second, b"{\"n\":2}");
            let mut out = Vec::new();
            object.write(&mut out).expect("an edit");
            let inner = if outer == first { 1 } else { 2 };
            let expected = match (outer, text) {
                (0, _) => format!(r#"{{"m":{{"n":{inner}}}}}"#),
                (_, "{}") => format!(r#"{{"m":{{"a":{{"n":{inner}}}}}}}"#),
                _ => format!(r#"{{"m":{{"b":1,"a":{{"n":{inner}}}}}}}"#),
            };
            assert_eq!(String::from_utf8(out).expect("UTF-8"), expected);
        }
    }
}

#[test]
fn a_renamed_field_can_be_removed_by_either_name() {
    for field in [0, 1] {
        check(
            &["a", "b"],
            r#"{"a":1,"c":2}"#,
            |object| {
                assert_eq!(object.rename(0, 1), Ok(true));
                object.remove(field);
            },
            r#"{"c":2}"#,
        );
        check(
            &["a", "b"],
            r#"{"a":1,"b":3,"c":2}"#,
            |object| {
                object.remove(1);
                assert_eq!(object.rename(0, 1), Ok(true));
                object.remove(field);
            },
            r#"{"c":2}"#,
        );
    }
}

#[test]
fn a_renamed_field_keeps_its_place_and_can_be_set_by_either_name() {
    let paths = ["timestamp", "event_time", "iso_date"];
    check(
        &paths,
        r#"{"timestamp": 7,"x":1}"#,
        |object| {
            assert_eq!(object.rename(0, 1), Ok(true));
            object.set_str(2, "noon");
        },
        r#"{"event_time": 7,"x":1,"iso_date":"noon"}"#,
    );
    check(
        &paths,
        r#"{"timestamp":7}"#,
        |object| {
            assert_eq!(object.rename(0, 1), Ok(true));
            object.set(1, b"8");
        },
        r#"{"event_time":8}"#,
    );
    let fields = Fields::new(&paths).expect("paths");
    let mut found = Found::default();
    let mut object = fields
        .scan(br#"{"timestamp":7,"event_time":8}"#, &mut found)
        .expect("an object");
    let error = object.rename(0, 1).expect_err("it's there");
    assert_eq!(
        error.to_string(),
        "can't rename `timestamp` to `event_time`: that field exists already"
    );
    object.remove(1);
    assert_eq!(object.rename(0, 1), Ok(true));
    let mut out = Vec::new();
    object.write(&mut out).expect("an edit");
    assert_eq!(out, br#"{"event_time":7}"#);
}

#[test]
fn of_several_fields_of_one_name_the_last_counts_and_an_edit_leaves_no_other() {
    let text = r#"{"a":1,"a":{"b":1},"x":0,"\u0061":{"b":2,"b":3}}"#;
    let fields = Fields::new(&["a.b"]).expect("paths");
    let mut found = Found::default();
    let object = fields.scan(text.as_bytes(), &mut found).expect("an object");
    assert_eq!(object.get(0).and_then(|raw| raw.as_i64()), Some(3));
    check(
        &["x"],
        text,
        |object| object.remove(0),
        &text.replace(r#""x":0,"#, ""),
    );
    check(
        &["a.b"],
        text,
        |object| object.set(0, b"4"),
        r#"{"x":0,"\u0061":{"b":4}}"#,
    );
    check(
        &["a.b"],
        text,
        |object| object.remove(0),
        r#"{"x":0,"\u0061":{}}"#,
    );
    check(&["a"], text, |object| object.remove(0), r#"{"x":0}"#);
    check(
        &["a.b"],
        r#"{"a":{"b":1},"a":{"c":1}}"#,
        |object| object.remove(0),
        r#"{"a":{"c":1}}"#,
    );
}

#[test]
fn members_that_do_not_count_are_told_of_and_go_with_any_edit() {
    let fields = Fields::new(&["a.b"]).expect("a path");
    let mut found = Found::default();
    for (text, is_repeated, removed) in [
        (r#"{"a":{"b":1},"c":2}"#, false, r#"{"a":{},"c":2}"#),
        (r#"{"a":{"b":1,"b":2}}"#, true, r#"{"a":{}}"#),
        // The last `a` counts, and has no `b`.
        (r#"{"a":{"b":1},"a":{"c":3}}"#, true, r#"{"a":{"c":3}}"#),
        (r#"{"a":{"b":1},"c":2, "a":7}"#, true, r#"{"c":2, "a":7}"#),
        (r#"{"c":1,"c":2}"#, false, r#"{"c":1,"c":2}"#),
    ] {
        let mut object = fields.scan(text.as_bytes(), &mut found).expect("an object");
        assert_eq!(object.is_repeated(0), is_repeated, "{text}");
        object.remove(0);
        let mut out = Vec::new();
        object.write(&mut out).expect("no error");
        assert_eq!(String::from_utf8_lossy(&out), removed, "{text}");
    }
}

#[test]
fn elements_are_written_anew_and_nothing_between_them() {
    let doubled = |text: &str| {
        let mut out = b"before ".to_vec();
        let raw = Raw::parse(text.as_bytes()).expect("well-formed");
        let result = raw.write_elements(&mut out, |element, out| {
            out.extend_from_slice(&element.as_bytes().repeat(2));
            match element.is_null() {
                true => Err("null"),
                false => Ok(()),
            }
        });
        result.map(|()| String::from_utf8_lossy(&out).into_owned())
    };
    for (text, expected) in [
        ("[]", "before []"),
        (" [ ] ", "before [ ]"),
        ("[1]", "before [11]"),
        (
            "[ 1 ,\n{\"a\":[2]}\t, \"]\" ]",
            "before [ 11 ,\n{\"a\":[2]}{\"a\":[2]}\t, \"]\"\"]\" ]",
        ),
        ("{\"a\":[1]}", "before {\"a\":[1]}"),
    ] {
        assert_eq!(doubled(text).as_deref(), Ok(expected), "{text}");
    }
    assert_eq!(doubled("[1,null,2]"), Err("null"));
}

#[test]
fn an_edit_of_an_object_wins_over_one_inside() {
    let text = r#"{"a":{"b":1},"c":2}"#;
    let paths = ["a", "a.b", "a.x"];
    check(
        &paths,
        text,
        |object| {
            object.set(2, b"3");
            object.set(1, b"4");
            object.set(0, b"5");
        },
        r#"{"a":5,"c":2}"#,
    );
    check(
        &paths,
        text,
        |object| {
            object.remove(0);
            object.set(1, b"4");
            object.set(2, b"3");
        },
        r#"{"c":2}"#,
    );
    // Also if it's made by them.
    for order in [[0, 1, 2], [1, 0, 2], [2, 1, 0]] {
        check(
            &paths,
            r#"{"c":2}"#,
            |object| order.iter().for_each(|&field| object.set(field, b"5")),
            r#"{"c":2,"a":5}"#,
        );
    }
}

#[test]
fn edits_made_in_any_order_come_out_in_the_texts() {
    let text = r#"{"a":1,"b":2,"c":3}"#;
    let paths = ["a", "b", "c", "d"];
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 3, 0, 1]] {
        check(
            &paths,
            text,
            |object| order.iter().for_each(|&field| object.set(field, b"9")),
            r#"{"a":9,"b":9,"c":9,"d":9}"#,
        );
    }
}

#[test]
fn depth_is_bounded_without_recursion() {
    let nested = |depth: usize| {
        let open = r#"{"a":["#.repeat(depth / 2);
        format!("{open}{}", "]}".repeat(depth / 2))
    };
    assert!(scan_any(nested(MAX_DEPTH).as_bytes()).is_ok());
    let error = scan_any(nested(MAX_DEPTH + 2).as_bytes()).expect_err("too deep");
    assert!(
        error.to_string().ends_with("more than 1024 levels deep"),
        "{error}"
    );
    assert!(scan_any("[".repeat(1_000_000).as_bytes()).is_err());
}

#[test]
fn errors_say_what_and_where() {
    for (text, error) in [
        (
            r#"{"a":1 "b":2}"#,
            "malformed JSON at byte 7: expected ',' or '}'",
        ),
        (
            r#"{"a":[1 2]}"#,
            "malformed JSON at byte 8: expected ',' or ']'",
        ),
        (
            r#"{"a":01}"#,
            "malformed JSON at byte 5: a number must not start with 0",
        ),
        (r#"{"a":tru}"#, "malformed JSON at byte 5: expected a value"),
        (
            r#"{a:1}"#,
            "malformed JSON at byte 1: expected a field name in quotes",
        ),
        (r#"{"a" 1}"#, "malformed JSON at byte 5: expected ':'"),
        (r#"{"a":"\x"}"#, r"malformed JSON at byte 6: no such escape"),
        (
            r#"{"a":1} x"#,
            "malformed JSON at byte 8: expected nothing after the value",
        ),
        (
            r#"{"a":"\ud800"}"#,
            "malformed JSON at byte 6: half of a surrogate pair stands alone",
        ),
        ("\u{feff}{}", "malformed JSON at byte 0: expected a value"),
        (
            "{\"a\":\"\n\"}",
            "malformed JSON at byte 6: a control character in a string must be escaped",
        ),
        (
            r#"{"a":"#,
            "malformed JSON at byte 5: the text ends too early",
        ),
        ("true", "expected a JSON object, found a boolean"),
    ] {
        let fields = Fields::new(&["a"]).expect("paths");
        let mut found = Found::default();
        let result = fields.scan(text.as_bytes(), &mut found);
        assert_eq!(result.expect_err(text).to_string(), error);
    }
    let mut found = Found::default();
    let error = Fields::none().scan(b"{\"\xff\":1}", &mut found).map(drop);
    assert_eq!(
        error.expect_err("no UTF-8").to_string(),
        "malformed JSON at byte 2: invalid UTF-8"
    );
}

#[test]
fn paths_are_checked() {
    for (path, error) in [
        (
            "",
            "field path ``: a name is empty; write `name` or `object.name`",
        ),
        (
            "a.",
            "field path `a.`: a name is empty; write `name` or `object.name`",
        ),
        (
            r"a\b",
            r"field path `a\b`: a backslash must stand before a dot or a backslash",
        ),
    ] {
        assert_eq!(Fields::new(&[path]).expect_err(path), error);
    }
    let fields = Fields::new(&[r"a\.b.c\\", "d"]).expect("paths");
    assert_eq!(fields.path(0), r"a\.b.c\\");
    assert!(!fields.are_siblings(0, 1));
    check(
        &[r"a\.b.c\\"],
        "{}",
        |object| object.set(0, b"1"),
        r#"{"a.b":{"c\\":1}}"#,
    );
}
