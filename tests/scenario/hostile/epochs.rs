//! Frames of another epoch than the receiver's: what was sealed before a commit still opens after it,
//! and what was sealed after one waits for it.

use std::time::Duration;

use spacepanda_proto::{
    api::v1::{GroupHealth, event::Kind},
    peer::v1::FrameOutcome,
};

use super::{Infiltrated, infiltrate};
use crate::harness::{
    Person,
    feed::Feed,
    hostile::{counter, text_in, victim},
    same_world,
    wait::when,
    wait_until,
    world::look,
};

/// Secrets go after three days.
const LONGER_THAN_SECRETS_ARE_KEPT: Duration = Duration::from_secs(73 * 60 * 60);

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_sealed_before_a_commit_opens_after_it_but_not_for_who_came_with_it() {
    let mut story = Infiltrated::new().await;
    let carol = victim("carol").await;
    let Infiltrated { alice, bob, mole, place, before } = &mut story;
    let event = mole.append(text_in(&place.channel, "sealed before, delivered after"));
    let old = mole.fresh(&[event]);

    carol.join(&alice.invite(&place.space).await).await;
    let changed = same_world(&[alice, bob, &carol], &place.space, 0).await;
    assert_eq!(changed.epoch, before.epoch + 1);
    assert_eq!(mole.head().facts().epoch, before.epoch, "the frame is of the epoch before");
    for person in [&*alice, bob] {
        assert_eq!(mole.push(person, &old).await, FrameOutcome::Stored);
        wait_until("the late message", async || person.has(&place.channel, 1).await).await;
        assert_eq!(mole.push(person, &old).await, FrameOutcome::Duplicate);
    }
    let world = same_world(&[alice, bob], &place.space, 1).await;
    assert_eq!(world.texts(), ["sealed before, delivered after"]);
    assert_eq!((world.epoch, world.check), (changed.epoch, changed.check));

    // Carol gets its place in the order, without which she could not read what refers to it.
    for author in [&*alice, bob] {
        author.send(&place.channel, &format!("{} to all", author.name())).await;
    }
    same_world(&[alice, bob], &place.space, 3).await;
    let carols = wait_until("carol to read on", async || carol.has(&place.channel, 2).await).await;
    assert!(carols.iter().all(|message| message.text.ends_with("to all")), "{carols:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_of_a_state_whose_secrets_are_gone_is_stale_and_changes_nothing() {
    let mut story = Infiltrated::new().await;
    let Infiltrated { alice, bob, mole, place, before: long_ago } = &mut story;
    let event = mole.append(text_in(&place.channel, "from long ago"));
    let old = mole.fresh(&[event]);
    let _friend = infiltrate("friend", alice, &[bob], place).await;
    // Days after the group left its state, while the frame was on its way.
    alice.server.clock_ahead(LONGER_THAN_SECRETS_ARE_KEPT);
    alice.server.restart().await;
    alice.wake().await;
    let _another = infiltrate("another friend", alice, &[bob], place).await;
    let before = same_world(&[alice, bob], &place.space, 0).await;
    wait_until("the states of long ago to be pruned", async || {
        let space = alice.space(&place.space).await.map_err(|status| status.to_string())?;
        let group = space.group.unwrap_or_default();
        let (retained, since) = (u64::from(group.retained_epochs), group.epoch - long_ago.epoch);
        when(retained <= since, format!("{retained} are retained, {since} came since"))
    })
    .await;
    // Others' frames of then may be late as well.
    let stale = "spacepanda_frames_total{outcome=\"stale\"}";
    let before_it = counter(alice, stale).await;
    mole.intruder.meet(alice).await;
    assert_eq!(mole.push(alice, &old).await, FrameOutcome::Foreign);
    assert!(counter(alice, stale).await > before_it);
    let after = look(alice, &place.space).await.expect("the space");
    assert_eq!(after.state_id, before.state_id, "nobody moved");
    for person in [&*alice, bob] {
        person.send(&place.channel, &format!("{} goes on", person.name())).await;
    }
    wait_until("both to read on", async || {
        let texts = alice.texts(&place.channel).await.map_err(|status| status.to_string())?;
        when(texts.iter().filter(|text| text.ends_with("goes on")).count() == 2, format!("{texts:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_a_commit_that_has_not_come_wait_for_it_and_the_group_says_so() {
    let mut story = Infiltrated::new().await;
    let Infiltrated { alice, bob, mole, place, before } = &mut story;
    // A commit that bob misses, and nobody is left who could give it to him.
    bob.server.stop().await;
    let _friend = infiltrate("friend", alice, &[], place).await;
    mole.follows_to(before.epoch + 1).await;
    alice.server.stop().await;
    bob.server.restart().await;
    bob.wake().await;
    let mut feed = bob.events(None).await;

    mole.intruder.meet(bob).await;
    let event = mole.append(text_in(&place.channel, "from an epoch ahead"));
    let ahead = mole.fresh(&[event]);
    assert_eq!(mole.push(bob, &ahead).await, FrameOutcome::Stored);
    assert_eq!(counter(bob, "spacepanda_frames_total{outcome=\"future\"}").await, 1);
    assert_eq!(next_health(&mut feed).await, GroupHealth::Resyncing);
    assert_eq!(health(bob, &place.space).await, (GroupHealth::Resyncing, before.epoch));
    assert!(bob.texts(&place.channel).await.expect("history").is_empty(), "it cannot be read yet");

    alice.server.restart().await;
    alice.wake().await;
    assert_eq!(next_health(&mut feed).await, GroupHealth::Ok);
    assert_eq!(health(bob, &place.space).await, (GroupHealth::Ok, before.epoch + 1));
    let world = same_world(&[alice, bob], &place.space, 1).await;
    assert_eq!(world.texts(), ["from an epoch ahead"]);
    assert_eq!(world.roster.len(), 4);
}

async fn next_health(feed: &mut Feed) -> GroupHealth {
    feed.next_matching("the group's new health", |kind| match kind {
        Kind::GroupHealth(changed) => Some(changed.health()),
        _ => None,
    })
    .await
}

/// What the API says of a space's group: its health, and the epoch it is in.
async fn health(person: &Person, space: &str) -> (GroupHealth, u64) {
    let group = person.space(space).await.expect("the space").group.expect("its group");
    (group.health(), group.epoch)
}
