//! Spaces, channels, members and invites on the wire.

use std::time::Duration;

use spacepanda_core::{
    id::{AccountId, GroupId, InviteId},
    model::{Channel, Invite, InviteTerms, Join, Member, Role, SendTiming, Space, SpaceChanges},
};
use spacepanda_proto::api::v1 as wire;
use uuid::Uuid;

use super::{FromWire, IntoWire, field};
use crate::status::Refusal;

const MAX_USES: u32 = 1000;
const MAX_STATES: u32 = 1000;
const DEFAULT_STATES: usize = 200;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Said with a link that only works nearby.
const LOCAL_ADDRESSES: &str = "This link holds only addresses of this machine or network. Others cannot reach \
     it from elsewhere; start the server with --announce to name a public address.";

/// A checked CreateSpace.
#[derive(Debug)]
pub(crate) struct CreateSpace {
    pub(crate) request: Option<Uuid>,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) timing: SendTiming,
}

/// A checked UpdateSpace.
#[derive(Debug)]
pub(crate) struct UpdateSpace {
    pub(crate) request: Option<Uuid>,
    pub(crate) space: GroupId,
    pub(crate) changes: SpaceChanges,
}

/// A checked LeaveSpace.
#[derive(Debug)]
pub(crate) struct LeaveSpace {
    pub(crate) request: Option<Uuid>,
    pub(crate) space: GroupId,
}

/// A checked CreateChannel.
#[derive(Debug)]
pub(crate) struct CreateChannel {
    pub(crate) request: Option<Uuid>,
    pub(crate) space: GroupId,
    pub(crate) name: String,
    pub(crate) topic: String,
}

/// A checked RemoveMember.
#[derive(Debug)]
pub(crate) struct RemoveMember {
    pub(crate) request: Option<Uuid>,
    pub(crate) space: GroupId,
    pub(crate) account: AccountId,
}

/// A checked SetMemberRole.
#[derive(Debug)]
pub(crate) struct SetMemberRole {
    pub(crate) request: Option<Uuid>,
    pub(crate) space: GroupId,
    pub(crate) account: AccountId,
    pub(crate) role: Role,
}

/// A checked CreateInvite.
#[derive(Debug)]
pub(crate) struct CreateInvite {
    pub(crate) request: Option<Uuid>,
    pub(crate) space: GroupId,
    pub(crate) terms: InviteTerms,
}

/// A checked JoinSpace.
#[derive(Debug)]
pub(crate) struct JoinSpace {
    pub(crate) request: Option<Uuid>,
    pub(crate) link: String,
}

/// Checks `space_id`.
pub(crate) fn space_id(text: &str) -> Result<GroupId, Refusal> {
    field::uuid("space_id", text).map(GroupId::from)
}

/// Checks `max_states`.
pub(crate) fn max_states(number: u32) -> Result<usize, Refusal> {
    match number {
        0 => Ok(DEFAULT_STATES),
        1..=MAX_STATES => Ok(usize::try_from(number).unwrap_or(DEFAULT_STATES)),
        _ => Err(Refusal::field("max_states", "is more than 1000")),
    }
}

/// Checks `invite_id`.
pub(crate) fn invite_id(text: &str) -> Result<InviteId, Refusal> {
    field::uuid("invite_id", text).map(InviteId::from)
}

/// Checks `role`; `None` where none is named.
fn role(number: i32) -> Result<Option<Role>, Refusal> {
    match wire::Role::try_from(number) {
        Ok(wire::Role::Unspecified) => Ok(None),
        Ok(wire::Role::Owner) => Ok(Some(Role::Owner)),
        Ok(wire::Role::Admin) => Ok(Some(Role::Admin)),
        Ok(wire::Role::Moderator) => Ok(Some(Role::Moderator)),
        Ok(wire::Role::Member) => Ok(Some(Role::Member)),
        Err(_) => Err(Refusal::field("role", "is not one that exists")),
    }
}

