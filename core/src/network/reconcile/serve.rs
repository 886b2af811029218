//! What others may ask for: the frames of groups that they are in, one request at a time and 1 MiB a second.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use spacepanda_proto::peer::v1::{
    FetchFrames, FetchFramesReply, Reconcile, ReconcileReply, RefusalReason, peer_response,
};
use tokio::time::Instant;

use super::{MAX_FETCHED, PAGE_BYTES};
use crate::{
    certificate::Certificate,
    id::{FramePlace, GroupId},
    network::{Network, misbehaviour::Offence, pump::refused},
    reconcile::{FrameSet, MAX_MESSAGE_BYTES, MAX_PLACES, first_place},
    router::PeerId,
    store::{StoreError, frame_set},
};

/// Bytes a second for one peer.
const RATE: u32 = 1 << 20;
/// Bytes at once for a peer that has not asked for a while.
const BURST: u32 = 4 << 20;
/// What a request costs besides its answer, bytes: it is looked up in a large table.
const COST: usize = 32 * 1024;
/// Peers that are remembered; beyond it those that have their whole burst again are forgotten.
const MAX_REMEMBERED: usize = 1_024;

/// What peers were given of late.
#[derive(Default)]
pub(in crate::network) struct Served(Mutex<HashMap<PeerId, Budget>>);

struct Budget {
    /// May be below zero: a request is counted when it is answered.
    left: f64,
    at: Instant,
    busy: bool,
}

impl Budget {
    fn refill(&mut self, now: Instant) {
        let earned = now.duration_since(self.at).as_secs_f64() * f64::from(RATE);
        self.left = (self.left + earned).min(f64::from(BURST));
        self.at = now;
    }
}

impl Served {
    fn with<T>(&self, f: impl FnOnce(&mut HashMap<PeerId, Budget>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Begins to serve a peer; not while it is being served, nor when it has had its share.
    fn begin(&self, peer: &PeerId, now: Instant) -> Option<Serving<'_>> {
        self.with(|peers| {
            if peers.len() >= MAX_REMEMBERED && !peers.contains_key(peer) {
                peers.retain(|_, budget| {
                    budget.refill(now);
                    budget.busy || budget.left < f64::from(BURST)
                });
            }
            let budget =
                peers.entry(*peer).or_insert(Budget { left: f64::from(BURST), at: now, busy: false });
            budget.refill(now);
            if budget.busy || budget.left <= 0.0 {
                return false;
            }
            budget.busy = true;
            true
        })
        .then(|| Serving { served: self, peer: *peer, bytes: COST })
    }
}

/// A request of a peer that is being served; counted when it ends.
struct Serving<'a> {
    served: &'a Served,
    peer: PeerId,
    bytes: usize,
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        let bytes = u32::try_from(self.bytes).unwrap_or(u32::MAX);
        self.served.with(|peers| {
            if let Some(budget) = peers.get_mut(&self.peer) {
                budget.busy = false;
                budget.left -= f64::from(bytes);
            }
        });
    }
}

impl Network {
    /// Compares the frames of a group with a member's.
    pub(in crate::network) async fn compare_with(
        self: &Arc<Self>,
        peer: &PeerId,
        certificate: &Certificate,
        request: Reconcile,
    ) -> peer_response::Kind {
        let Some(mut serving) = self.reconciling.served.begin(peer, Instant::now()) else {
            return refused(RefusalReason::Busy);
        };
        let Ok(gid) = GroupId::try_from(&*request.gid) else { return self.nonsense(peer) };
        if request.message.len() > MAX_MESSAGE_BYTES {
            return self.nonsense(peer);
        }
        let known = async {
            let mut reader = self.vault.read().await?;
            let Some(joined) = frame_set::entitled_from(reader.conn(), gid, certificate).await? else {
                return Ok(None);
            };
            let from = first_place(joined.max(request.from_epoch));
            Ok::<_, StoreError>(Some(frame_set::places(reader.conn(), gid, from, MAX_PLACES).await?))
        };
        match known.await {
            Ok(Some(places)) => {
                let answer = FrameSet::new(&places).and_then(|set| set.answer(&request.message));
                let Ok(message) = answer else { return self.nonsense(peer) };
                self.repairs.serves(gid, certificate.device, false);
                serving.bytes += message.len();
                peer_response::Kind::Reconcile(ReconcileReply { message })
            }
            Ok(None) => refused(RefusalReason::NotAMember),
            Err(error) => {
                tracing::warn!(%error, "frames cannot be compared");
                refused(RefusalReason::Busy)
            }
        }
    }

    /// Gives a member the frames that it asks for.
    pub(in crate::network) async fn hand_out(
        self: &Arc<Self>,
        peer: &PeerId,
        certificate: &Certificate,
        request: FetchFrames,
    ) -> peer_response::Kind {
        let Some(mut serving) = self.reconciling.served.begin(peer, Instant::now()) else {
            return refused(RefusalReason::Busy);
        };
        let Ok(gid) = GroupId::try_from(&*request.gid) else { return self.nonsense(peer) };
        if request.places.is_empty() || request.places.len() > MAX_FETCHED {
            return self.nonsense(peer);
        }
        let places: Result<Vec<_>, _> =
            request.places.iter().map(|place| FramePlace::try_from(&**place)).collect();
        let Ok(places) = places else { return self.nonsense(peer) };
        let page = async {
            let mut reader = self.vault.read().await?;
            let Some(joined) = frame_set::entitled_from(reader.conn(), gid, certificate).await? else {
                return Ok(None);
            };
            let first = first_place(joined);
            if places.iter().any(|place| *place < first) {
                return Ok(None);
            }
            Ok::<_, StoreError>(Some(frame_set::page(reader.conn(), gid, &places, PAGE_BYTES).await?))
        };
        match page.await {
            Ok(Some((frames, looked_at))) => {
                serving.bytes += frames.iter().map(Vec::len).sum::<usize>();
                self.repairs.serves(gid, certificate.device, true);
                let looked_at = u32::try_from(looked_at).unwrap_or(u32::MAX);
                peer_response::Kind::FetchFrames(FetchFramesReply { frames, looked_at })
            }
            Ok(None) => refused(RefusalReason::NotAMember),
            Err(error) => {
                tracing::warn!(%error, "frames cannot be read");
                refused(RefusalReason::Busy)
            }
        }
    }

    fn nonsense(self: &Arc<Self>, peer: &PeerId) -> peer_response::Kind {
        self.offend(peer, Offence::Malformed);
        refused(RefusalReason::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_peer_is_served_one_request_at_a_time_and_within_its_share() {
        let (served, start) = (Served::default(), Instant::now());
        let peer = PeerId::of_secret(&[1; 32]).unwrap();
        let first = served.begin(&peer, start).unwrap();
        assert!(served.begin(&peer, start).is_none(), "one at a time");
        drop(first);
        let mut rounds = 0;
        while let Some(mut serving) = served.begin(&peer, start) {
            serving.bytes += PAGE_BYTES;
            rounds += 1;
        }
        assert_eq!(rounds, 8, "4 MiB at once");
        assert!(served.begin(&peer, start + Duration::from_secs(1)).is_some(), "and 1 MiB a second");
        assert!(served.begin(&PeerId::of_secret(&[2; 32]).unwrap(), start).is_some());
    }
}
