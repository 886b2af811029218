//! Where a group's head is: a state or a vote becomes known, the choice is made anew, and one step stores
//! both (T5, T6).

mod moving;
mod returning;
mod step;

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;

pub(super) use self::returning::Return;
use self::{
    moving::{Move, since},
    step::Step,
};

use super::{Network, Slot, SlotError, admit::Letter, misbehaviour::Offence};
use crate::{
    certificate::Certificate,
    clock::now_ms,
    dag::{Head, Heard, Inserted, Node, Route, SignedSkeleton, Support, window},
    group::{
        authorize::Authorized,
        rows::RowChanges,
        state::{GroupState, StateFacts},
    },
    id::{DeviceId, FrameId, GroupId, StateId},
    journal::Members,
    router::PeerId,
    store::{StoreError, branch, mls::TaggedState},
};

/// A branch is not left for so long after votes came for states that are not known yet: they tell where the
/// group is, and their commits are on the way.
pub(super) const MAX_WAIT_FOR_MORE: Duration = Duration::from_secs(2);

/// A state that a checked commit leads to, ready to be stored.
pub(super) struct Learnt {
    pub(super) node: Node,
    /// What can be said of it with its secrets, and its rows; nothing where these do not open here.
    pub(super) secrets: Option<(StateFacts, RowChanges)>,
    pub(super) frame: FrameId,
    pub(super) frame_bytes: Arc<[u8]>,
    /// Names the parent's frames, of which the commit is one.
    pub(super) env_tag: [u8; 16],
    pub(super) authorized: Authorized,
    /// The committer's, of the skeleton; it was checked.
    pub(super) skeleton_signature: [u8; 64],
}

impl Learnt {
    /// Who is in the state and never was a member here.
    fn newcomers(&self, members: &Members) -> Vec<Certificate> {
        let roster = self.secrets.iter().flat_map(|(facts, _)| &facts.standing.roster);
        let certificates = roster.map(|leaf| &leaf.certificate);
        certificates.filter(|certificate| members.get(&certificate.device).is_none()).cloned().collect()
    }
}

/// What the choice says now.
enum Verdict {
    /// Where this device stands already.
    Stay,
    /// In another state whose secrets are here.
    Move(Box<Move>),
    /// Where this account is no member.
    Out,
    /// Where this device cannot follow.
    Beyond,
}

impl Network {
    /// Stores a state that a commit led to, and moves the head to where it is now. `child` is the state,
    /// loaded, unless its secrets do not open here.
    ///
    /// # Errors
    /// [`SlotError`]: the slot must be emptied.
    pub(super) async fn learn(
        self: &Arc<Self>,
        slot: &mut Slot,
        learnt: Learnt,
        child: Option<GroupState>,
        letters: Vec<Letter>,
    ) -> Result<(), SlotError> {
        let gid = slot.gid();
        slot.head_id(&self.vault).await?;
        slot.dag(&self.vault, self.keys.device_id()).await?.insert(learnt.node.clone());
        let tag = learnt.secrets.as_ref().map(|(facts, _)| tagged(facts));
        if let Some(child) = child {
            slot.keep(child);
        }
        let verdict = self.choose(slot, Some(&learnt)).await?;
        self.store_verdict(slot, verdict, Some(learnt), letters, Vec::new()).await?;
        self.set_last_state(None);
        self.group_changed(gid);
        if let Some(tag) = tag {
            self.unpark_frames(tag).await?;
        }
        Ok(())
    }

