//! Joins do not wait for each other.

use std::time::Duration;

use spacepanda_core::{
    clock::random,
    id::{GroupId, InviteId},
    invite::InviteLink,
    router::{Address, PeerId},
};
use spacepanda_proto::api::v1::JoinState;
use tokio::{net::TcpListener, time::timeout};

use crate::harness::Server;

/// A dial that nobody answers is given up after ten.
const AT_ONCE: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_join_to_someone_who_never_answers_delays_no_other() {
    let alice = Server::start("alice").await.sign_up("alice").await;
    let bob = Server::start("bob").await.sign_up("bob").await;
    let space = alice.create_space("The garden").await.space_id;
    let link = alice.invite(&space).await;

    // Somebody takes the connection and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let address = Address::parse(&format!("/ip4/127.0.0.1/tcp/{port}")).expect("an address");
    let to_nobody = InviteLink {
        gid: GroupId(*random()),
        invite: InviteId(*random()),
        peer_id: PeerId::of_secret(&random()).expect("a peer id").to_bytes(),
        addresses: vec![address.to_bytes()],
        ..InviteLink::parse(&link).expect("a link")
    };
    let waiting = tokio::spawn({
        let bob = bob.another_device("phone").await;
        async move { bob.try_join(&to_nobody.encode()).await.expect("accepted").0 }
    });
    let _held = timeout(AT_ONCE, silent.accept()).await.expect("it is dialled").expect("a connection");

    let (state, _) = timeout(AT_ONCE, bob.try_join(&link)).await.expect("at once").expect("accepted");
    assert_eq!(state, JoinState::Joined);
    assert!(!waiting.is_finished(), "the other join ended by itself: this story proves nothing");
    assert_eq!(waiting.await.expect("answered"), JoinState::Pending);
}
