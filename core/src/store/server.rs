//! The server's own database: which accounts there are and how their vault keys are wrapped.
//!
//! Not encrypted, so it holds no name, text, address or usable key.

mod account;
mod registration;
mod token;

use std::{fs, path::Path};

use sqlx::{SqlitePool, query, query_scalar};

use super::{
    StoreError,
    connect::{Database, create_file},
    migrate::{SERVER_MIGRATIONS, migrate},
};
use crate::clock::random;

pub use account::{Account, Admission, InsertError, NewAccount};
pub use token::{NewToken, Token};

/// Names an account's vault file; unrelated to the account's keys.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VaultId(pub [u8; 16]);

impl VaultId {
    /// A new random id.
    pub fn random() -> Self {
        Self(*random())
    }

    fn from_column(bytes: &[u8]) -> Result<Self, StoreError> {
        bytes.try_into().map(Self).map_err(|_| StoreError::Corrupt)
    }
}

/// The open server database.
pub struct ServerStore {
    pool: SqlitePool,
    salt: [u8; 32],
}

impl ServerStore {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        if !fs::exists(path)? {
            create_file(path)?;
        }
        let pool = Database::plain(path).single();
        let mut connection = pool.acquire().await?;
        migrate(&mut connection, &SERVER_MIGRATIONS).await?;
        query("INSERT OR IGNORE INTO server (id, salt) VALUES (1, ?)")
            .bind(random::<32>().as_slice())
            .execute(&mut *connection)
            .await?;
        let salt: Vec<u8> =
            query_scalar("SELECT salt FROM server WHERE id = 1").fetch_one(&mut *connection).await?;
        drop(connection);
        let salt = salt.try_into().map_err(|_| StoreError::Corrupt)?;
        Ok(Self { pool, salt })
    }

    /// Keys the HMACs of user names, 32 bytes.
    pub fn salt(&self) -> &[u8; 32] {
        &self.salt
    }

    /// Empties the log into the file and closes it.
    pub async fn close(&self) {
        if let Err(error) = self.truncate_log().await {
            tracing::warn!(cause = %error, "the last checkpoint failed");
        }
        self.pool.close().await;
    }

    /// Makes deletions final: deleted bytes are overwritten in the file, and the log that still held
    /// them is emptied.
    async fn truncate_log(&self) -> Result<(), StoreError> {
        query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&self.pool).await?;
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) async fn open() -> (tempfile::TempDir, ServerStore) {
        let directory = tempfile::tempdir().unwrap();
        let store = ServerStore::open(&directory.path().join("server.db")).await.unwrap();
        (directory, store)
    }

    #[tokio::test]
    async fn the_salt_is_random_and_kept() {
        let (directory, store) = open().await;
        let salt = *store.salt();
        store.close().await;
        let again = ServerStore::open(&directory.path().join("server.db")).await.unwrap();
        assert_eq!(again.salt(), &salt);
        assert_ne!(open().await.1.salt(), &salt);
    }
}
