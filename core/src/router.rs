//! The peer transport of one session behind one handle: listen, dial, request, disconnect, block.
//!
//! The only place of libp2p. It moves opaque bytes between routers and knows nothing of accounts,
//! groups or storage; it dials only when asked and only the addresses it is given.

mod address;
mod backoff;
mod behaviour;
mod codec;
mod dial;
mod gate;
mod links;
mod outlet;
mod peer_id;
mod port;
mod task;
#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use libp2p::{Swarm, core::transport::ListenerId};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

#[cfg(feature = "testing")]
pub use self::codec::reads_request;
use self::{
    address::Host,
    behaviour::Behaviour,
    outlet::Outlet,
    task::{Command, Task},
};
pub use self::{
    address::{Address, AddressError, MAX_ADDRESSES, PeerAddress, acceptable, told},
    backoff::Backoff,
    codec::{MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES},
    peer_id::{InvalidPeerId, PeerId},
};
use crate::metrics::Metrics;

/// Commands on their way to the loop; more wait in their callers.
const COMMAND_CAPACITY: usize = 256;
const DIAL_DEADLINE: Duration = Duration::from_secs(10);
const LISTEN_DEADLINE: Duration = Duration::from_secs(5);

/// How a router starts.
pub struct RouterConfig {
    /// Ed25519 seed of the router's identity.
    pub secret: Zeroizing<[u8; 32]>,
    /// Where to listen, an IP address. Port 0: any free one; another: the first of 1000.
    pub listen: Address,
    /// The port of last time, tried first where `listen` allows it; 0 for none.
    pub kept_port: u16,
    /// Told to others instead of the listening addresses.
    pub announce: Vec<Address>,
    /// For one request, reading the answer included.
    pub request_timeout: Duration,
}

impl RouterConfig {
    /// A router without kept port or announced addresses, and 10 s for a request.
    pub fn new(secret: Zeroizing<[u8; 32]>, listen: Address) -> Self {
        Self { secret, listen, kept_port: 0, announce: Vec::new(), request_timeout: Duration::from_secs(10) }
    }
}

/// Why a router did not start.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    /// The secret gives no identity.
    #[error("the router's secret is not usable")]
    Identity,
    /// A name instead of an IP address.
    #[error("the router listens on an IP address, not on a name")]
    ListenOnName,
    /// Nothing free.
    #[error("no free port for the router, tried from {first} on")]
    NoFreePort {
        /// The first one tried; 0 for any.
        first: u16,
    },
    /// The system refused.
    #[error("the router cannot listen: {0}")]
    Listen(#[source] io::Error),
}

/// Why a dial brought no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// No one answered in time.
    #[error("no one answers at this address")]
    Unreachable,
    /// Another router answered.
    #[error("another router answers at this address")]
    WrongPeer,
    /// The router's own id.
    #[error("this is the router itself")]
    IsSelf,
    /// Refused for a while, see [`Router::block`].
    #[error("this peer is refused for a while")]
    Blocked,
    /// The router is stopped.
    #[error("the router is stopped")]
    Stopped,
}

/// Why a request brought no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No connection with this peer.
    #[error("the peer is not connected")]
    NotConnected,
    /// No response in time. The peer may have taken the request.
    #[error("the peer did not answer in time")]
    Timeout,
    /// The connection or the stream ended. The peer may have taken the request.
    #[error("the peer closed the request")]
    Closed,
    /// Over [`MAX_REQUEST_BYTES`]; nothing was sent.
    #[error("the request is too large")]
    TooLarge,
    /// The peer does not speak the protocol.
    #[error("the peer does not speak this protocol")]
    Unsupported,
    /// Too many requests are under way with this peer; nothing was sent, or no memory was left for
    /// the response.
    #[error("too many requests are under way")]
    Busy,
    /// The router is stopped.
    #[error("the router is stopped")]
    Stopped,
}

