//! Whether the others went where this device cannot follow by commits, so that it needs a fresh leaf.
//!
//! Only a guess at one moment: commits may be on their way. Whoever asks gives them time, and asks again.

use super::{
    Dag,
    choice::Head,
    node::{Held, Node},
};
use crate::id::{AccountId, StateId};

/// What the votes say of the way that this device is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Astray {
    /// Nobody follows anything that this device does not know.
    No,
    /// Some follow states that it cannot enter, or has not heard of: their word for where these hang may
    /// say more.
    Unsure,
    /// The group is where it cannot go.
    Yes,
}

impl Dag {
    /// Whether the group went on where this device, which stands on `stand`, cannot follow:
    ///
    /// - votes lead to a state that it cannot enter;
    /// - or to one of two branches that left a state whose secrets it has deleted, where neither is locked:
    ///   the one with fewer votes gives way, of two with as many the one whose first state has the greater id;
    /// - or more of the other accounts follow states that are unknown here than are on this device's side,
    ///   itself included: at least two, or the only one there is. One member alone draws nobody anywhere.
    pub fn astray(&self, stand: &StateId) -> Astray {
        if matches!(self.head(), Some(Head::Beyond { .. })) || self.gives_way(stand) {
            return Astray::Yes;
        }
        let Some(node) = self.node(stand) else { return Astray::No };
        let others = node.roster.accounts().filter(|account| !self.is_own(node, account));
        let (mut count, mut with, mut elsewhere) = (0_usize, 1_usize, 0_usize);
        for account in others {
            count += 1;
            let devices = node.roster.members().filter(|(whose, _)| *whose == account);
            let follows: Vec<_> = devices.filter_map(|(_, device)| self.supports().latest(device)).collect();
            with += usize::from(follows.iter().any(|sid| self.is_below(sid, stand) && self.was_in(sid)));
            elsewhere += usize::from(follows.iter().any(|sid| self.is_unreached(sid)));
        }
        let enough = elsewhere >= 2 || (elsewhere == 1 && count == 1 && self.is_overtaken(stand, node));
        if enough && (elsewhere > with || count == 1) {
            Astray::Yes
        } else if elsewhere > 0 {
            Astray::Unsure
        } else {
            Astray::No
        }
    }

    fn is_own(&self, node: &Node, account: &AccountId) -> bool {
        node.roster.account_of(&self.own) == Some(account)
    }

    fn was_in(&self, sid: &StateId) -> bool {
        self.node(sid).is_some_and(|node| node.held.is_merged())
    }

    /// A state that this device was not in, unless rivalry with its own branch is decided otherwise.
    fn is_unreached(&self, sid: &StateId) -> bool {
        if self.was_in(sid) {
            return false;
        }
        // Below a state where this device's own branch begins as well, the choice among both speaks.
        let way = std::iter::successors(self.node(sid), |node| self.undisputed_parent(&node.sid));
        let joint = way.map(|node| node.sid).find(|sid| self.was_in(sid));
        joint.is_none_or(|joint| self.children(&joint).all(|child| !child.held.is_merged()))
    }

    /// In a group of two: whether the other one is in a later state than this device.
    fn is_overtaken(&self, stand: &StateId, node: &Node) -> bool {
        let others = node.roster.devices().filter(|device| **device != self.own);
        let follows = others.filter_map(|device| self.supports().latest(device));
        let key = |node: &Node| (node.epoch, std::cmp::Reverse(node.sid));
        follows.filter_map(|sid| self.node(sid)).any(|other| other.sid != *stand && key(other) > key(node))
    }

    /// Whether this device's branch gives way to one that it can only hear of.
    fn gives_way(&self, stand: &StateId) -> bool {
        let way = std::iter::successors(self.node(stand), |node| self.parent(&node.sid));
        let mut child = *stand;
        for node in way.skip(1) {
            let is_rival = |other: &&Node| other.sid != child && other.held == Held::Claimed;
            if node.held == Held::Pruned && self.children(&node.sid).any(|other| is_rival(&other)) {
                let votes = self.votes(node);
                let weight = |sid: &StateId| {
                    let tally = votes.tallies.iter().find(|tally| tally.child == *sid);
                    (tally.map_or(0, |tally| tally.votes), std::cmp::Reverse(*sid))
                };
                let own = weight(&child);
                // One member's word is nothing to give way to, unless there is only one other.
                let counts = |sid: &StateId| weight(sid).0 >= self.least_votes(node);
                let mut rivals = self.children(&node.sid).filter(is_rival);
                if rivals.any(|rival| counts(&rival.sid) && weight(&rival.sid) > own) {
                    return true;
                }
            }
            child = node.sid;
        }
        false
    }

    fn least_votes(&self, node: &Node) -> u64 {
        let accounts = u64::try_from(node.roster.accounts().len()).unwrap_or(u64::MAX);
        super::choice::WHOLE_VOTE * accounts.saturating_sub(1).clamp(1, 2)
    }
}
