//! Making a commit: the child state, and the bytes that take every other member there.

use openmls::prelude::{
    KeyPackage, LeafNodeIndex, MlsGroup, OpenMlsProvider as _, tls_codec::Serialize as _,
};
use openmls_rust_crypto::RustCrypto;
use openmls_traits::crypto::OpenMlsCrypto;

use super::{
    authorize::{Authorized, authorize},
    effect::commit_effect,
    error::{CommitError, GroupError},
    frame::FrameKind,
    identity::DeviceIdentity,
    key_package::read_key_package,
    overlay::Provider,
    policy::Policy,
    state::{GroupState, StateFacts, context_extensions},
};
use crate::{
    dag::{Class, Skeleton},
    id::{CommitId, DeviceId},
};

pub use super::authorize::MAX_JUSTIFICATION_BYTES;

/// What a commit is to change; the committer's own keys always change.
#[derive(Clone)]
pub struct Change {
    /// tls(KeyPackage) of devices to add.
    pub adds: Vec<Vec<u8>>,
    /// Devices to remove.
    pub removes: Vec<DeviceId>,
    /// The policy after it.
    pub policy: Policy,
}

/// A commit made here. To be stored with its child before anyone hears of it.
pub struct Committed<S = GroupState> {
    /// The state it leads to, all of it to be stored.
    pub child: S,
    /// MLSMessage(PublicMessage(Commit))
    pub commit: Vec<u8>,
    /// SHA-256 of the commit.
    pub commit_id: CommitId,
    /// Who made it: this device.
    pub committer: DeviceId,
    /// The commit and the signature of its skeleton, sealed with the parent's key.
    pub frame: Vec<u8>,
    /// MLSMessage(Welcome) for those it adds.
    pub welcome: Option<Vec<u8>>,
    /// What it does.
    pub authorized: Authorized,
}

pub(super) struct Messages {
    pub(super) commit: Vec<u8>,
    pub(super) welcome: Option<Vec<u8>>,
}

/// What a frame holds of a commit: its bytes, and the committer's signature of its skeleton.
pub(super) fn signed_commit(
    identity: &DeviceIdentity,
    parent: &StateFacts,
    child: &StateFacts,
    class: Class,
    commit: &[u8],
) -> Vec<u8> {
    let skeleton = Skeleton {
        parent: parent.sid,
        sid: child.sid,
        epoch: child.epoch,
        class,
        committer: identity.device(),
        commit: CommitId::of(commit),
    };
    [commit, &identity.sign(&skeleton.signed_bytes(&parent.gid))].concat()
}

impl GroupState {
    /// Commits a change. This state stays as it is.
    ///
    /// # Errors
    /// [`GroupError::Unauthorised`] when other members would refuse it.
    pub fn commit(
        &self,
        identity: &DeviceIdentity,
        change: Change,
        justification: Vec<u8>,
    ) -> Result<Committed, GroupError> {
        self.commit_with(&RustCrypto::default(), identity, &change, justification)
    }

    pub(super) fn commit_with(
        &self,
        crypto: &impl OpenMlsCrypto,
        identity: &DeviceIdentity,
        change: &Change,
        justification: Vec<u8>,
    ) -> Result<Committed, GroupError> {
        if justification.len() > MAX_JUSTIFICATION_BYTES {
            return Err(GroupError::TooLarge);
        }
        let (mut group, provider) = self.fork()?;
        group.set_aad(justification.clone());
        let messages = self.stage(identity, change, &mut group, &provider, crypto)?;
        let authorized = self.authorize_own(&group, justification)?;
        group.merge_pending_commit(&provider).map_err(GroupError::mls)?;
        let child = self.child(group, provider, !authorized.removed.is_empty())?;
        let commit_id = CommitId::of(&messages.commit);
        let body = signed_commit(identity, &self.facts, &child.facts, authorized.class, &messages.commit);
        let frame = self.keys.seal(FrameKind::Commit, self.facts.own_leaf, 0, &body)?;
        Ok(Committed {
            child,
            commit_id,
            committer: identity.device(),
            commit: messages.commit,
            frame,
            welcome: messages.welcome,
            authorized,
        })
    }

    pub(super) fn stage(
        &self,
        identity: &DeviceIdentity,
        change: &Change,
        group: &mut MlsGroup,
        provider: &Provider,
        crypto: &impl OpenMlsCrypto,
    ) -> Result<Messages, GroupError> {
        let adds: Vec<KeyPackage> =
            change.adds.iter().map(|bytes| read_key_package(bytes)).collect::<Result<_, _>>()?;
        let leaf = |device| self.facts.leaf_of(device).map(LeafNodeIndex::new);
        let removes: Vec<_> = change.removes.iter().map(leaf).collect::<Result<_, _>>()?;
        let mut builder =
            group.commit_builder().force_self_update(true).propose_removals(removes).propose_adds(adds);
        if change.policy != self.facts.standing.policy {
            let extensions = context_extensions(&change.policy)?;
            builder = builder.propose_group_context_extensions(extensions).map_err(GroupError::mls)?;
        }
        let bundle = builder
            .load_psks(provider.storage())
            .map_err(GroupError::mls)?
            // Nobody joins by GroupInfo; the Welcome makes its own.
            .create_group_info(false)
            .build(provider.rand(), crypto, identity, |_| true)
            .map_err(GroupError::mls)?
            .stage_commit(provider)
            .map_err(GroupError::mls)?;
        let (commit, welcome, _) = bundle.into_messages();
        let encode = |message: &openmls::prelude::MlsMessageOut| {
            message.tls_serialize_detached().map_err(GroupError::mls)
        };
        Ok(Messages { commit: encode(&commit)?, welcome: welcome.as_ref().map(encode).transpose()? })
    }

    /// Never produce what others refuse.
    fn authorize_own(&self, group: &MlsGroup, justification: Vec<u8>) -> Result<Authorized, GroupError> {
        let standing = &self.facts.standing;
        let staged = group.pending_commit().ok_or(GroupError::Damaged)?;
        let effect = commit_effect(standing, staged, self.facts.own_leaf, justification);
        let effect = effect.map_err(|error| match error {
            CommitError::Certificate => GroupError::Certificate,
            error => GroupError::mls(error),
        })?;
        Ok(authorize(standing, &effect)?)
    }
}
