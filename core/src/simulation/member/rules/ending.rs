//! What must hold when all is healed and has been left alone.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{Seen, inside};
use crate::{
    dag::{Dag, Node, window},
    event::{Body, ChangeKind, SignedEvent},
    group::{
        authorize,
        frame::Frame,
        requests::{Candidate, Path, Status, status},
        rows::Rows,
        testing::Hostile,
    },
    id::{DeviceId, EventId, StateId},
    simulation::{
        Draw, Standing, Stream,
        member::{
            Member, Membership,
            commit::candidate_on,
            disk::Disk,
            join::end,
            person::GID,
            retell::{MOST_RETOLD, Manner, retell},
        },
    },
};

/// I1: every accepted event is with everyone who was a member for its author, unless the author was told
/// that it failed.
pub(super) fn i01_no_loss<E: Hostile>(view: &Seen<'_, E>) -> Result<(), String> {
    for (id, (_, author)) in &view.ledger.accepted {
        if view.ledger.failed.contains(id) {
            continue;
        }
        let author = view.member(crate::simulation::MemberId(*author));
        if author
            .as_ref()
            .is_some_and(|it| !it.honest || is_forked(view, it, id) || is_out_of_reach(view, it, id))
        {
            continue;
        }
        let Some(event) = author.as_ref().and_then(|it| it.disk.logs.event(id)) else {
            return Err(format!("{id:?} is lost to its own author"));
        };
        let seen = author.as_ref().and_then(|it| canonical(it.disk, &event.event.seen_sid));
        let seen = seen.and_then(|sid| view.ledger.standings.get(&sid));
        // Who came by a branch that lost speaks to those of that branch alone.
        let seen = seen.filter(|standing| standing.member(&event.event.author).is_some());
        // Whom its author saw removed it was not for, also if that branch lost.
        let meant = view.ledger.standings.get(&event.event.seen_sid);
        for reader in inside(view) {
            let account = view.setup.people.get(usize::from(reader.member.0)).map(|it| it.account);
            let Some(account) = account else { continue };
            let had = |standing: &Arc<authorize::Standing>| standing.devices_of(&account).next().is_some();
            let was_in = seen.is_some_and(had) && meant.is_none_or(had);
            if was_in && !reader.disk.logs.has(id) {
                let withheld = reader.disk.logs.log(&event.event.log);
                let withheld = withheld.is_some_and(|log| log.entries.contains_key(&event.event.seq));
                let how = if withheld { "as a place alone" } else { "not at all" };
                return Err(format!("{id:?} reached {} {how}", reader.member));
            }
        }
    }
    Ok(())
}

/// Whether a copy of a lost disk wrote an event at or after a number that the lost disk had used for another
/// one: whoever told the copy that it is the newest could not know, and who has the other takes neither it nor
/// what follows.
fn is_forked<E: Hostile>(view: &Seen<'_, E>, author: &Standing<'_, Member<E>>, id: &EventId) -> bool {
    let Some(event) = author.disk.logs.event(id).map(|signed| &signed.event) else { return false };
    let Some(own) = author.disk.logs.log(&event.log) else { return false };
    let other = |disk: &Disk| {
        let theirs = disk.logs.log(&event.log).into_iter().flat_map(|log| log.entries.range(..=event.seq));
        theirs.into_iter().any(|(seq, entry)| own.entries.get(seq).is_some_and(|own| own.id != entry.id))
    };
    view.ledger.restored.contains(&author.member) && view.members().any(|it| other(it.disk))
}

/// Whether nobody in the group has an event, and its author is out: those who had confirmed it are out as well,
/// or their disks were set back.
fn is_out_of_reach<E: Hostile>(view: &Seen<'_, E>, author: &Standing<'_, Member<E>>, id: &EventId) -> bool {
    let out = author.disk.membership != Membership::Inside;
    out && inside(view).all(|it| !it.disk.logs.has(id))
}

/// The last state that a state's way and the head's have in common.
fn canonical(disk: &Disk, sid: &StateId) -> Option<StateId> {
    let head = end(disk.head)?;
    disk.way_to(sid).find(|sid| disk.dag.is_below(&head, sid))
}

