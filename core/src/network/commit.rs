//! Making commits: open requests, answered by the one device that commits in one batch (T5).

use std::sync::Arc;

use super::{
    Network, Slot, SlotError,
    adopt::{Adoption, adopt},
    link::Outgoing,
};
use crate::{
    clock::now_ms,
    event::SignedEvent,
    group::{
        authorize::{AddedLeaf, JoinProof, Justification, MAX_REQUESTS, Standing, plan},
        commit::{Change, Committed},
        error::GroupError,
        frame::Frame,
        requests::{Batch, Candidate, batch},
        state::GroupState,
    },
    id::{DeviceId, EventId, GroupId},
    store::{StoreError, event, invite, mls},
};

/// What a commit is asked to do.
#[derive(Default)]
pub(super) struct Wish {
    /// tls(KeyPackage), what it adds, and why it may.
    pub(super) adds: Vec<(Vec<u8>, AddedLeaf, JoinProof)>,
    /// Signed requests that add nobody.
    pub(super) requests: Vec<SignedEvent>,
}

/// Whether a device is the one whose commits are made and followed here: the first owner's. The group's
/// rules let every member commit; rivals could not be healed yet, so there must be none.
pub(super) fn is_committer(standing: &Standing, device: &DeviceId) -> bool {
    let account = standing.member(device).map(|member| member.certificate.account);
    account.is_some() && account == standing.policy.owner()
}

impl Network {
    /// Answers open requests whenever some may be there.
    pub(super) async fn commit_requests(self: Arc<Self>) {
        loop {
            let groups = async {
                let mut reader = self.vault.read().await?;
                mls::live_groups(reader.conn()).await
            };
            match groups.await {
                Ok(groups) => {
                    for gid in groups {
                        if let Err(error) = Box::pin(self.answer_requests(gid)).await {
                            tracing::warn!(%error, "open requests could not be answered");
                        }
                    }
                }
                Err(error) => tracing::warn!(%error, "groups cannot be read"),
            }
            self.wake.commit.notified().await;
        }
    }

    /// Commits the open requests of a group, if this device does that; closes those without a future.
    ///
    /// # Errors
    /// [`SlotError`]
    pub(crate) async fn answer_requests(self: &Arc<Self>, gid: GroupId) -> Result<(), SlotError> {
        let open = self.open_requests(gid).await?;
        if open.is_empty() {
            return Ok(());
        }
        let mut slot = self.groups.lock(gid).await;
        let own = self.keys.device_id();
        let standing = slot.head(&self.vault).await?.facts().standing.clone();
        if !is_committer(&standing, &own) {
            return Ok(());
        }
        let open: Vec<_> = open.into_iter().map(Candidate::plain).collect();
        // Nobody is ahead of the one who commits: what it cannot act on alone, it never can.
        let possible =
            |candidate: &Candidate| !batch(vec![candidate.clone()], &standing, &own).requests.is_empty();
        let (open, closed): (Vec<_>, Vec<_>) = open.into_iter().partition(possible);
        if !closed.is_empty() {
            self.reject_requests(gid, closed.into_iter().map(|closed| closed.request.id).collect()).await?;
        }
        let Batch { requests, .. } = batch(open, &standing, &own);
        if requests.is_empty() {
            return Ok(());
        }
        let committed = self.commit(&mut slot, Wish { requests, ..Wish::default() }, |_, _| Ok(None)).await;
        if committed.is_err() {
            slot.forget();
        }
        committed
    }

    async fn open_requests(&self, gid: GroupId) -> Result<Vec<SignedEvent>, StoreError> {
        let mut reader = self.vault.read().await?;
        let conn = reader.conn();
        let limit = u32::try_from(MAX_REQUESTS).unwrap_or(u32::MAX);
        let mut open = Vec::new();
        for request in invite::open_requests(conn, gid, limit).await? {
            let signed = event::signed(conn, request.event).await?.ok_or(StoreError::Corrupt)?;
            open.push(SignedEvent::decode_stored(&signed).map_err(|_| StoreError::Corrupt)?);
        }
        Ok(open)
    }

    async fn reject_requests(&self, gid: GroupId, stale: Vec<EventId>) -> Result<(), StoreError> {
        self.vault
            .write(move |tx| {
                Box::pin(async move {
                    for request in stale {
                        invite::reject_request(tx.conn(), gid, request).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    /// Commits on the head, stores it with the letter that `letter` makes of it, and only then tells others.
    pub(super) async fn commit(
        self: &Arc<Self>,
        slot: &mut Slot,
        wish: Wish,
        letter: impl FnOnce(&Committed, &GroupState) -> Result<Option<super::admit::Letter>, SlotError>,
    ) -> Result<(), SlotError> {
        let before = self.connected_members(slot).await?;
        let members = slot.members(&self.vault).await?;
        let head = slot.head(&self.vault).await?;
        let (parent, env_tag) = (head.facts().sid, head.facts().env_tag);
        let mut committed = self.make_commit(head, wish)?;
        let letter = letter(&committed, &committed.child)?;
        let frame = Frame::decode(&committed.frame).map_err(|_| GroupError::TooLarge)?;
        let bytes: Arc<[u8]> = std::mem::take(&mut committed.frame).into();
        let adoption = Adoption {
            facts: committed.child.facts().clone(),
            rows: committed.child.take_changes()?,
            parent,
            commit: committed.commit_id,
            committer: self.keys.device_id(),
            frame: frame.id(),
            frame_bytes: Arc::clone(&bytes),
            env_tag,
            authorized: committed.authorized,
            members,
            me: self.keys.account(),
            farewell: true,
        };
        self.vault
            .write(move |tx| {
                Box::pin(async move {
                    adopt(tx, &adoption).await?;
                    match letter {
                        Some(letter) => letter.queue(tx, adoption.facts.gid).await,
                        None => Ok(()),
                    }
                })
            })
            .await?;
        // Those it removes hear it like everyone else; the farewell covers those who are away.
        for (_, peer) in before {
            self.links.push(&peer, Outgoing { bytes: Arc::clone(&bytes), custody: None });
        }
        self.after_adoption(slot, committed.child).await
    }

    fn make_commit(&self, head: &GroupState, wish: Wish) -> Result<Committed, SlotError> {
        let mut key_packages = Vec::with_capacity(wish.adds.len());
        let mut adds = Vec::with_capacity(wish.adds.len());
        let mut reasons =
            Justification { requests: wish.requests, ..Justification::empty(now_ms().unsigned_abs()) };
        for (key_package, leaf, proof) in wish.adds {
            key_packages.push(key_package);
            adds.push(leaf);
            reasons.joins.push(proof);
        }
        let planned = plan(&head.facts().standing, &self.keys.device_id(), &adds, &reasons)
            .map_err(GroupError::from)?;
        let encoded = reasons.encode().map_err(GroupError::from)?;
        let change = Change { adds: key_packages, removes: planned.removes, policy: planned.policy };
        Ok(head.commit(&self.keys.identity, change, encoded)?)
    }
}
