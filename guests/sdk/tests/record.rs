//! Records and columns: what is read, what is set, and what comes out. The transform under test runs a script.

use weir_guest::testing::{Harness, Header, Input, Outcome};
use weir_guest::{
    LogLevel, Needs, OutputId, Outputs, Record, Refusal, TimestampType, Transform, Verdict, refuse,
};

type Script = fn(&mut Record<'_>) -> Result<Verdict, Refusal>;

thread_local! {
    static SCRIPT: std::cell::Cell<(Needs, Script)> =
        const { std::cell::Cell::new((Needs::ALL, |_| Ok(Verdict::Keep))) };
}

struct Scripted(Needs, Script);

impl Transform for Scripted {
    type Config = serde::de::IgnoredAny;

    fn new(_: serde::de::IgnoredAny) -> Result<Scripted, String> {
        let (needs, script) = SCRIPT.get();
        Ok(Scripted(needs, script))
    }

    fn needs(&self) -> Needs {
        self.0
    }

    fn apply(&mut self, record: &mut Record<'_>) -> Result<Verdict, Refusal> {
        (self.1)(record)
    }
}

fn harness(needs: Needs, script: Script) -> Harness<Scripted> {
    SCRIPT.set((needs, script));
    Harness::with_outputs("{}", &["main", "side"])
        .expect("any config will do")
        .from("stocks", 3)
}

fn run(needs: Needs, script: Script, inputs: &[Input]) -> Outcome {
    harness(needs, script).run(inputs)
}

/// Records with the values 0, 1, 2 and so on.
fn numbered(count: usize) -> Vec<Input> {
    (0..count)
        .map(|number| Input::value(number.to_string()).key(format!("k{number}")))
        .collect()
}

fn number(record: &Record<'_>) -> usize {
    let value = record.value().expect("a value");
    std::str::from_utf8(value)
        .expect("UTF-8")
        .parse()
        .expect("a number")
}

fn header(name: &str, value: Option<&str>) -> Header {
    (
        name.as_bytes().to_vec(),
        value.map(|value| value.as_bytes().to_vec()),
    )
}

#[test]
fn a_record_is_read_as_it_came_in() {
    let input = Input::value(b"\xff\x00")
        .key("")
        .header("a", "1")
        .null_header("b")
        .header("a", "2")
        .timestamp(1_634_221_557_011)
        .timestamp_type(TimestampType::LogAppendTime)
        .position(1 << 62, 5);
    let script: Script = |record| {
        assert_eq!((record.topic(), record.partition()), ("stocks", 3));
        assert_eq!((record.offset(), record.ordinal()), (1 << 62, 5));
        assert_eq!(record.timestamp(), Some(1_634_221_557_011));
        assert_eq!(record.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(record.key(), Some(&b""[..]));
        record.set_value(Some(b"new"));
        assert_eq!(record.value(), Some(&b"\xff\x00"[..]));
        let names: Vec<&[u8]> = record.headers().map(|(name, _)| name).collect();
        assert_eq!(names, [b"a", b"b", b"a"]);
        assert_eq!(record.header("a"), Some(Some(&b"2"[..])));
        assert_eq!(record.header("b"), Some(None));
        assert_eq!(record.header("c"), None);
        Ok(Verdict::Keep)
    };
    assert_eq!(run(Needs::ALL, script, &[input]).values(), ["new"]);

    let script: Script = |record| {
        assert_eq!((record.key(), record.value()), (None, None));
        assert_eq!(record.timestamp(), None);
        assert_eq!(record.timestamp_type(), TimestampType::NotAvailable);
        assert_eq!(record.headers().len(), 0);
        assert_eq!(record.ordinal(), 0);
        Ok(Verdict::Keep)
    };
    let outcome = run(Needs::ALL, script, &[Input::tombstone().no_timestamp()]);
    assert_eq!(outcome.written, Needs::NONE);
    assert_eq!(outcome.values(), ["null"]);
}

#[test]
fn what_is_not_set_stays_and_is_not_written() {
    let inputs = [
        Input::value(b"\xff").header("h", "1"),
        Input::tombstone().key(""),
    ];
    let outcome = run(Needs::NONE, |_| Ok(Verdict::Keep), &inputs);
    assert_eq!(outcome.written, Needs::NONE);
    assert_eq!(outcome.sent[0].value.as_deref(), Some(&b"\xff"[..]));
    assert_eq!(outcome.sent[0].headers, [header("h", Some("1"))]);
    assert_eq!(outcome.sent[1].key.as_deref(), Some(&b""[..]));
    assert_eq!(outcome.sent[1].value, None);
}

#[test]
fn a_column_that_begins_late_has_what_came_before() {
    // With drops, nulls and a refusal before, so that the copy isn't of a whole column only.
    let script: Script = |record| {
        let Some(value) = record.value() else {
            return Ok(Verdict::Keep);
        };
        match value {
            b"drop" => Ok(Verdict::Drop),
            b"refuse" => Err(refuse("no")),
            b"null" => {
                record.set_value(None);
                record.set_key(Some(b""));
                Ok(Verdict::Keep)
            }
            b"set" => {
                record.set_value(Some(b"will be replaced"));
                record.set_value(Some(b"was set"));
                Ok(Verdict::Keep)
            }
            _ => Ok(Verdict::Keep),
        }
    };
    for before in 0..20 {
        for odd in ["drop", "refuse", "a"] {
            let mut inputs = Vec::new();
            for index in 0..before {
                inputs.push(match index % 3 {
                    0 => Input::tombstone(),
                    1 => Input::value(format!("v{index}")).key("k"),
                    _ => Input::value(odd),
                });
            }
            for value in ["set", "x", "null", "y", "drop", "set"] {
                inputs.push(Input::value(value));
            }
            let mut values: Vec<String> = Vec::new();
            let mut keys: Vec<&str> = Vec::new();
            for index in 0..before {
                match index % 3 {
                    0 => values.push("null".to_owned()),
                    1 => values.push(format!("v{index}")),
                    _ if odd == "a" => values.push("a".to_owned()),
                    _ => continue,
                }
                keys.push(if index % 3 == 1 { "k" } else { "null" });
            }
            values.extend(["was set", "x", "null", "y", "was set"].map(str::to_owned));
            keys.extend(["null", "null", "", "null", "null"]);
            let outcome = run(Needs::KEYS | Needs::VALUES, script, &inputs);
            assert_eq!(outcome.values(), values);
            assert_eq!(outcome.keys(), keys);
            assert_eq!(outcome.written, Needs::KEYS | Needs::VALUES);
        }
    }
}

#[test]
fn several_come_out_of_one_each_from_the_original() {
    let script: Script = |record| {
        for copy in 0..number(record) {
            match copy {
                0 => record.set_value(Some(b"first")),
                1 => record.add_header(b"copy", Some(b"1")),
                2 => record.set_timestamp(Some(99)),
                _ => record.set_key(None),
            }
            record.emit();
        }
        record.set_key(Some(b"never sent"));
        Ok(Verdict::Drop)
    };
    let input = |value| Input::value(value).key("k").header("h", "0").timestamp(7);
    let outcome = run(Needs::ALL, script, &[input("0"), input("4"), input("1")]);
    let from: Vec<usize> = outcome.sent.iter().map(|sent| sent.from).collect();
    assert_eq!(from, [1, 1, 1, 1, 2]);
    assert_eq!(outcome.values(), ["first", "4", "4", "4", "first"]);
    assert_eq!(outcome.keys(), ["k", "k", "k", "null", "k"]);
    let timestamps: Vec<i64> = outcome.sent.iter().map(|sent| sent.timestamp).collect();
    assert_eq!(timestamps, [7, 7, 99, 7, 7]);
    let counts: Vec<usize> = outcome.sent.iter().map(|sent| sent.headers.len()).collect();
    assert_eq!(counts, [1, 2, 1, 1, 1]);
    assert_eq!(outcome.sent[1].headers[1], header("copy", Some("1")));
}

#[test]
fn a_refusal_takes_back_all_that_was_sent_for_the_record() {
    let script: Script = |record| {
        let number = number(record);
        record.set_value(Some(b"changed"));
        record.set_headers([(&b"n"[..], None), (&b"n"[..], Some(&b"2"[..]))]);
        record.set_timestamp(None);
        record.set_output("side")?;
        record.log(LogLevel::Warn, "seen");
        record.emit();
        match number % 3 {
            1 => {
                record.set_key(Some(b"lost"));
                Err(format!("{number} is odd").into())
            }
            _ => Ok(Verdict::Keep),
        }
    };
    let outcome = run(Needs::ALL, script, &numbered(5));
    assert_eq!(
        outcome.refused,
        [(1, "1 is odd".to_owned()), (4, "4 is odd".to_owned())]
    );
    let from: Vec<usize> = outcome.sent.iter().map(|sent| sent.from).collect();
    assert_eq!(from, [0, 0, 2, 2, 3, 3]);
    assert_eq!(
        outcome.values(),
        ["changed", "0", "changed", "2", "changed", "3"]
    );
    assert_eq!(outcome.keys(), ["k0", "k0", "k2", "k2", "k3", "k3"]);
    for (row, sent) in outcome.sent.iter().enumerate() {
        let is_changed = row % 2 == 0;
        let headers = [header("n", None), header("n", Some("2"))];
        assert_eq!(sent.headers, if is_changed { &headers[..] } else { &[] });
        assert_eq!(sent.timestamp, if is_changed { -1 } else { 0 });
        // Without a choice a record goes where it went before.
        assert_eq!(sent.output.as_deref(), is_changed.then_some("side"));
    }
    // What was said about a refused record may be what explains it.
    assert_eq!(outcome.logs.len(), 5);
    assert_eq!(outcome.logs[4], (LogLevel::Warn, 4, "seen".to_owned()));
}

#[test]
fn an_unknown_output_is_a_refusal_of_its_record_alone() {
    // What was sent of the record before doesn't go out either.
    let script: Script = |record| {
        record.set_output("side")?;
        record.emit();
        match record.value() {
            Some(b"1") => record.set_output("sied")?,
            Some(b"2") => record.set_output("")?,
            _ => {}
        }
        Ok(Verdict::Keep)
    };
    let outcome = run(Needs::VALUES, script, &numbered(4));
    let unknown =
        |name| format!("no output is called `{name}`; the pipeline's outputs are `main`, `side`");
    assert_eq!(
        outcome.refused,
        [
            (1, unknown("sied") + "; did you mean `side`?"),
            (2, unknown(""))
        ]
    );
    let from: Vec<usize> = outcome.sent.iter().map(|sent| sent.from).collect();
    assert_eq!(from, [0, 0, 3, 3]);
    assert_eq!(outcome.outputs(), [Some("side"), None, Some("side"), None]);
}

/// A transform whose config names an output.
struct ToOne {
    name: String,
    output: Option<OutputId>,
}

#[derive(serde::Deserialize)]
struct ToOneConfig {
    to: String,
}

impl Transform for ToOne {
    type Config = ToOneConfig;

    fn new(config: ToOneConfig) -> Result<ToOne, String> {
        Ok(ToOne {
            name: config.to,
            output: None,
        })
    }

    fn connect(&mut self, outputs: &Outputs) -> Result<(), String> {
        self.output = Some(outputs.find(&self.name)?);
        Ok(())
    }

    fn needs(&self) -> Needs {
        Needs::NONE
    }

    fn apply(&mut self, record: &mut Record<'_>) -> Result<Verdict, Refusal> {
        if let Some(output) = self.output {
            record.send_to(output);
        }
        Ok(Verdict::Keep)
    }
}

#[test]
fn an_output_that_the_config_names_is_looked_up_at_the_start() {
    let outputs = ["main", "side"];
    let mut to_side = Harness::<ToOne>::with_outputs(r#"{"to":"side"}"#, &outputs).unwrap();
    let outcome = to_side.run(&numbered(2));
    assert_eq!(outcome.outputs(), [Some("side"), Some("side")]);
    let refused = Harness::<ToOne>::with_outputs(r#"{"to":"sides"}"#, &outputs).err();
    assert_eq!(
        refused.as_deref(),
        Some(
            "no output is called `sides`; the pipeline's outputs are `main`, `side`; did you mean `side`?"
        )
    );
}

#[test]
fn headers_are_kept_replaced_and_added_to_with_their_order() {
    let script: Script = |record| {
        match record.value() {
            Some(b"add") => {
                record.add_header(b"x", None);
                record.add_header(b"a", Some(b""));
            }
            Some(b"clear") => record.set_headers([]),
            Some(b"twice") => {
                record.add_header(b"lost", None);
                record.set_headers([(&b"only"[..], None)]);
                record.add_header(b"then", None);
            }
            _ => {}
        }
        Ok(Verdict::Keep)
    };
    let input = |value| Input::value(value).header("a", "1").null_header("a");
    let inputs = [
        input("keep"),
        Input::value("keep"),
        input("add"),
        input("clear"),
        input("twice"),
        input("keep"),
    ];
    let outcome = run(Needs::VALUES | Needs::HEADERS, script, &inputs);
    let kept = [header("a", Some("1")), header("a", None)];
    let added = [&kept[..], &[header("x", None), header("a", Some(""))]].concat();
    let expected: [&[Header]; 6] = [
        &kept,
        &[],
        &added,
        &[],
        &[header("only", None), header("then", None)],
        &kept,
    ];
    for (sent, expected) in outcome.sent.iter().zip(expected) {
        assert_eq!(sent.headers, expected);
    }
    assert_eq!(outcome.written, Needs::HEADERS);
}

#[test]
fn reading_what_was_not_asked_for_panics_with_what_to_do() {
    let scripts: [(&str, Script); 10] = [
        ("KEYS", |record| Ok(keep(record.key()))),
        ("VALUES", |record| Ok(keep(record.value()))),
        ("HEADERS", |record| Ok(keep(record.headers()))),
        ("TIMESTAMPS", |record| Ok(keep(record.timestamp()))),
        ("POSITIONS", |record| Ok(keep(record.uuid_v4()))),
        // The first record keeps a value that wasn't handed over.
        ("VALUES", |record| {
            record.emit();
            record.set_value(None);
            Ok(Verdict::Keep)
        }),
        // The second does.
        ("KEYS", |record| {
            record.set_key(None);
            record.emit();
            Ok(Verdict::Keep)
        }),
        ("HEADERS", |record| {
            record.set_headers([]);
            record.emit();
            Ok(Verdict::Keep)
        }),
        ("HEADERS", |record| {
            record.emit();
            record.set_headers([]);
            Ok(Verdict::Keep)
        }),
        ("TIMESTAMPS", |record| {
            record.set_timestamp(None);
            record.emit();
            Ok(Verdict::Keep)
        }),
    ];
    fn keep<T>(_: T) -> Verdict {
        Verdict::Keep
    }
    for (name, script) in scripts {
        let panic = std::panic::catch_unwind(|| run(Needs::NONE, script, &numbered(1)));
        let text = *panic.expect_err(name).downcast::<String>().expect("a text");
        assert_eq!(
            text,
            format!(
                "the transform's needs() must ask for Needs::{name}: without it the column isn't handed over"
            )
        );
    }
}

#[test]
fn each_draw_is_another_one_and_a_replay_repeats_them() {
    let script: Script = |record| {
        for _ in 0..3 {
            let id = record.uuid_v4().to_string();
            record.set_value(Some(id.as_bytes()));
            record.emit();
        }
        let bytes = record.random_bytes::<40>();
        record.set_value(Some(format!("{bytes:?}").as_bytes()));
        Ok(Verdict::Keep)
    };
    let inputs: Vec<Input> = (0..50)
        .flat_map(|offset| (0..3).map(move |ordinal| Input::value("").position(offset, ordinal)))
        .collect();
    let all = run(Needs::ALL, script, &inputs).values();
    let distinct: std::collections::HashSet<&String> = all.iter().collect();
    assert_eq!((all.len(), distinct.len()), (600, 600));
    // The records alone, and the other way round.
    for (index, input) in inputs.iter().enumerate().rev() {
        let alone = run(Needs::ALL, script, std::slice::from_ref(input)).values();
        assert_eq!(alone, all[4 * index..4 * index + 4]);
    }
}
