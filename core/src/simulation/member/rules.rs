//! The invariants, each a function of what a world shows.

mod ending;
mod every_step;

use super::scenario::Members;
use crate::{
    group::testing::Hostile,
    simulation::{Rule, Standing, View, When},
};
use ending::*;
use every_step::*;

pub(super) type Seen<'a, E> = View<'a, Members<E>>;

/// All of them, the most telling first: who is elsewhere lacks events, too.
pub(super) fn all<E: Hostile>() -> Vec<Rule<Members<E>>> {
    let always = |name, check| Rule { name, when: When::EveryStep, check };
    let at_rest = |name, check| Rule { name, when: When::AtRest, check };
    vec![
        always("i02_no_duplicate", i02_no_duplicate),
        always("i04_equal_knowledge_equal_head", i04_equal_knowledge_equal_head),
        always("i07_restart_equals_no_restart", i07_restart_equals_no_restart),
        always("i08_nothing_to_the_removed", i08_nothing_to_the_removed),
        always("i09_no_resurrection", i09_acted_on_once),
        always("i12_sealed_once", i12_sealed_once),
        always("i13_rows_stay", i13_rows_stay),
        always("i14_head_on_a_valid_path", i14_head_on_a_valid_path),
        always("i15_bounded_flips", i15_bounded_flips),
        always("i16_isolation", i16_isolation),
        always("i17_lengths_in_buckets", i17_lengths_in_buckets),
        always("i18_carry_to_the_entitled", i18_carry_to_the_entitled),
        always("i20_own_branch_is_kept", i20_own_branch_is_kept),
        at_rest("i05_together_again", i05_together_again),
        at_rest("i01_no_loss", i01_no_loss),
        at_rest("i03_authorship", i03_authorship),
        at_rest("i06_order_does_not_matter", i06_order_does_not_matter),
        at_rest("i06_order_does_not_matter", i06_any_order),
        at_rest("i07_restart_equals_no_restart", i07_restarted_each_time),
        at_rest("i09_no_resurrection", i09_no_resurrection),
        at_rest("i10_requests_end", i10_requests_end),
        at_rest("i11_window", i11_window),
        at_rest("i19_outbox_empties", i19_outbox_empties),
        at_rest("i21_window_independent", i21_window_independent),
    ]
}

/// Honest members that believe to be in the group.
fn inside<'a, E: Hostile>(
    view: &View<'a, Members<E>>,
) -> impl Iterator<Item = Standing<'a, super::Member<E>>> + use<'a, E> {
    let members = view.members().filter(|it| it.honest);
    members.filter(|it| it.disk.membership == super::Membership::Inside)
}
