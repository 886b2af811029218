//! What a set of requests and joins does to a state: the one rule of membership.
//!
//! Any member may commit. What counts is who asked: each request and each invite is signed, and its
//! author is judged by the role that its account has in the parent state. Requests are applied in order;
//! one that does not go with those before it is refused.

use std::collections::HashSet;

use super::{
    super::policy::{Policy, PolicyAccount},
    AddedLeaf, JoinProof, Justification, MAX_JOINS, MAX_REQUESTS, RoleChange, RosterMember, Standing,
    Unauthorised,
    newcomers::{Newcomer, Newcomers},
};
use crate::{
    dag::Class,
    event::{Body, ChangeKind, SignedEvent},
    id::{AccountId, DeviceId},
    model::Role,
    mutant::{self, Mutant},
    permission::{Action, may},
};

/// What a commit must do, no more and no less, besides adding the leaves it was planned with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Devices whose leaves go: all of each account that goes, and the old ones of those who rejoin.
    pub removes: Vec<DeviceId>,
    /// Those of `removes` that go by their account's own wish.
    pub left: Vec<DeviceId>,
    /// The accounts that go, once each.
    pub removed_accounts: Vec<AccountId>,
    /// Devices that come.
    pub added: Vec<DeviceId>,
    /// Devices that get a fresh leaf for their old one.
    pub rejoined: Vec<DeviceId>,
    /// Roles that change.
    pub roles: Vec<RoleChange>,
    /// The policy of the child state.
    pub policy: Policy,
}

/// Applies what justifies a commit to its parent state. `adds` are the leaves that it adds, of newcomers
/// and of those who rejoin.
///
/// # Errors
/// [`Unauthorised`] for the first piece that may not be acted on.
pub fn plan(
    parent: &Standing,
    committer: &DeviceId,
    adds: &[AddedLeaf],
    reasons: &Justification,
) -> Result<Plan, Unauthorised> {
    if reasons.joins.len() > MAX_JOINS || reasons.requests.len() > MAX_REQUESTS {
        return Err(Unauthorised::TooMany);
    }
    let committer = parent.member(committer).ok_or(Unauthorised::CommitterUnknown)?;
    let mut newcomers = Newcomers::pair(adds, reasons)?;
    let mut plan = Plan::unchanged(parent);
    let mut asked = HashSet::new();
    for request in &reasons.requests {
        if !asked.insert(request.id) {
            return Err(Unauthorised::Duplicate);
        }
        plan.act_on(parent, request, newcomers.of(request))?;
    }
    for (leaf, proof) in newcomers.others() {
        plan.add(parent, leaf, proof)?;
    }
    plan.require_spared(committer)?;
    Ok(plan)
}

impl Plan {
    pub(in crate::group) fn unchanged(parent: &Standing) -> Self {
        Self {
            removes: Vec::new(),
            left: Vec::new(),
            removed_accounts: Vec::new(),
            added: Vec::new(),
            rejoined: Vec::new(),
            roles: Vec::new(),
            policy: parent.policy.clone(),
        }
    }

    /// What kind of change it is.
    pub fn class(&self) -> Class {
        if !self.removed_accounts.is_empty() || !self.roles.is_empty() {
            Class::Removal
        } else if !self.added.is_empty() || !self.rejoined.is_empty() {
            Class::Change
        } else {
            Class::Update
        }
    }

