//! Sealed frames: own ones, opened ones and commits for those who were away, and parked ones.

use sqlx::SqliteConnection;

use super::StoreError;
use crate::id::{FrameId, FramePlace, GroupId, StateId};

/// Why a frame is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameStatus {
    /// One's own application frame.
    Own,
    /// Its state is not known yet.
    Parked,
    /// Opened, or never to be; kept for others, or only its id against repeats.
    Done,
}

/// A frame to be stored.
pub struct NewFrame<'a> {
    /// The frame.
    pub id: FrameId,
    /// Its group; `None` while its state is not known.
    pub gid: Option<GroupId>,
    /// Names its state.
    pub env_tag: &'a [u8; 16],
    /// The sealed bytes; `None` when only its id is kept.
    pub bytes: Option<&'a [u8]>,
    /// Why it is kept.
    pub status: FrameStatus,
    /// The peer that carried it here; `None` for own.
    pub carrier: Option<&'a [u8]>,
    /// Where it stands among those that others may ask for; `None`: nobody is given it.
    pub place: Option<FramePlace>,
}

impl<'a> NewFrame<'a> {
    /// One that nobody needs any more: its id against repeats.
    pub fn done(id: FrameId, gid: GroupId, env_tag: &'a [u8; 16]) -> Self {
        Self {
            id,
            gid: Some(gid),
            env_tag,
            bytes: None,
            status: FrameStatus::Done,
            carrier: None,
            place: None,
        }
    }

    fn size(&self) -> i64 {
        i64::try_from(self.bytes.map_or(0, <[u8]>::len)).unwrap_or(i64::MAX)
    }
}

/// Stores a frame; false when it was there already.
///
/// # Errors
/// [`StoreError`]
pub async fn insert(conn: &mut SqliteConnection, frame: &NewFrame<'_>, now: i64) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "INSERT OR IGNORE INTO frame (frame_id, gid, env_tag, bytes, status, carrier, received_at, place, size) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(frame.id.as_bytes())
    .bind(frame.gid.as_ref().map(GroupId::as_bytes))
    .bind(frame.env_tag.as_slice())
    .bind(frame.bytes)
    .bind(match frame.status {
        FrameStatus::Own => "own",
        FrameStatus::Parked => "parked",
        FrameStatus::Done => "done",
    })
    .bind(frame.carrier)
    .bind(now)
    .bind(frame.place.as_ref().map(FramePlace::as_bytes))
    .bind(frame.size())
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Keeps a commit for members who were away.
///
/// # Errors
/// [`StoreError`]
pub async fn keep_commit(
    conn: &mut SqliteConnection,
    (frame, place): (FrameId, FramePlace),
    gid: GroupId,
    env_tag: &[u8; 16],
    bytes: &[u8],
    now: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO frame (frame_id, gid, env_tag, bytes, status, received_at, place, size) \
         VALUES (?, ?, ?, ?, 'commit', ?, ?, ?) \
         ON CONFLICT (frame_id) DO UPDATE SET gid = excluded.gid, bytes = excluded.bytes, status = 'commit', \
         place = excluded.place, size = excluded.size",
    )
    .bind(frame.as_bytes())
    .bind(gid.as_bytes())
    .bind(env_tag.as_slice())
    .bind(bytes)
    .bind(now)
    .bind(place.as_bytes())
    .bind(i64::try_from(bytes.len()).unwrap_or(i64::MAX))
    .execute(conn)
    .await?;
    Ok(())
}

/// A parked frame was opened, and stays for others.
///
/// # Errors
/// [`StoreError`]
pub async fn keep_parked(
    conn: &mut SqliteConnection,
    frame: FrameId,
    gid: GroupId,
    place: FramePlace,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE frame SET status = 'done', gid = ?, place = ?, size = LENGTH(bytes) \
         WHERE frame_id = ? AND status = 'parked'",
    )
    .bind(gid.as_bytes())
    .bind(place.as_bytes())
    .bind(frame.as_bytes())
    .execute(conn)
    .await?;
    Ok(())
}

