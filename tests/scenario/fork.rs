//! Two commits on one state: the second is kept and told, and never merged into the first.
//!
//! An owner makes them whose disk went back to before the first one.

use std::fs;

use spacepanda_proto::api::v1::{DeliveryState, GroupHealth, PeerState, event::Kind};

use crate::harness::{
    Cluster, Person, Place, meet, same_world,
    stolen::copy,
    wait::when,
    wait_until,
    world::{World, look},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_rival_commit_is_set_aside_and_told_and_who_is_on_the_other_side_goes_on() {
    let (_cluster, [alice, bob, carol, dave]) = Cluster::of(["alice", "bob", "carol", "dave"]).await;
    let place = meet(&alice, &[&bob]).await;
    let link = alice.invite_for(&place.space, 2).await.link;
    let world = admits_then_forgets(&alice, &bob, &carol, &place, &link).await;

    // Bob hears of the rival as it is made.
    let mut feed = bob.events(None).await;
    connected(&alice, &bob).await;
    dave.join(&link).await;
    let told = feed.next_matching("the group's new health", |kind| match kind {
        Kind::GroupHealth(changed) => Some((changed.space_id.clone(), changed.health())),
        _ => None,
    });
    assert_eq!(told.await, (place.space.clone(), GroupHealth::Forked));
    let rival = look(&alice, &place.space).await.expect("alice's side");
    assert_eq!(rival.epoch, world.epoch);
    assert_ne!(rival.check, world.check, "two states of one epoch");

    // What is written on the rival's side reaches bob, and says nothing new.
    dave.server.stop().await;
    reaches_someone(&alice, &place, "from the other side").await;
    goes_on(&bob, &carol, &place, &world, &["bob 1", "carol 1"]).await;

    bob.server.kill_9();
    bob.server.restart().await;
    bob.wake().await;
    goes_on(&bob, &carol, &place, &world, &["bob 1", "carol 1", "bob 2", "carol 2"]).await;
    let mut feed = bob.events(Some(0)).await;
    feed.until_caught_up().await;
    let mut healths = feed.seen.iter().filter_map(|event| match &event.kind {
        Some(Kind::GroupHealth(changed)) => Some(changed.health()),
        _ => None,
    });
    assert_eq!(healths.next_back(), Some(GroupHealth::Forked), "nothing after it took it back");
}

/// Alice admits carol, and then has her disk from before. Gives what bob and carol live in.
async fn admits_then_forgets(
    alice: &Person,
    bob: &Person,
    carol: &Person,
    place: &Place,
    link: &str,
) -> World {
    let before = tempfile::tempdir().expect("a directory");
    alice.server.stop().await;
    copy(&alice.server.data_dir(), before.path());
    alice.server.restart().await;
    alice.wake().await;
    carol.join(link).await;
    let world = same_world(&[alice, bob, carol], &place.space, 0).await;

    alice.server.stop().await;
    fs::remove_dir_all(alice.server.data_dir()).expect("remove");
    copy(before.path(), &alice.server.data_dir());
    alice.server.restart().await;
    alice.wake().await;
    world
}

/// Each says the next text of `texts`; both read all of them, and bob's group is what it was.
async fn goes_on(bob: &Person, carol: &Person, place: &Place, world: &World, texts: &[&str]) {
    for (author, text) in [bob, carol].into_iter().zip(&texts[texts.len() - 2..]) {
        author.send(&place.channel, text).await;
        for reader in [bob, carol] {
            wait_until(&format!("{} to read {text:?}", reader.name()), async || {
                let seen = reader.texts(&place.channel).await.map_err(|status| status.to_string())?;
                when(seen.last().is_some_and(|last| last == text), format!("{seen:?}"))
            })
            .await;
        }
    }
    let bobs = look(bob, &place.space).await.expect("bob's side");
    assert_eq!(bobs.texts(), texts);
    assert_eq!(bobs.health, GroupHealth::Forked);
    assert_eq!(
        World { health: GroupHealth::Ok, history: Vec::new(), ..bobs },
        *world,
        "epoch, check value and roster are those of before the rival"
    );
}

async fn connected(person: &Person, other: &Person) {
    wait_until("the link", async || {
        let peer = person.peer(other).await.ok_or("not known")?;
        when(peer.state() == PeerState::Connected, format!("{peer:?}"))
    })
    .await;
}

async fn reaches_someone(author: &Person, place: &Place, text: &str) {
    let sent = author.send(&place.channel, text).await;
    wait_until("someone to take it", async || {
        let message = author.message(&sent.message_id).await.map_err(|status| status.to_string())?;
        let state = message.delivery.unwrap_or_default().state();
        when(state == DeliveryState::Sent, format!("{state:?}"))
    })
    .await;
}
