//! The top of the command line: what to run, the server or a client command.
//!
//! Parses and dispatches; what a command does is elsewhere.

use std::{ffi::OsString, io::Write as _, path::PathBuf, pin::pin, process::ExitCode, time::Duration};

use clap::{
    Args as _, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, error::ErrorKind,
    parser::ValueSource,
};

use tokio::time::timeout;

use crate::{
    EXIT_USAGE,
    cli::{self, ClientCommand, ClientOptions},
    config::{Config, ServeArgs},
    fail, greeting, log,
    server::Server,
    signals::StopSignals,
};

/// The longest life of a registration token.
const MAX_REGISTRATION: Duration = Duration::from_secs(365 * 24 * 3600);

/// A private home server: end-to-end encrypted spaces without a central service.
///
/// Without a command it runs the server.
#[derive(Debug, Parser)]
#[command(name = "spacepanda", version)]
pub struct Cli {
    // Before the server's, whose heading holds for all that follows.
    #[command(flatten)]
    client: ClientOptions,
    #[command(flatten)]
    serve: ServeArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the home server (the default).
    Serve(ServeArgs),
    /// Makes a token that lets one more account register; works while the server runs.
    RegistrationToken(RegistrationTokenArgs),
    #[command(flatten)]
    Client(ClientCommand),
}

#[derive(Debug, clap::Args)]
struct RegistrationTokenArgs {
    /// Configuration file of the server.
    #[arg(long, env = "SPACEPANDA_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data directory of the server.
    #[arg(long, env = "SPACEPANDA_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// How long the token can be used.
    #[arg(long, value_name = "SPAN", default_value = "24h", value_parser = humantime::parse_duration)]
    valid_for: Duration,
}

/// Reads the command line.
///
/// # Errors
/// The exit code: success after help or version; after one line on stderr the client's code for wrong usage
/// where a client's command was meant, else [`EXIT_USAGE`].
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, ExitCode> {
    let arguments: Vec<_> = arguments.into_iter().collect();
    try_parse(&arguments).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        _ if cli::is_meant(&arguments) => cli::refuse_usage(&arguments, &one_line(&error)),
        _ => fail(ExitCode::from(EXIT_USAGE), &one_line(&error)),
    })
}

fn try_parse(arguments: &[OsString]) -> Result<Cli, clap::Error> {
    let matches = Cli::command().try_get_matches_from(arguments)?;
    // Flags before a command would be taken for the default command's and silently do nothing.
    let misplaced = ServeArgs::augment_args(clap::Command::new("serve")).get_arguments().find_map(|flag| {
        let given = matches.value_source(flag.get_id().as_str()) == Some(ValueSource::CommandLine);
        flag.get_long().filter(|_| given && matches.subcommand().is_some()).map(str::to_owned)
    });
    if let Some(flag) = misplaced {
        let text = format!("--{flag} goes after the command it belongs to");
        return Err(Cli::command().error(ErrorKind::ArgumentConflict, text));
    }
    Cli::from_arg_matches(&matches)
}

/// The reason alone, without usage and tips.
fn one_line(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "a command is missing; see --help".to_owned();
    }
    let text = error.to_string();
    let reason = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<_> = reason.trim_start_matches("error:").split_whitespace().collect();
    format!("{}; see --help", words.join(" "))
}

/// Does what the command line says.
pub async fn execute(cli: Cli) -> ExitCode {
    match cli.command {
        None => serve(&cli.serve).await,
        Some(Command::Serve(flags)) => serve(&flags).await,
        Some(Command::RegistrationToken(flags)) => registration_token(flags).await,
        Some(Command::Client(command)) => cli::run(command, cli.client).await,
    }
}

