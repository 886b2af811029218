//! The group's policy: roles and generations, kept in the GroupContext so that every member holds the same.
//!
//! A pure value with one encoding. Who may change it is decided in [`authorize`](super::authorize).

use prost::Message as _;
use spacepanda_proto::peer::v1 as wire;

use crate::{
    event::MAX_STORED,
    id::{AccountId, InviteId},
    model::Role,
};

/// MLS extension type of the policy (private range, RFC 9420 §17.3).
pub const POLICY_EXTENSION: u16 = 0xF0A0;

/// The protocol version this release speaks.
pub const PROTOCOL_VERSION: u32 = 1;
/// Longest encoding of a policy, bytes.
pub const MAX_POLICY_BYTES: usize = 1 << 20;
/// Most accounts, former members included.
pub const MAX_POLICY_ACCOUNTS: usize = 10_000;
/// Most invites that were ever used.
pub const MAX_POLICY_INVITES: usize = 4096;

/// Why a policy is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// More bytes, accounts or invites than a policy may have.
    #[error("the policy is too large")]
    TooLarge,
    /// Not protobuf, or a field of the wrong size or beyond its limit.
    #[error("the policy is malformed")]
    Malformed,
    /// Members must speak a newer protocol than this release does.
    #[error("the group needs a newer version of this software")]
    Newer,
    /// Not sorted, twice the same, or not the one encoding of its content.
    #[error("the policy is not canonical")]
    NotCanonical,
    /// A role this version does not know.
    #[error("the policy holds an unknown role")]
    UnknownRole,
    /// The account has a role already.
    #[error("the account is a member already")]
    AlreadyMember,
}

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
    /// Bumped by every change of the role by request.
    pub role_changes: u64,
}

/// How often an invite was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyInvite {
    /// Which.
    pub invite: InviteId,
    /// How often.
    pub used: u32,
}

impl Policy {
    /// The policy of a new group.
    pub fn founding(owner: AccountId) -> Self {
        let owner = PolicyAccount::entering(owner, Role::Owner);
        Self { version: PROTOCOL_VERSION, accounts: vec![owner], invites: Vec::new() }
    }

    /// The one encoding of this policy: prost's, which writes fields in order and no defaults.
    pub fn encode(&self) -> Vec<u8> {
        wire::Policy {
            version: self.version,
            accounts: self.accounts.iter().map(PolicyAccount::to_wire).collect(),
            invites: self.invites.iter().map(PolicyInvite::to_wire).collect(),
        }
        .encode_to_vec()
    }

    /// Reads a policy out of a GroupContext.
    ///
    /// # Errors
    /// [`PolicyError`]; the bytes may come from anyone.
    pub fn decode(encoded: &[u8]) -> Result<Self, PolicyError> {
        if encoded.len() > MAX_POLICY_BYTES {
            return Err(PolicyError::TooLarge);
        }
        let policy = wire::Policy::decode(encoded).map_err(|_| PolicyError::Malformed)?;
        // First, as a newer policy may differ in everything below.
        match policy.version {
            0 => return Err(PolicyError::Malformed),
            1..=PROTOCOL_VERSION => {}
            _ => return Err(PolicyError::Newer),
        }
        if policy.accounts.len() > MAX_POLICY_ACCOUNTS || policy.invites.len() > MAX_POLICY_INVITES {
            return Err(PolicyError::TooLarge);
        }
        let policy = Self {
            version: policy.version,
            accounts: policy.accounts.iter().map(PolicyAccount::from_wire).collect::<Result<_, _>>()?,
            invites: policy.invites.iter().map(PolicyInvite::from_wire).collect::<Result<_, _>>()?,
        };
        let sorted = policy.accounts.is_sorted_by(|a, b| a.account < b.account)
            && policy.invites.is_sorted_by(|a, b| a.invite < b.invite);
        if sorted && policy.encode() == encoded { Ok(policy) } else { Err(PolicyError::NotCanonical) }
    }

    /// What a member may do; `None` for everyone else.
    pub fn role_of(&self, account: &AccountId) -> Option<Role> {
        self.standing_of(account)?.role
    }

    /// The account's entry; `None` for one that never was a member.
    pub fn standing_of(&self, account: &AccountId) -> Option<&PolicyAccount> {
        let index = self.account_index(account).ok()?;
        self.accounts.get(index)
    }

