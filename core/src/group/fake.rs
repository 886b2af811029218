//! An engine that hashes where MLS does public-key cryptography: for simulations, never for people.
//!
//! It keeps secrets from nobody who reads its memory or attacks it; whoever plays by its methods can do
//! what the openmls engine lets them do, and nothing more. A leaf's public key is the hash of its private
//! one, and what is locked with a public key opens only for a caller who has the private one. Every
//! commit locks a fresh secret for each leaf that stays, so a removed leaf cannot derive the child.
//! Frames have the real layout; justifications, policies and `authorize` are the real ones. It knows no
//! clock: KeyPackages do not expire.

mod chance;
mod commit;
mod forge;
mod join;
mod message;
mod seal;
mod tree;
mod wire;

use std::collections::BTreeMap;

use prost::Message as _;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

pub use chance::seed_chance;
use message::Ratchet;
use seal::HashCipher;
use tree::Tree;

use super::{
    authorize::{RosterMember, Standing},
    commit::{Change, Committed},
    effect::member_at,
    engine::Engine,
    error::{ApplicationError, CommitError, FrameError, GroupError},
    frame::{Frame, FrameKeys, FrameKind, OpenedFrame, state_id},
    identity::DeviceIdentity,
    key_package::{CheckedKeyPackage, FreshKeyPackage},
    message::{Application, SealedFrame},
    policy::Policy,
    process::Processed,
    rows::{RowChanges, Rows},
    state::{ROUTE_SECRET_ROW, SEND_COUNTER_ROW, StateFacts},
};
use crate::id::{GroupId, StateId};

const TREE_ROW: &[u8] = b"tree\0";
const CONTEXT_ROW: &[u8] = b"context\0";
const STATE_SECRET_ROW: &[u8] = b"epoch-secrets\0";
const LEAF_SECRET_ROW: &[u8] = b"epoch-keys\0";
const MESSAGE_SECRETS_ROW: &[u8] = b"message-secrets\0";

type Key = [u8; 32];

/// A loaded state of the fake.
#[derive(Clone)]
pub struct FakeState {
    rows: Rows,
    facts: StateFacts,
    keys: FrameKeys<HashCipher>,
    secrets: Secrets,
    send_counter: u32,
    /// By leaf; none yet for those who have not been heard.
    ratchets: BTreeMap<u32, Ratchet>,
    /// The ratchets' row is older than the ratchets.
    ratchets_moved: bool,
}

/// What a member knows and outsiders do not.
#[derive(Clone)]
struct Secrets {
    /// Every member's.
    state: Key,
    /// This device's leaf's own.
    leaf: Key,
    route: Key,
}

/// What members and those they remove know of a state.
struct Public {
    gid: GroupId,
    epoch: u64,
    tree: Tree,
    policy: Policy,
    confirmation_tag: Key,
}

impl FakeState {
    /// A state that nothing is stored of yet.
    fn unstored(public: Public, secrets: Secrets) -> Result<Self, GroupError> {
        let mut rows = Rows::new();
        rows.put(TREE_ROW.to_vec(), public.tree.to_wire().encode_to_vec());
        rows.put(CONTEXT_ROW.to_vec(), public.context().encode_to_vec());
        rows.put(STATE_SECRET_ROW.to_vec(), secrets.state.to_vec());
        rows.put(LEAF_SECRET_ROW.to_vec(), secrets.leaf.to_vec());
        rows.put(ROUTE_SECRET_ROW.to_vec(), secrets.route.to_vec());
        rows.put(MESSAGE_SECRETS_ROW.to_vec(), Vec::new());
        Self::assemble(public, secrets, rows, 0, BTreeMap::new())
    }

