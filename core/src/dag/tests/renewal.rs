//! When keys are due.

use std::{collections::BTreeSet, time::Duration};

use super::story::Story;
use crate::{
    dag::renewal::{RENEWAL, RENEWAL_A_DEVICE, due_after},
    id::{DeviceId, StateId},
};

#[test]
fn keys_are_due_after_a_day_or_so_and_never_everyones_at_once() {
    let dues: BTreeSet<Duration> =
        (0..50).map(|n| due_after(&DeviceId([n; 32]), &StateId([1; 32]), 8)).collect();
    assert!(dues.len() > 30, "{dues:?}");
    assert!(dues.iter().all(|due| (RENEWAL * 3 / 4..=RENEWAL * 5 / 4).contains(due)), "{dues:?}");
}

#[test]
fn in_large_groups_everyone_waits_for_their_share() {
    let due = due_after(&DeviceId([1; 32]), &StateId([1; 32]), 1_000);
    assert!(due >= RENEWAL_A_DEVICE * 750 && due <= RENEWAL_A_DEVICE * 1_250, "{due:?}");
}

#[test]
fn others_commits_renew_nothing() {
    let mut group = Story::of(3);
    let root = group.root;
    let own = group.update(root, 0);
    let theirs = group.change(own, 1);
    assert_eq!(group.dag.last_renewal(&theirs), Some(own));
    let rival = group.change(root, 2);
    assert_eq!(
        group.dag.last_renewal(&rival),
        Some(root),
        "what was committed on another branch is not here"
    );
}
