//! Whatever a guest returns, the host neither panics nor lets nonsense through.

use std::borrow::Cow;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::chain;

const ALLOWANCE: Allowance = Allowance {
    lines: 2,
    news: true,
};

const OUTPUTS: usize = 2;

fn small_limits() -> Limits {
    Limits {
        max_output_bytes: 60,
        max_output_records: 6,
        max_bytes_per_input: 40,
        max_records_per_input: 3,
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

/// An output as it should be, of 3 records.
fn sound() -> impl Strategy<Value = bindings::Output> {
    let text = || option::weighted(0.8, vec(any::<u8>(), 0..4));
    let record = (
        (text(), text()),
        vec((vec(any::<u8>(), 0..3), text()), 0..3),
        -1i64..3,
        prop_oneof![Just(UNCHOSEN), 0..OUTPUTS as u32],
    );
    let records = vec(vec(record, 0..3), 3);
    let which = (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    );
    let logs = vec((0u32..3, "[a-z]{0,3}"), 0..4);
    (records, which, logs).prop_map(|(records, which, logs)| {
        let taken = (0u32..).zip(&records);
        let taken: Vec<_> = taken
            .flat_map(|(index, them)| them.iter().map(move |it| (index, it)))
            .collect();
        let column = |values: Vec<Option<&[u8]>>| of_column(&values.into_iter().collect());
        let headers: Vec<_> = taken.iter().flat_map(|(_, it)| &it.1).collect();
        let reasons = records.iter().filter(|it| it.is_empty());
        bindings::Output {
            take: taken.iter().map(|it| it.0).collect(),
            keys: which
                .0
                .then(|| column(taken.iter().map(|it| it.1.0.0.as_deref()).collect())),
            values: which
                .1
                .then(|| column(taken.iter().map(|it| it.1.0.1.as_deref()).collect())),
            headers: which.2.then(|| bindings::HeadersResult {
                counts: taken.iter().map(|it| it.1.1.len() as u32).collect(),
                names: column(headers.iter().map(|it| Some(&it.0[..])).collect()),
                values: column(headers.iter().map(|it| it.1.as_deref()).collect()),
            }),
            timestamps: which.3.then(|| taken.iter().map(|it| it.1.2).collect()),
            outputs: which.4.then(|| taken.iter().map(|it| it.1.3).collect()),
            refused: bindings::Refusals {
                indexes: (0..3)
                    .filter(|&it| records[it as usize].is_empty())
                    .collect(),
                reasons: column(reasons.map(|_| Some(&b"why"[..])).collect()),
            },
            logs: bindings::Logs {
                levels: logs.iter().map(|_| bindings::LogLevel::Warn).collect(),
                indexes: logs.iter().map(|it| it.0).collect(),
                messages: column(logs.iter().map(|it| Some(it.1.as_bytes())).collect()),
            },
        }
    })
}

fn of_column(it: &Column) -> bindings::ColumnResult {
    bindings::ColumnResult {
        data: it.data.clone(),
        ends: it.ends.clone(),
        nulls: it.nulls.clone(),
    }
}

/// A change to one of an output's lists: which, where, how, and to what.
type Change = (usize, usize, u8, u32);

/// An output that's as it should be, or almost.
fn nearly_sound() -> impl Strategy<Value = bindings::Output> {
    let by = prop_oneof![3 => 0u32..5, 1 => any::<u32>()];
    let change = (0usize..20, 0usize..6, any::<u8>(), by);
    (sound(), vec(change, 0..3)).prop_map(|(mut output, changes)| {
        for it in changes {
            change_one(&mut output, it);
        }
        output
    })
}

fn change_one(output: &mut bindings::Output, (list, at, how, to): Change) {
    let mut numbers: Vec<&mut Vec<u32>> = vec![&mut output.take];
    let mut bytes: Vec<&mut Vec<u8>> = Vec::new();
    let mut columns = vec![&mut output.refused.reasons, &mut output.logs.messages];
    columns.extend(output.keys.iter_mut().chain(output.values.iter_mut()));
    if let Some(it) = &mut output.headers {
        numbers.push(&mut it.counts);
        columns.extend([&mut it.names, &mut it.values]);
    }
    for it in columns {
        numbers.push(&mut it.ends);
        bytes.extend([&mut it.data, &mut it.nulls]);
    }
    numbers.extend([&mut output.refused.indexes, &mut output.logs.indexes]);
    numbers.extend(output.outputs.as_mut());
    let list = list % (numbers.len() + bytes.len());
    match list.checked_sub(numbers.len()) {
        None => alter(numbers[list], at, how, to),
        Some(list) => alter(bytes[list], at, how, to as u8),
    }
}

fn alter<T: Copy>(list: &mut Vec<T>, at: usize, how: u8, to: T) {
    let at = at % (list.len() + 1);
    match (how % 4, list.get_mut(at)) {
        (0, _) => list.push(to),
        (1, _) => drop(list.pop()),
        (2, Some(_)) => drop(list.remove(at)),
        (_, Some(it)) => *it = to,
        (_, None) => list.push(to),
    }
}

/// Checks an output, and uses what was let through to its last byte. Whether it was let through.
fn try_out(output: bindings::Output, limits: &Limits) -> Result<bool, TestCaseError> {
    let before = batch();
    let Ok(output) = check(output, &before, OUTPUTS, limits, &ALLOWANCE) else {
        return Ok(false);
    };
    let (after, take) = chain::apply(Cow::Borrowed(&before), output.clone());
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
    prop_assert!(after.outputs.iter().all(|&it| (it as usize) < OUTPUTS));
    let starts = after.headers.starts(after.len());
    let before_starts = before.headers.starts(before.len());
    let mut read = 0;
    for at in 0..after.len() {
        let from = output.take[at] as usize;
        prop_assert_eq!(after.offsets[at], before.offsets[from]);
        let same = |new: &Option<Column>, old: &Column, it: &Column| match new {
            Some(new) => new.get(at) == it.get(at),
            None => old.get(from) == it.get(at),
        };
        prop_assert!(same(&output.keys, &before.keys, &after.keys));
        prop_assert!(same(&output.values, &before.values, &after.values));
        let headers: Vec<_> = after
            .headers
            .range(starts[at] as usize..starts[at + 1] as usize)
            .collect();
        if output.headers.is_none() {
            let range = before_starts[from] as usize..before_starts[from + 1] as usize;
            prop_assert!(before.headers.range(range).eq(headers.iter().copied()));
        }
        let length = |it: Option<&[u8]>| it.map_or(0, <[u8]>::len);
        read += length(after.keys.get(at)) + length(after.values.get(at));
        read += headers
            .iter()
            .map(|it| it.0.len() + length(it.1))
            .sum::<usize>();
    }
    prop_assert_eq!(read, after.bytes());
    for offset in 0..before.len() as u64 {
        let records: Vec<usize> = (0..after.len())
            .filter(|&at| after.offsets[at] == offset)
            .collect();
        prop_assert!(records.len() <= limits.max_records_per_input);
        let numbers = records
            .iter()
            .map(|&at| after.ordinals.get(at).copied().unwrap_or(0));
        prop_assert!(numbers.eq(0..records.len() as u32));
        let bytes: usize = records
            .iter()
            .map(|&at| after.gather(&[at as u32]).bytes())
            .sum();
        prop_assert!(bytes <= limits.max_bytes_per_input);
    }
    prop_assert!(output.logs.len() <= ALLOWANCE.lines + 1);
    prop_assert!(
        output
            .logs
            .iter()
            .all(|it| (it.index as usize) < before.len())
    );
    prop_assert!(output.refused.iter().all(|it| !output.take.contains(&it.0)));
    Ok(true)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn nonsense_is_refused_and_sense_can_be_used(output in output()) {
        try_out(output, &small_limits())?;
    }

    #[test]
    fn what_is_nearly_sense_is_refused_or_can_be_used(output in nearly_sound()) {
        try_out(output.clone(), &small_limits())?;
        try_out(output, &Limits::default())?;
    }

    #[test]
    fn sense_is_let_through(output in sound()) {
        prop_assert!(try_out(output, &Limits::default())?);
    }
}

#[test]
fn each_lie_is_named() {
    let lie = |change: &dyn Fn(&mut bindings::Output)| {
        let mut output = plain(vec![0, 1, 2]);
        change(&mut output);
        match check(output, &batch(), OUTPUTS, &Limits::default(), &ALLOWANCE) {
            Err(Fault::Output(why)) => why,
            other => panic!("{other:?}"),
        }
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

#[track_caller]
fn is_past(limit: Limit, text: &str, limits: Limits, batch: &Batch, take: &[u32]) {
    let result = check(plain(take.to_vec()), batch, OUTPUTS, &limits, &ALLOWANCE);
    assert_eq!(result, Err(Fault::Limit(limit, text.into())));
}

#[track_caller]
fn is_within(limits: Limits, batch: &Batch, take: &[u32]) {
    let result = check(plain(take.to_vec()), batch, OUTPUTS, &limits, &ALLOWANCE);
    assert!(result.is_ok(), "{result:?}");
}

#[test]
fn what_a_record_takes_counts_each_time_it_is_taken() {
    let limits = Limits {
        max_output_bytes: 100,
        ..Limits::default()
    };
    // The first record has 10 bytes of key, 10 of value, and 11 and 8 of a header.
    is_within(limits, &batch(), &[0, 0]);
    is_past(
        Limit::OutputBytes,
        "it returned 117 bytes in 3 records, and `max_output_bytes` allows 100; raise it if the transform needs that",
        limits,
        &batch(),
        &[0, 0, 0],
    );
}

#[test]
fn what_comes_of_one_offset_counts_together() {
    let limits = Limits {
        max_records_per_input: 3,
        max_bytes_per_input: 100,
        ..Limits::default()
    };
    is_within(limits, &batch(), &[0, 0, 1, 1, 1, 2, 2, 2]);
    is_past(
        Limit::RecordsPerInput,
        "it returned 4 records of the one at offset 1, and `max_records_per_input` allows 3; raise it if the transform needs that",
        limits,
        &batch(),
        &[0, 1, 1, 1, 1, 2],
    );
    is_past(
        Limit::BytesPerInput,
        "it returned 117 bytes in 3 records of the one at offset 0, and `max_bytes_per_input` allows 100; raise it if the transform needs that",
        limits,
        &batch(),
        &[0, 0, 0, 1],
    );
    // An earlier step made all three of one record.
    let mut siblings = batch();
    siblings.offsets = vec![7, 7, 7];
    siblings.ordinals = vec![0, 1, 2];
    is_within(limits, &siblings, &[0, 1, 2]);
    is_past(
        Limit::RecordsPerInput,
        "it returned 4 records of the one at offset 7, and `max_records_per_input` allows 3; raise it if the transform needs that",
        limits,
        &siblings,
        &[0, 1, 2, 2],
    );
}

#[test]
fn new_columns_count_for_the_record_that_they_belong_to() {
    let limits = Limits {
        max_bytes_per_input: 30,
        ..Limits::default()
    };
    let mut output = plain(vec![0, 1, 1, 2]);
    let values: Column = [&b""[..], &[b'x'; 10], &[b'x'; 10], &[b'x'; 20]]
        .map(Some)
        .into_iter()
        .collect();
    output.keys = Some(of_column(&Column::from_iter([None; 4])));
    output.values = Some(of_column(&values));
    let names: Column = [&b"h"[..]; 4].map(Some).into_iter().collect();
    output.headers = Some(bindings::HeadersResult {
        counts: vec![0, 2, 2, 0],
        names: of_column(&names),
        values: of_column(&Column::from_iter([None; 4])),
    });
    match check(output, &batch(), OUTPUTS, &limits, &ALLOWANCE) {
        Err(Fault::Limit(Limit::BytesPerInput, why)) => {
            assert!(
                why.starts_with("it returned 56 bytes in 2 records of the one at offset 1,"),
                "{why}"
            )
        }
        other => panic!("{other:?}"),
    }
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
    is_within(limits, &batch, &[0]);
    is_past(
        Limit::OutputBytes,
        "it returned 192 bytes in 2 records, and `max_output_bytes` allows 100; raise it if the transform needs that",
        limits,
        &batch,
        &[0, 0],
    );
}

#[test]
fn lines_past_the_allowance_are_counted() {
    let lines = |count: usize, allowance: Allowance| {
        let mut output = plain(vec![0]);
        let texts: Column = vec![Some(&b"line"[..]); count].into_iter().collect();
        output.logs = bindings::Logs {
            levels: vec![bindings::LogLevel::Info; count],
            indexes: vec![0; count],
            messages: of_column(&texts),
        };
        let output = check(output, &batch(), OUTPUTS, &Limits::default(), &allowance).unwrap();
        let last = output.logs.last().map(|it| it.level);
        (output.logs.len(), last, output.log_lines_dropped)
    };
    let allowance = |lines, news| Allowance { lines, news };
    assert_eq!(lines(2, allowance(2, false)), (2, Some(Level::Info), 0));
    assert_eq!(lines(5, allowance(2, true)), (3, Some(Level::Warn), 3));
    assert_eq!(lines(5, allowance(2, false)), (2, Some(Level::Info), 3));
    assert_eq!(lines(5, allowance(0, false)), (0, None, 5));
}
