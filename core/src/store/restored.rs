//! What other members hold of a device, and the groups in which this device was found to be an old copy of
//! itself.

use sqlx::{QueryBuilder, SqliteConnection};

use super::StoreError;
use crate::id::{DeviceId, EventId, GroupId, LogId, StateId};

/// What becomes of a device that is an old copy of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is to ask for a fresh leaf.
    Returning,
    /// Another copy was given one.
    Succeeded,
}

/// Own events that nobody was sent, taken out of their log.
#[derive(Debug, Default)]
pub struct Unsent {
    /// Where the log ends now: seq, event and lamport; nothing for an empty one.
    pub end: Option<(u64, EventId, u64)>,
    /// SignedEvents, oldest first.
    pub events: Vec<Vec<u8>>,
}

/// The newest that is held of a device in a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Counter and head of its newest Tip.
    pub tip: Option<(u64, StateId)>,
    /// How many of its messages came before the one after the newest that was opened in one state.
    pub messages: u64,
    /// Where its log ends here: seq and event.
    pub log: Option<(u64, EventId)>,
}

/// What is held of a member's device: of its messages in one state, as of this leaf, and of one of its logs.
///
/// # Errors
/// [`StoreError`]
pub async fn held(
    conn: &mut SqliteConnection,
    gid: GroupId,
    device: DeviceId,
    (state, leaf): (StateId, Option<u32>),
    log: LogId,
) -> Result<Held, StoreError> {
    let tip: Option<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT counter, head_sid FROM peer_tip WHERE gid = ? AND device = ?")
            .bind(gid.as_bytes())
            .bind(device.as_bytes())
            .fetch_optional(&mut *conn)
            .await?;
    let tip =
        tip.map(|(counter, head)| Ok::<_, StoreError>((counter.cast_unsigned(), StateId::try_from(&*head)?)));
    let newest: Option<i64> = match leaf {
        Some(leaf) => {
            sqlx::query_scalar("SELECT MAX(counter) FROM opened_generation WHERE sid = ? AND leaf = ?")
                .bind(state.as_bytes())
                .bind(leaf)
                .fetch_one(&mut *conn)
                .await?
        }
        None => None,
    };
    let end: Option<(i64, Vec<u8>)> = sqlx::query_as(
        "SELECT contiguous, hash_there FROM event_log WHERE gid = ? AND log = ? AND device = ? AND contiguous > 0",
    )
    .bind(gid.as_bytes())
    .bind(log.as_bytes())
    .bind(device.as_bytes())
    .fetch_optional(conn)
    .await?;
    let end = end.map(|(seq, id)| Ok::<_, StoreError>((seq.cast_unsigned(), EventId::try_from(&*id)?)));
    Ok(Held {
        tip: tip.transpose()?,
        messages: newest.map_or(0, |newest| newest.cast_unsigned() + 1),
        log: end.transpose()?,
    })
}

/// The event in one place of a log.
///
/// # Errors
/// [`StoreError`]
pub async fn event_at(
    conn: &mut SqliteConnection,
    gid: GroupId,
    log: LogId,
    seq: u64,
) -> Result<Option<EventId>, StoreError> {
    let id: Option<Vec<u8>> = sqlx::query_scalar(
        "SELECT event_id FROM event WHERE gid = ? AND log = ? AND seq = ? AND status <> 'parked'",
    )
    .bind(gid.as_bytes())
    .bind(log.as_bytes())
    .bind(seq.cast_signed())
    .fetch_optional(conn)
    .await?;
    id.map(|id| Ok(EventId::try_from(&*id)?)).transpose()
}

/// The greatest counter that a Tip of this device can have had, and that of its Tips before this membership.
///
/// # Errors
/// [`StoreError`]
pub async fn own_tips(conn: &mut SqliteConnection, gid: GroupId) -> Result<(u64, u64), StoreError> {
    let (newest, floor): (i64, i64) =
        sqlx::query_as("SELECT i.tip_counter, g.tip_floor FROM identity i, mls_group g WHERE g.gid = ?")
            .bind(gid.as_bytes())
            .fetch_one(conn)
            .await?;
    Ok((newest.cast_unsigned(), floor.cast_unsigned()))
}

/// Notes that this device is an old copy of itself in a group, and that others know of its Tips up to this
/// counter: what it tells them from now on is to count.
///
/// # Errors
/// [`StoreError`]
pub async fn note(
    conn: &mut SqliteConnection,
    gid: GroupId,
    tip_counter: u64,
    now: i64,
) -> Result<(), StoreError> {
    sqlx::query("INSERT OR IGNORE INTO restored (gid, noticed_at) VALUES (?, ?)")
        .bind(gid.as_bytes())
        .bind(now)
        .execute(&mut *conn)
        .await?;
    // Half of what can be said: a liar must not use up the rest.
    sqlx::query("UPDATE identity SET tip_counter = MAX(tip_counter, ?)")
        .bind(tip_counter.min(1 << 62).cast_signed())
        .execute(conn)
        .await?;
    Ok(())
}

