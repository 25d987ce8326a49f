//! Seeded randomness: the same seed, the same fate.

use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood 2014): small, fast, and the same in every
/// version of every library, so that a printed seed stays good.
#[derive(Debug, Clone)]
pub struct Dice {
    state: u64,
}

impl Dice {
    /// Dice that roll as the seed says.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// True so many times in a thousand.
    pub fn one_of_thousand(&mut self, times: u32) -> bool {
        self.roll() % 1_000 < u64::from(times)
    }

    /// A duration below `bound`, or zero when the bound is.
    pub fn below(&mut self, bound: Duration) -> Duration {
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.roll().checked_rem(nanos).unwrap_or(0))
    }

    /// A number below `bound`, or zero when the bound is.
    pub fn number_below(&mut self, bound: u64) -> u64 {
        self.roll().checked_rem(bound).unwrap_or(0)
    }

    /// A number from `least` to `most`, inclusive.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.number_below(most - least + 1)
    }

    /// One of several things.
    ///
    /// # Panics
    ///
    /// When there is nothing to choose from.
    pub fn pick<'a, T>(&mut self, things: &'a [T]) -> &'a T {
        &things[self.number_below(things.len() as u64) as usize]
    }
}
