//! What an event says, kind by kind, and the limits of each.
//!
//! A kind, role or request this version does not know is kept as [`Body::Unknown`]: it is passed on
//! and read by those who know it, never refused.

use prost::Message;
use spacepanda_proto::peer::v1::{self as wire, EventKind};

use super::{EventError, MAX_BODY_BYTES, MAX_STORED, optional_event_id};
use crate::{
    id::{AccountId, ChannelId, DeviceId, EventId, InviteId},
    model::Role,
};

/// Longest message text, bytes of UTF-8.
pub const MAX_TEXT_BYTES: usize = 32 * 1024;
/// Longest name of a space, channel or person, characters.
pub const MAX_NAME_CHARS: usize = 100;
/// Longest description or topic, characters.
pub const MAX_LONG_TEXT_CHARS: usize = 1000;
/// Most addresses of one router.
pub const MAX_ADDRESSES: usize = 16;
/// Longest address, bytes of multiaddr.
pub const MAX_ADDRESS_BYTES: usize = 256;
/// Longest peer id, bytes. An Ed25519 one has 38.
pub const MAX_PEER_ID_BYTES: usize = 64;

/// Longest KeyPackage that is asked to be added, bytes. Ours have under 1 KiB.
pub const MAX_KEY_PACKAGE_BYTES: usize = 16 * 1024;

/// Kinds that every member gets, newcomers included.
const STATE_KINDS: std::ops::Range<i32> = 16..32;

/// What a member asks of those who commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// Remove the target.
    Remove,
    /// Let the target, who is the author, go.
    Leave,
    /// Change the target's role.
    Role {
        /// What it is so far.
        was: Role,
        /// What it becomes.
        to: Role,
        /// How often it had changed before.
        role_changes: u64,
    },
    /// Give the author's device, of the target's account, a fresh leaf for its old one.
    Rejoin {
        /// tls(KeyPackage) of the fresh leaf, at most [`MAX_KEY_PACKAGE_BYTES`].
        key_package: Vec<u8>,
        /// The old leaf's HPKE key (RFC 9420 §7.2).
        old_encryption_key: [u8; 32],
    },
    /// Add the target, who asked the author's server with an invite.
    Add {
        /// tls(KeyPackage), at most [`MAX_KEY_PACKAGE_BYTES`].
        key_package: Vec<u8>,
        /// The invite.
        invite: InviteId,
        /// What the server challenged the joiner with.
        nonce: [u8; 32],
        /// By the invite's key, over challenge and KeyPackage.
        signature: [u8; 64],
    },
}

/// What an event says.
#[derive(Clone, PartialEq, Eq)]
pub enum Body {
    /// A message in a channel.
    Text {
        /// Where.
        channel: ChannelId,
        /// At most [`MAX_TEXT_BYTES`].
        text: String,
        /// What it answers.
        reply_to: Option<EventId>,
    },
    /// The space's name and description.
    Space {
        /// At most [`MAX_NAME_CHARS`].
        name: String,
        /// At most [`MAX_LONG_TEXT_CHARS`].
        description: String,
    },
    /// A channel's name and topic.
    Channel {
        /// Which.
        channel: ChannelId,
        /// At most [`MAX_NAME_CHARS`].
        name: String,
        /// At most [`MAX_LONG_TEXT_CHARS`].
        topic: String,
    },
    /// How the author's account is called.
    Profile {
        /// At most [`MAX_NAME_CHARS`].
        display_name: String,
    },
    /// Where the author's router can be reached.
    Addresses {
        /// libp2p peer id bytes.
        peer_id: Vec<u8>,
        /// Multiaddr bytes without `/p2p`.
        addresses: Vec<Vec<u8>>,
    },
    /// A key whose holder may join.
    Invite {
        /// Which invite.
        invite: InviteId,
        /// Ed25519.
        public_key: [u8; 32],
        /// What the joiner becomes.
        role: Role,
        /// How many may join with it.
        max_uses: u32,
        /// When the admitting server stops taking it, Unix milliseconds.
        expires_at_ms: u64,
        /// The epoch it was made in.
        epoch: u64,
    },
    /// An invite that no longer admits anyone.
    InviteRevoked {
        /// Which.
        invite: InviteId,
    },
    /// A wish to change the membership.
    ChangeRequest {
        /// What.
        kind: ChangeKind,
        /// Whom.
        target: AccountId,
        /// The target's generation in the policy this acts on; one who never was a member has 0.
        generation: u64,
    },
    /// Of a newer version.
    Unknown {
        /// Its number on the wire.
        kind: i32,
        /// As received.
        body: Vec<u8>,
    },
}