    /// Takes in votes and skeletons whose signatures were checked, and moves the head to where it is now;
    /// whether anything was new. Skeletons are remembered until the slot is emptied: they come again.
    ///
    /// # Errors
    /// [`SlotError`]: the slot must be emptied.
    pub(super) async fn hear(
        self: &Arc<Self>,
        slot: &mut Slot,
        supports: Vec<Support>,
        skeletons: &[SignedSkeleton],
    ) -> Result<bool, SlotError> {
        slot.head_id(&self.vault).await?;
        let dag = slot.dag(&self.vault, self.keys.device_id()).await?;
        let mut news = Vec::new();
        for support in supports {
            match dag.support(support) {
                Heard::Latest => news.push(support),
                Heard::Equivocation => {
                    // Not its carrier's doing, who shows what others said.
                    self.metrics.reject(Offence::Equivocation);
                    news.push(support);
                }
                Heard::Nothing | Heard::TooMany => {}
            }
        }
        let claims = skeletons.iter().filter(|signed| dag.insert(signed.claim()) == Inserted::Kept).count();
        if news.is_empty() && claims == 0 {
            return Ok(false);
        }
        let verdict = self.choose(slot, None).await?;
        if !news.is_empty() || !matches!(verdict, Verdict::Stay) {
            self.store_verdict(slot, verdict, None, Vec::new(), news).await?;
        }
        Ok(true)
    }

    async fn choose(
        self: &Arc<Self>,
        slot: &mut Slot,
        learnt: Option<&Learnt>,
    ) -> Result<Verdict, SlotError> {
        let own = self.keys.device_id();
        let from = slot.head_id(&self.vault).await?;
        let members = slot.members(&self.vault).await?;
        let dag = slot.dag(&self.vault, own).await?;
        let Some(head) = dag.head() else { return Ok(Verdict::Stay) };
        let to = head.stand();
        if let Head::Beyond { wanted, .. } = head {
            return Ok(match dag.node(&wanted) {
                Some(node) if node.held.is_checked() && !node.roster.contains(&self.keys.account()) => {
                    Verdict::Out
                }
                Some(node) if node.held.is_checked() => Verdict::Beyond,
                // Only heard of: its commit may be on the way.
                _ => Verdict::Stay,
            });
        }
        let route = dag.route(&from, &to);
        let is_told_more = !route.abandoned.is_empty() && dag.is_told_of_more(&from);
        let waits = slot.waits_for_more(is_told_more);
        if to == from {
            return Ok(Verdict::Stay);
        }
        if waits {
            self.spawn("choice", Arc::clone(self).choose_again(slot.gid()));
            return Ok(Verdict::Stay);
        }
        let dag = slot.dag(&self.vault, own).await?;
        let roster =
            |sid: Option<&StateId>| sid.and_then(|sid| dag.node(sid)).map(|node| Arc::clone(&node.roster));
        let before = roster(Some(&from)).unwrap_or_default();
        let kept = roster(route.fork.as_ref()).unwrap_or_default();
        let since = since(dag, &route.taken);
        // One commit on, and it is this one: then what it does is known better than by its outcome.
        let only = learnt.filter(|learnt| route.abandoned.is_empty() && route.taken == [learnt.node.sid]);
        let farewell = route.taken.iter().filter_map(|sid| dag.node(sid)).any(|node| node.committer == own);
        let facts = slot.state(&self.vault, to).await?.facts().clone();
        Ok(Verdict::Move(Box::new(Move {
            gid: slot.gid(),
            facts,
            route,
            before,
            since,
            kept,
            members,
            me: self.keys.account(),
            authorized: only.map(|learnt| learnt.authorized.clone()),
            farewell,
        })))
    }

