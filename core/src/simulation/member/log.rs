//! The event logs that a simulated device holds: what is in its place, and what waits for others.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::wire::Floor;
use crate::{
    event::{Body, EventRef, Knowledge, MAX_COUNTER, MAX_DEPS, SignedEvent, check_lamport},
    id::{DeviceId, EventId, LogId, StateId},
};

/// How far beyond everything known the time may lie of what nobody here can check.
const MAX_LEAP: u64 = 1 << 20;

/// An event in its place, or its place alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which.
    pub id: EventId,
    /// Its time.
    pub lamport: u64,
}

/// One device's log, as far as it is here.
#[derive(Clone)]
pub struct Log {
    /// Who writes it.
    pub device: DeviceId,
    /// What lies at or below was before this device came.
    pub floor: u64,
    /// Everything up to here is in its place.
    pub contiguous: u64,
    /// What is in its place, by number.
    pub entries: BTreeMap<u64, Entry>,
    /// Whether its author wrote something else to others: what is not here of it may never come.
    pub broken: bool,
    /// What waits for what comes before it, by number.
    waiting: BTreeMap<u64, Waiting>,
}

#[derive(Clone)]
enum Waiting {
    Event(Arc<SignedEvent>),
    Withheld(Entry),
}

#[derive(Clone)]
struct Held {
    event: Arc<SignedEvent>,
    via: BTreeSet<StateId>,
}

/// All logs.
#[derive(Clone, Default)]
pub struct Logs {
    logs: BTreeMap<LogId, Log>,
    events: BTreeMap<EventId, Held>,
    requests: BTreeSet<EventId>,
    refused: u64,
}

impl Logs {
    /// Takes in a checked event that was sealed in a state, if that is known; gives those that are in their
    /// place now: it, unless it waits for others, and those that waited for it.
    pub(super) fn take(&mut self, event: Arc<SignedEvent>, via: Option<StateId>) -> Vec<EventId> {
        let (id, log, seq) = (event.id, event.event.log, event.event.seq);
        if let Some(held) = self.events.get_mut(&id) {
            held.via.extend(via);
            return Vec::new();
        }
        let author = event.event.author;
        let place = self.logs.entry(log).or_insert_with(|| Log::of(author));
        if place.device != author || seq <= place.contiguous {
            let other = place.entries.get(&seq).is_none_or(|entry| entry.id != id);
            self.refused += u64::from(other);
            if place.device != author || !other || seq <= place.floor {
                return Vec::new();
            }
            // Whoever refers to what others took is heard without it.
            place.broken = true;
            return self.settle();
        }
        self.events.insert(id, Held { event: Arc::clone(&event), via: via.into_iter().collect() });
        place.waiting.insert(seq, Waiting::Event(event));
        self.settle()
    }

    /// Takes in the place of an event whose content is not for this device.
    pub(super) fn withhold(&mut self, log: LogId, seq: u64, author: DeviceId, entry: Entry) -> Vec<EventId> {
        let place = self.logs.entry(log).or_insert_with(|| Log::of(author));
        if place.device != author || seq <= place.contiguous {
            return Vec::new();
        }
        place.waiting.entry(seq).or_insert(Waiting::Withheld(entry));
        self.settle()
    }

    /// Begins a log where others are when this device comes.
    pub(super) fn begin(&mut self, log: LogId, floor: &Floor) {
        // What came between two times of a member it gets as anyone else does, or its places.
        self.logs.entry(log).or_insert_with(|| {
            let entry = Entry { id: floor.id, lamport: floor.lamport };
            let entries = BTreeMap::from([(floor.seq, entry)]);
            Log { floor: floor.seq, contiguous: floor.seq, entries, ..Log::of(floor.device) }
        });
    }

    /// Forgets what was written in a log from one number on.
    pub(super) fn cut(&mut self, log: &LogId, from: u64) {
        let Some(log) = self.logs.get_mut(log) else { return };
        for (_, entry) in log.entries.split_off(&from) {
            self.events.remove(&entry.id);
            self.requests.remove(&entry.id);
        }
        log.contiguous = log.contiguous.min(from.saturating_sub(1));
    }

    /// Keeps an event whose place lies before this device's time.
    pub(super) fn know(&mut self, event: &SignedEvent) {
        let held = || Held { event: Arc::new(event.clone()), via: BTreeSet::new() };
        self.events.entry(event.id).or_insert_with(held);
    }

    /// Puts everything in its place that can be.
    fn settle(&mut self) -> Vec<EventId> {
        let mut placed = Vec::new();
        loop {
            let next = self.logs.iter().find_map(|(id, log)| {
                let seq = log.contiguous + 1;
                let waiting = log.waiting.get(&seq)?;
                let entry = self.entry_of(log, waiting)?;
                Some((*id, seq, entry))
            });
            let Some((log, seq, entry)) = next else { return placed };
            let Some(log) = self.logs.get_mut(&log) else { return placed };
            let waited = log.waiting.remove(&seq);
            let Ok(entry) = entry else {
                // Its author broke a rule: the log ends here.
                self.refused += 1;
                log.broken = true;
                if let Some(Waiting::Event(event)) = waited {
                    self.events.remove(&event.id);
                }
                continue;
            };
            log.contiguous = seq;
            log.entries.insert(seq, entry);
            if let Some(Waiting::Event(event)) = waited {
                if matches!(event.event.body, Body::ChangeRequest { .. }) {
                    self.requests.insert(event.id);
                }
                placed.push(event.id);
            }
        }
    }

