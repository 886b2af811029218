//! Signed event logs (L3): what members say, whatever becomes of the MLS state it travelled in.
//!
//! Reads, checks and signs single events. It neither stores them nor decides who may see them, and
//! whether an author may write a kind (channels are not everyone's) is for those who know the roster.
//! Nothing here implements `Debug`: events hold what people wrote.

mod body;
mod order;

use ed25519_dalek::{Signer as _, SigningKey};
use prost::Message as _;
use spacepanda_proto::peer::v1 as wire;

pub use body::{
    Body, ChangeKind, MAX_ADDRESS_BYTES, MAX_ADDRESSES, MAX_KEY_PACKAGE_BYTES, MAX_LONG_TEXT_CHARS,
    MAX_NAME_CHARS, MAX_PEER_ID_BYTES, MAX_TEXT_BYTES, is_state_kind,
};
pub use order::{Knowledge, Position, check_lamport, next_lamport};

use crate::{
    certificate::verify,
    id::{DeviceId, EventId, GroupId, LogId, StateId},
};

/// Longest body of an event, bytes.
pub const MAX_BODY_BYTES: usize = 48 * 1024;
/// Most other logs that one event refers to.
pub const MAX_DEPS: usize = 8;
/// Longest encoding of a signed event, bytes: the body, and 1 KiB for all other fields with the
/// signature (they take under 900 B).
pub const MAX_EVENT_BYTES: usize = MAX_BODY_BYTES + 1024;
/// Largest `seq` and `lamport`; nobody counts this far, and sums of them never overflow.
pub const MAX_COUNTER: u64 = 1 << 48;
/// Largest time, epoch or generation: what an SQLite integer holds.
pub(crate) const MAX_STORED: u64 = i64::MAX as u64;

const CONTEXT: &[u8] = b"spacepanda/event/1\0";

/// Why an event is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// Longer than any event may be.
    #[error("the event is too large")]
    TooLarge,
    /// Not protobuf, or a field of the wrong size.
    #[error("the event is malformed")]
    Malformed,
    /// A text, name, address or number beyond its limit.
    #[error("the event's content is beyond a limit")]
    Limit,
    /// The author's device key did not sign it.
    #[error("the event's signature is wrong")]
    Signature,
    /// Asked to sign for another device.
    #[error("the event's author is another device")]
    Author,
    /// `seq` and `prev` do not belong together.
    #[error("the event has no place in its log")]
    Chain,
    /// It depends on its own log, or twice on another.
    #[error("the event's dependencies are wrong")]
    Deps,
    /// Not one more than the largest it refers to.
    #[error("the event's lamport time does not follow from what it refers to")]
    Lamport,
}

/// An event of another log that an author knew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventRef {
    /// Its log.
    pub log: LogId,
    /// Its place there.
    pub seq: u64,
    /// Its id.
    pub event_id: EventId,
}

/// One entry of a device's log in a group.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    /// The group.
    pub gid: GroupId,
    /// The author's log.
    pub log: LogId,
    /// 1, 2, 3, ...
    pub seq: u64,
    /// The event before it in the log; `None` on the first.
    pub prev: Option<EventId>,
    /// One more than the largest of `prev` and `deps`.
    pub lamport: u64,
    /// Heads of other logs that the author knew; at most [`MAX_DEPS`].
    pub deps: Vec<EventRef>,
    /// The author's head state when it wrote this.
    pub seen_sid: StateId,
    /// The author's clock in Unix milliseconds, for display only.
    pub wall_ms: u64,
    /// Who signed it.
    pub author: DeviceId,
    /// What it says.
    pub body: Body,
}

/// An event with its author's signature.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedEvent {
    /// SHA-256 of the event's bytes.
    pub id: EventId,
    /// The event.
    pub event: Event,
    encoded: Vec<u8>,
}

impl Event {
    /// Where the event stands in the order shown to people.
    pub fn position(&self) -> Position {
        Position { lamport: self.lamport, log: self.log, seq: self.seq }
    }

