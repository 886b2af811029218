//! Whether a commit may be merged: a pure function of the parent state and what justifies it.
//!
//! The rule exists once, in [`plan()`]: whoever commits asks it what to do, whoever receives asks
//! whether that was done. What a role may do is [`may`](crate::permission::may)'s. It knows no clock
//! (expiry is the admitting server's) and no events beyond the commit's own (so is revocation).

mod justification;
mod newcomers;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

pub use justification::{
    JoinProof, Justification, MAX_JOINS, MAX_JUSTIFICATION_BYTES, MAX_REQUESTS, sign_join,
};
pub(super) use newcomers::Newcomer;
pub use plan::{Plan, plan};

use super::policy::{Policy, PolicyError};
use crate::{
    certificate::Certificate,
    dag::{Class, Roster},
    event::EventError,
    id::{AccountId, DeviceId, EventId, GroupId},
    model::Role,
};

/// Why a commit is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unauthorised {
    /// The committer is not in the roster.
    #[error("the committer is not a member")]
    CommitterUnknown,
    /// The new leaf is of another account or device.
    #[error("the committer's leaf changed its account or device")]
    CommitterChanged,
    /// Nobody removes their own leaf.
    #[error("the commit removes its committer")]
    CommitterRemoved,
    /// Not protobuf, another version, too long, or a field of the wrong size.
    #[error("the justification is malformed")]
    Justification,
    /// An event in the justification is broken.
    #[error("the justification holds a broken event: {0}")]
    Event(#[from] EventError),
    /// More than [`MAX_REQUESTS`] or [`MAX_JOINS`].
    #[error("the commit changes too much at once")]
    TooMany,
    /// An event of another group.
    #[error("the justification is of another group")]
    ForeignGroup,
    /// The author of an event is not in the roster.
    #[error("the author of a justification is not a member")]
    AuthorUnknown,
    /// The author's role does not allow it.
    #[error("the author of a justification may not do that")]
    NotPermitted,
    /// Not a change request.
    #[error("the justification is not a change request")]
    NotARequest,
    /// Not an invite.
    #[error("the justification is not an invite")]
    NotAnInvite,
    /// Asked to let someone else go or rejoin.
    #[error("only the account itself asks for that")]
    NotOwnRequest,
    /// The target never was a member.
    #[error("the target of a request was never a member")]
    TargetUnknown,
    /// The request acts on a generation, role or leaf that has passed.
    #[error("the request is stale")]
    Stale,
    /// The request acts on a generation that is not reached in this state.
    #[error("the request is of a later state")]
    Early,
    /// The last owner leaves, is removed or gets another role.
    #[error("the group would have no owner")]
    LastOwner,
    /// A change of role that changes nothing.
    #[error("the account has that role already")]
    RoleUnchanged,
    /// Whoever rejoins stays the same account and device.
    #[error("the fresh leaf is of another account or device")]
    RejoinChanged,
    /// Something is added, removed or justified twice.
    #[error("the commit does something twice")]
    Duplicate,
    /// A device is removed that nobody asked to remove.
    #[error("a removal is not justified")]
    RemoveUnjustified,
    /// Some devices of a removed account stay.
    #[error("a removal leaves devices of the account")]
    RemovePartial,
    /// A leaf is added without a proof for its KeyPackage.
    #[error("an addition is not justified")]
    AddUnjustified,
    /// A request or proof that the commit does not act on.
    #[error("a justification is not acted on")]
    Unused,
    /// The joiner did not sign with the invite's key.
    #[error("a join proof is wrong")]
    Proof,
    /// The invite admitted as many as it may.
    #[error("the invite is used up")]
    InviteUsedUp,
    /// The account was removed after the invite was made.
    #[error("the account cannot come back with this invite")]
    Barred,
    /// The account or device is in the group already.
    #[error("the joiner is a member already")]
    AlreadyMember,
    /// Nobody makes owners by invite, or grants more than they have.
    #[error("the invite grants a role it must not")]
    RoleNotGranted,
    /// The group has seen as many accounts or invites as a policy holds.
    #[error("the group is full")]
    GroupFull,
    /// The child's policy is not the parent's with these changes.
    #[error("the policy does not follow from the commit")]
    PolicyMismatch,
}

/// A role that a commit changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoleChange {
    /// Whose.
    pub account: AccountId,
    /// What it was.
    pub was: Role,
    /// What it is in the child state.
    pub to: Role,
}

