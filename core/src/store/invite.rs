//! Invites this account made, joins it asked for, and requests to change the membership.

use sqlx::SqliteConnection;

use super::{StoreError, feed};
use crate::{
    id::{AccountId, DeviceId, EventId, GroupId, InviteId},
    model::JoinFailure,
};

/// An invite this account made.
pub struct InviteRow {
    /// Its group.
    pub gid: GroupId,
    /// The secret link.
    pub link: String,
    /// Milliseconds.
    pub expires_at: i64,
    /// How many may join with it.
    pub max_uses: u32,
}

/// Stores an invite.
///
/// # Errors
/// [`StoreError`]
pub async fn insert(conn: &mut SqliteConnection, id: InviteId, row: &InviteRow) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO invite (invite_id, gid, link, expires_at, max_uses) VALUES (?, ?, ?, ?, ?)")
        .bind(id.as_bytes())
        .bind(row.gid.as_bytes())
        .bind(&row.link)
        .bind(row.expires_at)
        .bind(row.max_uses)
        .execute(conn)
        .await?;
    Ok(())
}

/// One invite this account made.
///
/// # Errors
/// [`StoreError`]
pub async fn get(conn: &mut SqliteConnection, id: InviteId) -> Result<Option<InviteRow>, StoreError> {
    let row: Option<(Vec<u8>, String, i64, u32)> =
        sqlx::query_as("SELECT gid, link, expires_at, max_uses FROM invite WHERE invite_id = ?")
            .bind(id.as_bytes())
            .fetch_optional(conn)
            .await?;
    row.map(|(gid, link, expires_at, max_uses)| {
        Ok(InviteRow { gid: GroupId::try_from(&*gid)?, link, expires_at, max_uses })
    })
    .transpose()
}

/// Where a join stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinStatus {
    /// Still tried.
    Pending,
    /// In.
    Joined,
    /// Ended without joining.
    Failed(JoinFailure),
}

/// A join this account asked for.
pub struct JoinRow {
    /// The group.
    pub gid: GroupId,
    /// The link it came from.
    pub link: String,
    /// tls(KeyPackage)
    pub key_package: Vec<u8>,
    /// SHA-256 of it.
    pub key_package_hash: [u8; 32],
    /// How far.
    pub status: JoinStatus,
}

/// Starts a join, or starts it anew.
///
/// # Errors
/// [`StoreError`]
pub async fn start_join(conn: &mut SqliteConnection, row: &JoinRow, now: i64) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT OR REPLACE INTO join_attempt (gid, link, key_package, key_package_hash, status, reason, started_at) \
         VALUES (?, ?, ?, ?, 'pending', '', ?)",
    )
    .bind(row.gid.as_bytes())
    .bind(&row.link)
    .bind(&row.key_package)
    .bind(row.key_package_hash.as_slice())
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

/// One join.
///
/// # Errors
/// [`StoreError`]
pub async fn join(conn: &mut SqliteConnection, gid: GroupId) -> Result<Option<JoinRow>, StoreError> {
    type Row = (String, Vec<u8>, Vec<u8>, String, String);
    let row: Option<Row> = sqlx::query_as(
        "SELECT link, key_package, key_package_hash, status, reason FROM join_attempt WHERE gid = ?",
    )
    .bind(gid.as_bytes())
    .fetch_optional(conn)
    .await?;
    row.map(|(link, key_package, hash, status, reason)| {
        let status = match &*status {
            "pending" => JoinStatus::Pending,
            "joined" => JoinStatus::Joined,
            "failed" => JoinStatus::Failed(feed::join_failure_from(&reason).ok_or(StoreError::Corrupt)?),
            _ => return Err(StoreError::Corrupt),
        };
        let key_package_hash = hash.try_into().map_err(|_| StoreError::Corrupt)?;
        Ok(JoinRow { gid, link, key_package, key_package_hash, status })
    })
    .transpose()
}

