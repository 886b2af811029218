//! The command line client: gRPC like any other client, never the core directly.

mod account;
mod bench;
mod channel;
mod connect;
mod credentials;
mod debug;
mod demo;
mod drawing;
mod failure;
mod feed;
mod follow;
mod interrupt;
mod invite;
mod json;
mod listing;
mod local_server;
mod message;
mod options;
mod output;
mod peer;
mod resolve;
mod secret;
mod space;
mod stage;
mod status;

use std::{ffi::OsString, process::ExitCode};

use clap::{Args as _, Subcommand as _};

pub use failure::EXIT_CODES;
pub use options::ClientOptions;

use connect::{Caller, Client};
use failure::{Failure, Outcome};
use output::Output;

/// Commands of the client.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum ClientCommand {
    /// Create an account on a home server and log in
    Signup(account::Signup),
    /// Log in to an account
    Login(account::LogIn),
    /// End the login
    Logout(account::LogOut),
    /// Say who is logged in
    Whoami,
    /// Connect to other people's servers
    #[command(subcommand)]
    Peer(peer::PeerCommand),
    /// Spaces, their members and invites
    #[command(subcommand)]
    Space(space::SpaceCommand),
    /// Channels of a space
    #[command(subcommand)]
    Channel(channel::ChannelCommand),
    /// Send a message
    Send(message::Send),
    /// Read a channel
    Read(message::Read),
    /// Print the event feed as JSON lines
    Events {
        /// Start after this seq (0: the oldest kept) instead of now
        #[arg(long, value_name = "SEQ")]
        after: Option<u64>,
    },
    /// Show the router, the peers and the groups
    Status,
    /// Look behind a space
    #[command(subcommand)]
    Debug(debug::DebugCommand),
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Start three servers, let three people talk, kill one in the middle
    Demo,
    /// Measure throughput, latency and memory beside the raw limits
    Bench(bench::Bench),
}

/// Whether these arguments, however wrong, are meant for a command of the client: the first that is no
/// option names one.
pub fn is_meant(arguments: &[OsString]) -> bool {
    let parser = parser();
    let takes_value = |option: &str| {
        parser
            .get_arguments()
            .any(|known| known.get_long() == Some(option) && known.get_action().takes_values())
    };
    let mut words = arguments.iter().skip(1).map(|word| word.to_string_lossy());
    while let Some(word) = words.next() {
        match word.strip_prefix("--") {
            Some(option) if takes_value(option) => drop(words.next()),
            Some(_) => {}
            None => return parser.find_subcommand(&*word).is_some(),
        }
    }
    false
}

/// Says why the arguments cannot be read, as JSON where they ask for it.
pub fn refuse_usage(arguments: &[OsString], why: &str) -> ExitCode {
    let failure = Failure::usage(why);
    Output::new(arguments.iter().any(|word| word == "--json")).failure(&failure);
    failure.into()
}

/// Runs a client command and tells the shell how it went.
pub async fn run(command: ClientCommand, options: ClientOptions) -> ExitCode {
    let out = Output::new(options.json);
    match dispatch(command, &options, out).await {
        Ok(outcome) => outcome.into(),
        Err(failure) => {
            out.failure(&failure);
            failure.into()
        }
    }
}

async fn dispatch(command: ClientCommand, options: &ClientOptions, out: Output) -> Result<Outcome, Failure> {
    let caller = || Caller::new(options);
    match command {
        ClientCommand::Signup(args) => account::signup(&caller()?, out, args).await,
        ClientCommand::Login(args) => account::login(&caller()?, out, args).await,
        ClientCommand::Logout(args) => account::logout(&caller()?, out, args).await,
        ClientCommand::Whoami => account::whoami(&caller()?, out).await,
        ClientCommand::Status => status::run(&caller()?, out).await,
        ClientCommand::Peer(command) => peer::run(&logged_in(options).await?, out, command).await,
        ClientCommand::Space(command) => Box::pin(space::run(&logged_in(options).await?, out, command)).await,
        ClientCommand::Channel(command) => channel::run(&logged_in(options).await?, out, command).await,
        ClientCommand::Send(args) => Box::pin(message::send(&logged_in(options).await?, out, args)).await,
        ClientCommand::Read(args) => Box::pin(message::read(&logged_in(options).await?, out, args)).await,
        ClientCommand::Events { after } => follow::events(&logged_in(options).await?, out, after).await,
        ClientCommand::Debug(command) => debug::run(&logged_in(options).await?, out, command).await,
        ClientCommand::Completions { shell } => completions(shell, parser()),
        ClientCommand::Demo => Box::pin(demo::run(out)).await,
        ClientCommand::Bench(args) => Box::pin(bench::run(out, args)).await,
    }
}