/// A parked frame was opened and is of no use to others, or never will be opened.
///
/// # Errors
/// [`StoreError`]
pub async fn unpark(conn: &mut SqliteConnection, frame: FrameId) -> Result<(), StoreError> {
    sqlx::query("UPDATE frame SET status = 'done', bytes = NULL WHERE frame_id = ? AND status = 'parked'")
        .bind(frame.as_bytes())
        .execute(conn)
        .await?;
    Ok(())
}

/// A peer is where this device is: what it brought before of states that are not known here was of a way that it
/// left. Only the ids are kept, against repeats; true when there were any.
///
/// # Errors
/// [`StoreError`]
pub async fn give_up_parked(conn: &mut SqliteConnection, carrier: &[u8]) -> Result<bool, StoreError> {
    let done =
        sqlx::query("UPDATE frame SET status = 'done', bytes = NULL WHERE status = 'parked' AND carrier = ?")
            .bind(carrier)
            .execute(conn)
            .await?;
    Ok(done.rows_affected() > 0)
}

/// Parked frames of a state, and the peer that carried each.
///
/// # Errors
/// [`StoreError`]
pub async fn parked(
    conn: &mut SqliteConnection,
    env_tag: &[u8; 16],
) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT bytes, COALESCE(carrier, x'') FROM frame WHERE env_tag = ? AND status = 'parked' ORDER BY rowid",
    )
    .bind(env_tag.as_slice())
    .fetch_all(conn)
    .await?)
}

/// Bytes that a peer has parked here.
///
/// # Errors
/// [`StoreError`]
pub async fn parked_bytes(conn: &mut SqliteConnection, carrier: &[u8]) -> Result<u64, StoreError> {
    let sum: i64 = sqlx::query_scalar(
        "SELECT COALESCE(SUM(LENGTH(bytes)), 0) FROM frame WHERE status = 'parked' AND carrier = ?",
    )
    .bind(carrier)
    .fetch_one(conn)
    .await?;
    Ok(sum.unsigned_abs())
}

/// Own frames of a group that no other server stored yet, oldest first.
///
/// # Errors
/// [`StoreError`]
pub async fn own_unstored(
    conn: &mut SqliteConnection,
    gid: GroupId,
    limit: u32,
) -> Result<Vec<Vec<u8>>, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT f.bytes FROM (SELECT frame_id, MIN(id) AS first FROM outbox \
             WHERE status = 'sealed' AND gid = ? AND frame_id IS NOT NULL \
             GROUP BY frame_id ORDER BY first LIMIT ?) o \
         JOIN frame f USING (frame_id) WHERE f.bytes IS NOT NULL ORDER BY o.first",
    )
    .bind(gid.as_bytes())
    .bind(limit)
    .fetch_all(conn)
    .await?)
}

/// What an author's device sealed as its message number `counter` in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation {
    /// The state.
    pub sid: StateId,
    /// The author's leaf.
    pub leaf: u32,
    /// How many application messages of the leaf came before.
    pub counter: u32,
}

/// The hash of the message that was opened as this one.
///
/// # Errors
/// [`StoreError`]
pub async fn opened_message(
    conn: &mut SqliteConnection,
    generation: Generation,
) -> Result<Option<[u8; 32]>, StoreError> {
    let hash: Option<Vec<u8>> = sqlx::query_scalar(
        "SELECT message_hash FROM opened_generation WHERE sid = ? AND leaf = ? AND counter = ?",
    )
    .bind(generation.sid.as_bytes())
    .bind(generation.leaf)
    .bind(generation.counter)
    .fetch_optional(conn)
    .await?;
    hash.map(|hash| hash.try_into().map_err(|_| StoreError::Corrupt)).transpose()
}

/// Notes that a message of this generation was opened; false when another one was before.
///
/// # Errors
/// [`StoreError`]
pub async fn note_opened(
    conn: &mut SqliteConnection,
    generation: Generation,
    message_hash: &[u8; 32],
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "INSERT OR IGNORE INTO opened_generation (sid, leaf, counter, message_hash) VALUES (?, ?, ?, ?)",
    )
    .bind(generation.sid.as_bytes())
    .bind(generation.leaf)
    .bind(generation.counter)
    .bind(message_hash.as_slice())
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}
