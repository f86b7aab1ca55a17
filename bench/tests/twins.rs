//! The guests in the sandbox give what they give natively, byte for byte: in Wasm they take other ways, with other
//! vectors. `cargo xtask guests` builds the modules.

use std::path::Path;

use weir::fake::{Generator, Subject};
use weir::guest::{Compiler, Guest, Host, Limits, Module, Setup};
use weir::record::{Batch, Column};
use weir_guest::Transform;
use weir_guest::bindings;
use weir_guest::testing::{Harness, Input};

/// Enough for every length of a value and every name to come up many times.
const RECORDS: usize = 2_000;

#[test]
fn add_uuid() {
    for config in [
        r#"{"field":"id"}"#,
        r#"{"field":"a.b.id","version":7}"#,
        r#"{"version":5,"namespace":"url","from":"stock_name"}"#,
        r#"{"into":"key","existing":"replace"}"#,
        r#"{"into":"header"}"#,
    ] {
        check::<add_uuid::AddUuid>("add-uuid", config);
    }
}

#[test]
fn format_timestamp() {
    for config in [
        r#"{"from":"timestamp","rename":"event_time","to":"iso_date"}"#,
        r#"{"from":{"record":"timestamp"},"to":"dates.iso","precision":"us","zone":"+05:30"}"#,
        r#"{"from":"timestamp","unit":"s","to":"timestamp","missing":"keep"}"#,
    ] {
        check::<format_timestamp::FormatTimestamp>("format-timestamp", config);
    }
}

#[test]
fn filter() {
    for config in [
        r#"{"keep":"timestamp % 2 == 0"}"#,
        r#"{"drop":"stock_value > 1000.5 || stock_name.startsWith('A')","missing":"drop"}"#,
        r#"{"keep":"json(record.key).stock_name != 'BTC-USD' && record.offset % 3 == 1","missing":"keep"}"#,
    ] {
        check::<filter::Filter>("filter", config);
    }
}

/// Runs records of all subjects, some of them malformed, through both.
fn check<T: Transform>(name: &str, config: &str) {
    let id_key = [9; 32];
    let mut native = Harness::<T>::new(config).unwrap().id_key(id_key);
    let mut sandboxed = guest(name, config);
    for subject in Subject::ALL {
        let (batch, inputs) = records(subject);
        let expected = native.run_batch(&native.batch(&inputs));
        let output = sandboxed
            .transform(&batch, &id_key, Limits::default().deadline)
            .unwrap();
        let context = format!("{name} {config}, {subject}");
        assert_eq!(output.take, expected.take, "{context}");
        same_column(output.keys, expected.keys, &context);
        same_column(output.values, expected.values, &context);
        let (names, values) = output.headers.map(|it| (it.names, it.values)).unzip();
        let (others, other_values) = expected.headers.map(|it| (it.names, it.values)).unzip();
        same_column(names, others, &context);
        same_column(values, other_values, &context);
        let reasons = &expected.refused.reasons;
        let refused: Vec<(u32, String)> = (expected.refused.indexes.iter().enumerate())
            .map(|(row, &index)| {
                let reason = reasons.get(row).unwrap();
                (index, String::from_utf8(reason.to_vec()).unwrap())
            })
            .collect();
        assert_eq!(output.refused, refused, "{context}");
    }
}

fn same_column(one: Option<Column>, other: Option<bindings::Column>, context: &str) {
    let other = other.map(|bindings::Column { data, ends, nulls }| Column { data, ends, nulls });
    assert_eq!(one.is_some(), other.is_some(), "{context}");
    if let (Some(one), Some(other)) = (one, other) {
        assert_eq!(one.len(), other.len(), "{context}");
        for index in 0..one.len() {
            let text = |column: &Column| {
                let value = column.get(index)?;
                Some(String::from_utf8_lossy(value).into_owned())
            };
            assert_eq!(text(&one), text(&other), "{context}, record {index}");
        }
        assert!(one == other, "{context}: not the same bytes");
    }
}

fn guest(name: &str, config: &str) -> Guest {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests");
    let limits = Limits::default();
    let bytes = Module::read(
        &path.join(name).with_extension("wasm"),
        limits.max_module_bytes,
    )
    .expect("build the modules with `cargo xtask guests`");
    let host = Host::new(Compiler::InProcess, None).unwrap();
    let setup = Setup {
        config: config.to_owned(),
        outputs: vec!["default".to_owned()],
    };
    let module = Module::load(&host, &bytes, &limits).unwrap();
    Guest::new(&module, &setup, &limits).unwrap()
}

/// The same records as the host and as a native test hands them over.
fn records(subject: Subject) -> (Batch, Vec<Input>) {
    let mut batch = Batch::new("test".into(), 0);
    let mut inputs = Vec::with_capacity(RECORDS);
    let generator = Generator::new(subject, 1, 1_634_221_557_011);
    let mut generator = generator.step(700).bad(0.05).unwrap();
    for offset in 0..RECORDS as u64 {
        let fake = generator.next_record();
        batch.keys.push(Some(fake.key));
        batch.values.push(fake.value);
        batch.timestamps.push(fake.timestamp);
        batch.offsets.push(offset);
        let input = match fake.value {
            Some(value) => Input::value(value),
            None => Input::tombstone(),
        };
        inputs.push(input.key(fake.key).timestamp(fake.timestamp).offset(offset));
    }
    (batch, inputs)
}
