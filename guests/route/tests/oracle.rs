//! Which rule decides, against the evaluator of the `cel` crate: over generated rules and records, rule by rule.

use cel::{Context, ExecutionError, Program};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use route::Route;
use weir_guest::testing::{Harness, Input};

const OUTPUTS: [&str; 7] = ["unmatched", "r0", "r1", "r2", "r3", "r4", "r5"];

/// What a rule makes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Yes,
    No,
    /// The record lacks something.
    Missing,
    /// Anything else is wrong.
    Error,
}

/// What the library says.
fn library(rule: &str, record: &serde_json::Map<String, serde_json::Value>) -> Says {
    let program = Program::compile(rule).expect("well-formed");
    let mut context = Context::default();
    for (name, value) in record {
        context.add_variable(name, value).expect("a value");
    }
    match program.execute(&context) {
        Ok(cel::Value::Bool(true)) => Says::Yes,
        Ok(cel::Value::Bool(false)) => Says::No,
        Ok(other) => panic!("{rule}: {other:?}"),
        Err(ExecutionError::UndeclaredReference(_) | ExecutionError::NoSuchKey(_)) => Says::Missing,
        Err(_) => Says::Error,
    }
}

/// Conditions over the fields that [`records`] makes.
fn conditions() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        (
            select(&["a", "b", "o.a", "o.p.b"][..]),
            select(&["==", "!=", "<", ">="][..]),
            0..3
        )
            .prop_map(|(field, op, number)| format!("{field} {op} {number}")),
        (select(&["s", "o.s"][..]), select(&["x", "xy", ""][..]))
            .prop_map(|(field, text)| format!("{field} == '{text}'")),
        Just("s.startsWith('x')".to_owned()),
        Just("has(o.a)".to_owned()),
        Just("s in ['x', 'y']".to_owned()),
        Just("l.exists(i, i == b)".to_owned()),
        Just("size(l) > 1".to_owned()),
        Just("a + b == 2".to_owned()),
    ];
    leaf.prop_recursive(2, 6, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) && ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) || ({b})")),
            inner.prop_map(|a| format!("!({a})")),
        ]
    })
}

/// Records that lack some fields, and have some of another type unless they're `typed`.
fn records(typed: bool) -> impl Strategy<Value = serde_json::Map<String, serde_json::Value>> {
    let wrong = u32::from(!typed);
    let number = || {
        prop_oneof![
            4 => (0..3i64).prop_map(|number| number.to_string()),
            wrong => Just("\"1\"".to_owned()),
        ]
    };
    let text = || {
        prop_oneof![
            4 => select(&["\"x\"", "\"xy\"", "\"\""][..]).prop_map(str::to_owned),
            wrong => Just("1".to_owned()),
        ]
    };
    let part = |inner: Vec<(&'static str, BoxedStrategy<String>)>| {
        let members = inner
            .into_iter()
            .map(|(name, value)| value.prop_map(move |value| format!("\"{name}\":{value}")));
        let members: Vec<_> = members.collect();
        let most = members.len();
        (members, 0..=most)
            .prop_flat_map(|(members, count)| subsequence(members, count))
            .prop_map(|members| format!("{{{}}}", members.join(",")))
    };
    let deep = part(vec![("b", number().boxed())]);
    let object = part(vec![
        ("a", number().boxed()),
        ("s", text().boxed()),
        ("p", deep.boxed()),
    ]);
    let list = proptest::collection::vec(0..3i64, 0..3).prop_map(|list| format!("{list:?}"));
    part(vec![
        ("a", number().boxed()),
        ("b", number().boxed()),
        ("s", text().boxed()),
        ("o", object.boxed()),
        ("l", list.boxed()),
    ])
    .prop_map(|text| serde_json::from_str(&text).expect("an object"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_rule_decides_that_the_library_says(
        rules in proptest::collection::vec(conditions(), 1..7),
        // Of a missing field and a wrong type in one rule the library may name the other one than the guest, which
        // makes a difference only here.
        (skip, records) in any::<bool>()
            .prop_flat_map(|skip| (Just(skip), proptest::collection::vec(records(skip), 1..4))),
        has_default: bool,
    ) {
        let listed: Vec<_> = rules
            .iter()
            .enumerate()
            .map(|(index, when)| serde_json::json!({ "when": when, "to": OUTPUTS[index + 1] }))
            .collect();
        let mut config = serde_json::json!({ "rules": listed });
        config["missing"] = if skip { "skip" } else { "refuse" }.into();
        if has_default {
            config["default"] = OUTPUTS[0].into();
        }
        let mut harness = Harness::<Route>::with_outputs(&config.to_string(), &OUTPUTS).unwrap();
        let inputs: Vec<Input> = records
            .iter()
            .map(|record| Input::value(serde_json::to_vec(record).unwrap()))
            .collect();
        let outcome = harness.run(&inputs);
        for (index, record) in records.iter().enumerate() {
            let said = rules.iter().map(|rule| library(rule, record));
            let decisive = said.enumerate().find(|(_, says)| match says {
                Says::Yes | Says::Error => true,
                Says::No => false,
                Says::Missing => !skip,
            });
            let sent = outcome.sent.iter().find(|sent| sent.from == index);
            let refused = outcome.refused.iter().find(|(refused, _)| *refused == index);
            match decisive {
                Some((rule, Says::Yes)) => {
                    let output = sent.and_then(|sent| sent.output.as_deref());
                    prop_assert_eq!(output, Some(OUTPUTS[rule + 1]));
                }
                Some((rule, _)) => {
                    let place = format!("`rules[{rule}].when`, ");
                    prop_assert!(refused.is_some_and(|(_, reason)| reason.starts_with(&place)), "{place} {refused:?}");
                }
                None => {
                    let output = sent.map(|sent| sent.output.as_deref());
                    prop_assert_eq!(output, Some(has_default.then_some(OUTPUTS[0])));
                }
            }
        }
    }
}
