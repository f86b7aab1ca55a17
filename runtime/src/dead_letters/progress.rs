//! Which letters of a partition were replayed: a set of offsets that a group can keep beside its committed offset.
//!
//! Below the committed offset all is done. Further letters may be done too, since a replay may choose among them: the
//! note beside the offset says which. It counts offsets by turns, from the committed one on: so many pending, so many
//! done, so many pending, … so many done; beyond that all is pending. `1.` and the counts as LEB128 in base64 (RFC 4648,
//! section 5, without padding). Offsets that hold no letter belong to either side.

use anyhow::{Context, Error, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The longest note that a group keeps: the broker's default of `offset.metadata.max.bytes`.
pub const NOTE_MAX: usize = 4_096;

/// What a note of this format starts with.
const FORMAT: &str = "1.";

/// The largest offset that Kafka counts to.
const OFFSET_MAX: u64 = i64::MAX as u64;

/// Which letters of a partition were replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Where done and pending take turns: all below the first is done, pending up to the second, done up to the third,
    /// and so on. Strictly increasing, and of an odd number, so that all from the last on is pending.
    turns: Vec<u64>,
}

impl Default for Progress {
    /// Nothing was replayed.
    fn default() -> Progress {
        Progress { turns: vec![0] }
    }
}

impl Progress {
    /// What a group has committed. Fails on a note that isn't [`Progress::note`]'s.
    pub fn read(offset: u64, note: &str) -> Result<Progress, Error> {
        let mut turns = vec![offset];
        if note.is_empty() {
            return Ok(Progress { turns });
        }
        let Some(text) = note.strip_prefix(FORMAT) else {
            bail!("its format isn't one that this Weir knows: {note:?}");
        };
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .with_context(|| format!("it's damaged: {note:?}"))?;
        let mut rest = bytes.as_slice();
        let mut last = offset;
        while !rest.is_empty() {
            let count = take_count(&mut rest).filter(|&count| count > 0);
            let next = count.and_then(|count| last.checked_add(count));
            last = next
                .filter(|&next| next <= OFFSET_MAX)
                .with_context(|| format!("it's damaged: {note:?}"))?;
            turns.push(last);
        }
        ensure!(turns.len() % 2 == 1, "it's damaged: {note:?}");
        Ok(Progress { turns })
    }

    /// All letters below are done, and the one here isn't known to be: the offset to commit.
    pub fn offset(&self) -> u64 {
        self.turns[0]
    }

