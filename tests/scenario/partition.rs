//! Five servers whose network falls into two parts, with slow, lossy and one-way links inside of each: both
//! sides go on, and once they meet there is one group that lacks no word and no wish of either.

use std::time::Duration;

use futures::future::join_all;
use spacepanda_proto::api::v1::{GroupHealth, Role};

use super::fork::{gone, out};
use crate::harness::{
    Cluster, Person, Place, comes_true, meet, same_world,
    wait::when,
    wait_until,
    world::{World, look},
};

/// Texts of each of five before anybody comes or goes.
const EACH: usize = 36;
/// Texts of each of four afterwards.
const EACH_LATER: usize = 5;
const ALL: usize = 5 * EACH + 4 * EACH_LATER;
/// Longer than a heal takes, shorter than a story's deadline.
const NOT_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn five_servers_on_bad_links_that_changed_the_group_apart_agree_on_everything_once_they_meet() {
    let names = ["alice", "bob", "carol", "dave", "erin", "frank"];
    let (cluster, [alice, bob, carol, dave, erin, frank]) = Cluster::with(names, |plan| plan.metrics()).await;
    let place = meet(&alice, &[&bob, &carol, &dave, &erin]).await;
    alice.set_role(&place.space, &carol, Role::Admin).await;
    same_world(&[&alice, &bob, &carol, &dave, &erin], &place.space, 0).await;
    let (one, other) = ([&alice, &bob, &frank], [&carol, &dave, &erin]);
    cluster.part(&one, &other).await;
    // What dave says gets to erin by carol alone, who is far from erin and hears dave badly.
    cluster.silence(&dave, &erin);
    cluster.delay(&carol, &erin, Duration::from_millis(50));
    cluster.lose(&carol, &dave, 50);
    cluster.lose(&alice, &bob, 50);

    join_all([&alice, &bob, &carol, &dave, &erin].map(|person| write(person, &place, "cut off", EACH))).await;
    for (person, known) in [(&alice, 2), (&bob, 2), (&carol, 3), (&dave, 3), (&erin, 3)] {
        let what = format!("{} to have all of its side", person.name());
        wait_until(&what, async || person.has(&place.channel, known * EACH).await).await;
    }

    // Neither side knows what the other does: one adds and removes, the other lets someone go.
    alice.remove(&place.space, erin.account()).await;
    gone(&bob, &place, &erin).await;
    frank.join(&alice.invite(&place.space).await).await;
    alice.set_role(&place.space, &bob, Role::Moderator).await;
    dave.leave(&place.space).await;
    gone(&carol, &place, &dave).await;
    carol.set_role(&place.space, &erin, Role::Moderator).await;
    join_all([&alice, &bob, &carol, &frank].map(|person| write(person, &place, "apart", EACH_LATER))).await;
    let (left, right) = (look(&alice, &place.space).await, look(&carol, &place.space).await);
    let (left, right) = (left.expect("one side"), right.expect("the other side"));
    assert_ne!(left.check, right.check, "two groups with different keys");
    let knows =
        |world: &World, person: &Person| world.roster.iter().any(|(account, ..)| account == person.account());
    assert_eq!([&dave, &erin, &frank].map(|person| knows(&left, person)), [true, false, true]);
    assert_eq!([&dave, &erin, &frank].map(|person| knows(&right, person)), [false, true, false]);

    // While they are apart, nothing of what follows is true.
    let early = comes_true(NOT_WITHIN, async || one_group(&[&alice, &bob, &carol, &frank], &place).await);
    assert!(early.await.is_err(), "something went around the cut");

    cluster.reunite(&one, &other);
    for (person, leaver) in [(&alice, &dave), (&carol, &erin)] {
        gone(person, &place, leaver).await;
    }
    wait_until("bob to be a moderator everywhere", async || {
        let world = look(&carol, &place.space).await.map_err(|status| status.to_string())?;
        when(role(&world, &bob) == Some(Role::Moderator.into()), format!("{:?}", world.roster))
    })
    .await;
    let world = same_world(&[&alice, &bob, &carol], &place.space, ALL).await;
    assert_eq!(world.health, GroupHealth::Ok);
    wait_until("frank to be where they are", async || {
        one_group(&[&alice, &bob, &carol, &frank], &place).await
    })
    .await;
    let names: Vec<_> = world.roster.iter().map(|(_, name, _)| name.as_str()).collect();
    for name in ["Alice", "Bob", "Carol", "Frank"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert_eq!(role(&world, &bob), Some(Role::Moderator.into()));
    assert_eq!(role(&world, &carol), Some(Role::Admin.into()));
    assert_eq!(names.len(), 4, "who was to go went, on whichever side it was asked: {names:?}");
    out(&dave, &place).await;
    out(&erin, &place).await;

    everyone_reads_everyone(&[&alice, &bob, &carol, &frank], &place).await;
    // Nothing that was said since opens at erin's server.
    let heard = erin.texts(&place.channel).await.unwrap_or_default();
    assert!(!heard.iter().any(|text| text.ends_with("is here")), "{heard:?}");
    for person in [&alice, &bob, &carol, &dave, &erin, &frank] {
        person.server.assert_no_key_reuse().await;
    }
}

fn role(world: &World, person: &Person) -> Option<i32> {
    world.roster.iter().find(|row| row.0 == person.account()).map(|row| row.2)
}

async fn write(person: &Person, place: &Place, what: &str, count: usize) {
    for number in 0..count {
        person.send(&place.channel, &format!("{} {what} {number}", person.name())).await;
    }
}

/// One head, one exporter secret, one roster: what does not depend on when someone came.
pub(super) async fn one_group(people: &[&Person], place: &Place) -> Result<World, String> {
    let mut first: Option<World> = None;
    for person in people {
        let world = look(person, &place.space).await;
        let world = world.map_err(|status| format!("{}: {status}", person.name()))?;
        let world = World { history: Vec::new(), ..world };
        let first = first.get_or_insert_with(|| world.clone());
        when(&world == first, format!("{}: {world:?}\n{}: {first:?}", person.name(), people[0].name()))?;
    }
    let world = first.ok_or("nobody")?;
    when(world.health == GroupHealth::Ok, format!("{:?}", world.health))?;
    Ok(world)
}

/// Each says something, and every other one reads it.
pub(super) async fn everyone_reads_everyone(people: &[&Person], place: &Place) {
    let mut sent = Vec::new();
    for person in people {
        sent.push(person.send_whatever_happens(&place.channel, &format!("{} is here", person.name())).await);
    }
    for person in people {
        for message in &sent {
            let what = format!("{} to read {:?}", person.name(), message.text);
            wait_until(&what, async || match person.message(&message.message_id).await {
                Ok(read) => when(read.text == message.text, read.text),
                Err(status) => Err(status.to_string()),
            })
            .await;
        }
    }
}
