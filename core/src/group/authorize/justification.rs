//! What travels with a commit to justify it: signed requests and join proofs.
//!
//! Checks that each piece is what its signer made; whether it justifies anything is the plan's.

use ed25519_dalek::{Signer as _, SigningKey};
use prost::Message as _;
use spacepanda_proto::peer::v1 as wire;

use super::Unauthorised;
use crate::{
    certificate::verify,
    event::{Body, MAX_STORED, SignedEvent},
    id::{GroupId, InviteId},
};

/// Most change requests in one commit.
pub const MAX_REQUESTS: usize = 32;
/// Most joins in one commit.
pub const MAX_JOINS: usize = 32;
/// Longest encoding of a [`Justification`], bytes.
pub const MAX_JUSTIFICATION_BYTES: usize = 256 * 1024;
const VERSION: u32 = 1;
const JOIN_CONTEXT: &[u8] = b"spacepanda/join/1\0";

/// What justifies a commit: its authenticated_data (RFC 9420 §6.1).
#[derive(Clone, PartialEq, Eq)]
pub struct Justification {
    /// The committer's clock in Unix milliseconds, for display only.
    pub wall_ms: u64,
    /// Change requests.
    pub requests: Vec<SignedEvent>,
    /// Proofs, one for each newcomer, also for those whom a request asks to add.
    pub joins: Vec<JoinProof>,
}

/// Proof that someone with the invite's secret wants this KeyPackage added.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinProof {
    /// The invite's event.
    pub invite: SignedEvent,
    /// The challenge of the admitting server.
    pub nonce: [u8; 32],
    /// SHA-256 of tls(KeyPackage).
    pub key_package_hash: [u8; 32],
    /// By the invite's key over [`sign_bytes`](Self::sign_bytes).
    pub signature: [u8; 64],
}

impl Justification {
    /// One that asks for nothing.
    pub fn empty(wall_ms: u64) -> Self {
        Self { wall_ms, requests: Vec::new(), joins: Vec::new() }
    }

    /// Encodes it as it travels.
    ///
    /// # Errors
    /// [`Unauthorised::TooMany`] beyond what [`decode`](Self::decode) accepts.
    pub fn encode(&self) -> Result<Vec<u8>, Unauthorised> {
        let encoded = wire::CommitJustification {
            version: VERSION,
            wall_ms: self.wall_ms,
            requests: self.requests.iter().map(|request| request.encoded().to_vec()).collect(),
            joins: self.joins.iter().map(JoinProof::to_wire).collect(),
        }
        .encode_to_vec();
        let fits = self.requests.len() <= MAX_REQUESTS
            && self.joins.len() <= MAX_JOINS
            && encoded.len() <= MAX_JUSTIFICATION_BYTES;
        if fits { Ok(encoded) } else { Err(Unauthorised::TooMany) }
    }

    /// Reads a justification and checks the signatures of its events.
    ///
    /// # Errors
    /// [`Unauthorised::TooMany`], [`Unauthorised::Justification`], [`Unauthorised::Event`]; the bytes
    /// may come from any member.
    pub fn decode(encoded: &[u8]) -> Result<Self, Unauthorised> {
        if encoded.len() > MAX_JUSTIFICATION_BYTES {
            return Err(Unauthorised::TooMany);
        }
        let read = wire::CommitJustification::decode(encoded).map_err(|_| Unauthorised::Justification)?;
        if read.version != VERSION || read.wall_ms > MAX_STORED {
            return Err(Unauthorised::Justification);
        }
        if read.requests.len() > MAX_REQUESTS || read.joins.len() > MAX_JOINS {
            return Err(Unauthorised::TooMany);
        }
        let requests = read.requests.iter().map(|request| SignedEvent::decode(request));
        Ok(Self {
            wall_ms: read.wall_ms,
            requests: requests.collect::<Result<_, _>>()?,
            joins: read.joins.iter().map(JoinProof::from_wire).collect::<Result<_, _>>()?,
        })
    }
}

impl JoinProof {
    /// What the invite's key signs: context, group, challenge and KeyPackage.
    pub fn sign_bytes(gid: &GroupId, nonce: &[u8; 32], key_package_hash: &[u8; 32]) -> Vec<u8> {
        [JOIN_CONTEXT, gid.as_bytes(), nonce, key_package_hash].concat()
    }

    /// Whether its event is this invite.
    pub fn is_for(&self, id: &InviteId) -> bool {
        matches!(&self.invite.event.body, Body::Invite { invite, .. } if invite == id)
    }

    /// Checks that the event is an invite of this group and that its key signed the proof.
    ///
    /// # Errors
    /// [`Unauthorised::ForeignGroup`], [`Unauthorised::NotAnInvite`], [`Unauthorised::Proof`].
    pub fn verify(&self, gid: &GroupId) -> Result<(), Unauthorised> {
        if self.invite.event.gid != *gid {
            return Err(Unauthorised::ForeignGroup);
        }
        let Body::Invite { public_key, .. } = &self.invite.event.body else {
            return Err(Unauthorised::NotAnInvite);
        };
        let signed = Self::sign_bytes(gid, &self.nonce, &self.key_package_hash);
        verify(public_key, &signed, &self.signature).map_err(|()| Unauthorised::Proof)
    }

    fn to_wire(&self) -> wire::JoinProof {
        wire::JoinProof {
            invite: self.invite.encoded().to_vec(),
            nonce: self.nonce.to_vec(),
            key_package_hash: self.key_package_hash.to_vec(),
            signature: self.signature.to_vec(),
        }
    }

