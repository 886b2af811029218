//! An unlocked account: its vault, its router, its NetworkLayer and their tasks.
//!
//! [`Session`] is all that the API knows of the core. Shared by every device of the account.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use crate::{
    id::{AccountId, ChannelId, EventId, GroupId, InviteId},
    metrics::Metrics,
    model::*,
    network::NetworkConfig,
    store::{StoreError, Vault, identity::Identity},
};

/// Why something about a space was refused.
#[derive(Debug, thiserror::Error)]
pub enum SpaceError {
    /// No such space, or the caller is not in it.
    #[error("no such space")]
    SpaceNotFound,
    /// No such member.
    #[error("no such member of this space")]
    MemberNotFound,
    /// No such invite.
    #[error("no such invite")]
    InviteNotFound,
    /// Owners only.
    #[error("only an owner of the space may do this")]
    NotPermitted,
    /// The owner cannot leave while others are in the space.
    #[error("the owner cannot leave while others are members")]
    OwnerCannotLeave,
    /// A channel of that name exists.
    #[error("the space has a channel of this name")]
    ChannelNameTaken,
    /// This many are allowed.
    #[error("the limit of {0} is reached")]
    LimitReached(u32),
    /// Already in the space.
    #[error("this account is already a member of the space")]
    AlreadyMember,
    /// The join ended.
    #[error(transparent)]
    Join(#[from] JoinFailure),
    /// The request id was used with another payload.
    #[error("this request_id was used for a different request")]
    RequestIdReused,
    /// The MLS group refused; a defect or a damaged state.
    #[error("the group state could not be changed")]
    Group,
    /// The vault failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why something about messages was refused.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// No such channel, or the caller is not in its space.
    #[error("no such channel")]
    ChannelNotFound,
    /// No such message in the channel.
    #[error("no such message")]
    MessageNotFound,
    /// The request id was used with another payload.
    #[error("this request_id was used for a different request")]
    RequestIdReused,
    /// The vault failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why something about peers was refused.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// Not a multiaddr with a peer id, or of a transport that is not supported.
    #[error("not a peer address: {0}")]
    AddressInvalid(&'static str),
    /// Nobody answered in time.
    #[error("no one answers at this address")]
    Unreachable,
    /// Another key than the address names.
    #[error("another peer answers at this address")]
    KeyMismatch,
    /// One's own address.
    #[error("this is the account's own address")]
    IsSelf,
    /// Its certificate is missing or wrong.
    #[error("the peer has no valid certificate")]
    CertificateInvalid,
    /// Not a peer this account knows.
    #[error("no such peer")]
    PeerNotFound,
    /// The session is shutting down.
    #[error("the session is stopping")]
    Stopping,
    /// The vault failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a session could not start.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The router could not listen.
    #[error("the router could not start: {0}")]
    Router(String),
    /// The vault failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Who a session belongs to.
#[derive(Clone)]
pub struct Profile {
    /// The account.
    pub account: AccountId,
    /// Folded user name.
    pub username: String,
    /// Shown name.
    pub display_name: String,
    /// libp2p's text form.
    pub peer_id: String,
    /// Where the router listens.
    pub listen_addresses: Vec<String>,
}

/// An unlocked account.
pub struct Session {
    vault: Vault,
    profile: Profile,
    stopped: tokio_util::sync::CancellationToken,
}

impl Session {
    /// Starts the router and the tasks of an open vault.
    pub async fn start(
        vault: Vault,
        _network: NetworkConfig,
        _metrics: Metrics,
    ) -> Result<Arc<Self>, SessionError> {
        let identity = Identity::load(vault.read().await?.conn()).await?;
        let profile = Profile {
            account: identity.certificate.account,
            username: identity.username.clone(),
            display_name: identity.display_name.clone(),
            peer_id: hex::encode(&identity.certificate.peer_id),
            listen_addresses: Vec::new(),
        };
        Ok(Arc::new(Self { vault, profile, stopped: tokio_util::sync::CancellationToken::new() }))
    }
    /// Ends the tasks and closes the vault.
    pub async fn stop(&self) {
        self.stopped.cancel();
        self.vault.close().await;
    }
    /// Who it belongs to.
    pub fn profile(&self) -> Profile {
        self.profile.clone()
    }

    /// Creates a space with a channel `general`.
    pub async fn create_space(
        &self,
        _request: Option<Uuid>,
        _name: &str,
        _description: &str,
    ) -> Result<Space, SpaceError> {
        unimplemented!()
    }
    /// One space.
    pub async fn space(&self, _space: GroupId) -> Result<Space, SpaceError> {
        unimplemented!()
    }
    /// All spaces, oldest first.
    pub async fn spaces(&self) -> Result<Vec<Space>, SpaceError> {
        unimplemented!()
    }
    /// Leaves a space.
    pub async fn leave_space(&self, _request: Option<Uuid>, _space: GroupId) -> Result<(), SpaceError> {
        unimplemented!()
    }
    /// Creates a public channel.
    pub async fn create_channel(
        &self,
        _request: Option<Uuid>,
        _space: GroupId,
        _name: &str,
        _topic: &str,
    ) -> Result<Channel, SpaceError> {
        unimplemented!()
    }
    /// Channels of a space, oldest first.
    pub async fn channels(&self, _space: GroupId) -> Result<Vec<Channel>, SpaceError> {
        unimplemented!()
    }
    /// Members of a space, in order of joining.
    pub async fn members(&self, _space: GroupId) -> Result<Vec<Member>, SpaceError> {
        unimplemented!()
    }
    /// Removes an account from a space.
    pub async fn remove_member(
        &self,
        _request: Option<Uuid>,
        _space: GroupId,
        _account: AccountId,
    ) -> Result<(), SpaceError> {
        unimplemented!()
    }
    /// Makes an invite link.
    pub async fn create_invite(
        &self,
        _request: Option<Uuid>,
        _space: GroupId,
        _max_uses: u32,
        _expires_in: Duration,
    ) -> Result<Invite, SpaceError> {
        unimplemented!()
    }
    /// Makes an invite unusable.
    pub async fn revoke_invite(&self, _invite: InviteId) -> Result<(), SpaceError> {
        unimplemented!()
    }
    /// Joins by link.
    pub async fn join_space(&self, _request: Option<Uuid>, _link: &str) -> Result<Join, SpaceError> {
        unimplemented!()
    }

    /// Accepts a message for delivery.
    pub async fn send_message(
        &self,
        _request: Option<Uuid>,
        _channel: ChannelId,
        _text: &str,
        _reply_to: Option<EventId>,
    ) -> Result<Message, MessageError> {
        unimplemented!()
    }
    /// A page of history.
    pub async fn messages(
        &self,
        _channel: ChannelId,
        _page: Page,
        _limit: u32,
    ) -> Result<MessagePage, MessageError> {
        unimplemented!()
    }
    /// One message.
    pub async fn message(&self, _message: EventId) -> Result<Message, MessageError> {
        unimplemented!()
    }

    /// The newest seq of the feed; changes whenever rows were added.
    pub fn feed_seq(&self) -> tokio::sync::watch::Receiver<u64> {
        unimplemented!()
    }
    /// Up to `limit` rows after `after`.
    pub async fn feed(&self, _after: u64, _limit: u32) -> Result<FeedPage, StoreError> {
        unimplemented!()
    }
    /// Ends when the session does: streams and handlers watch it.
    pub fn stopped(&self) -> tokio_util::sync::CancellationToken {
        self.stopped.clone()
    }

    /// Dials a peer, checks who it is, remembers it.
    pub async fn connect_peer(&self, _address: &str) -> Result<Peer, PeerError> {
        unimplemented!()
    }
    /// Closes the connection; forgets the peer unless a shared space needs it.
    pub async fn disconnect_peer(&self, _peer_id: &str) -> Result<(), PeerError> {
        unimplemented!()
    }
    /// All known peers, in a fixed order.
    pub async fn peers(&self) -> Result<Vec<Peer>, PeerError> {
        unimplemented!()
    }
    /// The account's router.
    pub async fn network_status(&self) -> Result<NetworkStatus, PeerError> {
        unimplemented!()
    }
}
