//! The lines of the rule, one story each.

use super::story::{Story, account, device};
use crate::dag::{Class, Head, choice::SETTLED_COMMITS};

const SETTLED: usize = SETTLED_COMMITS as usize;

#[test]
fn a_removal_wins_against_an_update_without_votes() {
    let mut group = Story::of(4);
    let root = group.root;
    let _ = group.update(root, 1);
    let _ = group.change(root, 2);
    let removal = group.removal(root, 3, &[2]);
    assert_eq!(group.head(), Head::At(removal));
}

#[test]
fn equal_classes_go_by_rank_not_by_arrival() {
    let mut group = Story::of(4);
    let root = group.root;
    let ranked = group.dag.ranked(group.dag.node(&root).unwrap());
    let children: Vec<_> = (0..4).map(|by| (device(by, 0), group.update(root, by))).collect();
    let first = children.iter().find(|(by, _)| *by == ranked[0]).unwrap();
    assert_eq!(group.child(), first.1);
}

#[test]
fn every_device_has_one_rank_and_epochs_shuffle_them() {
    let mut group = Story::with_devices(&[1, 3, 2]);
    let root = group.root;
    let next = group.update(root, 0);
    let ranked = |sid| group.dag.ranked(group.dag.node(&sid).unwrap());
    let mut sorted = ranked(root);
    assert_ne!(sorted, ranked(next));
    sorted.sort();
    let mut members: Vec<_> = group.dag.node(&root).unwrap().roster.devices().copied().collect();
    members.sort();
    assert_eq!(sorted, members);
}

#[test]
fn more_than_half_of_the_accounts_win_against_a_removal() {
    let mut group = Story::of(5);
    let root = group.root;
    let (removal, update) = (group.removal(root, 0, &[4]), group.update(root, 1));
    // Four may vote: not the one to be removed.
    for (voter, winner) in [(1, removal), (2, removal), (3, update)] {
        group.votes(voter, update);
        assert_eq!(group.child(), winner, "after the vote of {voter}");
    }
}

#[test]
fn devices_share_the_vote_of_their_account() {
    let mut group = Story::with_devices(&[1, 3, 3, 1]);
    let root = group.root;
    let (removal, update) = (group.removal(root, 0, &[3]), group.update(root, 1));
    group.votes(1, update);
    for (number, winner) in [(0, removal), (1, update), (2, update)] {
        group.device_votes(device(2, number), update);
        // Three may vote; 1 + 1/3 is less than half of it, 1 + 2/3 is more.
        assert_eq!(group.child(), winner, "after device {number}");
    }
}

#[test]
fn of_more_devices_than_vote_the_first_do() {
    let mut group = Story::with_devices(&[1, 12]);
    let root = group.root;
    let update = group.update(root, 0);
    let _ = group.change(root, 1);
    group.votes(1, update);
    let votes = group.dag.votes(group.dag.node(&root).unwrap());
    let tally = votes.tallies.iter().find(|tally| tally.child == update).unwrap();
    assert_eq!((votes.voters, tally.votes), (2, crate::dag::choice::WHOLE_VOTE));
}

#[test]
fn nobody_votes_on_their_own_removal_unless_more_than_half_of_all_do() {
    let mut group = Story::of(6);
    let root = group.root;
    let removal = group.removal(root, 0, &[3, 4, 5]);
    let update = group.update(root, 5);
    for removed in [3, 4, 5] {
        group.votes(removed, update);
        assert_eq!(group.child(), removal, "after the vote of {removed}");
    }
    // Of those who stay one in three.
    group.votes(2, update);
    assert_eq!(group.child(), update, "four of six");
}

#[test]
fn a_removal_held_back_takes_no_votes_from_what_most_accounts_support() {
    let mut group = Story::of(7);
    let root = group.root;
    let update = group.update(root, 1);
    for voter in [1, 2, 3, 4] {
        group.votes(voter, update);
    }
    // By one of those who slept, of two who built: without them two of five are left.
    let _ = group.removal(root, 6, &[1, 2]);
    group.votes(6, root);
    assert_eq!(group.child(), update);
}

