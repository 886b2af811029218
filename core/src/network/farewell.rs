//! Telling removed devices that they are out: those that were cut off read no commit, and may have to hear first
//! how many members follow it. So each is told until it says that it knows.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{Network, SlotError, branches::Telling};
use crate::{
    certificate::Certificate,
    id::{DeviceId, GroupId},
    router::PeerId,
    store::{StoreError, commit, outbox, tip},
};

/// Between the first two tries; doubled after each.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Between two tries, at most.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Commits shown at a time.
const MAX_COMMITS: u32 = 256;

/// The devices that are being told.
#[derive(Default)]
pub(super) struct Farewells(Mutex<HashSet<(GroupId, DeviceId)>>);

impl Farewells {
    fn with<T>(&self, f: impl FnOnce(&mut HashSet<(GroupId, DeviceId)>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// True for the one who is to tell it.
    fn begin(&self, gid: GroupId, device: DeviceId) -> bool {
        self.with(|told| told.insert((gid, device)))
    }

    fn end(&self, gid: GroupId, device: DeviceId) {
        self.with(|told| told.remove(&(gid, device)));
    }
}

impl Network {
    /// Shows a removed device that is connected where the others went, until it says that it is out, is gone
    /// itself, or is a member again.
    pub(super) fn say_farewell(self: &Arc<Self>, gid: GroupId, peer: PeerId, device: DeviceId) {
        if !self.farewells.begin(gid, device) {
            return;
        }
        let network = Arc::clone(self);
        self.spawn("farewell", async move {
            match Box::pin(network.tell_until_it_knows(gid, &peer, device)).await {
                Ok(()) | Err(SlotError::NotAMember) => {}
                Err(error) => {
                    tracing::warn!(%error, "a removed member could not be told where the others went")
                }
            }
            network.farewells.end(gid, device);
        });
    }

    async fn tell_until_it_knows(
        &self,
        gid: GroupId,
        peer: &PeerId,
        device: DeviceId,
    ) -> Result<(), SlotError> {
        let (mut wait, mut shown) = (FIRST_WAIT, false);
        while let Some(certificate) = self.links.certificate(peer).filter(|of| of.device == device)
            && self.is_gone(gid, &certificate).await?
        {
            if !shown {
                let frames = self.way_out(gid, device).await?;
                shown = self.push_now(peer, frames).await;
            }
            // It goes where it is told that the others went.
            if self.tell_supports(gid, peer, Telling { skeletons: true, pull: false }).await? {
                let done: Result<(), StoreError> = self
                    .vault
                    .write(move |tx| {
                        Box::pin(async move { outbox::farewell_done(tx.conn(), gid, device).await })
                    })
                    .await;
                return Ok(done?);
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        Ok(())
    }

    /// Whether a device was a member of a group, and is none any more.
    pub(super) async fn is_gone(&self, gid: GroupId, certificate: &Certificate) -> Result<bool, SlotError> {
        let mut slot = self.groups.lock(gid).await;
        let members = slot.members(&self.vault).await?;
        let row = members.get(&certificate.device).filter(|row| row.account == certificate.account);
        Ok(row.is_some_and(|row| row.left_epoch.is_some()))
    }

    /// The commits from where a removed device was last known to be on the way to its removal, of all branches,
    /// and nothing after.
    async fn way_out(&self, gid: GroupId, device: DeviceId) -> Result<Vec<Vec<u8>>, SlotError> {
        let mut slot = self.groups.lock(gid).await;
        let head = slot.head_id(&self.vault).await?;
        let members = slot.members(&self.vault).await?;
        let Some(row) = members.get(&device) else { return Ok(Vec::new()) };
        let dag = slot.dag(&self.vault, self.keys.device_id()).await?;
        let mut reader = self.vault.read().await?;
        let told = tip::head(reader.conn(), gid, device).await?;
        let since = told.map_or(row.joined_epoch, |(sid, epoch)| {
            let common = dag.canonical(&sid, &head).and_then(|sid| dag.node(&sid));
            common.map_or(epoch, |node| node.epoch)
        });
        let until = row.left_epoch.unwrap_or(since);
        Ok(commit::commit_frames(reader.conn(), gid, (since, until), MAX_COMMITS).await?)
    }
}
