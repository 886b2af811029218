//! Taking in another member's commit: checked against its parent state before anything is merged.

use openmls::prelude::{
    ApplyUpdatePathError, ContentType, KeyPackageVerifyError, MlsGroup, MlsMessageBodyIn, MlsMessageIn,
    OpenMlsProvider as _, ProcessMessageError, ProcessedMessage, ProcessedMessageContent,
    ProposalValidationError, PublicGroup, PublicMessageIn, Sender, StageCommitError, StagedCommit,
    ValidationError,
    tls_codec::{Deserialize as _, Serialize as _},
};
use openmls::treesync::errors::LeafNodeValidationError;

use super::{
    authorize::{Authorized, CommitEffect, Standing, authorize},
    commit::MAX_JUSTIFICATION_BYTES,
    effect::{commit_effect, member_at},
    engine::{Outcome, PublicChild},
    error::CommitError,
    frame::{MAX_BODY_BYTES, state_id},
    overlay::{Provider, RowError},
    state::{GroupState, context_policy, mls_id, roster},
};
use crate::id::{CommitId, DeviceId, GroupId, StateId};

/// A commit that was checked and, where its secret opened, merged into a child of its parent.
pub struct Processed<S = GroupState> {
    /// Where it leads.
    pub outcome: Outcome<S>,
    /// SHA-256 of the commit.
    pub commit_id: CommitId,
    /// Who made it.
    pub committer: DeviceId,
    /// What it does.
    pub authorized: Authorized,
    /// encoded CommitJustification
    pub justification: Vec<u8>,
}

impl<S> Processed<S> {
    /// The state it leads to, unless this device has no part in it or cannot enter it.
    pub fn child(self) -> Option<S> {
        match self.outcome {
            Outcome::Child(child) => Some(child),
            Outcome::Removed(_) | Outcome::Opaque(_) => None,
        }
    }
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
    /// Checks a commit made on this state and says where it leads. This state stays as it is.
    ///
    /// # Errors
    /// [`CommitError`]; the bytes may come from anyone.
    pub fn process_commit(&self, commit: &[u8]) -> Result<Processed, CommitError> {
        let message = read_commit(&self.facts.gid, commit)?;
        let committer = self.check_origin(&message)?;
        let (group, provider) = self.fork().map_err(|_| CommitError::Damaged)?;
        let (outcome, effect, authorized) = self.follow(group, provider, message, committer)?;
        Ok(Processed {
            outcome,
            commit_id: CommitId::of(commit),
            committer: effect.committer,
            authorized,
            justification: effect.justification,
        })
    }

    fn follow(
        &self,
        mut group: MlsGroup,
        provider: Provider,
        message: PublicMessageIn,
        committer: u32,
    ) -> Result<(Outcome<Self>, CommitEffect, Authorized), CommitError> {
        let processed = match group.process_message(&provider, message.clone()) {
            Ok(processed) => processed,
            // A secret that does not open says nothing about the commit itself: then everything public
            // about it is judged.
            Err(error) if is_path_secret_error(&error) => {
                let (child, effect, authorized) = self.follow_in_public(&provider, message, committer)?;
                return Ok((Outcome::Opaque(child), effect, authorized));
            }
            Err(error) => return Err(refusal(error)),
        };
        let (staged, effect) = self.staged_effect(processed, committer)?;
        let authorized = authorize(&self.facts.standing, &effect)?;
        if staged.self_removed() {
            // openmls leaves the child out of sight of those it removes.
            let (child, effect, authorized) = self.follow_in_public(&provider, message, committer)?;
            return Ok((Outcome::Removed(child), effect, authorized));
        }
        group.merge_staged_commit(&provider, staged).map_err(|_| CommitError::Invalid)?;
        let child = self.child(group, provider, !authorized.removed.is_empty());
        Ok((Outcome::Child(child.map_err(|_| CommitError::Damaged)?), effect, authorized))
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

    /// Follows a commit as someone would who knows the public part of this state and no secret. The
    /// rows of `provider` become the child's and are good for nothing else afterwards.
    fn follow_in_public(
        &self,
        provider: &Provider,
        message: PublicMessageIn,
        committer: u32,
    ) -> Result<(PublicChild, CommitEffect, Authorized), CommitError> {
        let gid = self.facts.gid;
        let id = mls_id(&gid);
        let mut group =
            PublicGroup::load(provider.storage(), &id).ok().flatten().ok_or(CommitError::Damaged)?;
        let processed =
            group.process_message(provider.crypto(), message).map_err(|_| CommitError::Invalid)?;
        let (staged, effect) = self.staged_effect(processed, committer)?;
        let authorized = authorize(&self.facts.standing, &effect)?;
        group.merge_commit(provider.storage(), staged).map_err(|_| CommitError::Damaged)?;

        let context = group.group_context();
        let epoch = context.epoch().as_u64();
        let tag = group.confirmation_tag().tls_serialize_detached().map_err(|_| CommitError::Damaged)?;
        let standing = Standing {
            gid,
            epoch,
            roster: roster(group.members(), &self.facts.standing.roster)
                .map_err(|_| CommitError::Certificate)?,
            policy: context_policy(context.extensions()).map_err(|_| CommitError::Forbidden)?,
        };
        Ok((PublicChild { sid: state_id(&gid, epoch, &tag), standing }, effect, authorized))
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
