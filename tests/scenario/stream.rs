//! The event stream: resumed after a cut at any point, the same on every device, and no hostage of a slow reader.

use std::collections::BTreeSet;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use spacepanda_proto::api::v1::{Event, event::Kind};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{
    Cluster, Person, Place, feed::Feed, feed::is_stored, meet, refused, same_world, wait::DEADLINE,
    wait_until,
};

const BURST: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_after_any_event_of_a_burst_loses_and_repeats_nothing() {
    let (_cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let place = meet(&alice, &[&bob]).await;
    let start = bob.events(Some(0)).await.until_caught_up().await;
    burst(&alice, &place, BURST).await;
    same_world(&[&alice, &bob], &place.space, BURST).await;
    let whole = all_after(&bob, start).await;
    let texts = whole.iter().filter(|event| matches!(event.kind, Some(Kind::MessageAdded(_)))).count();
    assert_eq!(texts, BURST);

    for cut_after in 0..=whole.len() {
        let mut first = bob.events(Some(start)).await;
        while first.stored().len() < cut_after {
            first.try_next(DEADLINE).await.expect("an event before the cut");
        }
        let resume = first.last_seq().unwrap_or(start);
        let mut joined = first.stored();
        drop(first);
        joined.extend(all_after(&bob, resume).await);
        // Rows may have been added since; up to the burst's end it must be the same.
        assert_eq!(seqs(&joined)[..whole.len()], seqs(&whole), "cut after {cut_after}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_loses_its_stream_after_every_event_of_a_live_burst_misses_nothing() {
    let (_cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let place = meet(&alice, &[&bob]).await;
    let mut last = bob.events(Some(0)).await.until_caught_up().await;
    let start = last;

    let reading = async {
        let mut texts = Vec::new();
        while texts.len() < BURST {
            let mut feed = bob.events(Some(last)).await;
            while feed.stored().is_empty() {
                feed.try_next(DEADLINE).await.expect("an event");
            }
            texts.extend(feed.texts());
            last = feed.last_seq().expect("one was read");
        }
        texts
    };
    let (texts, ()) = tokio::join!(reading, burst(&alice, &place, BURST));

    let distinct: BTreeSet<_> = texts.iter().collect();
    assert_eq!((distinct.len(), texts.len()), (BURST, BURST), "{texts:?}");
    let whole = all_after(&bob, start).await;
    assert!(seqs(&whole).is_sorted_by(|a, b| a < b), "seqs grow");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_outlives_a_crash_of_the_server() {
    let (_cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let place = meet(&alice, &[&bob]).await;
    burst(&alice, &place, 5).await;
    same_world(&[&alice, &bob], &place.space, 5).await;
    let before = all_after(&bob, 0).await;

    bob.server.kill_9();
    bob.server.restart().await;
    bob.wake().await;
    let after = all_after(&bob, 0).await;
    assert_eq!(seqs(&after)[..before.len()], seqs(&before));
    burst(&alice, &place, 1).await;
    let mut feed = bob.events(after.last().map(|event| event.seq)).await;
    assert_eq!(feed.next_message().await.text, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_seq_a_stream_starts_now() {
    let (_cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let place = meet(&alice, &[&bob]).await;
    alice.send(&place.channel, "before").await;
    wait_until("bob to have it", async || bob.has(&place.channel, 1).await).await;

    let mut feed = bob.events(None).await;
    feed.until_caught_up().await;
    alice.send(&place.channel, "after").await;
    feed.next_message().await;
    assert_eq!(feed.texts(), ["after"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_devices_read_the_same_feed() {
    let (_cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let place = meet(&alice, &[&bob]).await;
    let laptop = bob.another_device("laptop").await;
    let (mut phone_feed, mut laptop_feed) = (bob.events(Some(0)).await, laptop.events(Some(0)).await);
    burst(&alice, &place, BURST).await;

    let end = whole_burst(&mut phone_feed).await;
    while laptop_feed.last_seq().is_none_or(|seq| seq < end) {
        laptop_feed.try_next(DEADLINE).await.expect("the other device's events");
    }
    assert_eq!(seqs(&phone_feed.stored()), seqs(&laptop_feed.stored()));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_harms_nobody_and_can_go_on_later() {
    const MANY: usize = 2_000;
    let (_cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let place = meet(&alice, &[&bob]).await;
    // A connection of its own: HTTP/2 shares one window among the streams of a connection.
    let sleeper = bob.another_device("sleeper").await;
    let mut unread = sleeper.events(Some(0)).await;
    let mut read = bob.events(None).await;

    let reading = async {
        while read.texts().len() < MANY {
            read.try_next(DEADLINE).await.expect("the reader is not held up");
        }
    };
    let padding = "x".repeat(1_000);
    let sending = stream::iter(0..MANY)
        .map(|number| {
            let (alice, channel, text) = (&alice, &place.channel, format!("{number} {padding}"));
            async move { alice.try_send(channel, &text).await }
        })
        .buffer_unordered(32)
        .try_collect::<Vec<_>>();
    let ((), sent) = tokio::join!(reading, sending);
    assert_eq!(sent.expect("the sender is not held up").len(), MANY);

    let mut texts = BTreeSet::new();
    loop {
        match unread.try_next(DEADLINE).await {
            Ok(event) if matches!(event.kind, Some(Kind::CaughtUp(_))) => {}
            Ok(event) => texts.extend(text_of(&event)),
            Err(status) => unread = resume_elsewhere(&sleeper, &unread, &status).await,
        }
        if texts.len() == MANY {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_has_a_limit_of_streams() {
    const LIMIT: usize = 16;
    let (_cluster, [alice]) = Cluster::of(["alice"]).await;
    let mut open = Vec::new();
    for _ in 0..LIMIT {
        let mut feed = alice.events(None).await;
        feed.until_caught_up().await;
        open.push(feed);
    }
    let one_more = match Feed::open(&alice, None).await {
        Ok(mut feed) => feed.try_next(DEADLINE).await,
        Err(status) => Err(status),
    };
    refused(one_more, Code::ResourceExhausted, "TOO_MANY_STREAMS");
    // A closed one makes room.
    open.pop();
    wait_until("room for another stream", async || {
        let mut feed = Feed::open(&alice, None).await.map_err(|status| status.to_string())?;
        feed.try_next(DEADLINE).await.map_err(|status| status.to_string())
    })
    .await;
}

async fn burst(person: &Person, place: &Place, count: usize) {
    for number in 0..count {
        person.send(&place.channel, &number.to_string()).await;
    }
}

/// Everything stored after `seq`, up to caught_up.
async fn all_after(person: &Person, seq: u64) -> Vec<Event> {
    let mut feed = person.events(Some(seq)).await;
    feed.until_caught_up().await;
    let stored = feed.stored();
    assert!(stored.iter().all(|event| event.seq > seq), "nothing older than asked for");
    stored
}

/// Reads the whole burst; answers the seq of its last message.
async fn whole_burst(feed: &mut Feed) -> u64 {
    while feed.texts().len() < BURST {
        feed.next_message().await;
    }
    feed.last_seq().expect("messages were read")
}

/// The clean end of a slow reader's stream says where to go on.
async fn resume_elsewhere(person: &Person, feed: &Feed, status: &Status) -> Feed {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let info = status.get_details_error_info().expect("ErrorInfo");
    assert_eq!(info.reason, "SLOW_CONSUMER");
    let resume: u64 = info.metadata["resume_after_seq"].parse().expect("a seq");
    // Never further than what was read: that would be a loss.
    assert!(resume <= feed.last_seq().unwrap_or(0), "resume after {resume}");
    person.events(Some(resume)).await
}

fn text_of(event: &Event) -> Option<String> {
    match event.kind.as_ref()? {
        Kind::MessageAdded(added) => Some(added.message.as_ref()?.text.clone()),
        _ => None,
    }
}

fn seqs(events: &[Event]) -> Vec<u64> {
    events.iter().filter(|event| is_stored(event)).map(|event| event.seq).collect()
}
