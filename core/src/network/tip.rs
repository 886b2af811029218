//! Tips: what this device holds, told to fellow members soon after it changes and every half minute.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use prost::Message as _;
use spacepanda_proto::peer::v1::{FrameOutcome, LogPosition, SignedTip, Tip};
use tokio::sync::Notify;

use super::{
    Network, Slot, SlotError, health, intake::Taking, link::Outgoing, misbehaviour::Offence, reconcile::Lack,
};
use crate::{
    certificate::verify,
    clock::now_ms,
    dag::Support,
    id::{DeviceId, GroupId, LogId, StateId},
    router::PeerId,
    store::{Notice, StoreError, WriteTx, feed, frame, logbook, message, mls, outbox, rejoin, tip},
};

/// What changes is collected this long before it is told.
const GATHER: Duration = Duration::from_millis(40);
/// Every group is told at least this often, give or take [`JITTER`].
const PERIOD: Duration = Duration::from_secs(30);
const JITTER: Duration = Duration::from_secs(10);
/// Logs of one Tip.
const MAX_POSITIONS: usize = 4_096;
/// States before that of a Tip among which the one is looked for that its device was let into.
const MAX_WAY: usize = 64;
const CONTEXT: &[u8] = b"spacepanda/tip/1\0";

/// When each group is to be told next, and the counters of one's own Tips.
#[derive(Default)]
pub(super) struct Tips {
    due: Mutex<HashMap<GroupId, Instant>>,
    wake: Notify,
    /// The last counter used and the last reserved.
    counters: tokio::sync::Mutex<(u64, u64)>,
}

impl Tips {
    /// Something changed: tell soon.
    pub(super) fn soon(&self, gid: GroupId) {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        due.entry(gid).or_insert_with(|| Instant::now() + GATHER);
        self.wake.notify_one();
    }

    /// Others know greater counters than were used: what is reserved is of no use.
    pub(super) async fn count_anew(&self) {
        *self.counters.lock().await = (0, 0);
    }

    /// The groups whose time has come, and when to look again.
    fn take_due(&self, now: Instant) -> (Vec<GroupId>, Option<Instant>) {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let ready: Vec<_> = due.iter().filter(|(_, at)| **at <= now).map(|(gid, _)| *gid).collect();
        due.retain(|_, at| *at > now);
        (ready, due.values().min().copied())
    }
}

/// How far a device says it is.
#[derive(Clone, Debug)]
pub(super) struct Position {
    pub(super) head: StateId,
    pub(super) epoch: u64,
    pub(super) logs: HashMap<LogId, u64>,
    /// It waits for what it lacks.
    pub(super) pull: bool,
    /// Its word that the head is this one: counter and signature.
    pub(super) support: Option<(u64, [u8; 64])>,
}

impl Network {
    /// Sends Tips when groups changed, and to everyone every half minute.
    pub(super) async fn send_tips(self: Arc<Self>) {
        let mut periodic = Instant::now() + period();
        loop {
            let (ready, next) = self.tips.take_due(Instant::now());
            for gid in ready {
                Box::pin(self.tip_to_all(gid)).await;
            }
            if Instant::now() >= periodic {
                periodic = Instant::now() + period();
                self.all_groups_soon().await;
            }
            let next = next.map_or(periodic, |next| next.min(periodic));
            tokio::select! {
                () = self.tips.wake.notified() => {}
                () = tokio::time::sleep_until(next.into()) => {}
            }
        }
    }

    async fn all_groups_soon(&self) {
        if self.links.count() == 0 {
            return;
        }
        match self.live_groups().await {
            Ok(groups) => groups.into_iter().for_each(|gid| self.tips.soon(gid)),
            Err(error) => tracing::warn!(%error, "groups cannot be read"),
        }
    }

    async fn tip_to_all(&self, gid: GroupId) {
        if self.reconciling.is_catching_up(gid) {
            // Told at the end: until then everyone would send what is being fetched.
            return;
        }
        let mut slot = self.groups.lock(gid).await;
        let Ok(peers) = self.connected_members(&mut slot).await else { return };
        if peers.is_empty() {
            return;
        }
        match self.sealed_tip(&mut slot, false).await {
            Ok(tip) => {
                for (_, peer) in peers {
                    self.links.push(&peer, tip.clone());
                }
            }
            Err(SlotError::NotAMember) => {}
            Err(error) => tracing::warn!(%error, "a Tip could not be made"),
        }
    }

