//! What becomes of requests, and which go into one commit.

use std::collections::HashSet;

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::{
    roles::{ADMIN, MODERATOR, OTHER_ADMIN, OTHER_OWNER, PEOPLE, after, crowd, rejoin},
    *,
};
use crate::group::requests::{Batch, Candidate, Path, Status, batch, status};

fn plain(requests: &[&SignedEvent]) -> Vec<Candidate> {
    requests.iter().map(|request| Candidate::plain((*request).clone())).collect()
}

fn standing_of(request: &SignedEvent, head: &Standing) -> Status {
    status(&Candidate::plain(request.clone()), head, Path::default())
}

fn brought(joiner: Device, server: Device, invite: Option<SignedEvent>) -> Candidate {
    let (request, leaf, _) = joiner.is_brought_by(server, &super::invite());
    Candidate { request, leaf: Some(leaf), invite }
}

fn rejoining(device: Device) -> Candidate {
    let (request, leaf) = device.rejoins();
    Candidate { request, leaf: Some(leaf), invite: None }
}

/// The commit that a batch makes, authorised.
fn committed(parent: &Standing, committer: Device, chosen: &Batch) -> Authorized {
    let reasons =
        Justification { wall_ms: 5, requests: chosen.requests.clone(), joins: chosen.joins.clone() };
    roles::done(parent, committer, &chosen.adds, &reasons).unwrap()
}

fn ids(chosen: &Batch) -> Vec<EventId> {
    chosen.requests.iter().map(|request| request.id).collect()
}

#[test]
fn a_request_is_open_until_a_commit_acts_on_it() {
    let parent = crowd();
    let removal = ADMIN.asks_to_remove(CAROL);
    let role = ADMIN.asks_for_role(CAROL, Role::Member, Role::Moderator);
    for request in [&removal, &role, &CAROL.asks_to_leave()] {
        assert_eq!(standing_of(request, &parent), Status::Open);
    }
    let sid = StateId([3; 32]);
    let path = Path { included: Some(sid), has_seen: true };
    let included = status(&Candidate::plain(removal.clone()), &parent, path);
    assert_eq!(included, Status::Included(sid));
    // On a head whose path does not have that commit it is open again.
    assert_eq!(standing_of(&removal, &parent), Status::Open);
}

#[test]
fn what_others_brought_about_is_settled() {
    let parent = crowd();
    let (removal, leave) = (ADMIN.asks_to_remove(CAROL), CAROL.asks_to_leave());
    let mut gone = after(&parent, BOB, &[OWNER.asks_to_remove(CAROL)]);
    gone.roster.retain(|member| member.certificate.device != CAROL.id());
    assert_eq!(standing_of(&removal, &gone), Status::Settled);
    assert_eq!(standing_of(&leave, &gone), Status::Settled);

    let role = ADMIN.asks_for_role(CAROL, Role::Member, Role::Moderator);
    let moderator = after(&parent, BOB, &[OWNER.asks_for_role(CAROL, Role::Member, Role::Moderator)]);
    assert_eq!(standing_of(&role, &moderator), Status::Settled);

    let mut fresh = parent;
    let carol = fresh.roster.iter_mut().find(|member| member.certificate.device == CAROL.id());
    carol.unwrap().encryption_key = [0; 32];
    assert_eq!(status(&rejoining(CAROL), &fresh, Path::default()), Status::Settled);

    let dave = RosterMember { leaf: 77, certificate: DAVE.certificate(), encryption_key: [1; 32] };
    fresh.roster.push(dave);
    fresh.policy = fresh.policy.with_added(DAVE.account_id(), Role::Member, INVITE).unwrap();
    assert_eq!(status(&brought(DAVE, CAROL, Some(invite())), &fresh, Path::default()), Status::Settled);
}

#[test]
fn what_can_no_longer_be_is_stale_or_rejected_with_its_reason() {
    let parent = crowd();
    let role = ADMIN.asks_for_role(CAROL, Role::Member, Role::Moderator);
    let admin = after(&parent, BOB, &[OWNER.asks_for_role(CAROL, Role::Member, Role::Admin)]);
    assert_eq!(standing_of(&role, &admin), Status::Stale);

    let by_a_member = CAROL.asks_to_remove(BOB);
    assert_eq!(standing_of(&by_a_member, &parent), Status::Rejected(Unauthorised::NotPermitted));
    let promoted = after(&parent, BOB, &[OWNER.asks_for_role(CAROL, Role::Member, Role::Moderator)]);
    assert_eq!(standing_of(&by_a_member, &promoted), Status::Open, "on another head");

    let last = after(&parent, BOB, &[OWNER.asks_for_role(OTHER_OWNER, Role::Owner, Role::Admin)]);
    assert_eq!(standing_of(&OWNER.asks_to_leave(), &last), Status::Rejected(Unauthorised::LastOwner));
    assert_eq!(standing_of(&invite(), &parent), Status::Rejected(Unauthorised::NotARequest));

    let unusable = Candidate { leaf: None, ..brought(DAVE, CAROL, Some(invite())) };
    assert_eq!(status(&unusable, &parent, Path::default()), Status::Rejected(Unauthorised::AddUnjustified));
    let single = OWNER.sign(invite_body(Role::Member, 0, EPOCH));
    let used_up = status(&brought(DAVE, CAROL, Some(single)), &parent, Path::default());
    assert_eq!(used_up, Status::Rejected(Unauthorised::InviteUsedUp));
}

