//! What people do with spaces: create, join, look around, remove, leave.
//!
//! It must not wait for others, but for joining; the stories do.

use spacepanda_proto::api::v1::{
    Channel, CreateChannelRequest, CreateInviteRequest, CreateSpaceRequest, GetSpaceRequest, Invite,
    JoinSpaceRequest, JoinState, LeaveSpaceRequest, ListChannelsRequest, ListMembersRequest,
    ListSpacesRequest, Member, RemoveMemberRequest, Role, SendTiming, SetMemberRoleRequest, Space,
    UpdateSpaceRequest,
};
use tonic::Status;

use super::{PAGE, Person, request_id};
use crate::harness::wait::wait_until;

impl Person {
    /// Creates a space.
    pub(crate) async fn create_space(&self, name: &str) -> Space {
        let request = CreateSpaceRequest {
            name: name.into(),
            // Stories are not about waiting, but for the one that is.
            send_timing: SendTiming::Fast.into(),
            request_id: request_id(),
            ..Default::default()
        };
        self.spaces().create_space(request).await.expect("create a space").into_inner()
    }

    /// The space as this person sees it.
    ///
    /// # Errors
    /// What the server answered.
    pub(crate) async fn space(&self, space_id: &str) -> Result<Space, Status> {
        let request = GetSpaceRequest { space_id: space_id.into() };
        Ok(self.spaces().get_space(request).await?.into_inner())
    }

    /// All spaces of this person, through all pages.
    pub(crate) async fn all_spaces(&self) -> Vec<Space> {
        let mut request = ListSpacesRequest { page_size: 2, ..Default::default() };
        let mut spaces = Vec::new();
        loop {
            let page = self.spaces().list_spaces(request.clone()).await.expect("spaces").into_inner();
            spaces.extend(page.spaces);
            if page.next_page_token.is_empty() {
                return spaces;
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Creates a channel.
    pub(crate) async fn create_channel(&self, space_id: &str, name: &str) -> Channel {
        let request = CreateChannelRequest {
            space_id: space_id.into(),
            name: name.into(),
            request_id: request_id(),
            ..Default::default()
        };
        self.spaces().create_channel(request).await.expect("create a channel").into_inner()
    }

    /// The channels of a space.
    ///
    /// # Errors
    /// What the server answered.
    pub(crate) async fn channels(&self, space_id: &str) -> Result<Vec<Channel>, Status> {
        let request =
            ListChannelsRequest { space_id: space_id.into(), page_size: PAGE, ..Default::default() };
        Ok(self.spaces().list_channels(request).await?.into_inner().channels)
    }

    /// The id of the channel `general`.
    pub(crate) async fn general(&self, space_id: &str) -> String {
        wait_until("a channel general", async || {
            let channels = self.channels(space_id).await.map_err(|status| status.to_string())?;
            let general = channels.iter().find(|channel| channel.name == "general");
            general.map(|channel| channel.channel_id.clone()).ok_or_else(|| format!("{channels:?}"))
        })
        .await
    }

    /// The members of a space.
    ///
    /// # Errors
    /// What the server answered.
    pub(crate) async fn members(&self, space_id: &str) -> Result<Vec<Member>, Status> {
        let request = ListMembersRequest { space_id: space_id.into(), page_size: PAGE, ..Default::default() };
        Ok(self.spaces().list_members(request).await?.into_inner().members)
    }

    /// An invite that this many can use.
    pub(crate) async fn invite_for(&self, space_id: &str, max_uses: u32) -> Invite {
        let request = CreateInviteRequest {
            space_id: space_id.into(),
            max_uses,
            request_id: request_id(),
            ..Default::default()
        };
        self.spaces().create_invite(request).await.expect("invite").into_inner()
    }

    /// The link of an invite for one.
    pub(crate) async fn invite(&self, space_id: &str) -> String {
        self.invite_for(space_id, 1).await.link
    }

    /// Asks to join by link.
    ///
    /// # Errors
    /// What the server answered.
    pub(crate) async fn try_join(&self, link: &str) -> Result<(JoinState, Option<Space>), Status> {
        let request = JoinSpaceRequest { invite_link: link.into(), request_id: request_id() };
        let answer = self.spaces().join_space(request).await?.into_inner();
        Ok((answer.state(), answer.space))
    }

    /// Joins by link, and waits where a slow machine cannot answer at once.
    pub(crate) async fn join(&self, link: &str) -> Space {
        let (state, space) = self.try_join(link).await.expect("join");
        assert!(matches!(state, JoinState::Joined | JoinState::Pending), "{} joins: {state:?}", self.name());
        let id = space.expect("a join answers which space it is").space_id;
        wait_until(&format!("{} to be in", self.name()), async || {
            self.space(&id).await.map(drop).map_err(|status| status.to_string())
        })
        .await;
        self.set_timing(&id, SendTiming::Fast).await
    }

    /// Sets how long what this person writes waits.
    pub(crate) async fn set_timing(&self, space_id: &str, timing: SendTiming) -> Space {
        let request = UpdateSpaceRequest {
            space_id: space_id.into(),
            send_timing: timing.into(),
            ..Default::default()
        };
        self.spaces().update_space(request).await.expect("set the timing").into_inner()
    }

    /// Asks to remove a member.
    ///
    /// # Errors
    /// What the server answered.
    pub(crate) async fn try_remove(&self, space_id: &str, account_id: &str) -> Result<(), Status> {
        let request = RemoveMemberRequest {
            space_id: space_id.into(),
            account_id: account_id.into(),
            request_id: request_id(),
        };
        self.spaces().remove_member(request).await.map(drop)
    }

    /// Removes a member.
    pub(crate) async fn remove(&self, space_id: &str, account_id: &str) {
        self.try_remove(space_id, account_id).await.expect("remove a member");
    }

    /// Asks for another role of a member.
    ///
    /// # Errors
    /// What the server answered.
    pub(crate) async fn try_set_role(
        &self,
        space_id: &str,
        member: &Person,
        role: Role,
    ) -> Result<Member, Status> {
        let request = SetMemberRoleRequest {
            space_id: space_id.into(),
            account_id: member.account().into(),
            role: role.into(),
            request_id: request_id(),
        };
        Ok(self.spaces().set_member_role(request).await?.into_inner())
    }

    /// Gives a member another role, at once.
    pub(crate) async fn set_role(&self, space_id: &str, member: &Person, role: Role) {
        let now = self.try_set_role(space_id, member, role).await.expect("set a role").role();
        assert_eq!(now, role, "{} becomes it at once", member.name());
    }

    /// Leaves a space.
    pub(crate) async fn leave(&self, space_id: &str) {
        let request = LeaveSpaceRequest { space_id: space_id.into(), request_id: request_id() };
        self.spaces().leave_space(request).await.expect("leave");
    }
}
