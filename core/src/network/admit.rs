//! Letting someone in: the invite's holder proves it, the commit adds the leaf, a letter brings the rest.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use prost::Message as _;
use spacepanda_proto::peer::v1::{
    EventKind, JoinBundle, JoinChallenge, JoinOutcome, JoinReply, JoinRequest, Letter as WireLetter,
    LogFloor, letter, peer_response,
};

use super::{
    Network, Slot, SlotError,
    commit::Wish,
    handover::{ANSWER_PATIENCE, PATIENCE},
    misbehaviour::Offence,
};
use crate::{
    certificate::Certificate,
    clock::{now_ms, random},
    event::{Body, SignedEvent},
    group::{
        authorize::{AddedLeaf, JoinProof},
        error::GroupError,
        key_package::check_key_package,
        state::GroupState,
    },
    id::{DeviceId, GroupId, StateId},
    letter::seal_signed,
    router::PeerId,
    store::{StoreError, WriteTx, logbook, outbox, register},
};

/// How long a challenge may be answered.
const NONCE_LIFE: Duration = Duration::from_secs(60);

/// The challenges given to connected peers; one each.
#[derive(Default)]
pub(super) struct Nonces(Mutex<HashMap<PeerId, ([u8; 32], Instant)>>);

impl Nonces {
    fn give(&self, peer: &PeerId) -> [u8; 32] {
        let nonce = *random();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(*peer, (nonce, Instant::now()));
        nonce
    }

    /// True once for the challenge that was given.
    fn take(&self, peer: &PeerId, nonce: &[u8]) -> bool {
        let given = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(peer);
        given.is_some_and(|(given, at)| given == nonce && at.elapsed() < NONCE_LIFE)
    }

    /// The peer's connection is gone.
    pub(super) fn forget(&self, peer: &PeerId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(peer);
    }
}

/// A sealed JoinBundle for one device.
pub(super) struct Letter {
    to: DeviceId,
    /// The state that it admits to.
    sid: StateId,
    bytes: Vec<u8>,
}

impl Letter {
    /// Puts it into the outbox, until the device shows that it is in.
    pub(super) async fn queue(&self, tx: &mut WriteTx<'_>, gid: GroupId) -> Result<(), StoreError> {
        outbox::queue_letter(tx.conn(), gid, self.to, (self.sid, &self.bytes), now_ms()).await
    }
}

/// An invite of this account, as its event says.
struct KnownInvite {
    signed: SignedEvent,
    max_uses: u32,
    expires_at_ms: u64,
}

impl Network {
    pub(super) fn challenge(&self, peer: &PeerId) -> peer_response::Kind {
        // The same for every group and invite: nobody learns here which there are.
        let nonce = self.nonces.give(peer).to_vec();
        peer_response::Kind::JoinChallenge(JoinChallenge { nonce })
    }

    pub(super) async fn admit(
        self: &Arc<Self>,
        peer: &PeerId,
        certificate: &Certificate,
        request: JoinRequest,
    ) -> JoinReply {
        match self.try_admit(peer, certificate, request).await {
            Ok((outcome, letter)) => JoinReply { outcome: outcome.into(), letter },
            Err(error) => {
                tracing::warn!(%error, "someone could not be let in");
                JoinReply::default()
            }
        }
    }

    async fn try_admit(
        self: &Arc<Self>,
        peer: &PeerId,
        certificate: &Certificate,
        request: JoinRequest,
    ) -> Result<(JoinOutcome, Vec<u8>), SlotError> {
        let refuse = |outcome| Ok((outcome, Vec::new()));
        if !self.nonces.take(peer, &request.nonce) {
            return refuse(JoinOutcome::Unspecified);
        }
        let Ok(gid) = GroupId::try_from(&*request.gid) else { return refuse(JoinOutcome::Unknown) };
        let mut slot = self.groups.lock(gid).await;
        let standing = match slot.head(&self.vault).await {
            Ok(head) => head.facts().standing.clone(),
            Err(SlotError::NotAMember) => return refuse(JoinOutcome::Unknown),
            Err(error) => return Err(error),
        };
        if !self.is_on_the_way(&mut slot).await? {
            // Whoever is let in here would have to be let in again.
            return refuse(JoinOutcome::Unspecified);
        }
        let found = self.find_invite(gid, &request.invite_key).await?;
        let (Some((invite, revoked)), Ok(checked)) = (found, check_key_package(&request.key_package)) else {
            return refuse(JoinOutcome::Unknown);
        };
        let Some(proof) = proof(&invite, &request, checked.hash).filter(|proof| proof.verify(&gid).is_ok())
        else {
            self.offend(peer, Offence::Signature);
            return refuse(JoinOutcome::Unknown);
        };
        if checked.certificate != *certificate {
            self.offend(peer, Offence::Certificate);
            return refuse(JoinOutcome::Unknown);
        }
        if standing.member(&certificate.device).is_some() {
            // It asks again because our answer was lost: the letter is still here, until its first Tip.
            if self.waiting_letter(gid, certificate.device).await?.is_none() {
                return refuse(JoinOutcome::AlreadyMember);
            }
            drop(slot);
            return self.answer_in_time(gid, certificate.device).await;
        }
        if revoked {
            return refuse(JoinOutcome::Revoked);
        }
        if invite.expires_at_ms <= now_ms().unsigned_abs() {
            return refuse(JoinOutcome::Expired);
        }
        let Body::Invite { invite: id, .. } = &invite.signed.event.body else {
            return refuse(JoinOutcome::Unknown);
        };
        if standing.policy.uses_of(id) >= invite.max_uses {
            return refuse(JoinOutcome::UsedUp);
        }
        let leaf = AddedLeaf { certificate: checked.certificate, key_package_hash: checked.hash };
        match self.add(&mut slot, request.key_package, leaf, proof).await {
            Ok(()) => {}
            Err(SlotError::Group(GroupError::Unauthorised(_))) => {
                slot.forget();
                return refuse(JoinOutcome::Unknown);
            }
            Err(error) => {
                slot.forget();
                return Err(error);
            }
        }
        drop(slot);
        let answer = self.answer_in_time(gid, certificate.device).await?;
        if answer.0 == JoinOutcome::Pending {
            self.hand_over(gid, certificate.device, PATIENCE);
        }
        Ok(answer)
    }

