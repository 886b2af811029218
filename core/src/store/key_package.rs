//! The KeyPackage of an open join: its private keys, until the Welcome that they open.

use sqlx::SqliteConnection;

use super::StoreError;
use crate::{
    group::rows::{RowChanges, Rows},
    id::GroupId,
};

/// The KeyPackage rows of an open join.
///
/// # Errors
/// [`StoreError`]
pub async fn load(conn: &mut SqliteConnection, gid: GroupId) -> Result<Rows, StoreError> {
    let rows: Vec<(Vec<u8>, Vec<u8>)> = sqlx::query_as("SELECT key, value FROM device_row WHERE gid = ?")
        .bind(gid.as_bytes())
        .fetch_all(conn)
        .await?;
    Ok(Rows::from_rows(rows))
}

/// Stores the KeyPackage rows of an open join.
///
/// # Errors
/// [`StoreError`]
pub async fn store(
    conn: &mut SqliteConnection,
    gid: GroupId,
    changes: &RowChanges,
) -> Result<(), StoreError> {
    for (key, value) in &changes.upserts {
        sqlx::query("INSERT OR REPLACE INTO device_row (gid, key, value) VALUES (?, ?, ?)")
            .bind(gid.as_bytes())
            .bind(key.as_slice())
            .bind(value.as_slice())
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}

/// Deletes the KeyPackage of a join that ended: its private key opens one Welcome only.
///
/// # Errors
/// [`StoreError`]
pub async fn drop_all(conn: &mut SqliteConnection, gid: GroupId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM device_row WHERE gid = ?").bind(gid.as_bytes()).execute(conn).await?;
    Ok(())
}
