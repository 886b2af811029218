//! What a group's health is, told once when it changes.

use super::Network;
use crate::{
    clock::now_ms,
    id::GroupId,
    journal::tell,
    model::GroupHealth,
    store::{
        StoreError, WriteTx,
        feed::Entry,
        health::{self as stored, Teller},
        rejoin,
    },
};

/// Why a group is forked.
pub(super) const BEYOND: &str = "the others went on in a state that this device cannot enter";
/// Why a group is forked while its member asks for a fresh leaf.
pub(super) const REJOINING: &str = "rejoining: the others went on in a state that this device cannot enter, and it asked them to let it in again";
/// Why a group resyncs.
const ON_THEIR_WAY: &str = "changes to the group are on their way";
/// Why a group is stalled in which this device is an old copy of itself.
pub(super) const RESTORED: &str =
    "an old copy of this account's data was put back, or a second one is running: nothing is sent from here";
/// Why a group is forked in which this device is an old copy of itself, and asks for a fresh leaf.
pub(super) const RETURNING: &str = "rejoining: an old copy of this account's data was put back, or a second one is running; the others were asked to let it in again";
/// Why a group is stalled in which another copy of this device has its place.
pub(super) const SUCCEEDED: &str = "a second copy of this account's data was let in in place of this one: stop this one, nothing is sent from here";
/// Why a group that resyncs is stalled.
pub(super) const MISSING: &str = "changes to the group are missing, and no one connected has them";
/// Why a group whose next commit is here is stalled all the same.
pub(super) const UNFOLLOWED: &str = "a change of the group cannot be followed by this device";

/// Why a group is stalled whose owner runs a newer version.
pub(super) const NEWER: &str = "the space needs a newer version of this software";

/// Sets a group's health inside a step; the feed hears of it when it changed.
///
/// # Errors
/// [`StoreError`]
pub(super) async fn set(
    tx: &mut WriteTx<'_>,
    gid: GroupId,
    health: GroupHealth,
    detail: &'static str,
) -> Result<(), StoreError> {
    set_by(tx, gid, (health, detail), Teller::Any).await
}

async fn set_by(
    tx: &mut WriteTx<'_>,
    gid: GroupId,
    (health, detail): (GroupHealth, &'static str),
    teller: Teller,
) -> Result<(), StoreError> {
    let now = now_ms();
    if stored::set(tx.conn(), gid, (health, detail), teller, now).await? {
        tell(tx, &Entry::Health(gid, health, detail.into()), now).await?;
    }
    Ok(())
}

/// Nothing is wrong any more.
///
/// # Errors
/// [`StoreError`]
pub(super) async fn recover(tx: &mut WriteTx<'_>, gid: GroupId) -> Result<(), StoreError> {
    set(tx, gid, GroupHealth::Ok, "").await
}

/// Groups that nothing is missing of any more are as well as before.
///
/// # Errors
/// [`StoreError`]
pub(super) async fn recover_those_that_wait_for_nothing(tx: &mut WriteTx<'_>) -> Result<(), StoreError> {
    for gid in stored::waiting_for_nothing(tx.conn(), MISSING).await? {
        recover(tx, gid).await?;
    }
    Ok(())
}

/// Frames of a state that is not known here came: a commit is on its way. What stands in the way otherwise
/// stays told.
///
/// # Errors
/// [`StoreError`]
pub(super) async fn resync(tx: &mut WriteTx<'_>, gid: GroupId) -> Result<(), StoreError> {
    match stored::get(tx.conn(), gid).await? {
        Some((GroupHealth::Ok | GroupHealth::Resyncing, _)) => {
            set(tx, gid, GroupHealth::Resyncing, ON_THEIR_WAY).await
        }
        _ => Ok(()),
    }
}

/// What a device says that is an old copy of itself, whatever else is wrong.
///
/// # Errors
/// [`StoreError`]
pub(super) async fn set_of_copy(
    tx: &mut WriteTx<'_>,
    gid: GroupId,
    health: GroupHealth,
    detail: &'static str,
) -> Result<(), StoreError> {
    set_by(tx, gid, (health, detail), Teller::Copies).await
}

/// The others are in a state that this device cannot enter.
///
/// # Errors
/// [`StoreError`]
pub(super) async fn beyond(tx: &mut WriteTx<'_>, gid: GroupId) -> Result<(), StoreError> {
    let asked = rejoin::open(tx.conn(), gid).await?.is_some();
    let why = if asked { REJOINING } else { BEYOND };
    set(tx, gid, GroupHealth::Forked, why).await
}

impl Network {
    /// Sets a group's health.
    pub(super) async fn note_health(&self, gid: GroupId, health: GroupHealth, detail: &'static str) {
        let noted: Result<(), StoreError> =
            self.vault.write(move |tx| Box::pin(set(tx, gid, health, detail))).await;
        if let Err(error) = noted {
            tracing::warn!(%error, "a group's health could not be noted");
        }
    }
}
