//! What commits are merged, and why others are not.

mod requests;
mod roles;

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
    let plan = plan_by(OWNER, parent, adds, requests)?;
    Ok(effect(plan, adds, requests))
}

fn plan_by(
    committer: Device,
    parent: &Standing,
    adds: Adds<'_>,
    requests: &[SignedEvent],
) -> Result<Plan, Unauthorised> {
    let leaves: Vec<_> = adds.iter().map(|(leaf, _)| leaf.clone()).collect();
    plan(parent, &committer.id(), &leaves, &reasons(adds, requests))
}

fn reasons(adds: Adds<'_>, requests: &[SignedEvent]) -> Justification {
    let joins = adds.iter().map(|(_, proof)| proof.clone()).collect();
    Justification { wall_ms: 5, requests: requests.to_vec(), joins }
}

fn effect(plan: Plan, adds: Adds<'_>, requests: &[SignedEvent]) -> CommitEffect {
    CommitEffect {
        committer: OWNER.id(),
        adds: adds.iter().map(|(leaf, _)| leaf.clone()).collect(),
        removes: plan.removes,
        policy_after: plan.policy,
        committer_after: Some(OWNER.certificate()),
        justification: reasons(adds, requests).encode().unwrap(),
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
    assert_eq!(plan_by(OWNER, parent, adds, requests), Err(received));
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

    let policy = plan_by(OWNER, &parent(), &adds, &requests).unwrap().policy;
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
fn the_committer_is_a_member() {
    assert_eq!(bent(|effect| effect.committer = CAROL.id()), Err(Unauthorised::CommitterChanged));
    assert_eq!(bent(|effect| effect.committer = DAVE.id()), Err(Unauthorised::CommitterUnknown));
    assert_eq!(plan_by(DAVE, &parent(), &[], &[]), Err(Unauthorised::CommitterUnknown));
}

#[test]
fn any_member_commits_what_others_may_ask_for() {
    let as_carol = |effect: &mut CommitEffect| {
        (effect.committer, effect.committer_after) = (CAROL.id(), Some(CAROL.certificate()));
    };
    let done = bent(as_carol).unwrap();
    assert_eq!((done.removed_accounts, done.added), (vec![BOB.account_id()], vec![DAVE.id()]));

    let parent = parent();
    let mut refresh = planned(&parent, &[], &[]).unwrap();
    as_carol(&mut refresh);
    assert_eq!(authorize(&parent, &refresh).unwrap().class, Class::Update);

    // But nothing on its own.
    let mut removal = planned(&parent, &[], &[]).unwrap();
    as_carol(&mut removal);
    removal.removes = vec![BOB.id(), BOBS_OTHER.id()];
    assert_eq!(authorize(&parent, &removal), Err(Unauthorised::RemoveUnjustified));
}

#[test]
fn nobody_commits_their_own_removal() {
    let parent = parent();
    for (committer, request) in [
        (CAROL, CAROL.asks_to_leave()),
        (CAROL, OWNER.asks_to_remove(CAROL)),
        (BOBS_OTHER, BOB.asks_to_leave()),
    ] {
        let own = plan_by(committer, &parent, &[], std::slice::from_ref(&request));
        assert_eq!(own, Err(Unauthorised::CommitterRemoved));
        assert!(plan_by(OWNER, &parent, &[], &[request]).is_ok(), "by another");
    }
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
fn who_asks_for_a_removal_is_a_member_with_the_right() {
    assert_eq!(refusal(&[], &[CAROL.asks_to_remove(BOB)]), Unauthorised::NotPermitted);
    assert_eq!(refusal(&[], &[CAROL.asks_to_remove(OWNER)]), Unauthorised::NotPermitted);
    assert_eq!(refusal(&[], &[DAVE.asks_to_remove(BOB)]), Unauthorised::AuthorUnknown);
}

#[test]
fn nobody_asks_for_another_to_leave() {
    for author in [CAROL, OWNER] {
        let request = author.sign(change(ChangeKind::Leave, BOB, 0));
        assert_eq!(refusal(&[], &[request]), Unauthorised::NotOwnRequest);
    }
}

#[test]
fn the_last_owner_stays() {
    assert_eq!(refusal(&[], &[OWNER.asks_to_remove(OWNER)]), Unauthorised::LastOwner);
    assert_eq!(refusal(&[], &[OWNER.asks_to_leave()]), Unauthorised::LastOwner);
}

#[test]
fn requests_of_another_generation_are_stale() {
    let early = OWNER.sign(change(ChangeKind::Remove, BOB, 1));
    assert_eq!(refusal(&[], &[early]), Unauthorised::Early);

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
fn members_do_not_invite() {
    let carols = CAROL.sign(invite_body(Role::Member, 2, EPOCH));
    assert_eq!(refusal(&[DAVE.joins_with(&carols)], &[]), Unauthorised::NotPermitted);
    let strangers = DAVE.sign(invite_body(Role::Member, 2, EPOCH));
    assert_eq!(refusal(&[DAVE.joins_with(&strangers)], &[]), Unauthorised::AuthorUnknown);
    let elsewhere = OWNER.sign_in(GroupId([2; 16]), invite_body(Role::Member, 2, EPOCH));
    assert_eq!(refusal(&[DAVE.joins_with(&elsewhere)], &[]), Unauthorised::ForeignGroup);
    let request = OWNER.asks_to_remove(BOB);
    assert_eq!(refusal(&[DAVE.joins_with(&request)], &[]), Unauthorised::NotAnInvite);
}

#[test]
fn nobody_becomes_an_owner_by_invite() {
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
    later.policy = plan_by(OWNER, &later, &adds[..1], &[]).unwrap().policy;
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
    assert_eq!(plan_by(OWNER, &parent(), &[], &requests), Err(Unauthorised::TooMany));
    assert_eq!(plan_by(OWNER, &parent(), &adds, &[]), Err(Unauthorised::TooMany));
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
