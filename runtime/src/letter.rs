//! Dead letters: how a record that a transform can't process is written down, and read again.
//!
//! A dead letter is the record as it came into the pipeline, byte for byte, with headers appended that say why it's here
//! and where it came from. They stand last, in the order of [`Letter::headers`], so that headers of the record's own by
//! the same names stay what they are.

use std::fmt;

use chrono::{DateTime, SecondsFormat};

/// What a transform did with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// It said no, with a reason.
    Refused,
    /// It trapped, or gave up on the call.
    Trap,
    /// It used more CPU time than it may.
    Deadline,
    /// It needed more memory than it may have.
    Memory,
    /// What it returned can't be used, or Kafka doesn't take what came of it.
    Output,
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 5] = [
        Class::Refused,
        Class::Trap,
        Class::Deadline,
        Class::Memory,
        Class::Output,
    ];

    /// As it stands in headers, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Refused => "refused",
            Class::Trap => "trap",
            Class::Deadline => "deadline",
            Class::Memory => "memory",
            Class::Output => "output",
        }
    }

    /// The class of this name.
    pub fn parse(text: &str) -> Option<Class> {
        Class::ALL.into_iter().find(|it| it.as_str() == text)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why, in the transform's or the sandbox's words.
pub const REASON: &str = "weir.reason";
/// A [`Class`].
pub const CLASS: &str = "weir.class";
/// The pipeline.
pub const PIPELINE: &str = "weir.pipeline";
/// The transform; not there if no transform is at fault: Kafka doesn't take what came of the record.
pub const TRANSFORM: &str = "weir.transform";
/// The digest of the transform's module, SHA-256 in hexadecimal; there with [`TRANSFORM`].
pub const MODULE: &str = "weir.module";
/// The topic that the record came from.
pub const TOPIC: &str = "weir.topic";
/// Its partition there, in decimal.
pub const PARTITION: &str = "weir.partition";
/// Its offset there, in decimal.
pub const OFFSET: &str = "weir.offset";
/// When it became a dead letter: RFC 3339, UTC, milliseconds.
pub const TIME: &str = "weir.time";
/// How often it has been replayed, in decimal; not there while it hasn't.
pub const REPLAYS: &str = "weir.replays";

/// What a dead letter says beside the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// See [`REASON`].
    pub reason: String,
    /// See [`CLASS`].
    pub class: Class,
    /// See [`PIPELINE`].
    pub pipeline: String,
    /// See [`TRANSFORM`] and [`MODULE`].
    pub transform: Option<(String, String)>,
    /// See [`TOPIC`].
    pub topic: String,
    /// See [`PARTITION`].
    pub partition: i32,
    /// See [`OFFSET`].
    pub offset: u64,
    /// See [`TIME`]: milliseconds since 1970-01-01T00:00:00Z.
    pub time: i64,
    /// See [`REPLAYS`].
    pub replays: u32,
}

/// A record's headers, in order.
pub type Headers<'a> = [(&'a [u8], Option<&'a [u8]>)];

impl Letter {
    /// The headers to append to the record's own, in order.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            (REASON, self.reason.clone()),
            (CLASS, self.class.to_string()),
            (PIPELINE, self.pipeline.clone()),
        ];
        if let Some((transform, module)) = &self.transform {
            headers.push((TRANSFORM, transform.clone()));
            headers.push((MODULE, module.clone()));
        }
        headers.push((TOPIC, self.topic.clone()));
        headers.push((PARTITION, self.partition.to_string()));
        headers.push((OFFSET, self.offset.to_string()));
        headers.push((TIME, show_time(self.time)));
        if self.replays > 0 {
            headers.push((REPLAYS, self.replays.to_string()));
        }
        headers
    }

    /// Reads a dead letter's headers: what it says, and how many headers before are the record's own. `None` if the record
    /// is no dead letter of Weir's.
    pub fn read(headers: &Headers<'_>) -> Option<(Letter, usize)> {
        let mut rest = headers;
        let mut last = |name: &str| -> Option<&str> {
            let (&(found, value), before) = rest.split_last()?;
            if found != name.as_bytes() {
                return None;
            }
            let value = std::str::from_utf8(value?).ok()?;
            rest = before;
            Some(value)
        };
        let replays = match last(REPLAYS) {
            Some(text) => text.parse().ok()?,
            None => 0,
        };
        let time = DateTime::parse_from_rfc3339(last(TIME)?).ok()?;
        let offset = last(OFFSET)?.parse().ok()?;
        let partition = last(PARTITION)?.parse().ok().filter(|&it| it >= 0)?;
        let topic = last(TOPIC)?.to_string();
        let transform = match last(MODULE) {
            Some(module) => Some((last(TRANSFORM)?.to_string(), module.to_string())),
            None => None,
        };
        let pipeline = last(PIPELINE)?.to_string();
        let class = Class::parse(last(CLASS)?)?;
        let reason = last(REASON)?.to_string();
        let letter = Letter {
            reason,
            class,
            pipeline,
            transform,
            topic,
            partition,
            offset,
            time: time.timestamp_millis(),
            replays,
        };
        Some((letter, rest.len()))
    }
}

/// A time as it stands in headers: RFC 3339, UTC, milliseconds. 1970 if it's beyond what can be written so.
pub fn show_time(millis: i64) -> String {
    let time = DateTime::from_timestamp_millis(millis).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> Letter {
        Letter {
            reason: "no field \"timestamp\"".into(),
            class: Class::Refused,
            pipeline: "stocks".into(),
            transform: Some(("date".into(), "ab".repeat(32))),
            topic: "realstock".into(),
            partition: 3,
            offset: 42,
            time: 1_634_221_557_011,
            replays: 0,
        }
    }

    #[track_caller]
    fn comes_back(letter: &Letter, own: &Headers<'_>) {
        let written = letter.headers();
        let appended = written
            .iter()
            .map(|(name, value)| (name.as_bytes(), Some(value.as_bytes())));
        let all: Vec<_> = own.iter().copied().chain(appended).collect();
        assert_eq!(Letter::read(&all), Some((letter.clone(), own.len())));
    }

    #[test]
    fn letters_come_back() {
        comes_back(&letter(), &[]);
        comes_back(&letter(), &[(b"source", None), (b"source", Some(b"\xff"))]);
        let replays = 2;
        comes_back(
            &Letter {
                replays,
                ..letter()
            },
            &[],
        );
        let transform = None;
        comes_back(
            &Letter {
                transform,
                ..letter()
            },
            &[(b"weir.transform", Some(b"the record's own"))],
        );
    }

    #[test]
    fn other_records_are_no_letters() {
        assert_eq!(Letter::read(&[]), None);
        assert_eq!(Letter::read(&[(b"weir.time", Some(b"yesterday"))]), None);
        let written = letter().headers();
        let headers: Vec<_> = written
            .iter()
            .map(|(name, value)| (name.as_bytes(), Some(value.as_bytes())))
            .collect();
        assert_eq!(Letter::read(&headers[1..]), None);
        let time = headers.iter().position(|it| it.0 == b"weir.time").unwrap();
        assert_eq!(Letter::read(&headers[..time]), None);
    }

    #[test]
    fn times_are_of_rfc_3339() {
        let headers = letter().headers();
        let time = headers.iter().find(|it| it.0 == TIME).unwrap();
        assert_eq!(time.1, "2021-10-14T14:25:57.011Z");
    }
}
