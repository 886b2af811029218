//! The server's flags; each can also be given as an environment variable.
//!
//! Only what is set here overrides the file. Nothing is checked beyond the form of a value.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::builder::BoolishValueParser;
use figment::Figment;
use serde::Serialize;

use super::{LogFormat, LogLevel};

/// Flags of `spacepanda serve`; flags win over the environment, both over the file.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Server")]
pub struct ServeArgs {
    /// Configuration file (TOML); default: config.toml in the platform's configuration directory.
    #[arg(long, env = "SPACEPANDA_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory that everything is kept in.
    #[arg(long, env = "SPACEPANDA_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address for clients; port 0 takes a free one.
    #[arg(long, env = "SPACEPANDA_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Multiaddr for other servers, such as /ip4/0.0.0.0/tcp/4001.
    #[arg(long, env = "SPACEPANDA_PEER_LISTEN", value_name = "MULTIADDR")]
    pub peer_listen: Option<String>,
    /// Multiaddr to tell other servers, for machines behind a NAT; repeatable.
    #[arg(long, env = "SPACEPANDA_ANNOUNCE", value_name = "MULTIADDR", value_delimiter = ',')]
    pub announce: Vec<String>,
    /// Address of the Prometheus endpoint.
    #[arg(long, env = "SPACEPANDA_METRICS_LISTEN", value_name = "ADDRESS:PORT")]
    pub metrics_listen: Option<SocketAddr>,
    /// TLS certificate chain (PEM).
    #[arg(long, env = "SPACEPANDA_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the TLS certificate (PEM).
    #[arg(long, env = "SPACEPANDA_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Make a TLS certificate, keep it in the data directory, print its fingerprint.
    #[arg(long, env = "SPACEPANDA_TLS_SELF_SIGNED", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = BoolishValueParser::new(), value_name = "BOOL")]
    pub tls_self_signed: Option<bool>,
    /// Serve other machines without TLS: tokens and messages cross the network in the clear.
    #[arg(long, env = "SPACEPANDA_ALLOW_PLAINTEXT", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = BoolishValueParser::new(), value_name = "BOOL")]
    pub allow_plaintext: Option<bool>,
    /// File (mode 0600) whose key brings accounts back after a restart without a call.
    #[arg(long, env = "SPACEPANDA_UNLOCK_KEY_FILE", value_name = "FILE")]
    pub unlock_key_file: Option<PathBuf>,
    /// Session tokens unused for this long stop working, such as 30d.
    #[arg(long, env = "SPACEPANDA_TOKEN_IDLE", value_name = "SPAN", value_parser = humantime::parse_duration)]
    pub token_idle: Option<Duration>,
    /// The least that is logged.
    #[arg(long, env = "SPACEPANDA_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,
    /// How log lines look.
    #[arg(long, env = "SPACEPANDA_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

impl ServeArgs {
    /// Lays what is set here over what is there.
    pub(super) fn over(&self, figment: Figment) -> Figment {
        let announce = (!self.announce.is_empty()).then_some(&self.announce);
        let token_idle = self.token_idle.map(|span| humantime::format_duration(span).to_string());
        let figment = set(figment, "server.data_dir", self.data_dir.as_ref());
        let figment = set(figment, "server.listen", self.listen);
        let figment = set(figment, "server.allow_plaintext", self.allow_plaintext);
        let figment = set(figment, "tls.cert", self.tls_cert.as_ref());
        let figment = set(figment, "tls.key", self.tls_key.as_ref());
        let figment = set(figment, "tls.self_signed", self.tls_self_signed);
        let figment = set(figment, "metrics.listen", self.metrics_listen);
        let figment = set(figment, "peers.listen", self.peer_listen.as_ref());
        let figment = set(figment, "peers.announce", announce);
        let figment = set(figment, "accounts.token_idle", token_idle);
        let figment = set(figment, "accounts.unlock_key_file", self.unlock_key_file.as_ref());
        let figment = set(figment, "log.level", self.log_level);
        set(figment, "log.format", self.log_format)
    }
}

fn set<T: Serialize>(figment: Figment, key: &str, value: Option<T>) -> Figment {
    match value {
        Some(value) => figment.merge((key, value)),
        None => figment,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::config::Config;

    /// Every flag, set to something that is not the default.
    fn all() -> ServeArgs {
        ServeArgs {
            config: None,
            data_dir: Some("/d".into()),
            listen: Some((Ipv4Addr::LOCALHOST, 9).into()),
            peer_listen: Some("/ip4/127.0.0.1/tcp/9".into()),
            announce: vec!["/dns4/a/tcp/1".into(), "/dns4/b/tcp/2".into()],
            metrics_listen: Some((Ipv4Addr::LOCALHOST, 10).into()),
            tls_cert: Some("/c".into()),
            tls_key: Some("/k".into()),
            tls_self_signed: Some(true),
            allow_plaintext: Some(true),
            unlock_key_file: Some("/u".into()),
            token_idle: Some(Duration::from_secs(90 * 60)),
            log_level: Some(LogLevel::Debug),
            log_format: Some(LogFormat::Json),
        }
    }

    #[test]
    fn every_flag_reaches_its_field() {
        let config: Config = all().over(Figment::new()).extract().unwrap();
        assert_eq!(config.server.data_dir, PathBuf::from("/d"));
        assert_eq!(config.server.listen.port(), 9);
        assert!(config.server.allow_plaintext && config.tls.self_signed);
        assert_eq!(config.tls.cert, Some("/c".into()));
        assert_eq!(config.tls.key, Some("/k".into()));
        assert_eq!(config.metrics.listen.unwrap().port(), 10);
        assert_eq!(config.peers.listen, "/ip4/127.0.0.1/tcp/9");
        assert_eq!(config.peers.announce, ["/dns4/a/tcp/1", "/dns4/b/tcp/2"]);
        assert_eq!(config.accounts.token_idle, Duration::from_secs(5400));
        assert_eq!(config.accounts.unlock_key_file, Some("/u".into()));
        assert_eq!((config.log.level, config.log.format), (LogLevel::Debug, LogFormat::Json));
    }
}
