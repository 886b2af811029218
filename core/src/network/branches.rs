//! Showing a peer the branches that are known here: it may be on another one, where nothing of ours opens.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use spacepanda_proto::peer::v1::{
    PushSupports, PushSupportsReply, Skeleton as WireSkeleton, Support as WireSupport, peer_request,
    peer_response,
};

use super::{Network, Slot, SlotError, link::Outgoing, misbehaviour::Offence, reconcile::Lack};
use crate::{
    certificate::Certificate,
    dag::{Astray, Class, Held, Node, SignedSkeleton, Skeleton, Support},
    id::{CommitId, DeviceId, GroupId, StateId},
    router::PeerId,
    store::{StoreError, branch, commit, mls, peer, skeleton},
};

/// A peer is shown a group's branches this often at most.
const EVERY: Duration = Duration::from_secs(2);
/// Peers and groups that are remembered; beyond it all are forgotten.
const MAX_REMEMBERED: usize = 4_096;
/// Commits shown at a time: the window is far smaller.
const MAX_COMMITS: usize = 256;
/// Supports of one push.
const MAX_SUPPORTS: usize = 1_024;
/// Skeletons of one push.
const MAX_SKELETONS: usize = 256;

/// What is told beside the Supports.
#[derive(Clone, Copy, Default)]
pub(super) struct Telling {
    /// Where commits lead.
    pub(super) skeletons: bool,
    /// The same is to be told in return.
    pub(super) pull: bool,
}

/// When peers were last shown which group's branches.
#[derive(Default)]
pub(super) struct Shown(Mutex<HashMap<(GroupId, PeerId), Instant>>);

impl Shown {
    /// Whether it is time again.
    fn is_due(&self, gid: GroupId, peer: &PeerId, now: Instant) -> bool {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.get(&(gid, *peer)).is_some_and(|last| now.duration_since(*last) < EVERY) {
            return false;
        }
        if shown.len() >= MAX_REMEMBERED {
            shown.clear();
        }
        shown.insert((gid, *peer), now);
        true
    }
}

impl Network {
    /// A peer seals in a state that is not known here: it is ahead, or on another branch. Of every group
    /// that it is or was in it is shown the commits made in states that both may have been in, and asked for
    /// its own.
    pub(super) fn show_branches(self: &Arc<Self>, certificate: &Certificate, env_tag: [u8; 16]) {
        let (network, certificate) = (Arc::clone(self), certificate.clone());
        self.spawn("branches", async move {
            if let Err(error) = network.show_all_branches(&certificate, env_tag).await {
                tracing::warn!(%error, "branches could not be shown");
            }
        });
    }

    async fn show_all_branches(
        self: &Arc<Self>,
        certificate: &Certificate,
        env_tag: [u8; 16],
    ) -> Result<(), SlotError> {
        let Ok(peer) = PeerId::from_bytes(&certificate.peer_id) else { return Ok(()) };
        let groups = {
            let mut reader = self.vault.read().await?;
            peer::common_groups(reader.conn(), certificate).await?
        };
        for gid in groups {
            self.suspect(gid, &peer, Lack::State(env_tag));
            if !self.branches.is_due(gid, &peer, Instant::now()) {
                continue;
            }
            // What is being fetched may lead where the peer is.
            self.reconciling.caught_up(gid).await;
            let is_known = {
                let mut reader = self.vault.read().await?;
                mls::state_by_tag(reader.conn(), &env_tag).await?.is_some()
            };
            if is_known {
                continue;
            }
            self.show(gid, &peer, certificate.device).await?;
            if self.is_gone(gid, certificate).await? {
                self.say_farewell(gid, peer, certificate.device);
            }
        }
        Ok(())
    }

    /// Shows a device the commits that it can open, and what everyone follows.
    async fn show(&self, gid: GroupId, peer: &PeerId, device: DeviceId) -> Result<(), SlotError> {
        for commit in self.commits_for(gid, device).await? {
            let mut reader = self.vault.read().await?;
            if let Some(bytes) = commit::frame(reader.conn(), gid, commit).await? {
                self.links.push(peer, Outgoing::untracked(bytes));
            }
        }
        self.tell_supports(gid, peer, Telling { skeletons: true, pull: false }).await.map(drop)
    }

