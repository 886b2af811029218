//! A commit becomes the head: one step stores the child, who came and went, and what people see (T5).

use std::sync::Arc;

use futures::future::BoxFuture;
use spacepanda_proto::peer::v1::FrameOutcome;

use super::{
    Network, Slot, SlotError,
    commit::is_committer,
    health,
    intake::{Arrived, Taking},
    misbehaviour::Offence,
};
use crate::{
    certificate::Certificate,
    clock::now_ms,
    group::{
        authorize::Authorized,
        engine::Outcome,
        error::CommitError,
        frame::Frame,
        process::{Processed, sender_of_commit},
        rows::RowChanges,
        state::StateFacts,
    },
    id::{AccountId, CommitId, DeviceId, FrameId, GroupId, StateId},
    journal::{Members, tell},
    model::{GroupHealth, MemberChange, Role},
    router::PeerId,
    store::{
        StoreError, WriteTx, commit,
        feed::Entry,
        former, frame, invite, message,
        mls::{self, TaggedState},
        outbox, peer, role_change, space, tip,
    },
};

/// States this many commits behind the head lose their secrets.
const WINDOW_COMMITS: u64 = 8;

/// A checked commit on the head, ready to be stored.
pub(super) struct Adoption {
    pub(super) facts: StateFacts,
    pub(super) rows: RowChanges,
    pub(super) parent: StateId,
    pub(super) commit: CommitId,
    pub(super) committer: DeviceId,
    pub(super) frame: FrameId,
    pub(super) frame_bytes: Arc<[u8]>,
    pub(super) env_tag: [u8; 16],
    pub(super) authorized: Authorized,
    /// Who was a member before.
    pub(super) members: Arc<Members>,
    pub(super) me: AccountId,
    pub(super) farewell: bool,
}

/// Stores a commit and its child, and moves the head.
///
/// # Errors
/// [`StoreError`]
pub(super) async fn adopt(tx: &mut WriteTx<'_>, adoption: &Adoption) -> Result<(), StoreError> {
    let (gid, now) = (adoption.facts.gid, now_ms());
    let conn = tx.conn();
    mls::store_rows(conn, gid, adoption.facts.sid, &adoption.rows).await?;
    let commit = (adoption.commit, adoption.committer);
    mls::insert_state(conn, &adoption.facts, Some(adoption.parent), Some(commit), now).await?;
    store_commit(tx, adoption, Some(adoption.facts.sid), commit::CommitStatus::Valid).await?;
    mls::set_head(tx.conn(), gid, adoption.facts.sid).await?;
    come_and_go(tx, adoption, now).await?;
    let oldest_kept = adoption.facts.epoch.saturating_sub(WINDOW_COMMITS);
    if oldest_kept > 0 {
        mls::prune(tx.conn(), gid, oldest_kept - 1, i64::MIN, now).await?;
    }
    tell(tx, &Entry::Space(gid), now).await?;
    health::recover(tx, gid).await
}

async fn store_commit(
    tx: &mut WriteTx<'_>,
    adoption: &Adoption,
    child: Option<StateId>,
    status: commit::CommitStatus,
) -> Result<(), StoreError> {
    let gid = adoption.facts.gid;
    commit::insert_commit(tx.conn(), gid, adoption.commit, adoption.parent, child, adoption.frame, status)
        .await?;
    frame::keep_commit(tx.conn(), adoption.frame, gid, &adoption.env_tag, &adoption.frame_bytes, now_ms())
        .await
}

