//! Letters: asking to be let in, being let in, and asking for a fresh leaf when the way is lost.

use std::sync::Arc;

use rand::RngCore as _;

use super::{
    actor::{Cx, Member},
    disk::Membership,
    ledger::Output,
    person::{GID, INVITES, invite_seed},
    rows::{Adoption, OpenJoin},
    wire::{Echo, JoinBundle, JoinRequest, Letter, Message, Skeleton, Tip},
};
use crate::{
    dag::Head,
    event::{Body, ChangeKind, Event, SignedEvent},
    group::{authorize::sign_join, rows::Rows, testing::Hostile},
    id::{InviteId, LogId, StateId},
    mutant::{self, Mutant},
    simulation::MemberId,
};

/// A bundle waits so long for a rival of its commit, or for another device's Support, milliseconds.
const WITHOUT_RIVAL_MS: u64 = 10_000;
/// A device that does not find its way looks for it so long before it asks for a fresh leaf, milliseconds.
const LOST_MS: u64 = 90_000;
/// The same letter goes to the same peer at most so often, milliseconds.
const AGAIN_MS: u64 = 10_000;

impl<E: Hostile> Member<E> {
    /// Makes a KeyPackage to be let in with.
    pub(super) fn open_join(&mut self, cx: &mut Cx<'_, E>) {
        if cx.disk().join.as_ref().is_some_and(|join| !join.answered) {
            return;
        }
        let _ = self.fresh_key_package(cx);
        self.ask_to_join(cx);
    }

    fn fresh_key_package(&mut self, cx: &mut Cx<'_, E>) -> Option<()> {
        let fresh = E::fresh_key_package(&self.person(cx)?.identity).ok()?;
        let join = OpenJoin {
            hash: fresh.hash,
            key_package: fresh.bytes,
            rows: fresh.rows.upserts.into_iter().collect(),
            answered: false,
        };
        self.write(cx, "T6 join", |disk| disk.join = Some(join)).ok()
    }

    /// Asks one of those who are there.
    pub(super) fn ask_to_join(&mut self, cx: &mut Cx<'_, E>) {
        let disk = cx.disk();
        let (Some(join), false) = (&disk.join, disk.membership == Membership::Inside) else { return };
        if join.answered {
            return;
        }
        let nonce = [self.place.to_be_bytes()[0]; 32];
        // The newest invite that this device knows: it heard of them when it was a member.
        let ids = disk.logs.events().filter_map(|event| match &event.event.body {
            Body::Invite { invite, .. } if *invite != INVITES[1].0 => Some(*invite),
            _ => None,
        });
        let invite: InviteId = ids.max().unwrap_or(INVITES[0].0);
        let Some(person) = cx.setup().person(self.place) else { return };
        let request = JoinRequest {
            account: person.account,
            key_package: join.key_package.clone(),
            invite,
            nonce,
            signature: sign_join(&invite_seed(&invite), &GID, &nonce, &join.hash),
        };
        let peers: Vec<MemberId> = self.up.iter().copied().collect();
        if let Some(peer) = cx.draw().pick(&peers).copied() {
            cx.send(peer, Message::Letter(Arc::new(Letter::Join(request))));
        }
    }

    /// Does what a letter asks for.
    pub(super) fn read_letter(&mut self, letter: &Letter, cx: &mut Cx<'_, E>) {
        match letter {
            Letter::Join(request) => self.bring(request, cx),
            Letter::Bundle(bundle) => drop(self.come_in(bundle, cx)),
            Letter::Rejoin(request) => {
                let known = cx.disk().letters.contains_key(&request.id);
                let rejoin =
                    matches!(request.event.body, Body::ChangeRequest { kind: ChangeKind::Rejoin { .. }, .. });
                if !known && rejoin && cx.disk().membership == Membership::Inside {
                    let _ = self.write(cx, "T4 letter", |disk| {
                        disk.letters.insert(request.id, request.clone());
                        disk.version += 1;
                    });
                }
            }
        }
    }

