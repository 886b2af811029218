//! Messages on their way while the group changes: each still opens, everywhere, once.

use std::collections::BTreeSet;

use crate::harness::{Cluster, Person, meet, same_world, wait::when, wait_until, world::look};

const EACH: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn what_two_write_while_the_owner_commits_joins_and_removals_all_arrives() {
    let (cluster, [alice, bob, carol, dave, erin]) =
        Cluster::of(["alice", "bob", "carol", "dave", "erin"]).await;
    let place = meet(&alice, &[&bob, &carol]).await;
    // Slow links leave commits and messages in flight at the same time.
    cluster.delay(&alice, &bob, std::time::Duration::from_millis(20));
    cluster.delay(&alice, &carol, std::time::Duration::from_millis(40));
    let before = same_world(&[&alice, &bob, &carol], &place.space, 0).await;

    let commits = async {
        dave.join(&alice.invite(&place.space).await).await;
        erin.join(&alice.invite(&place.space).await).await;
        alice.remove(&place.space, dave.account()).await;
    };
    tokio::join!(write(&bob, &place.channel), write(&carol, &place.channel), commits);

    let world = same_world(&[&alice, &bob, &carol], &place.space, 2 * EACH).await;
    assert_eq!(world.epoch, before.epoch + 3, "two joins and a removal");
    let texts: BTreeSet<_> = world.texts().into_iter().map(String::from).collect();
    let expected: BTreeSet<_> =
        ["bob", "carol"].iter().flat_map(|who| (0..EACH).map(move |n| format!("{who} {n}"))).collect();
    assert_eq!(texts, expected);

    alice.send(&place.channel, "and then it was quiet").await;
    same_world(&[&alice, &bob, &carol], &place.space, 2 * EACH + 1).await;
    wait_until("erin, who came amid it, to hold the same group", async || {
        let alices = look(&alice, &place.space).await.map_err(|status| status.to_string())?;
        let erins = look(&erin, &place.space).await.map_err(|status| status.to_string())?;
        let same =
            (erins.epoch, &erins.check, &erins.roster) == (alices.epoch, &alices.check, &alices.roster);
        when(same && erins.history.last() == alices.history.last(), format!("{erins:?}"))?;
        when(erins.history.iter().all(|row| alices.history.contains(row)), "erin has what alice has not")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_an_epoch_that_the_sender_has_not_left_yet_still_opens() {
    let (cluster, [alice, bob, carol]) = Cluster::of(["alice", "bob", "carol"]).await;
    let place = meet(&alice, &[&bob]).await;

    // Bob does not hear of the commit and writes on the old state.
    cluster.cut(&alice, &bob).await;
    let link = alice.invite(&place.space).await;
    carol.join(&link).await;
    bob.send(&place.channel, "I know of two of us").await;
    cluster.heal(&alice, &bob);

    for person in [&alice, &bob] {
        wait_until("bob's message", async || person.has(&place.channel, 1).await).await;
    }
    let epochs = wait_until("all three to hold the same group", async || {
        let mut groups = Vec::new();
        for person in [&alice, &bob, &carol] {
            let world = look(person, &place.space).await.map_err(|status| status.to_string())?;
            groups.push((world.epoch, world.check, world.roster.len()));
        }
        when(groups.iter().all(|group| *group == groups[0] && group.2 == 3), format!("{groups:?}"))?;
        Ok(groups[0].0)
    })
    .await;
    assert!(epochs > 0);
}

async fn write(person: &Person, channel: &str) {
    for number in 0..EACH {
        person.send(channel, &format!("{} {number}", person.name())).await;
    }
}
