//! What is on its way: own events until every recipient has them, letters and farewells to one device.

use sqlx::{QueryBuilder, SqliteConnection};

use super::{StoreError, event::ROWS, mls};
use crate::{
    id::{DeviceId, EventId, FrameId, GroupId, LogId, StateId},
    model::SendTiming,
};

/// Queued events that are looked at for one that leaves at once: more than a step queues.
const NEWEST: u32 = 128;

/// Queues own events.
///
/// # Errors
/// [`StoreError`]
pub(super) async fn queue_events(
    conn: &mut SqliteConnection,
    gid: GroupId,
    events: &[(EventId, u64)],
    now: i64,
) -> Result<(), StoreError> {
    for events in events.chunks(ROWS) {
        let mut insert = QueryBuilder::new("INSERT INTO outbox (gid, kind, ref, seq, status, created_at) ");
        insert.push_values(events, |mut values, (event, seq)| {
            values
                .push_bind(gid.0.to_vec())
                .push_bind("event")
                .push_bind(event.as_bytes())
                .push_bind(seq.cast_signed())
                .push_bind("queued")
                .push_bind(now);
        });
        insert.build().persistent(events.len() == 1).execute(&mut *conn).await?;
    }
    Ok(())
}

/// A queued event of one's own.
#[derive(Debug)]
pub struct QueuedEvent {
    /// Its outbox row.
    pub id: i64,
    /// Its lamport.
    pub lamport: u64,
    /// SignedEvent bytes.
    pub signed: Vec<u8>,
}

/// Queued events of a group that may leave, oldest first. While someone is to
/// be removed that is only one's own requests to change the group, and what was written before them.
///
/// # Errors
/// [`StoreError`]
pub async fn queued_events(
    conn: &mut SqliteConnection,
    gid: GroupId,
    limit: u32,
) -> Result<Vec<QueuedEvent>, StoreError> {
    let rows: Vec<(i64, i64, Vec<u8>)> = sqlx::query_as(
        "SELECT o.id, e.lamport, e.signed FROM outbox o JOIN mls_group g ON g.gid = o.gid \
         JOIN event e ON e.gid = o.gid AND e.seq = o.seq AND e.event_id = o.ref \
         AND e.log IN (SELECT g.own_log UNION ALL SELECT log FROM former_log WHERE gid = ?1) \
         WHERE o.status = 'queued' AND o.gid = ?1 AND o.kind = 'event' \
         AND (NOT EXISTS (SELECT 1 FROM change_request c \
                WHERE c.gid = ?1 AND c.status = 'open' AND c.kind = 'remove') \
              OR o.id <= (SELECT MAX(q.id) FROM outbox q JOIN change_request c ON c.request_id = q.ref \
                WHERE q.gid = ?1 AND q.status = 'queued' AND c.gid = ?1)) \
         ORDER BY o.id LIMIT ?2",
    )
    .bind(gid.as_bytes())
    .bind(limit)
    .fetch_all(conn)
    .await?;
    let read =
        |(id, lamport, signed): (i64, i64, _)| QueuedEvent { id, lamport: lamport.cast_unsigned(), signed };
    Ok(rows.into_iter().map(read).collect())
}

/// How long what is queued in a group waits, and whether an event of one of these kinds is among the newest
/// of it; `None` for no group of this account.
///
/// # Errors
/// [`StoreError`]
pub async fn departure(
    conn: &mut SqliteConnection,
    gid: GroupId,
    kinds: [i32; 3],
) -> Result<Option<(SendTiming, bool)>, StoreError> {
    let row: Option<(String, bool)> = sqlx::query_as(
        "SELECT g.send_timing, EXISTS (SELECT 1 FROM (SELECT ref FROM outbox \
           WHERE status = 'queued' AND gid = ?1 AND kind = 'event' ORDER BY id DESC LIMIT ?5) o \
           JOIN event e ON e.event_id = o.ref WHERE e.kind IN (?2, ?3, ?4)) \
         FROM mls_group g WHERE g.gid = ?1",
    )
    .bind(gid.as_bytes())
    .bind(kinds[0])
    .bind(kinds[1])
    .bind(kinds[2])
    .bind(NEWEST)
    .fetch_optional(conn)
    .await?;
    row.map(|(timing, found)| Ok((mls::timing_from(&timing)?, found))).transpose()
}

