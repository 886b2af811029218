//! Feeders over a feed in memory.

use std::time::SystemTime;

use spacepanda_core::{
    id::GroupId,
    model::{Change, FeedItem},
};
use spacepanda_proto::api::v1::event::Kind;
use tokio::time::timeout;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::*;

const LONG: Duration = Duration::from_secs(20);

/// A feed with the rows `oldest..=newest`.
#[derive(Clone)]
struct Fake {
    oldest: u64,
    newest: Arc<watch::Sender<u64>>,
    stopped: CancellationToken,
    token_holds: Arc<watch::Sender<bool>>,
}

impl Fake {
    fn new(oldest: u64, newest: u64) -> Self {
        Self {
            oldest,
            newest: Arc::new(watch::Sender::new(newest)),
            stopped: CancellationToken::new(),
            token_holds: Arc::new(watch::Sender::new(true)),
        }
    }
}

impl Source for Fake {
    fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    fn stopped(&self) -> CancellationToken {
        self.stopped.clone()
    }

    async fn page(&self, after: u64, limit: u32) -> Result<FeedPage, Refusal> {
        let newest = *self.newest.borrow();
        let first = (after + 1).max(self.oldest);
        let last = newest.min(first + u64::from(limit) - 1);
        let items = (first..=last).map(|seq| FeedItem {
            seq,
            at: SystemTime::UNIX_EPOCH,
            change: Change::SpaceGone(GroupId([1; 16])),
        });
        Ok(FeedPage {
            items: items.collect(),
            next_after: last.max(after),
            reset_to: (after + 1 < self.oldest).then_some(self.oldest),
            caught_up: last >= newest,
        })
    }

    async fn check_token(&self) -> Result<(), Refusal> {
        if *self.token_holds.borrow() { Ok(()) } else { Err(Refusal::token_invalid()) }
    }
}

struct Client {
    events: mpsc::Receiver<Result<wire::Event, Status>>,
    streams: Streams,
    server: CancellationToken,
}

impl Client {
    fn subscribe(source: &Fake, after: Option<u64>, pace: Pace) -> Self {
        let (streams, server) = (Streams::default(), CancellationToken::new());
        let (feeder, events) =
            Feeder::new(source.clone(), after, streams.token_checks(), server.clone(), pace);
        tokio::spawn(feeder.run());
        Self { events, streams, server }
    }

    async fn next(&mut self) -> Result<wire::Event, Status> {
        timeout(LONG, self.events.recv()).await.expect("in time").expect("an item")
    }

    /// Seqs of rows up to the next item that is not a row, and that item.
    async fn rows(&mut self) -> (Vec<u64>, Result<Kind, Status>) {
        let mut seqs = Vec::new();
        loop {
            match self.next().await {
                Ok(wire::Event { seq, kind: Some(Kind::SpaceChanged(_)), .. }) => seqs.push(seq),
                other => return (seqs, other.map(|event| event.kind.unwrap())),
            }
        }
    }

    async fn end(&mut self) -> (Code, String) {
        let status = loop {
            if let Err(status) = self.next().await {
                break status;
            }
        };
        let reason = status.get_error_details().error_info().unwrap().reason.clone();
        assert!(timeout(LONG, self.events.recv()).await.unwrap().is_none(), "the status is the last");
        (status.code(), reason)
    }
}

fn caught_up(seq: u64) -> Kind {
    Kind::CaughtUp(wire::CaughtUp { seq })
}

/// Its time is of no interest.
fn keep_alive_at(seq: u64) -> (u64, Option<Kind>) {
    (seq, Some(Kind::KeepAlive(wire::KeepAlive {})))
}

#[tokio::test]
async fn what_was_missed_then_caught_up_then_live() {
    let source = Fake::new(1, 200);
    let mut client = Client::subscribe(&source, Some(3), Pace::default());
    let (seqs, then) = client.rows().await;
    assert_eq!(seqs, (4..=200).collect::<Vec<_>>());
    assert_eq!(then.unwrap(), caught_up(200));

    source.newest.send_replace(202);
    assert_eq!(client.next().await.unwrap().seq, 201);
    assert_eq!(client.next().await.unwrap().seq, 202);
}

#[tokio::test]
async fn without_a_seq_it_starts_now() {
    let source = Fake::new(1, 5);
    let mut client = Client::subscribe(&source, None, Pace::default());
    assert_eq!(client.rows().await.1.unwrap(), caught_up(5));
    source.newest.send_replace(6);
    assert_eq!(client.next().await.unwrap().seq, 6);
}

#[tokio::test]
async fn from_the_oldest_kept_is_no_reset() {
    let mut client = Client::subscribe(&Fake::new(7, 9), Some(0), Pace::default());
    let (seqs, then) = client.rows().await;
    assert_eq!((seqs, then.unwrap()), (vec![7, 8, 9], caught_up(9)));
}

