//! Runs seeds of the simulated group and tells what they did: see `--help`.
//!
//! A failing seed is printed with the command that runs it again, and with the shortest schedule that still
//! fails.

use std::{
    io::{self, Write as _},
    ops::Range,
    process::ExitCode,
    thread,
};

use clap::Parser;
use spacepanda_core::{
    mutant::Mutant,
    simulation::{
        Profile, Report, Totals,
        member::{Config, World, world},
    },
};

/// Between two Tips, on average, milliseconds: a round of talk.
const ROUND_MS: u64 = 30_000;

/// Windows that must make no difference to who is in the group and what was said: milliseconds.
const WINDOWS_MS: [u64; 3] = [3_600_000, 72 * 3_600_000, 7 * 24 * 3_600_000];
/// What the table of the long runs tells of each weather.
const TOLD: [&str; 6] = ["commits", "forks", "forks seen", "heals", "rejoins", "carries"];
/// The long runs: 100,000 seeds on the fake and 2,000 on openmls.
const LONG_RUNS: [(&str, Profile, u64); 11] = [
    ("openmls", Profile::CALM, 1_400),
    ("openmls", Profile::CRASHES, 300),
    ("openmls", Profile::PARTITIONS, 300),
    ("fake", Profile::QUARRELS, 1_500),
    ("fake", Profile::MISDEEDS, 1_000),
    ("fake", Profile::RESTLESS, 500),
    ("fake", Profile::MIXED, 2_000),
    ("fake", Profile::PARTITIONS, 10_000),
    ("fake", Profile::DORMANT, 10_000),
    ("fake", Profile::CRASHES, 15_000),
    ("fake", Profile::CALM, 60_000),
];

/// Runs seeds of a simulated group until one breaks a rule or all have run.
#[derive(Parser)]
struct Options {
    /// Which seeds, for example 0..5000.
    #[arg(long, value_parser = seeds, default_value = "0..1000")]
    seeds: Range<u64>,
    /// The MLS below: fake or openmls.
    #[arg(long, default_value = "fake")]
    backend: String,
    /// The weather: calm, mixed, partitions, crashes, dormant, large, long, quarrels, restless,
    /// misdeeds, asleep, duels or steady.
    #[arg(long, default_value = "mixed")]
    profile: String,
    /// Runs this seed alone.
    #[arg(long)]
    replay: Option<u64>,
    /// With --replay: only these actions of its schedule.
    #[arg(long, value_delimiter = ',')]
    keep: Option<Vec<usize>>,
    /// With --keep: on wires that lose nothing.
    #[arg(long)]
    calm: bool,
    /// Nobody waits for others' turns to commit: how many forks that makes.
    #[arg(long)]
    without_slots: bool,
    /// Goes on when a seed fails, and lists all that do.
    #[arg(long)]
    all: bool,
    /// The long runs, all weather: a table of what happened in them.
    #[arg(long)]
    long: bool,
    /// Runs each seed with the shortest window of secrets, the usual and the longest one, and compares.
    #[arg(long)]
    windows: bool,
    /// Threads; by default one for each processor.
    #[arg(long)]
    threads: Option<usize>,
    /// How many runs to spend on shortening a failing schedule.
    #[arg(long, default_value_t = 300)]
    most_runs: usize,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("two numbers with .. between them")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
    Ok(number(from)?..number(to)?)
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.long {
        return long_runs(options.threads());
    }
    let mut out = io::stdout().lock();
    let mutant = options.without_slots.then_some(Mutant::SlotsOff);
    let config = Config { mutant, ..Config::default() };
    let profile = Profile::named(&options.profile);
    let world = profile.and_then(|profile| world(&options.backend, profile, config));
    let Some(world) = world else {
        let _ = writeln!(out, "there is no such weather or backend");
        return ExitCode::FAILURE;
    };
    // openmls needs a deep stack in debug builds.
    let run = thread::Builder::new().stack_size(64 << 20).name("simulate".into());
    let told = thread::scope(|scope| {
        let run = run.spawn_scoped(scope, || tell(&options, &*world));
        run.map(thread::ScopedJoinHandle::join)
    });
    match told {
        Ok(Ok((text, holds))) => {
            let _ = writeln!(out, "{text}");
            if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        _ => ExitCode::FAILURE,
    }
}

/// What the seeds did, and whether every rule holds.
fn tell(options: &Options, world: &dyn World) -> (String, bool) {
    if let Some(seed) = options.replay {
        let report = match &options.keep {
            Some(kept) => world.run_part(seed, kept, options.calm),
            None => world.run(seed),
        };
        return (replayed(&report), report.violation.is_none());
    }
    let threads = options.threads();
    if options.windows {
        return across_windows(options);
    }
    if options.all {
        let totals = world.survey(options.seeds.clone(), threads);
        let failed = totals.failed.iter().map(|(seed, rule)| format!("seed {seed} breaks {rule}\n"));
        let text = told(options, &totals);
        return (failed.chain([text]).collect(), totals.failed.is_empty());
    }
    let totals = world.sweep(options.seeds.clone(), threads);
    match &totals.failure {
        None => (told(options, &totals), true),
        Some(failure) => (format!("{totals}\n{}", world.explain(failure, options.most_runs)), false),
    }
}

impl Options {
    fn threads(&self) -> usize {
        self.threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from))
    }
}

