//! Which child of a state wins, and so which state is the head.
//!
//! Every account of the parent has one vote, shared by its devices; a vote is for the child at or below
//! which a device's latest Support lies. Of rival children
//!
//! 1. the one with more than half of all votes wins (*majority lock*);
//! 2. else the one that at least two accounts support with at least [`SETTLED_COMMITS`] commits behind
//!    them, if these votes alone are more than all votes for its rivals (*settled lock*): where most
//!    members sleep there is no majority, and a commit that was held back must not undo what the
//!    others built meanwhile;
//! 3. else, of those that this device merged, the first by class, then by the committer's rank in the
//!    parent, then by commit id.
//!
//! At most one child satisfies each line. A further Support for the winner never makes a rival win:
//! that is why line 2 counts against a child only what its rivals have, not its own fresh votes.
//! Nobody votes on their own removal. How many commits a branch has never counts: a member could make
//! any number alone.
//!
//! Lines 1 and 2 also choose children that this device cannot enter; line 3 never does, for there a
//! hostile committer's word alone would be enough. Of a state that several claims hang below different
//! parents, votes count for neither: no claim moves votes from where another one counted them.
//!
//! Members who know the same and merged the same children choose the same. A commit that removes this
//! device is one that it cannot enter: it keeps its own vote, and a removed administrator who takes
//! everyone out of an old state gains nobody. The price is that who is removed may count other votes than
//! the rest. For two who remove each other that is harmless, because the rest agree. Three who remove
//! each other in a circle can part the rest, too: once in 15,000 simulated networks in which every
//! fifth commit is a removal.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

use super::{
    Dag,
    node::{Class, Held, Node},
};
use crate::{
    id::{AccountId, CommitId, DeviceId, GroupId, StateId},
    mutant::{self, Mutant},
};

/// A vote counts for the settled lock when its Support lies at least so many commits below the fork.
pub const SETTLED_COMMITS: u64 = 8;
/// What an account's vote is worth: 1 to 8 devices share it without a remainder, lcm(1, …, 8).
pub const WHOLE_VOTE: u64 = 840;
/// Accounts that the settled lock takes, at least. One account alone settles nothing.
const SETTLED_ACCOUNTS: u64 = 2;

/// Where the group is, as far as this device can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// In this state, whose secrets are here.
    At(StateId),
    /// In or below a state that this device has no secrets of: it needs to rejoin, or was removed when
    /// the state's roster lacks it.
    Beyond {
        /// The last state on the way there whose secrets are here; if there is none, the last one that
        /// this device was in.
        last: StateId,
        /// The first state on the way that this device cannot enter; when it was in all of them, the
        /// last one, whose secrets are deleted.
        wanted: StateId,
    },
}

impl Head {
    /// The state that this device can be in meanwhile.
    pub fn stand(&self) -> StateId {
        match self {
            Self::At(sid) | Self::Beyond { last: sid, .. } => *sid,
        }
    }
}

/// The votes for one child, in parts of [`WHOLE_VOTE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// The child.
    pub child: StateId,
    /// All votes at or below it.
    pub votes: u64,
    /// Those at least [`SETTLED_COMMITS`] commits below the parent.
    pub settled: u64,
}

/// The votes on the children of one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Votes {
    /// Accounts that may vote.
    pub voters: u64,
    /// The children, by id.
    pub tallies: Vec<Tally>,
}

impl Votes {
    /// The child that the votes alone decide for.
    pub fn locked(&self) -> Option<StateId> {
        self.majority().or_else(|| self.settled())
    }

    /// The child with more than half of all votes.
    pub(super) fn majority(&self) -> Option<StateId> {
        if mutant::on(Mutant::MajorityLockOff) {
            return None;
        }
        let all = self.voters * WHOLE_VOTE;
        self.tallies.iter().find(|tally| tally.votes * 2 > all).map(|tally| tally.child)
    }

    /// The child whose settled votes outweigh its rivals.
    pub(super) fn settled(&self) -> Option<StateId> {
        if mutant::on(Mutant::SettledLockOff) {
            return None;
        }
        let cast: u64 = self.tallies.iter().map(|tally| tally.votes).sum();
        let enough = |tally: &&Tally| {
            tally.settled >= SETTLED_ACCOUNTS * WHOLE_VOTE && tally.settled > cast - tally.votes
        };
        self.tallies.iter().find(enough).map(|tally| tally.child)
    }
}

