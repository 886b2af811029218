//! Who joins later sees the whole place, everyone in it, and nothing that was said before.

use std::collections::BTreeSet;

use crate::harness::{Cluster, meet, same_world, wait::when, wait_until, world::look};

/// Texts a person and channel before the newcomer comes.
const BEFORE: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_sees_all_channels_and_members_and_no_word_from_before() {
    let (_cluster, [alice, bob, carol]) = Cluster::of(["alice", "bob", "carol"]).await;
    let place = meet(&alice, &[&bob]).await;
    let plans = alice.create_channel(&place.space, "plans").await.channel_id;
    same_world(&[&alice, &bob], &place.space, 0).await;
    wait_until("bob to see the new channel", async || {
        let channels = bob.channels(&place.space).await.map_err(|status| status.to_string())?;
        when(channels.len() == 2, format!("{} channels", channels.len()))
    })
    .await;
    for number in 0..BEFORE {
        for (author, channel) in [&alice, &bob].into_iter().flat_map(|a| [(a, &place.channel), (a, &plans)]) {
            author.send(channel, &format!("before, {} {number}", author.name())).await;
        }
    }
    let before = same_world(&[&alice, &bob], &place.space, 4 * BEFORE).await;

    carol.join(&alice.invite(&place.space).await).await;
    // Something later of each author in each channel: whatever carol is given of them has come by then.
    for (author, channel) in [&alice, &bob].into_iter().flat_map(|a| [(a, &place.channel), (a, &plans)]) {
        author.send(channel, &format!("later, {}", author.name())).await;
    }
    carol.send(&place.channel, "later, carol").await;
    let old = same_world(&[&alice, &bob], &place.space, 4 * BEFORE + 5).await;
    sees_only_later(&carol, &place.space, &old.roster).await;
    assert_eq!(old.roster.len(), before.roster.len() + 1);

    // Nor is it sent to her when others find her behind.
    carol.server.kill_9();
    carol.server.restart().await;
    carol.wake().await;
    alice.send(&plans, "later, to who was away").await;
    wait_until("carol to read on", async || carol.has(&plans, 3).await).await;
    let mut feed = carol.events(Some(0)).await;
    feed.until_caught_up().await;
    let told = feed.texts();
    assert!(!told.is_empty() && told.iter().all(|text| text.starts_with("later, ")), "{told:?}");
}

/// Exactly the five later messages, both channels, and everyone.
async fn sees_only_later(
    carol: &crate::harness::Person,
    space: &str,
    roster: &BTreeSet<(String, String, i32)>,
) {
    let world = wait_until("carol to read what was said later", async || {
        let world = look(carol, space).await.map_err(|status| status.to_string())?;
        when(world.history.len() == 5 && world.roster == *roster, format!("{world:?}"))?;
        Ok(world)
    })
    .await;
    let (later, channels): (Vec<_>, BTreeSet<_>) =
        world.history.iter().map(|(channel, _, _, text)| (text.as_str(), channel.as_str())).unzip();
    assert!(later.iter().all(|text| text.starts_with("later, ")), "{later:?}");
    assert_eq!(channels, BTreeSet::from(["general", "plans"]));
}
