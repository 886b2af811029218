//! Logins: rows of `session_token`, each with the vault key wrapped under its token.

use sqlx::{Row as _, Sqlite, Transaction, query, query_scalar};

use super::{ServerStore, VaultId};
use crate::store::StoreError;

/// A login to be.
pub struct NewToken {
    /// SHA-256 of the token.
    pub hash: [u8; 32],
    /// Names the login.
    pub session: [u8; 16],
    /// The vault key under the token.
    pub wrap: Vec<u8>,
}

/// A login.
pub struct Token {
    /// Whose.
    pub vault: VaultId,
    /// The vault key under the token.
    pub wrap: Vec<u8>,
    /// Unix milliseconds, to within what is worth a write.
    pub last_used_ms: i64,
}

impl NewToken {
    pub(super) async fn insert(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        vault: VaultId,
        now_ms: i64,
    ) -> Result<(), sqlx::Error> {
        query(
            "INSERT INTO session_token (token_hash, session_id, vault_id, wrap, created_at, last_used_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
        )
        .bind(self.hash.as_slice())
        .bind(self.session.as_slice())
        .bind(vault.0.as_slice())
        .bind(&self.wrap)
        .bind(now_ms)
        .execute(&mut **tx)
        .await?;
        Ok(())
    }
}

impl ServerStore {
    /// Adds a login.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn insert_token(
        &self,
        vault: VaultId,
        token: &NewToken,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        token.insert(&mut tx, vault, now_ms).await?;
        tx.commit().await?;
        Ok(())
    }

    /// A login that was used after `idle_since_ms`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn token(&self, hash: &[u8; 32], idle_since_ms: i64) -> Result<Option<Token>, StoreError> {
        let row = query(
            "SELECT vault_id, wrap, last_used_at FROM session_token
             WHERE token_hash = ? AND last_used_at > ?",
        )
        .bind(hash.as_slice())
        .bind(idle_since_ms)
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            Ok(Token {
                vault: VaultId::from_column(row.try_get("vault_id")?)?,
                wrap: row.try_get("wrap")?,
                last_used_ms: row.try_get("last_used_at")?,
            })
        })
        .transpose()
    }

    /// Remembers that a login was used.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn touch_token(&self, hash: &[u8; 32], now_ms: i64) -> Result<(), StoreError> {
        query("UPDATE session_token SET last_used_at = max(last_used_at, ?) WHERE token_hash = ?")
            .bind(now_ms)
            .bind(hash.as_slice())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The account's logins, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sessions(&self, vault: VaultId) -> Result<Vec<[u8; 16]>, StoreError> {
        let sessions: Vec<Vec<u8>> = query_scalar("SELECT session_id FROM session_token WHERE vault_id = ?")
            .bind(vault.0.as_slice())
            .fetch_all(&self.pool)
            .await?;
        sessions.into_iter().map(|session| session.try_into().map_err(|_| StoreError::Corrupt)).collect()
    }

    /// Removes a login; its wrap is gone from the disk.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_token(&self, hash: &[u8; 32]) -> Result<(), StoreError> {
        query("DELETE FROM session_token WHERE token_hash = ?")
            .bind(hash.as_slice())
            .execute(&self.pool)
            .await?;
        self.truncate_log().await
    }

    /// Removes all logins of an account; their wraps are gone from the disk.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_tokens(&self, vault: VaultId) -> Result<(), StoreError> {
        query("DELETE FROM session_token WHERE vault_id = ?")
            .bind(vault.0.as_slice())
            .execute(&self.pool)
            .await?;
        self.truncate_log().await
    }

    /// Removes logins not used after `idle_since_ms`, and says of which accounts.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sweep_tokens(&self, idle_since_ms: i64) -> Result<Vec<VaultId>, StoreError> {
        let vaults: Vec<Vec<u8>> =
            query_scalar("DELETE FROM session_token WHERE last_used_at <= ? RETURNING vault_id")
                .bind(idle_since_ms)
                .fetch_all(&self.pool)
                .await?;
        if !vaults.is_empty() {
            self.truncate_log().await?;
        }
        vaults.iter().map(|vault| VaultId::from_column(vault)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{NewAccount, account::Admission, tests::open},
        *,
    };

    const ANN: VaultId = VaultId([1; 16]);

    fn token(number: u8) -> NewToken {
        NewToken { hash: [number; 32], session: [number; 16], wrap: vec![number; 48] }
    }

    async fn store_with_ann() -> (tempfile::TempDir, ServerStore) {
        let (directory, store) = open().await;
        let ann = NewAccount {
            vault: ANN,
            username_hmac: [11; 32],
            password_wrap: vec![],
            recovery_wrap: vec![],
            machine_wrap: None,
            request: None,
            token: token(1),
            admission: Admission::Open,
        };
        store.insert_account(&ann, 100).await.unwrap();
        (directory, store)
    }

    #[tokio::test]
    async fn idle_tokens_are_refused_and_swept() {
        let (_directory, store) = store_with_ann().await;
        store.insert_token(ANN, &token(2), 100).await.unwrap();
        store.touch_token(&[2; 32], 150).await.unwrap();
        store.touch_token(&[2; 32], 120).await.unwrap();
        assert!(store.token(&[1; 32], 99).await.unwrap().is_some());
        assert!(store.token(&[1; 32], 100).await.unwrap().is_none());
        assert_eq!(store.token(&[2; 32], 149).await.unwrap().unwrap().last_used_ms, 150);
        assert!(store.sweep_tokens(100).await.unwrap() == [ANN]);
        assert_eq!(store.sessions(ANN).await.unwrap(), [[2; 16]]);
        assert!(store.sweep_tokens(100).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_deleted_wrap_is_gone_from_the_disk() {
        let (directory, store) = store_with_ann().await;
        store.insert_token(ANN, &token(2), 100).await.unwrap();
        store.insert_token(ANN, &token(3), 100).await.unwrap();
        let on_disk = |number: u8| {
            ["server.db", "server.db-wal"].iter().any(|file| {
                let bytes = std::fs::read(directory.path().join(file)).unwrap();
                bytes.windows(48).any(|window| window == [number; 48])
            })
        };
        assert!(on_disk(2));
        store.delete_token(&[2; 32]).await.unwrap();
        assert!(!on_disk(2) && on_disk(3));
        store.delete_tokens(ANN).await.unwrap();
        assert!(!on_disk(1) && !on_disk(3));
        assert!(store.sessions(ANN).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_token_needs_an_account() {
        let (_directory, store) = open().await;
        assert!(store.insert_token(ANN, &token(1), 1).await.is_err());
    }
}
