//! The account's event feed, without gaps or repeats across lost connections.
//!
//! It knows positions and connections, not what the events mean.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use spacepanda_proto::api::v1::{self as api, event::Kind};
use tokio::time::Instant;
use tonic::{Code, Status, Streaming};

use super::{
    connect::{CALL_DEADLINE, Client},
    failure::{Failure, is_broken_link},
};

/// Three keep-alives of the server missed: the connection is dead.
const SILENCE_LIMIT: Duration = Duration::from_secs(45);
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LAST_DELAY: Duration = Duration::from_secs(2);

/// A position in the feed and the stream that goes on from it.
#[derive(Debug)]
pub(super) struct Feed {
    client: Client,
    /// The last seq taken; unset until the server said where now is.
    after: Option<u64>,
    stream: Option<Streaming<api::Event>>,
    backoff: Option<ExponentialBackoff>,
    /// When the next attempt to connect may start; survives a cancelled `next`.
    retry_at: Option<Instant>,
}

impl Feed {
    /// Everything from this moment on. Returns once the position is known.
    ///
    /// # Errors
    /// When the server refuses, or does not answer in time.
    pub(super) async fn from_now(client: &Client) -> Result<Self, Failure> {
        let mut feed = Self::at(client, None);
        let located = async {
            while feed.after.is_none() {
                feed.next().await?;
            }
            Ok(())
        };
        match tokio::time::timeout(CALL_DEADLINE, located).await {
            Ok(Ok(())) => Ok(feed),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(Failure::deadline(client.server(), CALL_DEADLINE.as_secs())),
        }
    }

    /// Everything after `seq`; 0 for the oldest kept.
    pub(super) fn after(client: &Client, seq: u64) -> Self {
        Self::at(client, Some(seq))
    }

    fn at(client: &Client, after: Option<u64>) -> Self {
        Self { client: client.clone(), after, stream: None, backoff: None, retry_at: None }
    }

    /// The next event; keep-alives are not shown. Connects again as often as needed.
    ///
    /// May be dropped at any await without losing an event.
    ///
    /// # Errors
    /// When the server refuses: the login ended, or too many streams are open.
    pub(super) async fn next(&mut self) -> Result<api::Event, Failure> {
        loop {
            let event = match self.poll_stream().await {
                Ok(event) => event,
                Err(status) if may_resume(&status) => {
                    self.lose_stream();
                    continue;
                }
                Err(status) => return Err(Failure::from_status(&status, self.client.server())),
            };
            self.backoff = None;
            if let Some(event) = self.take(event) {
                return Ok(event);
            }
        }
    }

    async fn poll_stream(&mut self) -> Result<api::Event, Status> {
        if self.stream.is_none() {
            self.connect().await?;
        }
        let lost = || Status::unavailable("the stream ended");
        let stream = self.stream.as_mut().ok_or_else(lost)?;
        match tokio::time::timeout(SILENCE_LIMIT, stream.message()).await {
            Ok(message) => message?.ok_or_else(lost),
            Err(_) => Err(lost()),
        }
    }

    async fn connect(&mut self) -> Result<(), Status> {
        if let Some(at) = self.retry_at {
            tokio::time::sleep_until(at).await;
        }
        let mut events = self.client.events();
        let subscribed = events.subscribe(api::SubscribeRequest { after_seq: self.after });
        let response = tokio::time::timeout(CALL_DEADLINE, subscribed)
            .await
            .map_err(|_| Status::unavailable("no answer in time"))??;
        self.stream = Some(response.into_inner());
        self.retry_at = None;
        Ok(())
    }

    fn lose_stream(&mut self) {
        self.stream = None;
        let backoff = self.backoff.get_or_insert_with(|| {
            let delays = ExponentialBuilder::default().with_min_delay(FIRST_DELAY).with_max_delay(LAST_DELAY);
            delays.without_max_times().build()
        });
        self.retry_at = Some(Instant::now() + backoff.next().unwrap_or(LAST_DELAY));
    }

    /// Moves the position; none for what was seen before and for keep-alives.
    fn take(&mut self, event: api::Event) -> Option<api::Event> {
        match event.kind {
            Some(Kind::KeepAlive(_)) => return None,
            Some(Kind::CaughtUp(api::CaughtUp { seq })) => {
                self.after = Some(self.after.map_or(seq, |after| after.max(seq)));
            }
            Some(Kind::FeedReset(api::FeedReset { oldest_seq })) => {
                self.after = Some(oldest_seq.saturating_sub(1));
            }
            _ if self.after.is_some_and(|after| event.seq <= after) => return None,
            _ => self.after = Some(event.seq),
        }
        Some(event)
    }
}

