//! The crash matrix over the real store and the real MLS: whichever step (docs/architecture.md, T1 to T4 and T6) a
//! device dies before or after, the group goes on as if nothing had happened.
//!
//! Sessions run whole, with routers on loopback, in one process. What is simulated is the death: the vault's
//! writer stops at the step and never answers, the session is dropped and the vault opened again. How SQLite
//! recovers from a torn log is left to the stories that kill processes.
//!
//! `CRASH_SEEDS` deaths of each kind on each side; few unless told otherwise.

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures::future::join_all;
use tempfile::TempDir;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    clock::now_ms,
    id::{ChannelId, GroupId},
    keys::VaultKey,
    metrics::Metrics,
    model::{GroupHealth, GroupStatus, InviteTerms, Join, Page, Role, SendTiming, Space},
    network::NetworkConfig,
    router::Address,
    session::Session,
    store::{At, Vault, identity::Identity},
};

const SEEDS: usize = 6;
/// Groups that go through deaths at the same time.
const AT_A_TIME: usize = 4;
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(10);
const KEY: [u8; 32] = [7; 32];

/// A device, its disk, and its process.
struct House {
    name: &'static str,
    metrics: Metrics,
    session: Arc<Session>,
    deaths: usize,
    directory: TempDir,
}

impl House {
    async fn new(name: &'static str) -> Self {
        let (directory, metrics) = (TempDir::new().unwrap(), Metrics::default());
        let path = directory.path().join("vault.db");
        let vault = Vault::create(&path, &key(), &metrics).await.unwrap();
        let identity = Identity::generate(name, name, now_ms());
        let written: Result<(), crate::store::StoreError> =
            vault.write(move |tx| Box::pin(async move { identity.insert(tx).await })).await;
        written.unwrap();
        let session = Session::start(vault, config(), metrics.clone()).await.unwrap();
        Self { name, metrics, session, deaths: 0, directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("vault.db")
    }

    async fn restart(&mut self) {
        self.session.stop().await;
        let vault = Vault::open(&self.path(), &key(), &self.metrics).await.unwrap();
        self.session = Session::start(vault, config(), self.metrics.clone()).await.unwrap();
    }

    /// Starts it again if it has died.
    async fn revive(&mut self) {
        if self.session.vault.is_dead() {
            self.deaths += 1;
            self.restart().await;
        }
    }

    fn reused_keys(&self) -> bool {
        let text = self.metrics.encode();
        text.lines().any(|line| line.contains("reason=\"key_reuse\"") && !line.ends_with(" 0"))
    }
}

fn key() -> VaultKey {
    VaultKey::new(Zeroizing::new(KEY))
}

fn config() -> NetworkConfig {
    NetworkConfig { listen: Address::parse("/ip4/127.0.0.1/tcp/0").unwrap(), announce: Vec::new() }
}

/// A group of two or three, and all that was said in it.
struct Group {
    houses: Vec<House>,
    space: GroupId,
    channel: ChannelId,
    /// So many were there from the beginning and hear everything.
    founders: usize,
    said: Vec<String>,
}

impl Group {
    async fn of(members: usize) -> Self {
        let names = ["alice", "bob", "carol"];
        let mut houses = Vec::new();
        for name in names {
            houses.push(House::new(name).await);
        }
        let space = houses[0].session.create_space(None, "space", "", SendTiming::Fast).await.unwrap().id;
        let channel = houses[0].session.channels(space).await.unwrap()[0].id;
        let mut group = Self { houses, space, channel, founders: members, said: Vec::new() };
        for joiner in 1..members {
            let link = group.link().await;
            group.joins(joiner, &link).await;
        }
        group.agrees(members).await;
        group
    }

    async fn link(&mut self) -> String {
        let request = Some(Uuid::new_v4());
        let terms = InviteTerms { max_uses: 1, expires_in: PATIENCE * 10, role: Role::Member };
        loop {
            let asked = self.houses[0].session.create_invite(request, self.space, terms).await;
            match asked {
                Ok(invite) => return invite.link,
                Err(_) => self.houses[0].revive().await,
            }
        }
    }

