//! Taking others' events: each in its place in its log, after all it refers to.

use super::{
    Effects, Reading,
    append::{advance, event_row, new_log},
    authorship::{Authorship, authorship},
    project::project,
};
use crate::{
    event::{Knowledge, MAX_COUNTER, SignedEvent, check_lamport},
    id::{DeviceId, EventId, LogId, StateId},
    store::{
        StoreError, WriteTx,
        event::{self, EventRow, EventStatus, Parked},
        logbook::{Head, LogBook, LogRow},
    },
};

/// Logs that one device may write in one group: one for each time it entered.
const MAX_LOGS_OF_DEVICE: i64 = 256;
/// Events of one group that may wait for others at a time.
const MAX_PARKED: i64 = 10_000;
/// So long an event waits for the state that shows its author to be a member. Then its place alone is kept: what
/// members wrote after it is not to wait for someone whom only a lost branch let in.
const MAX_UNEXPLAINED_MS: i64 = 60_000;
/// Logs of devices that never were members here: of those whom only lost branches let in.
const MAX_LOGS_OF_STRANGERS: i64 = 256;
/// A place whose time nobody here can check may lie at most this far ahead of everything known.
const MAX_LEAP: u64 = 1 << 20;

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// In its place and projected.
    Processed(Effects),
    /// Kept until what it refers to is here, and what shows its author to be a member.
    Parked,
    /// Held already, or older than this device's knowledge.
    Duplicate,
    /// Not from a member, or not where its log says.
    Rejected(Rejection),
}

/// Why an event is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// Its author was no member when it was written.
    UnknownAuthor,
    /// The log belongs to someone else, or has another event in this place.
    Equivocation,
    /// Its lamport time or references cannot be.
    Order,
    /// Too much is waiting already.
    Flood,
}

/// A place in a log whose content is not for this device.
pub struct Withheld {
    /// The log.
    pub log: LogId,
    /// The place.
    pub seq: u64,
    /// The event there.
    pub id: EventId,
    /// Its lamport.
    pub lamport: u64,
    /// The log's author.
    pub author: DeviceId,
}

/// Whether an event's place is now.
enum Place {
    Now(LogRow),
    Later,
    Past,
    Wrong(Rejection),
}

/// Takes an event whose signature was checked. `via_epoch` is the epoch its author sealed it in, when
/// it came from its author.
///
/// # Errors
/// [`StoreError`]
pub async fn apply(
    tx: &mut WriteTx<'_>,
    book: &mut LogBook,
    reading: &Reading<'_>,
    signed: &SignedEvent,
    via_epoch: Option<u64>,
) -> Result<Applied, StoreError> {
    let row = event_row(signed, via_epoch, reading.now);
    match (place(tx, book, signed).await?, authorship(tx, reading, signed, via_epoch).await?) {
        (Place::Now(at), Authorship::Member) => {
            book.take(tx.conn(), row).await?;
            advance(book, at, signed);
            Ok(Applied::Processed(project(tx, book, reading, signed, None).await?))
        }
        (Place::Now(at), Authorship::Foreign) => {
            keep_place(tx, book, reading, at, signed).await?;
            Ok(Applied::Rejected(Rejection::UnknownAuthor))
        }
        (Place::Later, Authorship::Foreign) => Ok(Applied::Rejected(Rejection::UnknownAuthor)),
        (Place::Later, _) | (Place::Now(_), Authorship::Unknown) => {
            if event::count_parked(tx.conn(), book.gid()).await? >= MAX_PARKED {
                return Ok(Applied::Rejected(Rejection::Flood));
            }
            let new = book.park(tx.conn(), &row).await?;
            Ok(if new { Applied::Parked } else { Applied::Duplicate })
        }
        (Place::Past, _) => Ok(Applied::Duplicate),
        (Place::Wrong(rejection), _) => {
            note_broken(tx, book, reading, signed, rejection).await?;
            Ok(Applied::Rejected(rejection))
        }
    }
}

/// Takes a state event that a newcomer was given: it lies below the floor of its log.
///
/// # Errors
/// [`StoreError`]
pub async fn apply_state(
    tx: &mut WriteTx<'_>,
    book: &mut LogBook,
    reading: &Reading<'_>,
    signed: &SignedEvent,
) -> Result<(), StoreError> {
    let event = &signed.event;
    let log = book.log(tx.conn(), event.log).await?;
    let below = log.is_some_and(|log| log.device == event.author && event.seq <= log.floor);
    if !below || !event.body.is_state() {
        return Ok(());
    }
    let row = event_row(signed, None, reading.now);
    event::insert(tx.conn(), book.gid(), &row, EventStatus::Processed).await?;
    project(tx, book, reading, signed, None).await?;
    Ok(())
}

