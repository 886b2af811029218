//! What could not be sealed while the disk was full goes out by itself once there is room.

use crate::harness::{Cluster, meet, same_world, wait::when, wait_until};

const TEXTS: usize = 5;
const LONG: usize = 30_000;
/// Less than the texts took in the database's log, and more than the server says of itself.
const LIMIT: u64 = 64 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_could_not_be_sealed_goes_out_when_there_is_room_again() {
    let (cluster, [alice, bob]) = Cluster::with(["alice", "bob"], |plan| plan.survives_file_limits()).await;
    let place = meet(&alice, &[&bob]).await;
    cluster.cut(&alice, &bob).await;
    for number in 0..TEXTS {
        alice.send(&place.channel, &format!("{number} {}", "x".repeat(LONG))).await;
    }
    alice.server.limit_files(Some(LIMIT));
    cluster.heal(&alice, &bob);
    wait_until("sealing to fail", async || {
        let log = alice.server.log();
        when(log.contains("queued events could not be sealed"), log)
    })
    .await;
    assert!(bob.history(&place.channel).await.expect("history").is_empty());
    alice.server.limit_files(None);
    same_world(&[&alice, &bob], &place.space, TEXTS).await;
}
