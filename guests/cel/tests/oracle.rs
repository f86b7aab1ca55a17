//! The evaluator against that of the `cel` crate, whose parser it shares, over a table and over generated expressions;
//! and the parser in use against the crate's main one. Where the crate departs from the language's definition, or this
//! guest from the crate on purpose, the expression stands in [`DIFFERENCES`] with the rule.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use cel::{Context, ExecutionError, Program as Oracle};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use weir_cel::compile::{compile, compile_unchecked};
use weir_cel::input::{Headers, Input};
use weir_cel::time::Timestamp;
use weir_cel::value::Value;
use weir_guest::json::{Fields, Found, Raw};

const DOCUMENT: &str = r#"{
    "stock_name": "BTC-USD", "stock_value": 37812.759521484375, "event_time": 1634221557011,
    "zero": 0, "minus": -3, "big": 18446744073709551615, "half": 0.5, "whole": 2.0, "yes": true, "no": false,
    "nothing": null, "text": "h\u00e9llo w\u00f6rld", "empty": "", "iso": "2021-10-14T14:25:57.011Z",
    "tags": ["a", "b", "c"], "numbers": [1, 2.5, 3], "none": [], "pairs": [[1, 2], [3]],
    "nested": {"a": {"b": {"c": "x"}}, "list": [{"n": 1}, {"n": 2, "m": null}], "void": {}}
}"#;

const KEY: &[u8] = b"\xffkey";
const HEADERS: &[(&[u8], Option<&[u8]>)] = &[
    (b"source", Some(b"old")),
    (b"empty", None),
    (b"source", Some(b"mobile")),
];
const TIMESTAMP: i64 = 1_634_221_557_011;

/// Expressions whose values differ: the guest's, the library's, and why.
const DIFFERENCES: &[(&str, &str, &str, &str)] = &[
    (
        "[1] + {'a': 2}",
        "error",
        "[1, \"a\"]",
        "the definition has `+` for two lists; the library adds a map's keys to a list",
    ),
    (
        "9007199254740993 == 9007199254740992.0",
        "false",
        "true",
        "the definition compares numbers as on one number line; the library rounds the integer to a double",
    ),
    (
        "18446744073709551615u < 18446744073709551616.0",
        "true",
        "false",
        "likewise",
    ),
    (
        "false && foo()",
        "error",
        "false",
        "a function that there isn't is an error of the whole expression, as in checked CEL",
    ),
    (
        "timestamp(0).getHours('Europe/Berlin')",
        "error",
        "1",
        "the guest has no table of time zones",
    ),
    (
        "'٣'.matches('^\\\\d$')",
        "false",
        "true",
        "the definition has RE2's syntax, in which a digit is one of ASCII's",
    ),
    (
        "duration('1µs')",
        "duration 1000",
        "error",
        "the definition leaves durations to Go's syntax, which has this unit",
    ),
    (
        "int == 1",
        "error",
        "false",
        "names of types are fields, but beside type(…)",
    ),
];

