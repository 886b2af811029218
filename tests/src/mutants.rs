//! Breaks one rule at a time and tells which invariant notices, and after how many seeds.
//!
//! A rule that can be broken without any invariant noticing is not proved by the simulation; the table
//! says so.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    thread,
};

use clap::Parser;
use spacepanda_core::{
    mutant::Mutant,
    simulation::{
        Profile,
        member::{Config, world},
    },
};

/// Kinds of weather in which a mutant is looked for, after the one in which its rule matters most.
const WEATHER: [Profile; 7] = [
    Profile::MIXED,
    Profile::PARTITIONS,
    Profile::CRASHES,
    Profile::DORMANT,
    Profile::QUARRELS,
    Profile::RESTLESS,
    Profile::MISDEEDS,
];

/// Where a rule matters, and whether it is broken in all or in every other one: who breaks a rule of agreement
/// together agrees.
fn first(mutant: Mutant) -> (Profile, bool) {
    match mutant {
        Mutant::SettledLockOff => (Profile::ASLEEP, false),
        Mutant::OwnRemovalHereVoteCounted => (Profile::DUELS, true),
        Mutant::SkeletonClassTrusted => (Profile::MISDEEDS, false),
        Mutant::TieBreakFlipped | Mutant::MajorityLockOff | Mutant::FirstSeenWins => {
            (Profile::PARTITIONS, false)
        }
        Mutant::OldRequestReplayed => (Profile::QUARRELS, true),
        Mutant::OwnRemovalVoteCounted | Mutant::MajorityOfAllOff | Mutant::OutboxDroppedOnSwitch => {
            (Profile::MIXED, false)
        }
        _ => (Profile::MIXED, true),
    }
}

/// Runs the simulated group with one rule broken at a time.
#[derive(Parser)]
struct Options {
    /// Seeds of each kind of weather before a mutant counts as alive.
    #[arg(long, default_value_t = 500)]
    seeds: u64,
    /// Only the mutant of this name.
    #[arg(long)]
    only: Option<String>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let mut out = io::stdout().lock();
    let mut alive = 0;
    let _ =
        writeln!(out, "| mutant | killed by | after seeds | weather | broken by |\n|---|---|---|---|---|");
    for mutant in Mutant::ALL {
        let name = format!("{mutant:?}");
        if options.only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        if mutant == Mutant::SupportCountedPerDevice {
            // An account has one device here, and a device's share of one is one.
            let _ = writeln!(out, "| {name} | the tests of core/src/dag | - | - | - |");
            continue;
        }
        let killed = kill(mutant, options.seeds);
        alive += u32::from(killed.is_none());
        let told = killed.unwrap_or_else(|| "nobody | - | - | -".into());
        let _ = writeln!(out, "| {name} | {told} |");
        let _ = out.flush();
    }
    let _ = writeln!(out, "{alive} alive");
    if alive == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Which rule notices a mutant, after how many seeds, in which weather, and in whom. A seed that fails with
/// all rules whole says nothing of the mutant.
fn kill(mutant: Mutant, seeds: u64) -> Option<String> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut before = 0;
    let usual = WEATHER.into_iter().flat_map(|profile| [(profile, true), (profile, false)]);
    let first = first(mutant);
    for (profile, everyone) in [first].into_iter().chain(usual.filter(|it| *it != first)) {
        let whole = world("fake", profile, Config::default())?;
        let config = Config { mutant: Some(mutant), everyone, ..Config::default() };
        let broken = world("fake", profile, config)?;
        let mut next = 0;
        while let Some(failure) = broken.sweep(next..seeds, threads).failure {
            next = failure.seed + 1;
            if whole.run(failure.seed).violation.is_some() {
                continue;
            }
            let rule = failure.violation.as_ref().map_or("", |violation| violation.rule);
            let by = if everyone { "all" } else { "every other one" };
            return Some(format!("{rule} | {} | {} | {by}", before + next, profile.name));
        }
        before += seeds;
    }
    None
}
