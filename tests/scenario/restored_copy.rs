//! A data directory put back as it was: the keys it uses again are noticed by whoever saw them used.

use std::fs;

use crate::harness::{Cluster, hostile::rejected, meet, stolen::copy, wait::when, wait_until};

/// What else becomes of a restored copy is not decided yet: see the protocol's "Not implemented".
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_a_restored_copy_uses_again_are_noticed() {
    let (cluster, [alice, bob]) = Cluster::with(["alice", "bob"], |plan| plan.metrics()).await;
    let place = meet(&alice, &[&bob]).await;
    alice.server.stop().await;
    let before = tempfile::tempdir().expect("a directory");
    copy(&alice.server.data_dir(), before.path());
    alice.server.restart().await;
    alice.wake().await;
    alice.send(&place.channel, "before the loss").await;
    wait_until("bob to read it", async || bob.has(&place.channel, 1).await).await;
    bob.server.assert_no_key_reuse().await;

    alice.server.kill_9();
    fs::remove_dir_all(alice.server.data_dir()).expect("remove");
    copy(before.path(), &alice.server.data_dir());
    // Written before Bob can tell her what she once said.
    cluster.cut(&alice, &bob).await;
    alice.server.restart().await;
    alice.wake().await;
    alice.send(&place.channel, "after the loss").await;
    cluster.heal(&alice, &bob);

    wait_until("bob's server to notice", async || {
        let seen = rejected(&bob, "key_reuse").await;
        when(seen >= 1, format!("{seen} reused keys"))
    })
    .await;
    assert_eq!(bob.texts(&place.channel).await.expect("history"), ["before the loss"]);
}