/// What the library gives, as text that can be compared; `error` for any error.
fn library(source: &str) -> String {
    let Ok(program) = Oracle::compile(source) else {
        return "error".to_owned();
    };
    let mut context = Context::default();
    let document: serde_json::Value = serde_json::from_str(DOCUMENT).unwrap();
    for (name, value) in document.as_object().unwrap() {
        context.add_variable_from_value(name, from_json(value));
    }
    let headers: HashMap<String, cel::Value> = HEADERS
        .iter()
        .map(|(name, value)| {
            let value = match value {
                Some(bytes) => cel::Value::Bytes(Arc::new(bytes.to_vec())),
                None => cel::Value::Null,
            };
            (String::from_utf8(name.to_vec()).unwrap(), value)
        })
        .collect();
    let time = chrono::DateTime::from_timestamp_millis(TIMESTAMP).unwrap();
    let record: HashMap<String, cel::Value> = HashMap::from([
        ("value".to_owned(), from_json(&document)),
        ("key".to_owned(), cel::Value::Bytes(Arc::new(KEY.to_vec()))),
        ("headers".to_owned(), headers.into()),
        ("timestamp".to_owned(), cel::Value::Timestamp(time.into())),
        ("topic".to_owned(), "stocks".into()),
        ("partition".to_owned(), 3_i64.into()),
        ("offset".to_owned(), 42_i64.into()),
    ]);
    context.add_variable_from_value("record", record);
    context
        .add_function("plus", |left: cel::Value, right: cel::Value| {
            match (&left, &right) {
                (cel::Value::List(_), right) if !matches!(right, cel::Value::List(_)) => {
                    Err(ExecutionError::no_such_overload("plus", Vec::new()))
                }
                // The library's `+` for values leaves these out, the one of its expressions doesn't.
                (cel::Value::Bytes(left), cel::Value::Bytes(right)) => Ok(cel::Value::Bytes(
                    Arc::new([&left[..], &right[..]].concat()),
                )),
                _ => left + right,
            }
        })
        .unwrap();
    match program.execute(&context) {
        Ok(value) => show_library(&value),
        Err(_) => "error".to_owned(),
    }
}

/// What the guest gives, likewise.
fn guest(source: &str) -> String {
    let program = match compile_unchecked(source) {
        Ok(program) => program,
        Err(_) => return "error".to_owned(),
    };
    let fields = Fields::new(&program.paths()).unwrap();
    let mut found = Found::default();
    let object = fields.scan(DOCUMENT.as_bytes(), &mut found).unwrap();
    let input = Input {
        object: Some(&object),
        whole: Some(Raw::parse(DOCUMENT.as_bytes()).unwrap()),
        key: Some(KEY),
        headers: Headers(HEADERS),
        timestamp: Timestamp::from_millis(TIMESTAMP),
        topic: "stocks",
        partition: 3,
        offset: 42,
    };
    match program.value(&input) {
        Ok(value) => show_guest(&value),
        Err(_) => "error".to_owned(),
    }
}

fn from_json(value: &serde_json::Value) -> cel::Value {
    match value {
        serde_json::Value::Null => cel::Value::Null,
        serde_json::Value::Bool(truth) => (*truth).into(),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => number.as_f64().unwrap().into(),
        },
        serde_json::Value::String(text) => text.as_str().into(),
        serde_json::Value::Array(elements) => {
            elements.iter().map(from_json).collect::<Vec<_>>().into()
        }
        serde_json::Value::Object(members) => members
            .iter()
            .map(|(name, value)| (name.clone(), from_json(value)))
            .collect::<HashMap<_, _>>()
            .into(),
    }
}

fn show_library(value: &cel::Value) -> String {
    match value {
        cel::Value::Null => "null".to_owned(),
        cel::Value::Bool(truth) => truth.to_string(),
        cel::Value::Int(number) => number.to_string(),
        cel::Value::UInt(number) => format!("{number}u"),
        cel::Value::Float(number) => format!("{number:?}"),
        cel::Value::String(text) => format!("{text:?}"),
        cel::Value::Bytes(bytes) => format!("b{bytes:?}"),
        cel::Value::Timestamp(time) => format!(
            "timestamp {}.{:09}",
            time.timestamp(),
            time.timestamp_subsec_nanos()
        ),
        cel::Value::Duration(length) => {
            format!("duration {}", length.num_nanoseconds().unwrap())
        }
        cel::Value::List(elements) => {
            let elements: Vec<String> = elements.iter().map(show_library).collect();
            format!("[{}]", elements.join(", "))
        }
        cel::Value::Map(map) => {
            let entries = map.map.iter().map(|(key, value)| {
                let key = match key {
                    cel::objects::Key::Int(number) => number.to_string(),
                    cel::objects::Key::Uint(number) => format!("{number}u"),
                    cel::objects::Key::Bool(truth) => truth.to_string(),
                    cel::objects::Key::String(text) => format!("{text:?}"),
                };
                format!("{key}: {}", show_library(value))
            });
            show_map(entries.collect())
        }
        other => panic!("{other:?}"),
    }
}

