//! What a member was told, told again to one that starts where it started: in another order, or with a new
//! process for every message.

use std::sync::Arc;

use super::{
    actor::{Cx, Member},
    disk::Disk,
    ledger::Ledger,
    person::Setup,
    rows::Adoption,
    wire::Message,
};
use crate::{
    event::SignedEvent,
    group::testing::Hostile,
    id::StateId,
    simulation::{Actor as _, Context, Draw, Standing, actor::Effects, disk::Writes},
};

/// Messages that are told again: what waits for others must find room.
pub(super) const MOST_RETOLD: usize = 500;

/// How it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// In a drawn order.
    Shuffled,
    /// As it came, each to a new process.
    Restarting,
}

enum Told {
    Message(Message),
    Own(StateId),
    Event(Arc<SignedEvent>),
}

/// Where a member is in the end that gets all that was sent to another one, and what that one did itself.
pub(super) fn retell<E: Hostile>(
    setup: &Setup<E>,
    ledger: &Ledger,
    of: &Standing<'_, Member<E>>,
    how: Manner,
    draw: &mut Draw,
) -> Disk {
    let mut told: Vec<Told> = ledger.sent_to(of.member).iter().cloned().map(Told::Message).collect();
    let own = of.disk.states.iter().filter(|(_, row)| row.own);
    told.extend(own.map(|(sid, _)| Told::Own(*sid)));
    let events = of.disk.logs.events().filter(|event| event.event.author == of.disk.device);
    told.extend(events.map(|event| Told::Event(Arc::new(event.clone()))));
    if how == Manner::Shuffled {
        draw.shuffle(&mut told);
    }
    let mut disk = setup.disk(of.member.0);
    let (mut writes, mut effects) = (Writes::default(), Effects::default());
    let wall_ms = of.disk.states.values().map(|row| row.adopted_ms).min().unwrap_or_default();
    let mut cx = Context {
        member: of.member,
        now_ms: 0,
        wall_ms,
        setup,
        disk: &mut disk,
        writes: &mut writes,
        draw,
        effects: &mut effects,
    };
    let mut member = Member::start(&mut cx);
    for told in told {
        if how == Manner::Restarting {
            member = Member::start(&mut cx);
        }
        member.hear_again(told, of.disk, &mut cx);
    }
    let _ = cx.commit("T4 votes", |disk| {
        for support in of.disk.dag.supports().all() {
            disk.dag.support(*support);
        }
        for proof in of.disk.dag.supports().equivocations() {
            disk.dag.convict(*proof);
        }
        disk.look(wall_ms);
    });
    disk
}

impl<E: Hostile> Member<E> {
    fn hear_again(&mut self, told: Told, other: &Disk, cx: &mut Cx<'_, E>) {
        match told {
            Told::Message(Message::Commit(commit)) => self.follow(commit, cx),
            Told::Message(Message::Frame(bytes)) => self.open_frame(bytes, cx),
            Told::Message(Message::Tip(..) | Message::Letter(_)) => {}
            Told::Own(sid) => {
                let Some(row) = other.states.get(&sid) else { return };
                let adoption = Adoption {
                    skeleton: row.skeleton.clone(),
                    standing: Arc::clone(&row.standing),
                    env_tag: row.env_tag,
                    rows: row
                        .born
                        .as_ref()
                        .map(|rows| rows.iter().map(|(key, value)| (key.clone(), value.clone())).collect()),
                    included: row.included.clone(),
                    own: true,
                    at_ms: row.adopted_ms,
                };
                let frame = other
                    .commits
                    .iter()
                    .find(|(_, commit)| commit.as_ref().is_some_and(|commit| commit.skeleton.sid == sid));
                let frame = frame.map(|(id, commit)| (*id, commit.clone()));
                let before = cx.disk().version;
                let _ = cx.commit("T5 commit", |disk| {
                    disk.adopt(adoption);
                    disk.commits.extend(frame);
                });
                self.follow_parked(before, cx);
            }
            Told::Event(event) => drop(cx.commit("T1 accept", |disk| disk.logs.take(event, None))),
        }
    }
}
