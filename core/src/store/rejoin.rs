//! Finding the way back: this device's own wish for a fresh leaf, those of others, and the logs of former
//! leaves.

use sqlx::SqliteConnection;

use super::StoreError;
use crate::id::{DeviceId, GroupId, LogId, StateId};

/// Members of one group whose requests for a fresh leaf are kept; more are not taken.
const MAX_REQUESTS: i64 = 64;

/// This device's open wish for a fresh leaf in a group.
pub struct RejoinRow {
    /// tls(KeyPackage)
    pub key_package: Vec<u8>,
    /// SHA-256 of it.
    pub key_package_hash: [u8; 32],
}

/// The open wish, if there is one.
///
/// # Errors
/// [`StoreError`]
pub async fn open(conn: &mut SqliteConnection, gid: GroupId) -> Result<Option<RejoinRow>, StoreError> {
    let row: Option<(Vec<u8>, Vec<u8>)> =
        sqlx::query_as("SELECT key_package, key_package_hash FROM rejoin WHERE gid = ?")
            .bind(gid.as_bytes())
            .fetch_optional(conn)
            .await?;
    row.map(|(key_package, hash)| {
        let key_package_hash = hash.try_into().map_err(|_| StoreError::Corrupt)?;
        Ok(RejoinRow { key_package, key_package_hash })
    })
    .transpose()
}

/// Notes a wish.
///
/// # Errors
/// [`StoreError`]
pub async fn wish(
    conn: &mut SqliteConnection,
    gid: GroupId,
    row: &RejoinRow,
    now: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT OR REPLACE INTO rejoin (gid, key_package, key_package_hash, started_at) VALUES (?, ?, ?, ?)",
    )
    .bind(gid.as_bytes())
    .bind(&row.key_package)
    .bind(row.key_package_hash.as_slice())
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

/// The wish came true, or is none any more.
///
/// # Errors
/// [`StoreError`]
pub async fn end(conn: &mut SqliteConnection, gid: GroupId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM rejoin WHERE gid = ?").bind(gid.as_bytes()).execute(conn).await?;
    Ok(())
}

/// This device stands in a new root with a new log. What it wrote and nobody stored is queued again, and is
/// sealed on the new head; requests whose fate is not known here are looked at anew.
///
/// # Errors
/// [`StoreError`]
pub async fn enter(
    conn: &mut SqliteConnection,
    gid: GroupId,
    root: StateId,
    (former, log): (LogId, LogId),
) -> Result<(), StoreError> {
    sqlx::query("UPDATE mls_group SET root_sid = ?1, head_sid = ?1 WHERE gid = ?2")
        .bind(root.as_bytes())
        .bind(gid.as_bytes())
        .execute(&mut *conn)
        .await?;
    change_log(conn, gid, (former, log)).await?;
    for statement in [
        "UPDATE outbox SET status = 'queued', frame_id = NULL \
         WHERE gid = ? AND kind = 'event' AND status = 'sealed'",
        "DELETE FROM outbox WHERE gid = ? AND kind = 'letter'",
        "UPDATE change_request SET status = 'open' WHERE gid = ? AND status IN ('ahead', 'stale')",
    ] {
        sqlx::query(statement).bind(gid.as_bytes()).execute(&mut *conn).await?;
    }
    Ok(())
}

/// This device writes in another log from now on.
///
/// # Errors
/// [`StoreError`]
pub async fn change_log(
    conn: &mut SqliteConnection,
    gid: GroupId,
    (former, log): (LogId, LogId),
) -> Result<(), StoreError> {
    sqlx::query("UPDATE mls_group SET own_log = ? WHERE gid = ?")
        .bind(log.as_bytes())
        .bind(gid.as_bytes())
        .execute(&mut *conn)
        .await?;
    sqlx::query("INSERT OR IGNORE INTO former_log (gid, log) VALUES (?, ?)")
        .bind(gid.as_bytes())
        .bind(former.as_bytes())
        .execute(conn)
        .await?;
    Ok(())
}

/// Own logs besides the present one.
///
/// # Errors
/// [`StoreError`]
pub async fn former_logs(conn: &mut SqliteConnection, gid: GroupId) -> Result<Vec<LogId>, StoreError> {
    let rows: Vec<Vec<u8>> = sqlx::query_scalar("SELECT log FROM former_log WHERE gid = ?")
        .bind(gid.as_bytes())
        .fetch_all(conn)
        .await?;
    rows.iter().map(|log| Ok(LogId::try_from(&**log)?)).collect()
}

/// Keeps a member's request for a fresh leaf, the newest of each; false when too many are kept.
///
/// # Errors
/// [`StoreError`]
pub async fn keep_request(
    conn: &mut SqliteConnection,
    gid: GroupId,
    device: DeviceId,
    signed: &[u8],
    now: i64,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "INSERT INTO rejoin_request (gid, device, signed, received_at) SELECT ?1, ?2, ?3, ?4 \
         WHERE EXISTS (SELECT 1 FROM rejoin_request WHERE gid = ?1 AND device = ?2) \
         OR (SELECT COUNT(*) FROM rejoin_request WHERE gid = ?1) < ?5 \
         ON CONFLICT (gid, device) DO UPDATE SET signed = excluded.signed, received_at = excluded.received_at",
    )
    .bind(gid.as_bytes())
    .bind(device.as_bytes())
    .bind(signed)
    .bind(now)
    .bind(MAX_REQUESTS)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Members' requests for fresh leaves, oldest first.
