//! When a device renews its keys though nobody asks for a commit: what a thief has copied of a device opens
//! nothing any more once the device has committed.
//!
//! Every commit renews its committer's keys, so only whoever has not committed for long has to do so for its
//! own sake. [`turn`](super::turn) says when in the group's life.

use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::Dag;
use crate::id::{DeviceId, StateId};

/// Keys are renewed this long after the device's last commit, or after it came in.
pub const RENEWAL: Duration = Duration::from_secs(24 * 3600);
/// In large groups so much for each device, so that there are no more than four such commits an hour.
pub const RENEWAL_A_DEVICE: Duration = Duration::from_secs(15 * 60);

/// How long after the state `last` a device's keys are due, in a group of so many devices: 75 to 125 % of
/// [`RENEWAL`] or of the group's share, whichever is longer. By the hash of both, so that devices that came
/// together do not commit together, and a restart changes nothing.
pub fn due_after(own: &DeviceId, last: &StateId, devices: usize) -> Duration {
    let share = RENEWAL_A_DEVICE.saturating_mul(u32::try_from(devices).unwrap_or(u32::MAX));
    let whole = RENEWAL.max(share);
    let digest = Sha256::new().chain_update(b"renewal").chain_update(own.0).chain_update(last.0).finalize();
    let chance = u32::from(digest.first().copied().unwrap_or_default());
    whole / 4 * 3 + whole / 512 * chance
}

impl Dag {
    /// The last state on the way to `head` in which this device's keys were new: one that it committed or was
    /// let into, or the oldest that is known here.
    pub fn last_renewal(&self, head: &StateId) -> Option<StateId> {
        let mut way = std::iter::successors(self.node(head), |node| {
            let renewed = node.committer == self.own || self.roots.contains_key(&node.sid);
            self.parent(&node.sid).filter(|_| !renewed)
        });
        let first = way.next()?;
        Some(way.last().unwrap_or(first).sid)
    }
}
