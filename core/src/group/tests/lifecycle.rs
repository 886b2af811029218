//! What members who play by the rules see.

use super::fixture::{Actor, GID, Person, for_both_engines, founding_policy, three};
use crate::{
    dag::Class,
    event::ChangeKind,
    group::{
        authorize::{AddedLeaf, Justification, Unauthorised, plan},
        engine::Engine,
        error::{ApplicationError, CommitError, FrameError, GroupError},
        fake::FakeState,
        frame::{Frame, FrameKind},
        policy::PolicyAccount,
        rows::Rows,
        state::GroupState,
    },
    id::{AccountId, CommitId, FrameId},
    model::Role,
};

for_both_engines! {
    members_added_one_by_one_share_the_state_and_talk_across_restarts
    a_commit_leaves_its_parent_as_it_was_and_its_child_all_to_store
    the_commits_frame_opens_in_the_parent_only
    tips_are_sealed_with_the_states_key
    a_message_in_flight_across_a_commit_opens_from_the_parent
    rival_children_of_one_parent_are_both_alive
    a_removed_member_with_all_its_rows_opens_nothing_later
    any_member_commits_and_everyone_follows
    who_rejoins_is_back_with_a_fresh_leaf_in_the_same_commit
    adding_someone_keeps_the_route_secret
    a_message_opens_once_and_a_failure_takes_nothing_from_the_others
    what_was_opened_in_a_failed_transaction_opens_again
    a_message_changes_its_secrets_and_the_senders_counter_only
    a_restart_never_reuses_a_key
    own_messages_are_not_opened
    keys_are_kept_for_512_messages_out_of_order
    a_plaintext_that_fits_no_frame_uses_no_key
    a_state_with_a_long_policy_survives_its_rows
    damaged_rows_are_an_error
}

fn assert_same_state<E: Engine>(members: &[&Actor<E>]) {
    let facts: Vec<_> = members.iter().map(|member| member.state.facts()).collect();
    for pair in facts.windows(2) {
        assert_eq!(pair[0].sid, pair[1].sid);
        assert_eq!(pair[0].check, pair[1].check);
        assert_eq!(pair[0].env_tag, pair[1].env_tag);
        assert_eq!(pair[0].standing.policy, pair[1].standing.policy);
        let roster = |i: usize| -> Vec<_> {
            pair[i].standing.roster.iter().map(|m| (m.leaf, m.certificate.device)).collect()
        };
        assert_eq!(roster(0), roster(1));
    }
    let route_secrets: Vec<_> = members.iter().map(|member| member.state.route_secret()).collect();
    assert!(route_secrets.windows(2).all(|pair| pair[0] == pair[1]));
}

fn assert_everyone_hears_everyone<E: Engine>(members: &mut [&mut Actor<E>]) {
    for sender in 0..members.len() {
        let text = format!("from {sender}");
        let frame = members[sender].seal(text.as_bytes());
        let device = members[sender].who.device;
        for receiver in (0..members.len()).filter(|receiver| *receiver != sender) {
            let heard = members[receiver].open(&frame);
            assert_eq!(heard.plaintext, text.as_bytes());
            assert_eq!(heard.sender.certificate.device, device);
            assert_eq!(heard.counter, frame.counter);
        }
    }
}

#[test]
fn states_are_send_and_sync() {
    fn check<T: Send + Sync>() {}
    check::<GroupState>();
    check::<FakeState>();
}

fn members_added_one_by_one_share_the_state_and_talk_across_restarts<E: Engine>() {
    let alice = Actor::<E>::founder(1);
    assert_eq!(alice.state.facts().epoch, 0);
    let (first, mut joined) = alice.add(&[&Person::new(2)]);
    let mut bob = joined.pop().unwrap();
    let mut alice = Actor::new(&alice.who, first.child);
    assert_same_state(&[&alice, &bob]);
    alice.restart();
    bob.restart();

    let (second, mut joined) = alice.add(&[&Person::new(3)]);
    let mut carol = joined.pop().unwrap();
    let mut bob = bob.follow(&second.commit);
    let mut alice = Actor::new(&alice.who, second.child);
    for _ in 0..3 {
        assert_same_state(&[&alice, &bob, &carol]);
        assert_everyone_hears_everyone(&mut [&mut alice, &mut bob, &mut carol]);
        [&mut alice, &mut bob, &mut carol].into_iter().for_each(Actor::restart);
    }
    assert_eq!(alice.state.facts().epoch, 2);
    assert_eq!([&alice, &bob, &carol].map(|member| member.state.facts().own_leaf), [0, 1, 2]);
}

