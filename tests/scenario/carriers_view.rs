//! What whoever carries frames sees of a conversation: their lengths in a few steps, which of them are of one
//! state, and nothing else.
//!
//! The carrier is a member's router that keeps all that is pushed to it, and what is looked at are the bytes
//! before anyone opens them. That it can also open them tells the story what was in each. Every look is taken
//! at a doctored recording too, to see that it would have noticed.

use std::collections::{BTreeMap, BTreeSet};

use spacepanda_core::{
    event::{Body, SignedEvent},
    group::frame::FrameKind,
};

use spacepanda_proto::peer::v1::LogPosition;

use crate::harness::{
    Person, Place, Server,
    hostile::{Heard, Intruder, Mole},
    meet, same_world,
    secrets::Secret,
    wait::when,
    wait_until,
};

/// What frames may measure, bytes: see docs/protocol.md.
const LENGTHS: [usize; 5] = [512, 1_024, 4_096, 16_384, 61_440];
/// Version, route tag and tag of the state.
const HEADER: usize = 33;
/// So many equal bytes in two places are no accident.
const RUN: usize = 8;
const REPEATED: &str = "the same words again and again, so that a pattern would show itself";
const NAME: &str = "Gliding Possum";

#[tokio::test(flavor = "multi_thread")]
async fn a_carrier_learns_lengths_in_steps_and_nothing_that_was_said() {
    let alice = Server::start("alice").await.sign_up("alice").await;
    let bob = Server::start("bob").await.sign_up("bob").await;
    let place = meet(&alice, &[&bob]).await;
    alice.create_channel(&place.space, NAME).await;
    let intruder = Intruder::new("carrier").await;
    let mut carrier = intruder.join(&alice, &alice.invite(&place.space).await).await;
    carrier.intruder.meet(&bob).await;
    let texts = converse(&alice, &bob, &place).await;
    for text in &texts {
        carrier.hears_text(text).await;
    }
    let known = carrier.heard.len();
    let repeated = is_carried_again(&mut carrier, &bob, &alice, &texts[1..]).await;
    let written = carrier.heard.drain(..known).collect::<Vec<_>>();

    let all = view(&carrier);
    let secrets = secrets(&place, &[&alice, &bob], &written, &texts);
    assert_eq!(odd_lengths(&all), Vec::<usize>::new());
    assert_eq!(given_away(&all, &secrets), Vec::<String>::new());
    let letter = vec![carrier.letter.clone()];
    assert_eq!(given_away(&letter, &secrets), Vec::<String>::new());
    let with_letter = [all.clone(), letter].concat();
    assert_eq!(repeats(&with_letter), 0, "equal stretches of {RUN} bytes");
    assert_eq!(headers_by_author(&written).len(), 1, "the clear part names nobody");
    assert_eq!(headers(&repeated), headers(&of_one_author(&written)), "carried looks like written");
    let steps = |frames: &[Vec<u8>]| -> BTreeSet<usize> { frames.iter().map(Vec::len).collect() };
    assert!(steps(&repeated).is_subset(&LENGTHS.into()), "{:?}", steps(&repeated));

    // The looks are worth something: the texts do differ in length, and each doctored recording is noticed.
    let lengths: BTreeSet<_> = texts.iter().map(String::len).collect();
    assert!(lengths.len() > steps(&all).len() + 3, "{lengths:?} are told as {:?}", steps(&all));
    let unpadded = doctored(&all, |frame| frame.truncate(frame.len() - 100));
    assert_ne!(odd_lengths(&unpadded), Vec::<usize>::new());
    let chatty =
        doctored(&all, |frame| frame[100..100 + REPEATED.len()].copy_from_slice(REPEATED.as_bytes()));
    assert_ne!(given_away(&chatty, &secrets), Vec::<String>::new());
    let mut patterned = all.clone();
    let stretch = patterned[0][60..60 + RUN].to_vec();
    patterned[1][77..77 + RUN].copy_from_slice(&stretch);
    assert!(repeats(&patterned) > 0);
    let signed = doctored(&repeated, |frame| frame[HEADER - 1] ^= 1);
    assert_ne!(headers(&signed), headers(&repeated));
}

/// They say short things and long ones, the same again, and their names; gives the texts, all different in
/// what is looked for.
async fn converse(alice: &Person, bob: &Person, place: &Place) -> Vec<String> {
    let mut texts = vec![REPEATED.to_owned(), format!("I am {NAME}, says alice")];
    texts.extend((1..=12).map(|n| format!("number {n} {}", "o".repeat(n * 67))));
    for text in &texts {
        alice.send(&place.channel, text).await;
        bob.send(&place.channel, REPEATED).await;
        wait_until("bob to have read it", async || {
            let seen = bob.texts(&place.channel).await.map_err(|status| status.to_string())?;
            when(seen.contains(text), format!("{} texts", seen.len()))
        })
        .await;
    }
    same_world(&[alice, bob], &place.space, 2 * texts.len()).await;
    texts
}

