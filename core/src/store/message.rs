//! Messages as people see them: a projection of text events, with delivery of one's own.

use std::collections::HashMap;

use sqlx::{FromRow, QueryBuilder, Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{StoreError, event::ROWS, feed};
use crate::{
    clock::time_from_ms,
    id::{AccountId, ChannelId, EventId, FrameId, GroupId, LogId},
    model::{Delivery, DeliveryState, Message, MessagePage, Page},
};

/// A text event about to become a message.
pub struct NewMessage {
    /// The event.
    pub id: EventId,
    /// Where it goes.
    pub channel: ChannelId,
    /// Order: lamport, then log, then seq.
    pub lamport: u64,
    /// The author's log.
    pub log: LogId,
    /// Place in the log.
    pub seq: u64,
    /// Who wrote it.
    pub account: AccountId,
    /// What it says.
    pub text: String,
    /// What it answers.
    pub reply_to: Option<EventId>,
    /// The author's clock, milliseconds.
    pub sent_at: i64,
    /// Our clock, milliseconds.
    pub received_at: i64,
    /// One's own: how many accounts it is for.
    pub recipients: Option<u32>,
}

macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT m.event_id, m.channel_id, m.gid, m.account, m.text, m.sent_at, m.received_at, \
             m.reply_to, m.state, m.delivered_to, m.recipients, m.reason, \
             (SELECT p.display_name FROM member p WHERE p.gid = m.gid AND p.account = m.account \
              ORDER BY p.left_epoch IS NOT NULL LIMIT 1) \
             FROM message m ",
            $tail
        )
    };
}

struct MessageRow(Message);

impl<'r> FromRow<'r, SqliteRow> for MessageRow {
    fn from_row(row: &'r SqliteRow) -> Result<Self, sqlx::Error> {
        let decode = |e: StoreError| sqlx::Error::Decode(Box::new(e));
        let state: Option<i64> = row.try_get(8)?;
        let delivery = match state {
            None => None,
            Some(state) => Some(Delivery {
                state: state_from(state).map_err(decode)?,
                delivered_to: row.try_get(9)?,
                recipients: row.try_get(10)?,
                reason: row.try_get(11)?,
            }),
        };
        let reply_to: Option<&[u8]> = row.try_get(7)?;
        Ok(Self(Message {
            id: EventId::try_from(row.try_get::<&[u8], _>(0)?).map_err(|e| decode(e.into()))?,
            channel: ChannelId::try_from(row.try_get::<&[u8], _>(1)?).map_err(|e| decode(e.into()))?,
            space: GroupId::try_from(row.try_get::<&[u8], _>(2)?).map_err(|e| decode(e.into()))?,
            sender: AccountId::try_from(row.try_get::<&[u8], _>(3)?).map_err(|e| decode(e.into()))?,
            sender_display_name: row.try_get::<Option<String>, _>(12)?.unwrap_or_default(),
            text: row.try_get(4)?,
            sent_at: time_from_ms(row.try_get(5)?),
            received_at: time_from_ms(row.try_get(6)?),
            reply_to: reply_to.map(EventId::try_from).transpose().map_err(|e| decode(e.into()))?,
            delivery,
        }))
    }
}

/// Stores messages and tells the feed; gives the feed's newest seq.
///
/// # Errors
/// [`StoreError`]
pub(super) async fn insert_all(
    conn: &mut SqliteConnection,
    gid: GroupId,
    messages: &[NewMessage],
    now: i64,
) -> Result<u64, StoreError> {
    let mut seq = 0;
    for messages in messages.chunks(ROWS) {
        let mut insert = QueryBuilder::new(
            "INSERT INTO message (event_id, gid, channel_id, lamport, log, seq, account, text, reply_to, \
             sent_at, received_at, state, recipients) ",
        );
        insert.push_values(messages, |mut values, new| {
            let state =
                new.recipients.map(|n| if n == 0 { DeliveryState::Delivered } else { DeliveryState::Queued });
            values
                .push_bind(new.id.as_bytes())
                .push_bind(gid.0.to_vec())
                .push_bind(new.channel.as_bytes())
                .push_bind(new.lamport.cast_signed())
                .push_bind(new.log.as_bytes())
                .push_bind(new.seq.cast_signed())
                .push_bind(new.account.as_bytes())
                .push_bind(new.text.as_str())
                .push_bind(new.reply_to.as_ref().map(EventId::as_bytes))
                .push_bind(new.sent_at.min(new.received_at))
                .push_bind(new.received_at)
                .push_bind(state.map(state_number))
                .push_bind(new.recipients.unwrap_or(0));
        });
        insert.build().persistent(messages.len() == 1).execute(&mut *conn).await?;
        let ids = messages.iter().map(|new| new.id);
        seq = feed::append_messages(conn, ids, now).await?;
    }
    Ok(seq)
}

