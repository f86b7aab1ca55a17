//! Chance that repeats itself: SplitMix64 (Steele, Lea and Flood, 2014), so that a seed means the same run for ever.

/// A stream of numbers.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The stream of a seed's n-th part, unlike those of its other parts.
    pub fn nth(seed: u64, n: u64) -> Dice {
        let mut dice = Dice(seed);
        let start = dice.next() ^ n.wrapping_mul(0xd1b5_4a32_d192_ed03);
        Dice(start)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `end`, which isn't 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A number from `start` to below `end`.
    pub fn between(&mut self, start: u64, end: u64) -> u64 {
        start + self.below(end - start)
    }

    /// Whether something happens that happens once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_splitmix64() {
        // From the reference implementation (prng.di.unimi.it/splitmix64.c) with seed 1234567.
        let mut dice = Dice(1_234_567);
        assert_eq!(dice.next(), 6_457_827_717_110_365_317);
        assert_eq!(dice.next(), 3_203_168_211_198_807_973);
        assert_eq!(dice.next(), 9_817_491_932_198_370_423);
    }

    #[test]
    fn parts_differ() {
        assert_ne!(Dice::nth(1, 1).next(), Dice::nth(1, 2).next());
        assert_ne!(Dice::nth(1, 1).next(), Dice::nth(2, 1).next());
    }
}