/// I3: every event is by who signed it, and says so.
pub(super) fn i03_authorship<E: Hostile>(view: &Seen<'_, E>) -> Result<(), String> {
    for reader in view.members() {
        for event in reader.disk.logs.events() {
            let genuine = SignedEvent::decode(event.encoded()).is_ok_and(|decoded| decoded == *event);
            let says = match &event.event.body {
                Body::Text { text, .. } => {
                    let place = text.split('/').next().and_then(|place| place.parse::<usize>().ok());
                    place.and_then(|place| view.setup.people.get(place)).map(|it| it.device)
                }
                _ => Some(event.event.author),
            };
            if !genuine || says != Some(event.event.author) {
                return Err(format!("{} holds {:?} by someone else", reader.member, event.id));
            }
        }
    }
    Ok(())
}

/// I5: all members have one head and one roster, which is they, and open each other's messages.
pub(super) fn i05_together_again<E: Hostile>(view: &Seen<'_, E>) -> Result<(), String> {
    let members: Vec<_> = inside(view).collect();
    let Some(first) = members.first() else { return Err("nobody is left".into()) };
    let head = first.disk.at();
    for member in &members {
        if member.disk.at().is_none() || member.disk.at() != head {
            let (one, other) = (first.disk.head, member.disk.head);
            return Err(format!("{} is at {one:?}, {} at {other:?}", first.member, member.member));
        }
    }
    let roster: BTreeSet<DeviceId> = first
        .disk
        .standing()
        .map(|standing| standing.roster.iter().map(|member| member.certificate.device).collect())
        .unwrap_or_default();
    let mut present: BTreeSet<DeviceId> = members.iter().map(|member| member.disk.device).collect();
    present.extend(forgotten(view).chain(hostile(view)).filter(|device| roster.contains(device)));
    if roster != present {
        let lacking: Vec<_> = roster.symmetric_difference(&present).collect();
        let names = lacking.iter().filter_map(|it| view.setup.places.get(it)).collect::<Vec<_>>();
        return Err(format!("the roster and those who are there differ by {names:?}"));
    }
    let load = |disk: &Disk| {
        let rows = disk.states.get(&disk.at()?)?.rows.clone()?;
        E::load(GID, Rows::from_rows(rows)).ok()
    };
    let mut states: Vec<E> = members.iter().filter_map(|member| load(member.disk)).collect();
    if states.len() != members.len() {
        return Err("a head does not load".into());
    }
    let checks: BTreeSet<_> = states.iter().map(|state| state.facts().check).collect();
    if checks.len() != 1 {
        return Err("equal heads export different secrets".into());
    }
    for (sender, member) in members.iter().enumerate() {
        let Some(person) = view.setup.person(member.member.0) else { continue };
        let sealed = states.get_mut(sender).map(|state| state.seal_application(&person.identity, b"hello"));
        let frame = sealed.and_then(Result::ok).and_then(|sealed| Frame::decode(&sealed.bytes).ok());
        let Some(frame) = frame else { return Err(format!("{} cannot seal", member.member)) };
        for (receiver, state) in states.iter_mut().enumerate().filter(|(receiver, _)| *receiver != sender) {
            let opened =
                state.open_frame(&frame).ok().and_then(|opened| state.open_application(&opened).ok());
            if opened.is_none_or(|opened| opened.plaintext != b"hello") {
                let reader = members.get(receiver).map(|it| it.member);
                return Err(format!("{reader:?} cannot read {}", member.member));
            }
        }
    }
    Ok(())
}

/// Devices whose disks were set back to before they came, or came again after they had left: they know of no
/// group to come back to, or wanted out of it. That is so where the group's leaf of theirs is in no state that
/// their disks know.
fn forgotten<E: Hostile>(view: &Seen<'_, E>) -> impl Iterator<Item = DeviceId> {
    let restored = view.members().filter(|it| view.ledger.restored.contains(&it.member));
    let head = inside(view).find_map(|it| it.disk.standing().cloned());
    let forgot = move |it: &Standing<'_, Member<E>>| {
        let device = &it.disk.device;
        let leaf = head.as_ref().and_then(|head| head.member(device)).map(|member| member.encryption_key);
        let mut leaves = it.disk.states.values().filter_map(|row| row.standing.member(device));
        it.disk.membership != Membership::Inside
            && leaf.is_none_or(|leaf| leaves.all(|member| member.encryption_key != leaf))
    };
    restored.filter(forgot).map(|it| it.disk.device)
}