/// Checks `send_timing`; `None` where none is named.
fn timing(number: i32) -> Result<Option<SendTiming>, Refusal> {
    match wire::SendTiming::try_from(number) {
        Ok(wire::SendTiming::Unspecified) => Ok(None),
        Ok(wire::SendTiming::Fast) => Ok(Some(SendTiming::Fast)),
        Ok(wire::SendTiming::Balanced) => Ok(Some(SendTiming::Balanced)),
        Ok(wire::SendTiming::Strict) => Ok(Some(SendTiming::Strict)),
        Err(_) => Err(Refusal::field("send_timing", "is not one that exists")),
    }
}

impl FromWire<wire::CreateSpaceRequest> for CreateSpace {
    fn from_wire(wire: wire::CreateSpaceRequest) -> Result<Self, Refusal> {
        Ok(Self {
            request: field::request_id(&wire.request_id)?,
            name: field::name("name", &wire.name)?,
            description: field::description("description", wire.description)?,
            timing: timing(wire.send_timing)?.unwrap_or_default(),
        })
    }
}

impl FromWire<wire::UpdateSpaceRequest> for UpdateSpace {
    fn from_wire(wire: wire::UpdateSpaceRequest) -> Result<Self, Refusal> {
        let name = wire.name.map(|name| field::name("name", &name)).transpose()?;
        let description = wire.description.map(|text| field::description("description", text)).transpose()?;
        Ok(Self {
            request: field::request_id(&wire.request_id)?,
            space: space_id(&wire.space_id)?,
            changes: SpaceChanges { name, description, send_timing: timing(wire.send_timing)? },
        })
    }
}

impl FromWire<wire::LeaveSpaceRequest> for LeaveSpace {
    fn from_wire(wire: wire::LeaveSpaceRequest) -> Result<Self, Refusal> {
        Ok(Self { request: field::request_id(&wire.request_id)?, space: space_id(&wire.space_id)? })
    }
}

impl FromWire<wire::CreateChannelRequest> for CreateChannel {
    fn from_wire(wire: wire::CreateChannelRequest) -> Result<Self, Refusal> {
        match wire::Visibility::try_from(wire.visibility) {
            Ok(wire::Visibility::Unspecified | wire::Visibility::Public) => {}
            Ok(wire::Visibility::Private) => return Err(Refusal::private_channels()),
            Err(_) => return Err(Refusal::field("visibility", "is not one that exists")),
        }
        Ok(Self {
            request: field::request_id(&wire.request_id)?,
            space: space_id(&wire.space_id)?,
            name: field::name("name", &wire.name)?,
            topic: field::description("topic", wire.topic)?,
        })
    }
}

impl FromWire<wire::RemoveMemberRequest> for RemoveMember {
    fn from_wire(wire: wire::RemoveMemberRequest) -> Result<Self, Refusal> {
        Ok(Self {
            request: field::request_id(&wire.request_id)?,
            space: space_id(&wire.space_id)?,
            account: field::account("account_id", &wire.account_id)?,
        })
    }
}

impl FromWire<wire::SetMemberRoleRequest> for SetMemberRole {
    fn from_wire(wire: wire::SetMemberRoleRequest) -> Result<Self, Refusal> {
        Ok(Self {
            request: field::request_id(&wire.request_id)?,
            space: space_id(&wire.space_id)?,
            account: field::account("account_id", &wire.account_id)?,
            role: role(wire.role)?.ok_or_else(|| Refusal::field("role", "is missing"))?,
        })
    }
}

impl FromWire<wire::CreateInviteRequest> for CreateInvite {
    fn from_wire(wire: wire::CreateInviteRequest) -> Result<Self, Refusal> {
        let role = match role(wire.role)? {
            None => Role::Member,
            Some(Role::Owner) => return Err(Refusal::field("role", "cannot be OWNER")),
            Some(role) => role,
        };
        let max_uses = match wire.max_uses {
            0 => 1,
            uses @ 1..=MAX_USES => uses,
            _ => return Err(Refusal::field("max_uses", "is more than 1000")),
        };
        let bounds = Duration::from_secs(1)..=DAY * 90;
        Ok(Self {
            request: field::request_id(&wire.request_id)?,
            space: space_id(&wire.space_id)?,
            terms: InviteTerms {
                max_uses,
                expires_in: field::span("expires_in", wire.expires_in, DAY * 7, bounds)?,
                role,
            },
        })
    }
}

