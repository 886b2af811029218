//! A home server's accounts: the data directory, the server database, logins and open sessions.
//!
//! What an account does once it is unlocked is its [`Session`]'s business.

mod account;
mod attempts;
mod directory;
mod login;
mod password;
mod registration;
mod sessions;
mod token;
mod unlock;

pub use registration::registration_token;

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use zeroize::Zeroizing;

use self::{
    attempts::Attempts, directory::DataDirectory, password::Passwords, sessions::Sessions, token::TokenCache,
    unlock::UnlockKey,
};
use crate::{
    id::AccountId,
    metrics::Metrics,
    network::NetworkConfig,
    session::Session,
    store::{StoreError, server::ServerStore},
};

/// Expired logins are removed this often.
const SWEEP_EVERY: Duration = Duration::from_secs(3_600);

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
    /// Another process has the lock of the data directory.
    #[error("another process uses this data directory")]
    DataDirInUse,
    /// Nothing to add a registration token to.
    #[error("no server has used this data directory yet: start it once")]
    NoServer,
    /// The unlock key file is not fit for use.
    #[error("the unlock key file cannot be used: {0}")]
    UnlockKeyFile(&'static str),
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
///
/// Operations that change something run to their end, even when the caller stops waiting.
pub struct Home {
    inner: Arc<Inner>,
    sweeper: Mutex<Option<JoinHandle<()>>>,
}

/// What all operations work on.
struct Inner {
    directory: DataDirectory,
    store: ServerStore,
    sessions: Sessions,
    tokens: TokenCache<Session>,
    attempts: Attempts,
    passwords: Passwords,
    unlock_key: Option<UnlockKey>,
    metrics: Metrics,
    stopping: CancellationToken,
}

impl Home {
    /// Opens the data directory; brings back accounts that the unlock key covers.
    ///
    /// # Errors
    /// [`AccountError::DataDirInUse`], [`AccountError::UnlockKeyFile`] or [`AccountError::Store`].
    pub async fn open(config: HomeConfig, metrics: Metrics) -> Result<Arc<Self>, AccountError> {
        let inner = Arc::new(Inner::open(&config, metrics).await?);
        inner.remove_unfinished().await?;
        inner.sweep().await?;
        inner.bring_back().await?;
        let sweeper = tokio::spawn(sweep_regularly(Arc::clone(&inner)));
        Ok(Arc::new(Self { inner, sweeper: Mutex::new(Some(sweeper)) }))
    }

    /// Creates an account and logs in. The same `request_id` gives the same answer, as long as its login
    /// lives.
    ///
    /// # Errors
    /// [`AccountError`]; then no account was made.
    pub async fn create_profile(
        &self,
        profile: NewProfile,
        from: Option<IpAddr>,
    ) -> Result<Login, AccountError> {
        self.whole(move |inner| async move { inner.create(profile, from).await }).await
    }

    /// Logs in.
    ///
    /// # Errors
    /// [`AccountError::WrongCredentials`], in the same time, for an unknown name and a wrong password;
    /// [`AccountError::TooManyAttempts`] after repeated failures.
    pub async fn unlock(
        &self,
        username: &str,
        password: Zeroizing<String>,
        device_name: &str,
        from: Option<IpAddr>,
    ) -> Result<Login, AccountError> {
        let (username, device_name) = (username.to_owned(), device_name.to_owned());
        self.whole(move |inner| async move { inner.unlock(&username, password, device_name, from).await })
            .await
    }

    /// The session a token belongs to; opened again if the server restarted.
    ///
    /// # Errors
    /// [`AccountError::TokenInvalid`] for an unknown, expired or revoked token.
    pub async fn authenticate(&self, token: &str) -> Result<Arc<Session>, AccountError> {
        let token = login::parse(token)?;
        if let Some(session) = self.inner.session_of(&token).await? {
            return Ok(session);
        }
        self.whole(move |inner| async move { inner.resume(&token, crate::clock::now_ms()).await }).await
    }

    /// Revokes the token, or all of its account. With the last one gone the session stops.
    ///
    /// # Errors
    /// [`AccountError::TokenInvalid`].
    pub async fn lock(&self, token: &str, everywhere: bool) -> Result<(), AccountError> {
        let token = login::parse(token)?;
        self.whole(move |inner| async move { inner.lock(&token, everywhere).await }).await
    }

    /// Stops all sessions and closes the databases.
    pub async fn shutdown(&self) {
        self.inner.stopping.cancel();
        let sweeper = self.sweeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sweeper) = sweeper
            && sweeper.await.is_err()
        {
            tracing::error!("the removal of expired logins had failed");
        }
        self.inner.sessions.stop_all().await;
        self.inner.store.close().await;
        self.inner.directory.unlock();
    }

    /// Runs an operation as a task of its own: a caller that goes away leaves nothing half done.
    async fn whole<T, F>(
        &self,
        operation: impl FnOnce(Arc<Inner>) -> F + Send + 'static,
    ) -> Result<T, AccountError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, AccountError>> + Send + 'static,
    {
        if self.inner.stopping.is_cancelled() {
            return Err(AccountError::Stopping);
        }
        tokio::spawn(operation(Arc::clone(&self.inner))).await.unwrap_or_else(|failed| {
            if failed.is_panic() {
                tracing::error!("an account operation panicked");
                return Err(StoreError::Database.into());
            }
            Err(AccountError::Stopping)
        })
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.inner.stopping.cancel();
    }
}

