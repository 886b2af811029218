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
mod status;
mod tls;
mod wire;

use std::{io::Write as _, process::ExitCode};

/// In place of the C library's, also for SQLCipher: glibc keeps what closed databases gave back, which
/// made an idle account four times as large.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Stack of a worker thread, in bytes. Deep calls of the MLS engine need over 4 MiB in debug builds.
const THREAD_STACK: usize = 8 * 1024 * 1024;

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
        Ok(runtime) => runtime.block_on(command::execute(cli)),
        Err(error) => fail(ExitCode::FAILURE, &format!("cannot start the runtime: {error}")),
    }
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