/// Devices that broke the protocol: what they know, and whether they think to be inside, is their affair.
fn hostile<E: Hostile>(view: &Seen<'_, E>) -> impl Iterator<Item = DeviceId> {
    view.members().filter(|it| !it.honest).map(|it| it.disk.device)
}

/// I6: the head does not depend on the order in which things came to be known.
pub(super) fn i06_order_does_not_matter<E: Hostile>(view: &Seen<'_, E>) -> Result<(), String> {
    let mut draw = Draw::new(view.now_ms, Stream::Scenario(6));
    for member in inside(view) {
        let disk = member.disk;
        let mut nodes: Vec<_> = disk.dag.nodes().cloned().collect();
        draw.shuffle(&mut nodes);
        let mut supports: Vec<_> = disk.dag.supports().all().copied().collect();
        draw.shuffle(&mut supports);
        let mut again = Dag::new(GID, disk.device);
        again.forsake(disk.dag.forsaken());
        for support in supports {
            again.support(support);
        }
        for node in nodes {
            let parent = disk.dag.parent(&node.sid).map(|parent| parent.sid);
            if let Some(nth) = disk.states.get(&node.sid).and_then(|row| row.entry) {
                again.enter(node.clone(), nth);
            }
            again.insert(Node { parent: node.parent.or(parent), ..node });
        }
        for proof in disk.dag.supports().equivocations() {
            again.convict(*proof);
        }
        if again.head() != disk.dag.head() {
            return Err(format!("{} would be at {:?} in another order", member.member, again.head()));
        }
    }
    Ok(())
}

/// I6 and I7: a member that is told the same in another order, or that starts anew before every message, comes
/// to the same.
fn told_otherwise<E: Hostile>(view: &Seen<'_, E>, how: Manner) -> Result<(), String> {
    let mut members: Vec<_> = inside(view).filter(|it| can_be_retold(view, it)).collect();
    let mut draw = Draw::new(view.now_ms, Stream::Scenario(7));
    draw.shuffle(&mut members);
    let Some(member) = members.first() else { return Ok(()) };
    let twin = retell(view.setup, view.ledger, member, how, &mut draw);
    let acks = twin.logs.acks();
    for (id, log) in member.disk.logs.all() {
        // What was only heard while its state's secrets were here can be more, never less.
        if acks.get(id).copied().unwrap_or(0) < log.contiguous {
            return Err(format!("{} would lack events of {id:?}: {how:?}", member.member));
        }
    }
    let followed_all = !member.disk.commits.values().any(Option::is_none);
    let heard_nothing = member.disk.dag.nodes().all(|node| node.held.is_checked());
    if (followed_all && heard_nothing || twin.known == member.disk.known)
        && end(twin.head) != end(member.disk.head)
    {
        return Err(format!("{} would be at {:?}: {how:?}", member.member, twin.head));
    }
    Ok(())
}

/// Only those who were there from the beginning and never came in anew: what a Welcome brings is no message.
fn can_be_retold<E: Hostile>(view: &Seen<'_, E>, it: &Standing<'_, Member<E>>) -> bool {
    it.disk.entries == 1
        && !view.ledger.restored.contains(&it.member)
        && view.setup.disk(it.member.0).entries == 1
        && view.ledger.sent_to(it.member).len() <= MOST_RETOLD
}

/// I6: nor does anything else, whether it comes at once or with restarts in between.
pub(super) fn i06_any_order<E: Hostile>(view: &Seen<'_, E>) -> Result<(), String> {
    told_otherwise(view, Manner::Shuffled)
}

/// I7: who is started anew before every message comes to the same.
pub(super) fn i07_restarted_each_time<E: Hostile>(view: &Seen<'_, E>) -> Result<(), String> {
    told_otherwise(view, Manner::Restarting)
}

