//! The durable feed behind the event stream: rows name what changed, the content is read when asked for.

use sqlx::{QueryBuilder, SqliteConnection};

use super::{StoreError, health, message, peer, space};
use crate::{
    clock::time_from_ms,
    id::{AccountId, ChannelId, EventId, GroupId},
    model::{Change, Delivery, FeedItem, FeedPage, GroupHealth, JoinFailure, MemberChange, Peer, PeerState},
};

/// Rows older than this are dropped, milliseconds: 30 days.
const FEED_MEMORY_MS: i64 = 30 * 24 * 3_600_000;
/// At most this many rows are kept.
const FEED_MEMORY_ROWS: i64 = 100_000;

/// What a feed row says.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A message is new.
    Message(EventId),
    /// A membership changed.
    Member(GroupId, AccountId, MemberChange),
    /// A space is new or changed.
    Space(GroupId),
    /// The caller is no longer in it.
    SpaceGone(GroupId),
    /// A channel is new or changed.
    Channel(ChannelId),
    /// A pending join went on.
    Join(GroupId, Option<JoinFailure>),
    /// A link to a peer changed.
    Peer(Vec<u8>, PeerState),
    /// A group's health changed.
    Health(GroupId, GroupHealth, String),
}

pub(super) const KIND_MESSAGE: i64 = 1;
pub(super) const KIND_DELIVERY: i64 = 2;
const KIND_MEMBER: i64 = 3;
const KIND_SPACE: i64 = 4;
const KIND_SPACE_GONE: i64 = 5;
const KIND_CHANNEL: i64 = 6;
const KIND_JOIN: i64 = 7;
const KIND_PEER: i64 = 8;
const KIND_HEALTH: i64 = 9;

impl Entry {
    fn columns(&self) -> (i64, Vec<u8>, String) {
        match self {
            Self::Message(id) => (KIND_MESSAGE, id.0.to_vec(), String::new()),
            Self::Member(gid, account, change) => {
                let subject = [gid.as_bytes(), account.as_bytes()].concat();
                (KIND_MEMBER, subject, member_change_name(*change).into())
            }
            Self::Space(gid) => (KIND_SPACE, gid.0.to_vec(), String::new()),
            Self::SpaceGone(gid) => (KIND_SPACE_GONE, gid.0.to_vec(), String::new()),
            Self::Channel(id) => (KIND_CHANNEL, id.0.to_vec(), String::new()),
            Self::Join(gid, failure) => {
                (KIND_JOIN, gid.0.to_vec(), failure.map_or("joined", join_failure_name).into())
            }
            Self::Peer(peer, state) => (KIND_PEER, peer.clone(), peer_state_name(*state).into()),
            Self::Health(gid, health, detail) => {
                (KIND_HEALTH, gid.0.to_vec(), format!("{} {detail}", space::health_name(*health)))
            }
        }
    }
}

/// Appends rows; returns the newest seq.
///
/// # Errors
/// [`StoreError`]
pub async fn append(conn: &mut SqliteConnection, entry: &Entry, now: i64) -> Result<u64, StoreError> {
    let (kind, subject, detail) = entry.columns();
    let done = sqlx::query("INSERT INTO feed (at, kind, subject, detail) VALUES (?, ?, ?, ?)")
        .bind(now)
        .bind(kind)
        .bind(subject)
        .bind(detail)
        .execute(conn)
        .await?;
    Ok(done.last_insert_rowid().unsigned_abs())
}

/// Appends a row for each new message; gives the newest seq.
///
/// # Errors
/// [`StoreError`]
pub(super) async fn append_messages(
    conn: &mut SqliteConnection,
    ids: impl ExactSizeIterator<Item = EventId>,
    now: i64,
) -> Result<u64, StoreError> {
    let mut insert = QueryBuilder::new("INSERT INTO feed (at, kind, subject) ");
    let one = ids.len() == 1;
    insert.push_values(ids, |mut values, id| {
        values.push_bind(now).push_bind(KIND_MESSAGE).push_bind(id.0.to_vec());
    });
    let done = insert.build().persistent(one).execute(conn).await?;
    Ok(done.last_insert_rowid().unsigned_abs())
}

