//! What people see, compared: history, roster, epoch, exporter secret and state must be equal.
//!
//! Equal is not enough: a story always says how many messages there must be.

use std::collections::BTreeSet;

use spacepanda_proto::api::v1::GroupHealth;
use tonic::Status;

use super::{
    client::Person,
    wait::{wait_until, when},
};

/// A space and its first channel.
#[derive(Clone)]
pub(crate) struct Place {
    /// The space's id.
    pub(crate) space: String,
    /// The id of its channel `general`.
    pub(crate) channel: String,
}

/// A space as one person's server holds it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct World {
    /// Name of the space.
    pub(crate) name: String,
    /// MLS epoch.
    pub(crate) epoch: u64,
    /// Which state of which branch.
    pub(crate) state_id: String,
    /// The exporter secret's check value.
    pub(crate) check: String,
    /// How the group is doing.
    pub(crate) health: GroupHealth,
    /// (account, display name, role) of every member.
    pub(crate) roster: BTreeSet<(String, String, i32)>,
    /// (channel name, message id, sender, text), channel by channel in the order shown.
    pub(crate) history: Vec<(String, String, String, String)>,
}

impl World {
    /// All texts, in order.
    pub(crate) fn texts(&self) -> Vec<&str> {
        self.history.iter().map(|(_, _, _, text)| text.as_str()).collect()
    }
}

/// The owner creates a space, invites the others by link, and everyone sees the same.
pub(crate) async fn meet(owner: &Person, others: &[&Person]) -> Place {
    let space = owner.create_space("The garden").await.space_id;
    for other in others {
        other.join(&owner.invite(&space).await).await;
    }
    let everyone: Vec<_> = [owner].into_iter().chain(others.iter().copied()).collect();
    let world = same_world(&everyone, &space, 0).await;
    assert_eq!(world.roster.len(), everyone.len(), "{:?}", world.roster);
    Place { channel: owner.general(&space).await, space }
}

/// A space as this person sees it now.
///
/// # Errors
/// What the server answered.
pub(crate) async fn look(person: &Person, space_id: &str) -> Result<World, Status> {
    let space = person.space(space_id).await?;
    let group = space.group.unwrap_or_default();
    let members = person.members(space_id).await?;
    let mut channels = person.channels(space_id).await?;
    channels.sort_by(|a, b| a.name.cmp(&b.name));
    let mut history = Vec::new();
    for channel in channels {
        let messages = person.history(&channel.channel_id).await?;
        history.extend(
            messages
                .into_iter()
                .map(|message| (channel.name.clone(), message.message_id, message.sender_id, message.text)),
        );
    }
    Ok(World {
        name: space.name,
        epoch: group.epoch,
        health: group.health(),
        state_id: group.state_id,
        check: group.check,
        roster: members.into_iter().map(|m| (m.account_id, m.display_name, m.role)).collect(),
        history,
    })
}

/// Waits until all of them see the same healthy world with this many messages, each once.
pub(crate) async fn same_world(people: &[&Person], space_id: &str, messages: usize) -> World {
    let names: Vec<_> = people.iter().map(|person| person.name()).collect();
    let what = format!("{names:?} to see the same world with {messages} messages");
    let world = wait_until(&what, async || {
        let mut worlds = Vec::new();
        for person in people {
            let world = look(person, space_id).await;
            worlds.push(world.map_err(|status| format!("{}: {status}", person.name()))?);
        }
        let first = worlds.first().ok_or("nobody")?;
        for (world, person) in worlds.iter().zip(people) {
            when(world.health == GroupHealth::Ok, format!("{}: {:?}", person.name(), world.health))?;
            when(world == first, difference(people[0].name(), first, person.name(), world))?;
        }
        when(first.history.len() == messages, format!("{} messages everywhere", first.history.len()))?;
        Ok(first.clone())
    })
    .await;
    assert!(!world.check.is_empty() && !world.state_id.is_empty(), "a group has a state: {world:?}");
    let ids: BTreeSet<_> = world.history.iter().map(|(_, id, _, _)| id).collect();
    assert_eq!(ids.len(), messages, "a message is there twice");
    world
}

/// Where two worlds differ, for people.
fn difference(a: &str, of_a: &World, b: &str, of_b: &World) -> String {
    let group =
        |world: &World| (world.epoch, world.check.clone(), world.state_id.clone(), world.name.clone());
    let only = |these: &World, those: &World| -> Vec<_> {
        these.history.iter().filter(|row| !those.history.contains(row)).map(|row| row.3.clone()).collect()
    };
    let place = of_a.history.iter().zip(&of_b.history).position(|(x, y)| x != y);
    format!(
        "group: {a} {:?} / {b} {:?}\nroster: {a} {} / {b} {} members, equal: {}\n\
         history: {a} {} / {b} {} messages, first difference at {place:?}\n\
         only {a}: {:?}\nonly {b}: {:?}",
        group(of_a),
        group(of_b),
        of_a.roster.len(),
        of_b.roster.len(),
        of_a.roster == of_b.roster,
        of_a.history.len(),
        of_b.history.len(),
        only(of_a, of_b),
        only(of_b, of_a),
    )
}
