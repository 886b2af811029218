//! States, their rival children and those who cannot follow: what healing a fork builds on.

use std::collections::BTreeSet;

use super::fixture::{Actor, GID, Person, for_both_engines, no_reason, opened, three};
use crate::{
    dag::Class,
    group::{
        authorize::{Standing, Unauthorised},
        commit::Committed,
        engine::{Engine, Outcome, PublicChild},
        error::{ApplicationError, CommitError, FrameError},
        fake::{FakeState, seed_chance},
        frame::Frame,
        rows::RowChanges,
        state::GroupState,
        testing::Hostile,
    },
    id::DeviceId,
};

for_both_engines! {
    everyone_is_told_the_same_of_a_commit
    someone_who_leaves_sees_the_state_without_them
    a_freed_leaf_is_the_next_ones
    rivals_of_one_parent_are_alive_at_every_member
    a_rival_is_of_no_use_in_the_others_branch
    a_secret_that_does_not_open_leads_to_the_state_that_others_are_in
    a_secret_is_kept_from_someone_deep_in_the_tree
    what_nobody_asked_for_is_refused
    nothing_that_fails_leaves_a_trace
    a_loaded_state_does_what_the_live_one_does
    rows_of_a_state_change_in_its_messages_only
    a_sender_may_be_far_ahead_but_not_too_far
}

fn devices(standing: &Standing) -> Vec<(u32, DeviceId, [u8; 32])> {
    let leaf = |m: &crate::group::authorize::RosterMember| (m.leaf, m.certificate.device, m.encryption_key);
    standing.roster.iter().map(leaf).collect()
}

fn assert_is(seen: &PublicChild, child: &impl Engine) {
    let facts = child.facts();
    assert_eq!(seen.sid, facts.sid);
    assert_eq!((seen.standing.gid, seen.standing.epoch), (facts.gid, facts.epoch));
    assert_eq!(seen.standing.policy, facts.standing.policy);
    assert_eq!(devices(&seen.standing), devices(&facts.standing));
}

fn child<E: Engine>(of: &Actor<E>, committed: Committed<E>) -> Actor<E> {
    Actor::new(&of.who, committed.child)
}

/// A commit whose secret does not open for `victim`, and that does nothing else.
fn spite<E: Hostile>(committer: &Actor<E>, victim: &Actor<E>) -> Committed<E> {
    let (identity, change) = (&committer.who.identity, committer.no_change());
    committer.state.commit_against(identity, &change, no_reason(), &[victim.who.device]).unwrap()
}

fn everyone_is_told_the_same_of_a_commit<E: Engine>() {
    let [alice, bob, carol] = three::<E>();
    let (added, joined) = alice.add(&[&Person::new(4)]);
    let cases = [
        (alice.refresh(), Class::Update, 0),
        (added, Class::Change, 0),
        (alice.remove(&carol.who), Class::Removal, 1),
        (alice.let_go(&carol.who), Class::Removal, 1),
    ];
    for (committed, class, requests) in cases {
        assert_eq!(committed.committer, alice.who.device);
        assert_eq!((committed.authorized.class, committed.authorized.included.len()), (class, requests));
        for receiver in [&bob, &carol] {
            let processed = receiver.process(&committed.commit);
            assert_eq!(processed.commit_id, committed.commit_id);
            assert_eq!(processed.committer, alice.who.device);
            assert_eq!(processed.authorized, committed.authorized);
        }
    }
    assert_eq!(joined[0].state.facts().standing.roster.len(), 4);
}

fn someone_who_leaves_sees_the_state_without_them<E: Engine>() {
    let [alice, bob, carol] = three::<E>();
    let committed = alice.let_go(&carol.who);
    assert_eq!(committed.authorized.removed_accounts, [carol.who.account]);
    let Outcome::Removed(seen) = carol.process(&committed.commit).outcome else { panic!("still in") };
    assert_is(&seen, &committed.child);
    assert_eq!(devices(&seen.standing).len(), 2);
    let mut bob = bob.follow(&committed.commit);
    let mut alice = child(&alice, committed);
    let frame = alice.seal(b"the two of us");
    assert_eq!(bob.open(&frame).plaintext, b"the two of us");
    let frame = Frame::decode(&frame.bytes).unwrap();
    assert!(carol.state.open_frame(&frame) == Err(FrameError::WrongState));
}