    fn assemble(
        public: Public,
        secrets: Secrets,
        rows: Rows,
        send_counter: u32,
        ratchets: BTreeMap<u32, Ratchet>,
    ) -> Result<Self, GroupError> {
        let Public { gid, epoch, tree, policy, confirmation_tag } = public;
        let own_leaf = tree.leaf_of(&public_key(&secrets.leaf)).ok_or(GroupError::Damaged)?;
        let facts = StateFacts {
            gid,
            sid: sid(&gid, epoch, &confirmation_tag),
            epoch,
            check: prefix(&secrets.export("check")),
            env_tag: prefix(&secrets.export("envtag")),
            own_leaf,
            standing: Standing { gid, epoch, roster: tree.0, policy },
        };
        let env_key = Zeroizing::new(secrets.export("env"));
        let keys = FrameKeys::new(&secrets.route, facts.env_tag, env_key);
        Ok(Self { rows, facts, keys, secrets, send_counter, ratchets, ratchets_moved: false })
    }

    /// The leaf of the device that this state is of.
    fn own_member(&self) -> Result<&RosterMember, GroupError> {
        member_at(&self.facts.standing, self.facts.own_leaf).ok_or(GroupError::Damaged)
    }
}

impl Public {
    fn context(&self) -> wire::Context {
        wire::Context {
            epoch: self.epoch,
            policy: self.policy.encode(),
            confirmation_tag: self.confirmation_tag.to_vec(),
        }
    }
}

impl Secrets {
    fn export(&self, label: &str) -> Key {
        hash("export", &[label.as_bytes(), &self.state])
    }
}

impl Engine for FakeState {
    fn create(identity: &DeviceIdentity, gid: GroupId, policy: Policy) -> Result<Self, GroupError> {
        let device = identity.device();
        if identity.certificate().device != device {
            return Err(GroupError::Certificate);
        }
        let leaf = chance::draw(&device);
        let secrets = Secrets { state: chance::draw(&device), leaf, route: chance::draw(&device) };
        let tree = Tree::founding(identity.certificate().clone(), public_key(&leaf));
        let confirmation_tag = confirmation_tag(&secrets.state);
        Self::unstored(Public { gid, epoch: 0, tree, policy, confirmation_tag }, secrets)
    }

    fn join(
        identity: &DeviceIdentity,
        gid: GroupId,
        key_package_rows: Rows,
        welcome: &[u8],
        route_secret: [u8; 32],
    ) -> Result<Self, GroupError> {
        join::join(identity, gid, &key_package_rows, welcome, route_secret)
    }

    fn load(gid: GroupId, rows: Rows) -> Result<Self, GroupError> {
        let row = |key: &[u8]| rows.get(key).ok_or(GroupError::Damaged);
        let key = |bytes: &[u8]| Key::try_from(bytes).map_err(|_| GroupError::Damaged);
        let context = wire::Context::decode(row(CONTEXT_ROW)?).map_err(|_| GroupError::Damaged)?;
        let tree = wire::Tree::decode(row(TREE_ROW)?).map_err(|_| GroupError::Damaged)?;
        let public = Public {
            gid,
            epoch: context.epoch,
            tree: Tree::from_row(&tree).ok_or(GroupError::Damaged)?,
            policy: Policy::decode(&context.policy)?,
            confirmation_tag: key(&context.confirmation_tag)?,
        };
        let secrets = Secrets {
            state: key(row(STATE_SECRET_ROW)?)?,
            leaf: key(row(LEAF_SECRET_ROW)?)?,
            route: key(row(ROUTE_SECRET_ROW)?)?,
        };
        let ratchets = message::read_ratchets(row(MESSAGE_SECRETS_ROW)?).ok_or(GroupError::Damaged)?;
        let send_counter = match rows.get(SEND_COUNTER_ROW) {
            Some(bytes) => u32::from_be_bytes(bytes.try_into().map_err(|_| GroupError::Damaged)?),
            None => 0,
        };
        Self::assemble(public, secrets, rows, send_counter, ratchets)
    }

    fn fresh_key_package(identity: &DeviceIdentity) -> Result<FreshKeyPackage, GroupError> {
        Ok(join::fresh_key_package(identity))
    }

