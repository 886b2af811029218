//! How groups are: their health as stored, and what tells that it can be another one.

use std::time::Duration;

use sqlx::SqliteConnection;

use super::{StoreError, space};
use crate::{
    clock::now_ms,
    id::{AccountId, GroupId, StateId},
    model::{GroupHealth, GroupStatus},
};

/// Whose words a group's health is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Teller {
    /// Whoever looks after the group. Of a device that is an old copy of itself nothing is said but that,
    /// and that it was removed.
    Any,
    /// What found that the device is an old copy of itself.
    Copies,
}

/// Sets the health; true when it changed.
///
/// # Errors
/// [`StoreError`]
pub async fn set(
    conn: &mut SqliteConnection,
    gid: GroupId,
    (health, detail): (GroupHealth, &str),
    teller: Teller,
    now: i64,
) -> Result<bool, StoreError> {
    let name = space::health_name(health);
    let done = sqlx::query(
        "UPDATE mls_group SET health = ?1, health_detail = ?2, health_since = ?4 \
         WHERE gid = ?3 AND (health <> ?1 OR health_detail <> ?2) \
         AND (?5 OR health = 'ok' OR ?1 = 'removed' OR NOT EXISTS (SELECT 1 FROM restored WHERE gid = ?3))",
    )
    .bind(name)
    .bind(detail)
    .bind(gid.as_bytes())
    .bind(now)
    .bind(teller == Teller::Copies)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Groups that have been in this health since before `before`.
///
/// # Errors
/// [`StoreError`]
pub async fn groups_in(
    conn: &mut SqliteConnection,
    health: GroupHealth,
    before: i64,
) -> Result<Vec<GroupId>, StoreError> {
    let rows: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT gid FROM mls_group WHERE health = ? AND health_since < ? AND status = 'active'",
    )
    .bind(space::health_name(health))
    .bind(before)
    .fetch_all(conn)
    .await?;
    rows.iter().map(|gid| Ok(GroupId::try_from(&**gid)?)).collect()
}

/// A group's health and why it is so.
///
/// # Errors
/// [`StoreError`]
pub async fn get(
    conn: &mut SqliteConnection,
    gid: GroupId,
) -> Result<Option<(GroupHealth, String)>, StoreError> {
    let row: Option<(String, String)> =
        sqlx::query_as("SELECT health, health_detail FROM mls_group WHERE gid = ?")
            .bind(gid.as_bytes())
            .fetch_optional(conn)
            .await?;
    row.map(|(name, detail)| Ok((space::health_from(&name)?, detail))).transpose()
}

/// How a group is, from what is stored alone: the same after a restart. `None` where this account is no
/// active member.
///
/// # Errors
/// [`StoreError`]
pub async fn status(
    conn: &mut SqliteConnection,
    me: AccountId,
    gid: GroupId,
) -> Result<Option<GroupStatus>, StoreError> {
    type Row = (Vec<u8>, i64, Vec<u8>, String, String, u32, Option<i64>, u32, u32, bool);
    let row: Option<Row> = sqlx::query_as(
        "SELECT g.head_sid, t.epoch, t.check_value, g.health, g.health_detail, \
         (SELECT COUNT(*) FROM mls_state s WHERE s.gid = g.gid AND s.pruned_at IS NULL \
            AND EXISTS (SELECT 1 FROM mls_row r WHERE r.gid = s.gid AND r.sid = s.sid)), \
         (SELECT MIN(s.adopted_at) FROM mls_state s WHERE s.gid = g.gid AND s.pruned_at IS NULL \
            AND EXISTS (SELECT 1 FROM mls_row r WHERE r.gid = s.gid AND r.sid = s.sid)), \
         (SELECT COUNT(DISTINCT m.account) FROM member m \
            WHERE m.gid = g.gid AND m.left_epoch IS NULL AND m.account <> ?2 AND m.account NOT IN ( \
              SELECT n.account FROM member n JOIN peer_tip p ON p.gid = n.gid AND p.device = n.device \
              WHERE n.gid = g.gid AND n.left_epoch IS NULL AND p.head_sid = g.head_sid)), \
         (SELECT COUNT(*) FROM change_request c WHERE c.gid = g.gid AND c.status = 'open'), \
         EXISTS (SELECT 1 FROM event e WHERE e.gid = g.gid AND e.status = 'parked') \
         FROM mls_group g JOIN mls_state t ON t.gid = g.gid AND t.sid = g.head_sid \
         WHERE g.gid = ?1 AND g.status = 'active'",
    )
    .bind(gid.as_bytes())
    .bind(me.as_bytes())
    .fetch_optional(conn)
    .await?;
    let Some((head, epoch, check, health, health_detail, retained, oldest, behind, waiting, parked)) = row
    else {
        return Ok(None);
    };
    let health = space::health_from(&health)?;
    let age = oldest.map_or(0, |oldest| now_ms().saturating_sub(oldest));
    Ok(Some(GroupStatus {
        epoch: epoch.cast_unsigned(),
        state_id: StateId::try_from(&*head)?,
        check: check.try_into().map_err(|_| StoreError::Corrupt)?,
        health,
        health_detail,
        retained_epochs: retained,
        // A clock that was put back makes states young.
        oldest_retained_age: Duration::from_millis(u64::try_from(age).unwrap_or(0)),
        members_behind: behind,
        waiting_changes: waiting,
        repairing: parked || health == GroupHealth::Resyncing,
    }))
}

