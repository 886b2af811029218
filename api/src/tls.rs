//! TLS of the client API: PEM files, or a certificate of our own that is kept.
//!
//! Never prints or logs a key.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    client::verify_server_name,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    server::ParsedCertificate,
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::config::Config;

/// HTTP/2 for gRPC, HTTP/1.1 for gRPC-Web clients that do not speak it.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file is missing, unreadable or holds nothing of its kind.
    #[error("cannot use {}: {reason}", .path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// Certificate and key do not go together.
    #[error("the certificate and its key cannot be used: {0}")]
    Mismatch(#[from] rustls::Error),
}

/// What the API presents to its clients.
pub(crate) struct Tls {
    /// For the acceptor.
    pub(crate) config: Arc<rustls::ServerConfig>,
    /// SHA-256 of the server's certificate, `AB:CD:..`.
    pub(crate) fingerprint: String,
}

/// Where the certificate of our own is, when there is to be one.
pub(crate) fn self_signed_path(config: &Config) -> Option<PathBuf> {
    config.tls.self_signed.then(|| config.server.data_dir.join("tls").join("cert.pem"))
}

/// Sets up TLS as configured; `None` for plaintext.
///
/// # Errors
/// [`TlsError`] when files cannot be read or written, or do not fit together.
pub(crate) fn load(config: &Config) -> Result<Option<Tls>, TlsError> {
    if let Some(cert) = self_signed_path(config) {
        let key = cert.with_file_name("key.pem");
        if !(cert.is_file() && key.is_file()) {
            make(&cert, &key, names(config))?;
        }
        let own = config.server.listen.ip();
        if !own.is_unspecified() && !names_address(&cert, own)? {
            tracing::warn!(
                "the kept certificate does not name the address listened on: clients that connect by it refuse \
                 the server; remove tls/ from the data directory to have a new one made, which they must be given"
            );
        }
        return read(&cert, &key).map(Some);
    }
    match (&config.tls.cert, &config.tls.key) {
        (Some(cert), Some(key)) => read(cert, key).map(Some),
        _ => Ok(None),
    }
}

fn read(cert: &Path, key: &Path) -> Result<Tls, TlsError> {
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| file(cert, &error))?;
    let Some(own) = chain.first() else { return Err(file(cert, &"it holds no certificate")) };
    let fingerprint = fingerprint(own);
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| file(key, &error))?;
    let mut config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    Ok(Tls { config: Arc::new(config), fingerprint })
}

/// The key goes first: a certificate on disk means that the pair is whole.
fn make(cert: &Path, key: &Path, names: Vec<String>) -> Result<(), TlsError> {
    let made = rcgen::generate_simple_self_signed(names)?;
    let directory = cert.parent().unwrap_or(Path::new("."));
    private_directory(directory).map_err(|error| file(directory, &error))?;
    let secret = Zeroizing::new(made.signing_key.serialize_pem());
    write_private(key, secret.as_bytes()).map_err(|error| file(key, &error))?;
    write_private(cert, made.cert.pem().as_bytes()).map_err(|error| file(cert, &error))
}

/// Names that clients of this machine may use for it.
fn names(config: &Config) -> Vec<String> {
    let mut names: Vec<_> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let own = config.server.listen.ip();
    if !own.is_unspecified() && !names.contains(&own.to_string()) {
        names.push(own.to_string());
    }
    names
}

/// Whether clients that connect by this address accept the certificate.
fn names_address(cert: &Path, address: IpAddr) -> Result<bool, TlsError> {
    let own = CertificateDer::from_pem_file(cert).map_err(|error| file(cert, &error))?;
    let own = ParsedCertificate::try_from(&own)?;
    Ok(verify_server_name(&own, &ServerName::IpAddress(address.into())).is_ok())
}

fn private_directory(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = options.open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

fn fingerprint(certificate: &[u8]) -> String {
    let digest = Sha256::digest(certificate);
    digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

fn file(path: &Path, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError::File { path: path.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn self_signed(data_dir: &Path) -> Config {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut config = Config::default();
        config.server.data_dir = data_dir.to_owned();
        config.tls.self_signed = true;
        config
    }

    #[test]
    fn plaintext_needs_nothing() {
        assert!(load(&Config::default()).unwrap().is_none());
    }

    #[test]
    fn a_certificate_is_made_once_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let config = self_signed(directory.path());
        let first = load(&config).unwrap().unwrap();
        let second = load(&config).unwrap().unwrap();
        assert_eq!(first.fingerprint, second.fingerprint);
        assert_eq!(first.fingerprint.len(), 32 * 3 - 1);
        assert_eq!(first.config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    }

    #[test]
    fn a_kept_certificate_names_the_address_that_it_was_made_for() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = self_signed(directory.path());
        config.server.listen = "192.0.2.7:0".parse().unwrap();
        load(&config).unwrap();
        let cert = self_signed_path(&config).unwrap();
        let named = |address: &str| names_address(&cert, address.parse().unwrap()).unwrap();
        for known in ["192.0.2.7", "127.0.0.1", "::1"] {
            assert!(named(known), "{known}");
        }
        for unknown in ["192.0.2.8", "127.0.0.2", "::2"] {
            assert!(!named(unknown), "{unknown}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_key_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        load(&self_signed(directory.path())).unwrap();
        let mode =
            |path: &str| fs::metadata(directory.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("tls"), mode("tls/key.pem"), mode("tls/cert.pem")), (0o700, 0o600, 0o600));
    }

    #[test]
    fn half_a_pair_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let config = self_signed(directory.path());
        let first = load(&config).unwrap().unwrap();
        fs::remove_file(directory.path().join("tls/cert.pem")).unwrap();
        assert_ne!(load(&config).unwrap().unwrap().fingerprint, first.fingerprint);
    }

    #[test]
    fn files_that_are_not_pem_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = self_signed(directory.path());
        config.tls.self_signed = false;
        config.tls.cert = Some(directory.path().join("no-cert.pem"));
        config.tls.key = Some(directory.path().join("no-key.pem"));
        assert!(load(&config).err().unwrap().to_string().contains("no-cert.pem"));
        fs::write(directory.path().join("no-cert.pem"), "text").unwrap();
        assert!(load(&config).err().unwrap().to_string().contains("no-cert.pem"));
    }
}
