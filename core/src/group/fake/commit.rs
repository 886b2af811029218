//! Commits of the fake: made, forged and followed.
//!
//! A commit is `1 | Commit | confirmation tag 32 | membership tag 32`. The membership tag says that its
//! maker knew the parent's secret, the confirmation tag that it knew the child's.

use prost::Message as _;

use super::{
    FakeState, Key, Public, Secrets, chance, confirmation_tag, hash,
    join::{self, KeyPackage},
    lock, public_key, sid,
    tree::Tree,
    unlock, wire,
};
use crate::{
    group::{
        authorize::{AddedLeaf, Authorized, CommitEffect, MAX_JUSTIFICATION_BYTES, Standing, authorize},
        commit::{Change, Committed, signed_commit},
        effect::member_at,
        engine::{Outcome, PublicChild},
        error::{CommitError, GroupError},
        frame::{FrameKind, MAX_BODY_BYTES},
        identity::DeviceIdentity,
        policy::Policy,
        process::Processed,
    },
    id::{CommitId, DeviceId, GroupId},
};

const COMMIT: u8 = 1;

/// A commit's bytes, read; nothing of it is verified.
pub(super) struct Read {
    commit: wire::Commit,
    /// The first byte and the encoded commit: what the child's secret follows from.
    body: Vec<u8>,
    pub(super) confirmation_tag: Key,
    membership_tag: Key,
}

impl Read {
    pub(super) fn of(gid: &GroupId, bytes: &[u8]) -> Result<Self, CommitError> {
        use CommitError::Malformed;
        if bytes.len() > MAX_BODY_BYTES {
            return Err(Malformed);
        }
        let (rest, membership_tag) = bytes.split_last_chunk().ok_or(Malformed)?;
        let (body, confirmation_tag) = rest.split_last_chunk().ok_or(Malformed)?;
        let encoded = body.strip_prefix(&[COMMIT]).ok_or(Malformed)?;
        let commit = wire::Commit::decode(encoded).map_err(|_| Malformed)?;
        if commit.gid != gid.as_bytes() {
            return Err(CommitError::WrongGroup);
        }
        Ok(Self {
            commit,
            body: body.to_vec(),
            confirmation_tag: *confirmation_tag,
            membership_tag: *membership_tag,
        })
    }

    pub(super) fn epoch_after(&self) -> Result<u64, CommitError> {
        self.commit.epoch.checked_add(1).ok_or(CommitError::Malformed)
    }
}

/// A commit made here.
pub(super) struct Staged {
    child: FakeState,
    commit: Vec<u8>,
    welcome: Option<Vec<u8>>,
    authorized: Option<Authorized>,
}

impl FakeState {
    /// Commits a change whose secret `victims` cannot open.
    pub(super) fn commit_for_all_but(
        &self,
        victims: &[DeviceId],
        identity: &DeviceIdentity,
        change: &Change,
        justification: Vec<u8>,
    ) -> Result<Committed<Self>, GroupError> {
        let Staged { child, commit, welcome, authorized } =
            self.stage(identity, change, justification, victims, true)?;
        let authorized = authorized.ok_or(GroupError::Damaged)?;
        let body = signed_commit(identity, &self.facts, &child.facts, authorized.class, &commit);
        Ok(Committed {
            child,
            commit_id: CommitId::of(&commit),
            committer: identity.device(),
            frame: self.seal_frame(FrameKind::Commit, self.facts.own_leaf, 0, &body)?,
            commit,
            welcome,
            authorized,
        })
    }

    /// Commits a change without asking whether it is allowed; gives the commit alone.
    pub(super) fn commit_unasked(
        &self,
        identity: &DeviceIdentity,
        change: &Change,
        justification: Vec<u8>,
    ) -> Result<Vec<u8>, GroupError> {
        Ok(self.stage(identity, change, justification, &[], false)?.commit)
    }