    fn to_wire(&self) -> wire::Event {
        wire::Event {
            gid: self.gid.0.to_vec(),
            log: self.log.0.to_vec(),
            seq: self.seq,
            prev: self.prev.map(|prev| prev.0.to_vec()).unwrap_or_default(),
            lamport: self.lamport,
            deps: self.deps.iter().map(|dep| dep.to_wire()).collect(),
            seen_sid: self.seen_sid.0.to_vec(),
            wall_ms: self.wall_ms,
            author: self.author.0.to_vec(),
            kind: self.body.kind(),
            body: self.body.encode(),
        }
    }

    fn from_wire(event: wire::Event) -> Result<Self, EventError> {
        use EventError::Malformed;
        if event.body.len() > MAX_BODY_BYTES {
            return Err(EventError::TooLarge);
        }
        if event.deps.len() > MAX_DEPS || event.wall_ms > MAX_STORED {
            return Err(EventError::Limit);
        }
        let event = Self {
            gid: GroupId::try_from(&*event.gid).map_err(|_| Malformed)?,
            log: LogId::try_from(&*event.log).map_err(|_| Malformed)?,
            seq: event.seq,
            prev: optional_event_id(&event.prev)?,
            lamport: event.lamport,
            deps: event.deps.iter().map(EventRef::from_wire).collect::<Result<_, _>>()?,
            seen_sid: StateId::try_from(&*event.seen_sid).map_err(|_| Malformed)?,
            wall_ms: event.wall_ms,
            author: DeviceId::try_from(&*event.author).map_err(|_| Malformed)?,
            body: Body::decode(event.kind, event.body)?,
        };
        event.check_place()?;
        Ok(event)
    }

    /// What can be told of an event's place without knowing any other event.
    fn check_place(&self) -> Result<(), EventError> {
        if self.seq > MAX_COUNTER || self.lamport > MAX_COUNTER {
            return Err(EventError::Limit);
        }
        // The first event of a log follows nothing, each later one exactly one.
        if self.seq == 0 || (self.seq == 1) != self.prev.is_none() {
            return Err(EventError::Chain);
        }
        let mut logs = vec![self.log];
        for dep in &self.deps {
            if logs.contains(&dep.log) || dep.seq == 0 || dep.seq > MAX_COUNTER {
                return Err(EventError::Deps);
            }
            logs.push(dep.log);
        }
        Ok(())
    }
}

impl EventRef {
    fn to_wire(self) -> wire::EventRef {
        wire::EventRef { log: self.log.0.to_vec(), seq: self.seq, event_id: self.event_id.0.to_vec() }
    }

    fn from_wire(reference: &wire::EventRef) -> Result<Self, EventError> {
        Ok(Self {
            log: LogId::try_from(&*reference.log).map_err(|_| EventError::Malformed)?,
            seq: reference.seq,
            event_id: EventId::try_from(&*reference.event_id).map_err(|_| EventError::Malformed)?,
        })
    }
}

impl SignedEvent {
    /// Signs an event of this device.
    ///
    /// # Errors
    /// [`EventError`] for everything that [`decode`](Self::decode) would refuse, and for another
    /// device's event: what is signed is never refused later.
    pub fn sign(device: &SigningKey, event: Event) -> Result<Self, EventError> {
        if event.author.0 != device.verifying_key().to_bytes() {
            return Err(EventError::Author);
        }
        let bytes = event.to_wire().encode_to_vec();
        let signature = device.sign(&signed_bytes(&event.gid, &bytes)).to_bytes().to_vec();
        let encoded = wire::SignedEvent { event: bytes, signature }.encode_to_vec();
        let signed = Self::decode_stored(&encoded)?;
        // An `Unknown` body under a known kind reads back as something else.
        if signed.event != event {
            return Err(EventError::Malformed);
        }
        Ok(signed)
    }

    /// Reads an event and checks its signature by the author it names.
    ///
    /// # Errors
    /// [`EventError`]; the bytes may come from anyone. Whether the author is a member, and the
    /// lamport time right ([`check_lamport`]), remains to be checked.
    pub fn decode(encoded: &[u8]) -> Result<Self, EventError> {
        let (this, signed) = Self::parse(encoded)?;
        verify(&this.event.author.0, &signed_bytes(&this.event.gid, &signed.event), &signed.signature)
            .map_err(|()| EventError::Signature)?;
        Ok(this)
    }

    /// Reads an event out of one's own vault, where only checked ones are kept.
    ///
    /// # Errors
    /// [`EventError`] when the bytes are no event at all.
    pub fn decode_stored(encoded: &[u8]) -> Result<Self, EventError> {
        Self::parse(encoded).map(|(this, _)| this)
    }

