//! Placeholder entry point: the command line client alone.

use std::process::ExitCode;

use clap::Parser;
use spacepanda_api::cli::{self, ClientCommand, ClientOptions};

#[derive(Parser)]
#[command(name = "spacepanda", version)]
struct Cli {
    #[command(flatten)]
    options: ClientOptions,
    #[command(subcommand)]
    command: ClientCommand,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Cli { options, command } = Cli::parse();
    cli::run(command, options).await
}
