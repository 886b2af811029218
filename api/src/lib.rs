//! The SpacePanda home server and its command line client.
//!
//! The server half translates: gRPC in, one call on the core, gRPC out. It holds no state of its
//! own beyond open streams, and it decides nothing about groups, accounts or delivery.

pub mod cli;
pub mod command;
pub mod config;
pub mod metrics;
pub mod server;

mod greeting;
mod log;
mod service;
mod signals;
mod status;
mod tls;
mod wire;

use std::{io::Write as _, process::ExitCode, time::Duration};

use tokio::runtime::Runtime;

/// In place of the C library's, also for SQLCipher: glibc keeps what closed databases gave back, which
/// made an idle account four times as large.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Stack of a worker thread, in bytes. Deep calls of the MLS engine need over 4 MiB in debug builds.
const THREAD_STACK: usize = 8 * 1024 * 1024;

/// How long work that cannot be cancelled, such as a look-up of a name, may hold up the end of the program.
const LEFTOVERS: Duration = Duration::from_millis(500);

/// Exit code for a wrong command line or configuration (`EX_USAGE`).
pub const EXIT_USAGE: u8 = 64;

/// Runs the program: reads the command line, does what it says, and gives the exit code.
pub fn run() -> ExitCode {
    // Two providers are linked; without a chosen one rustls panics. An earlier choice is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = match command::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers())
        .enable_all()
        .thread_stack_size(THREAD_STACK)
        .build();
    match runtime {
        Ok(runtime) => to_the_end(runtime, command::execute(cli)),
        Err(error) => fail(ExitCode::FAILURE, &format!("cannot start the runtime: {error}")),
    }
}

/// Runs `work`, then drops what it left running. A dropped runtime would wait for blocking calls without bound.
fn to_the_end<T>(runtime: Runtime, work: impl Future<Output = T>) -> T {
    let outcome = runtime.block_on(work);
    runtime.shutdown_timeout(LEFTOVERS);
    outcome
}

/// Half of the cores, at least one. The databases have threads of their own and do half of the work; with
/// a worker for every core each message wakes more threads than it needs (8 % more from send to visible,
/// measured on two cores).
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

/// Says on stderr, in one line, why the program ends.
fn fail(code: ExitCode, reason: &str) -> ExitCode {
    // With stderr gone there is nowhere left to say it.
    let _ = writeln!(std::io::stderr().lock(), "spacepanda: {reason}");
    code
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Instant};

    use super::*;

    #[test]
    fn a_blocking_call_that_does_not_return_does_not_hold_up_the_end() {
        let (release, blocked) = mpsc::channel::<()>();
        let (started, running) = mpsc::channel();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let begun = Instant::now();
        to_the_end(runtime, async move {
            tokio::task::spawn_blocking(move || {
                started.send(()).unwrap();
                // Ends when the test lets go; not before.
                let _ = blocked.recv_timeout(Duration::from_secs(60));
            });
            running.recv().unwrap();
        });
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        drop(release);
    }
}
