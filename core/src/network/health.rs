//! What a group's health is, told once when it changes.

use super::Network;
use crate::{
    clock::now_ms,
    id::GroupId,
    journal::tell,
    model::GroupHealth,
    store::{StoreError, WriteTx, feed::Entry, mls},
};

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
    if mls::set_health(tx.conn(), gid, health, detail, now).await? {
        tell(tx, &Entry::Health(gid, health, detail.into()), now).await?;
    }
    Ok(())
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
