//! The way from one state to another, over the last one that both come after.

use super::Dag;
use crate::id::StateId;

/// What the head leaves behind and what it leads over when it moves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Route {
    /// States left, the latest first; none where the move only follows commits.
    pub abandoned: Vec<StateId>,
    /// The last state common to both ways; none between the trees of two roots.
    pub fork: Option<StateId>,
    /// States entered, the earliest first.
    pub taken: Vec<StateId>,
}

impl Dag {
    /// The way from one state to another.
    pub fn route(&self, from: &StateId, to: &StateId) -> Route {
        let up = |sid: &StateId| -> Vec<StateId> {
            std::iter::successors(self.node(sid), |node| self.parent(&node.sid))
                .map(|node| node.sid)
                .collect()
        };
        let (mut abandoned, mut taken) = (up(from), up(to));
        let mut fork = None;
        while let (Some(left), Some(right)) = (abandoned.last(), taken.last())
            && left == right
        {
            fork = abandoned.pop();
            taken.pop();
        }
        taken.reverse();
        Route { abandoned, fork, taken }
    }

    /// The last state on the way to `head` that `sid` is, or comes after: where what was said in `sid`
    /// counts from. None where nothing is known of it.
    pub fn canonical(&self, sid: &StateId, head: &StateId) -> Option<StateId> {
        let mut state = self.node(sid)?;
        while !self.is_below(head, &state.sid) {
            state = self.parent(&state.sid)?;
        }
        Some(state.sid)
    }

    /// Whether members of a state follow others that are not known here, so that their votes count nowhere yet.
    pub fn is_told_of_more(&self, state: &StateId) -> bool {
        let roster = self.node(state).map(|node| &node.roster);
        let latest = roster.into_iter().flat_map(|roster| roster.devices());
        let mut latest = latest.filter_map(|device| self.supports().latest(device));
        latest.any(|sid| self.node(sid).is_none())
    }
}
