//! Who may ask for what, whoever commits it: roles, rejoins, and joins that another server was asked for.

use sha2::{Digest as _, Sha256};

use super::*;
use crate::permission::{Action, may};

pub(super) const ADMIN: Device = Device { account: 6, number: 61 };
pub(super) const OTHER_OWNER: Device = Device { account: 7, number: 71 };
pub(super) const OTHER_ADMIN: Device = Device { account: 8, number: 81 };
pub(super) const MODERATOR: Device = Device { account: 9, number: 91 };
const OTHER_MODERATOR: Device = Device { account: 10, number: 101 };

/// Two of each role. Bob, with two devices, and Carol are the simple members.
pub(super) const PEOPLE: [(Device, Role); 8] = [
    (OWNER, Role::Owner),
    (OTHER_OWNER, Role::Owner),
    (ADMIN, Role::Admin),
    (OTHER_ADMIN, Role::Admin),
    (MODERATOR, Role::Moderator),
    (OTHER_MODERATOR, Role::Moderator),
    (BOB, Role::Member),
    (CAROL, Role::Member),
];

pub(super) fn crowd() -> Standing {
    let mut crowd = parent();
    for (device, role) in PEOPLE {
        if crowd.member(&device.id()).is_none() {
            let leaf = crowd.roster.len() as u32;
            let encryption_key = [device.number; 32];
            crowd.roster.push(RosterMember { leaf, certificate: device.certificate(), encryption_key });
            let added = crowd.policy.with_added(device.account_id(), role, InviteId([60; 16]));
            crowd.policy = added.unwrap();
        }
    }
    crowd
}

impl Device {
    pub(super) fn asks(self, kind: ChangeKind, target: Device) -> SignedEvent {
        self.sign(change(kind, target, 0))
    }

    pub(super) fn asks_for_role(self, target: Device, was: Role, to: Role) -> SignedEvent {
        self.asks(ChangeKind::Role { was, to, role_changes: 0 }, target)
    }

    /// The wish for a fresh leaf, and that leaf.
    pub(super) fn rejoins(self) -> (SignedEvent, AddedLeaf) {
        let key_package = vec![self.number; 40];
        let key_package_hash = Sha256::digest(&key_package).into();
        let leaf = AddedLeaf { certificate: self.certificate(), key_package_hash };
        (self.asks(rejoin(key_package, self), self), leaf)
    }

    /// What a server that was asked by this joiner says, the leaf and its proof.
    pub(super) fn is_brought_by(
        self,
        server: Device,
        invite: &SignedEvent,
    ) -> (SignedEvent, AddedLeaf, JoinProof) {
        let key_package = vec![self.number; 40];
        let key_package_hash = Sha256::digest(&key_package).into();
        let nonce = [98; 32];
        let signature = sign_join(&SEED, &GID, &nonce, &key_package_hash);
        let request = ChangeKind::Add { key_package, invite: INVITE, nonce, signature };
        let leaf = AddedLeaf { certificate: self.certificate(), key_package_hash };
        let proof = JoinProof { invite: invite.clone(), nonce, key_package_hash, signature };
        (server.asks(request, self), leaf, proof)
    }
}

pub(super) fn rejoin(key_package: Vec<u8>, old: Device) -> ChangeKind {
    ChangeKind::Rejoin { key_package, old_encryption_key: [old.number; 32] }
}

/// Whoever is in nobody's way.
fn bystander(target: Device) -> Device {
    if target.account == CAROL.account { MODERATOR } else { CAROL }
}

pub(super) fn done(
    parent: &Standing,
    committer: Device,
    leaves: &[AddedLeaf],
    reasons: &Justification,
) -> Result<Authorized, Unauthorised> {
    let plan = plan(parent, &committer.id(), leaves, reasons)?;
    let effect = CommitEffect {
        committer: committer.id(),
        adds: leaves.to_vec(),
        removes: plan.removes,
        policy_after: plan.policy,
        committer_after: Some(committer.certificate()),
        justification: reasons.encode().unwrap(),
    };
    authorize(parent, &effect)
}