/// A connected peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerLink {
    /// Who.
    pub peer: PeerId,
    /// This router opened the first connection.
    pub outbound: bool,
    /// As last measured.
    pub round_trip: Option<Duration>,
}

/// What a router tells.
pub enum RouterEvent {
    /// The first connection with a peer is up.
    Connected {
        /// Who.
        peer: PeerId,
        /// This router opened it.
        outbound: bool,
    },
    /// The last connection with a peer is gone.
    Disconnected {
        /// Who.
        peer: PeerId,
    },
    /// A peer asks.
    Request {
        /// Who.
        peer: PeerId,
        /// What; at most [`MAX_REQUEST_BYTES`].
        request: Vec<u8>,
        /// Where the answer goes.
        reply: Reply,
    },
    /// A round trip was measured; every 15 s a connection.
    RoundTrip {
        /// With whom.
        peer: PeerId,
        /// How long.
        round_trip: Duration,
    },
    /// The listening addresses changed.
    ListenAddress {
        /// Which one.
        address: Address,
        /// Came or went.
        added: bool,
    },
    /// A peer broke the protocol: it announced more bytes than allowed.
    InboundGarbage {
        /// Who.
        peer: PeerId,
    },
}

/// The answer to a peer's request; dropping it closes the stream.
pub struct Reply {
    sender: oneshot::Sender<Vec<u8>>,
    /// The request counts against the router's memory until it is answered.
    _memory: codec::Memory,
}

