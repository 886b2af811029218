//! Frames from peers: opened in the state their tag names, stored with all they change in one step (T4).

mod park;
mod read;
mod reuse;
mod route;
mod step;

use std::{collections::HashSet, sync::Arc};

use spacepanda_proto::peer::v1::{FrameKind, FrameOutcome, PushFrames, PushFramesReply};

use self::{
    read::{Taken, read_events, sealed_for_all},
    step::store_batch,
};
use super::{
    Network, Slot, SlotError,
    misbehaviour::{Carrier, Offence},
};
use crate::{
    certificate::Certificate,
    clock::now_ms,
    group::{
        error::{ApplicationError, FrameError},
        frame::{Frame, OpenedFrame},
    },
    id::{FrameId, FramePlace, StateId},
    journal::Reading,
    metrics::FrameResult,
    reconcile::place_of_events,
    router::PeerId,
    store::{frame::Generation, mls::TaggedState},
};

/// Frames of one push; more are refused.
const MAX_FRAMES: usize = 256;

/// A frame of a known state, as it came.
pub(super) struct Arrived {
    pub(super) state: TaggedState,
    pub(super) bytes: Vec<u8>,
}

/// A frame that was opened, and where it came from.
pub(super) struct Taking<'a> {
    pub(super) carrier: Carrier<'a>,
    pub(super) state: TaggedState,
    pub(super) frame: &'a Frame,
    pub(super) bytes: &'a [u8],
    pub(super) opened: &'a OpenedFrame,
}

/// An opened application message, not stored yet.
struct Opened {
    frame: FrameId,
    generation: Generation,
    message_hash: [u8; 32],
    env_tag: [u8; 16],
    epoch: u64,
    /// Its place and bytes, when it is for everyone.
    kept: Option<(FramePlace, Vec<u8>)>,
    events: Vec<Taken>,
}

/// Frames opened in one run, and the state rows that opening them changed.
#[derive(Default)]
struct Batch {
    opened: Vec<Opened>,
    /// Opened before, or one's own: only to be remembered.
    spent: Vec<(FrameId, [u8; 16])>,
    touched: HashSet<StateId>,
    duplicates: HashSet<FrameId>,
}

impl Network {
    /// Takes a push of frames from a verified peer.
    pub(super) async fn take_push(
        self: &Arc<Self>,
        peer: &PeerId,
        certificate: &Certificate,
        push: PushFrames,
    ) -> PushFramesReply {
        if push.frames.len() > MAX_FRAMES {
            self.offend(peer, Offence::Flood);
            let outcomes = vec![FrameOutcome::Rejected.into(); push.frames.len()];
            return PushFramesReply { outcomes };
        }
        let mut outcomes = Vec::with_capacity(push.frames.len());
        // Frames of one state usually come together.
        let mut run: Vec<Arrived> = Vec::new();
        for bytes in push.frames {
            let same = run.last().map(|last| last.state);
            let arrived = match Frame::decode(&bytes) {
                Ok(frame) if same.is_some_and(|state| state.env_tag == frame.env_tag()) => {
                    same.ok_or((FrameOutcome::Busy, FrameResult::Busy))
                }
                Ok(frame) => self.route(certificate, &frame, &bytes).await,
                Err(_) => {
                    self.offend(peer, Offence::Malformed);
                    Err((FrameOutcome::Rejected, FrameResult::Rejected))
                }
            };
            match arrived {
                Ok(state) => {
                    if same.is_some_and(|last| last.gid != state.gid) {
                        self.finish_run(peer, &mut run, &mut outcomes).await;
                    }
                    run.push(Arrived { state, bytes });
                }
                Err((outcome, result)) => {
                    self.finish_run(peer, &mut run, &mut outcomes).await;
                    self.metrics.frame(result);
                    outcomes.push(outcome);
                }
            }
        }
        self.finish_run(peer, &mut run, &mut outcomes).await;
        PushFramesReply { outcomes: outcomes.into_iter().map(Into::into).collect() }
    }

