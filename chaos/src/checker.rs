//! Holds what came out to what went in. It knows the ledger alone, and nothing of Weir but what it promises.

use std::collections::HashMap;
use std::fmt::Display;

use anyhow::{Error, ensure};
use rdkafka::message::{BorrowedMessage, Headers, Message};

use crate::ledger::{Entry, Fate, HEADER, Ledger, Poison, number_in};

/// How many examples of each thing that is wrong are kept.
const EXAMPLES: usize = 5;

/// A record as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    /// The partition that it lies in.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub timestamp: Option<i64>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
    /// The headers in order.
    pub headers: Vec<(&'a str, Option<&'a [u8]>)>,
}

impl<'a> Seen<'a> {
    /// What a client read.
    pub fn new(message: &'a BorrowedMessage<'_>) -> Seen<'a> {
        let headers = message.headers().into_iter().flat_map(|it| it.iter());
        Seen {
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
            key: message.key(),
            value: message.payload(),
            headers: headers.map(|it| (it.key, it.value)).collect(),
        }
    }
}

/// What was found, in records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// That went in.
    pub input: u64,
    /// Of those, that the brokers have again, as records of their own.
    pub input_again: u64,
    /// That had to come out.
    pub expected: u64,
    /// That didn't.
    pub lost: u64,
    /// That came out again.
    pub duplicated: u64,
    /// That came out behind one of the same key that went in after them.
    pub reordered: u64,
    /// Whose bytes, key, headers or time are wrong, or that nothing in the input makes.
    pub wrong: u64,
    /// Whose id isn't the one that the same record had before, or is another record's too.
    pub wrong_ids: u64,
    /// Dead letters that had to come.
    pub dead_expected: u64,
    /// Records of those whose dead letters came.
    pub dead_found: u64,
    /// Dead letters that came again.
    pub dead_duplicated: u64,
    /// Dead letters that say something wrong, or that had not to come.
    pub dead_wrong: u64,
    /// Some of what is wrong.
    pub examples: Vec<String>,
}

impl Findings {
    /// How many records break the promise; duplicates do if each may come out once only.
    pub fn violations(&self, once: bool) -> u64 {
        let again = match once {
            true => self.duplicated + self.dead_duplicated,
            false => 0,
        };
        self.lost
            + again
            + self.reordered
            + self.wrong
            + self.wrong_ids
            + (self.dead_expected - self.dead_found)
            + self.dead_wrong
    }

    fn example(&mut self, what: &str, record: impl Display) {
        let alike = self.examples.iter().filter(|it| it.starts_with(what));
        if alike.count() < EXAMPLES {
            self.examples.push(format!("{what}: {record}"));
        }
    }
}

/// Takes in a run's three topics, and gives its findings.
pub struct Checker {
    ledger: Ledger,
    /// The names that dead letters must say.
    pipeline: String,
    topic: String,
    /// Where each record lies in the input.
    offsets: Vec<Option<i64>>,
    /// Where some lie again: brokers that are all killed at once may forget what they have of an idempotent producer.
    /// Each is a record of its own, with an id of its own.
    again: HashMap<u64, Vec<i64>>,
    /// The id that each came out with first.
    ids: Vec<Option<u128>>,
    /// The other ids that those came out with that lie in the input again.
    more_ids: HashMap<u64, Vec<u128>>,
    /// How many dead letters each has.
    letters: Vec<u8>,
    /// By key: its output partition, and the latest record that came out.
    lasts: HashMap<String, (i32, u64)>,
    findings: Findings,
}

impl Checker {
    /// A checker of the first `count` records, that went through `pipeline` from `topic`.
    pub fn new(ledger: Ledger, count: u64, pipeline: &str, topic: &str) -> Checker {
        let count = count as usize;
        Checker {
            ledger,
            pipeline: pipeline.to_string(),
            topic: topic.to_string(),
            offsets: vec![None; count],
            again: HashMap::new(),
            more_ids: HashMap::new(),
            ids: vec![None; count],
            letters: vec![0; count],
            lasts: HashMap::new(),
            findings: Findings::default(),
        }
    }

