//! Registration tokens: rows of `registration_token`, each good for one account.

use sqlx::{query, query_scalar};

use super::ServerStore;
use crate::store::StoreError;

impl ServerStore {
    /// Adds a token by its SHA-256, and forgets those that expired.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn insert_registration(
        &self,
        hash: &[u8; 32],
        now_ms: i64,
        expires_at_ms: i64,
    ) -> Result<(), StoreError> {
        query("DELETE FROM registration_token WHERE expires_at <= ?")
            .bind(now_ms)
            .execute(&self.pool)
            .await?;
        query("INSERT INTO registration_token (token_hash, created_at, expires_at) VALUES (?, ?, ?)")
            .bind(hash.as_slice())
            .bind(now_ms)
            .bind(expires_at_ms)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Whether a token would admit an account now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn registration_is_valid(&self, hash: &[u8; 32], now_ms: i64) -> Result<bool, StoreError> {
        let found: i64 = query_scalar(
            "SELECT EXISTS (SELECT 1 FROM registration_token WHERE token_hash = ? AND expires_at > ?)",
        )
        .bind(hash.as_slice())
        .bind(now_ms)
        .fetch_one(&self.pool)
        .await?;
        Ok(found != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::open;

    #[tokio::test]
    async fn valid_until_it_expires() {
        let (_directory, store) = open().await;
        store.insert_registration(&[1; 32], 10, 20).await.unwrap();
        assert!(store.registration_is_valid(&[1; 32], 19).await.unwrap());
        assert!(!store.registration_is_valid(&[1; 32], 20).await.unwrap());
        assert!(!store.registration_is_valid(&[2; 32], 19).await.unwrap());
    }
}