async fn come_and_go(tx: &mut WriteTx<'_>, adoption: &Adoption, now: i64) -> Result<(), StoreError> {
    let (gid, epoch) = (adoption.facts.gid, adoption.facts.epoch);
    for (device, by_own_wish) in &adoption.authorized.removed {
        let Some(member) = adoption.members.get(device) else { continue };
        space::end_member(tx.conn(), gid, *device, epoch).await?;
        invite::settle_requests(tx.conn(), gid, member.account).await?;
        let own_log = mls::group(tx.conn(), gid).await?.ok_or(StoreError::Corrupt)?.own_log;
        let cursor = tip::cursor(tx.conn(), gid, *device, own_log).await?;
        message::recipient_left(tx.conn(), gid, own_log, cursor, member.joined_epoch, now).await?;
        outbox::letter_done(tx.conn(), gid, *device).await?;
        if adoption.farewell && member.account != adoption.me {
            outbox::queue_farewell(tx.conn(), gid, *device, now).await?;
        }
        let change = if *by_own_wish { MemberChange::Left } else { MemberChange::Removed };
        tell(tx, &Entry::Member(gid, member.account, change), now).await?;
    }
    if !adoption.authorized.removed.is_empty() && space::recipients(tx.conn(), gid, adoption.me).await? == 0 {
        message::nobody_left(tx.conn(), gid, now).await?;
        outbox::drop_events(tx.conn(), gid).await?;
    }
    for leaf in &adoption.facts.standing.roster {
        let certificate = &leaf.certificate;
        if adoption.authorized.added.contains(&certificate.device) {
            let joined_at = joined_at(&adoption.authorized, now);
            add_member(tx, &adoption.facts, certificate, epoch, joined_at).await?;
            tell(tx, &Entry::Member(gid, certificate.account, MemberChange::Joined), now).await?;
        }
    }
    for change in &adoption.authorized.roles {
        if role_change::set(tx.conn(), gid, change.account, adoption.facts.sid, change.to).await? {
            tell(tx, &Entry::Member(gid, change.account, MemberChange::Updated), now).await?;
        }
    }
    invite::settle_included(tx.conn(), gid, &adoption.authorized.included).await
}

/// Why a group stands still at a commit that is nobody's fault.
fn unfollowed(error: &CommitError) -> Option<&'static str> {
    match error {
        CommitError::Lifetime | CommitError::Damaged => Some(health::UNFOLLOWED),
        CommitError::Newer => Some(health::NEWER),
        _ => None,
    }
}