impl Dag {
    /// Where the group is; nothing while this device knows of no state that it was in.
    ///
    /// The way leads from the root entered first, child by child. A further root was entered by a Welcome,
    /// after commits that this device could not follow: it is taken where the members locked what it lies
    /// below, or, while nothing is known to lead to it, where enough of them support it.
    pub fn head(&self) -> Option<Head> {
        let mut roots: Vec<_> = self.roots.iter().map(|(root, nth)| (*nth, *root)).collect();
        roots.sort_unstable();
        let mut roots = roots.into_iter().map(|(_, root)| root);
        let mut base = roots.next()?;
        let mut head = self.descend(base);
        for root in roots {
            if self.continues_at(root, base, &head) {
                base = root;
                head = self.descend(root);
            }
        }
        Some(head)
    }

    /// The winning child of a state.
    pub fn child(&self, parent: &StateId) -> Option<StateId> {
        let children: Vec<&Node> = self.children(parent).collect();
        // Whatever line chooses, it can choose nothing else.
        if let [only] = children.as_slice()
            && only.is_merged_in(parent)
        {
            return Some(only.sid);
        }
        if children.is_empty() {
            return None;
        }
        let parent = self.node(parent)?;
        self.votes(parent).locked().or_else(|| self.first_merged(parent, &children))
    }

    /// The votes on the children of a state.
    pub fn votes(&self, parent: &Node) -> Votes {
        let spans = self.spans();
        let removed = self.voteless(parent);
        let tally = |child: &Node| Tally { child: child.sid, votes: 0, settled: 0 };
        let mut votes = Votes { voters: 0, tallies: self.children(&parent.sid).map(tally).collect() };
        for (account, devices) in parent.roster.voters() {
            if removed.contains(account) {
                continue;
            }
            votes.voters += 1;
            for sid in devices.iter().filter_map(|device| self.supports.latest(device)) {
                let below = |tally: &&mut Tally| spans.is_below(sid, &tally.child);
                if let Some(tally) = votes.tallies.iter_mut().find(below) {
                    let share = share(devices.len());
                    tally.votes += share;
                    tally.settled += if self.is_settled(sid, parent) { share } else { 0 };
                }
            }
        }
        votes
    }

    /// The devices of a state in their rank: the order in which they win ties and take turns to commit.
    /// It differs from state to state, so that nobody is always first.
    pub fn ranked(&self, state: &Node) -> Vec<DeviceId> {
        let mut members: Vec<_> = state.roster.members().collect();
        members.sort_by_cached_key(|(account, device)| Rank::new(&self.gid, state, account, device));
        members.into_iter().map(|(_, device)| *device).collect()
    }

    /// Accounts that a child removes. Only children that this device merged count: a claim must not
    /// take votes away. A second commit by the same committer takes none back: else who removed someone
    /// could undo it with a commit made later.
    fn voteless(&self, parent: &Node) -> BTreeSet<AccountId> {
        if mutant::on(Mutant::OwnRemovalVoteCounted) {
            return BTreeSet::new();
        }
        let removals = self.children(&parent.sid).filter(|child| child.class == Class::Removal);
        removals
            .filter(|child| child.is_merged_in(&parent.sid))
            .flat_map(|child| parent.roster.accounts().filter(|account| !child.roster.contains(account)))
            .copied()
            .collect()
    }

    fn is_settled(&self, sid: &StateId, parent: &Node) -> bool {
        // Below the parent, so epochs count commits.
        self.node(sid).is_some_and(|node| node.epoch.saturating_sub(parent.epoch) >= SETTLED_COMMITS)
    }

