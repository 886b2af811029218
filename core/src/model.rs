//! What the API sees: plain values in the words of the product. No behaviour, no IO.

mod group;

use std::time::{Duration, SystemTime};

pub use self::group::{GroupHealth, GroupStatus, SendTiming};
use crate::id::{AccountId, ChannelId, EventId, GroupId, InviteId};

/// What a member may do in a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Role {
    /// Everything.
    Owner = 1,
    /// Everything but what concerns owners.
    Admin = 2,
    /// Reads, writes, and removes members.
    Moderator = 3,
    /// Reads and writes.
    Member = 4,
}

impl Role {
    /// Every role, the mightiest first.
    pub const ALL: [Self; 4] = [Self::Owner, Self::Admin, Self::Moderator, Self::Member];

    /// The role of this number, if this version knows it.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|role| *role as u32 == number)
    }
}

/// What is to change of a space; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpaceChanges {
    /// Shown name, for everyone.
    pub name: Option<String>,
    /// Shown description, for everyone.
    pub description: Option<String>,
    /// For this account alone.
    pub send_timing: Option<SendTiming>,
}

/// A space as its member sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// Its id.
    pub id: GroupId,
    /// Shown name.
    pub name: String,
    /// Shown description.
    pub description: String,
    /// Whose it is: of several owners the first by id, the same everywhere.
    pub owner: AccountId,
    /// The caller's role.
    pub my_role: Role,
    /// Current members, the caller included.
    pub member_count: u32,
    /// When it was created, by its creator's clock.
    pub created_at: SystemTime,
    /// The MLS group behind it.
    pub group: GroupStatus,
    /// How long what this account writes waits before it leaves.
    pub send_timing: SendTiming,
}

/// A channel of a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Its id.
    pub id: ChannelId,
    /// The space it belongs to.
    pub space: GroupId,
    /// Shown name, unique in the space.
    pub name: String,
    /// What it is about.
    pub topic: String,
}

/// A member of a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub account: AccountId,
    /// Shown name.
    pub display_name: String,
    /// What they may do.
    pub role: Role,
    /// When they were added, by the committer's clock.
    pub joined_at: SystemTime,
    /// Their server is connected to this one now (always true for oneself).
    pub online: bool,
}

/// How a membership changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberChange {
    /// Added to the group.
    Joined,
    /// Left by their own wish.
    Left,
    /// Removed by another member.
    Removed,
    /// Name or role changed.
    Updated,
}

/// What an invite offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InviteTerms {
    /// How many may join with it.
    pub max_uses: u32,
    /// How long it works.
    pub expires_in: Duration,
    /// The role they get; never [`Role::Owner`].
    pub role: Role,
}

/// An invite and its secret link.
#[derive(Clone, PartialEq, Eq)]
pub struct Invite {
    /// Its id.
    pub id: InviteId,
    /// Whoever holds it can join.
    pub link: String,
    /// When it stops working.
    pub expires_at: SystemTime,
    /// How many more can join with it.
    pub uses_left: u32,
    /// The link holds only addresses that work on this machine or network.
    pub only_local_addresses: bool,
}

/// Why a join ended without joining.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinFailure {
    /// Not a link of ours, or nobody there knows it.
    #[error("this invite link is not valid")]
    Invalid,
    /// Too late.
    #[error("this invite has expired")]
    Expired,
    /// Everyone it was for has joined.
    #[error("this invite has been used up")]
    UsedUp,
    /// Taken back by whoever made it.
    #[error("this invite has been revoked")]
    Revoked,
}

/// Where a join stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Join {
    /// Done.
    Joined(Box<Space>),
    /// The inviter cannot be reached; retried until it works or the link expires.
    Pending(GroupId),
}

/// How far one's own message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// Durable here only.
    Queued,
    /// Stored by at least one other member's server.
    Sent,
    /// Processed by every recipient's device.
    Delivered,
    /// Will not be delivered.
    Failed,
}

/// Delivery of one's own message; counts accounts other than the sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// How far.
    pub state: DeliveryState,
    /// Accounts whose device processed it.
    pub delivered_to: u32,
    /// Accounts it is for.
    pub recipients: u32,
    /// Why it failed; else empty.
    pub reason: String,
}

