//! Kinds of weather: how large a world is, how long, and how much of what goes wrong in it.

use super::{
    actor::MemberId,
    draw::{Draw, Stream},
    link::{Quality, range},
    schedule::{Action, CrashAt, Fault, Planned, Schedule},
};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
/// Clocks are wrong by up to this much, either way.
const MAX_SKEW_MS: u64 = 2 * HOUR;
/// A crash in a write waits for at most so many of them.
const MAX_WRITES_AHEAD: u64 = 12;
/// A flood sends everything up to so many times more.
const MAX_FLOOD_COPIES: u64 = 50;

/// What users mostly ask for; the scenario knows what that means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// A little of everything.
    Usual,
    /// To get rid of each other.
    Quarrels,
    /// The same small thing again and again: long histories.
    Restless,
    /// To change roles and who is there, again and again.
    Busy,
}

/// How often each fault is drawn, against the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// Crashes between steps, before writes and after writes alike.
    pub crash: u32,
    /// Failing writes.
    pub failing_commit: u32,
    /// Partitions into two to four groups.
    pub partition: u32,
    /// Cuts in one direction.
    pub one_way_cut: u32,
    /// Members cut off from everyone, for long.
    pub offline: u32,
    /// Wrong clocks.
    pub clock_skew: u32,
    /// Disks set back.
    pub disk_restore: u32,
    /// Floods.
    pub flood: u32,
    /// Withheld messages.
    pub withhold: u32,
}

impl Weights {
    const NONE: Self = Self {
        crash: 0,
        failing_commit: 0,
        partition: 0,
        one_way_cut: 0,
        offline: 0,
        clock_skew: 0,
        disk_restore: 0,
        flood: 0,
        withhold: 0,
    };
}

/// A kind of weather. Pairs are the least and the most, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// What it is called on a command line.
    pub name: &'static str,
    /// Members.
    pub members: (u64, u64),
    /// Length of the busy time in milliseconds.
    pub busy_ms: (u64, u64),
    /// Length of the quiet time after it in milliseconds.
    pub settle_ms: u64,
    /// Steps that end a run as a failure: see [`Schedule::most_steps`].
    pub most_steps: u64,
    /// What users do, in all.
    pub commands: (u64, u64),
    /// What goes wrong, in all.
    pub faults: (u64, u64),
    /// Of a hundred members those that are almost never there; at least one always is.
    pub dormant_percent: u64,
    /// The wires.
    pub quality: Quality,
    /// Which faults.
    pub weights: Weights,
    /// Of a hundred members those that are not there at all until the busy time ends, the last ones.
    pub asleep_percent: u64,
    /// What users ask for.
    pub mood: Mood,
    /// Of a hundred commands those that make one and the same member break the protocol.
    pub misdeeds_percent: u32,
}

impl Profile {
    /// Nothing goes wrong, and no message is lost.
    pub const CALM: Self = Self {
        name: "calm",
        members: (2, 12),
        busy_ms: (5 * MINUTE, 20 * MINUTE),
        settle_ms: 10 * MINUTE,
        most_steps: 10_000_000,
        commands: (5, 60),
        faults: (0, 0),
        dormant_percent: 0,
        asleep_percent: 0,
        quality: Quality::CALM,
        weights: Weights::NONE,
        mood: Mood::Usual,
        misdeeds_percent: 0,
    };

    /// Everything, on rough wires.
    pub const MIXED: Self = Self {
        name: "mixed",
        faults: (3, 40),
        quality: Quality::ROUGH,
        weights: Weights {
            crash: 6,
            failing_commit: 3,
            partition: 5,
            one_way_cut: 3,
            offline: 2,
            clock_skew: 1,
            disk_restore: 1,
            flood: 1,
            withhold: 1,
        },
        ..Self::CALM
    };

    /// Partitions, one-way cuts, and members that are offline for long.
    pub const PARTITIONS: Self = Self {
        name: "partitions",
        faults: (3, 20),
        weights: Weights { partition: 5, one_way_cut: 2, offline: 1, ..Weights::NONE },
        ..Self::MIXED
    };

    /// Crashes and failing writes.
    pub const CRASHES: Self = Self {
        name: "crashes",
        faults: (5, 40),
        weights: Weights { crash: 4, failing_commit: 1, ..Weights::NONE },
        ..Self::MIXED
    };

    /// Six of ten members are almost never there.
    pub const DORMANT: Self = Self { name: "dormant", dormant_percent: 60, members: (5, 20), ..Self::MIXED };

    /// Up to 50 members.
    pub const LARGE: Self = Self { name: "large", members: (30, 50), ..Self::MIXED };

