//! A request id gives the same answer and never a second effect, also after a restart.

use std::fmt::Debug;

use futures::future::join_all;
use spacepanda_proto::api::v1::{
    CreateChannelRequest, CreateInviteRequest, CreateProfileRequest, CreateSpaceRequest, JoinSpaceRequest,
    JoinState, LeaveSpaceRequest, RemoveMemberRequest, Role, SendMessageRequest, SetMemberRoleRequest,
};
use tonic::{Code, Response, Status};

use crate::harness::{Cluster, PASSWORD, Person, Server, client::request_id, meet, refused, same_world};

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_is_created_once() {
    let server = Server::start("home").await;
    let request = CreateProfileRequest {
        username: "alice".into(),
        password: PASSWORD.into(),
        display_name: "Alice".into(),
        device_name: "phone".into(),
        request_id: request_id(),
        ..Default::default()
    };
    let first = answer(server.accounts().create_profile(request.clone()).await);
    server.restart().await;
    let again = answer(server.accounts().create_profile(request.clone()).await);
    assert_eq!((&again.account_id, &again.peer_id), (&first.account_id, &first.peer_id));
    server.person(again).create_space("The token of the second answer works").await;
    server.person(first).wake().await;

    let other_name = CreateProfileRequest { display_name: "Eve".into(), ..request.clone() };
    reused(server.accounts().create_profile(other_name).await);
    let other_password = CreateProfileRequest { password: "another password".into(), ..request.clone() };
    reused(server.accounts().create_profile(other_password).await);
    let fresh_id = CreateProfileRequest { request_id: request_id(), ..request };
    refused(server.accounts().create_profile(fresh_id).await, Code::AlreadyExists, "USERNAME_TAKEN");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_space_a_channel_and_an_invite_are_created_once() {
    let alice = Server::start("home").await.sign_up("alice").await;
    let space = CreateSpaceRequest { name: "Garden".into(), request_id: request_id(), ..Default::default() };
    let first_space = answer(alice.spaces().create_space(space.clone()).await);
    let space_id = first_space.space_id.clone();
    let channel = CreateChannelRequest {
        space_id: space_id.clone(),
        name: "plans".into(),
        request_id: request_id(),
        ..Default::default()
    };
    let first_channel = answer(alice.spaces().create_channel(channel.clone()).await);
    let invite = CreateInviteRequest {
        space_id: space_id.clone(),
        max_uses: 3,
        request_id: request_id(),
        ..Default::default()
    };
    let first_invite = answer(alice.spaces().create_invite(invite.clone()).await);

    alice.server.kill_9();
    alice.server.restart().await;

    let again = answer(alice.spaces().create_space(space.clone()).await);
    assert_eq!((again.space_id, again.name), (first_space.space_id, first_space.name));
    assert_eq!(alice.all_spaces().await.len(), 1);
    assert_eq!(answer(alice.spaces().create_channel(channel.clone()).await), first_channel);
    assert_eq!(alice.channels(&space_id).await.expect("channels").len(), 2, "general and plans");
    assert_eq!(answer(alice.spaces().create_invite(invite.clone()).await), first_invite);

    reused(alice.spaces().create_space(CreateSpaceRequest { name: "Other".into(), ..space.clone() }).await);
    reused(alice.spaces().create_channel(CreateChannelRequest { name: "other".into(), ..channel }).await);
    reused(alice.spaces().create_invite(CreateInviteRequest { max_uses: 4, ..invite.clone() }).await);
    // An id is spent on the whole account, whatever the method.
    let elsewhere = CreateInviteRequest { request_id: space.request_id, ..invite };
    reused(alice.spaces().create_invite(elsewhere).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_sent_once_however_often_and_concurrently_it_is_asked() {
    let (_cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let place = meet(&alice, &[&bob]).await;
    let request = SendMessageRequest {
        channel_id: place.channel.clone(),
        text: "once".into(),
        request_id: request_id(),
        ..Default::default()
    };
    let at_once = join_all((0..8).map(async |_| alice.messages().send_message(request.clone()).await)).await;
    let ids: Vec<_> = at_once.into_iter().map(|sent| answer(sent).message_id).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");

    alice.server.restart().await;
    let again = answer(alice.messages().send_message(request.clone()).await);
    assert_eq!((again.message_id.as_str(), again.text.as_str()), (ids[0].as_str(), "once"));
    reused(alice.messages().send_message(SendMessageRequest { text: "twice".into(), ..request }).await);

    // Without an id, and with another one, the same text is another message.
    let anew = alice.send(&place.channel, "once").await;
    assert_ne!(anew.message_id, ids[0]);
    same_world(&[&alice, &bob], &place.space, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_a_removal_and_a_departure_happen_once() {
    let (_cluster, [alice, bob, carol]) = Cluster::of(["alice", "bob", "carol"]).await;
    let space = alice.create_space("Garden").await.space_id;
    let invite = alice.invite_for(&space, 2).await;

    let join = JoinSpaceRequest { invite_link: invite.link.clone(), request_id: request_id() };
    let first = answer(bob.spaces().join_space(join.clone()).await);
    assert_eq!(first.state(), JoinState::Joined);
    bob.server.restart().await;
    let again = answer(bob.spaces().join_space(join.clone()).await);
    assert_eq!(again.state(), JoinState::Joined);
    assert_eq!(again.space.expect("the space").space_id, space);
    reused(bob.spaces().join_space(JoinSpaceRequest { invite_link: "spacepanda:x".into(), ..join }).await);
    carol.join(&invite.link).await;
    let epoch = same_world(&[&alice, &bob, &carol], &space, 0).await.epoch;

    let remove = RemoveMemberRequest {
        space_id: space.clone(),
        account_id: carol.account().into(),
        request_id: request_id(),
    };
    answer(alice.spaces().remove_member(remove.clone()).await);
    alice.server.restart().await;
    answer(alice.spaces().remove_member(remove.clone()).await);
    reused(
        alice
            .spaces()
            .remove_member(RemoveMemberRequest { account_id: bob.account().into(), ..remove })
            .await,
    );
    let world = same_world(&[&alice, &bob], &space, 0).await;
    assert_eq!((world.epoch, world.roster.len()), (epoch + 1, 2), "one commit removed one member");

    let leave = LeaveSpaceRequest { space_id: space.clone(), request_id: request_id() };
    answer(bob.spaces().leave_space(leave.clone()).await);
    bob.server.restart().await;
    answer(bob.spaces().leave_space(leave.clone()).await);
    gone(&bob, &space).await;
    reused(bob.spaces().leave_space(LeaveSpaceRequest { space_id: request_id(), ..leave }).await);
    let world = same_world(&[&alice], &space, 0).await;
    assert!(world.epoch <= epoch + 2, "one departure, one commit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_set_once_also_when_it_is_asked_again_after_another_change() {
    let (_cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let space = meet(&alice, &[&bob]).await.space;
    let promote = SetMemberRoleRequest {
        space_id: space.clone(),
        account_id: bob.account().into(),
        role: Role::Admin.into(),
        request_id: request_id(),
    };
    assert_eq!(answer(alice.spaces().set_member_role(promote.clone()).await).role(), Role::Admin);
    alice.set_role(&space, &bob, Role::Member).await;
    let epoch = same_world(&[&alice, &bob], &space, 0).await.epoch;
    alice.server.kill_9();
    alice.server.restart().await;
    let again = answer(alice.spaces().set_member_role(promote.clone()).await);
    assert_eq!(again.role(), Role::Member, "the answer is the member as it is now");
    reused(
        alice
            .spaces()
            .set_member_role(SetMemberRoleRequest { role: Role::Moderator.into(), ..promote })
            .await,
    );
    assert_eq!(same_world(&[&alice, &bob], &space, 0).await.epoch, epoch, "nothing was committed again");
}

async fn gone(person: &Person, space: &str) {
    refused(person.space(space).await, Code::NotFound, "SPACE_NOT_FOUND");
}

fn answer<T>(result: Result<Response<T>, Status>) -> T {
    result.expect("answered").into_inner()
}

fn reused<T: Debug>(result: Result<T, Status>) {
    refused(result, Code::FailedPrecondition, "REQUEST_ID_REUSED");
}