#[test]
fn what_acts_on_a_standing_still_to_come_is_ahead_until_its_own_state_is_passed() {
    let parent = crowd();
    let role = ChangeKind::Role { was: Role::Member, to: Role::Admin, role_changes: 1 };
    let (add, leaf, _) = DAVE.is_brought_by(CAROL, &invite());
    let Body::ChangeRequest { kind, target, .. } = add.event.body else { panic!("no request") };
    let add = CAROL.sign(Body::ChangeRequest { kind, target, generation: 1 });
    for ahead in [
        Candidate::plain(OWNER.sign(change(ChangeKind::Remove, CAROL, 1))),
        Candidate::plain(CAROL.sign(change(ChangeKind::Leave, CAROL, 1))),
        Candidate::plain(OWNER.asks(role, CAROL)),
        Candidate { request: add, leaf: Some(leaf), invite: Some(invite()) },
    ] {
        assert_eq!(status(&ahead, &parent, Path::default()), Status::Ahead);
        let passed = Path { has_seen: true, ..Path::default() };
        assert_eq!(status(&ahead, &parent, passed), Status::Stale);
        assert!(batch(vec![ahead], &parent, &BOB.id()).requests.is_empty());
    }

    // Removed and back, she has the standing that the request names.
    let mut returned = parent.clone();
    let gone = returned.policy.with_removed(&CAROL.account_id(), 1, false);
    returned.policy = gone.with_added(CAROL.account_id(), Role::Member, INVITE).unwrap();
    let removal = OWNER.sign(change(ChangeKind::Remove, CAROL, 1));
    assert_eq!(standing_of(&removal, &returned), Status::Open);
}

#[test]
fn who_may_not_ask_does_not_wait_for_a_standing_to_come() {
    let parent = crowd();
    let to_admin = ChangeKind::Role { was: Role::Member, to: Role::Admin, role_changes: 7 };
    let own_role = ChangeKind::Role { was: Role::Admin, to: Role::Owner, role_changes: 7 };
    for (request, refusal) in [
        (CAROL.sign(change(ChangeKind::Remove, BOB, 9)), Unauthorised::NotPermitted),
        (OWNER.sign(change(ChangeKind::Leave, BOB, 9)), Unauthorised::NotOwnRequest),
        (MODERATOR.asks(to_admin, CAROL), Unauthorised::NotPermitted),
        (ADMIN.asks(own_role, ADMIN), Unauthorised::NotPermitted),
    ] {
        assert_eq!(standing_of(&request, &parent), Status::Rejected(refusal));
    }
    // A role in another life is not known, and the moderator may remove a simple member.
    let removal = MODERATOR.sign(change(ChangeKind::Remove, OTHER_ADMIN, 9));
    assert_eq!(standing_of(&removal, &parent), Status::Ahead);
}

#[test]
fn what_waits_for_an_invite_stays_open() {
    let parent = crowd();
    let unknown_invite = brought(DAVE, CAROL, None);
    assert_eq!(status(&unknown_invite, &parent, Path::default()), Status::Open);
    assert!(batch(vec![unknown_invite], &parent, &BOB.id()).requests.is_empty());
}

/// Requests of all kinds, many of which exclude each other.
fn many() -> Vec<Candidate> {
    let mut open = plain(&[
        &OWNER.asks_to_remove(BOB),
        &ADMIN.asks_to_remove(BOB),
        &ADMIN.asks_for_role(BOB, Role::Member, Role::Moderator),
        &OTHER_ADMIN.asks_to_leave(),
        &OTHER_ADMIN.asks_for_role(MODERATOR, Role::Moderator, Role::Member),
        &CAROL.asks_to_remove(MODERATOR),
        &OWNER.asks_to_leave(),
        &OTHER_OWNER.asks_to_leave(),
    ]);
    open.extend([brought(DAVE, CAROL, Some(invite())), brought(DAVE, ADMIN, Some(invite()))]);
    open.extend([rejoining(MODERATOR), rejoining(ADMIN), rejoining(OTHER_ADMIN)]);
    open
}

