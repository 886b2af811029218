//! Accounts: rows of `account`.

use sqlx::{Row as _, Sqlite, Transaction, query, query_scalar, sqlite::SqliteRow};

use super::{NewToken, ServerStore, VaultId};
use crate::store::StoreError;

/// An account, as far as the server knows it.
pub struct Account {
    /// Its vault.
    pub vault: VaultId,
    /// HMAC of its folded user name.
    pub username_hmac: [u8; 32],
    /// The vault key under the password.
    pub password_wrap: Vec<u8>,
    /// HMAC of the request that created it, if that had an id.
    pub request_hmac: Option<Vec<u8>>,
}

/// An account to be.
pub struct NewAccount {
    /// Its vault; the file exists already.
    pub vault: VaultId,
    /// HMAC of its folded user name.
    pub username_hmac: [u8; 32],
    /// The vault key under the password.
    pub password_wrap: Vec<u8>,
    /// The vault key under the recovery phrase.
    pub recovery_wrap: Vec<u8>,
    /// The vault key under the machine's unlock key.
    pub machine_wrap: Option<Vec<u8>>,
    /// The request's id, and an HMAC of the rest of it.
    pub request: Option<([u8; 16], [u8; 32])>,
    /// Its first login.
    pub token: NewToken,
    /// What admits it: nothing while this is the first account or registration is open.
    pub admission: Admission,
}

/// What an account is admitted by.
#[derive(Clone, Copy)]
pub enum Admission {
    /// Anyone may come.
    Open,
    /// The first account may, or who holds this registration token (its hash).
    Token([u8; 32]),
}

/// Why an account was not added; nothing was.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InsertError {
    /// The user name or the request id is another account's.
    #[error("an account with this name or request exists")]
    Exists,
    /// No such registration token, and not the first account.
    #[error("not admitted")]
    NotAdmitted,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for InsertError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(cause) if cause.is_unique_violation() => Self::Exists,
            _ => Self::Store(error.into()),
        }
    }
}

const COLUMNS_BY_NAME: &str =
    "SELECT vault_id, username_hmac, password_wrap, request_hmac FROM account WHERE username_hmac = ?";
const COLUMNS_BY_REQUEST: &str =
    "SELECT vault_id, username_hmac, password_wrap, request_hmac FROM account WHERE request_id = ?";

impl ServerStore {
    /// The account of a user name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn account_by_name(&self, username_hmac: &[u8; 32]) -> Result<Option<Account>, StoreError> {
        let row = query(COLUMNS_BY_NAME).bind(username_hmac.as_slice()).fetch_optional(&self.pool).await?;
        row.as_ref().map(account).transpose()
    }

    /// The account that a request created.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn account_by_request(&self, request: &[u8; 16]) -> Result<Option<Account>, StoreError> {
        let row = query(COLUMNS_BY_REQUEST).bind(request.as_slice()).fetch_optional(&self.pool).await?;
        row.as_ref().map(account).transpose()
    }

    /// Whether nobody has an account yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_empty(&self) -> Result<bool, StoreError> {
        let any: i64 = query_scalar("SELECT EXISTS (SELECT 1 FROM account)").fetch_one(&self.pool).await?;
        Ok(any == 0)
    }

    /// Whether this vault is an account's.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn has_account(&self, vault: VaultId) -> Result<bool, StoreError> {
        let found: i64 = query_scalar("SELECT EXISTS (SELECT 1 FROM account WHERE vault_id = ?)")
            .bind(vault.0.as_slice())
            .fetch_one(&self.pool)
            .await?;
        Ok(found != 0)
    }

    /// Adds an account with its first login, and uses up what admitted it, all or nothing.
    ///
    /// # Errors
    /// [`InsertError`].
    pub async fn insert_account(&self, new: &NewAccount, now_ms: i64) -> Result<(), InsertError> {
        let mut tx = self.pool.begin().await?;
        admit(&mut tx, new.admission, now_ms).await?;
        let (request, request_hmac) = new.request.as_ref().map(|(id, hmac)| (id, hmac)).unzip();
        query(
            "INSERT INTO account (vault_id, username_hmac, created_at, password_wrap, recovery_wrap,
                                  machine_wrap, request_id, request_hmac)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(new.vault.0.as_slice())
        .bind(new.username_hmac.as_slice())
        .bind(now_ms)
        .bind(&new.password_wrap)
        .bind(&new.recovery_wrap)
        .bind(&new.machine_wrap)
        .bind(request.map(<[u8; 16]>::as_slice))
        .bind(request_hmac.map(<[u8; 32]>::as_slice))
        .execute(&mut *tx)
        .await?;
        new.token.insert(&mut tx, new.vault, now_ms).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Sets or removes the wrap under the machine's unlock key. What is removed is gone from the disk.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_machine_wrap(&self, vault: VaultId, wrap: Option<&[u8]>) -> Result<(), StoreError> {
        let changed =
            query("UPDATE account SET machine_wrap = ?2 WHERE vault_id = ?1 AND machine_wrap IS NOT ?2")
                .bind(vault.0.as_slice())
                .bind(wrap)
                .execute(&self.pool)
                .await?;
        if changed.rows_affected() > 0 {
            self.truncate_log().await?;
        }
        Ok(())
    }

    /// An account's wrap under the machine's unlock key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn machine_wrap(&self, vault: VaultId) -> Result<Option<Vec<u8>>, StoreError> {
        let row = query("SELECT machine_wrap FROM account WHERE vault_id = ?")
            .bind(vault.0.as_slice())
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| row.try_get("machine_wrap")).transpose()?.flatten())
    }

    /// All accounts that the machine's unlock key opens, with their wraps.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn machine_wraps(&self) -> Result<Vec<(VaultId, Vec<u8>)>, StoreError> {
        let rows = query(
            "SELECT vault_id, machine_wrap FROM account WHERE machine_wrap IS NOT NULL ORDER BY created_at",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| Ok((VaultId::from_column(row.try_get("vault_id")?)?, row.try_get("machine_wrap")?)))
            .collect()
    }
}

