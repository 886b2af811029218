//! KeyPackages and Welcomes of the fake.

use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::{
    FakeState, Key, Public, Secrets, chance, confirmation_tag, hash, lock, public_key, seal, tree::Tree,
    unlock, wire,
};
use crate::{
    certificate::Certificate,
    group::{
        error::GroupError,
        identity::DeviceIdentity,
        join::MAX_WELCOME_BYTES,
        key_package::{FreshKeyPackage, MAX_KEY_PACKAGE_BYTES},
        policy::Policy,
        rows::Rows,
    },
    id::{DeviceId, GroupId},
};

const KEY_PACKAGE_ROW: &[u8] = b"key-package\0";
const WELCOME: u8 = 3;

/// A KeyPackage whose signature was checked.
pub(super) struct KeyPackage {
    device: DeviceId,
    certificate: Vec<u8>,
    init_key: Key,
    pub(super) leaf_key: Key,
    /// SHA-256 of its bytes.
    pub(super) hash: Key,
}

pub(super) fn fresh_key_package(identity: &DeviceIdentity) -> FreshKeyPackage {
    let device = identity.device();
    let (init, leaf) = (chance::draw(&device), chance::draw(&device));
    let mut package = wire::KeyPackage {
        device: device.0.to_vec(),
        certificate: identity.certificate().encoded().to_vec(),
        init_key: public_key(&init).to_vec(),
        leaf_key: public_key(&leaf).to_vec(),
        signature: Vec::new(),
    };
    package.signature = signature(&package).to_vec();
    let bytes = package.encode_to_vec();
    let hash: Key = Sha256::digest(&bytes).into();
    let mut rows = Rows::new();
    rows.put([KEY_PACKAGE_ROW, &hash].concat(), [init, leaf].concat());
    FreshKeyPackage { bytes, hash, rows: rows.take_changes() }
}

/// Stands for a signature: whoever plays by the rules makes it for its own device only.
fn signature(package: &wire::KeyPackage) -> Key {
    let wire::KeyPackage { device, certificate, init_key, leaf_key, .. } = package;
    hash("signature", &[device, certificate, init_key, leaf_key])
}

impl KeyPackage {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_KEY_PACKAGE_BYTES {
            return None;
        }
        let read = wire::KeyPackage::decode(bytes).ok()?;
        // One encoding only: its hash is signed over by the joiner.
        let genuine = read.signature == signature(&read) && read.encode_to_vec() == bytes;
        genuine.then_some(())?;
        Some(Self {
            device: DeviceId::try_from(&*read.device).ok()?,
            init_key: Key::try_from(&*read.init_key).ok()?,
            leaf_key: Key::try_from(&*read.leaf_key).ok()?,
            certificate: read.certificate,
            hash: Sha256::digest(bytes).into(),
        })
    }

    /// Its certificate, if it is of the device that signed.
    pub(super) fn certificate(&self) -> Result<Certificate, GroupError> {
        let certificate = Certificate::decode(&self.certificate)?;
        (certificate.device == self.device).then_some(certificate).ok_or(GroupError::Certificate)
    }
}

/// The Welcome to a state for those it adds.
pub(super) fn welcome(public: &Public, state_secret: &Key, adds: &[KeyPackage]) -> Option<Vec<u8>> {
    if adds.is_empty() {
        return None;
    }
    let info = wire::GroupInfo {
        gid: public.gid.0.to_vec(),
        context: Some(public.context()),
        tree: Some(public.tree.to_wire()),
    };
    let mut group_info = info.encode_to_vec();
    seal::seal(&welcome_key(state_secret), &[], &[], &mut group_info);
    let invited = adds.iter().map(|add| wire::Invited {
        key_package_hash: add.hash.to_vec(),
        secret: lock(&add.init_key, &public.confirmation_tag, state_secret).to_vec(),
    });
    let welcome = wire::Welcome {
        invited: invited.collect(),
        group_info,
        confirmation_tag: public.confirmation_tag.to_vec(),
    };
    let encoded = welcome.encode_to_vec();
    let tag = hash("welcome-tag", &[state_secret, &encoded]);
    Some([&[WELCOME], &encoded[..], &tag].concat())
}

pub(super) fn join(
    identity: &DeviceIdentity,
    gid: GroupId,
    key_package_rows: &Rows,
    welcome: &[u8],
    route: Key,
) -> Result<FakeState, GroupError> {
    let (state, leaf, info) = open_welcome(key_package_rows, welcome).ok_or(GroupError::Welcome)?;
    let (Some(context), Some(tree)) = (info.context, info.tree) else { return Err(GroupError::Welcome) };
    if info.gid != gid.as_bytes() {
        return Err(GroupError::Welcome);
    }
    let public = Public {
        gid,
        epoch: context.epoch,
        tree: Tree::from_welcome(&tree)?,
        policy: Policy::decode(&context.policy)?,
        confirmation_tag: confirmation_tag(&state),
    };
    if context.confirmation_tag != public.confirmation_tag {
        return Err(GroupError::Welcome);
    }
    let state = FakeState::unstored(public, Secrets { state, leaf, route })?;
    let ours = state.own_member()?.certificate == *identity.certificate();
    ours.then_some(state).ok_or(GroupError::Certificate)
}

/// The state's secret, this device's leaf's and what else the Welcome says.
fn open_welcome(rows: &Rows, bytes: &[u8]) -> Option<(Key, Key, wire::GroupInfo)> {
    if bytes.len() > MAX_WELCOME_BYTES {
        return None;
    }
    let (rest, tag) = bytes.split_last_chunk::<32>()?;
    let encoded = rest.strip_prefix(&[WELCOME])?;
    let welcome = wire::Welcome::decode(encoded).ok()?;
    let (invited, private) = welcome.invited.iter().find_map(|invited| {
        let row = rows.get(&[KEY_PACKAGE_ROW, &invited.key_package_hash].concat())?;
        Some((invited, row))
    })?;
    let (init, leaf) = private.split_first_chunk()?;
    let state = unlock(init, &welcome.confirmation_tag, &Key::try_from(&*invited.secret).ok()?);
    if hash("welcome-tag", &[&state, encoded]) != *tag {
        return None;
    }
    let mut info = welcome.group_info;
    seal::open(&welcome_key(&state), &[], &[], &mut info)?;
    Some((state, Key::try_from(leaf).ok()?, wire::GroupInfo::decode(&*info).ok()?))
}

fn welcome_key(state_secret: &Key) -> Key {
    hash("welcome", &[state_secret])
}
