//! Three people on three servers talk all ways, see the same, and are told how far each message came.

use futures::future::join_all;
use spacepanda_proto::api::v1::{DeliveryState, event::Kind};

use crate::harness::{Cluster, Person, meet, same_world, wait::when, wait_until};

const EACH: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn everyone_sees_the_same_conversation_and_every_message_is_delivered() {
    let (_cluster, [alice, bob, carol]) = Cluster::of(["alice", "bob", "carol"]).await;
    let place = meet(&alice, &[&bob, &carol]).await;
    let people = [&alice, &bob, &carol];

    // All at once, so that the order is nobody's own.
    let sent = join_all(people.map(async |person| {
        let mut ids = Vec::new();
        for number in 0..EACH {
            let text = format!("{} says {number}", person.name());
            ids.push(person.send(&place.channel, &text).await.message_id);
        }
        ids
    }))
    .await;

    let world = same_world(&people, &place.space, people.len() * EACH).await;
    for (person, ids) in people.iter().zip(&sent) {
        let theirs: Vec<_> = world.history.iter().filter(|row| row.2 == person.account()).collect();
        let in_order: Vec<_> = theirs.iter().map(|row| &row.1).collect();
        assert_eq!(in_order, ids.iter().collect::<Vec<_>>(), "{} wrote in this order", person.name());
        let texts: Vec<_> = (0..EACH).map(|number| format!("{} says {number}", person.name())).collect();
        assert_eq!(theirs.iter().map(|row| row.3.clone()).collect::<Vec<_>>(), texts);
        for id in ids {
            delivered(person, id, 2).await;
        }
    }
    message_details(&alice, &bob, &sent[0][0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_only_moves_forward_and_ends_delivered() {
    let (_cluster, [alice, bob, carol]) = Cluster::of(["alice", "bob", "carol"]).await;
    let place = meet(&alice, &[&bob, &carol]).await;
    let mut feed = alice.events(None).await;

    let sent = alice.send(&place.channel, "how far are you?").await;
    let mut steps = Vec::new();
    while steps.last().is_none_or(|(state, _)| *state != DeliveryState::Delivered) {
        let step = feed.next_matching("delivery of the message", |kind| match kind {
            Kind::DeliveryChanged(changed) if changed.message_id == sent.message_id => {
                let delivery = changed.delivery.clone().unwrap_or_default();
                Some((delivery.state(), delivery.delivered_to))
            }
            _ => None,
        });
        steps.push(step.await);
    }
    assert!(steps.iter().all(|(state, _)| *state != DeliveryState::Failed), "{steps:?}");
    let order: Vec<_> = steps.iter().map(|(state, to)| (*state as i32, *to)).collect();
    assert!(order.is_sorted(), "{steps:?}");
    assert_eq!(steps.last(), Some(&(DeliveryState::Delivered, 2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_nobody_is_delivered() {
    let (_cluster, [alice]) = Cluster::of(["alice"]).await;
    let place = meet(&alice, &[]).await;
    let sent = alice.send(&place.channel, "hello, me").await;
    delivered(&alice, &sent.message_id, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_channel_is_everyones_and_replies_name_what_they_answer() {
    let (_cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let place = meet(&alice, &[&bob]).await;
    let plans = alice.create_channel(&place.space, "plans").await;
    let question = alice.send(&plans.channel_id, "tomorrow?").await;

    wait_until("bob to have the question", async || bob.has(&plans.channel_id, 1).await).await;
    let request = spacepanda_proto::api::v1::SendMessageRequest {
        channel_id: plans.channel_id.clone(),
        text: "yes".into(),
        reply_to_message_id: question.message_id.clone(),
        ..Default::default()
    };
    let answer = bob.messages().send_message(request).await.expect("reply").into_inner();

    let history = wait_until("alice to have the reply", async || alice.has(&plans.channel_id, 2).await).await;
    assert_eq!(history[1].message_id, answer.message_id);
    assert_eq!(history[1].reply_to_message_id, question.message_id);
    same_world(&[&alice, &bob], &place.space, 2).await;
    assert!(alice.texts(&place.channel).await.expect("general").is_empty(), "channels are apart");
}

/// Waits until the sender's server says that everyone processed the message.
async fn delivered(sender: &Person, message_id: &str, recipients: u32) {
    wait_until("the message to be delivered to all", async || {
        let message = sender.message(message_id).await.map_err(|status| status.to_string())?;
        let delivery = message.delivery.ok_or("no delivery on one's own message")?;
        let now = (delivery.state(), delivery.delivered_to, delivery.recipients);
        when(now == (DeliveryState::Delivered, recipients, recipients), format!("{now:?}"))
    })
    .await;
}

/// What only the reader or only the sender is told.
async fn message_details(sender: &Person, reader: &Person, message_id: &str) {
    let read = reader.message(message_id).await.expect("the reader's copy");
    assert!(!read.mine && read.delivery.is_none(), "{read:?}");
    assert_eq!(read.sender_id, sender.account());
    assert_eq!(read.sender_display_name, "Alice");
    let (sent_at, received_at) = (read.sent_at.expect("sent_at"), read.received_at.expect("received_at"));
    assert!((sent_at.seconds, sent_at.nanos) <= (received_at.seconds, received_at.nanos), "{read:?}");
    assert!(sender.message(message_id).await.expect("the sender's copy").mine);
}