/// One message.
///
/// # Errors
/// [`StoreError`]
pub async fn get(conn: &mut SqliteConnection, id: EventId) -> Result<Option<Message>, StoreError> {
    let row: Option<MessageRow> =
        sqlx::query_as(select!("WHERE m.event_id = ?")).bind(id.as_bytes()).fetch_optional(conn).await?;
    Ok(row.map(|row| row.0))
}

/// These messages, in no order; missing ones are left out.
///
/// # Errors
/// [`StoreError`]
pub async fn get_all(
    conn: &mut SqliteConnection,
    ids: &[EventId],
) -> Result<HashMap<EventId, Message>, StoreError> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<MessageRow> =
        sqlx::query_as(select!("WHERE m.event_id IN (SELECT unhex(value) FROM json_each(?))"))
            .bind(json_list(ids.iter().map(EventId::as_bytes)))
            .fetch_all(conn)
            .await?;
    Ok(rows.into_iter().map(|MessageRow(message)| (message.id, message)).collect())
}

/// Blobs as SQLite's json_each and unhex read them.
fn json_list<'b>(blobs: impl Iterator<Item = &'b [u8]>) -> String {
    let hex: Vec<_> = blobs.map(|blob| format!("\"{}\"", hex::encode(blob))).collect();
    format!("[{}]", hex.join(","))
}

/// A page of a channel, oldest first; `None` when the bounding message is not in the channel.
///
/// # Errors
/// [`StoreError`]
pub async fn page(
    conn: &mut SqliteConnection,
    channel: ChannelId,
    page: Page,
    limit: u32,
) -> Result<Option<MessagePage>, StoreError> {
    let bound = match page {
        Page::Latest => None,
        Page::Before(id) | Page::After(id) => {
            let row: Option<(i64, Vec<u8>, i64)> =
                sqlx::query_as("SELECT lamport, log, seq FROM message WHERE event_id = ? AND channel_id = ?")
                    .bind(id.as_bytes())
                    .bind(channel.as_bytes())
                    .fetch_optional(&mut *conn)
                    .await?;
            match row {
                None => return Ok(None),
                Some(bound) => Some(bound),
            }
        }
    };
    let sql = match page {
        Page::Latest => {
            select!("WHERE m.channel_id = ? ORDER BY m.lamport DESC, m.log DESC, m.seq DESC LIMIT ?")
        }
        Page::Before(_) => select!(
            "WHERE m.channel_id = ? AND (m.lamport, m.log, m.seq) < (?, ?, ?) \
             ORDER BY m.lamport DESC, m.log DESC, m.seq DESC LIMIT ?"
        ),
        Page::After(_) => select!(
            "WHERE m.channel_id = ? AND (m.lamport, m.log, m.seq) > (?, ?, ?) \
             ORDER BY m.lamport, m.log, m.seq LIMIT ?"
        ),
    };
    let mut query = sqlx::query_as(sql).bind(channel.as_bytes());
    if let Some((lamport, log, seq)) = bound {
        query = query.bind(lamport).bind(log).bind(seq);
    }
    // One more than asked for tells whether there is more.
    let rows: Vec<MessageRow> = query.bind(i64::from(limit) + 1).fetch_all(conn).await?;
    let has_more = rows.len() > limit as usize;
    let mut messages: Vec<_> = rows.into_iter().take(limit as usize).map(|row| row.0).collect();
    if !matches!(page, Page::After(_)) {
        messages.reverse();
    }
    Ok(Some(MessagePage { messages, has_more }))
}

/// Whether `id` is a message of that channel.
///
/// # Errors
/// [`StoreError`]
pub async fn is_in_channel(
    conn: &mut SqliteConnection,
    id: EventId,
    channel: ChannelId,
) -> Result<bool, StoreError> {
    let found: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM message WHERE event_id = ? AND channel_id = ?")
            .bind(id.as_bytes())
            .bind(channel.as_bytes())
            .fetch_optional(conn)
            .await?;
    Ok(found.is_some())
}

/// Another member's server stored this frame: its messages are SENT.
///
/// # Errors
/// [`StoreError`]
pub async fn in_custody(conn: &mut SqliteConnection, frame: FrameId, now: i64) -> Result<(), StoreError> {
    let ids: Vec<Vec<u8>> = sqlx::query_scalar(
        "UPDATE message SET state = 2 WHERE state = 1 AND event_id IN \
         (SELECT ref FROM outbox WHERE frame_id = ? AND kind = 'event') RETURNING event_id",
    )
    .bind(frame.as_bytes())
    .fetch_all(&mut *conn)
    .await?;
    announce(conn, &ids, now).await
}

