//! Parties that break the rules, against real servers: refused, counted, and nobody else notices.
//!
//! Every story ends with the honest ones talking: a server that only survived is not enough. Nor may what they
//! were told get into their logs.

mod certificates;
mod committers;
mod disguises;
mod epochs;
mod forgery;
mod frame_sets;
mod framing;
mod newer_version;
mod removal;
mod replays;
mod reused_keys;
mod roster;
mod strangers;
mod supports;

use crate::harness::{
    Person, Place,
    hostile::{Intruder, Mole, victim},
    meet, same_world,
    secrets::{Secret, none_in_log},
    world::World,
};

/// Alice's space with Bob, on a server each, and a hostile member.
struct Infiltrated {
    alice: Person,
    bob: Person,
    mole: Mole,
    place: Place,
    /// Before anything hostile happened.
    before: World,
}

impl Infiltrated {
    /// The mole has introduced itself to both, as a member should.
    async fn new() -> Self {
        let (alice, bob) = (victim("alice").await, victim("bob").await);
        let place = meet(&alice, &[&bob]).await;
        let mole = infiltrate("mallory", &alice, &[&bob], &place).await;
        let before = same_world(&[&alice, &bob], &place.space, 0).await;
        assert_eq!(before.roster.len(), 3);
        Self { alice, bob, mole, place, before }
    }

    /// Nothing has changed but for these texts, in any order, and the honest ones go on talking.
    async fn unharmed(&self, texts: &[&str]) {
        let Self { alice, bob, place, before, .. } = self;
        alice.send(&place.channel, "alice, after it").await;
        bob.send(&place.channel, "bob, after it").await;
        let after = same_world(&[alice, bob], &place.space, texts.len() + 2).await;
        let mut expected: Vec<_> =
            texts.iter().copied().chain(["alice, after it", "bob, after it"]).collect();
        let mut seen = after.texts();
        expected.sort_unstable();
        seen.sort_unstable();
        assert_eq!(seen, expected);
        assert_eq!(World { history: Vec::new(), ..after }, *before);
        for person in [alice, bob] {
            let names: Vec<_> = channel_names(person, place).await;
            assert_eq!(names, ["general"]);
            none_in_log(&self.secrets(texts), &person.server.log());
        }
    }

    /// What nobody's log may hold after any of these stories, at the level of most words.
    fn secrets(&self, texts: &[&str]) -> Vec<Secret> {
        let Self { alice, bob, mole, place, before } = self;
        let certificate = &mole.intruder.identity.certificate;
        let mut secrets = vec![
            Secret::id("the space", &place.space),
            Secret::id("the channel", &place.channel),
            Secret::id("the state", &before.state_id),
            Secret::bytes("the mole's account", &certificate.account.0),
            Secret::bytes("the mole's device", &certificate.device.0),
            Secret::bytes("the mole's router", &certificate.peer_id),
            Secret::bytes("the mole's certificate", certificate.encoded()),
        ];
        for person in [alice, bob] {
            secrets.push(Secret::id("an account", person.account()));
            secrets
                .extend([person.peer_id(), person.name(), &person.session.session_token].map(Secret::text));
        }
        secrets.extend(texts.iter().copied().chain(["after it"]).map(Secret::text));
        secrets
    }
}

/// A hostile member, connected to all of them.
async fn infiltrate(name: &str, host: &Person, others: &[&Person], place: &Place) -> Mole {
    let mole = Intruder::new(name).await.join(host, &host.invite(&place.space).await).await;
    for other in others {
        mole.intruder.meet(other).await;
    }
    mole
}

async fn channel_names(person: &Person, place: &Place) -> Vec<String> {
    let channels = person.channels(&place.space).await.expect("channels");
    channels.into_iter().map(|channel| channel.name).collect()
}
