//! Two logins of one account: the same world on both, and a lock of one or of all.

use spacepanda_proto::api::v1::PeerState;
use tonic::Code;

use crate::harness::{Cluster, Person, meet, refused_with, same_world, wait::when, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn both_devices_see_what_is_sent_and_what_is_received() {
    let (_cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let laptop = alice.another_device("laptop").await;
    assert_eq!((laptop.account(), laptop.peer_id()), (alice.account(), alice.peer_id()));
    assert_ne!(laptop.session.session_token, alice.session.session_token);
    let (mut on_phone, mut on_laptop) = (alice.events(None).await, laptop.events(None).await);

    let place = meet(&alice, &[&bob]).await;
    alice.send(&place.channel, "from the phone").await;
    laptop.send(&place.channel, "from the laptop").await;
    wait_until("bob to read both", async || bob.has(&place.channel, 2).await).await;
    bob.send(&place.channel, "to you both").await;

    for feed in [&mut on_phone, &mut on_laptop] {
        for _ in 0..3 {
            feed.next_message().await;
        }
        let mut texts = feed.texts();
        texts.sort();
        assert_eq!(texts, ["from the laptop", "from the phone", "to you both"]);
    }
    same_world(&[&alice, &laptop, &bob], &place.space, 3).await;
    assert!(laptop.history(&place.channel).await.expect("history").iter().filter(|m| m.mine).count() == 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn locking_one_device_leaves_the_other() {
    let (_cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let place = meet(&alice, &[&bob]).await;
    let laptop = alice.another_device("laptop").await;
    let mut on_phone = alice.events(None).await;
    let mut on_laptop = laptop.events(None).await;

    alice.lock(false).await;
    refused_with(alice.try_status().await, Code::Unauthenticated);
    on_phone.until_end().await;

    bob.send(&place.channel, "still there?").await;
    assert_eq!(on_laptop.next_message().await.text, "still there?");
    laptop.send(&place.channel, "yes").await;
    same_world(&[&laptop, &bob], &place.space, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn locking_everywhere_stops_the_router_until_the_password_comes_again() {
    let (_cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let place = meet(&alice, &[&bob]).await;
    let laptop = alice.another_device("laptop").await;
    wait_until("bob to be connected with alice", async || peer_is(&bob, &alice, PeerState::Connected).await)
        .await;

    laptop.lock(true).await;
    for device in [&alice, &laptop] {
        refused_with(device.try_status().await, Code::Unauthenticated);
    }
    wait_until("bob to see alice go", async || peer_is(&bob, &alice, PeerState::Disconnected).await).await;
    bob.send(&place.channel, "for later").await;

    let back = alice.another_device("phone").await;
    assert_eq!(back.peer_id(), alice.peer_id());
    same_world(&[&back, &bob], &place.space, 1).await;
    refused_with(alice.try_status().await, Code::Unauthenticated);
}

async fn peer_is(person: &Person, other: &Person, state: PeerState) -> Result<(), String> {
    let peer = person.peer(other).await.ok_or("not known")?;
    // Being dialled again is being without a connection.
    let seen = if peer.state() == PeerState::Connecting { PeerState::Disconnected } else { peer.state() };
    when(seen == state, format!("{:?}", peer.state()))
}
