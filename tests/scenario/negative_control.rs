//! The test of the tests: with the link cut, what the other stories wait for must not come true.

use std::time::Duration;

use crate::harness::{Cluster, comes_true, meet, wait_until};

/// Longer than a delivery takes by far, shorter than a story's deadline.
const NOT_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_link_delivers_nothing_and_a_healed_one_does() {
    let (cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let place = meet(&alice, &[&bob]).await;

    alice.send(&place.channel, "before").await;
    wait_until("the link to work", async || bob.has(&place.channel, 1).await).await;

    cluster.cut(&alice, &bob).await;
    alice.send(&place.channel, "into the void").await;
    bob.send(&place.channel, "and back").await;
    let (at_bob, at_alice) = tokio::join!(
        comes_true(NOT_WITHIN, async || bob.has(&place.channel, 3).await),
        comes_true(NOT_WITHIN, async || alice.has(&place.channel, 3).await),
    );
    assert!(at_bob.is_err() && at_alice.is_err(), "something went around the cut: these tests prove nothing");

    cluster.heal(&alice, &bob);
    wait_until("delivery after healing", async || bob.has(&place.channel, 3).await).await;
    wait_until("delivery after healing", async || alice.has(&place.channel, 3).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_of_one_pair_leaves_the_others() {
    let (cluster, [alice, bob, carol]) = Cluster::of(["alice", "bob", "carol"]).await;
    let place = meet(&alice, &[&bob, &carol]).await;

    // Bob is cut off from both, so that nobody can carry for alice.
    cluster.cut(&alice, &bob).await;
    cluster.cut(&carol, &bob).await;
    alice.send(&place.channel, "for those who can hear").await;
    wait_until("carol to hear", async || carol.has(&place.channel, 1).await).await;
    assert!(comes_true(NOT_WITHIN, async || bob.has(&place.channel, 1).await).await.is_err());

    // Over carol alone it gets there: any member fills the gap.
    cluster.heal(&carol, &bob);
    wait_until("carol to carry for alice", async || bob.has(&place.channel, 1).await).await;
}