#[test]
fn a_removed_admin_does_not_undo_its_removal_by_removing_everyone_else() {
    let mut group = Story::of(4);
    let root = group.root;
    let removal = group.removal(root, 0, &[3]);
    for voter in 0..3 {
        group.votes(voter, removal);
    }
    let revenge = group.opaque(root, 3, &[0, 1, 2]);
    group.votes(3, revenge);
    assert_eq!(group.child(), removal, "with the votes of most");

    // Of two, neither can hear more votes than the other's.
    let mut group = Story::of(2);
    let root = group.root;
    let removal = group.removal(root, 0, &[1]);
    let revenge = group.opaque(root, 1, &[0]);
    group.votes(0, removal);
    group.votes(1, revenge);
    assert_eq!(group.child(), removal, "no vote is left, and it is the one that opens here");
}

#[test]
fn who_is_removed_in_a_group_of_two_learns_it() {
    let mut group = Story::of(2);
    let root = group.root;
    let update = group.update(root, 0);
    group.votes(0, update);
    let wanted = group.opaque(root, 1, &[0]);
    assert_eq!(group.child(), update, "before anyone supports it");
    group.votes(1, wanted);
    assert_eq!(group.head(), Head::Beyond { last: root, wanted });
    assert!(!group.dag.node(&wanted).unwrap().roster.contains(&account(0)));
}

#[test]
fn a_commit_that_does_not_open_takes_the_vote_of_nobody_else() {
    let mut group = Story::of(4);
    let root = group.root;
    let update = group.update(root, 1);
    let _ = group.opaque(root, 2, &[0, 3]);
    assert_eq!(group.dag.votes(group.dag.node(&root).unwrap()).voters, 3);
    group.votes(1, update);
    group.votes(3, update);
    assert_eq!(group.child(), update);
}

/// Two accounts of seven built on an update while five slept; then a removal turns up that was made
/// beside the update and held back.
fn settled_against_held_back(commits: usize, builders: &[usize]) -> (Story, Head, Head) {
    let mut group = Story::of(7);
    let root = group.root;
    let update = group.update(root, 0);
    let tip = group.chain(update, 0, commits - 1).pop().unwrap();
    for builder in builders {
        group.votes(*builder, tip);
    }
    for sleeper in 3..7 {
        group.votes(sleeper, root);
    }
    let removal = group.removal(root, 2, &[6]);
    (group, Head::At(tip), Head::At(removal))
}

#[test]
fn a_commit_held_back_does_not_undo_what_two_accounts_built() {
    let (group, built, _) = settled_against_held_back(SETTLED, &[0, 1]);
    assert_eq!(group.head(), built);
}

#[test]
fn neither_a_short_history_nor_one_account_settles() {
    let (group, _, removal) = settled_against_held_back(SETTLED - 1, &[0, 1]);
    assert_eq!(group.head(), removal, "a short one");
    let (group, _, removal) = settled_against_held_back(SETTLED, &[0]);
    assert_eq!(group.head(), removal, "one account");
}

#[test]
fn a_sleeper_who_wakes_up_on_the_settled_side_does_not_unsettle_it() {
    let (mut group, built, _) = settled_against_held_back(SETTLED, &[0, 1]);
    let rival = group.dag.children(&group.root).find(|child| child.class == Class::Removal).unwrap().sid;
    group.votes(2, rival);
    assert_eq!(group.head(), built);
    // It catches up commit by commit, and on the first its vote is still a fresh one.
    let first = group.dag.children(&group.root).find(|child| child.class == Class::Update).unwrap().sid;
    group.votes(3, first);
    assert_eq!(group.head(), built);
}

#[test]
fn as_many_fresh_votes_for_the_rival_unsettle() {
    let (mut group, _, removal) = settled_against_held_back(SETTLED, &[0, 1]);
    group.votes(2, removal.stand());
    group.votes(3, removal.stand());
    assert_eq!(group.head(), removal);
}

#[test]
fn hearsay_wins_by_votes_only() {
    let mut group = Story::of(4);
    let root = group.root;
    let update = group.update(root, 1);
    let claimed = group.claimed(root, 2, Class::Removal);
    assert_eq!(group.head(), Head::At(update));
    for voter in 1..4 {
        group.votes(voter, claimed);
    }
    assert_eq!(group.head(), Head::Beyond { last: root, wanted: claimed });
}

