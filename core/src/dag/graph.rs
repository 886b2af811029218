//! The DAG as a picture for people, as values and in the DOT language of Graphviz.
//!
//! States and devices are numbered: nothing in it is an id, a name or a secret, so it can be shown to
//! anyone who may know how many members commit how often.

use std::collections::BTreeMap;

use super::{
    Dag, Head,
    choice::{Tally, Votes, WHOLE_VOTE},
    node::{Class, Held, Node},
};
use crate::id::{DeviceId, StateId};

/// What a person may see of a group's states, those of lower epochs first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The states.
    pub states: Vec<State>,
}

/// One state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Its place in the picture, from 0.
    pub number: u32,
    /// Its epoch.
    pub epoch: u64,
    /// The commit that led to it; nothing where its parent is not in the picture.
    pub commit: Option<Commit>,
    /// How many accounts are in it, where that is known.
    pub accounts: Option<u32>,
    /// How many devices' latest vote is for it.
    pub supports: u32,
    /// How much of it is here.
    pub held: Held,
    /// What the choice of the head says of it.
    pub mark: Option<Mark>,
}

/// What the choice says of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// This device follows it.
    Head,
    /// The group is there, and this device cannot enter it.
    Wanted,
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The number of the state that it was made in.
    pub parent: u32,
    /// What it does.
    pub class: Class,
    /// Who made it: from 1, as they first appear.
    pub committer: u32,
    /// Whether the choice takes it; of one that has rivals also with which votes.
    pub chosen: bool,
    /// Its votes, where it has rivals.
    pub votes: Option<Standing>,
}

/// The votes for one of several rivals, in hundredths of an account's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// For it.
    pub votes: u64,
    /// Accounts that have a vote.
    pub voters: u64,
    /// Of the votes, those with a long way behind them.
    pub settled: u64,
}

/// The picture of the `most` newest states.
pub fn picture(dag: &Dag, most: usize) -> Picture {
    let mut nodes: Vec<&Node> = dag.nodes().collect();
    nodes.sort_by_key(|node| (node.epoch, node.sid));
    let nodes = nodes.split_off(nodes.len().saturating_sub(most));
    let numbers = Numbers::of(dag, &nodes);
    let mut supports: BTreeMap<StateId, u32> = BTreeMap::new();
    for support in dag.supports().all() {
        if let Some(sid) = dag.supports().latest(&support.device) {
            *supports.entry(*sid).or_default() += 1;
        }
    }
    let head = dag.head();
    let mut commits = numbers.commits(dag, &nodes);
    let state = |node: &&Node| State {
        number: numbers.states.get(&node.sid).copied().unwrap_or_default(),
        epoch: node.epoch,
        commit: commits.remove(&node.sid),
        accounts: node.held.is_checked().then(|| count(node.roster.accounts().len())),
        supports: supports.get(&node.sid).copied().unwrap_or_default(),
        held: node.held,
        mark: match head {
            Some(Head::At(sid)) if sid == node.sid => Some(Mark::Head),
            Some(Head::Beyond { wanted, .. }) if wanted == node.sid => Some(Mark::Wanted),
            _ => None,
        },
    };
    Picture { states: nodes.iter().map(state).collect() }
}

/// Numbers in place of ids: states by epoch, committers as they first appear.
struct Numbers {
    states: BTreeMap<StateId, u32>,
    committers: BTreeMap<DeviceId, u32>,
}

impl Numbers {
    fn of(dag: &Dag, nodes: &[&Node]) -> Self {
        let states: BTreeMap<_, _> = nodes.iter().zip(0..).map(|(node, number)| (node.sid, number)).collect();
        let mut committers = BTreeMap::new();
        // Who made a commit that is not in the picture is of no interest.
        let shown = |node: &&&Node| dag.parent(&node.sid).is_some_and(|p| states.contains_key(&p.sid));
        for node in nodes.iter().filter(shown) {
            let next = count(committers.len()) + 1;
            committers.entry(node.committer).or_insert(next);
        }
        Self { states, committers }
    }

