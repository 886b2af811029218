//! MLS groups, their states, the openmls rows of each state, and commits.

use sqlx::{QueryBuilder, SqliteConnection};

use super::{StoreError, event::ROWS};
use crate::{
    group::rows::{RowChanges, Rows},
    id::{ChannelId, GroupId, LogId, StateId},
    model::SendTiming,
};

/// Where this account stands in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupStanding {
    /// A member.
    Active,
    /// Asked to leave; the commit that removes the leaf has not come yet.
    Leaving,
    /// Left.
    Left,
    /// Removed by someone else.
    Removed,
}

/// A group of this account.
#[derive(Clone, Debug)]
pub struct GroupRow {
    /// Member or not.
    pub standing: GroupStanding,
    /// The state this device is in.
    pub head: StateId,
    /// This device's log in it.
    pub own_log: LogId,
    /// How long what this account writes waits.
    pub timing: SendTiming,
}

/// A state that a frame's tag names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaggedState {
    /// The tag.
    pub env_tag: [u8; 16],
    /// Its group.
    pub gid: GroupId,
    /// The state.
    pub sid: StateId,
    /// Its epoch.
    pub epoch: u64,
    /// Its secrets are gone.
    pub pruned: bool,
}

/// A group is new to this device.
///
/// # Errors
/// [`StoreError`]
pub async fn insert_group(
    conn: &mut SqliteConnection,
    gid: GroupId,
    root: StateId,
    own_log: LogId,
    now: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO mls_group (gid, status, root_sid, head_sid, own_log, joined_at) \
         VALUES (?1, 'active', ?2, ?2, ?3, ?4) ON CONFLICT (gid) DO UPDATE SET status = 'active', \
         root_sid = excluded.root_sid, head_sid = excluded.head_sid, own_log = excluded.own_log, \
         health = 'ok', health_detail = '', health_since = excluded.joined_at, joined_at = excluded.joined_at",
    )
    .bind(gid.as_bytes())
    .bind(root.as_bytes())
    .bind(own_log.as_bytes())
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

/// One group.
///
/// # Errors
/// [`StoreError`]
pub async fn group(conn: &mut SqliteConnection, gid: GroupId) -> Result<Option<GroupRow>, StoreError> {
    let row: Option<(String, Vec<u8>, Vec<u8>, String)> =
        sqlx::query_as("SELECT status, head_sid, own_log, send_timing FROM mls_group WHERE gid = ?")
            .bind(gid.as_bytes())
            .fetch_optional(conn)
            .await?;
    row.map(|(status, head, own_log, timing)| {
        Ok(GroupRow {
            standing: standing_from(&status)?,
            head: StateId::try_from(&*head)?,
            own_log: LogId::try_from(&*own_log)?,
            timing: timing_from(&timing)?,
        })
    })
    .transpose()
}

/// The group of a channel.
///
/// # Errors
/// [`StoreError`]
pub async fn group_of_channel(
    conn: &mut SqliteConnection,
    channel: ChannelId,
) -> Result<Option<(GroupId, GroupRow)>, StoreError> {
    type Row = (Vec<u8>, String, Vec<u8>, Vec<u8>, String);
    let row: Option<Row> = sqlx::query_as(
        "SELECT gid, g.status, g.head_sid, g.own_log, g.send_timing FROM channel \
         JOIN mls_group g USING (gid) WHERE channel_id = ?",
    )
    .bind(channel.as_bytes())
    .fetch_optional(conn)
    .await?;
    row.map(|(gid, status, head, own_log, timing)| {
        let (standing, timing) = (standing_from(&status)?, timing_from(&timing)?);
        let (head, own_log) = (StateId::try_from(&*head)?, LogId::try_from(&*own_log)?);
        Ok((GroupId::try_from(&*gid)?, GroupRow { standing, head, own_log, timing }))
    })
    .transpose()
}

/// Sets how long what this account writes in a group waits.
///
/// # Errors
/// [`StoreError`]
pub async fn set_timing(
    conn: &mut SqliteConnection,
    gid: GroupId,
    timing: SendTiming,
) -> Result<(), StoreError> {
    let name = match timing {
        SendTiming::Fast => "fast",
        SendTiming::Balanced => "balanced",
        SendTiming::Strict => "strict",
    };
    sqlx::query("UPDATE mls_group SET send_timing = ? WHERE gid = ?")
        .bind(name)
        .bind(gid.as_bytes())
        .execute(conn)
        .await?;
    Ok(())
}