    /// The commits made in states whose secrets are here and which a device was in, the oldest first. Others
    /// it could not open, and would wait for what never comes.
    async fn commits_for(&self, gid: GroupId, device: DeviceId) -> Result<Vec<CommitId>, SlotError> {
        let mut slot = self.groups.lock(gid).await;
        let joined = slot.members(&self.vault).await?.get(&device).map_or(0, |row| row.joined_epoch);
        let dag = slot.dag(&self.vault, self.keys.device_id()).await?;
        let opens = |parent: &&Node| {
            let was_there = parent.roster.devices().any(|member| *member == device);
            parent.held == Held::Live && parent.epoch >= joined && was_there
        };
        let mut parents: Vec<_> = dag.nodes().filter(opens).collect();
        parents.sort_by_key(|parent| parent.epoch);
        let commits = parents.into_iter().flat_map(|parent| dag.children(&parent.sid));
        Ok(commits.map(|child| child.commit).take(MAX_COMMITS).collect())
    }

    /// Tells a peer what everyone follows, and which leaf it has here. True when it answers that it has no such
    /// group with this device in it, then or ever.
    pub(super) async fn tell_supports(
        &self,
        gid: GroupId,
        peer: &PeerId,
        telling: Telling,
    ) -> Result<bool, SlotError> {
        let receiver = self.links.certificate(peer);
        let mut push = PushSupports { gid: gid.0.to_vec(), pull: telling.pull, ..PushSupports::default() };
        {
            let mut slot = self.groups.lock(gid).await;
            self.own_support(&mut slot).await?;
            let standing = &slot.head(&self.vault).await?.facts().standing;
            let leaf = receiver.and_then(|receiver| {
                let leaf = standing.member(&receiver.device)?;
                (leaf.certificate.account == receiver.account).then_some(leaf.encryption_key)
            });
            push.leaf_key = leaf.map(Vec::from).unwrap_or_default();
            let dag = slot.dag(&self.vault, self.keys.device_id()).await?;
            let all = dag.supports().all().chain(dag.supports().equivocations().flat_map(|p| p.supports()));
            push.supports = all.take(MAX_SUPPORTS).map(wire).collect();
        }
        if telling.skeletons {
            let mut reader = self.vault.read().await?;
            let limit = u32::try_from(MAX_SKELETONS).unwrap_or(u32::MAX);
            let newest = skeleton::newest(reader.conn(), gid, limit).await?;
            push.skeletons = newest.iter().map(wire_skeleton).collect();
        }
        // Whoever does not answer is told again when it shows that it is still elsewhere.
        let answer = self.ask(peer, peer_request::Kind::PushSupports(push)).await;
        Ok(matches!(answer, Some(peer_response::Kind::PushSupports(PushSupportsReply { no_member: true }))))
    }

    /// Takes what a peer says that members follow, and where.
    pub(super) async fn take_supports(
        self: &Arc<Self>,
        peer: &PeerId,
        certificate: &Certificate,
        push: PushSupports,
    ) -> PushSupportsReply {
        if push.supports.len() > MAX_SUPPORTS || push.skeletons.len() > MAX_SKELETONS {
            self.offend(peer, Offence::Flood);
            return PushSupportsReply::default();
        }
        let Ok(gid) = GroupId::try_from(&*push.gid) else { return PushSupportsReply { no_member: true } };
        let mut slot = self.groups.lock(gid).await;
        let done = match self.take_words(&mut slot, peer, certificate, &push).await {
            Ok(()) => self.shares(&mut slot, certificate).await,
            Err(error) => Err(error),
        };
        let no_member = match done {
            Ok(shared) => !shared,
            Err(SlotError::NotAMember) => true,
            Err(error) => {
                slot.forget();
                tracing::warn!(%error, "what members follow could not be taken");
                false
            }
        };
        PushSupportsReply { no_member }
    }

    /// Whether this device is in a group in which another one is or was, too.
    async fn shares(&self, slot: &mut Slot, certificate: &Certificate) -> Result<bool, SlotError> {
        slot.head_id(&self.vault).await?;
        let members = slot.members(&self.vault).await?;
        Ok(members.get(&certificate.device).is_some_and(|row| row.account == certificate.account))
    }

    async fn take_words(
        self: &Arc<Self>,
        slot: &mut Slot,
        peer: &PeerId,
        certificate: &Certificate,
        push: &PushSupports,
    ) -> Result<(), SlotError> {
        let (gid, own) = (slot.gid(), self.keys.device_id());
        let stand = slot.head_id(&self.vault).await?;
        let members = slot.members(&self.vault).await?;
        let is_known = members.get(&certificate.device).is_some_and(|row| row.account == certificate.account);
        let Some((supports, skeletons)) = self.read_words(slot, peer, push).await? else { return Ok(()) };
        let news = self.hear(slot, supports, &skeletons).await?;
        if !is_known {
            return Ok(());
        }
        self.ways.said(gid, peer, push.leaf_key.as_slice().try_into().ok());
        if push.pull && self.pulls.is_due(gid, peer, Instant::now()) {
            let (network, peer) = (Arc::clone(self), *peer);
            self.spawn("answer", async move {
                let telling = Telling { skeletons: true, pull: false };
                if let Err(error) = network.tell_supports(gid, &peer, telling).await {
                    tracing::debug!(%error, "a peer that lost its way could not be told");
                }
            });
        }
        let astray = slot.dag(&self.vault, own).await?.astray(&stand);
        if astray == Astray::Yes || (astray == Astray::Unsure && news) {
            self.look_for_the_way(gid);
        }
        Ok(())
    }