/// I9: no request is acted on twice on one path, and what was pruned has no secrets.
pub(super) fn i09_no_resurrection<E: Hostile>(view: &Seen<'_, E>) -> Result<(), String> {
    for member in inside(view) {
        let disk = member.disk;
        let Some(stand) = disk.stand() else { continue };
        let mut seen = BTreeSet::new();
        for row in disk.way_to(&stand).filter_map(|sid| disk.states.get(&sid)) {
            if let Some(twice) = row.included.iter().find(|request| !seen.insert(**request)) {
                return Err(format!("{twice:?} was acted on twice before {}'s head", member.member));
            }
        }
        let back = |sid: &&StateId| disk.states.get(*sid).is_some_and(|row| row.rows.is_some());
        if let Some(back) = disk.pruned.iter().find(back) {
            return Err(format!("{} has secrets of {back:?} again", member.member));
        }
    }
    Ok(())
}

/// I10: every request ends, settled, stale or rejected for a reason.
pub(super) fn i10_requests_end<E: Hostile>(view: &Seen<'_, E>) -> Result<(), String> {
    for member in inside(view) {
        let disk = member.disk;
        let (Some(head), Some(standing)) = (disk.at(), disk.standing()) else { continue };
        let included = disk.included_before(&head);
        for request in disk.requests() {
            let candidate: Candidate = candidate_on::<E>(disk, request);
            let path = Path {
                included: included.get(&request.id).copied(),
                has_seen: disk.has_seen(&head, request),
            };
            if status(&candidate, standing, path) == Status::Open {
                return Err(format!("{} still has {} open", member.member, what(request)));
            }
        }
    }
    Ok(())
}

fn what(request: &SignedEvent) -> &'static str {
    match &request.event.body {
        Body::ChangeRequest { kind, .. } => match kind {
            ChangeKind::Remove => "a removal",
            ChangeKind::Leave => "a leave",
            ChangeKind::Role { .. } => "a change of role",
            ChangeKind::Rejoin { .. } => "a rejoin",
            ChangeKind::Add { .. } => "an addition",
        },
        _ => "no request",
    }
}

/// I11: secrets are kept no longer than the window says.
pub(super) fn i11_window<E: Hostile>(view: &Seen<'_, E>) -> Result<(), String> {
    for member in inside(view) {
        let Some(process) = member.process else { continue };
        let (disk, now_ms) = (member.disk, process.wall_ms.cast_signed());
        let Some(stand) = disk.stand() else { continue };
        let live = disk.states.iter().filter(|(_, row)| row.rows.is_some());
        let held = live.map(|(sid, row)| (*sid, row.past_since_ms().cast_signed()));
        let max_age = Duration::from_millis(view.setup.config.window_ms);
        let leaving = window::leaving(&disk.dag, &stand, held, now_ms, max_age);
        if let Some(late) = leaving.first() {
            return Err(format!("{} should have pruned {late:?}", member.member));
        }
        if let Some(early) = disk.pruned_early.first() {
            return Err(format!("{} pruned {early:?} too early", member.member));
        }
    }
    Ok(())
}

/// I19: nothing is left to be sent.
pub(super) fn i19_outbox_empties<E: Hostile>(view: &Seen<'_, E>) -> Result<(), String> {
    let waits_in_vain = |disk: &Disk| {
        let standing = disk.standing();
        let mut silent = forgotten(view).chain(hostile(view));
        standing.is_some_and(|standing| silent.any(|device| standing.member(&device).is_some()))
    };
    let mut waiting =
        inside(view).filter(|it| it.disk.outbox.keys().any(|event| !is_forked(view, it, event)));
    match waiting.find(|member| !waits_in_vain(member.disk)) {
        Some(member) => {
            let count = member.disk.outbox.len();
            Err(format!("{} still has {count} events that others lack", member.member))
        }
        None => Ok(()),
    }
}

/// I21: which states lost their secrets says nothing about where the group is.
pub(super) fn i21_window_independent<E: Hostile>(view: &Seen<'_, E>) -> Result<(), String> {
    for member in inside(view) {
        let mut dag = member.disk.dag.clone();
        let all: Vec<_> = dag.nodes().map(|node| node.sid).collect();
        all.iter().for_each(|sid| dag.prune(sid));
        if end(dag.head()) != end(member.disk.head) {
            return Err(format!("{} would be elsewhere with a shorter window", member.member));
        }
    }
    Ok(())
}
