//! Many accounts on one server: how long until all are back after a restart, and what they cost at rest.

use std::{
    fs,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::report::Row;
use crate::cli::{connect::Client, failure::Failure, local_server::LocalServer, stage::sign_up};

/// Accounts made at the same time; the password's Argon2id takes a core each.
const AT_ONCE: usize = 2;
/// Beyond this, resuming is no matter of speed any more.
const DEADLINE: Duration = Duration::from_secs(300);
/// Databases are closed and the housekeeping of the start is over by then.
const SETTLE: Duration = Duration::from_secs(105);
/// The time over which the work of resting sessions is counted: two rounds of their housekeeping.
const REST: Duration = Duration::from_secs(120);
/// `USER_HZ`: Linux counts the time of processes in hundredths of a second, whatever its own clock does.
const TICKS_PER_SECOND: f64 = 100.0;
/// What a server logs for each.
const OPEN: &str = "a session is open";

/// Kills a server of so many accounts and starts it again.
///
/// # Errors
/// When an account is refused or does not come back, or the system does not tell a process's time.
pub(super) async fn measure(sessions: u32) -> Result<Vec<Row>, Failure> {
    let mut server = LocalServer::start_with_unlock_key("Alice").await?;
    let client = Client::open(&server.url(), None, None).await?;
    let client = &client;
    stream::iter(0..sessions)
        .map(|number| async move { sign_up(client, &format!("account{number}"), "Account").await })
        .buffer_unordered(AT_ONCE)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    server.kill().await?;
    let before = server.logged(OPEN);
    let begun = Instant::now();
    server.restart_within(DEADLINE).await?;
    let back = begun.elapsed();
    let came = server.logged(OPEN) - before;
    if came != usize::try_from(sessions).unwrap_or(usize::MAX) {
        return Err(Failure::local_fault("SESSIONS_MISSING", format!("{came} of {sessions} came back")));
    }
    tokio::time::sleep(SETTLE).await;
    let (rested, started) = (processor_time(&server)?, Instant::now());
    tokio::time::sleep(REST).await;
    let work = processor_time(&server)? - rested;
    let share = 100.0 * work / started.elapsed().as_secs_f64();
    let row = |metric, unit, measured, goal| Row {
        metric,
        unit,
        measured,
        raw: None,
        goal,
        higher_is_better: false,
    };
    Ok(vec![
        row("accounts on one server", "sessions", f64::from(sessions), None),
        row("all of them back after kill -9", "s", back.as_secs_f64(), Some(30.0)),
        row("all of them at rest, of one core", "%", share, Some(5.0)),
    ])
}

/// Seconds of processor time that the server has taken.
fn processor_time(server: &LocalServer) -> Result<f64, Failure> {
    let unknown = || Failure::local_fault("TIME_UNKNOWN", "this system does not tell the time of a process");
    let process = server.process_id().ok_or_else(unknown)?;
    let text = fs::read_to_string(format!("/proc/{process}/stat")).map_err(|_| unknown())?;
    Ok(ticks(&text).ok_or_else(unknown)? / TICKS_PER_SECOND)
}

/// User and system time of a line of `/proc/<process>/stat`.
fn ticks(stat: &str) -> Option<f64> {
    // The program's name, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map(|field| field.parse::<f64>().ok());
    Some(times.next()?? + times.next()??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_times_are_read() {
        let stat = "77 (a) b (c)) S 1 77 77 0 -1 4194560 900 0 0 0 12 30 0 0 20 0 3 0 100 1 2 3";
        assert_eq!(ticks(stat), Some(42.0));
        assert_eq!(ticks("77 (a) S 1 2"), None);
    }
}
