//! Events carried to a device that lacks them: whole, or their places alone.

use std::collections::{HashMap, HashSet, hash_map::Entry};

use prost::Message as _;
use spacepanda_proto::peer::v1::{
    ApplicationPlaintext, CarriedEvent, Carry, WithheldEvent, application_plaintext, carried_event,
};

use super::Due;
use crate::{
    delivery::{self, Access, LogGap},
    event::is_state_kind,
    id::{LogId, StateId},
    network::{Network, Slot, SlotError, link::Outgoing},
    router::PeerId,
    store::{
        event::{self, EventRow},
        logbook, mls,
    },
};

/// Events carried before the next Tip is awaited.
const MAX_EVENTS: u32 = 512;
/// Event bytes of one carrying frame.
const MAX_FRAME_BYTES: usize = 56 * 1024;

impl Network {
    /// The events a device lacks, oldest first, as it may have them.
    pub(super) async fn lacking(
        &self,
        slot: &mut Slot,
        due: &Due,
        joined_epoch: u64,
    ) -> Result<Vec<CarriedEvent>, SlotError> {
        let head = slot.head_id(&self.vault).await?;
        let dag = slot.dag(&self.vault, self.keys.device_id()).await?;
        let mut reader = self.vault.read().await?;
        let conn = reader.conn();
        let own = self.keys.device_id();
        let held: Vec<(LogId, u64, u64)> = logbook::logs(conn, due.gid)
            .await?
            .into_iter()
            // A device lacks events of its own where its data was put back as it once was.
            .filter(|(_, row)| due.all_logs || row.device == own)
            .map(|(log, row)| (log, row.floor, row.contiguous))
            .collect();
        let mut rows: Vec<EventRow> = Vec::new();
        for LogGap { log, after, up_to } in delivery::gaps(&held, &due.position.logs) {
            let more = event::range(conn, due.gid, log, (after, up_to), MAX_EVENTS).await?;
            // What is still queued goes out as it was meant to, not as a repeat.
            rows.extend(more.into_iter().take_while(|row| row.author != own || row.via_epoch.is_some()));
        }
        rows.sort_by_key(|row| (row.lamport, row.log, row.seq));
        rows.truncate(MAX_EVENTS as usize);
        let mut epochs: HashMap<StateId, Option<u64>> = HashMap::new();
        let mut held_back: HashSet<LogId> = HashSet::new();
        let mut carried = Vec::with_capacity(rows.len());
        for row in rows {
            let seen = match epochs.entry(row.seen_sid) {
                Entry::Occupied(known) => *known.get(),
                // Of a branch that lost counts where it left the way.
                Entry::Vacant(new) => *new.insert(match dag.canonical(&row.seen_sid, &head) {
                    Some(sid) => dag.node(&sid).map(|node| node.epoch),
                    None => mls::epoch_of(conn, due.gid, row.seen_sid).await?,
                }),
            };
            match delivery::access(is_state_kind(row.kind), row.via_epoch, seen, joined_epoch) {
                // Someone else can tell; a log goes out without holes or not at all.
                Access::Unknown => {
                    held_back.insert(row.log);
                }
                _ if held_back.contains(&row.log) => {}
                Access::Entitled => carried.extend(whole(row)),
                Access::Withheld => carried.push(withheld(row)),
            }
        }
        Ok(carried)
    }

    pub(super) async fn carry(
        &self,
        slot: &mut Slot,
        peer: &PeerId,
        carried: Vec<CarriedEvent>,
    ) -> Result<(), SlotError> {
        let gid = slot.gid();
        for events in delivery::chunks(carried, MAX_FRAME_BYTES, |event| event.encoded_len() + 4) {
            let count = events.len() as u64;
            let kind = Some(application_plaintext::Kind::Carry(Carry { events }));
            let plaintext = ApplicationPlaintext { kind }.encode_to_vec();
            let state = slot.head(&self.vault).await?;
            let sealed = state.seal_application(&self.keys.identity, &plaintext)?;
            let (sid, changes) = (state.facts().sid, state.take_changes()?);
            self.vault
                .write(move |tx| {
                    Box::pin(async move { mls::store_rows(tx.conn(), gid, sid, &changes).await })
                })
                .await?;
            self.links.push(peer, Outgoing::untracked(sealed.bytes));
            self.metrics.events_carried.inc_by(count);
        }
        Ok(())
    }
}

fn whole(row: EventRow) -> Option<CarriedEvent> {
    Some(CarriedEvent { kind: Some(carried_event::Kind::Event(row.signed?)) })
}

fn withheld(row: EventRow) -> CarriedEvent {
    let withheld = WithheldEvent {
        log: row.log.0.to_vec(),
        seq: row.seq,
        event_id: row.id.0.to_vec(),
        lamport: row.lamport,
        author: row.author.0.to_vec(),
    };
    CarriedEvent { kind: Some(carried_event::Kind::Withheld(withheld)) }
}
