//! `spacepanda bench`: what this build reaches on this machine, beside the raw limits.
//!
//! Every number comes from real server processes, sockets and files, but for the row of the engine.

mod catchup;
mod disk;
mod engine;
mod latency;
mod memory;
mod pair;
mod report;
mod resume;
mod throughput;

use super::{
    failure::{Failure, Outcome},
    interrupt,
    output::Output,
};

use report::{Machine, Report};

/// Arguments of `bench`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Bench {
    /// Measure this alone
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Messages of the throughput measurement
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    messages: u32,
    /// Messages sent at the same time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    in_flight: u32,
    /// Accounts of the resume measurement
    #[arg(long, value_name = "K", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    accounts: u32,
    /// Accounts of the memory measurement
    #[arg(long, value_name = "K", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    sessions: u32,
}

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Messages a second from one server to another
    Throughput,
    /// From the call to the receiver's event, at 50 messages a second
    Latency,
    /// Adding a member to a group of 100, and entering eight commits of another branch
    Engine,
    /// Memory of an idle account
    Memory,
    /// Fetching what was missed
    Catchup,
    /// Many accounts: until all are back after a restart, and what they take at rest
    Resume,
}

/// Measures and prints the table.
///
/// # Errors
/// When a server fails, or a message does not arrive.
pub(super) async fn run(out: Output, args: Bench) -> Result<Outcome, Failure> {
    let report = tokio::select! {
        report = Box::pin(measure(out, args)) => report?,
        failure = interrupt::requested() => return Err(failure),
    };
    out.show(|| report.to_json(), || report.to_text())?;
    Ok(Outcome::Done)
}

async fn measure(out: Output, args: Bench) -> Result<Report, Failure> {
    let wanted = |part| args.only.is_none_or(|only| only == part);
    let mut report = Report { machine: Machine::here(), rows: Vec::new() };
    if wanted(Part::Throughput) || wanted(Part::Latency) {
        report.rows.extend(disk::measure()?);
    }
    if wanted(Part::Throughput) {
        out.note(&format!("throughput: {} messages, {} in flight ...", args.messages, args.in_flight));
        report.rows.extend(throughput::measure(args.messages, args.in_flight).await?);
    }
    if wanted(Part::Latency) {
        out.note("latency: 50 messages a second for 10 s ...");
        report.rows.extend(latency::measure().await?);
    }
    if wanted(Part::Engine) {
        report.rows.extend(engine::measure());
    }
    if wanted(Part::Catchup) {
        out.note("catch-up: 10,000 messages and 300 commits while someone is away; this takes minutes ...");
        report.rows.extend(Box::pin(catchup::measure()).await?);
    }
    if wanted(Part::Memory) {
        out.note(&format!("memory: {} idle accounts; this takes four minutes ...", args.sessions));
        report.rows.extend(memory::measure(args.sessions).await?);
    }
    if wanted(Part::Resume) {
        let note = "accounts are made, killed and brought back; a quarter of an hour for 1,000 ...";
        out.note(&format!("resume: {} {note}", args.accounts));
        report.rows.extend(resume::measure(args.accounts).await?);
    }
    Ok(report)
}
