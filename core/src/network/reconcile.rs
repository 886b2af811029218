//! Reconciliation: the frames of a group that a peer knows and this device does not are fetched from it.
//!
//! Pushing is only a hint; this is how a member who was away, or missed a push, gets everything, from
//! whoever has it. One run a group at a time, so that no frame is fetched twice. Whatever arrived is stored
//! with all it changes, so a run that is cut goes on where it ended.

mod serve;
mod take;
mod turn;

use std::{collections::HashMap, sync::Arc, time::Duration};

use spacepanda_proto::peer::v1::{FetchFrames, Reconcile, RefusalReason, peer_request, peer_response};
use tokio::time::Instant;

pub(super) use self::turn::Reconciling;
use self::turn::{Suspicion, Turn};
use super::{
    Network, SlotError,
    link::{UNKNOWN_PEER_TRIES, UNKNOWN_PEER_WAIT},
    misbehaviour::Offence,
};
use crate::{
    certificate::Certificate,
    id::{FramePlace, GroupId, LogId},
    reconcile::{FrameSet, MAX_PLACES, first_place},
    router::PeerId,
    store::{frame_set, logbook, mls},
};

/// What a Tip shows to be missing is left this long to the push that may be on its way.
const SETTLE: Duration = Duration::from_millis(300);
/// One run takes this long at most, then others have their turn.
const DEADLINE: Duration = Duration::from_secs(60);
/// Frames that a run brings at least, or its peer is left alone until something is missing again.
const LEAST: usize = 16;
/// Messages of one comparison: four would do for any set of the size that is compared.
const MAX_ROUNDS: usize = 32;
/// A peer that is busy is asked again after this.
const BUSY_WAIT: Duration = Duration::from_millis(200);
/// Places of one request.
pub(super) const MAX_FETCHED: usize = 512;
/// Bytes of one page.
pub(super) const PAGE_BYTES: usize = 512 * 1024;

/// What this device seems to lack.
pub(super) enum Lack {
    /// The state with this tag.
    State([u8; 16]),
    /// Events up to where another device is in each log.
    Events(HashMap<LogId, u64>),
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Nothing is lacking that the peer would give.
    Done,
    /// There is more: go on after the others.
    Unfinished,
}

/// Why a run failed.
enum Failed {
    /// The peer did not answer, or would not.
    Peer,
    /// The peer's answers make no sense.
    Nonsense,
    /// The vault or the group.
    Slot(SlotError),
}

impl<E: Into<SlotError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Slot(error.into())
    }
}

impl Network {
    /// Brings this device's frames of a group up to what a peer knows, when it is time again; returns when
    /// that is done or cannot be.
    pub(super) async fn reconcile(self: &Arc<Self>, gid: GroupId, peer: &PeerId) {
        let turn = self.reconciling.turn(gid);
        let mut ended = Ended::Unfinished;
        while ended == Ended::Unfinished {
            // Whoever else waits for the group comes first.
            let _running = turn.running().await;
            let Some(certificate) = self.links.certificate(peer) else { return };
            if !self.reconciling.is_due(gid, peer, Instant::now()) {
                return;
            }
            let run = Box::pin(self.fetch_what_is_lacking(gid, peer, &certificate, &turn)).await;
            if turn.rest() {
                // What was held back meanwhile.
                self.tips.soon(gid);
                self.wake.outbox.notify_one();
            }
            if matches!(run, Ok(Ended::Unfinished)) || self.links.certificate(peer).is_none() {
                self.reconciling.at_once_again(gid, peer);
            }
            ended = match run {
                Ok(Ended::Unfinished) => Ended::Unfinished,
                Ok(Ended::Done) | Err(Failed::Peer | Failed::Slot(SlotError::NotAMember)) => return,
                Err(Failed::Nonsense) => {
                    self.offend(peer, Offence::Malformed);
                    return;
                }
                Err(Failed::Slot(error)) => {
                    tracing::warn!(%error, "frames could not be fetched");
                    return;
                }
            };
        }
    }

