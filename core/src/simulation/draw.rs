//! Randomness that replays: ChaCha8 streams of one seed, and draws from them in integers alone.
//!
//! `rand` may change how it maps bits to ranges from one version to the next. A seed in a report must still
//! mean the same run then, so the mapping stands here.

use std::ops::RangeInclusive;

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a stream of randomness is for. Draws from one never shift those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The faults and commands of a schedule.
    Schedule,
    /// One member's own choices.
    Member(u16),
    /// What happens on the way from one member to another.
    Link(u16, u16),
    /// Whatever a scenario needs more.
    Scenario(u32),
}

/// One stream of a seed.
#[derive(Clone, Debug)]
pub struct Draw(ChaCha8Rng);

impl Draw {
    /// Opens a stream of a seed.
    #[must_use]
    pub fn new(seed: u64, stream: Stream) -> Self {
        let (kind, index) = match stream {
            Stream::Schedule => (1_u64, 0),
            Stream::Member(member) => (2, u64::from(member)),
            Stream::Link(from, to) => (3, u64::from(from) << 16 | u64::from(to)),
            Stream::Scenario(index) => (4, u64::from(index)),
        };
        let words = [seed, kind, index, 0].into_iter().flat_map(u64::to_le_bytes);
        let mut key = [0; 32];
        key.iter_mut().zip(words).for_each(|(byte, word)| *byte = word);
        Self(ChaCha8Rng::from_seed(key))
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.0.next_u64()) * u128::from(bound);
        u64::try_from(product >> 64).unwrap_or_default()
    }

    /// An index below `length`; 0 if there is none.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(u64::try_from(length).unwrap_or(u64::MAX))).unwrap_or_default()
    }

    /// A number of the range, both ends included; its start if it is empty.
    pub fn within(&mut self, range: &RangeInclusive<u64>) -> u64 {
        let width = range.end().saturating_sub(*range.start());
        range.start().saturating_add(self.below(width.saturating_add(1)))
    }

    /// A number of the range whose magnitude is even: as often from 1 to 2 as from 64 to 128.
    pub fn magnitude(&mut self, range: &RangeInclusive<u64>) -> u64 {
        let (low, high) = ((*range.start()).max(1), (*range.end()).max(1));
        let octaves = (high / low).checked_ilog2().unwrap_or_default();
        let octave = self.below(u64::from(octaves) + 1);
        let from = low << octave;
        self.within(&(from..=from.saturating_mul(2).min(high)))
    }

    /// Whether something that happens `per_million` times in a million happens now.
    pub fn chance(&mut self, per_million: u32) -> bool {
        self.below(1_000_000) < u64::from(per_million)
    }

    /// One of the items.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.index(items.len()))
    }

    /// The position of one of the weights, each as often as it weighs; none if all are 0.
    pub fn weighted(&mut self, weights: &[u32]) -> Option<usize> {
        let mut left = self.below(weights.iter().map(|weight| u64::from(*weight)).sum());
        weights.iter().position(|weight| {
            let found = left < u64::from(*weight);
            left = left.saturating_sub(u64::from(*weight));
            found
        })
    }

    /// Puts the items in any order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }
}

impl RngCore for Draw {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_numbers_for_ever() {
        let mut draw = Draw::new(7, Stream::Schedule);
        let drawn: Vec<u64> = (0..4).map(|_| draw.below(1_000_000)).collect();
        assert_eq!(drawn, [869_857, 53_940, 1_792, 600_552]);
        let mut link = Draw::new(7, Stream::Link(1, 2));
        assert_eq!((link.below(1_000_000), link.next_u32()), (526_862, 3_924_000_882));
    }

    #[test]
    fn draws_stay_in_their_ranges_and_reach_both_ends() {
        let mut draw = Draw::new(1, Stream::Scenario(0));
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..1_000 {
            seen.insert(draw.within(&(3..=6)));
            assert!((5..=700).contains(&draw.magnitude(&(5..=700))));
            assert_ne!(draw.weighted(&[1, 0, 2]), Some(1));
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [3, 4, 5, 6]);
        assert_eq!((draw.below(0), draw.pick::<u8>(&[]), draw.weighted(&[0])), (0, None, None));
    }

    #[test]
    fn a_shuffle_loses_nothing() {
        let mut items: Vec<u8> = (0..50).collect();
        Draw::new(1, Stream::Member(0)).shuffle(&mut items);
        assert!(!items.is_sorted());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