/// The newest seq there ever was.
///
/// # Errors
/// [`StoreError`]
pub async fn newest(conn: &mut SqliteConnection) -> Result<u64, StoreError> {
    let seq: Option<i64> = sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'feed'")
        .fetch_optional(conn)
        .await?;
    Ok(seq.unwrap_or(0).unsigned_abs())
}

/// Up to `limit` rows after `after`, with their content as it is now.
///
/// # Errors
/// [`StoreError`]
pub async fn page(
    conn: &mut SqliteConnection,
    me: AccountId,
    after: u64,
    limit: u32,
) -> Result<FeedPage, StoreError> {
    let after_row = i64::try_from(after).unwrap_or(i64::MAX);
    let rows: Vec<(i64, i64, i64, Vec<u8>, String)> =
        sqlx::query_as("SELECT seq, at, kind, subject, detail FROM feed WHERE seq > ? ORDER BY seq LIMIT ?")
            .bind(after_row)
            .bind(i64::from(limit))
            .fetch_all(&mut *conn)
            .await?;
    // Seqs have no holes of their own: the next one is there, or nothing is, or rows were dropped.
    let next_is_there = rows.first().is_some_and(|row| row.0 == after_row.saturating_add(1));
    let (newest, reset_to) = if next_is_there {
        (after, None)
    } else {
        let newest = newest(conn).await?;
        (newest, missing_before(conn, after_row, newest).await?)
    };
    let caught_up = rows.len() < limit as usize;
    let last = rows.last().map(|row| row.0.unsigned_abs());
    let mut items = Vec::with_capacity(rows.len());
    let ids = rows.iter().filter(|row| row.2 == KIND_MESSAGE).map(|row| Ok(EventId::try_from(&*row.3)?));
    let mut messages = message::get_all(conn, &ids.collect::<Result<Vec<_>, StoreError>>()?).await?;
    for (seq, at, kind, subject, detail) in rows {
        // A row whose subject is gone (a space left since) has nothing to tell any more.
        let change = match kind {
            KIND_MESSAGE => messages.remove(&EventId::try_from(&*subject)?).map(Change::MessageAdded),
            _ => resolve(conn, me, kind, &subject, &detail).await?,
        };
        if let Some(change) = change {
            items.push(FeedItem { seq: seq.unsigned_abs(), at: time_from_ms(at), change });
        }
    }
    let next_after = last.unwrap_or(if caught_up { after.max(newest) } else { after });
    Ok(FeedPage { items, next_after, reset_to, caught_up })
}

/// The oldest seq kept, when rows after `after` were already dropped.
async fn missing_before(
    conn: &mut SqliteConnection,
    after: i64,
    newest: u64,
) -> Result<Option<u64>, StoreError> {
    let oldest: Option<i64> = sqlx::query_scalar("SELECT MIN(seq) FROM feed").fetch_one(conn).await?;
    let oldest = oldest.map_or(newest + 1, i64::unsigned_abs);
    Ok((after > 0 && after.unsigned_abs() + 1 < oldest).then_some(oldest))
}

async fn resolve(
    conn: &mut SqliteConnection,
    me: AccountId,
    kind: i64,
    subject: &[u8],
    detail: &str,
) -> Result<Option<Change>, StoreError> {
    Ok(match kind {
        KIND_DELIVERY => delivery(conn, EventId::try_from(subject)?, detail).await?,
        KIND_MEMBER => {
            let (gid, account) = subject.split_at_checked(16).ok_or(StoreError::Corrupt)?;
            let (gid, account) = (GroupId::try_from(gid)?, AccountId::try_from(account)?);
            let change = member_change_from(detail)?;
            let member = space::member(conn, gid, account).await?;
            member.map(|member| Change::MemberChanged { space: gid, member, change })
        }
        KIND_SPACE => space::space(conn, me, GroupId::try_from(subject)?).await?.map(Change::SpaceChanged),
        KIND_SPACE_GONE => Some(Change::SpaceGone(GroupId::try_from(subject)?)),
        KIND_CHANNEL => {
            space::channel(conn, ChannelId::try_from(subject)?).await?.map(Change::ChannelChanged)
        }
        KIND_JOIN => {
            let failure = join_failure_from(detail);
            let space = GroupId::try_from(subject)?;
            Some(Change::JoinProgress { space, joined: failure.is_none(), failure })
        }
        KIND_PEER => {
            let state = peer_state_from(detail)?;
            peer::peer(conn, subject).await?.map(|peer| Change::PeerChanged(Peer { state, ..peer }))
        }
        KIND_HEALTH => {
            let (name, detail) = detail.split_once(' ').unwrap_or((detail, ""));
            let was = space::health_from(name)?;
            let space = GroupId::try_from(subject)?;
            let group = health::status(conn, me, space).await?.map(Box::new);
            Some(Change::GroupHealth { space, health: was, detail: detail.into(), group })
        }
        _ => return Err(StoreError::Corrupt),
    })
}