fn asked(parent: &Standing, committer: Device, requests: &[SignedEvent]) -> Result<Authorized, Unauthorised> {
    done(parent, committer, &[], &reasons(&[], requests))
}

pub(super) fn after(parent: &Standing, committer: Device, requests: &[SignedEvent]) -> Standing {
    let policy = plan_by(committer, parent, &[], requests).unwrap().policy;
    Standing { epoch: parent.epoch + 1, policy, ..parent.clone() }
}

#[test]
fn every_role_asks_for_every_change_of_every_other() {
    let parent = crowd();
    let mut allowed = 0;
    for ((actor, actors_role), (target, role)) in
        PEOPLE.into_iter().flat_map(|actor| PEOPLE.map(|target| (actor, target)))
    {
        let mut check = |action, request: SignedEvent| {
            let outcome = asked(&parent, bystander(target), &[request]);
            allowed += usize::from(outcome.is_ok());
            match outcome {
                Ok(done) => {
                    assert!(may(actors_role, action), "{actors_role:?} {action:?}");
                    assert_eq!(done.class, Class::Removal);
                }
                Err(refusal) => {
                    assert_eq!(refusal, Unauthorised::NotPermitted);
                    assert!(!may(actors_role, action), "{actors_role:?} {action:?}");
                }
            }
        };
        check(Action::Remove { target: role }, actor.asks(ChangeKind::Remove, target));
        for to in Role::ALL.into_iter().filter(|to| *to != role) {
            check(Action::SetRole { target: role, to }, actor.asks_for_role(target, role, to));
        }
        if actor.account == target.account {
            check(Action::Leave, actor.asks(ChangeKind::Leave, target));
        }
    }
    // Removals 2·8 + 2·6 + 2·2, changes of role by owners 2·8·3 and by admins 2·6·2, leaving 8.
    assert_eq!(allowed, 32 + 72 + 8);
}

#[test]
fn a_change_of_role_is_told_and_counted() {
    let parent = crowd();
    let done = asked(&parent, MODERATOR, &[ADMIN.asks_for_role(CAROL, Role::Member, Role::Admin)]).unwrap();
    let change = RoleChange { account: CAROL.account_id(), was: Role::Member, to: Role::Admin };
    assert_eq!(done.roles, [change]);
    assert!(done.removed.is_empty() && done.added.is_empty());
    let child = after(&parent, MODERATOR, &[ADMIN.asks_for_role(CAROL, Role::Member, Role::Admin)]);
    let entry = child.policy.standing_of(&CAROL.account_id()).unwrap();
    assert_eq!((entry.role, entry.role_changes, entry.generation), (Some(Role::Admin), 1, 0));
}

#[test]
fn an_old_change_of_role_is_not_replayed() {
    let promotion = OWNER.asks_for_role(CAROL, Role::Member, Role::Admin);
    let promoted = after(&crowd(), BOB, std::slice::from_ref(&promotion));
    let again = |standing: &Standing| asked(standing, BOB, std::slice::from_ref(&promotion));
    assert_eq!(again(&promoted), Err(Unauthorised::Stale));

    let back = ChangeKind::Role { was: Role::Admin, to: Role::Member, role_changes: 1 };
    let demoted = after(&promoted, BOB, &[OWNER.asks(back, CAROL)]);
    assert_eq!(demoted.policy.role_of(&CAROL.account_id()), Some(Role::Member));
    assert_eq!(again(&demoted), Err(Unauthorised::Stale), "as before it, but not the same");

    let mut returned = crowd();
    let gone = returned.policy.with_removed(&CAROL.account_id(), 1, false);
    returned.policy = gone.with_added(CAROL.account_id(), Role::Member, INVITE).unwrap();
    assert_eq!(again(&returned), Err(Unauthorised::Stale), "another life");
}

