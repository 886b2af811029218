//! `spacepanda demo`: three servers, three people, one of them killed in the middle.
//!
//! Everything goes through the servers' public API; nothing is shown that was not asked for and answered.

mod person;
mod screen;
mod story;
mod verdict;

use std::time::{Duration, Instant};

use super::{
    failure::{Failure, Outcome},
    interrupt,
    output::Output,
};

/// Far above what the story takes; only a server that hangs reaches it.
const STORY_DEADLINE: Duration = Duration::from_secs(90);

/// Plays the story and checks that nothing is missing.
///
/// # Errors
/// With the name of what is missing, or what failed.
pub(super) async fn run(out: Output) -> Result<Outcome, Failure> {
    let begun = Instant::now();
    let told = tokio::select! {
        told = tokio::time::timeout(STORY_DEADLINE, Box::pin(story::play(out))) => told,
        failure = interrupt::requested() => return Err(failure),
    };
    let report =
        told.map_err(|_| Failure::local_fault("DEMO_INCOMPLETE", "the story did not end in time"))??;
    report.print(out, begun.elapsed())?;
    let missing = report.missing();
    if missing.is_empty() {
        return Ok(Outcome::Done);
    }
    Err(Failure::local_fault("DEMO_INCOMPLETE", format!("missing: {}", missing.join("; "))))
}