async fn serve(flags: &ServeArgs) -> ExitCode {
    let config = match Config::load(flags) {
        Ok(config) => config,
        Err(error) => return fail(ExitCode::from(EXIT_USAGE), &error.to_string()),
    };
    // Before anything is opened: a stop asked for from here on is one in order.
    let mut signals = match StopSignals::new() {
        Ok(signals) => signals,
        Err(error) => return fail(ExitCode::FAILURE, &format!("cannot take signals: {error}")),
    };
    log::init(&config.log);
    // Every peer and client is a descriptor; a low limit that cannot be raised is still a limit.
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => tracing::debug!(limit, "file descriptors"),
        Err(error) => tracing::warn!(%error, "the limit of open files could not be raised"),
    }
    let mut starting = pin!(Server::bind(config.clone()));
    let (bound, told_to_stop) = tokio::select! {
        bound = &mut starting => (Ok(bound), false),
        // Not dropped half-way: threads of databases that are being opened would run into the end of the process.
        () = signals.received() => (timeout(config.server.shutdown_grace / 2, starting).await, true),
    };
    let server = match bound {
        Ok(Ok(server)) => server,
        Ok(Err(error)) => return fail(ExitCode::FAILURE, &error.to_string()),
        Err(_) => {
            tracing::warn!("stopped before the start was complete");
            return ExitCode::SUCCESS;
        }
    };
    if told_to_stop {
        server.shutdown();
    } else if let Err(error) = greeting::print(&config, &server) {
        tracing::debug!(%error, "stdout is closed");
    }
    tokio::select! {
        () = signals.received() => server.shutdown(),
        () = server.ended() => {}
    }
    match server.join().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(ExitCode::FAILURE, &error.to_string()),
    }
}

async fn registration_token(flags: RegistrationTokenArgs) -> ExitCode {
    if flags.valid_for.is_zero() || flags.valid_for > MAX_REGISTRATION {
        return fail(ExitCode::from(EXIT_USAGE), "--valid-for is more than nothing and at most a year");
    }
    let place = ServeArgs { config: flags.config, data_dir: flags.data_dir, ..ServeArgs::default() };
    let config = match Config::load(&place) {
        Ok(config) => config,
        Err(error) => return fail(ExitCode::from(EXIT_USAGE), &error.to_string()),
    };
    match spacepanda_core::home::registration_token(&config.server.data_dir, flags.valid_for).await {
        Ok(token) => match writeln!(std::io::stdout().lock(), "{}", token.as_str()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(ExitCode::FAILURE, &format!("cannot print the token: {error}")),
        },
        Err(error) => fail(ExitCode::FAILURE, &error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Cli, clap::Error> {
        try_parse(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_is_serve() {
        let bare = read("spacepanda --listen 127.0.0.1:7").unwrap();
        assert!(bare.command.is_none());
        assert_eq!(bare.serve.listen.unwrap().port(), 7);
        let Some(Command::Serve(flags)) = read("spacepanda serve --listen 127.0.0.1:7").unwrap().command
        else {
            panic!("not serve");
        };
        assert_eq!(flags.listen.unwrap().port(), 7);
    }

    #[test]
    fn switches_and_lists_are_read() {
        let flags = read("spacepanda --tls-self-signed --allow-plaintext=false --announce /a --announce /b")
            .unwrap()
            .serve;
        assert_eq!((flags.tls_self_signed, flags.allow_plaintext), (Some(true), Some(false)));
        assert_eq!(flags.announce, ["/a", "/b"]);
    }

    #[test]
    fn server_flags_before_a_command_are_refused() {
        let error = read("spacepanda --data-dir /x registration-token").unwrap_err();
        assert!(one_line(&error).contains("--data-dir"), "{}", one_line(&error));
        assert!(read("spacepanda registration-token --data-dir /x").is_ok());
    }

    #[test]
    fn wrong_flags_are_one_line() {
        for line in [
            "spacepanda space",
            "spacepanda --lisen x",
            "spacepanda --listen x",
            "spacepanda serve --token-idle soon",
        ] {
            let text = one_line(&read(line).unwrap_err());
            assert!(!text.contains('\n') && text.contains("--"), "{text}");
        }
    }
}
