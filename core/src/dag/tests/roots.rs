//! States that cannot be entered, and states entered by a Welcome.

use std::sync::Arc;

use super::story::{Story, account, commit, device, state};
use crate::{
    dag::{Class, Dag, Head, Held, Inserted, Node, Roster},
    id::StateId,
};

#[test]
fn a_dag_without_states_has_no_head() {
    let dag = Dag::new(super::story::GID, device(0, 0));
    assert_eq!(dag.head(), None);
}

#[test]
fn pruned_states_on_the_way_do_not_matter_a_pruned_end_does() {
    let mut group = Story::of(3);
    let root = group.root;
    let chain = group.chain(root, 1, 3);
    group.dag.prune(&root);
    group.dag.prune(&chain[1]);
    assert_eq!(group.head(), Head::At(chain[2]));
    group.dag.prune(&chain[2]);
    assert_eq!(group.head(), Head::Beyond { last: chain[0], wanted: chain[2] });
}

#[test]
fn deleted_secrets_do_not_come_back_by_hearing_of_the_state_again() {
    let mut group = Story::of(3);
    let root = group.root;
    let update = group.update(root, 1);
    let again = group.dag.node(&update).unwrap().clone();
    group.dag.prune(&update);
    group.dag.insert(again);
    assert_eq!(group.head(), Head::Beyond { last: root, wanted: update });
}

/// Account 0 built three commits alone; the others went on elsewhere, and let it rejoin at epoch 30.
fn rejoined() -> (Story, Head, StateId) {
    let mut group = Story::of(4);
    let root = group.root;
    let own = group.chain(root, 0, 3).pop().unwrap();
    group.votes(0, own);
    let welcome = group.welcome(30, 1, root);
    (group, Head::At(own), welcome)
}

#[test]
fn a_welcome_alone_convinces_nobody() {
    let (group, own, _) = rejoined();
    assert_eq!(group.head(), own);
}

#[test]
fn two_votes_at_the_welcome_are_enough_when_nobody_is_elsewhere_and_one_is_not() {
    let (mut group, own, welcome) = rejoined();
    let next = group.update(welcome, 1);
    // Who made the Welcome.
    group.votes(1, next);
    // The others sleep, on a state that may lie before the Welcome's.
    let root = group.root;
    group.votes(2, root);
    group.votes(3, root);
    assert_eq!(group.head(), own);
    group.votes(2, welcome);
    assert_eq!(group.head(), Head::At(next));
}

#[test]
fn in_a_group_of_two_the_other_one_is_enough() {
    let mut group = Story::of(2);
    let root = group.root;
    let own = group.update(root, 0);
    let welcome = group.welcome(30, 1, root);
    assert_eq!(group.head(), Head::At(own));
    group.votes(1, welcome);
    assert_eq!(group.head(), Head::At(welcome));
}

#[test]
fn in_place_of_an_entry_that_is_given_up_one_vote_at_the_welcome_is_enough_when_none_is_elsewhere() {
    let (mut group, own, welcome) = rejoined();
    group.votes(1, welcome);
    assert_eq!(group.head(), own);
    group.dag.forsake(1);
    assert_eq!(group.head(), Head::At(welcome));
    let elsewhere = group.welcome(30, 2, group.root);
    group.votes(2, elsewhere);
    assert_eq!(group.head(), own);
}

#[test]
fn the_epoch_of_a_welcome_is_no_reason_to_follow_it() {
    let mut group = Story::of(5);
    let root = group.root;
    let own = group.update(root, 0);
    // One that seems older than the group, and one that nobody's Support can be as late as.
    for epoch in [1, u64::MAX - 1] {
        let welcome = group.welcome(epoch, 1, root);
        group.votes(1, welcome);
        group.votes(2, own);
        assert_eq!(group.head(), Head::At(own), "epoch {epoch}");
    }
}

#[test]
fn entries_are_in_the_order_of_their_numbers_however_they_come() {
    let node = |number: usize, epoch| Node {
        sid: state(number),
        epoch,
        ..Story::of(3).dag.node(&state(0)).unwrap().clone()
    };
    let entries = [(node(1, 90), 0), (node(2, 5), 1)];
    for order in [[0, 1], [1, 0]] {
        let mut dag = Dag::new(super::story::GID, device(0, 0));
        for (entry, nth) in order.map(|which| entries[which].clone()) {
            assert_eq!(dag.enter(entry.clone(), nth + 7), Inserted::Kept);
            assert_eq!(dag.enter(entry, nth), Inserted::Kept, "the first time counts");
        }
        assert_eq!(dag.head(), Some(Head::At(state(1))));
    }
    let mut dag = Dag::new(super::story::GID, device(0, 0));
    assert_eq!(dag.enter(Node { held: Held::Opaque, ..node(1, 1) }, 0), Inserted::Nothing);
    assert_eq!(dag.insert(node(1, 1)), Inserted::Nothing, "no commit");
    assert_eq!(dag.head(), None);
}

