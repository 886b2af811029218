//! Everything that will happen to a world, decided before it starts, so that a failing one can be shortened.
//!
//! Each entry stands for itself: a cut ends by itself, a crash brings its restart along. Whatever is left out,
//! the rest still makes sense.

use std::fmt;

use super::{actor::MemberId, disk::Fired, link::Quality};

/// When a process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashAt {
    /// Between two steps.
    Now,
    /// Before its n-th write from now, 1 being the next: the step ends there and leaves nothing on the disk.
    BeforeWrite(u32),
    /// After its n-th write from now: the disk has it, the process does not know.
    AfterWrite(u32),
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A process dies, and starts again on its disk.
    Crash {
        /// Whose.
        member: MemberId,
        /// When.
        at: CrashAt,
        /// Milliseconds until it starts again.
        down_ms: u64,
    },
    /// A write fails and leaves the disk as it was.
    FailingCommit {
        /// Whose.
        member: MemberId,
        /// Its n-th from now; 1 is the next.
        write: u32,
    },
    /// Members of different groups do not reach each other; those of no group form another one.
    Partition {
        /// Disjoint; a member named twice is in the first.
        groups: Vec<Vec<MemberId>>,
        /// Its length in milliseconds.
        for_ms: u64,
    },
    /// Nothing gets from one member to another, while the way back works and neither is told.
    OneWayCut {
        /// Who is not heard.
        from: MemberId,
        /// Who does not hear.
        to: MemberId,
        /// Its length in milliseconds.
        for_ms: u64,
    },
    /// A member runs, but reaches nobody.
    Offline {
        /// Who.
        member: MemberId,
        /// How long, in milliseconds.
        for_ms: u64,
    },
    /// All cuts end.
    Heal,
    /// A member's wall clock is wrong from now on.
    ClockSkew {
        /// Whose.
        member: MemberId,
        /// Milliseconds ahead of the others.
        skew_ms: i64,
    },
    /// A member's process dies, and starts again on a copy of its disk made earlier.
    DiskRestore {
        /// Whose.
        member: MemberId,
        /// When the copy was made, in milliseconds of the world's clock.
        taken_ms: u64,
        /// Milliseconds until it starts again.
        down_ms: u64,
    },
    /// Everything that a member sends is sent many times.
    Flood {
        /// Who.
        member: MemberId,
        /// How many times more.
        copies: u32,
        /// How long, in milliseconds.
        for_ms: u64,
    },
    /// What [`may_be_withheld`](super::Actor::may_be_withheld) of a member's messages leaves late.
    Withhold {
        /// Whose.
        member: MemberId,
        /// After how many milliseconds all of it leaves.
        for_ms: u64,
    },
}

impl Fault {
    /// Makes an armed fault wait for another write.
    fn wait_for(&mut self, another: u32) {
        match self {
            Self::Crash { at: CrashAt::BeforeWrite(nth) | CrashAt::AfterWrite(nth), .. }
            | Self::FailingCommit { write: nth, .. } => *nth = another,
            _ => {}
        }
    }
}

/// One entry of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<C> {
    /// Something goes wrong.
    Fault(Fault),
    /// A member's user asks for something: unheard while the process is down, and asked once more if it
    /// crashes over it.
    Command(MemberId, C),
    /// The same by a member that no longer keeps to the rules: from now on it counts as dishonest.
    Misdeed(MemberId, C),
}

/// An action and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned<C> {
    /// Milliseconds from the start of the world.
    pub at_ms: u64,
    /// What happens.
    pub action: Action<C>,
}

/// All of a world's fate but the dice on its wires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule<C> {
    /// Decides the wires' dice and the members'.
    pub seed: u64,
    /// How many members there are.
    pub members: u16,
    /// How the wires are while the world is busy.
    pub quality: Quality,
    /// How long things go wrong, in milliseconds. Then all cuts end, all processes run, nothing is lost.
    pub busy_ms: u64,
    /// How long it is then left alone, in milliseconds, before it is judged.
    pub settle_ms: u64,
    /// A world that took so many steps is in a loop, or in a storm of messages that feeds itself.
    pub most_steps: u64,
    /// What happens, by time; those of the same time in their order here.
    pub actions: Vec<Planned<C>>,
}

impl<C: Clone> Schedule<C> {
    /// The same world with fewer actions, those at `kept`.
    #[must_use]
    pub fn keep(&self, kept: &[usize]) -> Self {
        let actions = kept.iter().filter_map(|index| self.actions.get(*index).cloned()).collect();
        Self { actions, ..self.bare() }
    }

