//! Someone returns after thousands of messages and hundreds of changes to the group, and fetches them from a
//! member who wrote none of them.
//!
//! A group of twenty on five servers. Only the speaker, the witness and the guest who comes and goes are up
//! while it happens; the others are leaves in the tree. Nobody waits seven days.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use spacepanda_proto::api::v1 as api;
use uuid::Uuid;

use super::{
    pair::{Arrivals, text},
    report::Row,
};
use crate::cli::{
    connect::{Client, SLOW_CALL_DEADLINE},
    credentials::Token,
    failure::Failure,
    feed::Feed,
    local_server::LocalServer,
    space,
    stage::{Resident, Room, eventually, found_space, invite, join, sign_up},
};

/// Members of the group while the guest is out.
const MEMBERS: usize = 20;
/// Events and commits that the returning member missed.
const MESSAGES: usize = 10_000;
/// Each round is a join and a removal.
const ROUNDS: usize = 150;
/// Sends under way at a time.
const IN_FLIGHT: usize = 8;

/// Measures how long it takes, and how much is sent for it.
///
/// # Errors
/// When a step is refused, or a message does not arrive.
pub(super) async fn measure() -> Result<Vec<Row>, Failure> {
    let mut speaker = Resident::move_in_measured("Alice").await?;
    let witness = Resident::move_in_measured("Bob").await?;
    let mut away = Resident::move_in_measured("Carol").await?;
    let mut guest = Resident::move_in("Dave").await?;
    for other in [&witness, &away, &guest] {
        other.connect_to(&speaker).await?;
    }
    away.connect_to(&witness).await?;
    let room = found_space(&speaker, &[&witness, &away], "bench").await?;
    fill(&speaker, &room, MEMBERS - 3).await?;
    let arrivals =
        async |at: &Resident| Ok::<_, Failure>(Arrivals::of(Feed::from_now(&at.client).await?, &room));
    let (mut at_witness, mut at_away) = (arrivals(&witness).await?, arrivals(&away).await?);
    in_step(&witness, &away, &room).await?;
    away.server.kill().await?;

    talk(&speaker, &guest, &room).await?;
    at_witness.all(0, MESSAGES).await?;
    in_step(&speaker, &witness, &room).await?;
    speaker.server.kill().await?;
    guest.server.kill().await?;

    let before = witness.server.metric("spacepanda_peer_bytes_read_total").await?;
    away.server.restart().await?;
    let begun = Instant::now();
    at_away.all(0, MESSAGES).await?;
    in_step(&witness, &away, &room).await?;
    let took = begun.elapsed();

    let asked = witness.server.metric("spacepanda_peer_bytes_read_total").await? - before;
    let answered = away.server.metric("spacepanda_peer_bytes_read_total").await?;
    let frames = away.server.metric("spacepanda_fetched_bytes_total").await?;
    Ok(rows(took, asked + answered, frames))
}

fn rows(took: Duration, wire: f64, frames: f64) -> Vec<Row> {
    let row = |metric, unit, measured, goal| Row {
        metric,
        unit,
        measured,
        raw: None,
        goal,
        higher_is_better: false,
    };
    vec![
        row(
            "10,000 messages and 300 commits missed, group of 20: caught up",
            "s",
            took.as_secs_f64(),
            Some(30.0),
        ),
        row("of which frames", "KiB", frames / 1_024.0, None),
        row("bytes on the wire for each byte of frames", "x", wire / frames.max(1.0), Some(1.3)),
    ]
}

/// Members who are never there again.
async fn fill(owner: &Resident, room: &Room, count: usize) -> Result<(), Failure> {
    let crowd = LocalServer::start("Crowd").await?;
    let anonymous = Client::open(&crowd.url(), None, None).await?;
    let link = invite(owner, &room.space_id, count).await?;
    for number in 0..count {
        let session = sign_up(&anonymous, &format!("member{number}"), "Member").await?;
        let client = anonymous.with_token(&Token::from(session.session_token))?;
        join(&client, "a member", &room.space_id, &link).await?;
    }
    Ok(())
}

/// All messages, with a join and a removal after each part of them.
async fn talk(speaker: &Resident, guest: &Resident, room: &Room) -> Result<(), Failure> {
    let part = MESSAGES.div_ceil(2 * ROUNDS);
    let mut sent = 0;
    for _ in 0..ROUNDS {
        let link = invite(speaker, &room.space_id, 1).await?;
        join(&guest.client, "the guest", &room.space_id, &link).await?;
        sent = say(speaker, room, sent, part).await?;
        let request = api::RemoveMemberRequest {
            space_id: room.space_id.clone(),
            account_id: guest.account_id.clone(),
            request_id: Uuid::new_v4().to_string(),
        };
        let call = || async { speaker.client.spaces().remove_member(request.clone()).await };
        speaker.client.call(SLOW_CALL_DEADLINE, call).await?;
        eventually("the guest is out", || async {
            space::get(&guest.client, room.space_id.clone()).await.is_err().then_some(())
        })
        .await?;
        sent = say(speaker, room, sent, part).await?;
    }
    Ok(())
}

async fn say(speaker: &Resident, room: &Room, from: usize, count: usize) -> Result<usize, Failure> {
    let to = MESSAGES.min(from + count);
    stream::iter(from..to)
        .map(|number| speaker.send(&room.channel_id, text(number)))
        .buffer_unordered(IN_FLIGHT)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    Ok(to)
}

/// Both hold the same state of the group.
async fn in_step(one: &Resident, other: &Resident, room: &Room) -> Result<(), Failure> {
    eventually("both hold the same group state", || async {
        let check = async |at: &Resident| space::get(&at.client, room.space_id.clone()).await.ok()?.group;
        let (one, other) = (check(one).await?, check(other).await?);
        (one.check == other.check).then_some(())
    })
    .await
}
