//! Whose turn it is to reconcile a group, how often, and what waits meanwhile.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::MutexGuard, time::Instant};

use super::{Lack, serve::Served};
use crate::{
    id::{GroupId, LogId},
    router::PeerId,
};

/// A group is reconciled with a peer this often at most.
const EVERY: Duration = Duration::from_secs(2);
/// Peers and groups that are remembered; beyond it all are forgotten.
const MAX_REMEMBERED: usize = 4_096;
/// States of which a peer may show that they are missing, until that is looked into.
const MAX_STATES: usize = 8;
/// Tips wait this long at most for a run to end.
const QUIET: Duration = Duration::from_secs(20);

/// The groups that are being reconciled, and what peers were served.
#[derive(Default)]
pub(in crate::network) struct Reconciling {
    turns: Mutex<HashMap<GroupId, Arc<Turn>>>,
    last: Mutex<HashMap<(GroupId, PeerId), Instant>>,
    suspected: Mutex<HashMap<(GroupId, PeerId), Suspicion>>,
    pub(super) served: Served,
}

/// What a peer showed to be missing here since that was last looked into.
#[derive(Default)]
pub(super) struct Suspicion {
    states: Vec<[u8; 16]>,
    logs: Option<HashMap<LogId, u64>>,
}

impl Suspicion {
    /// Of many states a few are remembered, of positions the last: whoever lacks any looks for all.
    fn add(&mut self, lack: Lack) {
        match lack {
            Lack::State(tag) if self.states.len() < MAX_STATES => self.states.push(tag),
            Lack::State(_) => {}
            Lack::Events(logs) => self.logs = Some(logs),
        }
    }

    /// Tags of states in which the peer seals.
    pub(super) fn states(&self) -> &[[u8; 16]] {
        &self.states
    }

    /// Where the peer is in each log.
    pub(super) fn logs(&self) -> Option<&HashMap<LogId, u64>> {
        self.logs.as_ref()
    }
}

/// One group's.
#[derive(Default)]
pub(super) struct Turn {
    running: tokio::sync::Mutex<()>,
    fetching: Mutex<Option<Fetching>>,
}

#[derive(Clone, Copy)]
struct Fetching {
    since: Instant,
    /// The group moved on: there are commits to be taken.
    behind: bool,
}

impl Turn {
    /// Waits for one's turn.
    pub(super) async fn running(&self) -> MutexGuard<'_, ()> {
        self.running.lock().await
    }

    fn fetching(&self) -> Option<Fetching> {
        *self.fetching.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frames are being fetched.
    pub(super) fn fetches(&self, behind: bool) {
        let fetching = Fetching { since: Instant::now(), behind };
        *self.fetching.lock().unwrap_or_else(PoisonError::into_inner) = Some(fetching);
    }

    /// The run is over; true when frames were fetched.
    pub(super) fn rest(&self) -> bool {
        self.fetching.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }
}

impl Reconciling {
    /// The group's turn.
    pub(super) fn turn(&self, gid: GroupId) -> Arc<Turn> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(gid).or_default())
    }

    fn fetching(&self, gid: GroupId) -> Option<Fetching> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner).get(&gid)?.fetching()
    }

    /// Whether others are better not told yet where this device is: they would send it what is being fetched.
    pub(in crate::network) fn is_catching_up(&self, gid: GroupId) -> bool {
        self.fetching(gid).is_some_and(|fetching| fetching.since.elapsed() < QUIET)
    }

    /// Waits while frames are being fetched.
    pub(in crate::network) async fn caught_up(&self, gid: GroupId) {
        if self.is_catching_up(gid) {
            drop(self.turn(gid).running().await);
        }
    }

    /// Whether what is sealed now would be sealed in a state that the others have left.
    pub(in crate::network) fn is_behind(&self, gid: GroupId) -> bool {
        self.fetching(gid).is_some_and(|fetching| fetching.behind && fetching.since.elapsed() < QUIET)
    }

    /// Forgets groups that nobody reconciles.
    pub(in crate::network) fn forget_idle(&self) {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
    }

    /// Whether it is time again to reconcile a group with a peer; from now on it is not.
    pub(super) fn is_due(&self, gid: GroupId, peer: &PeerId, now: Instant) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.get(&(gid, *peer)).is_some_and(|last| now.duration_since(*last) < EVERY) {
            return false;
        }
        if last.len() >= MAX_REMEMBERED {
            last.clear();
        }
        last.insert((gid, *peer), now);
        true
    }

    /// A run was stopped in the middle of its work.
    pub(super) fn at_once_again(&self, gid: GroupId, peer: &PeerId) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).remove(&(gid, *peer));
    }

    /// How long until a suspicion may be looked into; nothing when one waits already, which takes this one in.
    pub(super) fn suspect(&self, gid: GroupId, peer: &PeerId, lack: Lack, now: Instant) -> Option<Duration> {
        let mut suspected = self.suspected.lock().unwrap_or_else(PoisonError::into_inner);
        let full = suspected.len() >= MAX_REMEMBERED;
        match suspected.entry((gid, *peer)) {
            Entry::Occupied(mut waiting) => {
                waiting.get_mut().add(lack);
                return None;
            }
            Entry::Vacant(_) if full => return None,
            Entry::Vacant(new) => new.insert(Suspicion::default()).add(lack),
        }
        drop(suspected);
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let next = last.get(&(gid, *peer)).map_or(now, |last| *last + EVERY);
        Some(next.saturating_duration_since(now))
    }

    /// A suspicion is looked into.
    pub(super) fn looks(&self, gid: GroupId, peer: &PeerId) -> Suspicion {
        let mut suspected = self.suspected.lock().unwrap_or_else(PoisonError::into_inner);
        suspected.remove(&(gid, *peer)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GID: GroupId = GroupId([1; 16]);

    #[test]
    fn a_group_is_reconciled_with_a_peer_once_in_two_seconds() {
        let (reconciling, now) = (Reconciling::default(), Instant::now());
        let [one, other] = [[1; 32], [2; 32]].map(|secret| PeerId::of_secret(&secret).unwrap());
        assert!(reconciling.is_due(GID, &one, now));
        assert!(!reconciling.is_due(GID, &one, now + EVERY / 2));
        assert!(reconciling.is_due(GID, &other, now));
        let suspect = |lack| reconciling.suspect(GID, &one, lack, now + EVERY / 2);
        assert_eq!(suspect(Lack::Events(HashMap::from([(LogId([3; 16]), 1)]))), Some(EVERY / 2));
        assert_eq!(suspect(Lack::State([4; 16])), None, "one look is enough");
        let suspicion = reconciling.looks(GID, &one);
        assert!(suspicion.logs().is_some() && suspicion.states() == [[4; 16]], "and for all of it");
        assert!(reconciling.is_due(GID, &one, now + EVERY));
        reconciling.at_once_again(GID, &one);
        assert!(reconciling.is_due(GID, &one, now + EVERY));
    }

    #[test]
    fn only_who_fetches_keeps_quiet_and_only_who_is_behind_seals_nothing() {
        let reconciling = Reconciling::default();
        let turn = reconciling.turn(GID);
        assert!(!reconciling.is_catching_up(GID));
        turn.fetches(false);
        assert!(reconciling.is_catching_up(GID) && !reconciling.is_behind(GID));
        turn.fetches(true);
        assert!(reconciling.is_behind(GID));
        assert!(turn.rest() && !turn.rest());
        assert!(!reconciling.is_catching_up(GID) && !reconciling.is_behind(GID));
        drop(turn);
        reconciling.forget_idle();
        assert!(reconciling.fetching(GID).is_none());
    }
}