    /// The same world with one more action at its very start.
    #[must_use]
    pub fn opening(&self, action: Action<C>) -> Self {
        let mut actions = vec![Planned { at_ms: 0, action }];
        actions.extend(self.actions.iter().cloned());
        Self { actions, ..self.bare() }
    }

    /// The same world, its armed faults moved to just before the writes that they met: they then wait for
    /// nothing that other actions could have been the cause of, and more of those can be left out.
    pub(super) fn sharpened(&self, fired: &[Fired]) -> Self {
        let mut actions: Vec<(bool, Planned<C>)> =
            self.actions.iter().map(|planned| (true, planned.clone())).collect();
        for Fired { action, at_ms, nth } in fired.iter().filter(|fired| fired.at_ms < self.busy_ms) {
            if let Some((unmoved, planned)) = actions.get_mut(*action)
                && let Action::Fault(fault) = &mut planned.action
            {
                fault.wait_for(*nth);
                planned.at_ms = *at_ms;
                *unmoved = false;
            }
        }
        actions.sort_by_key(|(unmoved, planned)| (planned.at_ms, *unmoved));
        Self { actions: actions.into_iter().map(|(_, planned)| planned).collect(), ..self.bare() }
    }

    fn bare(&self) -> Self {
        let Self { seed, members, quality, busy_ms, settle_ms, most_steps, .. } = *self;
        Self { seed, members, quality, busy_ms, settle_ms, most_steps, actions: Vec::new() }
    }
}

/// A time of the world's clock, as people read it.
pub(super) struct At(pub(super) u64);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, ms) = (self.0 / 1_000, self.0 % 1_000);
        write!(f, "{:02}:{:02}:{:02}.{ms:03}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
    }
}

struct Length(u64);

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms if ms < 10_000 => write!(f, "{ms} ms"),
            ms if ms < 600_000 => write!(f, "{} s", ms / 1_000),
            ms => write!(f, "{} min", ms / 60_000),
        }
    }
}

impl fmt::Display for CrashAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now => write!(f, "at once"),
            Self::BeforeWrite(nth) => write!(f, "before write {nth} from here"),
            Self::AfterWrite(nth) => write!(f, "after write {nth} from here"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash { member, at, down_ms } => {
                write!(f, "{member} crashes {at}, back after {}", Length(*down_ms))
            }
            Self::FailingCommit { member, write } => write!(f, "{member} fails write {write} from here"),
            Self::Partition { groups, for_ms } => {
                write!(f, "partition for {}:", Length(*for_ms))?;
                for group in groups {
                    write!(f, " {{")?;
                    for (place, member) in group.iter().enumerate() {
                        write!(f, "{}{member}", if place == 0 { "" } else { " " })?;
                    }
                    write!(f, "}}")?;
                }
                write!(f, ", and the rest")
            }
            Self::OneWayCut { from, to, for_ms } => {
                write!(f, "{to} does not hear {from} for {}", Length(*for_ms))
            }
            Self::Offline { member, for_ms } => write!(f, "{member} is offline for {}", Length(*for_ms)),
            Self::Heal => write!(f, "all cuts end"),
            Self::ClockSkew { member, skew_ms } => {
                write!(f, "{member}'s clock is {} s ahead", skew_ms / 1_000)
            }
            Self::DiskRestore { member, taken_ms, down_ms } => {
                write!(f, "{member} gets its disk of {} back, down for {}", At(*taken_ms), Length(*down_ms))
            }
            Self::Flood { member, copies, for_ms } => {
                write!(f, "{member} sends all {} times for {}", copies.saturating_add(1), Length(*for_ms))
            }
            Self::Withhold { member, for_ms } => write!(f, "{member} withholds for {}", Length(*for_ms)),
        }
    }
}

impl<C: fmt::Debug> fmt::Display for Action<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => write!(f, "{fault}"),
            Self::Command(member, command) => write!(f, "{member}: {command:?}"),
            Self::Misdeed(member, command) => write!(f, "{member}, dishonest: {command:?}"),
        }
    }
}

impl<C: fmt::Debug> fmt::Display for Schedule<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} members, {}", self.members, self.quality)?;
        for Planned { at_ms, action } in &self.actions {
            writeln!(f, "  {} {action}", At(*at_ms))?;
        }
        write!(f, "  {} quiet until {}", At(self.busy_ms), At(self.busy_ms.saturating_add(self.settle_ms)))
    }
}
