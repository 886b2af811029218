//! The number of queued messages counts what people wrote, and nothing else that is on its way.

use crate::harness::{Cluster, meet, same_world, wait::when, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn only_messages_are_counted_as_queued() {
    let (cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let place = meet(&alice, &[&bob]).await;
    cluster.cut(&alice, &bob).await;
    alice.create_channel(&place.space, "plans").await;
    assert_eq!(alice.status().await.queued_messages, 0, "a channel is no message");
    alice.send(&place.channel, "for later").await;
    assert_eq!(alice.status().await.queued_messages, 1);

    cluster.heal(&alice, &bob);
    same_world(&[&alice, &bob], &place.space, 1).await;
    wait_until("nothing to be queued", async || {
        let queued = alice.status().await.queued_messages;
        when(queued == 0, format!("{queued} queued"))
    })
    .await;
}
