//! Which states lie below which: one walk over the DAG, then two comparisons a question. Where claims
//! contradict each other, a state lies below none.

use std::collections::HashMap;

use super::{Dag, node::Node};
use crate::id::StateId;

/// The numbers of a walk that visits every state before those below it: a state's own, and the first
/// that no longer lies below it.
#[derive(Debug, Clone, Copy)]
struct Span {
    first: usize,
    end: usize,
}

/// The spans of all states.
#[derive(Debug, Clone)]
pub(super) struct Spans(HashMap<StateId, Span>);

impl Spans {
    /// Numbers the states.
    pub(super) fn of(dag: &Dag) -> Self {
        let mut spans = HashMap::with_capacity(dag.nodes().len());
        let is_top = |node: &Node| dag.undisputed_parent(&node.sid).is_none();
        // A stack of its own: chains are longer than the thread's is deep.
        let mut stack: Vec<(&Node, bool)> =
            dag.nodes().filter(|node| is_top(node)).map(|top| (top, false)).collect();
        let mut next = 0;
        while let Some((node, left)) = stack.pop() {
            if left {
                spans.entry(node.sid).and_modify(|span: &mut Span| span.end = next);
                continue;
            }
            spans.insert(node.sid, Span { first: next, end: next });
            next += 1;
            stack.push((node, true));
            let below = dag.children(&node.sid).filter(|child| !is_top(child));
            stack.extend(below.map(|child| (child, false)));
        }
        Self(spans)
    }

    /// Whether a state is `top` or comes after it.
    pub(super) fn is_below(&self, sid: &StateId, top: &StateId) -> bool {
        match (self.0.get(sid), self.0.get(top)) {
            (Some(span), Some(top)) => (top.first..top.end).contains(&span.first),
            _ => false,
        }
    }
}
