//! How the peer side of a session runs.

use crate::router::Address;

/// The peer side of a session.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// Where routers listen; port 0: a free one, kept across restarts; another: the first of a range.
    pub listen: Address,
    /// Announced to others instead of the listening addresses.
    pub announce: Vec<Address>,
}
