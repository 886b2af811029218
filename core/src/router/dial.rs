//! One attempt to reach a peer: where to, and what a failure means. Resolves names; dials nothing.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures::future::join_all;
use libp2p::{Multiaddr, multiaddr::Protocol, swarm};
use tokio::{net::lookup_host, sync::oneshot, time::timeout};

use super::{
    Address, DialError, MAX_ADDRESSES, PeerLink,
    address::{Family, Host},
};

/// A name that takes longer is passed over, so that it does not hold up the other addresses.
const LOOKUP: Duration = Duration::from_secs(5);
/// Addresses taken from one name.
const MAX_PER_NAME: usize = 4;

/// A dial that someone waits for.
pub(super) struct Dial {
    pub(super) peer: libp2p::PeerId,
    pub(super) addresses: Vec<Multiaddr>,
    /// Another key answered at an address already given up.
    wrong_peer: bool,
    pub(super) reply: oneshot::Sender<Result<PeerLink, DialError>>,
}

impl Dial {
    pub(super) fn new(
        peer: libp2p::PeerId,
        addresses: Vec<Multiaddr>,
        reply: oneshot::Sender<Result<PeerLink, DialError>>,
    ) -> Self {
        Self { peer, addresses, wrong_peer: false, reply }
    }

    /// What the attempt's end means; `None` when other addresses are worth another attempt.
    ///
    /// An address where another key answers is most often just out of date: the peer may still be
    /// at one of its others.
    pub(super) fn failed(&mut self, error: &swarm::DialError) -> Option<DialError> {
        let answered = match error {
            swarm::DialError::WrongPeerId { address, .. } | swarm::DialError::LocalPeerId { address } => {
                Some(without_peer(address))
            }
            // The swarm leaves out addresses it listens on itself, and here none was left.
            swarm::DialError::NoAddresses => return Some(DialError::WrongPeer),
            swarm::DialError::Denied { .. } => return Some(DialError::Blocked),
            _ => None,
        };
        let Some(answered) = answered else {
            return Some(if self.wrong_peer { DialError::WrongPeer } else { DialError::Unreachable });
        };
        self.wrong_peer = true;
        let before = self.addresses.len();
        self.addresses.retain(|address| *address != answered);
        let again = !self.addresses.is_empty() && self.addresses.len() < before;
        if again { None } else { Some(DialError::WrongPeer) }
    }
}

fn without_peer(address: &Multiaddr) -> Multiaddr {
    address.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect()
}

/// The addresses as the transport takes them, names resolved by the system.
///
/// A name must not lead to this machine's own services: it does only where the router itself is
/// for this machine only.
pub(super) async fn resolve(addresses: Vec<Address>, own_listener_is_loopback: bool) -> Vec<Multiaddr> {
    let places = addresses.iter().filter(|address| address.is_dialable()).take(MAX_ADDRESSES);
    let lookups = places.map(async |address| match &address.host {
        Host::Ip(_) => vec![address.clone()],
        Host::Name(family, name) => lookup(*family, name, address.port, own_listener_is_loopback).await,
    });
    let mut resolved: Vec<Multiaddr> = Vec::new();
    for address in join_all(lookups).await.into_iter().flatten() {
        let address = address.to_multiaddr();
        if !resolved.contains(&address) {
            resolved.push(address);
        }
    }
    resolved.truncate(MAX_ADDRESSES);
    resolved
}

async fn lookup(family: Family, name: &str, port: u16, local: bool) -> Vec<Address> {
    let Ok(Ok(found)) = timeout(LOOKUP, lookup_host((name, port))).await else {
        return Vec::new();
    };
    filter_resolved(family, found, local)
}

fn filter_resolved(family: Family, found: impl Iterator<Item = SocketAddr>, local: bool) -> Vec<Address> {
    found
        .filter(|found| match family {
            Family::Any => true,
            Family::V4 => matches!(found.ip(), IpAddr::V4(_)),
            Family::V6 => matches!(found.ip(), IpAddr::V6(_)),
        })
        .map(|found| Address::tcp(found.ip(), found.port()))
        .filter(|address| address.is_dialable() && (local || !address.is_machine_local()))
        .take(MAX_PER_NAME)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn multiaddr(port: u16) -> Multiaddr {
        format!("/ip4/192.0.2.1/tcp/{port}").parse().unwrap()
    }

    fn wrong(port: u16) -> swarm::DialError {
        let obtained = libp2p::PeerId::random();
        swarm::DialError::WrongPeerId { obtained, address: multiaddr(port).with(Protocol::P2p(obtained)) }
    }

    fn dial(ports: &[u16]) -> Dial {
        let addresses = ports.iter().map(|port| multiaddr(*port)).collect();
        Dial::new(libp2p::PeerId::random(), addresses, oneshot::channel().0)
    }

    #[test]
    fn a_stale_address_does_not_hide_the_others() {
        let mut dial = dial(&[1, 2, 3]);
        assert_eq!(dial.failed(&wrong(2)), None);
        assert_eq!(dial.addresses, [multiaddr(1), multiaddr(3)]);
        assert_eq!(dial.failed(&swarm::DialError::Transport(Vec::new())), Some(DialError::WrongPeer));
    }

    #[test]
    fn attempts_end() {
        assert_eq!(dial(&[1]).failed(&wrong(1)), Some(DialError::WrongPeer));
        assert_eq!(dial(&[1, 2]).failed(&wrong(9)), Some(DialError::WrongPeer), "no address given up");
        let own = swarm::DialError::LocalPeerId { address: multiaddr(1) };
        assert_eq!(dial(&[1]).failed(&own), Some(DialError::WrongPeer));
        assert_eq!(dial(&[1]).failed(&swarm::DialError::Aborted), Some(DialError::Unreachable));
    }

    #[test]
    fn names_do_not_lead_inside() {
        let found =
            ["127.0.0.1:1", "[::1]:2", "[::ffff:127.0.0.1]:3", "169.254.0.1:4", "0.0.0.0:5", "8.8.8.8:6"]
                .map(|text| text.parse::<SocketAddr>().unwrap());
        let ports = |family, local| {
            let resolved = filter_resolved(family, found.into_iter(), local);
            resolved.iter().map(Address::port).collect::<Vec<_>>()
        };
        assert_eq!(ports(Family::Any, false), [6]);
        assert_eq!(ports(Family::Any, true), [1, 2, 3, 4]);
        assert_eq!(ports(Family::V6, true), [2, 3]);
    }

    #[tokio::test]
    async fn resolves_through_the_system() {
        let name = Address::parse("/dns4/localhost/tcp/7").unwrap();
        let place = Address::parse("/ip4/127.0.0.1/tcp/7").unwrap();
        let nowhere = Address::parse("/ip4/0.0.0.0/tcp/7").unwrap();
        let both = vec![name.clone(), place.clone(), nowhere];
        assert_eq!(resolve(both, true).await, [place.to_multiaddr()]);
        assert!(resolve(vec![name], false).await.is_empty());
    }
}
