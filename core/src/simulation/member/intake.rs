//! T4: frames are opened, and what was in them is stored with the secrets that this used up.

use std::sync::Arc;

use prost::Message as _;
use spacepanda_proto::peer::v1::{
    ApplicationPlaintext, CarriedEvent, FrameKind, WithheldEvent, application_plaintext::Kind, carried_event,
};

use super::{
    actor::{Cx, Member},
    disk::Disk,
    ledger::{Output, is_removal},
    log::Entry,
    person::GID,
};
use crate::{
    event::{Body, SignedEvent},
    group::{error::ApplicationError, frame::Frame, rows::RowChanges, testing::Hostile},
    id::{DeviceId, EventId, FrameId, LogId, StateId},
    mutant::{self, Mutant},
};

/// Frames of unknown states that are kept.
const MOST_PARKED: usize = 512;

enum Piece {
    /// Whether it was sent for the first time.
    Event(Arc<SignedEvent>, bool),
    Withheld(LogId, u64, DeviceId, Entry),
}

impl<E: Hostile> Member<E> {
    /// Takes in an application frame, or sets it aside until its state is here.
    pub(super) fn open_frame(&mut self, bytes: Arc<[u8]>, cx: &mut Cx<'_, E>) {
        let Ok(frame) = Frame::decode(&bytes) else { return cx.count("frames refused") };
        let Some(sid) = cx.disk().tags.get(&frame.env_tag()).copied() else {
            return self.park(frame.id(), bytes, cx);
        };
        let Some(state) = self.load(cx, &sid) else { return cx.count("frames of pruned states") };
        let Ok(opened) = state.open_frame(&frame) else { return cx.count("frames refused") };
        if opened.kind != FrameKind::Application {
            return cx.count("frames refused");
        }
        let application = match state.open_application(&opened) {
            Ok(application) => application,
            Err(ApplicationError::Reused) => return cx.count("frames again"),
            Err(_) => return cx.count("frames refused"),
        };
        let Ok(rows) = state.take_changes() else {
            self.states.remove(&sid);
            return;
        };
        let sender = application.sender.certificate.device;
        match pieces(&application.plaintext, &sender) {
            Some(pieces) => self.store(sid, rows, pieces, sender, cx),
            None => cx.count("frames refused"),
        }
    }

    fn park(&mut self, id: FrameId, bytes: Arc<[u8]>, cx: &mut Cx<'_, E>) {
        if cx.disk().parked.contains_key(&id) || cx.disk().parked.len() >= MOST_PARKED {
            return;
        }
        if self.write(cx, "T3 park", |disk| disk.parked.insert(id, bytes)).is_ok() {
            cx.count("parked");
        }
    }

    fn store(
        &mut self,
        sid: StateId,
        rows: RowChanges,
        pieces: Vec<Piece>,
        sender: DeviceId,
        cx: &mut Cx<'_, E>,
    ) {
        let hasty = mutant::on(Mutant::AckBeforeCommit);
        let ahead = hasty.then(|| {
            let mut ahead = cx.disk().clone();
            place(&mut ahead, sid, &pieces, &sender);
            ahead.logs.acks()
        });
        if let Some(acks) = ahead {
            self.acks_ahead = Some(acks);
            self.tip_all(cx);
        }
        let placed = self.write(cx, "T4 take in", |disk| {
            disk.change_rows(&sid, rows);
            place(disk, sid, &pieces, &sender)
        });
        for event in placed.unwrap_or_default() {
            cx.output(Output::Delivered { event });
            let removal = cx.disk().logs.event(&event).filter(|event| is_removal(event)).cloned();
            if let Some(removal) = removal {
                cx.output(Output::Learned(Arc::new(removal)));
            }
        }
    }

    /// Tries again what waited for a state that is here now.
    pub(super) fn unpark(&mut self, cx: &mut Cx<'_, E>) {
        let known = |bytes: &Arc<[u8]>| {
            let tag = Frame::decode(bytes).ok()?.env_tag();
            cx.disk().tags.contains_key(&tag).then_some(())
        };
        let parked = cx.disk().parked.iter();
        let due: Vec<(FrameId, Arc<[u8]>)> =
            parked.filter_map(|(id, bytes)| known(bytes).map(|()| (*id, Arc::clone(bytes)))).collect();
        for (id, bytes) in due {
            self.open_frame(bytes, cx);
            if self.write(cx, "T3 park", |disk| disk.parked.remove(&id)).is_err() {
                return;
            }
        }
    }
}

/// Puts what came in its place; what the user is to be shown of it.
fn place(disk: &mut Disk, sid: StateId, pieces: &[Piece], sender: &DeviceId) -> Vec<EventId> {
    let mut placed = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Event(event, fresh) => {
                if mutant::on(Mutant::DedupeOff) && disk.logs.has(&event.id) {
                    placed.push(event.id);
                }
                // What its author sends again counts as sealed then only where nothing else says for whom it is.
                let fresh = *fresh || !disk.states.contains_key(&event.event.seen_sid);
                let by_author = event.event.author == *sender;
                placed.extend(disk.logs.take(Arc::clone(event), (fresh && by_author).then_some(sid)));
            }
            Piece::Withheld(log, seq, author, entry) => {
                placed.extend(disk.logs.withhold(*log, *seq, *author, *entry));
            }
        }
    }
    let acts = |id: &EventId| {
        let body = disk.logs.event(id).map(|event| &event.event.body);
        matches!(body, Some(Body::ChangeRequest { .. } | Body::Invite { .. }))
    };
    if placed.iter().any(acts) {
        disk.version += 1;
    }
    placed
}

/// What a plaintext holds; none if any of it is broken.
fn pieces(plaintext: &[u8], sender: &DeviceId) -> Option<Vec<Piece>> {
    match ApplicationPlaintext::decode(plaintext).ok()?.kind? {
        Kind::Fresh(fresh) => {
            let events = fresh.events.iter().map(|bytes| event(bytes));
            let events: Option<Vec<_>> = events.collect();
            let own = |event: &Arc<SignedEvent>| event.event.author == *sender;
            let events = events.filter(|events| events.iter().all(own))?;
            Some(events.into_iter().map(|event| Piece::Event(event, true)).collect())
        }
        Kind::Carry(carry) => {
            let pieces: Option<Vec<_>> = carry.events.into_iter().map(carried).collect();
            pieces
        }
    }
}

fn carried(carried: CarriedEvent) -> Option<Piece> {
    match carried.kind? {
        carried_event::Kind::Event(bytes) => event(&bytes).map(|event| Piece::Event(event, false)),
        carried_event::Kind::Withheld(WithheldEvent { log, seq, event_id, lamport, author }) => {
            let entry = Entry { id: EventId::try_from(&*event_id).ok()?, lamport };
            let (log, author) = (LogId::try_from(&*log).ok()?, DeviceId::try_from(&*author).ok()?);
            Some(Piece::Withheld(log, seq, author, entry))
        }
    }
}

fn event(bytes: &[u8]) -> Option<Arc<SignedEvent>> {
    let event = SignedEvent::decode(bytes).ok().filter(|event| event.event.gid == GID)?;
    Some(Arc::new(event))
}