#[test]
fn a_batch_is_one_valid_commit_whatever_order_requests_came_in() {
    let parent = crowd();
    let mut open = many();
    open.push(open[0].clone());
    let chosen = batch(open.clone(), &parent, &CAROL.id());
    let done = committed(&parent, CAROL, &chosen);
    assert_eq!(done.included, ids(&chosen));
    // One of three about Bob, one of two owners' leaves, one of two that bring Dave, no removal by Carol.
    assert_eq!(chosen.requests.len(), 1 + 1 + 1 + 1 + 1 + 2);
    assert_eq!((chosen.adds.len(), chosen.key_packages.len(), chosen.joins.len()), (3, 3, 1));
    let about_bob: Vec<_> = open[..3].iter().map(|candidate| candidate.request.id).collect();
    assert!(done.included.contains(about_bob.iter().min().unwrap()), "the first by id");

    for turn in 0..open.len() {
        open.rotate_left(1);
        open.swap(0, turn);
        assert_eq!(ids(&batch(open.clone(), &parent, &CAROL.id())), ids(&chosen));
    }
}

#[test]
fn removals_go_first() {
    let parent = crowd();
    let open = vec![rejoining(ADMIN), rejoining(BOB), Candidate::plain(OWNER.asks_to_remove(BOB))];
    let chosen = batch(open, &parent, &CAROL.id());
    assert_eq!(chosen.requests[0].id, OWNER.asks_to_remove(BOB).id);
    assert_eq!(committed(&parent, CAROL, &chosen).rejoined, [ADMIN.id()]);
}

#[test]
fn a_committer_leaves_its_own_removal_to_others() {
    let parent = crowd();
    let open = plain(&[&CAROL.asks_to_leave(), &BOB.asks_to_leave()]);
    let gone = |committer: Device| {
        committed(&parent, committer, &batch(open.clone(), &parent, &committer.id())).removed_accounts
    };
    assert_eq!(gone(CAROL), [BOB.account_id()]);
    assert_eq!(gone(BOB), [CAROL.account_id()]);
    assert_eq!(gone(OWNER).len(), 2);
    assert!(batch(open, &parent, &DAVE.id()).requests.is_empty(), "no member");
}

#[test]
fn a_batch_stays_within_a_commits_limits() {
    let mut parent = crowd();
    let many: Vec<_> =
        (0..MAX_REQUESTS as u8 + 8).map(|n| Device { account: 100 + n, number: 120 + n }).collect();
    for device in &many {
        let leaf = parent.roster.len() as u32;
        let certificate = device.certificate();
        parent.roster.push(RosterMember { leaf, certificate, encryption_key: [device.number; 32] });
        let added = parent.policy.with_added(device.account_id(), Role::Member, INVITE);
        parent.policy = added.unwrap();
    }
    let leaving = many.iter().map(|device| Candidate::plain(device.asks_to_leave())).collect();
    let chosen = batch(leaving, &parent, &CAROL.id());
    assert_eq!(chosen.requests.len(), MAX_REQUESTS);
    committed(&parent, CAROL, &chosen);

    let bulky = |device: &Device| {
        let key_package = vec![device.number; 16 * 1024];
        let key_package_hash = Sha256::digest(&key_package).into();
        let leaf = AddedLeaf { certificate: device.certificate(), key_package_hash };
        Candidate { leaf: Some(leaf), ..Candidate::plain(device.asks(rejoin(key_package, *device), *device)) }
    };
    let chosen = batch(many.iter().map(bulky).collect(), &parent, &CAROL.id());
    assert_eq!(chosen.requests.len(), MAX_JUSTIFICATION_BYTES / (16 * 1024) - 1);
    let distinct: HashSet<_> = ids(&chosen).into_iter().collect();
    assert_eq!(distinct.len(), chosen.requests.len());
    committed(&parent, CAROL, &chosen);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_open_a_batch_is_a_valid_commit(mask: u16, committer in 0..PEOPLE.len()) {
        let (parent, (committer, _)) = (crowd(), PEOPLE[committer]);
        let open: Vec<_> =
            many().into_iter().enumerate().filter(|(n, _)| mask >> n & 1 == 1).map(|(_, open)| open).collect();
        let chosen = batch(open.clone(), &parent, &committer.id());
        prop_assert_eq!(committed(&parent, committer, &chosen).included, ids(&chosen));
        // What can be acted on at all is not held up by what cannot.
        let possible =
            |open: &Candidate| !batch(vec![open.clone()], &parent, &committer.id()).requests.is_empty();
        if open.iter().any(possible) {
            prop_assert!(!chosen.requests.is_empty());
        }
    }
}
