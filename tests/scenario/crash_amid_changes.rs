//! `kill -9` amid everything but sending: asked again under the same request id, each change happens once.

use std::{collections::BTreeSet, fs, time::Duration};

use spacepanda_proto::api::v1::{CreateChannelRequest, CreateProfileRequest, CreateSpaceRequest};

use crate::harness::{
    Cluster, PASSWORD, Person, Server,
    chaos::Chaos,
    client::request_id,
    insist::{insists, invites, is_out, joins, leaves, removes},
    meet, same_world,
    wait::when,
    wait_until,
    world::look,
};

const ROUNDS: usize = 8;
/// About as long as a change takes: kills fall before, amid and after it.
const MOMENT: Duration = Duration::from_millis(60);
/// The same for what waits for a password's hash.
const LONG_MOMENT: Duration = Duration::from_millis(400);

#[tokio::test(flavor = "multi_thread")]
async fn invites_joins_removals_and_departures_happen_once_whoever_dies_amid_them() {
    let mut chaos = Chaos::new();
    let (_cluster, [alice, bob]) = Cluster::with(["alice", "bob"], |plan| plan.metrics()).await;
    let place = meet(&alice, &[]).await;
    let space_id = &place.space;
    let mut epoch = look(&alice, space_id).await.expect("the space").epoch;
    for round in 1..=ROUNDS {
        let (link, ()) = tokio::join!(invites(&alice, space_id), kills_one(&mut chaos, &alice, &bob));
        tokio::join!(joins(&bob, space_id, &link), kills_one(&mut chaos, &alice, &bob));
        alice.send_whatever_happens(&place.channel, &format!("welcome, time {round}")).await;
        let world = same_world(&[&alice, &bob], space_id, round).await;
        assert_eq!((world.epoch, world.roster.len()), (epoch + 1, 2), "round {round}: one join");

        if chaos.coin() {
            tokio::join!(removes(&alice, space_id, &bob), kills_one(&mut chaos, &alice, &bob));
        } else {
            tokio::join!(leaves(&bob, space_id), kills_one(&mut chaos, &alice, &bob));
        }
        is_out(&bob, space_id).await;
        wait_until("alice to be alone", async || {
            let world = look(&alice, space_id).await.map_err(|status| status.to_string())?;
            when(world.roster.len() == 1, format!("{world:?}"))
        })
        .await;
        let world = same_world(&[&alice], space_id, round).await;
        assert_eq!(world.epoch, epoch + 2, "round {round}: one departure");
        epoch = world.epoch;
    }
    for person in [&alice, &bob] {
        person.server.assert_no_key_reuse().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spaces_channels_and_invites_are_created_once_however_often_the_server_dies_over_them() {
    let mut chaos = Chaos::new();
    let (_cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let mut made = Vec::new();
    for round in 0..ROUNDS {
        let (space, ()) = tokio::join!(
            async {
                let space_id = creates_space(&alice, &format!("Space {round}")).await;
                creates_channel(&alice, &space_id, "plans").await;
                let link = invites(&alice, &space_id).await;
                (space_id, link)
            },
            kills(&mut chaos, &alice, MOMENT),
        );
        made.push(space);
    }
    let spaces: Vec<_> = alice.all_spaces().await.into_iter().map(|space| space.space_id).collect();
    let expected: BTreeSet<_> = made.iter().map(|(space_id, _)| space_id.clone()).collect();
    assert_eq!(spaces.len(), ROUNDS, "one space a request");
    assert_eq!(spaces.into_iter().collect::<BTreeSet<_>>(), expected, "those that were answered");
    for (space_id, link) in &made {
        // Whatever was answered is real.
        bob.join(link).await;
        same_world(&[&alice, &bob], space_id, 0).await;
        let channels = alice.channels(space_id).await.expect("channels");
        let mut names: Vec<_> = channels.iter().map(|channel| channel.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["general", "plans"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_created_once_and_half_of_one_leaves_nothing() {
    let mut chaos = Chaos::new();
    let house = Server::start("house").await;
    let mut people = Vec::new();
    for round in 0..ROUNDS {
        let name = format!("person{round}");
        let (person, ()) = tokio::join!(signs_up(&house, &name), async {
            chaos.moment(LONG_MOMENT).await;
            house.kill_9();
            house.restart().await;
        });
        people.push(person);
    }
    for person in &people {
        person.wake().await;
        // The token answered is this account's, and so is the password.
        let space = person.create_space(person.name()).await.space_id;
        let again = person.another_device("laptop").await;
        assert_eq!((again.account(), again.peer_id()), (person.account(), person.peer_id()));
        let spaces: Vec<_> = again.all_spaces().await.into_iter().map(|space| space.space_id).collect();
        assert_eq!(spaces, [space], "a vault of its own");
    }
    house.stop().await;
    let vaults = fs::read_dir(house.data_dir().join("vaults")).expect("the vaults");
    let mut names: Vec<_> = vaults.flatten().map(|file| file.file_name().into_string()).collect();
    names.sort();
    assert_eq!(names.len(), ROUNDS, "a file an account, and nothing else: {names:?}");
}

async fn signs_up(house: &Server, name: &str) -> Person {
    let request = CreateProfileRequest {
        username: name.into(),
        password: PASSWORD.into(),
        device_name: "phone".into(),
        request_id: request_id(),
        ..Default::default()
    };
    let session = insists(name, async || house.accounts().create_profile(request.clone()).await).await;
    assert_eq!(session.username, name);
    house.person(session)
}

async fn creates_space(person: &Person, name: &str) -> String {
    let request = CreateSpaceRequest { name: name.into(), request_id: request_id(), ..Default::default() };
    insists(person.name(), async || person.spaces().create_space(request.clone()).await).await.space_id
}

async fn creates_channel(person: &Person, space_id: &str, name: &str) {
    let request = CreateChannelRequest {
        space_id: space_id.into(),
        name: name.into(),
        request_id: request_id(),
        ..Default::default()
    };
    insists(person.name(), async || person.spaces().create_channel(request.clone()).await).await;
}

/// Kills one of two at a random moment; it runs again afterwards.
async fn kills_one(chaos: &mut Chaos, a: &Person, b: &Person) {
    let victim = if chaos.coin() { a } else { b };
    victim.server.assert_no_key_reuse().await;
    kills(chaos, victim, MOMENT).await;
}

async fn kills(chaos: &mut Chaos, victim: &Person, at_most: Duration) {
    chaos.moment(at_most).await;
    victim.server.kill_9();
    victim.server.restart().await;
    victim.wake().await;
}
