//! The owner runs a newer version: the space stands still here and says why, and no carrier is blamed.

use prost::Message as _;
use spacepanda_core::group::{commit::Change, testing::Hostile as _};
use spacepanda_proto::{
    api::v1::GroupHealth,
    peer::v1::{CommitJustification, FrameOutcome},
};

use super::Infiltrated;
use crate::harness::{
    hostile::{counter, rejected},
    stolen::Stolen,
    wait::when,
    wait_until,
};

/// More than a peer may do wrong in ten minutes.
const PUSHES: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_for_a_newer_version_stalls_the_space_and_blames_nobody() {
    let mut story = Infiltrated::new().await;
    let Infiltrated { alice, bob, mole, place, .. } = &mut story;
    // What Alice's server will do after its next update.
    alice.server.stop().await;
    let alices = Stolen::from(alice).await;
    let states = alices.states().await;
    let head = states.iter().max_by_key(|state| state.facts().epoch).expect("a state");
    assert_eq!(head.facts().sid, mole.head().facts().sid);
    let mut policy = head.facts().standing.policy.clone();
    policy.version += 1;
    let change = Change { adds: Vec::new(), removes: Vec::new(), policy };
    let reason = CommitJustification { version: 1, ..Default::default() }.encode_to_vec();
    let commit = head.forge_commit(&alices.device().await, &change, reason);
    let commit = commit.unwrap_or_else(|error| panic!("the commit: {error}"));

    for _ in 0..PUSHES {
        assert_eq!(mole.push(bob, &commit).await, FrameOutcome::Busy, "it may be followed later");
    }
    wait_until("bob to be told", async || {
        let space = bob.space(&place.space).await.map_err(|status| status.to_string())?;
        let group = space.group.unwrap_or_default();
        let told = group.health_detail.contains("needs a newer version of this software");
        when(told && group.health() == GroupHealth::Stalled, format!("{group:?}"))
    })
    .await;
    for reason in ["unauthorised_commit", "signature", "malformed", "certificate"] {
        assert_eq!(rejected(bob, reason).await, 0, "{reason}");
    }
    assert_eq!(counter(bob, "spacepanda_peers_blocked_total").await, 0);
    // In the epoch that both speak, life goes on.
    mole.say(&[bob], &place.channel, "still here").await;
    wait_until("bob to read it", async || bob.has(&place.channel, 1).await).await;
}
