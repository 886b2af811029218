//! What our engine refuses from members who run another one: valid MLS, but not as our groups have it.

use std::time::Duration;

use spacepanda_core::group::{
    authorize::Unauthorised,
    error::{ApplicationError, CommitError, FrameError, GroupError},
    key_package::check_key_package,
};

use crate::{
    envelope::{APPLICATION, COMMIT, Content, Envelope},
    member::{Change, Followed, Member},
    other::{Habits, Stranger},
    ours::Joiner,
    paper::{MEMBER, MODERATOR, admission, leave, promotion, refresh, removal},
    story::{of_a_host, with_a_guest},
};

fn unauthorised(refusal: Option<CommitError>) -> Unauthorised {
    match refusal {
        Some(CommitError::Unauthorised(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn key_packages_that_do_not_fit_are_refused() {
    let check = |habits: &Habits| check_key_package(&Stranger::new(2, habits).request().key_package);
    let fit = Stranger::new(2, &Habits::default()).request();
    assert!(check_key_package(&fit.key_package).unwrap().certificate == fit.who.certificate);

    let ignorant = Habits { lists_policy: false, ..Habits::default() };
    assert!(matches!(check(&ignorant), Err(GroupError::KeyPackage)));
    let a_year = Habits { lifetime: Duration::from_secs(365 * 24 * 60 * 60), ..Habits::default() };
    assert!(matches!(check(&a_year), Err(GroupError::KeyPackage)));
    // As the library writes it: an MLSMessage, and not the KeyPackage alone.
    let wrapped = [&[0, 1, 0, 5], &fit.key_package[..]].concat();
    assert!(matches!(check_key_package(&wrapped), Err(GroupError::KeyPackage)));
}

#[test]
fn a_guest_commits_nothing_that_it_may_not_ask_for() {
    let (alice, bob, mut mina) = with_a_guest();
    let carol = Joiner::new(4).request();
    let nothing = refresh(&mina);
    let unasked = |change: Change| Change { justification: nothing.justification.clone(), ..change };
    let role = promotion(&mina, mina.device(), mina.device(), MODERATOR);
    for (change, reason) in [
        (removal(&mina, bob.device()), Unauthorised::NotPermitted),
        (removal(&mina, alice.device()), Unauthorised::NotPermitted),
        (unasked(removal(&mina, bob.device())), Unauthorised::RemoveUnjustified),
        (role.clone(), Unauthorised::NotPermitted),
        (unasked(role), Unauthorised::PolicyMismatch),
        (admission(&mina, &[&carol]), Unauthorised::NotPermitted),
        (leave(&mina, bob.device(), mina.device().asks_to_leave()), Unauthorised::CommitterRemoved),
    ] {
        let frame = mina.attempt(&change);
        assert_eq!(unauthorised(alice.refusal(&frame)), reason);
        assert_eq!(unauthorised(bob.refusal(&frame)), reason);
    }
}

#[test]
fn a_guest_does_not_replay_what_was_asked_before() {
    let (mut alice, mut bob, mut mina) = with_a_guest();
    let promoted = promotion(&alice, alice.device(), mina.device(), MODERATOR);
    let sent = alice.commit(&promoted);
    assert_eq!([mina.follow(&sent.frame), bob.follow(&sent.frame)], [Followed::Stayed, Followed::Stayed]);
    let sent = alice.commit(&promotion(&alice, alice.device(), mina.device(), MEMBER));
    assert_eq!([mina.follow(&sent.frame), bob.follow(&sent.frame)], [Followed::Stayed, Followed::Stayed]);
    let again = promotion(&mina, alice.device(), mina.device(), MODERATOR);
    let replayed = Change { justification: promoted.justification, ..again };
    let frame = mina.attempt(&replayed);
    assert_eq!(unauthorised(alice.refusal(&frame)), Unauthorised::Stale);
    assert_eq!(unauthorised(bob.refusal(&frame)), Unauthorised::Stale);
}

#[test]
fn a_host_commits_nothing_without_its_reason() {
    let (mut mina, alice, bob) = of_a_host();
    let carol = Joiner::new(4).request();
    let good = removal(&mina, bob.device());
    let in_with_carol = admission(&mina, &[&carol]);
    let no_reason = refresh(&mina);

    let mut refusal = |change: Change| unauthorised(alice.refusal(&mina.attempt(&change)));
    let bare = Change { justification: vec![], ..no_reason.clone() };
    assert_eq!(refusal(bare), Unauthorised::Justification);
    let unasked = Change { justification: no_reason.justification.clone(), ..good.clone() };
    assert_eq!(refusal(unasked), Unauthorised::RemoveUnjustified);
    let uninvited = Change { justification: no_reason.justification, ..in_with_carol.clone() };
    assert_eq!(refusal(uninvited), Unauthorised::AddUnjustified);
    let uncounted = Change { policy: no_reason.policy, ..in_with_carol };
    assert_eq!(refusal(uncounted), Unauthorised::PolicyMismatch);

    let frame = mina.attempt(&good);
    assert!(alice.refusal(&frame).is_none(), "the same removal with its reason");
}

#[test]
fn an_encrypted_handshake_is_refused() {
    let (mut mina, alice) = {
        let habits = Habits { encrypts_handshake: true, ..Habits::default() };
        let mut mina = Stranger::new(2, &habits).found();
        let alice = Joiner::new(1);
        let sent = mina.commit(&admission(&mina, &[&alice.request()]));
        let alice = alice.join(&sent.welcome.unwrap(), mina.view().route_secret);
        (mina, alice)
    };
    let frame = mina.attempt(&refresh(&mina));
    assert!(matches!(alice.refusal(&frame), Some(CommitError::Malformed)));
}

#[test]
fn keys_of_one_state_open_nothing_of_the_next() {
    let (mut alice, mut bob, mut mina) = with_a_guest();
    let old = mina.envelope();
    let old_message = mina.encrypt(b"old", Content::binding(mina.leaf(), 0));
    let sent = alice.commit(&refresh(&alice));
    assert_eq!(mina.follow(&sent.frame), Followed::Stayed);

    // Theirs: the old key does not open what ours sealed, the new one does.
    let frame = alice.write("new");
    assert!(old.open(&frame).is_none());
    assert!(mina.envelope().open(&frame).is_some());

    // Ours: neither the old state's frame, nor the old key under the new state's name.
    let content =
        |body: &[u8]| Content { kind: APPLICATION, leaf: mina.leaf(), counter: 0, body: body.to_vec() };
    let late = old.seal(&content(&old_message));
    assert_eq!(alice.open(&late).err(), Some(FrameError::WrongState));
    let renamed = Envelope { key: old.key, ..mina.envelope() };
    assert_eq!(alice.open(&renamed.seal(&content(&old_message))).err(), Some(FrameError::Seal));

    // In its own state it opens, which Bob is still in.
    let in_its_state = bob.open(&late).unwrap();
    assert_eq!(bob.decrypt(&in_its_state).unwrap().plaintext, b"old");

    // But not in a frame of the new one.
    let opened = alice.open(&mina.envelope().seal(&content(&old_message))).unwrap();
    assert_eq!(alice.decrypt(&opened).err(), Some(ApplicationError::Invalid));
}

#[test]
fn a_message_is_what_its_frame_says() {
    let (mut alice, _, mut mina) = with_a_guest();
    let (leaf, envelope) = (mina.leaf(), mina.envelope());
    let unbound = mina.encrypt(b"text", vec![]);
    let bound = mina.encrypt(b"text", Content::binding(leaf, 1));
    let mut outcome = |leaf: u32, counter: u32, body: &[u8]| {
        let content = Content { kind: APPLICATION, leaf, counter, body: body.to_vec() };
        let opened = alice.open(&envelope.seal(&content)).unwrap();
        alice.decrypt(&opened).map(|application| application.plaintext)
    };
    assert_eq!(outcome(leaf, 0, &unbound), Err(ApplicationError::WrongSender));
    assert_eq!(outcome(leaf, 0, &bound), Err(ApplicationError::WrongSender));
    assert_eq!(outcome(leaf + 1, 1, &bound), Err(ApplicationError::WrongSender));
    assert_eq!(outcome(leaf, 1, &bound), Ok(b"text".to_vec()));
    assert_eq!(outcome(leaf, 1, &bound), Err(ApplicationError::Reused));
}

#[test]
fn nobody_commits_themselves_in() {
    let (alice, _, mina) = with_a_guest();
    let reason = refresh(&alice).justification;
    let commit = Stranger::new(5, &Habits::default()).commit_externally(&mina.group_info(), reason);
    let body = [commit, vec![1; 64]].concat();
    let frame = mina.envelope().seal(&Content { kind: COMMIT, leaf: mina.leaf(), counter: 0, body });
    assert!(matches!(alice.refusal(&frame), Some(CommitError::Forbidden)));
}
