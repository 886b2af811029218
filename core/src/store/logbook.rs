//! The logs of a group: how far each is processed, its heads, and the step that moves them on.

use std::collections::{HashMap, HashSet};

use sqlx::{QueryBuilder, SqliteConnection};

use super::{
    Notice, StoreError, WriteTx,
    event::{EventRow, EventStatus, ROWS, at, count_parked, insert, status_name, unpark},
    message::{self, NewMessage},
    outbox, space,
};
use crate::id::{ChannelId, DeviceId, EventId, GroupId, LogId};

/// How far a log is processed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRow {
    /// Who writes it.
    pub device: DeviceId,
    /// Everything up to this seq is processed.
    pub contiguous: u64,
    /// The event there; all zero at 0.
    pub hash_there: EventId,
    /// Its lamport.
    pub lamport_there: u64,
    /// Where this device's knowledge of the log begins.
    pub floor: u64,
    /// Lamport at the floor.
    pub floor_lamport: u64,
    /// An event of its author was refused: what others refer to there may never come.
    pub broken: bool,
}

/// The newest event of a log that nothing known refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Place in its log.
    pub seq: u64,
    /// The event.
    pub id: EventId,
    /// Its lamport.
    pub lamport: u64,
}

/// The logs of one group during one write step: read once, written back once.
///
/// Events and messages that take their place are gathered and written together at the end: a statement
/// for many rows costs little more than for one.
pub struct LogBook {
    gid: GroupId,
    logs: HashMap<LogId, Option<LogRow>>,
    heads: HashMap<LogId, Head>,
    changed_logs: HashSet<LogId>,
    changed_heads: HashSet<LogId>,
    /// Channels that were seen to be the group's: nothing in a step moves one.
    channels: HashSet<ChannelId>,
    /// Whether events of the group wait for others; unknown at first.
    parked: Option<bool>,
    /// Processed events of this step, not written yet.
    events: Vec<EventRow>,
    /// Where they are.
    places: HashMap<(LogId, u64), (EventId, u64)>,
    messages: Vec<NewMessage>,
    outgoing: Vec<(EventId, u64)>,
}

