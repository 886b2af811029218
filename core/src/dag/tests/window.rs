//! When states go.

use std::time::Duration;

use super::story::{Story, device};
use crate::{
    dag::{Dag, window},
    id::StateId,
};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const NOW_MS: i64 = 1_763_000_000_000;

/// Which of the states go when all were adopted so long ago.
fn leaving(dag: &Dag, head: StateId, states: &[StateId], age_ms: i64) -> Vec<StateId> {
    let held = states.iter().map(|sid| (*sid, NOW_MS - age_ms));
    window::leaving(dag, &head, held, NOW_MS, window::MAX_AGE)
}

/// Three accounts, and four states that all of them saw.
fn chain() -> (Story, Vec<StateId>) {
    let mut group = Story::of(3);
    let mut states = vec![group.root];
    states.extend(group.chain(group.root, 1, 3));
    (group, states)
}

#[test]
fn a_state_goes_when_every_device_supports_a_later_one() {
    let (mut group, states) = chain();
    for (voter, reached) in [(0, 3), (1, 3), (2, 2)] {
        assert_eq!(leaving(&group.dag, states[3], &states, HOUR_MS), [], "before the vote of {voter}");
        group.votes(voter, states[reached]);
    }
    assert_eq!(leaving(&group.dag, states[3], &states, HOUR_MS), states[..2]);
    group.votes(2, states[3]);
    assert_eq!(leaving(&group.dag, states[3], &states, HOUR_MS), states[..3]);
}

#[test]
fn a_minute_is_the_least() {
    let (mut group, states) = chain();
    (0..3).for_each(|voter| group.votes(voter, states[3]));
    assert_eq!(leaving(&group.dag, states[3], &states, MINUTE_MS - 1), []);
    assert_eq!(leaving(&group.dag, states[3], &states, -HOUR_MS), [], "the clock was put back");
    assert_eq!(leaving(&group.dag, states[3], &states, MINUTE_MS), states[..3]);
}

#[test]
fn who_supports_two_states_at_once_settles_nothing() {
    let (mut group, states) = chain();
    (0..3).for_each(|voter| group.votes(voter, states[3]));
    let latest = group.dag.supports().all().find(|support| support.device == device(1, 0)).copied().unwrap();
    group.dag.support(super::story::support(latest.device, latest.counter, states[1]));
    assert_eq!(leaving(&group.dag, states[3], &states, HOUR_MS), []);
}

#[test]
fn who_was_removed_is_not_waited_for_and_a_newcomer_is() {
    let (mut group, mut states) = chain();
    let before = states[3];
    states.push(group.removal(before, 0, &[2]));
    (0..2).for_each(|voter| group.votes(voter, states[4]));
    assert_eq!(leaving(&group.dag, states[4], &states, HOUR_MS), states[..4]);
    // Before the removal all three are waited for.
    assert_eq!(leaving(&group.dag, before, &states[..4], HOUR_MS), []);
}

#[test]
fn eight_commits_behind_is_kept_and_nine_is_not() {
    let mut group = Story::of(3);
    let mut states = vec![group.root];
    states.extend(group.chain(group.root, 1, 10));
    assert_eq!(leaving(&group.dag, states[10], &states, HOUR_MS), states[..2]);
}

#[test]
fn three_days_are_the_most_and_the_policy_may_say_otherwise() {
    let (group, states) = chain();
    assert_eq!(leaving(&group.dag, states[3], &states, 72 * HOUR_MS), []);
    assert_eq!(leaving(&group.dag, states[3], &states, 72 * HOUR_MS + 1), states[..3]);
    let after = |age_ms: i64, policy: Duration| {
        let held = states.iter().map(|sid| (*sid, NOW_MS - age_ms));
        window::leaving(&group.dag, &states[3], held, NOW_MS, policy).len()
    };
    assert_eq!(after(2 * HOUR_MS, Duration::from_secs(3600)), 3);
    assert_eq!(after(HOUR_MS / 2, Duration::ZERO), 0, "an hour at least");
    assert_eq!(after(8 * 24 * HOUR_MS, Duration::MAX), 3, "a week at most");
}

#[test]
fn a_lost_branch_goes_with_the_state_where_it_began() {
    let (mut group, mut states) = chain();
    let lost = group.chain(states[1], 2, 5);
    states.extend(&lost);
    (0..2).for_each(|voter| group.votes(voter, states[3]));
    group.votes(2, lost[4]);
    assert_eq!(leaving(&group.dag, states[3], &states, HOUR_MS), states[..1], "one device is still there");
    group.votes(2, states[2]);
    let gone: Vec<_> = states[..2].iter().chain(&lost).copied().collect();
    assert_eq!(leaving(&group.dag, states[3], &states, HOUR_MS), gone);
}

#[test]
fn the_tree_before_a_welcome_goes_by_age_alone() {
    let (mut group, states) = chain();
    let welcome = group.welcome(40, 1, states[3]);
    (0..3).for_each(|voter| group.votes(voter, welcome));
    assert_eq!(leaving(&group.dag, welcome, &states, HOUR_MS), []);
    assert_eq!(leaving(&group.dag, welcome, &states, 73 * HOUR_MS), states);
}
