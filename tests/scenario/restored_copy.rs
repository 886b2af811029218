//! A data directory put back as it was, or running twice: it says so, and uses no key again.

use std::{fs, time::Duration};

use spacepanda_proto::api::v1::{GroupHealth, GroupState, event::Kind};

use crate::harness::{
    Cluster, Person, Place, Server,
    client::request_id,
    feed::Feed,
    hostile::rejected,
    meet, same_world,
    stolen::copy,
    wait::{when, within},
    wait_until,
    world::look,
};

/// Three rounds of asking, a request, a commit, a letter.
const BACK_WITHIN: Duration = Duration::from_secs(90);

/// The person's server knows that it runs an old copy, and tells why nothing is sent.
async fn says_so(person: &Person, place: &Place) {
    wait_until(&format!("{} to know that its data is an old copy", person.name()), async || {
        let space = person.space(&place.space).await.map_err(|status| status.to_string())?;
        let group = space.group.clone().unwrap_or_default();
        // First it says that it sends nothing, then that it asked to be let in again.
        let is_silent = matches!(group.health(), GroupHealth::Stalled | GroupHealth::Forked);
        let told =
            is_silent && [group.health_detail, group.summary].iter().all(|words| words.contains("old copy"));
        when(told, format!("{:?}", space.group))
    })
    .await;
}

/// What the event stream of the person told of the group's health since its data was found to be an old copy.
async fn told_since(person: &Person) -> Vec<(GroupHealth, String)> {
    let mut feed = Feed::open(person, Some(0)).await.expect("a feed");
    feed.until_caught_up().await;
    let told = feed.seen.iter().filter_map(|event| match &event.kind {
        Some(Kind::GroupHealth(changed)) => Some((changed.health(), changed.detail.clone())),
        _ => None,
    });
    told.skip_while(|(_, detail)| !detail.contains("old copy")).collect()
}

async fn group(person: &Person, place: &Place) -> Result<GroupState, String> {
    let space = person.space(&place.space).await.map_err(|status| status.to_string())?;
    space.group.ok_or_else(|| "no group".into())
}

/// Stops a server, copies what it has, and starts it again.
async fn take_copy(person: &Person) -> tempfile::TempDir {
    person.server.stop().await;
    let directory = tempfile::tempdir().expect("a directory");
    copy(&person.server.data_dir(), directory.path());
    person.server.restart().await;
    person.wake().await;
    directory
}