fn a_commit_leaves_its_parent_as_it_was_and_its_child_all_to_store<E: Engine>() {
    let [mut alice, mut bob, _] = three::<E>();
    let before = alice.state.facts().sid;
    let mut committed = alice.refresh();
    assert_eq!(committed.commit_id, CommitId::of(&committed.commit));
    assert_eq!(alice.state.facts().sid, before);
    assert!(alice.store().upserts.is_empty(), "the committer's parent");
    let processed = bob.process(&committed.commit);
    assert!(bob.store().upserts.is_empty(), "the receiver's parent");
    assert_eq!(processed.commit_id, committed.commit_id);
    assert_eq!(processed.committer, alice.who.device);

    let changes = committed.child.take_changes().unwrap();
    assert!(changes.deletes.is_empty());
    let stored = E::load(GID, Rows::from_rows(changes.upserts)).unwrap();
    assert_eq!(stored.facts().sid, committed.child.facts().sid);
    let child = Actor::new(&bob.who, processed.child().unwrap());
    assert_eq!(child.state.facts().sid, committed.child.facts().sid);
    assert_eq!(E::sid_of_commit(&GID, &committed.commit).unwrap(), child.state.facts().sid);
}

fn the_commits_frame_opens_in_the_parent_only<E: Engine>() {
    let [alice, bob, _] = three::<E>();
    let committed = alice.refresh();
    let frame = Frame::decode(&committed.frame).unwrap();
    let opened = bob.state.open_frame(&frame).unwrap();
    assert_eq!((opened.kind, opened.leaf, opened.counter), (FrameKind::Commit, 0, 0));
    assert_eq!(opened.body, committed.commit);
    let child = bob.follow(&opened.body);
    assert!(child.state.open_frame(&frame) == Err(FrameError::WrongState));
}

fn tips_are_sealed_with_the_states_key<E: Engine>() {
    let [alice, bob, _] = three::<E>();
    let frame = Frame::decode(&alice.state.seal_tip(b"tip").unwrap()).unwrap();
    assert_eq!(frame.env_tag(), alice.state.facts().env_tag);
    let opened = bob.state.open_frame(&frame).unwrap();
    assert!(opened.kind == FrameKind::Tip && opened.body == b"tip");
}

fn a_message_in_flight_across_a_commit_opens_from_the_parent<E: Engine>() {
    let [alice, mut bob, mut carol] = three::<E>();
    let late = bob.seal(b"late");
    bob.store();
    let committed = alice.refresh();
    let mut bobs_child = bob.follow(&committed.commit);
    let mut carols_child = carol.follow(&committed.commit);
    let new = bobs_child.seal(b"new");
    assert_eq!(new.counter, 0, "a new state counts from zero");
    carol.restart();
    assert_eq!(carol.open(&late).plaintext, b"late");
    assert_eq!(carols_child.open(&new).plaintext, b"new");
}

fn rival_children_of_one_parent_are_both_alive<E: Engine>() {
    let [alice, bob, _] = three::<E>();
    let (one, other) = (alice.refresh(), alice.refresh());
    assert_ne!(one.child.facts().sid, other.child.facts().sid);
    for committed in [one, other] {
        let mut child = bob.follow(&committed.commit);
        let mut alice = Actor::new(&alice.who, committed.child);
        assert_everyone_hears_everyone(&mut [&mut alice, &mut child]);
    }
}

fn a_removed_member_with_all_its_rows_opens_nothing_later<E: Engine>() {
    let [alice, bob, mut carol] = three::<E>();
    let removal = alice.remove(&bob.who);
    assert_eq!(removal.authorized.removed, [(bob.who.device, false)]);
    let seen_by_bob = bob.process(&removal.commit);
    assert_eq!(seen_by_bob.authorized.removed, removal.authorized.removed);
    assert!(seen_by_bob.child().is_none());

    carol = carol.follow(&removal.commit);
    let mut alice_after = Actor::new(&alice.who, removal.child);
    assert_same_state(&[&alice_after, &carol]);
    assert_eq!(carol.state.facts().standing.roster.len(), 2);
    assert_ne!(alice_after.state.route_secret(), alice.state.route_secret());

    let later = alice_after.seal(b"without bob");
    let frame = Frame::decode(&later.bytes).unwrap();
    let leaked = carol.state.open_frame(&frame).unwrap();
    let mut bob_again = bob.loaded();
    assert!(bob_again.open_frame(&frame) == Err(FrameError::WrongState));
    // Not even with the frame's key from someone who stayed.
    assert_eq!(bob_again.open_application(&leaked).err(), Some(ApplicationError::Invalid));
    assert_eq!(carol.open(&later).plaintext, b"without bob");

    let next = alice_after.refresh();
    assert!(matches!(bob_again.process_commit(&next.commit), Err(CommitError::WrongEpoch)));
}

