//! What one simulated device keeps: its states, what it knows of others', its logs and its outbox.
//!
//! It changes inside of one transaction a step; nothing here decides anything.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sha2::{Digest as _, Sha256};

use super::{
    log::Logs,
    person::GID,
    rows::{Adoption, Bundle, OpenJoin, Outgoing, StateRow, StoredRows, stable_fingerprint},
    wire::{CommitFrame, Skeleton},
};
use crate::{
    dag::{Dag, Head, Held, Node, Roster, window::MIN_AGE},
    event::{Body, SignedEvent},
    group::{authorize::Standing, rows::RowChanges},
    id::{AccountId, DeviceId, EventId, FrameId, InviteId, LogId, StateId},
    mutant::{self, Mutant},
};

/// Whether the device is in the group, as far as it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// It never was.
    Outside,
    /// It is.
    Inside,
    /// Someone removed it, or it left.
    Gone,
}

/// All that survives a crash.
#[derive(Clone)]
pub struct Disk {
    /// Whose disk it is.
    pub device: DeviceId,
    /// Whether it is in the group.
    pub membership: Membership,
    /// The states and how they hang together.
    pub dag: Dag,
    /// Every checked state.
    pub states: BTreeMap<StateId, StateRow>,
    /// The states by the names of their frames.
    pub tags: BTreeMap<[u8; 16], StateId>,
    /// What the head's rule says.
    pub head: Option<Head>,
    /// Commits in their frames, those of no use here without their bytes.
    pub commits: BTreeMap<FrameId, Option<Arc<CommitFrame>>>,
    /// Commits of states that are not here yet.
    pub parked_commits: BTreeMap<FrameId, Arc<CommitFrame>>,
    /// Messages of states that are not here yet.
    pub parked: BTreeMap<FrameId, Arc<[u8]>>,
    /// What everyone said.
    pub logs: Logs,
    /// The log that this device writes.
    pub own_log: LogId,
    /// The logs that it wrote before, for other leaves.
    pub former_logs: Vec<LogId>,
    /// Requests that are not events here: those of members who lost the way.
    pub letters: BTreeMap<EventId, SignedEvent>,
    /// What others lack.
    pub outbox: BTreeMap<EventId, Outgoing>,
    /// What the user asked for, by the number of the wish.
    pub answered: BTreeMap<u64, EventId>,
    /// The counter of the newest Tip.
    pub counter: u64,
    /// How often this device entered the group.
    pub entries: u64,
    /// Whether others know more of this device than its disk: then its leaf must not be used any more.
    pub stale: bool,
    /// Whether most members do not know it: it entered by a branch that lost.
    pub disowned: bool,
    /// The state that it entered with a leaf that may be used again.
    pub fence: Option<StateId>,
    /// The highest counter of others' Tips.
    pub heard: BTreeMap<DeviceId, u64>,
    /// How far others have the logs.
    pub acks: BTreeMap<DeviceId, BTreeMap<LogId, u64>>,
    /// The KeyPackage for a Welcome to come.
    pub join: Option<OpenJoin>,
    /// Letters to those whom this device added.
    pub bundles: Vec<Bundle>,
    /// How often the way on from a state changed.
    pub flips: BTreeMap<StateId, u32>,
    /// States that were pruned.
    pub pruned: BTreeSet<StateId>,
    /// States that were pruned while frames of theirs could still be on their way.
    pub pruned_early: Vec<StateId>,
    /// The fingerprint of all that the head depends on.
    pub known: [u8; 32],
    /// Rises when anything changes that a commit or the head may depend on.
    pub version: u64,
}

impl Disk {
    pub(super) fn outside(device: DeviceId, own_log: LogId) -> Self {
        Self {
            device,
            membership: Membership::Outside,
            dag: Dag::new(GID, device),
            states: BTreeMap::new(),
            tags: BTreeMap::new(),
            head: None,
            commits: BTreeMap::new(),
            parked_commits: BTreeMap::new(),
            parked: BTreeMap::new(),
            logs: Logs::default(),
            own_log,
            former_logs: Vec::new(),
            letters: BTreeMap::new(),
            outbox: BTreeMap::new(),
            answered: BTreeMap::new(),
            counter: 0,
            entries: 0,
            stale: false,
            disowned: false,
            fence: None,
            heard: BTreeMap::new(),
            acks: BTreeMap::new(),
            join: None,
            bundles: Vec::new(),
            flips: BTreeMap::new(),
            pruned: BTreeSet::new(),
            pruned_early: Vec::new(),
            known: [0; 32],
            version: 0,
        }
    }

    /// What a member knows from the beginning: events that were written before it came.
    pub(super) fn remember(&mut self, events: &[SignedEvent], via: &StateId) {
        for event in events {
            let _ = self.logs.take(Arc::new(event.clone()), Some(*via));
        }
    }

