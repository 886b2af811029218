//! Which child of a state wins, and so which state is the head.
//!
//! Every account of the parent has one vote, shared by its devices; a vote is for the child at or below
//! which a device's latest Support lies. Of rival children
//!
//! 1. the one with more than half of the votes of all accounts wins; else the one with more than half of
//!    the votes of those that may vote, being removed by none of the children (*majority lock*);
//! 2. else the one that at least two accounts support with at least [`SETTLED_COMMITS`] commits behind
//!    them, if these votes alone are more than all votes for its rivals (*settled lock*): where most
//!    members sleep there is no majority, and a commit that was held back must not undo what the
//!    others built meanwhile;
//! 3. else, of those that this device merged in this parent, the first by class, then by the committer's
//!    rank in the parent, then by commit id.
//!
//! At most one child satisfies each line. A further Support for the winner never makes a rival win:
//! that is why line 2 counts against a child only what its rivals have, not its own fresh votes.
//! Nobody votes on their own removal, but for the first half of line 1: a removal that was held back, or
//! that a removed administrator makes of everyone else in an old state, takes votes away there, and what
//! more than half of all accounts support is not to be undone by that. Nor does this half depend on which
//! children a device merged. How many commits a branch has never counts: a member could make any number
//! alone.
//!
//! Lines 1 and 2 also choose children that this device cannot enter; line 3 never does, for there a
//! hostile committer's word alone would be enough. A state that it was welcomed into is no child by line 3
//! of where a claim hangs it. Of a state that several claims hang below different parents, votes count for
//! neither: no claim moves votes from where another one counted them.
//!
//! An only child that could be checked is followed by whom it removes, too: without a rival everyone goes
//! there.
//!
//! Members who know the same and merged the same children choose the same. A commit that removes this
//! device is one that it cannot enter: of such a one it counts only that its own account has no vote. So
//! who is removed may still count other votes than the rest. For two who remove each other that is
//! harmless, because the rest agree. Three who remove each other in a circle could part the rest, too.
//!
//! In 15,000 simulated networks in which every fifth commit is a removal, all members come to agree, or
//! are on sides that removed each other (750 networks), after 2 rounds of talk (median), 5 (99 %), 9 (the
//! longest). Without the first half of line 1 these are 767 networks, and 11 rounds; when the removed
//! also counted their own votes, 1,125, and in one network members of one state differed.

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
    /// The votes at or below it of all accounts of the parent.
    pub all: u64,
    /// Those of accounts that may vote.
    pub votes: u64,
    /// Of these, those at least [`SETTLED_COMMITS`] commits below the parent.
    pub settled: u64,
}

/// The votes on the children of one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Votes {
    /// Accounts of the parent.
    pub accounts: u64,
    /// Those that may vote.
    pub voters: u64,
    /// The children, by id.
    pub tallies: Vec<Tally>,
}

impl Votes {
    /// The child that the votes alone decide for.
    pub fn locked(&self) -> Option<StateId> {
        self.majority().or_else(|| self.settled())
    }

    /// The child with more than half of all accounts, else the one with more than half of those that may
    /// vote.
    pub(super) fn majority(&self) -> Option<StateId> {
        if mutant::on(Mutant::MajorityLockOff) {
            return None;
        }
        self.majority_of_all().or_else(|| self.more_than_half(self.voters, |tally| tally.votes))
    }

    fn majority_of_all(&self) -> Option<StateId> {
        if mutant::on(Mutant::MajorityOfAllOff) {
            return None;
        }
        self.more_than_half(self.accounts, |tally| tally.all)
    }

    fn more_than_half(&self, accounts: u64, votes: impl Fn(&Tally) -> u64) -> Option<StateId> {
        self.tallies.iter().find(|tally| votes(tally) * 2 > accounts * WHOLE_VOTE).map(|tally| tally.child)
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
        let locked = self.votes(parent).locked();
        let first = || self.first_merged(parent, &children);
        locked.or_else(first).or_else(|| self.own_removal(parent, &children))
    }

    /// The only commit known to be right, if it puts this device's account out: the others follow it, too.
    fn own_removal(&self, parent: &Node, children: &[&Node]) -> Option<StateId> {
        let own = parent.roster.account_of(&self.own)?;
        let mut checked = children.iter().filter(|child| child.is_checked_in(&parent.sid));
        let only = checked.next().filter(|_| checked.next().is_none())?;
        (only.class == Class::Removal && !only.roster.contains(own)).then_some(only.sid)
    }

    /// The votes on the children of a state.
    pub fn votes(&self, parent: &Node) -> Votes {
        let spans = self.spans();
        let removed = self.voteless(parent);
        let tally = |child: &Node| Tally { child: child.sid, all: 0, votes: 0, settled: 0 };
        let tallies = self.children(&parent.sid).map(tally).collect();
        let mut votes = Votes { accounts: 0, voters: 0, tallies };
        for (account, devices) in parent.roster.voters() {
            let may_vote = !removed.contains(account);
            votes.accounts += 1;
            votes.voters += u64::from(may_vote);
            for sid in devices.iter().filter_map(|device| self.supports.latest(device)) {
                let below = |tally: &&mut Tally| spans.is_below(sid, &tally.child);
                if let Some(tally) = votes.tallies.iter_mut().find(below) {
                    let share = share(devices.len());
                    tally.all += share;
                    tally.votes += if may_vote { share } else { 0 };
                    tally.settled += if may_vote && self.is_settled(sid, parent) { share } else { 0 };
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
    /// take votes away. Of one that does not open here only what it means for the device's own account
    /// counts: that it was removed is the reason why. A second commit by the same committer takes none
    /// back: else who removed someone could undo it with a commit made later.
    fn voteless(&self, parent: &Node) -> BTreeSet<AccountId> {
        if mutant::on(Mutant::OwnRemovalVoteCounted) {
            return BTreeSet::new();
        }
        let own = parent.roster.account_of(&self.own);
        let removals = self.children(&parent.sid).filter(|child| child.class == Class::Removal);
        let mut voteless = BTreeSet::new();
        for child in removals.filter(|child| child.is_checked_in(&parent.sid)) {
            let removed = parent.roster.accounts().filter(|account| !child.roster.contains(account));
            if child.held.is_merged() {
                voteless.extend(removed.copied());
            } else if !mutant::on(Mutant::OwnRemovalHereVoteCounted) {
                voteless.extend(removed.copied().filter(|account| Some(account) == own));
            }
        }
        voteless
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
    /// to ask, and nobody else to lose. Where the entry is given up ([`Dag::forsake`]), one of the others is
    /// enough to go on at a new one, when more are not elsewhere.
    fn continues_at(&self, root: StateId, base: StateId, head: &Head) -> bool {
        let last = match head {
            // Of a state that this device was in, only the secrets are gone.
            Head::Beyond { wanted, .. } if self.node(wanted).is_some_and(|node| node.held.is_merged()) => {
                wanted
            }
            Head::Beyond { wanted, .. } => return self.is_below(&root, wanted),
            Head::At(last) => last,
        };
        let void = self.roots.get(&base).is_some_and(|nth| *nth < self.forsaken);
        if !void && self.is_below(&root, &base) && !self.is_below(&root, last) {
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
        // Nothing can be lost of an entry that is void, and many of those who were there may have left.
        let enough = if void { WHOLE_VOTE } else { SETTLED_ACCOUNTS * WHOLE_VOTE };
        with * 2 > others || (with >= enough && with > against)
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