    /// Whose group it is: the first of its owners.
    pub fn owner(&self) -> Option<AccountId> {
        self.accounts.iter().find(|entry| entry.role == Some(Role::Owner)).map(|entry| entry.account)
    }

    /// How often an invite was used.
    pub fn uses_of(&self, invite: &InviteId) -> u32 {
        let entry = self.invite_index(invite).ok().and_then(|index| self.invites.get(index));
        entry.map_or(0, |entry| entry.used)
    }

    /// The policy after an account came in by an invite.
    ///
    /// A former member keeps generation and bar.
    ///
    /// # Errors
    /// [`PolicyError::AlreadyMember`]; [`PolicyError::TooLarge`] when the group has seen as many
    /// accounts or invites as a policy holds.
    pub fn with_added(&self, account: AccountId, role: Role, invite: InviteId) -> Result<Self, PolicyError> {
        let mut policy = self.clone();
        match self.account_index(&account) {
            Ok(index) => {
                let entry = policy.accounts.get_mut(index).filter(|entry| entry.role.is_none());
                entry.ok_or(PolicyError::AlreadyMember)?.role = Some(role);
            }
            Err(_) if self.accounts.len() >= MAX_POLICY_ACCOUNTS => return Err(PolicyError::TooLarge),
            Err(index) => policy.accounts.insert(index, PolicyAccount::entering(account, role)),
        }
        policy.count_use(invite)?;
        Ok(policy)
    }

    /// The policy after an account was removed by a commit on the state of `at_epoch`.
    ///
    /// Removed by another, it does not come back with an invite of that epoch or an earlier one. An
    /// account that never was a member changes nothing.
    #[must_use]
    pub fn with_removed(&self, account: &AccountId, at_epoch: u64, by_other: bool) -> Self {
        let mut policy = self.clone();
        let index = self.account_index(account).ok();
        if let Some(entry) = index.and_then(|index| policy.accounts.get_mut(index)) {
            entry.role = None;
            entry.generation = entry.generation.saturating_add(1).min(MAX_STORED);
            if by_other {
                entry.barred_until_epoch = at_epoch.saturating_add(1).min(MAX_STORED);
            }
        }
        policy
    }

    /// The policy after a member's role was changed. Whoever is no member stays none.
    #[must_use]
    pub fn with_role(&self, account: &AccountId, to: Role) -> Self {
        let mut policy = self.clone();
        let index = self.account_index(account).ok();
        let entry = index.and_then(|index| policy.accounts.get_mut(index));
        if let Some(entry) = entry.filter(|entry| entry.role.is_some()) {
            entry.role = Some(to);
            entry.role_changes = entry.role_changes.saturating_add(1).min(MAX_STORED);
        }
        policy
    }

    fn count_use(&mut self, invite: InviteId) -> Result<(), PolicyError> {
        match self.invite_index(&invite) {
            Ok(index) => {
                if let Some(entry) = self.invites.get_mut(index) {
                    entry.used = entry.used.saturating_add(1);
                }
            }
            Err(_) if self.invites.len() >= MAX_POLICY_INVITES => return Err(PolicyError::TooLarge),
            Err(index) => self.invites.insert(index, PolicyInvite { invite, used: 1 }),
        }
        Ok(())
    }

    fn account_index(&self, account: &AccountId) -> Result<usize, usize> {
        self.accounts.binary_search_by_key(account, |entry| entry.account)
    }

    fn invite_index(&self, invite: &InviteId) -> Result<usize, usize> {
        self.invites.binary_search_by_key(invite, |entry| entry.invite)
    }
}

impl PolicyAccount {
    /// An account that never was a member before.
    pub fn entering(account: AccountId, role: Role) -> Self {
        Self { account, role: Some(role), generation: 0, barred_until_epoch: 0, role_changes: 0 }
    }

    fn to_wire(&self) -> wire::PolicyAccount {
        wire::PolicyAccount {
            account: self.account.0.to_vec(),
            role: self.role.map_or(0, |role| role as u32),
            generation: self.generation,
            barred_until_epoch: self.barred_until_epoch,
            role_changes: self.role_changes,
        }
    }