impl Inner {
    async fn open(config: &HomeConfig, metrics: Metrics) -> Result<Self, AccountError> {
        let directory = DataDirectory::open(&config.data_dir)?;
        // Set by systemd for the service alone.
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let load = |path: &PathBuf| UnlockKey::load(path, credentials.as_deref());
        let unlock_key = config.unlock_key_file.as_ref().map(load).transpose()?;
        let stopping = CancellationToken::new();
        Ok(Self {
            store: ServerStore::open(&directory.server_database()).await?,
            directory,
            sessions: Sessions::new(config, metrics.clone(), stopping.clone()),
            tokens: TokenCache::new(config.token_idle),
            attempts: Attempts::new(),
            passwords: Passwords::new(),
            unlock_key,
            metrics,
            stopping,
        })
    }

    /// Removes what a crash in the middle of CreateProfile left.
    async fn remove_unfinished(&self) -> Result<(), AccountError> {
        for vault in self.directory.unfinished()? {
            if self.store.has_account(vault).await? {
                self.directory.keep(vault)?;
            } else {
                self.directory.discard(vault)?;
                tracing::info!("removed an account that was never finished");
            }
        }
        Ok(())
    }

    /// Opens the sessions that the unlock key covers. One that fails does not keep the others down.
    async fn bring_back(&self) -> Result<(), AccountError> {
        let Some(unlock_key) = &self.unlock_key else { return Ok(()) };
        for (vault, wrap) in self.store.machine_wraps().await? {
            let slot = self.sessions.slot(vault);
            let mut slot = slot.lock().await;
            let Some(key) = unlock_key.unwrap(&wrap) else {
                tracing::warn!("the unlock key file does not open an account; its next call renews that");
                continue;
            };
            if let Err(error) = self.open_session(&mut slot, vault, &key).await {
                tracing::error!(cause = %error, "an account did not come back");
            }
        }
        Ok(())
    }
}

async fn sweep_regularly(inner: Arc<Inner>) {
    loop {
        tokio::select! {
            biased;
            () = inner.stopping.cancelled() => return,
            () = tokio::time::sleep(SWEEP_EVERY) => {}
        }
        if let Err(error) = inner.sweep().await {
            tracing::warn!(cause = %error, "expired logins were not removed");
        }
    }
}

#[cfg(test)]
mod tests;