    /// Adds one request. After an error the plan is not to be used.
    pub(in crate::group) fn act_on(
        &mut self,
        parent: &Standing,
        request: &SignedEvent,
        newcomer: Option<Newcomer<'_>>,
    ) -> Result<(), Unauthorised> {
        let author = author(parent, request)?;
        let Body::ChangeRequest { kind, target, generation } = &request.event.body else {
            return Err(Unauthorised::NotARequest);
        };
        match kind {
            ChangeKind::Remove => self.remove(parent, author, target, *generation, true),
            ChangeKind::Leave => self.remove(parent, author, target, *generation, false),
            ChangeKind::Role { was, to, role_changes } => {
                let change = RoleChange { account: *target, was: *was, to: *to };
                self.set_role(parent, author, change, *generation, *role_changes)
            }
            ChangeKind::Rejoin { old_encryption_key, .. } => {
                let fresh = newcomer.ok_or(Unauthorised::AddUnjustified)?.leaf;
                self.rejoin(author, target, old_encryption_key, fresh)
            }
            ChangeKind::Add { invite, nonce, signature, .. } => {
                let Some(Newcomer { leaf, proof: Some(proof) }) = newcomer else {
                    return Err(Unauthorised::AddUnjustified);
                };
                let fits = proof.nonce == *nonce && proof.signature == *signature && proof.is_for(invite);
                if !fits || leaf.certificate.account != *target {
                    return Err(Unauthorised::Proof);
                }
                let current = parent.policy.standing_of(target).map_or(0, |entry| entry.generation);
                require_generation(*generation, current, || may_admit(parent, proof))?;
                self.add(parent, leaf, proof)
            }
        }
    }

    fn remove(
        &mut self,
        parent: &Standing,
        author: &RosterMember,
        target: &AccountId,
        generation: u64,
        by_other: bool,
    ) -> Result<(), Unauthorised> {
        let devices: Vec<_> = parent.devices_of(target).collect();
        if devices.iter().any(|device| self.removes.contains(device)) || self.changes_role_of(target) {
            return Err(Unauthorised::Duplicate);
        }
        if !by_other && author.certificate.account != *target {
            return Err(Unauthorised::NotOwnRequest);
        }
        // What role someone will have in another life is not known: at most, it is the least one.
        let may_remove = |target: Role| match by_other {
            true => require(parent, author, Action::Remove { target }),
            false => Ok(()),
        };
        let role = member_role(parent, target, generation, || may_remove(Role::Member))?;
        may_remove(role)?;
        self.policy = self.policy.with_removed(target, parent.epoch, by_other);
        self.require_owner(role)?;
        if !by_other {
            self.left.extend(&devices);
        }
        self.removes.extend(devices);
        self.removed_accounts.push(*target);
        Ok(())
    }

    fn set_role(
        &mut self,
        parent: &Standing,
        author: &RosterMember,
        change: RoleChange,
        generation: u64,
        role_changes: u64,
    ) -> Result<(), Unauthorised> {
        let RoleChange { account, was, to } = change;
        if self.removed_accounts.contains(&account) || self.changes_role_of(&account) {
            return Err(Unauthorised::Duplicate);
        }
        let permitted = || require(parent, author, Action::SetRole { target: was, to });
        let role = member_role(parent, &account, generation, permitted)?;
        let current = parent.policy.standing_of(&account).map_or(0, |entry| entry.role_changes);
        require_generation(role_changes, current, permitted)?;
        // On another branch the same number of changes may have led to another role.
        if role != was {
            return Err(Unauthorised::Stale);
        }
        permitted()?;
        if to == role {
            return Err(Unauthorised::RoleUnchanged);
        }
        self.policy = self.policy.with_role(&account, to);
        self.require_owner(role)?;
        self.roles.push(change);
        Ok(())
    }

    /// The generation says nothing here: whoever lost its branch cannot know what happened to its role on
    /// this one. The old leaf's key does, since it is in the tree once and never again.
    fn rejoin(
        &mut self,
        author: &RosterMember,
        target: &AccountId,
        old_encryption_key: &[u8; 32],
        fresh: &AddedLeaf,
    ) -> Result<(), Unauthorised> {
        let device = author.certificate.device;
        if author.certificate.account != *target {
            return Err(Unauthorised::NotOwnRequest);
        }
        if self.removes.contains(&device) {
            return Err(Unauthorised::Duplicate);
        }
        if author.encryption_key != *old_encryption_key {
            return Err(Unauthorised::Stale);
        }
        if fresh.certificate.account != *target || fresh.certificate.device != device {
            return Err(Unauthorised::RejoinChanged);
        }
        self.removes.push(device);
        self.rejoined.push(device);
        Ok(())
    }