fn a_freed_leaf_is_the_next_ones<E: Engine>() {
    let [alice, bob, carol] = three::<E>();
    let removal = alice.remove(&bob.who);
    let carol = carol.follow(&removal.commit);
    let alice = child(&alice, removal);
    let (committed, joined) = alice.add(&[&Person::new(4), &Person::new(5)]);
    let leaves: Vec<_> = joined.iter().map(|joined| joined.state.facts().own_leaf).collect();
    assert_eq!(leaves, [1, 3]);
    let follower = carol.follow(&committed.commit);
    assert_eq!(devices(&follower.state.facts().standing), devices(&joined[0].state.facts().standing));
}

fn rivals_of_one_parent_are_alive_at_every_member<E: Engine>() {
    let [alice, mut bob, carol] = three::<E>();
    let late = bob.seal(b"of the parent");
    let mut members = [alice, bob, carol];
    let carol = members[2].who.clone();
    let rivals = [(0, members[0].refresh()), (1, members[1].refresh()), (0, members[0].remove(&carol))];
    let sids: BTreeSet<_> = rivals.iter().map(|(_, rival)| rival.child.facts().sid).collect();
    assert_eq!(sids.len(), 3);
    for (committer, rival) in rivals {
        let others = members.iter().filter(|member| member.who.device != rival.committer);
        let follow = |member: &Actor<E>| member.process(&rival.commit).child();
        let branch = others.filter_map(|member| Some(Actor::new(&member.who, follow(member)?)));
        let mut branch: Vec<_> = branch.collect();
        let facts = rival.child.facts();
        assert_eq!(branch.len() + 1, facts.standing.roster.len());
        for member in &branch {
            let followed = member.state.facts();
            assert_eq!(
                (followed.sid, followed.check, followed.env_tag),
                (facts.sid, facts.check, facts.env_tag)
            );
            assert_eq!(devices(&followed.standing), devices(&facts.standing));
            assert_eq!(member.state.route_secret(), rival.child.route_secret());
        }
        let frame = child(&members[committer], rival).seal(b"of a child");
        for member in &mut branch {
            assert_eq!(member.open(&frame).plaintext, b"of a child");
        }
    }
    // The parent is still there for what was sealed in it.
    for reader in [0, 2] {
        assert_eq!(members[reader].open(&late).plaintext, b"of the parent");
    }
}

fn a_rival_is_of_no_use_in_the_others_branch<E: Engine>() {
    let [alice, bob, _] = three::<E>();
    let [one, other] = [alice.refresh(), alice.refresh()];
    let mut bob = bob.follow(&one.commit);
    let mut rival = child(&alice, other);
    let frame = Frame::decode(&rival.seal(b"elsewhere").bytes).unwrap();
    assert!(bob.state.open_frame(&frame) == Err(FrameError::WrongState));
    let elsewhere = rival.state.open_frame(&frame).unwrap();
    assert_eq!(bob.state.open_application(&elsewhere).err(), Some(ApplicationError::Invalid));
    // Of the same epoch, so only the secrets tell.
    let next = rival.refresh();
    assert!(matches!(bob.state.process_commit(&next.commit), Err(CommitError::Invalid)));
}

fn a_secret_that_does_not_open_leads_to_the_state_that_others_are_in<E: Hostile>() {
    let [mut alice, bob, mut carol] = three::<E>();
    let committed = spite(&alice, &carol);
    let processed = carol.process(&committed.commit);
    assert_eq!(processed.authorized, committed.authorized);
    assert_eq!((processed.committer, processed.commit_id), (alice.who.device, committed.commit_id));
    let Outcome::Opaque(seen) = processed.outcome else { panic!("it opens for Carol") };
    let mut bob = bob.follow(&committed.commit);
    assert_is(&seen, &bob.state);
    assert_eq!(E::sid_of_commit(&GID, &committed.commit).unwrap(), seen.sid);

    assert!(carol.store() == RowChanges::default());
    let late = alice.seal(b"before");
    assert_eq!(carol.open(&late).plaintext, b"before");
    let frame = child(&alice, committed).seal(b"after");
    assert_eq!(bob.open(&frame).plaintext, b"after");
}

