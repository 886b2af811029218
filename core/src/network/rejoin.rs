//! Rejoining: a member that cannot follow asks for a fresh leaf, and whoever is where the others are gives it
//! one (Remove and Add in one commit).

use std::{sync::Arc, time::Duration};

use prost::Message as _;
use spacepanda_proto::peer::v1::{
    FrameOutcome, Letter as WireLetter, PushLetter, RejoinRequest, letter, peer_request,
};

use super::{Network, Slot, SlotError, adopt::end_membership, commit::Wish, handover::PATIENCE, health};
use crate::{
    certificate::Certificate,
    clock::now_ms,
    event::{Body, ChangeKind, Event, SignedEvent},
    group::{
        authorize::AddedLeaf,
        error::GroupError,
        key_package::{check_key_package, fresh_key_package},
        requests::{self, Batch, Candidate, Path, Status},
    },
    id::{GroupId, LogId, StateId},
    invite::InviteLink,
    letter::seal_signed,
    model::GroupHealth,
    router::PeerId,
    store::{
        StoreError,
        invite::{self, JoinRow, JoinStatus},
        key_package,
        rejoin::{self, RejoinRow},
        restored,
    },
};

/// Whether a request is one for a fresh leaf.
pub(super) fn is_rejoin(request: &SignedEvent) -> bool {
    matches!(request.event.body, Body::ChangeRequest { kind: ChangeKind::Rejoin { .. }, .. })
}

impl Network {
    /// Asks a member that is where the others went for a fresh leaf there.
    pub(super) async fn ask_for_a_leaf(
        &self,
        gid: GroupId,
        stand: StateId,
        guide: &PeerId,
        old_encryption_key: [u8; 32],
    ) -> Result<(), SlotError> {
        let Some(to) = self.links.certificate(guide) else { return Ok(()) };
        let wish = self.wish_for_a_leaf(gid).await?;
        let request = self.rejoin_request(gid, stand, old_encryption_key, wish)?;
        let body = WireLetter { kind: Some(letter::Kind::Rejoin(RejoinRequest { request })) }.encode_to_vec();
        let keys = &self.keys;
        let letter = seal_signed(&keys.device, keys.certificate(), &keys.letter, &to.letter_key, body)
            .map_err(|_| GroupError::TooLarge)?;
        tracing::info!("a fresh place in a group is asked for");
        // Whoever does not answer is not the only one: the next round asks another.
        let _ = self.ask(guide, peer_request::Kind::PushLetter(PushLetter { letter })).await;
        Ok(())
    }

    /// The event that asks. Its log is its own: the device's log may be one that others know otherwise.
    fn rejoin_request(
        &self,
        gid: GroupId,
        seen_sid: StateId,
        old_encryption_key: [u8; 32],
        wish: RejoinRow,
    ) -> Result<Vec<u8>, SlotError> {
        let log = wish.key_package_hash.first_chunk().copied().ok_or(StoreError::Corrupt)?;
        let kind = ChangeKind::Rejoin { key_package: wish.key_package, old_encryption_key };
        let event = Event {
            gid,
            log: LogId(log),
            seq: 1,
            prev: None,
            lamport: 1,
            deps: Vec::new(),
            seen_sid,
            wall_ms: now_ms().unsigned_abs(),
            author: self.keys.device_id(),
            body: Body::ChangeRequest { kind, target: self.keys.account(), generation: 0 },
        };
        let signed = SignedEvent::sign(&self.keys.device, event).map_err(|_| GroupError::TooLarge)?;
        Ok(signed.encoded().to_vec())
    }

    /// The open wish; a new one where there is none, or its KeyPackage is too old.
    async fn wish_for_a_leaf(&self, gid: GroupId) -> Result<RejoinRow, SlotError> {
        let open = {
            let mut reader = self.vault.read().await?;
            rejoin::open(reader.conn(), gid).await?
        };
        if let Some(open) = open.filter(|open| check_key_package(&open.key_package).is_ok()) {
            return Ok(open);
        }
        let fresh = fresh_key_package(&self.keys.identity)?;
        let row = RejoinRow { key_package: fresh.bytes, key_package_hash: fresh.hash };
        let stored: Result<RejoinRow, StoreError> = self
            .vault
            .write(move |tx| {
                Box::pin(async move {
                    key_package::drop_all(tx.conn(), gid).await?;
                    key_package::store(tx.conn(), gid, &fresh.rows).await?;
                    rejoin::wish(tx.conn(), gid, &row, now_ms()).await?;
                    if restored::is_noted(tx.conn(), gid).await? {
                        health::set_of_copy(tx, gid, GroupHealth::Forked, health::RETURNING).await?;
                    } else {
                        health::set(tx, gid, GroupHealth::Forked, health::REJOINING).await?;
                    }
                    Ok(row)
                })
            })
            .await;
        Ok(stored?)
    }

