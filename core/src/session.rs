//! An unlocked account: its vault, its router, its NetworkLayer and their tasks.
//!
//! [`Session`] is all that the API knows of the core. Shared by every device of the account.

mod author;
mod invite;
mod membership;
mod message;
mod peer;
mod request;
mod space;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    group::identity::DeviceIdentity,
    id::AccountId,
    metrics::Metrics,
    model::{FeedPage, JoinFailure},
    network::{Keys, Network, NetworkConfig, SlotError},
    router::{self, RouterConfig},
    store::{
        StoreError, Vault, feed,
        identity::{Identity, set_listen_port},
    },
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
    /// The caller's role does not allow it.
    #[error("your role in the space does not allow this")]
    NotPermitted,
    /// An owner cannot leave while others are in the space.
    #[error(
        "an owner cannot leave while others are members: make someone else owner and give the role up first"
    )]
    OwnerCannotLeave,
    /// Nobody would be owner.
    #[error("the space would have no owner: make someone else owner first")]
    LastOwner,
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

impl From<SlotError> for SpaceError {
    fn from(error: SlotError) -> Self {
        match error {
            SlotError::NotAMember => Self::SpaceNotFound,
            SlotError::Store(error) => Self::Store(error),
            SlotError::Pruned | SlotError::Group(_) => {
                tracing::error!(%error, "a group cannot be used");
                Self::Group
            }
        }
    }
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
    /// Where others can dial, each with the peer id.
    pub listen_addresses: Vec<String>,
}

/// An unlocked account.
pub struct Session {
    vault: Vault,
    network: Arc<Network>,
    sends: mpsc::Sender<message::Waiting>,
    username: String,
    display_name: String,
    stop: CancellationToken,
}

impl Session {
    /// Starts the router and the tasks of an open vault.
    ///
    /// # Errors
    /// [`SessionError`]
    pub async fn start(
        vault: Vault,
        config: NetworkConfig,
        metrics: Metrics,
    ) -> Result<Arc<Self>, SessionError> {
        let identity = vault.peek(|conn| Box::pin(Identity::load(conn))).await?;
        let mut router_config = RouterConfig::new(identity.peer_secret.clone(), config.listen);
        router_config.kept_port = identity.listen_port;
        router_config.announce = config.announce;
        let started = router::start(router_config, &metrics).await;
        let (router, events, running) = started.map_err(|error| SessionError::Router(error.to_string()))?;
        let port = router.port();
        if port != identity.listen_port {
            vault.write(move |tx| Box::pin(async move { set_listen_port(tx, port).await })).await?;
        }
        let keys = Keys {
            identity: DeviceIdentity::new(identity.device.clone(), identity.certificate),
            device: identity.device,
            letter: identity.letter_secret,
        };
        let stop = CancellationToken::new();
        let network = Network::start(keys, vault.clone(), router, events, metrics, stop.clone());
        network.track_router(running);
        let (sends, queue) = mpsc::channel(message::QUEUE);
        network.run("sends", message::accept_sends(Arc::clone(&network), queue));
        tracing::info!("a session is open");
        Ok(Arc::new(Self {
            vault,
            network,
            sends,
            username: identity.username,
            display_name: identity.display_name,
            stop,
        }))
    }

    /// Ends the tasks, the router and the vault, in this order.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.network.router.stop().await;
        self.network.stopped().await;
        self.vault.close().await;
        tracing::info!("a session is closed");
    }

    /// Who it belongs to.
    pub fn profile(&self) -> Profile {
        Profile {
            account: self.account(),
            username: self.username.clone(),
            display_name: self.display_name.clone(),
            peer_id: self.network.router.peer_id().to_string(),
            listen_addresses: self.with_peer_id(&self.network.own_addresses()),
        }
    }

    /// Cancelled when the session ends: streams and handlers watch it.
    pub fn stopped(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// The newest seq of the feed; changes whenever rows were added.
    pub fn feed_seq(&self) -> watch::Receiver<u64> {
        self.vault.feed_seq()
    }

    /// Up to `limit` rows of the feed after `after`.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn feed(&self, after: u64, limit: u32) -> Result<FeedPage, StoreError> {
        let me = self.account();
        self.vault.peek(move |conn| Box::pin(feed::page(conn, me, after, limit))).await
    }

    fn account(&self) -> AccountId {
        self.network.keys.account()
    }
}
