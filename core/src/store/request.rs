//! Answers to requests that carry a `request_id`: the same id gives the same answer, once.

use std::collections::HashMap;

use sqlx::{QueryBuilder, SqliteConnection};
use uuid::Uuid;

use super::{StoreError, event::ROWS};

/// How long an answer is remembered, milliseconds: 30 days.
pub const REQUEST_MEMORY_MS: i64 = 30 * 24 * 3_600_000;

/// A request that carries an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// Made by the client.
    pub id: Uuid,
    /// What was asked for.
    pub method: &'static str,
    /// Hash of everything else in the request.
    pub payload_hash: [u8; 32],
}

/// What is known of a request id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remembered {
    /// Never seen.
    New,
    /// Answered before with this.
    Answered(Vec<u8>),
    /// Seen with another method or payload.
    Reused,
}

/// Looks requests up; those never seen are left out.
///
/// # Errors
/// [`StoreError`]
pub async fn recall(
    conn: &mut SqliteConnection,
    keys: impl IntoIterator<Item = &RequestKey>,
) -> Result<HashMap<Uuid, Remembered>, StoreError> {
    let keys: HashMap<Uuid, &RequestKey> = keys.into_iter().map(|key| (key.id, key)).collect();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let mut select = QueryBuilder::new(
        "SELECT request_id, method, payload_hash, answer FROM request WHERE request_id IN (",
    );
    let mut ids = select.separated(", ");
    for id in keys.keys() {
        ids.push_bind(id.as_bytes().to_vec());
    }
    ids.push_unseparated(")");
    type Row = (Vec<u8>, String, Vec<u8>, Vec<u8>);
    let rows: Vec<Row> = select.build_query_as().persistent(keys.len() == 1).fetch_all(conn).await?;
    let mut known = HashMap::with_capacity(rows.len());
    for (id, method, hash, answer) in rows {
        let id = Uuid::from_slice(&id).map_err(|_| StoreError::Corrupt)?;
        let same = keys.get(&id).is_some_and(|key| key.method == method && key.payload_hash == *hash);
        known.insert(id, if same { Remembered::Answered(answer) } else { Remembered::Reused });
    }
    Ok(known)
}

/// Remembers answers.
///
/// # Errors
/// [`StoreError`]
pub async fn remember(
    conn: &mut SqliteConnection,
    answers: &[(RequestKey, Vec<u8>)],
    now: i64,
) -> Result<(), StoreError> {
    for answers in answers.chunks(ROWS) {
        let mut insert =
            QueryBuilder::new("INSERT INTO request (request_id, method, payload_hash, answer, created_at) ");
        insert.push_values(answers, |mut values, (key, answer)| {
            values
                .push_bind(key.id.as_bytes().to_vec())
                .push_bind(key.method)
                .push_bind(key.payload_hash.to_vec())
                .push_bind(answer.as_slice())
                .push_bind(now);
        });
        insert.build().persistent(answers.len() == 1).execute(&mut *conn).await?;
    }
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