    /// What was waited for did not come.
    fn choose_again(self: Arc<Self>, gid: GroupId) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            tokio::time::sleep(MAX_WAIT_FOR_MORE).await;
            let mut slot = self.groups.lock(gid).await;
            if let Err(error) = self.choose_and_store(&mut slot).await {
                slot.forget();
                tracing::warn!(%error, "a head could not be chosen");
            }
        })
    }

    async fn choose_and_store(self: &Arc<Self>, slot: &mut Slot) -> Result<(), SlotError> {
        match self.choose(slot, None).await? {
            Verdict::Stay => Ok(()),
            verdict => self.store_verdict(slot, verdict, None, Vec::new(), Vec::new()).await,
        }
    }

    /// One transaction: what was learnt, and where it leads.
    async fn store_verdict(
        self: &Arc<Self>,
        slot: &mut Slot,
        verdict: Verdict,
        learnt: Option<Learnt>,
        letters: Vec<Letter>,
        heard: Vec<Support>,
    ) -> Result<(), SlotError> {
        let gid = slot.gid();
        let proofs = slot.proofs_against(&heard);
        let members = slot.members(&self.vault).await?;
        let newcomers = learnt.as_ref().map(|learnt| learnt.newcomers(&members)).unwrap_or_default();
        if !newcomers.is_empty() {
            slot.meet();
        }
        let step = Step { gid, verdict, learnt, newcomers, letters, heard, proofs };
        let verdict = Box::pin(self.take_step(step)).await?;
        self.wake.votes.notify_waiters();
        match verdict {
            Verdict::Stay => {}
            Verdict::Beyond => self.look_for_the_way(gid),
            Verdict::Out => {
                tracing::info!("this account is no longer in a group");
                slot.forget();
                self.set_last_state(None);
            }
            Verdict::Move(moved) => {
                slot.stand_on(moved.facts.sid);
                self.after_move(slot, moved.facts.epoch, &moved.route).await?;
                for (peer, device) in self.connected_of(&moved.gone()) {
                    self.say_farewell(gid, peer, device);
                }
            }
        }
        Ok(())
    }

    fn connected_of(&self, devices: &[DeviceId]) -> Vec<(PeerId, DeviceId)> {
        let links = self.links.verified().into_iter();
        let links = links.filter(|(_, _, device)| devices.contains(device));
        links.map(|(peer, _, device)| (peer, device)).collect()
    }

    /// A group was entered by a Welcome, and that is stored.
    pub(super) async fn enter(self: &Arc<Self>, slot: &mut Slot, root: GroupState) -> Result<(), SlotError> {
        let tag = tagged(root.facts());
        slot.forget();
        slot.keep(root);
        slot.stand_on(tag.sid);
        self.enters(tag.gid);
        self.after_move(slot, tag.epoch, &Route::default()).await?;
        self.unpark_frames(tag).await
    }

    /// The head is another state: use it, and tell others.
    async fn after_move(
        self: &Arc<Self>,
        slot: &mut Slot,
        epoch: u64,
        route: &Route,
    ) -> Result<(), SlotError> {
        tracing::info!(
            epoch,
            abandoned = route.abandoned.len(),
            taken = route.taken.len(),
            "a group is in a new epoch"
        );
        if !route.abandoned.is_empty() {
            self.metrics.head_switches.inc();
        }
        self.set_last_state(None);
        self.wake.dial.notify_one();
        self.wake.commit.notify_one();
        self.wake.outbox.notify_one();
        self.group_changed(slot.gid());
        self.prune(slot).await?;
        Ok(())
    }

    /// Deletes the secrets of states that nobody needs any more; true when some stay only because they are
    /// young.
    ///
    /// # Errors
    /// [`SlotError`]
    pub(super) async fn prune(&self, slot: &mut Slot) -> Result<bool, SlotError> {
        let (gid, now) = (slot.gid(), now_ms());
        let head = slot.head_id(&self.vault).await?;
        let held = {
            let mut reader = self.vault.read().await?;
            branch::held(reader.conn(), gid).await?
        };
        let min_age = i64::try_from(window::MIN_AGE.as_millis()).unwrap_or(i64::MAX);
        let is_young = |(sid, since): &(StateId, i64)| *sid != head && now - since < min_age;
        let young = held.iter().any(is_young);
        let dag = slot.dag(&self.vault, self.keys.device_id()).await?;
        let leaving = window::leaving(dag, &head, held, now, window::MAX_AGE);
        if leaving.is_empty() {
            return Ok(young);
        }
        let gone = leaving.clone();
        let pruned: Result<(), StoreError> = self
            .vault
            .write(move |tx| Box::pin(async move { branch::prune(tx.conn(), gid, &gone, now).await }))
            .await;
        pruned?;
        slot.drop_states(&leaving);
        self.set_last_state(None);
        Ok(young)
    }
}

/// A state by its frames' tag.
pub(super) fn tagged(facts: &StateFacts) -> TaggedState {
    TaggedState { env_tag: facts.env_tag, gid: facts.gid, sid: facts.sid, epoch: facts.epoch, pruned: false }
}
