//! The winning state event of each register: last writer by (lamport, log, seq).

use sqlx::SqliteConnection;

use super::StoreError;
use crate::id::{EventId, GroupId, LogId};

/// A state event competing for its register.
pub struct Candidate<'a> {
    /// Kind of the event.
    pub kind: i32,
    /// Register within the kind.
    pub key: &'a [u8],
    /// The event.
    pub id: EventId,
    /// Order.
    pub lamport: u64,
    /// Order.
    pub log: LogId,
    /// Order.
    pub seq: u64,
}

/// Takes the register if the candidate is newer than its holder; true when it did.
///
/// # Errors
/// [`StoreError`]
pub async fn claim(
    conn: &mut SqliteConnection,
    gid: GroupId,
    candidate: &Candidate<'_>,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "INSERT INTO register (gid, kind, key, event_id, lamport, log, seq) VALUES (?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT (gid, kind, key) DO UPDATE SET event_id = excluded.event_id, lamport = excluded.lamport, \
         log = excluded.log, seq = excluded.seq \
         WHERE (excluded.lamport, excluded.log, excluded.seq) > (register.lamport, register.log, register.seq)",
    )
    .bind(gid.as_bytes())
    .bind(candidate.kind)
    .bind(candidate.key)
    .bind(candidate.id.as_bytes())
    .bind(candidate.lamport.cast_signed())
    .bind(candidate.log.as_bytes())
    .bind(candidate.seq.cast_signed())
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The SignedEvent that holds a register.
///
/// # Errors
/// [`StoreError`]
pub async fn holder(
    conn: &mut SqliteConnection,
    gid: GroupId,
    kind: i32,
    key: &[u8],
) -> Result<Option<Vec<u8>>, StoreError> {
    let row: Option<Option<Vec<u8>>> = sqlx::query_scalar(
        "SELECT e.signed FROM register r JOIN event e USING (event_id) WHERE r.gid = ? AND r.kind = ? AND r.key = ?",
    )
    .bind(gid.as_bytes())
    .bind(kind)
    .bind(key)
    .fetch_optional(conn)
    .await?;
    Ok(row.flatten())
}

/// The SignedEvents that hold the group's registers: what a newcomer is given.
///
/// # Errors
/// [`StoreError`]
pub async fn holders(conn: &mut SqliteConnection, gid: GroupId) -> Result<Vec<Vec<u8>>, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT e.signed FROM register r JOIN event e USING (event_id) \
         WHERE r.gid = ? AND e.signed IS NOT NULL ORDER BY r.lamport, r.log, r.seq",
    )
    .bind(gid.as_bytes())
    .fetch_all(conn)
    .await?)
}

/// The SignedEvents that hold the registers of one kind.
///
/// # Errors
/// [`StoreError`]
pub async fn holders_of(
    conn: &mut SqliteConnection,
    gid: GroupId,
    kind: i32,
) -> Result<Vec<Vec<u8>>, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT e.signed FROM register r JOIN event e USING (event_id) \
         WHERE r.gid = ? AND r.kind = ? AND e.signed IS NOT NULL",
    )
    .bind(gid.as_bytes())
    .bind(kind)
    .fetch_all(conn)
    .await?)
}
