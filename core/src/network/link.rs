//! Pushing frames to verified peers: one queue and one request in flight a peer, so that order holds.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prost::Message as _;
use spacepanda_proto::peer::v1::{
    FrameOutcome, PeerRequest, PeerResponse, PushFrames, RefusalReason, peer_request, peer_response,
};
use tokio::sync::mpsc;

use super::Network;
use crate::{
    certificate::Certificate,
    delivery,
    id::{AccountId, DeviceId, FrameId},
    router::PeerId,
    store::{StoreError, peer},
};

/// Frames that wait for one peer. Beyond it frames are dropped: the peer's next Tip shows the gap.
const QUEUE: usize = 4_096;
/// Frames of one request.
const MAX_BATCH_FRAMES: usize = 256;
/// Bytes of one request.
const MAX_BATCH_BYTES: usize = 1 << 20;
/// A peer that has just been connected may not have checked our certificate yet.
pub(super) const UNKNOWN_PEER_TRIES: u32 = 8;
pub(super) const UNKNOWN_PEER_WAIT: Duration = Duration::from_millis(40);

/// A frame on its way to one peer.
#[derive(Clone)]
pub(crate) struct Outgoing {
    /// The sealed frame.
    pub bytes: Arc<[u8]>,
    /// Set when it matters to us that it is stored there.
    pub custody: Option<FrameId>,
}

impl Outgoing {
    /// A frame whose loss is repaired by Tips.
    pub(crate) fn untracked(bytes: Vec<u8>) -> Self {
        Self { bytes: bytes.into(), custody: None }
    }
}

struct Link {
    certificate: Certificate,
    queue: mpsc::Sender<Outgoing>,
}

/// The verified peers with a connection up.
#[derive(Default)]
pub(crate) struct Links(Mutex<HashMap<PeerId, Link>>);