    /// Makes an outsider's wish a request of this member's, unless someone brought it before.
    fn bring(&mut self, request: &JoinRequest, cx: &mut Cx<'_, E>) {
        let Some(standing) = cx.disk().standing().cloned() else { return };
        let inside = standing.devices_of(&request.account).next().is_some();
        if cx.disk().safe_at().is_none() || inside || !self.confirmed {
            return;
        }
        let brought = cx.disk().requests().any(|event| {
            let Body::ChangeRequest { kind: ChangeKind::Add { key_package, invite, .. }, .. } =
                &event.event.body
            else {
                return false;
            };
            *key_package == request.key_package && *invite == request.invite
        });
        if brought || cx.disk().invite(&request.invite).is_none() {
            return;
        }
        let generation = standing.policy.standing_of(&request.account).map_or(0, |entry| entry.generation);
        let kind = ChangeKind::Add {
            key_package: request.key_package.clone(),
            invite: request.invite,
            nonce: request.nonce,
            signature: request.signature,
        };
        cx.count("joins brought");
        let body = Body::ChangeRequest { kind, target: request.account, generation };
        self.accept(None, body, cx);
    }

    /// Enters by a Welcome for this device's own KeyPackage.
    fn come_in(&mut self, bundle: &JoinBundle, cx: &mut Cx<'_, E>) -> Option<()> {
        let join = cx.disk().join.clone()?;
        // Nor does a letter that comes again bring back secrets that were deleted.
        let known = cx.disk().states.get(&bundle.skeleton.sid).is_some_and(|row| row.rows.is_some())
            || cx.disk().pruned.contains(&bundle.skeleton.sid);
        if join.hash != bundle.key_package_hash || known || !bundle.skeleton.is_signed() {
            return None;
        }
        let identity = self.person(cx)?.identity.clone();
        let rows = Rows::from_rows(join.rows);
        let mut state = E::join(&identity, GID, rows, &bundle.welcome, bundle.route_secret).ok()?;
        if state.facts().sid != bundle.skeleton.sid {
            return None;
        }
        let standing = Arc::new(state.facts().standing.clone());
        let adoption = Adoption {
            skeleton: Skeleton { parent: None, ..bundle.skeleton.clone() },
            standing: Arc::clone(&standing),
            env_tag: state.facts().env_tag,
            rows: Some(state.take_changes().ok()?.upserts),
            included: Vec::new(),
            own: false,
            at_ms: cx.wall_ms(),
        };
        let mut log = LogId([0; 16]);
        cx.draw().fill_bytes(&mut log.0);
        let rejoins = cx.disk().membership == Membership::Inside;
        let first = cx.disk().entries == 0;
        let (forked, before) = (self.forked(cx), cx.disk().version);
        let (sid, echoed) = (bundle.skeleton.sid, self.echoed);
        let now_ms = cx.wall_ms();
        self.write(cx, "T6 join", |disk| {
            disk.adopt(adoption);
            disk.believe(&bundle.skeleton);
            disk.look(now_ms);
            // Whatever an older copy of this disk told others, what comes now is newer.
            disk.counter = disk.counter.max(echoed) + 1;
            // Who was a member before is to have what it may have of all that it missed.
            if first {
                bundle.floors.iter().for_each(|(log, floor)| disk.logs.begin(*log, floor));
            }
            for event in &bundle.events {
                let begun = disk.logs.log(&event.event.log).is_some_and(|log| log.floor >= event.event.seq);
                if begun { disk.logs.know(event) } else { disk.remember(std::slice::from_ref(event), &sid) }
            }
            let former = std::mem::replace(&mut disk.own_log, log);
            for event in &forked {
                disk.outbox.remove(&event.id);
            }
            let first = forked.iter().map(|event| event.event.seq).min();
            if let Some(first) = first {
                disk.logs.cut(&former, first);
            }
            disk.former_logs.push(former);
            disk.disowned = false;
            if disk.stale {
                disk.dag.forsake(disk.entries);
                disk.look(now_ms);
            }
            disk.fence = (disk.stale || disk.fence.is_some()).then_some(sid);
            disk.stale = false;
            if let Some(join) = &mut disk.join {
                join.answered = true;
            }
        })
        .ok()?;
        self.states.insert(sid, state);
        self.strangers.clear();
        self.confirmed = true;
        for event in forked {
            if let Some(again) = self.accept(None, event.event.body, cx) {
                cx.output(Output::Reissued(event.id, again));
            }
        }
        cx.count(if rejoins { "rejoins" } else { "joins" });
        cx.output(Output::Knows(sid, standing));
        self.follow_parked(before, cx);
        Some(())
    }

