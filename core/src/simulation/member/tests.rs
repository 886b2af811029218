//! Few seeds of each kind; the many run in the binary `simulate`.

use super::Members;
use crate::{
    group::{fake::FakeState, state::GroupState},
    simulation::{Profile, explain, run, sweep},
};

#[test]
fn members_on_the_fake_keep_every_rule() {
    for (profile, seeds) in
        [(Profile::CALM, 10), (Profile::CRASHES, 10), (Profile::QUARRELS, 10), (Profile::MISDEEDS, 2)]
    {
        let members = Members::<FakeState>::new(profile, "fake");
        let totals = sweep(&members, 0..seeds, 2);
        println!("{totals}");
        assert!(totals.failure.is_none(), "{}", explain(&members, &totals.failure.unwrap(), 200));
    }
}

#[test]
fn seeds_that_once_broke_a_rule_hold() {
    for (profile, seed) in [
        // A letter that came again brought back secrets that had been deleted.
        (Profile::CRASHES, 557),
        // What others had written after an event of a forked log waited for it for ever.
        (Profile::MIXED, 38),
        // An old copy of a disk was not let back in, since most of those who were there had left.
        (Profile::MIXED, 293),
        // Two old copies told each other of leaves that had been replaced.
        (Profile::DORMANT, 276),
        // What an author had sealed on a branch that others never saw was carried to nobody.
        (Profile::QUARRELS, 17),
    ] {
        let members = Members::<FakeState>::new(profile, "fake");
        let report = run(&members, seed);
        assert!(report.violation.is_none(), "{}", explain(&members, &report, 200));
    }
}

#[test]
fn members_on_openmls_keep_every_rule() {
    let members = Members::<GroupState>::new(Profile::CALM, "openmls");
    let totals = sweep(&members, 0..1, 2);
    assert!(totals.failure.is_none(), "{}", explain(&members, &totals.failure.unwrap(), 20));
}
