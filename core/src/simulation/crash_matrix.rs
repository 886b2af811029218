//! Every kind of write, interrupted before and after: each run must end like the uninterrupted one.

use std::collections::BTreeMap;

use super::{
    actor::MemberId,
    disk::Write,
    run::{CommandOf, replay, replay_recording},
    scenario::Scenario,
    schedule::{Action, CrashAt, Fault, Schedule},
};

/// One crash of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashCase {
    /// Whose process died.
    pub member: MemberId,
    /// In which write.
    pub write: Write,
    /// Before it or after.
    pub at: CrashAt,
}

/// What the crashes of one schedule led to.
#[derive(Debug, Default)]
pub struct CrashMatrix {
    /// How many crashes of each kind of write were tried, before and after together.
    pub tried: BTreeMap<&'static str, usize>,
    /// Those that broke a rule or ended otherwise than the uninterrupted run, and how.
    pub different: Vec<(CrashCase, String)>,
}

/// Crashes one process in one write at a time, before and after, and compares the
/// [outcomes](Scenario::outcome). Of each kind of write `per_step` are taken, spread over the run.
///
/// # Errors
/// What is wrong with the run that nothing interrupts.
pub fn crash_matrix<S: Scenario>(
    scenario: &S,
    schedule: &Schedule<CommandOf<S>>,
    per_step: usize,
    down_ms: u64,
) -> Result<CrashMatrix, String> {
    let whole = replay_recording(scenario, schedule);
    if let Some(violation) = whole.violation {
        return Err(violation.to_string());
    }
    let mut by_step: BTreeMap<&'static str, Vec<(MemberId, Write)>> = BTreeMap::new();
    for (member, write) in whole.writes {
        by_step.entry(write.step).or_default().push((member, write));
    }
    let mut matrix = CrashMatrix::default();
    for (step, writes) in by_step {
        let stride = writes.len().div_ceil(per_step.max(1)).max(1);
        for (member, write) in writes.into_iter().step_by(stride) {
            let nth = u32::try_from(write.number).unwrap_or(u32::MAX);
            for at in [CrashAt::BeforeWrite(nth), CrashAt::AfterWrite(nth)] {
                *matrix.tried.entry(step).or_default() += 1;
                let crash = Action::Fault(Fault::Crash { member, at, down_ms });
                let crashed = replay(scenario, &schedule.opening(crash));
                let different = match crashed.violation {
                    Some(violation) => Some(violation.to_string()),
                    None if crashed.outcome != whole.outcome => {
                        Some(format!("{} instead of {}", crashed.outcome, whole.outcome))
                    }
                    None => None,
                };
                matrix.different.extend(different.map(|how| (CrashCase { member, write, at }, how)));
            }
        }
    }
    Ok(matrix)
}
