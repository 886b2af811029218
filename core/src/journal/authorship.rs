//! Whether the author of an event was a member when it was written.

use super::Reading;
use crate::{
    event::SignedEvent,
    store::{StoreError, WriteTx, branch, roster},
};

/// What is known of an event's author.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Authorship {
    /// A member then, or still one.
    Member,
    /// The state that it names would tell, and is not known here: of a branch that lost, perhaps.
    Unknown,
    /// No member then, or before this account came.
    Foreign,
}

/// Looks the author up in the state that the event names: members come and go on every branch, and come back.
/// Of what came from its author, sealed in the epoch `via_epoch`, MLS has shown it.
pub(super) async fn authorship(
    tx: &mut WriteTx<'_>,
    reading: &Reading<'_>,
    signed: &SignedEvent,
    via_epoch: Option<u64>,
) -> Result<Authorship, StoreError> {
    let event = &signed.event;
    let author = reading.members.get(&event.author);
    if via_epoch.is_some() || author.is_some_and(|author| author.left_epoch.is_none()) {
        return Ok(Authorship::Member);
    }
    match roster::is_in_roster(tx.conn(), event.gid, event.seen_sid, event.author).await? {
        Some(true) => return Ok(Authorship::Member),
        Some(false) => return Ok(Authorship::Foreign),
        None => {}
    }
    let Some((author, me)) = author.zip(reading.members.of(&reading.me)) else {
        return Ok(Authorship::Unknown);
    };
    let (joined, came) = (author.joined_epoch, me.joined_epoch);
    let entered = branch::entered(tx.conn(), event.gid).await?.map_or(came, |entered| entered.max(came));
    Ok(match author.left_epoch {
        // Messages of those who left before this account came are not for us.
        Some(left) if joined < left && left <= came && !event.body.is_state() => Authorship::Foreign,
        // A state from before its coming, or that it missed before it came back: its author was there then.
        Some(left) if joined < left && joined < entered => Authorship::Member,
        // Whose end is not after its beginning was counted out by another branch.
        _ => Authorship::Unknown,
    })
}
