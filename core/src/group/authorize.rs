//! Whether a commit may be merged: a pure function of the parent state and what justifies it.
//!
//! The rule exists once, in [`plan()`]: whoever commits asks it what to do, whoever receives asks
//! whether that was done. It knows no clock (expiry is the admitting server's) and no events beyond
//! the commit's own (so is revocation).

mod justification;
mod plan;

use std::collections::{HashMap, HashSet};

pub use justification::{
    JoinProof, Justification, MAX_JOINS, MAX_JUSTIFICATION_BYTES, MAX_REQUESTS, sign_join,
};
pub use plan::{Plan, plan};

use super::policy::{Policy, PolicyError};
use crate::{
    certificate::Certificate,
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
    /// Only the owner commits.
    #[error("the committer is not the owner")]
    CommitterNotOwner,
    /// The new leaf is of another account or device.
    #[error("the committer's leaf changed its account or device")]
    CommitterChanged,
    /// Nobody removes themselves.
    #[error("the commit removes its committer's account")]
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
    /// Only the owner removes and invites.
    #[error("the author of a justification is not the owner")]
    AuthorNotOwner,
    /// Not a change request.
    #[error("the justification is not a change request")]
    NotARequest,
    /// Not an invite.
    #[error("the justification is not an invite")]
    NotAnInvite,
    /// Asked to let someone else go.
    #[error("only the leaving account asks to leave")]
    NotOwnLeave,
    /// The target never was a member.
    #[error("the target of a request was never a member")]
    TargetUnknown,
    /// The request acts on a generation that has passed.
    #[error("the request is stale")]
    Stale,
    /// An owner is not removed by request.
    #[error("an owner cannot be removed")]
    OwnerRemoved,
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
    /// Invites only make members.
    #[error("the invite grants a role it must not")]
    RoleNotGranted,
    /// The group has seen as many accounts or invites as a policy holds.
    #[error("the group is full")]
    GroupFull,
    /// The child's policy is not the parent's with these changes.
    #[error("the policy does not follow from the commit")]
    PolicyMismatch,
}

/// What kind of change a commit makes; the lesser goes first where nothing else decides between rivals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// Someone is removed or leaves, or a role changes: nothing trivial may undo it.
    Removal = 0,
    /// Someone is added or rejoins, or the context changes.
    Change = 1,
    /// Only keys are new.
    Update = 2,
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

    /// What a device may do, through its account.
    pub fn role_of_device(&self, device: &DeviceId) -> Option<Role> {
        self.policy.role_of(&self.member(device)?.certificate.account)
    }
}

