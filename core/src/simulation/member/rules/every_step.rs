//! What must hold after every step.

use super::{Seen, inside};
use crate::{
    group::testing::Hostile,
    id::LogId,
    simulation::member::{Membership, join::end, ledger::told, rows::stable_fingerprint},
};

/// How often the way on from one state may change.
const MOST_FLIPS: u32 = 16;
/// Rules that look at much look at one step in so many.
const SAMPLE: u64 = 8;

fn unbroken<E: Hostile>(view: &Seen<'_, E>, rule: &str) -> Result<(), String> {
    view.ledger.broken.get(rule).map_or(Ok(()), |what| Err(what.clone()))
}

/// I2: nobody is given an event twice.
pub(super) fn i02_no_duplicate<E: Hostile>(view: &Seen<'_, E>) -> Result<(), String> {
    unbroken(view, "i02_no_duplicate")
}

/// I4: who knows the same and could enter the same has the same head.
pub(super) fn i04_equal_knowledge_equal_head<E: Hostile>(view: &Seen<'_, E>) -> Result<(), String> {
    let Some(stepped) = view.member(view.stepped).filter(|it| it.honest) else { return Ok(()) };
    if stepped.disk.membership != Membership::Inside {
        return Ok(());
    }
    let head = end(stepped.disk.head);
    let mut same = inside(view).filter(|it| it.disk.known == stepped.disk.known);
    match same.find(|it| end(it.disk.head) != head) {
        Some(other) => Err(format!(
            "{} and {} know the same, and have {head:?} and {:?}",
            stepped.member,
            other.member,
            end(other.disk.head)
        )),
        None => Ok(()),
    }
}

/// I7: what a member said that it has is on its disk, whatever happened to its process.
pub(super) fn i07_restart_equals_no_restart<E: Hostile>(view: &Seen<'_, E>) -> Result<(), String> {
    let Some(stepped) = view.member(view.stepped) else { return Ok(()) };
    let Some(tip) = view.ledger.told.get(&view.stepped) else { return Ok(()) };
    // Who finds out that its disk is an old copy gives up what it wrote on it since, and nothing else.
    let restored = view.ledger.restored.contains(&view.stepped);
    let own = |log: &LogId| stepped.disk.logs.log(log).is_some_and(|log| log.device == stepped.disk.device);
    let has = |log: &LogId| stepped.disk.logs.log(log).map_or(0, |log| log.contiguous);
    let lost = |(log, seq): &(&LogId, &u64)| has(log) < **seq && !(restored && own(log));
    match told(tip).iter().find(lost) {
        Some((log, seq)) => {
            Err(format!("{} said that it has {seq} of {log:?}, and has {}", stepped.member, has(log)))
        }
        None => Ok(()),
    }
}

/// I8: nothing is encrypted to someone whose removal is known.
pub(super) fn i08_nothing_to_the_removed<E: Hostile>(view: &Seen<'_, E>) -> Result<(), String> {
    unbroken(view, "i08_nothing_to_the_removed")
}

/// I9: no request is acted on twice on one path.
pub(super) fn i09_acted_on_once<E: Hostile>(view: &Seen<'_, E>) -> Result<(), String> {
    unbroken(view, "i09_no_resurrection")
}

/// I12: one message for each state, leaf and counter.
pub(super) fn i12_sealed_once<E: Hostile>(view: &Seen<'_, E>) -> Result<(), String> {
    unbroken(view, "i12_sealed_once")
}

/// I13: the rows of a state change in their message secrets alone.
pub(super) fn i13_rows_stay<E: Hostile>(view: &Seen<'_, E>) -> Result<(), String> {
    if !view.now_ms.is_multiple_of(SAMPLE) {
        return Ok(());
    }
    let Some(stepped) = view.member(view.stepped) else { return Ok(()) };
    for (sid, row) in &stepped.disk.states {
        if row.rows.as_ref().is_some_and(|rows| stable_fingerprint(rows) != row.stable) {
            return Err(format!("{}'s rows of {sid:?} changed", stepped.member));
        }
    }
    Ok(())
}

/// I14: the head lies at the end of commits that were checked, in which this device was a member.
pub(super) fn i14_head_on_a_valid_path<E: Hostile>(view: &Seen<'_, E>) -> Result<(), String> {
    let Some(stepped) = view.member(view.stepped) else { return Ok(()) };
    let disk = stepped.disk;
    if disk.membership != Membership::Inside || !view.now_ms.is_multiple_of(SAMPLE) {
        return Ok(());
    }
    let Some(stand) = disk.stand() else { return Err(format!("{} stands nowhere", stepped.member)) };
    let mut entered = false;
    // Before it entered, others went there without it.
    let way = disk.way_to(&stand).take_while(|sid| {
        let last =
            std::mem::replace(&mut entered, disk.states.get(sid).is_some_and(|row| row.entry.is_some()));
        !last
    });
    for sid in way {
        let node = disk.dag.node(&sid).filter(|node| node.held.is_merged());
        if node.is_none_or(|node| node.roster.account_of(&disk.device).is_none()) {
            return Err(format!("{} came to its head by {sid:?}", stepped.member));
        }
    }
    // Who is lost may have lost the secrets of the last common state, too.
    let live = disk.at().is_none_or(|sid| disk.states.get(&sid).is_some_and(|row| row.rows.is_some()));
    if live { Ok(()) } else { Err(format!("{} has no secrets of its own head", stepped.member)) }
}

/// I15: the way on from a state does not change for ever.
pub(super) fn i15_bounded_flips<E: Hostile>(view: &Seen<'_, E>) -> Result<(), String> {
    let Some(stepped) = view.member(view.stepped) else { return Ok(()) };
    match stepped.disk.flips.iter().find(|(_, flips)| **flips > MOST_FLIPS) {
        Some((sid, flips)) => Err(format!("{} changed its mind at {sid:?} {flips} times", stepped.member)),
        None => Ok(()),
    }
}

/// I16: a device that hears nobody does not commit, but for its own user who waited.
pub(super) fn i16_isolation<E: Hostile>(view: &Seen<'_, E>) -> Result<(), String> {
    unbroken(view, "i16_isolation")
}

/// I17: frames have the lengths of their buckets.
pub(super) fn i17_lengths_in_buckets<E: Hostile>(view: &Seen<'_, E>) -> Result<(), String> {
    unbroken(view, "i17_lengths_in_buckets")
}

/// I18: what is sent again goes to those who were members when it was written or sealed.
pub(super) fn i18_carry_to_the_entitled<E: Hostile>(view: &Seen<'_, E>) -> Result<(), String> {
    unbroken(view, "i18_carry_to_the_entitled")
}

/// I20: the child of one's own commit is kept, not made again from bytes.
pub(super) fn i20_own_branch_is_kept<E: Hostile>(view: &Seen<'_, E>) -> Result<(), String> {
    unbroken(view, "i20_own_branch_is_kept")?;
    let Some(stepped) = view.member(view.stepped) else { return Ok(()) };
    let disk = stepped.disk;
    match disk.states.iter().find(|(sid, row)| row.own && row.rows.is_none() && !disk.pruned.contains(sid)) {
        Some((sid, _)) => Err(format!("{} did not keep {sid:?}, which it made", stepped.member)),
        None => Ok(()),
    }
}
