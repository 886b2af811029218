//! Random choices that replay: a seed that is printed when the test fails.
//!
//! Set `SEED` to run a failed schedule again.

use std::time::Duration;

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::time::sleep;

/// A seeded source of moments and choices.
pub(crate) struct Chaos {
    seed: u64,
    rng: StdRng,
}

impl Chaos {
    /// From the environment's `SEED`, else a fresh one.
    pub(crate) fn new() -> Self {
        let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(rand::random);
        Self { seed, rng: StdRng::seed_from_u64(seed) }
    }

    /// Lets a random moment pass. This is the fault itself, not a wait for something.
    pub(crate) async fn moment(&mut self, at_most: Duration) {
        sleep(self.rng.random_range(Duration::ZERO..=at_most)).await;
    }

    /// One of so many, at random.
    pub(crate) fn below(&mut self, many: usize) -> usize {
        self.rng.random_range(0..many)
    }

    /// One of two, at random.
    pub(crate) fn coin(&mut self) -> bool {
        self.rng.random()
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay this schedule with SEED={}", self.seed);
        }
    }
}