    /// Days, with members that are away for days.
    pub const LONG: Self = Self {
        name: "long",
        members: (2, 5),
        busy_ms: (3 * 24 * HOUR, 6 * 24 * HOUR),
        weights: Weights { offline: 6, partition: 3, ..Self::MIXED.weights },
        ..Self::MIXED
    };

    /// Members who remove each other on all sides of partitions.
    pub const QUARRELS: Self = Self {
        name: "quarrels",
        members: (3, 9),
        mood: Mood::Quarrels,
        weights: Weights { withhold: 2, ..Self::PARTITIONS.weights },
        ..Self::PARTITIONS
    };

    /// Long histories on both sides of partitions, of the few who are there.
    pub const RESTLESS: Self = Self {
        name: "restless",
        members: (5, 10),
        busy_ms: (20 * MINUTE, 40 * MINUTE),
        commands: (60, 160),
        faults: (3, 12),
        dormant_percent: 60,
        mood: Mood::Restless,
        weights: Weights { partition: 6, withhold: 3, ..Weights::NONE },
        ..Self::MIXED
    };

    /// One member breaks the protocol in every way that it can, while the network is cut now and then.
    pub const MISDEEDS: Self = Self {
        name: "misdeeds",
        members: (4, 9),
        misdeeds_percent: 25,
        weights: Weights { partition: 8, flood: 1, withhold: 2, ..Weights::NONE },
        ..Self::MIXED
    };

    /// More than half are never there, and the others are parted for long: histories on both sides that no
    /// majority can choose from.
    pub const ASLEEP: Self = Self {
        name: "asleep",
        members: (20, 20),
        busy_ms: (30 * MINUTE, 40 * MINUTE),
        commands: (250, 350),
        faults: (2, 4),
        asleep_percent: 65,
        quality: Quality::CALM,
        mood: Mood::Restless,
        weights: Weights { partition: 1, ..Weights::NONE },
        ..Self::MIXED
    };

    /// Two or three who remove each other, with commits that are held back.
    pub const DUELS: Self = Self {
        name: "duels",
        members: (2, 3),
        busy_ms: (30 * MINUTE, 60 * MINUTE),
        commands: (10, 40),
        faults: (3, 10),
        weights: Weights { partition: 2, withhold: 4, ..Weights::NONE },
        ..Self::QUARRELS
    };

    /// Eight members who are all there, and a change every ten seconds: how rare forks are. Of so many wishes
    /// one in four is allowed and changes anything.
    pub const STEADY: Self = Self {
        name: "steady",
        members: (10, 10),
        busy_ms: (20 * MINUTE, 20 * MINUTE),
        commands: (900, 900),
        mood: Mood::Busy,
        ..Self::CALM
    };

    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::CALM,
        Self::MIXED,
        Self::PARTITIONS,
        Self::CRASHES,
        Self::DORMANT,
        Self::LARGE,
        Self::LONG,
        Self::QUARRELS,
        Self::RESTLESS,
        Self::MISDEEDS,
        Self::ASLEEP,
        Self::DUELS,
        Self::STEADY,
    ];

    /// The profile of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name == name)
    }

    /// Draws a schedule. `command` draws what users do, in the order of time: it is told how many members
    /// there are and when it is, in milliseconds of the world's clock.
    pub fn schedule<C>(
        &self,
        seed: u64,
        mut command: impl FnMut(&mut Draw, u16, u64) -> Action<C>,
    ) -> Schedule<C> {
        let mut draw = Draw::new(seed, Stream::Schedule);
        let members = u16::try_from(draw.within(&range(self.members))).unwrap_or(u16::MAX);
        let busy_ms = draw.within(&range(self.busy_ms));
        let commands = draw.within(&range(self.commands));
        let mut times: Vec<u64> = (0..commands).map(|_| draw.below(busy_ms)).collect();
        times.sort_unstable();
        let mut actions = Vec::new();
        for at_ms in times {
            actions.push(Planned { at_ms, action: command(&mut draw, members, at_ms) });
        }
        let mut faults = Faults { draw, members, busy_ms };
        for _ in 0..faults.draw.within(&range(self.faults)) {
            let at_ms = faults.draw.below(busy_ms);
            actions.extend(faults.any(&self.weights, at_ms).map(|fault| fault.planned(at_ms)));
        }
        faults.dormancy(self.dormant_percent, &mut actions);
        faults.sleep(self.asleep_percent, &mut actions);
        actions.sort_by_key(|planned| planned.at_ms);
        let Self { quality, settle_ms, most_steps, .. } = *self;
        Schedule { seed, members, quality, busy_ms, settle_ms, most_steps, actions }
    }
}

impl Fault {
    fn planned<C>(self, at_ms: u64) -> Planned<C> {
        Planned { at_ms, action: Action::Fault(self) }
    }
}

