//! The outbox worker: queued events are sealed on the head, and only then leave (T2).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use prost::Message as _;
use spacepanda_proto::peer::v1::{ApplicationPlaintext, Fresh, application_plaintext};
use tokio::sync::broadcast::{self, error::RecvError};

use super::{Network, Slot, SlotError, link::Outgoing};
use crate::{
    clock::now_ms,
    group::frame::Frame,
    id::GroupId,
    store::{Notice, StoreError, frame, mls, outbox},
};

/// Events of one frame.
const MAX_EVENTS: u32 = 128;
/// Event bytes of one frame, unless a single event is larger: the frame stays within 60 KiB.
const MAX_BYTES: usize = 56 * 1024;
/// What could not be sealed is tried again after this long, when nothing calls for it before.
const RETRY: Duration = Duration::from_secs(10);

impl Network {
    /// Seals what is queued, whenever something is and someone is there to take it.
    pub(super) async fn seal_outbox(self: Arc<Self>) {
        let mut notices = self.vault.notices();
        let mut retry = later(self.seal_all().await);
        loop {
            tokio::select! {
                () = self.wake.outbox.notified() => retry = later(self.seal_all().await),
                queued = next_outbox(&mut notices) => match queued {
                    // What failed in another group keeps its time.
                    Queued::In(gid) => retry = retry.or(later(self.seal_group(gid).await)),
                    Queued::Somewhere => retry = later(self.seal_all().await),
                    Queued::Closed => return,
                },
                () = until(retry) => retry = later(self.seal_all().await),
            }
        }
    }

    /// True when nothing failed.
    async fn seal_all(&self) -> bool {
        let groups = async {
            let mut reader = self.vault.read().await?;
            outbox::groups_with_queued(reader.conn()).await
        };
        match groups.await {
            Ok(groups) => {
                let mut done = true;
                for gid in groups {
                    done &= self.seal_group(gid).await;
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
    async fn seal_group(&self, gid: GroupId) -> bool {
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

    /// Seals one frame of a group's queued events and pushes it; true when there was one.
    async fn seal_batch(&self, gid: GroupId) -> Result<bool, SlotError> {
        let mut slot = self.groups.lock(gid).await;
        let peers = self.connected_members(&mut slot).await?;
        if peers.is_empty() {
            // Nobody would take it: stay queued and seal on the head of that later moment.
            return Ok(false);
        }
        let queued = {
            let mut reader = self.vault.read().await?;
            outbox::queued_events(reader.conn(), gid, MAX_EVENTS).await?
        };
        if queued.is_empty() {
            return Ok(false);
        }
        let sealed = self.seal_events(&mut slot, fitting(queued)).await;
        if sealed.is_err() {
            slot.forget();
        }
        let frame = sealed?;
        for (_, peer) in peers {
            self.links.push(&peer, frame.clone());
        }
        Ok(true)
    }

    async fn seal_events(&self, slot: &mut Slot, queued: Vec<(i64, Vec<u8>)>) -> Result<Outgoing, SlotError> {
        let gid = slot.gid();
        let last = queued.last().map_or(0, |(row, _)| *row);
        let events = queued.into_iter().map(|(_, signed)| signed).collect();
        let plaintext =
            ApplicationPlaintext { kind: Some(application_plaintext::Kind::Fresh(Fresh { events })) }
                .encode_to_vec();
        let recipients = slot.members(&self.vault).await?.others(&self.keys.account());
        let state = slot.head(&self.vault).await?;
        let sealed = state.seal_application(&self.keys.identity, &plaintext)?;
        let (sid, epoch, env_tag) = (state.facts().sid, state.facts().epoch, state.facts().env_tag);
        let changes = state.take_changes()?;
        let bytes: Arc<[u8]> = sealed.bytes.into();
        let (stored, id) = (Arc::clone(&bytes), sealed.id);
        self.vault
            .write(move |tx| {
                Box::pin(async move {
                    let conn = tx.conn();
                    mls::store_rows(conn, gid, sid, &changes).await?;
                    let own = frame::NewFrame {
                        id,
                        gid: Some(gid),
                        env_tag: &env_tag,
                        bytes: Some(&stored),
                        status: frame::FrameStatus::Own,
                        carrier: None,
                    };
                    frame::insert(conn, &own, now_ms()).await?;
                    outbox::sealed(conn, gid, last, id, (epoch, recipients)).await
                })
            })
            .await?;
        Ok(Outgoing { bytes, custody: Some(id) })
    }

    /// Own frames that no other server stored yet go to a peer that has just come: the same bytes.
    pub(super) async fn push_unstored(
        &self,
        gid: GroupId,
        peer: &crate::router::PeerId,
    ) -> Result<(), StoreError> {
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

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
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

/// As many of the oldest as fit one frame; always at least one.
fn fitting(queued: Vec<(i64, Vec<u8>)>) -> Vec<(i64, Vec<u8>)> {
    let mut bytes = 0;
    let mut fits = |(_, signed): &(i64, Vec<u8>)| {
        let first = bytes == 0;
        // Four bytes of protobuf framing an event.
        bytes += signed.len() + 4;
        first || bytes <= MAX_BYTES
    };
    queued.into_iter().take_while(|row| fits(row)).collect()
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
        assert_eq!(fitting(vec![(1, largest.clone()), (2, largest)]).len(), 1);
        assert_eq!(fitting(vec![(1, vec![0; 2 * MAX_BYTES]), (2, vec![0; 9])]).len(), 1, "never none");
    }
}
