//! Makes a failing schedule shorter while it breaks the same rule: delta debugging (Zeller and Hildebrandt,
//! "Simplifying and isolating failure-inducing input", 2002).

use std::{fmt, ops::Range};

use super::{
    report::{Report, Violation},
    run::{CommandOf, replay},
    scenario::Scenario,
    schedule::Schedule,
};

/// A failing schedule, and what is left of it.
#[derive(Clone, Debug)]
pub struct Minimised<C> {
    /// The places in the seed's schedule of the actions that are left, once armed faults stand before their writes.
    pub kept: Vec<usize>,
    /// How many actions there were.
    pub of: usize,
    /// Whether it also fails when no message is lost, doubled or overtaken.
    pub calm: bool,
    /// What is left.
    pub schedule: Schedule<C>,
    /// The rule that it still breaks.
    pub violation: Violation,
    /// How many runs it took.
    pub runs: usize,
}

/// A part of a seed's schedule, as [`Minimised`] names it: how a shortened run is seen again.
pub fn part_of<S: Scenario>(scenario: &S, seed: u64, kept: &[usize], calm: bool) -> Schedule<CommandOf<S>> {
    let (full, _) = sharpest(scenario, seed);
    let quality = if calm { full.quality.calmed() } else { full.quality };
    Schedule { quality, ..full.keep(kept) }
}

/// Shortens the schedule of a failing seed in at most `most_runs` runs; none if the seed does not fail.
pub fn minimise<S: Scenario>(scenario: &S, seed: u64, most_runs: usize) -> Option<Minimised<CommandOf<S>>> {
    let (full, violation) = sharpest(scenario, seed);
    let of = full.actions.len();
    let mut search = Search { scenario, violation: violation?, runs: 2, most_runs };

    let mut kept: Vec<usize> = (0..of).collect();
    // What came after cannot have been the cause.
    let at_ms = search.violation.at_ms;
    let before = full.actions.iter().take_while(|planned| planned.at_ms <= at_ms).count();
    search.shorten(&mut kept, &full, before..of);
    let calm_links = Schedule { quality: full.quality.calmed(), ..full.clone() };
    let calm = full.quality != calm_links.quality && search.fails(&calm_links.keep(&kept));
    let full = if calm { calm_links } else { full };

    let mut size = kept.len().div_ceil(2).max(1);
    loop {
        let mut shorter = false;
        let mut start = 0;
        while start < kept.len() {
            let end = (start + size).min(kept.len());
            if search.shorten(&mut kept, &full, start..end) {
                shorter = true;
            } else {
                start = end;
            }
        }
        if search.is_spent() || (size == 1 && !shorter) {
            break;
        }
        size = size.div_ceil(2);
    }
    let schedule = full.keep(&kept);
    let Search { violation, runs, .. } = search;
    Some(Minimised { kept, of, calm, schedule, violation, runs })
}

/// A seed's schedule with its armed faults just before their writes, unless that hides what it breaks.
fn sharpest<S: Scenario>(scenario: &S, seed: u64) -> (Schedule<CommandOf<S>>, Option<Violation>) {
    let full = scenario.schedule(seed);
    let Report { violation, fired, .. } = replay(scenario, &full);
    let sharp = full.sharpened(&fired);
    let again = replay(scenario, &sharp).violation;
    let rule = |violation: &Option<Violation>| violation.as_ref().map(|violation| violation.rule);
    if rule(&violation) == rule(&again) { (sharp, again) } else { (full, violation) }
}

struct Search<'s, S> {
    scenario: &'s S,
    violation: Violation,
    runs: usize,
    most_runs: usize,
}

impl<S: Scenario> Search<'_, S> {
    fn is_spent(&self) -> bool {
        self.runs >= self.most_runs
    }

    /// Leaves out a part of what is kept, if the rest still fails.
    fn shorten(&mut self, kept: &mut Vec<usize>, full: &Schedule<CommandOf<S>>, part: Range<usize>) -> bool {
        if part.is_empty() {
            return false;
        }
        let inside = |(place, index): (usize, &usize)| (!part.contains(&place)).then_some(*index);
        let rest: Vec<usize> = kept.iter().enumerate().filter_map(inside).collect();
        let fails = self.fails(&full.keep(&rest));
        if fails {
            *kept = rest;
        }
        fails
    }

    fn fails(&mut self, schedule: &Schedule<CommandOf<S>>) -> bool {
        if self.is_spent() {
            return false;
        }
        self.runs += 1;
        let violation = replay(self.scenario, schedule).violation;
        let same = violation.filter(|violation| violation.rule == self.violation.rule);
        same.map(|violation| self.violation = violation).is_some()
    }
}

impl<C: fmt::Debug> fmt::Display for Minimised<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept: Vec<String> = self.kept.iter().map(ToString::to_string).collect();
        writeln!(f, "{} of {} actions left after {} runs", self.kept.len(), self.of, self.runs)?;
        let calm = if self.calm { " --calm" } else { "" };
        writeln!(f, "these alone: --keep {}{calm}", kept.join(","))?;
        writeln!(f, "{}", self.schedule)?;
        write!(f, "{}", self.violation)?;
        self.violation.last_steps.iter().try_for_each(|step| write!(f, "\n  {step}"))
    }
}

/// All that a person needs of a failing seed: what it broke, how to see it again, and its shortest form.
pub fn explain<S: Scenario>(scenario: &S, failure: &Report, most_runs: usize) -> String {
    let seed = failure.seed;
    let broken = failure.violation.as_ref().map(ToString::to_string).unwrap_or_default();
    let again = scenario.replay_command(seed);
    let shorter = minimise(scenario, seed, most_runs).map_or_else(
        || "it does not fail again: something outside of the seed decides".into(),
        |it| it.to_string(),
    );
    format!("seed {seed}: {broken}\nagain: {again}\n{shorter}")
}