pub(super) fn timing_from(name: &str) -> Result<SendTiming, StoreError> {
    match name {
        "fast" => Ok(SendTiming::Fast),
        "balanced" => Ok(SendTiming::Balanced),
        "strict" => Ok(SendTiming::Strict),
        _ => Err(StoreError::Corrupt),
    }
}

/// Groups whose frames this device still takes part in: active and leaving ones.
///
/// # Errors
/// [`StoreError`]
pub async fn live_groups(conn: &mut SqliteConnection) -> Result<Vec<GroupId>, StoreError> {
    let rows: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT gid FROM mls_group WHERE status IN ('active', 'leaving') ORDER BY gid")
            .fetch_all(conn)
            .await?;
    rows.iter().map(|gid| Ok(GroupId::try_from(&**gid)?)).collect()
}

/// Moves the head pointer; the state that it leaves is one to be pruned from `now` on, milliseconds.
///
/// # Errors
/// [`StoreError`]
pub async fn set_head(
    conn: &mut SqliteConnection,
    gid: GroupId,
    head: StateId,
    now: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE mls_state SET left_at = ?1 WHERE gid = ?2 AND sid <> ?3 \
         AND sid = (SELECT head_sid FROM mls_group WHERE gid = ?2)",
    )
    .bind(now)
    .bind(gid.as_bytes())
    .bind(head.as_bytes())
    .execute(&mut *conn)
    .await?;
    sqlx::query("UPDATE mls_group SET head_sid = ? WHERE gid = ?")
        .bind(head.as_bytes())
        .bind(gid.as_bytes())
        .execute(conn)
        .await?;
    Ok(())
}

/// Sets where this account stands.
///
/// # Errors
/// [`StoreError`]
pub async fn set_standing(
    conn: &mut SqliteConnection,
    gid: GroupId,
    standing: GroupStanding,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE mls_group SET status = ? WHERE gid = ?")
        .bind(standing_name(standing))
        .bind(gid.as_bytes())
        .execute(conn)
        .await?;
    Ok(())
}

/// The state that a frame's tag names.
///
/// # Errors
/// [`StoreError`]
pub async fn state_by_tag(
    conn: &mut SqliteConnection,
    env_tag: &[u8; 16],
) -> Result<Option<TaggedState>, StoreError> {
    type Row = (Vec<u8>, Vec<u8>, i64, Option<i64>);
    let row: Option<Row> =
        sqlx::query_as("SELECT gid, sid, epoch, pruned_at FROM mls_state WHERE env_tag = ?")
            .bind(env_tag.as_slice())
            .fetch_optional(conn)
            .await?;
    row.map(|(gid, sid, epoch, pruned)| {
        Ok(TaggedState {
            env_tag: *env_tag,
            gid: GroupId::try_from(&*gid)?,
            sid: StateId::try_from(&*sid)?,
            epoch: epoch.cast_unsigned(),
            pruned: pruned.is_some(),
        })
    })
    .transpose()
}

/// States whose secrets are here and whose frames were set aside for want of them.
///
/// # Errors
/// [`StoreError`]
pub async fn states_waited_for(conn: &mut SqliteConnection) -> Result<Vec<TaggedState>, StoreError> {
    type Row = (Vec<u8>, Vec<u8>, Vec<u8>, i64);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT DISTINCT s.env_tag, s.gid, s.sid, s.epoch FROM frame f JOIN mls_state s USING (env_tag) \
         WHERE f.status = 'parked' AND s.pruned_at IS NULL AND s.opaque = 0 ORDER BY s.epoch",
    )
    .fetch_all(conn)
    .await?;
    let state = |(env_tag, gid, sid, epoch): Row| {
        Ok(TaggedState {
            env_tag: env_tag.try_into().map_err(|_| StoreError::Corrupt)?,
            gid: GroupId::try_from(&*gid)?,
            sid: StateId::try_from(&*sid)?,
            epoch: epoch.cast_unsigned(),
            pruned: false,
        })
    };
    rows.into_iter().map(state).collect()
}

/// Makes the states of a group older, for tests of what time does to them.
///
/// # Errors
/// [`StoreError`]
#[cfg(feature = "testing")]
pub async fn age_states(conn: &mut SqliteConnection, gid: GroupId, by_ms: i64) -> Result<(), StoreError> {
    sqlx::query("UPDATE mls_state SET adopted_at = adopted_at - ?1, left_at = left_at - ?1 WHERE gid = ?2")
        .bind(by_ms)
        .bind(gid.as_bytes())
        .execute(conn)
        .await?;
    Ok(())
}

