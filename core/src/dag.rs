//! The DAG of a group's MLS states, and the choice of its head.
//!
//! Nobody orders commits: two members may each commit on one state, and every member then has to take
//! the same side without asking anyone. Commits are edges, states are nodes, and the head follows from
//! what is known of them and of the members' [`Supports`], never from the order in which it came to be
//! known, nor from a clock. The rule is in [`choice`].
//!
//! No IO, no clock, no randomness, no MLS: callers check signatures and commits before they bring them
//! here, and move secrets when the head says so.

mod astray;
pub mod choice;
pub mod graph;
pub mod handover;
pub mod hearsay;
pub mod node;
pub mod renewal;
pub mod roster;
pub mod route;
pub mod skeleton;
mod span;
pub mod support;
#[cfg(test)]
mod tests;
pub mod turn;
pub mod window;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
};

pub use astray::Astray;
pub use choice::Head;
use hearsay::{Claims, MAX_CLAIMED_CHILDREN};
pub use node::{Class, Held, Node};
pub use roster::Roster;
pub use route::Route;
pub use skeleton::{SignedSkeleton, Skeleton};
use span::Spans;
pub use support::{Equivocation, Heard, Support, Supports};

use crate::id::{AccountId, DeviceId, GroupId, StateId};

/// What has become of a state that was told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It is known here.
    Kept,
    /// It says nothing that is not known better.
    Nothing,
    /// As much is known by hearsay as is kept: [`hearsay::MAX_CLAIMS`] of the group,
    /// [`hearsay::MAX_CLAIMED_CHILDREN`] below one state.
    TooMany,
}

/// What one device knows of the states of one group.
#[derive(Debug, Clone)]
pub struct Dag {
    gid: GroupId,
    own: DeviceId,
    nodes: BTreeMap<StateId, Node>,
    claims: Claims,
    /// By parent, whether that is known or not.
    children: BTreeMap<StateId, BTreeSet<StateId>>,
    /// States that this device entered other than by a commit, and which of its entries each was.
    roots: BTreeMap<StateId, u64>,
    /// The entries before this one are void: see [`Dag::forsake`].
    forsaken: u64,
    supports: Supports,
    /// Who lies below whom; emptied by whatever changes it.
    spans: OnceLock<Spans>,
}

impl Dag {
    /// What the device `own` knows of a group at first: nothing.
    pub fn new(gid: GroupId, own: DeviceId) -> Self {
        Self {
            gid,
            own,
            nodes: BTreeMap::new(),
            claims: Claims::default(),
            children: BTreeMap::new(),
            roots: BTreeMap::new(),
            forsaken: 0,
            supports: Supports::default(),
            spans: OnceLock::new(),
        }
    }

    /// Takes in a state that this device created the group with or was welcomed into.
    ///
    /// `nth` is the caller's count of such entries: it rises with each and is stored with the state. The
    /// way to the head begins at the oldest entry, not at the lowest epoch, for the epoch of a Welcome is
    /// whatever its maker wrote there. The state has no parent of this device's own knowledge unless its
    /// commit was checked, too; until then it hangs where a claim says. One that this device was not in
    /// says nothing.
    pub fn enter(&mut self, node: Node, nth: u64) -> Inserted {
        if !node.held.is_merged() {
            return Inserted::Nothing;
        }
        let (sid, before) = (node.sid, self.parent_id(&node.sid));
        self.roots.entry(sid).and_modify(|first| *first = nth.min(*first)).or_insert(nth);
        let inserted = self.learn(node);
        self.hang(sid, before);
        inserted
    }

    /// Gives up the entries before the `nth`: this device's leaf in them is not to be used any more, since
    /// others know more of it than it does itself. Of what it knew of the group then only who was in it
    /// still counts: see [`Dag::head`].
    pub fn forsake(&mut self, nth: u64) {
        self.forsaken = nth.max(self.forsaken);
    }

    /// The first entry that is not given up.
    pub fn forsaken(&self) -> u64 {
        self.forsaken
    }

    /// Takes in a state whose commit was checked as far as [`Node::held`] says; of a [`Held::Claimed`]
    /// one, its committer's signature.
    ///
    /// The result is the same in any order: who knows more of a state is right, of two who know as much
    /// without having been in it the lesser. A state that names no parent says nothing here.
    pub fn insert(&mut self, node: Node) -> Inserted {
        let Some(parent) = node.parent else { return Inserted::Nothing };
        let (sid, before) = (node.sid, self.parent_id(&node.sid));
        let inserted = if node.held == Held::Claimed { self.hear(node, parent) } else { self.learn(node) };
        self.hang(sid, before);
        inserted
    }

    fn hear(&mut self, node: Node, parent: StateId) -> Inserted {
        if self.known_parent(&node.sid).is_some() {
            return Inserted::Nothing;
        }
        let claimed = |sid: &&StateId| self.claims.parent(sid).is_some();
        let siblings = self.children.get(&parent).into_iter().flatten().filter(claimed).count();
        if !self.claims.insert(node.sid, parent, siblings < MAX_CLAIMED_CHILDREN) {
            return Inserted::TooMany;
        }
        self.learn(node)
    }