/// Groups with queued events.
///
/// # Errors
/// [`StoreError`]
pub async fn groups_with_queued(conn: &mut SqliteConnection) -> Result<Vec<GroupId>, StoreError> {
    let rows: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT DISTINCT gid FROM outbox WHERE status = 'queued' AND kind = 'event'")
            .fetch_all(conn)
            .await?;
    rows.iter().map(|gid| Ok(GroupId::try_from(&**gid)?)).collect()
}

/// The queued events of a group up to row `last` were sealed into a frame, in `epoch`, for `recipients`
/// accounts.
///
/// # Errors
/// [`StoreError`]
pub async fn sealed(
    conn: &mut SqliteConnection,
    gid: GroupId,
    last: i64,
    frame: FrameId,
    (epoch, recipients): (u64, u32),
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE outbox SET status = 'sealed', frame_id = ? \
         WHERE status = 'queued' AND gid = ? AND id <= ? AND kind = 'event'",
    )
    .bind(frame.as_bytes())
    .bind(gid.as_bytes())
    .bind(last)
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "UPDATE event SET via_epoch = ? WHERE event_id IN (SELECT ref FROM outbox WHERE frame_id = ?)",
    )
    .bind(epoch.cast_signed())
    .bind(frame.as_bytes())
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "UPDATE message SET sealed_epoch = ?, recipients = ? \
         WHERE event_id IN (SELECT ref FROM outbox WHERE frame_id = ?)",
    )
    .bind(epoch.cast_signed())
    .bind(recipients)
    .bind(frame.as_bytes())
    .execute(conn)
    .await?;
    Ok(())
}

/// Another member's server stored this frame; its events are replicated from now on by everyone who has them.
///
/// # Errors
/// [`StoreError`]
pub async fn frame_done(conn: &mut SqliteConnection, frame: FrameId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM outbox WHERE frame_id = ?").bind(frame.as_bytes()).execute(conn).await?;
    Ok(())
}

/// Own events of a log up to `seq` are held by another member: nothing is on its way any more.
///
/// # Errors
/// [`StoreError`]
pub async fn events_done(
    conn: &mut SqliteConnection,
    gid: GroupId,
    log: LogId,
    seq: u64,
) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM outbox WHERE status = 'sealed' AND gid = ?1 AND kind = 'event' AND seq <= ?2 \
         AND EXISTS (SELECT 1 FROM event WHERE event_id = outbox.ref AND log = ?3)",
    )
    .bind(gid.as_bytes())
    .bind(seq.cast_signed())
    .bind(log.as_bytes())
    .execute(conn)
    .await?;
    Ok(())
}

/// Drops own events that nobody is there for.
///
/// # Errors
/// [`StoreError`]
pub async fn drop_events(conn: &mut SqliteConnection, gid: GroupId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM outbox WHERE gid = ? AND kind = 'event'")
        .bind(gid.as_bytes())
        .execute(conn)
        .await?;
    Ok(())
}

/// Drops everything a group still had on its way.
///
/// # Errors
/// [`StoreError`]
pub async fn drop_group(conn: &mut SqliteConnection, gid: GroupId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM outbox WHERE gid = ?").bind(gid.as_bytes()).execute(conn).await?;
    Ok(())
}

/// A JoinBundle on its way.
pub struct LetterRow {
    /// Its group.
    pub gid: GroupId,
    /// The state that it admits to.
    pub sid: StateId,
    /// The sealed letter.
    pub letter: Vec<u8>,
    /// Since when, milliseconds.
    pub created_at: i64,
}

