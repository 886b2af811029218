//! The rows of SpaceService.
//!
//! Only rows; how they are tried is told in `bad_input`.

use prost::Message;
use spacepanda_proto::api::v1::{
    CreateChannelRequest, CreateInviteRequest, CreateSpaceRequest, GetSpaceRequest, GetStateGraphRequest,
    JoinSpaceRequest, LeaveSpaceRequest, ListChannelsRequest, ListMembersRequest, ListSpacesRequest,
    RemoveMemberRequest, RevokeInviteRequest, Role, SetMemberRoleRequest, UpdateSpaceRequest, Visibility,
};
use tonic::Code;

use super::{Case, Known, field, long_name, no_uuid, refuse, unknown};

/// Spaces and channels.
pub(super) fn space(name: &str, known: &Known<'_>) -> Option<Vec<Case>> {
    let cases = match name {
        "CreateSpace" => {
            let good = CreateSpaceRequest { name: "x".into(), ..Default::default() };
            vec![
                field("name", "no name", &CreateSpaceRequest { name: String::new(), ..good.clone() }),
                field("name", "a long name", &CreateSpaceRequest { name: long_name(), ..good.clone() }),
                field(
                    "description",
                    "a long description",
                    &CreateSpaceRequest { description: "d".repeat(1_001), ..good.clone() },
                ),
                field(
                    "send_timing",
                    "an unknown timing",
                    &CreateSpaceRequest { send_timing: 99, ..good.clone() },
                ),
                field("request_id", "no UUID", &CreateSpaceRequest { request_id: "x".into(), ..good }),
            ]
        }
        "UpdateSpace" => {
            let good = UpdateSpaceRequest { space_id: known.space.into(), ..Default::default() };
            let mut cases = space_id(|space_id| UpdateSpaceRequest { space_id, ..Default::default() });
            cases.extend([
                field("name", "no name", &UpdateSpaceRequest { name: Some(" ".into()), ..good.clone() }),
                field("name", "a long name", &UpdateSpaceRequest { name: Some(long_name()), ..good.clone() }),
                field(
                    "description",
                    "a long description",
                    &UpdateSpaceRequest { description: Some("d".repeat(1_001)), ..good.clone() },
                ),
                field(
                    "send_timing",
                    "an unknown timing",
                    &UpdateSpaceRequest { send_timing: 99, ..good.clone() },
                ),
                field("request_id", "no UUID", &UpdateSpaceRequest { request_id: "x".into(), ..good }),
            ]);
            cases
        }
        "GetStateGraph" => {
            let mut cases = space_id(|space_id| GetStateGraphRequest { space_id, max_states: 0 });
            let many = GetStateGraphRequest { space_id: known.space.into(), max_states: 1_001 };
            cases.push(field("max_states", "too many", &many));
            cases
        }
        "GetSpace" => space_id(|space_id| GetSpaceRequest { space_id }),
        "ListSpaces" => {
            let request = ListSpacesRequest { page_token: "made up".into(), ..Default::default() };
            vec![field("page_token", "a made-up token", &request)]
        }
        "LeaveSpace" => {
            let mut cases = space_id(|space_id| LeaveSpaceRequest { space_id, ..Default::default() });
            let request = LeaveSpaceRequest { space_id: known.space.into(), request_id: "x".into() };
            cases.push(field("request_id", "no UUID", &request));
            cases
        }
        "CreateChannel" => {
            let good =
                CreateChannelRequest { space_id: known.space.into(), name: "x".into(), ..Default::default() };
            let private = CreateChannelRequest { visibility: Visibility::Private.into(), ..good.clone() };
            let taken = CreateChannelRequest { name: "general".into(), ..good.clone() };
            let mut cases = space_id(|space_id| CreateChannelRequest {
                space_id,
                name: "x".into(),
                ..Default::default()
            });
            cases.extend([
                field("name", "no name", &CreateChannelRequest { name: String::new(), ..good.clone() }),
                field("name", "a long name", &CreateChannelRequest { name: long_name(), ..good.clone() }),
                field(
                    "topic",
                    "a long topic",
                    &CreateChannelRequest { topic: "t".repeat(1_001), ..good.clone() },
                ),
                field(
                    "visibility",
                    "an unknown visibility",
                    &CreateChannelRequest { visibility: 99, ..good.clone() },
                ),
                field("request_id", "no UUID", &CreateChannelRequest { request_id: "x".into(), ..good }),
                refuse("a private channel", &private, Code::Unimplemented, "PRIVATE_CHANNELS"),
                refuse("a taken name", &taken, Code::AlreadyExists, "CHANNEL_NAME_TAKEN"),
            ]);
            cases
        }
        "ListChannels" => {
            let mut cases = space_id(|space_id| ListChannelsRequest { space_id, ..Default::default() });
            let token =
                ListChannelsRequest { space_id: known.space.into(), page_token: "?".into(), page_size: 0 };
            cases.push(field("page_token", "a made-up token", &token));
            cases
        }
        _ => return None,
    };
    Some(cases)
}

