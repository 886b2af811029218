//! What a group's health is, told once when it changes.

use super::Network;
use crate::{
    clock::now_ms,
    id::GroupId,
    journal::tell,
    model::GroupHealth,
    store::{StoreError, WriteTx, feed::Entry, health as stored},
};

/// Why a group is forked.
pub(super) const SET_ASIDE: &str = "a change of the group does not fit the state held here and was set aside";
/// Why a group resyncs.
const ON_THEIR_WAY: &str = "changes to the group are on their way";
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
    let now = now_ms();
    if stored::set(tx.conn(), gid, health, detail, now).await? {
        tell(tx, &Entry::Health(gid, health, detail.into()), now).await?;
    }
    Ok(())
}

/// Nothing is wrong any more, unless a commit that did not fit is still set aside.
///
/// # Errors
/// [`StoreError`]
pub(super) async fn recover(tx: &mut WriteTx<'_>, gid: GroupId) -> Result<(), StoreError> {
    if stored::has_set_aside(tx.conn(), gid).await? {
        set(tx, gid, GroupHealth::Forked, SET_ASIDE).await
    } else {
        set(tx, gid, GroupHealth::Ok, "").await
    }
}

/// Frames of a state that is not known here came: a commit is on its way. With a commit set aside they may
/// as well be of its side, where nothing here leads, so the fork stays told.
///
/// # Errors
/// [`StoreError`]
pub(super) async fn resync(tx: &mut WriteTx<'_>, gid: GroupId) -> Result<(), StoreError> {
    if stored::has_set_aside(tx.conn(), gid).await? {
        set(tx, gid, GroupHealth::Forked, SET_ASIDE).await
    } else {
        set(tx, gid, GroupHealth::Resyncing, ON_THEIR_WAY).await
    }
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
