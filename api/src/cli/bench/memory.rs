//! What an idle account costs: unlocked, its router up, no connection, its databases closed.

use std::{fs, time::Duration};

use super::report::{Row, reference};
use crate::cli::{connect::Client, failure::Failure, local_server::LocalServer, stage::sign_up};

/// Database connections are closed after 30 s without use, and a minute after the last change the
/// housekeeping looks at it once; this is safely more than both.
const IDLE: Duration = Duration::from_secs(105);

/// Memory of a server process, in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Memory {
    resident: u64,
    proportional: u64,
}

/// Creates accounts and compares the server's memory before and after.
///
/// # Errors
/// When an account is refused, or the system does not tell the memory of a process.
pub(super) async fn measure(sessions: u32) -> Result<Vec<Row>, Failure> {
    let server = LocalServer::start("Alice").await?;
    let client = Client::open(&server.url(), None, None).await?;
    sign_up(&client, "first", "First").await?;
    let before = idle(&server).await?;
    for number in 0..sessions {
        sign_up(&client, &format!("account{number}"), "Account").await?;
    }
    let after = idle(&server).await?;
    let each = |before: u64, after: u64| kibibytes(after.saturating_sub(before)) / f64::from(sessions);
    let row = |metric, measured, raw, goal| Row {
        metric,
        unit: "KiB",
        measured,
        raw,
        goal,
        higher_is_better: false,
    };
    let raw = Some(reference::IDLE_SWARM_KIB);
    Ok(vec![
        row("idle session, resident (VmRSS)", each(before.resident, after.resident), raw, Some(256.0)),
        row("idle session, proportional (Pss)", each(before.proportional, after.proportional), raw, None),
        row("server with one idle account (VmRSS)", kibibytes(before.resident), None, None),
    ])
}

async fn idle(server: &LocalServer) -> Result<Memory, Failure> {
    tokio::time::sleep(IDLE).await;
    let unknown =
        || Failure::local_fault("MEMORY_UNKNOWN", "this system does not tell the memory of a process");
    let process = server.process_id().ok_or_else(unknown)?;
    let read = |file: &str| fs::read_to_string(format!("/proc/{process}/{file}")).map_err(|_| unknown());
    let resident = field(&read("status")?, "VmRSS:").ok_or_else(unknown)?;
    let proportional = field(&read("smaps_rollup")?, "Pss:").ok_or_else(unknown)?;
    Ok(Memory { resident, proportional })
}

/// The KiB of one line of a `/proc` file.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn kibibytes(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_lines_are_read() {
        let text = "Name:\tx\nVmHWM:\t  900 kB\nVmRSS:\t  812 kB\n";
        assert_eq!(field(text, "VmRSS:"), Some(812));
        assert_eq!(field("Pss:                 77 kB\nPss_Dirty: 1 kB", "Pss:"), Some(77));
        assert_eq!(field(text, "Pss:"), None);
    }
}
