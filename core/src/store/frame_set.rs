//! The frames of a group as members compare them: their places, the bytes that others ask for, and what is
//! dropped in time.

use sqlx::{QueryBuilder, SqliteConnection};

use super::{StoreError, event::ROWS};
use crate::{
    certificate::Certificate,
    id::{FrameId, FramePlace, GroupId},
};

/// Frames that lose their bytes in one statement.
const EVICTED_AT_ONCE: u32 = 256;

/// Up to `limit` places from `from` on, ascending; the greatest ones where there are more.
///
/// # Errors
/// [`StoreError`]
pub async fn places(
    conn: &mut SqliteConnection,
    gid: GroupId,
    from: FramePlace,
    limit: usize,
) -> Result<Vec<FramePlace>, StoreError> {
    let rows: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT place FROM frame WHERE gid = ? AND place IS NOT NULL AND place >= ? ORDER BY place DESC LIMIT ?",
    )
    .bind(gid.as_bytes())
    .bind(from.as_bytes())
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(conn)
    .await?;
    rows.iter().rev().map(|place| Ok(FramePlace::try_from(&**place)?)).collect()
}

/// Those places whose frames are not known here, wherever else they may stand.
///
/// # Errors
/// [`StoreError`]
pub async fn unknown(
    conn: &mut SqliteConnection,
    places: Vec<FramePlace>,
) -> Result<Vec<FramePlace>, StoreError> {
    let mut unknown = Vec::with_capacity(places.len());
    for place in places {
        let (least, most) = place.frame_ids();
        let known: Option<i64> =
            sqlx::query_scalar("SELECT 1 FROM frame WHERE frame_id BETWEEN ? AND ? LIMIT 1")
                .bind(least.as_bytes())
                .bind(most.as_bytes())
                .fetch_optional(&mut *conn)
                .await?;
        if known.is_none() {
            unknown.push(place);
        }
    }
    Ok(unknown)
}

/// A page of the frames in these places: as many as fit `max_bytes`, one at least if any is held; and how
/// many places were looked at.
///
/// # Errors
/// [`StoreError`]
pub async fn page(
    conn: &mut SqliteConnection,
    gid: GroupId,
    places: &[FramePlace],
    max_bytes: usize,
) -> Result<(Vec<Vec<u8>>, usize), StoreError> {
    let (mut frames, mut bytes): (Vec<Vec<u8>>, usize) = (Vec::new(), 0);
    for (looked_at, place) in places.iter().enumerate() {
        let frame: Option<Vec<u8>> =
            sqlx::query_scalar("SELECT bytes FROM frame WHERE gid = ? AND place = ? AND size > 0")
                .bind(gid.as_bytes())
                .bind(place.as_bytes())
                .fetch_optional(&mut *conn)
                .await?;
        let Some(frame) = frame else { continue };
        bytes += frame.len();
        if bytes > max_bytes && !frames.is_empty() {
            return Ok((frames, looked_at));
        }
        frames.push(frame);
    }
    Ok((frames, places.len()))
}

/// Frames that were fetched and could not be used: not to be fetched again.
///
/// # Errors
/// [`StoreError`]
pub async fn note_unusable(
    conn: &mut SqliteConnection,
    gid: GroupId,
    frames: &[(FramePlace, FrameId, [u8; 16])],
    now: i64,
) -> Result<(), StoreError> {
    for frames in frames.chunks(ROWS) {
        let mut insert = QueryBuilder::new(
            "INSERT OR IGNORE INTO frame (frame_id, gid, env_tag, status, received_at, place) ",
        );
        insert.push_values(frames, |mut values, (place, id, env_tag)| {
            values
                .push_bind(id.0.to_vec())
                .push_bind(gid.0.to_vec())
                .push_bind(env_tag.to_vec())
                .push_bind("done")
                .push_bind(now)
                .push_bind(place.0.to_vec());
        });
        insert.build().persistent(false).execute(&mut *conn).await?;
    }
    Ok(())
}

/// The state with this tag is here now: frames of it that could not be used may be fetched again.
///
/// # Errors
/// [`StoreError`]
pub async fn forget_unusable(
    conn: &mut SqliteConnection,
    gid: GroupId,
    env_tag: &[u8; 16],
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM frame WHERE gid = ? AND place IS NOT NULL AND size = 0 AND env_tag = ?")
        .bind(gid.as_bytes())
        .bind(env_tag.as_slice())
        .execute(conn)
        .await?;
    Ok(())
}

