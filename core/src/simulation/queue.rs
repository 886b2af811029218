//! What is to happen: by time, and at the same time in the order in which it was decided.

use std::{cmp::Ordering, collections::BinaryHeap};

struct Entry<E> {
    at_ms: u64,
    number: u64,
    event: E,
}

impl<E> Entry<E> {
    fn key(&self) -> (u64, u64) {
        (self.at_ms, self.number)
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    /// The earliest is the greatest, which is what a heap gives out.
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

pub(super) struct Queue<E> {
    heap: BinaryHeap<Entry<E>>,
    pushed: u64,
}

impl<E> Queue<E> {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new(), pushed: 0 }
    }

    pub(super) fn push(&mut self, at_ms: u64, event: E) {
        self.pushed += 1;
        self.heap.push(Entry { at_ms, number: self.pushed, event });
    }

    /// The next event up to `end_ms`.
    pub(super) fn pop(&mut self, end_ms: u64) -> Option<(u64, E)> {
        if self.heap.peek()?.at_ms > end_ms {
            return None;
        }
        self.heap.pop().map(|entry| (entry.at_ms, entry.event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_the_order_of_their_making() {
        let mut queue = Queue::new();
        for (at_ms, event) in [(5, 'c'), (3, 'a'), (5, 'd'), (3, 'b'), (9, 'e')] {
            queue.push(at_ms, event);
        }
        let popped: String = std::iter::from_fn(|| queue.pop(8)).map(|(_, event)| event).collect();
        assert_eq!(popped, "abcd");
        assert_eq!(queue.pop(9), Some((9, 'e')));
    }
}
