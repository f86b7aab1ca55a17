use std::collections::HashMap;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::*;

const START: i64 = 1_634_221_557_011;

/// An owned copy of a record.
type Record = (Vec<u8>, Option<Vec<u8>>, i64, Option<Fault>);

fn records(generator: &mut Generator, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    for _ in 0..count {
        let record = generator.next_record();
        let value = record.value.map(<[u8]>::to_vec);
        records.push((record.key.to_vec(), value, record.timestamp, record.fault));
    }
    records
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|error| panic!("{error}: {}", bytes.escape_ascii()))
}

fn names(object: &Value) -> Vec<&str> {
    object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_one_others() {
    for subject in Subject::ALL {
        let make = |seed| records(&mut Generator::new(subject, seed, START), 500);
        assert_eq!(make(7), make(7), "{subject}");
        assert_ne!(make(7), make(8), "{subject}");
    }
}

/// The digest of the first thousand records of a seed: what others compare runs by.
#[test]
fn a_seed_gives_these_bytes_on_every_machine() {
    let check = |subject, expected: &str| {
        let mut hash = Sha256::new();
        for (key, value, timestamp, _) in records(&mut Generator::new(subject, 42, START), 1_000) {
            hash.update(format!(
                "{} {} {timestamp}\n",
                key.escape_ascii(),
                value.unwrap().escape_ascii()
            ));
        }
        let digest: String = hash.finalize()[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(digest, expected, "{subject}");
    };
    check(Subject::RealStock, "dffb518d87738eb8");
    check(Subject::Pizza, "aa5749fba274bbb5");
    check(Subject::UserBehaviour, "121f132833c8acdd");
    check(Subject::Bet, "14dc3af0da487833");
    check(Subject::Stock, "39e43b20d8bbad3b");
    check(Subject::Metric, "6c40532489ba53a5");
}

#[test]
fn realstock_is_the_seed_jobs_input() {
    let mut generator = Generator::new(Subject::RealStock, 42, START);
    let record = generator.next_record();
    assert_eq!(record.key, br#"{"stock_name":"DOGE-USD"}"#);
    assert_eq!(
        record.value.unwrap(),
        br#"{"stock_name":"DOGE-USD","stock_value":0.23681640625,"timestamp":1634221557011}"#
    );
}

#[test]
fn every_subject_has_its_fields() {
    let check = |subject, key: &[&str], value: &[&str]| {
        for (key_text, value_text, _, fault) in records(&mut Generator::new(subject, 1, START), 500)
        {
            assert_eq!(fault, None);
            assert_eq!(names(&json(&key_text)), key, "{subject}");
            assert_eq!(names(&json(&value_text.unwrap())), value, "{subject}");
        }
    };
    let stock = ["stock_name", "stock_value", "timestamp"];
    check(Subject::RealStock, &["stock_name"], &stock);
    check(Subject::Stock, &["user"], &stock);
    check(
        Subject::Pizza,
        &["shop"],
        &[
            "id",
            "shop",
            "name",
            "phoneNumber",
            "address",
            "pizzas",
            "timestamp",
        ],
    );
    check(
        Subject::UserBehaviour,
        &["user"],
        &[
            "user_id",
            "item_id",
            "behavior",
            "view_id",
            "group_name",
            "occurred_at",
        ],
    );
    check(Subject::Bet, &["event"], &["username", "event", "amount"]);
    check(
        Subject::Metric,
        &["hostname"],
        &["hostname", "cpu", "usage", "occurred_at"],
    );
}

#[test]
fn prices_walk_and_stay_plausible() {
    for (subject, names) in [(Subject::RealStock, 5), (Subject::Stock, 7)] {
        let mut last: HashMap<String, Vec<f64>> = HashMap::new();
        for (_, value, timestamp, _) in records(&mut Generator::new(subject, 3, START), 20_000) {
            let value = json(&value.unwrap());
            assert_eq!(value["timestamp"], timestamp);
            let price = value["stock_value"].as_f64().unwrap();
            last.entry(value["stock_name"].as_str().unwrap().to_string())
                .or_default()
                .push(price);
        }
        assert_eq!(last.len(), names);
        for prices in last.values() {
            for pair in prices.windows(2) {
                let step = (pair[1] - pair[0]).abs();
                assert!(step <= (pair[0] / 1000.0).max(0.8), "{pair:?}");
            }
            assert!(
                prices
                    .iter()
                    .all(|price| (0.5..=2.0).contains(&(price / prices[0])))
                    || subject == Subject::Stock
            );
            assert!(prices.iter().any(|price| price != &prices[0]));
        }
    }
}

#[test]
fn keys_and_nested_fields_agree_with_their_values() {
    for (key, value, _, _) in records(&mut Generator::new(Subject::Bet, 1, START), 200) {
        let value = json(&value.unwrap());
        assert_eq!(json(&key)["event"], value["event"]["name"]);
        assert!((1..=1000).contains(&value["amount"].as_i64().unwrap()));
    }
    for (index, (key, value, _, _)) in records(&mut Generator::new(Subject::Pizza, 1, START), 200)
        .iter()
        .enumerate()
    {
        let value = json(value.as_ref().unwrap());
        assert_eq!(json(key)["shop"], value["shop"]);
        assert_eq!(value["id"], index);
        let pizzas = value["pizzas"].as_array().unwrap();
        assert!((1..=10).contains(&pizzas.len()));
        assert!(
            pizzas
                .iter()
                .all(|pizza| pizza["additionalToppings"].as_array().unwrap().len() <= 5)
        );
    }
    for (_, value, timestamp, _) in
        records(&mut Generator::new(Subject::UserBehaviour, 1, START), 200)
    {
        let value = json(&value.unwrap());
        assert_eq!(value["view_id"].is_null(), value["behavior"] != "view");
        let text = value["occurred_at"].as_str().unwrap();
        let time = chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").unwrap();
        assert!((time.and_utc().timestamp() - timestamp / 1000).abs() <= 5);
    }
}

#[test]
fn timestamps_advance_by_the_step_on_average_or_by_the_callers_clock() {
    let mut generator = Generator::new(Subject::RealStock, 5, START).step(10);
    let records = records(&mut generator, 10_001);
    assert_eq!(records[0].2, START);
    assert!(
        records
            .windows(2)
            .all(|pair| (0..=20).contains(&(pair[1].2 - pair[0].2)))
    );
    // The mean of 10,000 steps of standard deviation 6 is off by 0.06; this is 8 times as much.
    let mean = (records[10_000].2 - START) as f64 / 10_000.0;
    assert!((9.5..10.5).contains(&mean), "{mean}");

    let record = generator.next_record_at(-5);
    assert_eq!(record.timestamp, -5);
    assert_eq!(json(record.value.unwrap())["timestamp"], -5);

    // The end of time is no reason to fail.
    let mut generator = Generator::new(Subject::UserBehaviour, 5, i64::MAX).step(u32::MAX);
    assert_eq!(generator.next_record().timestamp, i64::MAX);
    assert_eq!(generator.next_record().timestamp, i64::MAX);
}

#[test]
fn bad_records_are_as_many_as_asked_for_and_leave_the_others_alone() {
    const COUNT: usize = 70_000;
    for subject in Subject::ALL {
        let good = records(&mut Generator::new(subject, 9, START), COUNT);
        let mut generator = Generator::new(subject, 9, START).bad(0.1).unwrap();
        let mixed = records(&mut generator, COUNT);
        let mut counts: HashMap<Fault, usize> = HashMap::new();
        for (good, mixed) in good.iter().zip(&mixed) {
            match mixed.3 {
                None => assert_eq!(good, mixed),
                Some(fault) => {
                    assert_eq!((&good.0, good.2), (&mixed.0, mixed.2));
                    assert_ne!(good.1, mixed.1, "{fault}");
                    *counts.entry(fault).or_default() += 1;
                }
            }
        }
        // Binomial: 7,000 of 70,000, standard deviation 79; each of 7 kinds 1,000, standard deviation 31. The bounds
        // are more than 10 of them away.
        assert!(
            (6_000..8_000).contains(&counts.values().sum::<usize>()),
            "{counts:?}"
        );
        assert!(
            Fault::ALL
                .iter()
                .all(|fault| (600..1_400).contains(&counts[fault])),
            "{counts:?}"
        );
    }
}

#[test]
fn a_share_of_none_and_all_are_exact_and_others_are_refused() {
    let count = |share| {
        let mut generator = Generator::new(Subject::Metric, 1, START)
            .bad(share)
            .unwrap();
        records(&mut generator, 1_000)
            .iter()
            .filter(|record| record.3.is_some())
            .count()
    };
    assert_eq!(count(0.0), 0);
    assert_eq!(count(1.0), 1_000);
    for share in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        let error = Generator::new(Subject::Metric, 1, START)
            .bad(share)
            .err()
            .unwrap();
        assert!(
            error.to_string().contains("from 0 (none) to 1 (all)"),
            "{error}"
        );
    }
}

#[test]
fn every_fault_is_what_it_says() {
    let vital = |subject| match subject {
        Subject::RealStock | Subject::Stock | Subject::Pizza => "timestamp",
        Subject::UserBehaviour | Subject::Metric => "occurred_at",
        Subject::Bet => "amount",
    };
    for subject in Subject::ALL {
        let mut generator = Generator::new(subject, 2, START).bad(1.0).unwrap();
        for (_, value, _, fault) in records(&mut generator, 2_000) {
            let fault = fault.unwrap();
            let Some(value) = value else {
                assert_eq!(fault, Fault::NullValue);
                continue;
            };
            let text = value.escape_ascii().to_string();
            // Numbers beyond a double are JSON, but not serde_json's.
            let parsed = serde_json::from_slice::<Value>(&value);
            let field = parsed
                .as_ref()
                .ok()
                .and_then(|value| value.get(vital(subject)));
            match fault {
                Fault::Truncated => {
                    assert!(parsed.is_err() && value.starts_with(b"{"), "{text}");
                }
                Fault::NotAnObject => assert!(!parsed.unwrap().is_object(), "{text}"),
                Fault::MissingField => {
                    assert!(field.is_none() && parsed.unwrap().is_object(), "{text}");
                }
                Fault::WrongType => {
                    let field = field.unwrap();
                    let same = field.is_number() || field.is_null();
                    assert!(!same, "{text}");
                }
                Fault::InvalidUtf8 => assert!(std::str::from_utf8(&value).is_err(), "{text}"),
                Fault::NullValue => panic!("{text}"),
                Fault::OutOfRange => match field {
                    Some(Value::String(time)) => {
                        let format = "%Y-%m-%d %H:%M:%S";
                        assert!(chrono::NaiveDateTime::parse_from_str(time, format).is_err());
                    }
                    Some(number) => assert!(number.as_f64().unwrap().abs() > 1e20, "{text}"),
                    None => assert!(text.contains("1e400"), "{text}"),
                },
            }
        }
    }
}

#[test]
fn subjects_are_named_and_an_unknown_one_says_which_there_are() {
    for subject in Subject::ALL {
        assert_eq!(subject.to_string().parse(), Ok(subject));
        assert!(!subject.description().is_empty());
    }
    let error = "pasta".parse::<Subject>().unwrap_err().to_string();
    assert_eq!(
        error,
        "unknown subject \"pasta\": use one of realstock, pizza, userbehaviour, bet, stock, metric"
    );
}
