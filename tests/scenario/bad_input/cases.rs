//! The table: for every method, requests it must refuse, with code, reason and field.
//!
//! Only requests that are well-formed messages; broken bytes are the same for all methods.

mod space;

use prost::Message;
use spacepanda_proto::api::v1::{
    ConnectPeerRequest, CreateProfileRequest, DisconnectPeerRequest, GetMessageRequest, ListMessagesRequest,
    ListPeersRequest, SendMessageRequest, UnlockRequest,
};
use tonic::Code;
use uuid::Uuid;

use crate::harness::PASSWORD;

/// A request and how it must be refused.
pub(super) struct Case {
    /// What is wrong with it.
    pub(super) what: &'static str,
    /// The encoded request.
    pub(super) body: Vec<u8>,
    /// The gRPC code.
    pub(super) code: Code,
    /// The reason; `None`: any.
    pub(super) reason: Option<&'static str>,
    /// The field that BadRequest names; `None`: not looked at.
    pub(super) field: Option<&'static str>,
}

/// Ids of things that exist.
pub(super) struct Known<'a> {
    /// A space.
    pub(super) space: &'a str,
    /// Its channel.
    pub(super) channel: &'a str,
    /// A message in it.
    pub(super) message: &'a str,
    /// The caller.
    pub(super) account: &'a str,
}

/// Texts that are no UUID.
const NO_UUID: [&str; 4] = ["", "x", "00000000-0000-0000-0000-00000000000g", "../../etc/passwd"];
/// One more than the 32 KiB of a message.
const TEXT_TOO_LONG: usize = 32 * 1024 + 1;
/// One more than the 100 characters of a name.
const NAME_TOO_LONG: usize = 101;

/// The cases of a method; `None` when it is not in the table.
pub(super) fn cases(method: &str, known: &Known<'_>) -> Option<Vec<Case>> {
    let (service, name) = method.strip_prefix("/spacepanda.api.v1.")?.split_once('/')?;
    match service {
        "AuthService" => auth(name),
        "SpaceService" => space::space(name, known).or_else(|| space::membership(name, known)),
        "MessageService" => message(name, known),
        "EventService" => (name == "Subscribe").then(Vec::new),
        "NetworkService" => network(name),
        _ => None,
    }
}

fn auth(name: &str) -> Option<Vec<Case>> {
    let profile =
        CreateProfileRequest { username: "mallory".into(), password: PASSWORD.into(), ..Default::default() };
    let cases = match name {
        "CreateProfile" => vec![
            field(
                "username",
                "no name",
                &CreateProfileRequest { username: String::new(), ..profile.clone() },
            ),
            field(
                "username",
                "a long name",
                &CreateProfileRequest { username: "a".repeat(33), ..profile.clone() },
            ),
            field(
                "username",
                "a NUL",
                &CreateProfileRequest { username: "mal\0ory".into(), ..profile.clone() },
            ),
            field(
                "username",
                "a path",
                &CreateProfileRequest { username: "../../x".into(), ..profile.clone() },
            ),
            field(
                "password",
                "a weak password",
                &CreateProfileRequest { password: "1234567".into(), ..profile.clone() },
            ),
            field(
                "display_name",
                "a long display name",
                &CreateProfileRequest { display_name: long_name(), ..profile.clone() },
            ),
            field(
                "device_name",
                "a long device name",
                &CreateProfileRequest { device_name: long_name(), ..profile.clone() },
            ),
            field(
                "request_id",
                "no UUID",
                &CreateProfileRequest { request_id: "x".into(), ..profile.clone() },
            ),
            refuse(
                "a taken name",
                &CreateProfileRequest { username: "ALICE".into(), ..profile },
                Code::AlreadyExists,
                "USERNAME_TAKEN",
            ),
        ],
        "Unlock" => {
            let login = |username: &str, password: &str| UnlockRequest {
                username: username.into(),
                password: password.into(),
                ..Default::default()
            };
            let wrong = |what, request: &UnlockRequest| {
                refuse(what, request, Code::Unauthenticated, "WRONG_CREDENTIALS")
            };
            vec![
                wrong("an unknown name", &login("mallory", PASSWORD)),
                wrong("a wrong password", &login("alice", "wrong password")),
                wrong("an impossible name", &login("\u{1f43c}", PASSWORD)),
                field(
                    "device_name",
                    "a long device name",
                    &UnlockRequest { device_name: long_name(), ..login("alice", PASSWORD) },
                ),
            ]
        }
        "Lock" => Vec::new(),
        _ => return None,
    };
    Some(cases)
}

