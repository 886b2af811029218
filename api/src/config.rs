//! How the server is configured: one struct a concern, defaults, a TOML file, environment, flags.
//!
//! The only place that reads a configuration file or the environment of the server. A value set
//! later in that list wins; the result is checked once, here, and never changes afterwards.

mod flags;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use directories::ProjectDirs;
use figment::{
    Figment,
    providers::{Format as _, Serialized, Toml},
};
use serde::{Deserialize, Serialize};
use spacepanda_core::{network::NetworkConfig, router::Address};

pub use flags::ServeArgs;

/// Where the API listens unless told otherwise; the client looks here too.
pub const DEFAULT_PORT: u16 = 50051;

/// The configuration cannot be used. Each message is one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or not readable.
    #[error("cannot read the configuration file {}: {}", .0.display(), .1)]
    Unreadable(PathBuf, std::io::Error),
    /// A key is unknown or a value has the wrong form.
    #[error("configuration: {0}")]
    Malformed(String),
    /// The values do not go together.
    #[error("configuration: {0}")]
    Refused(&'static str),
}

/// Everything that can be configured. `Default` is a safe local run on loopback.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The server itself.
    pub server: ServerConfig,
    /// Encryption of the client API.
    pub tls: TlsConfig,
    /// The Prometheus endpoint.
    pub metrics: MetricsConfig,
    /// The side that other servers connect to.
    pub peers: PeersConfig,
    /// Accounts and logins.
    pub accounts: AccountsConfig,
    /// Logs on stderr.
    pub log: LogConfig,
}

/// The server itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Where clients connect; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Serve other machines without TLS.
    pub allow_plaintext: bool,
    /// How long stopping may take, all in all; at most 9 s, so that the process is gone within 10.
    #[serde(with = "humantime_serde")]
    pub shutdown_grace: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            data_dir: directories().map_or_else(
                || PathBuf::from("spacepanda-data"),
                |directories| directories.data_local_dir().to_owned(),
            ),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)),
            allow_plaintext: false,
            shutdown_grace: Duration::from_secs(8),
        }
    }
}

/// Encryption of the client API.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// PEM file with the certificate chain, the server's own first.
    pub cert: Option<PathBuf>,
    /// PEM file with the private key of that certificate.
    pub key: Option<PathBuf>,
    /// Make a certificate and keep it in the data directory.
    pub self_signed: bool,
}

impl TlsConfig {
    /// The API is served over TLS.
    pub fn enabled(&self) -> bool {
        self.self_signed || self.cert.is_some()
    }
}

/// The Prometheus endpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Where `GET /metrics` answers; unset: nowhere.
    pub listen: Option<SocketAddr>,
}

/// The side that other servers connect to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PeersConfig {
    /// Multiaddr the routers listen on; port 0: a free one each, kept across restarts; another
    /// port: the first of a range.
    pub listen: String,
    /// Multiaddrs told to others instead of the listening ones.
    pub announce: Vec<String>,
}

impl Default for PeersConfig {
    fn default() -> Self {
        Self { listen: "/ip4/0.0.0.0/tcp/0".to_owned(), announce: Vec::new() }
    }
}

/// Accounts and logins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccountsConfig {
    /// A session token that was not used for this long stops working.
    #[serde(with = "humantime_serde")]
    pub token_idle: Duration,
    /// File with the key that brings accounts back after a restart without a call.
    pub unlock_key_file: Option<PathBuf>,
}

impl Default for AccountsConfig {
    fn default() -> Self {
        Self { token_idle: Duration::from_secs(30 * 24 * 3600), unlock_key_file: None }
    }
}

/// Logs on stderr.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// The least that is said about the server's own doing.
    pub level: LogLevel,
    /// How lines look.
    pub format: LogFormat,
}

