//! What an opened application message holds: bytes of a member, checked before anything is made of them.

use prost::Message as _;
use spacepanda_proto::peer::v1::{ApplicationPlaintext, CarriedEvent, application_plaintext, carried_event};

use crate::{
    event::SignedEvent,
    group::message::Application,
    id::{DeviceId, EventId, GroupId, LogId},
    journal::Withheld,
    network::misbehaviour::Offence,
};

/// Events of one application message.
const MAX_EVENTS: usize = 1_024;

/// Who sealed an event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// Its author, for every member of the state.
    Fresh,
    /// Its author again, for one who lacked it.
    Author,
    /// Someone else who has it.
    Carrier,
}

/// One event of an application message.
pub(super) enum Taken {
    Event { signed: Box<SignedEvent>, by: By },
    Withheld(Withheld),
}

/// The events of an application message. Fresh ones are the MLS sender's own; carried ones keep their
/// author by their own signature.
pub(super) fn read_events(gid: GroupId, application: &Application) -> Result<Vec<Taken>, Offence> {
    let plaintext = ApplicationPlaintext::decode(&*application.plaintext).map_err(|_| Offence::Malformed)?;
    let sender = application.sender.certificate.device;
    match plaintext.kind {
        Some(application_plaintext::Kind::Fresh(fresh)) => {
            if fresh.events.len() > MAX_EVENTS {
                return Err(Offence::Flood);
            }
            fresh
                .events
                .iter()
                .map(|bytes| {
                    let signed = read_event(gid, bytes)?;
                    if signed.event.author != sender {
                        return Err(Offence::WrongSender);
                    }
                    Ok(Taken::Event { signed: Box::new(signed), by: By::Fresh })
                })
                .collect()
        }
        Some(application_plaintext::Kind::Carry(carry)) => {
            if carry.events.len() > MAX_EVENTS {
                return Err(Offence::Flood);
            }
            carry.events.iter().map(|event| read_carried(gid, sender, event)).collect()
        }
        // A kind of a newer version: kept out, not punished.
        None => Ok(Vec::new()),
    }
}

/// The lamport of the first event of a message whose author sealed its own events for every member of the
/// state; nothing of one that was carried to someone, or holds nothing readable.
pub(super) fn sealed_for_all(events: &[Taken]) -> Option<u64> {
    match events.first()? {
        Taken::Event { signed, by: By::Fresh } => Some(signed.event.lamport),
        Taken::Event { .. } | Taken::Withheld(_) => None,
    }
}

fn read_carried(gid: GroupId, sender: DeviceId, carried: &CarriedEvent) -> Result<Taken, Offence> {
    match carried.kind.as_ref().ok_or(Offence::Malformed)? {
        carried_event::Kind::Event(bytes) => {
            let signed = Box::new(read_event(gid, bytes)?);
            let by = if signed.event.author == sender { By::Author } else { By::Carrier };
            Ok(Taken::Event { signed, by })
        }
        carried_event::Kind::Withheld(withheld) => {
            let malformed = |_| Offence::Malformed;
            Ok(Taken::Withheld(Withheld {
                log: LogId::try_from(&*withheld.log).map_err(malformed)?,
                seq: withheld.seq,
                id: EventId::try_from(&*withheld.event_id).map_err(malformed)?,
                lamport: withheld.lamport,
                author: DeviceId::try_from(&*withheld.author).map_err(malformed)?,
            }))
        }
    }
}

fn read_event(gid: GroupId, bytes: &[u8]) -> Result<SignedEvent, Offence> {
    let signed = SignedEvent::decode(bytes).map_err(|_| Offence::Signature)?;
    if signed.event.gid == gid { Ok(signed) } else { Err(Offence::Malformed) }
}
