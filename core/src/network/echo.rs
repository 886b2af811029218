//! Whether this device's vault is the newest there is: after a start nothing is sealed in a group before a
//! member said what it holds of this device, and that is nothing newer.
//!
//! A vault that was put back, or runs twice, would use keys and places in its log again. It cannot know that
//! by itself; whoever got what the other copy sent does.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use spacepanda_proto::peer::v1::{Echo, EchoReply, RefusalReason, peer_request, peer_response};

use super::{
    Network, SlotError, health,
    link::{UNKNOWN_PEER_TRIES, UNKNOWN_PEER_WAIT},
    misbehaviour::Offence,
    pump::refused,
};
use crate::{
    certificate::Certificate,
    clock::now_ms,
    id::{EventId, GroupId, LogId, StateId},
    model::GroupHealth,
    router::PeerId,
    store::{
        StoreError, frame_set, logbook, mls,
        restored::{self, Held},
    },
};

/// Members are asked again after this, while none has answered and something waits to be sealed.
const AGAIN: Duration = Duration::from_secs(1);

/// In which groups this device may seal.
#[derive(Default)]
pub(super) struct Echoes {
    /// What a member told since the start: true where it holds nothing newer of this device.
    told: Mutex<HashMap<GroupId, bool>>,
    asked: Mutex<HashMap<GroupId, Instant>>,
}

impl Echoes {
    fn told(&self, gid: GroupId) -> Option<bool> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).get(&gid).copied()
    }

    /// Whether a member has confirmed since the start that it holds nothing newer of this device.
    pub(super) fn is_confirmed(&self, gid: GroupId) -> bool {
        self.told(gid) == Some(true)
    }

    /// Whether a member is known to hold something newer of this device.
    pub(super) fn is_refused(&self, gid: GroupId) -> bool {
        self.told(gid) == Some(false)
    }

    /// Seal from now on, or no more; true when that is new.
    fn set(&self, gid: GroupId, confirmed: bool) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert(gid, confirmed) != Some(confirmed)
    }

    /// Whether it is time to ask; from now on it is not.
    fn is_due(&self, gid: GroupId, now: Instant) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let due = asked.get(&gid).is_none_or(|last| now.duration_since(*last) >= AGAIN);
        if due {
            asked.insert(gid, now);
        }
        due
    }
}

/// What this device knows of itself in a group.
#[derive(Clone, Debug)]
struct Own {
    /// No Tip of its own had a greater counter.
    tip_counter: u64,
    /// Tips up to this counter were of a membership before this one.
    tip_floor: u64,
    /// The state of the Tip that the other heard is known here.
    knows_tip_state: bool,
    /// Messages sealed in the state that was asked about.
    messages: u64,
    /// Events of the log that was asked about.
    written: u64,
    /// The own event where the other's knowledge of that log ends.
    event_there: Option<EventId>,
}

/// Whether another holds something of this device that this device does not know of.
fn is_newer(held: &Held, own: &Own) -> bool {
    let tip = held.tip.is_some_and(|(counter, _)| {
        counter > own.tip_counter || (counter > own.tip_floor && !own.knows_tip_state)
    });
    let log = held.log.is_some_and(|(seq, id)| {
        seq > own.written || own.event_there.is_some_and(|own_event| own_event != id)
    });
    tip || log || held.messages > own.messages
}

impl Network {
    /// Asks a member what it holds of this device; from then on this device seals in the group, or no more.
    pub(super) async fn listen_for_echo(self: &Arc<Self>, gid: GroupId, peer: &PeerId) {
        match Box::pin(self.ask_for_echo(gid, peer)).await {
            Ok(()) | Err(SlotError::NotAMember) => {}
            Err(error) => tracing::warn!(%error, "what others hold of this device cannot be judged"),
        }
    }

    /// Something waits to be sealed, and nobody has confirmed yet: asks all connected members.
    pub(super) fn need_echo(self: &Arc<Self>, gid: GroupId, peers: Vec<PeerId>) {
        if peers.is_empty() || self.echoes.told(gid).is_some() || !self.echoes.is_due(gid, Instant::now()) {
            return;
        }
        let network = Arc::clone(self);
        self.spawn("echo", async move {
            for peer in peers {
                network.listen_for_echo(gid, &peer).await;
            }
            if network.echoes.told(gid).is_none() {
                tokio::time::sleep(AGAIN).await;
                network.wake.outbox.notify_one();
                network.wake.commit.notify_one();
            }
        });
    }

    /// Another copy of this device has its place: it seals no more.
    pub(super) fn falls_silent(&self, gid: GroupId) {
        self.echoes.set(gid, false);
    }

    /// This device has just entered a group: nobody can hold anything of a leaf and a log that are new.
    pub(crate) fn enters(&self, gid: GroupId) {
        self.echoes.set(gid, true);
    }

