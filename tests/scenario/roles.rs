//! Roles are given from any authorised member's server, and mean the same everywhere.

use futures::future::join_all;
use spacepanda_proto::api::v1::{CreateChannelRequest, CreateInviteRequest, MemberChange, Role, event::Kind};
use tonic::Code;

use crate::harness::{
    Cluster, Person, Place,
    client::request_id,
    meet,
    refusal::reason,
    refused, same_world,
    wait::{DEADLINE, when, within},
    wait_until,
    world::look,
};

const NOT_PERMITTED: (Code, &str) = (Code::PermissionDenied, "NOT_PERMITTED");

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_governs_from_a_server_of_its_own() {
    let (_cluster, [alice, bob, carol, dave]) = Cluster::of(["alice", "bob", "carol", "dave"]).await;
    let place = meet(&alice, &[&bob, &carol]).await;
    let space = place.space.as_str();
    refused(bob.try_set_role(space, &carol, Role::Moderator).await, NOT_PERMITTED.0, NOT_PERMITTED.1);

    let mut seen_by_carol = carol.events(None).await;
    alice.set_role(space, &bob, Role::Admin).await;
    let change = seen_by_carol.next_matching("bob's new role", |kind| match kind {
        Kind::MemberChanged(changed) if changed.change() == MemberChange::Updated => {
            let member = changed.member.clone()?;
            Some((member.account_id.clone(), member.role()))
        }
        _ => None,
    });
    assert_eq!(change.await, (bob.account().into(), Role::Admin));
    has_role(&[&alice, &bob, &carol], space, &bob, Role::Admin).await;

    bob.set_role(space, &carol, Role::Moderator).await;
    for (target, role) in [(&bob, Role::Owner), (&alice, Role::Member), (&carol, Role::Owner)] {
        refused(bob.try_set_role(space, target, role).await, NOT_PERMITTED.0, NOT_PERMITTED.1);
    }
    refused(carol.try_set_role(space, &carol, Role::Admin).await, NOT_PERMITTED.0, NOT_PERMITTED.1);
    let channel = CreateChannelRequest { space_id: space.into(), name: "bobs".into(), ..Default::default() };
    bob.spaces().create_channel(channel).await.expect("an admin makes channels");
    dave.join(&link_as(&bob, space, Role::Admin).await).await;
    has_role(&[&alice, &bob, &carol, &dave], space, &dave, Role::Admin).await;

    bob.server.kill_9();
    bob.server.restart().await;
    assert_eq!(bob.space(space).await.expect("the space").my_role(), Role::Admin);
    dave.set_role(space, &bob, Role::Member).await;
    has_role(&[&alice, &bob, &carol, &dave], space, &bob, Role::Member).await;
    // A moderator removes members, and nobody else.
    carol.remove(space, bob.account()).await;
    let world = same_world(&[&alice, &carol, &dave], space, 0).await;
    assert_eq!(world.roster.len(), 3, "{:?}", world.roster);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_space_is_handed_over_and_never_without_an_owner() {
    let (_cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let place = meet(&alice, &[&bob]).await;
    let space = place.space.as_str();
    let last = (Code::FailedPrecondition, "LAST_OWNER");
    refused(alice.try_set_role(space, &alice, Role::Member).await, last.0, last.1);

    alice.set_role(space, &bob, Role::Owner).await;
    has_role(&[&alice, &bob], space, &bob, Role::Owner).await;
    alice.set_role(space, &alice, Role::Member).await;
    has_role(&[&alice, &bob], space, &alice, Role::Member).await;
    refused(bob.try_set_role(space, &bob, Role::Member).await, last.0, last.1);
    assert_eq!(alice.space(space).await.expect("the space").owner_id, bob.account());
    alice.leave(space).await;
    wait_until("alice to be gone", async || {
        let members = bob.members(space).await.map_err(|status| status.to_string())?;
        when(members.len() == 1, format!("{members:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_rival_changes_of_one_role_one_is_made() {
    let (_cluster, [alice, bob, carol]) = Cluster::of(["alice", "bob", "carol"]).await;
    let place = meet(&alice, &[&bob, &carol]).await;
    let space = place.space.as_str();
    alice.set_role(space, &bob, Role::Admin).await;
    has_role(&[&alice, &bob, &carol], space, &bob, Role::Admin).await;

    let (one, other) = tokio::join!(
        alice.try_set_role(space, &carol, Role::Moderator),
        bob.try_set_role(space, &carol, Role::Admin),
    );
    let answers = [one.expect("answered").role(), other.expect("answered").role()];
    let world = same_world(&[&alice, &bob, &carol], space, 0).await;
    let role = world.roster.iter().find(|(account, ..)| account == carol.account()).map(|row| row.2);
    let role = role.and_then(|role| Role::try_from(role).ok()).expect("carol is there");
    assert!([Role::Moderator, Role::Admin].contains(&role), "one of the two: {role:?}");
    assert!(answers.contains(&role), "whoever was told of it was told the truth: {answers:?}, {role:?}");
    // It still counts: the next change acts on what is so now.
    alice.set_role(space, &carol, Role::Member).await;
    has_role(&[&alice, &bob, &carol], space, &carol, Role::Member).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_admins_who_remove_each_other_all_see_the_same_go() {
    let (_cluster, people) = Cluster::of(["alice", "bob", "carol", "dave"]).await;
    let place = two_admins(&people).await;
    let [alice, bob, carol, dave] = &people;
    let answers = tokio::join!(
        bob.try_remove(&place.space, carol.account()),
        carol.try_remove(&place.space, bob.account()),
    );
    // Who is out before the answer is told that there is no such space.
    let asked = [answers.0, answers.1].into_iter().filter(|answer| match answer {
        Ok(()) => true,
        Err(status) => {
            assert_eq!(reason(status), "SPACE_NOT_FOUND", "{status:?}");
            false
        }
    });
    assert!(asked.count() > 0, "one of them at least is answered");
    let rest = one_outcome(&place, [alice, dave], [bob, carol], 0).await;
    assert!(rest < 2, "at least one of them went");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_admins_who_remove_each_other_apart_one_stays_when_the_sides_meet() {
    let (cluster, people) = Cluster::of(["alice", "bob", "carol", "dave"]).await;
    let place = two_admins(&people).await;
    let [alice, bob, carol, dave] = &people;
    for a in [alice, bob] {
        for b in [carol, dave] {
            cluster.cut(a, b).await;
        }
    }
    tokio::join!(bob.remove(&place.space, carol.account()), carol.remove(&place.space, bob.account()));
    without(alice, &place, carol).await;
    without(dave, &place, bob).await;
    alice.send(&place.channel, "from one side").await;
    dave.send(&place.channel, "from the other").await;

    for a in [alice, bob] {
        for b in [carol, dave] {
            cluster.heal(a, b);
        }
    }
    let rest = one_outcome(&place, [alice, dave], [bob, carol], 2).await;
    assert_eq!(rest, 1, "the request of who is out counts no more");
}

/// Alice's space with bob and carol as admins and dave.
async fn two_admins(people: &[Person; 4]) -> Place {
    let [alice, bob, carol, dave] = people;
    let place = meet(alice, &[bob, carol, dave]).await;
    alice.set_role(&place.space, bob, Role::Admin).await;
    alice.set_role(&place.space, carol, Role::Admin).await;
    has_role(&[alice, bob, carol, dave], &place.space, bob, Role::Admin).await;
    has_role(&[alice, bob, carol, dave], &place.space, carol, Role::Admin).await;
    place
}

/// Waits until all who are in the group see one group, and those who are not know it; answers how many of
/// the two admins are left.
async fn one_outcome(
    place: &Place,
    bystanders: [&Person; 2],
    admins: [&Person; 2],
    messages: usize,
) -> usize {
    let settled = async || {
        let world = look(bystanders[0], &place.space).await.map_err(|status| status.to_string())?;
        let stays = |admin: &&Person| world.roster.iter().any(|(account, ..)| account == admin.account());
        let (rest, out): (Vec<_>, Vec<_>) = admins.into_iter().partition(stays);
        when(!out.is_empty(), format!("both are there: {:?}", world.roster))?;
        for admin in &out {
            let space = admin.space(&place.space).await;
            when(space.is_err(), format!("{} believes to be in: {space:?}", admin.name()))?;
        }
        let others = join_all(rest.iter().chain(&bystanders).map(|person| look(person, &place.space))).await;
        for other in others {
            let other = other.map_err(|status| status.to_string())?;
            when(other == world, format!("{other:?} / {world:?}"))?;
        }
        when(world.history.len() == messages, format!("{} messages", world.history.len()))?;
        Ok(rest)
    };
    // A Tip that was lost on the way is followed by another one 40 s later at most.
    let rest = within(2 * DEADLINE, "one outcome everywhere", settled).await;
    let all: Vec<_> = rest.iter().copied().chain(bystanders).collect();
    // And they go on together.
    for person in &all {
        person.send(&place.channel, "we are here").await;
    }
    same_world(&all, &place.space, messages + all.len()).await;
    rest.len()
}

async fn without(person: &Person, place: &Place, removed: &Person) {
    wait_until(&format!("{} to see {} gone", person.name(), removed.name()), async || {
        let members = person.members(&place.space).await.map_err(|status| status.to_string())?;
        when(members.iter().all(|member| member.account_id != removed.account()), format!("{members:?}"))
    })
    .await;
}

/// Waits until everyone sees this role.
async fn has_role(people: &[&Person], space: &str, member: &Person, role: Role) {
    for person in people {
        wait_until(&format!("{} to see {}'s role", person.name(), member.name()), async || {
            let members = person.members(space).await.map_err(|status| status.to_string())?;
            let seen = members.iter().find(|seen| seen.account_id == member.account());
            when(seen.is_some_and(|seen| seen.role() == role), format!("{seen:?}"))
        })
        .await;
    }
}

async fn link_as(person: &Person, space: &str, role: Role) -> String {
    let request = CreateInviteRequest {
        space_id: space.into(),
        role: role.into(),
        request_id: request_id(),
        ..Default::default()
    };
    person.spaces().create_invite(request).await.expect("invite").into_inner().link
}