    /// Tells one peer where this device is.
    pub(super) async fn tip_to(&self, gid: GroupId, peer: &PeerId) {
        let mut slot = self.groups.lock(gid).await;
        match self.sealed_tip(&mut slot, false).await {
            Ok(tip) => self.links.push(peer, tip),
            Err(SlotError::NotAMember) => {}
            Err(error) => tracing::warn!(%error, "a Tip could not be made"),
        }
    }

    /// This device's Tip, sealed on the head. With `pull` it asks for what it shows to be missing at once.
    pub(super) async fn sealed_tip(&self, slot: &mut Slot, pull: bool) -> Result<Outgoing, SlotError> {
        let gid = slot.gid();
        let logs = {
            let mut reader = self.vault.read().await?;
            logbook::logs(reader.conn(), gid).await?
        };
        let counter = self.next_counter().await?;
        let support = self.own_support(slot).await?;
        let state = slot.head(&self.vault).await?;
        let positions = logs
            .into_iter()
            .take(MAX_POSITIONS)
            .map(|(log, row)| LogPosition { log: log.0.to_vec(), contiguous: row.contiguous })
            .collect();
        let tip = Tip {
            device_key: self.keys.device_id().0.to_vec(),
            counter,
            head_sid: state.facts().sid.0.to_vec(),
            epoch: state.facts().epoch,
            positions,
            pull,
            support_counter: support.counter,
            support_signature: support.signature.to_vec(),
        }
        .encode_to_vec();
        let signature = self.keys.identity.sign(&signed_bytes(gid, &tip)).to_vec();
        let signed = SignedTip { tip, signature }.encode_to_vec();
        Ok(Outgoing::untracked(state.seal_tip(&signed)?))
    }

    async fn next_counter(&self) -> Result<u64, StoreError> {
        let mut counters = self.tips.counters.lock().await;
        if counters.0 >= counters.1 {
            let first = self
                .vault
                .write(|tx| Box::pin(async move { tip::reserve_counters(tx.conn()).await }))
                .await?;
            *counters = (first - 1, first - 1 + tip::COUNTER_BLOCK);
        }
        counters.0 += 1;
        Ok(counters.0)
    }

    /// Takes a Tip that a peer pushed: acknowledgements, and what its sender lacks.
    pub(super) async fn take_tip(
        self: &Arc<Self>,
        slot: &mut Slot,
        taking: &Taking<'_>,
    ) -> Result<FrameOutcome, SlotError> {
        let Taking { carrier, state, opened, .. } = taking;
        let peer = carrier.peer;
        let gid = slot.gid();
        let Some((device, counter, position)) = read_tip(gid, &opened.body) else {
            self.offend(peer, Offence::Signature);
            return Ok(FrameOutcome::Rejected);
        };
        let in_roster = {
            let roster = &slot.state(&self.vault, state.sid).await?.facts().standing.roster;
            roster.iter().any(|leaf| leaf.leaf == opened.leaf && leaf.certificate.device == device)
        };
        if !in_roster || position.head != state.sid || position.epoch != state.epoch {
            self.offend(peer, Offence::WrongSender);
            return Ok(FrameOutcome::Rejected);
        }
        if device == self.keys.device_id() {
            return Ok(FrameOutcome::Duplicate);
        }
        let Some(moved) = self.repairs.heard(gid, device, counter, &position) else {
            return Ok(FrameOutcome::Duplicate);
        };
        if moved {
            self.suspect(gid, peer, Lack::Events(position.logs.clone()));
        }
        self.acknowledge(slot, peer, (device, counter), &position).await?;
        self.hear_tip(slot, peer, device, &position).await?;
        self.repairs.wake();
        Ok(FrameOutcome::Stored)
    }

    /// A Tip is a vote for its head.
    async fn hear_tip(
        self: &Arc<Self>,
        slot: &mut Slot,
        peer: &PeerId,
        device: DeviceId,
        position: &Position,
    ) -> Result<(), SlotError> {
        let Some((counter, signature)) = position.support else { return Ok(()) };
        let support = Support { device, counter, sid: position.head, signature };
        let dag = slot.dag(&self.vault, self.keys.device_id()).await?;
        if dag.supports().of(&device) == Some(&support) {
            return Ok(());
        }
        if support.verify(&slot.gid()).is_err() {
            self.offend(peer, Offence::Signature);
            return Ok(());
        }
        self.hear(slot, vec![support], &[]).await?;
        Ok(())
    }

