//! Tips: what a device tells others of itself, and what it does when it hears theirs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    actor::{Cx, Member, Timer},
    disk::{Disk, Membership},
    wire::{Echo, Message, Skeleton, Tip},
};
use crate::{
    dag::{Equivocation, Heard, Support, window},
    group::testing::Hostile,
    id::{AccountId, DeviceId, EventId, FrameId, StateId},
    mutant::{self, Mutant},
    simulation::MemberId,
};

/// The same commit goes to the same peer at most so often, milliseconds.
const AGAIN_MS: u64 = 5_000;
/// A commit that others tell of is waited for so long, milliseconds.
const RUMOUR_MS: u64 = 60_000;
/// Whoever was removed is told at most so often, milliseconds.
const FAREWELL_AGAIN_MS: u64 = 10_000;
/// What an author leaves to its frames that are on their way before it sends an event again.
const AUTHOR_WAIT_MS: u64 = 1_500;
/// What others leave to the author, and to each other.
const OTHERS_WAIT_MS: (u64, u64) = (2_000, 8_000);

/// The parts of Tips that are the same for all peers, while nothing changes.
#[derive(Clone, Default)]
pub(super) struct Shared {
    version: u64,
    have: Arc<BTreeSet<FrameId>>,
    supports: Arc<Vec<Support>>,
    proofs: Arc<Vec<Equivocation>>,
    skeletons: Arc<Vec<Skeleton>>,
    kept: (usize, usize),
}

impl<E: Hostile> Member<E> {
    /// Says which state this device follows, as soon as it may; whether it did.
    pub(super) fn support(&mut self, cx: &mut Cx<'_, E>) -> bool {
        let Some(head) = cx.disk().safe_at() else { return false };
        let (own, key) = (cx.disk().device, self.person(cx).map(|person| person.key.clone()));
        let told = cx.disk().dag.supports().latest(&own) == Some(&head);
        let convicted = cx.disk().dag.supports().equivocation(&own).is_some();
        if told || convicted || !self.confirmed {
            return false;
        }
        let Some(key) = key else { return false };
        let gid = *cx.disk().dag.gid();
        let before = cx.disk().stand();
        let wall_ms = cx.wall_ms();
        let moved = self.write(cx, "T6 switch", |disk| {
            if !mutant::on(Mutant::TipCounterNotKept) {
                disk.counter += 1;
            }
            disk.dag.support(Support::sign(&gid, &key, disk.counter, head));
            if mutant::on(Mutant::OutboxDroppedOnSwitch) {
                disk.outbox.clear();
            }
            disk.look(wall_ms);
        });
        if moved.is_ok() {
            self.note_switch(before, cx);
        }
        moved.is_ok()
    }

    /// Deletes the secrets of states that nobody needs; whether there were any.
    pub(super) fn prune(&mut self, cx: &mut Cx<'_, E>) -> bool {
        let disk = cx.disk();
        let Some(stand) = disk.stand() else { return false };
        let wall_ms = cx.wall_ms();
        let now_ms = wall_ms.cast_signed();
        let live = disk.states.iter().filter(|(_, row)| row.rows.is_some());
        let held = live.map(|(sid, row)| (*sid, row.past_since_ms().cast_signed()));
        let max_age = Duration::from_millis(cx.setup().config.window_ms);
        let leaving = window::leaving(&disk.dag, &stand, held, now_ms, max_age);
        if leaving.is_empty() {
            return false;
        }
        let pruned = self.write(cx, "T6 prune", |disk| {
            leaving.iter().for_each(|sid| disk.prune(sid, wall_ms));
            disk.look(wall_ms);
        });
        for sid in &leaving {
            self.states.remove(sid);
        }
        pruned.is_ok()
    }

    /// A new session: whoever is there learns where this device is, and gets what waits for it.
    pub(super) fn greet(&mut self, peer: MemberId, cx: &mut Cx<'_, E>) {
        self.sent_ms.retain(|(to, _), _| *to != peer);
        self.carried_ms.remove(&peer);
        self.tip_to(peer, cx);
        self.asked_ms = None;
        self.ask_to_join(cx);
    }

    /// Tells everyone whom this device may still have something in common with.
    pub(super) fn tip_all(&mut self, cx: &mut Cx<'_, E>) {
        let live = cx.disk().states.values().filter(|row| row.rows.is_some());
        let devices: BTreeSet<DeviceId> =
            live.flat_map(|row| row.standing.roster.iter().map(|member| member.certificate.device)).collect();
        for peer in self.up.clone() {
            if cx.setup().person(peer.0).is_some_and(|person| devices.contains(&person.device)) {
                self.tip_to(peer, cx);
            }
        }
        self.acks_ahead = None;
    }