async fn logged_in(options: &ClientOptions) -> Result<Client, Failure> {
    Caller::new(options)?.connect_logged_in().await
}

/// Prints a shell's completions for `parser`, the parser of the whole program.
///
/// # Errors
/// When standard output is closed.
fn completions(shell: clap_complete::Shell, mut parser: clap::Command) -> Result<Outcome, Failure> {
    let name = parser.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut parser, name, &mut script);
    Output::new(false).line(&String::from_utf8_lossy(&script))?;
    Ok(Outcome::Done)
}

/// The client's commands; `serve` is of interest to operators, who write it into a unit file.
fn parser() -> clap::Command {
    ClientOptions::augment_args(ClientCommand::augment_subcommands(clap::Command::new("spacepanda")))
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches as _;

    use super::*;

    fn parse(line: &str) -> Result<ClientCommand, clap::Error> {
        let matches = parser().try_get_matches_from(line.split(' '))?;
        ClientCommand::from_arg_matches(&matches)
    }

    #[test]
    fn the_parser_is_consistent() {
        parser().debug_assert();
    }

    #[test]
    fn the_help_ends_with_the_exit_codes() {
        assert!(parser().render_help().to_string().trim_end().ends_with("an unknown command"));
    }

    #[test]
    fn a_command_is_recognised_behind_options_and_whatever_follows() {
        let meant = |line: &str| is_meant(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        for line in ["x send", "x --json space", "x --profile serve read", "x --profile=p events --nonsense"]
        {
            assert!(meant(line), "{line}");
        }
        for line in [
            "x",
            "x --profile send",
            "x serve",
            "x --listen 127.0.0.1:1 send",
            "x sned",
            "x -x send",
            "x --json",
        ] {
            assert!(!meant(line), "{line}");
        }
    }

    #[test]
    fn every_command_parses() {
        let lines = [
            "signup alice --display-name Alice --device-name laptop --password-stdin",
            "login alice --json",
            "logout --everywhere",
            "whoami",
            "peer connect /ip4/127.0.0.1/tcp/1/p2p/x",
            "peer list",
            "peer disconnect 12D3",
            "space create garden --description d",
            "space create garden --timing fast",
            "space update garden --name Garden --timing strict",
            "space list",
            "space show garden",
            "space status garden",
            "space invite garden --uses 3 --expires 7d --role moderator",
            "space role garden bob admin",
            "space revoke id",
            "space join spacepanda:abc",
            "space join spacepanda:abc --wait",
            "space join spacepanda:abc --wait=5s",
            "space members garden",
            "space remove garden bob",
            "space leave garden",
            "channel create garden plans --topic t",
            "channel list garden",
            "send general hello there --reply-to abcd --wait-sent",
            "send general -",
            "read general --limit 5 --follow",
            "read general --before abcd",
            "events --after 5",
            "status --profile work",
            "debug graph garden --format dot --output garden.dot --states 100",
            "completions bash",
            "demo",
            "bench --only latency --messages 10 --in-flight 2 --sessions 3",
        ];
        for line in lines {
            let parsed = parse(&format!("spacepanda {line}"));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }

    #[test]
    fn a_password_is_no_argument() {
        assert!(parse("spacepanda login alice --password x").is_err());
        assert!(parse("spacepanda login alice secret").is_err());
    }

    #[test]
    fn following_starts_at_the_end() {
        assert!(parse("spacepanda read general --follow --before abcd").is_err());
    }
}
