//! Whatever a guest returns, the host neither panics nor lets nonsense through.

use std::borrow::Cow;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::chain;

const OUTPUTS: usize = 2;

fn small_limits() -> Limits {
    Limits {
        max_output_bytes: 60,
        max_output_records: 6,
        ..Limits::default()
    }
}

/// A column that may or may not hold together.
fn column() -> impl Strategy<Value = bindings::ColumnResult> {
    let nonsense = (
        vec(any::<u8>(), 0..8),
        vec(0u32..9, 0..5),
        vec(any::<u8>(), 0..3),
    );
    let sound = (
        vec(vec(any::<u8>(), 0..3), 0..5),
        prop_oneof![Just(vec![]), Just(vec![0u8])],
    )
        .prop_map(|(values, nulls)| {
            let ends = values.iter().scan(0, |end, value| {
                *end += value.len() as u32;
                Some(*end)
            });
            (values.concat(), ends.collect(), nulls)
        });
    prop_oneof![nonsense, sound].prop_map(|(data, ends, nulls)| bindings::ColumnResult {
        data,
        ends,
        nulls,
    })
}

fn headers() -> impl Strategy<Value = bindings::HeadersResult> {
    (
        vec(prop_oneof![0u32..3, Just(u32::MAX)], 0..4),
        column(),
        column(),
    )
        .prop_map(|(counts, names, values)| bindings::HeadersResult {
            counts,
            names,
            values,
        })
}

fn index() -> impl Strategy<Value = u32> {
    prop_oneof![9 => 0u32..4, 1 => any::<u32>()]
}

fn output() -> impl Strategy<Value = bindings::Output> {
    let take = prop_oneof![
        vec(index(), 0..8),
        vec(0u32..3, 0..4).prop_map(|mut take| {
            take.sort();
            take
        })
    ];
    let columns = (
        option::of(column()),
        option::of(column()),
        option::of(headers()),
        option::of(vec(-2i64..3, 0..4)),
        option::of(vec(index(), 0..4)),
    );
    let refused = (vec(index(), 0..2), column())
        .prop_map(|(indexes, reasons)| bindings::Refusals { indexes, reasons });
    let levels = vec(Just(bindings::LogLevel::Info), 0..3);
    let logs = (levels, vec(index(), 0..3), column()).prop_map(|(levels, indexes, messages)| {
        bindings::Logs {
            levels,
            indexes,
            messages,
        }
    });
    (take, columns, refused, logs).prop_map(|(take, columns, refused, logs)| {
        let (keys, values, headers, timestamps, outputs) = columns;
        bindings::Output {
            take,
            keys,
            values,
            headers,
            timestamps,
            outputs,
            refused,
            logs,
        }
    })
}

fn batch() -> Batch {
    let mut batch = Batch::new("t".into(), 0);
    for (index, value) in [Some(&b"0123456789"[..]), None, Some(b"")]
        .into_iter()
        .enumerate()
    {
        batch.keys.push(value);
        batch.values.push(value);
        batch.headers.push_record(index, [(&b"h"[..], value)]);
        batch.timestamps.push(index as i64);
        batch.offsets.push(index as u64);
    }
    batch
}

fn empty_column() -> bindings::ColumnResult {
    bindings::ColumnResult {
        data: vec![],
        ends: vec![],
        nulls: vec![],
    }
}

fn plain(take: Vec<u32>) -> bindings::Output {
    bindings::Output {
        take,
        keys: None,
        values: None,
        headers: None,
        timestamps: None,
        outputs: None,
        refused: bindings::Refusals {
            indexes: vec![],
            reasons: empty_column(),
        },
        logs: bindings::Logs {
            levels: vec![],
            indexes: vec![],
            messages: empty_column(),
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn nonsense_is_refused_and_sense_can_be_used(output in output()) {
        let batch = batch();
        let limits = small_limits();
        if let Ok(output) = check(output, &batch, OUTPUTS, &limits) {
            // What was let through can be applied and read to its last byte, and keeps to the limits.
            let (after, take) = chain::apply(Cow::Owned(batch), output.clone());
            let after = match take {
                Some(take) => after.gather(&take),
                None => after.into_owned(),
            };
            prop_assert_eq!(after.len(), output.take.len());
            prop_assert_eq!(after.keys.len(), after.len());
            prop_assert_eq!(after.values.len(), after.len());
            prop_assert_eq!(after.timestamps.len(), after.len());
            prop_assert!(after.len() <= limits.max_output_records);
            prop_assert!(after.bytes() <= limits.max_output_bytes);
            let read = after.keys.iter().chain(after.values.iter()).flatten().map(<[u8]>::len).sum::<usize>();
            let starts = after.headers.starts(after.len());
            let all = 0..*starts.last().unwrap() as usize;
            let in_headers: usize = after.headers.range(all).map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len)).sum();
            prop_assert_eq!(read + in_headers, after.bytes());
            prop_assert!(after.outputs.iter().all(|&it| (it as usize) < OUTPUTS));
        }
    }
}

