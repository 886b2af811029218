//! What goes out of the loop to the router's user, without the loop ever waiting for it.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use super::RouterEvent;

/// Events waiting for the user. The last quarter is kept for links, so that a flood of requests
/// never hides that a peer came or went.
const CAPACITY: usize = 1024;
const KEPT_FOR_LINKS: usize = CAPACITY / 4;
/// Link events that wait beyond that; from then on new links are cut instead of told.
const MAX_BACKLOG: usize = 1024;

/// The sending end.
pub(super) struct Outlet {
    sender: mpsc::Sender<RouterEvent>,
    backlog: VecDeque<RouterEvent>,
}

impl Outlet {
    pub(super) fn new() -> (Self, mpsc::Receiver<RouterEvent>) {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        (Self { sender, backlog: VecDeque::new() }, receiver)
    }

    /// There is room for what may be refused or forgotten.
    pub(super) fn has_room(&self) -> bool {
        self.backlog.is_empty() && !self.sender.is_closed() && self.sender.capacity() > KEPT_FOR_LINKS
    }

    /// Tells something that may be forgotten; without room it is dropped.
    pub(super) fn offer(&mut self, event: RouterEvent) {
        if self.has_room() {
            // Only this end sends: the room is still there, or the channel closed just now.
            let _ = self.sender.try_send(event);
        }
    }

    /// Tells something that must arrive.
    pub(super) fn tell(&mut self, event: RouterEvent) {
        if !self.backlog.is_empty() {
            return self.backlog.push_back(event);
        }
        // A closed channel has no one left to tell.
        if let Err(mpsc::error::TrySendError::Full(event)) = self.sender.try_send(event) {
            self.backlog.push_back(event);
        }
    }

    /// No more links should be taken on.
    pub(super) fn is_overrun(&self) -> bool {
        self.backlog.len() >= MAX_BACKLOG
    }

    pub(super) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Waits for room for one event of the backlog. May be cancelled.
    pub(super) async fn drain(&mut self) {
        match self.sender.reserve().await {
            Ok(room) => {
                if let Some(event) = self.backlog.pop_front() {
                    room.send(event);
                }
            }
            Err(_) => self.backlog.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::PeerId, *};

    fn left(number: usize) -> RouterEvent {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number.to_be_bytes());
        RouterEvent::Disconnected { peer: PeerId::of_secret(&seed).unwrap() }
    }

    #[tokio::test]
    async fn links_arrive_in_order_however_late() {
        let (mut outlet, mut events) = Outlet::new();
        while outlet.has_room() {
            outlet.offer(left(0));
        }
        assert_eq!(events.len(), CAPACITY - KEPT_FOR_LINKS);
        for number in 1..=CAPACITY {
            outlet.tell(left(number));
        }
        assert!(outlet.has_backlog() && !outlet.is_overrun());
        for _ in 0..CAPACITY - KEPT_FOR_LINKS {
            events.recv().await.unwrap();
        }
        assert!(!outlet.has_room(), "nothing overtakes the backlog");
        outlet.offer(left(0));
        while outlet.has_backlog() {
            outlet.drain().await;
        }
        for number in 1..=CAPACITY {
            let RouterEvent::Disconnected { peer } = events.recv().await.unwrap() else { panic!() };
            let RouterEvent::Disconnected { peer: expected } = left(number) else { panic!() };
            assert_eq!(peer, expected);
        }
    }

    #[tokio::test]
    async fn no_one_listening_is_no_memory() {
        let (mut outlet, events) = Outlet::new();
        for number in 0..CAPACITY + MAX_BACKLOG {
            outlet.tell(left(number));
        }
        assert!(outlet.is_overrun());
        drop(events);
        outlet.drain().await;
        assert!(!outlet.has_backlog());
        outlet.tell(left(1));
        assert!(!outlet.has_backlog());
    }
}
