//! Commits: those of this device's chain, kept sealed for members who were away, and those set aside.

use sqlx::SqliteConnection;

use super::StoreError;
use crate::id::{CommitId, FrameId, GroupId, StateId};

/// What is known of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitStatus {
    /// On this device's chain.
    Valid,
    /// Fits a state that is not the head; set aside.
    Parked,
}

/// Stores a commit.
///
/// # Errors
/// [`StoreError`]
pub async fn insert_commit(
    conn: &mut SqliteConnection,
    gid: GroupId,
    commit: CommitId,
    parent: StateId,
    child: Option<StateId>,
    frame: FrameId,
    status: CommitStatus,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT OR IGNORE INTO mls_commit (gid, commit_id, parent_sid, child_sid, frame_id, status) \
         VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(gid.as_bytes())
    .bind(commit.as_bytes())
    .bind(parent.as_bytes())
    .bind(child.as_ref().map(StateId::as_bytes))
    .bind(frame.as_bytes())
    .bind(match status {
        CommitStatus::Valid => "valid",
        CommitStatus::Parked => "parked",
    })
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

/// Sealed commits on this device's chain after `epoch`, up to the one that begins `up_to`, oldest first.
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