/// Takes note of a place in a log whose content is withheld; false when it is not its turn.
///
/// # Errors
/// [`StoreError`]
pub async fn apply_withheld(
    tx: &mut WriteTx<'_>,
    book: &mut LogBook,
    reading: &Reading<'_>,
    withheld: &Withheld,
) -> Result<bool, StoreError> {
    let at = match book.log(tx.conn(), withheld.log).await? {
        Some(at) => at,
        None if reading.members.get(&withheld.author).is_some() => new_log(withheld.author),
        None => return Ok(false),
    };
    if !may_be_withheld(tx, book, reading, withheld, &at).await? {
        return Ok(false);
    }
    let leap = latest_time(book, withheld.log, &at);
    let in_order = withheld.seq == at.contiguous + 1
        && withheld.author == at.device
        && withheld.lamport > at.lamport_there
        && withheld.lamport <= leap;
    if !in_order {
        return Ok(false);
    }
    withhold(tx, book, at, withheld, reading.now).await?;
    Ok(true)
}

/// The place of an event without its content: what refers to it and what comes after it can go on.
async fn withhold(
    tx: &mut WriteTx<'_>,
    book: &mut LogBook,
    at: LogRow,
    withheld: &Withheld,
    now: i64,
) -> Result<(), StoreError> {
    let row = EventRow {
        id: withheld.id,
        log: withheld.log,
        seq: withheld.seq,
        lamport: withheld.lamport,
        author: withheld.author,
        kind: 0,
        signed: None,
        seen_sid: StateId([0; 32]),
        via_epoch: None,
        received_at: now,
    };
    event::insert(tx.conn(), book.gid(), &row, EventStatus::Withheld).await?;
    let head = Head { seq: withheld.seq, id: withheld.id, lamport: withheld.lamport };
    book.set_log(
        withheld.log,
        LogRow { contiguous: withheld.seq, hash_there: withheld.id, lamport_there: withheld.lamport, ..at },
    );
    book.advance_heads(withheld.log, head, std::iter::empty());
    Ok(())
}

/// Keeps the place of an event whose content does not count here, in its log and for those who refer to it.
async fn keep_place(
    tx: &mut WriteTx<'_>,
    book: &mut LogBook,
    reading: &Reading<'_>,
    at: LogRow,
    signed: &SignedEvent,
) -> Result<(), StoreError> {
    let SignedEvent { id, event, .. } = signed;
    let is_stranger = reading.members.get(&event.author).is_none();
    if is_stranger && event::logs_of_strangers(tx.conn(), book.gid()).await? >= MAX_LOGS_OF_STRANGERS {
        return Ok(());
    }
    let (log, seq, lamport, author) = (event.log, event.seq, event.lamport, event.author);
    withhold(tx, book, at, &Withheld { log, seq, id: *id, lamport, author }, reading.now).await
}

/// Content is withheld only from before this account came: of authors who were there first, and only
/// where a log begins. Anything else would let a member hide what others wrote.
async fn may_be_withheld(
    tx: &mut WriteTx<'_>,
    book: &LogBook,
    reading: &Reading<'_>,
    withheld: &Withheld,
    at: &LogRow,
) -> Result<bool, StoreError> {
    let (Some(me), Some(author)) = (reading.members.of(&reading.me), reading.members.get(&withheld.author))
    else {
        return Ok(false);
    };
    if author.joined_epoch >= me.joined_epoch {
        return Ok(false);
    }
    Ok(at.contiguous == at.floor || event::is_withheld(tx.conn(), book.gid(), at.hash_there).await?)
}

/// Lets parked events take their place as long as any can.
///
/// # Errors
/// [`StoreError`]
pub async fn drain_parked(
    tx: &mut WriteTx<'_>,
    book: &mut LogBook,
    reading: &Reading<'_>,
) -> Result<Effects, StoreError> {
    let mut effects = Effects::default();
    if !book.has_parked(tx.conn()).await? {
        return Ok(effects);
    }
    // In (lamport, log, seq) order what an event refers to comes before it: one pass is enough.
    for Parked { signed, via_epoch, received_at } in event::parked(tx.conn(), book.gid()).await? {
        let signed = SignedEvent::decode_stored(&signed).map_err(|_| StoreError::Corrupt)?;
        match place(tx, book, &signed).await? {
            Place::Now(at) => match authorship(tx, reading, &signed, via_epoch).await? {
                Authorship::Member => {
                    event::unpark(tx.conn(), signed.id).await?;
                    advance(book, at, &signed);
                    let reading = Reading { now: received_at, ..*reading };
                    effects.merge(project(tx, book, &reading, &signed, None).await?);
                }
                Authorship::Unknown if reading.now - received_at < MAX_UNEXPLAINED_MS => {}
                Authorship::Unknown | Authorship::Foreign => {
                    event::drop_parked(tx.conn(), signed.id).await?;
                    keep_place(tx, book, reading, at, &signed).await?;
                }
            },
            Place::Later => {}
            Place::Past => event::drop_parked(tx.conn(), signed.id).await?,
            Place::Wrong(rejection) => {
                note_broken(tx, book, reading, &signed, rejection).await?;
                event::drop_parked(tx.conn(), signed.id).await?;
            }
        }
    }
    Ok(effects)
}

