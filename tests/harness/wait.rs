//! Waiting for conditions with a deadline: the only place of the harness that sleeps to wait.
//!
//! A condition answers `Ok` when it came true, else `Err` with what it saw instead; that is what
//! a failing test prints.

use std::{fmt::Display, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};

/// How long a condition may take unless a story says otherwise. About as long as from one periodic Tip to the next,
/// so that what only they would repair is noticed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// What takes longer is told of, for those who look for the reason.
const SLOW: Duration = Duration::from_secs(10);

const INTERVAL: Duration = Duration::from_millis(25);

/// Whether the condition comes true in time; else what it saw last.
pub(crate) async fn comes_true<T>(
    deadline: Duration,
    mut condition: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T, String> {
    let end = Instant::now() + deadline;
    let mut seen = String::from("nothing at all");
    loop {
        match timeout_at(end, condition()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(state)) => seen = state,
            Err(_) => return Err(format!("{seen} (the last look did not end in time)")),
        }
        if Instant::now() >= end {
            return Err(seen);
        }
        sleep(INTERVAL).await;
    }
}

/// Waits until the condition comes true; panics with what was waited for and what was seen last.
pub(crate) async fn within<T>(
    deadline: Duration,
    what: &str,
    condition: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let began = Instant::now();
    match comes_true(deadline, condition).await {
        Ok(value) => {
            if began.elapsed() > SLOW {
                eprintln!("slow: waited {:?} for: {what}", began.elapsed());
            }
            value
        }
        Err(seen) => panic!("waited {deadline:?} for: {what}\nlast seen: {seen}"),
    }
}

/// [`within`] the usual deadline.
pub(crate) async fn wait_until<T>(what: &str, condition: impl AsyncFnMut() -> Result<T, String>) -> T {
    within(DEADLINE, what, condition).await
}

/// For conditions: `Ok` when it holds, else the state that was seen.
pub(crate) fn when(holds: bool, seen: impl Display) -> Result<(), String> {
    if holds { Ok(()) } else { Err(seen.to_string()) }
}