    /// The first child by class, rank and commit, of those that this device merged. Of two commits by
    /// one committer only the one with the lesser id is in the running, so that committing again gains
    /// nothing. The locks stand above this: a second commit made later does not undo the first.
    fn first_merged(&self, parent: &Node, children: &[&Node]) -> Option<StateId> {
        let counts = |child: &&&Node| {
            child.is_merged_in(&parent.sid)
                || (child.held == Held::Claimed && mutant::on(Mutant::SkeletonClassTrusted))
        };
        let doubled = |child: &Node| {
            let rivals = children.iter().filter(|other| other.is_checked_in(&parent.sid));
            rivals.into_iter().any(|other| other.committer == child.committer && other.commit < child.commit)
        };
        let candidates = children.iter().filter(counts).filter(|child| !doubled(child));
        let keyed = candidates.filter_map(|child| {
            // Who was not in the parent could not commit in it.
            let account = parent.roster.account_of(&child.committer)?;
            let rank = Rank::new(&self.gid, parent, account, &child.committer);
            let key: (Class, Rank, CommitId) = (child.class, rank, child.commit);
            Some((key, child.sid))
        });
        let first = if mutant::on(Mutant::TieBreakFlipped) { keyed.max() } else { keyed.min() };
        first.map(|(_, sid)| sid)
    }

    fn descend(&self, root: StateId) -> Head {
        let is = |sid: &StateId, wanted: fn(Held) -> bool| self.node(sid).is_some_and(|n| wanted(n.held));
        let is_live = |sid: &StateId| is(sid, |held| held == Held::Live);
        let mut at = root;
        let mut live = is_live(&root).then_some(root);
        while let Some(next) = self.child(&at) {
            if !is(&next, Held::is_merged) {
                return Head::Beyond { last: live.unwrap_or(at), wanted: next };
            }
            at = next;
            live = if is_live(&at) { Some(at) } else { live };
        }
        if live == Some(at) { Head::At(at) } else { Head::Beyond { last: live.unwrap_or(at), wanted: at } }
    }

    /// Whether the way that ended at `head` goes on at a state that this device was welcomed into.
    ///
    /// - The members locked a state that this device cannot enter: yes, if the new root lies below it.
    /// - The new root lies below a child that lost: no.
    /// - Else nothing known leads to it. Of the other accounts of the last roster more than half have to
    ///   support the root or what follows from it; or at least two of them, and more than support states
    ///   that cannot come before it, being of its epoch or a later one. Supports for earlier ones, or for
    ///   states not known here, say nothing, so those who sleep have no veto. The device's own account
    ///   does not vote, for its Support only follows what is decided here.
    ///
    /// Whoever made the Welcome has one vote of these and chose the epoch, which can silence those against
    /// but add none in favour: one hostile member captures nobody. In a group of two there is no one else
    /// to ask, and nobody else to lose.
    fn continues_at(&self, root: StateId, base: StateId, head: &Head) -> bool {
        let last = match head {
            Head::Beyond { wanted, .. } => return self.is_below(&root, wanted),
            Head::At(last) => last,
        };
        if self.is_below(&root, &base) && !self.is_below(&root, last) {
            return false;
        }
        let (Some(last), Some(entered)) = (self.node(last), self.node(&root)) else { return false };
        let (mut others, mut with, mut against) = (0, 0, 0);
        for (_, devices) in last.roster.voters().filter(|(_, devices)| !devices.contains(&&self.own)) {
            others += WHOLE_VOTE;
            for sid in devices.iter().filter_map(|device| self.supports.latest(device)) {
                let cannot_come_before = || self.node(sid).is_some_and(|node| node.epoch >= entered.epoch);
                if self.is_below(sid, &root) {
                    with += share(devices.len());
                } else if cannot_come_before() {
                    against += share(devices.len());
                }
            }
        }
        with * 2 > others || (with >= SETTLED_ACCOUNTS * WHOLE_VOTE && with > against)
    }
}

/// What one of an account's devices is worth.
fn share(devices: usize) -> u64 {
    if mutant::on(Mutant::SupportCountedPerDevice) {
        return WHOLE_VOTE;
    }
    u64::try_from(devices).map_or(0, |devices| WHOLE_VOTE.checked_div(devices).unwrap_or(0))
}

/// A device's place among those of a state: by account, then among the account's own. Hashes with the
/// epoch in them, so that no key is first in every state.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    account: [u8; 32],
    device: [u8; 32],
}

impl Rank {
    fn new(gid: &GroupId, state: &Node, account: &AccountId, device: &DeviceId) -> Self {
        let parts: [&[u8]; 4] = [b"rank", gid.as_bytes(), &state.epoch.to_be_bytes(), account.as_bytes()];
        let account = parts.into_iter().fold(Sha256::new(), |hash, part| hash.chain_update(part));
        Self { account: account.finalize().into(), device: Sha256::digest(device.as_bytes()).into() }
    }
}