    fn stage(
        &self,
        identity: &DeviceIdentity,
        change: &Change,
        justification: Vec<u8>,
        victims: &[DeviceId],
        ask: bool,
    ) -> Result<Staged, GroupError> {
        if justification.len() > MAX_JUSTIFICATION_BYTES {
            return Err(GroupError::TooLarge);
        }
        let adds = change.adds.iter().map(|bytes| KeyPackage::read(bytes).ok_or(GroupError::KeyPackage));
        let adds: Vec<_> = adds.collect::<Result<_, _>>()?;
        let removes: Vec<_> =
            change.removes.iter().map(|device| self.facts.leaf_of(device)).collect::<Result<_, _>>()?;
        let (path_secret, leaf) = (chance::draw(&identity.device()), chance::draw(&identity.device()));
        let mut commit = wire::Commit {
            gid: self.facts.gid.0.to_vec(),
            epoch: self.facts.epoch,
            committer: self.facts.own_leaf,
            adds: change.adds.clone(),
            removes,
            policy: change.policy.encode(),
            justification,
            leaf_key: public_key(&leaf).to_vec(),
            path_hash: hash("path", &[&path_secret]).to_vec(),
            path: Vec::new(),
        };
        self.lock_path(&mut commit, &path_secret, victims);
        let effect = self.effect(&commit, &adds)?;
        let authorized = ask.then(|| authorize(&self.facts.standing, &effect)).transpose()?;
        let tree = self.tree_after(&commit, &adds)?;

        let mut bytes = vec![COMMIT];
        bytes.extend(commit.encode_to_vec());
        let state = self.secret_after(&path_secret, &bytes);
        let confirmation_tag = confirmation_tag(&state);
        bytes.extend(confirmation_tag);
        bytes.extend(self.membership_tag(&bytes));

        let epoch = self.facts.epoch.checked_add(1).ok_or(GroupError::TooLarge)?;
        let policy = change.policy.clone();
        let public = Public { gid: self.facts.gid, epoch, tree, policy, confirmation_tag };
        let welcome = join::welcome(&public, &state, &adds);
        let rejoins = |device: &DeviceId| effect.adds.iter().any(|add| add.certificate.device == *device);
        let someone_left = !effect.removes.iter().all(rejoins);
        let child = self.child(public, state, leaf, someone_left)?;
        Ok(Staged { child, commit: bytes, welcome, authorized })
    }

    pub(super) fn process(&self, bytes: &[u8]) -> Result<Processed<Self>, CommitError> {
        let read = Read::of(&self.facts.gid, bytes)?;
        let commit = &read.commit;
        self.check_origin(&read)?;
        if commit.justification.len() > MAX_JUSTIFICATION_BYTES {
            return Err(CommitError::Malformed);
        }
        let adds = commit.adds.iter().map(|bytes| KeyPackage::read(bytes).ok_or(CommitError::Invalid));
        let adds: Vec<_> = adds.collect::<Result<_, _>>()?;
        let effect = self.effect(commit, &adds)?;
        let tree = self.tree_after(commit, &adds)?;
        let authorized = authorize(&self.facts.standing, &effect)?;
        let public = Public {
            gid: self.facts.gid,
            epoch: read.epoch_after()?,
            tree,
            policy: effect.policy_after.clone(),
            confirmation_tag: read.confirmation_tag,
        };
        Ok(Processed {
            outcome: self.follow(&read, public, !authorized.removed.is_empty())?,
            commit_id: CommitId::of(bytes),
            committer: effect.committer,
            authorized,
            justification: effect.justification,
        })
    }

    fn follow(
        &self,
        read: &Read,
        public: Public,
        someone_leaves: bool,
    ) -> Result<Outcome<Self>, CommitError> {
        if read.commit.removes.contains(&self.facts.own_leaf) {
            return Ok(Outcome::Removed(public.into_child()));
        }
        let Some(path_secret) = self.unlock_path(&read.commit) else {
            return Ok(Outcome::Opaque(public.into_child()));
        };
        let state = self.secret_after(&path_secret, &read.body);
        if confirmation_tag(&state) != read.confirmation_tag {
            return Err(CommitError::Invalid);
        }
        let child = self.child(public, state, self.secrets.leaf, someone_leaves);
        Ok(Outcome::Child(child.map_err(|_| CommitError::Damaged)?))
    }

    /// Whether the commit is another member's and made on this very state.
    fn check_origin(&self, read: &Read) -> Result<(), CommitError> {
        if read.commit.epoch != self.facts.epoch {
            return Err(CommitError::WrongEpoch);
        }
        member_at(&self.facts.standing, read.commit.committer).ok_or(CommitError::Invalid)?;
        let tagged = [&read.body[..], &read.confirmation_tag].concat();
        if self.membership_tag(&tagged) != read.membership_tag {
            return Err(CommitError::Invalid);
        }
        let own = read.commit.committer == self.facts.own_leaf;
        if own { Err(CommitError::OwnCommit) } else { Ok(()) }
    }

    fn effect(&self, commit: &wire::Commit, adds: &[KeyPackage]) -> Result<CommitEffect, CommitError> {
        let standing = &self.facts.standing;
        let member = |leaf: u32| member_at(standing, leaf).ok_or(CommitError::Invalid);
        let committer = &member(commit.committer)?.certificate;
        let added = |add: &KeyPackage| {
            let certificate = add.certificate().map_err(|_| CommitError::Certificate)?;
            Ok(AddedLeaf { certificate, key_package_hash: add.hash })
        };
        let removed = |leaf: &u32| Ok(member(*leaf)?.certificate.device);
        Ok(CommitEffect {
            committer: committer.device,
            adds: adds.iter().map(added).collect::<Result<_, CommitError>>()?,
            removes: commit.removes.iter().map(removed).collect::<Result<_, CommitError>>()?,
            policy_after: Policy::decode(&commit.policy).map_err(|_| CommitError::Malformed)?,
            committer_after: Some(committer.clone()),
            justification: commit.justification.clone(),
        })
    }

