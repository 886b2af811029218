//! What a hostile member does: everything here must be refused, outvoted or outlived by the others.

use std::collections::BTreeSet;

use rand::RngCore as _;

use super::{
    actor::{Cx, Member},
    wire::{CommitFrame, Message, Skeleton},
};
use crate::{
    dag::{Class, Support, turn::ALONE, turn::Sake},
    group::{authorize::Justification, commit::Change, frame::Frame, testing::Hostile},
    id::{CommitId, StateId},
    simulation::MemberId,
};

/// Counters of lies: no later truth of the same device counts against them.
const LYING_COUNTER: u64 = 1 << 40;

/// What a hostile hand makes a member do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misdeed {
    /// It tells of a removal that nobody made, and of others' votes for it.
    Skeleton,
    /// It supports different states before different members.
    TwoFaces,
    /// It commits so that one member cannot follow.
    LockOut(u16),
    /// It removes someone whom nobody asked to remove.
    Unasked(u16),
    /// It commits twice in one state, and shows half of the others one commit first, and the rest the other.
    TwoCommits,
    /// From now on it says that it has nothing, so that others send it all that they have, again and again.
    Greed,
}

/// The lies that go into the Tips of a hostile member.
#[derive(Default)]
pub(super) struct Lies {
    /// Where it says that commits lead.
    pub(super) skeletons: Vec<Skeleton>,
    /// What it says to members of even and of odd places that it supports.
    pub(super) supports: Option<[Support; 2]>,
    /// What it says that others support.
    pub(super) forged: Vec<Support>,
    /// Commits of its own that it shows to others and does not keep.
    pub(super) doubles: BTreeSet<CommitId>,
    /// Whether it says that it has no events.
    pub(super) greedy: bool,
}

impl Lies {
    pub(super) fn is_empty(&self) -> bool {
        self.supports.is_none() && self.forged.is_empty()
    }
}

impl<E: Hostile> Member<E> {
    /// Does what nobody may.
    pub(super) fn misbehave(&mut self, misdeed: Misdeed, cx: &mut Cx<'_, E>) {
        let done = match misdeed {
            Misdeed::Skeleton => self.forge_skeleton(cx),
            Misdeed::TwoFaces => self.show_two_faces(cx),
            Misdeed::LockOut(place) => self.lock_out(place, cx),
            Misdeed::Unasked(place) => self.remove_unasked(place, cx),
            Misdeed::TwoCommits => self.commit_twice(cx),
            Misdeed::Greed => {
                self.lies.greedy = true;
                Some(())
            }
        };
        cx.count(if done.is_some() { "misdeeds" } else { "misdeeds without a chance" });
        self.shared = None;
        self.tip_all(cx);
    }

    fn forge_skeleton(&mut self, cx: &mut Cx<'_, E>) -> Option<()> {
        let key = self.person(cx)?.key.clone();
        let head = cx.disk().at()?;
        let row = cx.disk().states.get(&head)?;
        // A rival of the head, as well as one that follows it.
        let parents = [Some(head), row.skeleton.parent];
        let epoch = row.skeleton.epoch;
        let standing = row.standing.clone();
        for (parent, epoch) in parents.into_iter().flatten().zip([epoch + 1, epoch]) {
            let (mut sid, mut commit) = (StateId([0; 32]), CommitId([0; 32]));
            cx.draw().fill_bytes(&mut sid.0);
            cx.draw().fill_bytes(&mut commit.0);
            let committer = cx.disk().device;
            let skeleton = Skeleton {
                parent: Some(parent),
                sid,
                epoch,
                class: Class::Removal,
                committer,
                commit,
                signature: [0; 64],
            };
            self.lies.skeletons.push(skeleton.signed(&key));
            let others = standing.roster.iter().map(|member| member.certificate.device);
            let forged = others.filter(|device| *device != committer).take(1);
            let forged =
                forged.map(|device| Support { device, counter: LYING_COUNTER, sid, signature: [1; 64] });
            self.lies.forged.extend(forged);
        }
        Some(())
    }

