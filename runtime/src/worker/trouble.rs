//! What keeps a worker from delivering: told of when it begins, now and then while it lasts, and when it's over.

use std::time::{Duration, Instant};

use crate::fold::{Fold, kind};

/// A worker's trouble.
pub(super) struct Trouble {
    fold: Fold<String>,
    spell: Option<Spell>,
    /// When something was delivered last, or there was nothing to deliver.
    moved: Instant,
}

/// From the first failure to the next success.
struct Spell {
    since: Instant,
    failures: u64,
    told: bool,
    /// Nothing comes back, not even failures.
    stalled: bool,
    /// Something was delivered since it was last told that nothing is, or there was nothing to deliver.
    moved: bool,
}

/// So long nothing may come back before it's told. Brokers answer within milliseconds, and a leader's change takes a
/// second or two.
const STALL: Duration = Duration::from_secs(5);

impl Trouble {
    pub(super) fn new(now: Instant) -> Trouble {
        Trouble {
            fold: Fold::default(),
            spell: None,
            moved: now,
        }
    }

    /// Whether a failure that isn't the end of deliveries is told of: how many like it weren't.
    pub(super) fn tells(&mut self, cause: &str, now: Instant) -> Option<u64> {
        self.fold.tells(kind(cause), now)
    }

    /// Takes in that deliveries failed. Whether that's told of: how many such failures weren't.
    pub(super) fn fails(&mut self, cause: &str, now: Instant) -> Option<u64> {
        let told = self.tells(cause, now);
        let spell = self.spell.get_or_insert(Spell::new(now));
        spell.failures += 1;
        spell.moved = false;
        spell.told |= told.is_some();
        self.moved = now;
        told
    }

    /// Takes in that something was delivered, or that there's nothing to deliver.
    pub(super) fn moves(&mut self, now: Instant) {
        self.moved = now;
        if let Some(spell) = &mut self.spell {
            spell.moved = true;
        }
    }

    /// Whether it's time to tell that nothing comes back: for how long. Once in a spell.
    pub(super) fn stalls(&mut self, now: Instant) -> Option<Duration> {
        let idle = now.saturating_duration_since(self.moved);
        if idle < STALL || self.spell.as_ref().is_some_and(|it| it.stalled) {
            return None;
        }
        let spell = self.spell.get_or_insert(Spell::new(self.moved));
        spell.stalled = true;
        spell.moved = false;
        spell.told = true;
        Some(idle)
    }

    /// Whether there is trouble.
    pub(super) fn is_on(&self) -> bool {
        self.spell.is_some()
    }

    /// Whether there is trouble that may be over.
    pub(super) fn has_moved(&self) -> bool {
        self.spell.as_ref().is_some_and(|it| it.moved)
    }

    /// It's over. If its beginning was told, so is this: how long it took, and how many failures there were.
    pub(super) fn end(&mut self, now: Instant) -> Option<(Duration, u64)> {
        let spell = self.spell.take()?;
        let lasted = now.saturating_duration_since(spell.since);
        spell.told.then_some((lasted, spell.failures))
    }
}

impl Spell {
    fn new(since: Instant) -> Spell {
        Spell {
            since,
            failures: 0,
            told: false,
            stalled: false,
            moved: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spell_has_a_beginning_and_an_end() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut trouble = Trouble::new(now);
        assert_eq!(trouble.end(now), None);
        assert_eq!(trouble.fails("t/1: denied", now), Some(0));
        assert_eq!(trouble.fails("t/2: denied", now + second), None);
        assert!(trouble.is_on());
        assert_eq!(trouble.end(now + second * 3), Some((second * 3, 2)));
        // Nobody was told of this one, and so not of its end.
        assert_eq!(trouble.fails("t/1: denied", now + second * 4), None);
        assert_eq!(trouble.end(now + second * 5), None);
        assert!(!trouble.is_on());
    }

    #[test]
    fn silence_is_told_once() {
        let now = Instant::now();
        let mut trouble = Trouble::new(now);
        assert_eq!(trouble.stalls(now + STALL / 2), None);
        assert_eq!(trouble.stalls(now + STALL), Some(STALL));
        assert_eq!(trouble.stalls(now + STALL * 2), None);
        assert!(!trouble.has_moved());
        trouble.moves(now + STALL * 3);
        assert!(trouble.has_moved());
        assert_eq!(trouble.end(now + STALL * 3), Some((STALL * 3, 0)));
        trouble.moves(now + STALL * 3);
        assert_eq!(trouble.stalls(now + STALL * 3), None);
        assert_eq!(trouble.stalls(now + STALL * 4), Some(STALL));
    }
}
