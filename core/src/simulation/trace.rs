//! A run's fingerprint, and its last steps as people read them.

use std::{collections::VecDeque, fmt};

use super::{actor::MemberId, schedule::At};

/// Steps kept for a report.
const LAST_STEPS: usize = 40;

/// What made a member act.
#[derive(Clone, Copy)]
pub(super) enum Cause {
    Start,
    Up(MemberId),
    Down(MemberId),
    Message { from: MemberId, kind: &'static str, number: u64, fingerprint: u64 },
    Timer,
    Command(usize),
    Crash,
    Restore,
}

#[derive(Clone, Copy)]
struct Step {
    at_ms: u64,
    member: MemberId,
    cause: Cause,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at_ms, member, cause } = self;
        write!(f, "{} {member} ", At(*at_ms))?;
        match cause {
            Cause::Start => write!(f, "starts"),
            Cause::Up(peer) => write!(f, "has a session with {peer}"),
            Cause::Down(peer) => write!(f, "learns that the session with {peer} is over"),
            Cause::Message { from, kind, number, .. } => write!(f, "gets {kind} ({number}) from {from}"),
            Cause::Timer => write!(f, "wakes"),
            Cause::Command(index) => write!(f, "is told action {index}"),
            Cause::Crash => write!(f, "crashes"),
            Cause::Restore => write!(f, "crashes and gets an old disk"),
        }
    }
}

#[derive(Default)]
pub(super) struct Trace {
    hash: u64,
    pub(super) steps: u64,
    last: VecDeque<Step>,
}

impl Trace {
    pub(super) fn note(&mut self, at_ms: u64, member: MemberId, cause: Cause) {
        self.steps += 1;
        let (kind, one, other) = match cause {
            Cause::Start => (1, 0, 0),
            Cause::Up(peer) => (2, u64::from(peer.0), 0),
            Cause::Down(peer) => (3, u64::from(peer.0), 0),
            Cause::Message { from, number, fingerprint, .. } => {
                (4 | u64::from(from.0) << 8, number, fingerprint)
            }
            Cause::Timer => (5, 0, 0),
            Cause::Command(index) => (6, index as u64, 0),
            Cause::Crash => (7, 0, 0),
            Cause::Restore => (8, 0, 0),
        };
        self.mix(&[at_ms, u64::from(member.0) << 32 | kind, one, other]);
        if self.last.len() >= LAST_STEPS {
            self.last.pop_front();
        }
        self.last.push_back(Step { at_ms, member, cause });
    }

    /// Adds what a step did to the fingerprint.
    pub(super) fn mix(&mut self, words: &[u64]) {
        for word in words {
            let mixed = (self.hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.hash = mixed ^ (mixed >> 29);
        }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn last_steps(&self) -> Vec<String> {
        self.last.iter().map(ToString::to_string).collect()
    }
}
