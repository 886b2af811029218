//! A join that waits for its inviter ends when its link does, and says why.
//!
//! That one whose link still holds completes instead is told in `join_by_link`.

use std::time::{Duration, SystemTime};

use spacepanda_proto::api::v1::{CreateInviteRequest, Invite, JoinState, event::Kind};
use tonic::Code;

use crate::harness::{Cluster, Person, client::request_id, refused};

/// Long enough to ask with it, on a slow machine too.
const LIFE: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_join_ends_with_its_link() {
    let (cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let (space, invite) = waits_for_nobody(&cluster, &alice, &bob).await;
    ends(&bob, &space, &invite).await;

    // Nor does it come true when the inviter is there again.
    alice.server.restart().await;
    alice.wake().await;
    cluster.heal(&alice, &bob);
    refused(bob.try_join(&invite.link).await, Code::FailedPrecondition, "INVITE_EXPIRED");
    assert_eq!(alice.members(&space).await.expect("members").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_join_ends_with_its_link_also_where_its_server_was_down_then() {
    let (cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let (space, invite) = waits_for_nobody(&cluster, &alice, &bob).await;
    bob.server.kill_9();
    bob.server.restart().await;
    bob.wake().await;
    ends(&bob, &space, &invite).await;
}

/// Bob's join waits: its link is short-lived, and the inviter is away for good.
async fn waits_for_nobody(cluster: &Cluster, alice: &Person, bob: &Person) -> (String, Invite) {
    let space = alice.create_space("The garden").await.space_id;
    // Cut off first, so that none of the link's short life is spent on stopping.
    cluster.cut(alice, bob).await;
    let request = CreateInviteRequest {
        space_id: space.clone(),
        expires_in: Some(LIFE.try_into().expect("a duration")),
        request_id: request_id(),
        ..Default::default()
    };
    let invite = alice.spaces().create_invite(request).await.expect("invite").into_inner();
    let (state, _) = bob.try_join(&invite.link).await.expect("accepted");
    assert_eq!(state, JoinState::Pending);
    alice.server.stop().await;
    (space, invite)
}

/// The join ends with the reason, once, and not before its time.
async fn ends(bob: &Person, space: &str, invite: &Invite) {
    let mut feed = bob.events(Some(0)).await;
    let (state, reason) = feed
        .next_matching("the join to end", |kind| match kind {
            Kind::JoinProgress(progress) if progress.state() != JoinState::Pending => {
                assert_eq!(progress.space_id, space);
                Some((progress.state(), progress.reason.clone()))
            }
            _ => None,
        })
        .await;
    assert_eq!((state, reason.as_str()), (JoinState::Failed, "INVITE_EXPIRED"));
    let expires = SystemTime::try_from(invite.expires_at.expect("an expiry")).expect("a time");
    assert!(SystemTime::now() >= expires, "it ended while the link still held");
    assert!(bob.all_spaces().await.is_empty());
    refused(bob.space(space).await, Code::NotFound, "SPACE_NOT_FOUND");
}
