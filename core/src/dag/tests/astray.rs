//! Which devices know that they have lost their way, and which do not think so.

use super::story::Story;
use crate::{
    dag::{Astray, Class, Held},
    id::StateId,
};

/// What the others built from `parent`, told without secrets, the first state first.
fn hearsay(group: &mut Story, parent: StateId, committer: usize, length: usize) -> Vec<StateId> {
    let mut last = parent;
    let mut next = || {
        last = group.claimed(last, committer, Class::Update);
        last
    };
    (0..length).map(|_| next()).collect()
}

/// Account 0 and `with` built ten states, the others ten of their own, and the fork's secrets are gone.
fn forked(accounts: usize, with: &[usize]) -> (Story, StateId, Vec<StateId>) {
    let mut group = Story::of(accounts);
    let root = group.root;
    let own = group.chain(root, 0, 10).pop().unwrap();
    let others: Vec<usize> = (1..accounts).filter(|account| !with.contains(account)).collect();
    let theirs = hearsay(&mut group, root, others[0], 10);
    group.dag.prune(&root);
    group.votes(0, own);
    with.iter().for_each(|account| group.votes(*account, own));
    (group, own, theirs)
}

#[test]
fn whom_a_majority_left_is_astray_and_the_majority_is_not() {
    let (mut group, own, theirs) = forked(5, &[1]);
    assert_eq!(group.dag.astray(&own), Astray::No, "nobody has said where they are");
    let there = *theirs.last().unwrap();
    group.votes(2, there);
    assert_eq!(group.dag.astray(&own), Astray::No, "two are on this side, one on the other");
    group.votes(3, there);
    group.votes(4, there);
    assert_eq!(group.dag.astray(&own), Astray::Yes);

    let (mut group, own, theirs) = forked(5, &[1, 2]);
    group.votes(3, *theirs.last().unwrap());
    group.votes(4, *theirs.last().unwrap());
    assert_eq!(group.dag.astray(&own), Astray::No, "this side is the majority");
}

#[test]
fn of_two_equal_halves_exactly_one_gives_way() {
    let (mut group, own, theirs) = forked(4, &[1]);
    group.votes(2, *theirs.last().unwrap());
    group.votes(3, *theirs.last().unwrap());
    let mine = group.dag.children(&group.root).find(|child| child.held == Held::Live).unwrap().sid;
    let expected = if mine < theirs[0] { Astray::No } else { Astray::Yes };
    assert_eq!(group.dag.astray(&own), expected);
}

#[test]
fn one_member_alone_leads_nobody_away() {
    let mut group = Story::of(3);
    let (root, elsewhere) = (group.root, StateId([9; 32]));
    group.votes(0, root);
    group.votes(1, elsewhere);
    assert_eq!(group.dag.astray(&root), Astray::Unsure);
    group.votes(2, elsewhere);
    assert_eq!(group.dag.astray(&root), Astray::Yes, "nobody else is here");
}

#[test]
fn who_sleeps_is_on_no_side() {
    let mut group = Story::of(9);
    let root = group.root;
    let own = group.chain(root, 0, 2).pop().unwrap();
    (1..7).for_each(|sleeper| group.votes(sleeper, root));
    group.votes(7, StateId([9; 32]));
    assert_eq!(group.dag.astray(&own), Astray::Unsure);
    group.votes(8, StateId([9; 32]));
    assert_eq!(group.dag.astray(&own), Astray::Yes);
}
