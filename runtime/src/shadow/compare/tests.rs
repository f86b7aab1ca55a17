//! Planted differences of each kind, and the comparison held to what the chain makes of the same outputs.

use std::borrow::Cow;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::chain::apply;
use crate::record::Column;

/// Three records: `{"a":0}` without a key and headers, `{"a":1}` with key `k` and a header, and null.
fn batch() -> Batch {
    let mut batch = Batch::new("in".into(), 3);
    batch.keys = [None, Some(&b"k"[..]), None].into_iter().collect();
    let values = [Some(&br#"{"a":0}"#[..]), Some(br#"{"a":1}"#), None];
    batch.values = values.into_iter().collect();
    batch.headers.push_record(0, []);
    batch.headers.push_record(1, [(&b"h"[..], Some(&b"1"[..]))]);
    batch.headers.push_record(2, []);
    batch.timestamps = vec![10, 11, 12];
    batch.offsets = vec![100, 101, 102];
    batch
}

/// All three records are kept as they are.
fn kept() -> Output {
    Output {
        take: vec![0, 1, 2],
        ..Output::default()
    }
}

fn column<'a>(values: impl IntoIterator<Item = Option<&'a str>>) -> Option<Column> {
    let values = values.into_iter().map(|it| it.map(str::as_bytes));
    Some(values.collect())
}

fn whole(made: Result<Output, Fault>) -> Vec<Part> {
    let range = 0..3;
    vec![Part { range, made }]
}

fn outputs() -> Vec<String> {
    ["default", "other"].map(String::from).into()
}

fn compared(active: Output, tried: Output) -> Comparison {
    compare(
        &batch(),
        &outputs(),
        &whole(Ok(active)),
        &whole(Ok(tried)),
        20,
    )
}

/// Exactly one record is different, and in one way.
#[track_caller]
fn differs(tried: Output, offset: u64, kind: Kind) -> Differs {
    differs_from(kept(), tried, offset, kind)
}

#[track_caller]
fn differs_from(active: Output, tried: Output, offset: u64, kind: Kind) -> Differs {
    let Comparison {
        mut counts,
        differences,
    } = compared(active, tried);
    assert_eq!((counts.records, counts.equal, counts.different), (3, 2, 1));
    assert_eq!(*counts.kinds.of(kind), 1);
    *counts.kinds.of(kind) = 0;
    assert_eq!(counts.kinds, Kinds::default());
    assert_eq!(differences.len(), 1);
    let mut difference = differences.into_iter().next().unwrap();
    assert_eq!(
        (
            &difference.topic[..],
            difference.partition,
            difference.offset
        ),
        ("in", 3, offset)
    );
    assert_eq!((difference.differs.len(), difference.left_out), (1, 0));
    let differs = difference.differs.remove(0);
    assert_eq!(differs.kind, kind);
    differs
}

/// Its path, both sides, and the note.
type Told<'a> = [Option<&'a str>; 4];

fn told(it: &Differs) -> Told<'_> {
    [&it.path, &it.active, &it.tried, &it.note].map(Option::as_deref)
}

