//! What a former membership left in the vault: put right when it ends and when the account comes back.
//!
//! Events and messages are history and stay.

use sqlx::SqliteConnection;

use super::StoreError;
use crate::id::{EventId, GroupId, LogId};

/// Makes room for a new membership that begins in `epoch`; `own_log` is the log of the one before.
///
/// Every log begins where it ends here: what was missed in between is withheld from there on.
///
/// # Errors
/// [`StoreError`]
pub async fn begin_anew(
    conn: &mut SqliteConnection,
    gid: GroupId,
    own_log: LogId,
    epoch: u64,
) -> Result<(), StoreError> {
    cut_unsealed(conn, gid, own_log).await?;
    for statement in [
        "UPDATE event_log SET floor = contiguous, floor_lamport = lamport_there WHERE gid = ?",
        "DELETE FROM event WHERE gid = ? AND status = 'parked'",
        "DELETE FROM event_head WHERE gid = ?",
        "DELETE FROM peer_tip WHERE gid = ?",
        "DELETE FROM peer_cursor WHERE gid = ?",
        // One's own goes on counting: a counter used twice would look like two votes.
        "DELETE FROM support WHERE gid = ?1 AND device NOT IN (SELECT device FROM event_log \
         WHERE gid = ?1 AND log = (SELECT own_log FROM mls_group WHERE gid = ?1))",
        "DELETE FROM equivocation WHERE gid = ?",
        "DELETE FROM restored WHERE gid = ?",
        "UPDATE mls_group SET tip_floor = (SELECT tip_counter FROM identity) WHERE gid = ?",
        "UPDATE change_request SET status = 'stale' WHERE gid = ? AND status = 'open'",
    ] {
        sqlx::query(statement).bind(gid.as_bytes()).execute(&mut *conn).await?;
    }
    sqlx::query("UPDATE member SET left_epoch = ? WHERE gid = ? AND left_epoch IS NULL")
        .bind(epoch.cast_signed())
        .bind(gid.as_bytes())
        .execute(conn)
        .await?;
    Ok(())
}

/// Own events that never left are in nobody's log: no one must be made to wait for them.
async fn cut_unsealed(conn: &mut SqliteConnection, gid: GroupId, log: LogId) -> Result<(), StoreError> {
    let last: Option<(i64, Vec<u8>, i64)> = sqlx::query_as(
        "SELECT seq, event_id, lamport FROM event WHERE gid = ? AND log = ? AND via_epoch IS NOT NULL \
         ORDER BY seq DESC LIMIT 1",
    )
    .bind(gid.as_bytes())
    .bind(log.as_bytes())
    .fetch_optional(&mut *conn)
    .await?;
    let (seq, id, lamport) = last.unwrap_or_else(|| (0, EventId([0; 32]).0.to_vec(), 0));
    sqlx::query(
        "UPDATE event_log SET contiguous = ?, hash_there = ?, lamport_there = ? WHERE gid = ? AND log = ?",
    )
    .bind(seq)
    .bind(id)
    .bind(lamport)
    .bind(gid.as_bytes())
    .bind(log.as_bytes())
    .execute(conn)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::random,
        id::{DeviceId, StateId},
        keys::VaultKey,
        store::{
            Vault, WriteTx,
            event::{self, EventRow, EventStatus},
            logbook::{Head, LogBook, LogRow, logs},
        },
    };

    const GID: GroupId = GroupId([9; 16]);
    const OWN: LogId = LogId([1; 16]);
    const OTHER: LogId = LogId([2; 16]);

    fn log(contiguous: u64) -> LogRow {
        LogRow {
            device: DeviceId([3; 32]),
            contiguous,
            hash_there: EventId([7; 32]),
            lamport_there: contiguous * 10,
            floor: 1,
            floor_lamport: 10,
            broken: false,
        }
    }

    fn event(log: LogId, seq: u64, via_epoch: Option<u64>) -> EventRow {
        EventRow {
            id: EventId([seq.to_le_bytes()[0] + log.0[0]; 32]),
            log,
            seq,
            lamport: seq * 10,
            author: DeviceId([3; 32]),
            kind: 1,
            signed: Some(vec![1]),
            seen_sid: StateId([0; 32]),
            via_epoch,
            received_at: 1,
        }
    }

    async fn fill(tx: &mut WriteTx<'_>) -> Result<(), StoreError> {
        let mut book = LogBook::open(tx.conn(), GID).await?;
        for (id, end) in [(OWN, 3), (OTHER, 5)] {
            book.set_log(id, log(end));
            let head = Head { seq: end, id: EventId([7; 32]), lamport: end * 10 };
            book.advance_heads(id, head, std::iter::empty());
        }
        book.close(tx, 1).await?;
        let conn = tx.conn();
        event::insert(conn, GID, &event(OWN, 2, Some(4)), EventStatus::Processed).await?;
        event::insert(conn, GID, &event(OWN, 3, None), EventStatus::Processed).await?;
        event::insert(conn, GID, &event(OTHER, 9, None), EventStatus::Parked).await?;
        Ok(())
    }

    #[tokio::test]
    async fn logs_begin_where_they_end_and_history_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("v.db");
        let vault = Vault::create(&path, &VaultKey::new(random()), &crate::metrics::Metrics::default())
            .await
            .unwrap();
        let filled: Result<(), StoreError> = vault
            .write(|tx| {
                Box::pin(async move {
                    fill(tx).await?;
                    begin_anew(tx.conn(), GID, OWN, 7).await
                })
            })
            .await;
        filled.unwrap();

        let mut reader = vault.read().await.unwrap();
        let conn = reader.conn();
        let logs = logs(conn, GID).await.unwrap();
        let own = &logs.iter().find(|(log, _)| *log == OWN).unwrap().1;
        assert_eq!((own.contiguous, own.floor, own.floor_lamport), (2, 2, 20), "cut after what left");
        let other = &logs.iter().find(|(log, _)| *log == OTHER).unwrap().1;
        assert_eq!((other.contiguous, other.floor, other.floor_lamport), (5, 5, 50));
        assert_eq!(event::count_parked(conn, GID).await.unwrap(), 0);
        assert!(LogBook::open(conn, GID).await.unwrap().heads_besides(LogId([0; 16])).is_empty());
        assert!(event::signed(conn, event(OWN, 3, None).id).await.unwrap().is_some());
    }
}