/// The first epoch of a live group that this certificate's device may have frames of: the one it came in;
/// `None` for whoever is no member.
///
/// # Errors
/// [`StoreError`]
pub async fn entitled_from(
    conn: &mut SqliteConnection,
    gid: GroupId,
    certificate: &Certificate,
) -> Result<Option<u64>, StoreError> {
    let epoch: Option<i64> = sqlx::query_scalar(
        "SELECT m.joined_epoch FROM member m JOIN mls_group g USING (gid) \
         WHERE m.gid = ? AND m.device = ? AND m.account = ? AND m.left_epoch IS NULL \
         AND g.status IN ('active', 'leaving')",
    )
    .bind(gid.as_bytes())
    .bind(certificate.device.as_bytes())
    .bind(certificate.account.as_bytes())
    .fetch_optional(conn)
    .await?;
    Ok(epoch.map(i64::cast_unsigned))
}

/// The lowest epoch of which frames can be opened here; `None` outside the group.
///
/// # Errors
/// [`StoreError`]
pub async fn opens_from(conn: &mut SqliteConnection, gid: GroupId) -> Result<Option<u64>, StoreError> {
    let epoch: Option<i64> = sqlx::query_scalar(
        "SELECT MIN(s.epoch) FROM mls_state s JOIN mls_group g USING (gid) \
         WHERE s.gid = ? AND s.pruned_at IS NULL AND s.opaque = 0 AND g.status IN ('active', 'leaving')",
    )
    .bind(gid.as_bytes())
    .fetch_one(conn)
    .await?;
    Ok(epoch.map(i64::cast_unsigned))
}

/// Drops the bytes of frames that came before `bytes_before`, and what is left of those that came before
/// `rows_before`; both Unix milliseconds.
///
/// # Errors
/// [`StoreError`]
pub async fn drop_old(
    conn: &mut SqliteConnection,
    bytes_before: i64,
    rows_before: i64,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE frame SET bytes = NULL, size = 0 WHERE received_at < ? AND bytes IS NOT NULL")
        .bind(bytes_before)
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM frame WHERE received_at < ?").bind(rows_before).execute(conn).await?;
    Ok(())
}

/// Groups whose frames take more than `quota` bytes, or any at all where this account is no member.
///
/// # Errors
/// [`StoreError`]
pub async fn over_quota(conn: &mut SqliteConnection, quota: u64) -> Result<Vec<(GroupId, u64)>, StoreError> {
    let rows: Vec<(Vec<u8>, i64, i64)> = sqlx::query_as(
        "SELECT f.gid, SUM(f.size) AS total, \
           CASE WHEN g.status IN ('active', 'leaving') THEN ?1 ELSE 0 END AS quota \
         FROM frame f JOIN mls_group g USING (gid) WHERE f.place IS NOT NULL \
         GROUP BY f.gid HAVING total > quota",
    )
    .bind(i64::try_from(quota).unwrap_or(i64::MAX))
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|(gid, total, quota)| Ok((GroupId::try_from(&*gid)?, (total - quota).cast_unsigned())))
        .collect()
}

/// Drops the bytes of the frames that came first, until `excess` bytes are gone or one statement is full.
/// Gives the bytes that are still too many.
///
/// # Errors
/// [`StoreError`]
pub async fn evict(conn: &mut SqliteConnection, gid: GroupId, excess: u64) -> Result<u64, StoreError> {
    let oldest: Vec<(Vec<u8>, i64)> = sqlx::query_as(
        "SELECT place, size FROM frame WHERE gid = ? AND place IS NOT NULL AND size > 0 \
         ORDER BY received_at, place LIMIT ?",
    )
    .bind(gid.as_bytes())
    .bind(EVICTED_AT_ONCE)
    .fetch_all(&mut *conn)
    .await?;
    let mut left = excess;
    for (place, size) in oldest {
        if left == 0 {
            break;
        }
        sqlx::query("UPDATE frame SET bytes = NULL, size = 0 WHERE gid = ? AND place = ?")
            .bind(gid.as_bytes())
            .bind(place)
            .execute(&mut *conn)
            .await?;
        left = left.saturating_sub(size.cast_unsigned());
    }
    Ok(left)
}
