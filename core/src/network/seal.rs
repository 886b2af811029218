//! The outbox worker: queued events are sealed on the head when it is time, and only then leave (T2).

use std::{sync::Arc, time::Instant};

use prost::Message as _;
use spacepanda_proto::peer::v1::{ApplicationPlaintext, Fresh, application_plaintext};
use tokio::sync::broadcast::{self, error::RecvError};

use super::{Network, RETRY, SlotError, departure::Departures, groups::Ahead, link::Outgoing, until};
use crate::{
    clock::now_ms,
    group::frame::Frame,
    id::GroupId,
    reconcile::place_of_events,
    router::PeerId,
    store::{
        Notice, StoreError, WriteTx, frame, mls,
        outbox::{self, QueuedEvent},
    },
};

/// Events of one frame.
const MAX_EVENTS: u32 = 128;
/// Event bytes of one frame, unless a single event is larger: the frame stays within 60 KiB.
const MAX_BYTES: usize = 56 * 1024;

impl Network {
    /// Seals what is queued, whenever something is and someone is there to take it.
    pub(super) async fn seal_outbox(self: Arc<Self>) {
        let mut notices = self.vault.notices();
        let mut waiting = Departures::default();
        let mut retry = later(self.seal_all(&mut waiting).await);
        loop {
            tokio::select! {
                () = self.wake.outbox.notified() => retry = later(self.seal_all(&mut waiting).await),
                queued = next_outbox(&mut notices) => match queued {
                    // What failed in another group keeps its time.
                    Queued::In(gid) => retry = retry.or(later(self.seal_in_time(gid, &mut waiting).await)),
                    Queued::Somewhere => retry = later(self.seal_all(&mut waiting).await),
                    Queued::Closed => return,
                },
                () = until(waiting.next()) => for gid in waiting.take_due(Instant::now()) {
                    retry = retry.or(later(self.seal_group(gid).await));
                },
                () = until(retry) => retry = later(self.seal_all(&mut waiting).await),
            }
        }
    }

    /// Seals a group's queued events if they may leave; what has to wait has a time then. False when that
    /// failed.
    async fn seal_in_time(self: &Arc<Self>, gid: GroupId, waiting: &mut Departures) -> bool {
        match self.may_leave(gid, waiting).await {
            Ok(true) => self.seal_group(gid).await,
            Ok(false) | Err(SlotError::NotAMember) => true,
            Err(error) => {
                tracing::warn!(%error, "the outbox cannot be read");
                false
            }
        }
    }

    /// True when nothing failed.
    async fn seal_all(self: &Arc<Self>, waiting: &mut Departures) -> bool {
        match self.vault.peek(|conn| Box::pin(outbox::groups_with_queued(conn))).await {
            Ok(groups) => {
                let mut done = true;
                for gid in groups {
                    done &= self.seal_in_time(gid, waiting).await;
                }
                done
            }
            Err(error) => {
                tracing::warn!(%error, "the outbox cannot be read");
                false
            }
        }
    }

    /// Seals a group's queued events; false when that failed. A full disk or a state that does not load
    /// can be the cause, never a single event: each fits one frame (see the test).
    async fn seal_group(self: &Arc<Self>, gid: GroupId) -> bool {
        loop {
            match Box::pin(self.seal_batch(gid)).await {
                Ok(true) => {}
                Ok(false) | Err(SlotError::NotAMember) => return true,
                Err(error) => {
                    tracing::warn!(%error, "queued events could not be sealed");
                    return false;
                }
            }
        }
    }