#[tokio::test]
async fn rows_that_are_gone_are_a_reset() {
    let mut client = Client::subscribe(&Fake::new(7, 9), Some(2), Pace::default());
    let reset = Kind::FeedReset(wire::FeedReset { oldest_seq: 7 });
    assert_eq!(client.next().await.unwrap().kind.unwrap(), reset);
    let (seqs, then) = client.rows().await;
    assert_eq!((seqs, then.unwrap()), (vec![7, 8, 9], caught_up(9)));
}

#[tokio::test]
async fn a_seq_of_another_feed_is_a_reset() {
    let mut client = Client::subscribe(&Fake::new(1, 2), Some(50), Pace::default());
    let reset = Kind::FeedReset(wire::FeedReset { oldest_seq: 1 });
    assert_eq!(client.next().await.unwrap().kind.unwrap(), reset);
    let (seqs, then) = client.rows().await;
    assert_eq!((seqs, then.unwrap()), (vec![1, 2], caught_up(2)));
}

#[tokio::test]
async fn silence_is_broken_by_keep_alives() {
    let pace = Pace { keep_alive: Duration::from_millis(5), ..Pace::default() };
    let source = Fake::new(1, 5);
    let mut client = Client::subscribe(&source, None, pace);
    assert_eq!(client.rows().await.1.unwrap(), caught_up(5));
    for _ in 0..2 {
        let event = client.next().await.unwrap();
        assert_eq!((event.seq, event.kind), keep_alive_at(5));
    }
    // Whoever resumes from the last seq seen, whatever it came with, gets nothing twice.
    source.newest.send_replace(6);
    let next = loop {
        let event = client.next().await.unwrap();
        if event.kind != Some(Kind::KeepAlive(wire::KeepAlive {})) {
            break event.seq;
        }
    };
    assert_eq!(next, 6);
    let event = client.next().await.unwrap();
    assert_eq!((event.seq, event.kind), keep_alive_at(6));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_told_where_to_go_on() {
    let pace = Pace { patience: Duration::from_millis(20), ..Pace::default() };
    let mut client = Client::subscribe(&Fake::new(1, 10_000), Some(0), pace);
    // It starts to read only when the feeder has given up.
    while client.events.len() <= BUFFER {
        tokio::task::yield_now().await;
    }
    let (seqs, last) = client.rows().await;
    let status = last.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!(info.reason, "SLOW_CONSUMER");
    assert_eq!(info.metadata["resume_after_seq"], seqs.last().unwrap().to_string());
    assert_eq!(seqs, (1..=BUFFER as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_revoked_token_ends_its_streams_at_once() {
    let source = Fake::new(1, 0);
    let mut client = Client::subscribe(&source, None, Pace::default());
    client.rows().await.1.unwrap();
    client.streams.check_tokens();
    source.newest.send_replace(1);
    assert_eq!(client.next().await.unwrap().seq, 1, "another token was revoked");

    source.token_holds.send_replace(false);
    client.streams.check_tokens();
    assert_eq!(client.end().await, (Code::Unauthenticated, "TOKEN_INVALID".into()));
}

#[tokio::test]
async fn the_end_of_session_or_server_is_said() {
    let source = Fake::new(1, 0);
    let mut client = Client::subscribe(&source, None, Pace::default());
    source.stopped.cancel();
    assert_eq!(client.end().await, (Code::Unavailable, "SESSION_ENDED".into()));

    let mut client = Client::subscribe(&Fake::new(1, 10_000), Some(0), Pace::default());
    client.server.cancel();
    assert_eq!(client.end().await, (Code::Unavailable, "SERVER_STOPPING".into()));
}

#[tokio::test]
async fn a_client_that_left_is_not_fed() {
    let (streams, server) = (Streams::default(), CancellationToken::new());
    let (feeder, events) =
        Feeder::new(Fake::new(1, 0), None, streams.token_checks(), server, Pace::default());
    drop(events);
    timeout(LONG, feeder.run()).await.expect("the feeder ends");
}

#[test]
fn a_login_has_a_limited_number_of_streams() {
    let streams = Streams::default();
    let mut slots: Vec<_> = (0..MAX_STREAMS).map(|_| streams.open("one").ok().unwrap()).collect();
    assert!(streams.open("one").is_err());
    assert!(streams.open("two").is_ok(), "another login has its own");
    assert_eq!(streams.metrics.streams.get(), i64::try_from(MAX_STREAMS).unwrap());
    slots.pop();
    assert!(streams.open("one").is_ok());
    slots.clear();
    assert!(streams.open.lock().unwrap().is_empty());
    assert_eq!(streams.metrics.streams.get(), 0);
}
