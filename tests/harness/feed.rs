//! A person's event stream, read with deadlines.
//!
//! It must not drop an event that it read: what a story skips stays in `seen`.

use std::time::Duration;

use spacepanda_proto::api::v1::{Event, Message, SubscribeRequest, event::Kind};
use tokio::time::{Instant, timeout_at};
use tonic::{Status, Streaming};

use super::{client::Person, wait::DEADLINE};

/// An open stream.
pub(crate) struct Feed {
    stream: Streaming<Event>,
    whose: String,
    /// Every event read so far, keep-alives left out.
    pub(crate) seen: Vec<Event>,
}

impl Feed {
    /// Opens a stream after `seq`; `None`: from now.
    ///
    /// # Errors
    /// What the server answered.
    pub(crate) async fn open(person: &Person, after_seq: Option<u64>) -> Result<Self, Status> {
        let stream = person.feed_service().subscribe(SubscribeRequest { after_seq }).await?.into_inner();
        Ok(Self { stream, whose: person.name().into(), seen: Vec::new() })
    }

    /// The next event, whatever it is but a keep-alive.
    ///
    /// # Errors
    /// What the stream ended with; CANCELLED when it just ended.
    pub(crate) async fn try_next(&mut self, deadline: Duration) -> Result<Event, Status> {
        let end = Instant::now() + deadline;
        loop {
            let next = timeout_at(end, self.stream.message()).await;
            let next = next.map_err(|_| Status::deadline_exceeded("no event in time"))?;
            let event = next?.ok_or_else(|| Status::cancelled("the stream ended"))?;
            if !matches!(event.kind, Some(Kind::KeepAlive(_))) {
                self.seen.push(event.clone());
                return Ok(event);
            }
        }
    }

    /// The next event that `pick` takes, within the usual deadline.
    pub(crate) async fn next_matching<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(&Kind) -> Option<T>,
    ) -> T {
        let end = Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.try_next(left).await {
                Ok(event) => {
                    if let Some(found) = event.kind.as_ref().and_then(&mut pick) {
                        return found;
                    }
                }
                Err(status) => panic!(
                    "waited for {what} in the events of {}\nended with: {status}\nseen: {:#?}",
                    self.whose, self.seen
                ),
            }
        }
    }

    /// Reads on until the stream ends; answers what it ended with.
    pub(crate) async fn until_end(&mut self) -> Status {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Err(status) = self.try_next(end.saturating_duration_since(Instant::now())).await {
                assert!(Instant::now() < end, "the stream of {} did not end", self.whose);
                return status;
            }
        }
    }

    /// Reads on until the stream has told everything stored; answers the seq to go on from.
    pub(crate) async fn until_caught_up(&mut self) -> u64 {
        self.next_matching("caught_up", |kind| match kind {
            Kind::CaughtUp(caught_up) => Some(caught_up.seq),
            _ => None,
        })
        .await
    }

    /// The next message.
    pub(crate) async fn next_message(&mut self) -> Message {
        self.next_matching("a message", |kind| match kind {
            Kind::MessageAdded(added) => added.message.clone(),
            _ => None,
        })
        .await
    }

    /// The texts of all messages read so far.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.seen.iter().filter_map(text).collect()
    }

    /// The events read so far that are stored in the feed.
    pub(crate) fn stored(&self) -> Vec<Event> {
        self.seen.iter().filter(|event| is_stored(event)).cloned().collect()
    }

    /// The seq to resume from after what was read so far.
    pub(crate) fn last_seq(&self) -> Option<u64> {
        self.stored().last().map(|event| event.seq)
    }
}

/// Whether the event is a row of the feed, not a remark about the stream.
pub(crate) fn is_stored(event: &Event) -> bool {
    !matches!(event.kind, None | Some(Kind::CaughtUp(_) | Kind::FeedReset(_) | Kind::KeepAlive(_)))
}

fn text(event: &Event) -> Option<String> {
    match event.kind.as_ref()? {
        Kind::MessageAdded(added) => Some(added.message.as_ref()?.text.clone()),
        _ => None,
    }
}
