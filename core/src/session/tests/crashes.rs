//! The crash matrix over the real store and the real MLS: whichever step (docs/architecture.md, T1 to T6) a device
//! dies before or after, the group is in the end as in a run of the same story in which nobody died.
//!
//! Sessions run whole, with routers on loopback, in one process. What is simulated is the death: the vault's
//! writer stops at the step and never answers, the session is dropped and the vault opened again. How SQLite
//! recovers from a torn log is left to the stories that kill processes.
//!
//! `CRASH_SEEDS` deaths beside each step on each side; few unless told otherwise.

mod group;
mod house;

use std::time::Duration;

use futures::future::{join, join_all};

use self::{
    group::{Group, World},
    house::Death,
};
use crate::{
    model::{Role, SendTiming},
    store::{
        At,
        frame::{self, FrameStatus, NewFrame},
        frame_set, health, mls,
    },
};

const SEEDS: usize = 2;
/// Deaths that one group goes through; for more of them there are more groups, at the same time.
const EACH: usize = 17;
/// A story is told at most so often until the death has happened that it is about: what a peer brings in one frame
/// it may bring in two, and two texts may be sealed in one step.
const TRIES: usize = 32;
/// After it a state may be pruned, with a little more.
const OLD: Duration = Duration::from_secs(61);

const EVERYONE: [usize; 3] = [0, 1, 2];

/// What is going on when someone dies.
#[derive(Clone, Copy, PartialEq)]
enum Story {
    /// Three talk.
    Talk,
    /// A role changes, which any of three may commit.
    Roles,
    /// Someone is let in and removed again.
    Guest,
    /// Two and two change roles apart, and meet.
    Fork,
    /// A minute passes between two changes.
    Minute,
}

#[derive(Clone, Copy)]
struct Case {
    story: Story,
    /// The function that asks for the step.
    step: &'static str,
    /// Who dies, by the seed; everyone in a fork.
    victim: fn(usize) -> usize,
    timing: SendTiming,
}

impl Case {
    async fn group(self) -> Group {
        match self.story {
            Story::Talk | Story::Roles | Story::Minute => {
                Group::of(&["alice", "bob", "carol"], 3, self.timing).await
            }
            Story::Guest => Group::of(&["alice", "bob", "carol"], 2, self.timing).await,
            Story::Fork => {
                let mut group = Group::of(&["alice", "bob", "carol", "dave"], 4, self.timing).await;
                group.makes(0, 1, Role::Admin).await;
                group.agree(&[0, 1, 2, 3]).await;
                group
            }
        }
    }

    /// Tells the story once, with a death or without; what everyone saw whenever all was quiet.
    async fn play(self, group: &mut Group, round: usize, seed: usize, at: Option<At>) -> Vec<World> {
        let death = at.map(|at| Death { step: self.step, at, passing: self.passing(seed) });
        let role = [Role::Moderator, Role::Member][round % 2];
        let victim = (self.victim)(seed);
        let arm = |group: &Group| death.iter().for_each(|death| group.houses[victim].dies(*death));
        let mut worlds = Vec::new();
        match self.story {
            Story::Talk => {
                arm(group);
                group.says(seed % 3).await;
                group.says(seed % 3).await;
                worlds.push(group.agree(&EVERYONE).await);
            }
            Story::Roles => {
                arm(group);
                group.makes(0, 1, role).await;
                worlds.push(group.agree(&EVERYONE).await);
                group.says(seed % 3).await;
                worlds.push(group.agree(&EVERYONE).await);
            }
            Story::Guest => {
                arm(group);
                group.joins(2).await;
                worlds.push(group.agree(&EVERYONE).await);
                group.says(seed % 2).await;
                worlds.push(group.agree(&EVERYONE).await);
                group.removes(0, 2).await;
                worlds.push(group.agree(&[0, 1]).await);
            }
            Story::Fork => {
                let (one, other) = ([0, 2], [1, 3]);
                stop(group, other).await;
                group.makes(0, 2, role).await;
                group.agree(&one).await;
                stop(group, one).await;
                start(group, other).await;
                group.makes(1, 3, role).await;
                group.agree(&other).await;
                death.iter().for_each(|death| group.houses[1].dies(*death));
                death.iter().for_each(|death| group.houses[3].dies(*death));
                start(group, one).await;
                death.iter().for_each(|death| group.houses[0].dies(*death));
                death.iter().for_each(|death| group.houses[2].dies(*death));
                worlds.push(group.agree(&[0, 1, 2, 3]).await);
            }
            Story::Minute => {
                group.houses[victim].ages(group.space, OLD).await;
                arm(group);
                for role in [role, Role::Admin] {
                    group.makes(0, 1, role).await;
                    worlds.push(group.agree(&EVERYONE).await);
                }
                // The head, and the two that were left just now.
                group.forgets(victim, 3).await;
            }
        }
        group.houses.iter().for_each(|house| house.session.vault.live_on());
        worlds
    }

    fn passing(self, seed: usize) -> u32 {
        let second = self.story == Story::Talk && seed / 3 % 2 == 1;
        u32::from(second)
    }