    async fn finish_run(
        self: &Arc<Self>,
        peer: &PeerId,
        run: &mut Vec<Arrived>,
        outcomes: &mut Vec<FrameOutcome>,
    ) {
        let frames = std::mem::take(run);
        let Some(gid) = frames.first().map(|first| first.state.gid) else { return };
        let count = frames.len();
        let mut slot = self.groups.lock(gid).await;
        match self.take_frames(&mut slot, Carrier { peer, asked: false }, frames).await {
            Ok(taken) => {
                taken.iter().for_each(|outcome| self.metrics.frame(result(*outcome)));
                outcomes.extend(taken);
            }
            Err(error) => {
                (0..count).for_each(|_| self.metrics.frame(FrameResult::Busy));
                // Memory may be ahead of the vault: load anew, and let the peer try again.
                slot.forget();
                tracing::warn!(%error, "frames could not be taken");
                outcomes.extend(std::iter::repeat_n(FrameOutcome::Busy, count));
            }
        }
    }

    /// Takes frames of one group, in order; commits and Tips take their turn among them.
    pub(super) async fn take_frames(
        self: &Arc<Self>,
        slot: &mut Slot,
        carrier: Carrier<'_>,
        frames: Vec<Arrived>,
    ) -> Result<Vec<FrameOutcome>, SlotError> {
        let mut outcomes = Vec::with_capacity(frames.len());
        let mut batch = Batch::default();
        for Arrived { state, bytes } in frames {
            let Ok(frame) = Frame::decode(&bytes) else { return Err(SlotError::Pruned) };
            if batch.duplicates.contains(&frame.id()) {
                outcomes.push(FrameOutcome::Duplicate);
                continue;
            }
            let opened = match self.open(slot, &state, &frame).await? {
                Ok(opened) => opened,
                Err(outcome) => {
                    if outcome == FrameOutcome::Rejected {
                        self.blame(carrier, Offence::Malformed);
                    }
                    outcomes.push(outcome);
                    continue;
                }
            };
            let taken = Taking { carrier, state, frame: &frame, bytes: &bytes, opened: &opened };
            let outcome = match opened.kind {
                FrameKind::Application => self.open_application(slot, &taken, &mut batch).await?,
                FrameKind::Commit => {
                    self.store(slot, carrier, std::mem::take(&mut batch)).await?;
                    Box::pin(self.take_commit(slot, &taken)).await?
                }
                FrameKind::Tip => {
                    self.store(slot, carrier, std::mem::take(&mut batch)).await?;
                    Box::pin(self.take_tip(slot, &taken)).await?
                }
                FrameKind::Unspecified => FrameOutcome::Rejected,
            };
            outcomes.push(outcome);
        }
        self.store(slot, carrier, batch).await?;
        Ok(outcomes)
    }

    async fn open(
        &self,
        slot: &mut Slot,
        state: &TaggedState,
        frame: &Frame,
    ) -> Result<Result<OpenedFrame, FrameOutcome>, SlotError> {
        match slot.state(&self.vault, state.sid).await {
            Ok(state) => Ok(state.open_frame(frame).map_err(|error| match error {
                FrameError::WrongState => FrameOutcome::Foreign,
                FrameError::Malformed | FrameError::Seal | FrameError::Content => FrameOutcome::Rejected,
            })),
            Err(SlotError::Pruned | SlotError::NotAMember) => Ok(Err(FrameOutcome::Foreign)),
            Err(error) => Err(error),
        }
    }

