//! When someone who was added is told so: a Welcome into a branch that then loses helps nobody.

use std::time::Duration;

use super::Dag;
use crate::id::{DeviceId, StateId};

/// How long a newcomer's letter waits for another device's word, while nobody commits against it.
pub const WITHOUT_RIVAL: Duration = Duration::from_secs(10);

/// Whether a letter may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handover {
    /// Now.
    Now,
    /// When nothing has changed by then.
    In(Duration),
    /// When the rivals of its commit are decided on; ask again when that may be.
    Undecided,
    /// Its state was left alone.
    Never,
}

impl Dag {
    /// Whether the device `to`, whom a commit of this device's let into the state `sid`, may be told, after the
    /// letter `waited`: when votes locked the commit, or another device supports its state or a later one, or
    /// there is nobody else to ask, or nobody committed against it for [`WITHOUT_RIVAL`].
    pub fn handover(&self, head: &StateId, sid: &StateId, to: &DeviceId, waited: Duration) -> Handover {
        let (Some(node), true) = (self.node(sid), self.is_below(head, sid)) else { return Handover::Never };
        let Some(parent) = self.parent(sid) else { return Handover::Now };
        let own = parent.roster.account_of(&self.own);
        let alone = parent.roster.accounts().all(|account| Some(account) == own);
        let others = node.roster.devices().filter(|device| **device != self.own && *device != to);
        let mut latest = others.filter_map(|device| self.supports().latest(device));
        if alone || latest.any(|state| self.is_below(state, sid)) || self.votes(parent).locked() == Some(*sid)
        {
            return Handover::Now;
        }
        if self.children(&parent.sid).any(|child| child.sid != *sid) {
            return Handover::Undecided;
        }
        match WITHOUT_RIVAL.saturating_sub(waited) {
            Duration::ZERO => Handover::Now,
            rest => Handover::In(rest),
        }
    }
}
