//! The server that the scenarios start: the product's own program under a name that only tests use.
//!
//! Nothing but the call, after the clock is set. The code is the product's, with one difference: the core is built
//! with its feature `testing`, which the hostile parties of the scenarios and the clock need and no path of the
//! server takes.

use std::{process::ExitCode, time::Duration};

use spacepanda_core::clock;

/// How many milliseconds the wall clock is to be ahead: days pass in no time.
const CLOCK_AHEAD: &str = "UNDER_TEST_CLOCK_AHEAD_MS";

fn main() -> ExitCode {
    let ahead = std::env::var(CLOCK_AHEAD).ok().and_then(|text| text.parse().ok());
    clock::put_ahead(Duration::from_millis(ahead.unwrap_or(0)));
    spacepanda_api::run()
}
