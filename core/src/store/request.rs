//! Answers to requests that carry a `request_id`: the same id gives the same answer, once.

use sqlx::SqliteConnection;
use uuid::Uuid;

use super::StoreError;

/// How long an answer is remembered, milliseconds: 30 days.
pub const REQUEST_MEMORY_MS: i64 = 30 * 24 * 3_600_000;

/// What is known of a request id.
pub enum Remembered {
    /// Never seen.
    New,
    /// Answered before with this.
    Answered(Vec<u8>),
    /// Seen with another method or payload.
    Reused,
}

/// Looks a request up.
///
/// # Errors
/// [`StoreError`]
pub async fn recall(
    conn: &mut SqliteConnection,
    request: Uuid,
    method: &'static str,
    payload_hash: &[u8],
) -> Result<Remembered, StoreError> {
    let row: Option<(String, Vec<u8>, Vec<u8>)> =
        sqlx::query_as("SELECT method, payload_hash, answer FROM request WHERE request_id = ?")
            .bind(request.as_bytes().as_slice())
            .fetch_optional(conn)
            .await?;
    Ok(match row {
        None => Remembered::New,
        Some((m, hash, answer)) if m == method && hash == payload_hash => Remembered::Answered(answer),
        Some(_) => Remembered::Reused,
    })
}

/// Remembers an answer.
///
/// # Errors
/// [`StoreError`]
pub async fn remember(
    conn: &mut SqliteConnection,
    request: Uuid,
    method: &'static str,
    payload_hash: &[u8],
    answer: &[u8],
    now: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO request (request_id, method, payload_hash, answer, created_at) VALUES (?, ?, ?, ?, ?)",
    )
    .bind(request.as_bytes().as_slice())
    .bind(method)
    .bind(payload_hash)
    .bind(answer)
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets answers older than [`REQUEST_MEMORY_MS`].
///
/// # Errors
/// [`StoreError`]
pub async fn forget_old(conn: &mut SqliteConnection, now: i64) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM request WHERE created_at < ?")
        .bind(now - REQUEST_MEMORY_MS)
        .execute(conn)
        .await?;
    Ok(())
}
