//! Fake records from a seed, for `weir produce`, the demo and the benchmarks.
//!
//! The subjects and their shapes are those of the "fake data producer for Apache Kafka" family, so that what is
//! written about those fits here. The same subject, seed, start and step give the same bytes on every machine; a share
//! of bad records leaves all others as they would be without it.

mod dice;
mod fault;
mod shape;
mod text;

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, ensure};

pub use fault::Fault;

use dice::Dice;
use shape::Shape;

/// What fake records are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Prices of cryptocurrencies: the seed job's input.
    RealStock,
    /// Orders of pizzas: nested arrays and objects, escapes and text beyond ASCII.
    Pizza,
    /// Users who view and buy items: the time as text, and nulls.
    UserBehaviour,
    /// Bets on events: a nested object, and no time.
    Bet,
    /// Prices of shares of made-up companies.
    Stock,
    /// Load of the processors of some hosts.
    Metric,
}

/// A name that no subject has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownSubject(String);

/// Makes the records of a subject, one after the other.
pub struct Generator {
    shape: Shape,
    dice: Dice,
    /// Dice of their own, so that bad records don't change the others.
    fault_dice: Dice,
    bad: f64,
    time: i64,
    step: u32,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// A fake record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fake<'a> {
    /// The key, a JSON object. Bad records keep theirs.
    pub key: &'a [u8],
    /// The value, a JSON object unless `fault` says otherwise.
    pub value: Option<&'a [u8]>,
    /// The record's timestamp, in milliseconds since 1970-01-01T00:00:00Z.
    pub timestamp: i64,
    /// What is wrong with the value, if it was made bad.
    pub fault: Option<Fault>,
}

impl Subject {
    /// All subjects.
    pub const ALL: [Subject; 6] = [
        Subject::RealStock,
        Subject::Pizza,
        Subject::UserBehaviour,
        Subject::Bet,
        Subject::Stock,
        Subject::Metric,
    ];

    /// The name that it goes by on the command line, also a good name for a topic.
    pub fn name(self) -> &'static str {
        match self {
            Subject::RealStock => "realstock",
            Subject::Pizza => "pizza",
            Subject::UserBehaviour => "userbehaviour",
            Subject::Bet => "bet",
            Subject::Stock => "stock",
            Subject::Metric => "metric",
        }
    }

    /// What its records are, in a line.
    pub fn description(self) -> &'static str {
        match self {
            Subject::RealStock => "prices of five cryptocurrencies, keyed by name",
            Subject::Pizza => "pizza orders with nested lists, keyed by shop",
            Subject::UserBehaviour => "users who view, cart and buy, with times as text and nulls",
            Subject::Bet => "bets on events, keyed by event, without a time",
            Subject::Stock => "share prices of seven made-up companies",
            Subject::Metric => "processor load of seven hosts, keyed by host",
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Subject {
    type Err = UnknownSubject;

    fn from_str(name: &str) -> Result<Subject, UnknownSubject> {
        Subject::ALL
            .into_iter()
            .find(|subject| subject.name() == name)
            .ok_or_else(|| UnknownSubject(name.to_string()))
    }
}

impl fmt::Display for UnknownSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Subject::ALL.map(Subject::name).join(", ");
        write!(f, "unknown subject {:?}: use one of {names}", self.0)
    }
}

impl std::error::Error for UnknownSubject {}

impl Generator {
    /// A generator of good records whose timestamps start at `start` (milliseconds since 1970-01-01T00:00:00Z) and
    /// advance by a millisecond a record on average.
    pub fn new(subject: Subject, seed: u64, start: i64) -> Generator {
        Generator {
            shape: Shape::new(subject),
            dice: Dice::new(seed, 0),
            fault_dice: Dice::new(seed, 1),
            bad: 0.0,
            time: start,
            step: 1,
            key: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Lets timestamps advance by `step` milliseconds a record on average: by 0 to twice as many each time, so that
    /// nothing can be guessed from the record before.
    pub fn step(self, step: u32) -> Generator {
        Generator { step, ..self }
    }

    /// Makes a share of the records bad, 0 (none) to 1 (all), each in one of the ways of [`Fault`].
    pub fn bad(self, share: f64) -> Result<Generator, Error> {
        ensure!(
            (0.0..=1.0).contains(&share),
            "the share of bad records is {share}: use a number from 0 (none) to 1 (all)"
        );
        Ok(Generator { bad: share, ..self })
    }

    /// The next record, a step after the one before.
    pub fn next_record(&mut self) -> Fake<'_> {
        let time = self.time;
        let step = self
            .dice
            .below(self.step.saturating_mul(2).saturating_add(1));
        self.time = time.saturating_add(i64::from(step));
        self.next_record_at(time)
    }

    /// The next record, at a time by the caller's clock (milliseconds since 1970-01-01T00:00:00Z).
    pub fn next_record_at(&mut self, time: i64) -> Fake<'_> {
        self.key.clear();
        self.value.clear();
        let vital = self
            .shape
            .write(&mut self.dice, time, &mut self.key, &mut self.value);
        let mut fault = None;
        if self.bad > 0.0 && self.fault_dice.chance(self.bad) {
            let dealt = Fault::ALL[self.fault_dice.index(Fault::ALL.len())];
            dealt.spoil(&mut self.value, vital, &mut self.fault_dice);
            fault = Some(dealt);
        }
        Fake {
            key: &self.key,
            value: (fault != Some(Fault::NullValue)).then_some(self.value.as_slice()),
            timestamp: time,
            fault,
        }
    }
}

#[cfg(test)]
mod tests;
