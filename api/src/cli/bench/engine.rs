//! The group engine alone, in a group of 100: adding a member, and going over to another branch. Without
//! server, disk or network.

use std::time::Duration;

use spacepanda_core::{group::error::GroupError, measure};

use super::report::{Row, reference};

/// Commits of the branch that is entered: as many as the window keeps.
const SWITCHED: u32 = 8;

/// The rows of the engine; without those that failed.
pub(super) fn measure() -> Vec<Row> {
    let row = |metric, time: Result<Duration, GroupError>, raw, goal| {
        let time = time.inspect_err(|error| tracing::error!(%error, "the engine failed")).ok()?;
        let measured = time.as_secs_f64() * 1_000.0;
        Some(Row { metric, unit: "ms", measured, raw: Some(raw), goal: Some(goal), higher_is_better: false })
    };
    let add = row(
        "add one to a space of 100, in the engine",
        measure::add_one(100, 21),
        reference::ADD_TO_100_MS,
        50.0,
    );
    let switch = row(
        "head switch over 8 commits, space of 100, in the engine",
        measure::switch(100, SWITCHED, 5),
        f64::from(SWITCHED) * reference::PROCESS_AT_100_MS,
        250.0,
    );
    add.into_iter().chain(switch).collect()
}
