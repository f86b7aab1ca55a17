//! Which records go through a canary: always the same ones, whoever asks, also after a restart.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::record::Batch;

/// What a canary's share is a share of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Keys, as the step is given them. A record without a key stays with the active version.
    Keys,
    /// Partitions of the input topics.
    Partitions,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::Keys => "keys",
            Unit::Partitions => "partitions",
        })
    }
}

/// The share of records that a canary is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Of what.
    pub unit: Unit,
    hundredths: u32,
}

/// A whole in hundredths of a percent.
const ALL: u64 = 10_000;

/// Which records of a batch are the canary's.
pub(super) enum Part {
    None,
    All,
    /// By index.
    Some {
        ours: Vec<u32>,
        others: Vec<u32>,
    },
}

impl Share {
    /// So many percent, from 0.01 to 99.99, to a hundredth; `None` if it's outside.
    pub fn new(percent: f64, unit: Unit) -> Option<Share> {
        let hundredths = (percent * 100.0).round();
        (hundredths >= 1.0 && hundredths < ALL as f64).then_some(Share {
            unit,
            hundredths: hundredths as u32,
        })
    }

    /// The share in percent.
    pub fn percent(&self) -> f64 {
        f64::from(self.hundredths) / 100.0
    }

    /// Whether a partition is the canary's: of the first n partitions of a topic these are n times the share, rounded down,
    /// spread evenly.
    pub fn has_partition(&self, partition: i32) -> bool {
        let below = |partitions: u64| partitions * u64::from(self.hundredths) / ALL;
        match u64::try_from(partition) {
            Ok(it) => below(it + 1) > below(it),
            Err(_) => false,
        }
    }

    /// Whether a key is the canary's: the first 8 bytes of its SHA-256 as a big-endian number, modulo 10,000, are below the
    /// share in hundredths of a percent. (The partitioner's murmur2 would tie the choice to partitions.)
    pub fn has_key(&self, key: &[u8]) -> bool {
        let digest: [u8; 32] = Sha256::digest(key).into();
        let (first, _) = digest.split_at(8);
        let number = first.iter().fold(0, |it, &byte| it << 8 | u64::from(byte));
        number % ALL < u64::from(self.hundredths)
    }

    pub(super) fn of(&self, batch: &Batch) -> Part {
        if self.unit == Unit::Partitions {
            return match self.has_partition(batch.partition) {
                true => Part::All,
                false => Part::None,
            };
        }
        let is_ours = |&index: &u32| {
            let key = batch.keys.get(index as usize);
            key.is_some_and(|key| self.has_key(key))
        };
        let (ours, others): (Vec<u32>, Vec<u32>) = (0..batch.len() as u32).partition(is_ours);
        match (ours.is_empty(), others.is_empty()) {
            (true, _) => Part::None,
            (_, true) => Part::All,
            _ => Part::Some { ours, others },
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}% of {}", self.percent(), self.unit)
    }
}

/// A percentage as a person types it: `10%` or `0.5%`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percent(pub f64);

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Percent, String> {
        let number = text.strip_suffix('%').unwrap_or(text).trim();
        let percent: f64 = number
            .parse()
            .map_err(|_| format!("{text:?} isn't a percentage such as 10%"))?;
        match Share::new(percent, Unit::Keys) {
            Some(_) => Ok(Percent(percent)),
            None => Err(format!("{text} must be from 0.01% to 99.99%")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(percent: f64, unit: Unit) -> Share {
        Share::new(percent, unit).unwrap()
    }

    #[test]
    fn exactly_the_share_of_partitions_is_the_canary_s() {
        for percent in [0.01, 1.0, 10.0, 25.0, 33.33, 50.0, 99.99] {
            let share = share(percent, Unit::Partitions);
            for partitions in 1..200 {
                let ours = (0..partitions)
                    .filter(|&it| share.has_partition(it))
                    .count();
                let exact = f64::from(partitions) * percent / 100.0;
                assert_eq!(
                    ours,
                    (exact + 1e-9).floor() as usize,
                    "{share} of {partitions}"
                );
            }
        }
        let quarter = share(25.0, Unit::Partitions);
        let ours: Vec<i32> = (0..12).filter(|&it| quarter.has_partition(it)).collect();
        assert_eq!(ours, [3, 7, 11]);
        assert!(!quarter.has_partition(-1));
    }

    #[test]
    fn the_keys_are_always_the_same_and_about_the_share() {
        let keys: Vec<String> = (0..20_000).map(|it| format!("key-{it}")).collect();
        for percent in [1.0, 10.0, 50.0] {
            let share = share(percent, Unit::Keys);
            let ours = keys
                .iter()
                .filter(|it| share.has_key(it.as_bytes()))
                .count() as f64;
            let expected = keys.len() as f64 * percent / 100.0;
            // Five standard deviations.
            let slack = 5.0 * (expected * (1.0 - percent / 100.0)).sqrt();
            assert!((ours - expected).abs() < slack, "{share}: {ours}");
        }
        // Worked out by hand: `printf IBM | sha256sum`, its first 16 digits modulo 10,000, is 8758.
        assert!(
            !share(87.58, Unit::Keys).has_key(b"IBM") && share(87.59, Unit::Keys).has_key(b"IBM")
        );
        // A larger share has all keys of a smaller one.
        let (small, large) = (share(10.0, Unit::Keys), share(20.0, Unit::Keys));
        let grows = |it: &&String| small.has_key(it.as_bytes()) && !large.has_key(it.as_bytes());
        assert_eq!(keys.iter().find(grows), None);
    }

    #[test]
    fn percentages_as_they_are_typed() {
        assert_eq!("10%".parse(), Ok(Percent(10.0)));
        assert_eq!("0.5".parse(), Ok(Percent(0.5)));
        for wrong in ["", "%", "ten", "0%", "100%", "-1%", "nan", "0.001%"] {
            assert!(wrong.parse::<Percent>().is_err(), "{wrong}");
        }
    }
}