fn any_member_commits_and_everyone_follows<E: Engine>() {
    let [alice, bob, carol] = three::<E>();
    let refresh = bob.refresh();
    assert_eq!(refresh.authorized.class, Class::Update);
    let (alice, carol) = (alice.follow(&refresh.commit), carol.follow(&refresh.commit));
    let bob = Actor::new(&bob.who, refresh.child);
    assert_same_state(&[&alice, &bob, &carol]);

    // The owner asks that Carol moderates; Carol commits it, and Bob what Carol then asks for.
    let role = ChangeKind::Role { was: Role::Member, to: Role::Moderator, role_changes: 0 };
    let moderates = carol.answer(vec![alice.who.asks(role, &carol.who, 0)], &[]);
    assert_eq!(moderates.authorized.class, Class::Removal);
    let (alice, bob) = (alice.follow(&moderates.commit), bob.follow(&moderates.commit));
    let mut carol = Actor::new(&carol.who, moderates.child);
    assert_same_state(&[&alice, &bob, &carol]);
    let removal = carol.who.asks(ChangeKind::Remove, &bob.who, 0);
    let without_bob = alice.answer(vec![removal], &[]);
    assert!(bob.process(&without_bob.commit).child().is_none());
    carol = carol.follow(&without_bob.commit);
    let mut alice = Actor::new(&alice.who, without_bob.child);
    assert_same_state(&[&alice, &carol]);
    assert_everyone_hears_everyone(&mut [&mut alice, &mut carol]);
}

fn who_rejoins_is_back_with_a_fresh_leaf_in_the_same_commit<E: Engine>() {
    let [mut alice, bob, carol] = three::<E>();
    let fresh = E::fresh_key_package(&carol.who.identity).unwrap();
    let standing = &carol.state.facts().standing;
    let old_encryption_key = standing.member(&carol.who.device).unwrap().encryption_key;
    let rejoin = ChangeKind::Rejoin { key_package: fresh.bytes.clone(), old_encryption_key };
    let request = carol.who.asks(rejoin, &carol.who, 0);
    let committed = bob.answer(vec![request.clone()], &[&fresh]);
    assert_eq!(committed.authorized.rejoined, [carol.who.device]);
    assert_eq!(committed.authorized.class, Class::Change);
    assert!(committed.authorized.removed.is_empty() && committed.authorized.added.is_empty());

    let processed = alice.process(&committed.commit);
    assert_eq!(processed.authorized, committed.authorized);
    alice = Actor::new(&alice.who, processed.child().unwrap());
    let welcome = committed.welcome.as_deref().unwrap();
    let (rows, route) = (Rows::from_rows(fresh.rows.upserts), *committed.child.route_secret());
    let joined = E::join(&carol.who.identity, GID, rows, welcome, route).unwrap();
    let mut carols_new = Actor::new(&carol.who, joined);
    let mut bob = Actor::new(&bob.who, committed.child);
    assert_same_state(&[&alice, &bob, &carols_new]);
    assert_everyone_hears_everyone(&mut [&mut alice, &mut bob, &mut carols_new]);
    // The old leaf is out, and the request is spent.
    assert!(carol.process(&committed.commit).child().is_none());
    let key_package = E::check_key_package(&fresh.bytes).unwrap();
    let leaf = AddedLeaf { certificate: key_package.certificate, key_package_hash: key_package.hash };
    let again = Justification { requests: vec![request], ..Justification::empty(0) };
    let standing = &alice.state.facts().standing;
    assert_eq!(plan(standing, &alice.who.device, &[leaf], &again), Err(Unauthorised::Stale));
}

fn adding_someone_keeps_the_route_secret<E: Engine>() {
    let founder = Actor::<E>::founder(1);
    let (committed, _) = founder.add(&[&Person::new(2)]);
    assert_eq!(committed.child.route_secret(), founder.state.route_secret());
    assert_eq!(committed.authorized.added, [Person::new(2).device]);
}

fn a_message_opens_once_and_a_failure_takes_nothing_from_the_others<E: Engine>() {
    let [mut alice, mut bob, _] = three::<E>();
    let frames: Vec<_> = (0..5u8).map(|n| alice.seal(&[n])).collect();
    assert_eq!(bob.open(&frames[3]).plaintext, [3]);
    let again = bob.state.open_frame(&Frame::decode(&frames[3].bytes).unwrap()).unwrap();
    assert_eq!(bob.state.open_application(&again).err(), Some(ApplicationError::Reused));
    bob.restart();
    assert_eq!(bob.state.open_application(&again).err(), Some(ApplicationError::Reused));
    for n in [0, 4, 1, 2] {
        assert_eq!(bob.open(&frames[n]).plaintext, [n as u8]);
    }
}

fn what_was_opened_in_a_failed_transaction_opens_again<E: Engine>() {
    let [mut alice, mut bob, _] = three::<E>();
    let frame = alice.seal(b"twice");
    assert_eq!(bob.open(&frame).plaintext, b"twice");
    bob.state = bob.loaded();
    assert_eq!(bob.open(&frame).plaintext, b"twice");
}