    /// Stores a state, as deep as it can be entered, and looks where the head is now.
    pub(super) fn adopt(&mut self, adoption: Adoption) {
        let Adoption { skeleton, standing, env_tag, rows, included, own, at_ms } = adoption;
        let sid = skeleton.sid;
        let rows: Option<StoredRows> = rows.map(|rows| rows.into_iter().collect());
        let held = if rows.is_some() { Held::Live } else { Held::Opaque };
        // Welcomed into a state that is here already.
        if self.states.get(&sid).is_some_and(|known| known.rows.is_some() || held == Held::Opaque) {
            return;
        }
        let members = standing.roster.iter();
        let roster: Roster =
            members.map(|member| (member.certificate.account, member.certificate.device)).collect();
        let node = node(&skeleton, roster, held);
        let entry = skeleton.parent.is_none().then_some(self.entries + 1);
        match entry {
            Some(nth) => {
                self.entries = nth;
                self.dag.enter(node, nth);
            }
            None => {
                self.dag.insert(node);
            }
        }
        if rows.is_some() {
            self.tags.insert(env_tag, sid);
            self.membership = Membership::Inside;
        }
        let stable = rows.as_ref().map_or([0; 32], stable_fingerprint);
        let born = rows.as_ref().filter(|_| own).map(|rows| Arc::new(rows.clone()));
        let row = StateRow {
            rows,
            born,
            standing,
            env_tag,
            own,
            adopted_ms: at_ms,
            left_ms: None,
            entry,
            included,
            stable,
            skeleton,
        };
        self.states.insert(sid, row);
        self.look(at_ms);
    }

    /// Finds the head anew, and counts when the way on from a state changed.
    pub(super) fn look(&mut self, now_ms: u64) {
        self.version += 1;
        let before = self.stand();
        let first = self.head.filter(|head| mutant::on(Mutant::FirstSeenWins) && self.is_cut_off(*head));
        self.head = first.or_else(|| self.dag.head());
        self.known = self.fingerprint();
        let after = self.stand();
        if before != after
            && let Some(row) = before.and_then(|before| self.states.get_mut(&before))
        {
            row.left_ms = Some(now_ms);
        }
        if let (Some(before), Some(after)) = (before, after)
            && !self.dag.is_below(&after, &before)
            && let Some(fork) = self.fork(&before, &after)
        {
            *self.flips.entry(fork).or_default() += 1;
        }
        if self.disowned || self.is_removed() {
            self.membership = Membership::Gone;
        } else if matches!(self.head, Some(Head::At(_))) {
            self.membership = Membership::Inside;
        }
    }

    /// Whether the others took this device out.
    fn is_removed(&self) -> bool {
        let Some(Head::Beyond { wanted, .. }) = self.head else { return false };
        // What took it out before it came in again is past.
        let entered = |sid: &StateId| self.states.get(sid).is_some_and(|row| row.entry.is_some());
        let way = self.way_to(&wanted).take_while(|sid| !entered(sid));
        way.filter_map(|sid| self.dag.node(&sid)).any(|node| self.takes_this_out(node))
    }

    /// Whether a commit, of those that were checked, removes this device.
    pub fn takes_this_out(&self, node: &Node) -> bool {
        node.held == Held::Opaque && !node.roster.devices().any(|device| *device == self.device)
    }

    /// Believes where a commit leads that is not here.
    pub(super) fn believe(&mut self, skeleton: &Skeleton) {
        self.dag.insert(node(skeleton, Roster::default(), Held::Claimed));
    }

    /// Whether the head would leave the branch that it is on.
    fn is_cut_off(&self, head: Head) -> bool {
        self.dag.head().is_none_or(|next| !self.dag.is_below(&next.stand(), &head.stand()))
    }

    fn fingerprint(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for node in self.dag.nodes() {
            let parent = self.dag.parent(&node.sid).map_or([0; 32], |parent| parent.sid.0);
            digest.update(node.sid.0);
            digest.update(parent);
            let knowledge = match node.held {
                Held::Live | Held::Pruned => 2,
                Held::Opaque => 1,
                Held::Claimed => 0,
            };
            let entry = self.states.get(&node.sid).and_then(|row| row.entry).unwrap_or_default();
            digest.update([knowledge, u8::from(node.parent.is_none())]);
            digest.update(entry.to_be_bytes());
        }
        digest.update(self.dag.forsaken().to_be_bytes());
        for support in self.dag.supports().all() {
            digest.update(support.device.0);
            digest.update(self.dag.supports().latest(&support.device).map_or([0; 32], |sid| sid.0));
        }
        digest.finalize().into()
    }

    /// The last state that two have in common on their ways.
    fn fork(&self, one: &StateId, other: &StateId) -> Option<StateId> {
        let mut at = *one;
        loop {
            if self.dag.is_below(other, &at) {
                return Some(at);
            }
            at = self.dag.parent(&at)?.sid;
        }
    }

