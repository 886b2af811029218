//! What members sign outside MLS, as the proto files and docs/protocol.md have it: events, join proofs,
//! justifications; and the policy that follows from them.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use spacepanda_core::{
    certificate::Certificate,
    id::{AccountId, DeviceId},
};
use spacepanda_proto::peer::v1 as wire;

use crate::member::{Change, Member};

pub(crate) const GID: [u8; 16] = [7; 16];
const INVITE_ID: [u8; 16] = [50; 16];
const INVITE_SEED: [u8; 32] = [200; 32];
const NONCE: [u8; 32] = [99; 32];
const OWNER: u32 = 1;
pub(crate) const MODERATOR: u32 = 3;
pub(crate) const MEMBER: u32 = 4;

/// A person's device, whatever it runs.
#[derive(Clone)]
pub(crate) struct Device {
    pub(crate) key: SigningKey,
    pub(crate) certificate: Certificate,
}

impl Device {
    /// The one device of account number `number`.
    pub(crate) fn new(number: u8) -> Self {
        let account = SigningKey::from_bytes(&[number; 32]);
        let key = SigningKey::from_bytes(&[number + 100; 32]);
        let id = DeviceId(key.verifying_key().to_bytes());
        let certificate = Certificate::issue(&account, id, vec![number; 38], [number; 32], 1);
        Self { key, certificate }
    }

    pub(crate) fn id(&self) -> DeviceId {
        self.certificate.device
    }

    pub(crate) fn account(&self) -> AccountId {
        self.certificate.account
    }

    fn sign_event(&self, kind: wire::EventKind, body: Vec<u8>) -> Vec<u8> {
        let event = wire::Event {
            gid: GID.to_vec(),
            log: vec![1; 16],
            seq: 1,
            lamport: 1,
            seen_sid: vec![0; 32],
            author: self.id().0.to_vec(),
            kind: kind.into(),
            body,
            ..Default::default()
        }
        .encode_to_vec();
        let signed = [b"spacepanda/event/1\0", &GID[..], &event].concat();
        let signature = self.key.sign(&signed).to_bytes().to_vec();
        wire::SignedEvent { event, signature }.encode_to_vec()
    }

    /// An ApplicationPlaintext with one message.
    pub(crate) fn says(&self, text: &str) -> Vec<u8> {
        let body = wire::TextBody { channel_id: vec![3; 16], text: text.to_owned(), ..Default::default() };
        let event = self.sign_event(wire::EventKind::Text, body.encode_to_vec());
        let kind = wire::application_plaintext::Kind::Fresh(wire::Fresh { events: vec![event] });
        wire::ApplicationPlaintext { kind: Some(kind) }.encode_to_vec()
    }

    /// The wish to leave, which only the leaving sign.
    pub(crate) fn asks_to_leave(&self) -> Vec<u8> {
        self.asks(change(wire::ChangeKind::Leave, self.account()))
    }

    fn asks(&self, body: wire::ChangeRequestBody) -> Vec<u8> {
        self.sign_event(wire::EventKind::ChangeRequest, body.encode_to_vec())
    }

    fn invites(&self, epoch: u64) -> Vec<u8> {
        let body = wire::InviteBody {
            invite_id: INVITE_ID.to_vec(),
            public_key: invite_key().verifying_key().to_bytes().to_vec(),
            role: MEMBER,
            max_uses: 100,
            expires_at_ms: 1,
            epoch,
        };
        self.sign_event(wire::EventKind::Invite, body.encode_to_vec())
    }
}

/// Takes the one event out of an ApplicationPlaintext: who signed it, and its text.
pub(crate) fn read_message(plaintext: &[u8]) -> (DeviceId, String) {
    let plaintext = wire::ApplicationPlaintext::decode(plaintext).unwrap();
    let Some(wire::application_plaintext::Kind::Fresh(fresh)) = plaintext.kind else { panic!("carried") };
    let signed = wire::SignedEvent::decode(&*fresh.events[0]).unwrap();
    let event = wire::Event::decode(&*signed.event).unwrap();
    let author: [u8; 32] = event.author.try_into().unwrap();
    verify(&author, &[b"spacepanda/event/1\0", &GID[..], &signed.event].concat(), &signed.signature);
    (DeviceId(author), wire::TextBody::decode(&*event.body).unwrap().text)
}

/// Reads the certificate in a leaf, and checks that its account signed it for that leaf's key.
pub(crate) fn certified_device(credential: &[u8], signature_key: &[u8]) -> DeviceId {
    let signed = wire::SignedCertificate::decode(credential).unwrap();
    let certificate = wire::DeviceCertificate::decode(&*signed.certificate).unwrap();
    let account: [u8; 32] = certificate.account_key.try_into().unwrap();
    verify(&account, &[b"spacepanda/certificate/1\0", &signed.certificate[..]].concat(), &signed.signature);
    assert_eq!(certificate.device_key, signature_key);
    DeviceId(signature_key.try_into().unwrap())
}

fn verify(key: &[u8; 32], message: &[u8], signature: &[u8]) {
    let signature = Signature::from_slice(signature).unwrap();
    VerifyingKey::from_bytes(key).unwrap().verify_strict(message, &signature).unwrap();
}

/// A joiner's signature with the secret of the invite link, over the challenge and its KeyPackage.
pub(crate) fn sign_join(key_package: &[u8]) -> [u8; 64] {
    let hash = Sha256::digest(key_package);
    let signed = [b"spacepanda/join/1\0", &GID[..], &NONCE, &hash].concat();
    invite_key().sign(&signed).to_bytes()
}

fn invite_key() -> SigningKey {
    SigningKey::from_bytes(&INVITE_SEED)
}