/// Checks a commit before it is merged.
///
/// # Errors
/// [`Unauthorised`], the first reason found. The commit may come from any member.
pub fn authorize(parent: &Standing, effect: &CommitEffect) -> Result<Authorized, Unauthorised> {
    check_committer(parent, effect)?;
    let justification = Justification::decode(&effect.justification)?;
    let adds = pair(&effect.adds, justification.joins)?;
    let plan = plan(parent, &effect.committer, &adds, &justification.requests)?;
    check_removes(parent, &plan, &effect.removes)?;
    if plan.policy != effect.policy_after {
        return Err(Unauthorised::PolicyMismatch);
    }
    Ok(Authorized {
        class: plan.class(),
        included: justification.requests.iter().map(|request| request.id).collect(),
        removed: plan.removes.iter().map(|device| (*device, plan.left.contains(device))).collect(),
        removed_accounts: plan.removed_accounts,
        added: plan.added,
        rejoined: Vec::new(),
        roles: Vec::new(),
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

/// Finds each added leaf its proof, by KeyPackage.
fn pair(adds: &[AddedLeaf], joins: Vec<JoinProof>) -> Result<Vec<(AddedLeaf, JoinProof)>, Unauthorised> {
    let mut proofs = HashMap::new();
    for proof in joins {
        if proofs.insert(proof.key_package_hash, proof).is_some() {
            return Err(Unauthorised::Duplicate);
        }
    }
    let mut paired = Vec::with_capacity(adds.len());
    for leaf in adds {
        let proof = proofs.remove(&leaf.key_package_hash).ok_or(Unauthorised::AddUnjustified)?;
        paired.push((leaf.clone(), proof));
    }
    if proofs.is_empty() { Ok(paired) } else { Err(Unauthorised::Unused) }
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
    let Some(spared) = planned.difference(&removed).next() else {
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

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::{
        event::{Body, ChangeKind, Event, SignedEvent},
        id::{InviteId, LogId, StateId},
    };

    const GID: GroupId = GroupId([1; 16]);
    const EPOCH: u64 = 7;
    const SEED: [u8; 32] = [200; 32];
    const INVITE: InviteId = InviteId([50; 16]);

    /// A device of an account; both keys are made from the numbers.
    #[derive(Clone, Copy)]
    struct Device {
        account: u8,
        number: u8,
    }

    const OWNER: Device = Device { account: 1, number: 11 };
    const BOB: Device = Device { account: 2, number: 21 };
    const BOBS_OTHER: Device = Device { account: 2, number: 22 };
    const CAROL: Device = Device { account: 3, number: 31 };
    const DAVE: Device = Device { account: 4, number: 41 };
    const ERIN: Device = Device { account: 5, number: 51 };

    impl Device {
        fn key(self) -> SigningKey {
            SigningKey::from_bytes(&[self.number; 32])
        }

        fn id(self) -> DeviceId {
            DeviceId(self.key().verifying_key().to_bytes())
        }

        fn certificate(self) -> Certificate {
            let account = SigningKey::from_bytes(&[self.account; 32]);
            Certificate::issue(&account, self.id(), vec![self.number; 38], [self.number; 32], 0)
        }

        fn account_id(self) -> AccountId {
            self.certificate().account
        }

        fn sign_in(self, gid: GroupId, body: Body) -> SignedEvent {
            let event = Event {
                gid,
                log: LogId([self.number; 16]),
                seq: 1,
                prev: None,
                lamport: 1,
                deps: vec![],
                seen_sid: StateId([0; 32]),
                wall_ms: 0,
                author: self.id(),
                body,
            };
            SignedEvent::sign(&self.key(), event).unwrap()
        }

        fn sign(self, body: Body) -> SignedEvent {
            self.sign_in(GID, body)
        }

        fn asks_to_remove(self, target: Device) -> SignedEvent {
            self.sign(change(ChangeKind::Remove, target, 0))
        }

        fn asks_to_leave(self) -> SignedEvent {
            self.sign(change(ChangeKind::Leave, self, 0))
        }

        fn joins_with(self, invite: &SignedEvent) -> (AddedLeaf, JoinProof) {
            let key_package_hash = [self.number; 32];
            let nonce = [99; 32];
            let signature = sign_join(&SEED, &GID, &nonce, &key_package_hash);
            let leaf = AddedLeaf { certificate: self.certificate(), key_package_hash };
            (leaf, JoinProof { invite: invite.clone(), nonce, key_package_hash, signature })
        }
    }

    fn change(kind: ChangeKind, target: Device, generation: u64) -> Body {
        Body::ChangeRequest { kind, target: target.account_id(), generation }
    }

    fn invite_body(role: Role, max_uses: u32, epoch: u64) -> Body {
        let public_key = SigningKey::from_bytes(&SEED).verifying_key().to_bytes();
        Body::Invite { invite: INVITE, public_key, role, max_uses, expires_at_ms: 0, epoch }
    }

    fn invite() -> SignedEvent {
        OWNER.sign(invite_body(Role::Member, 2, EPOCH))
    }

    /// The owner, Bob with two devices, Carol.
    fn parent() -> Standing {
        let devices = [OWNER, BOB, CAROL, BOBS_OTHER];
        let leaf = |(leaf, device): (u32, Device)| RosterMember {
            leaf,
            certificate: device.certificate(),
            encryption_key: [device.number; 32],
        };
        let other = InviteId([60; 16]);
        let policy = Policy::founding(OWNER.account_id())
            .with_added(BOB.account_id(), Role::Member, other)
            .and_then(|policy| policy.with_added(CAROL.account_id(), Role::Member, other));
        Standing {
            gid: GID,
            epoch: EPOCH,
            roster: (0..).zip(devices).map(leaf).collect(),
            policy: policy.unwrap(),
        }
    }

    type Adds<'a> = &'a [(AddedLeaf, JoinProof)];

    /// The commit that the rule itself asks for.
    fn planned(
        parent: &Standing,
        adds: Adds<'_>,
        requests: &[SignedEvent],
    ) -> Result<CommitEffect, Unauthorised> {
        let plan = plan(parent, &OWNER.id(), adds, requests)?;
        Ok(effect(plan, adds, requests))
    }

    fn effect(plan: Plan, adds: Adds<'_>, requests: &[SignedEvent]) -> CommitEffect {
        let justification = Justification {
            wall_ms: 5,
            requests: requests.to_vec(),
            joins: adds.iter().map(|(_, proof)| proof.clone()).collect(),
        };
        CommitEffect {
            committer: OWNER.id(),
            adds: adds.iter().map(|(leaf, _)| leaf.clone()).collect(),
            removes: plan.removes,
            policy_after: plan.policy,
            committer_after: Some(OWNER.certificate()),
            justification: justification.encode().unwrap(),
        }
    }

    /// Plans and authorises on this state.
    fn outcome_on(
        parent: &Standing,
        adds: Adds<'_>,
        requests: &[SignedEvent],
    ) -> Result<Authorized, Unauthorised> {
        authorize(parent, &planned(parent, adds, requests)?)
    }

    /// A receiver refuses for the same reason as the planner, whatever policy the commit brings.
    fn refusal_on(parent: &Standing, adds: Adds<'_>, requests: &[SignedEvent]) -> Unauthorised {
        let unplanned = Plan::unchanged(parent);
        let received = authorize(parent, &effect(unplanned, adds, requests)).unwrap_err();
        assert_eq!(plan(parent, &OWNER.id(), adds, requests), Err(received));
        received
    }

    fn refusal(adds: Adds<'_>, requests: &[SignedEvent]) -> Unauthorised {
        refusal_on(&parent(), adds, requests)
    }

    /// A commit of everything allowed, then bent.
    fn bent(bend: impl FnOnce(&mut CommitEffect)) -> Result<Authorized, Unauthorised> {
        let parent = parent();
        let adds = [DAVE.joins_with(&invite())];
        let mut effect = planned(&parent, &adds, &[OWNER.asks_to_remove(BOB)]).unwrap();
        bend(&mut effect);
        authorize(&parent, &effect)
    }

    // ---- what is allowed

    #[test]
    fn the_owner_may_update() {
        let nothing = Authorized {
            class: Class::Update,
            included: vec![],
            removed: vec![],
            removed_accounts: vec![],
            added: vec![],
            rejoined: vec![],
            roles: vec![],
            wall_ms: 5,
        };
        assert_eq!(outcome_on(&parent(), &[], &[]), Ok(nothing.clone()));

        let parent = parent();
        let mut without_path = planned(&parent, &[], &[]).unwrap();
        without_path.committer_after = None;
        assert_eq!(authorize(&parent, &without_path), Ok(nothing));
    }

    #[test]
    fn removes_adds_and_leaves_go_in_one_commit() {
        let adds = [DAVE.joins_with(&invite()), ERIN.joins_with(&invite())];
        let requests = [OWNER.asks_to_remove(BOB), CAROL.asks_to_leave()];
        let done = outcome_on(&parent(), &adds, &requests).unwrap();
        assert_eq!(done.removed, [(BOB.id(), false), (BOBS_OTHER.id(), false), (CAROL.id(), true)]);
        assert_eq!(done.removed_accounts, [BOB.account_id(), CAROL.account_id()]);
        assert_eq!(done.added, [DAVE.id(), ERIN.id()]);
        assert_eq!(done.included, requests.each_ref().map(|request| request.id));
        assert_eq!(done.class, Class::Removal);
        assert_eq!(outcome_on(&parent(), &adds, &[]).unwrap().class, Class::Change);

        let policy = plan(&parent(), &OWNER.id(), &adds, &requests).unwrap().policy;
        assert_eq!(policy.role_of(&DAVE.account_id()), Some(Role::Member));
        assert_eq!(policy.role_of(&BOB.account_id()), None);
        assert_eq!(policy.standing_of(&BOB.account_id()).unwrap().barred_until_epoch, EPOCH + 1);
        assert_eq!(policy.standing_of(&CAROL.account_id()).unwrap().barred_until_epoch, 0);
        assert_eq!(policy.uses_of(&INVITE), 2);
    }

    #[test]
    fn the_order_of_removes_and_proofs_is_free() {
        assert!(bent(|effect| effect.removes.reverse()).is_ok());
        let parent = parent();
        let adds = [DAVE.joins_with(&invite()), ERIN.joins_with(&invite())];
        let mut swapped = planned(&parent, &adds, &[]).unwrap();
        swapped.adds.reverse();
        assert!(authorize(&parent, &swapped).is_ok());
    }

    #[test]
    fn a_leave_may_come_from_any_device_of_the_account() {
        let done = outcome_on(&parent(), &[], &[BOBS_OTHER.asks_to_leave()]).unwrap();
        assert_eq!(done.removed, [(BOB.id(), true), (BOBS_OTHER.id(), true)]);
    }

    #[test]
    fn the_committers_letter_key_and_router_may_change() {
        let account = SigningKey::from_bytes(&[OWNER.account; 32]);
        let renewed = Certificate::issue(&account, OWNER.id(), vec![9; 38], [9; 32], 1);
        assert!(bent(|effect| effect.committer_after = Some(renewed)).is_ok());
    }

    #[test]
    fn who_was_removed_comes_back_with_a_newer_invite_only() {
        let mut later = parent();
        later.policy = later.policy.with_removed(&BOB.account_id(), EPOCH, true);
        later.roster.retain(|member| member.certificate.account != BOB.account_id());
        later.epoch = EPOCH + 1;
        let newer = OWNER.sign(invite_body(Role::Member, 1, EPOCH + 1));
        assert_eq!(refusal_on(&later, &[BOB.joins_with(&invite())], &[]), Unauthorised::Barred);
        assert!(outcome_on(&later, &[BOB.joins_with(&newer)], &[]).is_ok());
    }

    #[test]
    fn who_left_comes_back_with_the_same_invite() {
        let mut later = parent();
        later.policy = later.policy.with_removed(&CAROL.account_id(), EPOCH, false);
        later.roster.retain(|member| member.certificate.account != CAROL.account_id());
        assert!(outcome_on(&later, &[CAROL.joins_with(&invite())], &[]).is_ok());
    }

    // ---- the committer

    #[test]
    fn only_the_owner_commits() {
        assert_eq!(bent(|effect| effect.committer = CAROL.id()), Err(Unauthorised::CommitterChanged));
        let as_carol = |effect: &mut CommitEffect| {
            (effect.committer, effect.committer_after) = (CAROL.id(), Some(CAROL.certificate()));
        };
        assert_eq!(bent(as_carol), Err(Unauthorised::CommitterNotOwner));
        assert_eq!(bent(|effect| effect.committer = DAVE.id()), Err(Unauthorised::CommitterUnknown));
        let as_stranger = plan(&parent(), &DAVE.id(), &[], &[]);
        assert_eq!(as_stranger, Err(Unauthorised::CommitterUnknown));
    }

    #[test]
    fn the_committers_leaf_keeps_account_and_device() {
        let owners_account = SigningKey::from_bytes(&[OWNER.account; 32]);
        let other_device = Certificate::issue(&owners_account, DAVE.id(), vec![1; 38], [1; 32], 0);
        let other_account =
            Certificate::issue(&SigningKey::from_bytes(&[77; 32]), OWNER.id(), vec![1; 38], [1; 32], 0);
        for certificate in [other_device, other_account] {
            let changed = bent(|effect| effect.committer_after = Some(certificate));
            assert_eq!(changed, Err(Unauthorised::CommitterChanged));
        }
    }

    // ---- removals

    #[test]
    fn only_the_owner_removes() {
        assert_eq!(refusal(&[], &[CAROL.asks_to_remove(BOB)]), Unauthorised::AuthorNotOwner);
        assert_eq!(refusal(&[], &[DAVE.asks_to_remove(BOB)]), Unauthorised::AuthorUnknown);
    }

    #[test]
    fn nobody_asks_for_another_to_leave() {
        for author in [CAROL, OWNER] {
            let request = author.sign(change(ChangeKind::Leave, BOB, 0));
            assert_eq!(refusal(&[], &[request]), Unauthorised::NotOwnLeave);
        }
    }

    #[test]
    fn the_owner_stays() {
        assert_eq!(refusal(&[], &[OWNER.asks_to_remove(OWNER)]), Unauthorised::OwnerRemoved);
        assert_eq!(refusal(&[], &[CAROL.asks_to_remove(OWNER)]), Unauthorised::OwnerRemoved);
        assert_eq!(refusal(&[], &[OWNER.asks_to_leave()]), Unauthorised::CommitterRemoved);
    }

    #[test]
    fn requests_of_another_generation_are_stale() {
        let early = OWNER.sign(change(ChangeKind::Remove, BOB, 1));
        assert_eq!(refusal(&[], &[early]), Unauthorised::Stale);

        // Removed and back: the old requests, to remove and to leave, act no more.
        let mut later = parent();
        let removed = later.policy.with_removed(&BOB.account_id(), 1, true);
        later.policy = removed.with_added(BOB.account_id(), Role::Member, INVITE).unwrap();
        assert_eq!(refusal_on(&later, &[], &[OWNER.asks_to_remove(BOB)]), Unauthorised::Stale);
        assert_eq!(refusal_on(&later, &[], &[BOB.asks_to_leave()]), Unauthorised::Stale);
    }

    #[test]
    fn only_members_can_be_removed() {
        assert_eq!(refusal(&[], &[OWNER.asks_to_remove(DAVE)]), Unauthorised::TargetUnknown);
        let mut gone = parent();
        gone.policy = gone.policy.with_removed(&CAROL.account_id(), EPOCH, true);
        gone.roster.retain(|member| member.certificate.account != CAROL.account_id());
        let again = OWNER.sign(change(ChangeKind::Remove, CAROL, 1));
        assert_eq!(refusal_on(&gone, &[], &[again]), Unauthorised::Stale);
    }

    #[test]
    fn one_request_for_each_removal() {
        let twice = [OWNER.asks_to_remove(BOB), BOB.asks_to_leave()];
        assert_eq!(refusal(&[], &twice), Unauthorised::Duplicate);
        assert_eq!(refusal(&[], &[invite()]), Unauthorised::NotARequest);
        let elsewhere = OWNER.sign_in(GroupId([2; 16]), change(ChangeKind::Remove, BOB, 0));
        assert_eq!(refusal(&[], &[elsewhere]), Unauthorised::ForeignGroup);
    }

    #[test]
    fn removals_are_the_requested_ones() {
        let extra = bent(|effect| effect.removes.push(CAROL.id()));
        assert_eq!(extra, Err(Unauthorised::RemoveUnjustified));
        let unknown = bent(|effect| effect.removes.push(DAVE.id()));
        assert_eq!(unknown, Err(Unauthorised::RemoveUnjustified));
        let twice = bent(|effect| effect.removes.push(BOB.id()));
        assert_eq!(twice, Err(Unauthorised::Duplicate));
        let half = bent(|effect| effect.removes.retain(|device| *device == BOB.id()));
        assert_eq!(half, Err(Unauthorised::RemovePartial));
        let none = bent(|effect| effect.removes.clear());
        assert_eq!(none, Err(Unauthorised::Unused));
    }

    // ---- additions

    #[test]
    fn only_the_owner_invites() {
        let carols = CAROL.sign(invite_body(Role::Member, 2, EPOCH));
        assert_eq!(refusal(&[DAVE.joins_with(&carols)], &[]), Unauthorised::AuthorNotOwner);
        let strangers = DAVE.sign(invite_body(Role::Member, 2, EPOCH));
        assert_eq!(refusal(&[DAVE.joins_with(&strangers)], &[]), Unauthorised::AuthorUnknown);
        let elsewhere = OWNER.sign_in(GroupId([2; 16]), invite_body(Role::Member, 2, EPOCH));
        assert_eq!(refusal(&[DAVE.joins_with(&elsewhere)], &[]), Unauthorised::ForeignGroup);
        let request = OWNER.asks_to_remove(BOB);
        assert_eq!(refusal(&[DAVE.joins_with(&request)], &[]), Unauthorised::NotAnInvite);
    }

    #[test]
    fn invites_make_members_only() {
        let owners = OWNER.sign(invite_body(Role::Owner, 2, EPOCH));
        assert_eq!(refusal(&[DAVE.joins_with(&owners)], &[]), Unauthorised::RoleNotGranted);
    }

    #[test]
    fn a_proof_is_signed_by_the_invites_key() {
        let (leaf, mut proof) = DAVE.joins_with(&invite());
        proof.signature = sign_join(&[1; 32], &GID, &proof.nonce, &proof.key_package_hash);
        assert_eq!(refusal(&[(leaf, proof)], &[]), Unauthorised::Proof);
        let (leaf, mut proof) = DAVE.joins_with(&invite());
        proof.signature = sign_join(&SEED, &GroupId([2; 16]), &proof.nonce, &proof.key_package_hash);
        assert_eq!(refusal(&[(leaf, proof)], &[]), Unauthorised::Proof);
    }

    #[test]
    fn each_leaf_has_the_proof_of_its_key_package() {
        let (mut leaf, proof) = DAVE.joins_with(&invite());
        leaf.key_package_hash = [0; 32];
        assert_eq!(refusal(&[(leaf, proof)], &[]), Unauthorised::AddUnjustified);

        let another = AddedLeaf { certificate: ERIN.certificate(), key_package_hash: [51; 32] };
        let extra = bent(|effect| effect.adds.push(another));
        assert_eq!(extra, Err(Unauthorised::AddUnjustified));
        let copied = bent(|effect| effect.adds.push(effect.adds[0].clone()));
        assert_eq!(copied, Err(Unauthorised::AddUnjustified));
        let swapped = bent(|effect| effect.adds[0].certificate = ERIN.certificate());
        assert_eq!(swapped, Err(Unauthorised::PolicyMismatch), "another account than planned");
        let none = bent(|effect| effect.adds.clear());
        assert_eq!(none, Err(Unauthorised::Unused));
    }

    #[test]
    fn no_proof_counts_twice() {
        let parent = parent();
        let join = DAVE.joins_with(&invite());
        let unplanned = Plan::unchanged(&parent);
        let twice = effect(unplanned, &[join.clone(), join], &[]);
        assert_eq!(authorize(&parent, &twice), Err(Unauthorised::Duplicate));
    }

    #[test]
    fn nobody_is_added_twice() {
        assert_eq!(refusal(&[CAROL.joins_with(&invite())], &[]), Unauthorised::AlreadyMember);
        let second_device = Device { account: CAROL.account, number: 32 };
        assert_eq!(refusal(&[second_device.joins_with(&invite())], &[]), Unauthorised::AlreadyMember);
        let mut unpolicied = parent();
        unpolicied.policy = unpolicied.policy.with_removed(&CAROL.account_id(), EPOCH, false);
        let join = second_device.joins_with(&invite());
        assert_eq!(refusal_on(&unpolicied, &[join], &[]), Unauthorised::AlreadyMember, "by the roster");
        let stolen_device = Device { account: DAVE.account, number: CAROL.number };
        assert_eq!(refusal(&[stolen_device.joins_with(&invite())], &[]), Unauthorised::AlreadyMember);

        let twin = Device { account: DAVE.account, number: 42 };
        let twins = [DAVE.joins_with(&invite()), twin.joins_with(&invite())];
        assert_eq!(refusal(&twins, &[]), Unauthorised::AlreadyMember);

        let (mut leaf, mut proof) = Device { account: ERIN.account, ..DAVE }.joins_with(&invite());
        (leaf.key_package_hash, proof.key_package_hash) = ([7; 32], [7; 32]);
        proof.signature = sign_join(&SEED, &GID, &proof.nonce, &[7; 32]);
        let same_device = [DAVE.joins_with(&invite()), (leaf, proof)];
        assert_eq!(refusal(&same_device, &[]), Unauthorised::Duplicate);
    }

    #[test]
    fn a_removed_account_is_not_added_by_the_same_commit() {
        let requests = [OWNER.asks_to_remove(CAROL)];
        let join = CAROL.joins_with(&invite());
        assert_eq!(refusal(&[join], &requests), Unauthorised::AlreadyMember);
    }

    #[test]
    fn an_invite_admits_as_many_as_it_says() {
        let single = OWNER.sign(invite_body(Role::Member, 1, EPOCH));
        let adds = [DAVE.joins_with(&single), ERIN.joins_with(&single)];
        assert!(outcome_on(&parent(), &adds[..1], &[]).is_ok());
        assert_eq!(refusal(&adds, &[]), Unauthorised::InviteUsedUp, "within one commit");

        let mut later = parent();
        later.policy = plan(&later, &OWNER.id(), &adds[..1], &[]).unwrap().policy;
        assert_eq!(refusal_on(&later, &adds[1..], &[]), Unauthorised::InviteUsedUp, "over commits");
    }

    // ---- the whole

    #[test]
    fn the_policy_is_exactly_the_planned_one() {
        let promoted = bent(|effect| {
            let carol = CAROL.account_id();
            let entry = effect.policy_after.accounts.iter_mut().find(|entry| entry.account == carol);
            entry.unwrap().role = Some(Role::Owner);
        });
        assert_eq!(promoted, Err(Unauthorised::PolicyMismatch));
        let lifted = bent(|effect| effect.policy_after.version = 2);
        assert_eq!(lifted, Err(Unauthorised::PolicyMismatch));
        let untouched = bent(|effect| effect.policy_after = parent().policy);
        assert_eq!(untouched, Err(Unauthorised::PolicyMismatch));
        let uncounted = bent(|effect| effect.policy_after.invites.clear());
        assert_eq!(uncounted, Err(Unauthorised::PolicyMismatch));
    }

    #[test]
    fn a_commit_without_a_justification_is_refused() {
        let empty = bent(|effect| effect.justification.clear());
        assert_eq!(empty, Err(Unauthorised::Justification));
        let garbage = bent(|effect| effect.justification = vec![0xff; 40]);
        assert_eq!(garbage, Err(Unauthorised::Justification));
    }

    #[test]
    fn a_forged_request_is_refused() {
        let encoded = OWNER.asks_to_remove(BOB).encoded().to_vec();
        let forged = bent(|effect| {
            let at = effect.justification.windows(encoded.len()).position(|part| part == encoded).unwrap();
            effect.justification[at + encoded.len() - 1] ^= 1;
        });
        assert_eq!(forged, Err(Unauthorised::Event(EventError::Signature)));
    }

    #[test]
    fn a_batch_has_its_limit() {
        let requests = vec![OWNER.asks_to_remove(BOB); MAX_REQUESTS + 1];
        let adds = vec![DAVE.joins_with(&invite()); MAX_JOINS + 1];
        assert_eq!(plan(&parent(), &OWNER.id(), &[], &requests), Err(Unauthorised::TooMany));
        assert_eq!(plan(&parent(), &OWNER.id(), &adds, &[]), Err(Unauthorised::TooMany));
    }

    #[test]
    fn a_full_group_takes_nobody() {
        let mut full = parent();
        full.policy.invites = (0..4096u32)
            .map(|n| {
                let mut id = [0xff; 16];
                id[12..].copy_from_slice(&n.to_be_bytes());
                crate::group::policy::PolicyInvite { invite: InviteId(id), used: 1 }
            })
            .collect();
        assert_eq!(refusal_on(&full, &[DAVE.joins_with(&invite())], &[]), Unauthorised::GroupFull);
    }
}