    /// Tells one peer.
    pub(super) fn tip_to(&mut self, peer: MemberId, cx: &mut Cx<'_, E>) {
        let device = cx.setup().person(peer.0).map(|person| person.device);
        let Some(device) = device else { return };
        let known = |disk: &Disk| disk.states.values().any(|row| row.standing.member(&device).is_some());
        if cx.disk().membership == Membership::Outside || !known(cx.disk()) {
            return;
        }
        let Some(stand) = cx.disk().stand() else { return };
        let shared = self.shared(cx);
        let Some(row) = cx.disk().states.get(&stand) else { return };
        let Shared { have, supports, proofs, skeletons, .. } = shared;
        let tip = Tip {
            device: cx.disk().device,
            counter: cx.disk().counter,
            env_tag: row.env_tag,
            head: stand,
            acks: match &self.acks_ahead {
                _ if self.lies.greedy => BTreeMap::new(),
                Some(ahead) => ahead.clone(),
                None => cx.disk().logs.acks(),
            },
            have,
            floor_epoch: cx.disk().floor_epoch(),
            supports: if self.lies.is_empty() {
                supports
            } else {
                Arc::new(self.told_supports(peer, &supports))
            },
            proofs,
            skeletons,
            asks: !self.confirmed,
        };
        let heard = self.heard.get(&device).or_else(|| cx.disk().heard.get(&device));
        let leaf = row.standing.member(&device);
        let logs = cx.disk().logs.all().filter(|(_, log)| log.device == device);
        let echo = Echo {
            counter: heard.copied().unwrap_or_default(),
            logs: logs.map(|(id, log)| (*id, log.contiguous)).collect::<Vec<_>>().into(),
            settled: cx.disk().safe_at().is_some(),
            out: cx.disk().membership == Membership::Gone,
            leaf_key: leaf.map(|member| member.encryption_key),
        };
        cx.send(peer, Message::Tip(Arc::new(tip), echo));
    }

    fn shared(&mut self, cx: &Cx<'_, E>) -> Shared {
        let disk = cx.disk();
        let kept = (disk.commits.len(), disk.parked_commits.len());
        if self.shared.as_ref().is_none_or(|it| it.version != disk.version || it.kept != kept) {
            let have = disk.commits.keys().chain(disk.parked_commits.keys()).copied().collect();
            let signed = disk.states.values().map(|row| &row.skeleton);
            let skeletons = signed.filter(|skeleton| skeleton.parent.is_some());
            self.shared = Some(Shared {
                version: disk.version,
                have: Arc::new(have),
                supports: Arc::new(disk.dag.supports().all().copied().collect()),
                proofs: Arc::new(disk.dag.supports().equivocations().copied().collect()),
                skeletons: Arc::new(skeletons.chain(&self.lies.skeletons).cloned().collect()),
                kept,
            });
        }
        self.shared.clone().unwrap_or_default()
    }

    /// Takes in what another device says of itself, and sends it what it lacks.
    pub(super) fn hear(&mut self, from: MemberId, tip: &Arc<Tip>, echo: &Echo, cx: &mut Cx<'_, E>) {
        let now_ms = cx.monotonic_ms();
        self.listen_to_echo(from, echo, cx);
        match cx.disk().membership {
            Membership::Outside => return,
            // Those who removed this device may turn out to be the fewer.
            Membership::Gone => {
                self.count_votes(tip, cx);
                return self.listen_to_rumours(tip, cx);
            }
            Membership::Inside => {}
        }
        let known = self.heard.get(&tip.device).or_else(|| cx.disk().heard.get(&tip.device));
        if known.is_none_or(|known| *known < tip.counter) {
            self.heard.insert(tip.device, tip.counter);
            // Whoever forgets what it heard would take an old copy for the newest.
            let _ = self.write_quietly(cx, "T3 heard", |_| ());
        }
        self.heard_ms.insert(tip.device, now_ms);
        self.count_votes(tip, cx);
        self.listen_to_rumours(tip, cx);
        let opens = cx
            .disk()
            .tags
            .get(&tip.env_tag)
            .is_some_and(|sid| cx.disk().states.get(sid).is_some_and(|row| row.rows.is_some()));
        if opens {
            self.acks.insert(tip.device, tip.acks.clone());
            self.tips.insert(from, (now_ms, Arc::clone(tip)));
            self.confirm(cx);
            self.bundle_arrived(tip, cx);
            self.think_of_carrying(from, tip, cx);
        }
        self.send_commits(from, tip, cx);
        let lacks = tip
            .have
            .iter()
            .any(|id| !cx.disk().commits.contains_key(id) && !cx.disk().parked_commits.contains_key(id));
        let former = cx.disk().standing().is_some_and(|standing| standing.member(&tip.device).is_none());
        let farewell = former && {
            let last = self.sent_ms.insert((from, FrameId([0; 32])), now_ms);
            last.is_none_or(|at| at + FAREWELL_AGAIN_MS < now_ms)
        };
        let quiet = self.asked_ms.is_none_or(|at| at + AGAIN_MS < now_ms);
        if tip.asks || farewell || (lacks && quiet) {
            self.asked_ms = if lacks { Some(now_ms) } else { self.asked_ms };
            self.tip_to(from, cx);
        }
    }

