//! Members, and former ones, who commit without end: everyone else goes on, and who is out stays out.

use spacepanda_core::group::{authorize::Justification, commit::Change};
use spacepanda_proto::peer::v1::FrameOutcome;

use super::{Infiltrated, infiltrate};
use crate::{
    harness::{
        Person,
        hostile::{Intruder, Mole, victim},
        meet, same_world,
        stolen::Stolen,
        wait::when,
        wait_until,
        world::look,
    },
    scenario::fork::{gone, out},
};

/// Commits of the flood, one upon the other.
const FLOOD: usize = 120;
/// Texts of each honest member meanwhile.
const EACH: usize = 20;
/// Commits of the removed member.
const STUBBORN: usize = 12;

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_commits_by_one_member_stops_nobody() {
    let Infiltrated { alice, bob, mut mole, place, before } = Infiltrated::new().await;
    let account = mole.intruder.identity.certificate.account.to_string();
    let flood = async {
        for _ in 0..FLOOD {
            let frame = commit_for_nothing(&mut mole);
            for victim in [&alice, &bob] {
                // Whoever has it may have passed it on already.
                let outcome = mole.push(victim, &frame).await;
                assert!(matches!(outcome, FrameOutcome::Stored | FrameOutcome::Duplicate), "{outcome:?}");
            }
        }
    };
    let talk = async |person: &Person| {
        for number in 0..EACH {
            person.send(&place.channel, &format!("{} {number}", person.name())).await;
        }
    };
    tokio::join!(flood, talk(&alice), talk(&bob));
    let world = same_world(&[&alice, &bob], &place.space, 2 * EACH).await;
    assert!(world.epoch >= before.epoch + FLOOD as u64, "the flood was one: epoch {}", world.epoch);

    // It is put out amid the next flood.
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let flood = async {
        while !*stopped.borrow() {
            let frame = commit_for_nothing(&mut mole);
            for victim in [&alice, &bob] {
                // Of the states after its removal it knows nothing, and those before are looked at no more.
                let _ = mole.push(victim, &frame).await;
            }
        }
    };
    let removal = async {
        alice.remove(&place.space, &account).await;
        for person in [&alice, &bob] {
            wait_until(&format!("{} to see it out", person.name()), async || {
                let world = look(person, &place.space).await.map_err(|status| status.to_string())?;
                when(world.roster.len() == 2, format!("{:?}", world.roster))
            })
            .await;
        }
        stop.send_replace(true);
    };
    tokio::join!(flood, removal);
    for person in [&alice, &bob] {
        person.send(&place.channel, &format!("{} after it", person.name())).await;
    }
    let world = same_world(&[&alice, &bob], &place.space, 2 * EACH + 2).await;
    assert_eq!(world.roster.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_member_that_goes_on_committing_with_its_old_database_moves_nobody() {
    let (alice, bob, carol) = (victim("alice").await, victim("bob").await, victim("carol").await);
    let place = meet(&alice, &[&bob, &carol]).await;
    bob.server.stop().await;
    let stolen = Stolen::from(&bob).await;
    bob.server.restart().await;
    bob.wake().await;
    alice.remove(&place.space, bob.account()).await;
    gone(&carol, &place, &bob).await;
    out(&bob, &place).await;
    bob.server.stop().await;
    let before = same_world(&[&alice, &carol], &place.space, 0).await;

    // The copy has the keys of the member that it was, and the state that it was in.
    let copy = Intruder::with(stolen.identity().await).await;
    for person in [&alice, &carol] {
        copy.meet(person).await;
    }
    let mut states = stolen.states().await;
    states.sort_by_key(|state| state.facts().epoch);
    let mut state = states.pop().expect("the newest state");
    let old = state.facts().sid;
    assert_eq!(state.facts().epoch + 1, before.epoch, "the one before the removal");
    for _ in 0..STUBBORN {
        let policy = state.facts().standing.policy.clone();
        let nothing = Change { adds: vec![], removes: vec![], policy };
        let committed = state.commit(&copy.device(), nothing, no_reasons());
        let committed = committed.unwrap_or_else(|error| panic!("a commit that was allowed once: {error}"));
        for person in [&alice, &carol] {
            let outcome = copy.push(person, std::slice::from_ref(&committed.frame)).await[0];
            assert_eq!(outcome, FrameOutcome::Stored, "a branch that may turn out to be right is kept");
        }
        state = committed.child;
    }
    assert_ne!(state.facts().sid, old);
    for person in [&alice, &carol] {
        person.send(&place.channel, &format!("{} after it", person.name())).await;
    }
    let after = same_world(&[&alice, &carol], &place.space, 2).await;
    let (sid, check) = (after.state_id, after.check);
    assert_eq!((sid, check), (before.state_id, before.check), "the head is where it was");
    assert_eq!(after.roster, before.roster);

    // The control: of a member the same commit moves everyone.
    let mut mole = infiltrate("mallory", &alice, &[&carol], &place).await;
    let joined = same_world(&[&alice, &carol], &place.space, 2).await;
    let frame = commit_for_nothing(&mut mole);
    for person in [&alice, &carol] {
        assert_eq!(mole.push(person, &frame).await, FrameOutcome::Stored);
    }
    wait_until("a member's commit to move them", async || {
        let world = look(&carol, &place.space).await.map_err(|status| status.to_string())?;
        when(world.epoch == joined.epoch + 1, world.epoch)
    })
    .await;
}

/// A commit of fresh keys on the mole's head, which it follows itself.
fn commit_for_nothing(mole: &mut Mole) -> Vec<u8> {
    let policy = mole.head().facts().standing.policy.clone();
    mole.commit(Change { adds: vec![], removes: vec![], policy }, no_reasons())
}

fn no_reasons() -> Vec<u8> {
    let nothing = Justification { wall_ms: 1, requests: Vec::new(), joins: Vec::new() };
    nothing.encode().unwrap_or_else(|error| panic!("{error}"))
}