impl FromWire<wire::JoinSpaceRequest> for JoinSpace {
    fn from_wire(wire: wire::JoinSpaceRequest) -> Result<Self, Refusal> {
        Ok(Self {
            request: field::request_id(&wire.request_id)?,
            link: field::opaque("INVITE_INVALID", "invite_link", wire.invite_link)?,
        })
    }
}

impl IntoWire for Role {
    type Wire = wire::Role;

    fn into_wire(self) -> wire::Role {
        match self {
            Self::Owner => wire::Role::Owner,
            Self::Admin => wire::Role::Admin,
            Self::Moderator => wire::Role::Moderator,
            Self::Member => wire::Role::Member,
        }
    }
}

impl IntoWire for SendTiming {
    type Wire = wire::SendTiming;

    fn into_wire(self) -> wire::SendTiming {
        match self {
            Self::Fast => wire::SendTiming::Fast,
            Self::Balanced => wire::SendTiming::Balanced,
            Self::Strict => wire::SendTiming::Strict,
        }
    }
}

impl IntoWire for Space {
    type Wire = wire::Space;

    fn into_wire(self) -> wire::Space {
        wire::Space {
            space_id: self.id.to_string(),
            name: self.name,
            description: self.description,
            owner_id: self.owner.to_string(),
            my_role: self.my_role.into_wire().into(),
            member_count: self.member_count,
            created_at: Some(self.created_at.into()),
            group: Some(self.group.into_wire()),
            send_timing: self.send_timing.into_wire().into(),
        }
    }
}

impl IntoWire for Channel {
    type Wire = wire::Channel;

    fn into_wire(self) -> wire::Channel {
        wire::Channel {
            channel_id: self.id.to_string(),
            space_id: self.space.to_string(),
            name: self.name,
            topic: self.topic,
            visibility: wire::Visibility::Public.into(),
            archived: false,
        }
    }
}

impl IntoWire for Member {
    type Wire = wire::Member;

    fn into_wire(self) -> wire::Member {
        let presence = if self.online { wire::Presence::Online } else { wire::Presence::Offline };
        wire::Member {
            account_id: self.account.to_string(),
            display_name: self.display_name,
            role: self.role.into_wire().into(),
            joined_at: Some(self.joined_at.into()),
            presence: presence.into(),
        }
    }
}

impl IntoWire for Invite {
    type Wire = wire::Invite;

    fn into_wire(self) -> wire::Invite {
        let warning = if self.only_local_addresses { LOCAL_ADDRESSES } else { "" };
        wire::Invite {
            invite_id: self.id.to_string(),
            link: self.link,
            expires_at: Some(self.expires_at.into()),
            uses_left: self.uses_left,
            warning: warning.to_owned(),
        }
    }
}

impl IntoWire for Join {
    type Wire = wire::JoinSpaceResponse;

