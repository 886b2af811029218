//! What a client is told of a group's state: figures that are true, also after a restart.

use std::time::Duration;

use spacepanda_proto::api::v1::{GroupState, Role};

use crate::harness::{Cluster, Person, meet, same_world, wait::when, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn who_lags_behind_is_counted_until_they_have_caught_up() {
    let (_cluster, [alice, bob, carol]) = Cluster::of(["alice", "bob", "carol"]).await;
    let space = meet(&alice, &[&bob, &carol]).await.space;
    let before = told(&alice, &space, |group| group.members_behind == 0).await;
    assert!(before.state_id.starts_with(&before.head) && before.head.len() == 8, "{before:?}");
    assert!(before.retained_epochs >= 1 && !before.repair_in_progress, "{before:?}");
    assert!(before.summary.contains("Everyone"), "{before:?}");

    carol.server.stop().await;
    alice.set_role(&space, &bob, Role::Admin).await;
    let behind = told(&alice, &space, |group| group.members_behind == 1).await;
    assert_eq!(behind.epoch, before.epoch + 1);
    assert!(behind.retained_epochs > 1, "the parent's keys are kept: {behind:?}");
    assert!(behind.summary.contains("1 member is not known"), "{behind:?}");

    alice.server.kill_9();
    alice.server.restart().await;
    let after = told(&alice, &space, |group| group.members_behind == 1).await;
    assert_eq!((after.epoch, &after.head), (behind.epoch, &behind.head));
    assert_eq!(after.retained_epochs, behind.retained_epochs);
    assert!(age(&after) >= age(&behind), "ages go on: {behind:?} {after:?}");

    carol.server.restart().await;
    carol.wake().await;
    same_world(&[&alice, &bob, &carol], &space, 0).await;
    for person in [&alice, &bob, &carol] {
        told(person, &space, |group| group.members_behind == 0).await;
    }
}

/// Waits until the group is told to be so.
async fn told(person: &Person, space: &str, is_so: impl Fn(&GroupState) -> bool) -> GroupState {
    wait_until(&format!("{} to be told so", person.name()), async || {
        let space = person.space(space).await.map_err(|status| status.to_string())?;
        let group = space.group.unwrap_or_default();
        when(is_so(&group), format!("{group:?}"))?;
        Ok(group)
    })
    .await
}

fn age(group: &GroupState) -> Duration {
    let age = group.oldest_retained_age.expect("an age");
    Duration::try_from(age).expect("a span of time")
}
