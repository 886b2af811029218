//! The group engine alone: adding a member to a group of 100, without server, disk or network.

use std::time::Duration;

use super::report::{Row, reference};

/// The row of the engine; none when it failed.
pub(super) fn measure() -> Option<Row> {
    let time = engine_add_100()?;
    Some(Row {
        metric: "add one to a space of 100, in the engine",
        unit: "ms",
        measured: time.as_secs_f64() * 1_000.0,
        raw: Some(reference::ADD_TO_100_MS),
        goal: Some(50.0),
        higher_is_better: false,
    })
}

/// The median of as many commits as give a steady one.
fn engine_add_100() -> Option<Duration> {
    spacepanda_core::measure::add_one(100, 21)
        .inspect_err(|error| tracing::error!(%error, "the engine failed"))
        .ok()
}