    /// The commits made in these states, with the votes where there are several.
    fn commits(&self, dag: &Dag, parents: &[&Node]) -> BTreeMap<StateId, Commit> {
        let mut commits = BTreeMap::new();
        for parent in parents {
            let children: Vec<&Node> = dag.children(&parent.sid).collect();
            let votes = (children.len() > 1).then(|| dag.votes(parent));
            let winner = dag.child(&parent.sid);
            for child in children {
                let commit = Commit {
                    parent: self.states.get(&parent.sid).copied().unwrap_or_default(),
                    class: child.class,
                    committer: self.committers.get(&child.committer).copied().unwrap_or_default(),
                    chosen: winner == Some(child.sid),
                    votes: votes.as_ref().and_then(|votes| standing(votes, &child.sid)),
                };
                commits.insert(child.sid, commit);
            }
        }
        commits
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// A child's votes, to a hundredth.
fn standing(votes: &Votes, child: &StateId) -> Option<Standing> {
    let Tally { votes: parts, settled, .. } = votes.tallies.iter().find(|tally| tally.child == *child)?;
    let hundredths = |parts: &u64| parts.saturating_mul(100) / WHOLE_VOTE;
    Some(Standing { votes: hundredths(parts), voters: votes.voters, settled: hundredths(settled) })
}

/// The picture for Graphviz.
pub fn dot(picture: &Picture) -> String {
    let mut lines = vec![
        "digraph states {".to_owned(),
        "  rankdir=LR;".to_owned(),
        "  node [shape=box, style=filled, fillcolor=white, fontname=\"sans-serif\"];".to_owned(),
        "  edge [fontname=\"sans-serif\"];".to_owned(),
    ];
    lines.extend(picture.states.iter().map(box_of));
    lines.extend(picture.states.iter().filter_map(|state| Some(arrow(state, state.commit.as_ref()?))));
    lines.push("}\n".to_owned());
    lines.join("\n")
}

fn box_of(state: &State) -> String {
    let mut label = format!("s{}\\nepoch {}", state.number, state.epoch);
    if let Some(accounts) = state.accounts {
        label += &format!("\\n{accounts} accounts");
    }
    if state.supports > 0 {
        label += &format!("\\nsupports: {}", state.supports);
    }
    label += match state.held {
        Held::Live => "",
        Held::Pruned => "\\npruned",
        Held::Opaque => "\\nopaque",
        Held::Claimed => "\\nclaimed",
    };
    let look = match (state.mark, state.held) {
        (Some(Mark::Head), _) => {
            label += "\\nHEAD";
            ", penwidth=3, fillcolor=palegreen"
        }
        (Some(Mark::Wanted), _) => {
            label += "\\nWANTED";
            ", penwidth=3, fillcolor=lightsalmon"
        }
        (None, Held::Live) => "",
        (None, Held::Pruned) => ", fillcolor=gray90",
        (None, Held::Opaque | Held::Claimed) => ", style=\"filled,dashed\"",
    };
    format!("  s{} [label=\"{label}\"{look}];", state.number)
}

fn arrow(state: &State, commit: &Commit) -> String {
    let class = match commit.class {
        Class::Removal => "removal",
        Class::Change => "change",
        Class::Update => "update",
    };
    let votes = commit.votes.map(|standing| {
        let whole = |hundredths: u64| format!("{}.{:02}", hundredths / 100, hundredths % 100);
        let (votes, settled) = (whole(standing.votes), whole(standing.settled));
        format!("\\n{votes} of {} votes, {settled} settled", standing.voters)
    });
    let look = if commit.chosen { "bold" } else { "dashed" };
    format!(
        "  s{} -> s{} [label=\"{class} by m{}{}\", style={look}];",
        commit.parent,
        state.number,
        commit.committer,
        votes.unwrap_or_default()
    )
}
