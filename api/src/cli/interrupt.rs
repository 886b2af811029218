//! A request to stop, so that child processes and temporary directories are cleaned up.

use super::failure::Failure;

/// Returns when the user or the system asks the program to stop.
pub(super) async fn requested() -> Failure {
    signal().await;
    Failure::local_fault("INTERRUPTED", "interrupted")
}

#[cfg(unix)]
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut hang_up)) =
        (signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
}

#[cfg(not(unix))]
async fn signal() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}
