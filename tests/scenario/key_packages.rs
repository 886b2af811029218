//! The private keys of a KeyPackage live as long as the join they were made for.

use spacepanda_core::{id::GroupId, invite::InviteLink};
use spacepanda_proto::api::v1::JoinState;
use tonic::Code;

use crate::harness::{Cluster, Person, refused, stolen::Stolen, wait::when, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_key_package_once_its_join_has_ended() {
    let (cluster, [alice, bob, carol]) = Cluster::of(["alice", "bob", "carol"]).await;
    let space = alice.create_space("The garden").await.space_id;
    let link = alice.invite(&space).await;
    let gid = InviteLink::parse(&link).expect("a link").gid;

    // While it waits they are there.
    cluster.cut(&alice, &bob).await;
    let (state, _) = bob.try_join(&link).await.expect("accepted");
    assert_eq!(state, JoinState::Pending);
    assert!(kept(&bob, gid).await > 0, "a join that waits needs its keys");

    cluster.heal(&alice, &bob);
    bob.server.restart().await;
    bob.wake().await;
    wait_until("bob to be in", async || when(bob.all_spaces().await.len() == 1, "not yet")).await;
    assert_eq!(kept(&bob, gid).await, 0, "joined");

    refused(carol.try_join(&link).await, Code::FailedPrecondition, "INVITE_USED_UP");
    assert_eq!(kept(&carol, gid).await, 0, "refused");
}

/// Stops the person's server.
async fn kept(person: &Person, gid: GroupId) -> usize {
    person.server.stop().await;
    let kept = Stolen::from(person).await.key_package_rows(gid).await;
    person.server.restart().await;
    person.wake().await;
    kept
}