fn joined_at(authorized: &Authorized, now: i64) -> i64 {
    i64::try_from(authorized.wall_ms).unwrap_or(i64::MAX).min(now)
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
    former::drop_own_frames(conn, gid).await?;
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
    /// Takes a commit that a peer pushed.
    pub(super) async fn take_commit(
        self: &Arc<Self>,
        slot: &mut Slot,
        taking: &Taking<'_>,
    ) -> Result<FrameOutcome, SlotError> {
        let Taking { peer, frame, bytes, opened, .. } = taking;
        let (gid, parent) = (slot.gid(), taking.state.sid);
        let commit = CommitId::of(&opened.body);
        let known = {
            let mut reader = self.vault.read().await?;
            commit::knows_commit(reader.conn(), gid, commit).await?
        };
        if known {
            return Ok(FrameOutcome::Duplicate);
        }
        let head = slot.head_id(&self.vault).await?;
        let state = slot.state(&self.vault, parent).await?;
        let standing = &state.facts().standing;
        let sender = sender_of_commit(&gid, &opened.body).ok();
        let sender = standing.roster.iter().find(|member| Some(member.leaf) == sender);
        let foreign = sender.is_some_and(|sender| !is_committer(standing, &sender.certificate.device));
        let processed = match state.process_commit(&opened.body) {
            // Right by the group's rules, but nobody here could heal a fork.
            Ok(_) | Err(CommitError::Lifetime | CommitError::Newer) if foreign => {
                self.offend(peer, Offence::UnauthorisedCommit);
                return Ok(FrameOutcome::Rejected);
            }
            Ok(processed) if matches!(processed.outcome, Outcome::Opaque(_)) => {
                self.note_health(gid, GroupHealth::Stalled, health::UNFOLLOWED).await;
                tracing::warn!("a commit's secret does not open");
                // May be right for others.
                return Ok(FrameOutcome::Busy);
            }
            Ok(processed) => processed,
            Err(error) => {
                if let Some(why) = unfollowed(&error) {
                    self.note_health(gid, GroupHealth::Stalled, why).await;
                }
                return Ok(self.refuse_commit(peer, &error));
            }
        };
        if parent != head {
            return self.set_aside(gid, frame, bytes, commit, parent).await;
        }
        self.adopt_commit(slot, frame, bytes, parent, processed).await?;
        Ok(FrameOutcome::Stored)
    }

    fn refuse_commit(self: &Arc<Self>, peer: &PeerId, error: &CommitError) -> FrameOutcome {
        match error {
            CommitError::OwnCommit => FrameOutcome::Duplicate,
            // May be right for others, or here at another time.
            CommitError::Newer | CommitError::Lifetime | CommitError::Damaged => {
                tracing::warn!(%error, "a commit cannot be followed");
                FrameOutcome::Busy
            }
            CommitError::Unauthorised(_) | CommitError::Forbidden => {
                self.offend(peer, Offence::UnauthorisedCommit);
                FrameOutcome::Rejected
            }
            CommitError::Malformed
            | CommitError::WrongGroup
            | CommitError::WrongEpoch
            | CommitError::Certificate
            | CommitError::Invalid => {
                self.offend(peer, Offence::Signature);
                FrameOutcome::Rejected
            }
        }
    }

    /// A valid commit that does not fit the head: kept and reported, never merged.
    async fn set_aside(
        &self,
        gid: GroupId,
        frame: &Frame,
        bytes: &[u8],
        commit: CommitId,
        parent: StateId,
    ) -> Result<FrameOutcome, SlotError> {
        let (id, tag, bytes) = (frame.id(), frame.env_tag(), bytes.to_vec());
        self.vault
            .write(move |tx| {
                Box::pin(async move {
                    let parked = commit::CommitStatus::Parked;
                    commit::insert_commit(tx.conn(), gid, commit, parent, None, id, parked).await?;
                    frame::keep_commit(tx.conn(), id, gid, &tag, &bytes, now_ms()).await?;
                    health::set(tx, gid, GroupHealth::Forked, health::SET_ASIDE).await
                })
            })
            .await?;
        Ok(FrameOutcome::Stored)
    }

    async fn adopt_commit(
        self: &Arc<Self>,
        slot: &mut Slot,
        frame: &Frame,
        bytes: &[u8],
        parent: StateId,
        processed: Processed,
    ) -> Result<(), SlotError> {
        let gid = slot.gid();
        let Outcome::Child(mut child) = processed.outcome else {
            let own = self.keys.device_id();
            let by_own_wish =
                processed.authorized.removed.iter().any(|(device, wish)| *device == own && *wish);
            let me = self.keys.account();
            self.vault.write(move |tx| Box::pin(end_membership(tx, gid, me, by_own_wish))).await?;
            tracing::info!(by_own_wish, "this account is no longer in a group");
            slot.forget();
            self.set_last_state(None);
            return Ok(());
        };
        let adoption = Adoption {
            facts: child.facts().clone(),
            rows: child.take_changes()?,
            parent,
            commit: processed.commit_id,
            committer: processed.committer,
            frame: frame.id(),
            frame_bytes: bytes.into(),
            env_tag: frame.env_tag(),
            authorized: processed.authorized,
            members: slot.members(&self.vault).await?,
            me: self.keys.account(),
            farewell: false,
        };
        self.vault.write(move |tx| Box::pin(async move { adopt(tx, &adoption).await })).await?;
        self.after_adoption(slot, child).await
    }

    /// The child is durable: use it, let go on what waited for it, tell others.
    pub(super) async fn after_adoption(
        self: &Arc<Self>,
        slot: &mut Slot,
        child: crate::group::state::GroupState,
    ) -> Result<(), SlotError> {
        let facts = child.facts();
        let state = TaggedState {
            env_tag: facts.env_tag,
            gid: facts.gid,
            sid: facts.sid,
            epoch: facts.epoch,
            pruned: false,
        };
        tracing::info!(
            epoch = child.facts().epoch,
            members = child.facts().standing.roster.len(),
            "a group is in a new epoch"
        );
        slot.adopt(child);
        self.set_last_state(None);
        self.wake.dial.notify_one();
        self.wake.commit.notify_one();
        self.wake.outbox.notify_one();
        self.group_changed(slot.gid());
        let parked = {
            let mut reader = self.vault.read().await?;
            frame::parked(reader.conn(), &state.env_tag).await?
        };
        if parked.is_empty() {
            return Ok(());
        }
        // Later, with the slot taken anew: parked frames may hold the next commit.
        self.spawn("unpark", Arc::clone(self).unpark(state, parked));
        Ok(())
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
                if let Err(error) =
                    self.take_frames(&mut slot, &carrier, vec![Arrived { state, bytes }]).await
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
        })
    }
}
