//! Members whose group went on where they cannot follow are let in again, and nothing that anyone said is lost.

use std::time::{Duration, Instant};

use spacepanda_proto::{api::v1::JoinState, peer::v1::FrameOutcome};

use crate::harness::{
    Cluster, Person, Place,
    hostile::{Intruder, Mole, victim},
    meet, same_world,
    wait::{when, within},
    wait_until,
    world::look,
};

/// Commits of each side, one more than a state may lie behind the head.
const COMMITS: usize = 10;
/// However few commits lie after it, a state is kept so long.
const LEAST_AGE: Duration = Duration::from_secs(61);
/// Three rounds of asking, a request, a commit, a letter.
const BACK_WITHIN: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn a_side_that_forked_off_before_the_window_is_let_in_again_and_no_word_is_lost() {
    let (cluster, [alice, bob, carol, dave]) = Cluster::of(["alice", "bob", "carol", "dave"]).await;
    let place = meet(&alice, &[&bob, &carol, &dave]).await;
    let mole = infiltrate(&alice, &[&bob, &carol, &dave], &place).await;
    let before = same_world(&[&alice, &bob, &carol, &dave], &place.space, 0).await;
    for other in [&bob, &carol, &dave] {
        cluster.cut(&alice, other).await;
    }

    // One member makes two histories of fresh keys, one for each side.
    let (left, right) = (mole.branch(COMMITS), mole.branch(COMMITS));
    let parted = Instant::now();
    let (last_left, left) = left.split_last().expect("commits");
    let (last_right, right) = right.split_last().expect("commits");
    push_all(&mole, &alice, left).await;
    for other in [&bob, &carol, &dave] {
        push_all(&mole, other, right).await;
    }
    let mut said = 0;
    while parted.elapsed() < LEAST_AGE {
        for person in [&alice, &bob, &carol, &dave] {
            person.send(&place.channel, &format!("{} {said}", person.name())).await;
            said += 1;
        }
        same_world(&[&bob, &carol, &dave], &place.space, said / 4 * 3).await;
    }
    push_all(&mole, &alice, std::slice::from_ref(last_left)).await;
    for other in [&bob, &carol, &dave] {
        push_all(&mole, other, std::slice::from_ref(last_right)).await;
    }
    let apart = same_world(&[&bob, &carol, &dave], &place.space, said / 4 * 3).await;
    let own = look(&alice, &place.space).await.expect("alice's side");
    assert_eq!(own.epoch, apart.epoch, "as many commits on each side");
    assert_ne!(own.check, apart.check, "two groups with different keys");

    for other in [&bob, &carol, &dave] {
        cluster.heal(&alice, other);
    }
    back(&alice, &place, &bob).await;
    let everyone = [&alice, &bob, &carol, &dave];
    let world = same_world(&everyone, &place.space, said).await;
    assert_eq!(world.roster, before.roster, "nobody is gone, nobody came");
    assert!(world.epoch > apart.epoch, "a commit gave alice a fresh leaf");

    // Each reads what each writes; also after a restart.
    alice.server.kill_9();
    alice.server.restart().await;
    alice.wake().await;
    for person in everyone {
        person.send(&place.channel, &format!("{} again", person.name())).await;
    }
    same_world(&everyone, &place.space, said + everyone.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_a_spiteful_commit_locks_out_is_let_in_again() {
    let alice = victim("alice").await;
    let (bob, carol, dave) = (victim("bob").await, victim("carol").await, victim("dave").await);
    let everyone = [&alice, &bob, &carol, &dave];
    // The mole comes before its victim: of two neighbours in the tree one shares no key with the others.
    let place = meet(&alice, &[&bob]).await;
    let mut mole = infiltrate(&alice, &[&bob], &place).await;
    for late in [&carol, &dave] {
        late.join(&alice.invite(&place.space).await).await;
        mole.intruder.meet(late).await;
    }
    let before = same_world(&everyone, &place.space, 0).await;
    mole.follows_to(before.epoch).await;

    let spite = mole.commit_against(&carol);
    for person in everyone {
        push_all(&mole, person, std::slice::from_ref(&spite)).await;
    }
    let others = same_world(&[&alice, &bob, &dave], &place.space, 0).await;
    assert_eq!(others.epoch, before.epoch + 1, "everyone else went on");
    carol.send(&place.channel, "can anyone hear me").await;

    back(&carol, &place, &alice).await;
    for person in everyone {
        person.send(&place.channel, &format!("{} is here", person.name())).await;
    }
    let world = same_world(&everyone, &place.space, everyone.len() + 1).await;
    assert_eq!(world.roster, before.roster);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_joined_on_the_side_that_lost_is_in_without_a_new_invite() {
    let (cluster, [alice, bob, carol, dave, erin]) =
        Cluster::of(["alice", "bob", "carol", "dave", "erin"]).await;
    let place = meet(&alice, &[&bob, &carol, &dave]).await;
    for other in [&bob, &carol, &dave] {
        cluster.cut(&alice, other).await;
    }
    let (state, _) = erin.try_join(&alice.invite(&place.space).await).await.expect("a join");
    assert!(matches!(state, JoinState::Joined | JoinState::Pending), "{state:?}");
    within(BACK_WITHIN, "erin to be in, with nobody but alice", async || {
        look(&erin, &place.space).await.map(drop).map_err(|status| status.to_string())
    })
    .await;
    erin.send(&place.channel, "hello from the other side").await;
    same_world(&[&alice, &erin], &place.space, 1).await;

    // Someone leaves, which no newcomer undoes.
    dave.leave(&place.space).await;
    wait_until("dave's wish to be granted", async || {
        let world = look(&carol, &place.space).await.map_err(|status| status.to_string())?;
        when(world.roster.len() == 3, format!("{:?}", world.roster))
    })
    .await;
    for other in [&bob, &carol, &dave] {
        cluster.heal(&alice, other);
    }
    back(&erin, &place, &bob).await;
    let world = same_world(&[&alice, &bob, &carol, &erin], &place.space, 1).await;
    assert_eq!(world.roster.len(), 4);
    for person in [&alice, &bob, &carol, &erin] {
        person.send(&place.channel, &format!("{} is here", person.name())).await;
    }
    same_world(&[&alice, &bob, &carol, &erin], &place.space, 5).await;
}

/// A hostile member, connected to all of them, that joined last.
async fn infiltrate(host: &Person, others: &[&Person], place: &Place) -> Mole {
    let mole = Intruder::new("mallory").await.join(host, &host.invite(&place.space).await).await;
    for other in others {
        mole.intruder.meet(other).await;
    }
    mole
}

async fn push_all(mole: &Mole, person: &Person, frames: &[Vec<u8>]) {
    for frame in frames {
        // Members may have passed it on already.
        let outcome = mole.push(person, frame).await;
        assert!(matches!(outcome, FrameOutcome::Stored | FrameOutcome::Duplicate), "{outcome:?}");
    }
}

/// Waits until someone who could not follow is in the state that someone else is in.
async fn back(person: &Person, place: &Place, other: &Person) {
    let what = format!("{} to be where {} is", person.name(), other.name());
    within(BACK_WITHIN, &what, async || {
        let one = look(person, &place.space).await.map_err(|status| status.to_string())?;
        let other = look(other, &place.space).await.map_err(|status| status.to_string())?;
        let seen = format!("{:?} in epoch {}, the other in {}", one.health, one.epoch, other.epoch);
        when(one.check == other.check, seen)
    })
    .await;
}