/// What a commit that may be merged does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorized {
    /// What kind of change it is.
    pub class: Class,
    /// The requests it acts on, in the order of its justification.
    pub included: Vec<EventId>,
    /// Devices it removes for good, and whether by their account's own wish.
    pub removed: Vec<(DeviceId, bool)>,
    /// The accounts of `removed`, once each.
    pub removed_accounts: Vec<AccountId>,
    /// Devices it adds.
    pub added: Vec<DeviceId>,
    /// Devices that get a fresh leaf for their old one; neither in `removed` nor in `added`.
    pub rejoined: Vec<DeviceId>,
    /// Roles it changes.
    pub roles: Vec<RoleChange>,
    /// The committer's clock in Unix milliseconds, for display only.
    pub wall_ms: u64,
}

/// A leaf of a state.
#[derive(Clone)]
pub struct RosterMember {
    /// Leaf index in the ratchet tree.
    pub leaf: u32,
    /// The certificate in its credential, checked.
    pub certificate: Certificate,
    /// The leaf's HPKE key (RFC 9420 §7.2): another one after each of its device's commits.
    pub encryption_key: [u8; 32],
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

impl Standing {
    /// The leaf of a device.
    pub fn member(&self, device: &DeviceId) -> Option<&RosterMember> {
        self.roster.iter().find(|member| member.certificate.device == *device)
    }

    /// The devices of an account, in the roster's order.
    pub fn devices_of(&self, account: &AccountId) -> impl Iterator<Item = DeviceId> {
        let of_account = move |member: &&RosterMember| member.certificate.account == *account;
        self.roster.iter().filter(of_account).map(|member| member.certificate.device)
    }

    /// Who is in it, as the choice of the head sees them.
    pub fn members(&self) -> Roster {
        let member = |leaf: &RosterMember| (leaf.certificate.account, leaf.certificate.device);
        self.roster.iter().map(member).collect()
    }

    /// What a device may do, through its account.
    pub fn role_of_device(&self, device: &DeviceId) -> Option<Role> {
        self.policy.role_of(&self.member(device)?.certificate.account)
    }
}

/// Checks a commit before it is merged. Any member may have made it; one that asks for nothing and adds
/// nobody changes only its committer's keys.
///
/// # Errors
/// [`Unauthorised`], the first reason found.
pub fn authorize(parent: &Standing, effect: &CommitEffect) -> Result<Authorized, Unauthorised> {
    check_committer(parent, effect)?;
    let justification = Justification::decode(&effect.justification)?;
    let plan = plan(parent, &effect.committer, &effect.adds, &justification)?;
    check_removes(parent, &plan, &effect.removes)?;
    if plan.policy != effect.policy_after {
        return Err(Unauthorised::PolicyMismatch);
    }
    Ok(Authorized {
        class: plan.class(),
        included: justification.requests.iter().map(|request| request.id).collect(),
        removed: plan
            .removes
            .iter()
            .filter(|device| !plan.rejoined.contains(device))
            .map(|device| (*device, plan.left.contains(device)))
            .collect(),
        removed_accounts: plan.removed_accounts,
        added: plan.added,
        rejoined: plan.rejoined,
        roles: plan.roles,
        wall_ms: justification.wall_ms,
    })
}

/// openmls lets the update path bring any credential; ours stays with its account and device.
fn check_committer(parent: &Standing, effect: &CommitEffect) -> Result<(), Unauthorised> {
    let before = &parent.member(&effect.committer).ok_or(Unauthorised::CommitterUnknown)?.certificate;
    match &effect.committer_after {
        Some(after) if after.account != before.account || after.device != before.device => {
            Err(Unauthorised::CommitterChanged)
        }
        _ => Ok(()),
    }
}

/// The devices removed are exactly the planned ones.
fn check_removes(parent: &Standing, plan: &Plan, removes: &[DeviceId]) -> Result<(), Unauthorised> {
    let planned: HashSet<_> = plan.removes.iter().collect();
    let removed: HashSet<_> = removes.iter().collect();
    if removed.len() != removes.len() {
        return Err(Unauthorised::Duplicate);
    }
    if !removed.is_subset(&planned) {
        return Err(Unauthorised::RemoveUnjustified);
    }
    let Some(spared) = plan.removes.iter().find(|device| !removed.contains(device)) else {
        return Ok(());
    };
    let account = parent.member(spared).map(|member| member.certificate.account);
    let siblings_go =
        account.is_some_and(|account| parent.devices_of(&account).any(|d| removed.contains(&d)));
    Err(if siblings_go { Unauthorised::RemovePartial } else { Unauthorised::Unused })
}

impl From<PolicyError> for Unauthorised {
    fn from(error: PolicyError) -> Self {
        match error {
            PolicyError::TooLarge => Self::GroupFull,
            PolicyError::AlreadyMember => Self::AlreadyMember,
            PolicyError::Malformed
            | PolicyError::Newer
            | PolicyError::NotCanonical
            | PolicyError::UnknownRole => Self::PolicyMismatch,
        }
    }
}
