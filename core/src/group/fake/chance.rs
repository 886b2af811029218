//! Where the fake's random bytes come from: one stream a device, so that a run can be repeated and what
//! one device draws does not move what another gets.

use std::{cell::RefCell, collections::BTreeMap};

use super::{Key, hash};
use crate::id::DeviceId;

#[derive(Default)]
struct Chance {
    seed: u64,
    drawn: BTreeMap<DeviceId, u64>,
}

thread_local! {
    static CHANCE: RefCell<Chance> = RefCell::default();
}

/// Starts all streams of this thread anew. From the same seed the same calls give the same bytes.
pub fn seed_chance(seed: u64) {
    CHANCE.with_borrow_mut(|chance| *chance = Chance { seed, drawn: BTreeMap::new() });
}

/// The next random bytes of a device.
pub(super) fn draw(device: &DeviceId) -> Key {
    CHANCE.with_borrow_mut(|chance| {
        let count = chance.drawn.entry(*device).or_default();
        *count += 1;
        hash("chance", &[&chance.seed.to_be_bytes(), device.as_bytes(), &count.to_be_bytes()])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_devices_do_not_move_each_other() {
        let [one, other] = [DeviceId([1; 32]), DeviceId([2; 32])];
        seed_chance(7);
        let first = [draw(&one), draw(&one)];
        assert_ne!(first[0], first[1]);
        seed_chance(7);
        assert_ne!(draw(&other), first[0]);
        assert_eq!([draw(&one), draw(&one)], first);
        seed_chance(8);
        assert_ne!(draw(&one), first[0]);
    }
}
