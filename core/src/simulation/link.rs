//! The way from one member to another: how long it takes, what gets lost, doubled or overtaken.

use std::{fmt, ops::RangeInclusive};

use super::draw::{Draw, Stream};

/// How wires are. Shares are in parts of a million messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quality {
    /// The shortest and the longest way of a message, in milliseconds.
    pub delay_ms: (u64, u64),
    /// Lost, although the session stays.
    pub lost_ppm: u32,
    /// Arriving twice.
    pub doubled_ppm: u32,
    /// Free to overtake those sent before, and to be overtaken.
    pub reordered_ppm: u32,
    /// Until a side learns that a session is over, in milliseconds.
    pub notice_ms: (u64, u64),
    /// Until members that can reach each other have a session, in milliseconds.
    pub dial_ms: (u64, u64),
}

impl Quality {
    /// The Internet on a bad day.
    pub const ROUGH: Self = Self {
        delay_ms: (50, 500),
        lost_ppm: 10_000,
        doubled_ppm: 10_000,
        reordered_ppm: 100_000,
        notice_ms: (0, 20_000),
        dial_ms: (100, 5_000),
    };

    /// Slow, but nothing is lost, doubled or overtaken.
    pub const CALM: Self = Self::ROUGH.calmed();

    /// The same delays without losses, duplicates and reordering.
    #[must_use]
    pub const fn calmed(self) -> Self {
        Self { lost_ppm: 0, doubled_ppm: 0, reordered_ppm: 0, ..self }
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { delay_ms: (least, most), lost_ppm, doubled_ppm, reordered_ppm, .. } = self;
        write!(
            f,
            "links of {least} to {most} ms, of a million {lost_ppm} lost, {doubled_ppm} doubled, \
             {reordered_ppm} reordered"
        )
    }
}

pub(super) fn range((least, most): (u64, u64)) -> RangeInclusive<u64> {
    least..=most.max(least)
}

/// When a message arrives, and its double.
#[derive(Clone, Copy)]
pub(super) struct Arrivals {
    pub(super) first_ms: u64,
    pub(super) second_ms: Option<u64>,
}

/// One direction between two members.
pub(super) struct Link {
    draw: Draw,
    sent: u64,
    /// No message that keeps the order arrives before it.
    in_order_ms: u64,
    newest_arrived: u64,
}

impl Link {
    pub(super) fn new(seed: u64, from: u16, to: u16) -> Self {
        let draw = Draw::new(seed, Stream::Link(from, to));
        Self { draw, sent: 0, in_order_ms: 0, newest_arrived: 0 }
    }

    pub(super) fn draw(&mut self, between: (u64, u64)) -> u64 {
        self.draw.within(&range(between))
    }

    /// Numbers a message and decides its fate; none if it is lost. Always draws the same number of times, so
    /// that calm wires have the delays of rough ones.
    pub(super) fn carry(&mut self, now_ms: u64, quality: &Quality) -> (u64, Option<Arrivals>) {
        self.sent += 1;
        let lost = self.draw.chance(quality.lost_ppm);
        let doubled = self.draw.chance(quality.doubled_ppm);
        let free = self.draw.chance(quality.reordered_ppm);
        let (way_ms, second_way_ms) = (self.draw(quality.delay_ms), self.draw(quality.delay_ms));
        if lost {
            return (self.sent, None);
        }
        let mut first_ms = now_ms.saturating_add(way_ms);
        if !free {
            first_ms = first_ms.max(self.in_order_ms);
            self.in_order_ms = first_ms;
        }
        let second_ms = doubled.then(|| now_ms.saturating_add(second_way_ms));
        (self.sent, Some(Arrivals { first_ms, second_ms }))
    }

    /// Notes an arrival: whether one sent later had come before.
    pub(super) fn arrived(&mut self, number: u64) -> bool {
        let overtaken = number < self.newest_arrived;
        self.newest_arrived = self.newest_arrived.max(number);
        overtaken
    }
}