/// The epoch of a state this device knows.
///
/// # Errors
/// [`StoreError`]
pub async fn epoch_of(
    conn: &mut SqliteConnection,
    gid: GroupId,
    sid: StateId,
) -> Result<Option<u64>, StoreError> {
    let epoch: Option<i64> = sqlx::query_scalar("SELECT epoch FROM mls_state WHERE gid = ? AND sid = ?")
        .bind(gid.as_bytes())
        .bind(sid.as_bytes())
        .fetch_optional(conn)
        .await?;
    Ok(epoch.map(i64::cast_unsigned))
}

/// The openmls rows of one state.
///
/// # Errors
/// [`StoreError`]
pub async fn load_rows(conn: &mut SqliteConnection, gid: GroupId, sid: StateId) -> Result<Rows, StoreError> {
    let rows: Vec<(Vec<u8>, Vec<u8>)> =
        sqlx::query_as("SELECT key, value FROM mls_row WHERE gid = ? AND sid = ?")
            .bind(gid.as_bytes())
            .bind(sid.as_bytes())
            .fetch_all(conn)
            .await?;
    Ok(Rows::from_rows(rows))
}

/// Every state of any group whose rows are here.
///
/// # Errors
/// [`StoreError`]
#[cfg(feature = "testing")]
pub async fn states_with_rows(conn: &mut SqliteConnection) -> Result<Vec<(GroupId, StateId)>, StoreError> {
    let rows: Vec<(Vec<u8>, Vec<u8>)> =
        sqlx::query_as("SELECT DISTINCT gid, sid FROM mls_row").fetch_all(conn).await?;
    rows.iter().map(|(gid, sid)| Ok((GroupId::try_from(&**gid)?, StateId::try_from(&**sid)?))).collect()
}

/// Writes what changed in a state's openmls rows.
///
/// # Errors
/// [`StoreError`]
pub async fn store_rows(
    conn: &mut SqliteConnection,
    gid: GroupId,
    sid: StateId,
    changes: &RowChanges,
) -> Result<(), StoreError> {
    for rows in changes.upserts.chunks(ROWS) {
        let mut insert = QueryBuilder::new("INSERT OR REPLACE INTO mls_row (gid, sid, key, value) ");
        insert.push_values(rows, |mut values, (key, value)| {
            values
                .push_bind(gid.0.to_vec())
                .push_bind(sid.0.to_vec())
                .push_bind(key.as_slice())
                .push_bind(value.as_slice());
        });
        // Every message writes the same one or two rows: worth keeping prepared.
        insert.build().persistent(rows.len() <= 2).execute(&mut *conn).await?;
    }
    for key in &changes.deletes {
        sqlx::query("DELETE FROM mls_row WHERE gid = ? AND sid = ? AND key = ?")
            .bind(gid.as_bytes())
            .bind(sid.as_bytes())
            .bind(key.as_slice())
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}

/// Deletes every secret of a group that this account is no longer in.
///
/// # Errors
/// [`StoreError`]
pub async fn forget_secrets(conn: &mut SqliteConnection, gid: GroupId, now: i64) -> Result<(), StoreError> {
    sqlx::query("UPDATE mls_state SET pruned_at = ? WHERE gid = ? AND pruned_at IS NULL")
        .bind(now)
        .bind(gid.as_bytes())
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM mls_row WHERE gid = ?").bind(gid.as_bytes()).execute(&mut *conn).await?;
    sqlx::query("DELETE FROM opened_generation WHERE sid IN (SELECT sid FROM mls_state WHERE gid = ?)")
        .bind(gid.as_bytes())
        .execute(conn)
        .await?;
    Ok(())
}

fn standing_name(standing: GroupStanding) -> &'static str {
    match standing {
        GroupStanding::Active => "active",
        GroupStanding::Leaving => "leaving",
        GroupStanding::Left => "left",
        GroupStanding::Removed => "removed",
    }
}

fn standing_from(name: &str) -> Result<GroupStanding, StoreError> {
    Ok(match name {
        "active" => GroupStanding::Active,
        "leaving" => GroupStanding::Leaving,
        "left" => GroupStanding::Left,
        "removed" => GroupStanding::Removed,
        _ => return Err(StoreError::Corrupt),
    })
}
