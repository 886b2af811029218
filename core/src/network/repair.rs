//! Repairs: whoever a Tip shows to be behind gets the commits and events it lacks, from anyone who has them.

mod carry;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::{Network, Slot, SlotError, branches::Telling, link::Outgoing, tip::Position};
use crate::{
    id::{DeviceId, GroupId, StateId},
    router::PeerId,
    store::{commit, space::MemberRow},
};

/// A gap that has just been pushed about is left this long before its author repeats it.
const SETTLE: Duration = Duration::from_millis(800);
/// Someone else's events wait longer, plus up to as much again: their author goes first.
const HOLD: Duration = Duration::from_millis(1_500);
/// Commits pushed before the next Tip is awaited.
const MAX_COMMITS: u32 = 64;

/// Where every other device is, and when to help it.
#[derive(Default)]
pub(super) struct Repairs {
    devices: Mutex<HashMap<(GroupId, DeviceId), Device>>,
    wake: Notify,
}

struct Device {
    counter: u64,
    position: Option<Position>,
    /// It has just been connected, or is new here: nothing that it lacks is on its way.
    fresh: bool,
    /// It is being helped: go on as soon as it has taken what it got.
    helped: bool,
    /// When its own author's events, and others', may be repeated.
    due: Option<(Instant, Instant)>,
    /// It is fetching frames from here: before that nothing of one's own, and nothing of others', is repeated,
    /// whatever its last Tip shows to be missing.
    fetching: Option<(Instant, Instant)>,
}

impl Default for Device {
    fn default() -> Self {
        // A newcomer may have been connected before anyone here knew it for a member.
        Self { counter: 0, position: None, fresh: true, helped: false, due: None, fetching: None }
    }
}

/// A device to help now.
struct Due {
    gid: GroupId,
    device: DeviceId,
    position: Position,
    /// Others' events too, not only one's own.
    all_logs: bool,
}

impl Repairs {
    fn with<T>(&self, gid: GroupId, device: DeviceId, f: impl FnOnce(&mut Device) -> T) -> T {
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        f(devices.entry((gid, device)).or_default())
    }

    /// A new membership begins: where others were in the one before says nothing.
    pub(super) fn forget(&self, gid: GroupId) {
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        devices.retain(|(group, _), _| *group != gid);
    }

    /// A device was connected.
    pub(super) fn meet(&self, gid: GroupId, device: DeviceId) {
        self.with(gid, device, |device| {
            device.fresh = true;
            device.helped = false;
        });
    }

    /// A device said where it is: whether that is elsewhere than before. Nothing when it said so before.
    pub(super) fn heard(
        &self,
        gid: GroupId,
        device: DeviceId,
        counter: u64,
        position: &Position,
    ) -> Option<bool> {
        let now = Instant::now();
        self.with(gid, device, |device| {
            if counter <= device.counter {
                return None;
            }
            device.counter = counter;
            let before = device.position.replace(position.clone());
            let moved =
                before.is_none_or(|before| before.epoch != position.epoch || before.logs != position.logs);
            let hold = HOLD + HOLD.mul_f64(rand::random());
            if std::mem::take(&mut device.fresh) {
                device.due = Some((now, now + hold));
            } else if (device.helped && moved) || position.pull {
                device.helped = false;
                if position.pull {
                    device.fetching = None;
                }
                device.due = Some((now, now));
            } else if device.due.is_none() {
                device.due = Some((now + SETTLE, now + hold));
            }
            Some(moved)
        })
    }

    /// A device compares its frames with ours, or fetches some: what its Tip does not cover yet comes to it so.
    pub(super) fn serves(&self, gid: GroupId, device: DeviceId, fetched: bool) {
        let now = Instant::now();
        self.with(gid, device, |device| {
            let before = device.fetching.map_or(now, |(own, _)| own);
            device.fetching = Some((if fetched { now + HOLD } else { before }, now + HOLD));
        });
    }

