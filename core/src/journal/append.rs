//! Appending to one's own log.

use ed25519_dalek::SigningKey;

use super::{Effects, Reading, project::project};
use crate::{
    event::{Body, Event, EventRef, MAX_DEPS, SignedEvent, next_lamport},
    id::{DeviceId, EventId, LogId, StateId},
    store::{
        StoreError, WriteTx,
        event::EventRow,
        logbook::{Head, LogBook, LogRow},
    },
};

/// The author of own events in one group.
pub struct Own<'a> {
    /// Signs.
    pub key: &'a SigningKey,
    /// This device.
    pub device: DeviceId,
    /// Its log.
    pub log: LogId,
    /// Its head state.
    pub head: StateId,
    /// Accounts other than one's own that are members now.
    pub recipients: u32,
}

/// Writes an event into one's own log, projects it and puts it on its way.
///
/// # Errors
/// [`StoreError`]; a body over its limits is [`StoreError::Database`]: callers check theirs first.
pub async fn append(
    tx: &mut WriteTx<'_>,
    book: &mut LogBook,
    own: &Own<'_>,
    reading: &Reading<'_>,
    body: Body,
) -> Result<(SignedEvent, Effects), StoreError> {
    let at = book.log(tx.conn(), own.log).await?.unwrap_or_else(|| new_log(own.device));
    let heads: Vec<_> = book.heads_besides(own.log).into_iter().take(MAX_DEPS).collect();
    let known = heads.iter().map(|(_, head)| head.lamport).chain([at.lamport_there]);
    let event = Event {
        gid: book.gid(),
        log: own.log,
        seq: at.contiguous + 1,
        prev: (at.contiguous > 0).then_some(at.hash_there),
        lamport: next_lamport(known).map_err(|_| StoreError::Database)?,
        deps: heads
            .iter()
            .map(|(log, head)| EventRef { log: *log, seq: head.seq, event_id: head.id })
            .collect(),
        seen_sid: own.head,
        wall_ms: reading.now.unsigned_abs(),
        author: own.device,
        body,
    };
    let signed = SignedEvent::sign(own.key, event).map_err(|_| StoreError::Database)?;
    book.take_own(event_row(&signed, None, reading.now));
    advance(book, at, &signed);
    if own.recipients > 0 {
        book.send(signed.id, signed.event.seq);
    }
    let effects = project(tx, book, reading, &signed, Some(own.recipients)).await?;
    Ok((signed, effects))
}

/// A log that nothing was written to yet.
pub(super) fn new_log(device: DeviceId) -> LogRow {
    LogRow {
        device,
        contiguous: 0,
        hash_there: EventId([0; 32]),
        lamport_there: 0,
        floor: 0,
        floor_lamport: 0,
        broken: false,
    }
}

/// The stored form of an event.
pub(super) fn event_row(signed: &SignedEvent, via_epoch: Option<u64>, received_at: i64) -> EventRow {
    let event = &signed.event;
    EventRow {
        id: signed.id,
        log: event.log,
        seq: event.seq,
        lamport: event.lamport,
        author: event.author,
        kind: event.body.kind(),
        signed: Some(signed.encoded().to_vec()),
        seen_sid: event.seen_sid,
        via_epoch,
        received_at,
    }
}

/// Moves a log on to an event that follows it.
pub(super) fn advance(book: &mut LogBook, at: LogRow, signed: &SignedEvent) {
    let event = &signed.event;
    let head = Head { seq: event.seq, id: signed.id, lamport: event.lamport };
    book.set_log(
        event.log,
        LogRow { contiguous: event.seq, hash_there: signed.id, lamport_there: event.lamport, ..at },
    );
    book.advance_heads(event.log, head, event.deps.iter().map(|dep| (dep.log, dep.seq)));
}