#[test]
fn a_change_of_role_names_what_the_role_was() {
    let mut parent = crowd();
    let wrong = OWNER.asks_for_role(CAROL, Role::Moderator, Role::Admin);
    assert_eq!(asked(&parent, BOB, &[wrong]), Err(Unauthorised::Stale));
    let nothing = OWNER.asks_for_role(CAROL, Role::Member, Role::Member);
    assert_eq!(asked(&parent, BOB, &[nothing]), Err(Unauthorised::RoleUnchanged));
    let later = ChangeKind::Role { was: Role::Member, to: Role::Admin, role_changes: 1 };
    assert_eq!(asked(&parent, BOB, &[OWNER.asks(later, CAROL)]), Err(Unauthorised::Early));
    let stranger = OWNER.asks_for_role(DAVE, Role::Member, Role::Admin);
    assert_eq!(asked(&parent, BOB, &[stranger]), Err(Unauthorised::TargetUnknown));

    // A change of role saves nobody from a removal that was asked for before.
    let removal = OWNER.asks_to_remove(CAROL);
    parent = after(&parent, BOB, &[ADMIN.asks_for_role(CAROL, Role::Member, Role::Moderator)]);
    assert!(asked(&parent, BOB, &[removal]).is_ok());
}

#[test]
fn a_group_keeps_an_owner() {
    let parent = crowd();
    let steps_down = |owner: Device| owner.asks_for_role(owner, Role::Owner, Role::Member);
    assert!(asked(&parent, CAROL, &[steps_down(OWNER)]).is_ok(), "there is another");
    assert!(asked(&parent, CAROL, &[OWNER.asks_to_leave()]).is_ok(), "there is another");
    for (one, other) in [
        (steps_down(OWNER), steps_down(OTHER_OWNER)),
        (OTHER_OWNER.asks_to_remove(OWNER), OWNER.asks_to_remove(OTHER_OWNER)),
        (OWNER.asks_to_leave(), OWNER.asks_for_role(OTHER_OWNER, Role::Owner, Role::Admin)),
    ] {
        assert_eq!(asked(&parent, CAROL, &[one, other]), Err(Unauthorised::LastOwner));
    }
    let alone = after(&parent, CAROL, &[steps_down(OTHER_OWNER)]);
    assert_eq!(asked(&alone, CAROL, &[steps_down(OWNER)]), Err(Unauthorised::LastOwner));
    // Unless someone follows.
    let heir = OWNER.asks_for_role(CAROL, Role::Member, Role::Owner);
    assert!(asked(&alone, BOB, &[heir, steps_down(OWNER)]).is_ok());
}

#[test]
fn requests_about_one_account_exclude_each_other() {
    let parent = crowd();
    let role = OWNER.asks_for_role(BOB, Role::Member, Role::Admin);
    let other_role = ADMIN.asks_for_role(BOB, Role::Member, Role::Moderator);
    let removal = OWNER.asks_to_remove(BOB);
    for pair in [
        [role.clone(), removal.clone()],
        [removal, role.clone()],
        [role.clone(), other_role],
        [role.clone(), role],
    ] {
        assert_eq!(asked(&parent, CAROL, &pair), Err(Unauthorised::Duplicate));
    }
}