    /// The state that the device is in, for the time being.
    pub fn stand(&self) -> Option<StateId> {
        self.head.map(|head| head.stand())
    }

    /// The head, if the device is in it.
    pub fn at(&self) -> Option<StateId> {
        match self.head {
            Some(Head::At(sid)) if self.membership == Membership::Inside => Some(sid),
            _ => None,
        }
    }

    /// The head, if the device may use its leaf there.
    pub fn safe_at(&self) -> Option<StateId> {
        let fenced = |sid: &StateId| self.fence.is_none_or(|fence| self.dag.is_below(sid, &fence));
        self.at().filter(fenced).filter(|_| !self.stale)
    }

    /// Who is in the state that the device stands on.
    pub fn standing(&self) -> Option<&Arc<Standing>> {
        self.states.get(&self.stand()?).map(|row| &row.standing)
    }

    /// The states before one, from itself on.
    pub fn way_to<'a>(&'a self, sid: &StateId) -> impl Iterator<Item = StateId> + use<'a> {
        std::iter::successors(Some(*sid), |sid| self.dag.parent(sid).map(|node| node.sid))
    }

    /// Where each request went that was acted on before a state.
    pub fn included_before(&self, sid: &StateId) -> BTreeMap<EventId, StateId> {
        let rows = self.way_to(sid).filter_map(|sid| Some((sid, self.states.get(&sid)?)));
        rows.flat_map(|(sid, row)| row.included.iter().map(move |request| (*request, sid))).collect()
    }

    /// Whether a state comes after the one that a request's author had seen.
    pub fn has_seen(&self, head: &StateId, request: &SignedEvent) -> bool {
        self.dag.is_below(head, &request.event.seen_sid)
    }

    /// The requests that are here, whichever way they came.
    pub fn requests(&self) -> impl Iterator<Item = &SignedEvent> {
        let events = self.logs.requests().filter_map(|id| self.logs.event(id));
        events.chain(self.letters.values().filter(|event| self.logs.event(&event.id).is_none()))
    }

    /// The invite of an id, if its event is here.
    pub fn invite(&self, wanted: &InviteId) -> Option<&SignedEvent> {
        self.logs
            .events()
            .find(|event| matches!(&event.event.body, Body::Invite { invite, .. } if invite == wanted))
    }

    /// The lowest epoch that has a state whose secrets are here.
    pub fn floor_epoch(&self) -> u64 {
        let live = self.states.values().filter(|row| row.rows.is_some());
        live.map(|row| row.skeleton.epoch).min().unwrap_or(u64::MAX)
    }

    /// Whether an event may be shown to an account: none while this cannot be told.
    pub fn entitled(&self, event: &EventId, account: &AccountId) -> Option<bool> {
        let signed = self.logs.event(event)?;
        if signed.event.body.is_state() {
            return Some(true);
        }
        let was_in = |sid: &StateId| {
            let row = self.states.get(sid)?;
            Some(row.standing.devices_of(account).next().is_some())
        };
        if self.logs.via(event).any(|sid| was_in(sid) == Some(true)) {
            return Some(true);
        }
        was_in(&signed.event.seen_sid)
    }

    /// Writes what messages changed of a state.
    pub(super) fn change_rows(&mut self, sid: &StateId, changes: RowChanges) {
        let rows = self.states.get_mut(sid).and_then(|row| row.rows.as_mut());
        if let Some(rows) = rows {
            changes.deletes.iter().for_each(|key| drop(rows.remove(key)));
            rows.extend(changes.upserts);
        }
    }

    /// Puts another state's rows in the place of a state's: what must never happen.
    pub(super) fn overwrite(&mut self, sid: &StateId, rows: Option<&Vec<(Vec<u8>, Vec<u8>)>>) {
        let parent = self.states.get_mut(sid).and_then(|row| row.rows.as_mut());
        if let (Some(parent), Some(rows)) = (parent, rows) {
            parent.extend(rows.iter().cloned());
        }
    }

    /// Deletes the secrets of a state.
    pub(super) fn prune(&mut self, sid: &StateId, now_ms: u64) {
        self.dag.prune(sid);
        if let Some(row) = self.states.get_mut(sid) {
            row.rows = None;
            let least_ms = u64::try_from(MIN_AGE.as_millis()).unwrap_or(u64::MAX);
            if now_ms.saturating_sub(row.past_since_ms()) < least_ms {
                self.pruned_early.push(*sid);
            }
        }
        self.pruned.insert(*sid);
    }
}

fn node(skeleton: &Skeleton, roster: Roster, held: Held) -> Node {
    let Skeleton { parent, sid, epoch, class, committer, commit, .. } = *skeleton;
    Node { sid, parent, epoch, commit, committer, class, roster: Arc::new(roster), held }
}