#[test]
fn each_lie_is_named() {
    let lie = |change: &dyn Fn(&mut bindings::Output)| {
        let mut output = plain(vec![0, 1, 2]);
        change(&mut output);
        check(output, &batch(), OUTPUTS, &Limits::default()).unwrap_err()
    };
    let column = |data: &[u8], ends: &[u32], nulls: &[u8]| {
        Some(bindings::ColumnResult {
            data: data.into(),
            ends: ends.into(),
            nulls: nulls.into(),
        })
    };
    assert_eq!(
        lie(&|it| it.take = vec![1, 0]),
        "take: an index is below the one before it"
    );
    assert_eq!(
        lie(&|it| it.take = vec![3]),
        "take: index 3, and the batch has 3 records"
    );
    assert_eq!(
        lie(&|it| it.keys = column(b"", &[0, 0], &[])),
        "keys: 2 values where there must be 3"
    );
    assert_eq!(
        lie(&|it| it.values = column(b"ab", &[2, 1, 2], &[])),
        "values: an end is below the one before it"
    );
    assert_eq!(
        lie(&|it| it.values = column(b"ab", &[0, 0, 1], &[])),
        "values: the last value ends at byte 1 of 2"
    );
    assert_eq!(
        lie(&|it| it.values = column(b"a", &[1, 1, 1], &[1])),
        "values: value 0 is null and has bytes"
    );
    assert_eq!(
        lie(&|it| it.values = column(b"", &[0, 0, 0], &[8])),
        "values: the null bitmap has bits set past the last value"
    );
    assert_eq!(
        lie(&|it| it.values = column(b"", &[0, 0, 0], &[0, 0])),
        "values: a null bitmap of 2 bytes where 3 values need 1"
    );
    assert_eq!(
        lie(&|it| it.timestamps = Some(vec![0, 0, -2])),
        "timestamps: -2, and Kafka's are -1 or above"
    );
    assert_eq!(
        lie(&|it| it.outputs = Some(vec![0, 1, 2])),
        "outputs: index 2, and the pipeline has 2"
    );
    assert_eq!(
        lie(&|it| it.refused = bindings::Refusals {
            indexes: vec![1],
            reasons: column(b"x", &[1], &[]).unwrap()
        }),
        "record 1 is both refused and taken"
    );
}

#[test]
fn what_a_record_takes_counts_each_time_it_is_taken() {
    let limits = Limits {
        max_output_bytes: 100,
        ..Limits::default()
    };
    // The first record has 10 bytes of key, 10 of value, and 11 and 8 of a header.
    assert!(check(plain(vec![0, 0]), &batch(), OUTPUTS, &limits).is_ok());
    let why = check(plain(vec![0, 0, 0]), &batch(), OUTPUTS, &limits).unwrap_err();
    assert_eq!(
        why,
        "117 bytes in 3 records, and `max_output_bytes` allows 100"
    );
}

#[test]
fn empty_headers_are_not_free() {
    let limits = Limits {
        max_output_bytes: 100,
        ..Limits::default()
    };
    let mut batch = Batch::new("in".into(), 0);
    let headers: [(&[u8], Option<&[u8]>); 12] = [(b"", None); 12];
    batch.keys.push(None);
    batch.values.push(None);
    batch.headers.push_record(0, headers);
    batch.timestamps.push(0);
    batch.offsets.push(0);
    assert!(check(plain(vec![0]), &batch, OUTPUTS, &limits).is_ok());
    let why = check(plain(vec![0, 0]), &batch, OUTPUTS, &limits).unwrap_err();
    assert!(why.starts_with("192 bytes in 2 records"), "{why}");
}

#[test]
fn a_guest_s_text_stays_on_its_line() {
    let check = |text, expected: &str| assert_eq!(one_line(text), expected);
    check("why ü", "why ü");
    check("at lib.rs:1:2:\nwhy", "at lib.rs:1:2: why");
    check("x\r\n\x1b[31mERROR\u{9b}\u{2028}", "x   [31mERROR  ");
    let long = "ü".repeat(MAX_TEXT);
    check(&long, &("ü".repeat(MAX_TEXT / 2) + "..."));
}
