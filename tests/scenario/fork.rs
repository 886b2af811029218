//! Both sides of a cut network change the group: when they meet again, everyone is on one side, and no word
//! and no wish of either is lost.

use std::collections::BTreeSet;

use spacepanda_proto::api::v1::GroupHealth;

use crate::harness::{Cluster, Person, Place, meet, same_world, wait::when, wait_until, world::look};

const EACH: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn two_sides_that_changed_the_group_apart_come_together() {
    let (cluster, [alice, bob, carol, dave, erin]) =
        Cluster::of(["alice", "bob", "carol", "dave", "erin"]).await;
    let place = meet(&alice, &[&bob, &carol, &dave, &erin]).await;
    part(&cluster, [&alice, &bob], &[&carol, &dave, &erin]).await;

    // One side removes erin, the other lets dave go: neither knows of the other's commit.
    alice.remove(&place.space, erin.account()).await;
    gone(&alice, &place, &erin).await;
    gone(&bob, &place, &erin).await;
    dave.leave(&place.space).await;
    gone(&carol, &place, &dave).await;
    tokio::join!(write(&bob, &place), write(&carol, &place));
    let (left, right) = (look(&bob, &place.space).await, look(&carol, &place.space).await);
    let (left, right) = (left.expect("one side"), right.expect("the other side"));
    assert_ne!(left.check, right.check, "two groups with different keys");
    assert_eq!((left.history.len(), right.history.len()), (EACH, EACH), "what is cut does not cross");

    join(&cluster, [&alice, &bob], &[&carol, &dave, &erin]);
    for (person, leaver) in [(&alice, &dave), (&carol, &erin)] {
        gone(person, &place, leaver).await;
    }
    let world = same_world(&[&alice, &bob, &carol], &place.space, 2 * EACH).await;
    assert_eq!(world.health, GroupHealth::Ok);
    let names: BTreeSet<_> = world.roster.iter().map(|(_, name, _)| name.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["Alice", "Bob", "Carol"]), "both wishes were granted");
    out(&erin, &place).await;

    for person in [&alice, &bob, &carol] {
        person.send(&place.channel, &format!("{} is here", person.name())).await;
    }
    same_world(&[&alice, &bob, &carol], &place.space, 2 * EACH + 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_dies_amid_a_heal_is_on_the_same_side_afterwards() {
    let (cluster, [alice, bob, carol, dave]) = Cluster::of(["alice", "bob", "carol", "dave"]).await;
    let place = meet(&alice, &[&bob, &carol, &dave]).await;
    part(&cluster, [&alice, &bob], &[&carol, &dave]).await;
    alice.create_channel(&place.space, "kept").await;
    alice.remove(&place.space, dave.account()).await;
    gone(&bob, &place, &dave).await;
    dave.leave(&place.space).await;
    write(&carol, &place).await;

    join(&cluster, [&alice, &bob], &[&carol, &dave]);
    for _ in 0..3 {
        for person in [&carol, &bob] {
            person.server.kill_9();
            person.server.restart().await;
            person.wake().await;
        }
    }
    let world = same_world(&[&alice, &bob, &carol], &place.space, EACH).await;
    assert_eq!(world.roster.len(), 3);
}

async fn write(person: &Person, place: &Place) {
    for number in 0..EACH {
        person.send(&place.channel, &format!("{} {number}", person.name())).await;
    }
}

async fn part<const N: usize>(cluster: &Cluster, one: [&Person; N], other: &[&Person]) {
    for a in one {
        for b in other {
            cluster.cut(a, b).await;
        }
    }
}

fn join<const N: usize>(cluster: &Cluster, one: [&Person; N], other: &[&Person]) {
    for a in one {
        for b in other {
            cluster.heal(a, b);
        }
    }
}

/// Waits until someone's group is without someone else.
pub(super) async fn gone(person: &Person, place: &Place, leaver: &Person) {
    wait_until(&format!("{} to see {} gone", person.name(), leaver.name()), async || {
        let world = look(person, &place.space).await.map_err(|status| status.to_string())?;
        when(
            world.roster.iter().all(|(account, ..)| account != leaver.account()),
            format!("{:?}", world.roster),
        )
    })
    .await;
}

/// Waits until someone has no such space any more.
pub(super) async fn out(person: &Person, place: &Place) {
    wait_until(&format!("{} to be out", person.name()), async || {
        let space = person.space(&place.space).await;
        when(space.is_err(), format!("{space:?}"))
    })
    .await;
}