async fn admit(
    tx: &mut Transaction<'_, Sqlite>,
    admission: Admission,
    now_ms: i64,
) -> Result<(), InsertError> {
    let Admission::Token(hash) = admission else { return Ok(()) };
    let first: i64 = query_scalar("SELECT NOT EXISTS (SELECT 1 FROM account)").fetch_one(&mut **tx).await?;
    if first != 0 {
        return Ok(());
    }
    let used = query("DELETE FROM registration_token WHERE token_hash = ? AND expires_at > ?")
        .bind(hash.as_slice())
        .bind(now_ms)
        .execute(&mut **tx)
        .await?;
    if used.rows_affected() == 1 { Ok(()) } else { Err(InsertError::NotAdmitted) }
}

fn account(row: &SqliteRow) -> Result<Account, StoreError> {
    let username_hmac: &[u8] = row.try_get("username_hmac")?;
    Ok(Account {
        vault: VaultId::from_column(row.try_get("vault_id")?)?,
        username_hmac: username_hmac.try_into().map_err(|_| StoreError::Corrupt)?,
        password_wrap: row.try_get("password_wrap")?,
        request_hmac: row.try_get("request_hmac")?,
    })
}

#[cfg(test)]
mod tests {
    use super::{super::tests::open, *};

    fn new_account(number: u8, admission: Admission) -> NewAccount {
        NewAccount {
            vault: VaultId([number; 16]),
            username_hmac: [number; 32],
            password_wrap: vec![number; 5],
            recovery_wrap: vec![1],
            machine_wrap: (number == 2).then(|| vec![9; 40]),
            request: Some(([number; 16], [number; 32])),
            token: NewToken { hash: [number; 32], session: [number; 16], wrap: vec![2] },
            admission,
        }
    }

    #[tokio::test]
    async fn found_by_name_and_by_request() {
        let (_directory, store) = open().await;
        assert!(store.is_empty().await.unwrap());
        store.insert_account(&new_account(1, Admission::Open), 7).await.unwrap();
        assert!(!store.is_empty().await.unwrap());
        let named = store.account_by_name(&[1; 32]).await.unwrap().unwrap();
        assert!(named.vault == VaultId([1; 16]));
        assert_eq!((named.password_wrap, named.request_hmac), (vec![1; 5], Some(vec![1; 32])));
        assert!(store.account_by_name(&[2; 32]).await.unwrap().is_none());
        assert!(store.account_by_request(&[1; 16]).await.unwrap().is_some());
        assert!(store.account_by_request(&[2; 16]).await.unwrap().is_none());
        assert!(store.has_account(VaultId([1; 16])).await.unwrap());
        assert!(!store.has_account(VaultId([2; 16])).await.unwrap());
    }

    #[tokio::test]
    async fn a_name_and_a_request_are_taken_once_and_leave_nothing_behind() {
        let (_directory, store) = open().await;
        store.insert_account(&new_account(1, Admission::Open), 7).await.unwrap();
        let mut same_name = new_account(2, Admission::Open);
        same_name.username_hmac = [1; 32];
        let mut same_request = new_account(3, Admission::Open);
        same_request.request = Some(([1; 16], [3; 32]));
        for twin in [same_name, same_request] {
            assert_eq!(store.insert_account(&twin, 8).await, Err(InsertError::Exists));
            assert!(!store.has_account(twin.vault).await.unwrap());
            assert!(store.token(&twin.token.hash, 0).await.unwrap().is_none());
        }
    }

    #[tokio::test]
    async fn admission_is_free_for_the_first_and_uses_a_token_up() {
        let (_directory, store) = open().await;
        let with = Admission::Token;
        store.insert_account(&new_account(1, with([0; 32])), 10).await.unwrap();
        store.insert_registration(&[7; 32], 10, 20).await.unwrap();
        let refused = Err(InsertError::NotAdmitted);
        assert_eq!(store.insert_account(&new_account(2, with([8; 32])), 11).await, refused);
        assert_eq!(store.insert_account(&new_account(2, with([7; 32])), 20).await, refused);
        // A refused account does not use its token up.
        let mut taken = new_account(2, with([7; 32]));
        taken.username_hmac = [1; 32];
        assert_eq!(store.insert_account(&taken, 12).await, Err(InsertError::Exists));
        store.insert_account(&new_account(2, with([7; 32])), 12).await.unwrap();
        assert_eq!(store.insert_account(&new_account(3, with([7; 32])), 13).await, refused);
    }

    #[tokio::test]
    async fn machine_wraps_come_and_go_without_a_trace() {
        let (directory, store) = open().await;
        store.insert_account(&new_account(1, Admission::Open), 7).await.unwrap();
        store.insert_account(&new_account(2, Admission::Open), 7).await.unwrap();
        let wraps = store.machine_wraps().await.unwrap();
        assert!(wraps == [(VaultId([2; 16]), vec![9; 40])]);
        store.set_machine_wrap(VaultId([2; 16]), None).await.unwrap();
        assert!(store.machine_wraps().await.unwrap().is_empty());
        for file in ["server.db", "server.db-wal"] {
            let bytes = std::fs::read(directory.path().join(file)).unwrap();
            assert!(!bytes.windows(40).any(|window| window == [9; 40]), "{file}");
        }
    }
}