/// Whether events of this kind go to every member, also to those who join later.
pub fn is_state_kind(kind: i32) -> bool {
    STATE_KINDS.contains(&kind)
}

impl Body {
    /// The kind's number on the wire.
    pub fn kind(&self) -> i32 {
        let kind = match self {
            Self::Text { .. } => EventKind::Text,
            Self::Space { .. } => EventKind::Space,
            Self::Channel { .. } => EventKind::Channel,
            Self::Profile { .. } => EventKind::Profile,
            Self::Addresses { .. } => EventKind::Addresses,
            Self::Invite { .. } => EventKind::Invite,
            Self::InviteRevoked { .. } => EventKind::InviteRevoked,
            Self::ChangeRequest { .. } => EventKind::ChangeRequest,
            Self::Unknown { kind, .. } => return *kind,
        };
        kind as i32
    }

    /// Whether every member gets it, also those who join later.
    pub fn is_state(&self) -> bool {
        is_state_kind(self.kind())
    }

    /// The register it writes, as a key within its kind; `None` when it writes none.
    pub fn register(&self, author_account: &AccountId, author: &DeviceId) -> Option<Vec<u8>> {
        match self {
            Self::Space { .. } => Some(Vec::new()),
            Self::Channel { channel, .. } => Some(channel.0.to_vec()),
            Self::Profile { .. } => Some(author_account.0.to_vec()),
            Self::Addresses { .. } => Some(author.0.to_vec()),
            Self::Invite { invite, .. } | Self::InviteRevoked { invite } => Some(invite.0.to_vec()),
            Self::Text { .. } | Self::ChangeRequest { .. } | Self::Unknown { .. } => None,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Text { channel, text, reply_to } => wire::TextBody {
                channel_id: channel.0.to_vec(),
                text: text.clone(),
                reply_to: reply_to.map(|id| id.0.to_vec()).unwrap_or_default(),
            }
            .encode_to_vec(),
            Self::Space { name, description } => {
                wire::SpaceBody { name: name.clone(), description: description.clone() }.encode_to_vec()
            }
            Self::Channel { channel, name, topic } => {
                wire::ChannelBody { channel_id: channel.0.to_vec(), name: name.clone(), topic: topic.clone() }
                    .encode_to_vec()
            }
            Self::Profile { display_name } => {
                wire::ProfileBody { display_name: display_name.clone() }.encode_to_vec()
            }
            Self::Addresses { peer_id, addresses } => {
                wire::AddressesBody { peer_id: peer_id.clone(), addresses: addresses.clone() }.encode_to_vec()
            }
            Self::Invite { invite, public_key, role, max_uses, expires_at_ms, epoch } => wire::InviteBody {
                invite_id: invite.0.to_vec(),
                public_key: public_key.to_vec(),
                role: *role as u32,
                max_uses: *max_uses,
                expires_at_ms: *expires_at_ms,
                epoch: *epoch,
            }
            .encode_to_vec(),
            Self::InviteRevoked { invite } => {
                wire::InviteRevokedBody { invite_id: invite.0.to_vec() }.encode_to_vec()
            }
            Self::ChangeRequest { kind, target, generation } => {
                kind.to_wire(target.0.to_vec(), *generation).encode_to_vec()
            }
            Self::Unknown { body, .. } => body.clone(),
        }
    }

    pub(super) fn decode(kind: i32, body: Vec<u8>) -> Result<Self, EventError> {
        if body.len() > MAX_BODY_BYTES {
            return Err(EventError::TooLarge);
        }
        let known = match EventKind::try_from(kind) {
            Ok(EventKind::Text) => Some(text(&body)?),
            Ok(EventKind::Space) => Some(space(&body)?),
            Ok(EventKind::Channel) => Some(channel(&body)?),
            Ok(EventKind::Profile) => Some(profile(&body)?),
            Ok(EventKind::Addresses) => Some(addresses(&body)?),
            Ok(EventKind::Invite) => invite(&body)?,
            Ok(EventKind::InviteRevoked) => Some(invite_revoked(&body)?),
            Ok(EventKind::ChangeRequest) => change_request(&body)?,
            Ok(EventKind::Unspecified) | Err(_) => None,
        };
        Ok(known.unwrap_or(Self::Unknown { kind, body }))
    }
}

