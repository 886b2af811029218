//! The states of a group on the wire.

use spacepanda_core::dag::{
    Class, Held,
    graph::{self, Commit, Mark, Picture, Standing, State},
};
use spacepanda_proto::api::v1 as wire;

use super::IntoWire;

impl IntoWire for Picture {
    type Wire = wire::StateGraph;

    fn into_wire(self) -> wire::StateGraph {
        let dot = graph::dot(&self);
        wire::StateGraph { states: self.states.into_iter().map(IntoWire::into_wire).collect(), dot }
    }
}

impl IntoWire for State {
    type Wire = wire::GraphState;

    fn into_wire(self) -> wire::GraphState {
        let held = match self.held {
            Held::Live => wire::HeldState::Live,
            Held::Pruned => wire::HeldState::Pruned,
            Held::Opaque => wire::HeldState::Opaque,
            Held::Claimed => wire::HeldState::Claimed,
        };
        let mark = match self.mark {
            None => wire::StateMark::Unspecified,
            Some(Mark::Head) => wire::StateMark::Head,
            Some(Mark::Wanted) => wire::StateMark::Wanted,
        };
        wire::GraphState {
            number: self.number,
            epoch: self.epoch,
            commit: self.commit.map(IntoWire::into_wire),
            accounts: self.accounts,
            supports: self.supports,
            held: held.into(),
            mark: mark.into(),
        }
    }
}

impl IntoWire for Commit {
    type Wire = wire::GraphCommit;

    fn into_wire(self) -> wire::GraphCommit {
        let class = match self.class {
            Class::Removal => wire::CommitClass::Removal,
            Class::Change => wire::CommitClass::Change,
            Class::Update => wire::CommitClass::Update,
        };
        wire::GraphCommit {
            parent: self.parent,
            class: class.into(),
            committer: self.committer,
            chosen: self.chosen,
            votes: self.votes.map(IntoWire::into_wire),
        }
    }
}

impl IntoWire for Standing {
    type Wire = wire::GraphVotes;

    fn into_wire(self) -> wire::GraphVotes {
        // Beyond 10,000 accounts in hundredths there is nothing to lose.
        let whole = |hundredths: u64| f64::from(u32::try_from(hundredths).unwrap_or(u32::MAX)) / 100.0;
        wire::GraphVotes {
            votes: whole(self.votes),
            voters: u32::try_from(self.voters).unwrap_or(u32::MAX),
            settled: whole(self.settled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_with_a_rival_is_told_with_its_votes() {
        let votes = Some(Standing { votes: 250, voters: 4, settled: 0 });
        let commit = Commit { parent: 0, class: Class::Removal, committer: 2, chosen: true, votes };
        let state = State {
            number: 1,
            epoch: 8,
            commit: Some(commit),
            accounts: Some(4),
            supports: 3,
            held: Held::Live,
            mark: Some(Mark::Head),
        };
        let graph = Picture { states: vec![state] }.into_wire();
        let told = &graph.states[0];
        assert_eq!((told.held(), told.mark()), (wire::HeldState::Live, wire::StateMark::Head));
        let commit = told.commit.as_ref().unwrap();
        assert_eq!((commit.class(), commit.votes.unwrap().votes), (wire::CommitClass::Removal, 2.5));
        assert!(graph.dot.contains("removal by m2\\n2.50 of 4 votes"), "{}", graph.dot);
    }
}