/// Lets bob carry what alice wrote: the carrier says that it has nothing. Gives the frames of that.
async fn is_carried_again(
    carrier: &mut Mole,
    bob: &Person,
    alice: &Person,
    texts: &[String],
) -> Vec<Vec<u8>> {
    alice.server.stop().await;
    let known = carrier.intruder.received().len();
    let mut tip = carrier.tip();
    // It has what it was told when it came, and nothing since.
    let floors = carrier.bundle.floors.iter();
    tip.positions.extend(floors.map(|floor| LogPosition { log: floor.log.clone(), contiguous: floor.seq }));
    let tip = carrier.seal_tip(&tip);
    carrier.push(bob, &tip).await;
    wait_until("bob to carry what alice wrote", async || {
        carrier.catch_up();
        let later: Vec<_> = carrier.intruder.received().into_iter().skip(known).collect();
        let carried: Vec<_> = carrier
            .heard
            .iter()
            .filter(|heard| later.contains(&heard.bytes) && tells(heard, texts) > 0)
            .map(|heard| heard.bytes.clone())
            .collect();
        when(!carried.is_empty(), format!("nothing of alice's among {} frames", later.len()))?;
        Ok(carried)
    })
    .await
}

/// How many of the texts are in it.
fn tells(heard: &Heard, texts: &[String]) -> usize {
    let of = |event: &SignedEvent| match &event.event.body {
        Body::Text { text, .. } => texts.contains(text),
        _ => false,
    };
    heard.events.iter().filter(|event| of(event)).count()
}

/// All frames, each once.
fn view(carrier: &Mole) -> Vec<Vec<u8>> {
    let all: BTreeSet<_> = carrier.intruder.received().into_iter().collect();
    assert!(all.len() > 20, "a conversation: {}", all.len());
    all.into_iter().collect()
}

fn secrets(place: &Place, people: &[&Person], heard: &[Heard], texts: &[String]) -> Vec<Secret> {
    let mut secrets: Vec<_> = texts.iter().map(|text| Secret::text(text)).collect();
    secrets.extend([NAME, "The garden", "general", "Alice", REPEATED].map(Secret::text));
    secrets.push(Secret::id("the space", &place.space));
    secrets.push(Secret::id("the channel", &place.channel));
    secrets.extend(people.iter().map(|person| Secret::id("an account", person.account())));
    for heard in heard {
        for event in &heard.events {
            secrets.push(Secret::bytes("an event", &event.id.0));
            secrets.push(Secret::bytes("a device", &event.event.author.0));
            secrets.push(Secret::bytes("a log", &event.event.log.0));
        }
    }
    secrets
}

fn odd_lengths(frames: &[Vec<u8>]) -> Vec<usize> {
    frames.iter().map(Vec::len).filter(|length| !LENGTHS.contains(length)).collect()
}

fn given_away(seen: &[Vec<u8>], secrets: &[Secret]) -> Vec<String> {
    let mut found = Vec::new();
    for bytes in seen {
        found.extend(
            secrets.iter().filter(|secret| secret.is_in(bytes)).map(|secret| secret.what().to_owned()),
        );
    }
    found
}

/// Stretches of bytes behind the clear part that are there more than once.
fn repeats(frames: &[Vec<u8>]) -> usize {
    let mut seen = BTreeSet::new();
    frames.iter().flat_map(|frame| frame[HEADER..].windows(RUN)).filter(|run| !seen.insert(*run)).count()
}

fn headers(frames: &[Vec<u8>]) -> BTreeSet<Vec<u8>> {
    frames.iter().map(|frame| frame[..HEADER].to_vec()).collect()
}

/// The clear parts of the newest state's frames, and which authors each stands for. Tips and messages alike.
fn headers_by_author(heard: &[Heard]) -> BTreeMap<Vec<u8>, BTreeSet<[u8; 32]>> {
    let newest = heard.iter().map(|heard| heard.epoch).max().unwrap_or_default();
    let mut headers: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    let of_state = heard.iter().filter(|heard| heard.epoch == newest && heard.kind != FrameKind::Commit);
    for heard in of_state {
        let authors = headers.entry(heard.bytes[..HEADER].to_vec()).or_default();
        authors.extend(heard.events.iter().map(|event| event.event.author.0));
    }
    assert!(headers.values().all(|authors| authors.len() > 1), "of several authors: {headers:?}");
    headers
}

/// Frames of the newest state with events of one author in them.
fn of_one_author(heard: &[Heard]) -> Vec<Vec<u8>> {
    let newest = heard.iter().map(|heard| heard.epoch).max().unwrap_or_default();
    let of_one = |heard: &&Heard| {
        let authors: BTreeSet<_> = heard.events.iter().map(|event| event.event.author).collect();
        heard.epoch == newest && authors.len() == 1
    };
    heard.iter().filter(of_one).map(|heard| heard.bytes.clone()).collect()
}

fn doctored(frames: &[Vec<u8>], change: impl Fn(&mut Vec<u8>)) -> Vec<Vec<u8>> {
    let mut frames = frames.to_vec();
    frames.iter_mut().for_each(change);
    frames
}
