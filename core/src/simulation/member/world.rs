//! Worlds of members on either engine, under one name for those who run seeds by the thousand.

use std::ops::Range;

use super::{Members, person::Config};
use crate::{
    group::{fake::FakeState, state::GroupState, testing::Hostile},
    simulation::{Profile, Report, Totals, explain, part_of, replay, run, survey, sweep},
};

/// Seeds of one kind of world.
pub trait World: Sync {
    /// Runs seeds until one fails or all have run.
    fn sweep(&self, seeds: Range<u64>, threads: usize) -> Totals;

    /// Runs seeds, also when some fail.
    fn survey(&self, seeds: Range<u64>, threads: usize) -> Totals;

    /// Runs one seed.
    fn run(&self, seed: u64) -> Report;

    /// Runs a part of a seed's schedule: see [`part_of`].
    fn run_part(&self, seed: u64, kept: &[usize], calm: bool) -> Report;

    /// What a person needs of a failing seed: see [`explain`].
    fn explain(&self, failure: &Report, most_runs: usize) -> String;
}

impl<E: Hostile> World for Members<E> {
    fn sweep(&self, seeds: Range<u64>, threads: usize) -> Totals {
        sweep(self, seeds, threads)
    }

    fn survey(&self, seeds: Range<u64>, threads: usize) -> Totals {
        survey(self, seeds, threads)
    }

    fn run(&self, seed: u64) -> Report {
        run(self, seed)
    }

    fn run_part(&self, seed: u64, kept: &[usize], calm: bool) -> Report {
        replay(self, &part_of(self, seed, kept, calm))
    }

    fn explain(&self, failure: &Report, most_runs: usize) -> String {
        explain(self, failure, most_runs)
    }
}

/// The world of that name: `fake` or `openmls` below, in some weather.
#[must_use]
pub fn world(backend: &str, profile: Profile, config: Config) -> Option<Box<dyn World>> {
    match backend {
        "fake" => Some(Box::new(Members::<FakeState>::new(profile, "fake").with(config))),
        "openmls" => Some(Box::new(Members::<GroupState>::new(profile, "openmls").with(config))),
        _ => None,
    }
}
