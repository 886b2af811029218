//! The process of one simulated member: what it holds in memory, and what each call of the world sets off.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    disk::{Disk, Membership},
    ledger::Output,
    misdeed::{Lies, Misdeed},
    person::{GID, Person, Setup},
    wire::{Message, Tip},
};
use crate::{
    group::{rows::Rows, testing::Hostile},
    id::{DeviceId, EventId, FrameId, LogId, StateId},
    model::Role,
    mutant,
    simulation::{Actor, Context, Interrupted, MemberId},
};

/// Between two Tips of which nothing made the second due, milliseconds: least and most.
const TIP_EVERY_MS: (u64, u64) = (20_000, 40_000);
/// Until what changed is told, milliseconds, at most.
const TIP_SOON_MS: u64 = 500;
/// What one step sets off ends after so many rounds; the next step goes on.
const MOST_ROUNDS: usize = 8;

/// What an alarm is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// A Tip is due.
    Tip,
    /// Something is to be told.
    Soon,
    /// It may be this device's turn to commit.
    Turn,
    /// Someone may still lack something.
    Carry(MemberId),
}

/// What a user wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To say something.
    Say,
    /// To have fresh keys, long before they are due by themselves.
    Update,
    /// To have someone removed.
    Remove(u16),
    /// To have someone's role changed.
    Role(u16, Role),
    /// To go.
    Leave,
    /// To come in, or back.
    Join,
    /// To let people in who were removed.
    Invite,
    /// Nobody wants that.
    Misdeed(Misdeed),
}

/// A wish with its number, by which it is known when it is repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// From 1, each once a world.
    pub number: u64,
    /// What is wanted.
    pub wish: Wish,
}

/// A running member.
pub struct Member<E: Hostile> {
    pub(super) place: u16,
    pub(super) up: BTreeSet<MemberId>,
    /// States that are loaded: only a cache.
    pub(super) states: BTreeMap<StateId, E>,
    /// When each device was heard last, by the monotonic clock, milliseconds.
    pub(super) heard_ms: BTreeMap<DeviceId, u64>,
    /// The newest Tip of each peer and when it came.
    pub(super) tips: BTreeMap<MemberId, (u64, Arc<Tip>)>,
    /// Whether a peer said that this device's newest Tip is what the disk says.
    pub(super) confirmed: bool,
    /// Since when this device does not find its way, by the monotonic clock, milliseconds.
    pub(super) lost_since: Option<u64>,
    /// When members first and last said that they do not know this device, milliseconds.
    pub(super) strangers: BTreeMap<MemberId, (u64, u64)>,
    /// Members who are lost, or out of the group, and still say that they know this device; which of both.
    pub(super) unsettled: BTreeMap<MemberId, bool>,
    /// The leaf that this device last asked to have replaced, and when.
    pub(super) rejoining: Option<([u8; 32], u64)>,
    /// When states were first told of that are not here.
    pub(super) rumours: BTreeMap<StateId, u64>,
    /// What goes to the disk with the next write.
    pub(super) heard: BTreeMap<DeviceId, u64>,
    pub(super) acks: BTreeMap<DeviceId, BTreeMap<LogId, u64>>,
    /// What a broken member says that it has.
    pub(super) acks_ahead: Option<BTreeMap<LogId, u64>>,
    /// The head and since when it has been so.
    pub(super) head_since: (Option<StateId>, u64),
    /// Since when requests are here.
    pub(super) request_since: BTreeMap<EventId, u64>,
    /// Since when fresh keys are due.
    pub(super) update_since: Option<u64>,
    /// When letters and commits were last sent to whom.
    pub(super) sent_ms: BTreeMap<(MemberId, FrameId), u64>,
    pub(super) carried_ms: BTreeMap<MemberId, u64>,
    pub(super) asked_ms: Option<u64>,
    pub(super) open: Option<super::commit::Open>,
    pub(super) shared: Option<super::tip::Shared>,
    /// What this device's clock showed in its last step, milliseconds.
    pub(super) wall_ms: u64,
    /// The highest counter of its own that others know.
    pub(super) echoed: u64,
    /// What it says though it is not so.
    pub(super) lies: Lies,
    news: bool,
    soon: bool,
    turn_at: Option<u64>,
}

