//! Keeping connections to everyone this account needs: redialled with back-off and jitter.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use super::Network;
use crate::{
    router::{Backoff, DialError, PeerId},
    store::{StoreError, peer},
};

/// Dials under way at a time.
const MAX_DIALS: usize = 16;
/// As long as someone is missing, looked over at least this often: a block may have ended.
const LOOK: Duration = Duration::from_secs(30);
/// Nor more often than this, unless woken.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);

/// When each peer may be dialled again.
#[derive(Default)]
pub(super) struct Dialling(Mutex<HashMap<PeerId, Attempt>>);

#[derive(Default)]
struct Attempt {
    backoff: Backoff,
    /// `None` while a dial is under way.
    next: Option<Instant>,
}

impl Dialling {
    fn with<T>(&self, f: impl FnOnce(&mut HashMap<PeerId, Attempt>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The peer answered: the next loss starts from the shortest wait.
    pub(super) fn reached(&self, peer: &PeerId) {
        self.with(|attempts| attempts.remove(peer));
    }

    /// Takes the turn to dial a peer, if it is time.
    fn take_turn(&self, peer: &PeerId, now: Instant) -> bool {
        self.with(|attempts| match attempts.get_mut(peer) {
            None => {
                attempts.insert(*peer, Attempt::default());
                true
            }
            Some(attempt) => attempt.next.take_if(|next| *next <= now).is_some(),
        })
    }

    fn failed(&self, peer: &PeerId, now: Instant) {
        self.with(|attempts| {
            let attempt = attempts.entry(*peer).or_default();
            attempt.next = Some(now + attempt.backoff.next(rand::random()));
        });
    }

    /// Forgets waits for a peer: someone asked for it just now.
    pub(super) fn at_once(&self, peer: &PeerId) {
        self.with(|attempts| {
            if let Some(attempt) = attempts.get_mut(peer)
                && attempt.next.is_some()
            {
                attempts.remove(peer);
            }
        });
    }

    /// Whether a dial is under way.
    pub(super) fn is_dialling(&self, peer: &PeerId) -> bool {
        self.with(|attempts| attempts.get(peer).is_some_and(|attempt| attempt.next.is_none()))
    }

    /// Drops waits for peers that are wanted no longer, or are there.
    fn keep_only(&self, missing: &HashSet<PeerId>) {
        self.with(|attempts| {
            attempts.retain(|peer, attempt| attempt.next.is_none() || missing.contains(peer))
        });
    }

    /// Waits before the next dial, unless one is under way.
    fn put_off(&self, peer: &PeerId, until: Instant) {
        self.with(|attempts| {
            if let Some(next) = attempts.get_mut(peer).and_then(|attempt| attempt.next.as_mut()) {
                *next = (*next).max(until);
            }
        });
    }

    /// Those of the missing whose time has come: their dials are under way from now on. No other's wait
    /// is left to wake the dialler at once, again and again.
    fn turns(&self, missing: &HashSet<PeerId>, blocked: &HashSet<PeerId>, now: Instant) -> Vec<PeerId> {
        self.keep_only(missing);
        for peer in blocked {
            self.put_off(peer, now + LOOK);
        }
        missing.difference(blocked).filter(|peer| self.take_turn(peer, now)).copied().collect()
    }

    /// How long nobody's time comes.
    fn wait(&self, now: Instant) -> Duration {
        let next = self.with(|attempts| attempts.values().filter_map(|attempt| attempt.next).min());
        next.map_or(LOOK, |next| next.saturating_duration_since(now)).clamp(SHORTEST_WAIT, LOOK)
    }
}

impl Network {
    /// Dials whoever is wanted and not connected.
    pub(super) async fn keep_connected(self: Arc<Self>) {
        let limit = Arc::new(Semaphore::new(MAX_DIALS));
        loop {
            let missing = self.dial_wanted(&limit).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "known peers cannot be read");
                true
            });
            tokio::select! {
                () = self.wake.dial.notified() => {}
                // With everyone there, nothing wakes an idle account's database.
                () = tokio::time::sleep(self.dialling.wait(Instant::now())), if missing => {}
            }
        }
    }

    /// Dials those whose time has come; true as long as someone is missing.
    async fn dial_wanted(self: &Arc<Self>, limit: &Arc<Semaphore>) -> Result<bool, StoreError> {
        let own = self.keys.device_id();
        let wanted = self.vault.peek(move |conn| Box::pin(peer::wanted(conn, own))).await?;
        let is_missing =
            |peer: &PeerId| peer != self.router.peer_id() && self.links.certificate(peer).is_none();
        let missing: HashSet<PeerId> = wanted.into_iter().filter(is_missing).collect();
        let mut blocked = HashSet::new();
        for peer in &missing {
            if self.router.is_blocked(peer).await {
                blocked.insert(*peer);
            }
        }
        for peer in self.dialling.turns(&missing, &blocked, Instant::now()) {
            let (network, limit) = (Arc::clone(self), Arc::clone(limit));
            self.spawn("dial", async move {
                let _permit = limit.acquire().await;
                network.dial_once(&peer).await;
            });
        }
        Ok(!missing.is_empty())
    }

    async fn dial_once(self: &Arc<Self>, peer: &PeerId) {
        if self.dial_known(peer).await.is_err() {
            self.dialling.failed(peer, Instant::now());
        } else {
            self.dialling.reached(peer);
        }
        self.wake.dial.notify_one();
    }

    async fn dial_known(self: &Arc<Self>, peer: &PeerId) -> Result<(), DialError> {
        let addresses = {
            let mut reader = self.vault.read().await.map_err(|_| DialError::Stopped)?;
            peer::addresses(reader.conn(), &peer.to_bytes()).await.map_err(|_| DialError::Unreachable)?
        };
        if addresses.is_empty() {
            return Err(DialError::Unreachable);
        }
        let link = self.router.dial(peer, addresses).await?;
        self.introduce(peer, link.outbound).await.map_err(|_| DialError::Unreachable)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> PeerId {
        PeerId::of_secret(&[n; 32]).unwrap()
    }

    fn nobody() -> HashSet<PeerId> {
        HashSet::new()
    }

    #[test]
    fn a_wait_for_someone_no_longer_wanted_leaves_the_dialler_at_rest() {
        let (dialling, start) = (Dialling::default(), Instant::now());
        let (missing, other) = (HashSet::from([peer(1)]), peer(2));
        assert_eq!(dialling.turns(&missing, &nobody(), start), [peer(1)]);
        assert_eq!(dialling.turns(&HashSet::from([peer(1), other]), &nobody(), start), [other]);
        dialling.failed(&other, start);
        let later = start + LOOK;
        assert_eq!(dialling.wait(later), SHORTEST_WAIT, "its wait is over: this test proves something");

        // One is missing, and the dial to it under way; the other is no longer wanted.
        assert!(dialling.turns(&missing, &nobody(), later).is_empty());
        assert_eq!(dialling.wait(later), LOOK);
        dialling.failed(&peer(1), later);
        assert_eq!(
            dialling.turns(&missing, &nobody(), later + LOOK),
            [peer(1)],
            "the missing one is not lost"
        );
    }

    #[test]
    fn a_wait_for_someone_blocked_leaves_the_dialler_at_rest() {
        let (dialling, start) = (Dialling::default(), Instant::now());
        let missing = HashSet::from([peer(1)]);
        assert_eq!(dialling.turns(&missing, &nobody(), start), [peer(1)]);
        dialling.failed(&peer(1), start);
        let later = start + LOOK;
        assert!(dialling.turns(&missing, &missing, later).is_empty());
        assert_eq!(dialling.wait(later), LOOK);
        assert_eq!(dialling.turns(&missing, &nobody(), later + LOOK), [peer(1)], "once the block has ended");
    }
}
