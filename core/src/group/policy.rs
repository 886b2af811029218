//! The group's policy: roles and generations, kept in the GroupContext so that every member holds the same.

use crate::{
    id::{AccountId, InviteId},
    model::Role,
};

/// MLS extension type of the policy (private range, RFC 9420 §17.3).
pub const POLICY_EXTENSION: u16 = 0xF0A0;

/// Who may do what, and how often an invite was used. Pure value; encoding is canonical (sorted).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Lowest protocol version a member must speak.
    pub version: u32,
    /// Sorted by account; former members stay, with no role.
    pub accounts: Vec<PolicyAccount>,
    /// Sorted by invite.
    pub invites: Vec<PolicyInvite>,
}

/// An account's standing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyAccount {
    /// Who.
    pub account: AccountId,
    /// `None` for a former member.
    pub role: Option<Role>,
    /// Bumped by every removal.
    pub generation: u64,
    /// Invites made before this epoch do not admit the account.
    pub barred_until_epoch: u64,
}

/// How often an invite was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyInvite {
    /// Which.
    pub invite: InviteId,
    /// How often.
    pub used: u32,
}
