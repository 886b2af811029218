//! The world: one thread, one clock that only events move, one seed that decides everything.

use std::{collections::BTreeMap, mem};

use super::{
    actor::{Actor, Context, Effects, MemberId},
    host::{Host, Surroundings},
    network::{Change, Crossing, Cut, Network},
    queue::Queue,
    report::{Traffic, Violation},
    scenario::{Rule, Scenario, Sight, When},
    schedule::{Action, Fault, Planned, Schedule},
    trace::{Cause, Trace},
    verdict::ON_ITS_WAY_MS,
};

type Command<S> = <<S as Scenario>::Actor as Actor>::Command;

pub(super) enum Event<A: Actor> {
    Act(usize),
    Snapshot { member: MemberId, taken_ms: u64 },
    Start { member: MemberId, life: u32 },
    Arrive { from: MemberId, to: MemberId, session: u32, number: u64, message: A::Message },
    Depart { from: MemberId, to: MemberId, message: A::Message },
    Wake { member: MemberId, life: u32, timer: A::Timer },
    Dial { one: MemberId, other: MemberId },
    Notice { viewer: MemberId, peer: MemberId, session: u32 },
    CutEnds(u64),
}

pub(super) struct World<'s, S: Scenario> {
    pub(super) scenario: &'s S,
    pub(super) schedule: &'s Schedule<Command<S>>,
    pub(super) rules: Vec<Rule<S>>,
    pub(super) setup: <S::Actor as Actor>::Setup,
    pub(super) ledger: S::Ledger,
    pub(super) hosts: Vec<Host<S::Actor>>,
    pub(super) network: Network,
    queue: Queue<Event<S::Actor>>,
    pub(super) now_ms: u64,
    pub(super) stepped: MemberId,
    pub(super) healed: bool,
    pub(super) settled_ms: u64,
    pub(super) unsettled_since: Option<u64>,
    effects: Effects<S::Actor>,
    pub(super) traffic: Traffic,
    pub(super) counts: BTreeMap<&'static str, u64>,
    pub(super) trace: Trace,
    pub(super) violation: Option<Violation>,
}

impl<'s, S: Scenario> World<'s, S> {
    pub(super) fn new(scenario: &'s S, schedule: &'s Schedule<Command<S>>) -> Self {
        let Schedule { seed, members, quality, .. } = *schedule;
        let setup = scenario.setup(seed, members);
        let host = |member| {
            let mut draw = Host::<S::Actor>::dice(seed, member);
            let disk = scenario.disk(member, &setup, &mut draw);
            Host::new(draw, disk)
        };
        let hosts = (0..members).map(MemberId).map(host).collect();
        let mut world = Self {
            scenario,
            schedule,
            rules: scenario.rules(),
            setup,
            ledger: S::Ledger::default(),
            hosts,
            network: Network::new(seed, members, quality),
            queue: Queue::new(),
            now_ms: 0,
            stepped: MemberId(0),
            healed: false,
            settled_ms: 0,
            unsettled_since: None,
            effects: Effects::default(),
            traffic: Traffic::default(),
            counts: BTreeMap::new(),
            trace: Trace::default(),
            violation: None,
        };
        world.plan();
        world
    }

    /// Actions come before the first start, so that a crash can be armed for the very first write.
    fn plan(&mut self) {
        for (index, Planned { at_ms, action }) in self.schedule.actions.iter().enumerate() {
            if let Action::Fault(Fault::DiskRestore { member, taken_ms, .. }) = action {
                let (member, taken_ms) = (*member, *taken_ms);
                self.queue.push(taken_ms, Event::Snapshot { member, taken_ms });
            }
            if *at_ms < self.schedule.busy_ms {
                self.queue.push(*at_ms, Event::Act(index));
            }
        }
        for member in 0..self.schedule.members {
            self.queue.push(0, Event::Start { member: MemberId(member), life: 0 });
        }
    }

    pub(super) fn record_writes(&mut self) {
        self.hosts.iter_mut().for_each(|host| host.writes.record());
    }

    /// Lets everything happen, and then rest. Ends where a rule is broken.
    pub(super) fn run(&mut self) {
        let busy_ms = self.schedule.busy_ms;
        self.run_until(busy_ms);
        if self.violation.is_some() {
            return;
        }
        self.heal();
        let end_ms = busy_ms.saturating_add(self.schedule.settle_ms);
        self.run_until(end_ms);
        // Keys are renewed at any time: a commit that was made just now is waited for.
        if self.unsettled_since.is_some_and(|since| since.saturating_add(ON_ITS_WAY_MS) > end_ms) {
            self.run_until(end_ms.saturating_add(ON_ITS_WAY_MS));
        }
        if self.violation.is_none() {
            self.judge(When::AtRest);
        }
    }

    fn run_until(&mut self, end_ms: u64) {
        while self.violation.is_none()
            && let Some((at_ms, event)) = self.queue.pop(end_ms)
        {
            self.now_ms = at_ms;
            self.happen(event);
        }
        if self.violation.is_none() {
            self.now_ms = end_ms;
        }
    }