/// Whether the stream can go on from the last position.
fn may_resume(status: &Status) -> bool {
    let slow = status.code() == Code::ResourceExhausted && reason(status) == "SLOW_CONSUMER";
    slow || status.code() == Code::Unavailable || is_broken_link(status)
}

fn reason(status: &Status) -> String {
    use tonic_types::StatusExt as _;
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use api::event_service_server::{EventService, EventServiceServer};
    use futures::{StreamExt as _, stream::BoxStream};
    use tonic::{Request, Response};

    use super::*;

    fn event(seq: u64, kind: Kind) -> api::Event {
        api::Event { seq, at: None, kind: Some(kind) }
    }

    fn row(seq: u64) -> api::Event {
        event(seq, Kind::SpaceChanged(api::SpaceChanged::default()))
    }

    fn caught_up(seq: u64) -> api::Event {
        event(seq, Kind::CaughtUp(api::CaughtUp { seq }))
    }

    type Answer = Result<Vec<Result<api::Event, Status>>, Status>;

    /// Answers each subscription with the next script and notes what was asked.
    #[derive(Clone, Default)]
    struct Script {
        answers: Arc<Mutex<Vec<Answer>>>,
        asked: Arc<Mutex<Vec<Option<u64>>>>,
    }

    #[tonic::async_trait]
    impl EventService for Script {
        type SubscribeStream = BoxStream<'static, Result<api::Event, Status>>;

        async fn subscribe(
            &self,
            request: Request<api::SubscribeRequest>,
        ) -> Result<Response<Self::SubscribeStream>, Status> {
            self.asked.lock().unwrap().push(request.into_inner().after_seq);
            let rows = self.answers.lock().unwrap().remove(0)?;
            Ok(Response::new(futures::stream::iter(rows).boxed()))
        }
    }

    async fn serve(answers: Vec<Answer>) -> (Client, Script) {
        let script = Script { answers: Arc::new(Mutex::new(answers)), ..Default::default() };
        let incoming = tonic::transport::server::TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let server = format!("http://{}", incoming.local_addr().unwrap());
        let service = EventServiceServer::new(script.clone());
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        (Client::open(&server, None, None).await.unwrap(), script)
    }

    async fn seqs(feed: &mut Feed, count: usize) -> Vec<u64> {
        let mut seqs = Vec::new();
        for _ in 0..count {
            seqs.push(feed.next().await.unwrap().seq);
        }
        seqs
    }

    #[tokio::test]
    async fn a_cut_stream_goes_on_without_gap_or_repeat() {
        let answers = vec![
            Ok(vec![Ok(caught_up(5)), Ok(row(7)), Err(Status::unavailable("closing"))]),
            Err(Status::unavailable("starting")),
            // A server that repeats a row is not believed.
            Ok(vec![Ok(row(7)), Ok(row(8)), Ok(event(0, Kind::KeepAlive(api::KeepAlive {})))]),
            Ok(vec![Ok(row(9)), Ok(caught_up(9))]),
        ];
        let (client, script) = serve(answers).await;
        let mut feed = Feed::from_now(&client).await.unwrap();
        assert_eq!(seqs(&mut feed, 3).await, [7, 8, 9]);
        assert_eq!(*script.asked.lock().unwrap(), [None, Some(7), Some(7), Some(8)]);
    }

    #[tokio::test]
    async fn a_refusal_ends_the_feed() {
        let (client, script) = serve(vec![Err(Status::unauthenticated("token expired"))]).await;
        let failure = Feed::after(&client, 3).next().await.unwrap_err();
        assert_eq!(failure.kind.exit_code(), 3);
        assert_eq!(*script.asked.lock().unwrap(), [Some(3)]);
    }

    #[tokio::test]
    async fn a_slow_reader_resumes() {
        use tonic_types::{ErrorDetails, StatusExt as _};
        let details = ErrorDetails::with_error_info(
            "SLOW_CONSUMER",
            "spacepanda",
            [("resume_after_seq".to_owned(), "4".to_owned())],
        );
        let slow = Status::with_error_details(Code::ResourceExhausted, "slow", details);
        let answers = vec![Ok(vec![Ok(row(4)), Err(slow)]), Ok(vec![Ok(row(5))])];
        let (client, _) = serve(answers).await;
        let mut feed = Feed::after(&client, 0);
        assert_eq!(seqs(&mut feed, 2).await, [4, 5]);
    }

    #[tokio::test]
    async fn a_reset_is_passed_on_and_the_older_position_not_kept() {
        let reset = event(0, Kind::FeedReset(api::FeedReset { oldest_seq: 40 }));
        let (client, _) = serve(vec![Ok(vec![Ok(reset), Ok(row(40))])]).await;
        let mut feed = Feed::after(&client, 3);
        assert_eq!(seqs(&mut feed, 2).await, [0, 40]);
    }
}