    fn from_wire(entry: &wire::PolicyAccount) -> Result<Self, PolicyError> {
        let largest = entry.generation.max(entry.barred_until_epoch).max(entry.role_changes);
        if largest > MAX_STORED {
            return Err(PolicyError::Malformed);
        }
        let role = match entry.role {
            0 => None,
            number => Some(Role::from_number(number).ok_or(PolicyError::UnknownRole)?),
        };
        Ok(Self {
            account: AccountId::try_from(&*entry.account).map_err(|_| PolicyError::Malformed)?,
            role,
            generation: entry.generation,
            barred_until_epoch: entry.barred_until_epoch,
            role_changes: entry.role_changes,
        })
    }
}

impl PolicyInvite {
    fn to_wire(&self) -> wire::PolicyInvite {
        wire::PolicyInvite { invite_id: self.invite.0.to_vec(), used: self.used }
    }

    fn from_wire(entry: &wire::PolicyInvite) -> Result<Self, PolicyError> {
        let invite = InviteId::try_from(&*entry.invite_id).map_err(|_| PolicyError::Malformed)?;
        // An unused invite has no entry: two encodings of one policy otherwise.
        if entry.used == 0 {
            return Err(PolicyError::NotCanonical);
        }
        Ok(Self { invite, used: entry.used })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWNER: AccountId = AccountId([5; 32]);
    const FIRST: AccountId = AccountId([1; 32]);
    const LAST: AccountId = AccountId([9; 32]);
    const INVITE: InviteId = InviteId([3; 16]);

    fn policy() -> Policy {
        Policy::founding(OWNER)
            .with_added(LAST, Role::Member, INVITE)
            .and_then(|policy| policy.with_added(FIRST, Role::Member, InviteId([2; 16])))
            .unwrap()
    }

    fn refusal(change: impl FnOnce(&mut Policy)) -> Option<PolicyError> {
        let mut policy = policy();
        change(&mut policy);
        Policy::decode(&policy.encode()).err()
    }

    #[test]
    fn a_new_group_has_its_owner() {
        let policy = Policy::founding(OWNER);
        assert_eq!(policy.owner(), Some(OWNER));
        assert_eq!(policy.role_of(&OWNER), Some(Role::Owner));
        assert_eq!(policy.role_of(&FIRST), None);
        assert_eq!(Policy::decode(&policy.encode()), Ok(policy));
    }

    #[test]
    fn added_accounts_are_sorted_and_their_invites_counted() {
        let policy = policy().with_added(AccountId([7; 32]), Role::Member, INVITE).unwrap();
        let order: Vec<_> = policy.accounts.iter().map(|entry| entry.account.0[0]).collect();
        assert_eq!(order, [1, 5, 7, 9]);
        assert_eq!(policy.uses_of(&INVITE), 2);
        assert_eq!(policy.uses_of(&InviteId([2; 16])), 1);
        assert_eq!(policy.uses_of(&InviteId([8; 16])), 0);
        assert_eq!(policy.owner(), Some(OWNER));
        assert_eq!(Policy::decode(&policy.encode()), Ok(policy));
    }

    #[test]
    fn nobody_is_added_twice() {
        let again = policy().with_added(FIRST, Role::Member, INVITE);
        assert_eq!(again, Err(PolicyError::AlreadyMember));
    }

    #[test]
    fn removal_bumps_the_generation_and_bars_only_when_by_another() {
        let removed = policy().with_removed(&FIRST, 7, true);
        let entry = removed.standing_of(&FIRST).unwrap();
        assert_eq!((entry.role, entry.generation, entry.barred_until_epoch), (None, 1, 8));
        assert_eq!(Policy::decode(&removed.encode()), Ok(removed.clone()));

        let back = removed.with_added(FIRST, Role::Member, INVITE).unwrap();
        let left = back.with_removed(&FIRST, 20, false);
        let entry = left.standing_of(&FIRST).unwrap();
        assert_eq!((entry.role, entry.generation, entry.barred_until_epoch), (None, 2, 8));
        assert_eq!(policy().with_removed(&AccountId([8; 32]), 7, true), policy());
    }

    #[test]
    fn changes_of_a_role_are_counted_for_good() {
        let admin = policy().with_role(&FIRST, Role::Admin);
        let entry = admin.standing_of(&FIRST).unwrap();
        assert_eq!((entry.role, entry.role_changes, entry.generation), (Some(Role::Admin), 1, 0));
        assert_eq!(Policy::decode(&admin.encode()), Ok(admin.clone()));

        let gone = admin.with_removed(&FIRST, 7, false);
        assert_eq!(gone.with_role(&FIRST, Role::Owner), gone, "no longer a member");
        let back = gone.with_added(FIRST, Role::Member, INVITE).unwrap();
        let entry = back.standing_of(&FIRST).unwrap();
        assert_eq!((entry.role, entry.role_changes, entry.generation), (Some(Role::Member), 1, 1));
        assert_eq!(policy().with_role(&AccountId([8; 32]), Role::Owner), policy());
    }

    #[test]
    fn a_full_policy_takes_no_more() {
        let mut full = policy();
        full.invites = (0..4096u32)
            .map(|n| {
                let mut id = [0; 16];
                id[..4].copy_from_slice(&n.to_be_bytes());
                PolicyInvite { invite: InviteId(id), used: 1 }
            })
            .collect();
        let someone = AccountId([7; 32]);
        assert_eq!(full.with_added(someone, Role::Member, INVITE), Err(PolicyError::TooLarge));
        assert!(full.with_added(someone, Role::Member, InviteId([0; 16])).is_ok(), "a known invite");

        let mut full = policy();
        full.accounts = (0..10_000u32)
            .map(|n| {
                let mut id = [0; 32];
                id[..4].copy_from_slice(&n.to_be_bytes());
                let entered = PolicyAccount::entering(AccountId(id), Role::Member);
                PolicyAccount { role: None, generation: 1, ..entered }
            })
            .collect();
        assert_eq!(full.with_added(someone, Role::Member, INVITE), Err(PolicyError::TooLarge));
        assert_eq!(Policy::decode(&full.encode()), Ok(full.clone()));
        full.accounts.push(PolicyAccount { account: LAST, ..full.accounts[0].clone() });
        assert_eq!(Policy::decode(&full.encode()), Err(PolicyError::TooLarge));
    }

    #[test]
    fn the_largest_policy_fits() {
        let account = PolicyAccount {
            account: LAST,
            role: None,
            generation: MAX_STORED,
            barred_until_epoch: MAX_STORED,
            role_changes: MAX_STORED,
        };
        let invite = PolicyInvite { invite: INVITE, used: u32::MAX };
        let largest = Policy {
            version: 1,
            accounts: vec![account; MAX_POLICY_ACCOUNTS],
            invites: vec![invite; MAX_POLICY_INVITES],
        };
        assert!(largest.encode().len() <= MAX_POLICY_BYTES);
    }

    #[test]
    fn other_encodings_are_refused() {
        assert_eq!(refusal(|p| p.accounts.reverse()), Some(PolicyError::NotCanonical));
        assert_eq!(refusal(|p| p.accounts[1] = p.accounts[0].clone()), Some(PolicyError::NotCanonical));
        assert_eq!(refusal(|p| p.invites.reverse()), Some(PolicyError::NotCanonical));
        assert_eq!(refusal(|p| p.invites[1] = p.invites[0].clone()), Some(PolicyError::NotCanonical));
        assert_eq!(refusal(|p| p.invites[0].used = 0), Some(PolicyError::NotCanonical));
        assert_eq!(refusal(|p| p.accounts[0].generation = u64::MAX), Some(PolicyError::Malformed));
        assert_eq!(refusal(|p| p.accounts[0].role_changes = u64::MAX), Some(PolicyError::Malformed));
        assert_eq!(refusal(|p| p.version = 0), Some(PolicyError::Malformed));
        assert_eq!(refusal(|p| p.version = 2), Some(PolicyError::Newer));

        let with_unknown_field = [policy().encode(), vec![0x20, 1]].concat();
        assert_eq!(Policy::decode(&with_unknown_field), Err(PolicyError::NotCanonical));
        assert_eq!(Policy::decode(&vec![0; MAX_POLICY_BYTES + 1]), Err(PolicyError::TooLarge));
    }

    #[test]
    fn unknown_roles_are_refused() {
        let mut policy = wire::Policy::decode(&*policy().encode()).unwrap();
        policy.accounts[0].role = 5;
        assert_eq!(Policy::decode(&policy.encode_to_vec()), Err(PolicyError::UnknownRole));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(policy) = Policy::decode(&bytes) {
                prop_assert_eq!(policy.encode(), bytes);
            }
        }

        #[test]
        fn what_is_accepted_has_one_encoding(bit in 0..1200usize) {
            let mut bytes = policy().encode();
            let bit = bit % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(changed) = Policy::decode(&bytes) {
                prop_assert_eq!(changed.encode(), bytes);
                prop_assert_ne!(changed, policy());
            }
        }
    }
}
