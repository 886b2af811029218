//! How far other devices said they are, and the counter of one's own Tips.

use sqlx::SqliteConnection;

use super::StoreError;
use crate::id::{DeviceId, GroupId, LogId, StateId};

/// Own Tip counters are reserved in blocks, so that not every Tip costs a durable write.
pub const COUNTER_BLOCK: u64 = 1_000;

/// Reserves the next block of own Tip counters; returns its first.
///
/// # Errors
/// [`StoreError`]
pub async fn reserve_counters(conn: &mut SqliteConnection) -> Result<u64, StoreError> {
    let end: i64 =
        sqlx::query_scalar("UPDATE identity SET tip_counter = tip_counter + ? RETURNING tip_counter")
            .bind(COUNTER_BLOCK.cast_signed())
            .fetch_one(conn)
            .await?;
    Ok(end.cast_unsigned() - COUNTER_BLOCK + 1)
}

/// Notes a device's Tip; false when a newer one is known already.
///
/// # Errors
/// [`StoreError`]
pub async fn note(
    conn: &mut SqliteConnection,
    gid: GroupId,
    device: DeviceId,
    counter: u64,
    head: StateId,
    epoch: u64,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "INSERT INTO peer_tip (gid, device, counter, head_sid, epoch) VALUES (?, ?, ?, ?, ?) \
         ON CONFLICT (gid, device) DO UPDATE SET counter = excluded.counter, head_sid = excluded.head_sid, \
         epoch = excluded.epoch WHERE excluded.counter > peer_tip.counter",
    )
    .bind(gid.as_bytes())
    .bind(device.as_bytes())
    .bind(counter.cast_signed())
    .bind(head.as_bytes())
    .bind(epoch.cast_signed())
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The state that a device was in by its newest Tip, and its epoch.
///
/// # Errors
/// [`StoreError`]
pub async fn head(
    conn: &mut SqliteConnection,
    gid: GroupId,
    device: DeviceId,
) -> Result<Option<(StateId, u64)>, StoreError> {
    let row: Option<(Vec<u8>, i64)> =
        sqlx::query_as("SELECT head_sid, epoch FROM peer_tip WHERE gid = ? AND device = ?")
            .bind(gid.as_bytes())
            .bind(device.as_bytes())
            .fetch_optional(conn)
            .await?;
    row.map(|(sid, epoch)| Ok((StateId::try_from(&*sid)?, epoch.cast_unsigned()))).transpose()
}

/// How far a device is in one of this device's logs.
///
/// # Errors
/// [`StoreError`]
pub async fn cursor(
    conn: &mut SqliteConnection,
    gid: GroupId,
    device: DeviceId,
    log: LogId,
) -> Result<u64, StoreError> {
    let row: Option<i64> =
        sqlx::query_scalar("SELECT contiguous FROM peer_cursor WHERE gid = ? AND device = ? AND log = ?")
            .bind(gid.as_bytes())
            .bind(device.as_bytes())
            .bind(log.as_bytes())
            .fetch_optional(conn)
            .await?;
    Ok(row.unwrap_or(0).cast_unsigned())
}

/// Moves a device's cursor in one of this device's logs.
///
/// # Errors
/// [`StoreError`]
pub async fn set_cursor(
    conn: &mut SqliteConnection,
    gid: GroupId,
    device: DeviceId,
    log: LogId,
    contiguous: u64,
) -> Result<(), StoreError> {
    sqlx::query("INSERT OR REPLACE INTO peer_cursor (gid, device, log, contiguous) VALUES (?, ?, ?, ?)")
        .bind(gid.as_bytes())
        .bind(device.as_bytes())
        .bind(log.as_bytes())
        .bind(contiguous.cast_signed())
        .execute(conn)
        .await?;
    Ok(())
}
