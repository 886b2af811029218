//! People, their stored rows, and justifications as the wire format describes them.

use std::collections::BTreeMap;

use ed25519_dalek::{Signer as _, SigningKey};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use spacepanda_proto::peer::v1 as wire;

use crate::{
    certificate::Certificate,
    event::{Body, ChangeKind, Event, SignedEvent},
    group::{
        authorize::{AddedLeaf, Justification, plan},
        commit::{Change, Committed},
        engine::Engine,
        frame::{Frame, OpenedFrame},
        identity::DeviceIdentity,
        key_package::FreshKeyPackage,
        message::{Application, SealedFrame},
        policy::{Policy, PolicyAccount, PolicyInvite},
        process::Processed,
        rows::{RowChanges, Rows},
        state::GroupState,
    },
    id::{AccountId, DeviceId, GroupId, InviteId, LogId, StateId},
    model::Role,
};

pub(super) const GID: GroupId = GroupId([7; 16]);
const INVITE: InviteId = InviteId([50; 16]);
const INVITE_SEED: [u8; 32] = [200; 32];
const NONCE: [u8; 32] = [99; 32];

/// One person with one device.
#[derive(Clone)]
pub(super) struct Person {
    pub(super) account: AccountId,
    pub(super) device: DeviceId,
    pub(super) identity: DeviceIdentity,
    key: SigningKey,
}

impl Person {
    pub(super) fn new(number: u8) -> Self {
        let account = SigningKey::from_bytes(&[number; 32]);
        let device = SigningKey::from_bytes(&[number + 100; 32]);
        let device_id = DeviceId(device.verifying_key().to_bytes());
        let certificate = Certificate::issue(&account, device_id, vec![number; 38], [number; 32], 1);
        let account = certificate.account;
        let identity = DeviceIdentity::new(device.clone(), certificate);
        Self { account, device: device_id, identity, key: device }
    }

    fn sign_event(&self, kind: wire::EventKind, body: Vec<u8>) -> Vec<u8> {
        let event = wire::Event {
            gid: GID.0.to_vec(),
            log: vec![1; 16],
            seq: 1,
            lamport: 1,
            seen_sid: vec![0; 32],
            author: self.device.0.to_vec(),
            kind: kind.into(),
            body,
            ..Default::default()
        }
        .encode_to_vec();
        let signed = [b"spacepanda/event/1\0", GID.as_bytes(), &event[..]].concat();
        let signature = self.identity.sign(&signed).to_vec();
        wire::SignedEvent { event, signature }.encode_to_vec()
    }
}

impl Person {
    /// A signed request about someone.
    pub(super) fn asks(&self, kind: ChangeKind, target: &Person, generation: u64) -> SignedEvent {
        let event = Event {
            gid: GID,
            log: LogId([1; 16]),
            seq: 1,
            prev: None,
            lamport: 1,
            deps: vec![],
            seen_sid: StateId([0; 32]),
            wall_ms: 0,
            author: self.device,
            body: Body::ChangeRequest { kind, target: target.account, generation },
        };
        SignedEvent::sign(&self.key, event).unwrap()
    }
}

pub(super) fn founding_policy(owner: &Person) -> Policy {
    let owner = PolicyAccount::entering(owner.account, Role::Owner);
    Policy { version: 1, accounts: vec![owner], invites: vec![] }
}

/// A member in the product's engine.
pub(super) type Member = Actor<GroupState>;

