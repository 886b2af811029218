//! Who may connect: limits for strangers, and peers refused for a while.
//!
//! One behaviour of our own instead of the ready-made ones: those keep an entry for every peer id
//! they ever saw, and know no limit per address.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    net::IpAddr,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{ConnectedPoint, Endpoint, transport::PortUse},
    multiaddr::Protocol,
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, ToSwarm,
        dummy::ConnectionHandler,
    },
};

/// Established connections that others opened.
const MAX_INCOMING: usize = 128;
/// Incoming connections still in their handshake.
const MAX_PENDING: usize = 64;
/// Of those, from one address (IPv6: one /64).
const MAX_PENDING_PER_ADDRESS: usize = 8;
/// Established connections with one peer, in both directions.
const MAX_PER_PEER: usize = 4;
/// Refused peers remembered; the longest remembered makes room. Ids are free to make, so this only
/// bounds memory.
const MAX_BLOCKED: usize = 1024;

/// The connection was refused here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("too many connections")]
    Limit,
    #[error("the peer is refused for a while")]
    Blocked,
}

/// The limits' state; a behaviour without protocol.
#[derive(Default)]
pub(super) struct Gate {
    pending: HashMap<ConnectionId, Option<IpAddr>>,
    established: HashMap<ConnectionId, (PeerId, bool)>,
    blocked: VecDeque<(PeerId, Instant)>,
}

impl Gate {
    /// Refuses the peer until `duration` from now; a longer refusal stays.
    pub(super) fn block(&mut self, peer: PeerId, duration: Duration, now: Instant) {
        self.blocked.retain(|(_, until)| *until > now);
        // A year is as good as for ever, and does not overflow the clock.
        let mut until = now + duration.min(Duration::from_secs(365 * 86_400));
        if let Some(position) = self.blocked.iter().position(|(blocked, _)| *blocked == peer)
            && let Some((_, earlier)) = self.blocked.remove(position)
        {
            until = until.max(earlier);
        }
        if self.blocked.len() >= MAX_BLOCKED {
            self.blocked.pop_front();
        }
        self.blocked.push_back((peer, until));
    }

    pub(super) fn is_blocked(&self, peer: &PeerId, now: Instant) -> bool {
        self.blocked.iter().any(|(blocked, until)| blocked == peer && *until > now)
    }

    fn admit_pending(&mut self, id: ConnectionId, from: &Multiaddr) -> Result<(), Refused> {
        let from = source(from);
        let same = self.pending.values().filter(|address| **address == from).count();
        if self.pending.len() >= MAX_PENDING || same >= MAX_PENDING_PER_ADDRESS {
            return Err(Refused::Limit);
        }
        self.pending.insert(id, from);
        Ok(())
    }

    fn admit_established(&self, peer: &PeerId, incoming: bool, now: Instant) -> Result<(), Refused> {
        if self.is_blocked(peer, now) {
            return Err(Refused::Blocked);
        }
        let same = self.established.values().filter(|(other, _)| other == peer).count();
        let from_others = self.established.values().filter(|(_, incoming)| *incoming).count();
        if same >= MAX_PER_PEER || (incoming && from_others >= MAX_INCOMING) {
            return Err(Refused::Limit);
        }
        Ok(())
    }
}