#[test]
fn invites_are_as_good_as_their_makers_role_is_now() {
    let parent = crowd();
    for (inviter, role) in PEOPLE {
        for granted in Role::ALL {
            let joins = [DAVE.joins_with(&inviter.sign(invite_body(granted, 2, EPOCH)))];
            let outcome = plan_by(CAROL, &parent, &joins, &[]).map(|plan| plan.policy);
            match (may(role, Action::Invite { to: granted }), may(role, Action::Invite { to: Role::Member }))
            {
                (true, _) => {
                    assert_eq!(outcome.unwrap().role_of(&DAVE.account_id()), Some(granted));
                }
                (false, true) => assert_eq!(outcome, Err(Unauthorised::RoleNotGranted)),
                (false, false) => assert_eq!(outcome, Err(Unauthorised::NotPermitted)),
            }
        }
    }
    let admins = [DAVE.joins_with(&ADMIN.sign(invite_body(Role::Member, 2, EPOCH)))];
    let demoted = after(&parent, CAROL, &[OWNER.asks_for_role(ADMIN, Role::Admin, Role::Member)]);
    assert_eq!(plan_by(CAROL, &demoted, &admins, &[]), Err(Unauthorised::NotPermitted));
}

// ---- rejoining

#[test]
fn who_rejoins_gets_a_fresh_leaf_and_keeps_everything_else() {
    let parent = crowd();
    let (request, leaf) = ADMIN.rejoins();
    let reasons = reasons(&[], std::slice::from_ref(&request));
    let done = done(&parent, CAROL, std::slice::from_ref(&leaf), &reasons).unwrap();
    assert_eq!((done.class, &done.rejoined), (Class::Change, &vec![ADMIN.id()]));
    assert_eq!(done.included, [request.id]);
    assert!(done.removed.is_empty() && done.removed_accounts.is_empty() && done.added.is_empty());
    let planned = plan(&parent, &CAROL.id(), &[leaf], &reasons).unwrap();
    assert_eq!(planned.removes, [ADMIN.id()]);
    assert_eq!(planned.policy, parent.policy);
}

#[test]
fn a_rejoin_is_not_replayed() {
    let mut parent = crowd();
    let (request, leaf) = CAROL.rejoins();
    let rejoins = |parent: &Standing| {
        done(parent, BOB, std::slice::from_ref(&leaf), &reasons(&[], std::slice::from_ref(&request)))
    };
    assert!(rejoins(&parent).is_ok());
    // Whatever happened to its role meanwhile, which it cannot know.
    let promoted = after(&parent, BOB, &[OWNER.asks_for_role(CAROL, Role::Member, Role::Admin)]);
    assert!(rejoins(&promoted).is_ok());
    let carol = parent.roster.iter_mut().find(|member| member.certificate.device == CAROL.id());
    carol.unwrap().encryption_key = [0; 32];
    assert_eq!(rejoins(&parent), Err(Unauthorised::Stale));
}

#[test]
fn a_rejoin_stays_the_same_device_and_its_own() {
    let parent = crowd();
    let outcome = |request: SignedEvent, leaf: AddedLeaf| {
        done(&parent, MODERATOR, &[leaf], &reasons(&[], &[request])).unwrap_err()
    };
    let (request, leaf) = CAROL.rejoins();
    for other in [DAVE, Device { account: CAROL.account, number: 32 }] {
        let changed = AddedLeaf { certificate: other.certificate(), ..leaf.clone() };
        assert_eq!(outcome(request.clone(), changed), Unauthorised::RejoinChanged);
    }
    let for_another = OWNER.asks(rejoin(vec![CAROL.number; 40], CAROL), CAROL);
    assert_eq!(outcome(for_another, leaf.clone()), Unauthorised::NotOwnRequest);
    let of_a_sibling = BOBS_OTHER.asks(rejoin(vec![CAROL.number; 40], BOB), BOB);
    assert_eq!(outcome(of_a_sibling, leaf.clone()), Unauthorised::Stale);
    let stranger = DAVE.asks(rejoin(vec![CAROL.number; 40], DAVE), DAVE);
    assert_eq!(outcome(stranger, leaf.clone()), Unauthorised::AuthorUnknown);

    let itself =
        done(&parent, CAROL, std::slice::from_ref(&leaf), &reasons(&[], std::slice::from_ref(&request)));
    assert_eq!(itself, Err(Unauthorised::CommitterRemoved));
    let without_leaf = asked(&parent, BOB, std::slice::from_ref(&request));
    assert_eq!(without_leaf, Err(Unauthorised::Unused));
    for removal in [OWNER.asks_to_remove(CAROL), CAROL.asks_to_leave()] {
        for pair in [[removal.clone(), request.clone()], [request.clone(), removal.clone()]] {
            let both = done(&parent, BOB, std::slice::from_ref(&leaf), &reasons(&[], &pair));
            assert_eq!(both, Err(Unauthorised::Duplicate));
        }
    }
}