async fn place(tx: &mut WriteTx<'_>, book: &mut LogBook, signed: &SignedEvent) -> Result<Place, StoreError> {
    let event = &signed.event;
    let at = match book.log(tx.conn(), event.log).await? {
        Some(at) => at,
        None if event::logs_of_device(tx.conn(), book.gid(), event.author).await? >= MAX_LOGS_OF_DEVICE => {
            return Ok(Place::Wrong(Rejection::Flood));
        }
        None => new_log(event.author),
    };
    if at.device != event.author {
        return Ok(Place::Wrong(Rejection::Equivocation));
    }
    if event.seq <= at.contiguous {
        let there = book.at(tx.conn(), event.log, event.seq).await?;
        let same = there.is_none_or(|(id, _)| id == signed.id);
        return Ok(if same { Place::Past } else { Place::Wrong(Rejection::Equivocation) });
    }
    if event.seq > at.contiguous + 1 {
        // What comes before it in a broken log may never come.
        return Ok(if at.broken { Place::Wrong(Rejection::Equivocation) } else { Place::Later });
    }
    if event.prev != (at.contiguous > 0).then_some(at.hash_there) {
        return Ok(Place::Wrong(Rejection::Equivocation));
    }
    let Some(deps) = knowledge_of_deps(tx, book, signed).await? else { return Ok(Place::Later) };
    let prev = event.prev.map(|_| Knowledge::Exact(at.lamport_there));
    Ok(match check_lamport(event, prev, &deps) {
        Ok(()) => Place::Now(at),
        Err(_) => Place::Wrong(Rejection::Order),
    })
}

/// An author whose event is refused may have told others what they took: whoever refers to that is
/// heard without it.
async fn note_broken(
    tx: &mut WriteTx<'_>,
    book: &mut LogBook,
    reading: &Reading<'_>,
    signed: &SignedEvent,
    rejection: Rejection,
) -> Result<(), StoreError> {
    let event = &signed.event;
    let at = match book.log(tx.conn(), event.log).await? {
        Some(at) => at,
        None if reading.members.get(&event.author).is_some() => new_log(event.author),
        // Anyone can make devices, and logs of theirs that begin wrong.
        None => return Ok(()),
    };
    if rejection != Rejection::Flood && at.device == event.author && !at.broken {
        book.set_log(event.log, LogRow { broken: true, ..at });
    }
    Ok(())
}

/// The latest time that is believed of a place in a log that nobody here can check.
fn latest_time(book: &LogBook, log: LogId, at: &LogRow) -> u64 {
    let known = book.heads_besides(log).first().map_or(0, |(_, head)| head.lamport);
    known.max(at.lamport_there).saturating_add(MAX_LEAP).min(MAX_COUNTER - 1)
}

/// What is known of the events it refers to; `None` while one is not here yet.
async fn knowledge_of_deps(
    tx: &mut WriteTx<'_>,
    book: &mut LogBook,
    signed: &SignedEvent,
) -> Result<Option<Vec<Knowledge>>, StoreError> {
    let mut known = Vec::with_capacity(signed.event.deps.len());
    for dep in &signed.event.deps {
        let Some(log) = book.log(tx.conn(), dep.log).await? else { return Ok(None) };
        if dep.seq > log.contiguous && !log.broken {
            return Ok(None);
        }
        if dep.seq <= log.floor {
            known.push(Knowledge::AtMost(log.floor_lamport));
            continue;
        }
        let there = if dep.seq == log.contiguous {
            Some((log.hash_there, log.lamport_there))
        } else {
            book.at(tx.conn(), dep.log, dep.seq).await?
        };
        match there {
            Some((id, lamport)) if id == dep.event_id => known.push(Knowledge::Exact(lamport)),
            // Its author wrote something else to us. Whoever refers to it is not to suffer for that.
            _ => known.push(Knowledge::AtMost(latest_time(book, dep.log, &log))),
        }
    }
    Ok(Some(known))
}
