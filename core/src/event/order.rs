//! The order of events: lamport times, and the one order that all members show.

use super::{Event, EventError, MAX_COUNTER};
use crate::id::LogId;

/// Where an event stands among all others of its group; the order shown to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Lamport time, first.
    pub lamport: u64,
    /// The log among those of equal time.
    pub log: LogId,
    /// The place in the log.
    pub seq: u64,
}

/// What this device knows of the lamport time of an event that another refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knowledge {
    /// The event is known, with this time.
    Exact(u64),
    /// The event lies at or below the floor where this device's knowledge of its log begins; this
    /// is the time at the floor.
    AtMost(u64),
}

/// The lamport time of an event that refers to events of these times.
///
/// # Errors
/// [`EventError::Limit`] beyond [`MAX_COUNTER`].
pub fn next_lamport(known: impl IntoIterator<Item = u64>) -> Result<u64, EventError> {
    let largest = known.into_iter().max().unwrap_or(0);
    largest.checked_add(1).filter(|next| *next <= MAX_COUNTER).ok_or(EventError::Limit)
}

/// Checks an event's lamport time against what is known of the events it refers to.
///
/// `prev` and `deps` say what is known of those of the event, `deps` in the event's order.
///
/// # Errors
/// [`EventError::Lamport`] when the time is not `1 + max` of them, or, where some lie below a floor,
/// outside of what is possible.
pub fn check_lamport(event: &Event, prev: Option<Knowledge>, deps: &[Knowledge]) -> Result<(), EventError> {
    if prev.is_some() != event.prev.is_some() || deps.len() != event.deps.len() {
        return Err(EventError::Lamport);
    }
    let all = || prev.iter().chain(deps);
    let exact = all().filter_map(|known| match known {
        Knowledge::Exact(time) => Some(*time),
        Knowledge::AtMost(_) => None,
    });
    let earliest = next_lamport(exact)?;
    let latest = next_lamport(all().map(|(Knowledge::Exact(time) | Knowledge::AtMost(time))| *time))?;
    if (earliest..=latest).contains(&event.lamport) { Ok(()) } else { Err(EventError::Lamport) }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Body, EventRef},
        Knowledge::{AtMost, Exact},
        *,
    };
    use crate::id::{DeviceId, EventId, GroupId, StateId};

    fn event(lamport: u64, prev: Option<Knowledge>, deps: &[Knowledge]) -> Event {
        let reference = EventRef { log: LogId([2; 16]), seq: 1, event_id: EventId([0; 32]) };
        Event {
            gid: GroupId([0; 16]),
            log: LogId([1; 16]),
            seq: 1,
            prev: prev.map(|_| EventId([0; 32])),
            lamport,
            deps: vec![reference; deps.len()],
            seen_sid: StateId([0; 32]),
            wall_ms: 0,
            author: DeviceId([0; 32]),
            body: Body::Profile { display_name: String::new() },
        }
    }

    fn accepted(prev: Option<Knowledge>, deps: &[Knowledge]) -> Vec<u64> {
        (0..20).filter(|time| check_lamport(&event(*time, prev, deps), prev, deps).is_ok()).collect()
    }

    #[test]
    fn known_references_leave_one_time() {
        assert_eq!(accepted(None, &[]), [1]);
        assert_eq!(accepted(Some(Exact(4)), &[]), [5]);
        assert_eq!(accepted(Some(Exact(4)), &[Exact(9), Exact(2)]), [10]);
        assert_eq!(accepted(None, &[Exact(0)]), [1]);
    }

    #[test]
    fn floors_leave_a_range() {
        assert_eq!(accepted(Some(Exact(4)), &[AtMost(7)]), [5, 6, 7, 8]);
        assert_eq!(accepted(Some(AtMost(2)), &[AtMost(1)]), [1, 2, 3]);
        assert_eq!(accepted(Some(Exact(9)), &[AtMost(3)]), [10], "a floor below adds nothing");
    }

    #[test]
    fn knowledge_must_fit_the_event() {
        let lonely = event(1, None, &[]);
        assert_eq!(check_lamport(&lonely, Some(Exact(0)), &[]), Err(EventError::Lamport));
        assert_eq!(check_lamport(&lonely, None, &[Exact(0)]), Err(EventError::Lamport));
        let referring = event(6, Some(Exact(5)), &[Exact(1)]);
        assert_eq!(check_lamport(&referring, Some(Exact(5)), &[]), Err(EventError::Lamport));
    }

    #[test]
    fn times_never_overflow() {
        let largest = event(u64::MAX, Some(Exact(u64::MAX)), &[]);
        assert_eq!(check_lamport(&largest, Some(Exact(u64::MAX)), &[]), Err(EventError::Limit));
        assert_eq!(next_lamport([MAX_COUNTER]), Err(EventError::Limit));
        assert_eq!(next_lamport([MAX_COUNTER - 1, 3]), Ok(MAX_COUNTER));
    }

    #[test]
    fn order_is_time_then_log_then_place() {
        let at = |lamport, log, seq| Position { lamport, log: LogId([log; 16]), seq };
        let mut positions = vec![at(2, 0, 1), at(1, 9, 9), at(2, 1, 0), at(2, 0, 2)];
        positions.sort();
        assert_eq!(positions, [at(1, 9, 9), at(2, 0, 1), at(2, 0, 2), at(2, 1, 0)]);
    }
}
