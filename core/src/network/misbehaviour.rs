//! Peers that break the rules are counted, and after a few times refused for a while.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::Network;
use crate::{
    clock::now_ms,
    journal::tell,
    model::PeerState,
    router::PeerId,
    store::{StoreError, feed::Entry, peer},
};

/// This many offences within [`WINDOW`] and a peer is refused for [`BLOCK`].
const LIMIT: usize = 8;
const WINDOW: Duration = Duration::from_secs(600);
const BLOCK: Duration = Duration::from_secs(600);
/// Peers whose offences are remembered; beyond it the longest quiet one is forgotten.
const MAX_REMEMBERED: usize = 1_024;

/// What a peer did wrong.
pub(super) use crate::metrics::Rejection as Offence;

/// Recent offences of each peer.
#[derive(Default)]
pub(super) struct Strikes(Mutex<HashMap<PeerId, Vec<Instant>>>);

impl Strikes {
    /// Notes an offence; true when it was one too many.
    fn note(&self, peer: &PeerId, now: Instant) -> bool {
        let mut strikes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if strikes.len() >= MAX_REMEMBERED && !strikes.contains_key(peer) {
            let quietest = strikes.iter().min_by_key(|(_, times)| times.last().copied());
            if let Some(quietest) = quietest.map(|(peer, _)| *peer) {
                strikes.remove(&quietest);
            }
        }
        let times = strikes.entry(*peer).or_default();
        times.retain(|time| now.duration_since(*time) < WINDOW);
        times.push(now);
        let too_many = times.len() >= LIMIT;
        if too_many {
            strikes.remove(peer);
        }
        too_many
    }
}

/// Who brought a frame.
#[derive(Clone, Copy)]
pub(super) struct Carrier<'a> {
    /// The peer.
    pub(super) peer: &'a PeerId,
    /// It was asked for what others sealed, and passes it on in good faith: what is wrong inside is not
    /// held against it.
    pub(super) asked: bool,
}

impl Network {
    /// Counts an offence in a frame, and holds it against a carrier that need not have brought it.
    pub(super) fn blame(self: &Arc<Self>, carrier: Carrier<'_>, offence: Offence) {
        self.metrics.reject(offence);
        if !carrier.asked {
            self.strike(carrier.peer, offence);
        }
    }

    /// Counts an offence; a peer that persists is disconnected and refused for ten minutes.
    pub(super) fn offend(self: &Arc<Self>, peer: &PeerId, offence: Offence) {
        self.metrics.reject(offence);
        self.strike(peer, offence);
    }

    /// Holds an offence against a peer that was counted where it was seen.
    pub(super) fn strike(self: &Arc<Self>, peer: &PeerId, offence: Offence) {
        tracing::debug!(?offence, "a peer's input was refused");
        if self.strikes.note(peer, Instant::now()) {
            tracing::warn!(?offence, "a peer is refused for a while");
            let (network, peer) = (Arc::clone(self), *peer);
            self.spawn("block", async move { network.block(peer).await });
        }
    }

    async fn block(&self, offender: PeerId) {
        self.router.block(&offender, BLOCK).await;
        let noted: Result<(), StoreError> = self
            .vault
            .write(move |tx| {
                Box::pin(async move {
                    let now = now_ms();
                    // Of a stranger its going is told, if its coming was.
                    if peer::is_stranger(tx.conn(), &offender.to_bytes()).await? {
                        return Ok(());
                    }
                    tell(tx, &Entry::Peer(offender.to_bytes(), PeerState::Blocked), now).await
                })
            })
            .await;
        if let Err(error) = noted {
            tracing::warn!(%error, "a blocked peer could not be noted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eighth_offence_in_ten_minutes_is_one_too_many() {
        let strikes = Strikes::default();
        let peer = PeerId::of_secret(&[1; 32]).unwrap();
        let start = Instant::now();
        for _ in 1..LIMIT {
            assert!(!strikes.note(&peer, start));
        }
        assert!(strikes.note(&peer, start));
    }

    #[test]
    fn old_offences_are_forgotten() {
        let strikes = Strikes::default();
        let peer = PeerId::of_secret(&[1; 32]).unwrap();
        let start = Instant::now();
        for n in 0..20 {
            assert!(!strikes.note(&peer, start + WINDOW * n));
        }
    }
}