    /// One of the input topic's records, partition by partition in their order. Fails if it isn't as the ledger says:
    /// then nothing can be judged.
    pub fn input(&mut self, seen: &Seen<'_>) -> Result<(), Error> {
        let number = self.number(seen);
        let entry = number.map(|number| self.ledger.entry(number));
        let same = entry.as_ref().is_some_and(|entry| {
            seen.partition == entry.partition
                && seen.value == Some(entry.value.as_bytes())
                && is_as_it_was(seen, entry, seen.headers.len())
        });
        ensure!(same, "the input isn't what was written: {}", show(seen));
        self.findings.input += 1;
        let Some(entry) = entry else { return Ok(()) };
        match &mut self.offsets[entry.number as usize] {
            Some(_) => {
                self.findings.input_again += 1;
                self.again
                    .entry(entry.number)
                    .or_default()
                    .push(seen.offset);
            }
            place => *place = Some(seen.offset),
        }
        Ok(())
    }

    /// How often a record lies in the input.
    fn times(&self, number: u64) -> usize {
        1 + self.again.get(&number).map_or(0, Vec::len)
    }

    /// One of the output topic's records.
    pub fn output(&mut self, seen: &Seen<'_>) {
        let entry = self.number(seen).map(|number| self.ledger.entry(number));
        let id = entry.as_ref().and_then(|entry| id_in(seen, entry));
        let (Some(entry), Some(id)) = (entry, id) else {
            self.findings.wrong += 1;
            self.findings.example("wrong output", show(seen));
            return;
        };
        let times = self.times(entry.number);
        let first = &mut self.ids[entry.number as usize];
        if let Some(first) = *first {
            let more = self.more_ids.entry(entry.number).or_default();
            if first != id && !more.contains(&id) && more.len() + 1 < times {
                more.push(id);
                return;
            }
            let first = if more.contains(&id) { id } else { first };
            self.findings.duplicated += 1;
            self.findings.example("again", show(seen));
            if first != id {
                self.findings.wrong_ids += 1;
                self.findings.example("again with another id", show(seen));
            }
            return;
        }
        *first = Some(id);
        let new = (seen.partition, entry.number);
        let (partition, last) = self.lasts.entry(entry.key).or_insert(new);
        if *partition != seen.partition || *last > entry.number {
            self.findings.reordered += 1;
            self.findings.example("out of order", show(seen));
        }
        *last = entry.number.max(*last);
    }

    /// One of the dead letter topic's records.
    pub fn dead(&mut self, seen: &Seen<'_>) {
        let entry = self.number(seen).map(|number| self.ledger.entry(number));
        let right = entry.as_ref().is_some_and(|entry| match entry.fate {
            Fate::Dead(poison) => self.is_letter(seen, entry, poison),
            _ => false,
        });
        let (Some(entry), true) = (entry, right) else {
            self.findings.dead_wrong += 1;
            self.findings.example("wrong dead letter", show(seen));
            return;
        };
        let times = self.times(entry.number);
        let letters = &mut self.letters[entry.number as usize];
        *letters = letters.saturating_add(1);
        if usize::from(*letters) > times {
            self.findings.dead_duplicated += 1;
            self.findings.example("dead letter again", show(seen));
        }
    }

    /// What is missing, and all that was found. Fails if the input isn't whole.
    pub fn finish(mut self) -> Result<Findings, Error> {
        let findings = &mut self.findings;
        let missing = self.offsets.iter().position(Option::is_none);
        ensure!(
            missing.is_none(),
            "the input isn't what was written: number {missing:?} isn't there"
        );
        for number in 0..self.offsets.len() {
            let entry = self.ledger.entry(number as u64);
            let times = 1 + self.again.get(&entry.number).map_or(0, Vec::len);
            match entry.fate {
                Fate::Kept { .. } => {
                    findings.expected += times as u64;
                    let more = self.more_ids.get(&entry.number).map_or(0, Vec::len);
                    let out = usize::from(self.ids[number].is_some()) + more;
                    if out < times {
                        findings.lost += (times - out) as u64;
                        findings.example("lost", show_entry(&entry, self.offsets[number]));
                    }
                }
                Fate::Dead(_) => {
                    findings.dead_expected += times as u64;
                    let found = usize::from(self.letters[number]).min(times);
                    findings.dead_found += found as u64;
                    if found < times {
                        findings
                            .example("no dead letter", show_entry(&entry, self.offsets[number]));
                    }
                }
                Fate::Dropped => {}
            }
        }
        let ids = self.ids.into_iter().zip(0_u64..);
        let mut ids: Vec<(u128, u64)> =
            ids.filter_map(|(id, number)| Some((id?, number))).collect();
        ids.sort_unstable();
        for twins in ids.windows(2).filter(|it| it[0].0 == it[1].0) {
            findings.wrong_ids += 1;
            let numbers = format!("{} and {}", twins[0].1, twins[1].1);
            findings.example("two records with one id", numbers);
        }
        Ok(self.findings)
    }

