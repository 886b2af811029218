//! What a hostile member makes with the library it runs: frames and commits that nobody checked.
//!
//! Only for tests of this crate and its users (feature `testing`); the product never calls it.

mod spiteful;

use openmls::prelude::{LeafNodeIndex, OpenMlsProvider as _, PublicGroup};

use self::spiteful::SpitefulCrypto;
use super::{
    commit::{Change, Committed, Messages},
    engine::Engine,
    error::GroupError,
    frame::{Frame, FrameKind},
    identity::DeviceIdentity,
    process::sid_of_commit,
    state::{GroupState, mls_id},
};
use crate::{
    dag::{Class, Skeleton},
    id::{CommitId, DeviceId},
};

/// A state in the hands of someone who plays foul.
pub trait Hostile: Engine {
    /// Makes a commit without asking whether it is allowed, sealed as a frame; this state stays.
    ///
    /// # Errors
    /// [`GroupError`]
    fn forge_commit(
        &self,
        identity: &DeviceIdentity,
        change: &Change,
        justification: Vec<u8>,
    ) -> Result<Vec<u8>, GroupError>;

    /// Makes a commit whose secret does not open for `victims`, nor for those who share a key of the
    /// ratchet tree with one; nothing else is wrong with it.
    ///
    /// # Errors
    /// [`GroupError`]
    fn commit_against(
        &self,
        identity: &DeviceIdentity,
        change: &Change,
        justification: Vec<u8>,
        victims: &[DeviceId],
    ) -> Result<Committed<Self>, GroupError>;

    /// Seals any body as any kind, in the name of any leaf.
    ///
    /// # Errors
    /// [`GroupError::TooLarge`]
    fn forge_frame(
        &self,
        kind: FrameKind,
        leaf: u32,
        counter: u32,
        body: &[u8],
    ) -> Result<Vec<u8>, GroupError>;

    /// Whether the state's key opens a frame's seal, whatever state the frame names.
    fn key_opens(&self, frame: &Frame) -> bool;
}

impl Hostile for GroupState {
    fn forge_commit(
        &self,
        identity: &DeviceIdentity,
        change: &Change,
        justification: Vec<u8>,
    ) -> Result<Vec<u8>, GroupError> {
        let (mut group, provider) = self.fork()?;
        group.set_aad(justification);
        let Messages { commit, .. } =
            self.stage(identity, change, &mut group, &provider, provider.crypto())?;
        // Its skeleton says what it would be if it were allowed: fresh keys.
        let skeleton = Skeleton {
            parent: self.facts.sid,
            sid: sid_of_commit(&self.facts.gid, &commit).map_err(GroupError::mls)?,
            epoch: self.facts.epoch + 1,
            class: Class::Update,
            committer: identity.device(),
            commit: CommitId::of(&commit),
        };
        let signature = identity.sign(&skeleton.signed_bytes(&self.facts.gid));
        self.forge_frame(FrameKind::Commit, self.facts.own_leaf, 0, &[&commit[..], &signature].concat())
    }

    fn commit_against(
        &self,
        identity: &DeviceIdentity,
        change: &Change,
        justification: Vec<u8>,
        victims: &[DeviceId],
    ) -> Result<Committed<Self>, GroupError> {
        let leaf = |device| self.facts.leaf_of(device).map(LeafNodeIndex::new);
        let victims: Vec<_> = victims.iter().map(leaf).collect::<Result<_, _>>()?;
        let (_, provider) = self.fork()?;
        let public = PublicGroup::load(provider.storage(), &mls_id(&self.facts.gid));
        let public = public.map_err(|_| GroupError::Damaged)?.ok_or(GroupError::Damaged)?;
        let crypto = SpitefulCrypto::towards(&public, &victims)?;
        self.commit_with(&crypto, identity, change, justification)
    }

    fn forge_frame(
        &self,
        kind: FrameKind,
        leaf: u32,
        counter: u32,
        body: &[u8],
    ) -> Result<Vec<u8>, GroupError> {
        self.keys.seal(kind, leaf, counter, body)
    }

    fn key_opens(&self, frame: &Frame) -> bool {
        self.keys.key_opens(frame)
    }
}