    async fn ask_for_echo(self: &Arc<Self>, gid: GroupId, peer: &PeerId) -> Result<(), SlotError> {
        let (head, log) = {
            let mut reader = self.vault.read().await?;
            let group = mls::group(reader.conn(), gid).await?.ok_or(SlotError::NotAMember)?;
            (group.head, group.own_log)
        };
        let request = Echo { gid: gid.0.to_vec(), state: head.0.to_vec(), log: log.0.to_vec() };
        let Some(reply) = self.echo_of(peer, request).await else { return Ok(()) };
        let Some(held) = read(&reply) else {
            self.offend(peer, Offence::Malformed);
            return Ok(());
        };
        {
            let mut reader = self.vault.read().await?;
            let group = mls::group(reader.conn(), gid).await?.ok_or(SlotError::NotAMember)?;
            if group.own_log != log {
                // It entered anew meanwhile: what was told is of its former leaf.
                return Ok(());
            }
        }
        let own = self.known_of_oneself(gid, (head, log), &held).await?;
        if is_newer(&held, &own) {
            let told = held.tip.map_or(0, |(counter, _)| counter);
            self.needs_rejoin(gid, told).await?;
            self.look_for_the_way(gid);
            return Ok(());
        }
        let noted = {
            let mut reader = self.vault.read().await?;
            restored::is_noted(reader.conn(), gid).await?
        };
        if noted {
            self.echoes.set(gid, false);
            self.look_for_the_way(gid);
        } else if self.echoes.set(gid, true) {
            self.repairs.look_again(gid);
            self.wake.outbox.notify_one();
            self.wake.commit.notify_one();
        }
        Ok(())
    }

    async fn echo_of(&self, peer: &PeerId, request: Echo) -> Option<EchoReply> {
        for _ in 0..UNKNOWN_PEER_TRIES {
            match self.ask(peer, peer_request::Kind::Echo(request.clone())).await? {
                peer_response::Kind::Echo(reply) => return Some(reply),
                // It has not checked our certificate yet, or is serving others.
                peer_response::Kind::Refusal(refusal)
                    if matches!(refusal.reason(), RefusalReason::UnknownPeer | RefusalReason::Busy) =>
                {
                    tokio::time::sleep(UNKNOWN_PEER_WAIT).await;
                }
                _ => return None,
            }
        }
        None
    }

    /// Read after the answer came: what was sealed meanwhile is known as well.
    async fn known_of_oneself(
        &self,
        gid: GroupId,
        (state, log): (StateId, LogId),
        held: &Held,
    ) -> Result<Own, SlotError> {
        let mut slot = self.groups.lock(gid).await;
        let messages = match slot.state(&self.vault, state).await {
            Ok(state) => u64::from(state.sealed_messages()),
            // Its secrets are gone, and nothing is sealed in it any more.
            Err(SlotError::Pruned) => u64::MAX,
            Err(error) => return Err(error),
        };
        let mut reader = self.vault.read().await?;
        let conn = reader.conn();
        let (tip_counter, tip_floor) = restored::own_tips(conn, gid).await?;
        Ok(Own {
            tip_counter,
            tip_floor,
            knows_tip_state: match held.tip {
                Some((_, head)) => mls::epoch_of(conn, gid, head).await?.is_some(),
                None => true,
            },
            messages,
            written: logbook::written(conn, gid, log).await?,
            event_there: match held.log {
                Some((seq, _)) => restored::event_at(conn, gid, log, seq).await?,
                None => None,
            },
        })
    }

    /// Others know more of this device than it does, and of its Tips up to this counter: it seals nothing in
    /// the group until it has entered anew. What is noted stays until then.
    async fn needs_rejoin(self: &Arc<Self>, gid: GroupId, tip_counter: u64) -> Result<(), StoreError> {
        self.echoes.set(gid, false);
        let network = Arc::clone(self);
        let noted: Result<bool, StoreError> = self
            .vault
            .write(move |tx| {
                Box::pin(async move {
                    let is_news = !restored::is_noted(tx.conn(), gid).await?;
                    if is_news {
                        health::set(tx, gid, GroupHealth::Stalled, health::RESTORED).await?;
                        network.begin_another_log(tx, gid).await?;
                    }
                    restored::note(tx.conn(), gid, tip_counter, now_ms()).await?;
                    Ok(is_news)
                })
            })
            .await;
        self.tips.count_anew().await;
        if noted? {
            tracing::warn!(
                "an old copy of this vault was put back, or another one is running: nothing is sent"
            );
        }
        Ok(())
    }

    /// Tells a member what is held of it.
    pub(super) async fn echo(
        self: &Arc<Self>,
        peer: &PeerId,
        certificate: &Certificate,
        request: Echo,
    ) -> peer_response::Kind {
        let read = (
            GroupId::try_from(&*request.gid),
            StateId::try_from(&*request.state),
            LogId::try_from(&*request.log),
        );
        let (Ok(gid), Ok(state), Ok(log)) = read else {
            self.offend(peer, Offence::Malformed);
            return refused(RefusalReason::Malformed);
        };
        match self.held_of(gid, certificate, (state, log)).await {
            Ok(Some(held)) => peer_response::Kind::Echo(wire(&held)),
            Ok(None) | Err(SlotError::NotAMember) => refused(RefusalReason::NotAMember),
            Err(error) => {
                tracing::warn!(%error, "what is held of a member cannot be told");
                refused(RefusalReason::Busy)
            }
        }
    }

