//! Votes and skeletons that are forged, doubled or too many: each is counted as what it is, and no head moves.

use spacepanda_core::{
    dag::{Class, Skeleton, Support},
    id::{CommitId, DeviceId, StateId},
};
use spacepanda_proto::peer::v1::{
    PushSupports, Skeleton as WireSkeleton, Support as WireSupport, peer_request, peer_response,
};

use super::Infiltrated;
use crate::harness::{
    Person,
    hostile::{Mole, rejected, rejected_exactly},
};

/// More than one push may hold.
const TOO_MANY: usize = 1_025;

#[tokio::test(flavor = "multi_thread")]
async fn votes_that_lie_are_counted_and_move_nobody() {
    let mut story = Infiltrated::new().await;
    let Infiltrated { alice, bob, mole, .. } = &mut story;
    let head = mole.head().facts().sid;
    let honest = vote(mole, 1_000, head);
    // No vote at all; one's own for two states under one counter.
    let broken = WireSupport { signature: vec![1; 3], ..honest.clone() };
    let other = vote(mole, 1_000, StateId([9; 32]));

    for person in [&*alice, bob] {
        assert_eq!(rejected(person, "equivocation").await, 0);
    }
    let (alices, bobs) = (device_of(mole, alice), device_of(mole, bob));
    for (person, other_one) in [(&*alice, bobs), (bob, alices)] {
        // In someone else's name.
        let forged = WireSupport { device_key: other_one.0.to_vec(), ..honest.clone() };
        push(mole, person, vec![forged]).await;
        assert_eq!(rejected(person, "signature").await, 1);
        push(mole, person, vec![broken.clone()]).await;
        assert_eq!(rejected(person, "malformed").await, 1);
        push(mole, person, vec![honest.clone(); TOO_MANY]).await;
        assert_eq!(rejected(person, "flood").await, 1);
        push(mole, person, vec![honest.clone(), other.clone()]).await;
        rejected_exactly(person, "equivocation", 1).await;
        // A proof is a proof: the second time it is no news.
        push(mole, person, vec![other.clone(), honest.clone()]).await;
        assert_eq!(rejected(person, "equivocation").await, 1);
    }
    story.unharmed(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn skeletons_that_lie_are_counted_and_lead_nobody_away() {
    let mut story = Infiltrated::new().await;
    let Infiltrated { alice, bob, mole, .. } = &mut story;
    let head = mole.head().facts().sid;
    let own = mole.intruder.device().device();
    let victim = device_of(mole, bob);
    // A removal far ahead that nobody made, right below where everyone is.
    let nowhere = Skeleton {
        parent: head,
        sid: StateId([9; 32]),
        epoch: 1 << 40,
        class: Class::Removal,
        committer: own,
        commit: CommitId([8; 32]),
    };
    let lie = skeleton(mole, nowhere);
    let forged = WireSkeleton { committer: victim.0.to_vec(), ..lie.clone() };
    let moved = WireSkeleton { parent_sid: vec![7; 32], ..lie.clone() };
    let broken = WireSkeleton { class: 300, ..lie.clone() };
    let beyond = skeleton(mole, Skeleton { epoch: u64::MAX, ..nowhere });

    for person in [&*alice, bob] {
        for (number, word) in [forged.clone(), moved.clone(), beyond.clone()].into_iter().enumerate() {
            claim(mole, person, vec![word]).await;
            assert_eq!(rejected(person, "signature").await, number as u64 + 1);
        }
        claim(mole, person, vec![broken.clone()]).await;
        assert_eq!(rejected(person, "malformed").await, 1);
        claim(mole, person, vec![lie.clone(); TOO_MANY]).await;
        assert_eq!(rejected(person, "flood").await, 1);
        // What it says of its own is a claim, for which nobody votes but itself.
        claim(mole, person, vec![lie.clone()]).await;
        push(mole, person, vec![vote(mole, 1_000, nowhere.sid)]).await;
    }
    story.unharmed(&[]).await;
}

fn device_of(mole: &mut Mole, person: &Person) -> DeviceId {
    let roster = &mole.head().facts().standing.roster;
    let member = roster.iter().find(|member| member.certificate.account.to_string() == person.account());
    member.expect("a member").certificate.device
}

fn vote(mole: &Mole, counter: u64, sid: StateId) -> WireSupport {
    let Support { device, counter, sid, signature } =
        Support::sign(&mole.gid, &mole.intruder.identity.device, counter, sid);
    let DeviceId(device_key) = device;
    WireSupport {
        device_key: device_key.to_vec(),
        counter,
        sid: sid.0.to_vec(),
        signature: signature.to_vec(),
    }
}

fn skeleton(mole: &Mole, said: Skeleton) -> WireSkeleton {
    let signature = mole.intruder.device().sign(&said.signed_bytes(&mole.gid));
    WireSkeleton {
        parent_sid: said.parent.0.to_vec(),
        sid: said.sid.0.to_vec(),
        epoch: said.epoch,
        class: said.class as u32,
        committer: said.committer.0.to_vec(),
        commit_id: said.commit.0.to_vec(),
        signature: signature.to_vec(),
    }
}

async fn push(mole: &Mole, person: &Person, supports: Vec<WireSupport>) {
    tell(mole, person, PushSupports { supports, ..PushSupports::default() }).await;
}

async fn claim(mole: &Mole, person: &Person, skeletons: Vec<WireSkeleton>) {
    tell(mole, person, PushSupports { skeletons, ..PushSupports::default() }).await;
}

async fn tell(mole: &Mole, person: &Person, push: PushSupports) {
    let push = PushSupports { gid: mole.gid.0.to_vec(), ..push };
    let answer = mole.intruder.ask(person, peer_request::Kind::PushSupports(push)).await;
    assert!(matches!(answer, peer_response::Kind::PushSupports(_)), "{answer:?}");
}
