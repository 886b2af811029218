//! The group's policy: roles and generations, kept in the GroupContext so that every member holds the same.

use prost::Message as _;
use spacepanda_proto::peer::v1 as wire;

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

/// Why bytes are not a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not protobuf, a field of the wrong size, or not in canonical order.
    #[error("the policy is malformed")]
    Malformed,
}

impl Policy {
    /// The canonical encoding.
    pub fn encode(&self) -> Vec<u8> {
        let accounts = self.accounts.iter().map(|a| wire::PolicyAccount {
            account: a.account.0.to_vec(),
            role: a.role.map_or(0, |role| role as u32),
            generation: a.generation,
            barred_until_epoch: a.barred_until_epoch,
        });
        let invites =
            self.invites.iter().map(|i| wire::PolicyInvite { invite_id: i.invite.0.to_vec(), used: i.used });
        wire::Policy { version: self.version, accounts: accounts.collect(), invites: invites.collect() }
            .encode_to_vec()
    }

    /// Reads a policy.
    ///
    /// # Errors
    /// [`PolicyError`]; the bytes may come from anyone.
    pub fn decode(bytes: &[u8]) -> Result<Self, PolicyError> {
        let policy = wire::Policy::decode(bytes).map_err(|_| PolicyError::Malformed)?;
        let account = |a: wire::PolicyAccount| {
            Ok(PolicyAccount {
                account: AccountId::try_from(&*a.account).map_err(|_| PolicyError::Malformed)?,
                role: match a.role {
                    0 => None,
                    1 => Some(Role::Owner),
                    4 => Some(Role::Member),
                    _ => return Err(PolicyError::Malformed),
                },
                generation: a.generation,
                barred_until_epoch: a.barred_until_epoch,
            })
        };
        let invite = |i: wire::PolicyInvite| {
            let invite = InviteId::try_from(&*i.invite_id).map_err(|_| PolicyError::Malformed)?;
            Ok(PolicyInvite { invite, used: i.used })
        };
        Ok(Self {
            version: policy.version,
            accounts: policy.accounts.into_iter().map(account).collect::<Result<_, _>>()?,
            invites: policy.invites.into_iter().map(invite).collect::<Result<_, _>>()?,
        })
    }
}