fn a_secret_is_kept_from_someone_deep_in_the_tree<E: Hostile>() {
    let founder = Actor::<E>::founder(1);
    let (committed, joined) = founder.add(&[2, 3, 4].map(Person::new).each_ref());
    let alice = child(&founder, committed);
    let [bob, carol, dave]: [Actor<E>; 3] = joined.try_into().ok().unwrap();
    // From now on MLS has one key for Carol and Dave.
    let refresh = carol.refresh();
    let [alice, bob, dave] = [alice, bob, dave].map(|member| member.follow(&refresh.commit));
    let carol = child(&carol, refresh);
    let committed = spite(&alice, &carol);
    assert!(matches!(carol.process(&committed.commit).outcome, Outcome::Opaque(_)));
    assert!(matches!(bob.process(&committed.commit).outcome, Outcome::Child(_)));
    assert!(!matches!(dave.process(&committed.commit).outcome, Outcome::Removed(_)));
    assert!(carol.process(&alice.refresh().commit).child().is_some());
}

fn what_nobody_asked_for_is_refused<E: Hostile>() {
    let [alice, bob, carol] = three::<E>();
    let mut change = alice.no_change();
    change.removes = vec![carol.who.device];
    let frame = alice.state.forge_commit(&alice.who.identity, &change, no_reason()).unwrap();
    let opened = bob.state.open_frame(&Frame::decode(&frame).unwrap()).unwrap();
    for receiver in [&bob, &carol] {
        assert!(matches!(
            receiver.state.process_commit(&opened.body),
            Err(CommitError::Unauthorised(Unauthorised::RemoveUnjustified))
        ));
    }
}

fn nothing_that_fails_leaves_a_trace<E: Hostile>() {
    let [mut alice, mut bob, carol] = three::<E>();
    let (first, second) = (opened(&mut alice, b"first", &bob), opened(&mut alice, b"second", &bob));
    bob.state.open_application(&first).unwrap();
    bob.store();
    let before = bob.state.facts().clone();

    let next = child(&alice, alice.refresh()).refresh();
    let mut spoilt = alice.refresh().commit;
    *spoilt.last_mut().unwrap() ^= 1;
    assert!(bob.state.process_commit(&next.commit).is_err());
    assert!(bob.state.process_commit(&spoilt).is_err());
    let opaque = bob.process(&spite(&alice, &bob).commit).outcome;
    assert!(matches!(opaque, Outcome::Opaque(_)));
    assert!(bob.state.open_application(&first).is_err());
    let mut foreign = second.clone();
    foreign.leaf = carol.state.facts().own_leaf;
    assert!(bob.state.open_application(&foreign).is_err());
    let mut garbled = second.clone();
    *garbled.body.last_mut().unwrap() ^= 1;
    assert!(bob.state.open_application(&garbled).is_err());
    let mut change = bob.no_change();
    change.removes = vec![Person::new(9).device];
    assert!(bob.state.commit(&bob.who.identity, change, no_reason()).is_err());

    assert!(bob.store() == RowChanges::default());
    assert_eq!((bob.state.facts().sid, bob.state.facts().check), (before.sid, before.check));
    assert_eq!(bob.state.open_application(&second).unwrap().plaintext, b"second");
}

