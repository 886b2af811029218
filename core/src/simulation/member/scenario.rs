//! Worlds of members: who takes part, what users do, and what must hold.

use std::{collections::BTreeSet, marker::PhantomData};

use super::{
    actor::{Command, Member, Wish},
    disk::{Disk, Membership},
    ledger::{Ledger, Output},
    misdeed::Misdeed,
    person::{Config, Setup},
    rules,
    wire::Message,
};
use crate::{
    certificate::remember_signatures,
    group::{fake::seed_chance, testing::Hostile},
    model::Role,
    simulation::{Action, Draw, MemberId, Mood, Profile, Rule, Scenario, Schedule, Sight, View},
};

/// Signatures that a thread remembers.
const SIGNATURES: usize = 100_000;
/// Of a hundred wishes so many are of each kind: to say something, for fresh keys, to remove someone, to
/// change a role, to go, to come, to make an invite.
fn wishes(mood: Mood) -> [u32; 7] {
    match mood {
        Mood::Usual => [64, 12, 5, 8, 2, 7, 2],
        Mood::Quarrels => [30, 10, 30, 15, 3, 10, 2],
        Mood::Restless => [20, 65, 1, 11, 0, 3, 0],
        Mood::Busy => [2, 2, 1, 93, 0, 2, 0],
    }
}

/// A group on one engine in one kind of weather.
pub struct Members<E> {
    /// The weather.
    pub profile: Profile,
    /// What the members of this world do differently.
    pub config: Config,
    /// What the engine is called on a command line.
    pub backend: &'static str,
    engine: PhantomData<fn() -> E>,
}

impl<E: Hostile> Members<E> {
    /// The usual members.
    pub fn new(profile: Profile, backend: &'static str) -> Self {
        Self { profile, config: Config::default(), backend, engine: PhantomData }
    }

    /// The same members with another configuration.
    #[must_use]
    pub fn with(self, config: Config) -> Self {
        Self { config, ..self }
    }
}

fn misdeed(draw: &mut Draw, members: u16) -> Misdeed {
    let someone = u16::try_from(draw.below(u64::from(members))).unwrap_or_default();
    match draw.below(6) {
        4 => Misdeed::TwoCommits,
        5 => Misdeed::Greed,
        0 => Misdeed::Skeleton,
        1 => Misdeed::TwoFaces,
        2 => Misdeed::LockOut(someone),
        _ => Misdeed::Unasked(someone),
    }
}

fn wish(draw: &mut Draw, members: u16, mood: Mood) -> Wish {
    let someone = u16::try_from(draw.below(u64::from(members))).unwrap_or_default();
    let roles = [Role::Admin, Role::Moderator, Role::Member];
    let role = draw.pick(&roles).copied().unwrap_or(Role::Member);
    match draw.weighted(&wishes(mood)) {
        Some(1) => Wish::Update,
        Some(2) => Wish::Remove(someone),
        Some(3) => Wish::Role(someone, role),
        Some(4) => Wish::Leave,
        Some(5) => Wish::Join,
        Some(6) => Wish::Invite,
        _ => Wish::Say,
    }
}

impl<E: Hostile> Scenario for Members<E> {
    type Actor = Member<E>;
    type Ledger = Ledger;

    fn schedule(&self, seed: u64) -> Schedule<Command> {
        let mut number = 0;
        self.profile.schedule(seed, |draw, members, _| {
            number += 1;
            let Profile { mood, misdeeds_percent, .. } = self.profile;
            if misdeeds_percent > 0 && draw.below(100) < u64::from(misdeeds_percent) {
                // One of those who are in the group from the beginning, and not its founder.
                let hostile = MemberId(1 + u16::try_from(seed % 2).unwrap_or_default());
                let wish = Wish::Misdeed(misdeed(draw, members));
                return Action::Misdeed(hostile, Command { number, wish });
            }
            let member = MemberId(u16::try_from(draw.below(u64::from(members))).unwrap_or_default());
            Action::Command(member, Command { number, wish: wish(draw, members, mood) })
        })
    }

    fn setup(&self, seed: u64, members: u16) -> Setup<E> {
        // Runs share nothing, whatever ran on this thread before.
        seed_chance(seed);
        remember_signatures(SIGNATURES);
        Setup::found(members, self.config).unwrap_or_else(|_| Setup::empty(self.config))
    }

    fn disk(&self, member: MemberId, setup: &Setup<E>, _draw: &mut Draw) -> Disk {
        setup.disk(member.0)
    }

    fn witness(&self, ledger: &mut Ledger, at_ms: u64, member: MemberId, sight: Sight<Output>) {
        ledger.witness(at_ms, member, sight);
    }

    fn tap(&self, ledger: &mut Ledger, at_ms: u64, from: MemberId, to: MemberId, message: &Message) {
        ledger.tap(at_ms, from, to, message);
    }

    fn rules(&self) -> Vec<Rule<Self>> {
        rules::all()
    }

    fn is_settled(&self, view: &View<'_, Self>) -> bool {
        let mut inside = view.members().filter(|it| it.disk.membership == Membership::Inside);
        let Some(first) = inside.next() else { return true };
        let head = first.disk.at();
        head.is_some() && inside.all(|it| it.disk.at() == head)
    }

    /// Forks: commits beside another one of the same state, each once, whoever saw them.
    fn counts(&self, view: &View<'_, Self>) -> Vec<(&'static str, u64)> {
        let parents: BTreeSet<_> = view.ledger.made.values().map(|made| made.skeleton.parent).collect();
        vec![("forks", (view.ledger.made.len() - parents.len()) as u64)]
    }

    /// Who is in the group and what was said, but not in which state: that depends on who came first.
    fn outcome(&self, view: &View<'_, Self>) -> String {
        let members = view.members().map(|it| {
            let texts = it.disk.logs.events().filter_map(|event| match &event.event.body {
                crate::event::Body::Text { text, .. } => Some(text.clone()),
                _ => None,
            });
            format!("{:?} {:?}", it.disk.membership, texts.collect::<BTreeSet<_>>())
        });
        members.collect::<Vec<_>>().join("; ")
    }

    fn replay_command(&self, seed: u64) -> String {
        format!(
            "cargo run -p spacepanda-tests --bin simulate -- --backend {} --profile {} --replay {seed}",
            self.backend, self.profile.name
        )
    }
}
