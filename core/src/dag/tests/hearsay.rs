//! What is only said: how much of it is kept, and that it moves no votes.

use std::sync::Arc;

use super::story::{Story, commit, device, state};
use crate::{
    dag::{
        Class, Head, Held, Inserted, Node, Roster,
        hearsay::{MAX_CLAIMED_CHILDREN, MAX_CLAIMS},
    },
    id::StateId,
};

fn claim(sid: StateId, parent: StateId, epoch: u64) -> Node {
    Node {
        sid,
        parent: Some(parent),
        epoch,
        commit: commit(0),
        committer: device(2, 0),
        class: Class::Update,
        roster: Arc::new(Roster::default()),
        held: Held::Claimed,
    }
}

/// A group that is forked, and a state that is said to follow from each side, in either order. Everyone
/// but account 0 supports it.
fn disputed(first: usize) -> (Story, [StateId; 2], StateId) {
    let mut group = Story::of(4);
    let root = group.root;
    let sides = [group.update(root, 1), group.update(root, 2)];
    let (said, epoch) = (state(500), group.dag.node(&root).unwrap().epoch + 2);
    group.dag.insert(claim(said, sides[first], epoch));
    for voter in 1..4 {
        group.votes(voter, said);
    }
    (group, sides, said)
}

#[test]
fn a_claim_that_another_contradicts_moves_no_votes() {
    for first in [0, 1] {
        let (mut group, sides, said) = disputed(first);
        let by_rank = {
            let mut silent = Story::of(4);
            let root = silent.root;
            let _ = (silent.update(root, 1), silent.update(root, 2));
            silent.child()
        };
        assert_eq!(group.child(), sides[first], "as long as there is one");
        group.dag.insert(claim(said, sides[1 - first], group.dag.node(&said).unwrap().epoch));
        assert_eq!(group.child(), by_rank);
        let root = group.dag.node(&group.root).unwrap();
        assert!(group.dag.votes(root).tallies.iter().all(|tally| tally.votes == 0));
        // It is still shown somewhere.
        assert_eq!(group.dag.parent(&said).unwrap().sid, sides[0].min(sides[1]));
        assert_eq!(group.dag.undisputed_parent(&said), None);
    }
}

#[test]
fn who_checks_the_commit_ends_the_dispute() {
    for other in [0, 1] {
        let (mut group, sides, said) = disputed(0);
        let known = group.dag.node(&said).unwrap().clone();
        group.dag.insert(claim(said, sides[1], known.epoch));
        group.dag.insert(Node { parent: Some(sides[other]), held: Held::Opaque, ..known.clone() });
        assert_eq!(group.child(), sides[other]);
        assert_eq!(group.dag.insert(claim(said, sides[1 - other], known.epoch)), Inserted::Nothing);
        assert_eq!(group.child(), sides[other]);
    }
}

#[test]
fn a_state_has_so_many_children_by_hearsay_and_any_number_by_commits() {
    let mut group = Story::of(3);
    let (root, epoch) = (group.root, group.dag.node(&group.root).unwrap().epoch + 1);
    for number in 0..MAX_CLAIMED_CHILDREN {
        assert_eq!(group.dag.insert(claim(state(1000 + number), root, epoch)), Inserted::Kept);
    }
    let further = claim(state(5000), root, epoch);
    assert_eq!(group.dag.insert(further.clone()), Inserted::TooMany);
    assert_eq!(group.dag.node(&further.sid), None);
    assert_eq!(group.dag.insert(claim(state(1000), root, epoch)), Inserted::Kept, "a known one");
    assert_eq!(group.dag.insert(Node { held: Held::Opaque, ..further.clone() }), Inserted::Kept);
    let update = group.update(root, 1);
    assert_eq!(group.head(), Head::At(update));
    // What turns out to be true makes room.
    assert_eq!(
        group.dag.insert(Node { held: Held::Opaque, ..claim(state(1001), root, epoch) }),
        Inserted::Kept
    );
    assert_eq!(group.dag.insert(claim(state(5001), root, epoch)), Inserted::Kept);
}

#[test]
fn a_group_has_so_many_states_by_hearsay_and_any_number_by_commits() {
    let mut group = Story::of(3);
    let root = group.root;
    // Below states that nobody knows.
    let unknown = |number: usize| claim(state(10_000 + number), state(20_000 + number), 7);
    for number in 0..MAX_CLAIMS {
        assert_eq!(group.dag.insert(unknown(number)), Inserted::Kept);
    }
    assert_eq!(group.dag.insert(unknown(MAX_CLAIMS)), Inserted::TooMany);
    assert_eq!(group.dag.nodes().len(), 1 + MAX_CLAIMS);
    let update = group.update(root, 1);
    assert_eq!(group.head(), Head::At(update));
}

#[test]
fn a_dispute_is_noticed_where_nothing_more_is_kept() {
    let (mut group, sides, said) = disputed(0);
    let (root, epoch) = (group.root, group.dag.node(&said).unwrap().epoch);
    for number in 0..MAX_CLAIMED_CHILDREN {
        group.dag.insert(claim(state(1000 + number), sides[1], epoch));
    }
    group.dag.insert(claim(said, sides[1], epoch));
    let root = group.dag.node(&root).unwrap();
    assert!(group.dag.votes(root).tallies.iter().all(|tally| tally.votes == 0));
}