    /// The `SignedEvent` message as it travels.
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    fn parse(encoded: &[u8]) -> Result<(Self, wire::SignedEvent), EventError> {
        if encoded.len() > MAX_EVENT_BYTES {
            return Err(EventError::TooLarge);
        }
        let signed = wire::SignedEvent::decode(encoded).map_err(|_| EventError::Malformed)?;
        let event = wire::Event::decode(&*signed.event).map_err(|_| EventError::Malformed)?;
        let this = Self {
            id: EventId::of(&signed.event),
            event: Event::from_wire(event)?,
            encoded: encoded.to_vec(),
        };
        Ok((this, signed))
    }
}

fn signed_bytes(gid: &GroupId, event: &[u8]) -> Vec<u8> {
    [CONTEXT, gid.as_bytes(), event].concat()
}

fn optional_event_id(bytes: &[u8]) -> Result<Option<EventId>, EventError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    EventId::try_from(bytes).map(Some).map_err(|_| EventError::Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::ChannelId;

    fn device() -> SigningKey {
        SigningKey::from_bytes(&[5; 32])
    }

    fn event() -> Event {
        Event {
            gid: GroupId([1; 16]),
            log: LogId([2; 16]),
            seq: 2,
            prev: Some(EventId([3; 32])),
            lamport: 9,
            deps: vec![EventRef { log: LogId([4; 16]), seq: 7, event_id: EventId([5; 32]) }],
            seen_sid: StateId([6; 32]),
            wall_ms: 1_700_000_000_000,
            author: DeviceId(device().verifying_key().to_bytes()),
            body: Body::Text {
                channel: ChannelId([7; 16]),
                text: "hello".into(),
                reply_to: Some(EventId([8; 32])),
            },
        }
    }

    fn refusal(change: impl FnOnce(&mut Event)) -> Option<EventError> {
        let mut event = event();
        change(&mut event);
        SignedEvent::sign(&device(), event).err()
    }

    /// Signs without any check, as a hostile author would.
    fn forge(change: impl FnOnce(&mut wire::Event)) -> Vec<u8> {
        let mut event = event().to_wire();
        change(&mut event);
        let bytes = event.encode_to_vec();
        let gid = GroupId::try_from(&*event.gid).unwrap_or(GroupId([0; 16]));
        let signature = device().sign(&signed_bytes(&gid, &bytes)).to_bytes().to_vec();
        wire::SignedEvent { event: bytes, signature }.encode_to_vec()
    }

    #[test]
    fn a_signed_event_reads_back_and_is_named_by_its_bytes() {
        let signed = SignedEvent::sign(&device(), event()).unwrap();
        let read = SignedEvent::decode(signed.encoded()).unwrap();
        assert!(read == signed && read.event == event());
        assert_eq!(read.id, EventId::of(&event().to_wire().encode_to_vec()));
    }

    #[test]
    fn any_flipped_bit_is_refused() {
        let signed = SignedEvent::sign(&device(), event()).unwrap();
        for bit in 0..signed.encoded().len() * 8 {
            let mut bytes = signed.encoded().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(SignedEvent::decode(&bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn the_signature_belongs_to_the_author_and_the_group() {
        let as_another = forge(|event| event.author = vec![9; 32]);
        assert!(SignedEvent::decode(&as_another).err() == Some(EventError::Signature));

        let bytes = event().to_wire().encode_to_vec();
        let signature = device().sign(&signed_bytes(&GroupId([9; 16]), &bytes)).to_bytes().to_vec();
        let elsewhere = wire::SignedEvent { event: bytes, signature }.encode_to_vec();
        assert!(SignedEvent::decode(&elsewhere).err() == Some(EventError::Signature));
        assert!(SignedEvent::decode_stored(&elsewhere).is_ok());
    }

    #[test]
    fn only_the_author_signs() {
        let other = SigningKey::from_bytes(&[6; 32]);
        assert_eq!(SignedEvent::sign(&other, event()).err(), Some(EventError::Author));
    }

    #[test]
    fn the_place_in_the_log_is_checked() {
        assert_eq!(refusal(|e| e.seq = 0), Some(EventError::Chain));
        assert_eq!(refusal(|e| e.seq = 1), Some(EventError::Chain));
        assert_eq!(refusal(|e| e.prev = None), Some(EventError::Chain));
        assert_eq!(refusal(|e| e.seq = MAX_COUNTER + 1), Some(EventError::Limit));
        assert_eq!(refusal(|e| e.lamport = MAX_COUNTER + 1), Some(EventError::Limit));
        assert_eq!(refusal(|e| e.wall_ms = u64::MAX), Some(EventError::Limit));
        assert_eq!(refusal(|e| (e.seq, e.prev) = (1, None)), None);
    }

    #[test]
    fn dependencies_are_other_logs_once_each() {
        assert_eq!(refusal(|e| e.deps[0].log = e.log), Some(EventError::Deps));
        assert_eq!(refusal(|e| e.deps.push(e.deps[0])), Some(EventError::Deps));
        assert_eq!(refusal(|e| e.deps[0].seq = 0), Some(EventError::Deps));
        let logs = |count: u8| (0..count).map(|n| EventRef { log: LogId([100 + n; 16]), ..event().deps[0] });
        assert_eq!(refusal(|e| e.deps = logs(8).collect()), None);
        assert_eq!(refusal(|e| e.deps = logs(9).collect()), Some(EventError::Limit));
    }

    #[test]
    fn fields_of_the_wrong_size_are_refused() {
        let broken: [fn(&mut wire::Event); 7] = [
            |e| e.gid.push(0),
            |e| e.log.clear(),
            |e| e.prev = vec![1; 31],
            |e| e.seen_sid.clear(),
            |e| e.author.push(0),
            |e| e.deps[0].event_id.clear(),
            |e| e.body = vec![0xff],
        ];
        for change in broken {
            assert!(SignedEvent::decode(&forge(change)).err() == Some(EventError::Malformed));
        }
    }

    #[test]
    fn oversized_events_are_refused() {
        let large = forge(|e| (e.kind, e.body) = (1000, vec![0; MAX_BODY_BYTES + 1]));
        assert!(SignedEvent::decode(&large).err() == Some(EventError::TooLarge));
        assert!(SignedEvent::decode(&vec![0; MAX_EVENT_BYTES + 1]).err() == Some(EventError::TooLarge));
    }

    #[test]
    fn the_largest_event_fits() {
        let mut event = event();
        event.deps = (0..8).map(|n| EventRef { log: LogId([n + 9; 16]), ..event.deps[0] }).collect();
        for dep in &mut event.deps {
            dep.seq = MAX_COUNTER;
        }
        (event.seq, event.lamport, event.wall_ms) = (MAX_COUNTER, MAX_COUNTER, MAX_STORED);
        event.body = Body::Unknown { kind: -1, body: vec![1; MAX_BODY_BYTES] };
        let signed = SignedEvent::sign(&device(), event).unwrap();
        assert!(signed.encoded().len() <= MAX_BODY_BYTES + 900);
    }

    #[test]
    fn unknown_kinds_are_kept_as_they_came() {
        let encoded = forge(|e| (e.kind, e.body) = (1000, vec![0xff, 1, 2]));
        let read = SignedEvent::decode(&encoded).unwrap();
        assert!(read.event.body == Body::Unknown { kind: 1000, body: vec![0xff, 1, 2] });
        assert!(read.encoded() == encoded);
    }

    #[test]
    fn a_known_kind_is_never_signed_as_unknown() {
        let body = Body::Unknown { kind: 18, body: vec![] };
        assert_eq!(refusal(|e| e.body = body), Some(EventError::Malformed));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = SignedEvent::decode(&bytes);
            let wrapped = wire::SignedEvent { event: bytes, signature: vec![0; 64] }.encode_to_vec();
            let _ = SignedEvent::decode(&wrapped);
        }

        #[test]
        fn every_event_reads_back(seq in 2..MAX_COUNTER, lamport in 0..MAX_COUNTER, text in ".{0,200}") {
            let body = Body::Text { channel: ChannelId([1; 16]), text, reply_to: None };
            let event = Event { seq, lamport, body, ..event() };
            let signed = SignedEvent::sign(&device(), event.clone()).unwrap();
            prop_assert!(SignedEvent::decode(signed.encoded()).unwrap().event == event);
        }
    }
}