/// The least that is logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Failures only.
    Error,
    /// And what needs an eye.
    Warn,
    /// And what the server does.
    #[default]
    Info,
    /// And how.
    Debug,
    /// And every step.
    Trace,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// Puts defaults, file, environment and flags together and checks the result.
    ///
    /// # Errors
    /// [`ConfigError`] when a file cannot be read, a key is unknown, a value has the wrong form,
    /// or the whole would not be safe to run.
    pub fn load(flags: &ServeArgs) -> Result<Self, ConfigError> {
        Self::layer(file_to_read(flags)?.as_deref(), flags)
    }

    fn layer(file: Option<&Path>, flags: &ServeArgs) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(file) = file {
            figment = figment.merge(Toml::file_exact(file));
        }
        let config: Self = flags.over(figment).extract().map_err(malformed)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let refuse = |reason| Err(ConfigError::Refused(reason));
        if self.tls.cert.is_some() != self.tls.key.is_some() {
            return refuse("a TLS certificate and its key are given together");
        }
        if self.tls.self_signed && self.tls.cert.is_some() {
            return refuse("either a TLS certificate is given or one is made, not both");
        }
        if !self.server.listen.ip().is_loopback() && !self.tls.enabled() && !self.server.allow_plaintext {
            return refuse(
                "listening beyond this machine needs TLS: give --tls-cert and --tls-key, or \
                 --tls-self-signed, or say --allow-plaintext if something else encrypts",
            );
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(9)).contains(&self.server.shutdown_grace) {
            return refuse("server.shutdown_grace is from 1s to 9s");
        }
        if self.accounts.token_idle < Duration::from_secs(1) {
            return refuse("accounts.token_idle is at least 1s");
        }
        self.peers.network().map(drop)
    }
}

impl PeersConfig {
    /// The addresses as the routers take them.
    ///
    /// # Errors
    /// [`ConfigError::Refused`] for what is not a multiaddr that routers understand.
    pub fn network(&self) -> Result<NetworkConfig, ConfigError> {
        let parse = |text: &String| {
            Address::parse(text).map_err(|_| {
                ConfigError::Refused("peer addresses are multiaddrs, such as /ip4/0.0.0.0/tcp/4001")
            })
        };
        Ok(NetworkConfig {
            listen: parse(&self.listen)?,
            announce: self.announce.iter().map(parse).collect::<Result<_, _>>()?,
        })
    }
}

/// The platform's directories of this program.
pub(crate) fn directories() -> Option<ProjectDirs> {
    ProjectDirs::from("", "", "spacepanda")
}

/// The file that was asked for, which must exist, or the usual one if it does.
fn file_to_read(flags: &ServeArgs) -> Result<Option<PathBuf>, ConfigError> {
    let Some(file) = flags.config.clone() else {
        let usual = directories().map(|directories| directories.config_dir().join("config.toml"));
        return Ok(usual.filter(|file| file.is_file()));
    };
    // Opened only to have the system's reason at hand; figment takes a missing file for an empty one.
    match std::fs::File::open(&file) {
        Ok(_) => Ok(Some(file)),
        Err(error) => Err(ConfigError::Unreadable(file, error)),
    }
}