impl ChangeKind {
    fn to_wire(&self, target: Vec<u8>, generation: u64) -> wire::ChangeRequestBody {
        let body = wire::ChangeRequestBody { target, generation, ..Default::default() };
        match self {
            Self::Remove => wire::ChangeRequestBody { kind: wire::ChangeKind::Remove.into(), ..body },
            Self::Leave => wire::ChangeRequestBody { kind: wire::ChangeKind::Leave.into(), ..body },
            Self::Role { was, to, role_changes } => wire::ChangeRequestBody {
                kind: wire::ChangeKind::Role.into(),
                role_before: *was as u32,
                role: *to as u32,
                role_changes: *role_changes,
                ..body
            },
            Self::Rejoin { key_package, old_encryption_key } => wire::ChangeRequestBody {
                kind: wire::ChangeKind::Rejoin.into(),
                key_package: key_package.clone(),
                old_encryption_key: old_encryption_key.to_vec(),
                ..body
            },
            Self::Add { key_package, invite, nonce, signature } => wire::ChangeRequestBody {
                kind: wire::ChangeKind::Add.into(),
                key_package: key_package.clone(),
                invite_id: invite.0.to_vec(),
                nonce: nonce.to_vec(),
                signature: signature.to_vec(),
                ..body
            },
        }
    }

    /// `None` for a kind or role of a newer version.
    fn from_wire(body: wire::ChangeRequestBody) -> Result<Option<Self>, EventError> {
        Ok(Some(match wire::ChangeKind::try_from(body.kind) {
            Ok(wire::ChangeKind::Remove) => Self::Remove,
            Ok(wire::ChangeKind::Leave) => Self::Leave,
            Ok(wire::ChangeKind::Role) => {
                limit(body.role_changes <= MAX_STORED)?;
                let roles = (Role::from_number(body.role_before), Role::from_number(body.role));
                let (Some(was), Some(to)) = roles else { return Ok(None) };
                Self::Role { was, to, role_changes: body.role_changes }
            }
            Ok(wire::ChangeKind::Rejoin) => Self::Rejoin {
                old_encryption_key: fixed(&body.old_encryption_key)?,
                key_package: key_package(body.key_package)?,
            },
            Ok(wire::ChangeKind::Add) => Self::Add {
                invite: invite_id(&body.invite_id)?,
                nonce: fixed(&body.nonce)?,
                signature: fixed(&body.signature)?,
                key_package: key_package(body.key_package)?,
            },
            Ok(wire::ChangeKind::Unspecified) | Err(_) => return Ok(None),
        }))
    }
}

fn text(body: &[u8]) -> Result<Body, EventError> {
    let body: wire::TextBody = read(body)?;
    limit(body.text.len() <= MAX_TEXT_BYTES)?;
    Ok(Body::Text {
        channel: channel_id(&body.channel_id)?,
        text: body.text,
        reply_to: optional_event_id(&body.reply_to)?,
    })
}

fn space(body: &[u8]) -> Result<Body, EventError> {
    let wire::SpaceBody { name, description } = read(body)?;
    limit_chars(&name, MAX_NAME_CHARS)?;
    limit_chars(&description, MAX_LONG_TEXT_CHARS)?;
    Ok(Body::Space { name, description })
}

fn channel(body: &[u8]) -> Result<Body, EventError> {
    let wire::ChannelBody { channel_id: id, name, topic } = read(body)?;
    limit_chars(&name, MAX_NAME_CHARS)?;
    limit_chars(&topic, MAX_LONG_TEXT_CHARS)?;
    Ok(Body::Channel { channel: channel_id(&id)?, name, topic })
}

fn profile(body: &[u8]) -> Result<Body, EventError> {
    let wire::ProfileBody { display_name } = read(body)?;
    limit_chars(&display_name, MAX_NAME_CHARS)?;
    Ok(Body::Profile { display_name })
}

fn addresses(body: &[u8]) -> Result<Body, EventError> {
    let wire::AddressesBody { peer_id, addresses } = read(body)?;
    limit(peer_id.len() <= MAX_PEER_ID_BYTES)?;
    limit(addresses.len() <= MAX_ADDRESSES)?;
    limit(addresses.iter().all(|address| address.len() <= MAX_ADDRESS_BYTES))?;
    if peer_id.is_empty() {
        return Err(EventError::Malformed);
    }
    Ok(Body::Addresses { peer_id, addresses })
}

fn invite(body: &[u8]) -> Result<Option<Body>, EventError> {
    let body: wire::InviteBody = read(body)?;
    limit(body.expires_at_ms <= MAX_STORED && body.epoch <= MAX_STORED)?;
    let invite = invite_id(&body.invite_id)?;
    let public_key = fixed(&body.public_key)?;
    Ok(Role::from_number(body.role).map(|role| Body::Invite {
        invite,
        public_key,
        role,
        max_uses: body.max_uses,
        expires_at_ms: body.expires_at_ms,
        epoch: body.epoch,
    }))
}

