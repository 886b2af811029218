//! What holds of every group, and that each property notices the rule that is broken for it.

use std::sync::Arc;

use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use super::{
    oracle,
    plan::{Made, assemble, plans},
    story::{Story, device, support},
};
use crate::{
    dag::{
        Class, Dag, Head, Held, Node,
        choice::{SETTLED_COMMITS, WHOLE_VOTE},
        window,
    },
    mutant::{self, Mutant},
};

type Checked = Result<(), String>;
type Property = fn() -> Checked;

/// Runs a property over the same cases every time.
fn check<S: Strategy>(
    cases: u32,
    strategy: S,
    property: impl Fn(S::Value) -> Result<(), TestCaseError>,
) -> Checked {
    let config = Config { cases, max_shrink_iters: 2000, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    TestRunner::new_with_rng(config, rng).run(&strategy, property).map_err(|error| error.to_string())
}

/// The parents that have children, with these.
fn forks(dag: &Dag) -> Vec<(&Node, Vec<&Node>)> {
    let all = dag.nodes().map(|node| (node, oracle::children(dag, node)));
    all.filter(|(_, children)| !children.is_empty()).collect()
}

/// Orders things by random numbers.
fn shuffled<T: Clone>(things: &[T], order: &[u64]) -> Vec<T> {
    let mut keyed: Vec<_> = things.iter().cloned().zip(order.iter().cycle()).collect();
    keyed.sort_by_key(|(_, key)| **key);
    keyed.into_iter().map(|(thing, _)| thing).collect()
}

/// Something else that is said of a state: which, where it hangs instead, by whom and how it is known.
type Repeat = (Index, Index, Index, Held);

fn repeats() -> impl Strategy<Value = Vec<Repeat>> {
    let held = prop_oneof![Just(Held::Live), Just(Held::Opaque), Just(Held::Claimed)];
    proptest::collection::vec((any::<Index>(), any::<Index>(), any::<Index>(), held), 0..8)
}

/// Adds what else is said: a claim that a state hangs elsewhere, a commit checked there that differs, or a
/// Welcome into it.
fn repeat(nodes: &mut Vec<Node>, repeats: Vec<Repeat>) {
    let known = nodes.clone();
    for (state, elsewhere, committer, held) in repeats {
        let (node, parent) = (state.get(&known).clone(), elsewhere.get(&known));
        let committer = committer.get(&known).committer;
        nodes.push(match held {
            Held::Live | Held::Pruned => Node { parent: None, held, ..node },
            Held::Opaque if node.parent.is_none() => continue,
            Held::Opaque | Held::Claimed => Node { parent: Some(parent.sid), committer, held, ..node },
        });
    }
}

/// Two devices hear everything in different orders, then tell each other what they keep. Of some states
/// several things are said.
fn order_does_not_matter() -> Checked {
    let orders = proptest::collection::vec(any::<u64>(), 48);
    check(400, (plans(), repeats(), orders), |(plan, repeats, order)| {
        let Made { mut nodes, supports } = plan.make();
        let sids: Vec<_> = nodes.iter().map(|node| node.sid).collect();
        repeat(&mut nodes, repeats);
        let mut one = assemble(&nodes, &supports);
        let mut other = assemble(&shuffled(&nodes, &order), &shuffled(&supports, &order));
        let (ones, others) = (one.clone(), other.clone());
        for (from, to) in [(ones, &mut other), (others, &mut one)] {
            from.supports().all().for_each(|support| {
                to.support(*support);
            });
            from.supports().equivocations().for_each(|proof| {
                to.convict(*proof);
            });
        }
        prop_assert_eq!(one.nodes().collect::<Vec<_>>(), other.nodes().collect::<Vec<_>>());
        for sid in &sids {
            prop_assert_eq!(one.parent(sid), other.parent(sid));
            prop_assert_eq!(one.undisputed_parent(sid), other.undisputed_parent(sid));
            prop_assert_eq!(one.child(sid), other.child(sid));
        }
        prop_assert_eq!(one.head(), other.head());
        prop_assert_eq!(one.double_committers(), other.double_committers());
        Ok(())
    })
}

fn it_is_the_rule_as_written() -> Checked {
    check(600, (plans(), repeats()), |(plan, repeats)| {
        let Made { mut nodes, supports } = plan.make();
        // A commit that was checked was made by a member.
        repeat(&mut nodes, repeats.into_iter().filter(|(.., held)| *held != Held::Opaque).collect());
        let dag = assemble(&nodes, &supports);
        for node in dag.nodes() {
            prop_assert_eq!(dag.child(&node.sid), oracle::child(&dag, &node.sid));
            for other in dag.nodes() {
                prop_assert_eq!(
                    dag.is_below(&node.sid, &other.sid),
                    oracle::is_below(&dag, &node.sid, &other.sid)
                );
            }
        }
        Ok(())
    })
}

fn an_account_has_one_vote_and_one_child_at_most_is_locked() -> Checked {
    check(400, plans(), |plan| {
        let dag = plan.make().dag();
        for (parent, _) in forks(&dag) {
            let votes = dag.votes(parent);
            let cast: u64 = votes.tallies.iter().map(|tally| tally.votes).sum();
            prop_assert!(cast <= votes.voters * WHOLE_VOTE);
            let of_all: u64 = votes.tallies.iter().map(|tally| tally.all).sum();
            prop_assert!(cast <= of_all && of_all <= votes.accounts * WHOLE_VOTE);
            let majorities = votes.tallies.iter().filter(|t| t.votes * 2 > votes.voters * WHOLE_VOTE);
            prop_assert!(majorities.count() <= 1);
            let settled = votes.tallies.iter().filter(|t| t.settled > cast - t.votes);
            prop_assert!(settled.count() <= 1);
        }
        Ok(())
    })
}

fn a_majority_wins() -> Checked {
    check(600, plans(), |plan| {
        let dag = plan.make().dag();
        for (parent, children) in forks(&dag) {
            let of_all = |child: &&Node| oracle::has_majority_of_all(&dag, parent, child);
            let of_voters = |child: &&Node| oracle::has_majority(&dag, parent, child);
            let winner = children.iter().copied().find(of_all);
            if let Some(winner) = winner.or_else(|| children.iter().copied().find(of_voters)) {
                prop_assert_eq!(dag.child(&parent.sid), Some(winner.sid));
            }
        }
        Ok(())
    })
}

/// A removal held back, against a history that some accounts built while the others slept.
fn history_is_settled() -> Checked {
    check(100, (4..13_usize, 2..5_usize, 0..6_usize), |(accounts, builders, more)| {
        let mut group = Story::of(accounts);
        let root = group.root;
        let update = group.update(root, 0);
        let commits = usize::try_from(SETTLED_COMMITS).unwrap_or(0) + more;
        let tip = group.chain(update, 0, commits - 1).pop().unwrap_or(update);
        (0..builders.min(accounts / 2)).for_each(|builder| group.votes(builder, tip));
        let removal = group.removal(root, accounts - 1, &[accounts - 2]);
        group.votes(accounts - 1, removal);
        prop_assert_eq!(group.head(), Head::At(tip));
        Ok(())
    })
}

fn without_votes_the_least_class_wins() -> Checked {
    check(400, plans(), |plan| {
        let dag = assemble(&plan.make().nodes, &[]);
        for (parent, children) in forks(&dag) {
            let alone =
                |child: &Node| children.iter().filter(|c| c.committer == child.committer).count() == 1;
            let merged = children.iter().filter(|child| child.held.is_merged());
            let least = merged.filter(|child| alone(child)).map(|child| child.class).min();
            let winner = dag.child(&parent.sid).and_then(|sid| dag.node(&sid));
            let won = winner.map(|node| node.class);
            prop_assert!(least.is_none() || won <= least, "{won:?} before {least:?}");
            let entered = winner.is_none_or(|node| node.held.is_merged());
            let checked = children.iter().filter(|child| child.held.is_checked()).count();
            prop_assert!(entered || checked == 1, "what cannot be entered wins against nothing");
        }
        Ok(())
    })
}

/// Whoever a merged removal takes out may support what they like, unless with them more than half of all
/// accounts do.
fn nobody_votes_on_their_own_removal() -> Checked {
    check(400, (plans(), any::<Index>()), |(plan, choice)| {
        let dag = plan.make().dag();
        for (parent, children) in forks(&dag) {
            let removed = oracle::removed(&dag, parent);
            let wish = children[choice.index(children.len())];
            let mut swayed = dag.clone();
            for (_, device) in parent.roster.members().filter(|(account, _)| removed.contains(account)) {
                swayed.support(support(*device, 100, wish.sid));
            }
            let counted = |dag: &Dag| {
                let votes = dag.votes(parent);
                let tallies =
                    votes.tallies.into_iter().map(|tally| (tally.child, tally.votes, tally.settled));
                (votes.voters, tallies.collect::<Vec<_>>())
            };
            prop_assert_eq!(counted(&swayed), counted(&dag));
            let by_all = |dag: &Dag| children.iter().any(|c| oracle::has_majority_of_all(dag, parent, c));
            if !by_all(&swayed) && !by_all(&dag) {
                prop_assert_eq!(swayed.child(&parent.sid), dag.child(&parent.sid));
            }
        }
        Ok(())
    })
}

fn hearsay_without_votes_changes_nothing() -> Checked {
    check(400, (plans(), any::<Index>()), |(plan, choice)| {
        let made = plan.make();
        let dag = made.dag();
        let heard = choice.get(&made.nodes);
        let mut liar = dag.clone();
        for (number, class) in (2000..).zip([Class::Removal, Class::Update]) {
            liar.insert(Node {
                sid: super::story::state(number),
                parent: Some(heard.sid),
                epoch: heard.epoch + 1,
                commit: super::story::commit(number),
                committer: device(0, 0),
                class,
                held: Held::Claimed,
                ..heard.clone()
            });
        }
        prop_assert_eq!(liar.child(&heard.sid), dag.child(&heard.sid));
        prop_assert_eq!(liar.head(), dag.head());
        Ok(())
    })
}

/// A device that supported something else comes over to the winner.
fn more_support_for_the_winner_never_makes_a_rival_win() -> Checked {
    check(600, (plans(), any::<Index>(), any::<Index>()), |(plan, voter, target)| {
        let dag = plan.make().dag();
        for (parent, _) in forks(&dag) {
            let Some(winner) = dag.child(&parent.sid) else { continue };
            let devices: Vec<_> = parent.roster.devices().copied().collect();
            if devices.is_empty() {
                continue;
            }
            let device = devices[voter.index(devices.len())];
            if dag.supports().latest(&device).is_some_and(|sid| dag.is_below(sid, &winner)) {
                continue;
            }
            let targets: Vec<_> = dag.nodes().filter(|node| dag.is_below(&node.sid, &winner)).collect();
            let mut more = dag.clone();
            more.support(support(device, 100, targets[target.index(targets.len())].sid));
            prop_assert_eq!(more.child(&parent.sid), Some(winner));
        }
        Ok(())
    })
}

/// Whatever the votes and ages are, what is younger than a minute stays, and so does the head.
fn young_states_and_the_head_stay() -> Checked {
    let age = prop_oneof![-100_000..120_000_i64, 0..400_000_000_i64];
    let ages = proptest::collection::vec(age, 24);
    check(200, (plans(), ages, any::<bool>()), |(plan, ages, all_are_there)| {
        let made = plan.make();
        let mut dag = made.dag();
        let Some(head) = dag.head().map(|head| head.stand()) else { return Ok(()) };
        let roster = dag.node(&head).map(|node| Arc::clone(&node.roster)).unwrap_or_default();
        for device in roster.devices().filter(|_| all_are_there) {
            dag.support(support(*device, 100, head));
        }
        let now = 1_000_000_000_000;
        let held: Vec<_> = made.nodes.iter().zip(&ages).map(|(node, age)| (node.sid, now - age)).collect();
        let leaving = window::leaving(&dag, &head, held.iter().copied(), now, window::MAX_AGE);
        prop_assert!(!leaving.contains(&head));
        for (sid, adopted) in held {
            let gone = leaving.contains(&sid);
            prop_assert!(!gone || now - adopted >= 60_000, "a state {} ms old left", now - adopted);
            prop_assert!(gone || sid == head || now - adopted <= 72 * 3_600_000);
        }
        Ok(())
    })
}

/// Each property, and the mutants that it has to notice.
const PROPERTIES: &[(Property, &[Mutant])] = &[
    (order_does_not_matter, &[Mutant::EquivocatorCounted]),
    (
        it_is_the_rule_as_written,
        &[
            Mutant::TieBreakFlipped,
            Mutant::OwnRemovalVoteCounted,
            Mutant::OwnRemovalHereVoteCounted,
            Mutant::MajorityLockOff,
            Mutant::MajorityOfAllOff,
            Mutant::SkeletonClassTrusted,
            Mutant::SupportCountedPerDevice,
        ],
    ),
    (an_account_has_one_vote_and_one_child_at_most_is_locked, &[Mutant::SupportCountedPerDevice]),
    (a_majority_wins, &[Mutant::MajorityLockOff, Mutant::MajorityOfAllOff]),
    (history_is_settled, &[Mutant::SettledLockOff]),
    (without_votes_the_least_class_wins, &[Mutant::TieBreakFlipped, Mutant::SkeletonClassTrusted]),
    (nobody_votes_on_their_own_removal, &[Mutant::OwnRemovalVoteCounted]),
    (hearsay_without_votes_changes_nothing, &[Mutant::SkeletonClassTrusted]),
    (more_support_for_the_winner_never_makes_a_rival_win, &[]),
    (young_states_and_the_head_stay, &[Mutant::PruneEarly]),
];

#[test]
fn every_property_holds() {
    for (property, _) in PROPERTIES {
        property().unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn every_broken_rule_is_noticed() {
    for (at, (property, mutants)) in PROPERTIES.iter().enumerate() {
        for mutant in *mutants {
            assert!(mutant::with(*mutant, property).is_err(), "{mutant:?} survives property {at}");
        }
    }
}