    /// Cuts, crashes and withheld messages end with the busy time by themselves: see `ends_ms`.
    fn heal(&mut self) {
        self.healed = true;
        self.network.quality = self.network.quality.calmed();
        for host in &mut self.hosts {
            host.writes.disarm();
            host.flood_until_ms = 0;
        }
        let changes = self.network.mend(self.now_ms, None);
        self.follow(changes);
    }

    /// When something ends that lasts so long, which is when the world heals at the latest.
    pub(super) fn ends_ms(&self, for_ms: u64) -> u64 {
        let end_ms = self.now_ms.saturating_add(for_ms);
        if self.healed { end_ms } else { end_ms.min(self.schedule.busy_ms) }
    }

    fn happen(&mut self, event: Event<S::Actor>) {
        match event {
            Event::Act(index) => self.act(index),
            Event::Snapshot { member, taken_ms } => {
                if let Some(host) = self.hosts.get_mut(member.index()) {
                    host.snapshots.insert(taken_ms, host.disk.clone());
                }
            }
            Event::Start { member, life } => self.start(member, life),
            Event::Arrive { from, to, session, number, message } => {
                self.arrive(from, to, session, number, message);
            }
            Event::Depart { from, to, message } => self.depart(from, to, message),
            Event::Wake { member, life, timer } => {
                if self.hosts.get(member.index()).is_some_and(|host| host.life == life) {
                    self.traffic.wakes += 1;
                    self.step(member, Cause::Timer, |process, cx| process.wake(timer, cx));
                }
            }
            Event::Dial { one, other } => self.connect(one, other),
            Event::Notice { viewer, peer, session } => {
                if self.network.noticed(viewer, peer, session) {
                    self.step(viewer, Cause::Down(peer), |process, cx| process.down(peer, cx));
                }
            }
            Event::CutEnds(name) => {
                let changes = self.network.mend(self.now_ms, Some(name));
                self.follow(changes);
            }
        }
    }

    fn act(&mut self, index: usize) {
        let Some(planned) = self.schedule.actions.get(index) else { return };
        match &planned.action {
            Action::Fault(fault) => self.fault(index, fault),
            Action::Command(member, command) => self.command(index, *member, command.clone()),
            Action::Misdeed(member, command) => {
                if let Some(host) = self.hosts.get_mut(member.index()) {
                    host.honest = false;
                }
                self.command(index, *member, command.clone());
            }
        }
    }

    /// A user who got no answer because the process died asks again as soon as it is back.
    fn command(&mut self, index: usize, member: MemberId, command: Command<S>) {
        if self.hosts.get(member.index()).is_some_and(Host::is_running) {
            self.traffic.commands += 1;
            self.step(member, Cause::Command(index), |process, cx| process.command(command, cx));
            let crashed = self.hosts.get(member.index()).filter(|host| !host.is_running());
            if let Some(back_ms) = crashed.map(|host| host.back_ms) {
                self.queue.push(back_ms, Event::Act(index));
            }
        } else {
            self.traffic.unheard += 1;
        }
    }

    fn start(&mut self, member: MemberId, life: u32) {
        let (effects, now_ms) = (&mut self.effects, self.now_ms);
        let Some(host) = self.hosts.get_mut(member.index()) else { return };
        if host.is_running() || host.life != life {
            return;
        }
        self.stepped = member;
        self.trace.note(now_ms, member, Cause::Start);
        self.scenario.witness(&mut self.ledger, now_ms, member, Sight::Started);
        host.start(Surroundings { now_ms, member, setup: &self.setup, effects });
        let changes = self.network.set_present(now_ms, member, true);
        self.follow(changes);
        self.conclude(member);
    }

    fn arrive(
        &mut self,
        from: MemberId,
        to: MemberId,
        session: u32,
        number: u64,
        message: <S::Actor as Actor>::Message,
    ) {
        let Some(overtaken) = self.network.arrive(from, to, session, number) else {
            self.traffic.cut_on_the_way += 1;
            return;
        };
        self.traffic.reordered += u64::from(overtaken);
        self.traffic.arrived += 1;
        let (kind, fingerprint) = (S::Actor::kind(&message), S::Actor::fingerprint(&message));
        let cause = Cause::Message { from, kind, number, fingerprint };
        self.step(to, cause, |process, cx| process.receive(from, message, cx));
    }

    fn connect(&mut self, one: MemberId, other: MemberId) {
        let Some(session) = self.network.dialled(one, other) else { return };
        self.traffic.sessions += 1;
        for (viewer, peer) in [(one, other), (other, one)] {
            let Some(had_another) = self.network.believe(viewer, peer, session) else { return };
            if had_another {
                self.step(viewer, Cause::Down(peer), |process, cx| process.down(peer, cx));
            }
            self.step(viewer, Cause::Up(peer), |process, cx| process.up(peer, cx));
        }
    }