fn invite_revoked(body: &[u8]) -> Result<Body, EventError> {
    let body: wire::InviteRevokedBody = read(body)?;
    Ok(Body::InviteRevoked { invite: invite_id(&body.invite_id)? })
}

fn change_request(body: &[u8]) -> Result<Option<Body>, EventError> {
    let body: wire::ChangeRequestBody = read(body)?;
    limit(body.generation <= MAX_STORED)?;
    let target = AccountId::try_from(&*body.target).map_err(|_| EventError::Malformed)?;
    let generation = body.generation;
    Ok(ChangeKind::from_wire(body)?.map(|kind| Body::ChangeRequest { kind, target, generation }))
}

fn key_package(bytes: Vec<u8>) -> Result<Vec<u8>, EventError> {
    limit(bytes.len() <= MAX_KEY_PACKAGE_BYTES)?;
    if bytes.is_empty() { Err(EventError::Malformed) } else { Ok(bytes) }
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], EventError> {
    bytes.try_into().map_err(|_| EventError::Malformed)
}

fn read<M: Message + Default>(body: &[u8]) -> Result<M, EventError> {
    M::decode(body).map_err(|_| EventError::Malformed)
}

fn channel_id(bytes: &[u8]) -> Result<ChannelId, EventError> {
    ChannelId::try_from(bytes).map_err(|_| EventError::Malformed)
}

fn invite_id(bytes: &[u8]) -> Result<InviteId, EventError> {
    InviteId::try_from(bytes).map_err(|_| EventError::Malformed)
}

fn limit(within: bool) -> Result<(), EventError> {
    if within { Ok(()) } else { Err(EventError::Limit) }
}

