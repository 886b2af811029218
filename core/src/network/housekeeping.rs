//! What time undoes: old secrets, old frames, old feed rows, groups that nobody is using.

use std::{sync::Arc, time::Duration};

use super::{Network, SlotError, health};
use crate::{
    clock::now_ms,
    model::GroupHealth,
    store::{StoreError, feed, frame_set, health as stored, invite, outbox, request},
};

const LOOK: Duration = Duration::from_secs(60);
/// Rounds between two sweeps of what is kept for days.
const SWEEP_EVERY: u32 = 60;
/// Frames, letters and farewells are kept this long, milliseconds: 30 days.
const FRAME_LIFE_MS: i64 = 30 * 24 * 3_600_000;
/// The link of a join that succeeded is kept this long, milliseconds: 72 hours, as the states of a branch are.
const LINK_LIFE_MS: i64 = 72 * 3_600_000;
/// The ids of frames are kept twice as long, milliseconds: others who got a frame later still offer it.
const FRAME_ID_LIFE_MS: i64 = 2 * FRAME_LIFE_MS;
/// Bytes of the frames that are kept of one group. Beyond it those that came first go: who lacks these gets
/// their events carried.
const FRAME_QUOTA_BYTES: u64 = 64 << 20;
/// Frames of an unknown state wait this long for the commit that explains them, milliseconds.
const PARKED_LIFE_MS: i64 = 10 * 60_000;
/// A group that resyncs for longer is stalled, milliseconds.
const RESYNC_MS: i64 = 60_000;

impl Network {
    /// Tidies up once a minute.
    pub(super) async fn keep_house(self: Arc<Self>) {
        let mut round = 0_u32;
        let mut emptied = 0;
        let mut seen = None;
        let mut young = false;
        loop {
            if round.is_multiple_of(SWEEP_EVERY) {
                if let Err(error) = self.sweep().await {
                    tracing::warn!(%error, "old rows could not be dropped");
                }
                // Some secrets go by their age alone.
                young = true;
            }
            round = round.wrapping_add(1);
            tokio::time::sleep(LOOK).await;
            self.groups.unload_idle();
            self.reconciling.forget_idle();
            self.set_last_state(None);
            // An idle account's database stays closed.
            if seen == Some(self.vault.steps()) && !young {
                continue;
            }
            young = Box::pin(self.prune_all()).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "old secrets could not be deleted");
                true
            });
            if let Err(error) = Box::pin(self.evict()).await {
                tracing::warn!(%error, "frames could not be dropped");
            }
            let before = self.vault.steps();
            let waiting = Box::pin(self.look_after_health()).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "the health of groups could not be noted");
                true
            });
            let done = self
                .empty_log(emptied)
                .await
                .inspect_err(|error| tracing::warn!(%error, "deleted secrets are still in the log"));
            let clean = done.as_ref().is_ok_and(|until| *until != emptied);
            emptied = done.unwrap_or(emptied);
            // One step was the look itself; what came in between is looked at next time.
            seen = (clean && !waiting).then_some(before + 1);
        }
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        self.vault
            .write(|tx| {
                Box::pin(async move {
                    let (conn, now) = (tx.conn(), now_ms());
                    frame_set::drop_old(conn, now - FRAME_LIFE_MS, now - FRAME_ID_LIFE_MS).await?;
                    outbox::drop_addressed_before(conn, now - FRAME_LIFE_MS).await?;
                    request::forget_old(conn, now).await?;
                    invite::forget_links(conn, now - LINK_LIFE_MS).await?;
                    feed::trim(conn, now).await
                })
            })
            .await
    }

    /// Keeps the frames of every group within their quota, a few at a time.
    async fn evict(&self) -> Result<(), StoreError> {
        let over = {
            let mut reader = self.vault.read().await?;
            frame_set::over_quota(reader.conn(), FRAME_QUOTA_BYTES).await?
        };
        for (gid, mut excess) in over {
            while excess > 0 {
                let left: Result<u64, StoreError> = self
                    .vault
                    .write(move |tx| Box::pin(async move { frame_set::evict(tx.conn(), gid, excess).await }))
                    .await;
                let left = left?;
                // Nothing is left that could go.
                excess = if left < excess { left } else { 0 };
            }
        }
        Ok(())
    }

    /// True when a state is kept only because it is young.
    async fn prune_all(&self) -> Result<bool, SlotError> {
        let mut young = false;
        for gid in self.live_groups().await? {
            let mut slot = self.groups.lock(gid).await;
            young |= self.prune(&mut slot).await?;
        }
        Ok(young)
    }

    /// A group that is still catching up after a minute is stalled: nobody reachable has what it lacks.
    /// With nothing left that waits, it is as well as before. True while something waits.
    async fn look_after_health(&self) -> Result<bool, StoreError> {
        self.vault
            .write(|tx| {
                Box::pin(async move {
                    let now = now_ms();
                    for gid in stored::groups_in(tx.conn(), GroupHealth::Resyncing, now - RESYNC_MS).await? {
                        health::set(tx, gid, GroupHealth::Stalled, health::MISSING).await?;
                    }
                    stored::drop_parked_before(tx.conn(), now - PARKED_LIFE_MS).await?;
                    health::recover_those_that_wait_for_nothing(tx).await?;
                    stored::anything_waits(tx.conn()).await
                })
            })
            .await
    }

    /// Empties the database's log when secrets were deleted since `before`: it may still hold them.
    /// Gives the time until which nothing is left in it.
    async fn empty_log(&self, before: i64) -> Result<i64, StoreError> {
        let now = now_ms();
        let pruned = self.vault.peek(move |conn| Box::pin(stored::pruned_since(conn, before))).await?;
        // A reader may be in the way: the next round tries again.
        Ok(if !pruned || self.vault.empty_log().await? { now - 1 } else { before })
    }
}
