//! Taking in another member's commit: checked against its parent state before anything is merged.

use openmls::prelude::{
    ApplyUpdatePathError, ContentType, GroupId as MlsGroupId, KeyPackageVerifyError, MlsMessageBodyIn,
    MlsMessageIn, OpenMlsProvider as _, ProcessMessageError, ProcessedMessage, ProcessedMessageContent,
    ProposalValidationError, PublicGroup, PublicMessageIn, Sender, StageCommitError, StagedCommit,
    ValidationError,
    tls_codec::{Deserialize as _, Serialize as _},
};
use openmls::treesync::errors::LeafNodeValidationError;

use super::{
    authorize::{Authorized, CommitEffect, authorize},
    commit::MAX_JUSTIFICATION_BYTES,
    effect::{commit_effect, member_at},
    error::CommitError,
    frame::{MAX_BODY_BYTES, state_id},
    overlay::{Provider, RowError},
    state::GroupState,
};
use crate::id::{CommitId, DeviceId, GroupId, StateId};

/// A commit that was checked and merged into a child of its parent.
pub struct Processed {
    /// The state it leads to, all of it to be stored; `None` when it removes this device.
    pub child: Option<GroupState>,
    /// SHA-256 of the commit.
    pub commit_id: CommitId,
    /// Who made it.
    pub committer: DeviceId,
    /// What it does.
    pub authorized: Authorized,
    /// encoded CommitJustification
    pub justification: Vec<u8>,
}

/// The state that a commit leads to, from its bytes alone: nothing is verified.
///
/// # Errors
/// [`CommitError::Malformed`] or [`CommitError::WrongGroup`].
pub fn sid_of_commit(gid: &GroupId, commit: &[u8]) -> Result<StateId, CommitError> {
    let message = read_commit(gid, commit)?;
    let tag = message.confirmation_tag().ok_or(CommitError::Malformed)?;
    let tag = tag.tls_serialize_detached().map_err(|_| CommitError::Malformed)?;
    let epoch = message.epoch().as_u64().checked_add(1).ok_or(CommitError::Malformed)?;
    Ok(state_id(gid, epoch, &tag))
}

/// The leaf that a commit claims to be of, from its bytes alone: nothing is verified.
///
/// # Errors
/// [`CommitError::Malformed`], [`CommitError::WrongGroup`], [`CommitError::Forbidden`] for a sender
/// without a leaf.
pub fn sender_of_commit(gid: &GroupId, commit: &[u8]) -> Result<u32, CommitError> {
    match read_commit(gid, commit)?.sender() {
        Sender::Member(leaf) => Ok(leaf.u32()),
        _ => Err(CommitError::Forbidden),
    }
}

impl GroupState {
    /// Checks a commit made on this state and gives the child state. This state stays as it is.
    ///
    /// # Errors
    /// [`CommitError`]; the bytes may come from anyone.
    pub fn process_commit(&self, commit: &[u8]) -> Result<Processed, CommitError> {
        let message = read_commit(&self.facts.gid, commit)?;
        let committer = self.check_origin(&message)?;
        let (mut group, provider) = self.fork().map_err(|_| CommitError::Damaged)?;
        let processed = group
            .process_message(&provider, message.clone())
            .map_err(|error| self.refusal(&message, &provider, error))?;
        let (staged, effect) = self.staged_effect(processed, committer)?;
        let authorized = authorize(&self.facts.standing, &effect)?;
        let child = if staged.self_removed() {
            None
        } else {
            group.merge_staged_commit(&provider, staged).map_err(|_| CommitError::Invalid)?;
            let child = self.child(group, provider, !effect.removes.is_empty());
            Some(child.map_err(|_| CommitError::Damaged)?)
        };
        Ok(Processed {
            child,
            commit_id: CommitId::of(commit),
            committer: effect.committer,
            authorized,
            justification: effect.justification,
        })
    }

    /// The committer's leaf, if the commit is another member's and of this epoch.
    fn check_origin(&self, message: &PublicMessageIn) -> Result<u32, CommitError> {
        if message.epoch().as_u64() != self.facts.epoch {
            return Err(CommitError::WrongEpoch);
        }
        let Sender::Member(leaf) = message.sender() else { return Err(CommitError::Forbidden) };
        member_at(&self.facts.standing, leaf.u32()).ok_or(CommitError::Invalid)?;
        Ok(leaf.u32())
    }

