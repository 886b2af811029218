//! Two servers, two people, one channel; and numbered messages to recognise on arrival.

use std::time::Duration;

use futures::future::try_join;
use spacepanda_proto::api::v1::{self as api, event::Kind};

use crate::cli::{
    failure::Failure,
    feed::Feed,
    stage::{Resident, Room, found_space},
};

/// Bytes of every text.
const TEXT_BYTES: usize = 256;
/// No message for this long: the rest is lost.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);

/// A sender and a receiver on servers of their own, in one space.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) sender: Resident,
    /// Only to keep its server alive.
    _receiver: Resident,
    pub(super) room: Room,
    pub(super) arrivals: Arrivals,
}

impl Pair {
    /// Starts both and lets them meet.
    ///
    /// # Errors
    /// When a step is refused.
    pub(super) async fn open() -> Result<Self, Failure> {
        let (sender, receiver) = try_join(Resident::move_in("Alice"), Resident::move_in("Bob")).await?;
        receiver.connect_to(&sender).await?;
        let room = found_space(&sender, &[&receiver], "bench").await?;
        let arrivals = Arrivals::of(Feed::from_now(&receiver.client).await?, &room);
        Ok(Self { sender, _receiver: receiver, room, arrivals })
    }
}

/// The numbered messages of one channel as the receiver's stream shows them.
#[derive(Debug)]
pub(super) struct Arrivals {
    feed: Feed,
    channel_id: String,
}

impl Arrivals {
    /// Of a room, as this feed shows them.
    pub(super) fn of(feed: Feed, room: &Room) -> Self {
        Self { feed, channel_id: room.channel_id.clone() }
    }

    /// Waits for this many messages from this number on, each once.
    ///
    /// # Errors
    /// When one does not come, or comes twice.
    pub(super) async fn all(&mut self, first: usize, count: usize) -> Result<(), Failure> {
        let mut ledger = Ledger::new(first, count);
        while ledger.open > 0 {
            ledger.take(self.next().await?)?;
        }
        Ok(())
    }

    /// The number of the next message.
    ///
    /// # Errors
    /// When the stream ends, or nothing arrives for a long time.
    pub(super) async fn next(&mut self) -> Result<usize, Failure> {
        loop {
            let event = tokio::time::timeout(SILENCE_LIMIT, self.feed.next()).await.map_err(|_| {
                Failure::local_fault("MESSAGES_MISSING", "messages were accepted but do not arrive")
            })??;
            if let Some(number) = self.number(&event) {
                return Ok(number);
            }
        }
    }

    fn number(&self, event: &api::Event) -> Option<usize> {
        match &event.kind {
            Some(Kind::MessageAdded(api::MessageAdded { message: Some(message) })) => {
                (message.channel_id == self.channel_id).then(|| number(&message.text)).flatten()
            }
            _ => None,
        }
    }
}

/// A text of 256 bytes that carries a number.
pub(super) fn text(number: usize) -> String {
    format!("{number:.<TEXT_BYTES$}")
}

fn number(text: &str) -> Option<usize> {
    text.split('.').next()?.parse().ok()
}

/// Which of the numbers are still to come.
struct Ledger {
    first: usize,
    arrived: Vec<bool>,
    open: usize,
}

impl Ledger {
    fn new(first: usize, count: usize) -> Self {
        Self { first, arrived: vec![false; count], open: count }
    }

    fn take(&mut self, number: usize) -> Result<(), Failure> {
        let index = number.checked_sub(self.first);
        let Some(arrived) = index.and_then(|index| self.arrived.get_mut(index)) else { return Ok(()) };
        if std::mem::replace(arrived, true) {
            return Err(Failure::local_fault("MESSAGE_REPEATED", "a message was delivered twice"));
        }
        self.open -= 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_256_bytes_and_its_number() {
        for n in [0, 7, 19_999, 10_000_000] {
            assert_eq!(text(n).len(), TEXT_BYTES);
            assert_eq!(number(&text(n)), Some(n));
        }
        assert_eq!(number("hello"), None);
    }

    #[test]
    fn every_number_counts_once() {
        let mut ledger = Ledger::new(10, 2);
        ledger.take(11).unwrap();
        ledger.take(3).unwrap();
        ledger.take(12).unwrap();
        assert_eq!(ledger.open, 1);
        assert_eq!(ledger.take(11).unwrap_err().reason, "MESSAGE_REPEATED");
        ledger.take(10).unwrap();
        assert_eq!(ledger.open, 0);
    }
}