async fn delivery(
    conn: &mut SqliteConnection,
    message: EventId,
    detail: &str,
) -> Result<Option<Change>, StoreError> {
    let mut numbers = detail.split(',').map(|n| n.parse::<u32>().map_err(|_| StoreError::Corrupt));
    let mut next = || numbers.next().ok_or(StoreError::Corrupt)?;
    let (state, delivered_to, recipients) = (next()?, next()?, next()?);
    let row: Option<(Vec<u8>, Vec<u8>, String)> =
        sqlx::query_as("SELECT channel_id, gid, reason FROM message WHERE event_id = ?")
            .bind(message.as_bytes())
            .fetch_optional(conn)
            .await?;
    let Some((channel, gid, reason)) = row else { return Ok(None) };
    let state = message::state_from(i64::from(state))?;
    Ok(Some(Change::DeliveryChanged {
        message,
        channel: ChannelId::try_from(&*channel)?,
        space: GroupId::try_from(&*gid)?,
        delivery: Delivery { state, delivered_to, recipients, reason },
    }))
}

/// Drops rows beyond 30 days or 100,000 rows.
///
/// # Errors
/// [`StoreError`]
pub async fn trim(conn: &mut SqliteConnection, now: i64) -> Result<(), StoreError> {
    // Rows are in order of time: the first young one ends the search.
    sqlx::query(
        "DELETE FROM feed WHERE seq < COALESCE((SELECT MIN(seq) FROM feed WHERE at >= ?), 9223372036854775807) \
         OR seq <= (SELECT MAX(seq) FROM feed) - ?",
    )
        .bind(now - FEED_MEMORY_MS)
        .bind(FEED_MEMORY_ROWS)
        .execute(conn)
        .await?;
    Ok(())
}

fn member_change_name(change: MemberChange) -> &'static str {
    match change {
        MemberChange::Joined => "joined",
        MemberChange::Left => "left",
        MemberChange::Removed => "removed",
        MemberChange::Updated => "updated",
    }
}

fn member_change_from(name: &str) -> Result<MemberChange, StoreError> {
    Ok(match name {
        "joined" => MemberChange::Joined,
        "left" => MemberChange::Left,
        "removed" => MemberChange::Removed,
        "updated" => MemberChange::Updated,
        _ => return Err(StoreError::Corrupt),
    })
}

fn peer_state_name(state: PeerState) -> &'static str {
    match state {
        PeerState::Connected => "connected",
        PeerState::Connecting => "connecting",
        PeerState::Disconnected => "disconnected",
        PeerState::Blocked => "blocked",
    }
}

fn peer_state_from(name: &str) -> Result<PeerState, StoreError> {
    Ok(match name {
        "connected" => PeerState::Connected,
        "connecting" => PeerState::Connecting,
        "disconnected" => PeerState::Disconnected,
        "blocked" => PeerState::Blocked,
        _ => return Err(StoreError::Corrupt),
    })
}

/// The stored name of a join's failure.
pub fn join_failure_name(failure: JoinFailure) -> &'static str {
    match failure {
        JoinFailure::Invalid => "invalid",
        JoinFailure::Expired => "expired",
        JoinFailure::UsedUp => "used_up",
        JoinFailure::Revoked => "revoked",
    }
}

/// The failure of this stored name; `None` for anything else.
pub fn join_failure_from(name: &str) -> Option<JoinFailure> {
    Some(match name {
        "invalid" => JoinFailure::Invalid,
        "expired" => JoinFailure::Expired,
        "used_up" => JoinFailure::UsedUp,
        "revoked" => JoinFailure::Revoked,
        _ => return None,
    })
}
