//! Every event that is held: in its place, parked until what it refers to comes, or only its place.

use sqlx::SqliteConnection;

use super::StoreError;
use crate::id::{DeviceId, EventId, GroupId, LogId, StateId};

/// Rows of one statement; SQLite allows 32,766 values.
pub(super) const ROWS: usize = 128;

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventStatus {
    /// In its place, projected.
    Processed,
    /// Waits for events before it.
    Parked,
    /// Only its place is known.
    Withheld,
}

/// An event as stored.
pub struct EventRow {
    /// The event.
    pub id: EventId,
    /// The author's log.
    pub log: LogId,
    /// Place in the log.
    pub seq: u64,
    /// Order.
    pub lamport: u64,
    /// Who wrote it.
    pub author: DeviceId,
    /// Its kind's number.
    pub kind: i32,
    /// The SignedEvent as received; `None` when withheld.
    pub signed: Option<Vec<u8>>,
    /// The author's head when it was written.
    pub seen_sid: StateId,
    /// The epoch it was sealed in, as far as is known.
    pub via_epoch: Option<u64>,
    /// When it came, milliseconds.
    pub received_at: i64,
}

/// Stores an event; false when it was there already.
///
/// # Errors
/// [`StoreError`]
pub async fn insert(
    conn: &mut SqliteConnection,
    gid: GroupId,
    row: &EventRow,
    status: EventStatus,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "INSERT OR IGNORE INTO event (event_id, gid, log, seq, lamport, author, kind, signed, seen_sid, \
         via_epoch, status, received_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(row.id.as_bytes())
    .bind(gid.as_bytes())
    .bind(row.log.as_bytes())
    .bind(row.seq.cast_signed())
    .bind(row.lamport.cast_signed())
    .bind(row.author.as_bytes())
    .bind(row.kind)
    .bind(row.signed.as_deref())
    .bind(row.seen_sid.as_bytes())
    .bind(row.via_epoch.map(u64::cast_signed))
    .bind(status_name(status))
    .bind(row.received_at)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// A parked event takes its place.
///
/// # Errors
/// [`StoreError`]
pub async fn unpark(conn: &mut SqliteConnection, id: EventId) -> Result<(), StoreError> {
    sqlx::query("UPDATE event SET status = 'processed' WHERE event_id = ?")
        .bind(id.as_bytes())
        .execute(conn)
        .await?;
    Ok(())
}

/// Drops a parked event that can never take its place.
///
/// # Errors
/// [`StoreError`]
pub async fn drop_parked(conn: &mut SqliteConnection, id: EventId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM event WHERE event_id = ? AND status = 'parked'")
        .bind(id.as_bytes())
        .execute(conn)
        .await?;
    Ok(())
}

/// An event that waits.
pub struct Parked {
    /// The SignedEvent bytes.
    pub signed: Vec<u8>,
    /// The epoch that its author sealed it in, when it came from its author.
    pub via_epoch: Option<u64>,
    /// When it came, milliseconds.
    pub received_at: i64,
}

/// Parked events of a group in (lamport, log, seq) order.
///
/// # Errors
/// [`StoreError`]
pub async fn parked(conn: &mut SqliteConnection, gid: GroupId) -> Result<Vec<Parked>, StoreError> {
    let rows: Vec<(Vec<u8>, Option<i64>, i64)> = sqlx::query_as(
        "SELECT signed, via_epoch, received_at FROM event WHERE gid = ? AND status = 'parked' \
         ORDER BY lamport, log, seq",
    )
    .bind(gid.as_bytes())
    .fetch_all(conn)
    .await?;
    let parked = |(signed, via_epoch, received_at): (_, Option<i64>, _)| Parked {
        signed,
        via_epoch: via_epoch.map(i64::cast_unsigned),
        received_at,
    };
    Ok(rows.into_iter().map(parked).collect())
}

/// How many events of a group are parked.
///
/// # Errors
/// [`StoreError`]
pub async fn count_parked(conn: &mut SqliteConnection, gid: GroupId) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar("SELECT COUNT(*) FROM event WHERE gid = ? AND status = 'parked'")
        .bind(gid.as_bytes())
        .fetch_one(conn)
        .await?)
}