fn show_guest(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(truth) => truth.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => format!("{number}u"),
        Value::Double(number) => format!("{number:?}"),
        Value::String(text) => format!("{text:?}"),
        Value::Bytes(bytes) => format!("b{bytes:?}"),
        Value::Timestamp(time) => {
            let epoch = Timestamp::from_seconds(time.seconds()).unwrap();
            let part = time.since(epoch).unwrap().nanos();
            format!("timestamp {}.{part:09}", time.seconds())
        }
        Value::Duration(length) => format!("duration {}", length.nanos()),
        Value::List(list) => {
            let elements: Vec<String> = list.iter().map(|value| show_guest(&value)).collect();
            format!("[{}]", elements.join(", "))
        }
        Value::Map(map) => {
            let entries = map
                .iter()
                .map(|(key, value)| format!("{}: {}", show_guest(&key), show_guest(&value)));
            show_map(entries.collect())
        }
    }
}

/// A map's entries in the order of their text: maps have none of their own.
fn show_map(mut entries: Vec<String>) -> String {
    entries.sort();
    format!("{{{}}}", entries.join(", "))
}

#[test]
fn a_table_of_expressions_has_the_librarys_values() {
    let table = include_str!("expressions.txt");
    let mut wrong = Vec::new();
    let mut errors = 0;
    let mut count = 0;
    for source in table
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (ours, theirs) = (guest(source), library(source));
        count += 1;
        errors += usize::from(theirs == "error");
        if ours != theirs {
            wrong.push(format!(
                "{source}\n    guest: {ours}\n    library: {theirs}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Both the good and the bad are there to be seen.
    assert!(
        count > 250 && errors > 60 && count - errors > 150,
        "{count} {errors}"
    );
}

/// The marks of an addition: the library gets a function of its own in place of `+`, which it has wrong for a list and a
/// map.
const PLUS: [&str; 3] = ["\u{1}", "\u{2}", "\u{3}"];

#[test]
fn differences_are_as_they_are_written_down() {
    for (source, ours, theirs, rule) in DIFFERENCES {
        assert_ne!(ours, theirs, "{source}");
        assert_eq!(guest(source), *ours, "{source}: {rule}");
        assert_eq!(library(source), *theirs, "{source}: {rule}");
    }
}

/// Expressions of any shape, well-typed and ill-typed, over the document's fields. Additions stand as [`PLUS`] until it
/// is known for whom the expression is.
fn expressions() -> impl Strategy<Value = String> {
    let leaf = select(
        &[
            "event_time",
            "stock_name",
            "stock_value",
            "zero",
            "minus",
            "big",
            "half",
            "whole",
            "yes",
            "no",
            "nothing",
            "text",
            "empty",
            "iso",
            "tags",
            "numbers",
            "none",
            "pairs",
            "nested",
            "nested.a",
            "nested.a.b.c",
            "nested.list",
            "nested.list[0]",
            "nested.list[1].m",
            "absent",
            "nested.absent",
            "record.key",
            "record.topic",
            "record.headers",
            "record.timestamp",
            "record.offset",
            "record.value.half",
            "v",
            "w",
            "0",
            "1",
            "-1",
            "2",
            "3u",
            "0u",
            "1.5",
            "2.0",
            "-0.0",
            "9223372036854775807",
            "18446744073709551615u",
            "9.3e18",
            "true",
            "false",
            "null",
            "''",
            "'a'",
            "'BTC-USD'",
            "'h\u{e9}llo'",
            "b'a'",
            "b''",
            "[]",
            "{}",
            "'2021-10-14T14:25:57.011Z'",
            "'90s'",
            "timestamp(0)",
            "duration('1h')",
        ][..],
    )
    .prop_map(str::to_owned);
    leaf.prop_recursive(5, 48, 3, |inner| {
        let binary = select(
            &[
                "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "&&", "||", "in", "&&", "||", "==",
            ][..],
        );
        // `double` is left to the well-typed ones: of the largest integers it makes what the library compares otherwise.
        let unary = select(
            &[
                "!", "-", "size", "int", "uint",  "string", "bytes", "bool", "timestamp", "duration", "dyn",
            ][..],
        );
        let member = select(
            &[
                "getHours",
                "getFullYear",
                "getDayOfYear",
                "getMilliseconds",
                "size",
            ][..],
        );
        let types = select(&["int", "uint", "double", "string", "bool", "list", "map", "null_type"][..]);
        // Maps have no order, so of the macros over them only those count that give a bool.
        let test = select(&["all", "exists", "exists_one"][..]);
        let name = select(&["v", "w"][..]);
        let pair = || (inner.clone(), inner.clone());
        prop_oneof![
            6 => (binary, pair()).prop_map(|(op, (a, b))| format!("({a} {op} {b})")),
            1 => pair().prop_map(|(a, b)| {
                let [open, middle, close] = PLUS;
                format!("{open}{a}{middle}{b}{close}")
            }),
            3 => (unary, inner.clone()).prop_map(|(op, a)| format!("{op}({a})")),
            1 => (member, inner.clone()).prop_map(|(name, a)| format!("({a}).{name}()")),
            2 => (member_of_two(), pair()).prop_map(|(name, (a, b))| format!("({a}).{name}({b})")),
            2 => (pair(), inner.clone()).prop_map(|((a, b), c)| format!("({a} ? {b} : {c})")),
            2 => pair().prop_map(|(a, b)| format!("({a})[{b}]")),
            1 => inner.clone().prop_map(|a| format!("({a}).a")),
            1 => inner.clone().prop_map(|a| format!("has(({a}).a)")),
            1 => (types, inner.clone()).prop_map(|(name, a)| format!("(type({a}) == {name})")),
            2 => pair().prop_map(|(a, b)| format!("[{a}, {b}]")),
            1 => (pair(), inner.clone()).prop_map(|((a, b), c)| format!("{{{a}: {b}, 'k': {c}}}")),
            2 => (test, name, pair()).prop_map(|(macro_, v, (a, b))| format!("({a}).{macro_}({v}, {b})")),
            2 => (select(&["map", "filter"][..]), select(&["v", "w"][..]), pair())
                .prop_map(|(macro_, v, (a, b))| format!("[{a}].{macro_}({v}, {b})")),
        ]
    })
}

/// Well-typed expressions of each type, most of which have a value.
#[derive(Clone)]
struct Typed {
    bools: BoxedStrategy<String>,
    ints: BoxedStrategy<String>,
    doubles: BoxedStrategy<String>,
    strings: BoxedStrategy<String>,
    lists: BoxedStrategy<String>,
    times: BoxedStrategy<String>,
}

impl Typed {
    fn leaves() -> Typed {
        let of = |texts: &'static [&'static str]| select(texts).prop_map(str::to_owned).boxed();
        Typed {
            bools: of(&[
                "yes",
                "no",
                "true",
                "false",
                "has(nested.a)",
                "has(nested.x)",
                "(nothing == null)",
            ]),
            // Sums and products of these stay below 2^53, past which the library compares otherwise (`DIFFERENCES`), or
            // overflow.
            ints: of(&[
                "event_time",
                "zero",
                "minus",
                "0",
                "1",
                "2",
                "-7",
                "10",
                "nested.list[1].n",
                "record.offset",
                "record.partition",
            ]),
            doubles: of(&[
                "stock_value",
                "half",
                "whole",
                "0.5",
                "-1.25",
                "1e10",
                "numbers[1]",
            ]),
            strings: of(&[
                "stock_name",
                "text",
                "empty",
                "nested.a.b.c",
                "'a'",
                "'USD'",
                "'é'",
                "''",
                "record.topic",
                "iso",
                "string(record.headers.source)",
                "tags[0]",
            ]),
            lists: of(&["tags", "['a', 'x']", "[text, stock_name]", "none"]),
            times: of(&[
                "timestamp(iso)",
                "timestamp(0)",
                "record.timestamp",
                "timestamp('2024-02-29T12:00:00Z')",
            ]),
        }
    }

    fn deeper(self) -> Typed {
        let Typed {
            bools,
            ints,
            doubles,
            strings,
            lists,
            times,
        } = self;
        let operator = |texts: &'static [&'static str]| select(texts);
        let infix = |left: &BoxedStrategy<String>, texts, right: &BoxedStrategy<String>| {
            (left.clone(), operator(texts), right.clone())
                .prop_map(|(a, op, b)| format!("({a} {op} {b})"))
        };
        let choice = |of: &BoxedStrategy<String>| {
            (bools.clone(), of.clone(), of.clone())
                .prop_map(|(a, b, c)| format!("({a} ? {b} : {c})"))
        };
        const ORDER: &[&str] = &["==", "!=", "<", "<=", ">", ">="];
        let part = select(
            &[
                "getFullYear",
                "getMonth",
                "getDate",
                "getDayOfMonth",
                "getDayOfWeek",
                "getDayOfYear",
                "getHours",
                "getMinutes",
                "getSeconds",
                "getMilliseconds",
            ][..],
        );
        let zone = select(&["", "'UTC'", "'+05:30'", "'-11:45'"][..]);
        let predicate = prop_oneof![
            Just("v == 'a'".to_owned()),
            Just("v < 'b'".to_owned()),
            bools.clone(),
            strings
                .clone()
                .prop_map(|text| format!("{text}.contains(v)")),
        ];
        Typed {
            bools: prop_oneof![
                infix(&bools, &["&&", "||", "==", "!="], &bools),
                bools.clone().prop_map(|a| format!("!{a}")),
                choice(&bools),
                infix(&ints, ORDER, &ints),
                infix(&doubles, ORDER, &doubles),
                infix(&ints, ORDER, &doubles),
                infix(&doubles, ORDER, &ints),
                infix(&strings, ORDER, &strings),
                infix(&times, ORDER, &times),
                infix(&strings, &["in"], &lists),
                infix(&lists, &["==", "!="], &lists),
                (
                    strings.clone(),
                    operator(&["contains", "startsWith", "endsWith"]),
                    strings.clone()
                )
                    .prop_map(|(a, name, b)| format!("{a}.{name}({b})")),
                (
                    lists.clone(),
                    operator(&["all", "exists", "exists_one"]),
                    predicate.clone()
                )
                    .prop_map(|(list, name, test)| format!("{list}.{name}(v, {test})")),
            ]
            .boxed(),
            ints: prop_oneof![
                infix(&ints, &["+", "-", "*", "/", "%"], &ints),
                ints.clone().prop_map(|a| format!("-({a})")),
                choice(&ints),
                strings.clone().prop_map(|a| format!("size({a})")),
                lists.clone().prop_map(|a| format!("{a}.size()")),
                doubles.clone().prop_map(|a| format!("int({a})")),
                ints.clone().prop_map(|a| format!("int(string({a}))")),
                times.clone().prop_map(|a| format!("int({a})")),
                (times.clone(), part, zone)
                    .prop_map(|(a, part, zone)| format!("{a}.{part}({zone})")),
                infix(&times, &["-"], &times).prop_map(|a| format!("{a}.getMinutes()")),
            ]
            .boxed(),
            doubles: prop_oneof![
                infix(&doubles, &["+", "-", "*", "/"], &doubles),
                choice(&doubles),
                ints.clone().prop_map(|a| format!("double({a})")),
                doubles.clone().prop_map(|a| format!("double(string({a}))")),
            ]
            .boxed(),
            strings: prop_oneof![
                infix(&strings, &["+"], &strings),
                choice(&strings),
                ints.clone().prop_map(|a| format!("string({a})")),
                bools.clone().prop_map(|a| format!("string({a})")),
                times.clone().prop_map(|a| format!("string({a})")),
                infix(&times, &["-"], &times).prop_map(|a| format!("string({a})")),
                strings.clone().prop_map(|a| format!("string(bytes({a}))")),
            ]
            .boxed(),
            lists: prop_oneof![
                infix(&lists, &["+"], &lists),
                choice(&lists),
                (strings.clone(), strings.clone()).prop_map(|(a, b)| format!("[{a}, {b}]")),
                (lists.clone(), predicate)
                    .prop_map(|(list, test)| format!("{list}.filter(v, {test})")),
                (lists.clone(), strings.clone())
                    .prop_map(|(list, a)| format!("{list}.map(v, v + {a})")),
            ]
            .boxed(),
            times: prop_oneof![
                choice(&times),
                ints.clone().prop_map(|a| format!("timestamp({a} / 1000)")),
                infix(
                    &times,
                    &["+", "-"],
                    &operator(&["duration('36h')", "duration('-1.5s')"])
                        .prop_map(str::to_owned)
                        .boxed()
                ),
                times.prop_map(|a| format!("timestamp(string({a}))")),
            ]
            .boxed(),
        }
    }
}

fn well_typed() -> impl Strategy<Value = String> {
    let one = Typed::leaves().deeper();
    let two = one.clone().deeper();
    let three = two.clone().deeper();
    prop_oneof![
        one.bools,
        two.bools,
        two.ints,
        two.doubles,
        two.strings,
        two.lists,
        two.times,
        three.bools
    ]
}

fn member_of_two() -> impl Strategy<Value = &'static str> {
    select(&["contains", "startsWith", "endsWith", "matches", "getHours"][..])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_generated_expression_has_the_librarys_value(source in expressions()) {
        let fill = |filling: [&str; 3]| {
            PLUS.iter().zip(filling).fold(source.clone(), |source, (mark, text)| source.replace(*mark, text))
        };
        let (ours, theirs) = (fill(["(", " + ", ")"]), fill(["plus(", ", ", ")"]));
        prop_assert_eq!(guest(&ours), library(&theirs), "{}", ours);
    }
}