fn malformed(error: figment::Error) -> ConfigError {
    let first = error.into_iter().next().map_or_else(String::new, |error| error.to_string());
    ConfigError::Malformed(first.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const EXAMPLE: &str = include_str!("../../docs/config.example.toml");

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn load(text: &str, flags: &ServeArgs) -> Result<Config, ConfigError> {
        Config::layer(Some(file(text).path()), flags)
    }

    fn paths(prefix: &str, table: &serde_json::Value, into: &mut BTreeSet<String>) {
        match table.as_object() {
            Some(entries) => {
                for (key, value) in entries {
                    paths(&format!("{prefix}.{key}"), value, into);
                }
            }
            None => {
                into.insert(prefix.to_owned());
            }
        }
    }

    #[test]
    fn defaults_are_local_and_valid() {
        let config = Config::layer(None, &ServeArgs::default()).unwrap();
        assert_eq!(config, Config::default());
        assert!(config.server.listen.ip().is_loopback());
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let text = "[server]\nlisten = '127.0.0.1:1'\ndata_dir = '/from-file'\n[peers]\nannounce = ['/ip4/1.1.1.1/tcp/1']";
        let flags = ServeArgs { listen: Some("127.0.0.1:2".parse().unwrap()), ..ServeArgs::default() };
        let config = load(text, &flags).unwrap();
        assert_eq!(config.server.listen.port(), 2);
        assert_eq!(config.server.data_dir, Path::new("/from-file"));
        assert_eq!(config.peers.announce, ["/ip4/1.1.1.1/tcp/1"]);
        assert_eq!(config.peers.listen, PeersConfig::default().listen);
    }

    #[test]
    fn a_flag_can_take_back_what_the_file_allows() {
        let flags = ServeArgs { allow_plaintext: Some(false), ..ServeArgs::default() };
        let text = "[server]\nlisten = '0.0.0.0:1'\nallow_plaintext = true";
        assert!(load(text, &ServeArgs::default()).is_ok());
        assert!(matches!(load(text, &flags), Err(ConfigError::Refused(_))));
    }

    #[test]
    fn unknown_keys_and_wrong_values_are_named_in_one_line() {
        for (text, named) in [
            ("[server]\nlisten_on = 'x'", "listen_on"),
            ("[mail]\nhost = 'x'", "mail"),
            ("[server]\nlisten = 'here'", "listen"),
            ("[accounts]\ntoken_idle = 'soon'", "token_idle"),
            ("[server", "TOML"),
        ] {
            let line = load(text, &ServeArgs::default()).unwrap_err().to_string();
            assert!(line.contains(named), "{line}");
            assert!(!line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn a_file_that_was_asked_for_must_exist() {
        let flags = ServeArgs { config: Some("/nowhere/config.toml".into()), ..ServeArgs::default() };
        assert!(matches!(Config::load(&flags), Err(ConfigError::Unreadable(..))));
    }

    #[test]
    fn other_machines_are_served_over_tls_or_on_purpose() {
        let open = "[server]\nlisten = '0.0.0.0:1'\n";
        assert!(matches!(load(open, &ServeArgs::default()), Err(ConfigError::Refused(_))));
        for allowed in ["allow_plaintext = true", "[tls]\nself_signed = true", "[tls]\ncert='c'\nkey='k'"] {
            assert!(load(&format!("{open}{allowed}"), &ServeArgs::default()).is_ok(), "{allowed}");
        }
    }

    #[test]
    fn stopping_leaves_a_second_of_the_promised_ten() {
        let grace = |span: &str| load(&format!("[server]\nshutdown_grace = '{span}'"), &ServeArgs::default());
        for allowed in ["1s", "9s"] {
            assert!(grace(allowed).is_ok(), "{allowed}");
        }
        for refused in ["999ms", "9s 1ms", "10s"] {
            assert!(matches!(grace(refused), Err(ConfigError::Refused(_))), "{refused}");
        }
    }

    #[test]
    fn tls_sources_do_not_mix() {
        for text in ["[tls]\ncert = 'c'", "[tls]\nkey = 'k'", "[tls]\ncert='c'\nkey='k'\nself_signed=true"] {
            assert!(matches!(load(text, &ServeArgs::default()), Err(ConfigError::Refused(_))), "{text}");
        }
    }

    #[test]
    fn peer_addresses_are_multiaddrs() {
        for text in ["[peers]\nlisten = '0.0.0.0:1'", "[peers]\nannounce = ['example.org']"] {
            assert!(matches!(load(text, &ServeArgs::default()), Err(ConfigError::Refused(_))), "{text}");
        }
    }

    #[test]
    fn the_example_holds_every_field_and_changes_nothing() {
        assert_eq!(load(EXAMPLE, &ServeArgs::default()).unwrap(), Config::default());

        // Values without a portable default stand behind a bare `#`.
        let all: String = EXAMPLE
            .lines()
            .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
            .map(|line| format!("{line}\n"))
            .collect();
        let (mut named, mut known) = (BTreeSet::new(), BTreeSet::new());
        let example: toml::Table = toml::from_str(&all).unwrap();
        paths("", &serde_json::to_value(example).unwrap(), &mut named);
        paths("", &serde_json::to_value(Config::default()).unwrap(), &mut known);
        assert_eq!(named, known);
    }
}
