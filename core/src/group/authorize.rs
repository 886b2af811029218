//! Whether a commit may be merged: a pure function of the parent state and what justifies it.

use super::policy::Policy;
use crate::{
    certificate::Certificate,
    id::{DeviceId, GroupId},
};

/// A leaf of a state.
#[derive(Clone)]
pub struct RosterMember {
    /// Leaf index in the ratchet tree.
    pub leaf: u32,
    /// The certificate in its credential, checked.
    pub certificate: Certificate,
}

/// A state, as far as authorisation is concerned.
#[derive(Clone)]
pub struct Standing {
    /// The group.
    pub gid: GroupId,
    /// Its epoch.
    pub epoch: u64,
    /// All leaves.
    pub roster: Vec<RosterMember>,
    /// The policy in its GroupContext.
    pub policy: Policy,
}

/// A leaf that a commit adds.
#[derive(Clone)]
pub struct AddedLeaf {
    /// The certificate in its credential, checked.
    pub certificate: Certificate,
    /// SHA-256 of tls(KeyPackage).
    pub key_package_hash: [u8; 32],
}

/// What a commit does, read from its proposals.
#[derive(Clone)]
pub struct CommitEffect {
    /// The committer's device, by its leaf in the parent.
    pub committer: DeviceId,
    /// Leaves it adds.
    pub adds: Vec<AddedLeaf>,
    /// Devices it removes.
    pub removes: Vec<DeviceId>,
    /// The policy of the child state.
    pub policy_after: Policy,
    /// The committer's certificate in the child state (its update-path leaf).
    pub committer_after: Option<Certificate>,
    /// encoded CommitJustification: the commit's authenticated_data.
    pub justification: Vec<u8>,
}

/// What an authorised commit does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorized {
    /// Devices removed, and whether each left by its own wish.
    pub removed: Vec<(DeviceId, bool)>,
    /// Devices added.
    pub added: Vec<DeviceId>,
}

/// Why a commit is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unauthorised {
    /// The committer is no owner.
    #[error("the committer may not commit")]
    Committer,
}

/// Whether the commit may be merged.
///
/// # Errors
/// [`Unauthorised`].
pub fn authorize(parent: &Standing, effect: &CommitEffect) -> Result<Authorized, Unauthorised> {
    let member = parent.roster.iter().find(|m| m.certificate.device == effect.committer);
    let account = member.ok_or(Unauthorised::Committer)?.certificate.account;
    let owner =
        |a: &super::policy::PolicyAccount| a.account == account && a.role == Some(crate::model::Role::Owner);
    if !parent.policy.accounts.iter().any(owner) {
        return Err(Unauthorised::Committer);
    }
    Ok(Authorized {
        removed: effect.removes.iter().map(|device| (*device, false)).collect(),
        added: effect.adds.iter().map(|add| add.certificate.device).collect(),
    })
}
