//! Where skeletons say that states hang, and how much of what is only said is kept.
//!
//! A claim is its committer's signed word; anyone who was a member can make any number of them, about any
//! state. So claims are few, and one that another contradicts moves no votes.

use std::collections::{BTreeMap, btree_map::Entry};

use crate::id::StateId;

/// Claims kept of a group. Further states are not let in by hearsay; those that this device checks always
/// are.
pub const MAX_CLAIMS: usize = 4096;
/// States that claims may hang below one state.
pub const MAX_CLAIMED_CHILDREN: usize = 64;

/// What is said of one state.
#[derive(Debug, Clone, Copy)]
struct Claim {
    /// Where it hangs: of several states named, the least.
    parent: StateId,
    /// Whether several were named.
    disputed: bool,
}

/// What is said of the states whose parents this device does not know itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims(BTreeMap<StateId, Claim>);

impl Claims {
    /// Takes in that a state hangs below `parent`, where there is room. That it is disputed is remembered
    /// in any case.
    ///
    /// Whether the claim is about a state that a claim kept hangs there.
    pub(super) fn insert(&mut self, sid: StateId, parent: StateId, has_room: bool) -> bool {
        let full = self.0.len() >= MAX_CLAIMS;
        match self.0.entry(sid) {
            Entry::Vacant(_) if full || !has_room => false,
            Entry::Vacant(entry) => {
                entry.insert(Claim { parent, disputed: false });
                true
            }
            Entry::Occupied(mut entry) => {
                let claim = entry.get_mut();
                claim.disputed |= claim.parent != parent;
                if has_room {
                    claim.parent = parent.min(claim.parent);
                }
                claim.parent <= parent
            }
        }
    }

    /// Forgets what was said of a state whose parent is known now.
    pub(super) fn settle(&mut self, sid: &StateId) {
        self.0.remove(sid);
    }

    /// Where a state hangs.
    pub(super) fn parent(&self, sid: &StateId) -> Option<StateId> {
        self.0.get(sid).map(|claim| claim.parent)
    }

    /// Whether claims about a state contradict each other.
    pub(super) fn disputed(&self, sid: &StateId) -> bool {
        self.0.get(sid).is_some_and(|claim| claim.disputed)
    }
}