    /// What others know of this device says whether its disk is the newest one.
    fn listen_to_echo(&mut self, from: MemberId, echo: &Echo, cx: &mut Cx<'_, E>) {
        let disk = cx.disk();
        let further = |(log, seq): &(_, u64)| {
            let own = disk.logs.log(log);
            (*log == disk.own_log && own.is_none_or(|own| own.contiguous < *seq)) && *seq > 0
        };
        let ahead = echo.counter > disk.counter || echo.logs.iter().any(further);
        let newest = echo.counter == disk.counter && !ahead;
        self.echoed = self.echoed.max(echo.counter);
        if ahead && !disk.stale && disk.membership == Membership::Inside {
            let _ = self.write(cx, "T4 votes", |disk| disk.stale = true);
            cx.count("old disks found out");
        }
        self.confirmed |= newest;
        self.think_of_rejoining(from, echo, cx);
    }

    fn count_votes(&mut self, tip: &Tip, cx: &mut Cx<'_, E>) {
        let disk = cx.disk();
        let gid = *disk.dag.gid();
        let news = |support: &&Support| {
            let known = disk.dag.supports().all().find(|known| known.device == support.device);
            let new = known.is_none_or(|known| {
                known.counter < support.counter
                    || (known.counter == support.counter && known.sid != support.sid)
            });
            new && support.verify(&gid).is_ok()
        };
        let supports: Vec<Support> = tip.supports.iter().filter(news).copied().collect();
        let unknown = |proof: &&Equivocation| {
            disk.dag.supports().equivocation(&proof.device()).is_none() && proof.verify(&gid).is_ok()
        };
        let proofs: Vec<Equivocation> = tip.proofs.iter().filter(unknown).copied().collect();
        if supports.is_empty() && proofs.is_empty() {
            return;
        }
        let (before, wall_ms) = (disk.stand(), cx.wall_ms());
        let stored = self.write(cx, "T4 votes", |disk| {
            let mut heard: Vec<_> = supports.into_iter().map(|it| disk.dag.support(it)).collect();
            heard.extend(proofs.into_iter().map(|proof| disk.dag.convict(proof)));
            disk.look(wall_ms);
            heard
        });
        let Ok(heard) = stored else { return };
        for _ in heard.iter().filter(|heard| **heard == Heard::Equivocation) {
            cx.count("equivocating supports");
        }
        self.note_switch(before, cx);
    }

    /// Where others say that the group went: believed of commits that do not come, and at once by a device
    /// that sees a commit take it out and can follow no other.
    fn listen_to_rumours(&mut self, tip: &Tip, cx: &mut Cx<'_, E>) {
        let (disk, now_ms) = (cx.disk(), cx.monotonic_ms());
        let entered = disk.states.values().filter(|row| row.entry.is_some());
        let first = entered.map(|row| row.skeleton.epoch).min().unwrap_or(u64::MAX);
        let out = disk.dag.nodes().any(|node| disk.takes_this_out(node));
        let mut believed = Vec::new();
        for skeleton in tip.skeletons.iter().filter(|it| it.epoch > first) {
            // Where a state that this device was welcomed into hangs it knows from others alone.
            let hangs = disk.dag.parent(&skeleton.sid).is_some();
            let entered = disk.states.get(&skeleton.sid).is_some_and(|row| row.entry.is_some());
            if disk.dag.node(&skeleton.sid).is_some() && (hangs || !entered) {
                self.rumours.remove(&skeleton.sid);
                continue;
            }
            let since = *self.rumours.entry(skeleton.sid).or_insert(now_ms);
            if (out || since + RUMOUR_MS <= now_ms) && skeleton.is_signed() {
                believed.push(skeleton.clone());
            }
        }
        if believed.is_empty() {
            return;
        }
        let (before, wall_ms) = (disk.stand(), cx.wall_ms());
        let stored = self.write(cx, "T4 votes", |disk| {
            believed.iter().for_each(|skeleton| disk.believe(skeleton));
            disk.look(wall_ms);
        });
        if stored.is_ok() {
            cx.count("rumours believed");
            self.note_switch(before, cx);
        }
    }