    /// A device showed by an old frame that it is at this epoch.
    pub(super) fn behind(&self, gid: GroupId, device: DeviceId, epoch: u64) {
        let now = Instant::now();
        self.with(gid, device, |device| {
            let logs = device.position.take().map(|position| position.logs).unwrap_or_default();
            device.position =
                Some(Position { head: StateId([0; 32]), epoch, logs, pull: false, support: None });
            device.due.get_or_insert((now, now));
        });
        self.wake();
    }

    /// This device may seal now: whoever could not be helped before is looked at again.
    pub(super) fn look_again(&self, gid: GroupId) {
        let (now, mut devices) =
            (Instant::now(), self.devices.lock().unwrap_or_else(PoisonError::into_inner));
        for device in devices.iter_mut().filter(|((group, _), _)| *group == gid).map(|(_, device)| device) {
            device.due.get_or_insert((now, now + HOLD));
        }
        drop(devices);
        self.wake();
    }

    /// Look again.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    fn take_due(&self, now: Instant) -> (Vec<Due>, Option<Instant>) {
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ready = Vec::new();
        let mut next: Option<Instant> = None;
        for ((gid, id), device) in devices.iter_mut() {
            let held = |(own, all): (Instant, Instant)| {
                let (first, later) = device.fetching.unwrap_or((own, all));
                (own.max(first), all.max(later))
            };
            let Some((own, all)) = device.due.map(held) else { continue };
            if own <= now
                && let Some(position) = &device.position
            {
                let all_logs = all <= now;
                ready.push(Due { gid: *gid, device: *id, position: position.clone(), all_logs });
                // One's own were looked at; others' still have their time.
                device.due = (!all_logs).then_some((all, all));
            }
            if let Some((own, _)) = device.due.map(held) {
                next = Some(next.map_or(own, |next| next.min(own)));
            }
        }
        (ready, next)
    }
}

impl Network {
    /// Helps whoever is behind.
    pub(super) async fn make_repairs(self: Arc<Self>) {
        loop {
            let (ready, next) = self.repairs.take_due(Instant::now());
            for due in ready {
                match Box::pin(self.repair(&due)).await {
                    Ok(true) => self.repairs.with(due.gid, due.device, |device| device.helped = true),
                    Ok(false) | Err(SlotError::NotAMember) => {}
                    Err(error) => tracing::warn!(%error, "a member could not be brought up to date"),
                }
            }
            let look = next.unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
            tokio::select! {
                () = self.repairs.wake.notified() => {}
                () = tokio::time::sleep_until(look.into()) => {}
            }
        }
    }

    /// Sends a device what it lacks; true when something went out.
    async fn repair(self: &Arc<Self>, due: &Due) -> Result<bool, SlotError> {
        let mut slot = self.groups.lock(due.gid).await;
        let members = slot.members(&self.vault).await?;
        let Some(peer) = members.get(&due.device).and_then(|row| self.peer_of(row)) else { return Ok(false) };
        let epoch = slot.head(&self.vault).await?.facts().epoch;
        let Some(joined_epoch) = members.current(&due.device).map(|row| row.joined_epoch) else {
            // It does not know, or did not when it sent what it is known by.
            self.say_farewell(due.gid, peer, due.device);
            return Ok(false);
        };
        if due.position.epoch < joined_epoch {
            // Said in a membership before this one: of the time between it cannot open a commit.
            return Ok(false);
        }
        if let Some(common) = self.last_in_common(&mut slot, due).await? {
            // Events are sealed on the head: first the way there.
            let any = self.push_commits(&peer, due, (common, epoch)).await?;
            drop(slot);
            self.tell_supports(due.gid, &peer, Telling::default()).await?;
            return Ok(any);
        }
        if !self.echoes.is_confirmed(due.gid) {
            // Looked at again when this device may seal.
            self.need_echo(due.gid, vec![peer]);
            return Ok(false);
        }
        let carried = self.lacking(&mut slot, due, joined_epoch).await?;
        if carried.is_empty() {
            return Ok(false);
        }
        let carried = self.carry(&mut slot, &peer, carried).await;
        if carried.is_err() {
            slot.forget();
        }
        carried.map(|()| true)
    }

