//! Connections that are open and have nothing to do: few may wait long for more work.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

/// Connections that this process keeps open at rest; each is a thread and some 4 MiB. Beyond them it soon
/// gives those back that come to rest, as when a thousand accounts start at once.
const MAX: usize = 64;
/// How soon.
const CROWDED_IDLE: Duration = Duration::from_secs(1);

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// A connection at rest, for as long as it is.
pub(super) struct Resting {
    count: &'static AtomicUsize,
    others: usize,
}

impl Resting {
    pub(super) fn begin() -> Self {
        Self::among(&COUNT)
    }

    fn among(count: &'static AtomicUsize) -> Self {
        Self { count, others: count.fetch_add(1, Ordering::Relaxed) }
    }

    /// How long it stays open, where one alone would for `idle`.
    pub(super) fn patience(&self, idle: Duration) -> Duration {
        if self.others < MAX { idle } else { idle.min(CROWDED_IDLE) }
    }
}

impl Drop for Resting {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_crowd_nobody_rests_long() {
        static HERE: AtomicUsize = AtomicUsize::new(0);
        let idle = Duration::from_secs(30);
        let mut early: Vec<_> = (0..MAX).map(|_| Resting::among(&HERE)).collect();
        assert!(early.iter().all(|resting| resting.patience(idle) == idle));
        let late = Resting::among(&HERE);
        assert_eq!(late.patience(idle), CROWDED_IDLE);
        assert_eq!(late.patience(Duration::ZERO), Duration::ZERO);
        drop((late, early.pop()));
        assert_eq!(Resting::among(&HERE).patience(idle), idle);
    }
}
