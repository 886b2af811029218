//! Joining by nothing but a link: at once, later, and only as often as the link allows.

use std::{fs, time::SystemTime};

use prost_types::Duration;
use spacepanda_core::{invite::InviteLink, router::Address};
use spacepanda_proto::api::v1::{
    CreateInviteRequest, JoinSpaceRequest, JoinState, RevokeInviteRequest, event::Kind,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tonic::Code;

use crate::harness::{
    Cluster, Person, Server,
    client::request_id,
    cluster::peer_port,
    refused, refused_with, same_world,
    stolen::copy,
    wait::{DEADLINE, when},
    wait_until,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_joins_with_the_link_alone() {
    let (_cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let space = alice.create_space("The garden").await.space_id;
    let mut seen_by_alice = alice.events(None).await;

    let joined = bob.join(&alice.invite(&space).await).await;
    assert_eq!((joined.space_id.as_str(), joined.name.as_str()), (space.as_str(), "The garden"));
    assert_eq!((joined.owner_id.as_str(), joined.member_count), (alice.account(), 2));

    let member = seen_by_alice.next_matching("bob as a new member", |kind| match kind {
        Kind::MemberChanged(changed) if changed.space_id == space => changed.member.clone(),
        _ => None,
    });
    assert_eq!(member.await.account_id, bob.account());
    same_world(&[&alice, &bob], &space, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_link_has_its_own_reason() {
    let (_cluster, [alice, bob, carol]) = Cluster::of(["alice", "bob", "carol"]).await;
    let space = alice.create_space("The garden").await.space_id;

    let link = alice.invite(&space).await;
    let cut_short: String = link.chars().take(link.chars().count() / 2).collect();
    let other_scheme = link.replacen("spacepanda:", "https:", 1);
    let extra = format!("{link}!");
    for garbled in ["spacepanda:", "hello", "spacepanda:not base64 ✂", &cut_short, &other_scheme, &extra] {
        refused(bob.try_join(garbled).await, Code::InvalidArgument, "INVITE_INVALID");
    }

    bob.join(&link).await;
    refused(carol.try_join(&link).await, Code::FailedPrecondition, "INVITE_USED_UP");
    let another = alice.invite(&space).await;
    refused(bob.try_join(&another).await, Code::AlreadyExists, "ALREADY_MEMBER");
    refused(alice.try_join(&another).await, Code::AlreadyExists, "ALREADY_MEMBER");

    let revoked = alice.invite_for(&space, 5).await;
    let revoke = RevokeInviteRequest { invite_id: revoked.invite_id };
    alice.spaces().revoke_invite(revoke).await.expect("revoke");
    refused(carol.try_join(&revoked.link).await, Code::FailedPrecondition, "INVITE_REVOKED");

    let short = short_invite(&alice, &space).await;
    wait_until("the invite to expire", async || {
        let expires =
            SystemTime::try_from(short.expires_at.ok_or("no expiry")?).map_err(|e| e.to_string())?;
        when(SystemTime::now() > expires, "not yet")
    })
    .await;
    refused(carol.try_join(&short.link).await, Code::FailedPrecondition, "INVITE_EXPIRED");

    // None of it cost the good invite its use.
    carol.join(&another).await;
    let world = same_world(&[&alice, &bob, &carol], &space, 0).await;
    assert_eq!(world.roster.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_nobody_there_knows_is_invalid() {
    let alice = Server::start("alice").await.sign_up("alice").await;
    let bob = Server::start("bob").await.sign_up("bob").await;
    let space = alice.create_space("The garden").await.space_id;

    // A well-formed link whose maker has forgotten it: the disk goes back to before the invite.
    alice.server.stop().await;
    let before = tempfile::tempdir().expect("a directory");
    copy(&alice.server.data_dir(), before.path());
    alice.server.restart().await;
    let link = alice.invite(&space).await;
    alice.server.stop().await;
    fs::remove_dir_all(alice.server.data_dir()).expect("remove");
    copy(before.path(), &alice.server.data_dir());
    alice.server.restart().await;
    alice.wake().await;

    refused(bob.try_join(&link).await, Code::InvalidArgument, "INVITE_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_waits_for_an_offline_inviter_and_completes_by_itself() {
    let (_cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let space = alice.create_space("The garden").await.space_id;
    let link = alice.invite(&space).await;
    alice.server.stop().await;

    let request_id = request_id();
    let request = JoinSpaceRequest { invite_link: link, request_id };
    let answer = bob.spaces().join_space(request.clone()).await.expect("accepted").into_inner();
    assert_eq!(answer.state(), JoinState::Pending);
    assert_eq!(answer.space.expect("its id").space_id, space);
    refused(bob.space(&space).await, Code::NotFound, "SPACE_NOT_FOUND");
    assert!(bob.all_spaces().await.is_empty());

    // The join outlives its own server's restart too.
    bob.server.restart().await;
    bob.wake().await;
    alice.server.restart().await;
    alice.wake().await;

    let mut feed = bob.events(Some(0)).await;
    let state = feed.next_matching("the join to end", |kind| match kind {
        Kind::JoinProgress(progress) if progress.space_id == space => {
            (progress.state() != JoinState::Pending).then(|| progress.state())
        }
        _ => None,
    });
    assert_eq!(state.await, JoinState::Joined);
    let world = same_world(&[&alice, &bob], &space, 0).await;
    assert_eq!(world.roster.len(), 2);
    let again = bob.spaces().join_space(request).await.expect("the same request").into_inner();
    assert_eq!(again.space.expect("its id").space_id, space);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_whose_caller_hung_up_completes_by_itself() {
    let alice = Server::start("alice").await.sign_up("alice").await;
    let bob = Server::start("bob").await.sign_up("bob").await;
    let space = alice.create_space("The garden").await.space_id;
    let gate = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let link = through(&gate, &alice.invite(&space).await);

    let call = tokio::spawn({
        let bob = bob.clone();
        async move { bob.try_join(&link).await }
    });
    let dialled = timeout(DEADLINE, gate.accept()).await.expect("bob's server dials").expect("a connection");
    call.abort();
    assert!(call.await.is_err_and(|error| error.is_cancelled()), "answered before bob could hang up");
    // On the same connection: when this is answered, the server knows that nobody waits any more.
    bob.status().await;

    // That dial fails. The next one will not, and nobody asks for it.
    let behind = peer_port(&alice).await;
    drop(dialled);
    tokio::spawn(async move {
        while let Ok((mut dialler, _)) = gate.accept().await {
            let mut server = TcpStream::connect(behind).await.expect("alice's server");
            tokio::spawn(async move { copy_bidirectional(&mut dialler, &mut server).await });
        }
    });
    let mut feed = bob.events(Some(0)).await;
    let state = feed.next_matching("the join to end", |kind| match kind {
        Kind::JoinProgress(progress) if progress.state() != JoinState::Pending => Some(progress.state()),
        _ => None,
    });
    assert_eq!(state.await, JoinState::Joined);
    let world = same_world(&[&alice, &bob], &space, 0).await;
    assert_eq!(world.roster.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_join_ends_with_the_reason_when_someone_else_took_the_last_use() {
    let (cluster, [alice, bob, carol]) = Cluster::of(["alice", "bob", "carol"]).await;
    let space = alice.create_space("The garden").await.space_id;
    let link = alice.invite(&space).await;
    let mut feed = bob.events(None).await;

    cluster.cut(&alice, &bob).await;
    let (state, _) = bob.try_join(&link).await.expect("accepted");
    assert_eq!(state, JoinState::Pending);
    carol.join(&link).await;
    cluster.heal(&alice, &bob);

    let end = feed.next_matching("the join to end", |kind| match kind {
        Kind::JoinProgress(progress) if progress.state() != JoinState::Pending => {
            Some((progress.state(), progress.reason.clone()))
        }
        _ => None,
    });
    assert_eq!(end.await, (JoinState::Failed, "INVITE_USED_UP".into()));
    assert!(bob.all_spaces().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_join_at_once_with_a_link_for_one_exactly_one_gets_in() {
    let (_cluster, [alice, bob, carol]) = Cluster::of(["alice", "bob", "carol"]).await;
    let space = alice.create_space("The garden").await.space_id;
    let link = alice.invite(&space).await;

    let (by_bob, by_carol) = tokio::join!(bob.try_join(&link), carol.try_join(&link));
    let (winner, lost) = match (by_bob, by_carol) {
        (Ok((JoinState::Joined, _)), lost) => (&bob, lost),
        (lost, Ok((JoinState::Joined, _))) => (&carol, lost),
        neither => panic!("nobody got in: {neither:?}"),
    };
    refused(lost, Code::FailedPrecondition, "INVITE_USED_UP");
    let world = same_world(&[&alice, winner], &space, 0).await;
    assert_eq!(world.roster.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_owner_invites() {
    let (_cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let space = alice.create_space("The garden").await.space_id;
    bob.join(&alice.invite(&space).await).await;

    let request = CreateInviteRequest { space_id: space, request_id: request_id(), ..Default::default() };
    refused_with(bob.spaces().create_invite(request).await, Code::PermissionDenied);
}

async fn short_invite(person: &Person, space_id: &str) -> spacepanda_proto::api::v1::Invite {
    let request = CreateInviteRequest {
        space_id: space_id.into(),
        expires_in: Some(Duration { seconds: 1, nanos: 0 }),
        request_id: request_id(),
        ..Default::default()
    };
    person.spaces().create_invite(request).await.expect("invite").into_inner()
}

/// The same link with another way to its inviter.
fn through(gate: &TcpListener, link: &str) -> String {
    let port = gate.local_addr().expect("an address").port();
    let address = Address::parse(&format!("/ip4/127.0.0.1/tcp/{port}")).expect("an address");
    let link = InviteLink::parse(link).expect("a link");
    InviteLink { addresses: vec![address.to_bytes()], ..link }.encode()
}