///
/// # Errors
/// [`StoreError`]
pub async fn requests(conn: &mut SqliteConnection, gid: GroupId) -> Result<Vec<Vec<u8>>, StoreError> {
    Ok(sqlx::query_scalar("SELECT signed FROM rejoin_request WHERE gid = ? ORDER BY received_at, device")
        .bind(gid.as_bytes())
        .fetch_all(conn)
        .await?)
}

/// A request was done, or cannot be.
///
/// # Errors
/// [`StoreError`]
pub async fn drop_request(
    conn: &mut SqliteConnection,
    gid: GroupId,
    device: DeviceId,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM rejoin_request WHERE gid = ? AND device = ?")
        .bind(gid.as_bytes())
        .bind(device.as_bytes())
        .execute(conn)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::random,
        id::EventId,
        keys::VaultKey,
        metrics::Metrics,
        store::{Vault, WriteTx, mls, outbox},
    };

    const GID: GroupId = GroupId([1; 16]);
    const FORMER: LogId = LogId([2; 16]);
    const FRESH: LogId = LogId([3; 16]);

    async fn write_one(tx: &mut WriteTx<'_>, log: LogId, seq: u8) -> Result<(), StoreError> {
        let id = [log.0[0] * 16 + seq; 32];
        sqlx::query(
            "INSERT INTO event (event_id, gid, log, seq, lamport, author, kind, signed, seen_sid, status, \
             received_at) VALUES (?, ?, ?, ?, 1, x'01', 1, ?, x'02', 'processed', 1)",
        )
        .bind(id.as_slice())
        .bind(GID.as_bytes())
        .bind(log.as_bytes())
        .bind(seq)
        .bind([seq].as_slice())
        .execute(tx.conn())
        .await?;
        outbox::queue_events(tx.conn(), GID, &[(EventId(id), seq.into())], 1).await
    }

    #[tokio::test]
    async fn what_nobody_stored_is_queued_again_under_the_new_root() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("v.db");
        let vault = Vault::create(&path, &VaultKey::new(random()), &Metrics::default()).await.unwrap();
        let done: Result<(), StoreError> = vault
            .write(|tx| {
                Box::pin(async move {
                    mls::insert_group(tx.conn(), GID, StateId([4; 32]), FORMER, 1).await?;
                    write_one(tx, FORMER, 1).await?;
                    write_one(tx, FORMER, 2).await?;
                    sqlx::query("UPDATE outbox SET status = 'sealed', frame_id = x'05' WHERE seq = 1")
                        .execute(tx.conn())
                        .await?;
                    assert_eq!(outbox::queued_events(tx.conn(), GID, 9).await?.len(), 1);
                    enter(tx.conn(), GID, StateId([6; 32]), (FORMER, FRESH)).await?;
                    write_one(tx, FRESH, 1).await?;
                    let queued = outbox::queued_events(tx.conn(), GID, 9).await?;
                    let signed: Vec<_> = queued.into_iter().map(|event| event.signed).collect();
                    assert_eq!(signed, [[1], [2], [1]], "in the order they were written");
                    assert_eq!(former_logs(tx.conn(), GID).await?, [FORMER]);
                    let group = mls::group(tx.conn(), GID).await?.unwrap();
                    assert_eq!((group.head, group.own_log), (StateId([6; 32]), FRESH));
                    // What others say of one log says nothing of another.
                    sqlx::query("UPDATE outbox SET status = 'sealed'").execute(tx.conn()).await?;
                    outbox::events_done(tx.conn(), GID, FRESH, 1).await?;
                    outbox::events_done(tx.conn(), GID, FORMER, 1).await?;
                    let left: i64 =
                        sqlx::query_scalar("SELECT COUNT(*) FROM outbox").fetch_one(tx.conn()).await?;
                    assert_eq!(left, 1);
                    Ok(())
                })
            })
            .await;
        done.unwrap();
    }

    #[tokio::test]
    async fn of_each_member_the_newest_request_is_kept_and_of_so_many_members() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("v.db");
        let vault = Vault::create(&path, &VaultKey::new(random()), &Metrics::default()).await.unwrap();
        let done: Result<(), StoreError> = vault
            .write(|tx| {
                Box::pin(async move {
                    let conn = tx.conn();
                    for number in 0..u8::try_from(MAX_REQUESTS).unwrap() {
                        assert!(keep_request(conn, GID, DeviceId([number; 32]), &[number], 1).await?);
                    }
                    assert!(!keep_request(conn, GID, DeviceId([255; 32]), b"one too many", 2).await?);
                    assert!(keep_request(conn, GID, DeviceId([0; 32]), b"again", 3).await?);
                    let kept = requests(conn, GID).await?;
                    assert_eq!(kept.last().map(Vec::as_slice), Some(b"again".as_slice()));
                    assert_eq!(kept.len(), usize::try_from(MAX_REQUESTS).unwrap());
                    drop_request(conn, GID, DeviceId([0; 32])).await?;
                    assert!(keep_request(conn, GID, DeviceId([255; 32]), b"now", 4).await?);
                    Ok(())
                })
            })
            .await;
        done.unwrap();
    }
}
