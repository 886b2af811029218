//! When joins are tried: again and again until each ends, one try at a time in each group, and none waits
//! for another group's.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{OwnedMutexGuard, mpsc};

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
        // The wait after each try that is under way.
        let mut under_way: HashMap<GroupId, Duration> = HashMap::new();
        let (ended, mut ends) = mpsc::channel(MAX_TRIES);
        loop {
            let pending = self.pending_joins().await;
            let unknown = pending.is_err();
            match pending {
                Ok(pending) => {
                    waits.retain(|gid, _| pending.contains(gid));
                    let now = Instant::now();
                    for gid in pending {
                        let (backoff, next) = waits.entry(gid).or_insert_with(|| (Backoff::default(), now));
                        let busy = under_way.len() >= MAX_TRIES || under_way.contains_key(&gid);
                        if *next <= now && !busy {
                            under_way.insert(gid, backoff.next(rand::random()));
                            self.spawn("join", Arc::clone(&self).finish_join(gid, ended.clone()));
                        }
                    }
                }
                Err(error) => tracing::warn!(%error, "pending joins cannot be read"),
            }
            let waiting = waits.iter().filter(|(gid, _)| !under_way.contains_key(*gid));
            let next = waiting.map(|(_, (_, next))| next.saturating_duration_since(Instant::now())).min();
            // With all tries taken, the end of one is what there is to wait for.
            let next = next.filter(|_| under_way.len() < MAX_TRIES && !unknown).unwrap_or(LOOK).min(LOOK);
            tokio::select! {
                // A connection came up, or a join was asked for: that may be the one waited for.
                () = self.wake.join.notified() => {
                    waits.clear();
                    under_way.values_mut().for_each(|wait| *wait = Duration::ZERO);
                }
                Some(gid) = ends.recv() => {
                    let wait = under_way.remove(&gid).unwrap_or_default();
                    if let Some((_, next)) = waits.get_mut(&gid) {
                        *next = Instant::now() + wait;
                    }
                }
                () = tokio::time::sleep(next), if unknown || !waits.is_empty() => {}
            }
        }
    }

    /// One try, on a task of its own: one that is not run could keep others from the database.
    async fn finish_join(self: Arc<Self>, gid: GroupId, ended: mpsc::Sender<GroupId>) {
        if let Err(error) = self.try_join(gid).await {
            tracing::warn!(%error, "a join could not be tried");
        }
        // Nobody listens any more when the session stops.
        let _ = ended.send(gid).await;
    }

    /// A join was asked for.
    pub(crate) fn join_soon(&self) {
        self.wake.join.notify_one();
    }

    async fn pending_joins(&self) -> Result<Vec<GroupId>, StoreError> {
        self.vault.peek(|conn| Box::pin(invite::pending_joins(conn))).await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

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
