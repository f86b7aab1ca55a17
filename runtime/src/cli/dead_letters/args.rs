//! What can be typed after `weir dead-letters`.

use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};

use super::super::args::ConfigFile;
use crate::config::parse_duration;
use crate::dead_letters::Filter;
use crate::letter::Class;

/// `weir dead-letters`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir dead-letters count                 how many, by class and transform
  weir dead-letters list --since 2h       the latest, one a line
  weir dead-letters show 0:42             one of them, with its record
  weir dead-letters replay --dry-run      what a replay would make of them

A replay remembers which letters it has replayed, in a consumer group of its
own: the pipeline's with \"-replay\" after it.")]
pub struct DeadLetters {
    /// What to do with them.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// List dead letters, and say which were replayed
    List(List),
    /// Show one dead letter with its record
    Show(Show),
    /// Pass records that became dead letters through the pipeline again, each once
    Replay(Replay),
    /// Count dead letters by class and transform
    Count(Count),
}

/// Whose dead letters.
#[derive(Clone, Debug, Args)]
pub struct Whose {
    /// The config file.
    #[command(flatten)]
    pub file: ConfigFile,
    /// The pipeline; may be left out if the file has one with a dead letter topic
    #[arg(value_name = "PIPELINE")]
    pub pipeline: Option<String>,
}

/// Which of them.
#[derive(Clone, Debug, Args)]
pub struct Which {
    /// Only this class; may be given several times
    #[arg(long = "class", value_name = "CLASS", value_parser = classes())]
    pub classes: Vec<Class>,
    /// Only those of this transform; may be given several times
    #[arg(long = "transform", value_name = "NAME")]
    pub transforms: Vec<String>,
    /// Only records from this topic; may be given several times
    #[arg(long = "topic", value_name = "TOPIC")]
    pub topics: Vec<String>,
    /// Only those that became dead letters since: a time such as 2026-01-31T00:00:00Z, or a duration ago such as 2h or 7d
    #[arg(long, value_name = "TIME")]
    pub since: Option<Moment>,
    /// Only those from before: a time, or a duration ago
    #[arg(long, value_name = "TIME")]
    pub until: Option<Moment>,
}

/// `weir dead-letters list`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir dead-letters list                          all, partition by partition
  weir dead-letters list stocks --since 2h        the latest of one pipeline
  weir dead-letters list --class trap --class deadline --pending
  weir dead-letters list --json | jq .reason      for programs")]
pub struct List {
    /// Whose.
    #[command(flatten)]
    pub whose: Whose,
    /// Which.
    #[command(flatten)]
    pub which: Which,
    /// Only those that were not replayed
    #[arg(long)]
    pub pending: bool,
    /// Stop after so many
    #[arg(long, value_name = "LETTERS")]
    pub limit: Option<NonZeroU64>,
    /// Print JSON, a line for each letter
    #[arg(long)]
    pub json: bool,
}

/// `weir dead-letters count`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir dead-letters count                         by class and transform
  weir dead-letters count stocks --since 7d       of one pipeline
  weir dead-letters count --json | jq .pending    for programs")]
pub struct Count {
    /// Whose.
    #[command(flatten)]
    pub whose: Whose,
    /// Which.
    #[command(flatten)]
    pub which: Which,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `weir dead-letters show`
#[derive(Debug, Args)]
#[command(
    allow_missing_positional = true,
    after_help = "\
Examples:
  weir dead-letters show 0:42                     as `list` names it
  weir dead-letters show stocks 0:42 --json       for programs
  weir dead-letters show 0:42 --raw | jq          the value's bytes alone"
)]
pub struct Show {
    /// Whose.
    #[command(flatten)]
    pub whose: Whose,
    /// The letter's partition and offset in the dead letter topic
    #[arg(value_name = "PARTITION:OFFSET")]
    pub place: Place,
    /// Print JSON
    #[arg(long, conflicts_with = "raw")]
    pub json: bool,
    /// Print the record's value as it is, and nothing else
    #[arg(long)]
    pub raw: bool,
}

/// `weir dead-letters replay`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir dead-letters replay --dry-run              what would become of each
  weir dead-letters replay                        all that are pending
  weir dead-letters replay --transform date --limit 1
  weir dead-letters replay stocks --to-input      for all readers of the topic

