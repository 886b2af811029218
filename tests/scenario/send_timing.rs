//! What is written leaves when chance says so, and nothing but its leaving is touched by that.

use std::time::{Duration, Instant, SystemTime};

use spacepanda_proto::api::v1::{DeliveryState, Message, SendTiming, UpdateSpaceRequest, event::Kind};

use crate::harness::{Cluster, Person, Place, client::request_id, meet, same_world, wait::when, wait_until};

const MESSAGES: u32 = 12;
/// Twelve delays of a quarter of a second each on average add up to less once in 70,000 runs.
const AT_LEAST: Duration = Duration::from_millis(600);
const SPACES: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn messages_wait_a_little_but_their_times_and_order_are_those_of_the_writing() {
    let (_cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let place = meet(&alice, &[&bob]).await;
    // Control: the same without waiting.
    let fast = one_by_one(&alice, &bob, &place).await;
    let space = alice.set_timing(&place.space, SendTiming::Balanced).await;
    assert_eq!(space.send_timing(), SendTiming::Balanced);
    assert_eq!(bob.space(&place.space).await.expect("the space").send_timing(), SendTiming::Fast, "his own");

    let balanced = one_by_one(&alice, &bob, &place).await;
    let total: Duration = balanced.iter().sum();
    assert!(total >= AT_LEAST, "nothing waited: {balanced:?}");
    let quickest = fast.iter().min().expect("some");
    assert!(*quickest < total / MESSAGES, "waiting makes no difference: {fast:?} {balanced:?}");
    let world = same_world(&[&alice, &bob], &place.space, 2 * MESSAGES as usize).await;
    assert!(world.texts().is_sorted(), "{:?}", world.texts());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_choose_waits_a_little() {
    let (_cluster, [alice]) = Cluster::of(["alice"]).await;
    let request =
        spacepanda_proto::api::v1::CreateSpaceRequest { name: "Garden".into(), ..Default::default() };
    let space = alice.spaces().create_space(request).await.expect("created").into_inner();
    assert_eq!(space.send_timing(), SendTiming::Balanced);
    let renamed = UpdateSpaceRequest {
        space_id: space.space_id.clone(),
        name: Some("Orchard".into()),
        request_id: request_id(),
        ..Default::default()
    };
    for _ in 0..2 {
        let now = alice.spaces().update_space(renamed.clone()).await.expect("renamed").into_inner();
        assert_eq!((now.name.as_str(), now.send_timing()), ("Orchard", SendTiming::Balanced));
        alice.server.kill_9();
        alice.server.restart().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_through_a_restart_does_not_leave_in_a_burst() {
    let (_cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let mut places = Vec::new();
    for _ in 0..SPACES {
        let place = meet(&alice, &[&bob]).await;
        alice.set_timing(&place.space, SendTiming::Strict).await;
        places.push(place);
    }
    let mut sent = Vec::new();
    for place in &places {
        sent.push(alice.send(&place.channel, "in its own time").await.message_id);
    }
    alice.server.kill_9();
    alice.server.restart().await;
    alice.wake().await;
    let waiting = wait_until("the first to leave", async || {
        let mut waiting = 0;
        for id in &sent {
            waiting += usize::from(state(&alice, id).await? == DeliveryState::Queued);
        }
        when(waiting < SPACES, "all wait")?;
        Ok(waiting)
    })
    .await;
    assert!(waiting > 0, "all left at the same time");

    for (place, id) in places.iter().zip(&sent) {
        alice.set_timing(&place.space, SendTiming::Fast).await;
        wait_until("what waited to leave", async || {
            let state = state(&alice, id).await?;
            when(state == DeliveryState::Delivered, format!("{state:?}"))
        })
        .await;
        same_world(&[&alice, &bob], &place.space, 1).await;
    }
}

/// How long each message took until another server had it.
async fn one_by_one(alice: &Person, bob: &Person, place: &Place) -> Vec<Duration> {
    let mut took = Vec::new();
    let before = alice.history(&place.channel).await.expect("history").len();
    for number in 0..MESSAGES as usize {
        let mut own = alice.events(None).await;
        let (begun, earliest) = (Instant::now(), SystemTime::now() - Duration::from_millis(1));
        let message = alice.send(&place.channel, &format!("message {:03}", before + number)).await;
        let latest = SystemTime::now();
        // One's own stream does not wait.
        let mut known = false;
        own.next_matching("the message, then its leaving", |kind| match kind {
            Kind::MessageAdded(_) => {
                known = true;
                None
            }
            Kind::DeliveryChanged(changed) if changed.message_id == message.message_id => Some(()),
            _ => None,
        })
        .await;
        assert!(known, "it left before it was shown");
        took.push(begun.elapsed());
        wait_until("bob to read it", async || bob.has(&place.channel, before + number + 1).await).await;
        let read = bob.message(&message.message_id).await.expect("read");
        for copy in [&message, &read] {
            let written = sent_at(copy);
            assert!(earliest <= written && written <= latest, "the time of writing: {copy:?}");
        }
    }
    took
}

async fn state(person: &Person, message: &str) -> Result<DeliveryState, String> {
    let message = person.message(message).await.map_err(|status| status.to_string())?;
    Ok(message.delivery.unwrap_or_default().state())
}

fn sent_at(message: &Message) -> SystemTime {
    message.sent_at.and_then(|at| SystemTime::try_from(at).ok()).expect("a time")
}
