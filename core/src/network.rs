//! The NetworkLayer.

use std::net::SocketAddr;

/// The peer side of a session.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// Where routers listen, multiaddr text; port 0: a free one, kept across restarts; another: the first of a range.
    pub peer_listen: String,
    /// Multiaddrs announced instead of the listening ones.
    pub announce: Vec<String>,
}

#[allow(unused)]
type Unused = SocketAddr;