fn message(name: &str, known: &Known<'_>) -> Option<Vec<Case>> {
    let cases = match name {
        "SendMessage" => send(known),
        "ListMessages" => {
            let list = |channel_id: String| ListMessagesRequest { channel_id, ..Default::default() };
            let good = list(known.channel.into());
            let message = known.message.to_owned();
            let both = ListMessagesRequest {
                before_message_id: message.clone(),
                after_message_id: message,
                ..good.clone()
            };
            let mut cases = no_uuid("channel_id", list);
            cases.extend([
                bad("both bounds", &both),
                field(
                    "before_message_id",
                    "no hex",
                    &ListMessagesRequest { before_message_id: "x".into(), ..good.clone() },
                ),
                field(
                    "after_message_id",
                    "no hex",
                    &ListMessagesRequest { after_message_id: "AB".repeat(32), ..good.clone() },
                ),
                refuse("an unknown channel", &list(unknown()), Code::NotFound, "CHANNEL_NOT_FOUND"),
                refuse(
                    "an unknown message",
                    &ListMessagesRequest { before_message_id: "ab".repeat(32), ..good },
                    Code::NotFound,
                    "MESSAGE_NOT_FOUND",
                ),
            ]);
            cases
        }
        "GetMessage" => {
            let get = |message_id: String| GetMessageRequest { message_id };
            vec![
                field("message_id", "no id", &get(String::new())),
                field("message_id", "no hex", &get("x".repeat(64))),
                field("message_id", "too long", &get("ab".repeat(33))),
                refuse("an unknown message", &get("ab".repeat(32)), Code::NotFound, "MESSAGE_NOT_FOUND"),
            ]
        }
        _ => return None,
    };
    Some(cases)
}

fn send(known: &Known<'_>) -> Vec<Case> {
    let to = |channel_id: String| SendMessageRequest { channel_id, text: "x".into(), ..Default::default() };
    let good = to(known.channel.into());
    let replying = |to: &str| SendMessageRequest { reply_to_message_id: to.into(), ..good.clone() };
    let mut cases = no_uuid("channel_id", to);
    cases.extend([
        field("text", "no text", &SendMessageRequest { text: String::new(), ..good.clone() }),
        field("text", "a long text", &SendMessageRequest { text: "x".repeat(TEXT_TOO_LONG), ..good.clone() }),
        field("request_id", "no UUID", &SendMessageRequest { request_id: "x".into(), ..good.clone() }),
        field(
            "attachment_ids",
            "an attachment",
            &SendMessageRequest { attachment_ids: vec!["x".into()], ..good.clone() },
        ),
        field("reply_to_message_id", "no hex", &replying("x")),
        refuse("an unknown channel", &to(unknown()), Code::NotFound, "CHANNEL_NOT_FOUND"),
        refuse("a reply to nothing", &replying(&"ab".repeat(32)), Code::NotFound, "MESSAGE_NOT_FOUND"),
    ]);
    cases
}

fn network(name: &str) -> Option<Vec<Case>> {
    let cases = match name {
        "ConnectPeer" => ["", "x", "/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/99999/p2p/x", "/p2p/x"]
            .map(|address| {
                let request = ConnectPeerRequest { peer_address: address.into() };
                let case = field("peer_address", "no peer address", &request);
                Case { reason: Some("ADDRESS_INVALID"), ..case }
            })
            .into(),
        "DisconnectPeer" => {
            let of = |peer_id: &str| DisconnectPeerRequest { peer_id: peer_id.into() };
            // A peer id of nobody here.
            let stranger = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
            vec![
                Case { reason: Some("INVALID_FIELD"), ..field("peer_id", "nothing", &of("")) },
                Case { reason: Some("INVALID_FIELD"), ..field("peer_id", "no peer id", &of("x")) },
                refuse("an unknown peer", &of(stranger), Code::NotFound, "PEER_NOT_FOUND"),
            ]
        }
        "ListPeers" => {
            let request = ListPeersRequest { page_token: "?".into(), ..Default::default() };
            vec![field("page_token", "a made-up token", &request)]
        }
        "GetNetworkStatus" => Vec::new(),
        _ => return None,
    };
    Some(cases)
}

fn no_uuid<M: Message>(name: &'static str, request: impl Fn(String) -> M) -> Vec<Case> {
    NO_UUID.map(|text| field(name, "no UUID", &request(text.into()))).into()
}

fn unknown() -> String {
    Uuid::new_v4().to_string()
}

fn long_name() -> String {
    "n".repeat(NAME_TOO_LONG)
}

/// Refused as INVALID_ARGUMENT.
fn bad(what: &'static str, request: &impl Message) -> Case {
    Case { what, body: request.encode_to_vec(), code: Code::InvalidArgument, reason: None, field: None }
}

/// Refused as INVALID_ARGUMENT that names this field.
fn field(name: &'static str, what: &'static str, request: &impl Message) -> Case {
    Case { field: Some(name), ..bad(what, request) }
}

fn refuse(what: &'static str, request: &impl Message, code: Code, reason: &'static str) -> Case {
    Case { code, reason: Some(reason), ..bad(what, request) }
}
