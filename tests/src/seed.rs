//! What the seed job must do, worked out from the input's text by other means than Weir's: serde_json and chrono.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, SecondsFormat};

use crate::{Consumed, Record};

/// The names of stocks, as the fake data has them.
const STOCKS: [&str; 5] = ["BTC-USD", "ETH-USD", "BNB-USD", "ADA-USD", "DOGE-USD"];

/// A record that the seed job keeps, with the place of its id left open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    key: Option<Vec<u8>>,
    timestamp: Option<i64>,
    before: String,
    after: String,
}

/// Records for the seed job, each different from all others: stocks in turn, spread by their keys, a millisecond apart.
pub fn records(numbers: impl IntoIterator<Item = usize>) -> impl Iterator<Item = Record> {
    numbers.into_iter().map(|n| {
        let (stock, time) = (STOCKS[n % STOCKS.len()], 1_634_221_557_011 + n as i64);
        let key = format!("{{\"stock_name\":\"{stock}\"}}");
        let value = format!(
            "{{\"stock_name\":\"{stock}\",\"stock_value\":{}.759521484375,\"timestamp\":{time}}}",
            n * 37
        );
        Record::new(Some(key.as_bytes()), Some(value.as_bytes())).timestamp(time)
    })
}

/// What must come of an input record; `None` if the filter drops it.
///
/// # Panics
/// If the input is none of the seed job's records.
pub fn expected(input: &Consumed) -> Option<Expected> {
    let value = input.value.clone().expect("a value");
    let text = String::from_utf8(value).expect("UTF-8");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let time = json["timestamp"].as_i64().expect("a timestamp");
    let date = DateTime::from_timestamp_millis(time).expect("a date");
    let date = date.to_rfc3339_opts(SecondsFormat::Millis, true);
    let renamed = text.replace("\"timestamp\":", "\"event_time\":");
    let open = renamed.strip_suffix('}').expect("an object");
    (time % 2 == 0).then(|| Expected {
        key: input.key.clone(),
        timestamp: input.timestamp,
        before: format!("{open},\"id\":\""),
        after: format!("\",\"iso_date\":\"{date}\"}}"),
    })
}

impl Expected {
    /// The id of an output record that is right in everything else, byte for byte.
    pub fn id_in(&self, output: &Consumed) -> Option<String> {
        let text = std::str::from_utf8(output.value.as_deref()?).ok()?;
        let id = text
            .strip_prefix(self.before.as_str())?
            .strip_suffix(self.after.as_str())?;
        let same = output.key == self.key
            && output.timestamp == self.timestamp
            && output.headers.is_empty();
        same.then(|| id.to_string())
    }
}

/// Whether it is a random UUID (RFC 9562, version 4) in lower case.
pub fn is_uuid_v4(id: &str) -> bool {
    let at = |index: usize, byte: u8| match index {
        8 | 13 | 18 | 23 => byte == b'-',
        14 => byte == b'4',
        19 => b"89ab".contains(&byte),
        _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
    };
    id.len() == 36 && id.bytes().enumerate().all(|(index, byte)| at(index, byte))
}

/// Holds the seed job's output to its input, record by record: each key's records in their order and in one partition,
/// each exactly once, all else byte for byte, and each with a UUID that no other has.
///
/// # Panics
/// If they differ, with the first difference.
#[track_caller]
pub fn check(input: &[Consumed], output: &[Consumed]) {
    let ids = replayed_ids(input, output, 1);
    let count: usize = ids.iter().map(Vec::len).sum();
    let distinct: BTreeSet<&String> = ids.iter().flatten().collect();
    assert_eq!(distinct.len(), count, "ids that are not unique");
}

