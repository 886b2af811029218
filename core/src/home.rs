//! A home server's accounts: the data directory, the server database, logins and open sessions.

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{id::AccountId, metrics::Metrics, network::NetworkConfig, session::Session, store::StoreError};

/// How a home server runs.
#[derive(Clone)]
pub struct HomeConfig {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Tokens unused for this long stop working.
    pub token_idle: Duration,
    /// A file of 32 random bytes (hex), mode 0600, that lets accounts come back without a call after a restart.
    pub unlock_key_file: Option<PathBuf>,
    /// The peer side.
    pub network: NetworkConfig,
}

/// What CreateProfile asks for.
pub struct NewProfile {
    /// Case-folded before use; `[a-z0-9_.-]{2,32}`.
    pub username: String,
    /// At least 8 characters.
    pub password: Zeroizing<String>,
    /// Shown to others; empty: the user name.
    pub display_name: String,
    /// What this login is called.
    pub device_name: String,
    /// Retried requests carry the same one.
    pub request_id: Option<Uuid>,
    /// Needed when `registration_open` is false and an account exists.
    pub registration_token: Zeroizing<String>,
    /// The API listens on loopback.
    pub registration_open: bool,
}

/// A login: the secret token and who it belongs to.
pub struct Login {
    /// 32 random bytes, base64url. Secret.
    pub token: Zeroizing<String>,
    /// The account.
    pub account: AccountId,
    /// Folded user name.
    pub username: String,
    /// Shown name.
    pub display_name: String,
    /// libp2p's text form.
    pub peer_id: String,
    /// Where the router listens.
    pub listen_addresses: Vec<String>,
    /// Twelve words, on creation only.
    pub recovery_phrase: Option<Zeroizing<String>>,
}

/// Why an account operation was refused.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Outside `[a-z0-9_.-]{2,32}`.
    #[error("a user name has 2 to 32 of a-z, 0-9, '_', '.', '-'")]
    UsernameInvalid,
    /// Under 8 characters.
    #[error("a password has at least 8 characters")]
    PasswordWeak,
    /// Someone has this name.
    #[error("this user name is taken")]
    UsernameTaken,
    /// A registration token is needed.
    #[error("this server needs a registration token")]
    RegistrationClosed,
    /// Unknown name or wrong password.
    #[error("unknown user name or wrong password")]
    WrongCredentials,
    /// Unknown, expired or revoked.
    #[error("the session token is not valid")]
    TokenInvalid,
    /// Wait.
    #[error("too many attempts")]
    TooManyAttempts {
        /// How long.
        retry_after: Duration,
    },
    /// The request id was used with another payload.
    #[error("this request_id was used for a different request")]
    RequestIdReused,
    /// The server is shutting down.
    #[error("the server is stopping")]
    Stopping,
    /// The router could not listen.
    #[error("the router could not start: {0}")]
    Router(String),
    /// A database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The home server's accounts.
pub struct Home {}

impl Home {
    /// Opens the data directory; brings back accounts that the unlock key covers.
    pub async fn open(_config: HomeConfig, _metrics: Metrics) -> Result<Arc<Self>, AccountError> {
        unimplemented!()
    }
    /// Creates an account and logs in.
    pub async fn create_profile(
        &self,
        _profile: NewProfile,
        _from: Option<IpAddr>,
    ) -> Result<Login, AccountError> {
        unimplemented!()
    }
    /// Logs in.
    pub async fn unlock(
        &self,
        _username: &str,
        _password: Zeroizing<String>,
        _device_name: &str,
        _from: Option<IpAddr>,
    ) -> Result<Login, AccountError> {
        unimplemented!()
    }
    /// The session a token belongs to; opened again if the server restarted.
    pub async fn authenticate(&self, _token: &str) -> Result<Arc<Session>, AccountError> {
        unimplemented!()
    }
    /// Revokes the token, or all of its account.
    pub async fn lock(&self, _token: &str, _everywhere: bool) -> Result<(), AccountError> {
        unimplemented!()
    }
    /// A token that admits one account, for the operator.
    pub async fn make_registration_token(
        &self,
        _lifetime: Duration,
    ) -> Result<Zeroizing<String>, AccountError> {
        unimplemented!()
    }
    /// Stops all sessions and closes the databases.
    pub async fn shutdown(&self) {
        unimplemented!()
    }
}

/// Makes a registration token in a data directory whose server may be running.
///
/// # Errors
/// [`AccountError`] when there is no server database or it cannot be written.
pub async fn registration_token(
    _data_dir: &std::path::Path,
    _lifetime: Duration,
) -> Result<Zeroizing<String>, AccountError> {
    unimplemented!()
}