    /// Takes a member's request for a fresh leaf; it is committed when its turn comes.
    pub(super) async fn take_rejoin_request(
        self: &Arc<Self>,
        sender: &Certificate,
        request: &RejoinRequest,
    ) -> Result<FrameOutcome, SlotError> {
        let Ok(request) = SignedEvent::decode(&request.request) else { return Ok(FrameOutcome::Rejected) };
        if request.event.author != sender.device || !is_rejoin(&request) {
            return Ok(FrameOutcome::Rejected);
        }
        let (gid, device) = (request.event.gid, sender.device);
        let mut slot = self.groups.lock(gid).await;
        let standing = match slot.head(&self.vault).await {
            Ok(head) => head.facts().standing.clone(),
            Err(SlotError::NotAMember) => return Ok(FrameOutcome::Foreign),
            Err(error) => return Err(error),
        };
        let signed = request.encoded().to_vec();
        match requests::status(&candidate(request), &standing, Path::default()) {
            Status::Open => {}
            // Done already, or of another branch: its author asks again if it has to.
            _ => {
                self.hand_over(gid, device, Duration::ZERO);
                return Ok(FrameOutcome::Foreign);
            }
        }
        drop(slot);
        let kept: Result<bool, StoreError> = self
            .vault
            .write(move |tx| {
                Box::pin(async move { rejoin::keep_request(tx.conn(), gid, device, &signed, now_ms()).await })
            })
            .await;
        self.wake.commit.notify_one();
        Ok(if kept? { FrameOutcome::Stored } else { FrameOutcome::Busy })
    }

    /// Members' requests for fresh leaves, with the leaves.
    pub(super) async fn rejoin_candidates(&self, gid: GroupId) -> Result<Vec<Candidate>, StoreError> {
        let mut reader = self.vault.read().await?;
        let requests = rejoin::requests(reader.conn(), gid).await?;
        let read = |signed: &Vec<u8>| {
            SignedEvent::decode_stored(signed).map(candidate).map_err(|_| StoreError::Corrupt)
        };
        requests.iter().map(read).collect()
    }

    /// Commits a batch of requests, with letters to those who get fresh leaves.
    pub(super) async fn commit_batch(
        self: &Arc<Self>,
        slot: &mut Slot,
        batch: Batch,
    ) -> Result<(), SlotError> {
        let Batch { key_packages, adds, requests, .. } = batch;
        let mut bundles = Vec::with_capacity(adds.len());
        for leaf in &adds {
            bundles.push((leaf.certificate.clone(), self.bundle(slot, leaf.key_package_hash).await?));
        }
        let comers: Vec<_> = adds.iter().map(|leaf| leaf.certificate.device).collect();
        let adds = key_packages.into_iter().zip(adds).map(|(bytes, leaf)| (bytes, leaf, None)).collect();
        let network = Arc::clone(self);
        self.commit(slot, Wish { adds, requests }, move |committed, child| {
            let Some(welcome) = &committed.welcome else { return Ok(Vec::new()) };
            let seal = |(to, bundle)| network.letter(&to, bundle, welcome.clone(), child);
            bundles.into_iter().map(seal).collect()
        })
        .await?;
        for device in comers {
            self.hand_over(slot.gid(), device, PATIENCE);
        }
        Ok(())
    }

    /// The others know nothing of this device: it came in on a branch that lost, or was removed while it was
    /// away. Whoever still has a link joins with it again.
    pub(super) async fn begin_anew(&self, gid: GroupId) -> Result<(), SlotError> {
        let row = {
            let mut reader = self.vault.read().await?;
            invite::join(reader.conn(), gid).await?
        };
        if row.as_ref().is_some_and(|row| row.status == JoinStatus::Pending) {
            return Ok(());
        }
        let link = row.and_then(|row| InviteLink::parse(&row.link).ok());
        let fresh = fresh_key_package(&self.keys.identity)?;
        let me = self.keys.account();
        let done: Result<(), StoreError> = self
            .vault
            .write(move |tx| {
                Box::pin(async move {
                    let Some(link) = link else { return end_membership(tx, gid, me, false).await };
                    key_package::drop_all(tx.conn(), gid).await?;
                    key_package::store(tx.conn(), gid, &fresh.rows).await?;
                    rejoin::end(tx.conn(), gid).await?;
                    let row = JoinRow {
                        gid,
                        link: link.encode(),
                        key_package: fresh.bytes,
                        key_package_hash: fresh.hash,
                        status: JoinStatus::Pending,
                    };
                    invite::start_join(tx.conn(), &row, now_ms()).await?;
                    health::set(tx, gid, GroupHealth::Forked, health::REJOINING).await
                })
            })
            .await;
        done?;
        tracing::info!("the members of a group do not know this device");
        self.groups.lock(gid).await.forget();
        self.join_soon();
        Ok(())
    }
}

/// A request with the leaf in its KeyPackage.
fn candidate(request: SignedEvent) -> Candidate {
    let mut candidate = Candidate::plain(request);
    if let Body::ChangeRequest { kind: ChangeKind::Rejoin { key_package, old_encryption_key }, .. } =
        &candidate.request.event.body
    {
        // In place of itself a leaf would be asked for as much after each commit as before.
        let checked = check_key_package(key_package).ok();
        let checked = checked.filter(|checked| checked.encryption_key != *old_encryption_key);
        candidate.leaf = checked
            .map(|checked| AddedLeaf { certificate: checked.certificate, key_package_hash: checked.hash });
    }
    candidate
}
