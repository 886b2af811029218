//! A few devices with a group, what they do in it, and what they see when all is quiet.

use std::{fmt::Debug, pin::pin, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use super::house::House;
use crate::{
    id::{ChannelId, GroupId},
    model::{
        DeliveryState, GroupHealth, GroupStatus, InviteTerms, Join, Page, Role, SendTiming, SpaceChanges,
    },
    session::Session,
};

/// Far longer than anything takes, on a machine that has much other work as well.
const PATIENCE: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Messages that are looked at; older ones were seen by those who looked before.
const PAGE: usize = 40;

/// What every member sees, in words that are the same in every run of a story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct World {
    pub(super) epoch: u64,
    roster: Vec<(String, Role)>,
    /// The latest of it, in order.
    history: Vec<String>,
}

/// The first so many houses are members; the others come and go.
pub(super) struct Group {
    pub(super) houses: Vec<House>,
    pub(super) space: GroupId,
    pub(super) channel: ChannelId,
    /// So many were there from the beginning, and hear everything.
    founders: usize,
    said: Vec<String>,
}

impl Group {
    pub(super) async fn of(names: &[&'static str], founders: usize, timing: SendTiming) -> Self {
        let mut houses = Vec::new();
        for name in names {
            houses.push(House::new(name).await);
        }
        let space = houses[0].session.create_space(None, "space", "", timing).await.unwrap().id;
        let channel = houses[0].session.channels(space).await.unwrap()[0].id;
        let mut group = Self { houses, space, channel, founders, said: Vec::new() };
        for joiner in 1..founders {
            group.joins(joiner).await;
        }
        group.agree(&(0..founders).collect::<Vec<_>>()).await;
        for house in &group.houses {
            let changes = SpaceChanges { send_timing: Some(timing), ..SpaceChanges::default() };
            let _ = house.session.update_space(None, space, changes).await;
        }
        group
    }

    pub(super) fn deaths(&self) -> usize {
        self.houses.iter().map(|house| house.deaths).sum()
    }

    /// Asks, under one request id, until there is an answer; whoever dies meanwhile is started again.
    async fn insists<T, E: Debug>(
        &mut self,
        who: usize,
        ask: impl AsyncFn(Arc<Session>) -> Result<T, E>,
    ) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = {
                let mut asked = pin!(ask(Arc::clone(&self.houses[who].session)));
                loop {
                    tokio::select! {
                        answer = timeout_at(end, &mut asked) => break Some(answer.expect("an answer in time")),
                        () = someone_dies(&self.houses) => {}
                    }
                    if self.houses[who].is_dead() {
                        break None;
                    }
                    self.revive().await;
                }
            };
            match answer {
                Some(Ok(answer)) => return answer,
                // Its vault may have stopped a moment before it is known to.
                Some(Err(error)) => assert!(Instant::now() < end, "{}: {error:?}", self.houses[who].name),
                None => {}
            }
            self.revive().await;
            sleep(LOOK_EVERY).await;
        }
    }

    pub(super) async fn revive(&mut self) {
        for house in &mut self.houses {
            house.revive().await;
        }
    }

    pub(super) async fn says(&mut self, who: usize) {
        let text = format!("{} says {}", self.houses[who].name, self.said.len());
        let (request, channel) = (Some(Uuid::new_v4()), self.channel);
        self.insists(who, async |session| {
            session.send_message(request, channel, &text, None).await.map(drop)
        })
        .await;
        self.said.push(text);
    }

    /// The first lets someone in.
    pub(super) async fn joins(&mut self, who: usize) {
        let (invite, join) = (Some(Uuid::new_v4()), Some(Uuid::new_v4()));
        let terms = InviteTerms { max_uses: 1, expires_in: PATIENCE * 10, role: Role::Member };
        let space = self.space;
        let invite = self.insists(0, async |session| session.create_invite(invite, space, terms).await).await;
        self.insists(who, async |session| {
            let joined = session.join_space(join, &invite.link).await;
            joined.map(|joined| matches!(joined, Join::Joined(_) | Join::Pending(_)))
        })
        .await;
    }

    pub(super) async fn removes(&mut self, who: usize, whom: usize) {
        let (request, space) = (Some(Uuid::new_v4()), self.space);
        let account = self.houses[whom].session.account();
        self.insists(who, async |session| session.remove_member(request, space, account).await).await;
    }

    pub(super) async fn makes(&mut self, who: usize, whom: usize, role: Role) {
        let (request, space) = (Some(Uuid::new_v4()), self.space);
        let account = self.houses[whom].session.account();
        self.insists(who, async |session| {
            session.set_member_role(request, space, account, role).await.map(drop)
        })
        .await;
    }

    /// Waits until these are in one healthy group with nobody behind, and those of the others who run in none; with
    /// all that was said, in its order, and delivered. Whoever dies is started again.
    pub(super) async fn agree(&mut self, members: &[usize]) -> World {
        let (end, mut last) = (Instant::now() + PATIENCE, String::new());
        loop {
            self.revive().await;
            let seen = tokio::select! {
                seen = timeout_at(end, self.look(members)) => seen,
                () = someone_dies(&self.houses) => continue,
            };
            match seen {
                Ok(Ok(world)) => return world,
                Ok(Err(seen)) => last = seen,
                Err(_) => panic!("not in time: {last}"),
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until someone, whoever else is there, has all that was said.
    pub(super) async fn hears(&self, who: usize) {
        let end = Instant::now() + PATIENCE;
        loop {
            let page =
                self.houses[who].session.messages(self.channel, Page::Latest, PAGE as u32).await.unwrap();
            let texts: Vec<_> = page.messages.into_iter().map(|message| message.text).collect();
            if texts == self.said {
                return;
            }
            assert!(Instant::now() < end, "{texts:?}, not {:?}", self.said);
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until someone has the secrets of so many states at most.
    pub(super) async fn forgets(&self, who: usize, most: u32) {
        let end = Instant::now() + PATIENCE;
        loop {
            let group = self.houses[who].session.space(self.space).await.unwrap().group;
            if group.retained_epochs <= most {
                return;
            }
            assert!(Instant::now() < end, "old secrets are still there: {group:?}");
            sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&self, members: &[usize]) -> Result<World, String> {
        let mut first: Option<(GroupStatus, World)> = None;
        for (number, house) in self.houses.iter().enumerate() {
            let offences = house.offences();
            assert!(offences.is_empty(), "{} was offended: {offences:?}", house.name);
            if house.session.stop.is_cancelled() {
                continue;
            }
            let group = match house.session.space(self.space).await {
                Ok(space) if members.contains(&number) => space.group,
                Err(_) if !members.contains(&number) => continue,
                other => return Err(format!("{}: {other:?}", house.name)),
            };
            let world = self.world_of(number, &group).await?;
            let well = group.health == GroupHealth::Ok && group.waiting_changes == 0 && !group.repairing;
            // Those who are away are behind.
            let away = u32::try_from(world.roster.len().saturating_sub(members.len())).unwrap();
            if !well || group.members_behind != away {
                return Err(format!("{}: {group:?}", house.name));
            }
            let (same, seen) = first.get_or_insert_with(|| (group.clone(), world.clone()));
            let here = (group.state_id, group.check) == (same.state_id, same.check);
            // Who came later has only what was said while it was there.
            let heard = number >= self.founders || world.history == seen.history;
            if !here || !heard || (world.epoch, &world.roster) != (seen.epoch, &seen.roster) {
                return Err(format!("{}: {group:?}, {world:?}, not {same:?}, {seen:?}", house.name));
            }
        }
        first.map(|(_, world)| world).ok_or_else(|| "nobody".into())
    }

    async fn world_of(&self, number: usize, group: &GroupStatus) -> Result<World, String> {
        let house = &self.houses[number];
        let said = |error: &dyn Debug| format!("{}: {error:?}", house.name);
        let members = house.session.members(self.space).await.map_err(|error| said(&error))?;
        let mut roster: Vec<_> =
            members.into_iter().map(|member| (member.display_name, member.role)).collect();
        roster.sort_by(|one, other| one.0.cmp(&other.0));
        let page = house.session.messages(self.channel, Page::Latest, PAGE as u32).await;
        let messages = page.map_err(|error| said(&error))?.messages;
        let on_their_way = messages.iter().filter_map(|message| message.delivery.as_ref());
        let on_their_way = on_their_way.filter(|delivery| delivery.state != DeliveryState::Delivered).count();
        let history: Vec<_> = messages.into_iter().map(|message| message.text).collect();
        let expected = &self.said[self.said.len().saturating_sub(PAGE)..];
        if number < self.founders && (history != expected || on_their_way > 0) {
            return Err(format!("{} has {history:?}, not {expected:?}; {on_their_way} leave", house.name));
        }
        Ok(World { epoch: group.epoch, roster, history })
    }
}

async fn someone_dies(houses: &[House]) {
    while !houses.iter().any(House::is_dead) {
        sleep(LOOK_EVERY).await;
    }
}