impl LogBook {
    /// Opens the book of a group.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn open(conn: &mut SqliteConnection, gid: GroupId) -> Result<Self, StoreError> {
        type Row = (Vec<u8>, i64, Vec<u8>, i64, bool);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT log, seq, event_id, lamport, \
             EXISTS (SELECT 1 FROM event e WHERE e.gid = ?1 AND e.status = 'parked') \
             FROM event_head WHERE gid = ?1",
        )
        .bind(gid.as_bytes())
        .fetch_all(conn)
        .await?;
        let parked = rows.first().map(|row| row.4);
        let heads = rows
            .into_iter()
            .map(|(log, seq, id, lamport, _)| {
                let head = Head {
                    seq: seq.cast_unsigned(),
                    id: EventId::try_from(&*id)?,
                    lamport: lamport.cast_unsigned(),
                };
                Ok((LogId::try_from(&*log)?, head))
            })
            .collect::<Result<_, StoreError>>()?;
        Ok(Self {
            gid,
            logs: HashMap::new(),
            heads,
            changed_logs: HashSet::new(),
            changed_heads: HashSet::new(),
            channels: HashSet::new(),
            parked,
            events: Vec::new(),
            places: HashMap::new(),
            messages: Vec::new(),
            outgoing: Vec::new(),
        })
    }

    /// The group.
    pub fn gid(&self) -> GroupId {
        self.gid
    }

    /// A log's state; `None` when the log is not known.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn log(
        &mut self,
        conn: &mut SqliteConnection,
        log: LogId,
    ) -> Result<Option<LogRow>, StoreError> {
        if let Some(row) = self.logs.get(&log) {
            return Ok(row.clone());
        }
        let row = read_log(conn, self.gid, log).await?;
        self.logs.insert(log, row.clone());
        Ok(row)
    }

    /// Takes note that a channel is the group's.
    pub fn note_channel(&mut self, channel: ChannelId) {
        self.channels.insert(channel);
    }

    /// Whether a channel is the group's.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn has_channel(
        &mut self,
        conn: &mut SqliteConnection,
        channel: ChannelId,
    ) -> Result<bool, StoreError> {
        if self.channels.contains(&channel) {
            return Ok(true);
        }
        let known = space::channel(conn, channel).await?.is_some_and(|known| known.space == self.gid);
        known.then(|| self.note_channel(channel));
        Ok(known)
    }

    /// The heads of other logs, highest lamport first.
    pub fn heads_besides(&self, log: LogId) -> Vec<(LogId, Head)> {
        let mut heads: Vec<_> =
            self.heads.iter().filter(|(l, _)| **l != log).map(|(l, h)| (*l, *h)).collect();
        heads.sort_by_key(|(l, h)| (std::cmp::Reverse(h.lamport), *l));
        heads
    }

    /// Sets a log's state.
    pub fn set_log(&mut self, log: LogId, row: LogRow) {
        self.logs.insert(log, Some(row));
        self.changed_logs.insert(log);
    }

    /// An event was processed: it is its log's head, and what it refers to is one no more.
    pub fn advance_heads(&mut self, log: LogId, head: Head, deps: impl Iterator<Item = (LogId, u64)>) {
        for (dep_log, dep_seq) in deps {
            if self.heads.get(&dep_log).is_some_and(|h| h.seq <= dep_seq) {
                self.heads.remove(&dep_log);
                self.changed_heads.insert(dep_log);
            }
        }
        self.heads.insert(log, head);
        self.changed_heads.insert(log);
    }

    /// Whether events of the group wait for others.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn has_parked(&mut self, conn: &mut SqliteConnection) -> Result<bool, StoreError> {
        if let Some(parked) = self.parked {
            return Ok(parked);
        }
        let parked = count_parked(conn, self.gid).await? > 0;
        self.parked = Some(parked);
        Ok(parked)
    }

    /// Parks an event; false when it was parked already.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn park(&mut self, conn: &mut SqliteConnection, row: &EventRow) -> Result<bool, StoreError> {
        self.parked = Some(true);
        insert(conn, self.gid, row, EventStatus::Parked).await
    }

    /// Takes an event that is in its place.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn take(&mut self, conn: &mut SqliteConnection, row: EventRow) -> Result<(), StoreError> {
        if self.has_parked(conn).await? {
            // It may be one of the parked, come again in its turn.
            if !insert(conn, self.gid, &row, EventStatus::Processed).await? {
                unpark(conn, row.id).await?;
            }
            return Ok(());
        }
        self.take_own(row);
        Ok(())
    }

    /// Takes an own event that was made just now: it cannot be here already.
    pub fn take_own(&mut self, row: EventRow) {
        self.places.insert((row.log, row.seq), (row.id, row.lamport));
        self.events.push(row);
    }

    /// Takes a message that an event carries.
    pub fn take_message(&mut self, message: NewMessage) {
        self.messages.push(message);
    }

    /// Puts an own event on its way.
    pub fn send(&mut self, event: EventId, seq: u64) {
        self.outgoing.push((event, seq));
    }

    /// The id and lamport of a processed or withheld event at a place in a log.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn at(
        &self,
        conn: &mut SqliteConnection,
        log: LogId,
        seq: u64,
    ) -> Result<Option<(EventId, u64)>, StoreError> {
        match self.places.get(&(log, seq)) {
            Some(there) => Ok(Some(*there)),
            None => at(conn, self.gid, log, seq).await,
        }
    }

    /// Writes everything that was gathered and everything that changed.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn close(self, tx: &mut WriteTx<'_>, now: i64) -> Result<(), StoreError> {
        insert_processed(tx.conn(), self.gid, &self.events).await?;
        if !self.messages.is_empty() {
            let seq = message::insert_all(tx.conn(), self.gid, &self.messages, now).await?;
            tx.notify(Notice::Feed(seq));
        }
        if !self.outgoing.is_empty() {
            outbox::queue_events(tx.conn(), self.gid, &self.outgoing, now).await?;
            tx.notify(Notice::Outbox(self.gid));
        }
        let conn = tx.conn();
        for log in &self.changed_logs {
            if let Some(Some(row)) = self.logs.get(log) {
                write_log(conn, self.gid, *log, row).await?;
            }
        }
        for log in &self.changed_heads {
            write_head(conn, self.gid, *log, self.heads.get(log)).await?;
        }
        Ok(())
    }
}

type LogColumns = (Vec<u8>, i64, Vec<u8>, i64, i64, i64, bool);

fn log_row(row: LogColumns) -> Result<LogRow, StoreError> {
    let (device, contiguous, hash, lamport, floor, floor_lamport, broken) = row;
    Ok(LogRow {
        device: DeviceId::try_from(&*device)?,
        contiguous: contiguous.cast_unsigned(),
        hash_there: EventId::try_from(&*hash)?,
        lamport_there: lamport.cast_unsigned(),
        floor: floor.cast_unsigned(),
        floor_lamport: floor_lamport.cast_unsigned(),
        broken,
    })
}

async fn read_log(
    conn: &mut SqliteConnection,
    gid: GroupId,
    log: LogId,
) -> Result<Option<LogRow>, StoreError> {
    let row: Option<LogColumns> = sqlx::query_as(
        "SELECT device, contiguous, hash_there, lamport_there, floor, floor_lamport, broken \
         FROM event_log WHERE gid = ? AND log = ?",
    )
    .bind(gid.as_bytes())
    .bind(log.as_bytes())
    .fetch_optional(conn)
    .await?;
    row.map(log_row).transpose()
}

