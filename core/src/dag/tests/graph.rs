//! The picture.

use super::story::{Story, account, device};
use crate::dag::{
    Class, Dag,
    graph::{self, Mark, picture},
};

fn dot(dag: &Dag) -> String {
    graph::dot(&picture(dag, 100))
}

fn forked() -> Story {
    let mut group = Story::of(4);
    let root = group.root;
    let (update, removal) = (group.update(root, 1), group.removal(root, 2, &[3]));
    group.votes(1, update);
    group.votes(2, removal);
    let next = group.update(removal, 1);
    let _ = group.opaque(next, 2, &[1]);
    let _ = group.claimed(next, 1, Class::Change);
    group.dag.prune(&root);
    group.votes(0, next);
    group
}

#[test]
fn it_shows_states_commits_votes_and_the_head() {
    let picture = dot(&forked().dag);
    let lines: Vec<_> = picture.lines().collect();
    assert_eq!((lines.first(), lines.last()), (Some(&"digraph states {"), Some(&"}")));
    let count = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
    assert_eq!(count(" -> "), 5);
    assert_eq!(count("[label=\"s"), 6);
    for (what, times) in [("HEAD", 1), ("pruned", 1), ("opaque", 1), ("claimed", 1), ("supports: 1", 3)] {
        assert_eq!(count(what), times, "{what}\n{picture}");
    }
    assert_eq!(count("removal by m"), 2);
    assert_eq!(count("1.00 of 3 votes, 0.00 settled"), 1, "{picture}");
    assert_eq!(count("2.00 of 3 votes, 0.00 settled\", style=bold"), 1, "{picture}");
}

#[test]
fn it_says_what_cannot_be_entered() {
    let mut group = Story::of(3);
    let root = group.root;
    let wanted = group.claimed(root, 1, Class::Update);
    (0..3).for_each(|voter| group.votes(voter, wanted));
    assert!(dot(&group.dag).contains("claimed\\nWANTED"));
}

#[test]
fn it_holds_no_ids() {
    let group = forked();
    let picture = dot(&group.dag);
    let ids = group.dag.nodes().flat_map(|node| [node.sid.0, node.commit.0]);
    let ids = ids.chain((0..4).flat_map(|member| [account(member).0, device(member, 0).0]));
    for id in ids.chain([[7; 32]]) {
        assert!(!picture.contains(&hex::encode(&id[..3])));
    }
}

#[test]
fn of_a_long_history_the_newest_states_are_shown_and_numbered_anew() {
    let mut group = Story::of(3);
    let mut tip = group.root;
    for round in 0..20 {
        tip = group.update(tip, round % 3);
    }
    let last = picture(&group.dag, 5).states;
    let epochs: Vec<_> = last.iter().map(|state| state.epoch).collect();
    assert!(epochs.is_sorted() && epochs.len() == 5, "{epochs:?}");
    assert_eq!(last.iter().map(|state| state.number).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert!(last[0].commit.is_none(), "its parent is not shown");
    assert_eq!(last[4].commit.as_ref().map(|commit| commit.parent), Some(3));
    assert_eq!(last.iter().filter(|state| state.mark == Some(Mark::Head)).count(), 1);
    assert!(picture(&group.dag, 0).states.is_empty());
}
