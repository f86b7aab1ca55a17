//! Redaction against a plain model of it: documents that keep their own whitespace, and are written with what the rules
//! make of them.

use hmac::{Hmac, KeyInit, Mac};
use proptest::prelude::*;
use proptest::sample::select;
use redact::Redact;
use serde_json::{Value, json};
use sha2::Sha256;
use weir_guest::testing::{Harness, Input};

const KEY: &str = "a key for the tests";

/// Names as documents spell them, as they are, and as paths spell them.
const NAMES: [(&str, &str, &str); 6] = [
    (r#""a""#, "a", "a"),
    (r#""b""#, "b", "b"),
    (r#""\u0061""#, "a", "a"),
    (r#""c.d""#, "c.d", r"c\.d"),
    (r#""e[*]""#, "e[*]", r"e\[*]"),
    (
        r#""longer than eight""#,
        "longer than eight",
        "longer than eight",
    ),
];

/// A document as text, in parts.
#[derive(Clone, Debug)]
enum Doc {
    Scalar(String),
    /// Elements with the whitespace before and after each.
    Array(Vec<([&'static str; 2], Doc)>),
    /// Members with the whitespace before and after the name, and before and after the value.
    Object(Vec<([&'static str; 4], usize, Doc)>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(&'static str),
    Each,
}

#[derive(Clone, Debug)]
struct Rule {
    steps: Vec<Step>,
    action: Value,
}

/// What becomes of a value.
enum Fate {
    Text(String),
    Gone,
}

/// The record is refused.
#[derive(Debug)]
struct Refused;

impl Doc {
    fn kind(&self) -> &'static str {
        match self {
            Doc::Scalar(text) if text == "null" => "null",
            Doc::Scalar(_) => "scalar",
            Doc::Array(_) => "array",
            Doc::Object(_) => "object",
        }
    }

    /// The text with what the rules make of it. `rules` are those that lead here or further in, with what is left of
    /// their paths.
    fn redacted(&self, rules: &[(&[Step], &Value)], missing: bool) -> Result<Fate, Refused> {
        if let Some((_, action)) = rules.iter().find(|(steps, _)| steps.is_empty()) {
            return self.acted(action);
        }
        let goes_on = |each: bool| {
            rules
                .iter()
                .any(move |(steps, _)| (steps[0] == Step::Each) == each)
        };
        match self.kind() {
            _ if rules.is_empty() => {}
            "object" if goes_on(false) => {}
            "array" if goes_on(true) => {}
            "null" if !missing => {}
            _ => return Err(Refused),
        }
        Ok(Fate::Text(match self {
            Doc::Scalar(text) => text.clone(),
            Doc::Array(elements) => {
                let inside: Vec<(&[Step], &Value)> = rules
                    .iter()
                    .filter(|(steps, _)| steps[0] == Step::Each)
                    .map(|(steps, action)| (&steps[1..], *action))
                    .collect();
                let mut texts = Vec::new();
                for ([before, after], element) in elements {
                    match element.redacted(&inside, missing)? {
                        Fate::Text(text) => texts.push(format!("{before}{text}{after}")),
                        Fate::Gone => {}
                    }
                }
                format!("[{}]", texts.join(","))
            }
            Doc::Object(members) => {
                for (steps, _) in rules {
                    let has = |name: &str| members.iter().any(|(_, it, _)| NAMES[*it].1 == name);
                    match &steps[0] {
                        Step::Field(name) if missing && !has(name) => return Err(Refused),
                        _ => {}
                    }
                }
                let mut texts = Vec::new();
                for ([a, b, c, d], index, value) in members {
                    let (key, name, _) = NAMES[*index];
                    let inside: Vec<(&[Step], &Value)> = rules
                        .iter()
                        .filter(|(steps, _)| steps[0] == Step::Field(name))
                        .map(|(steps, action)| (&steps[1..], *action))
                        .collect();
                    match value.redacted(&inside, missing)? {
                        Fate::Text(text) => texts.push(format!("{a}{key}{b}:{c}{text}{d}")),
                        Fate::Gone => {}
                    }
                }
                format!("{{{}}}", texts.join(","))
            }
        }))
    }

    fn acted(&self, action: &Value) -> Result<Fate, Refused> {
        let verb = action["action"].as_str().unwrap();
        match verb {
            "remove" => return Ok(Fate::Gone),
            "replace" => return Ok(Fate::Text(action["with"].to_string())),
            _ => {}
        }
        let Doc::Scalar(text) = self else {
            return Err(Refused);
        };
        if text == "null" {
            return Ok(Fate::Text(text.clone()));
        }
        let said = match serde_json::from_str(text).unwrap() {
            Value::String(said) => said,
            _ => text.clone(),
        };
        let new = match verb {
            "hash" => {
                let mut mac = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).unwrap();
                mac.update(said.as_bytes());
                let hash = mac.finalize().into_bytes();
                hash.iter().map(|byte| format!("{byte:02x}")).collect()
            }
            _ => {
                let chars: Vec<char> = said.chars().collect();
                let keep = action["keep_last"].as_u64().unwrap() as usize;
                let masked = match keep < chars.len() {
                    true => chars.len() - keep,
                    false => chars.len(),
                };
                let kept: String = chars[masked..].iter().collect();
                "*".repeat(masked) + &kept
            }
        };
        Ok(Fate::Text(serde_json::to_string(&new).unwrap()))
    }

    /// The text as it is.
    fn text(&self) -> String {
        match self.redacted(&[], false) {
            Ok(Fate::Text(text)) => text,
            _ => unreachable!("nothing is to be hidden"),
        }
    }
}

impl Rule {
    fn entry(&self) -> Value {
        let mut path = String::new();
        for step in &self.steps {
            match step {
                Step::Each => path.push_str("[*]"),
                Step::Field(name) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    let spelled = NAMES.iter().find(|(_, other, _)| other == name).unwrap();
                    path.push_str(spelled.2);
                }
            }
        }
        let mut entry = self.action.clone();
        entry["path"] = path.into();
        entry
    }
}

fn docs() -> impl Strategy<Value = Doc> {
    let space = || prop_oneof![6 => Just(""), 1 => Just(" "), 1 => Just("\n\t")];
    let scalar = prop_oneof![
        1 => Just("null".to_owned()),
        1 => Just("true".to_owned()),
        2 => "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,20})?(e[0-9])?",
        2 => "[a-z ]{0,20}".prop_map(|text| format!("\"{text}\"")),
        1 => ".{0,6}".prop_map(|text| serde_json::to_string(&text).unwrap()),
        1 => Just(r#""\u00e4\ud83d\ude00\/\\\"""#.to_owned()),
    ];
    let doc = scalar
        .prop_map(Doc::Scalar)
        .prop_recursive(4, 30, 4, move |inner| {
            let element = ((space(), space()), inner.clone());
            let element = element.prop_map(|((a, b), doc)| ([a, b], doc));
            let member = ((space(), space(), space(), space()), 0..NAMES.len(), inner);
            let member = member.prop_map(|((a, b, c, d), name, doc)| ([a, b, c, d], name, doc));
            prop_oneof![
                1 => prop::collection::vec(element, 0..4).prop_map(Doc::Array),
                2 => prop::collection::vec(member, 0..5).prop_map(|members| {
                    // Each name once.
                    let mut once: Vec<([&'static str; 4], usize, Doc)> = Vec::new();
                    for member in members {
                        let is_new = |(_, name, _): &(_, usize, _)| NAMES[*name].1 != NAMES[member.1].1;
                        if once.iter().all(is_new) {
                            once.push(member);
                        }
                    }
                    Doc::Object(once)
                }),
            ]
        });
    doc.prop_filter("an object or array", |doc| {
        matches!(doc.kind(), "object" | "array")
    })
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let step = prop_oneof![
        3 => select(&NAMES[..]).prop_map(|(_, name, _)| Step::Field(name)),
        1 => Just(Step::Each),
    ];
    let action = prop_oneof![
        Just(json!({ "action": "remove" })),
        Just(json!({ "action": "hash" })),
        (0..4u64).prop_map(|keep| json!({ "action": "mask", "keep_last": keep })),
        Just(json!({ "action": "replace", "with": [1, "x"] })),
    ];
    let rule = (prop::collection::vec(step, 1..4), action);
    prop::collection::vec(
        rule.prop_map(|(steps, action)| Rule { steps, action }),
        1..5,
    )
}

/// Rules of which none leads to something around or inside of another one's; those that do are left out.
fn apart(rules: Vec<Rule>) -> Vec<Rule> {
    let mut apart: Vec<Rule> = Vec::new();
    for rule in rules {
        let overlaps = |other: &Rule| {
            other.steps.starts_with(&rule.steps) || rule.steps.starts_with(&other.steps)
        };
        if !apart.iter().any(overlaps) {
            apart.push(rule);
        }
    }
    apart
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn records_come_out_as_the_model_says(
        rules in rules().prop_map(apart),
        docs in prop::collection::vec(docs(), 1..4),
        missing: bool,
    ) {
        let entries: Vec<Value> = rules.iter().map(Rule::entry).collect();
        let mut config = json!({ "fields": entries });
        if rules.iter().any(|rule| rule.action["action"] == "hash") {
            config["key"] = KEY.into();
        }
        config["missing"] = if missing { "refuse" } else { "skip" }.into();
        let mut harness = Harness::<Redact>::new(&config.to_string()).unwrap();
        let inputs: Vec<Input> = docs.iter().map(|doc| Input::value(doc.text())).collect();
        let outcome = harness.run(&inputs);
        let steps: Vec<(&[Step], &Value)> = rules.iter().map(|rule| (&rule.steps[..], &rule.action)).collect();
        let removes = rules.iter().any(|rule| rule.action["action"] == "remove");
        for (index, doc) in docs.iter().enumerate() {
            let sent = outcome.sent.iter().find(|sent| sent.from == index);
            match doc.redacted(&steps, missing) {
                Ok(Fate::Text(expected)) => {
                    let why = outcome.refused.iter().find(|(refused, _)| *refused == index);
                    prop_assert!(sent.is_some(), "{} {config} {why:?}", doc.text());
                    let text = String::from_utf8(sent.unwrap().value.clone().unwrap()).unwrap();
                    if removes {
                        // The comma that goes takes whitespace along.
                        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
                        prop_assert_eq!(read(&text), read(&expected), "{} {}", doc.text(), config);
                    } else {
                        prop_assert_eq!(text, expected, "{} {}", doc.text(), config);
                    }
                }
                Ok(Fate::Gone) => unreachable!("a path has steps"),
                Err(Refused) => prop_assert!(sent.is_none(), "{} {config} {sent:?}", doc.text()),
            }
        }
    }
}