/// A device of another account processed own events `after < seq <= up_to` of `log`.
///
/// Counts it for the messages that were sealed when the device was a member.
///
/// # Errors
/// [`StoreError`]
pub async fn acknowledged(
    conn: &mut SqliteConnection,
    gid: GroupId,
    log: LogId,
    (after, up_to): (u64, u64),
    joined_epoch: u64,
    now: i64,
) -> Result<(), StoreError> {
    let ids: Vec<Vec<u8>> = sqlx::query_scalar(
        "UPDATE message SET delivered_to = delivered_to + 1, \
         state = CASE WHEN delivered_to + 1 >= recipients THEN 3 ELSE 2 END \
         WHERE gid = ? AND log = ? AND seq > ? AND seq <= ? AND state IN (1, 2) AND sealed_epoch >= ? \
         RETURNING event_id",
    )
    .bind(gid.as_bytes())
    .bind(log.as_bytes())
    .bind(after.cast_signed())
    .bind(up_to.cast_signed())
    .bind(joined_epoch.cast_signed())
    .fetch_all(&mut *conn)
    .await?;
    announce(conn, &ids, now).await
}

/// A device that had processed own events up to `cursor` left: nobody waits for it any more.
///
/// # Errors
/// [`StoreError`]
pub async fn recipient_left(
    conn: &mut SqliteConnection,
    gid: GroupId,
    log: LogId,
    cursor: u64,
    joined_epoch: u64,
    now: i64,
) -> Result<(), StoreError> {
    let ids: Vec<Vec<u8>> = sqlx::query_scalar(
        "UPDATE message SET recipients = MAX(recipients - 1, delivered_to), \
         state = CASE WHEN delivered_to >= recipients - 1 THEN 3 ELSE state END \
         WHERE gid = ? AND log = ? AND seq > ? AND state IN (1, 2) AND sealed_epoch >= ? RETURNING event_id",
    )
    .bind(gid.as_bytes())
    .bind(log.as_bytes())
    .bind(cursor.cast_signed())
    .bind(joined_epoch.cast_signed())
    .fetch_all(&mut *conn)
    .await?;
    announce(conn, &ids, now).await
}

/// Nobody else is a member any more: what is still on its way has reached everyone there is.
///
/// # Errors
/// [`StoreError`]
pub async fn nobody_left(conn: &mut SqliteConnection, gid: GroupId, now: i64) -> Result<(), StoreError> {
    let ids: Vec<Vec<u8>> = sqlx::query_scalar(
        "UPDATE message SET state = 3, recipients = delivered_to WHERE gid = ? AND state IN (1, 2) \
         RETURNING event_id",
    )
    .bind(gid.as_bytes())
    .fetch_all(&mut *conn)
    .await?;
    announce(conn, &ids, now).await
}

/// Own messages that were not sealed before the account left or was removed will never go out.
///
/// # Errors
/// [`StoreError`]
pub async fn fail_unsent(
    conn: &mut SqliteConnection,
    gid: GroupId,
    reason: &'static str,
    now: i64,
) -> Result<(), StoreError> {
    let ids: Vec<Vec<u8>> = sqlx::query_scalar(
        "UPDATE message SET state = 5, reason = ? WHERE gid = ? AND state = 1 RETURNING event_id",
    )
    .bind(reason)
    .bind(gid.as_bytes())
    .fetch_all(&mut *conn)
    .await?;
    announce(conn, &ids, now).await
}

/// Own messages no other server stored yet.
///
/// # Errors
/// [`StoreError`]
pub async fn count_queued(conn: &mut SqliteConnection) -> Result<u32, StoreError> {
    let n: i64 =
        // By way of the outbox, which is short: no index of the messages is kept for this.
        sqlx::query_scalar(
            "SELECT COUNT(*) FROM outbox o JOIN message m ON m.event_id = o.ref \
             WHERE o.kind = 'event' AND m.state = 1",
        )
        .fetch_one(conn)
        .await?;
    Ok(u32::try_from(n).unwrap_or(u32::MAX))
}

/// Writes a feed row with the delivery of each message as it is now.
async fn announce(conn: &mut SqliteConnection, ids: &[Vec<u8>], now: i64) -> Result<(), StoreError> {
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO feed (at, kind, subject, detail) \
         SELECT ?, ?, event_id, state || ',' || delivered_to || ',' || recipients FROM message \
         WHERE event_id IN (SELECT unhex(value) FROM json_each(?)) ORDER BY rowid",
    )
    .bind(now)
    .bind(feed::KIND_DELIVERY)
    .bind(json_list(ids.iter().map(Vec::as_slice)))
    .execute(conn)
    .await?;
    Ok(())
}

fn state_number(state: DeliveryState) -> i64 {
    match state {
        DeliveryState::Queued => 1,
        DeliveryState::Sent => 2,
        DeliveryState::Delivered => 3,
        DeliveryState::Failed => 5,
    }
}

/// The delivery state of this stored number.
///
/// # Errors
/// [`StoreError::Corrupt`]
pub(super) fn state_from(number: i64) -> Result<DeliveryState, StoreError> {
    Ok(match number {
        1 => DeliveryState::Queued,
        2 => DeliveryState::Sent,
        3 => DeliveryState::Delivered,
        5 => DeliveryState::Failed,
        _ => return Err(StoreError::Corrupt),
    })
}