    fn learn(&mut self, mut node: Node) -> Inserted {
        let sid = node.sid;
        if node.held.is_checked() {
            self.supports.meet(node.roster.devices());
        }
        match self.nodes.get_mut(&sid) {
            Some(known) if outweighs(known, &node) => {
                if node.held.is_checked() {
                    known.parent = least(known.parent, node.parent);
                }
            }
            Some(known) => {
                if known.held.is_checked() {
                    node.parent = least(known.parent, node.parent);
                }
                *known = node;
            }
            None => {
                self.nodes.insert(sid, node);
            }
        }
        if self.known_parent(&sid).is_some() {
            self.claims.settle(&sid);
        }
        Inserted::Kept
    }

    fn hang(&mut self, sid: StateId, before: Option<StateId>) {
        let after = self.parent_id(&sid);
        if let Some(old) = before.filter(|old| Some(*old) != after)
            && let Some(siblings) = self.children.get_mut(&old)
        {
            siblings.remove(&sid);
            if siblings.is_empty() {
                self.children.remove(&old);
            }
        }
        if let Some(parent) = after {
            self.children.entry(parent).or_default().insert(sid);
        }
        self.spans = OnceLock::new();
    }

    /// Remembers that a state's secrets were deleted.
    pub fn prune(&mut self, sid: &StateId) {
        if let Some(node) = self.nodes.get_mut(sid).filter(|node| node.held == Held::Live) {
            node.held = Held::Pruned;
        }
    }

    /// Takes in a Support whose signature was checked.
    pub fn support(&mut self, support: Support) -> Heard {
        self.supports.insert(support)
    }

    /// Takes in a proof whose signatures were checked. [`Heard::Equivocation`] if it is the first against
    /// its device, which has no vote from now on.
    pub fn convict(&mut self, proof: Equivocation) -> Heard {
        self.supports.convict(proof)
    }

    /// The group.
    pub fn gid(&self) -> &GroupId {
        &self.gid
    }

    /// The votes.
    pub fn supports(&self) -> &Supports {
        &self.supports
    }

    /// What is known of a state.
    pub fn node(&self, sid: &StateId) -> Option<&Node> {
        self.nodes.get(sid)
    }

    /// All states, by id.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Node> {
        self.nodes.values()
    }

    /// The state that a state's commit was made in, if it is known. Epochs rise by one along the way:
    /// whatever was claimed, there are no circles.
    pub fn parent(&self, sid: &StateId) -> Option<&Node> {
        let child = self.nodes.get(sid)?;
        let parent = self.nodes.get(&self.parent_id(sid)?)?;
        (parent.epoch.checked_add(1) == Some(child.epoch)).then_some(parent)
    }

    /// The same for what votes are counted by: nothing where claims contradict each other.
    pub fn undisputed_parent(&self, sid: &StateId) -> Option<&Node> {
        self.parent(sid).filter(|_| !self.claims.disputed(sid))
    }

    /// The states that commits made in this one lead to, by id.
    pub fn children<'a>(&'a self, parent: &StateId) -> impl Iterator<Item = &'a Node> + use<'a> {
        let epoch = self.nodes.get(parent).and_then(|parent| parent.epoch.checked_add(1));
        let children = self.children.get(parent).into_iter().flatten();
        children.filter_map(|sid| self.nodes.get(sid)).filter(move |child| Some(child.epoch) == epoch)
    }

    /// Whether a state is `top` or, undisputedly, comes after it.
    pub fn is_below(&self, sid: &StateId, top: &StateId) -> bool {
        self.spans().is_below(sid, top)
    }

    /// Accounts of whose devices one made two commits in one state, which no honest device does.
    pub fn double_committers(&self) -> BTreeSet<AccountId> {
        let by_committer = self.nodes.values().filter_map(|node| {
            let parent = self.parent(&node.sid).filter(|parent| node.is_checked_in(&parent.sid))?;
            Some((parent.sid, node.committer))
        });
        let mut seen = BTreeSet::new();
        by_committer
            .filter(|commit| !seen.insert(*commit))
            .filter_map(|(parent, committer)| self.nodes.get(&parent)?.roster.account_of(&committer))
            .copied()
            .collect()
    }

    fn parent_id(&self, sid: &StateId) -> Option<StateId> {
        self.known_parent(sid).or_else(|| self.claims.parent(sid))
    }

    /// The parent that this device itself checked a commit in.
    fn known_parent(&self, sid: &StateId) -> Option<StateId> {
        self.nodes.get(sid).filter(|node| node.held.is_checked()).and_then(|node| node.parent)
    }

    fn spans(&self) -> &Spans {
        self.spans.get_or_init(|| Spans::of(self))
    }
}

/// Whether what is known of a state stays as it is when `other` says something else.
fn outweighs(known: &Node, other: &Node) -> bool {
    match known.held.knowledge().cmp(&other.held.knowledge()) {
        std::cmp::Ordering::Equal => known.held.is_merged() || known.claim() <= other.claim(),
        unequal => unequal.is_gt(),
    }
}

/// The least parent named, if one was.
fn least(one: Option<StateId>, other: Option<StateId>) -> Option<StateId> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