    /// Seals one frame of a group's queued events and pushes it; true when more are queued.
    async fn seal_batch(self: &Arc<Self>, gid: GroupId) -> Result<bool, SlotError> {
        if self.reconciling.is_behind(gid) {
            return Ok(false);
        }
        let mut slot = self.groups.lock(gid).await;
        let peers = self.connected_members(&mut slot).await?;
        if peers.is_empty() {
            // Nobody would take it: stay queued and seal on the head of that later moment.
            return Ok(false);
        }
        if !self.echoes.is_confirmed(gid) {
            // An old copy of this vault would use its keys again: somebody has to tell first.
            self.need_echo(gid, peers.into_iter().map(|(_, peer)| peer).collect());
            return Ok(false);
        }
        slot.head(&self.vault).await?;
        let mut ahead = Ahead::of(slot);
        let network = Arc::clone(self);
        let sealed = self.vault.write(move |tx| {
            Box::pin(async move {
                let sealed = network.seal_queued(tx, &mut ahead).await?;
                Ok::<_, SlotError>((sealed, ahead))
            })
        });
        let (sealed, ahead) = sealed.await?;
        let more = sealed.is_some_and(|sealed| self.push_sealed(sealed));
        ahead.settled();
        Ok(more)
    }

    /// Seals queued events of a group in the step that wrote them, if nothing has to be waited or fetched for.
    /// What cannot be sealed now is left to [`Self::seal_outbox`], and so is the reason.
    ///
    /// # Errors
    /// [`StoreError`]: the step must not be kept.
    pub(crate) async fn seal_at_once(
        &self,
        tx: &mut WriteTx<'_>,
        gid: GroupId,
    ) -> Result<Option<(Sealed, Ahead)>, StoreError> {
        if self.reconciling.is_behind(gid) || !self.echoes.is_confirmed(gid) {
            return Ok(None);
        }
        let Some(slot) = self.groups.try_lock(gid) else { return Ok(None) };
        let mut ahead = Ahead::of(slot);
        match self.seal_queued(tx, &mut ahead).await {
            Ok(Some(sealed)) => {
                if !sealed.more {
                    tx.answered(Notice::Outbox(gid));
                }
                Ok(Some((sealed, ahead)))
            }
            Ok(None) => {
                ahead.settled();
                Ok(None)
            }
            Err(SlotError::Store(error)) => Err(error),
            Err(SlotError::Group(_) | SlotError::NotAMember | SlotError::Pruned) => Ok(None),
        }
    }

    /// Seals a frame of queued events with what is loaded of the group; writes nothing before that succeeded.
    async fn seal_queued(
        &self,
        tx: &mut WriteTx<'_>,
        ahead: &mut Ahead,
    ) -> Result<Option<Sealed>, SlotError> {
        let Some(slot) = ahead.slot() else { return Ok(None) };
        let gid = slot.gid();
        let Some((state, members)) = slot.loaded() else { return Ok(None) };
        let peers: Vec<_> = self.linked_members(members).map(|(_, peer)| peer).collect();
        let recipients = members.others(&self.keys.account());
        let queued = match peers.as_slice() {
            [] => Vec::new(),
            _ => outbox::queued_events(tx.conn(), gid, MAX_EVENTS).await?,
        };
        let Some(Fitting { events, last, lamport, more }) = Fitting::of(queued) else { return Ok(None) };
        let plaintext =
            ApplicationPlaintext { kind: Some(application_plaintext::Kind::Fresh(Fresh { events })) };
        let sealed = state.seal_application(&self.keys.identity, &plaintext.encode_to_vec())?;
        let changes = state.take_changes()?;
        let facts = state.facts();
        let own = frame::NewFrame {
            id: sealed.id,
            gid: Some(gid),
            env_tag: &facts.env_tag,
            bytes: Some(&sealed.bytes),
            status: frame::FrameStatus::Own,
            carrier: None,
            place: Some(place_of_events(facts.epoch, lamport, sealed.id)),
        };
        mls::store_rows(tx.conn(), gid, facts.sid, &changes).await?;
        frame::insert(tx.conn(), &own, now_ms()).await?;
        outbox::sealed(tx.conn(), gid, last, sealed.id, (facts.epoch, recipients)).await?;
        let frame = Outgoing { bytes: sealed.bytes.into(), custody: Some(sealed.id) };
        Ok(Some(Sealed { frame, peers, more }))
    }