    /// T3: what everyone entitled has need not be kept ready any more.
    fn confirm(&mut self, cx: &mut Cx<'_, E>) {
        let disk = cx.disk();
        let Some(standing) = disk.standing() else { return };
        let has = |device, id: &EventId| {
            let event = disk.logs.event(id)?;
            let acks = self.acks.get(device).or_else(|| disk.acks.get(device))?;
            Some(acks.get(&event.event.log).copied().unwrap_or(0) >= event.event.seq)
        };
        let mut done = Vec::new();
        let mut kept = Vec::new();
        for (id, outgoing) in disk.outbox.iter().filter(|(_, outgoing)| outgoing.sealed.is_some()) {
            let mut others = standing.roster.iter().filter(|member| member.certificate.device != disk.device);
            let acked = |account: &AccountId, device| {
                has(device, id) == Some(true) || disk.entitled(id, account) == Some(false)
            };
            if others.all(|member| acked(&member.certificate.account, &member.certificate.device)) {
                done.push(*id);
            } else if !outgoing.custody
                && disk.acks.keys().chain(self.acks.keys()).any(|it| has(it, id) == Some(true))
            {
                kept.push(*id);
            }
        }
        if done.is_empty() && kept.is_empty() {
            return;
        }
        let _ = self.write(cx, "T3 confirm", |disk| {
            done.iter().for_each(|id| drop(disk.outbox.remove(id)));
            for id in kept {
                disk.outbox.entry(id).and_modify(|outgoing| outgoing.custody = true);
            }
        });
    }

    fn think_of_carrying(&mut self, from: MemberId, tip: &Tip, cx: &mut Cx<'_, E>) {
        let disk = cx.disk();
        let mut gaps = disk.logs.beyond(&tip.acks).map(|(_, _, log, _)| log.device == disk.device).peekable();
        if gaps.peek().is_none() {
            return;
        }
        let own = gaps.any(|own| own);
        drop(gaps);
        let now_ms = cx.monotonic_ms();
        if self.carried_ms.get(&from).is_some_and(|at| at + AGAIN_MS > now_ms) {
            return;
        }
        let (least, most) = OTHERS_WAIT_MS;
        let delay_ms = if own { AUTHOR_WAIT_MS } else { cx.draw().within(&(least..=most)) };
        self.carried_ms.insert(from, now_ms + delay_ms);
        cx.wake_in(delay_ms, Timer::Carry(from));
    }

    /// Sends the commits that someone lacks, can follow, and may see.
    fn send_commits(&mut self, to: MemberId, tip: &Tip, cx: &mut Cx<'_, E>) {
        let now_ms = cx.monotonic_ms();
        let disk = cx.disk();
        let was_in = |sid: &StateId| {
            disk.states.get(sid).is_some_and(|row| row.standing.member(&tip.device).is_some())
        };
        let wanted = disk.commits.values().flatten().filter(|commit| {
            let skeleton = &commit.skeleton;
            let parent = skeleton.parent.is_some_and(|parent| was_in(&parent));
            parent && skeleton.epoch > tip.floor_epoch && !tip.have.contains(&commit.id)
        });
        let mut wanted: Vec<_> = wanted.map(Arc::clone).collect();
        wanted.sort_by_key(|commit| (commit.skeleton.epoch, commit.id));
        for commit in wanted {
            let last = self.sent_ms.insert((to, commit.id), now_ms);
            match last.filter(|at| at + AGAIN_MS > now_ms) {
                Some(at) => drop(self.sent_ms.insert((to, commit.id), at)),
                None => cx.send(to, Message::Commit(commit)),
            }
        }
    }
}
