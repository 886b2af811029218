//! Frames that no member's program makes: of wrong sizes, too many, in other leaves' names.

use prost::Message as _;
use spacepanda_core::{
    group::{
        frame::{Frame, FrameKind},
        testing::Hostile as _,
    },
    id::LogId,
};
use spacepanda_proto::peer::v1::{
    ApplicationPlaintext, FrameOutcome, LogPosition, SignedTip, application_plaintext,
};

use super::Infiltrated;
use crate::harness::{
    Person,
    hostile::{counter, rejected, text_in},
    wait::when,
    wait_until,
};

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_no_permitted_length_are_refused() {
    let mut story = Infiltrated::new().await;
    let Infiltrated { alice, mole, place, .. } = &mut story;
    alice.send(&place.channel, "a frame to spoil").await;
    let (genuine, _) = mole.hears_text("a frame to spoil").await;
    let mut other_version = genuine.clone();
    other_version[0] = 2;
    let longer = [&genuine[..], &[0]].concat();
    let bad = [vec![], vec![1; 511], longer, other_version];
    let outcomes = mole.intruder.push(alice, &bad).await;
    assert_eq!(outcomes, [FrameOutcome::Rejected; 4]);
    assert_eq!(rejected(alice, "malformed").await, 4);
    assert_eq!(counter(alice, "spacepanda_frames_total{outcome=\"rejected\"}").await, 4);
    story.unharmed(&["a frame to spoil"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_frames_than_a_push_may_have_are_refused_together() {
    let mut story = Infiltrated::new().await;
    let Infiltrated { alice, bob, mole, place, .. } = &mut story;
    let events: Vec<_> =
        (0..257).map(|n| mole.append(text_in(&place.channel, &format!("text {n}")))).collect();
    let frames: Vec<_> = events.into_iter().map(|event| mole.fresh(&[event])).collect();
    for victim in [&*alice, &*bob] {
        let outcomes = mole.intruder.push(victim, &frames).await;
        assert_eq!(outcomes, vec![FrameOutcome::Rejected; 257]);
        assert_eq!(rejected(victim, "flood").await, 1);
    }
    // As many as allowed, and they are good.
    for victim in [&*alice, &*bob] {
        let outcomes = mole.intruder.push(victim, &frames[..256]).await;
        assert_eq!(outcomes, vec![FrameOutcome::Stored; 256]);
    }
    let texts: Vec<_> = (0..256).map(|n| format!("text {n}")).collect();
    story.unharmed(&texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_in_another_leafs_name_is_refused() {
    let mut story = Infiltrated::new().await;
    let Infiltrated { alice, bob, mole, place, .. } = &mut story;
    alice.send(&place.channel, "a message to steal").await;
    let (genuine, _) = mole.hears_text("a message to steal").await;
    wait_until("bob to read it", async || bob.has(&place.channel, 1).await).await;

    // Alice's message under Bob's leaf, under the mole's own, and with another counter.
    let head = mole.head();
    let opened = head.open_frame(&Frame::decode(&genuine).expect("a frame")).expect("opens");
    let own = head.facts().own_leaf;
    let bobs = leaf_of(mole.head().facts(), bob);
    for (leaf, counter) in [(bobs, opened.counter), (own, 0), (opened.leaf, opened.counter + 1), (99, 0)] {
        let frame = mole.head().forge_frame(FrameKind::Application, leaf, counter, &opened.body);
        let outcome = mole.push(bob, &frame.expect("sealed")).await;
        assert_eq!(outcome, FrameOutcome::Rejected);
    }
    assert_eq!(rejected(bob, "wrong_sender").await, 4);
    // Sealed anew it is still the same message.
    let again = mole.head().forge_frame(FrameKind::Application, opened.leaf, opened.counter, &opened.body);
    assert_eq!(mole.push(bob, &again.expect("sealed")).await, FrameOutcome::Duplicate);
    // And what is no MLS message at all.
    let garbage = mole.head().forge_frame(FrameKind::Application, own, 0, b"no MLS message").expect("sealed");
    assert_eq!(mole.push(bob, &garbage).await, FrameOutcome::Rejected);
    assert_eq!(rejected(bob, "signature").await, 1);
    story.unharmed(&["a message to steal"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_acknowledges_for_another() {
    let mut story = Infiltrated::new().await;
    // Bob is away, and the mole claims to Alice that he has everything.
    story.bob.server.stop().await;
    let Infiltrated { alice, bob, mole, place, .. } = &mut story;
    let sent = alice.send(&place.channel, "has bob got it?").await;
    let (_, event) = mole.hears_text("has bob got it?").await;
    let roster = mole.head().facts().standing.roster.clone();
    let bobs = roster.iter().find(|member| member.certificate.account.to_string() == bob.account());
    let bobs = bobs.expect("bob is a member").clone();
    let all = |log: LogId| LogPosition { log: log.0.to_vec(), contiguous: 1 << 40 };

    // Bob's name over the mole's signature; the mole's own Tip from Bob's leaf; the mole's about the past.
    let mut in_bobs_name = mole.tip();
    in_bobs_name.device_key = bobs.certificate.device.0.to_vec();
    in_bobs_name.positions = vec![all(event.event.log)];
    let frame = mole.seal_tip(&in_bobs_name);
    assert_eq!(mole.push(alice, &frame).await, FrameOutcome::Rejected);
    assert_eq!(rejected(alice, "signature").await, 1);

    let mut own = mole.tip();
    own.positions = vec![all(event.event.log)];
    let signed = sign_tip(mole, &own);
    let frame = mole.head().forge_frame(FrameKind::Tip, bobs.leaf, 0, &signed).expect("sealed");
    assert_eq!(mole.push(alice, &frame).await, FrameOutcome::Rejected);
    let mut elsewhere = mole.tip();
    elsewhere.epoch += 1;
    let frame = mole.seal_tip(&elsewhere);
    assert_eq!(mole.push(alice, &frame).await, FrameOutcome::Rejected);
    assert_eq!(rejected(alice, "wrong_sender").await, 2);

    // Its own acknowledgement, of more than was ever written, counts for itself and once.
    let mut own = mole.tip();
    own.positions = vec![all(event.event.log)];
    let frame = mole.seal_tip(&own);
    assert_eq!(mole.push(alice, &frame).await, FrameOutcome::Stored);
    let delivered = || async {
        let message = alice.message(&sent.message_id).await.map_err(|status| status.to_string())?;
        let delivery = message.delivery.unwrap_or_default();
        when(delivery.delivered_to == 1 && delivery.recipients == 2, format!("{delivery:?}"))
    };
    wait_until("the mole's own acknowledgement", async || delivered().await).await;
    bob.server.restart().await;
    bob.wake().await;
    story.unharmed(&["has bob got it?"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintexts_of_no_sense_cost_nobody_anything() {
    let mut story = Infiltrated::new().await;
    let Infiltrated { alice, bob, mole, place, .. } = &mut story;
    let empty = application_plaintext::Kind::Fresh(Default::default());
    let garbage = mole.fresh(&[vec![0xff; 100], Vec::new()]);
    let flood = mole.fresh(&vec![Vec::new(); 1_025]);
    let nothing = mole.seal(empty);
    let nobody = mole.carry(vec![]);
    for frame in [garbage, flood, nothing, nobody] {
        for victim in [&*alice, &*bob] {
            assert_eq!(mole.push(victim, &frame).await, FrameOutcome::Stored);
        }
    }
    for victim in [&*alice, &*bob] {
        assert_eq!((rejected(victim, "signature").await, rejected(victim, "flood").await), (1, 1));
    }
    assert!(ApplicationPlaintext::decode(&[][..]).expect("protobuf").kind.is_none());
    mole.say(&[alice, bob], &place.channel, "and I still may speak").await;
    story.unharmed(&["and I still may speak"]).await;
}

fn sign_tip(mole: &crate::harness::hostile::Mole, tip: &spacepanda_proto::peer::v1::Tip) -> Vec<u8> {
    let tip = tip.encode_to_vec();
    let bytes = [b"spacepanda/tip/1\0", mole.gid.as_bytes(), &tip].concat();
    let signature = mole.intruder.device().sign(&bytes).to_vec();
    SignedTip { tip, signature }.encode_to_vec()
}

fn leaf_of(facts: &spacepanda_core::group::state::StateFacts, person: &Person) -> u32 {
    let member = facts.standing.roster.iter().find(|m| m.certificate.account.to_string() == person.account());
    member.expect("a member").leaf
}