    /// What an old copy of the disk wrote under numbers that others know with other content.
    fn forked(&self, cx: &Cx<'_, E>) -> Vec<SignedEvent> {
        let disk = cx.disk();
        if !disk.stale {
            return Vec::new();
        }
        let unsure = disk.outbox.iter().filter(|(_, outgoing)| outgoing.unsure && outgoing.sealed.is_none());
        let mut events: Vec<SignedEvent> =
            unsure.filter_map(|(id, _)| disk.logs.event(id).cloned()).collect();
        events.retain(|event| event.event.log == disk.own_log);
        events.sort_by_key(|event| event.event.seq);
        events
    }

    /// Sends the letters whose commits are safe.
    pub(super) fn deliver_bundles(&mut self, cx: &mut Cx<'_, E>) {
        // Who is out of the group hears nobody say that a letter came.
        if cx.disk().bundles.is_empty() || cx.disk().membership != Membership::Inside {
            return;
        }
        let disk = cx.disk();
        let Some(end) = end(disk.head) else { return };
        let now_ms = cx.monotonic_ms();
        let mut due = Vec::new();
        for (place, bundle) in disk.bundles.iter().enumerate() {
            let sid = bundle.bundle.skeleton.sid;
            let others = disk.dag.supports().all().filter(|support| support.device != disk.device);
            let seconded = others.into_iter().any(|support| disk.dag.is_below(&support.sid, &sid));
            if disk.dag.is_below(&end, &sid) && (seconded || now_ms >= bundle.made_ms + WITHOUT_RIVAL_MS) {
                due.push(place);
            }
        }
        for place in due {
            let Some(bundle) = cx.disk().bundles.get(place).cloned() else { return };
            let Some(to) = cx.setup().places.get(&bundle.to).copied().map(MemberId) else { continue };
            let key = (to, crate::id::FrameId(bundle.bundle.key_package_hash));
            let recent = self.sent_ms.get(&key).is_some_and(|at| at + AGAIN_MS > now_ms);
            if self.up.contains(&to) && !recent {
                self.sent_ms.insert(key, now_ms);
                cx.send(to, Message::Letter(Arc::new(Letter::Bundle(bundle.bundle))));
            }
        }
    }

    /// A newcomer's first Tip ends the letter to it.
    pub(super) fn bundle_arrived(&mut self, tip: &Tip, cx: &mut Cx<'_, E>) {
        let arrived = |disk: &super::disk::Disk, bundle: &super::rows::Bundle| {
            bundle.to == tip.device && disk.dag.is_below(&tip.head, &bundle.bundle.skeleton.sid)
        };
        if cx.disk().bundles.iter().any(|bundle| arrived(cx.disk(), bundle)) {
            let _ = self.write(cx, "T3 confirm", |disk| {
                let bundles = std::mem::take(&mut disk.bundles);
                disk.bundles = bundles.into_iter().filter(|bundle| !arrived(disk, bundle)).collect();
            });
        }
    }