    fn number(&self, seen: &Seen<'_>) -> Option<u64> {
        let number = number_in(seen.value?)?;
        (number < self.offsets.len() as u64).then_some(number)
    }

    /// Whether it's the entry byte for byte, with what a dead letter says behind its headers.
    fn is_letter(&self, seen: &Seen<'_>, entry: &Entry, poison: Poison) -> bool {
        let first = self.offsets[entry.number as usize];
        let again = self.again.get(&entry.number).into_iter().flatten();
        let mut offsets = first.iter().chain(again).map(ToString::to_string);
        let said = |nth: usize| -> Option<(&str, &str)> {
            let (name, value) = seen.headers.get(nth + 1)?;
            Some((name, std::str::from_utf8((*value)?).ok()?))
        };
        let is = |nth: usize, name: &str, value: &str| said(nth) == Some((name, value));
        let has = |nth: usize, name: &str, right: &mut dyn FnMut(&str) -> bool| {
            said(nth).is_some_and(|(it, value)| it == name && right(value))
        };
        seen.value == Some(entry.value.as_bytes())
            && is_as_it_was(seen, entry, 1)
            && seen.headers.len() == 10
            && has(0, "weir.reason", &mut |it| it.contains(poison.reason))
            && is(1, "weir.class", poison.class)
            && is(2, "weir.pipeline", &self.pipeline)
            && is(3, "weir.transform", poison.transform)
            && has(4, "weir.module", &mut |it| is_digest(it))
            && is(5, "weir.topic", &self.topic)
            && is(6, "weir.partition", &entry.partition.to_string())
            && has(7, "weir.offset", &mut |it| {
                offsets.any(|offset| offset == it)
            })
            && has(8, "weir.time", &mut |it| {
                chrono::DateTime::parse_from_rfc3339(it).is_ok()
            })
    }
}

/// Whether key, time and the first headers are the entry's own.
fn is_as_it_was(seen: &Seen<'_>, entry: &Entry, headers: usize) -> bool {
    let own = [(HEADER, Some(entry.key.as_bytes()))];
    seen.key == Some(entry.key.as_bytes())
        && seen.timestamp == Some(entry.timestamp)
        && seen.headers.get(..headers) == Some(&own[..])
}

/// The id of an output record that is right in everything else.
fn id_in(seen: &Seen<'_>, entry: &Entry) -> Option<u128> {
    let Fate::Kept { before, after } = &entry.fate else {
        return None;
    };
    let text = std::str::from_utf8(seen.value?).ok()?;
    let id = text
        .strip_prefix(before.as_str())?
        .strip_suffix(after.as_str())?;
    let id = uuid_v4(id)?;
    is_as_it_was(seen, entry, seen.headers.len()).then_some(id)
}

/// A random UUID (RFC 9562, version 4) in lower case.
fn uuid_v4(id: &str) -> Option<u128> {
    let bytes = id.as_bytes();
    let hyphens = [8, 13, 18, 23];
    let right = bytes.len() == 36
        && hyphens.iter().all(|&at| bytes[at] == b'-')
        && bytes[14] == b'4'
        && b"89ab".contains(&bytes[19])
        && !bytes.iter().any(u8::is_ascii_uppercase);
    if !right {
        return None;
    }
    let digits: String = id.split('-').collect();
    // Hyphens elsewhere leave fewer digits.
    let id = u128::from_str_radix(&digits, 16).ok()?;
    (digits.len() == 32).then_some(id)
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|it| it.is_ascii_hexdigit())
}

fn show(seen: &Seen<'_>) -> String {
    let text = |bytes: Option<&[u8]>| bytes.map(|it| String::from_utf8_lossy(it).into_owned());
    let headers = seen.headers.iter();
    let headers: Vec<_> = headers.map(|&(name, value)| (name, text(value))).collect();
    format!(
        "{}/{} {:?} {:?} at {:?} with {headers:?}",
        seen.partition,
        seen.offset,
        text(seen.key),
        text(seen.value),
        seen.timestamp
    )
}

fn show_entry(entry: &Entry, offset: Option<i64>) -> String {
    format!(
        "{} at {}/{}",
        entry.value,
        entry.partition,
        offset.unwrap_or(-1)
    )
}

#[cfg(test)]
mod tests;