    fn add(&mut self, parent: &Standing, leaf: &AddedLeaf, proof: &JoinProof) -> Result<(), Unauthorised> {
        may_admit(parent, proof)?;
        let Body::Invite { invite, role, max_uses, epoch, .. } = &proof.invite.event.body else {
            return Err(Unauthorised::NotAnInvite);
        };
        let (account, device) = (leaf.certificate.account, leaf.certificate.device);
        if self.added.contains(&device) {
            return Err(Unauthorised::Duplicate);
        }
        if parent.member(&device).is_some() || parent.devices_of(&account).next().is_some() {
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
        self.added.push(device);
        Ok(())
    }

    /// Nobody commits a removal of their own leaf (RFC 9420 §12.4): another member does.
    pub(in crate::group) fn require_spared(&self, committer: &RosterMember) -> Result<(), Unauthorised> {
        let goes = self.removes.contains(&committer.certificate.device);
        if goes { Err(Unauthorised::CommitterRemoved) } else { Ok(()) }
    }

    /// A group that has an owner keeps one. `lost` is the role that someone just had.
    fn require_owner(&self, lost: Role) -> Result<(), Unauthorised> {
        let last = lost == Role::Owner && self.policy.owner().is_none();
        if last { Err(Unauthorised::LastOwner) } else { Ok(()) }
    }

    fn changes_role_of(&self, account: &AccountId) -> bool {
        self.roles.iter().any(|change| change.account == *account)
    }
}

/// The member who signed an event of this group.
fn author<'a>(parent: &'a Standing, signed: &SignedEvent) -> Result<&'a RosterMember, Unauthorised> {
    if signed.event.gid != parent.gid {
        return Err(Unauthorised::ForeignGroup);
    }
    parent.member(&signed.event.author).ok_or(Unauthorised::AuthorUnknown)
}

fn require(parent: &Standing, author: &RosterMember, action: Action) -> Result<(), Unauthorised> {
    let role = parent.policy.role_of(&author.certificate.account);
    if role.is_some_and(|role| may(role, action)) { Ok(()) } else { Err(Unauthorised::NotPermitted) }
}

/// Whether someone who may is the inviter, and the joiner has the invite's key.
fn may_admit(parent: &Standing, proof: &JoinProof) -> Result<(), Unauthorised> {
    let inviter = author(parent, &proof.invite)?;
    let Body::Invite { role, .. } = &proof.invite.event.body else {
        return Err(Unauthorised::NotAnInvite);
    };
    require(parent, inviter, Action::Invite { to: Role::Member })?;
    require(parent, inviter, Action::Invite { to: *role }).map_err(|_| Unauthorised::RoleNotGranted)?;
    proof.verify(&parent.gid)
}

/// The role of a member in the life that a request acts on. `permitted` as for [`require_generation`].
fn member_role(
    parent: &Standing,
    target: &AccountId,
    generation: u64,
    permitted: impl Fn() -> Result<(), Unauthorised>,
) -> Result<Role, Unauthorised> {
    let entry: &PolicyAccount = parent.policy.standing_of(target).ok_or(Unauthorised::TargetUnknown)?;
    require_generation(generation, entry.generation, permitted)?;
    entry.role.filter(|_| parent.devices_of(target).next().is_some()).ok_or(Unauthorised::Stale)
}

/// What is past is stale, whoever asks. What lies ahead is worth waiting for only where it is `permitted`:
/// else anyone could have requests kept that nothing ever ends.
fn require_generation(
    named: u64,
    current: u64,
    permitted: impl Fn() -> Result<(), Unauthorised>,
) -> Result<(), Unauthorised> {
    match named.cmp(&current) {
        std::cmp::Ordering::Less if mutant::on(Mutant::OldRequestReplayed) => Ok(()),
        std::cmp::Ordering::Less => Err(Unauthorised::Stale),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => permitted().and(Err(Unauthorised::Early)),
    }
}