/// Gives up on frames that were parked before: whoever sent them repeats what is still missing.
///
/// # Errors
/// [`StoreError`]
pub async fn drop_parked_before(conn: &mut SqliteConnection, before: i64) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM frame WHERE status = 'parked' AND received_at < ?")
        .bind(before)
        .execute(conn)
        .await?;
    Ok(())
}

/// Groups that are resyncing, or stalled for want of changes (`missing`), while nothing is parked.
///
/// # Errors
/// [`StoreError`]
pub async fn waiting_for_nothing(
    conn: &mut SqliteConnection,
    missing: &str,
) -> Result<Vec<GroupId>, StoreError> {
    let rows: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT gid FROM mls_group WHERE status = 'active' \
         AND (health = 'resyncing' OR (health = 'stalled' AND health_detail = ?)) \
         AND NOT EXISTS (SELECT 1 FROM frame WHERE status = 'parked')",
    )
    .bind(missing)
    .fetch_all(conn)
    .await?;
    rows.iter().map(|gid| Ok(GroupId::try_from(&**gid)?)).collect()
}

/// Whether a frame is parked or a group is catching up: time alone changes that.
///
/// # Errors
/// [`StoreError`]
pub async fn anything_waits(conn: &mut SqliteConnection) -> Result<bool, StoreError> {
    let waits: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM frame WHERE status = 'parked') \
         OR EXISTS (SELECT 1 FROM mls_group WHERE status = 'active' AND health = 'resyncing')",
    )
    .fetch_one(conn)
    .await?;
    Ok(waits)
}

/// Whether secrets of a state were deleted after `since`, milliseconds.
///
/// # Errors
/// [`StoreError`]
pub async fn pruned_since(conn: &mut SqliteConnection, since: i64) -> Result<bool, StoreError> {
    let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM mls_state WHERE pruned_at > ? LIMIT 1")
        .bind(since)
        .fetch_optional(conn)
        .await?;
    Ok(found.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::random,
        id::{FrameId, LogId},
        keys::VaultKey,
        metrics::Metrics,
        store::{
            Vault, WriteTx,
            frame::{self, FrameStatus, NewFrame},
            mls,
        },
    };

    const GID: GroupId = GroupId([1; 16]);

    async fn park(tx: &mut WriteTx<'_>) -> Result<(), StoreError> {
        let parked = NewFrame {
            id: FrameId([5; 32]),
            gid: None,
            env_tag: &[6; 16],
            bytes: Some(b"sealed"),
            status: FrameStatus::Parked,
            carrier: Some(b"someone"),
            place: None,
        };
        frame::insert(tx.conn(), &parked, 100).await?;
        Ok(())
    }

    #[tokio::test]
    async fn a_group_waits_as_long_as_frames_do() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("v.db");
        let vault = Vault::create(&path, &VaultKey::new(random()), &Metrics::default()).await.unwrap();
        let done: Result<(), StoreError> = vault
            .write(|tx| {
                Box::pin(async move {
                    mls::insert_group(tx.conn(), GID, StateId([2; 32]), LogId([3; 16]), 1).await?;
                    park(tx).await?;
                    let conn = tx.conn();
                    assert!(set(conn, GID, (GroupHealth::Stalled, "missing"), Teller::Any, 2).await?);
                    assert!(anything_waits(conn).await?);
                    assert!(waiting_for_nothing(conn, "missing").await?.is_empty());
                    drop_parked_before(conn, 100).await?;
                    assert!(waiting_for_nothing(conn, "missing").await?.is_empty(), "too young to go");
                    drop_parked_before(conn, 101).await?;
                    assert_eq!(waiting_for_nothing(conn, "missing").await?, [GID]);
                    assert!(!anything_waits(conn).await?);
                    assert!(set(conn, GID, (GroupHealth::Resyncing, ""), Teller::Any, 3).await?);
                    assert!(anything_waits(conn).await?);
                    assert!(set(conn, GID, (GroupHealth::Stalled, "missing"), Teller::Any, 4).await?);
                    assert!(waiting_for_nothing(conn, "another reason").await?.is_empty());
                    Ok(())
                })
            })
            .await;
        done.unwrap();
    }
}
