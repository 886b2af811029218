//! When what was written leaves: not as it was written, so that who watches the network learns little of
//! who types when. Only the sending waits; time and place of what is sent are those of the writing.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use spacepanda_proto::peer::v1::EventKind;

use super::{Network, SlotError};
use crate::{delivery::send_delay, id::GroupId, model::SendTiming, store::outbox};

/// What a server tells of its own accord, and what a commit waits for: with it leaves all written before.
const AT_ONCE: [i32; 3] =
    [EventKind::Profile as i32, EventKind::Addresses as i32, EventKind::ChangeRequest as i32];

/// Until when each group's queued events stay: drawn when the first of them is queued, or found queued after
/// a start or a connection, and for all that come until then.
#[derive(Default)]
pub(super) struct Departures(HashMap<GroupId, Instant>);

impl Departures {
    /// The groups whose time has come; each is told once.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<GroupId> {
        let due: Vec<_> = self.0.iter().filter(|(_, at)| **at <= now).map(|(gid, _)| *gid).collect();
        self.0.retain(|_, at| *at > now);
        due
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().min().copied()
    }

    /// Whether a group's events leave now; else they have a time from now on.
    fn leaves(&mut self, gid: GroupId, now: Instant, delay: impl FnOnce() -> Duration) -> bool {
        let at = *self.0.entry(gid).or_insert_with(|| now + delay());
        let leaves = at <= now;
        if leaves {
            self.0.remove(&gid);
        }
        leaves
    }
}

impl Network {
    /// Whether a group's queued events leave now. Where nobody is there to take them they get no time yet.
    ///
    /// # Errors
    /// [`SlotError`]
    pub(super) async fn may_leave(
        &self,
        gid: GroupId,
        departures: &mut Departures,
    ) -> Result<bool, SlotError> {
        if self.links.count() == 0 {
            return Ok(false);
        }
        let found = self.vault.peek(move |conn| Box::pin(outbox::departure(conn, gid, AT_ONCE))).await?;
        let (timing, at_once) = found.ok_or(SlotError::NotAMember)?;
        if at_once || timing == SendTiming::Fast {
            departures.0.remove(&gid);
            return Ok(true);
        }
        Ok(departures.leaves(gid, Instant::now(), || send_delay(timing, rand::random())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: GroupId = GroupId([1; 16]);
    const OTHER: GroupId = GroupId([2; 16]);

    #[test]
    fn what_comes_later_leaves_with_what_came_first() {
        let (mut departures, start) = (Departures::default(), Instant::now());
        let after = |ms: u64| start + Duration::from_millis(ms);
        assert!(!departures.leaves(ONE, start, || Duration::from_millis(300)));
        assert!(!departures.leaves(OTHER, start, || Duration::from_millis(100)));
        // Another draw does not put it off, nor bring it forward.
        assert!(!departures.leaves(ONE, after(250), || Duration::from_millis(900)));
        assert!(!departures.leaves(ONE, after(260), || Duration::ZERO));
        assert_eq!(departures.next(), Some(after(100)));
        assert_eq!(departures.take_due(after(100)), [OTHER]);
        assert_eq!(departures.take_due(after(299)), []);
        assert_eq!(departures.take_due(after(300)), [ONE]);
        assert_eq!(departures.next(), None);
    }

    #[test]
    fn without_a_delay_it_leaves_at_once_and_nothing_is_left_over() {
        let (mut departures, start) = (Departures::default(), Instant::now());
        assert!(departures.leaves(ONE, start, || Duration::ZERO));
        assert_eq!(departures.next(), None);
    }
}