/// Queues a JoinBundle letter to a device, which admits to `sid`; one a device and group.
///
/// # Errors
/// [`StoreError`]
pub async fn queue_letter(
    conn: &mut SqliteConnection,
    gid: GroupId,
    device: DeviceId,
    (sid, letter): (StateId, &[u8]),
    now: i64,
) -> Result<(), StoreError> {
    letter_done(conn, gid, device).await?;
    sqlx::query(
        "INSERT INTO outbox (gid, kind, ref, sid, letter, status, created_at) \
         VALUES (?, 'letter', ?, ?, ?, 'queued', ?)",
    )
    .bind(gid.as_bytes())
    .bind(device.as_bytes())
    .bind(sid.as_bytes())
    .bind(letter)
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

/// The letters waiting for a device.
///
/// # Errors
/// [`StoreError`]
pub async fn letters_for(
    conn: &mut SqliteConnection,
    device: DeviceId,
) -> Result<Vec<LetterRow>, StoreError> {
    type Row = (Vec<u8>, Vec<u8>, Vec<u8>, i64);
    // A letter of an earlier version names no state.
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT gid, sid, letter, created_at FROM outbox WHERE kind = 'letter' AND ref = ? AND sid IS NOT NULL",
    )
    .bind(device.as_bytes())
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|(gid, sid, letter, created_at)| {
            let (gid, sid) = (GroupId::try_from(&*gid)?, StateId::try_from(&*sid)?);
            Ok(LetterRow { gid, sid, letter, created_at })
        })
        .collect()
}

/// The state that the letter waiting for a device admits to.
///
/// # Errors
/// [`StoreError`]
pub async fn letter_state(
    conn: &mut SqliteConnection,
    gid: GroupId,
    device: DeviceId,
) -> Result<Option<StateId>, StoreError> {
    let sid: Option<Vec<u8>> = sqlx::query_scalar(
        "SELECT sid FROM outbox WHERE kind = 'letter' AND gid = ? AND ref = ? AND sid IS NOT NULL",
    )
    .bind(gid.as_bytes())
    .bind(device.as_bytes())
    .fetch_optional(conn)
    .await?;
    Ok(sid.map(|sid| StateId::try_from(&*sid)).transpose()?)
}

/// States were left alone: nobody is let into them.
///
/// # Errors
/// [`StoreError`]
pub async fn cancel_letters(
    conn: &mut SqliteConnection,
    gid: GroupId,
    states: &[StateId],
) -> Result<(), StoreError> {
    for sid in states {
        sqlx::query("DELETE FROM outbox WHERE kind = 'letter' AND gid = ? AND sid = ?")
            .bind(gid.as_bytes())
            .bind(sid.as_bytes())
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}

/// The device showed that it is in the group.
///
/// # Errors
/// [`StoreError`]
pub async fn letter_done(
    conn: &mut SqliteConnection,
    gid: GroupId,
    device: DeviceId,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM outbox WHERE kind = 'letter' AND gid = ? AND ref = ?")
        .bind(gid.as_bytes())
        .bind(device.as_bytes())
        .execute(conn)
        .await?;
    Ok(())
}

/// Queues the news of its removal to a device that is no member any more.
///
/// # Errors
/// [`StoreError`]
pub async fn queue_farewell(
    conn: &mut SqliteConnection,
    gid: GroupId,
    device: DeviceId,
    now: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO outbox (gid, kind, ref, status, created_at) VALUES (?, 'farewell', ?, 'queued', ?)",
    )
    .bind(gid.as_bytes())
    .bind(device.as_bytes())
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

/// Groups that a device is no member of any more and does not know it.
///
/// # Errors
/// [`StoreError`]
pub async fn farewells_for(
    conn: &mut SqliteConnection,
    device: DeviceId,
) -> Result<Vec<GroupId>, StoreError> {
    let rows: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT DISTINCT o.gid FROM outbox o JOIN member m ON m.gid = o.gid AND m.device = o.ref \
         WHERE o.kind = 'farewell' AND o.ref = ? AND m.left_epoch IS NOT NULL",
    )
    .bind(device.as_bytes())
    .fetch_all(conn)
    .await?;
    rows.iter().map(|gid| Ok(GroupId::try_from(&**gid)?)).collect()
}

/// The removed device said that it knows.
///
/// # Errors
/// [`StoreError`]
pub async fn farewell_done(
    conn: &mut SqliteConnection,
    gid: GroupId,
    device: DeviceId,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM outbox WHERE kind = 'farewell' AND gid = ? AND ref = ?")
        .bind(gid.as_bytes())
        .bind(device.as_bytes())
        .execute(conn)
        .await?;
    Ok(())
}

/// Gives up on letters and farewells older than this.
///
/// # Errors
/// [`StoreError`]
pub async fn drop_addressed_before(conn: &mut SqliteConnection, before: i64) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM outbox WHERE kind IN ('letter', 'farewell') AND created_at < ?")
        .bind(before)
        .execute(conn)
        .await?;
    Ok(())
}
