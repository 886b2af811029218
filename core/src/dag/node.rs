//! A state in the DAG, and how much this device knows of it.

use std::sync::Arc;

use super::roster::Roster;
use crate::id::{CommitId, DeviceId, StateId};

/// What a commit does; the lesser class goes first where nothing else decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// Someone is removed or leaves, or a role changes: nothing trivial may undo it.
    Removal = 0,
    /// Someone is added or rejoins, or the context changes.
    Change = 1,
    /// Only keys are new.
    Update = 2,
}

impl TryFrom<u8> for Class {
    type Error = UnknownClass;
    fn try_from(number: u8) -> Result<Self, UnknownClass> {
        [Self::Removal, Self::Change, Self::Update]
            .into_iter()
            .find(|class| *class as u8 == number)
            .ok_or(UnknownClass)
    }
}

/// The number stands for no class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a commit's class is unknown")]
pub struct UnknownClass;

/// How much this device knows of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Held {
    /// Entered by a commit that this device merged or made, or by a Welcome; its secrets are here.
    Live,
    /// The same, but its secrets were deleted.
    Pruned,
    /// Everything public about its commit is right, but the path secret does not open here: a hostile
    /// committer can do that to one member, and a commit does it to those whom it removes.
    Opaque,
    /// Hearsay: its committer's signed word for where it hangs. Its class is a claim and its roster is
    /// unknown.
    Claimed,
}

impl Held {
    /// Whether this device was in the state, with its secrets.
    pub fn is_merged(self) -> bool {
        matches!(self, Self::Live | Self::Pruned)
    }

    /// Whether this device checked the commit itself.
    pub fn is_checked(self) -> bool {
        self != Self::Claimed
    }

    /// What replaces what when a state is heard of again. Pruned secrets do not come back.
    pub(super) fn knowledge(self) -> u8 {
        match self {
            Self::Claimed => 0,
            Self::Opaque => 1,
            Self::Live | Self::Pruned => 2,
        }
    }
}

/// One state of a group and the commit that led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The state.
    pub sid: StateId,
    /// The state that the commit was made in; none for the state that this device created the group
    /// with or was welcomed into.
    pub parent: Option<StateId>,
    /// MLS epoch: one more than the parent's.
    pub epoch: u64,
    /// The commit.
    pub commit: CommitId,
    /// Whose commit it is.
    pub committer: DeviceId,
    /// What the commit does.
    pub class: Class,
    /// Who is in the state.
    pub roster: Arc<Roster>,
    /// How much of it is known here.
    pub held: Held,
}

impl Node {
    /// An order of conflicting accounts of one state, so that which one stands does not depend on which
    /// came first.
    pub(super) fn claim(&self) -> impl Ord {
        (self.parent, self.epoch, self.commit, self.committer, self.class, &self.roster)
    }

    /// Whether this device was in the state, and knows itself that it follows from `parent`. A state that
    /// it was welcomed into may hang below one by hearsay alone: the claim must not lend it a place among
    /// the children that win without votes.
    pub(super) fn is_merged_in(&self, parent: &StateId) -> bool {
        self.held.is_merged() && self.is_checked_in(parent)
    }

    /// Whether this device itself checked the commit that leads from `parent` to the state.
    pub(super) fn is_checked_in(&self, parent: &StateId) -> bool {
        self.held.is_checked() && self.parent == Some(*parent)
    }
}