fn a_loaded_state_does_what_the_live_one_does<E: Engine>() {
    let [mut alice, mut bob, _] = three::<E>();
    let frames: Vec<_> = (0..4u8).map(|n| alice.seal(&[n])).collect();
    bob.open(&frames[2]);
    bob.seal(b"mine");
    bob.store();
    let mut loaded = Actor::new(&bob.who, bob.loaded());
    assert!(loaded.stored().is_empty(), "a loaded state has nothing to store");

    let (live, again) = (bob.state.facts(), loaded.state.facts());
    assert_eq!((live.sid, live.check, live.env_tag), (again.sid, again.check, again.env_tag));
    assert_eq!((live.epoch, live.own_leaf), (again.epoch, again.own_leaf));
    assert_eq!(devices(&live.standing), devices(&again.standing));
    assert_eq!(live.standing.policy, again.standing.policy);
    assert_eq!(bob.state.route_secret(), loaded.state.route_secret());

    for member in [&mut bob, &mut loaded] {
        let used = member.state.open_frame(&Frame::decode(&frames[2].bytes).unwrap()).unwrap();
        assert_eq!(member.state.open_application(&used).err(), Some(ApplicationError::Reused));
        assert_eq!(member.open(&frames[0]).plaintext, [0]);
        assert_eq!(member.open(&frames[3]).plaintext, [3]);
        assert_eq!(member.seal(b"next").counter, 1);
    }
    let committed = alice.refresh();
    assert_eq!(bob.follow(&committed.commit).state.facts().sid, committed.child.facts().sid);
    assert_eq!(loaded.follow(&committed.commit).state.facts().sid, committed.child.facts().sid);
}

fn rows_of_a_state_change_in_its_messages_only<E: Engine>() {
    let [mut alice, mut bob, mut carol] = three::<E>();
    let before = [&alice, &bob, &carol].map(|member| member.stored().clone());
    for member in [&alice, &bob, &carol] {
        assert!(!member.stored().is_empty());
    }
    let rivals = [alice.refresh(), alice.remove(&carol.who)];
    let frame = alice.seal(b"text");
    bob.open(&frame);
    carol.open(&frame);
    for rival in &rivals {
        for member in [&bob, &carol] {
            member.process(&rival.commit);
        }
    }
    for (member, before) in [&mut alice, &mut bob, &mut carol].into_iter().zip(before) {
        member.store();
        let after = member.stored();
        let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        let changed = keys.into_iter().filter(|key| before.get(*key) != after.get(*key));
        let labels: Vec<_> = changed.map(|key| key.split(|byte| *byte == 0).next().unwrap()).collect();
        assert!(labels.contains(&&b"message-secrets"[..]), "the message was for everyone");
        let of_messages = [&b"message-secrets"[..], b"sp/send-counter"];
        assert!(labels.iter().all(|label| of_messages.contains(label)));
    }
}

fn a_sender_may_be_far_ahead_but_not_too_far<E: Engine>() {
    let [mut alice, mut bob, _] = three::<E>();
    let mut last = alice.seal(b"first");
    let mut last_but_one = None;
    for _ in 0..20_001 {
        last_but_one = Some(std::mem::replace(&mut last, alice.seal(b"more")));
    }
    let too_far = bob.state.open_frame(&Frame::decode(&last.bytes).unwrap()).unwrap();
    assert_eq!(bob.state.open_application(&too_far).err(), Some(ApplicationError::TooFar));
    assert_eq!(bob.open(&last_but_one.unwrap()).counter, 20_000);
    assert_eq!(bob.open(&last).counter, 20_001);
}

#[test]
fn both_engines_give_the_same_roster_and_policy() {
    fn story<E: Engine>() -> Vec<(u32, DeviceId)> {
        let [alice, bob, carol] = three::<E>();
        let removal = alice.remove(&bob.who);
        let carol = carol.follow(&removal.commit);
        let alice = child(&alice, removal);
        let (added, joined) = alice.add(&[&Person::new(4), &Person::new(5), &Person::new(6)]);
        let carol = carol.follow(&added.commit);
        assert_eq!(joined.len(), 3);
        let standing = &carol.state.facts().standing;
        assert_eq!(standing.policy.accounts.len(), 6);
        devices(standing).into_iter().map(|(leaf, device, _)| (leaf, device)).collect()
    }
    assert_eq!(story::<GroupState>(), story::<FakeState>());
}

#[test]
fn the_fake_gives_the_same_bytes_from_the_same_seed() {
    let story = |seed| {
        seed_chance(seed);
        let [mut alice, bob, _] = three::<FakeState>();
        let committed = bob.refresh();
        (alice.seal(b"text").id, committed.commit_id, committed.child.facts().sid)
    };
    let first = story(1);
    assert_eq!(story(1), first);
    assert_ne!(story(2), first);
}
