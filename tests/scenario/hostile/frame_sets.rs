//! Asking for frames: strangers and former members get none, members none from before they came, and nobody
//! more than a share.

use spacepanda_core::{
    id::{FramePlace, GroupId},
    reconcile::{FrameSet, first_place},
};
use spacepanda_proto::peer::v1::{Echo, FetchFrames, Reconcile, RefusalReason, peer_request, peer_response};

use super::{Infiltrated, infiltrate};
use crate::harness::{
    Person,
    hostile::{Intruder, refusal, rejected, victim},
    meet, same_world,
    wait::when,
    wait_until,
};

fn compare(gid: GroupId, message: Vec<u8>) -> peer_request::Kind {
    peer_request::Kind::Reconcile(Reconcile { gid: gid.0.to_vec(), from_epoch: 0, message })
}

fn fetch(gid: GroupId, places: &[FramePlace]) -> peer_request::Kind {
    let places = places.iter().map(|place| place.0.to_vec()).collect();
    peer_request::Kind::FetchFrames(FetchFrames { gid: gid.0.to_vec(), places })
}

fn echo(gid: GroupId) -> peer_request::Kind {
    let request = Echo { gid: gid.0.to_vec(), state: vec![1; 32], log: vec![2; 16] };
    peer_request::Kind::Echo(request)
}

fn is_busy(answer: &peer_response::Kind) -> bool {
    matches!(answer, peer_response::Kind::Refusal(refusal) if refusal.reason() == RefusalReason::Busy)
}

/// Everything that someone with no frames at all is told to lack.
async fn offered(intruder: &Intruder, victim: &Person, gid: GroupId) -> Vec<FramePlace> {
    let nothing = FrameSet::new(&[]).expect("a set");
    let (mut comparison, mut message) = nothing.compare().expect("a message");
    loop {
        let answer = match intruder.ask(victim, compare(gid, message)).await {
            peer_response::Kind::Reconcile(answer) => answer.message,
            other => panic!("not compared: {other:?}"),
        };
        match comparison.hear(&answer).expect("an honest answer") {
            Some(next) => message = next,
            None => return comparison.lacking(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_no_member_is_told_nothing_not_even_that_there_is_a_group() {
    let (alice, bob) = (victim("alice").await, victim("bob").await);
    let place = meet(&alice, &[&bob]).await;
    let gid = GroupId(uuid::Uuid::parse_str(&place.space).expect("an id").into_bytes());
    let first = FrameSet::new(&[]).expect("a set").compare().expect("a message").1;
    let intruder = Intruder::new("mallory").await;
    intruder.dial(&alice).await;
    for request in [compare(gid, first.clone()), fetch(gid, &[first_place(1)]), echo(gid)] {
        let answer = intruder.ask(&alice, request).await;
        assert_eq!(refusal(&answer), RefusalReason::UnknownPeer, "not introduced yet");
    }
    intruder.meet(&alice).await;
    for gid in [gid, GroupId([7; 16])] {
        for request in [compare(gid, first.clone()), fetch(gid, &[first_place(1)]), echo(gid)] {
            let answer = intruder.ask(&alice, request).await;
            assert_eq!(refusal(&answer), RefusalReason::NotAMember);
        }
    }
    assert_eq!(rejected(&alice, "malformed").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_is_offered_nothing_from_before_it_came_and_a_former_member_nothing_at_all() {
    let (alice, bob) = (victim("alice").await, victim("bob").await);
    let place = meet(&alice, &[&bob]).await;
    alice.send(&place.channel, "before the mole").await;
    let before = same_world(&[&alice, &bob], &place.space, 1).await;
    let mole = infiltrate("mallory", &alice, &[&bob], &place).await;
    alice.send(&place.channel, "after the mole").await;
    same_world(&[&alice, &bob], &place.space, 2).await;

    let joined = first_place(before.epoch + 1);
    let offered_now = offered(&mole.intruder, &bob, mole.gid).await;
    assert!(!offered_now.is_empty(), "what was written since");
    assert!(offered_now.iter().all(|place| *place >= joined), "nothing from before");
    let earlier = fetch(mole.gid, &[first_place(before.epoch)]);
    assert_eq!(refusal(&mole.intruder.ask(&bob, earlier).await), RefusalReason::NotAMember);

    let account = mole.intruder.identity.certificate.account.to_string();
    alice.remove(&place.space, &account).await;
    wait_until("bob to know", async || {
        let answer = mole.intruder.ask(&bob, fetch(mole.gid, &offered_now)).await;
        when(matches!(answer, peer_response::Kind::Refusal(_)), "still served").map(|()| answer)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_refused_and_counted_and_greed_has_to_wait() {
    let there = Infiltrated::new().await;
    let (mole, bob) = (&there.mole, &there.bob);
    let gid = mole.gid;
    let too_many = vec![first_place(1 << 40); 513];
    for request in [
        compare(gid, vec![0; 64]),
        compare(gid, vec![0x61; 512 * 1024 + 1]),
        fetch(gid, &[]),
        fetch(gid, &too_many),
        peer_request::Kind::FetchFrames(FetchFrames { gid: vec![1], places: vec![vec![1; 32]] }),
    ] {
        let answer = mole.intruder.ask(bob, request).await;
        assert_eq!(refusal(&answer), RefusalReason::Malformed);
    }
    assert_eq!(rejected(bob, "malformed").await, 5);

    // Each request costs, though there is nothing to give.
    let nothing_there = fetch(gid, &[first_place(1 << 40)]);
    let mut served = 0;
    while !is_busy(&mole.intruder.ask(bob, nothing_there.clone()).await) {
        served += 1;
        assert!(served < 5_000, "never refused");
    }
    assert!(served >= 64, "an honest member is not kept waiting: {served}");
    there.unharmed(&[]).await;
}
