//! Fresh keys for this device in groups in which it has not committed for long.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{Network, Pending, Slot, SlotError};
use crate::{
    clock::{duration_ms, now_ms},
    dag::{renewal::due_after, turn::Turn},
    group::requests::Batch,
    id::GroupId,
    store::skeleton,
};

/// Clocks are set and machines sleep: whoever waits for longer looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

/// When this device's keys are due in each group, milliseconds since the Unix epoch; earlier where it has
/// committed since it was found out.
#[derive(Default)]
pub(super) struct Renewals(Mutex<HashMap<GroupId, i64>>);

impl Renewals {
    /// Until the keys may be due; none if they may be so now.
    fn wait(&self, gid: GroupId, now: i64) -> Option<Duration> {
        let dues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = dues.get(&gid)?.saturating_sub(now);
        u64::try_from(rest).ok().filter(|rest| *rest > 0).map(Duration::from_millis)
    }

    fn note(&self, gid: GroupId, due: i64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(gid, due);
    }
}

impl Network {
    /// Renews this device's keys in a group when they are due, nothing is asked for, and it is its turn.
    ///
    /// # Errors
    /// [`SlotError`]
    pub(super) async fn renew_keys(self: &Arc<Self>, gid: GroupId) -> Result<Pending, SlotError> {
        let now = now_ms();
        if let Some(wait) = self.renewals.wait(gid, now) {
            return Ok(Pending::For(wait.min(LOOK_AGAIN)));
        }
        let mut slot = self.groups.lock(gid).await;
        if !self.is_on_the_way(&mut slot).await? {
            return Ok(Pending::Nothing);
        }
        self.renewals.note(gid, self.keys_due(&mut slot).await?);
        if let Some(wait) = self.renewals.wait(gid, now) {
            return Ok(Pending::For(wait.min(LOOK_AGAIN)));
        }
        let head = slot.head(&self.vault).await?;
        let (sid, standing) = (head.facts().sid, head.facts().standing.clone());
        let batch = Batch::default();
        match self.turn_to_commit(&mut slot, sid, &standing, &batch).await? {
            Turn::Now => {}
            Turn::In(wait) => return Ok(Pending::For(wait)),
            Turn::Apart => return Ok(Pending::Apart),
        }
        if let Some(pending) = self.unconfirmed(&mut slot).await? {
            return Ok(pending);
        }
        let committed = self.commit_batch(&mut slot, batch).await;
        if committed.is_err() {
            slot.forget();
        }
        committed.map(|()| Pending::Nothing)
    }

    /// When the keys that this device has in the head are due, milliseconds since the Unix epoch.
    async fn keys_due(&self, slot: &mut Slot) -> Result<i64, SlotError> {
        let (own, gid, head) = (self.keys.device_id(), slot.gid(), slot.head_id(&self.vault).await?);
        let dag = slot.dag(&self.vault, own).await?;
        let last = dag.last_renewal(&head).unwrap_or(head);
        let devices = dag.node(&head).map_or(0, |node| node.roster.devices().count());
        let mut reader = self.vault.read().await?;
        let since = skeleton::adopted_at(reader.conn(), gid, last).await?.unwrap_or_default();
        Ok(since.saturating_add(duration_ms(due_after(&own, &last, devices))))
    }
}
