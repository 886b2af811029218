//! Password work: slow and hungry by design, so off the runtime's threads and two at a time.

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::spawn_blocking,
};
use zeroize::Zeroizing;

use super::AccountError;
use crate::{
    clock::random,
    keys::{VaultKey, unwrap_with_password, wrap_with_password},
};

/// Each takes 64 MiB; more at once would gain nothing on two cores.
const AT_ONCE: usize = 2;

/// The queue for password work.
pub(super) struct Passwords {
    permits: Semaphore,
}

/// A turn to do one piece of it.
pub(super) struct Turn<'p> {
    _permit: SemaphorePermit<'p>,
}

impl Passwords {
    pub(super) fn new() -> Self {
        Self { permits: Semaphore::new(AT_ONCE) }
    }

    /// Waits for a turn.
    pub(super) async fn turn(&self) -> Result<Turn<'_>, AccountError> {
        let permit = self.permits.acquire().await.map_err(|_| AccountError::Stopping)?;
        Ok(Turn { _permit: permit })
    }
}

impl Turn<'_> {
    /// Wraps a vault key under a password.
    pub(super) async fn wrap(
        self,
        key: VaultKey,
        password: Zeroizing<String>,
    ) -> Result<(VaultKey, Vec<u8>), AccountError> {
        let wrapped =
            off_thread(move || wrap_with_password(&key, &password, &random()).map(|wrap| (key, wrap)))
                .await?;
        Ok(wrapped?)
    }

    /// The vault key, if this is its password. Without a wrap it takes as long and ends the same.
    pub(super) async fn unwrap(
        self,
        wrap: Option<Vec<u8>>,
        password: Zeroizing<String>,
    ) -> Result<Option<VaultKey>, AccountError> {
        off_thread(move || match wrap {
            Some(wrap) => unwrap_with_password(&wrap, &password).ok(),
            None => {
                let _ = wrap_with_password(&VaultKey::new(random()), &password, &random());
                None
            }
        })
        .await
    }
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, AccountError> {
    // Fails when the runtime stops.
    spawn_blocking(work).await.map_err(|_| AccountError::Stopping)
}
