//! What is said of peers is true: who answered, who it is, whether the link is up.

use spacepanda_proto::api::v1::{
    ConnectPeerRequest, Direction, DisconnectPeerRequest, Nat, PeerState, event::Kind,
};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{
    Cluster, Person, Server, feed::Feed, refused, refused_with, server::free_port, wait::when, wait_until,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_address_names_the_field() {
    let alice = Server::start("alice").await.sign_up("alice").await;
    let without_a_peer = alice.peer_address().await.split("/p2p/").next().map(String::from);
    let bad = [
        "hello".into(),
        "/ip4/127.0.0.1".into(),
        "/ip4/999.0.0.1/tcp/1/p2p/x".into(),
        "/".repeat(10_000),
        without_a_peer.expect("an address"),
    ];
    for address in bad {
        let status = refused(alice.try_connect(&address).await, Code::InvalidArgument, "ADDRESS_INVALID");
        let fields = status.get_details_bad_request().expect("BadRequest").field_violations;
        assert_eq!(fields[0].field, "peer_address");
    }
    assert!(alice.peers().await.is_empty(), "nothing of it is remembered");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_another_key_and_oneself_are_told_apart() {
    let alice = Server::start("alice").await.sign_up("alice").await;
    let bob = Server::start("bob").await.sign_up("bob").await;

    let nobody = format!("/ip4/127.0.0.1/tcp/{}/p2p/{}", free_port().port(), bob.peer_id());
    refused(alice.try_connect(&nobody).await, Code::Unavailable, "PEER_UNREACHABLE");

    let carol = bob.server.sign_up("carol").await;
    let other_key = bob.peer_address().await.replace(bob.peer_id(), carol.peer_id());
    refused(alice.try_connect(&other_key).await, Code::FailedPrecondition, "PEER_KEY_MISMATCH");

    let own = alice.peer_address().await;
    refused(alice.try_connect(&own).await, Code::FailedPrecondition, "PEER_IS_SELF");

    // A port where something answers that is no peer at all.
    let api = format!("/ip4/127.0.0.1/tcp/{}/p2p/{}", bob.server.address().port(), bob.peer_id());
    let status = alice.try_connect(&api).await.expect_err("not a peer");
    assert!(matches!(status.code(), Code::Unavailable | Code::FailedPrecondition), "{status:?}");

    alice.connect(&bob).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_know_whose_server_it_is_and_how_far() {
    let (_cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let round_trip = alice.try_connect(&bob.peer_address().await).await.expect("connect");
    assert!(round_trip > 0.0 && round_trip < 5_000.0, "{round_trip} ms");

    for (person, other, direction) in
        [(&alice, &bob, Direction::Outbound), (&bob, &alice, Direction::Inbound)]
    {
        wait_until("the peer with its account and a round trip", async || {
            let peer = person.peer(other).await.ok_or("not known")?;
            let truth = peer.state() == PeerState::Connected
                && peer.account_id == other.account()
                && peer.direction() == direction
                && !peer.relayed
                && peer.round_trip_ms > 0.0;
            when(truth, format!("{peer:?}"))
        })
        .await;
        let status = person.status().await;
        assert_eq!((status.connected_peers, status.peer_id.as_str()), (1, person.peer_id()));
        assert!(status.listen_addresses.iter().all(|address| address.ends_with(person.peer_id())));
        assert_eq!(status.nat(), Nat::Announced, "the harness announces a proxy");
        assert!(status.external_addresses.iter().all(|address| address.ends_with(person.peer_id())));
    }
    // Again is no error.
    alice.connect(&bob).await;
    assert_eq!(alice.peers().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_peer_is_disconnected_and_dialled_again_by_itself() {
    let (_cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let mut feed = alice.events(None).await;
    alice.connect(&bob).await;
    told(&mut feed, &bob, PeerState::Connected).await;
    let port = bob.status().await.listen_addresses;

    bob.server.kill_9();
    told(&mut feed, &bob, PeerState::Disconnected).await;
    wait_until("no connection", async || is(&alice, &bob, PeerState::Disconnected).await).await;
    assert_eq!(alice.status().await.connected_peers, 0);

    bob.server.restart().await;
    bob.wake().await;
    assert_eq!(bob.status().await.listen_addresses, port, "the router keeps its port");
    told(&mut feed, &bob, PeerState::Connected).await;

    // The other way round: who dialled once dials again after its own restart.
    alice.server.restart().await;
    alice.wake().await;
    wait_until("alice to dial again", async || is(&alice, &bob, PeerState::Connected).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_peer_is_not_dialled_again() {
    let (_cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    alice.connect(&bob).await;
    let request = DisconnectPeerRequest { peer_id: bob.peer_id().into() };
    alice.network().disconnect_peer(request.clone()).await.expect("disconnect");
    wait_until("the connection to end", async || {
        when(alice.status().await.connected_peers == 0, "still connected")
    })
    .await;
    assert!(alice.peer(&bob).await.is_none(), "forgotten");
    refused_with(alice.network().disconnect_peer(request).await, Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_accounts_of_one_server_are_peers_like_any_other() {
    let house = Server::start("house").await;
    let (alice, bob) = (house.sign_up("alice").await, house.sign_up("bob").await);
    assert_ne!(alice.peer_id(), bob.peer_id());
    let request = ConnectPeerRequest { peer_address: bob.peer_address().await };
    let answer = alice.network().connect_peer(request).await.expect("connect").into_inner();
    assert_eq!(answer.peer_id, bob.peer_id());
    let place = crate::harness::meet(&alice, &[&bob]).await;
    bob.send(&place.channel, "neighbour!").await;
    crate::harness::same_world(&[&alice, &bob], &place.space, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_moves_tells_its_fellow_members_where_it_is_now() {
    let alice = Server::start("alice").await.sign_up("alice").await;
    let bob = Server::start("bob").await.sign_up("bob").await;
    crate::harness::meet(&alice, &[&bob]).await;
    let place = free_port().port();
    let known = async |address: &str| {
        let peer = bob.peer(&alice).await.ok_or("not known")?;
        when(peer.addresses.iter().any(|known| known.ends_with(address)), format!("{:?}", peer.addresses))
    };
    let address = format!("/tcp/{place}");
    known(&address).await.expect_err("nobody was told yet");

    alice.server.restart_with(&["--announce", &format!("/ip4/127.0.0.1/tcp/{place}")]).await;
    alice.wake().await;
    wait_until("bob to hear of alice's new address", async || known(&address).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_was_not_tried_is_not_remembered() {
    let (_cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    alice.connect(&bob).await;
    let before = alice.peer(&bob).await.expect("known").addresses;
    let wrong = format!("/ip4/127.0.0.1/tcp/{}/p2p/{}", free_port().port(), bob.peer_id());
    alice.try_connect(&wrong).await.expect("connected already");
    assert_eq!(alice.peer(&bob).await.expect("known").addresses, before);
}

async fn told(feed: &mut Feed, peer: &Person, state: PeerState) {
    feed.next_matching("the peer's new state", |kind| match kind {
        Kind::PeerChanged(changed) => {
            let now = changed.peer.as_ref()?;
            (now.peer_id == peer.peer_id() && now.state() == state).then_some(())
        }
        _ => None,
    })
    .await;
}

async fn is(person: &Person, other: &Person, state: PeerState) -> Result<(), String> {
    let peer = person.peer(other).await.ok_or("not known")?;
    // Being dialled again is being without a connection.
    let seen = if peer.state() == PeerState::Connecting { PeerState::Disconnected } else { peer.state() };
    when(seen == state, format!("{:?}", peer.state()))
}