/// What becomes of this device, if it is known to be an old copy of itself in a group.
///
/// # Errors
/// [`StoreError`]
pub async fn standing(conn: &mut SqliteConnection, gid: GroupId) -> Result<Option<Standing>, StoreError> {
    let succeeded: Option<bool> = sqlx::query_scalar("SELECT succeeded FROM restored WHERE gid = ?")
        .bind(gid.as_bytes())
        .fetch_optional(conn)
        .await?;
    Ok(succeeded.map(|succeeded| if succeeded { Standing::Succeeded } else { Standing::Returning }))
}

/// Whether this device is known to be an old copy of itself in a group.
///
/// # Errors
/// [`StoreError`]
pub async fn is_noted(conn: &mut SqliteConnection, gid: GroupId) -> Result<bool, StoreError> {
    Ok(standing(conn, gid).await?.is_some())
}

/// Notes that another copy of this device has its place in a group.
///
/// # Errors
/// [`StoreError`]
pub async fn succeed(conn: &mut SqliteConnection, gid: GroupId, now: i64) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO restored (gid, noticed_at, succeeded) VALUES (?, ?, 1) \
         ON CONFLICT (gid) DO UPDATE SET succeeded = 1",
    )
    .bind(gid.as_bytes())
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

/// This device has a fresh leaf: what others hold of its Tips so far says nothing of it any more.
///
/// # Errors
/// [`StoreError`]
pub async fn entered(conn: &mut SqliteConnection, gid: GroupId) -> Result<(), StoreError> {
    for statement in [
        "UPDATE mls_group SET tip_floor = (SELECT tip_counter FROM identity) WHERE gid = ?1 \
         AND EXISTS (SELECT 1 FROM restored WHERE gid = ?1)",
        "DELETE FROM restored WHERE gid = ?",
    ] {
        sqlx::query(statement).bind(gid.as_bytes()).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Takes the events that were not sealed yet out of one's own log, with all that was made of them: another
/// copy may have written others in their places.
///
/// # Errors
/// [`StoreError`]
pub async fn take_unsent(
    conn: &mut SqliteConnection,
    gid: GroupId,
    log: LogId,
) -> Result<Unsent, StoreError> {
    let first: Option<i64> = sqlx::query_scalar(
        "SELECT MIN(e.seq) FROM outbox o JOIN event e ON e.event_id = o.ref \
         WHERE o.gid = ?1 AND o.kind = 'event' AND o.status = 'queued' AND e.gid = ?1 AND e.log = ?2",
    )
    .bind(gid.as_bytes())
    .bind(log.as_bytes())
    .fetch_one(&mut *conn)
    .await?;
    let Some(first) = first else { return Ok(Unsent::default()) };
    let end: Option<(i64, Vec<u8>, i64)> =
        sqlx::query_as("SELECT seq, event_id, lamport FROM event WHERE gid = ? AND log = ? AND seq = ?")
            .bind(gid.as_bytes())
            .bind(log.as_bytes())
            .bind(first - 1)
            .fetch_optional(&mut *conn)
            .await?;
    let end = match end {
        Some((seq, id, lamport)) => {
            Some((seq.cast_unsigned(), EventId::try_from(&*id)?, lamport.cast_unsigned()))
        }
        None if first == 1 => None,
        None => return Err(StoreError::Corrupt),
    };
    let (seq, id, lamport) = end.unwrap_or((0, EventId([0; 32]), 0));
    let events = sqlx::query_scalar(
        "SELECT signed FROM event WHERE gid = ? AND log = ? AND seq >= ? AND status = 'processed' ORDER BY seq",
    )
    .bind(gid.as_bytes())
    .bind(log.as_bytes())
    .bind(first)
    .fetch_all(&mut *conn)
    .await?;
    for table in [
        "DELETE FROM outbox WHERE kind = 'event' AND ref",
        "DELETE FROM message WHERE event_id",
        "DELETE FROM register WHERE event_id",
        "DELETE FROM change_request WHERE request_id",
        "DELETE FROM event_head WHERE event_id",
        "DELETE FROM event WHERE event_id",
    ] {
        let mut delete = QueryBuilder::new(table);
        delete.push(" IN (SELECT event_id FROM event WHERE gid = ").push_bind(gid.0.to_vec());
        delete.push(" AND log = ").push_bind(log.0.to_vec()).push(" AND seq >= ").push_bind(first).push(")");
        delete.build().execute(&mut *conn).await?;
    }
    sqlx::query(
        "UPDATE event_log SET contiguous = ?, hash_there = ?, lamport_there = ? WHERE gid = ? AND log = ?",
    )
    .bind(seq.cast_signed())
    .bind(id.as_bytes())
    .bind(lamport.cast_signed())
    .bind(gid.as_bytes())
    .bind(log.as_bytes())
    .execute(conn)
    .await?;
    Ok(Unsent { end, events })
}

/// An event was written again: requests that were answered with it are answered with the new one.
///
/// # Errors
/// [`StoreError`]
pub async fn rename(conn: &mut SqliteConnection, before: EventId, after: EventId) -> Result<(), StoreError> {
    sqlx::query("UPDATE request SET answer = ? WHERE answer = ?")
        .bind(after.as_bytes())
        .bind(before.as_bytes())
        .execute(conn)
        .await?;
    Ok(())
}