/// Members and invites.
pub(super) fn membership(name: &str, known: &Known<'_>) -> Option<Vec<Case>> {
    let cases = match name {
        "ListMembers" => {
            let mut cases = space_id(|space_id| ListMembersRequest { space_id, ..Default::default() });
            let token =
                ListMembersRequest { space_id: known.space.into(), page_token: "?".into(), page_size: 0 };
            cases.push(field("page_token", "a made-up token", &token));
            cases
        }
        "RemoveMember" => {
            let account_id = known.account.to_owned();
            let of = |account_id: String| RemoveMemberRequest {
                space_id: known.space.into(),
                account_id,
                ..Default::default()
            };
            let mut cases = space_id(|space_id| RemoveMemberRequest {
                space_id,
                account_id: account_id.clone(),
                ..Default::default()
            });
            cases.extend([
                field("account_id", "no account", &of(String::new())),
                field("account_id", "no hex", &of("z".repeat(64))),
                field("account_id", "too short", &of("ab".into())),
                field(
                    "request_id",
                    "no UUID",
                    &RemoveMemberRequest { request_id: "x".into(), ..of("ab".repeat(32)) },
                ),
                refuse("a stranger", &of("ab".repeat(32)), Code::NotFound, "MEMBER_NOT_FOUND"),
            ]);
            cases
        }
        "SetMemberRole" => {
            let of = |account_id: &str, role: i32| SetMemberRoleRequest {
                space_id: known.space.into(),
                account_id: account_id.into(),
                role,
                ..Default::default()
            };
            let (stranger, member) = ("ab".repeat(32), Role::Member.into());
            let mut cases =
                space_id(|space_id| SetMemberRoleRequest { space_id, ..of(known.account, member) });
            cases.extend([
                field("account_id", "no account", &of("", member)),
                field("account_id", "no hex", &of(&"z".repeat(64), member)),
                field("role", "no role", &of(&stranger, 0)),
                field("role", "an unknown role", &of(&stranger, 99)),
                field(
                    "request_id",
                    "no UUID",
                    &SetMemberRoleRequest { request_id: "x".into(), ..of(&stranger, member) },
                ),
                refuse("a stranger", &of(&stranger, member), Code::NotFound, "MEMBER_NOT_FOUND"),
                refuse(
                    "the last owner",
                    &of(known.account, Role::Admin.into()),
                    Code::FailedPrecondition,
                    "LAST_OWNER",
                ),
            ]);
            cases
        }
        "CreateInvite" => {
            let good = CreateInviteRequest { space_id: known.space.into(), ..Default::default() };
            let lasting = |seconds| CreateInviteRequest {
                expires_in: Some(prost_types::Duration { seconds, nanos: 0 }),
                ..good.clone()
            };
            let mut cases = space_id(|space_id| CreateInviteRequest { space_id, ..Default::default() });
            cases.extend([
                field("max_uses", "too many uses", &CreateInviteRequest { max_uses: 1_001, ..good.clone() }),
                field("expires_in", "no time at all", &lasting(0)),
                field("expires_in", "time backwards", &lasting(-1)),
                field("expires_in", "91 days", &lasting(91 * 24 * 3600)),
                field("expires_in", "for ever", &lasting(i64::MAX)),
                field(
                    "role",
                    "an owner by link",
                    &CreateInviteRequest { role: Role::Owner.into(), ..good.clone() },
                ),
                field("role", "an unknown role", &CreateInviteRequest { role: 99, ..good.clone() }),
                field(
                    "request_id",
                    "no UUID",
                    &CreateInviteRequest { request_id: "x".into(), ..good.clone() },
                ),
            ]);
            cases
        }
        "RevokeInvite" => {
            let revoke = |invite_id: String| RevokeInviteRequest { invite_id };
            let mut cases = no_uuid("invite_id", revoke);
            cases.push(refuse("an unknown invite", &revoke(unknown()), Code::NotFound, "INVITE_NOT_FOUND"));
            cases
        }
        "JoinSpace" => {
            let by = |invite_link: &str| JoinSpaceRequest {
                invite_link: invite_link.into(),
                ..Default::default()
            };
            let invalid = |what, link: &str| refuse(what, &by(link), Code::InvalidArgument, "INVITE_INVALID");
            vec![
                invalid("no link", ""),
                invalid("another link", "https://example.org"),
                invalid("an empty link", "spacepanda:"),
                invalid("a garbled link", "spacepanda:AAAA"),
                invalid("a huge link", &format!("spacepanda:{}", "A".repeat(1 << 20))),
                field(
                    "request_id",
                    "no UUID",
                    &JoinSpaceRequest { request_id: "x".into(), ..by("spacepanda:AAAA") },
                ),
            ]
        }
        _ => return None,
    };
    Some(cases)
}

/// A space id that is none, and one of no space.
fn space_id<M: Message>(request: impl Fn(String) -> M) -> Vec<Case> {
    let mut cases = no_uuid("space_id", &request);
    cases.push(refuse("an unknown space", &request(unknown()), Code::NotFound, "SPACE_NOT_FOUND"));
    cases
}