/// What counts as one address.
fn source(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => {
            let network = ip.to_bits() >> 64 << 64;
            Some(IpAddr::V6(network.into()))
        }
        _ => None,
    }
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _local: &Multiaddr,
        from: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.admit_pending(id, from).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _local: &Multiaddr,
        _from: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending.remove(&id);
        self.admit_established(&peer, true, Instant::now()).map_err(ConnectionDenied::new)?;
        Ok(ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _id: ConnectionId,
        peer: PeerId,
        _address: &Multiaddr,
        _role: Endpoint,
        _port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit_established(&peer, false, Instant::now()).map_err(ConnectionDenied::new)?;
        Ok(ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(up) => {
                let incoming = matches!(up.endpoint, ConnectedPoint::Listener { .. });
                self.established.insert(up.connection_id, (up.peer_id, incoming));
            }
            FromSwarm::ConnectionClosed(down) => {
                self.established.remove(&down.connection_id);
            }
            FromSwarm::ListenFailure(failed) => {
                self.pending.remove(&failed.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _peer: PeerId, _id: ConnectionId, event: Infallible) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    fn admit(gate: &mut Gate, number: usize, from: &str) -> Result<(), Refused> {
        gate.admit_pending(id(number), &from.parse().unwrap())
    }

    #[test]
    fn handshakes_are_limited_per_address_and_in_all() {
        let mut gate = Gate::default();
        for number in 0..MAX_PENDING_PER_ADDRESS {
            admit(&mut gate, number, &format!("/ip6/2001:db8::{number}/tcp/{number}")).unwrap();
        }
        assert_eq!(admit(&mut gate, 100, "/ip6/2001:db8::ffff/tcp/1"), Err(Refused::Limit));
        admit(&mut gate, 100, "/ip6/2001:db8:0:1::1/tcp/1").unwrap();
        for number in gate.pending.len()..MAX_PENDING {
            admit(&mut gate, 1000 + number, &format!("/ip4/10.0.0.{number}/tcp/1")).unwrap();
        }
        assert_eq!(admit(&mut gate, 2000, "/ip4/10.9.9.9/tcp/1"), Err(Refused::Limit));
    }

    #[test]
    fn a_finished_handshake_makes_room() {
        let mut gate = Gate::default();
        for number in 0..MAX_PENDING_PER_ADDRESS {
            admit(&mut gate, number, "/ip4/10.0.0.1/tcp/1").unwrap();
        }
        let address: Multiaddr = "/ip4/10.0.0.1/tcp/1".parse().unwrap();
        gate.handle_established_inbound_connection(id(0), PeerId::random(), &address, &address).unwrap();
        admit(&mut gate, 99, "/ip4/10.0.0.1/tcp/1").unwrap();
    }

    #[test]
    fn strangers_are_limited_but_one_may_still_dial_out() {
        let mut gate = Gate::default();
        let now = Instant::now();
        let peer = PeerId::random();
        for number in 0..MAX_PER_PEER {
            gate.established.insert(id(number), (peer, true));
        }
        assert_eq!(gate.admit_established(&peer, false, now), Err(Refused::Limit));
        for number in gate.established.len()..MAX_INCOMING {
            gate.established.insert(id(number), (PeerId::random(), true));
        }
        assert_eq!(gate.admit_established(&PeerId::random(), true, now), Err(Refused::Limit));
        assert_eq!(gate.admit_established(&PeerId::random(), false, now), Ok(()));
    }

    #[test]
    fn a_block_ends_by_itself_and_never_shortens() {
        let mut gate = Gate::default();
        let (now, peer) = (Instant::now(), PeerId::random());
        gate.block(peer, Duration::from_secs(60), now);
        gate.block(peer, Duration::from_secs(1), now);
        let before = now + Duration::from_secs(59);
        assert_eq!(gate.admit_established(&peer, true, before), Err(Refused::Blocked));
        assert!(!gate.is_blocked(&peer, now + Duration::from_secs(60)));
        gate.block(peer, Duration::MAX, now);
        assert!(gate.is_blocked(&peer, before));
    }

    #[test]
    fn blocks_take_bounded_memory() {
        let mut gate = Gate::default();
        let (now, last) = (Instant::now(), PeerId::random());
        for _ in 0..MAX_BLOCKED + 5 {
            gate.block(PeerId::random(), Duration::from_secs(60), now);
        }
        gate.block(last, Duration::from_secs(60), now);
        assert_eq!(gate.blocked.len(), MAX_BLOCKED);
        assert!(gate.is_blocked(&last, now));
    }
}