    async fn held_of(
        &self,
        gid: GroupId,
        certificate: &Certificate,
        (sid, log): (StateId, LogId),
    ) -> Result<Option<Held>, SlotError> {
        let device = certificate.device;
        {
            let mut reader = self.vault.read().await?;
            if frame_set::entitled_from(reader.conn(), gid, certificate).await?.is_none() {
                return Ok(None);
            }
        }
        let leaf = {
            let mut slot = self.groups.lock(gid).await;
            match slot.state(&self.vault, sid).await {
                Ok(state) => {
                    let mut roster = state.facts().standing.roster.iter();
                    roster.find(|leaf| leaf.certificate.device == device).map(|leaf| leaf.leaf)
                }
                Err(SlotError::Pruned) => None,
                Err(error) => return Err(error),
            }
        };
        let mut reader = self.vault.read().await?;
        Ok(Some(restored::held(reader.conn(), gid, device, (sid, leaf), log).await?))
    }
}

fn wire(held: &Held) -> EchoReply {
    let (tip_counter, tip_state) =
        held.tip.map_or((0, Vec::new()), |(counter, head)| (counter, head.0.to_vec()));
    let (log_seq, log_event_id) = held.log.map_or((0, Vec::new()), |(seq, id)| (seq, id.0.to_vec()));
    EchoReply { tip_counter, tip_state, messages: held.messages, log_seq, log_event_id }
}

pub(super) fn read(reply: &EchoReply) -> Option<Held> {
    let tip = match (reply.tip_counter, &*reply.tip_state) {
        (0, []) => None,
        (counter, state) => Some((counter, StateId::try_from(state).ok()?)),
    };
    let log = match (reply.log_seq, &*reply.log_event_id) {
        (0, []) => None,
        (seq, id) => Some((seq, EventId::try_from(id).ok()?)),
    };
    Some(Held { tip, messages: reply.messages, log })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: EventId = EventId([1; 32]);

    fn own() -> Own {
        Own {
            tip_counter: 1_000,
            tip_floor: 100,
            knows_tip_state: true,
            messages: 5,
            written: 7,
            event_there: Some(EVENT),
        }
    }

    fn held() -> Held {
        Held { tip: Some((1_000, StateId([2; 32]))), messages: 5, log: Some((7, EVENT)) }
    }

    #[test]
    fn whoever_holds_as_much_or_less_confirms() {
        assert!(!is_newer(&held(), &own()));
        assert!(!is_newer(&Held::default(), &own()));
        assert!(!is_newer(&Held { tip: Some((3, StateId([2; 32]))), messages: 2, ..held() }, &own()));
    }

    #[test]
    fn each_trace_of_a_newer_vault_is_enough() {
        assert!(is_newer(&Held { tip: Some((1_001, StateId([2; 32]))), ..held() }, &own()));
        assert!(is_newer(&held(), &Own { knows_tip_state: false, ..own() }));
        assert!(is_newer(&Held { messages: 6, ..held() }, &own()));
        assert!(is_newer(&Held { log: Some((8, EVENT)), ..held() }, &own()));
        assert!(
            is_newer(&Held { log: Some((7, EventId([9; 32]))), ..held() }, &own()),
            "another wrote there"
        );
    }

    #[test]
    fn what_an_earlier_membership_told_does_not_count() {
        let stranger = Own { knows_tip_state: false, ..own() };
        assert!(!is_newer(&Held { tip: Some((100, StateId([2; 32]))), ..held() }, &stranger));
        assert!(is_newer(&Held { tip: Some((101, StateId([2; 32]))), ..held() }, &stranger));
    }

    #[test]
    fn what_is_held_survives_the_wire_and_nonsense_does_not() {
        assert_eq!(read(&wire(&held())), Some(held()));
        assert_eq!(read(&wire(&Held::default())), Some(Held::default()));
        assert_eq!(read(&EchoReply { log_seq: 1, ..EchoReply::default() }), None);
        assert_eq!(read(&EchoReply { tip_state: vec![1], ..EchoReply::default() }), None);
    }

    #[test]
    fn members_are_asked_once_a_second() {
        let (echoes, now) = (Echoes::default(), Instant::now());
        let gid = GroupId([3; 16]);
        assert!(echoes.is_due(gid, now) && !echoes.is_due(gid, now + AGAIN / 2));
        assert!(echoes.is_due(gid, now + AGAIN));
        assert!(!echoes.is_confirmed(gid) && echoes.set(gid, true) && echoes.is_confirmed(gid));
        assert!(!echoes.set(gid, true), "only once is it news");
    }
}
