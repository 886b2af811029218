//! When a newcomer's letter leaves.

use std::time::Duration;

use super::story::{Story, device};
use crate::dag::handover::{Handover, WITHOUT_RIVAL};

const AT_ONCE: Duration = Duration::ZERO;

#[test]
fn a_letter_waits_for_another_s_word_or_for_ten_quiet_seconds() {
    let mut group = Story::of(4);
    let root = group.root;
    let added = group.update(root, 0);
    let newcomer = device(9, 0);
    let ask = |group: &Story, waited| group.dag.handover(&added, &added, &newcomer, waited);
    assert_eq!(ask(&group, AT_ONCE), Handover::In(WITHOUT_RIVAL));
    assert_eq!(ask(&group, WITHOUT_RIVAL), Handover::Now);
    group.votes(0, added);
    assert_eq!(ask(&group, AT_ONCE), Handover::In(WITHOUT_RIVAL), "one's own word is not another's");

    let mut rivalled = group.clone();
    rivalled.update(root, 1);
    assert_eq!(ask(&rivalled, WITHOUT_RIVAL), Handover::Undecided);
    rivalled.votes(2, added);
    assert_eq!(ask(&rivalled, AT_ONCE), Handover::Now);

    let later = group.update(added, 2);
    group.votes(2, later);
    assert_eq!(
        group.dag.handover(&later, &added, &newcomer, AT_ONCE),
        Handover::Now,
        "a later state is as good"
    );
}

#[test]
fn whoever_is_alone_asks_nobody_and_a_lost_branch_lets_nobody_in() {
    let mut group = Story::of(1);
    let root = group.root;
    let added = group.update(root, 0);
    assert_eq!(group.dag.handover(&added, &added, &device(9, 0), AT_ONCE), Handover::Now);
    let other = group.update(root, 0);
    assert_eq!(group.dag.handover(&other, &added, &device(9, 0), AT_ONCE), Handover::Never);
}
