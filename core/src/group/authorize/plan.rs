//! What a set of requests and joins does to a state: the one rule of membership.
//!
//! In this release only the owner commits, removes and invites; everyone may leave.

use std::collections::HashSet;

use super::{
    super::policy::Policy, AddedLeaf, Class, JoinProof, MAX_JOINS, MAX_REQUESTS, RosterMember, Standing,
    Unauthorised,
};
use crate::{
    event::{Body, ChangeKind, SignedEvent},
    id::{AccountId, DeviceId},
    model::Role,
};

/// What a commit must do, no more and no less, besides adding the leaves it was planned with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Devices to remove: all of each account that goes.
    pub removes: Vec<DeviceId>,
    /// Those of `removes` that go by their account's own wish.
    pub left: Vec<DeviceId>,
    /// The accounts that go, once each.
    pub removed_accounts: Vec<AccountId>,
    /// Devices that come.
    pub added: Vec<DeviceId>,
    /// The policy of the child state.
    pub policy: Policy,
}

/// Applies requests and joins to a state.
///
/// # Errors
/// [`Unauthorised`] for the first one that may not be acted on.
pub fn plan(
    parent: &Standing,
    committer: &DeviceId,
    adds: &[(AddedLeaf, JoinProof)],
    requests: &[SignedEvent],
) -> Result<Plan, Unauthorised> {
    if adds.len() > MAX_JOINS || requests.len() > MAX_REQUESTS {
        return Err(Unauthorised::TooMany);
    }
    let member = parent.member(committer).ok_or(Unauthorised::CommitterUnknown)?;
    if parent.role_of_device(committer) != Some(Role::Owner) {
        return Err(Unauthorised::CommitterNotOwner);
    }
    let mut plan = Plan::unchanged(parent);
    for request in requests {
        plan.remove(parent, &member.certificate.account, request)?;
    }
    let mut devices = HashSet::new();
    for (leaf, proof) in adds {
        if !devices.insert(leaf.certificate.device) {
            return Err(Unauthorised::Duplicate);
        }
        plan.add(parent, leaf, proof)?;
    }
    Ok(plan)
}

impl Plan {
    pub(super) fn unchanged(parent: &Standing) -> Self {
        Self {
            removes: Vec::new(),
            left: Vec::new(),
            removed_accounts: Vec::new(),
            added: Vec::new(),
            policy: parent.policy.clone(),
        }
    }

    /// What kind of change it is.
    pub fn class(&self) -> Class {
        if !self.removed_accounts.is_empty() {
            Class::Removal
        } else if !self.added.is_empty() {
            Class::Change
        } else {
            Class::Update
        }
    }

    fn remove(
        &mut self,
        parent: &Standing,
        committer: &AccountId,
        request: &SignedEvent,
    ) -> Result<(), Unauthorised> {
        let author = author(parent, request)?;
        let Body::ChangeRequest { kind, target, generation } = &request.event.body else {
            return Err(Unauthorised::NotARequest);
        };
        let devices: Vec<_> = parent.devices_of(target).collect();
        if devices.iter().any(|device| self.removes.contains(device)) {
            return Err(Unauthorised::Duplicate);
        }
        let standing = parent.policy.standing_of(target).ok_or(Unauthorised::TargetUnknown)?;
        // A former member has a newer generation than any request that was signed before.
        if standing.generation != *generation || standing.role.is_none() || devices.is_empty() {
            return Err(Unauthorised::Stale);
        }
        match kind {
            ChangeKind::Leave if author.certificate.account != *target => {
                return Err(Unauthorised::NotOwnLeave);
            }
            ChangeKind::Remove if standing.role == Some(Role::Owner) => {
                return Err(Unauthorised::OwnerRemoved);
            }
            ChangeKind::Remove => require_owner(parent, author)?,
            ChangeKind::Leave => {}
        }
        if target == committer {
            return Err(Unauthorised::CommitterRemoved);
        }
        let by_other = *kind == ChangeKind::Remove;
        self.policy = self.policy.with_removed(target, parent.epoch, by_other);
        if !by_other {
            self.left.extend(&devices);
        }
        self.removes.extend(devices);
        self.removed_accounts.push(*target);
        Ok(())
    }

    fn add(&mut self, parent: &Standing, leaf: &AddedLeaf, proof: &JoinProof) -> Result<(), Unauthorised> {
        let inviter = author(parent, &proof.invite)?;
        let Body::Invite { invite, role, max_uses, epoch, .. } = &proof.invite.event.body else {
            return Err(Unauthorised::NotAnInvite);
        };
        require_owner(parent, inviter)?;
        proof.verify(&parent.gid)?;
        if proof.key_package_hash != leaf.key_package_hash {
            return Err(Unauthorised::AddUnjustified);
        }
        if *role != Role::Member {
            return Err(Unauthorised::RoleNotGranted);
        }
        let account = leaf.certificate.account;
        if parent.member(&leaf.certificate.device).is_some() || parent.devices_of(&account).next().is_some() {
            return Err(Unauthorised::AlreadyMember);
        }
        let barred_until = self.policy.standing_of(&account).map_or(0, |entry| entry.barred_until_epoch);
        if *epoch < barred_until {
            return Err(Unauthorised::Barred);
        }
        // Uses earlier in this commit are in `self.policy` already.
        if self.policy.uses_of(invite) >= *max_uses {
            return Err(Unauthorised::InviteUsedUp);
        }
        self.policy = self.policy.with_added(account, *role, *invite)?;
        self.added.push(leaf.certificate.device);
        Ok(())
    }
}

/// The member who signed an event of this group.
fn author<'a>(parent: &'a Standing, signed: &SignedEvent) -> Result<&'a RosterMember, Unauthorised> {
    if signed.event.gid != parent.gid {
        return Err(Unauthorised::ForeignGroup);
    }
    parent.member(&signed.event.author).ok_or(Unauthorised::AuthorUnknown)
}

fn require_owner(parent: &Standing, member: &RosterMember) -> Result<(), Unauthorised> {
    match parent.policy.role_of(&member.certificate.account) {
        Some(Role::Owner) => Ok(()),
        _ => Err(Unauthorised::AuthorNotOwner),
    }
}