/// Groups with a pending join.
///
/// # Errors
/// [`StoreError`]
pub async fn pending_joins(conn: &mut SqliteConnection) -> Result<Vec<GroupId>, StoreError> {
    let rows: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT gid FROM join_attempt WHERE status = 'pending' ORDER BY started_at")
            .fetch_all(conn)
            .await?;
    rows.iter().map(|gid| Ok(GroupId::try_from(&**gid)?)).collect()
}

/// A join ended. The link is a secret; of one that succeeded it is kept for a while, see [`forget_links`].
///
/// # Errors
/// [`StoreError`]
pub async fn end_join(
    conn: &mut SqliteConnection,
    gid: GroupId,
    failure: Option<JoinFailure>,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE join_attempt SET status = ?1, reason = ?2, link = CASE WHEN ?1 = 'joined' THEN link ELSE '' END \
         WHERE gid = ?3",
    )
        .bind(if failure.is_none() { "joined" } else { "failed" })
        .bind(failure.map_or("", feed::join_failure_name))
        .bind(gid.as_bytes())
        .execute(conn)
        .await?;
    Ok(())
}

/// Forgets the links of joins that were asked for before: the branch they led into has long been decided on.
///
/// # Errors
/// [`StoreError`]
pub async fn forget_links(conn: &mut SqliteConnection, before: i64) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE join_attempt SET link = '' WHERE status = 'joined' AND link <> '' AND started_at < ?",
    )
    .bind(before)
    .execute(conn)
    .await?;
    Ok(())
}

/// An open request to change the membership.
pub struct OpenRequest {
    /// The event that asks.
    pub event: EventId,
    /// Whom it is about.
    pub target: AccountId,
}

/// Notes a request.
///
/// # Errors
/// [`StoreError`]
pub async fn open_request(
    conn: &mut SqliteConnection,
    gid: GroupId,
    event: EventId,
    author: DeviceId,
    kind: &'static str,
    target: AccountId,
    generation: u64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT OR IGNORE INTO change_request (gid, request_id, author, generation, kind, target, status) \
         VALUES (?, ?, ?, ?, ?, ?, 'open')",
    )
    .bind(gid.as_bytes())
    .bind(event.as_bytes())
    .bind(author.as_bytes())
    .bind(generation.cast_signed())
    .bind(kind)
    .bind(target.as_bytes())
    .execute(conn)
    .await?;
    Ok(())
}

/// Requests of a group that no commit has answered.
///
/// # Errors
/// [`StoreError`]
pub async fn open_requests(
    conn: &mut SqliteConnection,
    gid: GroupId,
    limit: u32,
) -> Result<Vec<OpenRequest>, StoreError> {
    let rows: Vec<(Vec<u8>, Vec<u8>)> = sqlx::query_as(
        "SELECT request_id, target FROM change_request WHERE gid = ? AND status = 'open' ORDER BY rowid LIMIT ?",
    )
    .bind(gid.as_bytes())
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|(event, target)| {
            Ok(OpenRequest { event: EventId::try_from(&*event)?, target: AccountId::try_from(&*target)? })
        })
        .collect()
}

/// A request cannot be answered in the state that is the head: it acts on a standing that is no more, or on one
/// that is still ahead.
///
/// # Errors
/// [`StoreError`]
pub async fn close_request(
    conn: &mut SqliteConnection,
    gid: GroupId,
    event: EventId,
    is_ahead: bool,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE change_request SET status = ? WHERE gid = ? AND request_id = ? AND status = 'open'")
        .bind(if is_ahead { "ahead" } else { "stale" })
        .bind(gid.as_bytes())
        .bind(event.as_bytes())
        .execute(conn)
        .await?;
    Ok(())
}

/// Every open request about an account is settled: it is gone.
///
/// # Errors
/// [`StoreError`]
pub async fn settle_requests(
    conn: &mut SqliteConnection,
    gid: GroupId,
    target: AccountId,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE change_request SET status = 'settled' WHERE gid = ? AND target = ? AND status = 'open'",
    )
    .bind(gid.as_bytes())
    .bind(target.as_bytes())
    .execute(conn)
    .await?;
    Ok(())
}
