//! Event streams: how many a login may have, and the task that feeds one.
//!
//! Each stream reads the durable feed at its own pace through a small buffer; a slow one waits for
//! itself only. A feeder never outlives its client, its token, its session or the server.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use spacepanda_core::{metrics::Metrics, model::FeedPage};
use spacepanda_proto::api::v1 as wire;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    status::Refusal,
    wire::{IntoWire as _, event},
};

/// Streams that a login may have at a time.
const MAX_STREAMS: usize = 16;

/// Events on their way to a client; when full, its feeder waits.
const BUFFER: usize = 64;

/// Rows read from the feed at a time.
const ROWS: u32 = 64;

/// Open streams by the SHA-256 of their token.
type Open = Arc<Mutex<HashMap<[u8; 32], usize>>>;

/// All open event streams; cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Streams {
    open: Open,
    token_checks: Arc<watch::Sender<()>>,
    metrics: Metrics,
}

/// A place among a login's streams, given back on drop.
pub(super) struct Slot {
    open: Open,
    token: [u8; 32],
    metrics: Metrics,
}

impl Streams {
    /// None yet; they are counted in these metrics.
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { metrics, ..Self::default() }
    }

    /// Takes a place for one more stream of this login.
    pub(super) fn open(&self, token: &str) -> Result<Slot, Refusal> {
        let token: [u8; 32] = Sha256::digest(token).into();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(token).or_default();
        if *count >= MAX_STREAMS {
            return Err(Refusal::too_many_streams(MAX_STREAMS));
        }
        *count += 1;
        self.metrics.streams.inc();
        Ok(Slot { open: Arc::clone(&self.open), token, metrics: self.metrics.clone() })
    }

    /// Lets every stream see whether its token still holds, because some were revoked.
    pub(super) fn check_tokens(&self) {
        self.token_checks.send_replace(());
    }

    /// Changes whenever tokens were revoked.
    pub(super) fn token_checks(&self) -> watch::Receiver<()> {
        self.token_checks.subscribe()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.metrics.streams.dec();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.token) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.token);
            }
        }
    }
}

/// Where a feeder gets its events from.
pub(super) trait Source: Send + Sync + 'static {
    /// The newest seq; changes whenever rows were added.
    fn newest(&self) -> watch::Receiver<u64>;
    /// Ends when the session does.
    fn stopped(&self) -> CancellationToken;
    /// Up to `limit` rows after `after`.
    fn page(&self, after: u64, limit: u32) -> impl Future<Output = Result<FeedPage, Refusal>> + Send;
    /// Fails once the login's token does not hold any more.
    fn check_token(&self) -> impl Future<Output = Result<(), Refusal>> + Send;
}

/// How long a feeder waits.
pub(super) struct Pace {
    /// For something to tell, before it says that it lives.
    pub(super) keep_alive: Duration,
    /// For the client to take an event.
    pub(super) patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { keep_alive: Duration::from_secs(15), patience: Duration::from_secs(30) }
    }
}

/// Why a stream ends.
enum End {
    /// The client is gone; there is nobody to tell.
    Gone,
    /// The client is told why.
    Refused(Refusal),
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The task behind one stream.
pub(super) struct Feeder<S> {
    source: S,
    newest: watch::Receiver<u64>,
    token_checks: watch::Receiver<()>,
    server_stopping: CancellationToken,
    pace: Pace,
    client: mpsc::Sender<Result<wire::Event, Status>>,
    /// The last seq that the client will see.
    after: u64,
    /// What was asked for is not in this feed: a reset goes first.
    reset: bool,
    caught_up: bool,
}

impl<S: Source> Feeder<S> {
    /// A feeder from `after_seq` on (`None`: from now) and the client's end of it.
    pub(super) fn new(
        source: S,
        after_seq: Option<u64>,
        token_checks: watch::Receiver<()>,
        server_stopping: CancellationToken,
        pace: Pace,
    ) -> (Self, mpsc::Receiver<Result<wire::Event, Status>>) {
        // One place more than the buffer, reserved for the status that ends the stream.
        let (client, events) = mpsc::channel(BUFFER + 1);
        let newest = source.newest();
        let now = *newest.borrow();
        let asked = after_seq.unwrap_or(now);
        // A seq from the future is of another feed, such as one before a restored backup.
        let reset = asked > now;
        let after = if reset { 0 } else { asked };
        let feeder = Self {
            source,
            newest,
            token_checks,
            server_stopping,
            pace,
            client,
            after,
            reset,
            caught_up: false,
        };
        (feeder, events)
    }

