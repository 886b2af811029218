//! `kill -9` of each side at 30 random moments under load: nothing is lost, nothing comes twice.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use spacepanda_proto::api::v1::{DeliveryState, event::Kind};

use crate::harness::{Cluster, Person, chaos::Chaos, meet, same_world};

const ROUNDS: usize = 30;
const SENDERS_A_SIDE: usize = 4;
const TEXTS_A_SENDER: usize = 4;
/// About as long as a round's texts take: kills fall before, amid and after them.
const MOMENT: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread")]
async fn thirty_kills_of_each_side_under_load_lose_and_repeat_nothing() {
    let mut chaos = Chaos::new();
    let (_cluster, [alice, bob]) = Cluster::with(["alice", "bob"], |plan| plan.metrics()).await;
    let place = meet(&alice, &[&bob]).await;

    let mut accepted = BTreeMap::new();
    for round in 0..ROUNDS {
        let (from_alice, from_bob, ()) = tokio::join!(
            load(&alice, &place.channel, round),
            load(&bob, &place.channel, round),
            kill_both(&mut chaos, &alice, &bob),
        );
        accepted.extend(from_alice.into_iter().chain(from_bob));
    }
    assert_eq!(accepted.len(), ROUNDS * SENDERS_A_SIDE * TEXTS_A_SENDER * 2, "every id is another");

    let world = same_world(&[&alice, &bob], &place.space, accepted.len()).await;
    let shown: BTreeMap<_, _> = world.history.into_iter().map(|(_, id, _, text)| (id, text)).collect();
    assert_eq!(shown, accepted, "exactly what was acknowledged, under the ids that were answered");
    for person in [&alice, &bob] {
        person.server.assert_no_key_reuse().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_right_after_the_answer_keeps_the_message() {
    let (_cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let place = meet(&alice, &[&bob]).await;
    for number in 0..5 {
        let sent = alice.send(&place.channel, &format!("number {number}")).await;
        alice.server.kill_9();
        alice.server.restart().await;
        alice.wake().await;
        assert_eq!(alice.message(&sent.message_id).await.expect("it is durable").text, sent.text);
    }
    same_world(&[&alice, &bob], &place.space, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_called_sent_is_on_anothers_disk() {
    let (_cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let place = meet(&alice, &[&bob]).await;
    let mut texts = Vec::new();
    for number in 0..5 {
        let mut feed = alice.events(None).await;
        let sent = alice.send(&place.channel, &format!("number {number}")).await;
        feed.next_matching("word that it is sent", |kind| match kind {
            Kind::DeliveryChanged(changed) if changed.message_id == sent.message_id => {
                let state = changed.delivery.clone()?.state();
                matches!(state, DeliveryState::Sent | DeliveryState::Delivered).then_some(())
            }
            _ => None,
        })
        .await;
        bob.server.kill_9();
        alice.server.kill_9();

        // From here on nobody else could give it to him.
        texts.push(sent.text);
        bob.server.restart().await;
        bob.wake().await;
        assert_eq!(bob.texts(&place.channel).await.expect("history"), texts);
        alice.server.restart().await;
        alice.wake().await;
    }
    same_world(&[&alice, &bob], &place.space, texts.len()).await;
}

/// Concurrent senders who do not give up; answers each accepted message's id and text.
async fn load(person: &Person, channel: &str, round: usize) -> Vec<(String, String)> {
    let senders = (0..SENDERS_A_SIDE).map(async |sender| {
        let mut accepted = Vec::new();
        for number in 0..TEXTS_A_SENDER {
            let text = format!("{} {round}.{sender}.{number}", person.name());
            let message = person.send_whatever_happens(channel, &text).await;
            assert_eq!(message.text, text, "the answer is this message");
            accepted.push((message.message_id, text));
        }
        accepted
    });
    join_all(senders).await.concat()
}

/// Kills one, then the other, each at a random moment; both run again afterwards.
async fn kill_both(chaos: &mut Chaos, alice: &Person, bob: &Person) {
    let order = if chaos.coin() { [alice, bob] } else { [bob, alice] };
    for victim in order {
        chaos.moment(MOMENT).await;
        victim.server.assert_no_key_reuse().await;
        victim.server.kill_9();
        victim.server.restart().await;
    }
}
