//! Spaces, channels and members as people see them: projections of the MLS states and state events.

use sqlx::SqliteConnection;

use super::{StoreError, health, mls};
use crate::{
    certificate::Certificate,
    clock::time_from_ms,
    id::{AccountId, ChannelId, DeviceId, GroupId},
    model::{Channel, GroupHealth, Member, Role, Space},
};

/// A device that is or was a leaf of the group.
pub struct MemberRow {
    /// The leaf.
    pub device: DeviceId,
    /// Whose.
    pub account: AccountId,
    /// Its credential.
    pub certificate: Certificate,
    /// The account's role.
    pub role: Role,
    /// The account's shown name.
    pub display_name: String,
    /// First epoch it could read.
    pub joined_epoch: u64,
    /// First epoch it could not read any more.
    pub left_epoch: Option<u64>,
}

/// A space this account is an active member of.
///
/// # Errors
/// [`StoreError`]
pub async fn space(
    conn: &mut SqliteConnection,
    me: AccountId,
    gid: GroupId,
) -> Result<Option<Space>, StoreError> {
    let row: Option<(String, String, i64, String)> = sqlx::query_as(
        "SELECT s.name, s.description, s.created_at, g.send_timing FROM space s JOIN mls_group g USING (gid) \
         WHERE gid = ?",
    )
    .bind(gid.as_bytes())
    .fetch_optional(&mut *conn)
    .await?;
    let (Some((name, description, created_at, timing)), Some(group)) =
        (row, health::status(conn, me, gid).await?)
    else {
        return Ok(None);
    };
    let members: Vec<(Vec<u8>, i64)> = sqlx::query_as(
        "SELECT DISTINCT account, role FROM member WHERE gid = ? AND left_epoch IS NULL ORDER BY account",
    )
    .bind(gid.as_bytes())
    .fetch_all(conn)
    .await?;
    let owner = members.iter().find(|(_, role)| *role == Role::Owner as i64);
    let mine = members.iter().find(|(account, _)| account == me.as_bytes());
    let (Some((owner, _)), Some((_, my_role))) = (owner, mine) else { return Err(StoreError::Corrupt) };
    Ok(Some(Space {
        id: gid,
        name,
        description,
        owner: AccountId::try_from(&**owner)?,
        my_role: role_from(*my_role)?,
        member_count: u32::try_from(members.len()).unwrap_or(u32::MAX),
        created_at: time_from_ms(created_at),
        group,
        send_timing: mls::timing_from(&timing)?,
    }))
}

/// Spaces this account is an active member of, oldest first.
///
/// # Errors
/// [`StoreError`]
pub async fn spaces(conn: &mut SqliteConnection) -> Result<Vec<GroupId>, StoreError> {
    let rows: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT gid FROM mls_group WHERE status = 'active' ORDER BY joined_at, gid")
            .fetch_all(conn)
            .await?;
    rows.iter().map(|gid| Ok(GroupId::try_from(&**gid)?)).collect()
}

/// Sets a space's values; when it was made stays as it is.
///
/// # Errors
/// [`StoreError`]
pub async fn set_space(
    conn: &mut SqliteConnection,
    gid: GroupId,
    name: &str,
    description: &str,
    created_at: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO space (gid, name, description, created_at) VALUES (?, ?, ?, ?) \
         ON CONFLICT (gid) DO UPDATE SET name = excluded.name, description = excluded.description",
    )
    .bind(gid.as_bytes())
    .bind(name)
    .bind(description)
    .bind(created_at)
    .execute(conn)
    .await?;
    Ok(())
}

/// One channel of an active or former space.
///
/// # Errors
/// [`StoreError`]
pub async fn channel(conn: &mut SqliteConnection, id: ChannelId) -> Result<Option<Channel>, StoreError> {
    let row: Option<(Vec<u8>, String, String)> =
        sqlx::query_as("SELECT gid, name, topic FROM channel WHERE channel_id = ?")
            .bind(id.as_bytes())
            .fetch_optional(conn)
            .await?;
    row.map(|(gid, name, topic)| Ok(Channel { id, space: GroupId::try_from(&*gid)?, name, topic }))
        .transpose()
}