/// As [`check`], where each record may have come out up to `most` times, in as many passes, each in order: the ids that
/// each kept input record came out with, in the order of partitions and offsets.
#[track_caller]
pub fn replayed_ids(input: &[Consumed], output: &[Consumed], most: usize) -> Vec<Vec<String>> {
    let wanted: Vec<Expected> = input.iter().filter_map(expected).collect();
    // Where each expected record stands; the text before the id tells them apart, but for twins.
    let mut places: BTreeMap<(&Option<Vec<u8>>, &str), Vec<usize>> = BTreeMap::new();
    for (place, it) in wanted.iter().enumerate() {
        places.entry((&it.key, &it.before)).or_default().push(place);
    }
    let mut ids = vec![Vec::new(); wanted.len()];
    // By key: its partition, where its last record stood, and in which pass.
    let mut lasts: BTreeMap<&Option<Vec<u8>>, (i32, usize, usize)> = BTreeMap::new();
    for record in output {
        let text = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default());
        let before = text.find("\"id\":\"").map_or("", |at| &text[..at + 6]);
        let twins = places.get(&(&record.key, before));
        let place = twins.and_then(|twins| {
            let fewest = |&&place: &&usize| ids[place].len();
            twins.iter().min_by_key(fewest).copied()
        });
        let Some(place) = place else {
            panic!(
                "nothing in the input makes {text} with the key {:?}",
                record.key
            );
        };
        let Some(id) = wanted[place].id_in(record) else {
            panic!("{record:?}\nis not\n{:?}", wanted[place]);
        };
        assert!(is_uuid_v4(&id), "not a UUID of version 4: {id}");
        ids[place].push(id);
        let first = (record.partition, place, 1);
        let (partition, last, pass) = lasts.entry(&record.key).or_insert(first);
        assert_eq!(
            record.partition, *partition,
            "one key in two partitions: {record:?}"
        );
        *pass += usize::from(place < *last);
        assert!(*pass <= most, "out of its key's order: {record:?}");
        *last = place;
    }
    let times: Vec<usize> = ids.iter().map(Vec::len).collect();
    let lost = times.iter().filter(|&&times| times == 0).count();
    assert_eq!(lost, 0, "of {} records {lost} are lost", wanted.len());
    let again = times.iter().filter(|&&times| times > most).count();
    assert_eq!(again, 0, "{again} records came out more than {most} times");
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "9b2c4ac0-1234-4abc-8def-0123456789ab";

    fn consumed(offset: i64, key: &str, value: String) -> Consumed {
        Consumed {
            partition: 0,
            offset,
            timestamp: Some(5),
            key: Some(key.into()),
            value: Some(value.into()),
            headers: Vec::new(),
        }
    }

    fn input(time: i64) -> Consumed {
        consumed(
            time,
            "k",
            format!("{{\"stock_name\":\"k\",\"stock_value\":1.50,\"timestamp\":{time}}}"),
        )
    }

    fn output(time: i64, date: &str, id: &str) -> Consumed {
        let text = format!(
            "{{\"stock_name\":\"k\",\"stock_value\":1.50,\"event_time\":{time},\"id\":\"{id}\",\"iso_date\":\"{date}\"}}"
        );
        consumed(time, "k", text)
    }

    fn panics(input: &[Consumed], output: &[Consumed]) -> bool {
        std::panic::catch_unwind(|| check(input, output)).is_err()
    }

    #[test]
    fn the_model_tells_right_from_wrong() {
        let inputs = [input(0), input(1), input(2)];
        let date = ["1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00.002Z"];
        let other = ID.replace('9', "8");
        let right = [output(0, date[0], ID), output(2, date[1], &other)];
        check(&inputs, &right);
        let [first, second] = right.clone();
        assert!(panics(&inputs, std::slice::from_ref(&first)), "lost");
        assert!(panics(&inputs, &[second.clone(), first.clone()]), "order");
        let twice = [first.clone(), first.clone(), second.clone()];
        assert!(panics(&inputs, &twice), "twice");
        assert!(
            panics(&inputs, &[first.clone(), output(2, date[1], ID)]),
            "ids"
        );
        assert!(
            panics(&inputs, &[output(0, date[1], ID), second.clone()]),
            "date"
        );
        let odd = [first, output(1, date[0], &ID.replace('9', "7")), second];
        assert!(panics(&inputs, &odd), "odd");
    }

    #[test]
    fn version_and_variant_count() {
        assert!(is_uuid_v4(ID));
        assert!(!is_uuid_v4(&ID.replace("-4", "-7")));
        assert!(!is_uuid_v4(&ID.replace("-8", "-c")));
        assert!(!is_uuid_v4(&ID.to_uppercase()));
        assert!(!is_uuid_v4(&ID[1..]));
    }
}