    /// Asks a member of the winning branch for a fresh leaf, when this device cannot get there by itself.
    pub(super) fn think_of_rejoining(&mut self, to: MemberId, echo: &Echo, cx: &mut Cx<'_, E>) {
        self.count_strangers(to, echo, cx);
        // Who is lost itself tells of a leaf that the others may have replaced already.
        let Some(old_encryption_key) = echo.leaf_key.filter(|_| echo.settled) else { return };
        let now_ms = cx.monotonic_ms();
        let long = self.lost_since.is_some_and(|since| since + LOST_MS <= now_ms);
        let looks = (long || cx.disk().stale) && !mutant::on(Mutant::NeverRejoins);
        if cx.disk().membership != Membership::Inside || !looks {
            return;
        }
        let key = (to, crate::id::FrameId(old_encryption_key));
        let recent = self.sent_ms.get(&key).is_some_and(|at| at + AGAIN_MS > now_ms);
        // Another leaf already: then the letter that says so is on its way.
        let other =
            self.rejoining.is_some_and(|(leaf, at)| leaf != old_encryption_key && at + LOST_MS > now_ms);
        if recent || other {
            return;
        }
        self.sent_ms.insert(key, now_ms);
        // A KeyPackage whose leaf is in the tree is used: its letter was lost.
        let used = self.rejoining.is_some_and(|(leaf, _)| leaf != old_encryption_key);
        self.rejoining = Some((old_encryption_key, now_ms));
        let open = cx.disk().join.as_ref().is_some_and(|join| !join.answered) && !used;
        if !open && self.fresh_key_package(cx).is_none() {
            return;
        }
        if let Some(request) = self.rejoin_request(old_encryption_key, cx) {
            cx.count("rejoins asked for");
            cx.send(to, Message::Letter(Arc::new(Letter::Rejoin(request))));
        }
    }

    /// A device that more than half of the other accounts of its state no longer know, for long, was let in
    /// by a branch that lost: it is outside, and may ask to be let in again.
    fn count_strangers(&mut self, from: MemberId, echo: &Echo, cx: &mut Cx<'_, E>) {
        if cx.disk().membership != Membership::Inside {
            return;
        }
        let now_ms = cx.monotonic_ms();
        match echo.leaf_key {
            // Who is out of the group or lost remembers a leaf that the others may have removed.
            Some(_) if !echo.settled => drop(self.unsettled.insert(from, echo.out)),
            Some(_) => drop((self.strangers.remove(&from), self.unsettled.remove(&from))),
            None => self.strangers.entry(from).or_insert((now_ms, now_ms)).1 = now_ms,
        }
        let Some(standing) = cx.disk().standing() else { return };
        // Who is out says nothing for or against anyone, nor does who is lost where this device is lost itself,
        // or must not use its leaf.
        let lost = self.lost_since.is_some_and(|since| since + LOST_MS <= now_ms) || cx.disk().stale;
        let silent = self.unsettled.iter().filter(|(_, out)| lost || **out).map(|(place, _)| place);
        let silent = silent.filter(|place| !self.strangers.contains_key(place));
        let inside = |place: &&MemberId| {
            let person = cx.setup().person(place.0);
            person.is_some_and(|person| standing.member(&person.device).is_some())
        };
        let others = standing.roster.len().saturating_sub(1 + silent.filter(inside).count());
        let known = |place: &MemberId| {
            let person = cx.setup().person(place.0);
            person.is_some_and(|person| standing.member(&person.device).is_some())
        };
        let long = self.strangers.iter().filter(|(_, (first, last))| first + LOST_MS <= *last);
        let strangers = long.filter(|(place, _)| known(place)).count();
        if strangers * 2 > others {
            self.strangers.clear();
            let now_ms = cx.wall_ms();
            let told = self.write(cx, "T4 votes", |disk| {
                disk.disowned = true;
                disk.look(now_ms);
            });
            if told.is_ok() {
                cx.count("members of a lost branch alone");
            }
        }
    }

    /// A request in a log of its own: the device's log may be one that others know further.
    fn rejoin_request(&self, old_encryption_key: [u8; 32], cx: &Cx<'_, E>) -> Option<SignedEvent> {
        let person = self.person(cx)?;
        let join = cx.disk().join.as_ref()?;
        let kind = ChangeKind::Rejoin { key_package: join.key_package.clone(), old_encryption_key };
        let log = LogId(*join.hash.first_chunk()?);
        let event = Event {
            gid: GID,
            log,
            seq: 1,
            prev: None,
            lamport: 1,
            deps: Vec::new(),
            seen_sid: cx.disk().stand()?,
            wall_ms: 0,
            author: person.device,
            body: Body::ChangeRequest { kind, target: person.account, generation: 0 },
        };
        SignedEvent::sign(&person.key, event).ok()
    }
}

/// Where the way leads, whether this device can go there or not.
pub(super) fn end(head: Option<Head>) -> Option<StateId> {
    head.map(|head| match head {
        Head::At(sid) => sid,
        Head::Beyond { wanted, .. } => wanted,
    })
}
