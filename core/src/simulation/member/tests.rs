//! Few seeds of each kind; the many run in the binary `simulate`.

use super::Members;
use crate::{
    group::{fake::FakeState, state::GroupState},
    simulation::{Profile, explain, sweep},
};

#[test]
fn members_on_the_fake_keep_every_rule() {
    for profile in [Profile::CALM, Profile::CRASHES] {
        let members = Members::<FakeState>::new(profile, "fake");
        let totals = sweep(&members, 0..10, 2);
        println!("{totals}");
        assert!(totals.failure.is_none(), "{}", explain(&members, &totals.failure.unwrap(), 200));
    }
}

#[test]
fn members_on_openmls_keep_every_rule() {
    let members = Members::<GroupState>::new(Profile::CALM, "openmls");
    let totals = sweep(&members, 0..1, 2);
    assert!(totals.failure.is_none(), "{}", explain(&members, &totals.failure.unwrap(), 20));
}
