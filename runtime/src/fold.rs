//! Repeated trouble, told now and then.

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Lets the first of each kind through, and then one per period with the number of those that came meanwhile. A broker
/// that's down makes itself heard at each try, of each client, for each partition.
#[derive(Debug)]
pub struct Fold<K> {
    period: Duration,
    kinds: HashMap<K, Told>,
}

#[derive(Debug)]
struct Told {
    last: Instant,
    more: u64,
}

/// Between two lines of one kind.
const PERIOD: Duration = Duration::from_secs(10);

/// More kinds than there are to tell apart; a text in them changes each time.
const MOST_KINDS: usize = 64;

impl<K> Default for Fold<K> {
    fn default() -> Fold<K> {
        Fold::every(PERIOD)
    }
}

impl<K> Fold<K> {
    /// One of a kind per period.
    pub fn every(period: Duration) -> Fold<K> {
        Fold {
            period,
            kinds: HashMap::new(),
        }
    }
}

impl<K: Hash + Eq> Fold<K> {
    /// Whether this one is told of: how many of its kind weren't since the last that was.
    pub fn tells(&mut self, kind: K, now: Instant) -> Option<u64> {
        if let Some(told) = self.kinds.get_mut(&kind) {
            if now.saturating_duration_since(told.last) < self.period {
                told.more += 1;
                return None;
            }
            told.last = now;
            return Some(std::mem::take(&mut told.more));
        }
        if self.kinds.len() >= MOST_KINDS {
            let period = self.period;
            let fresh = |told: &mut Told| now.saturating_duration_since(told.last) < period;
            self.kinds.retain(|_, told| fresh(told));
        }
        if self.kinds.len() >= MOST_KINDS {
            return None;
        }
        self.kinds.insert(kind, Told { last: now, more: 0 });
        Some(0)
    }
}

/// What kind of trouble a text is about: the text without its numbers, which are offsets, partitions and times.
pub fn kind(what: impl Display) -> String {
    let mut kind = String::new();
    for letter in what.to_string().chars() {
        match letter.is_ascii_digit() {
            true if kind.ends_with('#') => {}
            true => kind.push('#'),
            false => kind.push(letter),
        }
    }
    kind
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_kind_is_told_per_period() {
        let mut fold = Fold::default();
        let now = Instant::now();
        assert_eq!(fold.tells("a", now), Some(0));
        assert_eq!(fold.tells("a", now), None);
        assert_eq!(fold.tells("b", now), Some(0), "another kind");
        assert_eq!(fold.tells("a", now + PERIOD / 2), None);
        assert_eq!(fold.tells("a", now + PERIOD), Some(2));
        assert_eq!(fold.tells("a", now + PERIOD * 2), Some(0));
    }

    #[test]
    fn kinds_without_end_are_bounded_too() {
        let mut fold = Fold::default();
        let now = Instant::now();
        let told = (0..1_000).filter(|it| fold.tells(*it, now).is_some());
        assert_eq!(told.count(), MOST_KINDS);
        assert_eq!(fold.tells(1_000, now + PERIOD), Some(0));
        assert_eq!(fold.kinds.len(), 1);
    }

    #[test]
    fn numbers_make_no_difference() {
        assert_eq!(kind("orders/12 at offset 345"), "orders/# at offset #");
        assert_eq!(kind("orders/1 at offset 9"), "orders/# at offset #");
    }
}
