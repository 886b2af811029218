//! What happens: three people meet and talk, one server dies and comes back.

use std::time::{Duration, Instant};

use futures::future::{try_join_all, try_join3};
use spacepanda_proto::api::v1 as api;

use super::{
    person::Person,
    screen::{Cell, Screen, milliseconds},
    verdict::{Report, Sent, View},
};
use crate::cli::{
    failure::Failure,
    listing,
    output::Output,
    space,
    stage::{Room, agree, found_space},
};

const ALICE: usize = 0;
const BOB: usize = 1;
const CAROL: usize = 2;

const TOGETHER: [(usize, &str); 6] = [
    (ALICE, "Morning, all!"),
    (BOB, "Hi Alice!"),
    (CAROL, "Hello you two"),
    (ALICE, "Tea at four?"),
    (BOB, "Yes, please"),
    (CAROL, "I bring cake"),
];
const WITHOUT_CAROL: [(usize, &str); 4] =
    [(ALICE, "Carol is gone"), (BOB, "No cake then?"), (ALICE, "She'll be back"), (BOB, "We wait")];
const AGAIN: [(usize, &str); 3] = [(CAROL, "I am back!"), (ALICE, "Welcome back"), (BOB, "And the cake?")];

struct Stage {
    screen: Screen,
    people: [Person; 3],
    room: Room,
    sent: Vec<(usize, api::Message)>,
    times: Vec<Duration>,
}

/// Plays the story.
///
/// # Errors
/// When a step is refused or something does not arrive.
pub(super) async fn play(out: Output) -> Result<Report, Failure> {
    let screen = Screen::new(out);
    let mut stage = meet(screen).await?;
    stage.names()?;
    for (author, text) in TOGETHER {
        stage.say(author, text, &[]).await?;
    }
    screen.blow("Carol's server is killed (SIGKILL); Alice and Bob go on")?;
    stage.carol().resident.server.kill().await?;
    for (author, text) in WITHOUT_CAROL {
        stage.say(author, text, &[CAROL]).await?;
    }
    let catch_up = stage.revive_carol().await?;
    for (author, text) in AGAIN {
        stage.say(author, text, &[]).await?;
    }
    stage.report(catch_up).await
}

async fn meet(screen: Screen) -> Result<Stage, Failure> {
    screen.step("three servers start, each a process of its own; Alice, Bob and Carol sign up")?;
    let (alice, bob, carol) =
        try_join3(Person::arrive("Alice"), Person::arrive("Bob"), Person::arrive("Carol")).await?;
    screen.step("Bob and Carol connect their servers to Alice's")?;
    bob.resident.connect_to(&alice.resident).await?;
    carol.resident.connect_to(&alice.resident).await?;
    screen.step("Alice creates a space and invites; both join by link")?;
    let guests = [&bob.resident, &carol.resident];
    let room = found_space(&alice.resident, &guests, "Bamboo grove").await?;
    Ok(Stage { screen, people: [alice, bob, carol], room, sent: Vec::new(), times: Vec::new() })
}

impl Stage {
    fn names(&self) -> Result<(), Failure> {
        let [alice, bob, carol] = &self.people;
        self.screen.names(&[alice.name(), bob.name(), carol.name()])
    }

    fn carol(&mut self) -> &mut Person {
        let [_, _, carol] = &mut self.people;
        carol
    }

    /// One person speaks; returns when all who are not away have seen it.
    async fn say(&mut self, author: usize, text: &str, away: &[usize]) -> Result<(), Failure> {
        let Some(speaker) = self.people.get(author) else { return Ok(()) };
        let begun = Instant::now();
        let message = speaker.resident.send(&self.room.channel_id, text.to_owned()).await?;
        let message = &message;
        let looking = self.people.iter().enumerate().map(|(index, person)| async move {
            match index {
                _ if index == author => Ok::<_, Failure>(Cell::Sent),
                _ if away.contains(&index) => Ok(Cell::Down),
                _ => Ok(Cell::Arrived(person.sees(message).await?.saturating_duration_since(begun))),
            }
        });
        let cells: Vec<Cell> = try_join_all(looking).await?;
        self.times.extend(cells.iter().filter_map(|cell| match cell {
            Cell::Arrived(time) => Some(*time),
            _ => None,
        }));
        self.screen.message(text, &cells)?;
        self.sent.push((author, message.clone()));
        Ok(())
    }

    /// Starts Carol's server again; how long until she has all that was said meanwhile.
    async fn revive_carol(&mut self) -> Result<Duration, Failure> {
        self.screen.step("Carol's server starts again; her session token brings her account back")?;
        self.carol().resident.server.restart().await?;
        let begun = Instant::now();
        let [_, _, carol] = &self.people;
        for (_, message) in &self.sent {
            let seen = carol.sees(message).await?;
            if let Some(after) = seen.checked_duration_since(begun) {
                self.screen.message(&message.text, &[Cell::Earlier, Cell::Earlier, Cell::Arrived(after)])?;
            }
        }
        let catch_up = begun.elapsed();
        self.screen.step(&format!("Carol has missed nothing; caught up in {}", milliseconds(catch_up)))?;
        self.names()?;
        Ok(catch_up)
    }

    async fn report(self, catch_up: Duration) -> Result<Report, Failure> {
        let [alice, bob, carol] = &self.people;
        let confirmed = self.sent.iter().filter_map(|(author, message)| {
            self.people.get(*author).map(|person| person.knows_delivered(message))
        });
        try_join_all(confirmed).await?;
        agree(&alice.resident, &[&bob.resident, &carol.resident], &self.room.space_id).await?;
        let views = try_join_all(self.people.iter().map(|person| view(person, &self.room))).await?;
        let sent = self.sent.iter().map(|(author, message)| Sent {
            message_id: message.message_id.clone(),
            text: message.text.clone(),
            author: self.people.get(*author).map(|person| person.name().to_owned()).unwrap_or_default(),
        });
        Ok(Report { sent: sent.collect(), views, times: self.times.clone(), catch_up })
    }
}

/// What a person's server answers when asked for everything.
async fn view(person: &Person, room: &Room) -> Result<View, Failure> {
    let client = &person.resident.client;
    let (messages, _) = listing::history(client, &room.channel_id, "", usize::MAX).await?;
    let group = space::get(client, room.space_id.clone()).await?.group.unwrap_or_default();
    let members = listing::members(client, &room.space_id).await?;
    let mut members: Vec<String> =
        members.into_iter().map(|m| format!("{} {}", m.account_id, m.role)).collect();
    members.sort_unstable();
    Ok(View {
        name: person.name().to_owned(),
        messages: messages.into_iter().map(|message| message.message_id).collect(),
        repeated: person.repeated(),
        epoch: group.epoch,
        check: group.check,
        members,
    })
}
