//! T2: events are sealed on the head and stored in their frames before these leave; and the same for
//! those events of anyone that someone else turns out to lack.

use std::sync::Arc;

use prost::Message as _;
use spacepanda_proto::peer::v1::{
    ApplicationPlaintext, CarriedEvent, Carry, Fresh, WithheldEvent, application_plaintext::Kind,
    carried_event,
};

use super::{
    actor::{Cx, Member},
    disk::Disk,
    ledger::Output,
    wire::Message,
};
use crate::{
    event::{Body, ChangeKind},
    group::{requests::Status, testing::Hostile},
    id::{EventId, FrameId, StateId},
    mutant::{self, Mutant},
    simulation::MemberId,
};

/// Events of one frame.
const MOST_EVENTS: usize = 64;

impl<E: Hostile> Member<E> {
    /// Whether sends wait: someone is to be removed, and this device knows it.
    pub(super) fn is_gated(&mut self, cx: &Cx<'_, E>) -> bool {
        let own = cx.disk().device;
        !mutant::on(Mutant::RemovalGateOff)
            && self.open_requests(cx).iter().any(|(candidate, status)| {
                let event = &candidate.request.event;
                *status == Status::Open
                    && match &event.body {
                        Body::ChangeRequest { kind: ChangeKind::Remove, .. } => true,
                        Body::ChangeRequest { kind: ChangeKind::Leave, .. } => event.author != own,
                        _ => false,
                    }
            })
    }

    /// Whether this device may seal anything now, and in which state.
    fn may_seal(&mut self, cx: &Cx<'_, E>) -> Option<StateId> {
        let head = cx.disk().safe_at()?;
        (self.confirmed || mutant::on(Mutant::SealBeforeEcho)).then_some(head)
    }

    /// Seals what waits, if someone is there to take it; whether it did.
    pub(super) fn seal(&mut self, cx: &mut Cx<'_, E>) -> bool {
        if cx.disk().outbox.is_empty() {
            return false;
        }
        let waiting = cx.disk().outbox.iter().filter(|(_, outgoing)| outgoing.sealed.is_none());
        let mut events: Vec<EventId> = waiting.map(|(id, _)| *id).collect();
        let Some(head) = self.may_seal(cx) else { return false };
        if cx.disk().standing().is_some_and(|standing| standing.roster.len() == 1) {
            // Nobody else is to have it.
            return self.write(cx, "T3 confirm", |disk| disk.outbox.clear()).is_ok();
        }
        let peers = self.reachable(cx);
        if events.is_empty() || peers.is_empty() || self.is_gated(cx) {
            return false;
        }
        let place = |id: &EventId| {
            let event = cx.disk().logs.event(id)?;
            Some((event.event.lamport, event.event.log, event.event.seq))
        };
        events.sort_by_cached_key(place);
        events.truncate(MOST_EVENTS);
        let encoded = events.iter().filter_map(|id| cx.disk().logs.event(id)).map(|it| it.encoded().to_vec());
        let kind = Kind::Fresh(Fresh { events: encoded.collect() });
        let stored = events.clone();
        let Some(bytes) = self.seal_plaintext(head, kind, "T2 seal", cx, move |disk, bytes| {
            for id in &stored {
                disk.logs.note_via(id, head);
                if let Some(outgoing) = disk.outbox.get_mut(id) {
                    outgoing.sealed = Some((head, Arc::clone(bytes)));
                }
            }
        }) else {
            return false;
        };
        for id in events {
            cx.output(Output::Fresh { event: id, sid: head });
        }
        for peer in peers {
            cx.send(peer, Message::Frame(Arc::clone(&bytes)));
        }
        true
    }

    fn seal_plaintext(
        &mut self,
        head: StateId,
        kind: Kind,
        step: &'static str,
        cx: &mut Cx<'_, E>,
        change: impl FnOnce(&mut Disk, &Arc<[u8]>),
    ) -> Option<Arc<[u8]>> {
        let identity = self.person(cx)?.identity.clone();
        let plaintext = ApplicationPlaintext { kind: Some(kind) }.encode_to_vec();
        let state = self.load(cx, &head)?;
        let leaf = state.facts().own_leaf;
        let (Ok(sealed), Ok(rows)) = (state.seal_application(&identity, &plaintext), state.take_changes())
        else {
            self.states.remove(&head);
            return None;
        };
        let bytes: Arc<[u8]> = sealed.bytes.into();
        let told = Output::Sealed { sid: head, leaf, counter: sealed.counter, frame: FrameId::of(&bytes) };
        let mut told = Some(told);
        if mutant::on(Mutant::SentBeforeStored) {
            told.take().into_iter().for_each(|told| cx.output(told));
            for peer in self.reachable(cx) {
                cx.send(peer, Message::Frame(Arc::clone(&bytes)));
            }
        }
        self.write(cx, step, |disk| {
            disk.change_rows(&head, rows);
            disk.counter += 1;
            change(disk, &bytes);
        })
        .ok()?;
        told.into_iter().for_each(|told| cx.output(told));
        Some(bytes)
    }

    /// Sends someone what it still lacks and may have.
    pub(super) fn carry(&mut self, peer: MemberId, cx: &mut Cx<'_, E>) {
        let Some(head) = self.may_seal(cx) else { return };
        let Some((_, tip)) = self.tips.get(&peer).cloned() else { return };
        let Some(person) = cx.setup().person(peer.0) else { return };
        let (account, device) = (person.account, person.device);
        let reachable = !mutant::on(Mutant::GapsNotFilled)
            && self.up.contains(&peer)
            && cx.disk().standing().is_some_and(|standing| standing.member(&device).is_some());
        if !reachable || self.is_gated(cx) {
            return;
        }
        let (mut carried, mut shown) = (Vec::new(), Vec::new());
        for (log, seq, of, entry) in cx.disk().logs.beyond(&tip.acks).take(MOST_EVENTS) {
            // Who has no more than its place cannot tell who may have the event.
            let Some(event) = cx.disk().logs.event(&entry.id) else { continue };
            let entitled = cx.disk().entitled(&entry.id, &account);
            let entitled = if mutant::on(Mutant::CarryToAnyone) { Some(true) } else { entitled };
            let kind = match entitled {
                None => continue,
                Some(true) => {
                    shown.push((entry.id, event.event.seen_sid, event.event.body.is_state()));
                    carried_event::Kind::Event(event.encoded().to_vec())
                }
                Some(false) => carried_event::Kind::Withheld(WithheldEvent {
                    log: log.0.to_vec(),
                    seq,
                    event_id: entry.id.0.to_vec(),
                    lamport: entry.lamport,
                    author: of.device.0.to_vec(),
                }),
            };
            carried.push(CarriedEvent { kind: Some(kind) });
        }
        if carried.is_empty() {
            return;
        }
        let kind = Kind::Carry(Carry { events: carried });
        let Some(bytes) = self.seal_plaintext(head, kind, "T2 seal", cx, |_, _| ()) else { return };
        self.carried_ms.insert(peer, cx.monotonic_ms());
        cx.count("carries");
        for (event, seen_sid, is_state) in shown {
            let by_author =
                cx.disk().logs.event(&event).is_some_and(|it| it.event.author == cx.disk().device);
            if by_author {
                cx.output(Output::Fresh { event, sid: head });
            }
            cx.output(Output::Carried { event, seen_sid, is_state, to: account });
        }
        cx.send(peer, Message::Frame(bytes));
    }
}
