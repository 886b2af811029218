//! Peers that send what is no request, too much, or too early; and what persistence earns them.

use prost::Message as _;
use spacepanda_proto::peer::v1::{FrameOutcome, PeerRequest, RefusalReason, peer_request, peer_response};

use crate::harness::{
    Person, Place,
    hostile::{
        Intruder, announce_too_much, counter, push_frames, refusal, rejected, rejected_exactly, victim,
    },
    meet, same_world,
    wait::when,
    wait_until,
};

/// Offences after which a peer is refused for a while.
const LIMIT: u64 = 8;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_refused_and_counted() {
    let (alice, bob) = (victim("alice").await, victim("bob").await);
    let place = meet(&alice, &[&bob]).await;
    let intruder = Intruder::new("mallory").await;
    intruder.meet(&alice).await;

    let whole = PeerRequest { kind: Some(push_frames(&[vec![1; 512]])) }.encode_to_vec();
    let mut garbage = vec![b"not protobuf at all".to_vec(), vec![0xff; 4 * 1024 * 1024]];
    garbage.push(whole[..whole.len() / 2].to_vec());
    for (number, bytes) in (1..).zip(garbage) {
        let answer = intruder.raw(&alice, bytes).await.expect("answered");
        assert_eq!(refusal(&answer), RefusalReason::Malformed);
        assert_eq!(rejected(&alice, "malformed").await, number);
    }
    // Kinds of a newer version are no offence: field 90, and nothing at all.
    for newer in [vec![0xd2, 0x05, 0x00], Vec::new()] {
        let answer = intruder.raw(&alice, newer).await.expect("answered");
        assert_eq!(refusal(&answer), RefusalReason::Unsupported);
    }
    assert_eq!(rejected(&alice, "malformed").await, 3);
    talk(&alice, &bob, &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_bytes_than_any_request_may_have_are_not_even_read() {
    let (alice, bob) = (victim("alice").await, victim("bob").await);
    let place = meet(&alice, &[&bob]).await;
    let attack = announce_too_much(&alice, 3).await;
    rejected_exactly(&alice, "oversized", 3).await;
    attack.abort();
    assert_eq!(counter(&alice, "spacepanda_peers_blocked_total").await, 0);

    let attack = announce_too_much(&alice, LIMIT as usize).await;
    rejected_exactly(&alice, "oversized", 3 + LIMIT).await;
    blocked_exactly(&alice, 1).await;
    attack.abort();
    talk(&alice, &bob, &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_its_certificate_a_peer_is_served_nothing() {
    let alice = victim("alice").await;
    let intruder = Intruder::new("mallory").await;
    intruder.dial(&alice).await;
    let frame = push_frames(&[vec![1; 512]]);
    for request in [frame, challenge(), peer_request::Kind::PushLetter(Default::default())] {
        assert_eq!(refusal(&intruder.ask(&alice, request).await), RefusalReason::UnknownPeer);
    }
    assert_eq!(counter(&alice, "spacepanda_frames_total{outcome=\"rejected\"}").await, 0);

    // Afterwards the same is served, though no group is shared.
    intruder.meet(&alice).await;
    let mut frame = vec![0; 512];
    frame[0] = 1;
    assert_eq!(intruder.push(&alice, &[frame]).await, [FrameOutcome::Foreign]);
    let answer = intruder.ask(&alice, challenge()).await;
    assert!(matches!(answer, peer_response::Kind::JoinChallenge(_)), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_parks_nothing() {
    let (alice, bob) = (victim("alice").await, victim("bob").await);
    let place = meet(&alice, &[&bob]).await;
    let intruder = Intruder::new("mallory").await;
    intruder.meet(&alice).await;
    let mut frames = vec![vec![7; 61_440]; 60];
    for (number, frame) in (0..).zip(&mut frames) {
        (frame[0], frame[40]) = (1, number);
    }
    let outcomes = intruder.push(&alice, &frames).await;
    assert!(outcomes.iter().all(|outcome| *outcome == FrameOutcome::Foreign), "{outcomes:?}");
    talk(&alice, &bob, &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_persists_is_cut_off_and_refused_for_a_while_and_nobody_else() {
    let (alice, bob) = (victim("alice").await, victim("bob").await);
    let place = meet(&alice, &[&bob]).await;
    let (persistent, modest) = (Intruder::new("mallory").await, Intruder::new("mild").await);
    persistent.meet(&alice).await;
    modest.meet(&alice).await;

    for intruder in [&persistent, &modest] {
        for _ in 1..LIMIT {
            let answer = intruder.raw(&alice, vec![0xff]).await.expect("answered");
            assert_eq!(refusal(&answer), RefusalReason::Malformed);
        }
    }
    assert_eq!(counter(&alice, "spacepanda_peers_blocked_total").await, 0);
    // The answer to the last one may be lost with the connection.
    let _ = persistent.raw(&alice, vec![0xff]).await;
    blocked_exactly(&alice, 1).await;
    persistent.is_shut_out(&alice).await;

    assert_eq!(rejected(&alice, "malformed").await, 2 * LIMIT - 1);
    modest.meet(&alice).await;
    // Refused by one session only, which another server knows nothing of.
    persistent.meet(&bob).await;
    talk(&alice, &bob, &place).await;
}

fn challenge() -> peer_request::Kind {
    peer_request::Kind::JoinChallenge(Default::default())
}

async fn blocked_exactly(person: &Person, times: u64) {
    wait_until("the block to be counted", async || {
        let seen = counter(person, "spacepanda_peers_blocked_total").await;
        when(seen == times, format!("{seen}"))
    })
    .await;
}

/// Both still talk, through all of it, and read the same.
async fn talk(alice: &Person, bob: &Person, place: &Place) {
    for person in [alice, bob] {
        person.send(&place.channel, &format!("{} is still here", person.name())).await;
    }
    same_world(&[alice, bob], &place.space, 2).await;
}