/// How many logs a device writes in a group.
///
/// # Errors
/// [`StoreError`]
pub async fn logs_of_device(
    conn: &mut SqliteConnection,
    gid: GroupId,
    device: DeviceId,
) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar("SELECT COUNT(*) FROM event_log WHERE gid = ? AND device = ?")
        .bind(gid.as_bytes())
        .bind(device.as_bytes())
        .fetch_one(conn)
        .await?)
}

/// How many logs are of devices that never were members here.
///
/// # Errors
/// [`StoreError`]
pub async fn logs_of_strangers(conn: &mut SqliteConnection, gid: GroupId) -> Result<i64, StoreError> {
    let count = "SELECT COUNT(*) FROM event_log l WHERE l.gid = ? \
         AND NOT EXISTS (SELECT 1 FROM member m WHERE m.gid = l.gid AND m.device = l.device)";
    Ok(sqlx::query_scalar(count).bind(gid.as_bytes()).fetch_one(conn).await?)
}

/// The id and lamport of a processed or withheld event at a place in a log.
///
/// # Errors
/// [`StoreError`]
pub async fn at(
    conn: &mut SqliteConnection,
    gid: GroupId,
    log: LogId,
    seq: u64,
) -> Result<Option<(EventId, u64)>, StoreError> {
    let row: Option<(Vec<u8>, i64)> = sqlx::query_as(
        "SELECT event_id, lamport FROM event WHERE gid = ? AND log = ? AND seq = ? AND status <> 'parked'",
    )
    .bind(gid.as_bytes())
    .bind(log.as_bytes())
    .bind(seq.cast_signed())
    .fetch_optional(conn)
    .await?;
    row.map(|(id, lamport)| Ok((EventId::try_from(&*id)?, lamport.cast_unsigned()))).transpose()
}

/// Whether only the place of this event is known.
///
/// # Errors
/// [`StoreError`]
pub async fn is_withheld(conn: &mut SqliteConnection, gid: GroupId, id: EventId) -> Result<bool, StoreError> {
    let found: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM event WHERE event_id = ? AND gid = ? AND status = 'withheld'")
            .bind(id.as_bytes())
            .bind(gid.as_bytes())
            .fetch_optional(conn)
            .await?;
    Ok(found.is_some())
}

/// The SignedEvent bytes of an event, if it is held with its content.
///
/// # Errors
/// [`StoreError`]
pub async fn signed(conn: &mut SqliteConnection, id: EventId) -> Result<Option<Vec<u8>>, StoreError> {
    let row: Option<Option<Vec<u8>>> = sqlx::query_scalar("SELECT signed FROM event WHERE event_id = ?")
        .bind(id.as_bytes())
        .fetch_optional(conn)
        .await?;
    Ok(row.flatten())
}

/// Processed and withheld events of a log after `after`, up to `up_to` and `limit`.
///
/// # Errors
/// [`StoreError`]
pub async fn range(
    conn: &mut SqliteConnection,
    gid: GroupId,
    log: LogId,
    (after, up_to): (u64, u64),
    limit: u32,
) -> Result<Vec<EventRow>, StoreError> {
    type Row = (Vec<u8>, i64, i64, Vec<u8>, i32, Option<Vec<u8>>, Vec<u8>, Option<i64>, i64);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT event_id, seq, lamport, author, kind, signed, seen_sid, via_epoch, received_at FROM event \
         WHERE gid = ? AND log = ? AND seq > ? AND seq <= ? AND status <> 'parked' ORDER BY seq LIMIT ?",
    )
    .bind(gid.as_bytes())
    .bind(log.as_bytes())
    .bind(after.cast_signed())
    .bind(up_to.cast_signed())
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|(id, seq, lamport, author, kind, signed, seen_sid, via_epoch, received_at)| {
            Ok(EventRow {
                id: EventId::try_from(&*id)?,
                log,
                seq: seq.cast_unsigned(),
                lamport: lamport.cast_unsigned(),
                author: DeviceId::try_from(&*author)?,
                kind,
                signed,
                seen_sid: StateId::try_from(&*seen_sid)?,
                via_epoch: via_epoch.map(i64::cast_unsigned),
                received_at,
            })
        })
        .collect()
}

pub(super) fn status_name(status: EventStatus) -> &'static str {
    match status {
        EventStatus::Processed => "processed",
        EventStatus::Parked => "parked",
        EventStatus::Withheld => "withheld",
    }
}
