//! What the feed tells of peers that nobody here asked for: bounded, however many dial in.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::router::PeerId;

/// The coming and going of one stranger is told once in this time.
const AGAIN: Duration = Duration::from_secs(600);
/// Strangers told of within that time; of more, only the list of peers knows.
const MAX_TOLD: usize = 64;
/// Strangers that are remembered once they are gone; the longest unseen is forgotten first.
pub(super) const MAX_REMEMBERED: u32 = 64;

/// The strangers of whom was told.
#[derive(Default)]
pub(super) struct Strangers(Mutex<HashMap<PeerId, Told>>);

struct Told {
    at: Instant,
    here: bool,
}

impl Strangers {
    /// A stranger is connected; true when that is to be told.
    pub(super) fn came(&self, peer: &PeerId, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, told| told.here || now.duration_since(told.at) < AGAIN);
        if told.contains_key(peer) || told.len() >= MAX_TOLD {
            return false;
        }
        told.insert(*peer, Told { at: now, here: true });
        true
    }

    /// A peer is gone; true when its coming as a stranger was told.
    pub(super) fn went(&self, peer: &PeerId) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.get_mut(peer).is_some_and(|told| std::mem::take(&mut told.here))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> PeerId {
        PeerId::of_secret(&[n; 32]).unwrap()
    }

    #[test]
    fn one_stranger_is_told_of_once_in_a_while() {
        let strangers = Strangers::default();
        let start = Instant::now();
        assert!(strangers.came(&peer(1), start));
        assert!(strangers.went(&peer(1)), "who came goes");
        assert!(!strangers.went(&peer(1)), "once");
        assert!(!strangers.came(&peer(1), start + AGAIN / 2));
        assert!(!strangers.went(&peer(1)), "its coming was not told");
        assert!(strangers.came(&peer(1), start + AGAIN));
    }

    #[test]
    fn many_strangers_are_not_told_of() {
        let strangers = Strangers::default();
        let start = Instant::now();
        let told = (0..100).filter(|n| strangers.came(&peer(*n), start)).count();
        assert_eq!(told, MAX_TOLD);
        // They stay: nobody can be told of until one goes.
        assert!(!strangers.came(&peer(200), start + AGAIN));
        assert!(strangers.went(&peer(0)));
        assert!(strangers.came(&peer(200), start + AGAIN));
    }
}
