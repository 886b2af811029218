//! How long to wait before dialling a lost peer again. Pure: randomness is an argument.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);
/// 0.25 s doubled this often is past the longest wait.
const MAX_DOUBLINGS: u32 = 7;

/// Doubling waits with full jitter, so that servers that lost each other together do not
/// dial together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure: up to 0.25 s at first, up to 30 s in the end.
    ///
    /// `random` is uniform over all of `u32`.
    pub fn next(&mut self, random: u32) -> Duration {
        let doublings = self.failures.min(MAX_DOUBLINGS);
        self.failures = self.failures.saturating_add(1);
        let most = FIRST.saturating_mul(1 << doublings).min(LONGEST);
        most.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// Starts over, after a connection that held.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_thirty_seconds() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..10).map(|_| backoff.next(u32::MAX).as_millis()).collect();
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]);
        backoff.reset();
        assert_eq!(backoff.next(u32::MAX), FIRST);
    }

    #[test]
    fn jitter_is_full() {
        assert_eq!(Backoff { failures: 9 }.next(0), Duration::ZERO);
        let half = Backoff { failures: 9 }.next(u32::MAX / 2);
        assert!(half > Duration::from_secs(14) && half < Duration::from_secs(16));
        Backoff { failures: u32::MAX }.next(1);
    }
}