/// Channels of a space, oldest first.
///
/// # Errors
/// [`StoreError`]
pub async fn channels(conn: &mut SqliteConnection, gid: GroupId) -> Result<Vec<Channel>, StoreError> {
    let rows: Vec<(Vec<u8>, String, String)> = sqlx::query_as(
        "SELECT channel_id, name, topic FROM channel WHERE gid = ? ORDER BY created_at, channel_id",
    )
    .bind(gid.as_bytes())
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|(id, name, topic)| Ok(Channel { id: ChannelId::try_from(&*id)?, space: gid, name, topic }))
        .collect()
}

/// Sets a channel's values. A channel of another space keeps its own: ids are chosen by peers.
///
/// # Errors
/// [`StoreError`]
pub async fn set_channel(
    conn: &mut SqliteConnection,
    channel: &Channel,
    created_at: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO channel (channel_id, gid, name, topic, created_at) VALUES (?, ?, ?, ?, ?) \
         ON CONFLICT (channel_id) DO UPDATE SET name = excluded.name, topic = excluded.topic \
         WHERE gid = excluded.gid",
    )
    .bind(channel.id.as_bytes())
    .bind(channel.space.as_bytes())
    .bind(&channel.name)
    .bind(&channel.topic)
    .bind(created_at)
    .execute(conn)
    .await?;
    Ok(())
}

/// A current or former member, as people see it.
///
/// # Errors
/// [`StoreError`]
pub async fn member(
    conn: &mut SqliteConnection,
    gid: GroupId,
    account: AccountId,
) -> Result<Option<Member>, StoreError> {
    let row: Option<(String, i64, i64)> = sqlx::query_as(
        "SELECT display_name, role, joined_at FROM member WHERE gid = ? AND account = ? \
         ORDER BY left_epoch IS NOT NULL, joined_epoch DESC LIMIT 1",
    )
    .bind(gid.as_bytes())
    .bind(account.as_bytes())
    .fetch_optional(conn)
    .await?;
    row.map(|(display_name, role, joined_at)| {
        let joined_at = time_from_ms(joined_at);
        Ok(Member { account, display_name, role: role_from(role)?, joined_at, online: false })
    })
    .transpose()
}

/// Current members, in order of joining; `online` is left false.
///
/// # Errors
/// [`StoreError`]
pub async fn members(conn: &mut SqliteConnection, gid: GroupId) -> Result<Vec<Member>, StoreError> {
    let rows: Vec<(Vec<u8>, String, i64, i64)> = sqlx::query_as(
        "SELECT account, display_name, role, MIN(joined_at) FROM member \
         WHERE gid = ? AND left_epoch IS NULL GROUP BY account ORDER BY MIN(joined_epoch), account",
    )
    .bind(gid.as_bytes())
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|(account, display_name, role, joined_at)| {
            Ok(Member {
                account: AccountId::try_from(&*account)?,
                display_name,
                role: role_from(role)?,
                joined_at: time_from_ms(joined_at),
                online: false,
            })
        })
        .collect()
}

/// Every leaf there is or was.
///
/// # Errors
/// [`StoreError`]
pub async fn member_rows(conn: &mut SqliteConnection, gid: GroupId) -> Result<Vec<MemberRow>, StoreError> {
    type Row = (Vec<u8>, Vec<u8>, Vec<u8>, i64, String, i64, Option<i64>);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT device, account, certificate, role, display_name, joined_epoch, left_epoch \
         FROM member WHERE gid = ?",
    )
    .bind(gid.as_bytes())
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|(device, account, certificate, role, display_name, joined, left)| {
            Ok(MemberRow {
                device: DeviceId::try_from(&*device)?,
                account: AccountId::try_from(&*account)?,
                certificate: Certificate::decode_stored(&certificate).map_err(|_| StoreError::Corrupt)?,
                role: role_from(role)?,
                display_name,
                joined_epoch: joined.cast_unsigned(),
                left_epoch: left.map(i64::cast_unsigned),
            })
        })
        .collect()
}

