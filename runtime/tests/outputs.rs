//! Guests that choose among a pipeline's outputs, and one that hides things, in the sandbox.

use std::time::Duration;

use weir::guest::{Guest, Limits, Output, Setup};

use crate::util::{batch, module, texts};

const KEY: [u8; 32] = [7; 32];
const DEADLINE: Duration = Duration::from_secs(10);

/// One of our guests in a pipeline with three outputs.
fn with_outputs(name: &str, config: &str) -> anyhow::Result<Guest> {
    let setup = Setup {
        config: config.into(),
        outputs: ["default", "large", "other"].map(String::from).into(),
    };
    Guest::new(&module(name), &setup, &Limits::default())
}

#[test]
fn an_output_of_an_unknown_name_refuses_its_record_and_no_other() {
    let mut guest = with_outputs("faulty", r#"{"by_name":true}"#).unwrap();
    let output = guest
        .transform(&batch(["other", "lagre", "large"]), &KEY, DEADLINE)
        .unwrap();
    assert_eq!(output.take, [0, 2]);
    assert_eq!(output.outputs, Some(vec![2, 1]));
    assert_eq!(
        output.refused,
        [(
            1,
            "no output is called `lagre`; the pipeline's outputs are `default`, `large`, `other`; did you mean `large`?"
                .to_owned()
        )]
    );
    assert!(guest.is_live(), "a refusal is no fault");
}

#[test]
fn route_returns_indexes_and_outputs_and_nothing_else() {
    let config = r#"{"rules":[{"when":"n > 9","to":"large"},{"when":"n > 5","to":"default"}],"unmatched":"drop"}"#;
    let mut guest = with_outputs("route", config).unwrap();
    let values = [r#"{"n":10}"#, r#"{"n":1}"#, r#"{"n":"x"}"#, r#"{"n":6}"#];
    let output = guest.transform(&batch(values), &KEY, DEADLINE).unwrap();
    let reason = "`rules[0].when`, line 1, column 3: `>` isn't defined for string and int";
    assert_eq!(
        output,
        Output {
            take: vec![0, 3],
            outputs: Some(vec![1, 0]),
            refused: vec![(2, reason.to_owned())],
            ..Output::default()
        }
    );
    let config = r#"{"rules":[{"when":"true","to":"lrge"}]}"#;
    let why = with_outputs("route", config).err().expect("refused");
    assert!(
        format!("{why:#}").contains("`rules[0].to`: no output is called `lrge`"),
        "{why:#}"
    );
}

#[test]
fn redact_hides_what_it_names_and_keeps_every_other_byte() {
    let config = r#"{"key":"0123456789abcdef","fields":[
        {"path":"who.id","action":"hash","length":16},
        {"path":"cards[*].number","action":"mask","keep_last":4}
    ]}"#;
    let mut guest = with_outputs("redact", config).unwrap();
    let input =
        r#"{ "n" : 1.10e+2 ,	"who":{"id": "ann" },"cards":[ {"number":"4111 1111"} ], "x":[1 ,2]}"#;
    let output = guest
        .transform(&batch([input, "[1]"]), &KEY, DEADLINE)
        .unwrap();
    let hidden = input
        .replace("ann", "fb385915a0623c0b")
        .replace("4111 1111", "*****1111");
    assert_eq!(texts(&output.values.unwrap()), [hidden]);
    assert_eq!(output.take, [0]);
    assert_eq!(output.keys, None);
    let short = r#"{"fields":[{"path":"a","action":"hash","key":"hunter2"}]}"#;
    let why = format!(
        "{:#}",
        with_outputs("redact", short).err().expect("refused")
    );
    assert!(
        why.contains("fields[0].key`: a key has at least 16 bytes") && !why.contains("hunter2"),
        "{why}"
    );
}