#[test]
fn votes_elsewhere_outweigh_a_welcome() {
    let (mut group, own, welcome) = rejoined();
    group.votes(1, welcome);
    let far = group.chain(own.stand(), 0, 30).pop().unwrap();
    group.votes(2, far);
    assert_eq!(group.head(), Head::At(far), "one against one");
    group.votes(3, welcome);
    assert_eq!(group.head(), Head::At(welcome), "two against one");
}

#[test]
fn the_way_goes_on_at_the_welcome_that_lies_below_what_the_others_locked() {
    let (mut group, own, welcome) = rejoined();
    let (root, before) = (group.root, group.dag.node(&own.stand()).unwrap().epoch);
    assert_eq!(before, 13);
    let wanted = group.claimed(root, 1, Class::Update);
    for voter in 1..4 {
        group.votes(voter, wanted);
    }
    assert_eq!(group.head(), Head::Beyond { last: root, wanted }, "nothing leads to the Welcome");
    // Skeletons lead to it, the last one to the state that this device was welcomed into.
    let mut last = wanted;
    while group.dag.node(&last).unwrap().epoch < 29 {
        last = group.claimed(last, 1, Class::Update);
    }
    let known = group.dag.node(&welcome).unwrap().clone();
    group.dag.insert(Node {
        parent: Some(last),
        held: Held::Claimed,
        roster: Arc::new(Roster::default()),
        ..known
    });
    assert_eq!(group.head(), Head::At(welcome));
    assert_eq!(group.dag.node(&welcome).unwrap().held, Held::Live);
}

#[test]
fn a_welcome_elsewhere_does_not_lead_away_from_a_lock() {
    let (mut group, _, welcome) = rejoined();
    let root = group.root;
    let wanted = group.claimed(root, 2, Class::Update);
    group.votes(1, welcome);
    for voter in [0, 2, 3] {
        group.votes(voter, wanted);
    }
    assert_eq!(group.head(), Head::Beyond { last: root, wanted });
}

/// A state that this device was welcomed into by account 1, hung below the founding state by that
/// account's word.
fn welcomed_and_claimed(group: &mut Story, class: Class) -> StateId {
    let (root, epoch) = (group.root, group.dag.node(&group.root).unwrap().epoch + 1);
    let welcome = group.welcome(epoch, 1, root);
    let claim = group.dag.node(&welcome).unwrap().clone();
    group.dag.insert(Node { parent: Some(root), held: Held::Claimed, class, ..claim });
    welcome
}

#[test]
fn a_claim_gives_a_welcome_no_place_among_the_children_that_win_without_votes() {
    for class in [Class::Removal, Class::Update] {
        let mut group = Story::of(4);
        let root = group.root;
        let welcome = welcomed_and_claimed(&mut group, class);
        assert_eq!(group.dag.child(&root), None, "not as the only child");
        let own = group.update(root, 2);
        assert_eq!(group.child(), own, "not by class or rank");
        for voter in 1..4 {
            group.votes(voter, welcome);
        }
        assert_eq!(group.child(), welcome, "by votes");
    }
}

#[test]
fn a_welcome_that_a_claim_hangs_somewhere_takes_no_votes_away_and_convicts_nobody() {
    let mut group = Story::of(4);
    let root = group.root;
    let update = group.update(root, 1);
    let welcome = group.welcome(11, 1, root);
    // A Welcome into a state without accounts 2 and 3; its class is a claim as well.
    let mut claim = group.dag.node(&welcome).unwrap().clone();
    claim.roster = Arc::new([(account(0), device(0, 0)), (account(1), device(1, 0))].into_iter().collect());
    claim.class = Class::Removal;
    let mut story = Story::of(4);
    story.dag.insert(group.dag.node(&update).unwrap().clone());
    story.dag.enter(claim.clone(), 1);
    story.dag.insert(Node { parent: Some(root), held: Held::Claimed, ..claim });
    assert_eq!(story.dag.votes(story.dag.node(&root).unwrap()).voters, 4);
    assert!(story.dag.double_committers().is_empty());
}

#[test]
fn a_welcome_whose_commit_was_checked_is_a_child_like_any_other() {
    let mut group = Story::of(4);
    let root = group.root;
    let welcome = group.welcome(11, 1, root);
    let commit = group.dag.node(&welcome).unwrap().clone();
    group.dag.insert(Node { parent: Some(root), held: Held::Opaque, ..commit });
    assert_eq!(group.child(), welcome);
}

#[test]
fn claims_make_no_circles() {
    let mut group = Story::of(3);
    let claim = |number, parent, epoch| Node {
        sid: state(number),
        parent: Some(state(parent)),
        epoch,
        commit: commit(number),
        committer: device(1, 0),
        class: Class::Removal,
        roster: Arc::new(Roster::default()),
        held: Held::Claimed,
    };
    for node in [claim(50, 51, 11), claim(51, 50, 11), claim(52, 52, 11), claim(53, 0, u64::MAX)] {
        group.dag.insert(node);
    }
    for voter in 0..3 {
        group.votes(voter, state(50 + voter));
    }
    assert_eq!(group.head(), Head::At(group.root));
    assert!(!group.dag.is_below(&state(50), &state(51)));
}
