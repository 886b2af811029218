//! Commits of others: checked in the state they were made in, whichever branch that is on.

use std::sync::Arc;

use futures::future::BoxFuture;
use spacepanda_proto::peer::v1::FrameOutcome;

use super::{
    Network, Slot, SlotError,
    head::Learnt,
    health,
    intake::{Arrived, Taking},
    misbehaviour::{Carrier, Offence},
};
use crate::{
    certificate::Certificate,
    clock::now_ms,
    dag::{Held, Node, SignedSkeleton, Skeleton},
    group::{
        engine::Outcome,
        error::CommitError,
        frame::Frame,
        process::{Processed, sender_of_commit},
        state::StateFacts,
    },
    id::{AccountId, CommitId, GroupId, StateId},
    journal::tell,
    model::{GroupHealth, MemberChange, Role},
    router::PeerId,
    store::{
        StoreError, WriteTx, commit,
        feed::Entry,
        frame, message,
        mls::{self, TaggedState},
        outbox, peer, role_change, space,
    },
};

/// Commits that one device may make on one state before no more of its are looked at.
const MAX_COMMITS_OF_ONE: usize = 2;

/// Why a group stands still at a commit that is nobody's fault.
fn unfollowed(error: &CommitError) -> Option<&'static str> {
    match error {
        CommitError::Lifetime | CommitError::Damaged => Some(health::UNFOLLOWED),
        CommitError::Newer => Some(health::NEWER),
        _ => None,
    }
}

/// Stores a member, or a former one, of a state and makes its router known.
///
/// # Errors
/// [`StoreError`]
pub(crate) async fn add_member(
    tx: &mut WriteTx<'_>,
    facts: &StateFacts,
    certificate: &Certificate,
    epoch: u64,
    joined_at: i64,
) -> Result<(), StoreError> {
    let role = facts.standing.policy.role_of(&certificate.account);
    if let Some(role) = role {
        // Whoever comes back may have had another one.
        role_change::set(tx.conn(), facts.gid, certificate.account, facts.sid, role).await?;
    }
    let role = role.unwrap_or(Role::Member);
    space::add_member(tx.conn(), facts.gid, certificate, role, epoch, joined_at).await?;
    peer::note_member(tx.conn(), certificate).await
}

/// This account is out: secrets go, history stays.
///
/// # Errors
/// [`StoreError`]
pub(crate) async fn end_membership(
    tx: &mut WriteTx<'_>,
    gid: GroupId,
    me: AccountId,
    by_own_wish: bool,
) -> Result<(), StoreError> {
    let now = now_ms();
    let conn = tx.conn();
    let was = mls::group(conn, gid).await?.ok_or(StoreError::Corrupt)?.standing;
    let (standing, reason) = if by_own_wish {
        (mls::GroupStanding::Left, "you left the space before it was sent")
    } else {
        (mls::GroupStanding::Removed, "you were removed from the space before it was sent")
    };
    mls::set_standing(conn, gid, standing).await?;
    message::fail_unsent(conn, gid, reason, now).await?;
    outbox::drop_group(conn, gid).await?;
    mls::forget_secrets(conn, gid, now).await?;
    if !by_own_wish {
        tell(tx, &Entry::Member(gid, me, MemberChange::Removed), now).await?;
        health::set(tx, gid, GroupHealth::Removed, "you are no longer a member").await?;
    }
    if was == mls::GroupStanding::Active {
        tell(tx, &Entry::SpaceGone(gid), now).await?;
    }
    Ok(())
}

impl Network {
    /// Takes a commit that a peer pushed, made on whatever state whose secrets are here.
    pub(super) async fn take_commit(
        self: &Arc<Self>,
        slot: &mut Slot,
        taking: &Taking<'_>,
    ) -> Result<FrameOutcome, SlotError> {
        let Taking { carrier, opened, .. } = taking;
        let (gid, parent) = (slot.gid(), taking.state.sid);
        let commit = CommitId::of(&opened.body);
        let known = {
            let mut reader = self.vault.read().await?;
            commit::knows_commit(reader.conn(), gid, commit).await?
        };
        if known {
            return Ok(FrameOutcome::Duplicate);
        }
        let before = self.other_commits_of_its_sender(slot, parent, &opened.body).await?;
        if before >= MAX_COMMITS_OF_ONE {
            self.blame(*carrier, Offence::Flood);
            return Ok(FrameOutcome::Rejected);
        }
        let state = slot.state(&self.vault, parent).await?;
        match state.process_commit(&opened.body) {
            Ok(processed) => {
                if before > 0 {
                    // Not its carrier's doing: both are kept to choose from, and shown to everyone.
                    self.metrics.reject(Offence::Equivocation);
                }
                Box::pin(self.take_processed(slot, taking, processed)).await
            }
            Err(error) => {
                if let Some(why) = unfollowed(&error) {
                    self.note_health(gid, GroupHealth::Stalled, why).await;
                }
                Ok(self.refuse_commit(*carrier, &error))
            }
        }
    }

    /// How many other commits on this state its sender made: an honest device makes one, a second proves that it
    /// is none. This one may have been heard of before it came.
    async fn other_commits_of_its_sender(
        &self,
        slot: &mut Slot,
        parent: StateId,
        commit: &[u8],
    ) -> Result<usize, SlotError> {
        let gid = slot.gid();
        let Ok(leaf) = sender_of_commit(&gid, commit) else { return Ok(0) };
        let standing = &slot.state(&self.vault, parent).await?.facts().standing;
        let Some(sender) = standing.roster.iter().find(|member| member.leaf == leaf) else {
            return Ok(0);
        };
        let sender = sender.certificate.device;
        let dag = slot.dag(&self.vault, self.keys.device_id()).await?;
        let this = CommitId::of(commit);
        let others = dag.children(&parent).filter(|child| child.committer == sender && child.commit != this);
        Ok(others.count())
    }

