//! Two accounts of one server, and members without rights: what is not theirs does not exist for them,
//! what they may not do changes nothing.

use prost::Message;
use spacepanda_proto::api::v1::{
    CreateChannelRequest, CreateInviteRequest, DisconnectPeerRequest, GetMessageRequest, GetSpaceRequest,
    GetStateGraphRequest, LeaveSpaceRequest, ListChannelsRequest, ListMembersRequest, ListMessagesRequest,
    RemoveMemberRequest, RevokeInviteRequest, Role, SendMessageRequest, SetMemberRoleRequest,
    UpdateSpaceRequest,
};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::harness::{Cluster, Person, Server, meet, raw, reflection, refusal::reason, refused, same_world};

const SERVICES: [&str; 3] = ["SpaceService", "MessageService", "NetworkService"];
/// Methods that take no id of anything that exists; a link is no id.
const WITHOUT_IDS: [&str; 7] =
    ["CreateSpace", "ListSpaces", "JoinSpace", "ConnectPeer", "ListPeers", "GetNetworkStatus", "Subscribe"];

/// What one account has.
struct Ids {
    space: String,
    channel: String,
    invite: String,
    message: String,
    member: String,
    peer: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn anothers_ids_are_answered_like_ids_that_nobody_has() {
    let house = Server::start("house").await;
    let (alice, eve) = (house.sign_up("alice").await, house.sign_up("eve").await);
    let bob = Server::start("bob").await.sign_up("bob").await;
    let place = meet(&alice, &[&bob]).await;
    let message_id = alice.send(&place.channel, "between us").await.message_id;
    same_world(&[&alice, &bob], &place.space, 1).await;
    let theirs = Ids {
        invite: alice.invite_for(&place.space, 5).await.invite_id,
        space: place.space.clone(),
        channel: place.channel.clone(),
        message: message_id,
        member: bob.account().into(),
        peer: bob.peer_id().into(),
    };
    let nobodys = Ids {
        space: Uuid::new_v4().to_string(),
        channel: Uuid::new_v4().to_string(),
        invite: Uuid::new_v4().to_string(),
        message: "ab".repeat(32),
        member: "cd".repeat(32),
        peer: house.sign_up("mallory").await.peer_id().into(),
    };
    let before = same_world(&[&alice, &bob], &place.space, 1).await;

    for method in methods(&house).await {
        let Some(requests) = requests(&method, &theirs, &nobodys) else {
            panic!("{method} takes ids and has no row here")
        };
        for (real, made_up) in requests {
            let real = call(&eve, &method, real).await;
            let made_up = call(&eve, &method, made_up).await;
            assert_eq!(real.code(), Code::NotFound, "{method}: {real:?}");
            assert!(!reason(&real).is_empty(), "{method}: {real:?}");
            let all = |status: &Status| {
                (status.code(), reason(status), status.message().to_owned(), status.details().to_vec())
            };
            assert_eq!(all(&real), all(&made_up), "{method} tells what exists");
        }
    }
    assert!(eve.all_spaces().await.is_empty());
    assert!(eve.peers().await.is_empty());
    let mut feed = eve.events(Some(0)).await;
    feed.until_caught_up().await;
    assert!(feed.stored().is_empty(), "{:?}", feed.stored());

    // Nothing of it reached those whose it is, and the ids are real ones.
    assert_eq!(same_world(&[&alice, &bob], &place.space, 1).await, before);
    let revoke = RevokeInviteRequest { invite_id: theirs.invite };
    alice.spaces().revoke_invite(revoke).await.expect("it was still there to revoke");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_member_may_not_do_what_is_the_owners() {
    let (_cluster, [alice, bob, carol]) = Cluster::of(["alice", "bob", "carol"]).await;
    let place = meet(&alice, &[&bob]).await;
    let invite = alice.invite_for(&place.space, 1).await;
    // Said after the invite was made: who has it has the invite's event too.
    alice.send(&place.channel, "welcome").await;
    let before = same_world(&[&alice, &bob], &place.space, 1).await;

    let space_id = place.space.clone();
    let channel =
        CreateChannelRequest { space_id: space_id.clone(), name: "mine".into(), ..Default::default() };
    let another = CreateInviteRequest { space_id: space_id.clone(), ..Default::default() };
    let revoke = RevokeInviteRequest { invite_id: invite.invite_id.clone() };
    let remove = |person: &Person| RemoveMemberRequest {
        space_id: space_id.clone(),
        account_id: person.account().into(),
        ..Default::default()
    };
    let as_role = |person: &Person, role: Role| SetMemberRoleRequest {
        space_id: space_id.clone(),
        account_id: person.account().into(),
        role: role.into(),
        ..Default::default()
    };
    let renamed =
        UpdateSpaceRequest { space_id: space_id.clone(), name: Some("mine".into()), ..Default::default() };
    let mut spaces = bob.spaces();
    not_permitted(spaces.update_space(renamed).await.map(drop));
    not_permitted(spaces.set_member_role(as_role(&bob, Role::Owner)).await.map(drop));
    not_permitted(spaces.set_member_role(as_role(&bob, Role::Member)).await.map(drop));
    not_permitted(spaces.set_member_role(as_role(&alice, Role::Member)).await.map(drop));
    not_permitted(spaces.create_channel(channel).await.map(drop));
    not_permitted(spaces.create_invite(another).await.map(drop));
    not_permitted(spaces.remove_member(remove(&alice)).await.map(drop));
    not_permitted(spaces.remove_member(remove(&bob)).await.map(drop));
    // An invite is there for its maker alone.
    refused(spaces.revoke_invite(revoke).await, Code::NotFound, "INVITE_NOT_FOUND");

    assert_eq!(same_world(&[&alice, &bob], &place.space, 1).await, before);
    for person in [&alice, &bob] {
        assert_eq!(person.channels(&place.space).await.expect("channels").len(), 1);
    }
    // Not revoked.
    carol.join(&invite.link).await;
    assert_eq!(same_world(&[&alice, &bob], &place.space, 1).await.roster.len(), 3);
}

/// Requests of a method, each with someone else's ids and with ids that nobody has.
fn requests(method: &str, theirs: &Ids, nobodys: &Ids) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let both = |make: &dyn Fn(&Ids) -> Vec<u8>| Some(vec![(make(theirs), make(nobodys))]);
    let name = method.rsplit('/').next()?;
    match name {
        "GetSpace" => both(&|ids| encode(&GetSpaceRequest { space_id: ids.space.clone() })),
        "GetStateGraph" => {
            both(&|ids| encode(&GetStateGraphRequest { space_id: ids.space.clone(), max_states: 0 }))
        }
        "UpdateSpace" => both(&|ids| {
            let (space_id, name) = (ids.space.clone(), Some("mine".into()));
            encode(&UpdateSpaceRequest { space_id, name, ..Default::default() })
        }),
        "LeaveSpace" => {
            both(&|ids| encode(&LeaveSpaceRequest { space_id: ids.space.clone(), ..Default::default() }))
        }
        "CreateChannel" => both(&|ids| {
            let (space_id, name) = (ids.space.clone(), "mine".into());
            encode(&CreateChannelRequest { space_id, name, ..Default::default() })
        }),
        "ListChannels" => {
            both(&|ids| encode(&ListChannelsRequest { space_id: ids.space.clone(), ..Default::default() }))
        }
        "ListMembers" => {
            both(&|ids| encode(&ListMembersRequest { space_id: ids.space.clone(), ..Default::default() }))
        }
        "RemoveMember" => both(&|ids| {
            let (space_id, account_id) = (ids.space.clone(), ids.member.clone());
            encode(&RemoveMemberRequest { space_id, account_id, ..Default::default() })
        }),
        "SetMemberRole" => both(&|ids| {
            let (space_id, account_id) = (ids.space.clone(), ids.member.clone());
            let role = Role::Admin.into();
            encode(&SetMemberRoleRequest { space_id, account_id, role, ..Default::default() })
        }),
        "CreateInvite" => {
            both(&|ids| encode(&CreateInviteRequest { space_id: ids.space.clone(), ..Default::default() }))
        }
        "RevokeInvite" => both(&|ids| encode(&RevokeInviteRequest { invite_id: ids.invite.clone() })),
        "SendMessage" => both(&|ids| {
            let (channel_id, text) = (ids.channel.clone(), "hello?".into());
            encode(&SendMessageRequest { channel_id, text, ..Default::default() })
        }),
        "ListMessages" => {
            let of =
                |ids: &Ids| ListMessagesRequest { channel_id: ids.channel.clone(), ..Default::default() };
            let before = |ids: &Ids| {
                encode(&ListMessagesRequest { before_message_id: ids.message.clone(), ..of(ids) })
            };
            Some(vec![(encode(&of(theirs)), encode(&of(nobodys))), (before(theirs), before(nobodys))])
        }
        "GetMessage" => both(&|ids| encode(&GetMessageRequest { message_id: ids.message.clone() })),
        "DisconnectPeer" => both(&|ids| encode(&DisconnectPeerRequest { peer_id: ids.peer.clone() })),
        _ => WITHOUT_IDS.contains(&name).then(Vec::new),
    }
}

fn encode(request: &impl Message) -> Vec<u8> {
    request.encode_to_vec()
}

async fn methods(server: &Server) -> Vec<String> {
    let mut all = Vec::new();
    for service in SERVICES {
        let service = format!("spacepanda.api.v1.{service}");
        all.extend(reflection::methods(&server.channel(), &service).await.expect("reflection"));
    }
    all
}

async fn call(person: &Person, method: &str, body: Vec<u8>) -> Status {
    let authorization = format!("Bearer {}", person.session.session_token);
    match raw::call(&person.server.channel(), method, body, Some(&authorization)).await {
        Ok(_) => panic!("{method} was answered"),
        Err(status) => status,
    }
}

fn not_permitted(result: Result<(), Status>) {
    refused(result, Code::PermissionDenied, "NOT_PERMITTED");
}