    fn staged_effect(
        &self,
        processed: ProcessedMessage,
        committer: u32,
    ) -> Result<(StagedCommit, CommitEffect), CommitError> {
        if processed.aad().len() > MAX_JUSTIFICATION_BYTES {
            return Err(CommitError::Malformed);
        }
        let justification = processed.aad().to_vec();
        let ProcessedMessageContent::StagedCommitMessage(staged) = processed.into_content() else {
            return Err(CommitError::Malformed);
        };
        let effect = commit_effect(&self.facts.standing, &staged, committer, justification)?;
        Ok((*staged, effect))
    }

    /// Why openmls refused. A secret that does not open says nothing about the commit itself, so
    /// then everything public about it is judged.
    fn refusal(
        &self,
        message: &PublicMessageIn,
        provider: &Provider,
        error: ProcessMessageError<RowError>,
    ) -> CommitError {
        if !is_path_secret_error(&error) {
            return refusal(error);
        }
        match self.judge_public_part(message, provider) {
            Ok(()) => CommitError::Opaque,
            Err(error) => error,
        }
    }

    fn judge_public_part(&self, message: &PublicMessageIn, provider: &Provider) -> Result<(), CommitError> {
        let committer = self.check_origin(message)?;
        let gid = MlsGroupId::from_slice(self.facts.gid.as_bytes());
        let group = PublicGroup::load(provider.storage(), &gid).ok().flatten().ok_or(CommitError::Damaged)?;
        let processed =
            group.process_message(provider.crypto(), message.clone()).map_err(|_| CommitError::Invalid)?;
        let (_, effect) = self.staged_effect(processed, committer)?;
        authorize(&self.facts.standing, &effect)?;
        Ok(())
    }
}

fn read_commit(gid: &GroupId, bytes: &[u8]) -> Result<PublicMessageIn, CommitError> {
    if bytes.len() > MAX_BODY_BYTES {
        return Err(CommitError::Malformed);
    }
    let message = MlsMessageIn::tls_deserialize_exact(bytes).map_err(|_| CommitError::Malformed)?;
    let MlsMessageBodyIn::PublicMessage(message) = message.extract() else {
        return Err(CommitError::Malformed);
    };
    if message.content_type() != ContentType::Commit {
        return Err(CommitError::Malformed);
    }
    if message.group_id().as_slice() != gid.as_bytes() {
        return Err(CommitError::WrongGroup);
    }
    Ok(message)
}

fn is_path_secret_error(error: &ProcessMessageError<RowError>) -> bool {
    use ApplyUpdatePathError::{MissingCiphertext, PathMismatch, UnableToDecrypt};
    matches!(
        error,
        ProcessMessageError::InvalidCommit(StageCommitError::UpdatePathError(
            UnableToDecrypt | PathMismatch | MissingCiphertext
        ))
    )
}

fn refusal(error: ProcessMessageError<RowError>) -> CommitError {
    use ProcessMessageError as E;
    match error {
        E::ValidationError(ValidationError::WrongGroupId) => CommitError::WrongGroup,
        E::ValidationError(ValidationError::WrongEpoch) => CommitError::WrongEpoch,
        E::InvalidCommit(StageCommitError::OwnCommitMismatch) => CommitError::OwnCommit,
        // No proposal is ever kept, so one by reference is missing.
        E::InvalidCommit(StageCommitError::MissingProposal) => CommitError::Forbidden,
        E::ValidationError(ValidationError::KeyPackageVerifyError(KeyPackageVerifyError::LifetimeError(
            _,
        )))
        | E::InvalidCommit(
            StageCommitError::LeafNodeValidation(LeafNodeValidationError::Lifetime(_))
            | StageCommitError::ProposalValidationError(ProposalValidationError::LeafNodeValidation(
                LeafNodeValidationError::Lifetime(_),
            )),
        ) => CommitError::Lifetime,
        E::StorageError(_) => CommitError::Damaged,
        _ => CommitError::Invalid,
    }
}