    /// The letter, if it may leave before whoever asks gives up waiting.
    async fn answer_in_time(
        &self,
        gid: GroupId,
        device: DeviceId,
    ) -> Result<(JoinOutcome, Vec<u8>), SlotError> {
        let letter = self.letter_in_time(gid, device, ANSWER_PATIENCE).await?;
        Ok(letter.map_or((JoinOutcome::Pending, Vec::new()), |letter| (JoinOutcome::Accepted, letter)))
    }

    /// An invite of this group by its public key, and whether it was revoked.
    async fn find_invite(&self, gid: GroupId, key: &[u8]) -> Result<Option<(KnownInvite, bool)>, StoreError> {
        let mut reader = self.vault.read().await?;
        let conn = reader.conn();
        for signed in register::holders_of(conn, gid, EventKind::Invite as i32).await? {
            let signed = SignedEvent::decode_stored(&signed).map_err(|_| StoreError::Corrupt)?;
            let Body::Invite { invite, public_key, max_uses, expires_at_ms, .. } = signed.event.body else {
                continue;
            };
            if public_key == key {
                let revoked_kind = EventKind::InviteRevoked as i32;
                let revoked = register::holder(conn, gid, revoked_kind, invite.as_bytes()).await?.is_some();
                return Ok(Some((KnownInvite { signed, max_uses, expires_at_ms }, revoked)));
            }
        }
        Ok(None)
    }

    /// One transaction: the commit, its child and the letter.
    async fn add(
        self: &Arc<Self>,
        slot: &mut Slot,
        key_package: Vec<u8>,
        leaf: AddedLeaf,
        proof: JoinProof,
    ) -> Result<(), SlotError> {
        let bundle = self.bundle(slot, leaf.key_package_hash).await?;
        let to = leaf.certificate.clone();
        let network = Arc::clone(self);
        let wish = Wish { adds: vec![(key_package, leaf, Some(proof))], ..Wish::default() };
        self.commit(slot, wish, move |committed, child| {
            let welcome = committed.welcome.clone().ok_or(GroupError::Welcome)?;
            Ok(vec![network.letter(&to, bundle, welcome, child)?])
        })
        .await?;
        Ok(())
    }

    /// What a newcomer needs besides the Welcome.
    pub(super) async fn bundle(
        &self,
        slot: &mut Slot,
        key_package_hash: [u8; 32],
    ) -> Result<JoinBundle, SlotError> {
        let gid = slot.gid();
        let members = slot.members(&self.vault).await?;
        let mut reader = self.vault.read().await?;
        let floors = logbook::logs(reader.conn(), gid)
            .await?
            .into_iter()
            .map(|(log, row)| LogFloor {
                log: log.0.to_vec(),
                device_key: row.device.0.to_vec(),
                seq: row.contiguous,
                event_id: row.hash_there.0.to_vec(),
                lamport: row.lamport_there,
            })
            .collect();
        Ok(JoinBundle {
            gid: gid.0.to_vec(),
            welcome: Vec::new(),
            route_secret: Vec::new(),
            floors,
            state_events: register::holders(reader.conn(), gid).await?,
            former_certificates: members.former().map(|certificate| certificate.encoded().to_vec()).collect(),
            key_package_hash: key_package_hash.to_vec(),
        })
    }

    /// Seals it.
    pub(super) fn letter(
        &self,
        to: &Certificate,
        bundle: JoinBundle,
        welcome: Vec<u8>,
        child: &GroupState,
    ) -> Result<Letter, SlotError> {
        let bundle = JoinBundle { welcome, route_secret: child.route_secret().to_vec(), ..bundle };
        let body = WireLetter { kind: Some(letter::Kind::Join(bundle)) }.encode_to_vec();
        let keys = &self.keys;
        let bytes = seal_signed(&keys.device, keys.certificate(), &keys.letter, &to.letter_key, body)
            .map_err(|_| GroupError::TooLarge)?;
        Ok(Letter { to: to.device, sid: child.facts().sid, bytes })
    }
}

fn proof(invite: &KnownInvite, request: &JoinRequest, key_package_hash: [u8; 32]) -> Option<JoinProof> {
    Some(JoinProof {
        invite: invite.signed.clone(),
        nonce: request.nonce.as_slice().try_into().ok()?,
        key_package_hash,
        signature: request.signature.as_slice().try_into().ok()?,
    })
}
