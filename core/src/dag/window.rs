//! Which states have been kept long enough.
//!
//! A state's secrets open frames that come late and let this device enter the child of a rival commit;
//! they also open what a thief recorded. So they go as soon as nobody can need them, and after a while
//! in any case: who comes later rejoins, and messages come again as events. The window decides how a
//! member finds the head, never which state it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Dag, node::Node};
use crate::{
    id::StateId,
    mutant::{self, Mutant},
};

/// Commits by which a state may lie behind the head.
pub const MAX_COMMITS_BEHIND: u64 = 8;
/// A state stays at least so long after the head left it: frames sealed before a commit are overtaken by it.
pub const MIN_AGE: Duration = Duration::from_secs(60);
/// A state goes so long after the head left it, by default. When it came does not count: of those who come back
/// after a week everyone is in a state that old, and their first commits may be rivals.
pub const MAX_AGE: Duration = Duration::from_secs(72 * 3600);
/// The least and greatest age that a group's policy may set instead.
pub const AGE_LIMITS: [Duration; 2] = [Duration::from_secs(3600), Duration::from_secs(7 * 24 * 3600)];

/// The states whose secrets are to be deleted now.
///
/// `held` names the states whose secrets are here and since when each is of the past: when this device's head
/// left it, or else when it came, in milliseconds since the Unix epoch like `now_ms`. `head` is the state that
/// this device stands on; it never goes. Of the others goes, once it has been so for [`MIN_AGE`], a state
///
/// - that is settled: every device of the head's roster supports the next state on the way to the head
///   or a later one, so that nobody will commit in this one or seal frames in it;
/// - that lies more than [`MAX_COMMITS_BEHIND`] commits behind the head;
/// - that has been so for `max_age`, kept within [`AGE_LIMITS`].
///
/// A state of another branch is settled, and behind, as the state is where its branch left the way.
pub fn leaving(
    dag: &Dag,
    head: &StateId,
    held: impl IntoIterator<Item = (StateId, i64)>,
    now_ms: i64,
    max_age: Duration,
) -> Vec<StateId> {
    let [least, greatest] = AGE_LIMITS;
    let max_age = max_age.clamp(least, greatest);
    let way = Way::to(dag, head);
    let goes = |sid: &StateId, since_ms: i64| {
        // A clock put back makes states young, never old.
        let age = Duration::from_millis(u64::try_from(now_ms.saturating_sub(since_ms)).unwrap_or(0));
        let young = age < MIN_AGE && !mutant::on(Mutant::PruneEarly);
        !young && sid != head && (age > max_age || way.has_left(dag, sid))
    };
    held.into_iter().filter(|(sid, since_ms)| goes(sid, *since_ms)).map(|(sid, _)| sid).collect()
}

/// The way from a root to the head.
struct Way {
    /// The states on it and their epochs.
    epochs: BTreeMap<StateId, u64>,
    head: u64,
    /// States before this epoch are settled.
    settled: u64,
}

impl Way {
    fn to(dag: &Dag, head: &StateId) -> Self {
        let epochs: BTreeMap<_, _> = up(dag, head).map(|node| (node.sid, node.epoch)).collect();
        let mut way = Self { epochs, head: 0, settled: 0 };
        if let Some(head) = dag.node(head) {
            way.head = head.epoch;
            let devices = head.roster.devices().map(|device| dag.supports().latest(device));
            // Many devices support few states.
            let supported: BTreeSet<Option<&StateId>> = devices.collect();
            let reached = supported.into_iter().map(|sid| way.left_at(dag, sid?));
            way.settled = reached.map(Option::unwrap_or_default).min().unwrap_or(0);
        }
        way
    }

    /// The epoch of the last state on the way that a state is, or comes after.
    fn left_at(&self, dag: &Dag, sid: &StateId) -> Option<u64> {
        up(dag, sid).find_map(|node| self.epochs.get(&node.sid).copied())
    }

    fn has_left(&self, dag: &Dag, sid: &StateId) -> bool {
        // Of another root's tree: nothing of it is on the way, only age counts.
        let Some(epoch) = self.left_at(dag, sid) else { return false };
        epoch < self.settled || self.head.saturating_sub(epoch) > MAX_COMMITS_BEHIND
    }
}

/// A state and those that are undisputedly before it.
fn up<'a>(dag: &'a Dag, sid: &StateId) -> impl Iterator<Item = &'a Node> + use<'a> {
    std::iter::successors(dag.node(sid), |node| dag.undisputed_parent(&node.sid))
}
