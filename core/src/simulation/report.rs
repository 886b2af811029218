//! What a run did, and what was wrong with it.

use std::{collections::BTreeMap, fmt};

use super::{
    actor::MemberId,
    disk::{Fired, Write},
    schedule::At,
};

/// The rule that a panic breaks.
pub const NO_PANIC: &str = "no_panic";

/// The rule that endless work breaks.
pub const ENDS: &str = "ends";

/// The count of messages that arrived.
pub const ARRIVED: &str = "messages arrived";

/// One run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What it was decided by.
    pub seed: u64,
    /// The fingerprint of all that happened in it, in its order.
    pub trace: u64,
    /// How often a member acted.
    pub steps: u64,
    /// How many members there were.
    pub members: u16,
    /// How long after all was healed the world was not [settled](super::Scenario::is_settled), in
    /// milliseconds.
    pub settled_ms: u64,
    /// How long it took on the world's clock, in milliseconds.
    pub virtual_ms: u64,
    /// What happened how often: the world's counts, and those of the actors.
    pub counts: BTreeMap<&'static str, u64>,
    /// How it ended, in the words of its scenario; empty if a rule was broken.
    pub outcome: String,
    /// Every attempt to write, if it was asked to record them.
    pub writes: Vec<(MemberId, Write)>,
    /// What ended it early, if something did.
    pub violation: Option<Violation>,
    /// Where the crashes and failures that waited for a write met theirs.
    pub(super) fired: Vec<Fired>,
}

impl Report {
    /// How often something happened.
    #[must_use]
    pub fn count(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or_default()
    }
}

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its name.
    pub rule: &'static str,
    /// What is wrong.
    pub what: String,
    /// When, in milliseconds of the world's clock.
    pub at_ms: u64,
    /// Who acted last.
    pub member: MemberId,
    /// The steps that led to it, the last one at the end.
    pub last_steps: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} broken at {} by {}: {}", self.rule, At(self.at_ms), self.member, self.what)
    }
}

/// What the world itself counts.
#[derive(Default)]
pub(super) struct Traffic {
    pub(super) sent: u64,
    pub(super) arrived: u64,
    pub(super) lost: u64,
    pub(super) doubled: u64,
    pub(super) reordered: u64,
    pub(super) cut: u64,
    pub(super) cut_on_the_way: u64,
    pub(super) unconnected: u64,
    pub(super) withheld: u64,
    pub(super) flooded: u64,
    pub(super) sessions: u64,
    pub(super) cuts: u64,
    pub(super) crashes: u64,
    pub(super) crashes_in_writes: u64,
    pub(super) restores: u64,
    pub(super) commands: u64,
    pub(super) unheard: u64,
    pub(super) wakes: u64,
}

impl Traffic {
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        [
            ("messages sent", self.sent),
            (ARRIVED, self.arrived),
            ("messages lost", self.lost),
            ("messages doubled", self.doubled),
            ("messages reordered", self.reordered),
            ("messages into a cut", self.cut),
            ("messages cut on the way", self.cut_on_the_way),
            ("messages without a session", self.unconnected),
            ("messages withheld", self.withheld),
            ("messages of floods", self.flooded),
            ("sessions", self.sessions),
            ("cuts", self.cuts),
            ("crashes", self.crashes),
            ("crashes in a write", self.crashes_in_writes),
            ("disks restored", self.restores),
            ("commands", self.commands),
            ("commands unheard", self.unheard),
            ("alarms", self.wakes),
        ]
        .into_iter()
    }
}