async fn write_log(
    conn: &mut SqliteConnection,
    gid: GroupId,
    log: LogId,
    row: &LogRow,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO event_log (gid, log, device, contiguous, hash_there, lamport_there, floor, floor_lamport, broken) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (gid, log) DO UPDATE SET \
         contiguous = excluded.contiguous, hash_there = excluded.hash_there, \
         lamport_there = excluded.lamport_there, floor = excluded.floor, \
         floor_lamport = excluded.floor_lamport, broken = excluded.broken",
    )
    .bind(gid.as_bytes())
    .bind(log.as_bytes())
    .bind(row.device.as_bytes())
    .bind(row.contiguous.cast_signed())
    .bind(row.hash_there.as_bytes())
    .bind(row.lamport_there.cast_signed())
    .bind(row.floor.cast_signed())
    .bind(row.floor_lamport.cast_signed())
    .bind(row.broken)
    .execute(conn)
    .await?;
    Ok(())
}

async fn write_head(
    conn: &mut SqliteConnection,
    gid: GroupId,
    log: LogId,
    head: Option<&Head>,
) -> Result<(), StoreError> {
    match head {
        None => {
            sqlx::query("DELETE FROM event_head WHERE gid = ? AND log = ?")
                .bind(gid.as_bytes())
                .bind(log.as_bytes())
                .execute(conn)
                .await?
        }
        Some(head) => {
            sqlx::query(
                "INSERT OR REPLACE INTO event_head (gid, log, seq, event_id, lamport) VALUES (?, ?, ?, ?, ?)",
            )
            .bind(gid.as_bytes())
            .bind(log.as_bytes())
            .bind(head.seq.cast_signed())
            .bind(head.id.as_bytes())
            .bind(head.lamport.cast_signed())
            .execute(conn)
            .await?
        }
    };
    Ok(())
}

/// Stores processed events that are new here.
async fn insert_processed(
    conn: &mut SqliteConnection,
    gid: GroupId,
    rows: &[EventRow],
) -> Result<(), StoreError> {
    for rows in rows.chunks(ROWS) {
        let mut insert = QueryBuilder::new(
            "INSERT OR IGNORE INTO event (event_id, gid, log, seq, lamport, author, kind, signed, seen_sid, \
             via_epoch, status, received_at) ",
        );
        insert.push_values(rows, |mut values, row| {
            values
                .push_bind(row.id.as_bytes())
                .push_bind(gid.0.to_vec())
                .push_bind(row.log.as_bytes())
                .push_bind(row.seq.cast_signed())
                .push_bind(row.lamport.cast_signed())
                .push_bind(row.author.as_bytes())
                .push_bind(row.kind)
                .push_bind(row.signed.as_deref())
                .push_bind(row.seen_sid.as_bytes())
                .push_bind(row.via_epoch.map(u64::cast_signed))
                .push_bind(status_name(EventStatus::Processed))
                .push_bind(row.received_at);
        });
        insert.build().persistent(rows.len() == 1).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Every log of a group: what a Tip and a JoinBundle say.
///
/// # Errors
/// [`StoreError`]
pub async fn logs(conn: &mut SqliteConnection, gid: GroupId) -> Result<Vec<(LogId, LogRow)>, StoreError> {
    type Row = (Vec<u8>, Vec<u8>, i64, Vec<u8>, i64, i64, i64, bool);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT log, device, contiguous, hash_there, lamport_there, floor, floor_lamport, broken \
         FROM event_log WHERE gid = ? ORDER BY log",
    )
    .bind(gid.as_bytes())
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|(log, device, contiguous, hash, lamport, floor, floor_lamport, broken)| {
            let row = log_row((device, contiguous, hash, lamport, floor, floor_lamport, broken))?;
            Ok((LogId::try_from(&*log)?, row))
        })
        .collect()
}

/// The last seq of a log that is processed here; 0 when the log is not known.
///
/// # Errors
/// [`StoreError`]
pub async fn written(conn: &mut SqliteConnection, gid: GroupId, log: LogId) -> Result<u64, StoreError> {
    Ok(read_log(conn, gid, log).await?.map_or(0, |row| row.contiguous))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::random, keys::VaultKey, store::Vault};

    #[tokio::test]
    async fn a_log_that_begins_later_keeps_its_new_floor() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("v.db");
        let vault = Vault::create(&path, &VaultKey::new(random()), &crate::metrics::Metrics::default())
            .await
            .unwrap();
        let (gid, log) = (GroupId([1; 16]), LogId([2; 16]));
        let row = |at: u64| LogRow {
            device: DeviceId([3; 32]),
            contiguous: at,
            hash_there: EventId([4; 32]),
            lamport_there: at * 2,
            floor: at,
            floor_lamport: at * 2,
            broken: false,
        };
        for at in [3, 8] {
            let (set, written) = (row(at), row(at));
            let done: Result<(), StoreError> = vault
                .write(move |tx| {
                    Box::pin(async move {
                        let mut book = LogBook::open(tx.conn(), gid).await?;
                        book.set_log(log, set);
                        book.close(tx, 1).await
                    })
                })
                .await;
            done.unwrap();
            let mut reader = vault.read().await.unwrap();
            assert_eq!(logs(reader.conn(), gid).await.unwrap(), [(log, written)]);
        }
    }
}
