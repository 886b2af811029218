//! Keys that nobody asked to renew: what is copied of a device opens nothing for long.
//!
//! The days are the servers' wall clocks, put ahead at the start; timers are real.

use std::time::Duration;

use crate::harness::{
    Cluster, meet, same_world,
    wait::{when, within},
    world::look,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Whose turn it is does it at once; the next a minute later.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_renewed_after_two_days_and_nobody_has_to_ask() {
    let (_cluster, [alice, bob, carol]) = Cluster::of(["alice", "bob", "carol"]).await;
    let place = meet(&alice, &[&bob, &carol]).await;
    alice.send(&place.channel, "before").await;
    let before = same_world(&[&alice, &bob, &carol], &place.space, 1).await.epoch;
    for person in [&alice, &bob, &carol] {
        // Of the same day nobody's keys are old enough.
        person.server.clock_ahead(DAY / 2);
        person.server.restart().await;
        person.wake().await;
    }
    bob.send(&place.channel, "at noon").await;
    assert_eq!(same_world(&[&alice, &bob, &carol], &place.space, 2).await.epoch, before);

    for person in [&alice, &bob, &carol] {
        person.server.clock_ahead(DAY * 2);
        person.server.restart().await;
        person.wake().await;
    }
    within(PATIENCE, "whose turn it is to have committed", async || {
        let epoch = look(&alice, &place.space).await.map_err(|status| status.to_string())?.epoch;
        when(epoch > before, format!("epoch {epoch} after {before}"))
    })
    .await;
    carol.send(&place.channel, "after").await;
    let epoch = same_world(&[&alice, &bob, &carol], &place.space, 3).await.epoch;
    assert!((before + 1..=before + 3).contains(&epoch), "each once at most: {epoch} after {before}");
}
