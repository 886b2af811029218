//! Which peers are connected, and through what. Pure: connections are numbers, time is an argument.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// A connected peer.
pub(super) struct Link<C> {
    /// Each with the time it last showed a sign of life.
    connections: HashMap<C, Instant>,
    /// The first of them was opened by us.
    pub(super) outbound: bool,
    pub(super) round_trip: Option<Duration>,
    /// The user of the router was told of it.
    pub(super) told: bool,
    /// Own requests without an answer yet.
    pub(super) in_flight: usize,
}

/// The connected peers `P` with their connections `C`.
pub(super) struct Links<P, C>(HashMap<P, Link<C>>);

impl<P: Eq + Hash + Copy, C: Eq + Hash + Copy> Links<P, C> {
    pub(super) fn new() -> Self {
        Self(HashMap::new())
    }

    /// Takes note of a connection; true if it is the peer's first.
    pub(super) fn opened(&mut self, peer: P, connection: C, outbound: bool, now: Instant) -> bool {
        let link = self.0.entry(peer).or_insert_with(|| Link {
            connections: HashMap::new(),
            outbound,
            round_trip: None,
            told: false,
            in_flight: 0,
        });
        link.connections.insert(connection, now);
        link.connections.len() == 1
    }

    /// Forgets a connection; gives the link back if it was the peer's last.
    pub(super) fn closed(&mut self, peer: &P, connection: &C) -> Option<Link<C>> {
        let link = self.0.get_mut(peer)?;
        link.connections.remove(connection);
        if link.connections.is_empty() { self.0.remove(peer) } else { None }
    }

    /// A round trip was measured.
    pub(super) fn alive(&mut self, peer: &P, connection: &C, round_trip: Duration, now: Instant) {
        let Some(link) = self.0.get_mut(peer) else { return };
        link.round_trip = Some(round_trip);
        if let Some(heard) = link.connections.get_mut(connection) {
            *heard = now;
        }
    }

    /// Connections without a sign of life for this long.
    pub(super) fn silent(&self, longest: Duration, now: Instant) -> Vec<C> {
        let connections = self.0.values().flat_map(|link| &link.connections);
        let silent = connections.filter(|(_, heard)| now.saturating_duration_since(**heard) > longest);
        silent.map(|(connection, _)| *connection).collect()
    }

    pub(super) fn get(&self, peer: &P) -> Option<&Link<C>> {
        self.0.get(peer)
    }

    pub(super) fn get_mut(&mut self, peer: &P) -> Option<&mut Link<C>> {
        self.0.get_mut(peer)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&P, &Link<C>)> {
        self.0.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn two_connections_are_one_link() {
        let (mut links, now) = (Links::new(), Instant::now());
        assert!(links.opened("bob", 1, true, now));
        assert!(!links.opened("bob", 2, false, now));
        assert!(links.closed(&"bob", &1).is_none());
        assert!(links.closed(&"bob", &1).is_none());
        assert!(links.closed(&"bob", &2).unwrap().outbound);
        assert!(links.is_empty());
        assert!(links.closed(&"bob", &2).is_none());
    }

    #[test]
    fn silence_is_per_connection() {
        let (mut links, now) = (Links::new(), Instant::now());
        links.opened("bob", 1, true, now);
        links.opened("bob", 2, true, now);
        links.alive(&"bob", &2, MS, now + 10 * MS);
        links.alive(&"eve", &9, MS, now);
        assert_eq!(links.silent(15 * MS, now + 20 * MS), [1]);
        assert_eq!(links.get(&"bob").unwrap().round_trip, Some(MS));
    }
}
