//! The command line client.

use std::process::ExitCode;

/// What the client can be asked to do.
#[derive(clap::Subcommand, Debug)]
pub enum ClientCommand {
    /// Who this client is logged in as.
    Whoami,
}

/// Options of every client command.
#[derive(clap::Args, Debug)]
pub struct ClientOptions {
    /// Where the home server is.
    #[arg(long, global = true)]
    pub server: Option<String>,
}

/// Does what a client command says.
pub async fn run(_command: ClientCommand, _global: ClientOptions) -> ExitCode {
    ExitCode::FAILURE
}