    /// The entry that something gives; none while it must wait, an error if it never fits.
    fn entry_of(&self, log: &Log, waiting: &Waiting) -> Option<Result<Entry, ()>> {
        let event = match waiting {
            Waiting::Withheld(entry) => return Some(Ok(*entry)),
            Waiting::Event(event) => event,
        };
        let prev = match event.event.prev {
            Some(id) => match log.knowledge(event.event.seq.saturating_sub(1), &id) {
                Some(known) => Some(known),
                None => return Some(Err(())),
            },
            None => None,
        };
        let known = |dep: &EventRef| {
            let log = self.logs.get(&dep.log)?;
            let other = log.entries.get(&dep.seq).is_some_and(|entry| entry.id != dep.event_id);
            let never = other || (log.broken && dep.seq > log.contiguous);
            log.knowledge(dep.seq, &dep.event_id).or_else(|| never.then(|| self.latest_time()))
        };
        let deps: Option<Vec<Knowledge>> = event.event.deps.iter().map(known).collect();
        let fits = check_lamport(&event.event, prev, &deps?);
        Some(fits.map(|()| Entry { id: event.id, lamport: event.event.lamport }).map_err(|_| ()))
    }

    /// The latest time that is believed of a place that nobody here can check.
    fn latest_time(&self) -> Knowledge {
        let ends = self.logs.values().filter_map(|log| log.entries.get(&log.contiguous));
        let latest = ends.map(|entry| entry.lamport).max().unwrap_or_default();
        Knowledge::AtMost(latest.saturating_add(MAX_LEAP).min(MAX_COUNTER - 1))
    }

    /// The last events of the logs of others, for a new one to refer to.
    pub(super) fn heads(&self, but: &LogId) -> Vec<(EventRef, u64)> {
        let others = self.logs.iter().filter(|(id, _)| *id != but);
        let mut heads: Vec<(EventRef, u64)> = others
            .filter_map(|(id, log)| {
                let entry = log.entries.get(&log.contiguous)?;
                Some((EventRef { log: *id, seq: log.contiguous, event_id: entry.id }, entry.lamport))
            })
            .collect();
        heads.sort_by_key(|(head, lamport)| (std::cmp::Reverse(*lamport), head.log));
        heads.truncate(MAX_DEPS);
        heads
    }

    /// How far every log is here.
    pub fn acks(&self) -> BTreeMap<LogId, u64> {
        self.logs.iter().map(|(id, log)| (*id, log.contiguous)).collect()
    }

    /// Where newcomers begin.
    pub(super) fn floors(&self) -> BTreeMap<LogId, Floor> {
        let floor = |log: &Log| {
            let Entry { id, lamport } = *log.entries.get(&log.contiguous)?;
            Some(Floor { device: log.device, seq: log.contiguous, id, lamport })
        };
        self.logs.iter().filter_map(|(id, log)| Some((*id, floor(log)?))).collect()
    }

    /// What is in its place beyond a point of each log.
    pub fn beyond<'a>(
        &'a self,
        acks: &'a BTreeMap<LogId, u64>,
    ) -> impl Iterator<Item = (LogId, u64, &'a Log, Entry)> {
        self.logs.iter().flat_map(move |(id, log)| {
            let after = acks.get(id).copied().unwrap_or(0);
            // What this device lacks at its floor it cannot give.
            let after = if after < log.floor { u64::MAX - 1 } else { after };
            log.entries.range(after + 1..).map(move |(seq, entry)| (*id, *seq, log, *entry))
        })
    }

    /// All logs.
    pub fn all(&self) -> impl Iterator<Item = (&LogId, &Log)> {
        self.logs.iter()
    }

    /// A log.
    pub fn log(&self, id: &LogId) -> Option<&Log> {
        self.logs.get(id)
    }

    /// An event that is here, in its place or not.
    pub fn event(&self, id: &EventId) -> Option<&SignedEvent> {
        self.events.get(id).map(|held| &*held.event)
    }

    /// Whether an event is here and in its place.
    pub fn has(&self, id: &EventId) -> bool {
        self.event(id).is_some_and(|event| {
            let log = self.logs.get(&event.event.log);
            log.and_then(|log| log.entries.get(&event.event.seq)).is_some_and(|entry| entry.id == *id)
        })
    }

    /// Every event that is here.
    pub fn events(&self) -> impl Iterator<Item = &SignedEvent> {
        self.events.values().map(|held| &*held.event)
    }

    /// The requests in their places.
    pub fn requests(&self) -> impl Iterator<Item = &EventId> {
        self.requests.iter()
    }

    /// The states that an event is known to have been sealed in.
    pub fn via(&self, id: &EventId) -> impl Iterator<Item = &StateId> {
        self.events.get(id).into_iter().flat_map(|held| &held.via)
    }

    /// Notes a state that an event was sealed in.
    pub(super) fn note_via(&mut self, id: &EventId, sid: StateId) {
        if let Some(held) = self.events.get_mut(id) {
            held.via.insert(sid);
        }
    }

    /// Events that broke a rule, or another of the same number.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

impl Log {
    fn of(device: DeviceId) -> Self {
        Self {
            device,
            floor: 0,
            contiguous: 0,
            entries: BTreeMap::new(),
            broken: false,
            waiting: BTreeMap::new(),
        }
    }

    fn knowledge(&self, seq: u64, id: &EventId) -> Option<Knowledge> {
        match self.entries.get(&seq) {
            Some(entry) if entry.id == *id => Some(Knowledge::Exact(entry.lamport)),
            Some(_) => None,
            None if seq < self.floor => {
                self.entries.get(&self.floor).map(|entry| Knowledge::AtMost(entry.lamport))
            }
            None => None,
        }
    }
}