fn values<'a>(first: Option<&'a str>, last: Option<&'a str>) -> Output {
    Output {
        values: column([first, Some(r#"{"a":1}"#), last]),
        ..kept()
    }
}

#[test]
fn a_value_is_told_field_by_field() {
    let it = differs(values(Some(r#"{"a":2}"#), None), 100, Kind::Value);
    assert_eq!(told(&it), [Some("a"), Some("0"), Some("2"), None]);
    assert_eq!(it.record, None);
    let it = differs(values(Some(r#"{"a":0,"b":[]}"#), None), 100, Kind::Value);
    assert_eq!(told(&it), [Some("b"), None, Some("[]"), None]);
}

#[test]
fn a_value_of_the_same_fields_is_told_as_formatting() {
    let (active, tried) = (r#"{"a":0}"#, r#"{"a": 0}"#);
    let it = differs(values(Some(tried), None), 100, Kind::Value);
    let note = "only the formatting differs";
    assert_eq!(told(&it), [Some(""), Some(active), Some(tried), Some(note)]);
}

#[test]
fn a_value_that_is_no_json_is_told_as_bytes() {
    let it = differs(values(Some(r#"{"a":0"#), None), 100, Kind::Value);
    let note = "different from byte 6 on";
    let expected = [None, Some(r#"{"a":0}"#), Some(r#"{"a":0"#), Some(note)];
    assert_eq!(told(&it), expected);
}

#[test]
fn null_is_neither_empty_nor_the_word() {
    let it = differs(values(None, None), 100, Kind::Value);
    let note = "null by the tried version";
    assert_eq!(told(&it), [None, Some(r#"{"a":0}"#), None, Some(note)]);
    for tried in ["", "null"] {
        let it = differs(values(Some(r#"{"a":0}"#), Some(tried)), 102, Kind::Value);
        let note = "null by the active version";
        assert_eq!(told(&it), [None, None, Some(tried), Some(note)]);
    }
}

#[test]
fn many_fields_are_cut_and_counted() {
    let fields: Vec<String> = (0..30).map(|it| format!("\"{it}\":1")).collect();
    let many = format!("{{{}}}", fields.join(","));
    let comparison = compared(kept(), values(Some(&many), None));
    // `a` is gone, and 30 fields are new.
    let difference = &comparison.differences[0];
    assert_eq!((difference.differs.len(), difference.left_out), (10, 21));
}

#[test]
fn a_key_is_told_as_bytes() {
    let keys = Output {
        keys: column([None, Some("l\0"), None]),
        ..kept()
    };
    let it = differs(keys, 101, Kind::Key);
    let note = "different from byte 0 on";
    assert_eq!(told(&it), [None, Some("k"), Some("l\\0"), Some(note)]);
}

#[test]
fn headers_are_told_from_the_first_different_one_on() {
    let with = |headers: &[(&'static [u8], Option<&'static [u8]>)]| {
        let mut new = Headers::default();
        new.push_record(0, []);
        new.push_record(1, headers.iter().copied());
        new.push_record(2, []);
        Output {
            headers: Some(new),
            ..kept()
        }
    };
    let check = |headers: &[(&'static [u8], Option<&'static [u8]>)], expected: Told<'_>| {
        let it = differs(with(headers), 101, Kind::Headers);
        assert_eq!(told(&it), expected);
    };
    let (first, second) = (
        Some("different from header 1 on"),
        Some("different from header 2 on"),
    );
    check(&[], [None, Some("h: 1"), None, first]);
    check(
        &[(b"h", None)],
        [None, Some("h: 1"), Some("h is null"), first],
    );
    check(
        &[(b"h", Some(b"1")), (b"", Some(b""))],
        [None, None, Some(": "), second],
    );
    let same = compared(kept(), with(&[(b"h", Some(b"1"))]));
    assert_eq!(same.counts.equal, 3, "headers made anew are the same ones");
}

#[test]
fn a_timestamp_is_told_as_a_number() {
    let timestamps = Output {
        timestamps: Some(vec![10, 11, -1]),
        ..kept()
    };
    let it = differs(timestamps, 102, Kind::Timestamp);
    assert_eq!(told(&it), [None, Some("12"), Some("-1"), None]);
}

#[test]
fn an_output_is_told_by_its_name() {
    let chosen = |outputs: [u32; 3]| Output {
        outputs: Some(outputs.into()),
        ..kept()
    };
    let it = differs(chosen([UNCHOSEN, 0, 1]), 102, Kind::Output);
    assert_eq!(told(&it), [None, Some("default"), Some("other"), None]);
    // Where records went before counts.
    let mut batch = batch();
    batch.outputs = vec![1, 1, 1];
    let (active, tried) = (whole(Ok(chosen([UNCHOSEN, 1, 0]))), whole(Ok(kept())));
    let comparison = compare(&batch, &outputs(), &active, &tried, 20);
    assert_eq!(comparison.counts.equal, 2);
    assert_eq!(comparison.differences[0].offset, 102);
}

#[test]
fn what_becomes_of_a_record_is_told_in_words() {
    let dropped = || Output {
        take: vec![0, 2],
        ..Output::default()
    };
    let refused = |why: &str| Output {
        refused: vec![(1, why.into())],
        ..dropped()
    };
    let twice = || Output {
        take: vec![0, 1, 1, 2],
        ..Output::default()
    };
    let check = |active: Output, tried: Output, kind: Kind, words: (&str, &str)| {
        let it = differs_from(active, tried, 101, kind);
        assert_eq!(told(&it), [None, Some(words.0), Some(words.1), None]);
    };
    let kinds = (Kind::KeptOrDropped, Kind::Refused, Kind::NumberOfRecords);
    check(kept(), dropped(), kinds.0, ("kept", "dropped"));
    check(
        dropped(),
        twice(),
        kinds.0,
        ("dropped", "kept as 2 records"),
    );
    check(kept(), refused("no"), kinds.1, ("kept", "refused: no"));
    check(
        refused("no"),
        dropped(),
        kinds.1,
        ("refused: no", "dropped"),
    );
    let words = ("refused: no", "refused: never");
    check(refused("no"), refused("never"), kinds.1, words);
    check(kept(), twice(), kinds.2, ("kept", "kept as 2 records"));
    let long = "ü".repeat(300);
    let it = differs_from(kept(), refused(&long), 101, kinds.1);
    assert_eq!(it.tried.unwrap().chars().count(), 203);
    let counts = compared(refused("no"), refused("no")).counts;
    assert_eq!(
        (
            counts.equal,
            counts.refused_by_active,
            counts.refused_by_tried
        ),
        (3, 1, 1)
    );
}

#[test]
fn one_of_several_records_is_told_by_its_number() {
    let twice = |second| Output {
        take: vec![0, 1, 1, 2],
        values: column([None, Some("x"), Some(second), None]),
        ..Output::default()
    };
    let it = differs_from(twice("x"), twice("y"), 101, Kind::Value);
    assert_eq!(it.record, Some(1));
}

#[test]
fn a_record_may_be_different_in_several_ways_and_counts_once() {
    let tried = Output {
        keys: column([Some("x"), Some("k"), None]),
        timestamps: Some(vec![0, 11, 12]),
        ..kept()
    };
    let Comparison {
        counts,
        differences,
    } = compared(kept(), tried);
    assert_eq!((counts.different, counts.equal), (1, 2));
    assert_eq!((counts.kinds.key, counts.kinds.timestamp), (1, 1));
    let kinds: Vec<Kind> = differences[0].differs.iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [Kind::Key, Kind::Timestamp]);
}

fn trap() -> Fault {
    Fault::Trap("unreachable".into())
}

fn alone(range: Range<usize>, made: Result<Output, Fault>) -> Part {
    Part { range, made }
}

fn one() -> Output {
    Output {
        take: vec![0],
        ..Output::default()
    }
}

#[test]
fn records_that_a_version_breaks_on_alone_are_told() {
    let tried = [
        alone(0..1, Ok(one())),
        alone(1..2, Err(trap())),
        alone(2..3, Ok(one())),
    ];
    let comparison = compare(&batch(), &outputs(), &whole(Ok(kept())), &tried, 20);
    let counts = comparison.counts;
    assert_eq!((counts.equal, counts.kinds.broken), (2, 1));
    assert_eq!((counts.broken_by_active, counts.broken_by_tried), (0, 1));
    let difference = &comparison.differences[0];
    assert_eq!(difference.offset, 101);
    let words = "broken: it trapped: unreachable";
    let expected = [None, Some("kept"), Some(words), None];
    assert_eq!(told(&difference.differs[0]), expected);

    let both = compare(&batch(), &outputs(), &tried, &tried, 20);
    assert_eq!(both.counts.equal, 3, "they break in the same way");
    assert_eq!(both.counts.broken_by_active, 1);
    let other = [alone(0..2, Err(trap())), alone(2..3, Ok(one()))];
    let siblings = compare(&batch(), &outputs(), &tried, &other, 20);
    assert_eq!(siblings.differences.len(), 1);
    assert_eq!(siblings.differences[0].offset, 100);
    let fault = Fault::Error("why".into());
    let other = compare(
        &batch(),
        &outputs(),
        &whole(Err(trap())),
        &whole(Err(fault)),
        20,
    );
    assert_eq!(other.counts.kinds.broken, 3, "they break in different ways");
}

#[test]
fn what_only_one_side_knows_is_not_compared() {
    let tried = [alone(0..1, Ok(one()))];
    let comparison = compare(&batch(), &outputs(), &whole(Ok(kept())), &tried, 20);
    assert_eq!((comparison.counts.records, comparison.counts.equal), (1, 1));
    let nothing = compare(&batch(), &outputs(), &[], &whole(Ok(kept())), 20);
    assert_eq!(nothing.counts, Counts::default());
}

#[test]
fn no_more_differences_are_told_than_there_is_room_for() {
    let none = || Output::default();
    let told = |room| {
        let (active, tried) = (whole(Ok(kept())), whole(Ok(none())));
        compare(&batch(), &outputs(), &active, &tried, room)
    };
    assert_eq!(told(2).differences.len(), 2);
    assert!(told(0).differences.is_empty());
    assert_eq!(told(0).counts.different, 3, "all are counted");
}

/// What becomes of one record: how many come of it, or a reason.
#[derive(Clone, Debug)]
enum Fate {
    Taken(usize),
    Refused(String),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => Just(Fate::Taken(1)),
        1 => (0usize..3).prop_map(Fate::Taken),
        1 => "[ab]".prop_map(Fate::Refused),
    ]
}

fn bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    option::weighted(0.8, vec(prop_oneof![Just(b'a'), any::<u8>()], 0..3))
}

type Lines = Vec<Vec<(Vec<u8>, Option<Vec<u8>>)>>;

fn columns(rows: usize) -> impl Strategy<Value = (Column, Column, Lines)> {
    let column = || {
        vec(bytes(), rows).prop_map(|them| them.iter().map(Option::as_deref).collect::<Column>())
    };
    let headers = vec(vec((vec(any::<u8>(), 0..2), bytes()), 0..2), rows);
    (column(), column(), headers)
}

fn lines(lines: &Lines) -> Headers {
    let mut headers = Headers::default();
    for (index, line) in lines.iter().enumerate() {
        let pairs = line.iter().map(|it| (&it.0[..], it.1.as_deref()));
        headers.push_record(index, pairs);
    }
    headers
}

const RECORDS: usize = 9;

fn any_batch() -> impl Strategy<Value = Batch> {
    let choices = option::of(vec(0u32..2, RECORDS));
    (columns(RECORDS), choices).prop_map(|((keys, values, headers), choices)| {
        let mut batch = Batch::new("in".into(), 0);
        batch.keys = keys;
        batch.values = values;
        batch.headers = lines(&headers);
        batch.timestamps = (0..RECORDS as i64).collect();
        batch.offsets = (0..RECORDS as u64).collect();
        batch.outputs = choices.unwrap_or_default();
        batch
    })
}

fn any_output() -> impl Strategy<Value = Output> {
    let which = any::<[bool; 5]>();
    (vec(fate(), RECORDS), which).prop_flat_map(|(fates, which)| {
        let mut take = Vec::new();
        let mut refused = Vec::new();
        for (index, fate) in (0u32..).zip(fates) {
            match fate {
                Fate::Taken(count) => take.extend(repeat_n(index, count)),
                Fate::Refused(reason) => refused.push((index, reason)),
            }
        }
        let rows = take.len();
        let choice = prop_oneof![0u32..2, Just(UNCHOSEN)];
        let numbers = (vec(-1i64..10, rows), vec(choice, rows));
        (columns(rows), numbers).prop_map(move |((keys, values, headers), numbers)| Output {
            take: take.clone(),
            keys: which[0].then_some(keys),
            values: which[1].then_some(values),
            headers: which[2].then(|| lines(&headers)),
            timestamps: which[3].then_some(numbers.0),
            outputs: which[4].then_some(numbers.1),
            refused: refused.clone(),
            ..Output::default()
        })
    })
}

/// What the chain makes of an output, by input record: all that comes of it, as text, or why it's refused.
fn model(batch: &Batch, output: &Output) -> Vec<String> {
    let (after, take) = apply(Cow::Borrowed(batch), output.clone());
    let after = match take {
        Some(take) => after.gather(&take),
        None => after.into_owned(),
    };
    let starts = after.headers.starts(after.len());
    let mut shown = vec![String::new(); batch.len()];
    for row in 0..after.len() {
        let headers: Vec<_> = after
            .headers
            .range(starts[row] as usize..starts[row + 1] as usize)
            .collect();
        shown[after.offsets[row] as usize] += &format!(
            "{:?} {:?} {headers:?} {} {};",
            after.keys.get(row),
            after.values.get(row),
            after.timestamps[row],
            after.outputs.get(row).copied().unwrap_or(0),
        );
    }
    for (index, reason) in &output.refused {
        shown[*index as usize] = format!("refused: {reason}");
    }
    shown
}

/// An output as what each record would be given alone.
fn in_parts(output: &Output) -> Vec<Part> {
    let part = |index: usize| {
        let of = |it: u32| it as usize == index;
        let rows: Vec<u32> = (0..output.take.len() as u32)
            .filter(|&row| of(output.take[row as usize]))
            .collect();
        let column = |it: &Option<Column>| it.as_ref().map(|it| it.gather(&rows));
        let pick = |row: &u32| *row as usize;
        let made = Output {
            take: vec![0; rows.len()],
            keys: column(&output.keys),
            values: column(&output.values),
            headers: output
                .headers
                .as_ref()
                .map(|it| it.gather(&rows, output.take.len())),
            timestamps: output
                .timestamps
                .as_ref()
                .map(|it| rows.iter().map(|row| it[pick(row)]).collect()),
            outputs: output
                .outputs
                .as_ref()
                .map(|it| rows.iter().map(|row| it[pick(row)]).collect()),
            refused: output
                .refused
                .iter()
                .filter(|it| of(it.0))
                .map(|it| (0, it.1.clone()))
                .collect(),
            ..Output::default()
        };
        alone(index..index + 1, Ok(made))
    };
    (0..RECORDS).map(part).collect()
}

fn all(output: &Output) -> Vec<Part> {
    vec![alone(0..RECORDS, Ok(output.clone()))]
}

proptest! {
    #[test]
    fn an_output_is_no_different_from_itself(batch in any_batch(), output in any_output()) {
        let same = compare(&batch, &outputs(), &all(&output), &all(&output), 20);
        prop_assert_eq!(same.counts.equal, RECORDS as u64);
        prop_assert_eq!(same.counts.kinds, Kinds::default());
        prop_assert_eq!(same.differences, []);
        let in_parts = compare(&batch, &outputs(), &all(&output), &in_parts(&output), 20);
        prop_assert_eq!(in_parts.counts.equal, RECORDS as u64);
    }

    #[test]
    fn what_differs_is_what_the_chain_makes_different(
        batch in any_batch(),
        active in any_output(),
        tried in any_output(),
    ) {
        let comparison = compare(&batch, &outputs(), &all(&active), &all(&tried), 20);
        let models = zip(model(&batch, &active), model(&batch, &tried));
        let expected: Vec<u64> = zip(0.., models)
            .filter(|(_, (active, tried))| active != tried)
            .map(|(offset, _)| offset)
            .collect();
        let found: Vec<u64> = comparison.differences.iter().map(|it| it.offset).collect();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(comparison.counts.different, comparison.differences.len() as u64);
        prop_assert!(comparison.differences.iter().all(|it| !it.differs.is_empty()));
    }
}