    async fn take_processed(
        self: &Arc<Self>,
        slot: &mut Slot,
        taking: &Taking<'_>,
        processed: Processed,
    ) -> Result<FrameOutcome, SlotError> {
        let Taking { frame, bytes, opened, carrier, .. } = taking;
        let Processed { outcome, commit_id, committer, authorized, .. } = processed;
        let is_opaque = matches!(outcome, Outcome::Opaque(_));
        let successor = match &outcome {
            Outcome::Removed(public) => public.standing.member(&self.keys.device_id()),
            Outcome::Child(_) | Outcome::Opaque(_) => None,
        };
        let successor = successor.map(|leaf| leaf.encryption_key);
        let (sid, standing, child, secrets) = match outcome {
            Outcome::Child(mut child) => {
                let (facts, rows) = (child.facts().clone(), child.take_changes()?);
                (facts.sid, facts.standing.clone(), Some(child), Some((facts, rows)))
            }
            Outcome::Removed(public) | Outcome::Opaque(public) => (public.sid, public.standing, None, None),
        };
        let node = Node {
            sid,
            parent: Some(taking.state.sid),
            epoch: standing.epoch,
            commit: commit_id,
            committer,
            class: authorized.class,
            roster: Arc::new(standing.members()),
            held: if child.is_some() { Held::Live } else { Held::Opaque },
        };
        let skeleton = opened.skeleton_signature.zip(Skeleton::of(&node));
        let signed = skeleton.and_then(|(signature, skeleton)| skeleton.signed(&slot.gid(), signature).ok());
        let Some(SignedSkeleton { signature: skeleton_signature, .. }) = signed else {
            // The commit may be its committer's all the same: it comes again from someone who left it whole.
            self.blame(*carrier, Offence::Signature);
            return Ok(FrameOutcome::Rejected);
        };
        if let Some(leaf) = successor {
            self.is_succeeded(slot.gid(), leaf).await?;
        }
        if is_opaque {
            tracing::warn!("a commit's secret does not open");
            self.note_health(slot.gid(), GroupHealth::Stalled, health::UNFOLLOWED).await;
        }
        let learnt = Learnt {
            node,
            skeleton_signature,
            secrets,
            frame: frame.id(),
            frame_bytes: (*bytes).into(),
            env_tag: frame.env_tag(),
            authorized,
        };
        self.learn(slot, learnt, child, Vec::new()).await?;
        Ok(FrameOutcome::Stored)
    }

    fn refuse_commit(self: &Arc<Self>, carrier: Carrier<'_>, error: &CommitError) -> FrameOutcome {
        match error {
            CommitError::OwnCommit => FrameOutcome::Duplicate,
            // May be right for others, or here at another time.
            CommitError::Newer | CommitError::Lifetime | CommitError::Damaged => {
                tracing::warn!(%error, "a commit cannot be followed");
                FrameOutcome::Busy
            }
            CommitError::Unauthorised(_) | CommitError::Forbidden => {
                self.blame(carrier, Offence::UnauthorisedCommit);
                FrameOutcome::Rejected
            }
            CommitError::Malformed
            | CommitError::WrongGroup
            | CommitError::WrongEpoch
            | CommitError::Certificate
            | CommitError::Invalid => {
                self.blame(carrier, Offence::Signature);
                FrameOutcome::Rejected
            }
        }
    }

    /// Lets go on what waited for a state that is here now.
    pub(super) async fn unpark_frames(self: &Arc<Self>, state: TaggedState) -> Result<(), SlotError> {
        let parked = {
            let mut reader = self.vault.read().await?;
            frame::parked(reader.conn(), &state.env_tag).await?
        };
        if !parked.is_empty() {
            // Later, with the slot taken anew: parked frames may hold the next commit.
            self.spawn("unpark", Arc::clone(self).unpark(state, parked));
        }
        Ok(())
    }

    /// Lets go on what waited for states that came with the last step before a death: nothing else calls for it.
    pub(super) async fn unpark_what_is_explained(self: Arc<Self>) {
        let gone_on = async {
            for state in self.vault.peek(|conn| Box::pin(mls::states_waited_for(conn))).await? {
                self.unpark_frames(state).await?;
            }
            Ok::<_, SlotError>(())
        };
        if let Err(error) = gone_on.await {
            tracing::warn!(%error, "set-aside frames cannot be read");
        }
    }

    fn unpark(
        self: Arc<Self>,
        state: TaggedState,
        parked: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let gid = state.gid;
            for (bytes, carrier) in parked {
                let (Ok(frame), Ok(carrier)) = (Frame::decode(&bytes), PeerId::from_bytes(&carrier)) else {
                    continue;
                };
                let id = frame.id();
                let mut slot = self.groups.lock(gid).await;
                let carrier = Carrier { peer: &carrier, asked: false };
                if let Err(error) = self.take_frames(&mut slot, carrier, vec![Arrived { state, bytes }]).await
                {
                    slot.forget();
                    tracing::warn!(%error, "a set-aside frame could not be taken");
                    continue;
                }
                let done: Result<(), StoreError> = self
                    .vault
                    .write(move |tx| Box::pin(async move { frame::unpark(tx.conn(), id).await }))
                    .await;
                if let Err(error) = done {
                    tracing::warn!(%error, "a set-aside frame could not be put away");
                }
            }
            let looked: Result<(), StoreError> =
                self.vault.write(|tx| Box::pin(health::recover_those_that_wait_for_nothing(tx))).await;
            if let Err(error) = looked {
                tracing::warn!(%error, "the health of groups could not be noted");
            }
        })
    }
}