    fn from_wire(proof: &wire::JoinProof) -> Result<Self, Unauthorised> {
        let malformed = |_| Unauthorised::Justification;
        Ok(Self {
            nonce: <[u8; 32]>::try_from(&*proof.nonce).map_err(malformed)?,
            key_package_hash: <[u8; 32]>::try_from(&*proof.key_package_hash).map_err(malformed)?,
            signature: <[u8; 64]>::try_from(&*proof.signature).map_err(malformed)?,
            invite: SignedEvent::decode(&proof.invite)?,
        })
    }
}

/// Signs a join with the secret of an invite link.
pub fn sign_join(seed: &[u8; 32], gid: &GroupId, nonce: &[u8; 32], key_package_hash: &[u8; 32]) -> [u8; 64] {
    let key = SigningKey::from_bytes(seed);
    key.sign(&JoinProof::sign_bytes(gid, nonce, key_package_hash)).to_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        event::{ChangeKind, Event, EventError},
        id::{AccountId, DeviceId, InviteId, LogId, StateId},
        model::Role,
    };

    const GID: GroupId = GroupId([1; 16]);
    const SEED: [u8; 32] = [9; 32];

    fn sign(body: Body) -> SignedEvent {
        let device = SigningKey::from_bytes(&[3; 32]);
        let event = Event {
            gid: GID,
            log: LogId([2; 16]),
            seq: 1,
            prev: None,
            lamport: 1,
            deps: vec![],
            seen_sid: StateId([4; 32]),
            wall_ms: 5,
            author: DeviceId(device.verifying_key().to_bytes()),
            body,
        };
        SignedEvent::sign(&device, event).unwrap()
    }

    fn request() -> SignedEvent {
        sign(Body::ChangeRequest { kind: ChangeKind::Leave, target: AccountId([6; 32]), generation: 0 })
    }

    fn proof() -> JoinProof {
        let invite = sign(Body::Invite {
            invite: InviteId([7; 16]),
            public_key: SigningKey::from_bytes(&SEED).verifying_key().to_bytes(),
            role: Role::Member,
            max_uses: 1,
            expires_at_ms: 0,
            epoch: 0,
        });
        let (nonce, key_package_hash) = ([10; 32], [11; 32]);
        JoinProof {
            invite,
            nonce,
            key_package_hash,
            signature: sign_join(&SEED, &GID, &nonce, &key_package_hash),
        }
    }

    fn justification() -> Justification {
        Justification { wall_ms: 12, requests: vec![request()], joins: vec![proof()] }
    }

    #[test]
    fn reads_back() {
        let encoded = justification().encode().unwrap();
        assert!(Justification::decode(&encoded) == Ok(justification()));
    }

    #[test]
    fn any_flipped_bit_is_refused_or_read_as_something_else() {
        let encoded = justification().encode().unwrap();
        for bit in 0..encoded.len() * 8 {
            let mut bytes = encoded.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(read) = Justification::decode(&bytes) {
                assert!(read != justification(), "bit {bit}");
                let proofs_hold = read.joins.iter().all(|proof| proof.verify(&GID).is_ok());
                let complete = read.joins.len() == 1 && read.requests.len() == 1;
                assert!(!(proofs_hold && complete) || read.wall_ms != 12, "bit {bit}");
            }
        }
    }

    #[test]
    fn broken_events_and_other_versions_are_refused() {
        let refusal = |change: fn(&mut wire::CommitJustification)| {
            let mut read = wire::CommitJustification::decode(&*justification().encode().unwrap()).unwrap();
            change(&mut read);
            Justification::decode(&read.encode_to_vec()).err()
        };
        assert_eq!(refusal(|j| j.version = 2), Some(Unauthorised::Justification));
        assert_eq!(refusal(|j| j.wall_ms = u64::MAX), Some(Unauthorised::Justification));
        assert_eq!(refusal(|j| j.joins[0].nonce.clear()), Some(Unauthorised::Justification));
        assert_eq!(refusal(|j| j.joins[0].signature.push(0)), Some(Unauthorised::Justification));
        assert_eq!(
            refusal(|j| *j.requests[0].last_mut().unwrap() ^= 1),
            Some(Unauthorised::Event(EventError::Signature))
        );
        assert_eq!(refusal(|j| j.joins[0].invite.clear()), Some(Unauthorised::Event(EventError::Malformed)));
        assert_eq!(refusal(|j| j.requests = vec![vec![]; 33]), Some(Unauthorised::TooMany));
        assert_eq!(refusal(|j| j.joins = vec![j.joins[0].clone(); 33]), Some(Unauthorised::TooMany));
        let long = vec![0; MAX_JUSTIFICATION_BYTES + 1];
        assert!(Justification::decode(&long).err() == Some(Unauthorised::TooMany));
    }

    #[test]
    fn too_much_is_not_encoded() {
        let mut many = justification();
        many.joins = vec![proof(); 33];
        assert_eq!(many.encode(), Err(Unauthorised::TooMany));
    }

    #[test]
    fn a_proof_holds_for_its_group_challenge_and_key_package_only() {
        assert_eq!(proof().verify(&GID), Ok(()));
        assert_eq!(proof().verify(&GroupId([2; 16])), Err(Unauthorised::ForeignGroup));
        let refusal = |change: fn(&mut JoinProof)| {
            let mut proof = proof();
            change(&mut proof);
            proof.verify(&GID)
        };
        assert_eq!(refusal(|p| p.nonce[0] ^= 1), Err(Unauthorised::Proof));
        assert_eq!(refusal(|p| p.key_package_hash[0] ^= 1), Err(Unauthorised::Proof));
        assert_eq!(refusal(|p| p.signature[0] ^= 1), Err(Unauthorised::Proof));
        assert_eq!(refusal(|p| p.invite = request()), Err(Unauthorised::NotAnInvite));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = Justification::decode(&bytes);
        }
    }
}
