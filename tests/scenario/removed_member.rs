//! A removed member learns it, reads nothing written later, cannot write, and cannot use an old link.

use spacepanda_proto::api::v1::{DeliveryState, GroupHealth, MemberChange, event::Kind};
use tonic::Code;

use crate::harness::{
    Cluster, Person, Place, feed::Feed, meet, refusal::reason, refused, refused_with, same_world, wait::when,
    wait_until,
};

const LATER: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn a_member_removed_while_online_reads_and_writes_nothing_later() {
    let (_cluster, [alice, bob, carol]) = Cluster::of(["alice", "bob", "carol"]).await;
    let space = alice.create_space("The garden").await.space_id;
    let link = alice.invite_for(&space, 10).await.link;
    bob.join(&link).await;
    carol.join(&link).await;
    let place = Place { channel: alice.general(&space).await, space };
    alice.send(&place.channel, "for all three").await;
    let before = same_world(&[&alice, &bob, &carol], &place.space, 1).await;

    let mut seen_by_carol = carol.events(None).await;
    let mut seen_by_bob = bob.events(None).await;
    alice.remove(&place.space, carol.account()).await;
    learns_of_removal(&mut seen_by_carol, &place).await;
    let change = seen_by_bob.next_matching("carol's removal", |kind| match kind {
        Kind::MemberChanged(changed) => Some((changed.member.clone()?.account_id, changed.change())),
        _ => None,
    });
    assert_eq!(change.await, (carol.account().into(), MemberChange::Removed));

    write_later(&alice, &bob, &place).await;
    let after = same_world(&[&alice, &bob], &place.space, 1 + LATER).await;
    assert_eq!(after.epoch, before.epoch + 1);
    assert_ne!(after.check, before.check, "the group's secret is another");

    reads_nothing_later(&carol, &place).await;
    cannot_write(&carol, &place).await;
    carol.server.restart().await;
    carol.wake().await;
    reads_nothing_later(&carol, &place).await;
    refused_old_link(&carol, &link).await;
    same_world(&[&alice, &bob], &place.space, 1 + LATER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_removed_while_offline_learns_it_on_return() {
    let (_cluster, [alice, bob, carol]) = Cluster::of(["alice", "bob", "carol"]).await;
    let place = meet(&alice, &[&bob, &carol]).await;
    carol.server.stop().await;
    alice.remove(&place.space, carol.account()).await;
    write_later(&alice, &bob, &place).await;
    same_world(&[&alice, &bob], &place.space, LATER).await;

    carol.server.restart().await;
    let mut feed = carol.events(Some(0)).await;
    learns_of_removal(&mut feed, &place).await;
    reads_nothing_later(&carol, &place).await;
    cannot_write(&carol, &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_member_may_be_invited_again_but_the_time_between_stays_closed() {
    let (_cluster, [alice, bob, carol]) = Cluster::of(["alice", "bob", "carol"]).await;
    let place = meet(&alice, &[&bob, &carol]).await;
    for (author, text) in [(&alice, "before"), (&carol, "mine from before")] {
        author.send(&place.channel, text).await;
    }
    same_world(&[&alice, &bob, &carol], &place.space, 2).await;
    let mut feed = carol.events(None).await;
    alice.remove(&place.space, carol.account()).await;
    learns_of_removal(&mut feed, &place).await;
    write_later(&alice, &bob, &place).await;

    carol.join(&alice.invite(&place.space).await).await;
    bob.send(&place.channel, "long time no see").await;
    alice.send(&place.channel, "welcome back").await;
    wait_until("carol to be greeted", async || {
        let texts = carol.texts(&place.channel).await.map_err(|status| status.to_string())?;
        let here = |text: &str| texts.iter().any(|known| known == text);
        when(here("welcome back") && here("long time no see"), format!("{texts:?}"))
    })
    .await;
    reads_nothing_later(&carol, &place).await;
    let texts = carol.texts(&place.channel).await.expect("history");
    assert_eq!(texts.len(), 4, "what it had stays readable: {texts:?}");
    carol.send(&place.channel, "glad to be here").await;
    for reader in [&alice, &bob] {
        wait_until("carol to be read", async || reader.has(&place.channel, LATER + 5).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_is_out_of_the_group_and_the_owner_stays() {
    let (_cluster, [alice, bob, carol]) = Cluster::of(["alice", "bob", "carol"]).await;
    let place = meet(&alice, &[&bob, &carol]).await;
    let before = same_world(&[&alice, &bob, &carol], &place.space, 0).await;

    let request =
        spacepanda_proto::api::v1::LeaveSpaceRequest { space_id: place.space.clone(), ..Default::default() };
    refused(alice.spaces().leave_space(request).await, Code::FailedPrecondition, "OWNER_CANNOT_LEAVE");

    carol.leave(&place.space).await;
    refused(carol.space(&place.space).await, Code::NotFound, "SPACE_NOT_FOUND");
    wait_until("the owner to take carol out of the group", async || {
        let members = bob.members(&place.space).await.map_err(|status| status.to_string())?;
        when(members.len() == 2, format!("{} members", members.len()))
    })
    .await;
    let after = same_world(&[&alice, &bob], &place.space, 0).await;
    assert!(after.epoch > before.epoch && after.check != before.check);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_for_the_last_other_member_waits_no_more() {
    let (_cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let place = meet(&alice, &[&bob]).await;
    bob.server.stop().await;
    let sent = alice.send(&place.channel, "are you there?").await;
    alice.remove(&place.space, bob.account()).await;
    wait_until("nothing to be on its way", async || {
        let message = alice.message(&sent.message_id).await.map_err(|status| status.to_string())?;
        let delivery = message.delivery.unwrap_or_default();
        let done = delivery.state() == DeliveryState::Delivered && delivery.recipients == 0;
        when(done, format!("{delivery:?}"))?;
        when(alice.status().await.queued_messages == 0, "still counted as queued")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_let_into_a_space_that_its_owner_left() {
    let (_cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let space = alice.create_space("The garden").await.space_id;
    let link = alice.invite(&space).await;
    alice.leave(&space).await;
    let status = bob.try_join(&link).await.expect_err("nobody is there");
    assert!(reason(&status).starts_with("INVITE_"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_owner_removes() {
    let (_cluster, [alice, bob, carol]) = Cluster::of(["alice", "bob", "carol"]).await;
    let place = meet(&alice, &[&bob, &carol]).await;
    let request = spacepanda_proto::api::v1::RemoveMemberRequest {
        space_id: place.space.clone(),
        account_id: carol.account().into(),
        ..Default::default()
    };
    refused_with(bob.spaces().remove_member(request).await, Code::PermissionDenied);
    assert_eq!(same_world(&[&alice, &bob, &carol], &place.space, 0).await.roster.len(), 3);
}

async fn learns_of_removal(feed: &mut Feed, place: &Place) {
    feed.next_matching("the news of the removal", |kind| match kind {
        Kind::GroupHealth(changed) => {
            (changed.space_id == place.space && changed.health() == GroupHealth::Removed).then_some(())
        }
        _ => None,
    })
    .await;
}

/// The remaining two write, until each has the other's and the servers say that all got it.
async fn write_later(alice: &Person, bob: &Person, place: &Place) {
    for number in 0..LATER {
        let author = if number % 2 == 0 { alice } else { bob };
        let sent = author.send(&place.channel, &format!("later {number}")).await;
        wait_until("it to be delivered", async || {
            let message = author.message(&sent.message_id).await.map_err(|status| status.to_string())?;
            let delivery = message.delivery.unwrap_or_default();
            let done = delivery.state() == DeliveryState::Delivered && delivery.recipients == 1;
            when(done, format!("{delivery:?}"))
        })
        .await;
    }
}

/// What is left of the history, if anything, holds nothing written after the removal.
async fn reads_nothing_later(removed: &Person, place: &Place) {
    let texts = removed.texts(&place.channel).await.unwrap_or_default();
    assert!(!texts.iter().any(|text| text.starts_with("later")), "{texts:?}");
    let mut feed = removed.events(Some(0)).await;
    feed.until_caught_up().await;
    assert!(!feed.texts().iter().any(|text| text.starts_with("later")), "{:?}", feed.texts());
}

async fn cannot_write(removed: &Person, place: &Place) {
    let status = removed.try_send(&place.channel, "can you hear me?").await.expect_err("refused");
    assert!(matches!(status.code(), Code::NotFound | Code::FailedPrecondition), "{status:?}");
}

async fn refused_old_link(removed: &Person, link: &str) {
    let status = removed.try_join(link).await.expect_err("a link from before the removal");
    assert!(matches!(status.code(), Code::FailedPrecondition | Code::InvalidArgument), "{status:?}");
    assert!(reason(&status).starts_with("INVITE_"), "{status:?}");
}