    fn into_wire(self) -> wire::JoinSpaceResponse {
        let (space, state) = match self {
            Self::Joined(space) => (space.into_wire(), wire::JoinState::Joined),
            Self::Pending(id) => {
                (wire::Space { space_id: id.to_string(), ..Default::default() }, wire::JoinState::Pending)
            }
        };
        wire::JoinSpaceResponse { space: Some(space), state: state.into() }
    }
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};

    use super::*;
    use crate::wire::field::refused_field;

    const ID: &str = "0190d9a8-5c4e-4d3f-8b7a-1c2d3e4f5a6b";

    fn invite() -> wire::CreateInviteRequest {
        wire::CreateInviteRequest { space_id: ID.into(), ..Default::default() }
    }

    fn channel() -> wire::CreateChannelRequest {
        wire::CreateChannelRequest { space_id: ID.into(), name: "plans".into(), ..Default::default() }
    }

    #[test]
    fn an_invite_has_defaults_and_bounds() {
        let checked = CreateInvite::from_wire(invite()).unwrap();
        assert_eq!(checked.terms, InviteTerms { max_uses: 1, expires_in: DAY * 7, role: Role::Member });
        assert_eq!(checked.space.to_string(), ID);

        let days = |days: i64| Some(prost_types::Duration { seconds: days * 86_400, nanos: 0 });
        let admin = wire::CreateInviteRequest { role: wire::Role::Admin.into(), ..invite() };
        assert_eq!(CreateInvite::from_wire(admin).unwrap().terms.role, Role::Admin);
        for (name, change) in [
            ("max_uses", wire::CreateInviteRequest { max_uses: 1001, ..invite() }),
            ("expires_in", wire::CreateInviteRequest { expires_in: days(91), ..invite() }),
            ("expires_in", wire::CreateInviteRequest { expires_in: days(0), ..invite() }),
            ("role", wire::CreateInviteRequest { role: wire::Role::Owner.into(), ..invite() }),
            ("role", wire::CreateInviteRequest { role: 77, ..invite() }),
            ("space_id", wire::CreateInviteRequest { space_id: "1".into(), ..invite() }),
            ("request_id", wire::CreateInviteRequest { request_id: "1".into(), ..invite() }),
        ] {
            assert_eq!(refused_field(CreateInvite::from_wire(change)), name);
        }
    }

    #[test]
    fn private_channels_are_not_implemented() {
        let private =
            wire::CreateChannelRequest { visibility: wire::Visibility::Private.into(), ..channel() };
        let refusal = CreateChannel::from_wire(private).unwrap_err();
        assert_eq!(Status::from(refusal).code(), Code::Unimplemented);

        let unknown = wire::CreateChannelRequest { visibility: 9, ..channel() };
        assert_eq!(refused_field(CreateChannel::from_wire(unknown)), "visibility");
        assert_eq!(CreateChannel::from_wire(channel()).unwrap().name, "plans");
    }

    #[test]
    fn bad_fields_of_the_other_requests_are_named() {
        let space = wire::CreateSpaceRequest { name: " ".into(), ..Default::default() };
        assert_eq!(refused_field(CreateSpace::from_wire(space)), "name");
        let space = wire::CreateSpaceRequest {
            name: "a".into(),
            description: "a".repeat(1001),
            ..Default::default()
        };
        assert_eq!(refused_field(CreateSpace::from_wire(space)), "description");
        let update = wire::UpdateSpaceRequest { space_id: ID.into(), ..Default::default() };
        let nothing = UpdateSpace::from_wire(update.clone()).unwrap();
        assert_eq!(nothing.changes, SpaceChanges::default());
        let nameless = wire::UpdateSpaceRequest { name: Some(String::new()), ..update.clone() };
        assert_eq!(refused_field(UpdateSpace::from_wire(nameless)), "name");
        let unknown = wire::UpdateSpaceRequest { send_timing: 4, ..update };
        assert_eq!(refused_field(UpdateSpace::from_wire(unknown)), "send_timing");
        let remove =
            wire::RemoveMemberRequest { space_id: ID.into(), account_id: "me".into(), ..Default::default() };
        assert_eq!(refused_field(RemoveMember::from_wire(remove)), "account_id");
        let set = wire::SetMemberRoleRequest {
            space_id: ID.into(),
            account_id: "ab".repeat(32),
            ..Default::default()
        };
        assert_eq!(refused_field(SetMemberRole::from_wire(set.clone())), "role");
        let set = wire::SetMemberRoleRequest { role: 9, ..set };
        assert_eq!(refused_field(SetMemberRole::from_wire(set)), "role");
        assert_eq!(refused_field(LeaveSpace::from_wire(Default::default())), "space_id");
        assert_eq!(refused_field(JoinSpace::from_wire(Default::default())), "invite_link");
        assert_eq!(refused_field(invite_id("x")), "invite_id");
        assert_eq!(refused_field(max_states(1_001)), "max_states");
        assert_eq!([0, 1, 1_000].map(|number| max_states(number).unwrap()), [200, 1, 1_000]);
    }

    #[test]
    fn a_pending_join_names_its_space_only() {
        let id = GroupId::random();
        let wire = Join::Pending(id).into_wire();
        assert_eq!(wire.state(), wire::JoinState::Pending);
        let space = wire.space.unwrap();
        assert_eq!((space.space_id, space.group), (id.to_string(), None));
    }
}
