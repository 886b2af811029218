//! Joins do not wait for each other, and nothing else waits for them.

use std::{net::SocketAddr, time::Duration};

use futures::future::join_all;
use spacepanda_core::{
    clock::random,
    id::{GroupId, InviteId},
    invite::InviteLink,
    router::{Address, PeerId},
};
use spacepanda_proto::api::v1::JoinState;
use tokio::{net::TcpListener, time::timeout};

use crate::harness::{Server, hostile::Intruder, meet, same_world, server::free_port};

/// A dial that nobody answers is given up after ten.
const AT_ONCE: Duration = Duration::from_secs(5);
/// Many times what an account's database has readers.
const IN_VAIN: usize = 12;
const STRANGERS: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn a_join_to_someone_who_never_answers_delays_no_other() {
    let alice = Server::start("alice").await.sign_up("alice").await;
    let bob = Server::start("bob").await.sign_up("bob").await;
    let space = alice.create_space("The garden").await.space_id;
    let link = alice.invite(&space).await;

    // Somebody takes the connection and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let to_nobody = leads_to(silent.local_addr().expect("an address"), &link);
    let waiting = tokio::spawn({
        let bob = bob.another_device("phone").await;
        async move { bob.try_join(&to_nobody).await.expect("accepted").0 }
    });
    let _held = timeout(AT_ONCE, silent.accept()).await.expect("it is dialled").expect("a connection");

    let (state, _) = timeout(AT_ONCE, bob.try_join(&link)).await.expect("at once").expect("accepted");
    assert_eq!(state, JoinState::Joined);
    assert!(!waiting.is_finished(), "the other join ended by itself: this story proves nothing");
    assert_eq!(waiting.await.expect("answered"), JoinState::Pending);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_joins_in_vain_keep_nobody_from_talking_while_peers_come() {
    let alice = Server::start("alice").await.sign_up("alice").await;
    let bob = Server::start("bob").await.sign_up("bob").await;
    let place = meet(&alice, &[&bob]).await;
    let link = alice.invite(&place.space).await;

    // A dial of an empty port ends at once: every try reads the database, and soon again.
    let nobody = free_port();
    let joins = join_all((0..IN_VAIN).map(async |_| bob.try_join(&leads_to(nobody, &link)).await)).await;
    for answer in joins {
        assert_eq!(answer.expect("accepted").0, JoinState::Pending);
    }
    for n in 0..STRANGERS {
        // Whoever comes may be the one whom a join waits for: all are tried again.
        let stranger = Intruder::new(&format!("stranger {n}")).await;
        tokio::join!(
            stranger.meet(&bob),
            alice.send(&place.channel, "hello"),
            bob.send(&place.channel, "hi")
        );
    }
    same_world(&[&alice, &bob], &place.space, 2 * STRANGERS).await;
}

/// A link to a space of its own, whose inviter is said to be there.
fn leads_to(place: SocketAddr, link: &str) -> String {
    let address = Address::parse(&format!("/ip4/{}/tcp/{}", place.ip(), place.port())).expect("an address");
    let link = InviteLink {
        gid: GroupId(*random()),
        invite: InviteId(*random()),
        peer_id: PeerId::of_secret(&random()).expect("a peer id").to_bytes(),
        addresses: vec![address.to_bytes()],
        ..InviteLink::parse(link).expect("a link")
    };
    link.encode()
}
