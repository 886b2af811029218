//! SpaceService.

use spacepanda_proto::api::v1::{self as wire, space_service_server::SpaceService};
use tonic::{Request, Response, async_trait};

use super::{Answer, Api};
use crate::{
    status::Refusal,
    wire::{
        FromWire as _, IntoWire as _, page,
        space::{
            CreateChannel, CreateInvite, CreateSpace, JoinSpace, LeaveSpace, RemoveMember, SetMemberRole,
            UpdateSpace, invite_id, max_states, space_id,
        },
    },
};

#[async_trait]
impl SpaceService for Api {
    async fn create_space(&self, request: Request<wire::CreateSpaceRequest>) -> Answer<wire::Space> {
        let session = self.session(&request).await?;
        let asked = CreateSpace::from_wire(request.into_inner())?;
        let space = session
            .create_space(asked.request, &asked.name, &asked.description, asked.timing)
            .await
            .map_err(Refusal::from)?;
        Ok(Response::new(space.into_wire()))
    }

    async fn get_space(&self, request: Request<wire::GetSpaceRequest>) -> Answer<wire::Space> {
        let session = self.session(&request).await?;
        let id = space_id(&request.get_ref().space_id)?;
        let space = session.space(id).await.map_err(Refusal::from)?;
        Ok(Response::new(space.into_wire()))
    }

    async fn list_spaces(
        &self,
        request: Request<wire::ListSpacesRequest>,
    ) -> Answer<wire::ListSpacesResponse> {
        let session = self.session(&request).await?;
        let asked = request.into_inner();
        let spaces = session.spaces().await.map_err(Refusal::from)?;
        let (spaces, next_page_token) =
            page::cut(spaces, asked.page_size, &asked.page_token, |space| space.id.to_string())?;
        let spaces = spaces.into_iter().map(|space| space.into_wire()).collect();
        Ok(Response::new(wire::ListSpacesResponse { spaces, next_page_token }))
    }

    async fn get_state_graph(
        &self,
        request: Request<wire::GetStateGraphRequest>,
    ) -> Answer<wire::StateGraph> {
        let session = self.session(&request).await?;
        let asked = request.into_inner();
        let (space, most) = (space_id(&asked.space_id)?, max_states(asked.max_states)?);
        let graph = session.state_graph(space, most).await.map_err(Refusal::from)?;
        Ok(Response::new(graph.into_wire()))
    }

    async fn update_space(&self, request: Request<wire::UpdateSpaceRequest>) -> Answer<wire::Space> {
        let session = self.session(&request).await?;
        let asked = UpdateSpace::from_wire(request.into_inner())?;
        let space =
            session.update_space(asked.request, asked.space, asked.changes).await.map_err(Refusal::from)?;
        Ok(Response::new(space.into_wire()))
    }

    async fn leave_space(
        &self,
        request: Request<wire::LeaveSpaceRequest>,
    ) -> Answer<wire::LeaveSpaceResponse> {
        let session = self.session(&request).await?;
        let asked = LeaveSpace::from_wire(request.into_inner())?;
        session.leave_space(asked.request, asked.space).await.map_err(Refusal::from)?;
        Ok(Response::new(wire::LeaveSpaceResponse {}))
    }

    async fn create_channel(&self, request: Request<wire::CreateChannelRequest>) -> Answer<wire::Channel> {
        let session = self.session(&request).await?;
        let asked = CreateChannel::from_wire(request.into_inner())?;
        let channel = session
            .create_channel(asked.request, asked.space, &asked.name, &asked.topic)
            .await
            .map_err(Refusal::from)?;
        Ok(Response::new(channel.into_wire()))
    }

    async fn list_channels(
        &self,
        request: Request<wire::ListChannelsRequest>,
    ) -> Answer<wire::ListChannelsResponse> {
        let session = self.session(&request).await?;
        let asked = request.into_inner();
        let channels = session.channels(space_id(&asked.space_id)?).await.map_err(Refusal::from)?;
        let (channels, next_page_token) =
            page::cut(channels, asked.page_size, &asked.page_token, |channel| channel.id.to_string())?;
        let channels = channels.into_iter().map(|channel| channel.into_wire()).collect();
        Ok(Response::new(wire::ListChannelsResponse { channels, next_page_token }))
    }

    async fn list_members(
        &self,
        request: Request<wire::ListMembersRequest>,
    ) -> Answer<wire::ListMembersResponse> {
        let session = self.session(&request).await?;
        let asked = request.into_inner();
        let members = session.members(space_id(&asked.space_id)?).await.map_err(Refusal::from)?;
        let (members, next_page_token) =
            page::cut(members, asked.page_size, &asked.page_token, |member| member.account.to_string())?;
        let members = members.into_iter().map(|member| member.into_wire()).collect();
        Ok(Response::new(wire::ListMembersResponse { members, next_page_token }))
    }

    async fn remove_member(
        &self,
        request: Request<wire::RemoveMemberRequest>,
    ) -> Answer<wire::RemoveMemberResponse> {
        let session = self.session(&request).await?;
        let asked = RemoveMember::from_wire(request.into_inner())?;
        session.remove_member(asked.request, asked.space, asked.account).await.map_err(Refusal::from)?;
        Ok(Response::new(wire::RemoveMemberResponse {}))
    }

    async fn set_member_role(&self, request: Request<wire::SetMemberRoleRequest>) -> Answer<wire::Member> {
        let session = self.session(&request).await?;
        let asked = SetMemberRole::from_wire(request.into_inner())?;
        let member = session
            .set_member_role(asked.request, asked.space, asked.account, asked.role)
            .await
            .map_err(Refusal::from)?;
        Ok(Response::new(member.into_wire()))
    }

    async fn create_invite(&self, request: Request<wire::CreateInviteRequest>) -> Answer<wire::Invite> {
        let session = self.session(&request).await?;
        let asked = CreateInvite::from_wire(request.into_inner())?;
        let invite =
            session.create_invite(asked.request, asked.space, asked.terms).await.map_err(Refusal::from)?;
        Ok(Response::new(invite.into_wire()))
    }

    async fn revoke_invite(
        &self,
        request: Request<wire::RevokeInviteRequest>,
    ) -> Answer<wire::RevokeInviteResponse> {
        let session = self.session(&request).await?;
        let id = invite_id(&request.get_ref().invite_id)?;
        session.revoke_invite(id).await.map_err(Refusal::from)?;
        Ok(Response::new(wire::RevokeInviteResponse {}))
    }

    async fn join_space(&self, request: Request<wire::JoinSpaceRequest>) -> Answer<wire::JoinSpaceResponse> {
        let session = self.session(&request).await?;
        let asked = JoinSpace::from_wire(request.into_inner())?;
        let join = session.join_space(asked.request, &asked.link).await.map_err(Refusal::from)?;
        Ok(Response::new(join.into_wire()))
    }
}
