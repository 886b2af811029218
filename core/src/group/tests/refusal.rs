//! What does not fit is refused, and costs nothing, whichever engine refuses it.

use super::fixture::{Actor, GID, Person, for_both_engines, founding_policy, no_reason, opened, three};
use crate::{
    group::{
        commit::Change,
        engine::Engine,
        error::{ApplicationError, CommitError, GroupError},
        frame::{FrameKind, OpenedFrame},
        rows::Rows,
    },
    id::GroupId,
};

for_both_engines! {
    a_commit_that_is_not_for_this_state_is_told_apart
    no_changed_or_cut_commit_is_merged
    changes_that_cannot_be_are_refused_when_made
    a_message_in_anothers_frame_costs_nothing
    no_changed_or_cut_message_opens_and_the_genuine_one_still_does
    other_kinds_are_no_application_messages
    a_welcome_fits_one_key_package_of_one_device_into_one_group
}

fn refused<E: Engine>(receiver: &Actor<E>, commit: &[u8]) -> CommitError {
    let before = receiver.state.facts().sid;
    let error = receiver.state.process_commit(commit).err().unwrap();
    assert_eq!(receiver.state.facts().sid, before);
    error
}

fn a_commit_that_is_not_for_this_state_is_told_apart<E: Engine>() {
    let [alice, bob, _] = three::<E>();
    let committed = alice.refresh();
    assert!(matches!(refused(&alice, &committed.commit), CommitError::OwnCommit));
    let child = bob.follow(&committed.commit);
    assert!(matches!(refused(&child, &committed.commit), CommitError::WrongEpoch));
    let next = Actor::new(&alice.who, committed.child).refresh();
    assert!(matches!(refused(&bob, &next.commit), CommitError::WrongEpoch));
    let elsewhere = E::sid_of_commit(&GroupId([8; 16]), &next.commit);
    assert!(matches!(elsewhere, Err(CommitError::WrongGroup)));

    let foreign = E::create(&alice.who.identity, GroupId([8; 16]), founding_policy(&alice.who));
    let foreign = Actor::new(&alice.who, foreign.unwrap()).refresh();
    assert!(matches!(refused(&bob, &foreign.commit), CommitError::WrongGroup));
}

fn no_changed_or_cut_commit_is_merged<E: Engine>() {
    let [alice, bob, _] = three::<E>();
    let commit = alice.refresh().commit;
    for index in 0..commit.len() {
        let mut changed = commit.clone();
        changed[index] ^= 1 << (index % 8);
        assert!(bob.state.process_commit(&changed).is_err(), "byte {index}");
        assert!(bob.state.process_commit(&commit[..index]).is_err(), "length {index}");
    }
    assert!(bob.state.process_commit(&[&commit[..], &[0]].concat()).is_err());
    assert!(bob.state.process_commit(&vec![0; 2 << 20]).is_err());
    assert!(bob.state.process_commit(&commit).is_ok());
}

fn changes_that_cannot_be_are_refused_when_made<E: Engine>() {
    let [alice, ..] = three::<E>();
    let commit = |change: Change| alice.state.commit(&alice.who.identity, change, no_reason()).err().unwrap();
    let stranger = Change { removes: vec![Person::new(9).device], ..alice.no_change() };
    assert!(matches!(commit(stranger), GroupError::UnknownDevice));
    let garbage = Change { adds: vec![vec![1, 2, 3]], ..alice.no_change() };
    assert!(matches!(commit(garbage), GroupError::KeyPackage));
}

fn a_message_in_anothers_frame_costs_nothing<E: Engine>() {
    let [mut alice, mut bob, carol] = three::<E>();
    let genuine = opened(&mut alice, b"hers", &bob);
    for (leaf, counter) in [(carol.state.facts().own_leaf, 0), (1000, 0), (0, 1), (u32::MAX, u32::MAX)] {
        let stolen = OpenedFrame { leaf, counter, ..genuine.clone() };
        assert_eq!(bob.state.open_application(&stolen).err(), Some(ApplicationError::WrongSender));
    }
    assert_eq!(bob.state.open_application(&genuine).unwrap().plaintext, b"hers");
}

fn no_changed_or_cut_message_opens_and_the_genuine_one_still_does<E: Engine>() {
    let [mut alice, mut bob, _] = three::<E>();
    let genuine = opened(&mut alice, b"text", &bob);
    for index in 0..genuine.body.len() {
        let mut changed = genuine.clone();
        changed.body[index] ^= 1 << (index % 8);
        assert!(bob.state.open_application(&changed).is_err(), "byte {index}");
        changed.body = genuine.body[..index].to_vec();
        assert!(bob.state.open_application(&changed).is_err(), "length {index}");
    }
    assert!(bob.store().upserts.is_empty());
    assert_eq!(bob.state.open_application(&genuine).unwrap().plaintext, b"text");
}

fn other_kinds_are_no_application_messages<E: Engine>() {
    let [mut alice, mut bob, _] = three::<E>();
    let commit = alice.refresh().commit;
    let genuine = opened(&mut alice, b"text", &bob);
    for wrong in [
        OpenedFrame { body: commit, ..genuine.clone() },
        OpenedFrame { body: vec![], ..genuine.clone() },
        OpenedFrame { kind: FrameKind::Tip, ..genuine.clone() },
        OpenedFrame { kind: FrameKind::Commit, ..genuine },
    ] {
        assert_eq!(bob.state.open_application(&wrong).err(), Some(ApplicationError::Malformed));
    }
}

fn a_welcome_fits_one_key_package_of_one_device_into_one_group<E: Engine>() {
    let founder = Actor::<E>::founder(1);
    let bob = Person::new(2);
    let fresh = E::fresh_key_package(&bob.identity).unwrap();
    let other = E::fresh_key_package(&bob.identity).unwrap();
    let welcome = founder.admit(&[(&bob, &fresh.bytes)]).welcome.unwrap();
    let rows = || Rows::from_rows(fresh.rows.upserts.clone());
    let join =
        |who: &Person, gid, rows, welcome: &[u8]| E::join(&who.identity, gid, rows, welcome, [0; 32]).err();
    let other = Rows::from_rows(other.rows.upserts);
    assert!(matches!(join(&bob, GID, other, &welcome), Some(GroupError::Welcome)));
    assert!(matches!(join(&bob, GID, Rows::new(), &welcome), Some(GroupError::Welcome)));
    assert!(matches!(join(&bob, GroupId([8; 16]), rows(), &welcome), Some(GroupError::Welcome)));
    let carol = Person::new(3);
    assert!(matches!(join(&carol, GID, rows(), &welcome), Some(GroupError::Certificate)));
    for index in 0..welcome.len() {
        let mut changed = welcome.clone();
        changed[index] ^= 1 << (index % 8);
        assert!(join(&bob, GID, rows(), &changed).is_some(), "byte {index}");
        assert!(join(&bob, GID, rows(), &welcome[..index]).is_some(), "length {index}");
    }
    assert!(join(&bob, GID, rows(), &welcome).is_none());
}