/// Someone who wants in.
pub(crate) struct Request {
    pub(crate) who: Device,
    /// tls(KeyPackage)
    pub(crate) key_package: Vec<u8>,
    /// Made by [`sign_join`].
    pub(crate) signature: [u8; 64],
}

/// The policy of a group with nobody in it but its owner.
pub(crate) fn founding_policy(owner: &Device) -> Vec<u8> {
    let owner =
        wire::PolicyAccount { account: owner.account().0.to_vec(), role: OWNER, ..Default::default() };
    wire::Policy { version: 1, accounts: vec![owner], invites: vec![] }.encode_to_vec()
}

/// What a member commits to let people in whom it invited.
pub(crate) fn admission(member: &dyn Member, requests: &[&Request]) -> Change {
    invited_admission(member, member.device(), requests)
}

/// What a member commits to let people in whom someone invited.
pub(crate) fn invited_admission(member: &dyn Member, inviter: &Device, requests: &[&Request]) -> Change {
    let view = member.view();
    let mut policy = wire::Policy::decode(&*view.policy).unwrap();
    let mut justification = empty();
    for request in requests {
        let account = request.who.account().0.to_vec();
        let at = policy.accounts.partition_point(|entry| entry.account < account);
        policy.accounts.insert(at, wire::PolicyAccount { account, role: MEMBER, ..Default::default() });
        match policy.invites.first_mut() {
            Some(invite) => invite.used += 1,
            None => policy.invites.push(wire::PolicyInvite { invite_id: INVITE_ID.to_vec(), used: 1 }),
        }
        justification.joins.push(wire::JoinProof {
            invite: inviter.invites(view.epoch),
            nonce: NONCE.to_vec(),
            key_package_hash: Sha256::digest(&request.key_package).to_vec(),
            signature: request.signature.to_vec(),
        });
    }
    Change {
        adds: requests.iter().map(|request| request.key_package.clone()).collect(),
        policy: policy.encode_to_vec(),
        justification: justification.encode_to_vec(),
        ..Change::default()
    }
}

/// What a member commits to put someone out because it wants to.
pub(crate) fn removal(member: &dyn Member, who: &Device) -> Change {
    requested_removal(member, member.device(), who)
}

/// What a member commits to put someone out because someone asked for it.
pub(crate) fn requested_removal(member: &dyn Member, author: &Device, who: &Device) -> Change {
    let request = author.asks(change(wire::ChangeKind::Remove, who.account()));
    departure(member, who, request, member.view().epoch + 1)
}

/// What a member commits when someone asked to go.
pub(crate) fn leave(member: &dyn Member, who: &Device, request: Vec<u8>) -> Change {
    departure(member, who, request, 0)
}

/// What a member commits to give someone another role because someone asked for it.
pub(crate) fn promotion(member: &dyn Member, author: &Device, who: &Device, role: u32) -> Change {
    let mut policy = wire::Policy::decode(&*member.view().policy).unwrap();
    let entry = entry_of(&mut policy, who);
    let request = author.asks(wire::ChangeRequestBody {
        role,
        role_before: entry.role,
        role_changes: entry.role_changes,
        ..change(wire::ChangeKind::Role, who.account())
    });
    (entry.role, entry.role_changes) = (role, entry.role_changes + 1);
    let justification = wire::CommitJustification { requests: vec![request], ..empty() };
    Change {
        policy: policy.encode_to_vec(),
        justification: justification.encode_to_vec(),
        ..Change::default()
    }
}

/// What a member commits to give someone who asked for it a fresh leaf.
pub(crate) fn rejoining(member: &dyn Member, fresh: &Request, old_encryption_key: [u8; 32]) -> Change {
    let request = fresh.who.asks(wire::ChangeRequestBody {
        key_package: fresh.key_package.clone(),
        old_encryption_key: old_encryption_key.to_vec(),
        ..change(wire::ChangeKind::Rejoin, fresh.who.account())
    });
    let justification = wire::CommitJustification { requests: vec![request], ..empty() };
    Change {
        adds: vec![fresh.key_package.clone()],
        removes: vec![fresh.who.id()],
        policy: member.view().policy,
        justification: justification.encode_to_vec(),
    }
}

/// What a member commits for new keys alone.
pub(crate) fn refresh(member: &dyn Member) -> Change {
    let justification = empty().encode_to_vec();
    Change { policy: member.view().policy, justification, ..Change::default() }
}

fn departure(member: &dyn Member, who: &Device, request: Vec<u8>, barred_until_epoch: u64) -> Change {
    let mut policy = wire::Policy::decode(&*member.view().policy).unwrap();
    let entry = entry_of(&mut policy, who);
    (entry.role, entry.generation, entry.barred_until_epoch) = (0, entry.generation + 1, barred_until_epoch);
    let justification = wire::CommitJustification { requests: vec![request], ..empty() };
    Change {
        removes: vec![who.id()],
        policy: policy.encode_to_vec(),
        justification: justification.encode_to_vec(),
        ..Change::default()
    }
}

fn entry_of<'a>(policy: &'a mut wire::Policy, who: &Device) -> &'a mut wire::PolicyAccount {
    let mut accounts = policy.accounts.iter_mut();
    accounts.find(|entry| entry.account == who.account().0).unwrap()
}

fn empty() -> wire::CommitJustification {
    wire::CommitJustification { version: 1, ..Default::default() }
}

fn change(kind: wire::ChangeKind, account: AccountId) -> wire::ChangeRequestBody {
    wire::ChangeRequestBody { kind: kind.into(), target: account.0.to_vec(), ..Default::default() }
}
