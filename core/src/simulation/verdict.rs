//! A world judged: its rules after every step and at rest, and the report in the end.

use super::{
    actor::MemberId,
    report::{ENDS, Report, Violation},
    scenario::{Scenario, View, When},
    world::World,
};

/// By then what one member does has reached all others, on wires that lose nothing.
pub(super) const ON_ITS_WAY_MS: u64 = 2_000;

impl<S: Scenario> World<'_, S> {
    fn view(&self) -> View<'_, S> {
        View {
            now_ms: self.now_ms,
            healed_for_ms: self.healed.then(|| self.now_ms - self.schedule.busy_ms),
            stepped: self.stepped,
            ledger: &self.ledger,
            setup: &self.setup,
            hosts: &self.hosts,
        }
    }

    pub(super) fn judge_step(&mut self) {
        self.judge(When::EveryStep);
        if self.healed {
            self.judge_peace();
        }
        if self.trace.steps >= self.schedule.most_steps {
            self.violate(ENDS, format!("{} steps were not enough", self.trace.steps));
        }
    }

    /// Notes until when the world was not settled; but not for what is only on its way.
    fn judge_peace(&mut self) {
        if !self.scenario.is_settled(&self.view()) {
            self.unsettled_since.get_or_insert(self.now_ms);
        } else if let Some(since) = self.unsettled_since.take()
            && (since <= self.schedule.busy_ms + ON_ITS_WAY_MS || self.now_ms - since > ON_ITS_WAY_MS)
        {
            self.settled_ms = self.now_ms - self.schedule.busy_ms;
        }
    }

    pub(super) fn judge(&mut self, when: When) {
        let view = self.view();
        let broken = self.rules.iter().filter(|rule| rule.when == when).find_map(|rule| {
            let what = (rule.check)(&view).err()?;
            Some((rule.name, what))
        });
        if let Some((rule, what)) = broken {
            self.violate(rule, what);
        }
    }

    pub(super) fn violate(&mut self, rule: &'static str, what: String) {
        let (at_ms, member, last_steps) = (self.now_ms, self.stepped, self.trace.last_steps());
        self.violation.get_or_insert(Violation { rule, what, at_ms, member, last_steps });
    }

    pub(super) fn report(self) -> Report {
        let outcome =
            if self.violation.is_none() { self.scenario.outcome(&self.view()) } else { String::new() };
        let outside = self.scenario.counts(&self.view());
        let recorded = (0..).map(MemberId).zip(&self.hosts);
        let writes = recorded
            .flat_map(|(member, host)| host.writes.recorded().iter().map(move |write| (member, *write)))
            .collect();
        let fired = self.hosts.iter().flat_map(|host| host.writes.fired.iter().copied()).collect();
        let mut counts = self.counts;
        counts.extend(outside);
        counts.extend(self.traffic.counts());
        counts.insert("writes", self.hosts.iter().map(|host| host.writes.attempts).sum());
        counts.insert("writes failed", self.hosts.iter().map(|host| host.writes.failed).sum());
        Report {
            seed: self.schedule.seed,
            trace: self.trace.hash(),
            steps: self.trace.steps,
            members: self.schedule.members,
            settled_ms: if self.unsettled_since.is_some() {
                self.now_ms - self.schedule.busy_ms
            } else {
                self.settled_ms
            },
            virtual_ms: self.now_ms,
            counts,
            outcome,
            writes,
            violation: self.violation,
            fired,
        }
    }
}