fn limit_chars(text: &str, most: usize) -> Result<(), EventError> {
    limit(text.chars().count() <= most)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHANNEL: ChannelId = ChannelId([1; 16]);
    const INVITE: InviteId = InviteId([2; 16]);

    fn invite_body() -> Body {
        Body::Invite {
            invite: INVITE,
            public_key: [3; 32],
            role: Role::Member,
            max_uses: 5,
            expires_at_ms: 6,
            epoch: 7,
        }
    }

    fn request(kind: ChangeKind) -> Body {
        Body::ChangeRequest { kind, target: AccountId([4; 32]), generation: 8 }
    }

    fn add(key_package_bytes: usize) -> ChangeKind {
        let key_package = vec![7; key_package_bytes];
        ChangeKind::Add { key_package, invite: INVITE, nonce: [8; 32], signature: [9; 64] }
    }

    fn every_kind() -> Vec<Body> {
        vec![
            Body::Text { channel: CHANNEL, text: "hi".into(), reply_to: None },
            Body::Text { channel: CHANNEL, text: String::new(), reply_to: Some(EventId([9; 32])) },
            Body::Space { name: "s".into(), description: "d".into() },
            Body::Channel { channel: CHANNEL, name: "c".into(), topic: "t".into() },
            Body::Profile { display_name: "p".into() },
            Body::Addresses { peer_id: vec![1; 38], addresses: vec![vec![2; 8], vec![3; 256]] },
            invite_body(),
            Body::InviteRevoked { invite: INVITE },
            request(ChangeKind::Remove),
            request(ChangeKind::Leave),
            request(ChangeKind::Role { was: Role::Member, to: Role::Admin, role_changes: 3 }),
            request(ChangeKind::Rejoin { key_package: vec![5; 16 * 1024], old_encryption_key: [6; 32] }),
            request(add(700)),
            Body::Unknown { kind: 0, body: vec![1] },
            Body::Unknown { kind: 31, body: vec![1, 2] },
        ]
    }

    fn read_back(body: &Body) -> Result<Body, EventError> {
        Body::decode(body.kind(), body.encode())
    }

    #[test]
    fn every_kind_reads_back() {
        for body in every_kind() {
            assert!(read_back(&body) == Ok(body.clone()), "kind {}", body.kind());
        }
    }

    #[test]
    fn state_is_what_newcomers_get() {
        let state: Vec<_> = every_kind().iter().filter(|b| b.is_state()).map(Body::kind).collect();
        assert_eq!(state, [16, 17, 18, 19, 20, 21, 31]);
    }

    #[test]
    fn registers_have_their_owner_as_key() {
        let (account, device) = (AccountId([7; 32]), DeviceId([8; 32]));
        let keys: Vec<_> = every_kind().iter().map(|body| body.register(&account, &device)).collect();
        let expected = [
            None,
            None,
            Some(vec![]),
            Some(vec![1; 16]),
            Some(vec![7; 32]),
            Some(vec![8; 32]),
            Some(vec![2; 16]),
            Some(vec![2; 16]),
            None,
            None,
            None,
            None,
            None,
            None,
            None,
        ];
        assert_eq!(keys, expected);
    }

    #[test]
    fn limits_hold_at_the_edge_and_break_one_beyond() {
        let letters = |count| "é".repeat(count);
        let text = |length| Body::Text { channel: CHANNEL, text: "x".repeat(length), reply_to: None };
        let space = |name, about| Body::Space { name: letters(name), description: letters(about) };
        let channel =
            |name, topic| Body::Channel { channel: CHANNEL, name: letters(name), topic: letters(topic) };
        let profile = |name| Body::Profile { display_name: letters(name) };
        let addresses = |peer, count, length| Body::Addresses {
            peer_id: vec![1; peer],
            addresses: vec![vec![1; length]; count],
        };

        for within in [text(32 * 1024), space(100, 1000), channel(100, 1000), profile(100)] {
            assert!(read_back(&within).is_ok(), "kind {}", within.kind());
        }
        assert!(read_back(&addresses(64, 16, 256)).is_ok());
        let beyond = [
            text(32 * 1024 + 1),
            space(101, 0),
            space(0, 1001),
            channel(101, 0),
            channel(0, 1001),
            profile(101),
            addresses(65, 1, 1),
            addresses(38, 17, 1),
            addresses(38, 1, 257),
            Body::ChangeRequest { kind: ChangeKind::Leave, target: AccountId([4; 32]), generation: u64::MAX },
            request(ChangeKind::Role { was: Role::Member, to: Role::Admin, role_changes: u64::MAX }),
            request(ChangeKind::Rejoin { key_package: vec![5; 16 * 1024 + 1], old_encryption_key: [6; 32] }),
            request(add(16 * 1024 + 1)),
        ];
        for body in beyond {
            assert!(read_back(&body) == Err(EventError::Limit), "kind {}", body.kind());
        }
    }

    #[test]
    fn broken_bodies_of_known_kinds_are_malformed() {
        for kind in [1, 17, 19, 20, 21, 32] {
            assert!(Body::decode(kind, vec![]) == Err(EventError::Malformed), "kind {kind}");
            assert!(Body::decode(kind, vec![0xff]) == Err(EventError::Malformed), "kind {kind}");
        }
    }

    #[test]
    fn requests_with_parts_missing_are_malformed() {
        let whole = |kind: ChangeKind| kind.to_wire(vec![4; 32], 0);
        let rejoin = whole(ChangeKind::Rejoin { key_package: vec![5], old_encryption_key: [6; 32] });
        let add = whole(add(1));
        let none = Vec::new;
        for body in [
            wire::ChangeRequestBody { key_package: none(), ..rejoin.clone() },
            wire::ChangeRequestBody { old_encryption_key: vec![6; 31], ..rejoin },
            wire::ChangeRequestBody { key_package: none(), ..add.clone() },
            wire::ChangeRequestBody { invite_id: none(), ..add.clone() },
            wire::ChangeRequestBody { nonce: vec![8; 33], ..add.clone() },
            wire::ChangeRequestBody { signature: none(), ..add },
        ] {
            assert!(Body::decode(32, body.encode_to_vec()) == Err(EventError::Malformed), "{body:?}");
        }
    }

    #[test]
    fn a_newer_role_or_request_is_kept() {
        let newer_role = wire::InviteBody {
            invite_id: vec![1; 16],
            public_key: vec![2; 32],
            role: 5,
            ..Default::default()
        };
        let newer_request = wire::ChangeRequestBody { kind: 6, target: vec![1; 32], ..Default::default() };
        let newer_promotion =
            wire::ChangeRequestBody { kind: 3, role_before: 4, role: 9, ..newer_request.clone() };
        let requests = [newer_request, newer_promotion].map(|request| (32, request.encode_to_vec()));
        for (kind, body) in [(20, newer_role.encode_to_vec())].into_iter().chain(requests) {
            assert!(Body::decode(kind, body.clone()) == Ok(Body::Unknown { kind, body }));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(kind in -1..40i32, body in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(read) = Body::decode(kind, body) {
                prop_assert_eq!(read.kind(), kind);
                prop_assert!(read_back(&read) == Ok(read.clone()));
            }
        }
    }
}