// ---- joins that another server was asked for

#[test]
fn any_member_adds_whom_another_server_was_asked_for() {
    let parent = crowd();
    let (request, leaf, proof) = DAVE.is_brought_by(CAROL, &invite());
    let (others, others_proof) = ERIN.joins_with(&invite());
    let reasons =
        Justification { wall_ms: 5, requests: vec![request.clone()], joins: vec![others_proof, proof] };
    let done = done(&parent, BOB, &[others, leaf], &reasons).unwrap();
    assert_eq!(done.class, Class::Change);
    assert_eq!(done.added, [DAVE.id(), ERIN.id()]);
    assert_eq!(done.included, [request.id]);
}

#[test]
fn a_join_that_was_brought_needs_its_own_proof() {
    let parent = crowd();
    let (request, leaf, proof) = DAVE.is_brought_by(CAROL, &invite());
    let outcome = |request: &SignedEvent, leaf: &AddedLeaf, proof: &JoinProof| {
        let reasons =
            Justification { wall_ms: 5, requests: vec![request.clone()], joins: vec![proof.clone()] };
        done(&parent, BOB, std::slice::from_ref(leaf), &reasons)
    };
    assert!(outcome(&request, &leaf, &proof).is_ok());
    let nonce = [97; 32];
    let signature = sign_join(&SEED, &GID, &nonce, &proof.key_package_hash);
    let another = JoinProof { nonce, signature, ..proof.clone() };
    assert_eq!(outcome(&request, &leaf, &another), Err(Unauthorised::Proof));
    let renamed = CAROL.asks(
        ChangeKind::Add {
            key_package: vec![DAVE.number; 40],
            invite: InviteId([51; 16]),
            nonce: proof.nonce,
            signature: proof.signature,
        },
        DAVE,
    );
    assert_eq!(outcome(&renamed, &leaf, &proof), Err(Unauthorised::Proof));
    let for_erin = ERIN.is_brought_by(CAROL, &invite()).0;
    assert_eq!(outcome(&for_erin, &leaf, &proof), Err(Unauthorised::AddUnjustified));
    let as_erin = AddedLeaf { certificate: ERIN.certificate(), ..leaf.clone() };
    assert_eq!(outcome(&request, &as_erin, &proof), Err(Unauthorised::Proof));
    let stranger = DAVE.is_brought_by(ERIN, &invite()).0;
    assert_eq!(outcome(&stranger, &leaf, &proof), Err(Unauthorised::AuthorUnknown));

    let mut unproven = reasons(&[], &[request]);
    assert_eq!(done(&parent, BOB, &[leaf], &unproven), Err(Unauthorised::AddUnjustified));
    unproven.joins = vec![proof];
    assert_eq!(done(&parent, BOB, &[], &unproven), Err(Unauthorised::Unused));
}

#[test]
fn a_brought_join_acts_on_one_life() {
    let mut parent = crowd();
    let (request, leaf, proof) = DAVE.is_brought_by(CAROL, &invite());
    let entered = parent.policy.with_added(DAVE.account_id(), Role::Member, INVITE).unwrap();
    parent.policy = entered.with_removed(&DAVE.account_id(), 1, false);
    let reasons = Justification { wall_ms: 5, requests: vec![request], joins: vec![proof] };
    assert_eq!(done(&parent, BOB, &[leaf], &reasons), Err(Unauthorised::Stale));
}
