//! What takes part in a simulated world, and all that it may touch: its disk, its clock, its dice, its wires.

use std::{collections::BTreeMap, fmt};

use super::{
    disk::{Fate, Writes},
    draw::Draw,
};

/// One participant's place in the world, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u16);

impl MemberId {
    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{}", self.0)
    }
}

/// A process: what `self` holds is gone after a crash, what its disk holds is not.
///
/// Every call is one step and takes no time. Nothing but the [`Context`] reaches the outside: a wall clock,
/// another source of randomness or the order of a hash map would make a seed mean more than one run.
pub trait Actor: Sized {
    /// What is the same for all members of a world and never changes: keys, constants, the rule under test.
    type Setup;
    /// What survives a crash.
    type Disk: Clone;
    /// What goes from one member to another. Cheap to clone: duplicates are clones.
    type Message: Clone;
    /// What an alarm is for.
    type Timer;
    /// What a user, or a hostile hand, makes a member do.
    type Command: Clone + fmt::Debug;
    /// What a user saw: the ledger of the scenario learns it and no crash takes it back.
    type Output;

    /// Begins on a disk that may be new, the one of before a crash, or an old copy of it.
    fn start(cx: &mut Context<'_, Self>) -> Self;

    /// A session with a peer begins.
    fn up(&mut self, peer: MemberId, cx: &mut Context<'_, Self>);

    /// The session with a peer is over; what was sent of late may not have arrived.
    fn down(&mut self, peer: MemberId, cx: &mut Context<'_, Self>);

    /// A message arrives.
    fn receive(&mut self, from: MemberId, message: Self::Message, cx: &mut Context<'_, Self>);

    /// An alarm goes off. Those set before a crash never do.
    fn wake(&mut self, timer: Self::Timer, cx: &mut Context<'_, Self>);

    /// The user asks for something.
    fn command(&mut self, command: Self::Command, cx: &mut Context<'_, Self>);

    /// A word for a message, for traces.
    fn kind(_message: &Self::Message) -> &'static str {
        "message"
    }

    /// What of a message belongs to the trace's hash: nothing that differs when a seed is replayed.
    fn fingerprint(_message: &Self::Message) -> u64 {
        0
    }

    /// Whether `Fault::Withhold` keeps a message back: commits, for a protocol with commits.
    fn may_be_withheld(_message: &Self::Message) -> bool {
        false
    }
}

/// Why a write did not happen, or happened with nobody left to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupted {
    /// The disk refused, and holds what it held before. The process goes on.
    Failed,
    /// The process is dead, before the write or after. Whatever it does until it returns reaches nobody.
    Crashed,
}

/// What came out of one step.
pub(super) struct Effects<A: Actor> {
    pub(super) sends: Vec<(MemberId, A::Message)>,
    pub(super) timers: Vec<(u64, A::Timer)>,
    pub(super) outputs: Vec<A::Output>,
    pub(super) counts: BTreeMap<&'static str, u64>,
    /// How long the process stays dead, in milliseconds, if it crashed in this step.
    pub(super) crashed: Option<u64>,
}

impl<A: Actor> Default for Effects<A> {
    fn default() -> Self {
        Self {
            sends: Vec::new(),
            timers: Vec::new(),
            outputs: Vec::new(),
            counts: BTreeMap::new(),
            crashed: None,
        }
    }
}

/// A member's only way to the world, for the length of one step.
pub struct Context<'a, A: Actor> {
    pub(super) member: MemberId,
    pub(super) now_ms: u64,
    pub(super) wall_ms: u64,
    pub(super) setup: &'a A::Setup,
    pub(super) disk: &'a mut A::Disk,
    pub(super) writes: &'a mut Writes,
    pub(super) draw: &'a mut Draw,
    pub(super) effects: &'a mut Effects<A>,
}

impl<A: Actor> Context<'_, A> {
    /// Who is acting.
    #[must_use]
    pub fn member(&self) -> MemberId {
        self.member
    }

    /// Milliseconds on a clock that never jumps, the same for everyone.
    #[must_use]
    pub fn monotonic_ms(&self) -> u64 {
        self.now_ms
    }

    /// Milliseconds since 1970 by this member's own clock, which may be wrong.
    #[must_use]
    pub fn wall_ms(&self) -> u64 {
        self.wall_ms
    }

    /// What all members share.
    #[must_use]
    pub fn setup(&self) -> &A::Setup {
        self.setup
    }

    /// The disk as it is. It changes through [`commit`](Self::commit) alone.
    #[must_use]
    pub fn disk(&self) -> &A::Disk {
        self.disk
    }

    /// This member's randomness.
    pub fn draw(&mut self) -> &mut Draw {
        self.draw
    }

    /// One transaction: all of `change` or nothing of it. `step` names its kind, so that every kind can be
    /// interrupted (see [`crash_matrix`](fn@super::crash_matrix)).
    ///
    /// # Errors
    /// [`Interrupted`]. What `change` did to variables of its caller stays done, as with a real database.
    pub fn commit<T>(
        &mut self,
        step: &'static str,
        change: impl FnOnce(&mut A::Disk) -> T,
    ) -> Result<T, Interrupted> {
        if self.is_dead() {
            return Err(Interrupted::Crashed);
        }
        match self.writes.attempt(self.now_ms, step) {
            Fate::Written => Ok(change(self.disk)),
            Fate::Fails => {
                change(&mut self.disk.clone());
                Err(Interrupted::Failed)
            }
            Fate::CrashBefore { down_ms } => {
                self.effects.crashed = Some(down_ms);
                Err(Interrupted::Crashed)
            }
            Fate::CrashAfter { down_ms } => {
                change(self.disk);
                self.effects.crashed = Some(down_ms);
                Err(Interrupted::Crashed)
            }
        }
    }

    /// Sends at once: a crash later in the same step does not take it back. Without a session it is lost.
    pub fn send(&mut self, to: MemberId, message: A::Message) {
        if !self.is_dead() {
            self.effects.sends.push((to, message));
        }
    }

    /// Sets an alarm `delay_ms` from now. It cannot be unset: one that is no longer wanted is ignored.
    pub fn wake_in(&mut self, delay_ms: u64, timer: A::Timer) {
        if !self.is_dead() {
            self.effects.timers.push((delay_ms, timer));
        }
    }

    /// Tells the user. Whatever was told has been told, even if the process crashes in the next line.
    pub fn output(&mut self, output: A::Output) {
        if !self.is_dead() {
            self.effects.outputs.push(output);
        }
    }

    /// Counts something for the report: forks, heals, rejoins.
    pub fn count(&mut self, what: &'static str) {
        if !self.is_dead() {
            *self.effects.counts.entry(what).or_default() += 1;
        }
    }

    /// Whether the process has crashed in this step and only has to return.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.effects.crashed.is_some()
    }
}
