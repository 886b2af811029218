//! Runs of a scenario: one seed, one schedule, or many seeds on several threads.

use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    actor::Actor,
    report::{ARRIVED, NO_PANIC, Report},
    scenario::Scenario,
    schedule::Schedule,
    world::World,
};

/// The commands of a scenario's actors.
pub type CommandOf<S> = <<S as Scenario>::Actor as Actor>::Command;

/// Runs one seed.
pub fn run<S: Scenario>(scenario: &S, seed: u64) -> Report {
    replay(scenario, &scenario.schedule(seed))
}

/// Runs a schedule, which may be a shortened one.
pub fn replay<S: Scenario>(scenario: &S, schedule: &Schedule<CommandOf<S>>) -> Report {
    finish(World::new(scenario, schedule))
}

/// Runs a schedule and lists every write, for the crash matrix.
pub fn replay_recording<S: Scenario>(scenario: &S, schedule: &Schedule<CommandOf<S>>) -> Report {
    let mut world = World::new(scenario, schedule);
    world.record_writes();
    finish(world)
}

/// A panic breaks a rule like any other: it is reported, replayed and shortened.
fn finish<S: Scenario>(mut world: World<'_, S>) -> Report {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world.run())) {
        world.violate(NO_PANIC, told(panic.as_ref()));
    }
    world.report()
}

fn told(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".into())
}

/// What many seeds did together.
#[derive(Debug, Default)]
pub struct Totals {
    /// Seeds that ran to their end.
    pub seeds: u64,
    /// What happened how often.
    pub counts: BTreeMap<&'static str, u64>,
    /// In how many seeds it happened at all.
    pub seeds_with: BTreeMap<&'static str, u64>,
    /// Milliseconds on the worlds' clocks.
    pub virtual_ms: u64,
    /// [`Report::settled_ms`] of each seed, with its members.
    pub settled_ms: Vec<(u16, u64)>,
    /// How long it took.
    pub elapsed: Duration,
    /// The failing seed with the lowest number, of those that ran.
    pub failure: Option<Report>,
    /// All seeds that failed, and the rules that they broke.
    pub failed: BTreeMap<u64, &'static str>,
}

impl Totals {
    fn add(&mut self, report: Report) {
        self.seeds += 1;
        self.virtual_ms = self.virtual_ms.saturating_add(report.virtual_ms);
        self.settled_ms.push((report.members, report.settled_ms));
        for (what, times) in &report.counts {
            *self.counts.entry(what).or_default() += times;
            *self.seeds_with.entry(what).or_default() += u64::from(*times > 0);
        }
        if let Some(violation) = &report.violation {
            self.failed.insert(report.seed, violation.rule);
        }
        let lowest = self.failure.as_ref().is_none_or(|failure| report.seed < failure.seed);
        if report.violation.is_some() && lowest {
            self.failure = Some(report);
        }
    }

    /// Messages that arrived in a second of real time, on all threads together.
    #[must_use]
    pub fn arrivals_per_second(&self) -> u64 {
        let arrived = self.counts.get(ARRIVED).copied().unwrap_or_default();
        let micros = self.elapsed.as_micros().max(1);
        u64::try_from(u128::from(arrived) * 1_000_000 / micros).unwrap_or(u64::MAX)
    }

    /// Within how many milliseconds so many of a thousand healed worlds were settled.
    #[must_use]
    pub fn settled_within_ms(&self, per_mille: usize) -> u64 {
        let mut times: Vec<u64> = self.settled_ms.iter().map(|(_, settled_ms)| *settled_ms).collect();
        times.sort_unstable();
        let place = (times.len() * per_mille).div_ceil(1_000).saturating_sub(1);
        times.get(place).copied().unwrap_or_default()
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = self.virtual_ms / 3_600_000;
        writeln!(f, "{} seeds, {hours} h of their time in {:.1?}", self.seeds, self.elapsed)?;
        for (what, times) in &self.counts {
            let seeds = self.seeds_with.get(what).copied().unwrap_or_default();
            writeln!(f, "  {times:>12}  {what}, in {seeds} seeds")?;
        }
        for per_mille in [500, 990, 999] {
            let settled_ms = self.settled_within_ms(per_mille);
            writeln!(f, "  {settled_ms:>12}  ms after healing {per_mille} of 1000 were settled")?;
        }
        write!(f, "  {:>12}  messages arrived a second", self.arrivals_per_second())
    }
}

/// Runs seeds on several threads, each seed on one, until one fails or all have run.
pub fn sweep<S: Scenario + Sync>(scenario: &S, seeds: Range<u64>, threads: usize) -> Totals {
    many(scenario, seeds, threads, true)
}

/// Runs seeds on several threads, each seed on one, also when some fail.
pub fn survey<S: Scenario + Sync>(scenario: &S, seeds: Range<u64>, threads: usize) -> Totals {
    many(scenario, seeds, threads, false)
}

fn many<S: Scenario + Sync>(
    scenario: &S,
    seeds: Range<u64>,
    threads: usize,
    until_one_fails: bool,
) -> Totals {
    let started = Instant::now();
    let (next, failed, totals) = (AtomicU64::new(seeds.start), AtomicBool::new(false), Mutex::default());
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let report = run(scenario, seed);
            if until_one_fails && report.violation.is_some() {
                failed.store(true, Ordering::Relaxed);
            }
            let totals: &Mutex<Totals> = &totals;
            totals.lock().unwrap_or_else(PoisonError::into_inner).add(report);
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.max(1) {
            scope.spawn(work);
        }
        work();
    });
    let mut totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    totals.elapsed = started.elapsed();
    totals
}
