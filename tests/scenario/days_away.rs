//! A member whose server was off for a week, while the others wrote and the group changed many times.
//!
//! The days are the servers' wall clocks, put ahead at each start; timers are real.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use prost_types::Duration as Lifetime;
use spacepanda_proto::api::v1::CreateInviteRequest;
use tokio::time::Instant;

use super::fork::gone;
use crate::harness::{
    Cluster, Person, Place, client::request_id, insist::joins, meet, refusal::reason, same_world,
    wait::wait_until, wait::when, world::look,
};

const DAYS: u32 = 7;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_for_a_week_gets_everything() {
    let (texts, commits) = (number("AWAY_TEXTS", 1_000), number("AWAY_COMMITS", 30));
    let (_cluster, [alice, bob, carol, dave]) = Cluster::of(["alice", "bob", "carol", "dave"]).await;
    let place = meet(&alice, &[&bob, &carol]).await;
    let fresh = short_invite(&alice, &place).await;
    let late = short_invite(&alice, &place).await;
    // The link works while it is valid: what it does later is the clock's doing.
    dave.join(&fresh).await;
    dave.leave(&place.space).await;
    let before = same_world_without(&[&alice, &bob], &place, &dave).await;
    carol.server.stop().await;

    for day in 1..=DAYS {
        for _ in 0..share(commits / 2, day) {
            joins(&dave, &place.space, &alice.invite(&place.space).await).await;
            dave.leave(&place.space).await;
            gone(&alice, &place, &dave).await;
        }
        let today = share(texts, day);
        let (place, authors) = (&place, [&alice, &bob]);
        let talk = stream::iter(0..today).map(|number| async move {
            let text = format!("day {day}, {number}");
            authors[number % 2].send_whatever_happens(&place.channel, &text).await
        });
        talk.buffered(8).collect::<Vec<_>>().await;
        for person in [&alice, &bob] {
            person.server.clock_ahead(DAY * day);
            person.server.restart().await;
            person.wake().await;
        }
    }
    let world = same_world(&[&alice, &bob], &place.space, texts).await;
    assert!(world.epoch >= before + commits as u64 / 2 * 2, "{} commits", world.epoch - before);
    let status = dave.try_join(&late).await.expect_err("a link from a week ago that was good for a day");
    assert!(reason(&status).starts_with("INVITE_"), "{status:?}");

    let newest = world.history.last().expect("texts").1.clone();
    let began = Instant::now();
    carol.server.clock_ahead(DAY * DAYS);
    carol.server.restart().await;
    carol.wake().await;
    wait_until("carol to have the newest message, on the newest head", async || {
        let message = carol.message(&newest).await.map_err(|status| status.to_string());
        let space = carol.space(&place.space).await.map_err(|status| status.to_string())?;
        let epoch = space.group.unwrap_or_default().epoch;
        // Whose keys are old by now renews them meanwhile.
        when(epoch >= world.epoch, format!("epoch {epoch} of {}", world.epoch))?;
        message
    })
    .await;
    eprintln!("{texts} texts, {} commits: caught up in {:?}", world.epoch - before, began.elapsed());
    same_world(&[&alice, &bob, &carol], &place.space, texts).await;
    for person in [&carol, &bob] {
        person.send(&place.channel, &format!("{} is here", person.name())).await;
    }
    same_world(&[&alice, &bob, &carol], &place.space, texts + 2).await;
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What falls to a day of so much.
fn share(all: usize, day: u32) -> usize {
    let (day, days) = (day as usize, DAYS as usize);
    all * day / days - all * (day - 1) / days
}

/// The link of an invite that is good for a day.
async fn short_invite(owner: &Person, place: &Place) -> String {
    let request = CreateInviteRequest {
        space_id: place.space.clone(),
        request_id: request_id(),
        expires_in: Some(Lifetime { seconds: DAY.as_secs().cast_signed(), nanos: 0 }),
        ..Default::default()
    };
    owner.spaces().create_invite(request).await.expect("invite").into_inner().link
}

/// Waits until they are in one group without someone; gives its epoch.
async fn same_world_without(people: &[&Person], place: &Place, leaver: &Person) -> u64 {
    for person in people {
        gone(person, place, leaver).await;
    }
    look(people[0], &place.space).await.expect("the space").epoch
}
