//! A removed member with everything it ever held, and every frame sent since, opens none of them.

use std::time::Duration;

use spacepanda_core::group::{
    frame::{Frame, FrameKind},
    testing::Hostile as _,
};
use spacepanda_proto::peer::v1::FrameOutcome;

use super::{Infiltrated, infiltrate};
use crate::harness::{comes_true, hostile::victim, meet, same_world, stolen::Stolen, wait::when, wait_until};

const LATER: usize = 12;
/// Longer than a member waits before it looks again whether another lacks something.
const LOOKS_AFTER: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_members_whole_database_opens_nothing_later() {
    let (alice, bob, carol) = (victim("alice").await, victim("bob").await, victim("carol").await);
    let place = meet(&alice, &[&bob, &carol]).await;
    // A member that keeps every frame as it was pushed: what a wiretap on everyone would have.
    let mut tap = infiltrate("tap", &alice, &[&carol], &place).await;
    same_world(&[&alice, &bob, &carol], &place.space, 0).await;
    bob.send(&place.channel, "bob was here").await;
    same_world(&[&alice, &bob, &carol], &place.space, 1).await;

    bob.server.stop().await;
    alice.send(&place.channel, "before").await;
    let (before, _) = tap.hears_text("before").await;
    let stolen_before = Stolen::from(&bob).await;
    bob.server.restart().await;
    bob.wake().await;
    let world = same_world(&[&alice, &bob, &carol], &place.space, 2).await;

    alice.remove(&place.space, bob.account()).await;
    wait_until("bob to learn it", async || {
        let removed = bob.space(&place.space).await.is_err_and(|s| s.code() == tonic::Code::NotFound)
            || bob.space(&place.space).await.is_ok_and(|space| {
                space
                    .group
                    .is_some_and(|group| group.health() == spacepanda_proto::api::v1::GroupHealth::Removed)
            });
        when(removed, "still a member")
    })
    .await;
    bob.server.stop().await;
    let stolen_after = Stolen::from(&bob).await;

    tap.follows_to(world.epoch + 1).await;
    for number in 0..LATER {
        let author = if number % 2 == 0 { &alice } else { &carol };
        author.send(&place.channel, &format!("later {number}")).await;
    }
    same_world(&[&alice, &carol], &place.space, 2 + LATER).await;
    let all_heard = |heard: &[crate::harness::hostile::Heard]| {
        let of = |kind| heard.iter().filter(move |heard| heard.epoch > world.epoch && heard.kind == kind);
        let texts = of(FrameKind::Application).flat_map(|heard| &heard.events).count();
        let tips = of(FrameKind::Tip).count();
        (texts >= LATER && tips > 0)
            .then(|| heard.iter().map(|h| (h.bytes.clone(), h.epoch, h.kind)).collect())
    };
    let heard: Vec<(Vec<u8>, u64, FrameKind)> = tap.hears("everything later", all_heard).await;

    // The copy works at all: what was sent before opens, to the last word.
    let mut states = stolen_before.states().await;
    assert!(states.len() > 1, "the head and its parents");
    let frame = Frame::decode(&before).expect("a frame");
    let opened: Vec<_> = states
        .iter_mut()
        .filter_map(|state| {
            let opened = state.open_frame(&frame).ok()?;
            Some(state.open_application(&opened).is_ok())
        })
        .collect();
    assert_eq!(opened, [true], "exactly one state opens it");

    // Of the removal it sees the commit, which leads it nowhere.
    let mut commits = heard.iter().filter(|(_, _, kind)| *kind == FrameKind::Commit);
    let commit = commits.next_back().expect("the removal");
    let frame = Frame::decode(&commit.0).expect("a frame");
    let led: Vec<_> = states
        .iter()
        .filter_map(|state| {
            let opened = state.open_frame(&frame).ok()?;
            Some(state.process_commit(&opened.body).map(|processed| processed.child().is_some()))
        })
        .collect();
    assert!(matches!(led[..], [Ok(false)]), "a state after the removal was made");

    // And nothing opens what came after, whatever state it claims to be of.
    states.extend(stolen_after.states().await);
    let mut tried = 0;
    for (bytes, _, kind) in heard.iter().filter(|(_, epoch, _)| *epoch > world.epoch) {
        let frame = Frame::decode(bytes).expect("a frame");
        for state in &states {
            assert!(state.open_frame(&frame).is_err() && !state.key_opens(&frame), "a later {kind:?} opens");
            tried += 1;
        }
    }
    assert!(tried > LATER, "{tried}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_back_at_once_is_not_led_on_from_where_it_was_before() {
    let mut story = Infiltrated::new().await;
    let Infiltrated { alice, bob, mole, place, .. } = &mut story;
    // It says where it is, so that alice looks a few seconds later whether it lacks something.
    let tip = mole.tip();
    let tip = mole.seal_tip(&tip);
    assert_eq!(mole.push(alice, &tip).await, FrameOutcome::Stored);
    alice.remove(&place.space, &mole.intruder.identity.certificate.account.to_string()).await;
    mole.hears("its removal", |heard| {
        heard.iter().any(|heard| heard.kind == FrameKind::Commit).then_some(())
    })
    .await;
    // He may be late to hear of the removal, and go on in the epoch before it.
    bob.server.stop().await;

    let Infiltrated { alice, bob, mole, place, before } = story;
    let known = mole.intruder.received().len();
    let mut back = mole.intruder.join(&alice, &alice.invite(&place.space).await).await;
    assert_eq!(back.head().facts().epoch, before.epoch + 2);
    // The commits between are sealed in epochs that it was not there for.
    let shown = comes_true(LOOKS_AFTER, async || match back.unopened(known) {
        0 => Err("nothing that it cannot open".into()),
        frames => Ok(frames),
    });
    assert_eq!(shown.await, Err("nothing that it cannot open".into()));
    alice.send(&place.channel, "welcome back").await;
    back.hears_text("welcome back").await;
    bob.server.restart().await;
    bob.wake().await;
    same_world(&[&alice, &bob], &place.space, 1).await;
}
