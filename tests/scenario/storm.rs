//! Five servers that die every few seconds while their network is cut in two, again and again, and while people
//! write, come and go on both sides: nothing is lost, nothing comes twice, and all end in one group.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use tokio::{sync::watch, time::Instant};

use super::partition::{everyone_reads_everyone, one_group};
use crate::harness::{
    Cluster, Person, Place,
    chaos::Chaos,
    insist::{invites, is_out, joins, leaves, removes},
    meet, same_world,
    wait::{when, within},
    world::look,
};

/// How long it goes on, in seconds, unless the environment's `STORM_SECONDS` says otherwise; a round that began
/// is finished.
const SECONDS: u64 = 40;
/// Texts of each who stays, in each round.
const EACH: usize = 20;
/// Up to this long after one death comes the next.
const PAUSE: Duration = Duration::from_secs(3);
/// Up to this long a server stays dead.
const DEATH: Duration = Duration::from_millis(500);
/// In such weather everything takes longer: whoever was down is dialled again after up to 30 s.
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn five_servers_that_die_again_and_again_while_cut_in_two_lose_and_repeat_nothing() {
    let seconds = std::env::var("STORM_SECONDS").ok().and_then(|text| text.parse().ok());
    let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(SECONDS));
    let mut chaos = Chaos::new();
    let names = ["alice", "bob", "carol", "dave", "erin"];
    let (cluster, people) = Cluster::with(names, |plan| plan.metrics()).await;
    let [alice, bob, carol, dave, erin] = &people;
    let place = meet(alice, &[bob, carol, dave, erin]).await;

    let mut accepted = BTreeMap::new();
    let (mut rounds, mut deaths) = (0, 0);
    while rounds == 0 || Instant::now() < end {
        let (friend, stranger) = if chaos.coin() { (bob, carol) } else { (carol, bob) };
        let (leaver, removed) = if chaos.coin() { (dave, erin) } else { (erin, dave) };
        let (one, other) = ([alice, friend], [stranger, leaver, removed]);
        cluster.part(&one, &other).await;
        let (stop, stopped) = watch::channel(false);
        let story = async {
            let texts = join_all([alice, bob, carol].map(|person| load(person, &place, rounds)));
            let (texts, (), ()) = tokio::join!(texts, lets_go(alice, removed, &place), async {
                leaves(leaver, &place.space).await;
                sees_gone(stranger, leaver, &place).await;
            });
            let sides =
                (look_whatever_happens(alice, &place).await, look_whatever_happens(stranger, &place).await);
            assert_ne!(sides.0, sides.1, "the group has forked, else this proves nothing");
            cluster.reunite(&one, &other);
            for person in [leaver, removed] {
                is_out(person, &place.space).await;
            }
            stop.send_replace(true);
            texts
        };
        let (texts, died) = tokio::join!(story, kill_some(&mut chaos, &people, stopped));
        deaths += died;
        accepted.extend(texts.into_iter().flatten());
        // What the losing side had committed is committed once more.
        within(PATIENCE, &format!("who was to go in round {rounds} to be gone"), async || {
            let world = look(alice, &place.space).await.map_err(|status| status.to_string())?;
            when(world.roster.len() == 3, format!("{:?}", world.roster))
        })
        .await;
        for person in [alice, bob, carol] {
            let what = format!("{} to have every word of round {rounds}", person.name());
            within(PATIENCE, &what, async || person.has(&place.channel, accepted.len()).await).await;
        }
        same_world(&[alice, bob, carol], &place.space, accepted.len()).await;

        // They come back while servers go on dying.
        let (stop, stopped) = watch::channel(false);
        let back = async {
            for person in [leaver, removed] {
                joins(person, &place.space, &invites(alice, &place.space).await).await;
            }
            stop.send_replace(true);
        };
        deaths += tokio::join!(back, kill_some(&mut chaos, &people, stopped)).1;
        let all = [alice, bob, carol, dave, erin];
        within(PATIENCE, "all five to be in one group", async || one_group(&all, &place).await).await;
        rounds += 1;
    }
    eprintln!("{rounds} rounds, {deaths} deaths, {} texts", accepted.len());
    assert!(deaths > 0, "nobody died");

    let world = same_world(&[alice, bob, carol], &place.space, accepted.len()).await;
    let shown: BTreeMap<_, _> = world.history.into_iter().map(|(_, id, _, text)| (id, text)).collect();
    assert_eq!(shown, accepted, "exactly what was acknowledged, under the ids that were answered");
    everyone_reads_everyone(&[alice, bob, carol, dave, erin], &place).await;
    for person in &people {
        person.server.assert_no_key_reuse().await;
    }
}

/// Writes and does not give up; answers each accepted message's id and text.
async fn load(person: &Person, place: &Place, round: usize) -> Vec<(String, String)> {
    let mut accepted = Vec::new();
    for number in 0..EACH {
        let text = format!("{} {round}.{number}", person.name());
        let message = person.send_whatever_happens(&place.channel, &text).await;
        accepted.push((message.message_id, text));
    }
    accepted
}

async fn lets_go(owner: &Person, member: &Person, place: &Place) {
    removes(owner, &place.space, member).await;
    sees_gone(owner, member, place).await;
}

async fn sees_gone(person: &Person, leaver: &Person, place: &Place) {
    let what = format!("{} to see {} gone", person.name(), leaver.name());
    within(PATIENCE, &what, async || {
        let world = look(person, &place.space).await.map_err(|status| status.to_string())?;
        let there = world.roster.iter().any(|(account, ..)| account == leaver.account());
        when(!there, format!("{:?}", world.roster))
    })
    .await;
}

/// The exporter secret's check value, as soon as the server answers.
async fn look_whatever_happens(person: &Person, place: &Place) -> String {
    let what = format!("{} to say where it is", person.name());
    let world = within(PATIENCE, &what, async || {
        look(person, &place.space).await.map_err(|status| status.to_string())
    });
    world.await.check
}

/// Kills one after the other, each at a random moment, until told to stop; all run again afterwards. Gives how
/// many died.
async fn kill_some(chaos: &mut Chaos, people: &[Person], stopped: watch::Receiver<bool>) -> usize {
    let mut deaths = 0;
    while !*stopped.borrow() {
        chaos.moment(PAUSE).await;
        let victim = &people[chaos.below(people.len())];
        victim.server.assert_no_key_reuse().await;
        victim.server.kill_9();
        chaos.moment(DEATH).await;
        victim.server.restart().await;
        victim.wake().await;
        deaths += 1;
    }
    deaths
}