    /// The new words among those told; nothing when one is not its author's.
    async fn read_words(
        self: &Arc<Self>,
        slot: &mut Slot,
        peer: &PeerId,
        push: &PushSupports,
    ) -> Result<Option<(Vec<Support>, Vec<SignedSkeleton>)>, SlotError> {
        let (gid, own) = (slot.gid(), self.keys.device_id());
        let dag = slot.dag(&self.vault, own).await?;
        let members: HashSet<_> = dag.nodes().flat_map(|node| node.roster.devices()).collect();
        let (mut heard, mut told) = (Vec::new(), Vec::new());
        for support in &push.supports {
            let Some(support) = read(support) else {
                self.offend(peer, Offence::Malformed);
                return Ok(None);
            };
            let known = dag.supports().of(&support.device) == Some(&support);
            // Nobody else's word counts, and one's own is known here.
            if known || !members.contains(&support.device) || support.device == own {
                continue;
            }
            if support.verify(&gid).is_err() {
                self.offend(peer, Offence::Signature);
                return Ok(None);
            }
            heard.push(support);
        }
        for skeleton in &push.skeletons {
            let Some((skeleton, signature)) = read_skeleton(skeleton) else {
                self.offend(peer, Offence::Malformed);
                return Ok(None);
            };
            // What was checked, or told before, is known.
            let is_known = |node: &Node| node.held.is_checked() || node.parent == Some(skeleton.parent);
            if dag.node(&skeleton.sid).is_some_and(is_known) {
                continue;
            }
            let Ok(signed) = skeleton.signed(&gid, signature) else {
                self.offend(peer, Offence::Signature);
                return Ok(None);
            };
            told.push(signed);
        }
        Ok(Some((heard, told)))
    }

    /// This device's own Support of its head, made and stored if it supports another state so far.
    pub(super) async fn own_support(&self, slot: &mut Slot) -> Result<Support, SlotError> {
        let (gid, own) = (slot.gid(), self.keys.device_id());
        let head = slot.head_id(&self.vault).await?;
        let dag = slot.dag(&self.vault, own).await?;
        let last = dag.supports().of(&own).copied();
        if let Some(last) = last.filter(|last| last.sid == head) {
            return Ok(last);
        }
        let counter = last.map_or(0, |last| last.counter) + 1;
        let support = Support::sign(&gid, &self.keys.device, counter, head);
        let stored: Result<(), StoreError> = self
            .vault
            .write(move |tx| Box::pin(async move { branch::hear(tx.conn(), gid, &support).await }))
            .await;
        stored?;
        dag.support(support);
        Ok(support)
    }
}

fn wire(support: &Support) -> WireSupport {
    WireSupport {
        device_key: support.device.0.to_vec(),
        counter: support.counter,
        sid: support.sid.0.to_vec(),
        signature: support.signature.to_vec(),
    }
}

pub(super) fn read(support: &WireSupport) -> Option<Support> {
    Some(Support {
        device: DeviceId::try_from(&*support.device_key).ok()?,
        counter: support.counter,
        sid: StateId::try_from(&*support.sid).ok()?,
        signature: support.signature.as_slice().try_into().ok()?,
    })
}

fn wire_skeleton(signed: &SignedSkeleton) -> WireSkeleton {
    let Skeleton { parent, sid, epoch, class, committer, commit } = signed.skeleton;
    WireSkeleton {
        parent_sid: parent.0.to_vec(),
        sid: sid.0.to_vec(),
        epoch,
        class: class as u32,
        committer: committer.0.to_vec(),
        commit_id: commit.0.to_vec(),
        signature: signed.signature.to_vec(),
    }
}

pub(super) fn read_skeleton(skeleton: &WireSkeleton) -> Option<(Skeleton, [u8; 64])> {
    let read = Skeleton {
        parent: StateId::try_from(&*skeleton.parent_sid).ok()?,
        sid: StateId::try_from(&*skeleton.sid).ok()?,
        epoch: skeleton.epoch,
        class: Class::try_from(u8::try_from(skeleton.class).ok()?).ok()?,
        committer: DeviceId::try_from(&*skeleton.committer).ok()?,
        commit: CommitId::try_from(&*skeleton.commit_id).ok()?,
    };
    Some((read, skeleton.signature.as_slice().try_into().ok()?))
}