Records pass through the chain as the config has it now, with the topic,
partition and offset that they had, so that stable ids are the same. What fails
again becomes a dead letter again. Each letter is replayed once: outputs, new
dead letters and what was replayed are committed together, and a replay that
was interrupted goes on where it was when it's started again.

Letters that the filters leave out stay pending.")]
pub struct Replay {
    /// Whose.
    #[command(flatten)]
    pub whose: Whose,
    /// Which.
    #[command(flatten)]
    pub which: Which,
    /// Stop after so many
    #[arg(long, value_name = "LETTERS")]
    pub limit: Option<NonZeroU64>,
    /// Write the records back to the topics they came from, for every reader of those, instead of to the outputs
    #[arg(long)]
    pub to_input: bool,
    /// Say what would become of them, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl Which {
    /// The filter that was typed.
    pub fn filter(&self) -> Filter {
        Filter {
            classes: self.classes.clone(),
            transforms: self.transforms.clone(),
            topics: self.topics.clone(),
            since: self.since.map(|it| it.0),
            until: self.until.map(|it| it.0),
        }
    }
}

/// A point in time, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(pub i64);

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Moment, String> {
        Moment::parse(text, Utc::now().timestamp_millis())
    }
}

impl Moment {
    fn parse(text: &str, now: i64) -> Result<Moment, String> {
        /// Seconds of a day.
        const DAY: u64 = 86_400;
        if let Ok(time) = DateTime::parse_from_rfc3339(text) {
            return Ok(Moment(time.timestamp_millis()));
        }
        let days = text
            .strip_suffix('d')
            .and_then(|days| days.parse::<u32>().ok());
        let ago = match days {
            Some(days) => Some(Duration::from_secs(u64::from(days) * DAY)),
            None => parse_duration(text).ok(),
        };
        let ago = ago.and_then(|ago| i64::try_from(ago.as_millis()).ok());
        ago.map(|ago| Moment(now.saturating_sub(ago))).ok_or_else(|| {
            "write a time with its offset such as 2026-01-31T00:00:00Z, or a duration ago such as 90s, 2h or 7d".to_string()
        })
    }
}

/// A letter's place in the dead letter topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The partition, not negative.
    pub partition: i32,
    /// The offset there.
    pub offset: u64,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        let place = text.split_once(':').and_then(|(partition, offset)| {
            let partition = partition.parse().ok().filter(|&it| it >= 0)?;
            // Kafka counts offsets in 63 bits.
            let offset = offset.parse().ok().filter(|&it| it < i64::MAX as u64)?;
            Some(Place { partition, offset })
        });
        place.ok_or_else(|| "write the letter's partition and offset, such as 0:42".to_string())
    }
}

/// Classes by name.
fn classes() -> impl TypedValueParser<Value = Class> {
    let names = PossibleValuesParser::new(Class::ALL.map(Class::as_str));
    names.try_map(|name| Class::parse(&name).ok_or("there is no such class"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        let now = 1_700_000_000_000;
        #[track_caller]
        fn check(text: &str, expected: Option<i64>) {
            let moment = Moment::parse(text, 1_700_000_000_000);
            assert_eq!(moment.ok().map(|it| it.0), expected, "{text}");
        }
        check("1970-01-01T00:00:01.5Z", Some(1_500));
        check("2h", Some(now - 7_200_000));
        check("7d", Some(now - 7 * 86_400_000));
        check("0s", Some(now));
        check("4294967295d", Some(now - 4_294_967_295 * 86_400_000));
        for wrong in ["", "d", "-1d", "yesterday", "2026-01-31", "5"] {
            check(wrong, None);
        }
    }

    #[test]
    fn places() {
        #[track_caller]
        fn check(text: &str, expected: Option<(i32, u64)>) {
            let place = text.parse::<Place>().ok();
            assert_eq!(
                place.map(|it| (it.partition, it.offset)),
                expected,
                "{text}"
            );
        }
        check("0:42", Some((0, 42)));
        check(
            "2147483647:9223372036854775806",
            Some((i32::MAX, i64::MAX as u64 - 1)),
        );
        for wrong in [
            "",
            "42",
            "-1:0",
            "0:-1",
            "0:",
            ":0",
            "0:9223372036854775807",
            "2147483648:0",
        ] {
            check(wrong, None);
        }
    }
}
