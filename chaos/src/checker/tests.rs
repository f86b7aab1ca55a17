//! That the checker sees each way in which a run can go wrong.

use super::*;

const COUNT: u64 = 4_000;

fn ledger() -> Ledger {
    Ledger {
        seed: 5,
        poison: true,
        start: 1_000_000,
        rate: 2_000,
    }
}

/// What comes out, to be spoilt and checked.
#[derive(Clone)]
struct Record {
    entry: Entry,
    partition: i32,
    value: String,
    headers: Vec<(String, String)>,
}

fn id_of(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

/// What a run without a fault brings: outputs, and dead letters.
fn right() -> (Vec<Record>, Vec<Record>) {
    let (mut outputs, mut letters) = (Vec::new(), Vec::new());
    for number in 0..COUNT {
        let entry = ledger().entry(number);
        let own = (HEADER.to_string(), entry.key.clone());
        match entry.fate.clone() {
            Fate::Kept { before, after } => outputs.push(Record {
                partition: entry.partition,
                value: format!("{before}{}{after}", id_of(number)),
                headers: vec![own],
                entry,
            }),
            Fate::Dead(poison) => {
                let partition = entry.partition.to_string();
                let said = [
                    ("weir.reason", poison.reason),
                    ("weir.class", poison.class),
                    ("weir.pipeline", "chaos"),
                    ("weir.transform", poison.transform),
                    ("weir.module", &"ab".repeat(32)),
                    ("weir.topic", "in"),
                    ("weir.partition", &partition),
                    ("weir.offset", &number.to_string()),
                    ("weir.time", "2026-01-31T00:00:00.000Z"),
                ];
                let said = said
                    .iter()
                    .map(|(name, it)| (name.to_string(), it.to_string()));
                letters.push(Record {
                    partition: 0,
                    value: entry.value.clone(),
                    headers: [own].into_iter().chain(said).collect(),
                    entry,
                });
            }
            Fate::Dropped => {}
        }
    }
    (outputs, letters)
}

fn seen(record: &Record) -> Seen<'_> {
    let headers = record.headers.iter();
    Seen {
        partition: record.partition,
        offset: record.entry.number as i64,
        timestamp: Some(record.entry.timestamp),
        key: Some(record.entry.key.as_bytes()),
        value: Some(record.value.as_bytes()),
        headers: headers
            .map(|(name, value)| (&**name, Some(value.as_bytes())))
            .collect(),
    }
}

fn findings(outputs: &[Record], letters: &[Record]) -> Findings {
    findings_of(0..COUNT, outputs, letters)
}

/// The findings where the input holds the records of these numbers.
fn findings_of(
    numbers: impl IntoIterator<Item = u64>,
    outputs: &[Record],
    letters: &[Record],
) -> Findings {
    let mut checker = Checker::new(ledger(), COUNT, "chaos", "in");
    for number in numbers {
        let entry = ledger().entry(number);
        let record = Record {
            partition: entry.partition,
            value: entry.value.clone(),
            headers: vec![(HEADER.to_string(), entry.key.clone())],
            entry,
        };
        checker.input(&seen(&record)).unwrap();
    }
    outputs.iter().for_each(|it| checker.output(&seen(it)));
    letters.iter().for_each(|it| checker.dead(&seen(it)));
    checker.finish().unwrap()
}

/// Spoils a run, and checks that it shows in the right place.
fn check(
    spoil: impl FnOnce(&mut Vec<Record>, &mut Vec<Record>),
    expected: impl FnOnce(&mut Findings),
) {
    let (mut outputs, mut letters) = right();
    let mut good = findings(&outputs, &letters);
    assert_eq!(good.violations(true), 0, "{:?}", good.examples);
    assert!(good.expected > 1_000 && good.dead_expected > 10);
    assert_eq!(good.dead_found, good.dead_expected);
    spoil(&mut outputs, &mut letters);
    let mut bad = findings(&outputs, &letters);
    assert!(!bad.examples.is_empty(), "no example");
    bad.examples.clear();
    expected(&mut good);
    assert_eq!(bad, good);
    assert_ne!(bad.violations(true), 0);
}

#[test]
fn lost() {
    check(|it, _| drop(it.remove(7)), |it| it.lost = 1);
}

#[test]
fn duplicated() {
    check(|it, _| it.push(it[7].clone()), |it| it.duplicated = 1);
    let (mut outputs, letters) = right();
    outputs.push(outputs[7].clone());
    assert_eq!(findings(&outputs, &letters).violations(false), 0);
}

#[test]
fn what_the_brokers_have_twice_comes_out_twice() {
    let (outputs, letters) = right();
    let (out, dead) = (outputs[7].entry.number, letters[2].entry.number);
    let numbers = || (0..COUNT).chain([out, dead]);
    let once = findings_of(numbers(), &outputs, &letters);
    assert_eq!((once.input_again, once.lost), (2, 1));
    assert_eq!(once.dead_expected - once.dead_found, 1);

    let mut twin = outputs[7].clone();
    twin.value = twin.value.replace(&id_of(out), &id_of(COUNT));
    let outputs: Vec<Record> = outputs.iter().chain([&twin]).cloned().collect();
    let letters: Vec<Record> = letters.iter().chain([&letters[2]]).cloned().collect();
    let twice = findings_of(numbers(), &outputs, &letters);
    assert_eq!(twice.violations(true), 0, "{:?}", twice.examples);
    // Once more is once too often, whichever id it has.
    for record in [&outputs[7], &twin] {
        let outputs: Vec<Record> = outputs.iter().chain([record]).cloned().collect();
        let found = findings_of(numbers(), &outputs, &letters);
        assert_eq!((found.duplicated, found.wrong_ids), (1, 0));
    }
    twin.value = twin.value.replace(&id_of(COUNT), &id_of(COUNT + 1));
    let outputs: Vec<Record> = outputs.iter().chain([&twin]).cloned().collect();
    let found = findings_of(numbers(), &outputs, &letters);
    assert_eq!((found.duplicated, found.wrong_ids), (1, 1));
}