    /// A peer seems to have what this device lacks: looks again in a moment, and fetches it.
    pub(super) fn suspect(self: &Arc<Self>, gid: GroupId, peer: &PeerId, lack: Lack) {
        let Some(wait) = self.reconciling.suspect(gid, peer, lack, Instant::now()) else { return };
        let (network, peer) = (Arc::clone(self), *peer);
        self.spawn("reconcile", async move {
            tokio::time::sleep(wait.max(SETTLE)).await;
            let suspicion = network.reconciling.looks(gid, &peer);
            match network.is_lacking(gid, &suspicion).await {
                Ok(true) => network.reconcile(gid, &peer).await,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "what is missing cannot be told"),
            }
        });
    }

    async fn is_lacking(&self, gid: GroupId, suspicion: &Suspicion) -> Result<bool, SlotError> {
        let mut reader = self.vault.read().await?;
        for tag in suspicion.states() {
            if mls::state_by_tag(reader.conn(), tag).await?.is_none() {
                return Ok(true);
            }
        }
        let Some(said) = suspicion.logs() else { return Ok(false) };
        let logs = logbook::logs(reader.conn(), gid).await?;
        let held = |log| logs.iter().find(|(id, _)| *id == log).map_or(0, |(_, row)| row.contiguous);
        Ok(said.iter().any(|(log, said)| *said > held(*log)))
    }

    async fn fetch_what_is_lacking(
        self: &Arc<Self>,
        gid: GroupId,
        peer: &PeerId,
        certificate: &Certificate,
        turn: &Turn,
    ) -> Result<Ended, Failed> {
        let deadline = Instant::now() + DEADLINE;
        let mut lacking = self.compare(gid, peer, deadline).await?;
        if lacking.is_empty() {
            return Ok(Ended::Done);
        }
        turn.fetches(lacking.iter().any(FramePlace::is_commit));
        tracing::debug!(frames = lacking.len(), "frames are missing");
        let mut taken = 0;
        while !lacking.is_empty() {
            let wanted: Vec<_> = lacking.drain(..lacking.len().min(MAX_FETCHED)).collect();
            let mut wanted = {
                let mut reader = self.vault.read().await?;
                frame_set::unknown(reader.conn(), wanted).await?
            };
            while !wanted.is_empty() {
                if Instant::now() >= deadline {
                    return if taken < LEAST { Err(Failed::Peer) } else { Ok(Ended::Unfinished) };
                }
                let (frames, looked_at) = self.fetch(gid, peer, &wanted, deadline).await?;
                taken += frames.len();
                let asked: Vec<_> = wanted.drain(..looked_at).collect();
                self.take_page(gid, certificate, &asked, frames).await?;
            }
        }
        Ok(Ended::Done)
    }

    /// The places that the peer knows and this device does not.
    async fn compare(
        &self,
        gid: GroupId,
        peer: &PeerId,
        deadline: Instant,
    ) -> Result<Vec<FramePlace>, Failed> {
        let (from_epoch, places) = {
            let mut reader = self.vault.read().await?;
            let from = frame_set::opens_from(reader.conn(), gid).await?.ok_or(SlotError::NotAMember)?;
            (from, frame_set::places(reader.conn(), gid, first_place(from), MAX_PLACES).await?)
        };
        let set = FrameSet::new(&places).map_err(|_| Failed::Nonsense)?;
        let (mut comparison, mut message) = set.compare().map_err(|_| Failed::Nonsense)?;
        for _ in 0..MAX_ROUNDS {
            let request = Reconcile { gid: gid.0.to_vec(), from_epoch, message };
            let answer = match self.insist(peer, peer_request::Kind::Reconcile(request), deadline).await? {
                peer_response::Kind::Reconcile(reply) => reply.message,
                _ => return Err(Failed::Peer),
            };
            match comparison.hear(&answer).map_err(|_| Failed::Nonsense)? {
                Some(next) => message = next,
                None => return Ok(comparison.lacking()),
            }
        }
        Err(Failed::Nonsense)
    }

    /// One page of the frames in these places, and how many places it covers.
    async fn fetch(
        &self,
        gid: GroupId,
        peer: &PeerId,
        wanted: &[FramePlace],
        deadline: Instant,
    ) -> Result<(Vec<Vec<u8>>, usize), Failed> {
        let places = wanted.iter().map(|place| place.0.to_vec()).collect();
        let request = peer_request::Kind::FetchFrames(FetchFrames { gid: gid.0.to_vec(), places });
        let peer_response::Kind::FetchFrames(page) = self.insist(peer, request, deadline).await? else {
            return Err(Failed::Peer);
        };
        let looked_at = usize::try_from(page.looked_at).unwrap_or(usize::MAX);
        // Less than all only where the next frame did not fit behind another.
        let goes_on = looked_at == wanted.len() || !page.frames.is_empty();
        if looked_at == 0 || looked_at > wanted.len() || page.frames.len() > looked_at || !goes_on {
            return Err(Failed::Nonsense);
        }
        Ok((page.frames, looked_at))
    }

    /// Asks a peer, again while it is busy.
    async fn insist(
        &self,
        peer: &PeerId,
        request: peer_request::Kind,
        deadline: Instant,
    ) -> Result<peer_response::Kind, Failed> {
        let mut unknown = 0;
        loop {
            let wait = match self.ask(peer, request.clone()).await.ok_or(Failed::Peer)? {
                peer_response::Kind::Refusal(refusal) => match refusal.reason() {
                    RefusalReason::Busy if Instant::now() < deadline => BUSY_WAIT,
                    // It has not checked our certificate yet.
                    RefusalReason::UnknownPeer if unknown < UNKNOWN_PEER_TRIES => {
                        unknown += 1;
                        UNKNOWN_PEER_WAIT
                    }
                    _ => return Err(Failed::Peer),
                },
                answer => return Ok(answer),
            };
            tokio::time::sleep(wait).await;
        }
    }
}