pub(super) type Cx<'a, E> = Context<'a, Member<E>>;

impl<E: Hostile> Member<E> {
    pub(super) fn person<'a>(&self, cx: &'a Cx<'_, E>) -> Option<&'a Person> {
        cx.setup().person(self.place)
    }

    /// One transaction, of which others are told soon.
    pub(super) fn write<T>(
        &mut self,
        cx: &mut Cx<'_, E>,
        step: &'static str,
        change: impl FnOnce(&mut Disk) -> T,
    ) -> Result<T, Interrupted> {
        let written = self.write_quietly(cx, step, change);
        self.news |= written.is_ok();
        written
    }

    /// One transaction; what was heard in the meantime goes along. After one that fails, memory may be ahead
    /// of the disk, and is emptied.
    pub(super) fn write_quietly<T>(
        &mut self,
        cx: &mut Cx<'_, E>,
        step: &'static str,
        change: impl FnOnce(&mut Disk) -> T,
    ) -> Result<T, Interrupted> {
        let (heard, acks) = (self.heard.clone(), self.acks.clone());
        let written = cx.commit(step, |disk| {
            for (device, counter) in heard {
                let known = disk.heard.entry(device).or_default();
                *known = counter.max(*known);
            }
            disk.acks.extend(acks);
            change(disk)
        });
        if written.is_ok() {
            self.heard.clear();
            self.acks.clear();
        } else {
            self.states.clear();
        }
        written
    }

    /// A state whose secrets are here.
    pub(super) fn load(&mut self, cx: &Cx<'_, E>, sid: &StateId) -> Option<&mut E> {
        let rows = cx.disk().states.get(sid)?.rows.as_ref()?;
        if !self.states.contains_key(sid) {
            let rows = rows.iter().map(|(key, value)| (key.clone(), value.clone()));
            let state = E::load(GID, Rows::from_rows(rows)).ok()?;
            self.states.insert(*sid, state);
        }
        self.states.get_mut(sid)
    }

    /// Whoever can be reached now and is a member of the state that this device stands on.
    pub(super) fn reachable(&self, cx: &Cx<'_, E>) -> Vec<MemberId> {
        let Some(standing) = cx.disk().standing() else { return Vec::new() };
        let inside = |peer: &&MemberId| {
            cx.setup().person(peer.0).is_some_and(|person| standing.member(&person.device).is_some())
        };
        self.up.iter().filter(inside).copied().collect()
    }

    /// Does something and all that follows from it, by the rules of this member.
    fn act(&mut self, cx: &mut Cx<'_, E>, act: impl FnOnce(&mut Self, &mut Cx<'_, E>)) {
        let broken = cx.setup().config.mutant_of(self.place);
        mutant::with_all(broken, || {
            act(self, cx);
            self.settle(cx);
        });
    }

    /// Does everything that what happened makes due.
    fn settle(&mut self, cx: &mut Cx<'_, E>) {
        self.wall_ms = cx.wall_ms();
        let head = cx.disk().at();
        if self.head_since.0 != head {
            self.head_since = (head, cx.monotonic_ms());
        }
        let lost = cx.disk().membership == Membership::Inside && cx.disk().safe_at().is_none();
        self.lost_since = lost.then(|| self.lost_since.unwrap_or(cx.monotonic_ms()));
        // Who is alone in the group is the only one to know it.
        self.confirmed |= cx.disk().standing().is_some_and(|standing| standing.roster.len() == 1);
        for _ in 0..MOST_ROUNDS {
            if cx.is_dead() {
                return;
            }
            let moved =
                self.give_up(cx) || self.support(cx) || self.prune(cx) || self.seal(cx) || self.commit(cx);
            if self.head_since.0 != cx.disk().at() {
                self.head_since = (cx.disk().at(), cx.monotonic_ms());
            }
            if !moved {
                break;
            }
        }
        self.deliver_bundles(cx);
        if self.news && !self.soon && cx.disk().membership == Membership::Inside {
            self.news = false;
            self.soon = true;
            let delay_ms = cx.draw().below(TIP_SOON_MS);
            cx.wake_in(delay_ms, Timer::Soon);
        }
    }

    /// Looks again in a while whether it is this device's turn.
    pub(super) fn turn_in(&mut self, delay_ms: u64, cx: &mut Cx<'_, E>) {
        let at = cx.monotonic_ms() + delay_ms;
        if self.turn_at.is_none_or(|due| due > at || due <= cx.monotonic_ms()) {
            self.turn_at = Some(at);
            cx.wake_in(delay_ms, Timer::Turn);
        }
    }
}

