//! What a staged commit does, read from its proposals, and the refusal of everything that no commit
//! may do. Whether the committer may do it is `authorize`'s question.

use openmls::prelude::{
    LeafNode, Proposal, ProposalOrRefType, QueuedProposal, Sender, StagedCommit, tls_codec::Serialize as _,
};
use sha2::{Digest as _, Sha256};

use super::{
    authorize::{AddedLeaf, CommitEffect, RosterMember, Standing, Unauthorised},
    error::{CommitError, GroupError},
    identity::leaf_certificate,
    policy::PolicyError,
    state::context_policy,
};
use crate::{certificate::Certificate, id::DeviceId, model::Role};

/// Reads a commit's effect on `parent`.
pub(super) fn commit_effect(
    parent: &Standing,
    staged: &StagedCommit,
    committer: u32,
    justification: Vec<u8>,
) -> Result<CommitEffect, CommitError> {
    let committer = member_at(parent, committer).ok_or(CommitError::Forbidden)?;
    let policy_after = context_policy(staged.group_context().extensions());
    let policy_after = policy_after.map_err(|error| refused_context(parent, committer, error))?;
    let mut effect = CommitEffect {
        committer: committer.certificate.device,
        adds: Vec::new(),
        removes: Vec::new(),
        policy_after,
        committer_after: path_certificate(staged, &committer.certificate)?,
        justification,
    };
    for queued in staged.queued_proposals() {
        require_inline_by(queued, committer.leaf)?;
        match queued.proposal() {
            Proposal::Add(add) => {
                let key_package = add.key_package();
                let bytes = key_package.tls_serialize_detached().map_err(|_| CommitError::Malformed)?;
                effect.adds.push(AddedLeaf {
                    certificate: certificate(key_package.leaf_node())?,
                    key_package_hash: Sha256::digest(&bytes).into(),
                });
            }
            Proposal::Remove(remove) => {
                effect.removes.push(device_at(parent, remove.removed().u32())?);
            }
            // Its result is `policy_after`, and nothing else of the context may differ.
            Proposal::GroupContextExtensions(_) => {}
            _ => return Err(CommitError::Forbidden),
        }
    }
    Ok(effect)
}

/// The member at a leaf.
pub(super) fn member_at(standing: &Standing, leaf: u32) -> Option<&RosterMember> {
    // The roster is in the order of the tree.
    let at = standing.roster.binary_search_by_key(&leaf, |member| member.leaf).ok()?;
    standing.roster.get(at)
}

fn device_at(standing: &Standing, leaf: u32) -> Result<DeviceId, CommitError> {
    Ok(member_at(standing, leaf).ok_or(CommitError::Invalid)?.certificate.device)
}

fn require_inline_by(queued: &QueuedProposal, committer: u32) -> Result<(), CommitError> {
    let by_committer = matches!(queued.sender(), Sender::Member(leaf) if leaf.u32() == committer);
    let inline = queued.proposal_or_ref_type() == ProposalOrRefType::Proposal;
    (inline && by_committer).then_some(()).ok_or(CommitError::Forbidden)
}

/// openmls lets an update path change the credential and the signature key: account and device stay.
fn path_certificate(staged: &StagedCommit, before: &Certificate) -> Result<Option<Certificate>, CommitError> {
    let Some(leaf) = staged.update_path_leaf_node() else { return Ok(None) };
    let after = certificate(leaf)?;
    let same = after.account == before.account && after.device == before.device;
    same.then_some(Some(after)).ok_or(CommitError::Certificate)
}

fn certificate(leaf: &LeafNode) -> Result<Certificate, CommitError> {
    leaf_certificate(leaf.credential(), leaf.signature_key().as_slice()).map_err(|_| CommitError::Certificate)
}

fn refused_context(parent: &Standing, committer: &RosterMember, error: GroupError) -> CommitError {
    match error {
        // Nothing more of it can be judged than who made it, by the rules of the parent.
        GroupError::Policy(PolicyError::Newer) => {
            match parent.policy.role_of(&committer.certificate.account) {
                Some(Role::Owner) => CommitError::Newer,
                _ => Unauthorised::NotPermitted.into(),
            }
        }
        GroupError::Policy(_) => CommitError::Malformed,
        _ => CommitError::Forbidden,
    }
}
