//! Someone is away while others talk, and gets everything, also from a member who did not write it.

use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::harness::{Cluster, Person, meet, same_world, wait_until};

const MESSAGES: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn a_third_member_fills_the_gap_when_the_sender_died_before_the_receiver_returned() {
    let (_cluster, [alice, bob, carol]) = Cluster::of(["alice", "bob", "carol"]).await;
    let place = meet(&alice, &[&bob, &carol]).await;

    carol.server.stop().await;
    send_many(&alice, &place.channel).await;
    wait_until("bob to have everything", async || bob.has(&place.channel, MESSAGES).await).await;
    alice.server.kill_9();

    carol.server.restart().await;
    carol.wake().await;
    same_world(&[&bob, &carol], &place.space, MESSAGES).await;

    alice.server.restart().await;
    alice.wake().await;
    same_world(&[&alice, &bob, &carol], &place.space, MESSAGES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_was_killed_and_one_that_hung_both_catch_up() {
    let (_cluster, [alice, bob, carol]) = Cluster::of(["alice", "bob", "carol"]).await;
    let place = meet(&alice, &[&bob, &carol]).await;

    bob.server.kill_9();
    carol.server.pause();
    send_many(&alice, &place.channel).await;
    carol.server.resume();
    bob.server.restart().await;
    bob.wake().await;

    same_world(&[&alice, &bob, &carol], &place.space, MESSAGES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_without_any_connection_arrives_later() {
    let (cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let place = meet(&alice, &[&bob]).await;

    cluster.cut(&alice, &bob).await;
    for number in 0..10 {
        alice.send(&place.channel, &format!("a{number}")).await;
        bob.send(&place.channel, &format!("b{number}")).await;
    }
    assert_eq!(alice.texts(&place.channel).await.expect("offline reading").len(), 10);
    assert_eq!(alice.status().await.queued_messages, 10);

    // Also what was queued when the sender itself went away.
    alice.server.kill_9();
    alice.server.restart().await;
    alice.wake().await;
    cluster.heal(&alice, &bob);
    same_world(&[&alice, &bob], &place.space, 20).await;
    wait_until("nothing to be queued", async || match alice.status().await.queued_messages {
        0 => Ok(()),
        queued => Err(format!("{queued} queued")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_link_loses_nothing() {
    let (cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let place = meet(&alice, &[&bob]).await;

    cluster.delay(&alice, &bob, std::time::Duration::from_millis(150));
    for number in 0..20 {
        alice.send(&place.channel, &format!("a{number}")).await;
        bob.send(&place.channel, &format!("b{number}")).await;
    }
    same_world(&[&alice, &bob], &place.space, 40).await;
}

async fn send_many(person: &Person, channel: &str) {
    stream::iter(0..MESSAGES)
        .map(|number| async move { person.try_send(channel, &format!("message {number}")).await })
        .buffered(8)
        .try_collect::<Vec<_>>()
        .await
        .expect("every message is accepted");
}