    fn tree_after(&self, commit: &wire::Commit, adds: &[KeyPackage]) -> Result<Tree, CommitError> {
        let key = Key::try_from(&*commit.leaf_key).map_err(|_| CommitError::Malformed)?;
        let mut tree = Tree(self.facts.standing.roster.clone());
        tree.update(commit.committer, key, &commit.removes)?;
        for add in adds {
            tree.add(add, add.certificate().map_err(|_| CommitError::Certificate)?)?;
        }
        Ok(tree)
    }

    /// Locks the path secret for every leaf that stays, and nonsense for the victims'.
    fn lock_path(&self, commit: &mut wire::Commit, secret: &Key, victims: &[DeviceId]) {
        let stay = self
            .facts
            .standing
            .roster
            .iter()
            .filter(|member| member.leaf != commit.committer && !commit.removes.contains(&member.leaf));
        let path = stay.map(|member| {
            let spited = victims.contains(&member.certificate.device);
            let secret = if spited { &[0; 32] } else { secret };
            let locked = lock(&member.encryption_key, &commit.path_hash, secret);
            wire::Locked { leaf: member.leaf, secret: locked.to_vec() }
        });
        commit.path = path.collect();
    }

    fn unlock_path(&self, commit: &wire::Commit) -> Option<Key> {
        let locked = commit.path.iter().find(|locked| locked.leaf == self.facts.own_leaf)?;
        let locked = Key::try_from(&*locked.secret).ok()?;
        let secret = unlock(&self.secrets.leaf, &commit.path_hash, &locked);
        (hash("path", &[&secret])[..] == commit.path_hash).then_some(secret)
    }

    fn secret_after(&self, path_secret: &Key, body: &[u8]) -> Key {
        hash("child", &[&self.secrets.state, path_secret, body])
    }

    fn membership_tag(&self, tagged: &[u8]) -> Key {
        hash("membership", &[&self.secrets.state, tagged])
    }

    fn child(&self, public: Public, state: Key, leaf: Key, someone_left: bool) -> Result<Self, GroupError> {
        let mut secrets = Secrets { state, leaf, route: self.secrets.route };
        if someone_left {
            secrets.route = secrets.export("route");
        }
        Self::unstored(public, secrets)
    }
}

impl Public {
    fn into_child(self) -> PublicChild {
        let Self { gid, epoch, tree, policy, confirmation_tag } = self;
        PublicChild {
            sid: sid(&gid, epoch, &confirmation_tag),
            standing: Standing { gid, epoch, roster: tree.0, policy },
        }
    }
}

impl From<CommitError> for GroupError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Certificate => Self::Certificate,
            error => Self::mls(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::{
        certificate::Certificate,
        group::{engine::Engine as _, rows::Rows},
    };

    fn identity(number: u8) -> DeviceIdentity {
        let [account, device] = [number, number + 100].map(|key| SigningKey::from_bytes(&[key; 32]));
        let id = DeviceId(device.verifying_key().to_bytes());
        let certificate = Certificate::issue(&account, id, vec![number; 38], [number; 32], 1);
        DeviceIdentity::new(device, certificate)
    }

    #[test]
    fn a_removed_leaf_cannot_derive_the_child_and_the_others_can() {
        let [alice, bob, carol] = [1, 2, 3].map(identity);
        let gid = GroupId([7; 16]);
        let policy = Policy::founding(alice.certificate().account);
        let founder = FakeState::create(&alice, gid, policy.clone()).unwrap();
        let fresh = [&bob, &carol].map(|who| FakeState::fresh_key_package(who).unwrap());
        let adds = fresh.iter().map(|fresh| fresh.bytes.clone()).collect();
        let added = Change { adds, removes: vec![], policy: policy.clone() };
        let added = founder.stage(&alice, &added, vec![], &[], false).unwrap();
        let welcome = added.welcome.unwrap();
        let [bobs, carols] = fresh.map(|fresh| Rows::from_rows(fresh.rows.upserts));
        let bobs = FakeState::join(&bob, gid, bobs, &welcome, [0; 32]).unwrap();
        let carols = FakeState::join(&carol, gid, carols, &welcome, [0; 32]).unwrap();

        let removal = Change { adds: vec![], removes: vec![bob.device()], policy };
        let removal = added.child.stage(&alice, &removal, vec![], &[], false).unwrap();
        let read = Read::of(&gid, &removal.commit).unwrap();
        assert_eq!(bobs.unlock_path(&read.commit), None);
        // Nor with what is locked for someone else.
        let mut renamed = read.commit.clone();
        renamed.path.iter_mut().for_each(|locked| locked.leaf = bobs.facts.own_leaf);
        assert_eq!(bobs.unlock_path(&renamed), None);
        let secret = carols.unlock_path(&read.commit).unwrap();
        assert_eq!(carols.secret_after(&secret, &read.body), removal.child.secrets.state);
    }
}
