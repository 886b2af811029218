//! Deterministic simulation: members of a made-up network on one thread and one virtual clock.
//!
//! One seed decides a run completely: who crashes in which write, what is cut off from what, which message is
//! lost. A [`Scenario`] names the [`Actor`]s, what happens to them and the rules they must keep; [`run()`] runs
//! one seed, [`sweep`] many, [`minimise()`] makes a failing one short enough to read.
//!
//! Only for tests of this crate and its users (feature `testing`). Of the protocol only [`member`] knows. A world
//! touches no socket, no file and no clock but its own, and nothing in it depends on the order of a hash map.

mod actor;
mod crash_matrix;
mod disk;
mod draw;
mod fate;
mod host;
mod link;
pub mod member;
mod minimise;
mod network;
mod profile;
mod queue;
mod report;
mod run;
mod scenario;
mod schedule;
mod trace;
mod verdict;
mod world;

#[cfg(test)]
mod tests;

pub use actor::{Actor, Context, Interrupted, MemberId};
pub use crash_matrix::{CrashCase, CrashMatrix, crash_matrix};
pub use disk::Write;
pub use draw::{Draw, Stream};
pub use link::Quality;
pub use minimise::{Minimised, explain, minimise, part_of};
pub use profile::{Mood, Profile, Weights};
pub use report::{ARRIVED, ENDS, NO_PANIC, Report, Violation};
pub use run::{CommandOf, Totals, replay, replay_recording, run, survey, sweep};
pub use scenario::{Rule, Scenario, Sight, Standing, View, When};
pub use schedule::{Action, CrashAt, Fault, Planned, Schedule};
