//! The DAG as a picture for people, in the DOT language of Graphviz.
//!
//! States, devices and accounts are numbered: nothing in it is an id, a name or a secret, so it can be
//! shown to anyone who may know how many members commit how often.

use std::collections::BTreeMap;

use super::{
    Dag, Head,
    choice::{Tally, Votes, WHOLE_VOTE},
    node::{Class, Held, Node},
};
use crate::id::{DeviceId, StateId};

/// The picture.
pub fn dot(dag: &Dag) -> String {
    let numbers = Numbers::of(dag);
    let head = dag.head();
    let mut lines = vec![
        "digraph states {".to_owned(),
        "  rankdir=LR;".to_owned(),
        "  node [shape=box, style=filled, fillcolor=white, fontname=\"sans-serif\"];".to_owned(),
        "  edge [fontname=\"sans-serif\"];".to_owned(),
    ];
    for node in &numbers.nodes {
        lines.push(numbers.state(dag, node, head));
    }
    for node in &numbers.nodes {
        lines.extend(numbers.commits(dag, node));
    }
    lines.push("}\n".to_owned());
    lines.join("\n")
}

/// Numbers in place of ids: states by epoch, committers as they first appear.
struct Numbers<'a> {
    nodes: Vec<&'a Node>,
    states: BTreeMap<StateId, usize>,
    committers: BTreeMap<DeviceId, usize>,
}

impl<'a> Numbers<'a> {
    fn of(dag: &'a Dag) -> Self {
        let mut nodes: Vec<&Node> = dag.nodes().collect();
        nodes.sort_by_key(|node| (node.epoch, node.sid));
        let states = nodes.iter().enumerate().map(|(number, node)| (node.sid, number)).collect();
        let mut committers = BTreeMap::new();
        // Who made a commit that this device did not see is of no interest.
        for node in nodes.iter().filter(|node| dag.parent(&node.sid).is_some()) {
            let next = committers.len() + 1;
            committers.entry(node.committer).or_insert(next);
        }
        Self { nodes, states, committers }
    }

    fn name(&self, sid: &StateId) -> String {
        self.states.get(sid).map_or_else(|| "unknown".to_owned(), |number| format!("s{number}"))
    }

    fn state(&self, dag: &Dag, node: &Node, head: Option<Head>) -> String {
        let supporters = dag.supports().all().map(|support| dag.supports().latest(&support.device));
        let supporters = supporters.filter(|sid| *sid == Some(&node.sid)).count();
        let mut label = format!("{}\\nepoch {}", self.name(&node.sid), node.epoch);
        if node.held.is_checked() {
            label += &format!("\\n{} accounts", node.roster.accounts().len());
        }
        if supporters > 0 {
            label += &format!("\\nsupports: {supporters}");
        }
        label += match node.held {
            Held::Live => "",
            Held::Pruned => "\\npruned",
            Held::Opaque => "\\nopaque",
            Held::Claimed => "\\nclaimed",
        };
        let look = match (head, node.held) {
            (Some(Head::At(sid)), _) if sid == node.sid => {
                label += "\\nHEAD";
                ", penwidth=3, fillcolor=palegreen"
            }
            (Some(Head::Beyond { wanted, .. }), _) if wanted == node.sid => {
                label += "\\nWANTED";
                ", penwidth=3, fillcolor=lightsalmon"
            }
            (_, Held::Live) => "",
            (_, Held::Pruned) => ", fillcolor=gray90",
            (_, Held::Opaque | Held::Claimed) => ", style=\"filled,dashed\"",
        };
        format!("  {} [label=\"{label}\"{look}];", self.name(&node.sid))
    }

    /// The edges to a state's children, with the votes where there are several.
    fn commits(&self, dag: &Dag, parent: &Node) -> Vec<String> {
        let children: Vec<&Node> = dag.children(&parent.sid).collect();
        let votes = (children.len() > 1).then(|| dag.votes(parent));
        let winner = dag.child(&parent.sid);
        let edge = |child: &&Node| {
            let class = match child.class {
                Class::Removal => "removal",
                Class::Change => "change",
                Class::Update => "update",
            };
            let committer = self.committers.get(&child.committer).copied().unwrap_or_default();
            let votes = votes.as_ref().map(|votes| standing(votes, &child.sid)).unwrap_or_default();
            let look = if winner == Some(child.sid) { "bold" } else { "dashed" };
            let (from, to) = (self.name(&parent.sid), self.name(&child.sid));
            format!("  {from} -> {to} [label=\"{class} by m{committer}{votes}\", style={look}];")
        };
        children.iter().map(edge).collect()
    }
}

/// A child's votes, to a hundredth.
fn standing(votes: &Votes, child: &StateId) -> String {
    let Some(Tally { votes: parts, settled, .. }) = votes.tallies.iter().find(|tally| tally.child == *child)
    else {
        return String::new();
    };
    let whole = |parts: &u64| format!("{}.{:02}", parts / WHOLE_VOTE, parts % WHOLE_VOTE * 100 / WHOLE_VOTE);
    format!("\\n{} of {} votes, {} settled", whole(parts), votes.voters, whole(settled))
}