    /// Feeds until the client leaves or the stream has to end; says why in the last item.
    pub(super) async fn run(mut self) {
        let Ok(last) = self.client.clone().reserve_owned().await else { return };
        if let End::Refused(refusal) = self.feed().await {
            last.send(Err(refusal.into()));
        }
    }

    async fn feed(&mut self) -> End {
        loop {
            if let Err(end) = self.step().await {
                return end;
            }
        }
    }

    /// Sends one stretch of the feed; waits for more when there is none.
    async fn step(&mut self) -> Result<(), End> {
        // Marked as seen before reading, so that rows added meanwhile wake the wait below.
        self.newest.borrow_and_update();
        let page = self.source.page(self.after, ROWS).await?;
        self.tell_reset(&page).await?;
        for item in page.items {
            let seq = item.seq;
            self.send(item.into_wire()).await?;
            self.after = seq;
        }
        self.after = self.after.max(page.next_after);
        if !page.caught_up {
            return Ok(());
        }
        if !self.caught_up {
            self.caught_up = true;
            self.send(event::caught_up(self.after)).await?;
        }
        self.wait().await
    }

    async fn tell_reset(&mut self, page: &FeedPage) -> Result<(), End> {
        // Whoever asks for the oldest kept cannot have missed anything.
        let gone = page.reset_to.filter(|_| self.after > 0);
        if gone.is_none() && !self.reset {
            return Ok(());
        }
        self.reset = false;
        let oldest = gone.or(page.items.first().map(|item| item.seq)).unwrap_or(page.next_after);
        self.send(event::feed_reset(oldest)).await
    }

    /// Waits for news; says that the stream lives when there are none.
    async fn wait(&mut self) -> Result<(), End> {
        let stopped = self.source.stopped();
        tokio::select! {
            biased;
            () = self.client.closed() => Err(End::Gone),
            () = self.server_stopping.cancelled() => Err(Refusal::stopping().into()),
            () = stopped.cancelled() => Err(self.after_session().await),
            Ok(()) = self.token_checks.changed() => Ok(self.source.check_token().await?),
            changed = self.newest.changed() => match changed {
                Ok(()) => Ok(()),
                Err(_) => Err(self.after_session().await),
            },
            () = tokio::time::sleep(self.pace.keep_alive) => {
                // An open stream is use of its token, and may be the only one.
                self.source.check_token().await?;
                self.send(event::keep_alive(self.after)).await
            }
        }
    }

    /// The session ended: with the token, or alone, and then the client may come back.
    async fn after_session(&self) -> End {
        match self.source.check_token().await {
            Ok(()) => Refusal::session_ended().into(),
            Err(refusal) => refusal.into(),
        }
    }

    async fn send(&self, event: wire::Event) -> Result<(), End> {
        let sending = self.client.send_timeout(Ok(event), self.pace.patience);
        tokio::select! {
            biased;
            () = self.server_stopping.cancelled() => Err(Refusal::stopping().into()),
            sent = sending => sent.map_err(|error| match error {
                mpsc::error::SendTimeoutError::Closed(_) => End::Gone,
                mpsc::error::SendTimeoutError::Timeout(_) => Refusal::slow_consumer(self.after).into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests;
