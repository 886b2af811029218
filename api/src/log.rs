//! Logs on stderr: human on a terminal, JSON otherwise.
//!
//! Crates below us log addresses, peer ids and SQL. They stay silent, or speak of failures only,
//! whatever level is asked for.

use std::{io::IsTerminal as _, panic};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::{LogConfig, LogFormat, LogLevel};

/// Crates whose messages name addresses, peers, keys or statements.
const SILENT: [&str; 8] = ["h2", "hyper", "libp2p", "multistream_select", "rustls", "sqlx", "tonic", "yamux"];

/// Starts logging; panics are logged by place, because their text may hold data.
pub(crate) fn init(config: &LogConfig) {
    let json = match config.format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Human => false,
        LogFormat::Json => true,
    };
    let registry = tracing_subscriber::registry().with(filter(config.level));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    // A second start in one process, as in tests, keeps the first logger.
    let _ = if json {
        registry.with(lines.json()).try_init()
    } else {
        registry.with(lines.with_ansi(std::io::stderr().is_terminal()).with_target(false)).try_init()
    };
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(target: "spacepanda_api", place, "a task panicked");
    }));
}

fn filter(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    Targets::new()
        .with_default(LevelFilter::WARN)
        .with_targets(SILENT.map(|name| (name, LevelFilter::OFF)))
        .with_target("spacepanda", level)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn only_our_own_crates_become_talkative() {
        let filter = filter(LogLevel::Debug);
        assert!(filter.would_enable("spacepanda_core::session", &Level::DEBUG));
        assert!(!filter.would_enable("spacepanda_core::session", &Level::TRACE));
        assert!(!filter.would_enable("figment", &Level::INFO));
        for target in ["sqlx::query", "libp2p_swarm", "libp2p_noise", "hyper_util::client", "h2::codec"] {
            assert!(!filter.would_enable(target, &Level::ERROR), "{target}");
        }
    }
}