struct Faults {
    draw: Draw,
    members: u16,
    busy_ms: u64,
}

impl Faults {
    fn member(&mut self) -> MemberId {
        MemberId(u16::try_from(self.draw.below(u64::from(self.members))).unwrap_or_default())
    }

    /// From a short break to half of the busy time, short ones as often as long ones.
    fn length_ms(&mut self, least: u64) -> u64 {
        self.draw.magnitude(&(least..=(self.busy_ms / 2).max(least)))
    }

    fn nth(&mut self) -> u32 {
        u32::try_from(self.draw.within(&(1..=MAX_WRITES_AHEAD))).unwrap_or(1)
    }

    fn any(&mut self, weights: &Weights, at_ms: u64) -> Option<Fault> {
        let Weights { crash, failing_commit, partition, one_way_cut, offline, .. } = *weights;
        let Weights { clock_skew, disk_restore, flood, withhold, .. } = *weights;
        let all = [
            crash,
            failing_commit,
            partition,
            one_way_cut,
            offline,
            clock_skew,
            disk_restore,
            flood,
            withhold,
        ];
        let member = self.member();
        Some(match self.draw.weighted(&all)? {
            0 => Fault::Crash { member, at: self.crash_at(), down_ms: self.length_ms(100) },
            1 => Fault::FailingCommit { member, write: self.nth() },
            2 => self.partition(),
            3 => Fault::OneWayCut { from: member, to: self.member(), for_ms: self.length_ms(5 * SECOND) },
            4 => Fault::Offline { member, for_ms: self.length_ms(MINUTE) },
            5 => {
                let skew_ms = self.draw.within(&(0..=2 * MAX_SKEW_MS));
                let ahead = i64::try_from(skew_ms).unwrap_or_default();
                Fault::ClockSkew { member, skew_ms: ahead.saturating_sub_unsigned(MAX_SKEW_MS) }
            }
            6 => {
                let taken_ms = self.draw.below(at_ms);
                Fault::DiskRestore { member, taken_ms, down_ms: self.length_ms(SECOND) }
            }
            7 => {
                let copies = u32::try_from(self.draw.within(&(1..=MAX_FLOOD_COPIES))).unwrap_or(1);
                Fault::Flood { member, copies, for_ms: self.draw.magnitude(&(SECOND..=MINUTE)) }
            }
            _ => Fault::Withhold { member, for_ms: self.length_ms(SECOND) },
        })
    }

    fn crash_at(&mut self) -> CrashAt {
        match self.draw.below(3) {
            0 => CrashAt::Now,
            1 => CrashAt::BeforeWrite(self.nth()),
            _ => CrashAt::AfterWrite(self.nth()),
        }
    }

    fn partition(&mut self) -> Fault {
        let parts = self.draw.index(3) + 2;
        let mut groups = vec![Vec::new(); parts];
        for member in (0..self.members).map(MemberId) {
            let part = self.draw.index(parts);
            groups.iter_mut().skip(part).take(1).for_each(|group| group.push(member));
        }
        groups.retain(|group| !group.is_empty());
        Fault::Partition { groups, for_ms: self.length_ms(5 * SECOND) }
    }

    /// The last members are away until the busy time ends.
    fn sleep<C>(&self, percent: u64, actions: &mut Vec<Planned<C>>) {
        let asleep = u64::from(self.members) * percent.min(100) / 100;
        let asleep = u16::try_from(asleep).unwrap_or(u16::MAX).min(self.members.saturating_sub(1));
        for member in (self.members - asleep..self.members).map(MemberId) {
            let away = Fault::Crash { member, at: CrashAt::Now, down_ms: self.busy_ms };
            actions.push(away.planned(10 * SECOND));
        }
    }

    /// The dormant look in now and then, each time for a minute or so: their processes are down between.
    fn dormancy<C>(&mut self, percent: u64, actions: &mut Vec<Planned<C>>) {
        let mut everyone: Vec<MemberId> = (0..self.members).map(MemberId).collect();
        self.draw.shuffle(&mut everyone);
        let dormant = (everyone.len() * usize::try_from(percent.min(100)).unwrap_or_default() / 100)
            .min(everyone.len().saturating_sub(1));
        for member in everyone.into_iter().take(dormant) {
            let mut at_ms = self.draw.below(2 * MINUTE);
            while at_ms < self.busy_ms {
                let down_ms = self.draw.magnitude(&(5 * MINUTE..=(self.busy_ms / 2).max(5 * MINUTE)));
                actions.push(Fault::Crash { member, at: CrashAt::Now, down_ms }.planned(at_ms));
                at_ms = at_ms.saturating_add(down_ms + self.draw.within(&(20 * SECOND..=2 * MINUTE)));
            }
        }
    }
}