/// A member: a loaded state, and what a disk holds of it.
pub(super) struct Actor<E> {
    pub(super) who: Person,
    pub(super) state: E,
    stored: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl<E: Engine> Actor<E> {
    pub(super) fn new(who: &Person, state: E) -> Self {
        let mut member = Self { who: who.clone(), state, stored: BTreeMap::new() };
        member.store();
        member
    }

    pub(super) fn founder(number: u8) -> Self {
        let who = Person::new(number);
        let state = E::create(&who.identity, GID, founding_policy(&who)).unwrap();
        Self::new(&who, state)
    }

    /// Writes what changed.
    pub(super) fn store(&mut self) -> RowChanges {
        let changes = self.state.take_changes().unwrap();
        self.stored.extend(changes.upserts.iter().cloned());
        changes.deletes.iter().for_each(|key| drop(self.stored.remove(key)));
        changes
    }

    /// Writes what changed, forgets the state and loads it again.
    pub(super) fn restart(&mut self) {
        self.store();
        self.state = self.loaded();
    }

    /// The stored state, loaded beside the live one.
    pub(super) fn loaded(&self) -> E {
        E::load(GID, Rows::from_rows(self.stored.clone())).unwrap()
    }

    /// What a disk holds of the state.
    pub(super) fn stored(&self) -> &BTreeMap<Vec<u8>, Vec<u8>> {
        &self.stored
    }

    pub(super) fn stored_mut(&mut self) -> &mut BTreeMap<Vec<u8>, Vec<u8>> {
        &mut self.stored
    }

    pub(super) fn seal(&mut self, text: &[u8]) -> SealedFrame {
        self.state.seal_application(&self.who.identity, text).unwrap()
    }

    pub(super) fn open(&mut self, frame: &SealedFrame) -> Application {
        let opened = self.state.open_frame(&Frame::decode(&frame.bytes).unwrap()).unwrap();
        self.state.open_application(&opened).unwrap()
    }

    /// The member in the child state, its rows apart from the parent's.
    pub(super) fn follow(&self, commit: &[u8]) -> Self {
        Self::new(&self.who, self.process(commit).child().unwrap())
    }

    pub(super) fn process(&self, commit: &[u8]) -> Processed<E> {
        self.state.process_commit(commit).unwrap()
    }

    /// Commits the addition of people, and lets them join.
    pub(super) fn add(&self, people: &[&Person]) -> (Committed<E>, Vec<Self>) {
        let fresh: Vec<_> = people.iter().map(|who| E::fresh_key_package(&who.identity).unwrap()).collect();
        let asked: Vec<_> = people.iter().zip(&fresh).map(|(who, fresh)| (*who, &*fresh.bytes)).collect();
        let committed = self.admit(&asked);
        let welcome = committed.welcome.as_deref().unwrap();
        let join = |(who, fresh): (&&Person, FreshKeyPackage)| {
            let rows = Rows::from_rows(fresh.rows.upserts);
            let secret = *committed.child.route_secret();
            Self::new(who, E::join(&who.identity, GID, rows, welcome, secret).unwrap())
        };
        let joined = people.iter().zip(fresh).map(join).collect();
        (committed, joined)
    }

    /// Commits the addition of KeyPackages that came with one invite.
    pub(super) fn admit(&self, asked: &[(&Person, &[u8])]) -> Committed<E> {
        let mut policy = self.state.facts().standing.policy.clone();
        asked.iter().for_each(|(who, _)| admit(&mut policy, who.account));
        let adds = asked.iter().map(|(_, key_package)| key_package.to_vec()).collect();
        let justification = wire::CommitJustification {
            version: 1,
            joins: asked.iter().map(|(_, key_package)| self.join_proof(key_package)).collect(),
            ..Default::default()
        };
        let change = Change { adds, removes: vec![], policy };
        self.state.commit(&self.who.identity, change, justification.encode_to_vec()).unwrap()
    }

    /// Commits the removal of a person, which it asks for itself.
    pub(super) fn remove(&self, person: &Person) -> Committed<E> {
        let (change, justification) = self.removal_of(person, &self.who);
        self.state.commit(&self.who.identity, change, justification).unwrap()
    }

    /// Commits that a person leaves who asked for it.
    pub(super) fn let_go(&self, person: &Person) -> Committed<E> {
        self.answer(vec![person.asks(ChangeKind::Leave, person, 0)], &[])
    }

    /// The removal of a person that someone asks for.
    pub(super) fn removal_of(&self, person: &Person, author: &Person) -> (Change, Vec<u8>) {
        let mut policy = self.state.facts().standing.policy.clone();
        let epoch = self.state.facts().epoch;
        let entry = policy.accounts.iter_mut().find(|entry| entry.account == person.account).unwrap();
        let kind = ChangeKind::Remove;
        let request = author.asks(kind, person, entry.generation);
        (entry.role, entry.generation, entry.barred_until_epoch) = (None, entry.generation + 1, epoch + 1);
        (Change { adds: vec![], removes: vec![person.device], policy }, reason(request))
    }

    /// Commits what requests ask for, as the rule says; `fresh` are KeyPackages of those who rejoin.
    pub(super) fn answer(&self, requests: Vec<SignedEvent>, fresh: &[&FreshKeyPackage]) -> Committed<E> {
        let standing = &self.state.facts().standing;
        let leaf = |fresh: &&FreshKeyPackage| {
            let checked = E::check_key_package(&fresh.bytes).unwrap();
            AddedLeaf { certificate: checked.certificate, key_package_hash: checked.hash }
        };
        let leaves: Vec<_> = fresh.iter().map(leaf).collect();
        let reasons = Justification { requests, ..Justification::empty(0) };
        let plan = plan(standing, &self.who.device, &leaves, &reasons).unwrap();
        let adds = fresh.iter().map(|fresh| fresh.bytes.clone()).collect();
        let change = Change { adds, removes: plan.removes, policy: plan.policy };
        self.state.commit(&self.who.identity, change, reasons.encode().unwrap()).unwrap()
    }

    /// Commits nothing but new keys.
    pub(super) fn refresh(&self) -> Committed<E> {
        let change = self.no_change();
        self.state.commit(&self.who.identity, change, no_reason()).unwrap()
    }

    pub(super) fn no_change(&self) -> Change {
        let policy = self.state.facts().standing.policy.clone();
        Change { adds: vec![], removes: vec![], policy }
    }

    fn join_proof(&self, key_package: &[u8]) -> wire::JoinProof {
        let invite_key = SigningKey::from_bytes(&INVITE_SEED);
        let body = wire::InviteBody {
            invite_id: INVITE.0.to_vec(),
            public_key: invite_key.verifying_key().to_bytes().to_vec(),
            role: Role::Member as u32,
            max_uses: 100,
            expires_at_ms: 1,
            epoch: self.state.facts().epoch,
        };
        let invite = self.who.sign_event(wire::EventKind::Invite, body.encode_to_vec());
        let hash: [u8; 32] = Sha256::digest(key_package).into();
        let signed = [b"spacepanda/join/1\0", GID.as_bytes(), &NONCE[..], &hash].concat();
        wire::JoinProof {
            invite,
            nonce: NONCE.to_vec(),
            key_package_hash: hash.to_vec(),
            signature: invite_key.sign(&signed).to_bytes().to_vec(),
        }
    }
}

/// What is in the frame of a message that one member seals for another.
pub(super) fn opened<E: Engine>(sender: &mut Actor<E>, text: &[u8], receiver: &Actor<E>) -> OpenedFrame {
    let frame = Frame::decode(&sender.seal(text).bytes).unwrap();
    receiver.state.open_frame(&frame).unwrap()
}

/// Tests that hold for the product's engine and for the fake.
macro_rules! for_both_engines {
    ($($test:ident)*) => {
        mod product {
            $(#[test]
            fn $test() {
                super::$test::<crate::group::state::GroupState>();
            })*
        }

        mod fake {
            $(#[test]
            fn $test() {
                super::$test::<crate::group::fake::FakeState>();
            })*
        }
    };
}
pub(super) use for_both_engines;

fn reason(request: SignedEvent) -> Vec<u8> {
    let requests = vec![request.encoded().to_vec()];
    wire::CommitJustification { version: 1, requests, ..Default::default() }.encode_to_vec()
}

/// The justification of a commit that needs none.
pub(super) fn no_reason() -> Vec<u8> {
    wire::CommitJustification { version: 1, ..Default::default() }.encode_to_vec()
}

fn admit(policy: &mut Policy, account: AccountId) {
    let entry = PolicyAccount::entering(account, Role::Member);
    let at = policy.accounts.binary_search_by_key(&account, |entry| entry.account).unwrap_err();
    policy.accounts.insert(at, entry);
    match policy.invites.first_mut() {
        Some(invite) => invite.used += 1,
        None => policy.invites.push(PolicyInvite { invite: INVITE, used: 1 }),
    }
}

/// The owner (leaf 0), Bob (leaf 1) and Carol (leaf 2), in one state.
pub(super) fn three<E: Engine>() -> [Actor<E>; 3] {
    let founder = Actor::<E>::founder(1);
    let (first, mut joined) = founder.add(&[&Person::new(2), &Person::new(3)]);
    let carol = joined.pop().unwrap();
    let bob = joined.pop().unwrap();
    [Actor::new(&founder.who, first.child), bob, carol]
}
