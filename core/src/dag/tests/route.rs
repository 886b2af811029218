//! Ways between states.

use super::story::Story;
use crate::dag::Route;

#[test]
fn a_way_forward_abandons_nothing() {
    let mut story = Story::of(3);
    let root = story.root;
    let first = story.change(root, 0);
    let second = story.change(first, 1);
    let route = story.dag.route(&root, &second);
    assert_eq!(route, Route { abandoned: vec![], fork: Some(root), taken: vec![first, second] });
    assert_eq!(story.dag.canonical(&root, &second), Some(root));
}

#[test]
fn a_way_to_another_branch_goes_over_the_fork() {
    let mut story = Story::of(3);
    let root = story.root;
    let left = story.change(root, 0);
    let lefter = story.change(left, 1);
    let right = story.change(root, 2);
    let route = story.dag.route(&lefter, &right);
    assert_eq!(route, Route { abandoned: vec![lefter, left], fork: Some(root), taken: vec![right] });
    assert_eq!(story.dag.canonical(&lefter, &right), Some(root), "what was said there counts from the fork");
    assert_eq!(story.dag.canonical(&right, &right), Some(right));
}

#[test]
fn there_is_no_way_from_nowhere() {
    let story = Story::of(2);
    let unknown = super::story::state(99);
    assert_eq!(story.dag.canonical(&unknown, &story.root), None);
    assert_eq!(story.dag.route(&unknown, &story.root).fork, None);
}

#[test]
fn whoever_follows_a_state_that_is_not_known_here_tells_of_more() {
    let mut story = Story::of(3);
    let first = story.change(story.root, 0);
    story.votes(1, first);
    assert!(!story.dag.is_told_of_more(&first));
    story.votes(2, super::story::state(99));
    assert!(story.dag.is_told_of_more(&first));
    story.votes(2, first);
    assert!(!story.dag.is_told_of_more(&first), "its latest word counts");
}
