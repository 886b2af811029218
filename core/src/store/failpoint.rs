//! Where a vault dies in a test (feature `testing`): right before or right after one step, as if its process had
//! been killed there. Nothing more is written and nobody hears of what was.
//!
//! A step is known by the code that asks for it: the path of its closure.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// On which side of its step a vault dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Nothing of the step is durable.
    Before,
    /// All of it is, and whoever asked for it was not told.
    After,
}

struct Armed {
    step: &'static str,
    at: At,
    /// Steps of this kind that pass before.
    passing: u32,
}

/// At most one death.
#[derive(Default)]
pub(super) struct Failpoint {
    armed: Mutex<Option<Armed>>,
    dead: AtomicBool,
}

impl Failpoint {
    pub(super) fn arm(&self, step: &'static str, at: At, passing: u32) {
        *self.armed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Armed { step, at, passing });
    }

    pub(super) fn disarm(&self) {
        *self.armed.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Where to die in the step of this closure, if here.
    pub(super) fn meets(&self, closure: &str) -> Option<At> {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let point = armed.as_mut().filter(|point| closure.contains(point.step))?;
        if let Some(passing) = point.passing.checked_sub(1) {
            point.passing = passing;
            return None;
        }
        armed.take().map(|point| point.at)
    }

    pub(super) fn die(&self) {
        self.dead.store(true, Ordering::Release);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }
}