/// A message in a channel.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// The id of the event that carries it.
    pub id: EventId,
    /// Where it was written.
    pub channel: ChannelId,
    /// The channel's space.
    pub space: GroupId,
    /// Who wrote it.
    pub sender: AccountId,
    /// The sender's name as it is now.
    pub sender_display_name: String,
    /// What it says.
    pub text: String,
    /// The sender's clock, never later than `received_at`.
    pub sent_at: SystemTime,
    /// When this server got it.
    pub received_at: SystemTime,
    /// What it answers.
    pub reply_to: Option<EventId>,
    /// Only on one's own messages.
    pub delivery: Option<Delivery>,
}

/// Which part of a channel's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// The newest messages.
    Latest,
    /// The nearest ones before this message.
    Before(EventId),
    /// The nearest ones after this message.
    After(EventId),
}

/// A page of history, oldest first.
#[derive(Clone)]
pub struct MessagePage {
    /// The messages.
    pub messages: Vec<Message>,
    /// There is more in the direction asked for.
    pub has_more: bool,
}

/// State of the link to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerState {
    /// A connection is up.
    Connected,
    /// Being dialled.
    Connecting,
    /// No connection; will be dialled again.
    Disconnected,
    /// Refused for a while because of what it sent.
    Blocked,
}

/// A peer this account knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Peer {
    /// libp2p's text form.
    pub peer_id: String,
    /// Multiaddrs, text form.
    pub addresses: Vec<String>,
    /// The link now.
    pub state: PeerState,
    /// We dialled them.
    pub outbound: bool,
    /// Milliseconds, once measured.
    pub round_trip_ms: Option<f64>,
    /// From its certificate, once exchanged.
    pub account: Option<AccountId>,
    /// When a connection was last up.
    pub last_seen_at: Option<SystemTime>,
}

/// How reachable this router seems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reachability {
    /// Nothing is known yet.
    Unknown,
    /// The operator announced addresses.
    Announced,
    /// Only loopback or private addresses.
    Private,
    /// A listening address is public.
    Public,
}

/// The account's router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkStatus {
    /// libp2p's text form.
    pub peer_id: String,
    /// Listening multiaddrs with `/p2p/<peer id>`.
    pub listen_addresses: Vec<String>,
    /// Announced multiaddrs with `/p2p/<peer id>`.
    pub external_addresses: Vec<String>,
    /// Peers with a connection up.
    pub connected_peers: u32,
    /// Own messages no other server has stored yet.
    pub queued_messages: u32,
    /// How reachable it seems.
    pub reachability: Reachability,
}

/// Something that happened, as told in the event stream.
#[derive(Clone)]
pub enum Change {
    /// A message is new.
    MessageAdded(Message),
    /// One's own message came further.
    DeliveryChanged {
        /// Which message.
        message: EventId,
        /// In which channel.
        channel: ChannelId,
        /// Of which space.
        space: GroupId,
        /// How far now.
        delivery: Delivery,
    },
    /// A membership changed.
    MemberChanged {
        /// In which space.
        space: GroupId,
        /// Whose; as it is after the change, or was before leaving.
        member: Member,
        /// How.
        change: MemberChange,
    },
    /// A space is new or its values changed.
    SpaceChanged(Space),
    /// The caller is no longer in this space.
    SpaceGone(GroupId),
    /// A channel is new or its values changed.
    ChannelChanged(Channel),
    /// A pending join went on; `failure` when it ended without joining.
    JoinProgress {
        /// The space asked for.
        space: GroupId,
        /// Joined now.
        joined: bool,
        /// Why it ended without joining.
        failure: Option<JoinFailure>,
    },
    /// The link to a peer changed.
    PeerChanged(Peer),
    /// A group's health changed.
    GroupHealth {
        /// Which space.
        space: GroupId,
        /// How it is now.
        health: GroupHealth,
        /// A sentence for people.
        detail: String,
        /// The group as it is when this is read; `None` once this account is out.
        group: Option<Box<GroupStatus>>,
    },
}

/// A row of the feed.
#[derive(Clone)]
pub struct FeedItem {
    /// Strictly increasing, with gaps.
    pub seq: u64,
    /// When it happened.
    pub at: SystemTime,
    /// What happened.
    pub change: Change,
}

/// A stretch of the feed.
#[derive(Clone)]
pub struct FeedPage {
    /// Rows after what was asked for, in order.
    pub items: Vec<FeedItem>,
    /// Continue after this seq.
    pub next_after: u64,
    /// Rows older than asked for are gone; this is the oldest kept.
    pub reset_to: Option<u64>,
    /// Nothing newer is stored now.
    pub caught_up: bool,
}