#[test]
fn a_commit_that_does_not_open_here_wins_by_votes_only() {
    let mut group = Story::of(4);
    let root = group.root;
    let opaque = group.opaque(root, 2, &[3]);
    assert_eq!(group.head(), Head::At(root));
    for voter in 1..4 {
        group.votes(voter, opaque);
    }
    assert_eq!(group.head(), Head::Beyond { last: root, wanted: opaque });
}

#[test]
fn only_the_lesser_of_two_commits_by_one_member_is_in_the_running() {
    for order in [[1, 2], [2, 1]] {
        let mut group = Story::of(3);
        let root = group.root;
        let nodes: Vec<_> = [1, 1].map(|by| group.update(root, by)).into();
        let nodes: Vec<_> = nodes.iter().map(|sid| group.dag.node(sid).unwrap().clone()).collect();
        let mut lesser = nodes.iter().min_by_key(|node| node.commit).unwrap().clone();
        let mut greater = nodes.iter().max_by_key(|node| node.commit).unwrap().clone();
        // The greater one would win by its class.
        (lesser.class, greater.class) = (Class::Update, Class::Removal);
        let mut group = Story::of(3);
        for which in order {
            group.dag.insert(if which == 1 { lesser.clone() } else { greater.clone() });
        }
        assert_eq!(group.head(), Head::At(lesser.sid));
        assert_eq!(group.dag.double_committers().into_iter().collect::<Vec<_>>(), [account(1)]);
    }
}

#[test]
fn a_second_commit_made_later_undoes_nothing() {
    for second in 1..20 {
        let mut group = Story::of(4);
        let root = group.root;
        let removal = group.removal(root, 1, &[3]);
        for voter in 0..3 {
            group.votes(voter, removal);
        }
        let mut rival = group.dag.node(&removal).unwrap().clone();
        rival.sid = super::story::state(1000 + second);
        rival.commit = super::story::commit(1000 + second);
        rival.roster = group.dag.node(&root).unwrap().roster.clone();
        group.dag.insert(rival);
        assert_eq!(group.head(), Head::At(removal));
    }
}

/// Two admins remove each other, and so neither has a vote, before the others as before itself. The others
/// agree, and with a majority of their votes so does who lost.
#[test]
fn two_admins_remove_each_other() {
    let mut others = Story::of(5);
    let root = others.root;
    let (by_0, by_1) = (others.removal(root, 0, &[1]), others.removal(root, 1, &[0]));
    others.votes(0, by_0);
    others.votes(1, by_1);
    assert_eq!(others.dag.votes(others.dag.node(&root).unwrap()).voters, 3);
    let winner = others.child();
    for voter in 2..5 {
        others.votes(voter, winner);
    }
    assert_eq!(others.head(), Head::At(winner));

    // Account 0 itself, when it lost.
    let mut loser = Story::of(5);
    let (own, wanted) = (loser.removal(root, 0, &[1]), loser.opaque(root, 1, &[0]));
    loser.votes(0, own);
    assert_eq!(loser.head(), Head::At(own), "as long as it hears of no votes");
    assert_eq!(loser.dag.votes(loser.dag.node(&root).unwrap()).voters, 3);
    for voter in 2..4 {
        loser.votes(voter, wanted);
    }
    assert_eq!(loser.head(), Head::Beyond { last: root, wanted });
    assert!(!loser.dag.node(&wanted).unwrap().roster.contains(&account(0)));
}

#[test]
fn who_is_put_out_by_an_only_commit_goes_where_the_others_go() {
    let mut story = Story::of(5);
    let out = story.opaque(story.root, 1, &[0]);
    assert_eq!(story.child(), out, "nobody has voted, and nobody needs to");
    assert_eq!(story.head(), Head::Beyond { last: story.root, wanted: out });
}

#[test]
fn who_is_put_out_stays_with_a_rival_until_the_others_have_voted() {
    let mut story = Story::of(4);
    let own = story.update(story.root, 0);
    let out = story.opaque(story.root, 1, &[0]);
    assert_eq!(story.child(), own);
    story.votes(1, out);
    assert_eq!(story.child(), own, "one of three who may vote");
    story.votes(2, out);
    assert_eq!(story.child(), out);
}
