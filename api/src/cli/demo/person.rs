//! Someone in the story and what their event stream has shown them so far.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use spacepanda_proto::api::v1::{self as api, DeliveryState, event::Kind};
use tokio::{sync::watch, task::JoinSet};

use crate::cli::{
    failure::Failure,
    feed::Feed,
    stage::{CONDITION_DEADLINE, Resident, never},
};

/// What a stream has shown.
#[derive(Debug, Default)]
struct Seen {
    messages: HashMap<String, Instant>,
    /// Messages that came more than once.
    repeated: usize,
    delivered: HashMap<String, bool>,
    /// The stream ended for good.
    broken: Option<Failure>,
}

impl Seen {
    fn take(&mut self, event: api::Event, at: Instant) {
        match event.kind {
            Some(Kind::MessageAdded(api::MessageAdded { message: Some(message) })) => {
                let earlier = self.messages.insert(message.message_id, at);
                self.repeated += usize::from(earlier.is_some());
            }
            Some(Kind::DeliveryChanged(change)) => {
                let state = change.delivery.map(|delivery| delivery.state());
                let arrived = matches!(state, Some(DeliveryState::Delivered | DeliveryState::Read));
                self.delivered.insert(change.message_id, arrived);
            }
            _ => {}
        }
    }
}

/// Someone with a server whose event stream is watched.
#[derive(Debug)]
pub(super) struct Person {
    /// The person and their server.
    pub(super) resident: Resident,
    seen: watch::Receiver<Seen>,
    // Stops the watching when dropped.
    _watching: JoinSet<()>,
}

impl Person {
    /// Starts a server, creates the account, and opens its event stream.
    ///
    /// # Errors
    /// When the server does not start or refuses.
    pub(super) async fn arrive(name: &str) -> Result<Self, Failure> {
        let resident = Resident::move_in(name).await?;
        let feed = Feed::from_now(&resident.client).await?;
        let (sender, seen) = watch::channel(Seen::default());
        let mut watching = JoinSet::new();
        watching.spawn(watch(feed, sender));
        Ok(Self { resident, seen, _watching: watching })
    }

    /// The person's name.
    pub(super) fn name(&self) -> &str {
        &self.resident.name
    }

    /// Waits until the stream has shown a message; when it did.
    ///
    /// # Errors
    /// When it does not in time.
    pub(super) async fn sees(&self, message: &api::Message) -> Result<Instant, Failure> {
        let what = format!("{} sees \"{}\"", self.name(), message.text);
        self.until(&what, |seen| seen.messages.get(&message.message_id).copied()).await
    }

    /// Waits until every recipient's device has processed one's own message.
    ///
    /// # Errors
    /// When that does not happen in time.
    pub(super) async fn knows_delivered(&self, message: &api::Message) -> Result<(), Failure> {
        let what = format!("\"{}\" of {} is confirmed by everyone", message.text, self.name());
        self.until(&what, |seen| seen.delivered.get(&message.message_id)?.then_some(())).await
    }

    /// Messages that the stream has shown more than once.
    pub(super) fn repeated(&self) -> usize {
        self.seen.borrow().repeated
    }

    async fn until<T>(&self, what: &str, found: impl Fn(&Seen) -> Option<T>) -> Result<T, Failure> {
        let mut seen = self.seen.clone();
        let waiting = seen.wait_for(|seen| seen.broken.is_some() || found(seen).is_some());
        let seen = deadline(CONDITION_DEADLINE, waiting).await.ok_or_else(|| never(what))?;
        match (found(&seen), &seen.broken) {
            (Some(value), _) => Ok(value),
            (None, Some(failure)) => Err(failure.clone()),
            (None, None) => Err(never(what)),
        }
    }
}

async fn deadline<T, E>(limit: Duration, waiting: impl Future<Output = Result<T, E>>) -> Option<T> {
    tokio::time::timeout(limit, waiting).await.ok()?.ok()
}

async fn watch(mut feed: Feed, seen: watch::Sender<Seen>) {
    loop {
        match feed.next().await {
            Ok(event) => {
                let at = Instant::now();
                seen.send_modify(|seen| seen.take(event, at));
            }
            Err(failure) => {
                seen.send_modify(|seen| seen.broken = Some(failure));
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(id: &str) -> api::Event {
        let message = api::Message { message_id: id.into(), ..Default::default() };
        let kind = Kind::MessageAdded(api::MessageAdded { message: Some(message) });
        api::Event { kind: Some(kind), ..Default::default() }
    }

    #[test]
    fn a_repeated_message_is_counted() {
        let mut seen = Seen::default();
        for id in ["a", "b", "a"] {
            seen.take(added(id), Instant::now());
        }
        assert_eq!((seen.messages.len(), seen.repeated), (2, 1));
    }
}