/// Puts a copy in the place of a server's data.
fn put_back(person: &Person, directory: &tempfile::TempDir) {
    person.server.kill_9();
    fs::remove_dir_all(person.server.data_dir()).expect("remove");
    copy(directory.path(), &person.server.data_dir());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_copy_that_is_put_back_says_so_is_let_in_anew_and_what_waited_arrives_once() {
    let names = ["alice", "bob", "carol"];
    let (cluster, [alice, bob, carol]) = Cluster::with(names, |plan| plan.metrics()).await;
    let place = meet(&alice, &[&bob, &carol]).await;
    let before = take_copy(&alice).await;
    alice.send(&place.channel, "before the loss").await;
    for other in [&bob, &carol] {
        wait_until("the others to read it", async || other.has(&place.channel, 1).await).await;
    }
    bob.server.assert_no_key_reuse().await;
    let lost = look(&bob, &place.space).await.expect("bob's world");

    put_back(&alice, &before);
    // Written before anyone can tell her what she once said.
    for other in [&bob, &carol] {
        cluster.cut(&alice, other).await;
    }
    alice.server.restart().await;
    alice.wake().await;
    let request = request_id();
    alice.send_as(&place.channel, "after the loss", &request).await.expect("send");
    for other in [&bob, &carol] {
        cluster.heal(&alice, other);
    }

    says_so(&alice, &place).await;
    assert_eq!(alice.status().await.queued_messages, 1, "it is kept, and not sent");
    assert_eq!(bob.texts(&place.channel).await.expect("history"), ["before the loss"]);
    // It stays so when she starts again, whoever is there.
    alice.server.restart().await;
    alice.wake().await;
    says_so(&alice, &place).await;

    within(BACK_WITHIN, "alice to have a fresh leaf", async || {
        let world = look(&alice, &place.space).await.map_err(|status| status.to_string())?;
        when(world.health == GroupHealth::Ok && world.epoch > lost.epoch, format!("{:?}", world.health))
    })
    .await;
    let told = told_since(&alice).await;
    let healths: Vec<_> = told.iter().map(|(health, _)| *health).collect();
    assert_eq!(healths, [GroupHealth::Stalled, GroupHealth::Forked, GroupHealth::Ok], "{told:?}");
    assert!(told[0].1.contains("nothing is sent from here"), "{told:?}");
    assert!(told[1].1.contains("rejoining: an old copy"), "{told:?}");
    let world = same_world(&[&alice, &bob, &carol], &place.space, 2).await;
    assert_eq!(world.roster, lost.roster, "nobody is gone, nobody came");
    let again = alice.send_as(&place.channel, "after the loss", &request).await.expect("the same answer");
    let read = bob.message(&again.message_id).await.expect("what she was answered with");
    assert_eq!(read.text, "after the loss");
    for person in [&bob, &carol, &alice] {
        person.send(&place.channel, &format!("{} is here", person.name())).await;
    }
    same_world(&[&alice, &bob, &carol], &place.space, 5).await;
    for person in [&alice, &bob, &carol] {
        assert_eq!(rejected(person, "key_reuse").await, 0);
        person.server.assert_no_key_reuse().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_restart_with_the_newest_data_sends_at_once() {
    let (cluster, [alice, bob]) = Cluster::with(["alice", "bob"], |plan| plan.metrics()).await;
    let place = meet(&alice, &[&bob]).await;
    alice.send(&place.channel, "before the loss").await;
    wait_until("bob to read it", async || bob.has(&place.channel, 1).await).await;
    let newest = take_copy(&alice).await;

    put_back(&alice, &newest);
    cluster.cut(&alice, &bob).await;
    alice.server.restart().await;
    alice.wake().await;
    alice.send(&place.channel, "after the loss").await;
    cluster.heal(&alice, &bob);
    same_world(&[&alice, &bob], &place.space, 2).await;
    bob.server.assert_no_key_reuse().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_who_knew_too_little_is_corrected_by_one_who_knows_more() {
    let (_cluster, [alice, bob, carol]) = Cluster::of(["alice", "bob", "carol"]).await;
    let place = meet(&alice, &[&bob, &carol]).await;
    carol.server.stop().await;
    let before = take_copy(&alice).await;
    alice.send(&place.channel, "only bob reads this").await;
    wait_until("bob to read it", async || bob.has(&place.channel, 1).await).await;
    bob.server.stop().await;

    put_back(&alice, &before);
    alice.server.restart().await;
    alice.wake().await;
    carol.server.restart().await;
    carol.wake().await;
    // Carol cannot know better.
    alice.send(&place.channel, "only carol reads this").await;
    wait_until("carol to read it", async || carol.has(&place.channel, 1).await).await;
    bob.server.restart().await;
    bob.wake().await;
    says_so(&alice, &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_copies_at_once_one_is_let_in_anew_and_the_other_knows_that_its_place_is_gone() {
    let start = async |name: &str| Server::plan(name).metrics().start().await;
    let (alice, bob) = (start("alice").await.sign_up("alice").await, start("bob").await.sign_up("bob").await);
    let place = meet(&alice, &[&bob]).await;
    let before = take_copy(&alice).await;
    alice.send(&place.channel, "the first of the original").await;
    wait_until("bob to read it", async || bob.has(&place.channel, 1).await).await;
    let lost = look(&bob, &place.space).await.expect("bob's world");

    let second = start("copy").await;
    second.stop().await;
    fs::remove_dir_all(second.data_dir()).expect("remove");
    copy(before.path(), &second.data_dir());
    second.restart().await;
    let double = second.person(alice.session.clone());
    double.wake().await;
    says_so(&double, &place).await;
    double.send(&place.channel, "of the copy").await;

    alice.send(&place.channel, "the second of the original").await;
    wait_until("bob to read it", async || bob.has(&place.channel, 2).await).await;
    bob.server.assert_no_key_reuse().await;

    within(BACK_WITHIN, "the original to know that its place is gone", async || {
        let group = group(&alice, &place).await?;
        let words = "let in in place of this one";
        let says_so = [&group.health_detail, &group.summary].iter().all(|said| said.contains(words));
        when(group.health() == GroupHealth::Stalled && says_so, format!("{group:?}"))
    })
    .await;
    // The original takes what is written there, and keeps it.
    alice.send(&place.channel, "the third of the original").await;
    assert_eq!(alice.status().await.queued_messages, 1);
    for person in [&alice, &bob] {
        assert_eq!(rejected(person, "key_reuse").await, 0);
    }
    // Both have one router's name, so that others reach now the one and now the other: it says to be stopped.
    let read = alice.texts(&place.channel).await.expect("history");
    alice.server.stop().await;
    within(BACK_WITHIN, "the copy to have a fresh leaf", async || {
        let group = group(&double, &place).await?;
        when(group.health() == GroupHealth::Ok && group.epoch > lost.epoch, format!("{group:?}"))
    })
    .await;
    let world = same_world(&[&double, &bob], &place.space, 3).await;
    assert_eq!(world.roster, lost.roster, "nobody is gone, nobody came");
    assert!(world.texts().contains(&"of the copy"), "{:?}", world.texts());
    bob.send(&place.channel, "bob is here").await;
    double.send(&place.channel, "the copy is here").await;
    let world = same_world(&[&double, &bob], &place.space, 5).await;
    let shared: Vec<_> =
        world.texts().into_iter().filter(|text| read.iter().any(|own| own == text)).collect();
    let kept: Vec<_> = read.iter().filter(|text| *text != "the third of the original").collect();
    assert_eq!(kept, shared, "what the original showed stands in the same order everywhere");
    for person in [&bob, &double] {
        assert_eq!(rejected(person, "key_reuse").await, 0);
        person.server.assert_no_key_reuse().await;
    }
}