    /// So many deaths beside this step, and a group of the same story without any.
    async fn deaths(self, seeds: usize, at: At) {
        let lanes = seeds.div_ceil(EACH);
        let groups = (0..lanes).map(async |first| {
            let (mut group, mut undisturbed) = Box::pin(join(self.group(), self.group())).await;
            let mut round = 0;
            for seed in (first..seeds).step_by(lanes) {
                let before = group.deaths();
                for _ in 0..TRIES {
                    let told = join(
                        self.play(&mut group, round, seed, Some(at)),
                        self.play(&mut undisturbed, round, seed, None),
                    );
                    let (seen, expected) = Box::pin(told).await;
                    assert_eq!(seen, expected, "{} {at:?}, seed {seed}", self.step);
                    round += 1;
                    if group.deaths() > before {
                        break;
                    }
                }
                assert!(group.deaths() > before, "{} {at:?}, seed {seed}: nobody died", self.step);
            }
        });
        join_all(groups).await;
    }
}

async fn stop(group: &Group, who: [usize; 2]) {
    join_all(who.map(|number| group.houses[number].stop())).await;
}

async fn start(group: &mut Group, who: [usize; 2]) {
    for number in who {
        group.houses[number].start().await;
    }
}

const fn talk(step: &'static str, victim: fn(usize) -> usize) -> Case {
    Case { story: Story::Talk, step, victim, timing: SendTiming::Fast }
}

const fn case(story: Story, step: &'static str, victim: fn(usize) -> usize) -> Case {
    Case { story, step, victim, timing: SendTiming::Fast }
}

fn author(seed: usize) -> usize {
    seed % 3
}

fn reader(seed: usize) -> usize {
    (seed + 1) % 3
}

fn host(seed: usize) -> usize {
    seed % 2
}

fn guest(_seed: usize) -> usize {
    2
}

const ACCEPT: [Case; 1] = [talk("::message::accept_sends::", author)];
/// In a space without jitter this is part of the step before.
const SEAL: [Case; 1] = [Case { timing: SendTiming::Balanced, ..talk("network::seal::", author) }];
const CONFIRM: [Case; 2] = [talk("::take_custody::", author), talk("::acknowledge::", author)];
const TAKE_IN: [Case; 1] = [talk("network::intake::", reader)];
const COMMIT: [Case; 2] =
    [case(Story::Roles, "::store_commit::", author), case(Story::Guest, "::store_commit::", host)];
const SWITCH: [Case; 3] = [
    case(Story::Fork, "::store_switch::", author),
    case(Story::Minute, "::prune::", author),
    case(Story::Guest, "::take_bundle::", guest),
];

async fn deaths(cases: &[Case], at: At) {
    let seeds = std::env::var("CRASH_SEEDS").ok().and_then(|text| text.parse().ok());
    let seeds: usize = seeds.map_or(SEEDS, |seeds: usize| seeds.div_ceil(cases.len()));
    join_all(cases.iter().map(|case| case.deaths(seeds, at))).await;
}

macro_rules! before_and_after {
    ($($(#[$attribute:meta])* $test:ident: $cases:expr;)*) => {$(
        mod $test {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            $(#[$attribute])*
            async fn before() {
                deaths(&$cases, At::Before).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            $(#[$attribute])*
            async fn after() {
                deaths(&$cases, At::After).await;
            }
        }
    )*};
}

before_and_after! {
    t1_accept: ACCEPT;
    t2_seal: SEAL;
    t3_confirm: CONFIRM;
    t4_take_in: TAKE_IN;
    t5_commit: COMMIT;
    t6_switch_prune_join: SWITCH;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_aside_before_a_death_is_opened_after_it() {
    let mut group = Group::of(&["alice", "bob", "carol"], 3, SendTiming::Fast).await;
    group.houses[1].stop().await;
    group.says(0).await;
    group.hears(2).await;

    // As if it had come before the commit that it waited for, and bob had died right after that.
    let (place, bytes) = {
        let mut reader = group.houses[0].session.vault.read().await.unwrap();
        let first = crate::reconcile::first_place(0);
        let places = frame_set::places(reader.conn(), group.space, first, 100).await.unwrap();
        let newest = *places.iter().rev().find(|place| !place.is_commit()).unwrap();
        let page = frame_set::page(reader.conn(), group.space, &[newest], usize::MAX).await.unwrap();
        (newest, page.0[0].clone())
    };
    let vault = group.houses[1].open().await;
    let alice = group.houses[0].session.network.keys.certificate().peer_id.clone();
    let parked: Result<bool, crate::store::StoreError> = vault
        .write(move |tx| {
            Box::pin(async move {
                let frame = crate::group::frame::Frame::decode(&bytes).unwrap();
                assert!(place.frame_ids().0 <= frame.id() && frame.id() <= place.frame_ids().1);
                let frame = NewFrame {
                    id: frame.id(),
                    gid: None,
                    env_tag: &frame.env_tag(),
                    bytes: Some(&bytes),
                    status: FrameStatus::Parked,
                    carrier: Some(&alice),
                    place: None,
                };
                frame::insert(tx.conn(), &frame, crate::clock::now_ms()).await
            })
        })
        .await;
    assert!(parked.unwrap());
    vault.close().await;
    stop(&group, [0, 2]).await;

    // Nobody is there to bring it once more.
    group.houses[1].start().await;
    group.hears(1).await;
    let mut reader = group.houses[1].session.vault.read().await.unwrap();
    assert!(!health::anything_waits(reader.conn()).await.unwrap());
    assert!(mls::states_waited_for(reader.conn()).await.unwrap().is_empty());
}