/// Most of the well-typed expressions have a value, so that it is values that are compared.
#[test]
fn a_well_typed_expression_has_the_librarys_value() {
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 2048,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let values = Cell::new(0);
    let result = runner.run(&well_typed(), |source| {
        let ours = guest(&source);
        values.set(values.get() + u32::from(ours != "error"));
        prop_assert_eq!(ours, library(&source), "{}", source);
        // And the check of types, which `init` makes, lets it through.
        if let Err(error) = compile(&format!("{source} == {source}")) {
            prop_assert!(
                error.reason.starts_with("the expression always fails"),
                "{}: {}",
                source,
                error.reason
            );
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    assert!(values.get() > 1000, "only {} have values", values.get());
}

/// The Pratt parser in use makes the same trees as the library's main parser, and refuses the same texts.
#[test]
fn the_parsers_agree() {
    // Nodes are numbered in another order; everything else is compared.
    fn tree(expr: &cel::common::ast::IdedExpr) -> String {
        let shown = format!("{:?}", expr.expr);
        let mut parts = shown.split("id: ");
        let mut bare = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            bare.push_str(part.trim_start_matches(|char: char| char.is_ascii_digit()));
        }
        bare
    }
    for source in include_str!("expressions.txt").lines() {
        if source.starts_with('#') {
            continue;
        }
        let main = cel::parser::Parser::new().parse(source).ok();
        let pratt = cel::parser::PrattParser::new().parse(source).ok();
        assert_eq!(
            pratt.as_ref().map(tree),
            main.as_ref().map(tree),
            "{source}"
        );
    }
}