/// One line for each weather, as soon as its seeds have run; nothing in it depends on the machine.
fn long_runs(threads: usize) -> ExitCode {
    let mut out = io::stdout().lock();
    let mut holds = true;
    let _ = writeln!(out, "| engine | profile | seeds | {} | late | broken |", TOLD.join(" | "));
    let _ = writeln!(out, "|{}", "---|".repeat(TOLD.len() + 5));
    for (backend, profile, seeds) in LONG_RUNS {
        let Some(world) = world(backend, profile, Config::default()) else { return ExitCode::FAILURE };
        let totals = world.survey(0..seeds, threads);
        holds &= totals.failed.is_empty();
        let counts = TOLD.map(|what| totals.counts.get(what).copied().unwrap_or_default().to_string());
        let broken = totals.failed.iter().map(|(seed, rule)| format!("{seed} (`{rule}`)"));
        let broken = broken.collect::<Vec<_>>().join(", ");
        let broken = if broken.is_empty() { "none".into() } else { broken };
        let (counts, late) = (counts.join(" | "), late(&totals));
        let _ = writeln!(out, "| {backend} | {} | 0..{seeds} | {counts} | {late} | {broken} |", profile.name);
        let _ = out.flush();
    }
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Which seeds end otherwise with another window.
fn across_windows(options: &Options) -> (String, bool) {
    let worlds = WINDOWS_MS.map(|window_ms| {
        let profile = Profile::named(&options.profile)?;
        world(&options.backend, profile, Config { window_ms, ..Config::default() })
    });
    let worlds: Vec<_> = worlds.into_iter().flatten().collect();
    let mut told = Vec::new();
    for seed in options.seeds.clone() {
        let ends: Vec<_> = worlds.iter().map(|world| world.run(seed).outcome).collect();
        if ends.iter().any(|end| Some(end) != ends.first()) {
            told.push(format!("seed {seed} ends otherwise with another window:\n{}", ends.join("\n")));
        }
    }
    let holds = told.is_empty();
    let seeds = options.seeds.end - options.seeds.start;
    told.push(format!("{seeds} seeds with each of {} windows", worlds.len()));
    (told.join("\n"), holds)
}

/// How many seeds took longer to agree than [`most_rounds`].
fn late(totals: &Totals) -> usize {
    let rounds = |settled_ms: u64| settled_ms.div_ceil(ROUND_MS);
    totals.settled_ms.iter().filter(|(members, ms)| rounds(*ms) > most_rounds(*members)).count()
}

/// What the seeds did, and how fast members found together again.
fn told(options: &Options, totals: &Totals) -> String {
    let rounds = |settled_ms: u64| settled_ms.div_ceil(ROUND_MS);
    let late = late(totals);
    let longest = totals.settled_ms.iter().map(|(_, ms)| rounds(*ms)).max().unwrap_or_default();
    format!(
        "{} on {}: {totals}\n  {late:>12}  seeds needed more than ceil(log2 n) + ceil(ln n) + 4 rounds to agree\n  \
         {longest:>12}  rounds was the longest",
        options.profile, options.backend
    )
}

/// Rounds of talk in which members of a healed group are to agree, even where nobody was removed.
fn most_rounds(members: u16) -> u64 {
    let most = (f64::from(members).log2().ceil() + f64::from(members).ln().ceil()).max(0.0);
    (0..=64_u16).find(|whole| f64::from(*whole) >= most).map_or(64, u64::from) + 4
}

fn replayed(report: &Report) -> String {
    let counts = report.counts.iter().map(|(what, times)| format!("  {times:>10}  {what}"));
    let mut lines: Vec<String> = counts.collect();
    match &report.violation {
        Some(violation) => {
            lines.push(violation.to_string());
            lines.extend(violation.last_steps.iter().map(|step| format!("  {step}")));
        }
        None => lines.push(format!("every rule holds; {}", report.outcome)),
    }
    lines.join("\n")
}
