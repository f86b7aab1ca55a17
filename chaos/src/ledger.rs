//! The records that go in, and what must come of each: all of it follows from the seed and the record's number.

use chrono::{DateTime, SecondsFormat};

use crate::dice::Dice;

/// Partitions of the input topic, and of the output topic.
pub const PARTITIONS: usize = 8;

/// Keys, as many in each partition.
const KEYS: u64 = 64;

/// 2021-10-14T14:25:57Z. In the value each record's time is two milliseconds or so after the one before it.
const EVENTS: i64 = 1_634_221_557_000;

/// The header that every record has.
pub const HEADER: &str = "chaos";

/// All records of a run.
#[derive(Clone, Copy, Debug)]
pub struct Ledger {
    /// What everything follows from.
    pub seed: u64,
    /// Whether some records are poison.
    pub poison: bool,
    /// The time of the first record, in milliseconds since 1970-01-01T00:00:00Z: about now. Brokers forget an idempotent
    /// producer whose last records are a day old by their own time when they start again, and what is sent again then
    /// stands in the topic twice.
    pub start: i64,
    /// Records a second, by their time.
    pub rate: u64,
}

/// A record as it goes in, and its fate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number in the run, from 0; it stands in the value.
    pub number: u64,
    /// The input partition.
    pub partition: i32,
    /// Its key.
    pub key: String,
    /// Its value, JSON.
    pub value: String,
    /// Its own time, in milliseconds since 1970-01-01T00:00:00Z.
    pub timestamp: i64,
    /// What must come of it.
    pub fate: Fate,
}

/// What must come of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It comes out, with an id between these two.
    Kept {
        /// The value up to the id.
        before: String,
        /// The value behind the id.
        after: String,
    },
    /// The filter drops it.
    Dropped,
    /// It becomes a dead letter.
    Dead(Poison),
}

/// How a record breaks the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Poison {
    /// What the faulty transform does on it; empty if the date is what's wrong.
    act: &'static str,
    /// The transform that can't do it.
    pub transform: &'static str,
    /// The dead letter's class.
    pub class: &'static str,
    /// What its reason says.
    pub reason: &'static str,
    /// One record in so many.
    once_in: u64,
}

/// Refusals are frequent; what takes a guest's life is rarer, and most of all what takes its time first.
const POISONS: [Poison; 7] = [
    poison("", "date", "refused", "yesterday", 200),
    poison("refuse:unwanted", "act", "refused", "unwanted", 300),
    poison("trap", "act", "trap", "unreachable", 1_000),
    poison("panic:planted", "act", "trap", "planted", 1_000),
    poison("grow", "act", "memory", "`memory`", 4_000),
    poison("lie:take-index", "act", "output", "take", 4_000),
    poison("spin", "act", "deadline", "record_deadline", 8_000),
];

const fn poison(
    act: &'static str,
    transform: &'static str,
    class: &'static str,
    reason: &'static str,
    once_in: u64,
) -> Poison {
    Poison {
        act,
        transform,
        class,
        reason,
        once_in,
    }
}

impl Ledger {
    /// The record of a number.
    pub fn entry(&self, number: u64) -> Entry {
        let mut dice = Dice::nth(self.seed, number);
        let nth_key = dice.below(KEYS);
        let key = format!("key-{nth_key}");
        let time = EVENTS + 2 * number as i64 + dice.below(2) as i64;
        // More digits than a float has.
        let price = format!("{}.{:020}", dice.below(100_000), dice.next());
        let poison = match self.poison {
            true => POISONS.into_iter().find(|it| dice.once_in(it.once_in)),
            false => None,
        };
        let act = match poison {
            Some(Poison { act, .. }) if !act.is_empty() => format!(",\"act\":\"{act}\""),
            _ => String::new(),
        };
        let typed = match poison {
            Some(Poison { act: "", .. }) => "\"yesterday\"".to_string(),
            _ => time.to_string(),
        };
        let head =
            format!("{{\"number\":{number},\"stock_name\":\"{key}\",\"stock_value\":{price}{act}");
        let fate = match poison {
            Some(poison) => Fate::Dead(poison),
            None if time % 2 != 0 => Fate::Dropped,
            None => Fate::Kept {
                before: format!("{head},\"event_time\":{time},\"id\":\""),
                after: format!("\",\"iso_date\":\"{}\"}}", date(time)),
            },
        };
        Entry {
            number,
            partition: (nth_key % PARTITIONS as u64) as i32,
            value: format!("{head},\"timestamp\":{typed}}}"),
            key,
            timestamp: self.start + (number * 1_000 / self.rate) as i64,
            fate,
        }
    }
}

/// The number in a value, of a record that went in or came out.
pub fn number_in(value: &[u8]) -> Option<u64> {
    let rest = value.strip_prefix(b"{\"number\":")?;
    let end = rest.iter().position(|it| !it.is_ascii_digit())?;
    std::str::from_utf8(&rest[..end]).ok()?.parse().ok()
}

/// ISO 8601 in UTC with milliseconds.
fn date(milliseconds: i64) -> String {
    let date = DateTime::from_timestamp_millis(milliseconds);
    date.map_or_else(String::new, |date| {
        date.to_rfc3339_opts(SecondsFormat::Millis, true)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(poison: bool) -> Ledger {
        Ledger {
            seed: 7,
            poison,
            start: 1_000_000,
            rate: 2_000,
        }
    }

    #[test]
    fn a_seed_makes_the_same_records() {
        assert_eq!(ledger(true).entry(17), ledger(true).entry(17));
        let other = Ledger {
            seed: 8,
            ..ledger(true)
        };
        assert_ne!(ledger(true).entry(17), other.entry(17));
    }

    #[test]
    fn every_value_has_its_number_and_every_key_its_partition() {
        let mut partitions = std::collections::BTreeMap::new();
        for number in 0..10_000 {
            let entry = ledger(true).entry(number);
            assert_eq!(number_in(entry.value.as_bytes()), Some(number));
            let partition = *partitions.entry(entry.key).or_insert(entry.partition);
            assert_eq!(partition, entry.partition);
        }
        assert_eq!(partitions.len(), KEYS as usize);
        assert_eq!(number_in(b"{\"n\":1}"), None);
    }

    #[test]
    fn half_is_kept_and_every_poison_is_there() {
        let entries: Vec<Entry> = (0..20_000).map(|n| ledger(true).entry(n)).collect();
        let kept = entries
            .iter()
            .filter(|it| matches!(it.fate, Fate::Kept { .. }));
        assert!((9_500..10_300).contains(&kept.count()));
        for poison in POISONS {
            assert!(entries.iter().any(|it| it.fate == Fate::Dead(poison)));
        }
        let clean = (0..20_000).map(|n| ledger(false).entry(n));
        assert!(
            clean
                .into_iter()
                .all(|it| !matches!(it.fate, Fate::Dead(_)))
        );
    }

    #[test]
    fn a_kept_record_is_the_seed_job_s() {
        let entry = (0..).map(|n| ledger(false).entry(n));
        let entry = entry.into_iter().find(|it| it.fate != Fate::Dropped);
        let Some(Entry {
            fate: Fate::Kept { before, after },
            value,
            ..
        }) = entry
        else {
            panic!("none is kept");
        };
        let renamed = value.replace("\"timestamp\"", "\"event_time\"");
        assert_eq!(before, renamed.replace('}', ",\"id\":\""));
        assert_eq!(
            after.len(),
            "\",\"iso_date\":\"2021-10-14T14:25:57.000Z\"}".len()
        );
        assert_eq!(date(1_634_221_557_011), "2021-10-14T14:25:57.011Z");
    }
}
