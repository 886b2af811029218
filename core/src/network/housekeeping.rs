//! What time undoes: old secrets, old frames, old feed rows, groups that nobody is using.

use std::{sync::Arc, time::Duration};

use super::Network;
use crate::{
    clock::now_ms,
    model::GroupHealth,
    store::{StoreError, feed, frame, mls, outbox, request},
};

const LOOK: Duration = Duration::from_secs(60);
/// Rounds between two sweeps of what is kept for days.
const SWEEP_EVERY: u32 = 60;
/// A state older than this that is not the head loses its secrets, milliseconds: 72 h.
const STATE_LIFE_MS: i64 = 72 * 3_600_000;
/// Frames, letters and farewells are kept this long, milliseconds: 30 days.
const FRAME_LIFE_MS: i64 = 30 * 24 * 3_600_000;

impl Network {
    /// Tidies up once a minute.
    pub(super) async fn keep_house(self: Arc<Self>) {
        let mut round = 0_u32;
        loop {
            if round.is_multiple_of(SWEEP_EVERY)
                && let Err(error) = self.sweep().await
            {
                tracing::warn!(%error, "old rows could not be dropped");
            }
            round = round.wrapping_add(1);
            tokio::time::sleep(LOOK).await;
            self.groups.unload_idle();
            if let Err(error) = self.name_stalled().await {
                tracing::warn!(%error, "groups cannot be read");
            }
        }
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        self.vault
            .write(|tx| {
                Box::pin(async move {
                    let (conn, now) = (tx.conn(), now_ms());
                    for gid in mls::live_groups(conn).await? {
                        mls::prune(conn, gid, 0, now - STATE_LIFE_MS, now).await?;
                    }
                    frame::drop_before(conn, now - FRAME_LIFE_MS).await?;
                    outbox::drop_addressed_before(conn, now - FRAME_LIFE_MS).await?;
                    request::forget_old(conn, now).await?;
                    feed::trim(conn, now).await
                })
            })
            .await
    }

    /// A group that is still catching up after a minute is stalled: nobody reachable has what it lacks.
    async fn name_stalled(&self) -> Result<(), StoreError> {
        let resyncing = {
            let mut reader = self.vault.read().await?;
            mls::groups_in_health(reader.conn(), GroupHealth::Resyncing, now_ms() - 60_000).await?
        };
        for gid in resyncing {
            let detail = "changes to the group are missing, and no one connected has them";
            self.note_health(gid, GroupHealth::Stalled, detail).await;
        }
        Ok(())
    }
}
