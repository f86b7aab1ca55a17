//! Randomness that a seed decides, on every machine and in every version: a named generator, and ranges drawn here
//! rather than by a library that may draw them otherwise next year.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};

pub(super) struct Dice(Xoshiro256PlusPlus);

impl Dice {
    /// Dice for a seed; each `stream` of the same seed is independent of the others.
    pub(super) fn new(seed: u64, stream: u64) -> Dice {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&stream.to_le_bytes());
        // A state of few ones takes a while to mix; it also may not be all zeros.
        bytes[16..].copy_from_slice(b"weir fake record");
        let mut rng = Xoshiro256PlusPlus::from_seed(bytes);
        for _ in 0..32 {
            rng.next_u64();
        }
        Dice(rng)
    }

    /// 0 to `bound - 1`, or 0 if `bound` is 0. The bias of the multiplication is below 2^-32.
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        (((self.0.next_u64() >> 32) * u64::from(bound)) >> 32) as u32
    }

    /// An index of a list of `len` entries, as short as lists in the source are.
    pub(super) fn index(&mut self, len: usize) -> usize {
        self.below(len as u32) as usize
    }

    /// One of the entries, which must not be empty.
    pub(super) fn pick<'a>(&mut self, entries: &[&'a str]) -> &'a str {
        entries[self.index(entries.len())]
    }

    /// True in a share of the cases: never for 0, always for 1.
    pub(super) fn chance(&mut self, share: f64) -> bool {
        // 53 bits, as many as a double has, make a number from 0 to just below 1.
        let fraction = (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        fraction < share
    }
}