    async fn open_application(
        self: &Arc<Self>,
        slot: &mut Slot,
        taking: &Taking<'_>,
        batch: &mut Batch,
    ) -> Result<FrameOutcome, SlotError> {
        let Taking { carrier, frame, opened, .. } = taking;
        let spent = (frame.id(), frame.env_tag());
        let sid = taking.state.sid;
        let epoch = self.canonical_epoch(slot, &taking.state).await?;
        let state = slot.state(&self.vault, sid).await?;
        let application = match state.open_application(opened) {
            Ok(application) => application,
            Err(ApplicationError::Own) => return Ok(batch.repeated(spent)),
            Err(error @ (ApplicationError::Reused | ApplicationError::TooOld)) => {
                return self.without_key(taking, error, batch).await;
            }
            // Its events come again on a later state, carried by someone who has them.
            Err(ApplicationError::TooFar) => return Ok(FrameOutcome::Foreign),
            Err(ApplicationError::WrongSender) => {
                self.blame(*carrier, Offence::WrongSender);
                return Ok(FrameOutcome::Rejected);
            }
            Err(ApplicationError::Malformed | ApplicationError::Invalid) => {
                self.blame(*carrier, Offence::Signature);
                return Ok(FrameOutcome::Rejected);
            }
        };
        batch.touched.insert(sid);
        batch.duplicates.insert(frame.id());
        let events = match read_events(slot.gid(), &application) {
            Ok(events) => events,
            Err(offence) => {
                self.blame(*carrier, offence);
                Vec::new()
            }
        };
        batch.opened.push(Opened {
            frame: frame.id(),
            generation: taking.generation(),
            message_hash: opened.body_hash(),
            env_tag: frame.env_tag(),
            epoch,
            kept: sealed_for_all(&events).map(|lamport| {
                (place_of_events(taking.state.epoch, lamport, frame.id()), taking.bytes.into())
            }),
            events,
        });
        Ok(FrameOutcome::Stored)
    }

    /// The epoch that what was sealed in a state counts from: of an abandoned branch where it left the way.
    async fn canonical_epoch(&self, slot: &mut Slot, state: &TaggedState) -> Result<u64, SlotError> {
        let head = slot.head_id(&self.vault).await?;
        if head == state.sid {
            return Ok(state.epoch);
        }
        let dag = slot.dag(&self.vault, self.keys.device_id()).await?;
        let canonical = dag.canonical(&state.sid, &head).and_then(|sid| dag.node(&sid));
        Ok(canonical.map_or(state.epoch, |node| node.epoch))
    }

    /// One transaction: ratchets, frames, events, what people see.
    async fn store(
        self: &Arc<Self>,
        slot: &mut Slot,
        carrier: Carrier<'_>,
        batch: Batch,
    ) -> Result<(), SlotError> {
        if batch.opened.is_empty() && batch.spent.is_empty() {
            return Ok(());
        }
        let gid = slot.gid();
        let mut changes = Vec::new();
        for sid in &batch.touched {
            changes.push((*sid, slot.state(&self.vault, *sid).await?.take_changes()?));
        }
        let members = slot.members(&self.vault).await?;
        let (me, loopback) = (self.keys.account(), self.router.is_loopback());
        let (effects, verdict) = self
            .vault
            .write(move |tx| {
                Box::pin(async move {
                    let reading = Reading { me, members: &members, loopback, now: now_ms() };
                    store_batch(tx, gid, &reading, changes, batch).await
                })
            })
            .await?;
        for offence in verdict.offences {
            self.blame(carrier, offence);
        }
        for offence in verdict.others {
            self.metrics.reject(offence);
        }
        self.metrics.events_processed.inc_by(verdict.processed);
        if verdict.parked && !carrier.asked {
            // Whoever sent it refers to what is missing here, and so has it.
            let pull = self.sealed_tip(slot, true).await?;
            self.links.push(carrier.peer, pull);
        }
        if effects.addresses_changed {
            self.wake.dial.notify_one();
        }
        if effects.request_opened {
            self.wake.commit.notify_one();
        }
        // Whoever sent only what is refused would send it again on our next Tip.
        if verdict.taken || !verdict.refused {
            self.group_changed(gid);
        }
        Ok(())
    }
}

/// Whether a message's plaintext can be read.
#[cfg(feature = "testing")]
pub(super) fn reads(gid: crate::id::GroupId, application: &crate::group::message::Application) -> bool {
    read_events(gid, application).is_ok()
}

pub(super) fn result(outcome: FrameOutcome) -> FrameResult {
    match outcome {
        FrameOutcome::Stored => FrameResult::Stored,
        FrameOutcome::Duplicate => FrameResult::Duplicate,
        FrameOutcome::Foreign => FrameResult::Foreign,
        FrameOutcome::Rejected | FrameOutcome::Unspecified => FrameResult::Rejected,
        FrameOutcome::Busy => FrameResult::Busy,
    }
}
