//! Skeletons of the states that this device knows, with their committers' signatures.

use sqlx::SqliteConnection;

use super::StoreError;
use crate::{
    dag::{Class, SignedSkeleton, Skeleton},
    id::{CommitId, DeviceId, GroupId, StateId},
};

/// Keeps the signature of a state's skeleton, which was checked.
///
/// # Errors
/// [`StoreError`]
pub async fn keep(
    conn: &mut SqliteConnection,
    gid: GroupId,
    sid: StateId,
    signature: &[u8; 64],
) -> Result<(), StoreError> {
    sqlx::query("UPDATE mls_state SET skeleton_signature = ? WHERE gid = ? AND sid = ?")
        .bind(signature.as_slice())
        .bind(gid.as_bytes())
        .bind(sid.as_bytes())
        .execute(conn)
        .await?;
    Ok(())
}

/// Skeletons of a group's latest states on all branches, at most `limit`.
///
/// # Errors
/// [`StoreError`]
pub async fn newest(
    conn: &mut SqliteConnection,
    gid: GroupId,
    limit: u32,
) -> Result<Vec<SignedSkeleton>, StoreError> {
    type Row = (Vec<u8>, Vec<u8>, i64, u8, Vec<u8>, Vec<u8>, Vec<u8>);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT parent_sid, sid, epoch, class, committer, commit_id, skeleton_signature FROM mls_state \
         WHERE gid = ? AND parent_sid IS NOT NULL AND skeleton_signature IS NOT NULL \
         ORDER BY epoch DESC LIMIT ?",
    )
    .bind(gid.as_bytes())
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|(parent, sid, epoch, class, committer, commit, signature)| {
            let skeleton = Skeleton {
                parent: StateId::try_from(&*parent)?,
                sid: StateId::try_from(&*sid)?,
                epoch: epoch.cast_unsigned(),
                class: Class::try_from(class).map_err(|_| StoreError::Corrupt)?,
                committer: DeviceId::try_from(&*committer)?,
                commit: CommitId::try_from(&*commit)?,
            };
            let signature = signature.as_slice().try_into().map_err(|_| StoreError::Corrupt)?;
            Ok(SignedSkeleton { skeleton, signature })
        })
        .collect()
}

/// When a state came here, milliseconds; none if it is not here.
///
/// # Errors
/// [`StoreError`]
pub async fn adopted_at(
    conn: &mut SqliteConnection,
    gid: GroupId,
    sid: StateId,
) -> Result<Option<i64>, StoreError> {
    let found = sqlx::query_scalar("SELECT adopted_at FROM mls_state WHERE gid = ? AND sid = ?")
        .bind(gid.as_bytes())
        .bind(sid.as_bytes())
        .fetch_optional(conn)
        .await?;
    Ok(found)
}