    async fn acknowledge(
        &self,
        slot: &mut Slot,
        peer: &PeerId,
        (device, counter): (DeviceId, u64),
        position: &Position,
    ) -> Result<(), SlotError> {
        let gid = slot.gid();
        let members = slot.members(&self.vault).await?;
        let Some(joined_epoch) = members.current(&device).map(|row| row.joined_epoch) else { return Ok(()) };
        let is_here = slot.head_id(&self.vault).await? == position.head;
        let dag = slot.dag(&self.vault, self.keys.device_id()).await?;
        let way = std::iter::successors(dag.node(&position.head), |node| dag.parent(&node.sid));
        let way = way.map(|node| node.sid).take(MAX_WAY).collect();
        let position = position.clone();
        let carrier = is_here.then(|| peer.to_bytes());
        let ack = Acknowledgement { gid, device, counter, joined_epoch, position, way, carrier };
        self.vault.write(move |tx| Box::pin(async move { ack.store(tx).await })).await?;
        Ok(())
    }
}

struct Acknowledgement {
    gid: GroupId,
    device: DeviceId,
    counter: u64,
    joined_epoch: u64,
    position: Position,
    /// The states that led to where it is, itself included.
    way: Vec<StateId>,
    /// The peer, when it is where this device is.
    carrier: Option<Vec<u8>>,
}

impl Acknowledgement {
    async fn store(self, tx: &mut WriteTx<'_>) -> Result<(), StoreError> {
        let Self { gid, device, counter, joined_epoch, position, way, carrier } = self;
        if !tip::note(tx.conn(), gid, device, counter, position.head, position.epoch).await? {
            return Ok(());
        }
        if let Some(carrier) = carrier
            && frame::give_up_parked(tx.conn(), &carrier).await?
        {
            health::recover_those_that_wait_for_nothing(tx).await?;
        }
        let conn = tx.conn();
        // Whoever is to come back tells Tips of where it was before, too.
        if outbox::letter_state(conn, gid, device).await?.is_some_and(|sid| way.contains(&sid)) {
            outbox::letter_done(conn, gid, device).await?;
        }
        let Some(group) = mls::group(conn, gid).await? else { return Ok(()) };
        let mut moved = false;
        for log in rejoin::former_logs(conn, gid).await?.into_iter().chain([group.own_log]) {
            let Some(said) = position.logs.get(&log).copied() else { continue };
            // Nobody can have processed what was not written yet.
            let reached = said.min(logbook::written(conn, gid, log).await?);
            let before = tip::cursor(conn, gid, device, log).await?;
            if reached > before {
                message::acknowledged(conn, gid, log, (before, reached), joined_epoch, now_ms()).await?;
                tip::set_cursor(conn, gid, device, log, reached).await?;
                outbox::events_done(conn, gid, log, reached).await?;
                moved = true;
            }
        }
        if moved {
            let seq = feed::newest(conn).await?;
            tx.notify(Notice::Feed(seq));
        }
        Ok(())
    }
}

pub(super) fn read_tip(gid: GroupId, body: &[u8]) -> Option<(DeviceId, u64, Position)> {
    let signed = SignedTip::decode(body).ok()?;
    let tip = Tip::decode(&*signed.tip).ok()?;
    let device = DeviceId::try_from(&*tip.device_key).ok()?;
    verify(&device.0, &signed_bytes(gid, &signed.tip), &signed.signature).ok()?;
    if tip.positions.len() > MAX_POSITIONS {
        return None;
    }
    let logs = tip
        .positions
        .iter()
        .map(|at| Some((LogId::try_from(&*at.log).ok()?, at.contiguous)))
        .collect::<Option<_>>()?;
    let head = StateId::try_from(&*tip.head_sid).ok()?;
    let signature = tip.support_signature.as_slice().try_into().ok();
    let support = signature.map(|signature| (tip.support_counter, signature));
    Some((device, tip.counter, Position { head, epoch: tip.epoch, logs, pull: tip.pull, support }))
}

fn signed_bytes(gid: GroupId, tip: &[u8]) -> Vec<u8> {
    [CONTEXT, gid.as_bytes(), tip].concat()
}

fn period() -> Duration {
    PERIOD - JITTER + JITTER.mul_f64(2.0 * rand::random::<f64>())
}
