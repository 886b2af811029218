//! A member who commits what nobody asked for who may: refused by everyone, counted, and nobody moves.

use spacepanda_core::{
    event::{Body, ChangeKind, SignedEvent},
    group::{
        authorize::{JoinProof, Justification, sign_join},
        commit::Change,
        key_package::fresh_key_package,
        policy::{Policy, PolicyAccount},
        state::StateFacts,
        testing::Hostile as _,
    },
    id::DeviceId,
    invite::InviteLink,
    model::Role,
};
use spacepanda_proto::peer::v1::FrameOutcome;

use super::Infiltrated;
use crate::harness::{
    Person,
    hostile::{Intruder, Mole, counter, rejected},
    same_world,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_members_commit_moves_nobody() {
    let mut story = Infiltrated::new().await;
    let link = story.alice.invite_for(&story.place.space, 10).await.link;
    let Infiltrated { alice, bob, mole, .. } = &mut story;
    let facts = mole.head().facts().clone();
    let policy = facts.standing.policy.clone();
    let nothing = nothing(mole);
    let (alices, bobs) = (device_of(&facts, alice), device_of(&facts, bob));

    let remove_bob = Change { removes: vec![bobs], policy: without(&policy, bob), ..nothing.clone() };
    let request = removal_of(mole, bob);
    let remove_alice = Change { removes: vec![alices], policy: without(&policy, alice), ..nothing.clone() };
    let crown = Change { policy: crowned(&policy, mole), ..nothing.clone() };
    let (smuggle, with_proof) = smuggle(mole, &nothing, &link).await;
    let attempts = [
        ("removing bob", remove_bob.clone(), reasons(vec![], vec![])),
        ("removing bob by its own request", remove_bob, reasons(vec![request], vec![])),
        ("removing the owner", remove_alice, reasons(vec![], vec![])),
        ("making itself the owner", crown, reasons(vec![], vec![])),
        ("adding an accomplice", smuggle.clone(), reasons(vec![], vec![])),
        ("adding an accomplice with the owner's own invite", smuggle, with_proof),
    ];
    for (number, (what, change, justification)) in (1..).zip(attempts) {
        let frame = mole.forge_commit(&change, justification);
        for victim in [&*alice, &*bob] {
            assert_eq!(mole.push(victim, &frame).await, FrameOutcome::Rejected, "{what}");
            assert_eq!(rejected(victim, "unauthorised_commit").await, number, "{what}");
        }
    }
    for victim in [&*alice, &*bob] {
        assert_eq!(counter(victim, "spacepanda_peers_blocked_total").await, 0);
    }
    story.unharmed(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_are_no_commits_are_refused_too() {
    let mut story = Infiltrated::new().await;
    let Infiltrated { alice, bob, mole, .. } = &mut story;
    let change = nothing(mole);
    let genuine = mole.forge_commit(&change, reasons(vec![], vec![]));
    let frame = spacepanda_core::group::frame::Frame::decode(&genuine).expect("a frame");
    let opened = mole.head().open_frame(&frame).expect("opens");
    let mut spoilt = opened.body.clone();
    *spoilt.last_mut().expect("bytes") ^= 1;
    let cut = opened.body[..opened.body.len() / 2].to_vec();
    for (number, body) in (1..).zip([spoilt, cut, b"no commit".to_vec(), Vec::new()]) {
        // Where the signature of a skeleton would be.
        let body = [&body[..], &[0; 64]].concat();
        let frame = mole.head().forge_frame(opened.kind, opened.leaf, 0, &body).expect("sealed");
        for victim in [&*alice, &*bob] {
            assert_eq!(mole.push(victim, &frame).await, FrameOutcome::Rejected);
            assert_eq!(rejected(victim, "signature").await, number);
        }
    }
    story.unharmed(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_on_committing_is_cut_off() {
    let mut story = Infiltrated::new().await;
    let Infiltrated { alice, mole, .. } = &mut story;
    let crown = Change { policy: crowned(&nothing(mole).policy, mole), ..nothing(mole) };
    for _ in 1..8 {
        let frame = mole.forge_commit(&crown, reasons(vec![], vec![]));
        assert_eq!(mole.push(alice, &frame).await, FrameOutcome::Rejected);
    }
    let last = mole.forge_commit(&crown, reasons(vec![], vec![]));
    // The answer to the last one may be lost with the connection.
    let push = crate::harness::hostile::push_frames(&[last]);
    let push = spacepanda_proto::peer::v1::PeerRequest { kind: Some(push) };
    let _ = mole.intruder.raw(alice, prost::Message::encode_to_vec(&push)).await;
    mole.intruder.is_shut_out(alice).await;
    assert_eq!(counter(alice, "spacepanda_peers_blocked_total").await, 1);
    story.unharmed(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_one_devices_commits_on_one_state_no_third_is_looked_at() {
    let mut story = Infiltrated::new().await;
    let Infiltrated { alice, mole, .. } = &mut story;
    // Fresh keys are anyone's right, once a state. A second commit is a lie, and both are kept to choose from.
    for expected in [FrameOutcome::Stored, FrameOutcome::Stored, FrameOutcome::Rejected] {
        let change = nothing(mole);
        let frame = mole.forge_commit(&change, reasons(vec![], vec![]));
        assert_eq!(mole.push(alice, &frame).await, expected);
    }
    assert_eq!(rejected(alice, "equivocation").await, 1);
    assert_eq!(rejected(alice, "flood").await, 1);
    same_world(&[&story.alice, &story.bob], &story.place.space, 0).await;
}

/// A commit that changes nobody but its committer's keys.
fn nothing(mole: &mut Mole) -> Change {
    let policy = mole.head().facts().standing.policy.clone();
    Change { adds: vec![], removes: vec![], policy }
}

fn reasons(requests: Vec<SignedEvent>, joins: Vec<JoinProof>) -> Vec<u8> {
    Justification { wall_ms: 1, requests, joins }.encode().unwrap_or_else(|error| panic!("{error}"))
}

fn removal_of(mole: &mut Mole, target: &Person) -> SignedEvent {
    let target = account_of(mole.head().facts(), target);
    let event = mole.next_event(Body::ChangeRequest { kind: ChangeKind::Remove, target, generation: 0 });
    mole.sign(event)
}

/// The Add of an accomplice, and a proof made with a link of the owner's.
async fn smuggle(mole: &mut Mole, nothing: &Change, link: &str) -> (Change, Vec<u8>) {
    let link = InviteLink::parse(link).expect("a link");
    let accomplice = Intruder::new("accomplice").await;
    let key_package = fresh_key_package(&accomplice.device()).expect("a KeyPackage");
    let is_it = |event: &SignedEvent| matches!(event.event.body, Body::Invite { public_key, .. } if public_key == link.public_key());
    let invite = mole
        .hears("the owner's invite", |heard| {
            heard.iter().flat_map(|heard| &heard.events).find(|event| is_it(event)).cloned()
        })
        .await;
    let nonce = [3; 32];
    let signature = sign_join(&link.seed, &link.gid, &nonce, &key_package.hash);
    let proof = JoinProof { invite, nonce, key_package_hash: key_package.hash, signature };
    let account = accomplice.identity.certificate.account;
    let mut policy = nothing.policy.clone();
    let entry = PolicyAccount::entering(account, Role::Member);
    policy.accounts.push(entry);
    policy.accounts.sort_by_key(|entry| entry.account);
    let change = Change { adds: vec![key_package.bytes], policy, ..nothing.clone() };
    (change, reasons(vec![], vec![proof]))
}

fn crowned(policy: &Policy, mole: &Mole) -> Policy {
    let own = mole.intruder.identity.certificate.account;
    let mut policy = policy.clone();
    for entry in &mut policy.accounts {
        entry.role = Some(if entry.account == own { Role::Owner } else { Role::Member });
    }
    policy
}

fn without(policy: &Policy, person: &Person) -> Policy {
    let mut policy = policy.clone();
    for entry in policy.accounts.iter_mut().filter(|entry| entry.account.to_string() == person.account()) {
        (entry.role, entry.generation) = (None, entry.generation + 1);
    }
    policy
}

fn device_of(facts: &StateFacts, person: &Person) -> DeviceId {
    let roster = &facts.standing.roster;
    let member = roster.iter().find(|member| member.certificate.account.to_string() == person.account());
    member.expect("a member").certificate.device
}

fn account_of(facts: &StateFacts, person: &Person) -> spacepanda_core::id::AccountId {
    let entries = &facts.standing.policy.accounts;
    entries.iter().find(|entry| entry.account.to_string() == person.account()).expect("a member").account
}
