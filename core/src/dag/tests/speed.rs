//! How long the choice takes, and that it takes no stack.

use std::time::Instant;

use super::story::Story;
use crate::dag::Head;

#[test]
fn a_long_chain_takes_no_stack() {
    let mut group = Story::of(3);
    let root = group.root;
    let tip = group.chain(root, 1, 5_000).pop().unwrap();
    let _ = group.update(root, 2);
    (0..3).for_each(|voter| group.votes(voter, tip));
    assert_eq!(group.head(), Head::At(tip));
}

#[test]
#[ignore = "prints a measurement"]
fn head_at_2000_states_and_1000_members() {
    for every in [usize::MAX, 10] {
        let mut group = Story::of(1000);
        let mut last = group.root;
        let mut forks = 0;
        for number in 0..2000 {
            let next = group.update(last, number % 1000);
            if number % every == 1 {
                let _ = group.removal(last, (number + 1) % 1000, &[]);
                forks += 1;
            }
            last = next;
        }
        (0..1000).for_each(|voter| group.votes(voter, last));
        let started = Instant::now();
        let head = group.head();
        let first = started.elapsed();
        let started = Instant::now();
        for _ in 0..10 {
            assert_eq!(group.dag.head(), Some(head));
        }
        println!("{forks} forks: head() first {first:?}, then {:?}", started.elapsed() / 10);
    }
}