impl<E: Hostile> Actor for Member<E> {
    type Setup = Setup<E>;
    type Disk = Disk;
    type Message = Message;
    type Timer = Timer;
    type Command = Command;
    type Output = Output;

    fn start(cx: &mut Cx<'_, E>) -> Self {
        let delay_ms = cx.draw().below(TIP_EVERY_MS.1);
        cx.wake_in(delay_ms, Timer::Tip);
        for (sid, row) in &cx.disk().states.clone() {
            cx.output(Output::Knows(*sid, Arc::clone(&row.standing)));
        }
        Self {
            place: cx.member().0,
            up: BTreeSet::new(),
            states: BTreeMap::new(),
            heard_ms: BTreeMap::new(),
            tips: BTreeMap::new(),
            confirmed: false,
            lost_since: None,
            rumours: BTreeMap::new(),
            strangers: BTreeMap::new(),
            unsettled: BTreeMap::new(),
            rejoining: None,
            heard: BTreeMap::new(),
            acks: BTreeMap::new(),
            acks_ahead: None,
            head_since: (cx.disk().at(), cx.monotonic_ms()),
            request_since: BTreeMap::new(),
            update_since: None,
            sent_ms: BTreeMap::new(),
            carried_ms: BTreeMap::new(),
            asked_ms: None,
            open: None,
            shared: None,
            wall_ms: cx.wall_ms(),
            echoed: 0,
            lies: Lies::default(),
            news: false,
            soon: false,
            turn_at: None,
        }
    }

    fn up(&mut self, peer: MemberId, cx: &mut Cx<'_, E>) {
        self.up.insert(peer);
        self.act(cx, |member, cx| member.greet(peer, cx));
    }

    fn down(&mut self, peer: MemberId, _cx: &mut Cx<'_, E>) {
        self.up.remove(&peer);
    }

    fn receive(&mut self, from: MemberId, message: Message, cx: &mut Cx<'_, E>) {
        self.act(cx, |member, cx| match message {
            Message::Tip(tip, echo) => member.hear(from, &tip, &echo, cx),
            Message::Frame(bytes) => member.open_frame(bytes, cx),
            Message::Commit(commit) => member.follow(commit, cx),
            Message::Letter(letter) => member.read_letter(&letter, cx),
        });
    }

    fn wake(&mut self, timer: Timer, cx: &mut Cx<'_, E>) {
        self.act(cx, |member, cx| match timer {
            Timer::Tip => {
                let (least, most) = TIP_EVERY_MS;
                let delay_ms = cx.draw().within(&(least..=most));
                cx.wake_in(delay_ms, Timer::Tip);
                member.ask_to_join(cx);
                member.look_at_keys(cx);
                member.tip_all(cx);
            }
            Timer::Soon => {
                member.soon = false;
                member.tip_all(cx);
            }
            Timer::Turn => member.turn_at = None,
            Timer::Carry(peer) => member.carry(peer, cx),
        });
    }

    fn command(&mut self, command: Command, cx: &mut Cx<'_, E>) {
        self.act(cx, |member, cx| member.wish(&command, cx));
    }

    fn kind(message: &Message) -> &'static str {
        match message {
            Message::Tip(..) => "a tip",
            Message::Frame(_) => "a frame",
            Message::Commit(_) => "a commit",
            Message::Letter(_) => "a letter",
        }
    }

    /// Lengths alone: openmls draws its own randomness.
    fn fingerprint(message: &Message) -> u64 {
        match message {
            Message::Tip(tip, echo) => tip.counter ^ echo.counter << 32,
            Message::Frame(bytes) => bytes.len() as u64,
            Message::Commit(commit) => commit.bytes.len() as u64,
            Message::Letter(_) => 0,
        }
    }

    fn may_be_withheld(message: &Message) -> bool {
        matches!(message, Message::Commit(_))
    }
}
