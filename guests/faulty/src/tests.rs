//! That the harmless verbs do what they say, and that each lie is one.

use weir_guest::bindings::{Batch, Column, Guest, Needs, Output, Setup};
use weir_guest::testing::check;

use crate::{Faulty, LIES, empty_column, empty_headers, transform, verb_in};

fn batch(verbs: &[&str]) -> Batch {
    let mut values = empty_column();
    for verb in verbs {
        values.push(Some(verb.as_bytes()));
    }
    Batch {
        topic: "test".to_owned(),
        partition: 0,
        id_key: vec![0; 32],
        count: verbs.len() as u32,
        keys: empty_column(),
        values,
        headers: empty_headers(),
        timestamps: Vec::new(),
        timestamp_types: Vec::new(),
        offsets: Vec::new(),
        ordinals: Vec::new(),
    }
}

fn run(verbs: &[&str]) -> Output {
    transform(&batch(verbs)).expect("no error")
}

fn texts(column: &Column) -> Vec<&str> {
    (0..column.ends.len())
        .map(|index| std::str::from_utf8(column.get(index).unwrap_or(b"null")).expect("UTF-8"))
        .collect()
}

#[test]
fn harmless_verbs_keep_the_contract() {
    let output = run(&[
        "keep",
        "drop",
        "refuse:why",
        "flood:3 padding",
        "log:2",
        "burn:0",
        "nonsense",
    ]);
    check(&output, 7, 1).expect("the contract is kept");
    assert_eq!(output.take, [0, 3, 3, 3, 4, 5]);
    assert_eq!(output.refused.indexes, [2, 6]);
    assert_eq!(
        texts(&output.refused.reasons),
        ["why", "no such verb: `nonsense`"]
    );
    assert_eq!(texts(&output.logs.messages), ["line 0", "line 1"]);
    assert_eq!(output.logs.indexes, [4, 4]);
    assert!(output.values.is_none());
}

#[test]
fn written_values_stand_among_those_that_stay() {
    let output = run(&["keep", "big:1", "drop", "keep"]);
    check(&output, 4, 1).expect("the contract is kept");
    let values = output.values.expect("values are written");
    assert_eq!(values.get(0), Some(&b"keep"[..]));
    assert_eq!(values.get(1), Some(&vec![b'x'; 1 << 20][..]));
    assert_eq!(values.get(2), Some(&b"keep"[..]));
    let first = run(&["count"]).values.expect("a count");
    let second = run(&["count"]).values.expect("a count");
    assert_ne!(first.data, second.data);
}

#[test]
fn each_lie_breaks_the_contract_in_its_own_way_wherever_it_stands() {
    let what = |lie: &str| match lie {
        "take-decreases" => "take decreases",
        "take-index" => "take: no such record",
        "too-few-values" | "too-many-values" => "values: ",
        "too-many-keys" => "keys: ",
        "ends-decrease" => "values: ends decrease",
        "data-too-long" | "data-too-short" | "end-too-large" => "but the last value ends at",
        "nulls-too-short" | "nulls-too-long" => "bytes of null bits",
        "null-bit-past-end" => "a null bit past the last value",
        "null-with-bytes" => "value 0 is null, but has bytes",
        "header-counts" => "headers: one count for each record",
        "header-sum" | "header-sum-overflow" => "names: ",
        "header-values" => "header values: ",
        "header-name-null" => "names: value 0 is null",
        "timestamps" => "one timestamp for each record",
        "timestamp-range" => "a timestamp is below -1",
        "outputs" => "one output for each record",
        "output-index" => "no such output",
        "refused-and-taken" => "a record is refused and taken",
        "refused-twice" => "refused indexes don't increase",
        "refused-index" => "refused: no such record",
        "reason-count" => "reasons: 0 values instead of 1",
        "reason-utf8" => "reasons: text 0: invalid utf-8",
        "reason-null" => "reasons: value 0 is null",
        "log-index" => "a log line: no such record",
        "log-utf8" => "messages: text 0: invalid utf-8",
        lie => panic!("what is wrong with {lie}?"),
    };
    for lie in LIES {
        let verb = format!("lie:{lie}");
        let many = ["keep"; 8];
        for verbs in [
            &["drop", &verb][..],
            &["keep", &verb, "keep"],
            &[&many[..], &[&verb, "drop", "keep"]].concat(),
        ] {
            let error = check(&run(verbs), verbs.len(), 1).expect_err(lie);
            assert!(error.contains(what(lie)), "{lie}: {error}");
        }
    }
    assert_eq!(
        transform(&batch(&["lie:white"])).expect_err("no such lie"),
        "no such lie: `white`"
    );
}

#[test]
fn errors_and_configs_come_back_as_asked_for() {
    assert_eq!(
        transform(&batch(&["keep", "err:why"])).expect_err("an error"),
        "why"
    );
    let init = |config: &str| {
        Faulty::init(Setup {
            config: config.to_owned(),
            outputs: vec!["default".to_owned()],
        })
    };
    assert_eq!(init("{}"), Ok(Needs::VALUES));
    assert_eq!(
        init(r#"{"needs":["keys","positions"]}"#),
        Ok(Needs::KEYS | Needs::POSITIONS)
    );
    assert_eq!(
        init(r#"{"init":"refuse"}"#),
        Err("config field `init`: refused, as it asks for".to_owned())
    );
    assert!(init(r#"{"nit":"ok"}"#).is_err());
}

#[test]
fn the_verb_may_stand_in_a_field() {
    let mark = Some("\"act\":\"");
    assert_eq!(
        verb_in("{\"n\":1,\"act\":\"trap\",\"m\":\"x\"}", mark),
        "trap"
    );
    assert_eq!(verb_in("{\"n\":1}", mark), "keep");
    assert_eq!(verb_in("spin 1", None), "spin 1");
}
