//! What was said once counts once: frames, Tips, challenges, proofs and letters.

use prost::Message as _;
use spacepanda_core::{
    group::{frame::FrameKind, key_package::fresh_key_package},
    invite::InviteLink,
    letter::seal_signed,
};
use spacepanda_proto::peer::v1::{FrameOutcome, JoinBundle, JoinOutcome, Letter, letter};

use super::Infiltrated;
use crate::harness::{
    hostile::{Intruder, rejected, victim},
    same_world,
    wait::when,
    wait_until,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_pushed_again_is_one_message() {
    let mut story = Infiltrated::new().await;
    let Infiltrated { alice, bob, mole, place, .. } = &mut story;
    for number in 0..5 {
        alice.send(&place.channel, &format!("once {number}")).await;
    }
    mole.hears_text("once 4").await;
    wait_until("bob to read them", async || bob.has(&place.channel, 5).await).await;
    mole.say(&[alice, bob], &place.channel, "and mine").await;

    let said = |kind: FrameKind, mole: &crate::harness::hostile::Mole| -> Vec<Vec<u8>> {
        let of_kind = mole.heard.iter().filter(|heard| heard.kind == kind);
        of_kind.map(|heard| heard.bytes.clone()).collect()
    };
    let frames = said(FrameKind::Application, mole);
    assert!(!frames.is_empty());
    for _ in 0..2 {
        for frame in &frames {
            // Bob has what Alice sent to all; what she carried to the mole alone opens as well, once.
            let outcome = mole.push(bob, frame).await;
            assert!(matches!(outcome, FrameOutcome::Duplicate | FrameOutcome::Stored), "{outcome:?}");
        }
    }
    for frame in &frames {
        assert_eq!(mole.push(bob, frame).await, FrameOutcome::Duplicate);
        assert_eq!(mole.push(alice, frame).await, FrameOutcome::Duplicate, "her own");
    }
    // Nor after a restart.
    bob.server.restart().await;
    bob.wake().await;
    mole.intruder.meet(bob).await;
    for frame in &frames {
        assert_eq!(mole.push(bob, frame).await, FrameOutcome::Duplicate);
    }
    story.unharmed(&["once 0", "once 1", "once 2", "once 3", "once 4", "and mine"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_tip_takes_nothing_back() {
    let mut story = Infiltrated::new().await;
    let Infiltrated { alice, mole, place, .. } = &mut story;
    let old = mole.tip();
    let old = mole.seal_tip(&old);
    assert_eq!(mole.push(alice, &old).await, FrameOutcome::Stored);
    let sent = alice.send(&place.channel, "read by two").await;
    let (_, event) = mole.hears_text("read by two").await;

    let mut new = mole.tip();
    new.positions.push(spacepanda_proto::peer::v1::LogPosition {
        log: event.event.log.0.to_vec(),
        contiguous: event.event.seq,
    });
    let new = mole.seal_tip(&new);
    assert_eq!(mole.push(alice, &new).await, FrameOutcome::Stored);
    for replayed in [&old, &new, &old] {
        assert_eq!(mole.push(alice, replayed).await, FrameOutcome::Duplicate);
    }
    wait_until("both acknowledgements", async || {
        let message = alice.message(&sent.message_id).await.map_err(|status| status.to_string())?;
        let delivery = message.delivery.unwrap_or_default();
        when(delivery.delivered_to == 2, format!("{delivery:?}"))
    })
    .await;
    story.unharmed(&["read by two"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_is_answered_once_and_a_proof_fits_one_challenge() {
    let (alice, bob) = (victim("alice").await, victim("bob").await);
    let space = alice.create_space("The garden").await.space_id;
    let text = alice.invite(&space).await;
    let link = InviteLink::parse(&text).expect("a link");
    let intruder = Intruder::new("mallory").await;
    intruder.meet(&alice).await;
    let key_package = fresh_key_package(&intruder.device()).expect("a KeyPackage");
    let outcome = async |nonces| {
        let reply = intruder.ask_to_join(&alice, &link, nonces, &key_package).await;
        assert!(reply.letter.is_empty());
        reply.outcome()
    };

    // Nobody gave this one.
    assert_eq!(outcome(([4; 32], [4; 32])).await, JoinOutcome::Unspecified);
    // A proof made for another challenge, which uses the challenge up.
    let first = intruder.challenge(&alice).await;
    assert_eq!(outcome((first, [4; 32])).await, JoinOutcome::Unknown);
    assert_eq!(rejected(&alice, "signature").await, 1);
    assert_eq!(outcome((first, first)).await, JoinOutcome::Unspecified);
    // The proof that would have been right, on the next challenge.
    let second = intruder.challenge(&alice).await;
    assert_eq!(outcome((second, first)).await, JoinOutcome::Unknown);
    assert_eq!(rejected(&alice, "signature").await, 2);
    // A newer challenge ends the older one.
    let third = intruder.challenge(&alice).await;
    let fourth = intruder.challenge(&alice).await;
    assert_ne!(third, fourth);
    assert_eq!(outcome((third, third)).await, JoinOutcome::Unspecified);

    bob.join(&text).await;
    assert_eq!(same_world(&[&alice, &bob], &space, 0).await.roster.len(), 2);
    let fifth = intruder.challenge(&alice).await;
    assert_eq!(outcome((fifth, fifth)).await, JoinOutcome::UsedUp);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_letter_joins_nobody() {
    let mut story = Infiltrated::new().await;
    let (carol, link) = (victim("carol").await, story.alice.invite(&story.place.space).await);
    let Infiltrated { alice, bob, mole, place, .. } = &mut story;
    // Carol waits for Alice, who is away.
    alice.server.stop().await;
    let (state, _) = carol.try_join(&link).await.expect("accepted");
    assert_eq!(state, spacepanda_proto::api::v1::JoinState::Pending);

    let stranger = Intruder::new("stranger").await;
    let address = stranger.meet(&carol).await.letter_key;
    mole.intruder.meet(&carol).await;
    let bundle = bundle_letter(&mole.bundle);
    let mut other_group = mole.bundle.clone();
    other_group.gid = vec![1; 16];
    // From a stranger, from a member who is not the inviter, of an unknown group, and garbage.
    let by = |intruder: &Intruder, body: Vec<u8>| {
        let identity = &intruder.identity;
        let (key, certificate) = (&identity.device, &identity.certificate);
        seal_signed(key, certificate, &identity.letter_secret, &address, body).expect("sealed")
    };
    let letters = [
        by(&stranger, bundle.clone()),
        by(&mole.intruder, bundle),
        by(&stranger, bundle_letter(&other_group)),
        by(&stranger, bundle_letter(&JoinBundle::default())),
        vec![1; 200],
    ];
    for (number, letter) in (1..).zip(letters) {
        assert_eq!(stranger.push_letter(&carol, letter).await, FrameOutcome::Rejected);
        assert_eq!(rejected(&carol, "malformed").await, number);
    }
    assert!(carol.all_spaces().await.is_empty());

    alice.server.restart().await;
    alice.wake().await;
    wait_until("carol to be in at last", async || when(carol.all_spaces().await.len() == 1, "not yet")).await;
    let world = same_world(&[alice, bob, &carol], &place.space, 0).await;
    assert_eq!(world.roster.len(), 4);

    // Now that she is in, a letter about the same group says nothing new.
    let again = by(&stranger, bundle_letter(&story.mole.bundle));
    stranger.push_letter(&carol, again).await;
    assert_eq!(same_world(&[&story.alice, &story.bob, &carol], &story.place.space, 0).await, world);
}

/// What a letter with a JoinBundle says.
fn bundle_letter(bundle: &JoinBundle) -> Vec<u8> {
    Letter { kind: Some(letter::Kind::Join(bundle.clone())) }.encode_to_vec()
}
