//! Writes that are interrupted on purpose: which attempt fails, and before or after which one a process dies.

use super::schedule::CrashAt;

/// One write of a run, as the crash matrix enumerates them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// The how many-th attempt of its member, from 1; attempts that failed and lives that ended count.
    pub number: u64,
    /// What kind of transaction it was.
    pub step: &'static str,
}

/// What becomes of an attempt to write.
pub(super) enum Fate {
    Written,
    Fails,
    CrashBefore { down_ms: u64 },
    CrashAfter { down_ms: u64 },
}

/// An armed action of the schedule that met its write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fired {
    /// Its place in the schedule.
    pub(super) action: usize,
    pub(super) at_ms: u64,
    /// The how many-th write of its member in that millisecond it was, from 1.
    pub(super) nth: u32,
}

#[derive(Clone, Copy)]
struct Armed {
    action: usize,
    number: u64,
    fate: ArmedFate,
}

#[derive(Clone, Copy)]
enum ArmedFate {
    Fails,
    Before { down_ms: u64 },
    After { down_ms: u64 },
}

/// A member's attempts to write, in all of its lives, and what waits for those to come.
#[derive(Default)]
pub(super) struct Writes {
    pub(super) attempts: u64,
    pub(super) failed: u64,
    pub(super) fired: Vec<Fired>,
    armed: Vec<Armed>,
    /// The last millisecond with a write, and the attempts before it.
    moment: (u64, u64),
    log: Option<Vec<Write>>,
}

impl Writes {
    /// Keeps a list of all attempts from now on.
    pub(super) fn record(&mut self) {
        self.log = Some(Vec::new());
    }

    pub(super) fn recorded(&self) -> &[Write] {
        self.log.as_deref().unwrap_or_default()
    }

    /// Arms a crash of the schedule; one that waits for no write is none of ours.
    pub(super) fn arm_crash(&mut self, action: usize, at: CrashAt, down_ms: u64) {
        match at {
            CrashAt::Now => {}
            CrashAt::BeforeWrite(nth) => self.arm(action, nth, ArmedFate::Before { down_ms }),
            CrashAt::AfterWrite(nth) => self.arm(action, nth, ArmedFate::After { down_ms }),
        }
    }

    /// Arms a failing write of the schedule.
    pub(super) fn arm_failure(&mut self, action: usize, nth: u32) {
        self.arm(action, nth, ArmedFate::Fails);
    }

    fn arm(&mut self, action: usize, nth: u32, fate: ArmedFate) {
        self.armed.push(Armed { action, number: self.attempts + u64::from(nth), fate });
    }

    pub(super) fn disarm(&mut self) {
        self.armed.clear();
    }

    pub(super) fn attempt(&mut self, now_ms: u64, step: &'static str) -> Fate {
        if self.moment.0 != now_ms {
            self.moment = (now_ms, self.attempts);
        }
        self.attempts += 1;
        let number = self.attempts;
        if let Some(log) = &mut self.log {
            log.push(Write { number, step });
        }
        if self.armed.is_empty() {
            return Fate::Written;
        }
        let met = self.armed.iter().find(|armed| armed.number == number).copied();
        self.armed.retain(|armed| armed.number > number);
        let Some(Armed { action, fate, .. }) = met else { return Fate::Written };
        let nth = u32::try_from(number - self.moment.1).unwrap_or(u32::MAX);
        self.fired.push(Fired { action, at_ms: now_ms, nth });
        match fate {
            ArmedFate::Fails => {
                self.failed += 1;
                Fate::Fails
            }
            ArmedFate::Before { down_ms } => Fate::CrashBefore { down_ms },
            ArmedFate::After { down_ms } => Fate::CrashAfter { down_ms },
        }
    }
}
