//! Commits of all branches, kept sealed for members who were away.

use sqlx::SqliteConnection;

use super::StoreError;
use crate::{
    dag::Node,
    id::{CommitId, FrameId, GroupId, StateId},
};

/// Stores a commit that was checked.
///
/// # Errors
/// [`StoreError`]
pub async fn insert_commit(
    conn: &mut SqliteConnection,
    gid: GroupId,
    child: &Node,
    frame: FrameId,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT OR IGNORE INTO mls_commit (gid, commit_id, parent_sid, child_sid, frame_id, status) \
         VALUES (?, ?, ?, ?, ?, 'valid')",
    )
    .bind(gid.as_bytes())
    .bind(child.commit.as_bytes())
    .bind(child.parent.as_ref().map(StateId::as_bytes))
    .bind(child.sid.as_bytes())
    .bind(frame.as_bytes())
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether a commit is known.
///
/// # Errors
/// [`StoreError`]
pub async fn knows_commit(
    conn: &mut SqliteConnection,
    gid: GroupId,
    commit: CommitId,
) -> Result<bool, StoreError> {
    let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM mls_commit WHERE gid = ? AND commit_id = ?")
        .bind(gid.as_bytes())
        .bind(commit.as_bytes())
        .fetch_optional(conn)
        .await?;
    Ok(found.is_some())
}

/// Sealed commits of all branches after `epoch`, up to those that begin `up_to`, oldest first.
///
/// # Errors
/// [`StoreError`]
pub async fn commit_frames(
    conn: &mut SqliteConnection,
    gid: GroupId,
    (epoch, up_to): (u64, u64),
    limit: u32,
) -> Result<Vec<Vec<u8>>, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT f.bytes FROM mls_state s \
         JOIN mls_commit c ON c.gid = s.gid AND c.commit_id = s.commit_id \
         JOIN frame f ON f.frame_id = c.frame_id \
         WHERE s.gid = ? AND s.epoch > ? AND s.epoch <= ? AND c.status = 'valid' AND f.bytes IS NOT NULL \
         ORDER BY s.epoch LIMIT ?",
    )
    .bind(gid.as_bytes())
    .bind(epoch.cast_signed())
    .bind(up_to.cast_signed())
    .bind(limit)
    .fetch_all(conn)
    .await?)
}

/// Sealed commits made in states whose secrets are here, oldest first: whoever was in one of them finds the
/// way to every branch that begins there.
///
/// # Errors
/// [`StoreError`]
pub async fn frames_in_window(
    conn: &mut SqliteConnection,
    gid: GroupId,
    limit: u32,
) -> Result<Vec<Vec<u8>>, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT f.bytes FROM mls_commit c \
         JOIN mls_state p ON p.gid = c.gid AND p.sid = c.parent_sid AND p.pruned_at IS NULL \
         JOIN frame f ON f.frame_id = c.frame_id \
         WHERE c.gid = ? AND f.bytes IS NOT NULL ORDER BY p.epoch LIMIT ?",
    )
    .bind(gid.as_bytes())
    .bind(limit)
    .fetch_all(conn)
    .await?)
}
