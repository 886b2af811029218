//! What a schedule's faults do to a world.

use super::{
    network::Cut,
    scenario::Scenario,
    schedule::{CrashAt, Fault},
    trace::Cause,
    world::World,
};

impl<S: Scenario> World<'_, S> {
    pub(super) fn fault(&mut self, index: usize, fault: &Fault) {
        match fault {
            Fault::Crash { member, at: CrashAt::Now, down_ms } => self.kill(*member, *down_ms, Cause::Crash),
            Fault::Crash { member, at, down_ms } => {
                if let Some(host) = self.hosts.get_mut(member.index()) {
                    host.writes.arm_crash(index, *at, *down_ms);
                }
            }
            Fault::FailingCommit { member, write } => {
                if let Some(host) = self.hosts.get_mut(member.index()) {
                    host.writes.arm_failure(index, *write);
                }
            }
            Fault::Partition { groups, for_ms } => {
                let members = u16::try_from(self.hosts.len()).unwrap_or(u16::MAX);
                self.cut(Cut::groups(members, groups), *for_ms);
            }
            Fault::OneWayCut { from, to, for_ms } => self.cut(Cut::OneWay(*from, *to), *for_ms),
            Fault::Offline { member, for_ms } => self.cut(Cut::Island(*member), *for_ms),
            Fault::Heal => {
                let changes = self.network.mend(self.now_ms, None);
                self.follow(changes);
            }
            Fault::ClockSkew { member, skew_ms } => {
                if let Some(host) = self.hosts.get_mut(member.index()) {
                    host.skew_ms = *skew_ms;
                }
            }
            Fault::DiskRestore { member, taken_ms, down_ms } => self.restore(*member, *taken_ms, *down_ms),
            Fault::Flood { member, copies, for_ms } => {
                let until_ms = self.ends_ms(*for_ms);
                if let Some(host) = self.hosts.get_mut(member.index()) {
                    (host.flood_copies, host.flood_until_ms) = (*copies, until_ms);
                }
            }
            Fault::Withhold { member, for_ms } => {
                let until_ms = self.ends_ms(*for_ms);
                if let Some(host) = self.hosts.get_mut(member.index()) {
                    host.withheld_until_ms = until_ms;
                }
            }
        }
    }
}
