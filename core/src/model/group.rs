//! The MLS group behind a space, and how this account writes in it.

use std::time::Duration;

use crate::id::StateId;

/// How the MLS group of a space is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupHealth {
    /// In step with everyone heard from.
    Ok,
    /// A commit arrived that does not fit this device's state; it was set aside.
    Forked,
    /// Commits are missing and nobody reachable has them.
    Stalled,
    /// Missing commits are on their way.
    Resyncing,
    /// This account is no longer a member.
    Removed,
}

/// The MLS state held for a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupStatus {
    /// MLS epoch.
    pub epoch: u64,
    /// Which state of which branch.
    pub state_id: StateId,
    /// 8 bytes exported from the state: equal on two servers exactly when the states are.
    pub check: [u8; 8],
    /// How it is doing.
    pub health: GroupHealth,
    /// A sentence for people; empty while healthy.
    pub health_detail: String,
    /// States whose keys are kept, the present one included.
    pub retained_epochs: u32,
    /// Since when the oldest of them has been here.
    pub oldest_retained_age: Duration,
    /// Other accounts none of whose devices is known to be in this state.
    pub members_behind: u32,
    /// Removals, departures and changes of roles that wait for a commit.
    pub waiting_changes: u32,
    /// Something that came waits for something that is missing.
    pub repairing: bool,
}

/// How long what this account writes in a space waits before it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SendTiming {
    /// Not at all.
    Fast,
    /// A quarter of a second on average, two seconds at most.
    #[default]
    Balanced,
    /// Five seconds on average, thirty at most.
    Strict,
}