    /// What to commit beside [`Progress::offset`]; may be longer than a group keeps.
    pub fn note(&self) -> String {
        if self.turns.len() == 1 {
            return String::new();
        }
        let mut bytes = Vec::new();
        for pair in self.turns.windows(2) {
            put_count(&mut bytes, pair[1] - pair[0]);
        }
        format!("{FORMAT}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Whether the letter at an offset is done.
    pub fn is_done(&self, offset: u64) -> bool {
        self.turns
            .partition_point(|&turn| turn <= offset)
            .is_multiple_of(2)
    }
}

/// Goes along a partition's letters and notes which of them are done by now; what it hasn't come to is as it was before.
#[derive(Clone, Debug)]
pub struct Walk {
    before: Progress,
    /// Where done and pending took turns on the way.
    turns: Vec<u64>,
    /// How far it has come.
    at: u64,
}

impl Walk {
    /// Starts where the first letter may be pending.
    pub fn new(before: Progress) -> Walk {
        Walk {
            at: before.offset(),
            turns: Vec::new(),
            before,
        }
    }

    /// Where it is: all letters below were told to it, or were done at the start.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Takes in the next letter. Offsets increase.
    pub fn letter(&mut self, offset: u64, done: bool) {
        if done == self.is_pending() {
            self.turns.push(offset);
        }
        self.at = self.at.max(offset + 1);
    }

    /// There's no further letter below an offset.
    pub fn pass(&mut self, offset: u64) {
        self.at = self.at.max(offset);
    }

    /// What is done by now.
    pub fn progress(&self) -> Progress {
        let mut turns = self.turns.clone();
        if self.is_pending() == self.before.is_done(self.at) {
            turns.push(self.at);
        }
        let beyond = self.before.turns.iter().filter(|&&turn| turn > self.at);
        turns.extend(beyond);
        Progress { turns }
    }

    /// Whether the last letter was pending.
    fn is_pending(&self) -> bool {
        self.turns.len() % 2 == 1
    }
}

fn put_count(bytes: &mut Vec<u8>, mut count: u64) {
    while count >= 0x80 {
        bytes.push(count as u8 | 0x80);
        count >>= 7;
    }
    bytes.push(count as u8);
}

/// Takes a count off the front; `None` if there is none that fits 64 bits.
fn take_count(bytes: &mut &[u8]) -> Option<u64> {
    let mut count = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        count |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(count);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn comes_back(progress: &Progress) {
        let read = Progress::read(progress.offset(), &progress.note());
        assert_eq!(read.unwrap(), *progress);
    }

    #[test]
    fn a_note_counts_by_turns() {
        assert_eq!(Progress::default().note(), "");
        let progress = Progress {
            turns: vec![10, 13, 213],
        };
        assert_eq!(
            (progress.offset(), progress.note()),
            (10, "1.A8gB".to_string())
        );
        let done: Vec<u64> = (0..300).filter(|&it| progress.is_done(it)).collect();
        let expected: Vec<u64> = (0..10).chain(13..213).collect();
        assert_eq!(done, expected);
        comes_back(&progress);
        comes_back(&Progress {
            turns: vec![0, 1, OFFSET_MAX],
        });
    }

    #[test]
    fn other_notes_are_refused() {
        for note in [
            "by hand",                  // somebody else's
            "2.A8gB",                   // of a later format
            "1.A8g",                    // cut off
            "1.Aw",                     // ends with pending ones
            "1.AAE",                    // a turn of none
            "1.A8gB=",                  // not in this base64
            "1.gICAgICAgICAgICAgICAAQ", // no number of 64 bits
            "1.Af__________fw",         // beyond the largest offset
        ] {
            assert!(Progress::read(10, note).is_err(), "{note}");
        }
        assert!(Progress::read(OFFSET_MAX, "1.AQE").is_err());
    }

    #[test]
    fn a_walk_joins_what_no_letter_parts() {
        // Control records stand between letters, and are nobody's.
        let mut walk = Walk::new(Progress::default());
        for offset in [0, 2, 4, 6] {
            walk.letter(offset, true);
        }
        assert_eq!(walk.progress(), Progress { turns: vec![7] });
        walk.pass(8);
        assert_eq!(walk.progress(), Progress { turns: vec![8] });
        for (offset, done) in [(8, false), (10, false), (12, true), (14, true)] {
            walk.letter(offset, done);
        }
        let turns = vec![8, 12, 15];
        assert_eq!(walk.progress(), Progress { turns });
        // The rest, later.
        let mut walk = Walk::new(walk.progress());
        assert_eq!(walk.at(), 8);
        walk.letter(8, true);
        let turns = vec![9, 12, 15];
        assert_eq!(walk.progress(), Progress { turns });
        walk.letter(10, true);
        let turns = vec![11, 12, 15];
        assert_eq!(walk.progress(), Progress { turns });
        walk.letter(12, true);
        assert_eq!(walk.progress(), Progress { turns: vec![15] });
    }

    /// Letters of a partition, by offset: those that are left out exist no more than control records do.
    fn letters() -> impl Strategy<Value = BTreeSet<u64>> {
        btree_set(0..400u64, 0..120)
    }

    proptest! {
        #[test]
        fn any_progress_comes_back(counts in vec(1..1_000_000_000u64, 0..40), first in 0..1_000_000u64) {
            let mut turns = vec![first];
            for count in counts {
                turns.push(turns[turns.len() - 1] + count);
            }
            if turns.len() % 2 == 0 {
                turns.pop();
            }
            comes_back(&Progress { turns });
        }

        #[test]
        fn any_note_is_read_or_refused(offset in any::<u64>(), note in "(1\\.)?[A-Za-z0-9_=-]{0,40}") {
            if let Ok(progress) = Progress::read(offset, &note) {
                prop_assert_eq!(progress.note().len() <= note.len().max(2), true);
            }
        }

        /// Replays that choose at random, and stop anywhere, against a plain set; each reads what the one before wrote.
        #[test]
        fn walks_agree_with_a_set(
            letters in letters(),
            replays in vec((any::<u64>(), 0..121usize, any::<bool>()), 1..8),
        ) {
            let mut done = BTreeSet::new();
            let mut progress = Progress::default();
            for (choice, stop, ends) in replays {
                let mut walk = Walk::new(progress.clone());
                for (nth, &letter) in letters.iter().filter(|&&it| it >= progress.offset()).enumerate() {
                    if nth == stop {
                        break;
                    }
                    let was_done = progress.is_done(letter);
                    prop_assert_eq!(was_done, done.contains(&letter));
                    let chosen = choice >> (nth % 64) & 1 == 1;
                    walk.letter(letter, was_done || chosen);
                    if chosen {
                        done.insert(letter);
                    }
                    // Any moment may be the one that is committed.
                    let now = walk.progress();
                    for it in &letters {
                        prop_assert_eq!(now.is_done(*it), done.contains(it), "{} of {:?}", it, now);
                    }
                }
                if ends && stop > letters.len() {
                    walk.pass(400);
                }
                progress = walk.progress();
                prop_assert!(progress.turns.is_sorted_by(|one, other| one < other) && progress.turns.len() % 2 == 1);
                progress = Progress::read(progress.offset(), &progress.note()).unwrap();
                for it in &letters {
                    prop_assert_eq!(progress.is_done(*it), done.contains(it));
                }
            }
        }
    }
}
