//! T1: what a user wants becomes a signed event on the disk, and only then the user is told.

use std::sync::Arc;

use super::{
    actor::{Command, Cx, Member, Wish},
    disk::{Disk, Membership},
    ledger::{Output, is_removal},
    person::{GID, invite_body},
    rows::Outgoing,
};
use crate::{
    event::{Body, ChangeKind, Event, SignedEvent, next_lamport},
    group::{authorize::Standing, testing::Hostile},
    id::{AccountId, ChannelId, EventId, InviteId},
    model::Role,
    mutant::{self, Mutant},
    permission::{Action, may},
};

const CHANNEL: ChannelId = ChannelId([3; 16]);

impl<E: Hostile> Member<E> {
    /// Does what a user asks for, or says why not by doing nothing.
    pub(super) fn wish(&mut self, command: &Command, cx: &mut Cx<'_, E>) {
        if let Some(event) = cx.disk().answered.get(&command.number).copied() {
            // The process died before it could say so.
            cx.output(Output::Accepted { number: command.number, event, place: self.place });
            return;
        }
        let inside = cx.disk().membership == Membership::Inside;
        match (&command.wish, inside) {
            (Wish::Join, false) => self.open_join(cx),
            (Wish::Misdeed(misdeed), true) => self.misbehave(*misdeed, cx),
            (Wish::Update, true) => self.update_since = Some(cx.monotonic_ms()),
            (wish, true) => match self.body(wish, command.number, cx) {
                Some(body) => drop(self.accept(Some(command.number), body, cx)),
                None => cx.count("wishes refused"),
            },
            (_, false) => cx.count("wishes refused"),
        }
    }

    fn body(&self, wish: &Wish, number: u64, cx: &Cx<'_, E>) -> Option<Body> {
        let standing = cx.disk().standing()?;
        let me = self.person(cx)?.account;
        let role = standing.policy.role_of(&me)?;
        let account = |place: u16| cx.setup().person(place).map(|person| person.account);
        match wish {
            Wish::Say => {
                let text = format!("{}/{number}", self.place);
                Some(Body::Text { channel: CHANNEL, text, reply_to: None })
            }
            Wish::Remove(place) => {
                let target = account(*place).filter(|account| *account != me)?;
                let action = Action::Remove { target: standing.policy.role_of(&target)? };
                may(role, action).then(|| request(standing, ChangeKind::Remove, target))
            }
            Wish::Role(place, to) => {
                let target = account(*place)?;
                let entry = standing.policy.standing_of(&target)?;
                let (was, to, role_changes) = (entry.role?, *to, entry.role_changes);
                let kind = ChangeKind::Role { was, to, role_changes };
                let allowed = was != to && may(role, Action::SetRole { target: was, to });
                allowed.then(|| request(standing, kind, target))
            }
            Wish::Leave => (role != Role::Owner).then(|| request(standing, ChangeKind::Leave, me)),
            Wish::Invite => {
                let id = InviteId(u128::from(number | 1 << 32).to_be_bytes());
                let allowed = may(role, Action::Invite { to: Role::Member });
                allowed.then(|| invite_body(id, Role::Member, standing.epoch))
            }
            Wish::Update | Wish::Join | Wish::Misdeed(_) => None,
        }
    }

    /// Whoever is no member any more tells its user what nobody has; whether there was anything to tell.
    pub(super) fn give_up(&mut self, cx: &mut Cx<'_, E>) -> bool {
        let disk = cx.disk();
        if disk.membership != Membership::Gone || disk.outbox.is_empty() {
            return false;
        }
        let lost = disk.outbox.iter().filter(|(_, outgoing)| !outgoing.custody);
        let lost: Vec<_> = lost.map(|(id, _)| *id).collect();
        for id in &lost {
            cx.output(Output::Failed(*id));
        }
        self.write(cx, "T3 confirm", |disk| disk.outbox.clear()).is_ok()
    }

    /// Signs an event and stores it with everything that follows from it.
    pub(super) fn accept(&mut self, number: Option<u64>, body: Body, cx: &mut Cx<'_, E>) -> Option<EventId> {
        let disk = cx.disk();
        let event = next_event(disk, body, disk.stand()?, cx.wall_ms())?;
        let key = &self.person(cx)?.key;
        let signed = Arc::new(SignedEvent::sign(key, event).ok()?);
        let (id, place, removal) = (signed.id, self.place, is_removal(&signed).then(|| Arc::clone(&signed)));
        let unsure = !self.confirmed || cx.disk().stale;
        if let Some(number) = number.filter(|_| mutant::on(Mutant::AcceptedBeforeStored)) {
            cx.output(Output::Accepted { number, event: id, place });
        }
        self.write(cx, "T1 accept", |disk| {
            let _ = disk.logs.take(signed, None);
            disk.outbox.insert(id, Outgoing { sealed: None, custody: false, unsure });
            if let Some(number) = number {
                disk.answered.insert(number, id);
            }
            disk.version += 1;
        })
        .ok()?;
        if let Some(number) = number {
            cx.output(Output::Accepted { number, event: id, place });
        }
        if let Some(removal) = removal {
            cx.output(Output::Learned(removal));
        }
        Some(id)
    }
}

fn request(standing: &Standing, kind: ChangeKind, target: AccountId) -> Body {
    let generation = standing.policy.standing_of(&target).map_or(0, |entry| entry.generation);
    Body::ChangeRequest { kind, target, generation }
}

/// The next event of a device's own log.
fn next_event(disk: &Disk, body: Body, seen_sid: crate::id::StateId, wall_ms: u64) -> Option<Event> {
    let log = disk.logs.log(&disk.own_log);
    let last = log.and_then(|log| Some((log.contiguous, *log.entries.get(&log.contiguous)?)));
    let heads = disk.logs.heads(&disk.own_log);
    let times = heads.iter().map(|(_, lamport)| *lamport);
    Some(Event {
        gid: GID,
        log: disk.own_log,
        seq: last.map_or(1, |(seq, _)| seq + 1),
        prev: last.map(|(_, entry)| entry.id),
        lamport: next_lamport(times.chain(last.map(|(_, entry)| entry.lamport))).ok()?,
        deps: heads.into_iter().map(|(head, _)| head).collect(),
        seen_sid,
        wall_ms,
        author: disk.device,
        body,
    })
}