    /// Sends what was sealed, once that is durable; true when more is queued.
    pub(crate) fn push_sealed(&self, sealed: Sealed) -> bool {
        for peer in sealed.peers {
            self.links.push(&peer, sealed.frame.clone());
        }
        sealed.more
    }

    /// Own frames that no other server stored yet go to a peer that has just come: the same bytes.
    pub(super) async fn push_unstored(&self, gid: GroupId, peer: &PeerId) -> Result<(), StoreError> {
        let frames = {
            let mut reader = self.vault.read().await?;
            frame::own_unstored(reader.conn(), gid, MAX_EVENTS).await?
        };
        for bytes in frames {
            if let Ok(frame) = Frame::decode(&bytes) {
                self.links.push(peer, Outgoing { bytes: bytes.into(), custody: Some(frame.id()) });
            }
        }
        Ok(())
    }
}

/// When to try again.
fn later(done: bool) -> Option<Instant> {
    (!done).then(|| Instant::now() + RETRY)
}

/// Where something was queued.
enum Queued {
    In(GroupId),
    /// Notices were missed: look at everything.
    Somewhere,
    /// The vault is closed.
    Closed,
}

async fn next_outbox(notices: &mut broadcast::Receiver<Notice>) -> Queued {
    loop {
        match notices.recv().await {
            Ok(Notice::Outbox(gid)) => return Queued::In(gid),
            Ok(Notice::Feed(_)) => {}
            Err(RecvError::Lagged(_)) => return Queued::Somewhere,
            Err(RecvError::Closed) => return Queued::Closed,
        }
    }
}

/// A frame of queued events, and who is there to take it.
pub(crate) struct Sealed {
    frame: Outgoing,
    peers: Vec<PeerId>,
    /// More events are queued.
    more: bool,
}

/// Queued events that fit one frame.
struct Fitting {
    events: Vec<Vec<u8>>,
    /// The outbox row of the last one.
    last: i64,
    /// The lamport of the first one.
    lamport: u64,
    more: bool,
}

impl Fitting {
    /// The first of what was found queued; at least one, if any is.
    fn of(queued: Vec<QueuedEvent>) -> Option<Self> {
        let (found, mut bytes) = (queued.len(), 0);
        let lamport = queued.first()?.lamport;
        let mut fits = |event: &QueuedEvent| {
            let first = bytes == 0;
            // Four bytes of protobuf framing an event.
            bytes += event.signed.len() + 4;
            first || bytes <= MAX_BYTES
        };
        let fitting = queued.into_iter().take_while(|event| fits(event));
        let (rows, events): (Vec<_>, Vec<_>) = fitting.map(|event| (event.id, event.signed)).unzip();
        let more = events.len() < found || found == MAX_EVENTS as usize;
        Some(Self { last: *rows.last()?, lamport, events, more })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{event::MAX_EVENT_BYTES, group::message::MAX_PLAINTEXT_BYTES};

    #[test]
    fn any_single_event_fits_one_frame() {
        // As signed, with its signature and protobuf's framing.
        let largest = vec![0; MAX_EVENT_BYTES + 128];
        let events = vec![largest.clone()];
        let plaintext =
            ApplicationPlaintext { kind: Some(application_plaintext::Kind::Fresh(Fresh { events })) };
        assert!(plaintext.encoded_len() <= MAX_PLAINTEXT_BYTES);
        let first = |queued: Vec<(i64, Vec<u8>)>| {
            let queued = queued.into_iter().map(|(id, signed)| QueuedEvent { id, lamport: 10, signed });
            let fitting = Fitting::of(queued.collect())?;
            Some((fitting.last, fitting.events.len(), fitting.more))
        };
        assert_eq!(first(vec![(1, largest.clone()), (2, largest)]), Some((1, 1, true)));
        assert_eq!(first(vec![(1, vec![0; 2 * MAX_BYTES])]), Some((1, 1, false)), "never none");
        assert_eq!(first(vec![(1, vec![0; 9]), (4, vec![0; 9])]), Some((4, 2, false)));
        assert_eq!(first(Vec::new()), None);
    }
}
