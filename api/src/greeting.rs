//! What the server says on stdout when it is up. Addresses and advice, never secrets.

use std::io::{self, Write};

use crate::{config::Config, server::Server};

/// Prints where the server listens, what to do next and how to stop. Scripts take the first line, whose
/// form stays.
///
/// # Errors
/// When stdout cannot be written.
pub(crate) fn print(config: &Config, server: &Server) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let address = server.address();
    writeln!(out, "listening on {address}")?;
    if let Some(metrics) = server.metrics_address() {
        writeln!(out, "metrics on http://{metrics}/metrics")?;
    }
    if let Some(fingerprint) = server.fingerprint() {
        writeln!(out, "certificate SHA-256 {fingerprint}")?;
    }
    writeln!(out, "\nYour data is in {}", config.server.data_dir.display())?;
    writeln!(out, "Next, in another terminal: spacepanda signup alice{}", client_options(config, server))?;
    writeln!(out, "Stop with Ctrl-C.")?;
    out.flush()
}

/// What the client must be told to find this server; nothing when it is where clients look first.
fn client_options(config: &Config, server: &Server) -> String {
    let mut address = server.address();
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    if !config.tls.enabled() && address == crate::config::ServerConfig::default().listen {
        return String::new();
    }
    let scheme = if config.tls.enabled() { "https" } else { "http" };
    let ca = match crate::tls::self_signed_path(config) {
        Some(path) => format!(" --ca {}", path.display()),
        None => String::new(),
    };
    format!(" --server {scheme}://{address}{ca}")
}
