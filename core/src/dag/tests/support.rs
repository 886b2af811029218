//! Signatures, counters and equivocation.

use std::sync::Arc;

use ed25519_dalek::SigningKey;

use super::story::{GID, Story, account, device, state, support};
use crate::{
    dag::{
        Equivocation, Head, Heard, Support,
        support::{InvalidSupport, MAX_STRANGERS},
    },
    id::{DeviceId, GroupId},
};

fn signed(counter: u64, number: usize) -> Support {
    Support::sign(&GID, &SigningKey::from_bytes(&[3; 32]), counter, state(number))
}

#[test]
fn a_support_is_signed_for_one_group_device_counter_and_state() {
    let good = signed(4, 1);
    assert_eq!(good.verify(&GID), Ok(()));
    assert_eq!(good.verify(&GroupId([8; 16])), Err(InvalidSupport));
    let other_key = DeviceId(SigningKey::from_bytes(&[4; 32]).verifying_key().to_bytes());
    let mut broken = good.signature;
    broken[5] ^= 1;
    for forged in [
        Support { device: other_key, ..good },
        Support { device: DeviceId([0; 32]), ..good },
        Support { counter: 5, ..good },
        Support { sid: state(2), ..good },
        Support { signature: broken, ..good },
    ] {
        assert_eq!(forged.verify(&GID), Err(InvalidSupport));
    }
}

#[test]
fn a_proof_is_two_states_under_one_counter_of_one_device() {
    let (one, other) = (signed(4, 1), signed(4, 2));
    let proof = Equivocation::new(one, other).unwrap();
    assert_eq!(Equivocation::new(other, one), Ok(proof));
    assert_eq!((proof.device(), proof.verify(&GID)), (one.device, Ok(())));
    assert_eq!(Equivocation::new(one, one), Err(InvalidSupport));
    assert_eq!(Equivocation::new(one, signed(5, 2)), Err(InvalidSupport));
    assert_eq!(Equivocation::new(one, support(device(1, 0), 4, state(2))), Err(InvalidSupport));
    let forged = Equivocation::new(one, Support { signature: one.signature, ..other }).unwrap();
    assert_eq!(forged.verify(&GID), Err(InvalidSupport));
}

#[test]
fn the_latest_counter_counts_however_late_the_others_come() {
    let mut dag = Story::of(2).dag;
    let voter = device(1, 0);
    assert_eq!(dag.support(support(voter, 2, state(2))), Heard::Latest);
    assert_eq!(dag.support(support(voter, 1, state(1))), Heard::Nothing);
    assert_eq!(dag.support(support(voter, 2, state(2))), Heard::Nothing);
    assert_eq!(dag.supports().latest(&voter), Some(&state(2)));
    assert_eq!(dag.support(support(voter, 3, state(1))), Heard::Latest);
    assert_eq!(dag.supports().latest(&voter), Some(&state(1)));
}

#[test]
fn who_supports_two_states_at_once_loses_its_vote_for_good_in_either_order() {
    for order in [[1, 2], [2, 1]] {
        let mut dag = Story::of(2).dag;
        let voter = device(1, 0);
        dag.support(support(voter, 2, state(order[0])));
        assert_eq!(dag.support(support(voter, 2, state(order[1]))), Heard::Equivocation);
        let proof = dag.supports().equivocation(&voter).unwrap();
        assert_eq!(proof.supports().map(|support| support.counter), [2, 2]);
        assert_eq!(dag.supports().latest(&voter), None);
        assert_eq!(dag.support(support(voter, 3, state(1))), Heard::Nothing);
        assert_eq!(dag.supports().latest(&voter), None);
        assert_eq!(dag.supports().equivocations().count(), 1);
    }
}

#[test]
fn a_proof_takes_the_vote_also_where_only_later_supports_are_known() {
    let mut group = Story::of(3);
    let root = group.root;
    let (update, rival) = (group.update(root, 0), group.removal(root, 1, &[]));
    for voter in 1..3 {
        group.votes(voter, update);
    }
    assert_eq!(group.head(), Head::At(update));
    let voter = device(1, 0);
    let proof = Equivocation::new(support(voter, 0, update), support(voter, 0, rival)).unwrap();
    assert_eq!(group.dag.convict(proof), Heard::Equivocation);
    assert_eq!(group.dag.convict(proof), Heard::Nothing, "once is enough");
    assert_eq!(group.head(), Head::At(rival));
}

#[test]
fn few_strangers_are_heard_and_every_member_is() {
    let mut group = Story::of(3);
    let root = group.root;
    let stranger = |number: usize| device(1000 + number, 0);
    for number in 0..MAX_STRANGERS {
        assert_eq!(group.dag.support(support(stranger(number), 1, root)), Heard::Latest);
    }
    let further = stranger(MAX_STRANGERS);
    let proof = Equivocation::new(support(further, 1, root), support(further, 1, state(1))).unwrap();
    assert_eq!(group.dag.support(support(further, 1, root)), Heard::TooMany);
    assert_eq!(group.dag.convict(proof), Heard::TooMany);
    assert_eq!(group.dag.supports().latest(&further), None);
    assert_eq!(group.dag.support(support(stranger(0), 2, root)), Heard::Latest, "one heard before");
    assert_eq!(group.dag.support(support(device(1, 0), 1, root)), Heard::Latest, "a member");

    // The first of them turns out to be a member of a later state: there is room for another one.
    let next = group.update(root, 1);
    let mut joined = group.dag.node(&next).unwrap().clone();
    let members = joined.roster.members().map(|(account, device)| (*account, *device));
    joined.roster = Arc::new(members.chain([(account(1000), stranger(0))]).collect());
    joined.sid = state(700);
    group.dag.insert(joined);
    assert_eq!(group.dag.supports().latest(&stranger(0)), Some(&root), "what it said stands");
    assert_eq!(group.dag.support(support(further, 1, root)), Heard::Latest);
}
