//! Peers and the router on the wire.

use spacepanda_core::model::{NetworkStatus, Peer, PeerState, Reachability};
use spacepanda_proto::api::v1 as wire;

use super::IntoWire;

impl IntoWire for PeerState {
    type Wire = wire::PeerState;

    fn into_wire(self) -> wire::PeerState {
        match self {
            Self::Connected => wire::PeerState::Connected,
            Self::Connecting => wire::PeerState::Connecting,
            Self::Disconnected => wire::PeerState::Disconnected,
            Self::Blocked => wire::PeerState::Blocked,
        }
    }
}

impl IntoWire for Peer {
    type Wire = wire::Peer;

    fn into_wire(self) -> wire::Peer {
        let direction = if self.outbound { wire::Direction::Outbound } else { wire::Direction::Inbound };
        wire::Peer {
            peer_id: self.peer_id,
            addresses: self.addresses,
            state: self.state.into_wire().into(),
            direction: direction.into(),
            relayed: false,
            round_trip_ms: self.round_trip_ms.unwrap_or_default(),
            account_id: self.account.map(|account| account.to_string()).unwrap_or_default(),
            last_seen_at: self.last_seen_at.map(Into::into),
        }
    }
}

impl IntoWire for Reachability {
    type Wire = wire::Nat;

    fn into_wire(self) -> wire::Nat {
        match self {
            Self::Unknown => wire::Nat::Unknown,
            Self::Announced => wire::Nat::Announced,
            Self::Private => wire::Nat::Private,
            Self::Public => wire::Nat::Public,
        }
    }
}

impl IntoWire for NetworkStatus {
    type Wire = wire::NetworkStatus;

    fn into_wire(self) -> wire::NetworkStatus {
        wire::NetworkStatus {
            peer_id: self.peer_id,
            listen_addresses: self.listen_addresses,
            external_addresses: self.external_addresses,
            connected_peers: self.connected_peers,
            queued_messages: self.queued_messages,
            nat: self.reachability.into_wire().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use spacepanda_core::id::AccountId;

    use super::*;

    #[test]
    fn what_is_not_known_of_a_peer_is_empty() {
        let mut peer = Peer {
            peer_id: "12D3".into(),
            addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
            state: PeerState::Blocked,
            outbound: true,
            round_trip_ms: None,
            account: None,
            last_seen_at: None,
        };
        let wire = peer.clone().into_wire();
        assert_eq!((wire.account_id.as_str(), wire.round_trip_ms, wire.last_seen_at), ("", 0.0, None));
        assert_eq!((wire.state(), wire.direction()), (wire::PeerState::Blocked, wire::Direction::Outbound));

        peer.account = Some(AccountId([7; 32]));
        peer.outbound = false;
        let wire = peer.into_wire();
        assert_eq!(wire.account_id, "07".repeat(32));
        assert_eq!(wire.direction(), wire::Direction::Inbound);
    }
}