    fn peer_of(&self, member: &MemberRow) -> Option<PeerId> {
        let is_it = |(_, account, device): &(_, _, _)| (*account, *device) == (member.account, member.device);
        self.links.verified().into_iter().find(is_it).map(|(peer, _, _)| peer)
    }

    /// The epoch up to which a device is on the way to the head; nothing when it is there, or where this
    /// device has not been.
    async fn last_in_common(&self, slot: &mut Slot, due: &Due) -> Result<Option<u64>, SlotError> {
        let head = slot.head_id(&self.vault).await?;
        let dag = slot.dag(&self.vault, self.keys.device_id()).await?;
        let Some(node) = dag.node(&head) else { return Ok(None) };
        if dag.node(&due.position.head).is_none() {
            return Ok((due.position.epoch < node.epoch).then_some(due.position.epoch));
        }
        if dag.is_below(&due.position.head, &head) {
            return Ok(None);
        }
        let common = dag.canonical(&due.position.head, &head).and_then(|sid| dag.node(&sid));
        Ok(Some(common.map_or(due.position.epoch, |node| node.epoch)))
    }

    async fn push_commits(
        &self,
        peer: &PeerId,
        due: &Due,
        (common, epoch): (u64, u64),
    ) -> Result<bool, SlotError> {
        let frames = {
            let mut reader = self.vault.read().await?;
            commit::commit_frames(reader.conn(), due.gid, (common, epoch), MAX_COMMITS).await?
        };
        let any = !frames.is_empty();
        for bytes in frames {
            self.links.push(peer, Outgoing::untracked(bytes));
        }
        Ok(any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::LogId;

    const GID: GroupId = GroupId([1; 16]);
    const DEVICE: DeviceId = DeviceId([2; 32]);

    fn at(seq: u64) -> Position {
        Position {
            head: StateId([3; 32]),
            epoch: 4,
            logs: HashMap::from([(LogId([5; 16]), seq)]),
            pull: false,
            support: None,
        }
    }

    #[test]
    fn a_newcomer_is_sent_one_s_own_events_at_once_and_others_when_their_authors_had_time() {
        let repairs = Repairs::default();
        repairs.heard(GID, DEVICE, 1, &at(1));
        let due: Vec<_> = repairs.take_due(Instant::now()).0.iter().map(|due| due.all_logs).collect();
        assert_eq!(due, [false]);
        // From then on what was pushed is given time to arrive.
        repairs.heard(GID, DEVICE, 2, &at(2));
        assert!(repairs.take_due(Instant::now()).0.is_empty());
    }

    #[test]
    fn who_fetches_frames_is_not_sent_their_events_as_well_unless_it_asks() {
        let repairs = Repairs::default();
        let due = || repairs.take_due(Instant::now()).0.len();
        repairs.serves(GID, DEVICE, true);
        // Told before it had them.
        repairs.heard(GID, DEVICE, 1, &at(1));
        assert_eq!(due(), 0);
        assert!(repairs.take_due(Instant::now()).1.is_some_and(|next| next > Instant::now()));
        repairs.heard(GID, DEVICE, 2, &Position { pull: true, ..at(1) });
        assert_eq!(due(), 1);
        // When no more is fetched, what is missing then is sent.
        repairs.serves(GID, DEVICE, true);
        repairs.heard(GID, DEVICE, 3, &at(1));
        assert_eq!(repairs.take_due(Instant::now() + 3 * HOLD).0.len(), 1);
    }

    #[test]
    fn only_who_shows_progress_is_helped_on_at_once() {
        let repairs = Repairs::default();
        let later = || Instant::now() + 2 * (SETTLE + HOLD);
        repairs.heard(GID, DEVICE, 1, &at(1));
        assert_eq!(repairs.take_due(later()).0.len(), 1);
        repairs.with(GID, DEVICE, |device| device.helped = true);
        // It refused what it got: the same again would make a circle.
        repairs.heard(GID, DEVICE, 2, &at(1));
        assert!(repairs.take_due(Instant::now()).0.is_empty());
        repairs.heard(GID, DEVICE, 3, &at(2));
        assert_eq!(repairs.take_due(Instant::now()).0.len(), 1);
    }
}