    /// Asks until there is an answer; whoever dies meanwhile is started again.
    async fn insists<T, E>(&mut self, who: usize, ask: impl AsyncFn(Arc<Session>) -> Result<T, E>) -> T
    where
        E: std::fmt::Debug,
    {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let session = Arc::clone(&self.houses[who].session);
            let answer = tokio::select! {
                answer = ask(Arc::clone(&session)) => Some(answer),
                () = dies(&self.houses) => None,
            };
            match answer {
                Some(Ok(answer)) => return answer,
                Some(Err(error)) => assert!(tokio::time::Instant::now() < end, "{error:?}"),
                None => {}
            }
            drop(session);
            self.revive_all().await;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn revive_all(&mut self) {
        for house in &mut self.houses {
            house.revive().await;
        }
    }

    async fn says(&mut self, who: usize) {
        let text = format!("{} says {}", self.houses[who].name, self.said.len());
        let (request, channel) = (Some(Uuid::new_v4()), self.channel);
        let sent = text.clone();
        self.insists(who, async |session| {
            session.send_message(request, channel, &sent, None).await.map(drop)
        })
        .await;
        self.said.push(text);
    }

    async fn joins(&mut self, who: usize, link: &str) {
        let request = Some(Uuid::new_v4());
        self.insists(who, async |session| {
            let joined = session.join_space(request, link).await;
            joined.map(|joined| matches!(joined, Join::Joined(_) | Join::Pending(_)))
        })
        .await;
    }

    /// Waits until the first so many are in one healthy group, and in it alone, with everything that was said in
    /// the order in which it was, wherever it is looked for; whoever dies is started again.
    async fn agrees(&mut self, members: usize) -> GroupStatus {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            self.revive_all().await;
            match self.look(members).await {
                Ok(status) => return status,
                Err(seen) => assert!(tokio::time::Instant::now() < end, "{seen}"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&self, members: usize) -> Result<GroupStatus, String> {
        let mut first: Option<GroupStatus> = None;
        for (number, house) in self.houses.iter().enumerate() {
            let Space { group, member_count, .. } = match house.session.space(self.space).await {
                Ok(space) if number < members => space,
                Err(_) if number >= members => continue,
                other => return Err(format!("{}: {other:?}", house.name)),
            };
            let first = first.get_or_insert_with(|| group.clone());
            let same =
                (group.epoch, group.state_id, group.check) == (first.epoch, first.state_id, first.check);
            let well = group.health == GroupHealth::Ok && group.waiting_changes == 0 && !group.repairing;
            if !same || !well || member_count as usize != members {
                return Err(format!("{}: {member_count} members, {group:?}, not {first:?}", house.name));
            }
            // The third comes and goes, and has only what was said while it was there.
            if number < self.founders {
                self.heard(house).await?;
            }
            if house.reused_keys() {
                return Err(format!("{} saw a key used twice", house.name));
            }
        }
        first.ok_or_else(|| "nobody".into())
    }

    /// The latest of the history: what was said, in this order, and nothing else.
    async fn heard(&self, house: &House) -> Result<(), String> {
        let page = house.session.messages(self.channel, Page::Latest, 100).await;
        let page = page.map_err(|error| error.to_string())?;
        let texts: Vec<_> = page.messages.into_iter().map(|message| message.text).collect();
        let said = &self.said[self.said.len().saturating_sub(100)..];
        if texts == said { Ok(()) } else { Err(format!("{} has {texts:?}, not {said:?}", house.name)) }
    }
}

async fn dies(houses: &[House]) {
    while !houses.iter().any(|house| house.session.vault.is_dead()) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn seeds() -> usize {
    std::env::var("CRASH_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS)
}

/// Deaths of one kind while three talk: `of` says who dies when someone speaks.
async fn while_talking(step: &'static str, at: At, of: impl Fn(usize) -> usize + Copy, apart: bool) {
    let groups = (0..AT_A_TIME).map(async |first| {
        let mut group = Group::of(3).await;
        for seed in (first..seeds()).step_by(AT_A_TIME) {
            let author = seed % 3;
            let victim = of(author);
            // Six texts at most: what was sealed along with its acceptance needs no step of its own.
            for _ in 0..6 {
                let before = group.houses[victim].deaths;
                if apart {
                    group.houses[author].restart().await;
                }
                let passing = u32::try_from(seed / 3 % 2).unwrap();
                group.houses[victim].session.vault.die_at(step, at, if apart { 0 } else { passing });
                group.says(author).await;
                group.says(author).await;
                group.agrees(3).await;
                if group.houses[victim].deaths > before {
                    break;
                }
            }
        }
        group.houses.iter().map(|house| house.deaths).sum::<usize>()
    });
    let deaths: usize = join_all(groups).await.into_iter().sum();
    assert!(deaths * 10 >= seeds() * 9, "{step} {at:?}: only {deaths} deaths of {}", seeds());
}

/// Deaths of one kind while a third member comes and goes.
async fn while_coming_and_going(step: &'static str, at: At, victim: impl Fn(usize) -> usize + Copy) {
    let groups = (0..AT_A_TIME).map(async |first| {
        let mut group = Group::of(2).await;
        for seed in (first..seeds()).step_by(AT_A_TIME) {
            let before = group.agrees(2).await;
            let passing = u32::try_from(seed / 2 % 2).unwrap();
            let passing = if victim(seed) == 2 { 0 } else { passing };
            group.houses[victim(seed)].session.vault.die_at(step, at, passing);
            let link = group.link().await;
            group.joins(2, &link).await;
            let joined = group.agrees(3).await;
            assert_eq!(joined.epoch, before.epoch + 1, "one joined");
            group.says(seed % 3).await;
            let (space, account) = (group.space, group.houses[2].session.account());
            let request = Some(Uuid::new_v4());
            group.insists(0, async |session| session.remove_member(request, space, account).await).await;
            let left = group.agrees(2).await;
            assert_eq!(left.epoch, before.epoch + 2, "one was removed");
        }
        group.houses.iter().map(|house| house.deaths).sum::<usize>()
    });
    let deaths: usize = join_all(groups).await.into_iter().sum();
    assert!(deaths * 10 >= seeds() * 9, "{step} {at:?}: only {deaths} deaths of {}", seeds());
}

macro_rules! before_and_after {
    ($($test:ident: $death:expr;)*) => {$(
        mod $test {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "minutes, and not yet reliable: docs/roadmap.md"]
            async fn before() {
                let death = $death;
                death(At::Before).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "minutes, and not yet reliable: docs/roadmap.md"]
            async fn after() {
                let death = $death;
                death(At::After).await;
            }
        }
    )*};
}

const fn author(author: usize) -> usize {
    author
}

const fn reader(author: usize) -> usize {
    (author + 1) % 3
}

before_and_after! {
    t1_accept: |at| while_talking("session::message::accept_sends", at, author, false);
    t2_seal: |at| while_talking("network::seal::", at, author, true);
    t3_confirm: |at| while_talking("network::custody::", at, author, false);
    t4_take_in: |at| while_talking("network::intake::", at, reader, false);
    t6_join: |at| while_coming_and_going("take_bundle", at, |_| 2);
}