    fn step(
        &mut self,
        member: MemberId,
        cause: Cause,
        act: impl FnOnce(&mut S::Actor, &mut Context<'_, S::Actor>),
    ) {
        if self.violation.is_some() {
            return;
        }
        let Self { now_ms, setup, effects, .. } = self;
        let Some(host) = self.hosts.get_mut(member.index()).filter(|host| host.is_running()) else { return };
        self.stepped = member;
        self.trace.note(*now_ms, member, cause);
        host.step(Surroundings { now_ms: *now_ms, member, setup, effects }, act);
        self.conclude(member);
    }

    /// Lets out what a step did, in the order in which others could learn of it, and judges it.
    fn conclude(&mut self, member: MemberId) {
        let mut effects = mem::take(&mut self.effects);
        let (sends, timers) = (effects.sends.len() as u64, effects.timers.len() as u64);
        let life = self.hosts.get(member.index()).map_or(0, |host| host.life);
        let attempts = self.hosts.get(member.index()).map_or(0, |host| host.writes.attempts);
        self.trace.mix(&[sends, timers, attempts]);
        for output in effects.outputs.drain(..) {
            self.scenario.witness(&mut self.ledger, self.now_ms, member, Sight::Output(output));
        }
        for (to, message) in effects.sends.drain(..) {
            self.send(member, to, message);
        }
        for (delay_ms, timer) in effects.timers.drain(..) {
            self.queue.push(self.now_ms.saturating_add(delay_ms), Event::Wake { member, life, timer });
        }
        while let Some((what, times)) = effects.counts.pop_first() {
            *self.counts.entry(what).or_default() += times;
        }
        let crashed = effects.crashed.take();
        self.effects = effects;
        if let Some(down_ms) = crashed {
            self.traffic.crashes_in_writes += 1;
            self.kill(member, down_ms, Cause::Crash);
        }
        self.judge_step();
    }

    fn send(&mut self, from: MemberId, to: MemberId, message: <S::Actor as Actor>::Message) {
        let Some(host) = self.hosts.get(from.index()) else { return };
        let copies = if host.flood_until_ms > self.now_ms { host.flood_copies } else { 0 };
        if host.withheld_until_ms > self.now_ms && S::Actor::may_be_withheld(&message) {
            self.traffic.withheld += 1;
            self.queue.push(host.withheld_until_ms, Event::Depart { from, to, message });
            return;
        }
        self.traffic.flooded += u64::from(copies);
        for _ in 0..copies {
            self.depart(from, to, message.clone());
        }
        self.depart(from, to, message);
    }

    fn depart(&mut self, from: MemberId, to: MemberId, message: <S::Actor as Actor>::Message) {
        self.traffic.sent += 1;
        self.scenario.tap(&mut self.ledger, self.now_ms, from, to, &message);
        match self.network.send(self.now_ms, from, to) {
            Crossing::Unconnected => self.traffic.unconnected += 1,
            Crossing::Cut => self.traffic.cut += 1,
            Crossing::Lost => self.traffic.lost += 1,
            Crossing::Arrives { session, number, arrivals } => {
                if let Some(at_ms) = arrivals.second_ms {
                    self.traffic.doubled += 1;
                    let message = message.clone();
                    self.queue.push(at_ms, Event::Arrive { from, to, session, number, message });
                }
                self.queue.push(arrivals.first_ms, Event::Arrive { from, to, session, number, message });
            }
        }
    }

    /// Ends a process, which starts again by itself.
    pub(super) fn kill(&mut self, member: MemberId, down_ms: u64, cause: Cause) {
        let restart_ms = self.ends_ms(down_ms);
        let Some(host) = self.hosts.get_mut(member.index()).filter(|host| host.is_running()) else { return };
        host.kill(restart_ms);
        let life = host.life;
        self.traffic.crashes += 1;
        self.trace.note(self.now_ms, member, cause);
        self.scenario.witness(&mut self.ledger, self.now_ms, member, Sight::Crashed);
        self.queue.push(restart_ms, Event::Start { member, life });
        let changes = self.network.set_present(self.now_ms, member, false);
        self.follow(changes);
    }

    pub(super) fn restore(&mut self, member: MemberId, taken_ms: u64, down_ms: u64) {
        let Some(host) = self.hosts.get_mut(member.index()) else { return };
        let Some(disk) = host.snapshots.get(&taken_ms).cloned() else { return };
        host.disk = disk;
        self.traffic.restores += 1;
        self.kill(member, down_ms, Cause::Restore);
        self.scenario.witness(&mut self.ledger, self.now_ms, member, Sight::Restored { taken_ms });
    }

    pub(super) fn cut(&mut self, cut: Cut, for_ms: u64) {
        self.traffic.cuts += 1;
        let (name, changes) = self.network.cut(self.now_ms, cut);
        self.queue.push(self.ends_ms(for_ms), Event::CutEnds(name));
        self.follow(changes);
    }

    pub(super) fn follow(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Dial { at_ms, one, other } => self.queue.push(at_ms, Event::Dial { one, other }),
                Change::Notice { at_ms, viewer, peer, session } => {
                    self.queue.push(at_ms, Event::Notice { viewer, peer, session });
                }
            }
        }
    }
}
