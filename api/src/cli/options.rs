//! Options that every client command takes, and how durations are written.
//!
//! Only what clap needs; nothing here opens a file or a connection.

use std::{path::PathBuf, time::Duration};

use super::failure::EXIT_CODES;

/// Options of the command line client.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct ClientOptions {
    /// The home server; without it the one logged in to, else http://127.0.0.1:50051
    #[arg(
        long,
        global = true,
        env = "SPACEPANDA_SERVER",
        value_name = "URL",
        help_heading = "Client options"
    )]
    pub server: Option<String>,
    /// PEM file of the certificate that signed the server's, for https
    #[arg(long, global = true, env = "SPACEPANDA_CA", value_name = "FILE", help_heading = "Client options")]
    pub ca: Option<PathBuf>,
    /// Print one JSON document, or JSON lines for streams
    #[arg(long, global = true, help_heading = "Client options")]
    pub json: bool,
    /// Which of several stored logins to use
    #[arg(
        long,
        global = true,
        env = "SPACEPANDA_PROFILE",
        value_name = "NAME",
        default_value = "default",
        help_heading = "Client options"
    )]
    pub profile: String,
    /// Where credentials.json is kept
    #[arg(
        long,
        global = true,
        env = "SPACEPANDA_CONFIG_DIR",
        value_name = "DIR",
        help_heading = "Client options"
    )]
    pub config_dir: Option<PathBuf>,
}

/// Reads `7d`, `30s`, `1h 30m`.
///
/// # Errors
/// When it is not a duration.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| error.to_string())
}
