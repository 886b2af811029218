//! When joins are tried: again and again until each ends, one try at a time in each group, and none waits
//! for another group's.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use tokio::sync::OwnedMutexGuard;

use super::Network;
use crate::{
    id::GroupId,
    router::Backoff,
    store::{StoreError, invite},
};

/// Pending joins are looked over at least this often; with none, only when one is asked for.
const LOOK: Duration = Duration::from_secs(30);
/// Joins that are tried at a time; the others wait for one of them to end.
const MAX_TRIES: usize = 16;

/// Joins under way. Holds no more groups than there are callers.
#[derive(Default)]
pub(super) struct Joining {
    turns: Mutex<HashMap<GroupId, Arc<tokio::sync::Mutex<()>>>>,
}

impl Joining {
    /// Waits for one's turn to try or to end the join of a group.
    pub(super) async fn turn(&self, gid: GroupId) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever has or awaits a turn holds a second reference.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(gid).or_default())
        };
        turn.lock_owned().await
    }
}

impl Network {
    /// Retries pending joins until each ends, a few at a time: some wait long for an answer.
    pub(super) async fn finish_joins(self: Arc<Self>) {
        let mut waits: HashMap<GroupId, (Backoff, Instant)> = HashMap::new();
        let mut tries = FuturesUnordered::new();
        let mut under_way = HashSet::new();
        loop {
            let pending = match self.pending_joins().await {
                Ok(pending) => pending,
                Err(error) => {
                    tracing::warn!(%error, "pending joins cannot be read");
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
            };
            waits.retain(|gid, _| pending.contains(gid));
            let now = Instant::now();
            for gid in pending {
                let (backoff, next) = waits.entry(gid).or_insert_with(|| (Backoff::default(), now));
                if *next > now || under_way.len() >= MAX_TRIES || !under_way.insert(gid) {
                    continue;
                }
                let wait = backoff.next(rand::random());
                tries.push(self.finish_join(gid).map(move |()| (gid, wait)));
            }
            let waiting = waits.iter().filter(|(gid, _)| !under_way.contains(*gid));
            let next = waiting.map(|(_, (_, next))| next.saturating_duration_since(now)).min();
            // With all tries taken, the end of one is what there is to wait for.
            let next = next.filter(|_| under_way.len() < MAX_TRIES).unwrap_or(LOOK).min(LOOK);
            tokio::select! {
                // A connection came up, or a join was asked for: that may be the one waited for.
                () = self.wake.join.notified() => waits.clear(),
                Some((gid, wait)) = tries.next() => {
                    under_way.remove(&gid);
                    if let Some((_, next)) = waits.get_mut(&gid) {
                        *next = Instant::now() + wait;
                    }
                }
                () = tokio::time::sleep(next), if !waits.is_empty() => {}
            }
        }
    }

    async fn finish_join(self: &Arc<Self>, gid: GroupId) {
        if let Err(error) = Box::pin(self.try_join(gid)).await {
            tracing::warn!(%error, "a join could not be tried");
        }
    }

    /// A join was asked for.
    pub(crate) fn join_soon(&self) {
        self.wake.join.notify_one();
    }

    async fn pending_joins(&self) -> Result<Vec<GroupId>, StoreError> {
        let mut reader = self.vault.read().await?;
        invite::pending_joins(reader.conn()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn groups_do_not_wait_for_each_other_and_are_forgotten_when_done() {
        let joining = Joining::default();
        let (one, other) = (GroupId([1; 16]), GroupId([2; 16]));
        let held = joining.turn(one).await;
        assert!(joining.turn(other).now_or_never().is_some(), "another group");
        assert!(joining.turn(one).now_or_never().is_none(), "the same group");
        drop(held);
        assert!(joining.turn(one).now_or_never().is_some(), "its turn came");
        drop(joining.turn(other).await);
        assert_eq!(joining.turns.lock().unwrap().len(), 1);
    }
}
