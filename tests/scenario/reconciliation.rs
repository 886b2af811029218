//! Frames that a member missed are fetched from whoever has them, also from one who did not make them.

use std::{ops::Range, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::harness::{
    Cluster, Person, Place,
    hostile::counter,
    meet, same_world,
    stolen::{Stolen, drop_kept_frames},
    wait::when,
    wait_until,
};

const MESSAGES: usize = 300;
/// Frames of one page when each is of 60 KiB, and a commit or two.
const A_PAGE: u64 = 12;

async fn fetched(person: &Person) -> u64 {
    counter(person, "spacepanda_frames_fetched_total").await
}

async fn carried(person: &Person) -> u64 {
    counter(person, "spacepanda_events_carried_total").await
}

/// 300 messages, a commit before, amid and after them.
async fn talk(speaker: &Person, place: &Place, guests: &[&Person], padding: usize) {
    let part = MESSAGES / guests.len();
    for (turn, guest) in guests.iter().enumerate() {
        guest.join(&speaker.invite(&place.space).await).await;
        write(speaker, place, turn * part..(turn + 1) * part, padding).await;
    }
}

async fn write(speaker: &Person, place: &Place, numbers: Range<usize>, padding: usize) {
    stream::iter(numbers)
        .map(|number| async move {
            let text = format!("message {number} {}", ".".repeat(padding));
            speaker.try_send(&place.channel, &text).await
        })
        .buffered(8)
        .try_collect::<Vec<_>>()
        .await
        .expect("every message is accepted");
}

/// Carol is away while Alice writes and changes the group; Bob gets all of it, then Alice goes.
async fn only_bob_has_it(padding: usize) -> (Cluster, [Person; 6], Place) {
    let names = ["alice", "bob", "carol", "dave", "erin", "frank"];
    let (cluster, people) = Cluster::with(names, |plan| plan.metrics()).await;
    let [alice, bob, carol, dave, erin, frank] = &people;
    let place = meet(alice, &[bob, carol]).await;
    carol.server.stop().await;
    talk(alice, &place, &[dave, erin, frank], padding).await;
    wait_until("bob to have everything", async || bob.has(&place.channel, MESSAGES).await).await;
    for person in [alice, dave, erin, frank] {
        person.server.kill_9();
    }
    (cluster, people, place)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_fetches_commits_and_messages_from_a_third_member() {
    let (_cluster, [_alice, bob, carol, ..], place) = only_bob_has_it(0).await;
    let before = carried(&bob).await;
    carol.server.restart().await;
    carol.wake().await;
    same_world(&[&bob, &carol], &place.space, MESSAGES).await;
    assert!(fetched(&carol).await >= 6, "three commits and what was written between them");
    // Bob repeats nothing to whoever is fetching it, however slowly.
    assert_eq!(carried(&bob).await, before, "nothing had to be sealed anew for her");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_frames_are_gone_their_events_are_carried() {
    let (_cluster, [alice, bob, carol]) =
        Cluster::with(["alice", "bob", "carol"], |plan| plan.metrics()).await;
    let place = meet(&alice, &[&bob, &carol]).await;
    carol.server.stop().await;
    write(&alice, &place, 0..MESSAGES, 0).await;
    wait_until("bob to have everything", async || bob.has(&place.channel, MESSAGES).await).await;
    alice.server.kill_9();
    bob.server.stop().await;
    drop_kept_frames(&bob).await;
    bob.server.restart().await;
    bob.wake().await;

    carol.server.restart().await;
    carol.wake().await;
    same_world(&[&bob, &carol], &place.space, MESSAGES).await;
    assert_eq!(fetched(&carol).await, 0, "there was nothing to fetch");
    let carried = carried(&bob).await;
    assert!(carried >= MESSAGES as u64, "{carried} carried");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_cut_off_and_killed_amid_fetching_goes_on_where_it_was() {
    let (cluster, [_alice, bob, carol, ..], place) = only_bob_has_it(8 * 1024).await;
    cluster.delay(&bob, &carol, Duration::from_millis(50));
    carol.server.restart().await;
    carol.wake().await;
    let before = wait_until("carol to have got something", async || {
        let fetched = fetched(&carol).await;
        when(fetched > 0, "nothing was fetched").map(|()| fetched)
    })
    .await;
    cluster.cut(&bob, &carol).await;
    carol.server.kill_9();
    cluster.heal(&bob, &carol);
    carol.server.restart().await;
    carol.wake().await;
    same_world(&[&bob, &carol], &place.space, MESSAGES).await;

    let after = fetched(&carol).await;
    assert!(after > 0, "it was cut amid the work");
    bob.server.stop().await;
    let held = Stolen::from(&bob).await.kept_frames(&place.space).await as u64;
    // The last page before the cut may not have been stored.
    assert!(before + after <= held + A_PAGE, "{before} and {after} fetched of {held}");
}