/// A device that entered the group.
///
/// # Errors
/// [`StoreError`]
pub async fn add_member(
    conn: &mut SqliteConnection,
    gid: GroupId,
    certificate: &Certificate,
    role: Role,
    joined_epoch: u64,
    joined_at: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO member (gid, device, account, certificate, role, joined_epoch, joined_at, display_name) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, COALESCE((SELECT display_name FROM member WHERE gid = ?1 AND account = ?3), '')) \
         ON CONFLICT (gid, device) DO UPDATE SET certificate = excluded.certificate, role = excluded.role, \
         joined_epoch = excluded.joined_epoch, joined_at = excluded.joined_at, left_epoch = NULL",
    )
    .bind(gid.as_bytes())
    .bind(certificate.device.as_bytes())
    .bind(certificate.account.as_bytes())
    .bind(certificate.encoded())
    .bind(role as i64)
    .bind(joined_epoch.cast_signed())
    .bind(joined_at)
    .execute(conn)
    .await?;
    Ok(())
}

/// A device that is in a state which the head is not at: whose events may come from there.
///
/// # Errors
/// [`StoreError`]
pub async fn note_elsewhere(
    conn: &mut SqliteConnection,
    gid: GroupId,
    certificate: &Certificate,
    epoch: u64,
    now: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO member (gid, device, account, certificate, role, joined_epoch, joined_at, left_epoch) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?6) ON CONFLICT (gid, device) DO NOTHING",
    )
    .bind(gid.as_bytes())
    .bind(certificate.device.as_bytes())
    .bind(certificate.account.as_bytes())
    .bind(certificate.encoded())
    .bind(Role::Member as i64)
    .bind(epoch.cast_signed())
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

/// A device that was told to be gone was there all the time.
///
/// # Errors
/// [`StoreError`]
pub async fn revive_member(
    conn: &mut SqliteConnection,
    gid: GroupId,
    device: DeviceId,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE member SET left_epoch = NULL WHERE gid = ? AND device = ?")
        .bind(gid.as_bytes())
        .bind(device.as_bytes())
        .execute(conn)
        .await?;
    Ok(())
}

/// A device left the group in this epoch.
///
/// # Errors
/// [`StoreError`]
pub async fn end_member(
    conn: &mut SqliteConnection,
    gid: GroupId,
    device: DeviceId,
    left_epoch: u64,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE member SET left_epoch = ? WHERE gid = ? AND device = ?")
        .bind(left_epoch.cast_signed())
        .bind(gid.as_bytes())
        .bind(device.as_bytes())
        .execute(conn)
        .await?;
    Ok(())
}

/// Sets the shown name of an account in a space.
///
/// # Errors
/// [`StoreError`]
pub async fn set_display_name(
    conn: &mut SqliteConnection,
    gid: GroupId,
    account: AccountId,
    name: &str,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE member SET display_name = ? WHERE gid = ? AND account = ?")
        .bind(name)
        .bind(gid.as_bytes())
        .bind(account.as_bytes())
        .execute(conn)
        .await?;
    Ok(())
}

/// Accounts other than `me` that are members now.
///
/// # Errors
/// [`StoreError`]
pub async fn recipients(conn: &mut SqliteConnection, gid: GroupId, me: AccountId) -> Result<u32, StoreError> {
    let n: i64 = sqlx::query_scalar(
        "SELECT COUNT(DISTINCT account) FROM member WHERE gid = ? AND left_epoch IS NULL AND account <> ?",
    )
    .bind(gid.as_bytes())
    .bind(me.as_bytes())
    .fetch_one(conn)
    .await?;
    Ok(u32::try_from(n).unwrap_or(u32::MAX))
}

pub(super) fn role_from(number: i64) -> Result<Role, StoreError> {
    u32::try_from(number).ok().and_then(Role::from_number).ok_or(StoreError::Corrupt)
}

/// The stored name of a health.
pub(crate) fn health_name(health: GroupHealth) -> &'static str {
    match health {
        GroupHealth::Ok => "ok",
        GroupHealth::Forked => "forked",
        GroupHealth::Stalled => "stalled",
        GroupHealth::Resyncing => "resyncing",
        GroupHealth::Removed => "removed",
    }
}

/// The health of this stored name.
pub(super) fn health_from(name: &str) -> Result<GroupHealth, StoreError> {
    Ok(match name {
        "ok" => GroupHealth::Ok,
        "forked" => GroupHealth::Forked,
        "stalled" => GroupHealth::Stalled,
        "resyncing" => GroupHealth::Resyncing,
        "removed" => GroupHealth::Removed,
        _ => return Err(StoreError::Corrupt),
    })
}