impl Reply {
    /// Answers, with at most [`MAX_RESPONSE_BYTES`]; a longer response closes the stream instead.
    pub fn send(self, response: Vec<u8>) {
        // The peer may be gone.
        let _ = self.sender.send(response);
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

/// What handle and loop both see.
struct Shared {
    peer_id: PeerId,
    announced: Vec<Address>,
    listen: Address,
    port: u16,
    request_timeout: Duration,
    listening: RwLock<Vec<Address>>,
}

impl Shared {
    fn listening(&self) -> Vec<Address> {
        self.listening.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_listening(&self, address: &Address, added: bool) {
        let mut listening = self.listening.write().unwrap_or_else(PoisonError::into_inner);
        listening.retain(|known| known != address);
        if added {
            listening.push(address.clone());
        }
    }
}

/// A handle to a running router; cheap to clone. The router stops with its last handle.
#[derive(Clone)]
pub struct Router {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    stopping: CancellationToken,
}

/// Starts a router; it listens when this returns.
///
/// The events must be read: while they are not, requests of peers are refused.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn start(
    config: RouterConfig,
    metrics: &Metrics,
) -> Result<(Router, mpsc::Receiver<RouterEvent>, JoinHandle<()>), RouterError> {
    let key = peer_id::keypair(&config.secret).map_err(|_| RouterError::Identity)?;
    let peer_id = PeerId(key.public().to_peer_id());
    let mut swarm = behaviour::swarm(key, config.request_timeout, metrics)?;
    let (listener, port) = listen(&mut swarm, &config)?;
    let shared = Arc::new(Shared {
        peer_id,
        announced: config.announce,
        listen: config.listen,
        port,
        request_timeout: config.request_timeout,
        listening: RwLock::default(),
    });
    let (sender, commands) = mpsc::channel(COMMAND_CAPACITY);
    let (outlet, events) = Outlet::new();
    let stopping = CancellationToken::new();
    let router = Router { commands: sender, shared: shared.clone(), stopping: stopping.clone() };
    let mut task = Task::new(swarm, listener, commands, outlet, shared, metrics.clone(), stopping);
    timeout(LISTEN_DEADLINE, task.reach_listening())
        .await
        .map_err(|_| RouterError::Listen(io::ErrorKind::AddrNotAvailable.into()))?;
    Ok((router, events, tokio::spawn(task.run())))
}

/// Binds the first free port of those allowed.
fn listen(swarm: &mut Swarm<Behaviour>, config: &RouterConfig) -> Result<(ListenerId, u16), RouterError> {
    let Host::Ip(ip) = config.listen.host else {
        return Err(RouterError::ListenOnName);
    };
    let first = config.listen.port();
    for candidate in port::candidates(first, config.kept_port) {
        let claim = match port::claim(ip, candidate) {
            Ok(claim) => claim,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => continue,
            Err(error) => return Err(RouterError::Listen(error)),
        };
        // Fails when a foreign program came in between; the next port will do.
        if let Ok(listener) = swarm.listen_on(Address::tcp(ip, claim.port).to_multiaddr()) {
            return Ok((listener, claim.port));
        }
    }
    Err(RouterError::NoFreePort { first })
}

impl Router {
    /// Who this router is.
    pub fn peer_id(&self) -> &PeerId {
        &self.shared.peer_id
    }

    /// The port it listens on, to be kept for next time.
    pub fn port(&self) -> u16 {
        self.shared.port
    }

    /// Where it listens now; 0.0.0.0 and :: as the addresses of the interfaces.
    pub fn listen_addresses(&self) -> Vec<Address> {
        self.shared.listening()
    }

    /// The configured addresses that others are told.
    pub fn announced(&self) -> &[Address] {
        &self.shared.announced
    }

    /// It can be reached from this machine only; see [`acceptable`].
    pub fn is_loopback(&self) -> bool {
        self.shared.listen.is_loopback()
    }

    /// Connects to a peer at one of these addresses; at once if it is connected.
    ///
    /// # Errors
    /// When there is no connection with this very peer within 10 s.
    pub async fn dial(&self, peer: &PeerId, addresses: Vec<Address>) -> Result<PeerLink, DialError> {
        if *peer == self.shared.peer_id {
            return Err(DialError::IsSelf);
        }
        let dial = async {
            let addresses = dial::resolve(addresses, self.is_loopback()).await;
            self.ask(|reply| Command::Dial { peer: peer.0, addresses, reply }).await
        };
        match timeout(DIAL_DEADLINE, dial).await {
            Ok(answer) => answer.unwrap_or(Err(DialError::Stopped)),
            Err(_) => Err(DialError::Unreachable),
        }
    }

    /// Asks a connected peer. Never dials.
    ///
    /// # Errors
    /// When no response came; the variant tells whether the peer may have taken the request.
    pub async fn request(&self, peer: &PeerId, request: Vec<u8>) -> Result<Vec<u8>, RequestError> {
        if request.len() > MAX_REQUEST_BYTES {
            return Err(RequestError::TooLarge);
        }
        let answer = self.ask(|reply| Command::Request { peer: peer.0, request, reply });
        match timeout(self.shared.request_timeout, answer).await {
            Ok(answer) => answer.unwrap_or(Err(RequestError::Stopped)),
            Err(_) => Err(RequestError::Timeout),
        }
    }

    /// Closes all connections with a peer; `Disconnected` follows.
    pub async fn disconnect(&self, peer: &PeerId) {
        self.ask(|reply| Command::Disconnect { peer: peer.0, reply }).await;
    }

    /// Refuses a peer in both directions for this long, and closes what is open.
    ///
    /// Not remembered across restarts.
    pub async fn block(&self, peer: &PeerId, duration: Duration) {
        self.ask(|reply| Command::Block { peer: peer.0, duration, reply }).await;
    }

    /// The peer is refused now.
    pub async fn is_blocked(&self, peer: &PeerId) -> bool {
        self.ask(|reply| Command::IsBlocked { peer: peer.0, reply }).await.unwrap_or(false)
    }

    /// The connected peers.
    pub async fn peers(&self) -> Vec<PeerLink> {
        self.ask(|reply| Command::Peers { reply }).await.unwrap_or_default()
    }

    /// Stops listening and closes all connections; returns when that is done.
    pub async fn stop(&self) {
        self.stopping.cancel();
        self.commands.closed().await;
    }

    /// `None` when the router is stopped.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }
}
