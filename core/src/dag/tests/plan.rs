//! Random groups: who commits what where, and who supports which state.

use std::sync::Arc;

use proptest::{collection::vec, prelude::*, sample::Index};

use super::story::{GID, account, commit, device, founding, state, support};
use crate::{
    dag::{Class, Dag, Held, Node, Roster, Support},
    id::{AccountId, DeviceId},
};

/// A commit to be made.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// In which of the states made so far; long chains come of preferring the newest.
    parent: Option<Index>,
    committer: Index,
    class: Class,
    target: Index,
    held: Held,
}

/// A Support to be given.
#[derive(Debug, Clone)]
struct Vote {
    device: Index,
    counter: u64,
    state: Index,
}

/// A group to be made.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    devices: Vec<usize>,
    steps: Vec<Step>,
    votes: Vec<Vote>,
}

pub(super) fn plans() -> impl Strategy<Value = Plan> {
    let class = prop_oneof![Just(Class::Removal), Just(Class::Change), Just(Class::Update)];
    let held = prop_oneof![6 => Just(Held::Live), 1 => Just(Held::Opaque), 1 => Just(Held::Claimed)];
    let parent = prop_oneof![2 => Just(None), 1 => any::<Index>().prop_map(Some)];
    let step = (parent, any::<Index>(), class, any::<Index>(), held)
        .prop_map(|(parent, committer, class, target, held)| Step { parent, committer, class, target, held });
    let vote = (any::<Index>(), 1..5_u64, any::<Index>()).prop_map(|(device, counter, state)| Vote {
        device,
        counter,
        state,
    });
    (vec(1..5_usize, 2..7), vec(step, 1..24), vec(vote, 0..24)).prop_map(|(devices, steps, votes)| Plan {
        devices,
        steps,
        votes,
    })
}

/// A group made by plan.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) nodes: Vec<Node>,
    pub(super) supports: Vec<Support>,
}

impl Made {
    pub(super) fn dag(&self) -> Dag {
        assemble(&self.nodes, &self.supports)
    }
}

pub(super) fn assemble(nodes: &[Node], supports: &[Support]) -> Dag {
    let mut dag = Dag::new(GID, device(0, 0));
    nodes.iter().cloned().for_each(|node| {
        // Entered in the order of epochs, however late this device hears of it.
        let nth = node.epoch;
        if node.parent.is_none() {
            dag.enter(node, nth)
        } else {
            dag.insert(node)
        };
    });
    supports.iter().for_each(|support| {
        dag.support(*support);
    });
    dag
}

impl Plan {
    pub(super) fn make(&self) -> Made {
        let members = self.devices.iter().enumerate();
        let members = members.flat_map(|(a, count)| (0..*count).map(move |d| (account(a), device(a, d))));
        let members: Vec<(AccountId, DeviceId)> = members.collect();
        let mut nodes = vec![founding(members.iter().copied().collect())];
        // The rosters as they are, also of states that this device only heard of.
        let mut rosters = vec![Arc::clone(&nodes[0].roster)];
        for (number, step) in (1..).zip(&self.steps) {
            let parent = step.parent.map_or(nodes.len() - 1, |index| index.index(nodes.len()));
            let (node, roster) = step.take(number, &nodes[parent], &rosters[parent]);
            nodes.push(node);
            rosters.push(roster);
        }
        let vote = |vote: &Vote| {
            let (_, device) = members[vote.device.index(members.len())];
            support(device, vote.counter, nodes[vote.state.index(nodes.len())].sid)
        };
        Made { supports: self.votes.iter().map(vote).collect(), nodes }
    }
}

impl Step {
    fn take(&self, number: usize, parent: &Node, roster: &Arc<Roster>) -> (Node, Arc<Roster>) {
        let members: Vec<_> = roster.members().map(|(account, device)| (*account, *device)).collect();
        let (committers_account, committer) = members[self.committer.index(members.len())];
        let after = match self.class {
            Class::Removal => {
                let accounts: Vec<_> = roster.accounts().filter(|a| **a != committers_account).collect();
                // Alone, one can only change a role.
                let out = (!accounts.is_empty()).then(|| accounts[self.target.index(accounts.len())]);
                Arc::new(members.iter().filter(|(account, _)| Some(account) != out).copied().collect())
            }
            Class::Change => {
                let newcomer = (account(1000 + number), device(1000 + number, 0));
                Arc::new(members.iter().copied().chain([newcomer]).collect())
            }
            Class::Update => Arc::clone(roster),
        };
        let held = match (self.held, parent.held) {
            (Held::Claimed, _) | (_, Held::Claimed) => Held::Claimed,
            // Nobody enters a state by way of one that it is not in, or one that it is removed from.
            (held, Held::Live) if after.contains(&account(0)) => held,
            _ => Held::Opaque,
        };
        let known = if held == Held::Claimed { Arc::default() } else { Arc::clone(&after) };
        let node = Node {
            sid: state(number),
            parent: Some(parent.sid),
            epoch: parent.epoch + 1,
            commit: commit(number),
            committer,
            class: self.class,
            roster: known,
            held,
        };
        (node, after)
    }
}
