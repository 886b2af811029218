//! Peers and the account's router.

use std::collections::BTreeSet;

use super::{PeerError, Session};
use crate::{
    clock::now_ms,
    model::{NetworkStatus, Peer, PeerState, Reachability},
    network::IntroductionError,
    router::{Address, DialError, PeerAddress, PeerId},
    store::{StoreError, message, peer},
};

impl Session {
    /// Dials a peer, checks that it holds the key its address names and whose device it is, remembers it.
    ///
    /// # Errors
    /// [`PeerError`]
    pub async fn connect_peer(&self, address: &str) -> Result<Peer, PeerError> {
        let target = PeerAddress::parse(address).map_err(|error| PeerError::AddressInvalid(error.0))?;
        self.network.dial_at_once(&target.peer);
        // Over a connection that is up already the address is not tried, and so not remembered.
        let tested = self.network.linked_account(&target.peer).is_none();
        let link = match self.network.router.dial(&target.peer, vec![target.address.clone()]).await {
            Ok(link) => link,
            Err(DialError::Unreachable | DialError::Blocked) => return Err(PeerError::Unreachable),
            Err(DialError::WrongPeer) => return Err(PeerError::KeyMismatch),
            Err(DialError::IsSelf) => return Err(PeerError::IsSelf),
            Err(DialError::Stopped) => return Err(PeerError::Stopping),
        };
        match self.network.introduce(&target.peer, link.outbound).await {
            Ok(_) => {}
            Err(IntroductionError::NoAnswer) => return Err(PeerError::Unreachable),
            Err(IntroductionError::Certificate) => return Err(PeerError::CertificateInvalid),
        }
        let (id, address) = (target.peer, target.address);
        self.vault
            .write(move |tx| {
                Box::pin(async move {
                    peer::pin(tx.conn(), &id, true).await?;
                    let known = peer::addresses(tx.conn(), &id.to_bytes()).await?.contains(&address);
                    if tested || known {
                        peer::add_address(tx.conn(), &id.to_bytes(), &address, now_ms()).await?;
                    }
                    Ok::<_, StoreError>(())
                })
            })
            .await?;
        // Lost meanwhile, nobody was told that it is wanted.
        self.network.dial_at_once(&id);
        self.network.measure(&id).await;
        self.peer(&id).await
    }

    /// Closes the connection; forgets the peer unless a shared space needs it.
    ///
    /// # Errors
    /// [`PeerError::PeerNotFound`]
    pub async fn disconnect_peer(&self, peer_id: &str) -> Result<(), PeerError> {
        let id = PeerId::parse(peer_id).map_err(|_| PeerError::PeerNotFound)?;
        let linked = self.network.linked_account(&id).is_some();
        self.vault
            .write(move |tx| {
                Box::pin(async move {
                    if !linked && peer::peer(tx.conn(), &id.to_bytes()).await?.is_none() {
                        return Err(PeerError::PeerNotFound);
                    }
                    if peer::is_fellow_member(tx.conn(), &id).await? {
                        Ok(peer::pin(tx.conn(), &id, false).await?)
                    } else {
                        Ok(peer::forget(tx.conn(), &id).await?)
                    }
                })
            })
            .await?;
        self.network.router.disconnect(&id).await;
        Ok(())
    }

    /// All known peers and those connected now, in a fixed order.
    ///
    /// # Errors
    /// [`PeerError::Store`]
    pub async fn peers(&self) -> Result<Vec<Peer>, PeerError> {
        let ids = {
            let mut reader = self.vault.read().await?;
            peer::peers(reader.conn()).await?
        };
        // Of strangers only some are remembered; while they are connected, all are shown.
        let linked = self.network.linked().into_iter().map(|id| id.to_bytes());
        let ids: BTreeSet<_> = ids.into_iter().chain(linked).collect();
        let mut peers = Vec::with_capacity(ids.len());
        for id in ids {
            let id = PeerId::from_bytes(&id).map_err(|_| StoreError::Corrupt)?;
            if id == *self.network.router.peer_id() {
                continue;
            }
            match self.peer(&id).await {
                Ok(peer) => peers.push(peer),
                // Forgotten in between.
                Err(PeerError::PeerNotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(peers)
    }

    async fn peer(&self, id: &PeerId) -> Result<Peer, PeerError> {
        let known = {
            let mut reader = self.vault.read().await?;
            peer::peer(reader.conn(), &id.to_bytes()).await?
        };
        let known = known.or_else(|| self.stranger(id)).ok_or(PeerError::PeerNotFound)?;
        let state = self.network.link_state(id).await;
        let round_trip = self.network.round_trip(id).filter(|_| state == PeerState::Connected);
        let round_trip_ms = round_trip.map(|time| time.as_secs_f64() * 1_000.0);
        Ok(Peer { state, round_trip_ms, ..known })
    }

    /// A connected peer that nothing is stored of.
    fn stranger(&self, id: &PeerId) -> Option<Peer> {
        Some(Peer {
            peer_id: id.to_string(),
            addresses: Vec::new(),
            state: PeerState::Connected,
            outbound: false,
            round_trip_ms: None,
            account: Some(self.network.linked_account(id)?),
            last_seen_at: None,
        })
    }

    /// The account's router.
    ///
    /// # Errors
    /// [`PeerError::Store`]
    pub async fn network_status(&self) -> Result<NetworkStatus, PeerError> {
        let queued_messages = {
            let mut reader = self.vault.read().await?;
            message::count_queued(reader.conn()).await?
        };
        let router = &self.network.router;
        let listening = router.listen_addresses();
        let reachability = if !router.announced().is_empty() {
            Reachability::Announced
        } else if listening.is_empty() {
            Reachability::Unknown
        } else if listening.iter().any(Address::is_public) {
            Reachability::Public
        } else {
            Reachability::Private
        };
        let connected = self.network.connected_peers();
        Ok(NetworkStatus {
            peer_id: router.peer_id().to_string(),
            listen_addresses: self.with_peer_id(&listening),
            external_addresses: self.with_peer_id(router.announced()),
            connected_peers: u32::try_from(connected).unwrap_or(u32::MAX),
            queued_messages,
            reachability,
        })
    }

    /// Addresses as ConnectPeer takes them.
    pub(super) fn with_peer_id(&self, addresses: &[Address]) -> Vec<String> {
        let peer = *self.network.router.peer_id();
        addresses.iter().map(|address| PeerAddress { peer, address: address.clone() }.to_string()).collect()
    }
}