    /// Supports two rivals, if there are any; else the head and the state before it.
    fn show_two_faces(&mut self, cx: &mut Cx<'_, E>) -> Option<()> {
        let key = self.person(cx)?.key.clone();
        let disk = cx.disk();
        let head = disk.at()?;
        let rivals = disk.way_to(&head).find_map(|sid| {
            let mut children = disk.dag.children(&sid).map(|child| child.sid);
            Some([children.next()?, children.next()?])
        });
        let two = rivals.or_else(|| Some([head, disk.dag.parent(&head)?.sid]))?;
        let counter = LYING_COUNTER + disk.counter;
        let gid = *disk.dag.gid();
        self.lies.supports = Some(two.map(|sid| Support::sign(&gid, &key, counter, sid)));
        Some(())
    }

    fn lock_out(&mut self, place: u16, cx: &mut Cx<'_, E>) -> Option<()> {
        let victim = cx.setup().person(place)?.device;
        let head = cx.disk().safe_at()?;
        let inside = cx.disk().standing()?.member(&victim).is_some();
        if !inside || victim == cx.disk().device || !self.confirmed {
            return None;
        }
        self.update_since.get_or_insert(cx.monotonic_ms());
        let mut draft = self.draft_of(head, Vec::new(), cx)?;
        // That it did not wait for its turn is another matter.
        draft.sake = Sake::OwnUser(ALONE);
        self.make(head, draft, &[victim], cx)
    }

    fn commit_twice(&mut self, cx: &mut Cx<'_, E>) -> Option<()> {
        let person = self.person(cx)?;
        let (identity, key) = (person.identity.clone(), person.key.clone());
        let head = cx.disk().safe_at().filter(|_| self.confirmed)?;
        let standing = cx.disk().standing()?.clone();
        let change = Change { adds: Vec::new(), removes: Vec::new(), policy: standing.policy.clone() };
        let reasons = Justification::empty(cx.wall_ms()).encode().ok()?;
        let second = self.load(cx, &head)?.commit(&identity, change, reasons).ok()?;
        let id = Frame::decode(&second.frame).ok()?.id();
        let skeleton = Skeleton::sign(&key, &head, &second);
        self.lies.doubles.insert(second.commit_id);
        let frame = std::sync::Arc::new(CommitFrame { id, bytes: second.frame, skeleton });
        for peer in self.reachable(cx).into_iter().filter(|peer| peer.0.is_multiple_of(2)) {
            cx.send(peer, Message::Commit(frame.clone()));
        }
        self.update_since.get_or_insert(cx.monotonic_ms());
        let mut draft = self.draft_of(head, Vec::new(), cx)?;
        draft.sake = Sake::OwnUser(ALONE);
        self.make(head, draft, &[], cx)
    }

    fn remove_unasked(&mut self, place: u16, cx: &mut Cx<'_, E>) -> Option<()> {
        let victim = cx.setup().person(place)?;
        let (account, device) = (victim.account, victim.device);
        let person = self.person(cx)?;
        let (identity, key) = (person.identity.clone(), person.key.clone());
        let head = cx.disk().at()?;
        let standing = cx.disk().standing()?.clone();
        standing.member(&device).filter(|_| device != cx.disk().device)?;
        let policy = standing.policy.with_removed(&account, standing.epoch, true);
        let change = Change { adds: Vec::new(), removes: vec![device], policy };
        let reasons = Justification::empty(cx.wall_ms()).encode().ok()?;
        let bytes = self.load(cx, &head)?.forge_commit(&identity, &change, reasons).ok()?;
        let id = Frame::decode(&bytes).ok()?.id();
        let (mut sid, mut commit) = (StateId([0; 32]), CommitId([0; 32]));
        cx.draw().fill_bytes(&mut sid.0);
        cx.draw().fill_bytes(&mut commit.0);
        let (committer, epoch) = (cx.disk().device, standing.epoch + 1);
        let skeleton = Skeleton {
            parent: Some(head),
            sid,
            epoch,
            class: Class::Removal,
            committer,
            commit,
            signature: [0; 64],
        };
        let frame = std::sync::Arc::new(CommitFrame { id, bytes, skeleton: skeleton.signed(&key) });
        for peer in self.reachable(cx) {
            cx.send(peer, Message::Commit(frame.clone()));
        }
        Some(())
    }

    /// The supports that a hostile member tells one peer, instead of the true ones.
    pub(super) fn told_supports(&self, peer: MemberId, supports: &[Support]) -> Vec<Support> {
        let own = self.lies.supports.map(|[even, odd]| if peer.0.is_multiple_of(2) { even } else { odd });
        let others = supports.iter().filter(|support| own.is_none_or(|own| own.device != support.device));
        others.copied().chain(own).chain(self.lies.forged.iter().copied()).collect()
    }
}