#[test]
fn reordered() {
    let spoil = |outputs: &mut Vec<Record>, _: &mut Vec<Record>| {
        let key = outputs[7].entry.key.clone();
        let next = outputs.iter().skip(8).position(|it| it.entry.key == key);
        outputs.swap(7, 8 + next.unwrap());
    };
    check(spoil, |it| it.reordered = 1);
    check(|it, _| it[1_000].partition += 1, |it| it.reordered = 1);
}

#[test]
fn wrong() {
    let wrong_and_lost = |it: &mut Findings| (it.wrong, it.lost) = (1, 1);
    let spoil = |it: &mut Record, from: &str, to: &str| {
        assert!(it.value.contains(from));
        it.value = it.value.replacen(from, to, 1);
    };
    check(
        |it, _| spoil(&mut it[7], "event_time", "timestamp"),
        wrong_and_lost,
    );
    check(|it, _| spoil(&mut it[7], "2021", "2022"), wrong_and_lost);
}

#[test]
fn bytes_of_an_output() {
    let wrong_and_lost = |it: &mut Findings| (it.wrong, it.lost) = (1, 1);
    check(|it, _| it[7].value.push(' '), wrong_and_lost);
    check(|it, _| it[7].entry.timestamp += 1, wrong_and_lost);
    check(|it, _| it[7].headers.clear(), wrong_and_lost);
    check(|it, _| it[7].entry.key.push('x'), wrong_and_lost);
}

#[test]
fn what_had_not_to_come_out() {
    let spoil = |outputs: &mut Vec<Record>, letters: &mut Vec<Record>| {
        let mut record = letters[0].clone();
        record.headers.truncate(1);
        outputs.push(record);
    };
    check(spoil, |it| it.wrong = 1);
}

#[test]
fn ids() {
    let another = |number| id_of(number).replace("-8", "-9");
    let replace =
        |it: &mut Record, id: &str| it.value = it.value.replace(&id_of(it.entry.number), id);
    check(
        |it, _| {
            let mut again = it[7].clone();
            let id = another(again.entry.number);
            replace(&mut again, &id);
            it.push(again);
        },
        |it| (it.duplicated, it.wrong_ids) = (1, 1),
    );
    assert_eq!(uuid_v4(&another(7).to_uppercase()), uuid_v4(&another(7)));
    assert_eq!(uuid_v4(&another(10).to_uppercase()), None);
    assert_eq!(uuid_v4(&another(7).replace("-4", "-7")), None);
    assert_eq!(uuid_v4(&another(7)[1..]), None);
}

#[test]
fn dead_letters() {
    check(|_, it| drop(it.remove(0)), |it| it.dead_found -= 1);
    check(|_, it| it.push(it[0].clone()), |it| it.dead_duplicated = 1);
    let wrong = |it: &mut Findings| (it.dead_wrong, it.dead_found) = (1, it.dead_found - 1);
    check(|_, it| it[0].value.push(' '), wrong);
    check(|_, it| it[0].headers[2].1 = "output".to_string(), wrong);
    check(|_, it| it[0].headers[8].1 = "0".to_string(), wrong);
    check(|_, it| drop(it[0].headers.remove(0)), wrong);
    check(
        |outputs, letters| {
            let mut record = letters[0].clone();
            record.value = outputs[0].entry.value.clone();
            record.entry = outputs[0].entry.clone();
            letters.push(record);
        },
        |it| it.dead_wrong = 1,
    );
}

#[test]
fn an_input_that_is_not_the_ledger_s_is_no_ground_to_judge_on() {
    let entry = ledger().entry(0);
    let mut record = Record {
        partition: entry.partition,
        value: entry.value.clone(),
        headers: vec![(HEADER.to_string(), entry.key.clone())],
        entry,
    };
    let mut checker = Checker::new(ledger(), 2, "chaos", "in");
    checker.input(&seen(&record)).unwrap();
    assert!(checker.finish().is_err(), "missing");
    record.value.push(' ');
    let mut checker = Checker::new(ledger(), 1, "chaos", "in");
    assert!(checker.input(&seen(&record)).is_err(), "other bytes");
}

#[test]
fn two_records_with_one_id() {
    check(
        |outputs, _| {
            let id = id_of(outputs[0].entry.number);
            let other = id_of(outputs[1].entry.number);
            outputs[1].value = outputs[1].value.replace(&other, &id);
        },
        |it| it.wrong_ids += 1,
    );
}

#[test]
fn a_dead_letter_for_another_reason() {
    check(
        |_, letters| letters[0].headers[1].1 = "why".to_string(),
        |it| {
            it.dead_wrong += 1;
            it.dead_found -= 1;
        },
    );
}
