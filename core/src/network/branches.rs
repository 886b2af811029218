//! Showing a peer the branches that are known here: it may be on another one, where nothing of ours opens.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use spacepanda_proto::peer::v1::{PushSupports, PushSupportsReply, Support as WireSupport, peer_request};

use super::{Network, Slot, SlotError, link::Outgoing, misbehaviour::Offence, reconcile::Lack};
use crate::{
    certificate::Certificate,
    dag::{Held, Node, Support},
    id::{CommitId, DeviceId, GroupId, StateId},
    router::PeerId,
    store::{StoreError, branch, commit, peer},
};

/// A peer is shown a group's branches this often at most.
const EVERY: Duration = Duration::from_secs(2);
/// Peers and groups that are remembered; beyond it all are forgotten.
const MAX_REMEMBERED: usize = 4_096;
/// Commits shown at a time: the window is far smaller.
const MAX_COMMITS: usize = 256;
/// Supports of one push.
const MAX_SUPPORTS: usize = 1_024;

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
            // Where this device is now nobody else is any more.
            if self.reconciling.is_catching_up(gid) || !self.branches.is_due(gid, &peer, Instant::now()) {
                continue;
            }
            self.show(gid, &peer, certificate.device).await?;
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
        self.tell_supports(gid, peer).await
    }

    /// Shows those who are not in the new head where the others went: they cannot read on.
    pub(super) async fn show_the_gone(self: Arc<Self>, gid: GroupId, gone: Vec<(PeerId, DeviceId)>) {
        for (peer, device) in gone {
            if let Err(error) = self.show(gid, &peer, device).await {
                tracing::debug!(%error, "a removed member could not be shown where the others went");
            }
        }
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

    /// Tells a peer what everyone follows.
    pub(super) async fn tell_supports(&self, gid: GroupId, peer: &PeerId) -> Result<(), SlotError> {
        let supports = {
            let mut slot = self.groups.lock(gid).await;
            self.own_support(&mut slot).await?;
            let dag = slot.dag(&self.vault, self.keys.device_id()).await?;
            let all = dag.supports().all().chain(dag.supports().equivocations().flat_map(|p| p.supports()));
            all.take(MAX_SUPPORTS).map(wire).collect()
        };
        let push = PushSupports { gid: gid.0.to_vec(), supports };
        // Whoever does not answer is told again when it shows that it is still elsewhere.
        let _ = self.ask(peer, peer_request::Kind::PushSupports(push)).await;
        Ok(())
    }

    /// Takes what a peer says that members follow.
    pub(super) async fn take_supports(
        self: &Arc<Self>,
        peer: &PeerId,
        push: PushSupports,
    ) -> PushSupportsReply {
        if push.supports.len() > MAX_SUPPORTS {
            self.offend(peer, Offence::Flood);
            return PushSupportsReply {};
        }
        if let Ok(gid) = GroupId::try_from(&*push.gid) {
            let mut slot = self.groups.lock(gid).await;
            match self.take_all_supports(&mut slot, peer, &push.supports).await {
                Ok(()) | Err(SlotError::NotAMember) => {}
                Err(error) => {
                    slot.forget();
                    tracing::warn!(%error, "what members follow could not be taken");
                }
            }
        }
        PushSupportsReply {}
    }

    async fn take_all_supports(
        self: &Arc<Self>,
        slot: &mut Slot,
        peer: &PeerId,
        supports: &[WireSupport],
    ) -> Result<(), SlotError> {
        let (gid, own) = (slot.gid(), self.keys.device_id());
        slot.head_id(&self.vault).await?;
        let dag = slot.dag(&self.vault, own).await?;
        let members: HashSet<_> = dag.nodes().flat_map(|node| node.roster.devices()).collect();
        let mut heard = Vec::new();
        for support in supports {
            let Some(support) = read(support) else {
                self.offend(peer, Offence::Malformed);
                return Ok(());
            };
            let known = dag.supports().of(&support.device) == Some(&support);
            // Nobody else's word counts, and one's own is known here.
            if known || !members.contains(&support.device) || support.device == own {
                continue;
            }
            if support.verify(&gid).is_err() {
                self.offend(peer, Offence::Signature);
                return Ok(());
            }
            heard.push(support);
        }
        self.hear(slot, heard).await
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

fn read(support: &WireSupport) -> Option<Support> {
    Some(Support {
        device: DeviceId::try_from(&*support.device_key).ok()?,
        counter: support.counter,
        sid: StateId::try_from(&*support.sid).ok()?,
        signature: support.signature.as_slice().try_into().ok()?,
    })
}