impl Links {
    fn with<T>(&self, f: impl FnOnce(&mut HashMap<PeerId, Link>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The certificate of a verified peer.
    pub(crate) fn certificate(&self, peer: &PeerId) -> Option<Certificate> {
        self.with(|links| links.get(peer).map(|link| link.certificate.clone()))
    }

    /// How many peers are verified.
    pub(crate) fn count(&self) -> usize {
        self.with(|links| links.len())
    }

    /// Every verified peer with the account and the device that its certificate names. The account's key
    /// signed that, the device's did not: only both together are a member.
    pub(crate) fn verified(&self) -> Vec<(PeerId, AccountId, DeviceId)> {
        let named =
            |(peer, link): (&PeerId, &Link)| (*peer, link.certificate.account, link.certificate.device);
        self.with(|links| links.iter().map(named).collect())
    }

    /// Every account with a verified peer.
    pub(super) fn accounts(&self) -> HashSet<AccountId> {
        self.with(|links| links.values().map(|link| link.certificate.account).collect())
    }

    /// Queues a frame; dropped when the peer is gone or its queue is full.
    pub(crate) fn push(&self, peer: &PeerId, frame: Outgoing) {
        self.with(|links| {
            if let Some(link) = links.get(peer) {
                let _ = link.queue.try_send(frame);
            }
        });
    }

    /// The peer's last connection is gone; true when it was verified.
    pub(crate) fn remove(&self, peer: &PeerId) -> bool {
        self.with(|links| links.remove(peer).is_some())
    }
}

impl Network {
    /// Opens the queue to a peer whose certificate was checked; false when it was open.
    pub(super) fn open_link(self: &Arc<Self>, peer: &PeerId, certificate: Certificate) -> bool {
        let (queue, frames) = mpsc::channel(QUEUE);
        let new = self.links.with(|links| {
            if links.contains_key(peer) {
                return false;
            }
            links.insert(*peer, Link { certificate, queue });
            true
        });
        if new {
            self.spawn("link", Arc::clone(self).run_link(*peer, frames));
        }
        new
    }

    async fn run_link(self: Arc<Self>, peer: PeerId, mut frames: mpsc::Receiver<Outgoing>) {
        let mut held = None;
        while let Some(first) = match held.take() {
            Some(frame) => Some(frame),
            None => frames.recv().await,
        } {
            let mut bytes = first.bytes.len();
            let mut batch = vec![first];
            while batch.len() < MAX_BATCH_FRAMES {
                let Ok(next) = frames.try_recv() else { break };
                bytes += next.bytes.len();
                if bytes > MAX_BATCH_BYTES {
                    held = Some(next);
                    break;
                }
                batch.push(next);
            }
            // A batch that does not arrive is not repeated here: Tips show what is missing.
            if let Some(outcomes) = self.push_batch(&peer, &batch).await {
                // What this device sealed is right, unless another copy of it used the key before.
                let own_refused = batch
                    .iter()
                    .zip(&outcomes)
                    .any(|(frame, outcome)| frame.custody.is_some() && *outcome == FrameOutcome::Rejected);
                let held = |outcome| matches!(outcome, FrameOutcome::Stored | FrameOutcome::Duplicate);
                let stored = batch.iter().zip(outcomes).filter(|(_, outcome)| held(*outcome));
                self.take_custody(stored.filter_map(|(frame, _)| frame.custody).collect()).await;
                if own_refused {
                    self.find_out_why(&peer).await;
                }
            }
        }
    }

    /// A peer refused what this device sealed: it may hold what another copy of this vault sent.
    async fn find_out_why(self: &Arc<Self>, peer: &PeerId) {
        let Some(certificate) = self.links.certificate(peer) else { return };
        let shared = async {
            let mut reader = self.vault.read().await?;
            peer::shared_groups(reader.conn(), &certificate).await
        };
        let shared: Result<_, StoreError> = shared.await;
        for gid in shared.unwrap_or_default() {
            self.listen_for_echo(gid, peer).await;
        }
    }

    /// Pushes frames; gives what became of each, or nothing when the peer did not answer.
    async fn push_batch(&self, peer: &PeerId, batch: &[Outgoing]) -> Option<Vec<FrameOutcome>> {
        let frames = batch.iter().map(|frame| frame.bytes.to_vec()).collect();
        let request = peer_request::Kind::PushFrames(PushFrames { frames });
        for _ in 0..UNKNOWN_PEER_TRIES {
            match self.ask(peer, request.clone()).await? {
                peer_response::Kind::PushFrames(reply) if reply.outcomes.len() == batch.len() => {
                    return Some(reply.outcomes().collect());
                }
                peer_response::Kind::Refusal(refusal) if refusal.reason() == RefusalReason::UnknownPeer => {
                    tokio::time::sleep(UNKNOWN_PEER_WAIT).await;
                }
                _ => return None,
            }
        }
        None
    }

    /// Pushes frames outside the queue; true when the peer holds them all, or has no use for them.
    pub(super) async fn push_now(&self, peer: &PeerId, frames: Vec<Vec<u8>>) -> bool {
        for frames in delivery::chunks(frames, MAX_BATCH_BYTES, Vec::len) {
            let batch: Vec<_> = frames.into_iter().map(Outgoing::untracked).collect();
            for batch in batch.chunks(MAX_BATCH_FRAMES) {
                let Some(outcomes) = self.push_batch(peer, batch).await else { return false };
                if !outcomes.into_iter().all(is_settled) {
                    return false;
                }
            }
        }
        true
    }

    /// One request to a peer; `None` when it did not answer sensibly.
    pub(super) async fn ask(
        &self,
        peer: &PeerId,
        request: peer_request::Kind,
    ) -> Option<peer_response::Kind> {
        let request = PeerRequest { kind: Some(request) }.encode_to_vec();
        let response = self.router.request(peer, request).await.ok()?;
        PeerResponse::decode(&*response).ok()?.kind
    }
}

/// Whether pushing the frame again would change nothing: whoever left already has no state to open it.
fn is_settled(outcome: FrameOutcome) -> bool {
    matches!(outcome, FrameOutcome::Stored | FrameOutcome::Duplicate | FrameOutcome::Foreign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_peer_is_asked_again() {
        assert!(!is_settled(FrameOutcome::Busy));
        assert!(!is_settled(FrameOutcome::Rejected));
        assert!(is_settled(FrameOutcome::Duplicate) && is_settled(FrameOutcome::Foreign));
    }
}