    fn check_key_package(key_package: &[u8]) -> Result<CheckedKeyPackage, GroupError> {
        let read = join::KeyPackage::read(key_package).ok_or(GroupError::KeyPackage)?;
        let certificate = read.certificate()?;
        Ok(CheckedKeyPackage { certificate, hash: read.hash, encryption_key: read.leaf_key })
    }

    fn sid_of_commit(gid: &GroupId, commit: &[u8]) -> Result<StateId, CommitError> {
        let commit = commit::Read::of(gid, commit)?;
        Ok(sid(gid, commit.epoch_after()?, &commit.confirmation_tag))
    }

    fn facts(&self) -> &StateFacts {
        &self.facts
    }

    fn route_secret(&self) -> &[u8; 32] {
        &self.secrets.route
    }

    fn take_changes(&mut self) -> Result<RowChanges, GroupError> {
        if std::mem::take(&mut self.ratchets_moved) {
            self.rows.put(MESSAGE_SECRETS_ROW.to_vec(), message::write_ratchets(&self.ratchets));
        }
        Ok(self.rows.take_changes())
    }

    fn commit(
        &self,
        identity: &DeviceIdentity,
        change: Change,
        justification: Vec<u8>,
    ) -> Result<Committed<Self>, GroupError> {
        self.commit_for_all_but(&[], identity, &change, justification)
    }

    fn process_commit(&self, commit: &[u8]) -> Result<Processed<Self>, CommitError> {
        self.process(commit)
    }

    fn seal_application(
        &mut self,
        identity: &DeviceIdentity,
        plaintext: &[u8],
    ) -> Result<SealedFrame, GroupError> {
        self.seal_message(&identity.device(), plaintext)
    }

    fn seal_tip(&self, signed_tip: &[u8]) -> Result<Vec<u8>, GroupError> {
        self.seal_frame(FrameKind::Tip, self.facts.own_leaf, 0, signed_tip)
    }

    fn open_frame(&self, frame: &Frame) -> Result<OpenedFrame, FrameError> {
        self.keys.open(frame)
    }

    fn open_application(&mut self, opened: &OpenedFrame) -> Result<Application, ApplicationError> {
        self.open_message(opened)
    }
}

/// SHA-256 of a label and parts, none of which can be taken for another.
fn hash(label: &str, parts: &[&[u8]]) -> Key {
    let mut digest = Sha256::new().chain_update([0xfa]).chain_update(label).chain_update([0]);
    for part in parts {
        digest = digest.chain_update((part.len() as u64).to_be_bytes()).chain_update(part);
    }
    digest.finalize().into()
}

fn public_key(private: &Key) -> Key {
    hash("public-key", &[private])
}

/// Locks or, with the same key and salt, unlocks a secret.
fn lock(public_key: &Key, salt: &[u8], secret: &Key) -> Key {
    let mut locked = hash("lock", &[public_key, salt]);
    locked.iter_mut().zip(secret).for_each(|(byte, secret)| *byte ^= secret);
    locked
}

fn unlock(private_key: &Key, salt: &[u8], locked: &Key) -> Key {
    lock(&public_key(private_key), salt, locked)
}

/// Says that its maker knew the state's secret.
fn confirmation_tag(state_secret: &Key) -> Key {
    hash("confirmation", &[state_secret])
}

fn sid(gid: &GroupId, epoch: u64, confirmation_tag: &Key) -> StateId {
    // opaque MAC<V>: the length, then the bytes (RFC 9420 §2.1.2).
    let mut tls = [0; 33];
    tls.iter_mut().zip(std::iter::once(&32).chain(confirmation_tag)).for_each(|(to, from)| *to = *from);
    state_id(gid, epoch, &tls)
}

fn prefix<const N: usize>(key: &Key) -> [u8; N] {
    key.first_chunk().copied().unwrap_or([0; N])
}