fn a_message_changes_its_secrets_and_the_senders_counter_only<E: Engine>() {
    let [mut alice, mut bob, _] = three::<E>();
    let keys = |member: &mut Actor<E>| -> Vec<String> {
        let label = |(key, _): &(Vec<u8>, Vec<u8>)| {
            String::from_utf8_lossy(key.split(|byte| *byte == 0).next().unwrap()).into_owned()
        };
        let changes = member.store();
        assert!(changes.deletes.is_empty());
        changes.upserts.iter().map(label).collect()
    };
    let frames: Vec<_> = (0..10).map(|_| alice.seal(b"text")).collect();
    assert_eq!(keys(&mut alice), ["message-secrets", "sp/send-counter"]);
    frames.iter().for_each(|frame| drop(bob.open(frame)));
    assert_eq!(keys(&mut bob), ["message-secrets"]);
    assert!(keys(&mut bob).is_empty());
}

fn a_restart_never_reuses_a_key<E: Engine>() {
    let [mut alice, mut bob, _] = three::<E>();
    for expected in 0..4 {
        let frame = alice.seal(b"text");
        assert_eq!(frame.counter, expected);
        assert_eq!(frame.id, FrameId::of(&frame.bytes));
        assert_eq!(bob.open(&frame).counter, expected);
        alice.restart();
    }
}

fn own_messages_are_not_opened<E: Engine>() {
    let [mut alice, ..] = three::<E>();
    let frame = alice.seal(b"mine");
    let opened = alice.state.open_frame(&Frame::decode(&frame.bytes).unwrap()).unwrap();
    assert_eq!(alice.state.open_application(&opened).err(), Some(ApplicationError::Own));
}

fn keys_are_kept_for_512_messages_out_of_order<E: Engine>() {
    let [mut alice, mut bob, _] = three::<E>();
    let frames: Vec<_> = (0..520u16).map(|n| alice.seal(&n.to_be_bytes())).collect();
    assert_eq!(bob.open(&frames[519]).plaintext, 519u16.to_be_bytes());
    assert_eq!(bob.open(&frames[8]).plaintext, 8u16.to_be_bytes());
    let oldest = bob.state.open_frame(&Frame::decode(&frames[0].bytes).unwrap()).unwrap();
    assert_eq!(bob.state.open_application(&oldest).err(), Some(ApplicationError::TooOld));
}

fn a_plaintext_that_fits_no_frame_uses_no_key<E: Engine>() {
    let [mut alice, mut bob, _] = three::<E>();
    let huge = vec![0; crate::group::message::MAX_PLAINTEXT_BYTES + 1];
    let refused = alice.state.seal_application(&alice.who.identity, &huge);
    assert!(matches!(refused, Err(GroupError::TooLarge)));
    let largest = alice.seal(&huge[1..]);
    assert_eq!((largest.counter, bob.open(&largest).plaintext.len()), (0, huge.len() - 1));
}

fn a_state_with_a_long_policy_survives_its_rows<E: Engine>() {
    let who = Person::new(1);
    let mut policy = founding_policy(&who);
    policy.accounts.extend((0..500u16).map(|n| {
        let mut account = [200; 32];
        account[..2].copy_from_slice(&n.to_be_bytes());
        let entered = PolicyAccount::entering(AccountId(account), Role::Member);
        PolicyAccount { role: None, generation: 1, barred_until_epoch: 1, ..entered }
    }));
    policy.accounts.sort_by_key(|entry| entry.account);
    let state = E::create(&who.identity, GID, policy.clone()).unwrap();
    let mut founder = Actor::new(&who, state);
    founder.restart();
    assert_eq!(founder.state.facts().standing.policy, policy);
    let (committed, mut joined) = founder.add(&[&Person::new(2)]);
    let mut alice = Actor::new(&who, committed.child);
    let mut bob = joined.pop().unwrap();
    bob.restart();
    assert_everyone_hears_everyone(&mut [&mut alice, &mut bob]);
}

fn damaged_rows_are_an_error<E: Engine>() {
    let [mut alice, ..] = three::<E>();
    for key in alice.stored_mut().keys().cloned().collect::<Vec<_>>() {
        let mut rows = alice.stored_mut().clone();
        rows.insert(key.clone(), b"\xff".to_vec());
        let rows = Rows::from_rows(rows);
        let loaded = E::load(GID, rows);
        // Keys that only the next commit needs are read then.
        assert!(loaded.is_err() || key.starts_with(b"epoch-keys"), "{}", String::from_utf8_lossy(&key));
    }
    assert!(matches!(E::load(GID, Default::default()), Err(GroupError::Damaged)));
}
