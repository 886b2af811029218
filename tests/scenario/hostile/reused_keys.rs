//! A message key is used once: what is sealed with it again is counted and not taken, its events come another way.

use prost::Message as _;
use spacepanda_core::group::{
    frame::{Frame, FrameKind},
    testing::Hostile as _,
};
use spacepanda_proto::peer::v1::{ApplicationPlaintext, FrameOutcome, Fresh, application_plaintext};

use super::Infiltrated;
use crate::harness::{hostile::rejected, hostile::text_in};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_under_a_used_key_is_refused_and_its_event_comes_under_another() {
    let mut story = Infiltrated::new().await;
    let Infiltrated { bob, mole, place, .. } = &mut story;
    let mut as_it_was = mole.as_it_joined();
    assert_eq!(as_it_was.facts().sid, mole.head().facts().sid, "nothing was committed since");
    let device = mole.intruder.device();
    let mut with_old_keys = |event: &[u8]| {
        let fresh = application_plaintext::Kind::Fresh(Fresh { events: vec![event.to_vec()] });
        let plaintext = ApplicationPlaintext { kind: Some(fresh) }.encode_to_vec();
        let sealed = as_it_was.seal_application(&device, &plaintext);
        sealed.unwrap_or_else(|error| panic!("sealing: {error}")).bytes
    };

    let events: Vec<_> =
        ["one", "two", "three", "four"].map(|text| mole.append(text_in(&place.channel, text))).into();
    let one = mole.fresh(&events[..1]);
    let two = with_old_keys(&events[1]);
    assert_eq!(mole.push(bob, &one).await, FrameOutcome::Stored);
    assert_eq!(mole.push(bob, &two).await, FrameOutcome::Rejected, "one's key");
    assert_eq!(rejected(bob, "key_reuse").await, 1);
    // Nothing was used up, and what came first is still what was said under that key.
    assert_eq!(mole.push(bob, &one).await, FrameOutcome::Duplicate);

    // Nor within one request, nor after a restart.
    let (two, three) = (mole.fresh(&events[1..2]), with_old_keys(&events[2]));
    let outcomes = mole.intruder.push(bob, &[two.clone(), three.clone(), two]).await;
    assert_eq!(outcomes, [FrameOutcome::Stored, FrameOutcome::Rejected, FrameOutcome::Duplicate]);
    assert_eq!(rejected(bob, "key_reuse").await, 2);
    bob.server.restart().await;
    bob.wake().await;
    mole.intruder.meet(bob).await;
    assert_eq!(mole.push(bob, &three).await, FrameOutcome::Rejected);
    assert_eq!(rejected(bob, "key_reuse").await, 1, "since the restart");

    let rest = mole.fresh(&events[2..]);
    assert_eq!(mole.push(bob, &rest).await, FrameOutcome::Stored);
    bob.send(&place.channel, "four of them").await;
    let texts = bob.texts(&place.channel).await.expect("history");
    assert_eq!(texts, ["one", "two", "three", "four", "four of them"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_message_in_another_frame_is_no_reused_key() {
    let mut story = Infiltrated::new().await;
    let Infiltrated { alice, bob, mole, place, .. } = &mut story;
    alice.send(&place.channel, "once").await;
    let (bytes, _) = mole.hears_text("once").await;
    crate::harness::wait_until("bob to read it", async || bob.has(&place.channel, 1).await).await;
    let frame = Frame::decode(&bytes).expect("alice's frame");
    let opened = mole.head().open_frame(&frame).unwrap_or_else(|error| panic!("{error}"));
    let again = mole.head().forge_frame(FrameKind::Application, opened.leaf, opened.counter, &opened.body);
    let again = again.unwrap_or_else(|error| panic!("sealing: {error}"));
    assert_ne!(again, bytes);
    assert_eq!(mole.push(bob, &again).await, FrameOutcome::Duplicate);
    bob.server.assert_no_key_reuse().await;
    story.unharmed(&["once"]).await;
}
