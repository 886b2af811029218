//! Changes that are asked for, under one request id each, until a server that may die over them has answered.
//!
//! It must not ask for anything twice: that the same request happens once is what the stories prove.

use spacepanda_proto::api::v1::{
    CreateInviteRequest, GroupHealth, JoinSpaceRequest, JoinState, LeaveSpaceRequest, RemoveMemberRequest,
};
use tonic::{Code, Response, Status};

use super::{
    Person,
    client::request_id,
    refusal::{never_answered, reason},
    wait::{wait_until, when},
};

/// Asks under one request id until there is an answer of the server's own, which must be a good one.
pub(crate) async fn insists<T>(who: &str, call: impl AsyncFn() -> Result<Response<T>, Status>) -> T {
    wait_until(&format!("{who} to be answered"), async || match call().await {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) if never_answered(&status) => Err(status.to_string()),
        Err(status) => panic!("{who} is refused: {status:?}"),
    })
    .await
}

/// Makes an invite for one; gives its link.
pub(crate) async fn invites(person: &Person, space_id: &str) -> String {
    let request =
        CreateInviteRequest { space_id: space_id.into(), request_id: request_id(), ..Default::default() };
    insists(person.name(), async || person.spaces().create_invite(request.clone()).await).await.link
}

/// Joins, at once or when it comes to it.
pub(crate) async fn joins(person: &Person, space_id: &str, link: &str) {
    let request = JoinSpaceRequest { invite_link: link.into(), request_id: request_id() };
    let answer = insists(person.name(), async || {
        let answer = person.spaces().join_space(request.clone()).await;
        // Who left is a member until the owner's server has heard of it.
        let leaving = answer.as_ref().is_err_and(|status| reason(status) == "ALREADY_MEMBER");
        if leaving { Err(Status::unavailable("still leaving")) } else { answer }
    });
    assert_ne!(answer.await.state(), JoinState::Failed);
    wait_until(&format!("{} to be in", person.name()), async || {
        let space = person.space(space_id).await.map_err(|status| status.to_string())?;
        let health = space.group.unwrap_or_default().health();
        when(health == GroupHealth::Ok, format!("{health:?}"))
    })
    .await;
}

/// Removes a member.
pub(crate) async fn removes(owner: &Person, space_id: &str, member: &Person) {
    let request = RemoveMemberRequest {
        space_id: space_id.into(),
        account_id: member.account().into(),
        request_id: request_id(),
    };
    insists(owner.name(), async || owner.spaces().remove_member(request.clone()).await).await;
}

/// Leaves.
pub(crate) async fn leaves(person: &Person, space_id: &str) {
    let request = LeaveSpaceRequest { space_id: space_id.into(), request_id: request_id() };
    insists(person.name(), async || person.spaces().leave_space(request.clone()).await).await;
}

/// Waits until a person is no longer in a space, and knows it.
pub(crate) async fn is_out(person: &Person, space_id: &str) {
    wait_until(&format!("{} to be out", person.name()), async || match person.space(space_id).await {
        Ok(space) => Err(format!("{space:?}")),
        Err(status) => {
            let gone = status.code() == Code::NotFound && reason(&status) == "SPACE_NOT_FOUND";
            when(gone, format!("{status:?}"))
        }
    })
    .await;
}
