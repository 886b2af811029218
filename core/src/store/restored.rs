//! What other members hold of a device, and the groups in which this device was found to be an old copy of
//! itself.

use sqlx::SqliteConnection;

use super::StoreError;
use crate::id::{DeviceId, EventId, GroupId, LogId, StateId};

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

/// Whether this device is known to be an old copy of itself in a group.
///
/// # Errors
/// [`StoreError`]
pub async fn is_noted(conn: &mut SqliteConnection, gid: GroupId) -> Result<bool, StoreError> {
    let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM restored WHERE gid = ?")
        .bind(gid.as_bytes())
        .fetch_optional(conn)
        .await?;
    Ok(found.is_some())
}
