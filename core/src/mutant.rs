//! Wrong rules, for tests that must notice them.
//!
//! A test that still passes with a rule broken proves nothing about the rule. Rules therefore ask
//! [`on`] in the few places where they can be broken on purpose; outside of tests its answer is a
//! constant, and the compiler drops the question.

/// A rule, broken in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Among children without a lock the last wins instead of the first.
    TieBreakFlipped,
    /// Accounts vote on their own removal.
    OwnRemovalVoteCounted,
    /// A child that more than half of the accounts support has no advantage.
    MajorityLockOff,
    /// More than half of all accounts are not asked before those that may vote.
    MajorityOfAllOff,
    /// A device that a commit removes counts its own vote on that.
    OwnRemovalHereVoteCounted,
    /// A child with a long history that few but all active accounts support has no advantage.
    SettledLockOff,
    /// A child known only by hearsay wins by the class that it claims.
    SkeletonClassTrusted,
    /// Every device has a whole vote, not its share of its account's.
    SupportCountedPerDevice,
    /// A device that supported two states at once keeps its vote.
    EquivocatorCounted,
    /// States lose their secrets while late frames are still on their way.
    PruneEarly,
    /// A device that sees nobody commits as if it did.
    IsolationIgnored,
    /// A committer does not keep the state that its own commit leads to.
    OwnChildNotStored,
    /// Messages are sent to someone whose removal is known.
    RemovalGateOff,
    /// Requests that only an abandoned branch acted on stay closed.
    ReopenSkipped,
    /// A device says that it has what is not on its disk yet.
    AckBeforeCommit,
    /// What comes again is shown again.
    DedupeOff,
    /// What waits to be sent is dropped when the head moves to another state.
    OutboxDroppedOnSwitch,
    /// Events are sent again to whoever lacks them.
    CarryToAnyone,
    /// Supports for different states carry the same counter.
    TipCounterNotKept,
    /// A device sends before it knows that its disk is the newest one.
    SealBeforeEcho,
    /// A state's rows change when a commit is made on it.
    ParentRowsMutated,
    /// Nobody sends again what someone lacks.
    GapsNotFilled,
    /// A request that was acted on may be acted on again.
    OldRequestReplayed,
    /// The head stays on the branch that came first.
    FirstSeenWins,
    /// A message leaves before it is stored.
    SentBeforeStored,
    /// The user is told before an event is stored.
    AcceptedBeforeStored,
    /// Who lost the way does not ask for a fresh leaf.
    NeverRejoins,
    /// Nobody waits for others' turns. That costs forks and breaks nothing, so it is measured, not hunted.
    SlotsOff,
}

#[cfg(any(test, feature = "testing"))]
impl Mutant {
    /// Those that an invariant must notice.
    pub const ALL: [Self; 27] = [
        Self::TieBreakFlipped,
        Self::OwnRemovalVoteCounted,
        Self::MajorityLockOff,
        Self::MajorityOfAllOff,
        Self::OwnRemovalHereVoteCounted,
        Self::SettledLockOff,
        Self::SkeletonClassTrusted,
        Self::SupportCountedPerDevice,
        Self::EquivocatorCounted,
        Self::PruneEarly,
        Self::IsolationIgnored,
        Self::OwnChildNotStored,
        Self::RemovalGateOff,
        Self::ReopenSkipped,
        Self::AckBeforeCommit,
        Self::DedupeOff,
        Self::OutboxDroppedOnSwitch,
        Self::CarryToAnyone,
        Self::TipCounterNotKept,
        Self::SealBeforeEcho,
        Self::ParentRowsMutated,
        Self::GapsNotFilled,
        Self::OldRequestReplayed,
        Self::FirstSeenWins,
        Self::SentBeforeStored,
        Self::AcceptedBeforeStored,
        Self::NeverRejoins,
    ];
}

/// Whether a rule is to be broken.
#[cfg(not(any(test, feature = "testing")))]
pub const fn on(_: Mutant) -> bool {
    false
}

#[cfg(any(test, feature = "testing"))]
pub use switch::{on, with, with_all};

#[cfg(any(test, feature = "testing"))]
mod switch {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static BROKEN: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Whether a rule is to be broken: inside [`with`], on its thread.
    pub fn on(mutant: Mutant) -> bool {
        BROKEN.get() == Some(mutant)
    }

    /// Runs something with one rule broken, on this thread only.
    pub fn with<R>(mutant: Mutant, run: impl FnOnce() -> R) -> R {
        with_all(Some(mutant), run)
    }

    /// Runs something with this rule broken, or with none.
    pub fn with_all<R>(broken: Option<Mutant>, run: impl FnOnce() -> R) -> R {
        let _mended = Mend(BROKEN.replace(broken));
        run()
    }

    /// Puts back what was before, also when the run panics.
    struct Mend(Option<Mutant>);

    impl Drop for Mend {
        fn drop(&mut self) {
            BROKEN.set(self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_broken_inside_only() {
        let (one, other) = (Mutant::PruneEarly, Mutant::TieBreakFlipped);
        assert!(!on(one));
        assert!(with(one, || on(one) && !on(other) && with(other, || on(other) && !on(one)) && on(one)));
        assert!(!on(one));
    }

    #[test]
    fn a_panic_mends_the_rule() {
        let panicked = std::panic::catch_unwind(|| with(Mutant::PruneEarly, || panic!("on purpose")));
        assert!(panicked.is_err() && !on(Mutant::PruneEarly));
    }
}
