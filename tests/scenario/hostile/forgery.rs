//! A member who writes in others' names, out of turn, or what only the owner may: nobody sees a thing.

use prost::Message as _;
use spacepanda_core::{
    event::{Body, ChangeKind, EventRef, SignedEvent},
    group::key_package::fresh_key_package,
    id::{ChannelId, EventId, GroupId, InviteId, LogId},
    invite::InviteLink,
    model::Role,
};
use spacepanda_proto::peer::v1::{self as wire, FrameOutcome, JoinOutcome, carried_event};

use super::Infiltrated;
use crate::harness::{
    hostile::{Intruder, Mole, counter, rejected, text_in, victim},
    wait::when,
    wait_until,
};

#[tokio::test(flavor = "multi_thread")]
async fn nobody_writes_in_anothers_name() {
    let mut story = Infiltrated::new().await;
    let Infiltrated { alice, bob, mole, place, .. } = &mut story;
    alice.send(&place.channel, "genuine").await;
    let (_, genuine) = mole.hears_text("genuine").await;
    wait_until("bob to read it", async || bob.has(&place.channel, 1).await).await;

    // Alice's next event, signed by someone else; as new, and as if only passed on.
    let forged = in_the_name_of(&genuine, mole, &place.channel);
    let frames =
        [mole.fresh(std::slice::from_ref(&forged)), mole.carry(vec![carried_event::Kind::Event(forged)])];
    for (number, frame) in (1..).zip(frames) {
        assert_eq!(mole.push(bob, &frame).await, FrameOutcome::Stored);
        assert_eq!(rejected(bob, "signature").await, number);
    }

    // Alice's own event as if it were the mole's.
    let frame = mole.fresh(&[genuine.encoded().to_vec()]);
    mole.push(bob, &frame).await;
    assert_eq!(rejected(bob, "wrong_sender").await, 1);

    // The mole's own event in Alice's log.
    let event = mole.next_event(text_in(&place.channel, "in alice's log"));
    let (seq, prev) = (genuine.event.seq + 1, Some(genuine.id));
    let (log, lamport) = (genuine.event.log, genuine.event.lamport + 1);
    let intruding = mole.sign(spacepanda_core::event::Event { log, seq, prev, lamport, ..event });
    let frame = mole.fresh(&[intruding.encoded().to_vec()]);
    mole.push(bob, &frame).await;
    assert_eq!(rejected(bob, "equivocation").await, 1);

    story.unharmed(&["genuine"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_out_of_its_place_is_never_shown() {
    let mut story = Infiltrated::new().await;
    let Infiltrated { alice, bob, mole, place, .. } = &mut story;
    mole.say(&[alice, bob], &place.channel, "a first word").await;
    let text = |text: &str| text_in(&place.channel, text);

    let mut foreign = mole.next_event(text("of another group"));
    foreign.gid = GroupId([9; 16]);
    let mut early = mole.next_event(text("of a wrong time"));
    early.lamport += 40;
    let mut unchained = mole.next_event(text("after nothing"));
    unchained.prev = Some(EventId([1; 32]));
    let mut gap = mole.next_event(text("after a gap"));
    (gap.seq, gap.lamport) = (gap.seq + 5, gap.lamport + 5);
    let mut dangling = mole.next_event(text("of an unknown past"));
    dangling.deps = vec![EventRef { log: LogId([8; 16]), seq: 1, event_id: EventId([2; 32]) }];
    for event in [foreign, early, unchained, gap, dangling] {
        let event = mole.sign(event).encoded().to_vec();
        let frame = mole.fresh(&[event]);
        for victim in [&*alice, &*bob] {
            assert_eq!(mole.push(victim, &frame).await, FrameOutcome::Stored);
        }
    }
    for victim in [&*alice, &*bob] {
        let counted = (rejected(victim, "malformed").await, rejected(victim, "equivocation").await);
        assert_eq!(counted, (2, 2), "group and time; the broken chain, and a gap in what is broken");
    }
    // The log itself is not spoilt by it.
    mole.say(&[alice, bob], &place.channel, "a last word").await;
    story.unharmed(&["a first word", "a last word"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_events_in_one_place_the_first_stays() {
    let mut story = Infiltrated::new().await;
    let Infiltrated { alice, bob, mole, place, .. } = &mut story;
    let other = mole.next_event(text_in(&place.channel, "what I never said"));
    let other = mole.sign(other).encoded().to_vec();
    mole.say(&[alice, bob], &place.channel, "what I said").await;
    let frame = mole.fresh(&[other]);
    for victim in [&*alice, &*bob] {
        assert_eq!(mole.push(victim, &frame).await, FrameOutcome::Stored);
        assert_eq!(rejected(victim, "equivocation").await, 1);
    }
    story.unharmed(&["what I said"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_changes_nothing_that_is_the_owners() {
    let mut story = Infiltrated::new().await;
    let alices = story.alice.invite(&story.place.space).await;
    let Infiltrated { alice, bob, mole, place, .. } = &mut story;
    let general = uuid::Uuid::parse_str(&place.channel).expect("an id").into_bytes();
    let own_link = InviteLink {
        seed: spacepanda_core::clock::random(),
        invite: InviteId([5; 16]),
        ..InviteLink::parse(&alices).expect("a link")
    };
    let (invite, public_key) = (own_link.invite, own_link.public_key());
    let bobs = mole.head().facts().standing.roster.iter().map(|member| &member.certificate);
    let bobs = bobs.clone().find(|certificate| certificate.account.to_string() == bob.account()).cloned();
    let bobs = bobs.expect("bob is a member");
    let request = |kind| Body::ChangeRequest { kind, target: bobs.account, generation: 0 };
    let attempts = [
        Body::Space { name: "Mallory's".into(), description: String::new() },
        Body::Channel { channel: ChannelId([6; 16]), name: "secret".into(), topic: String::new() },
        Body::Channel { channel: ChannelId(general), name: "renamed".into(), topic: String::new() },
        Body::Invite {
            invite,
            public_key,
            role: Role::Owner,
            max_uses: 100,
            expires_at_ms: own_link.expires_at_ms,
            epoch: 1,
        },
        Body::InviteRevoked { invite: InviteLink::parse(&alices).expect("a link").invite },
        request(ChangeKind::Remove),
        request(ChangeKind::Leave),
        // Where Bob is to be found, as if Bob had said it.
        Body::Addresses { peer_id: bobs.peer_id.clone(), addresses: vec![] },
        text_in(&uuid::Uuid::new_v4().to_string(), "to nowhere"),
    ];
    let events: Vec<_> = attempts.into_iter().map(|body| mole.append(body)).collect();
    let frame = mole.fresh(&events);
    for victim in [&*alice, &*bob] {
        assert_eq!(mole.push(victim, &frame).await, FrameOutcome::Stored);
    }
    // The log goes on, which it would not had one of them been refused.
    mole.say(&[alice, bob], &place.channel, "my log is fine").await;
    story.unharmed(&["my log is fine"]).await;

    let Infiltrated { alice, bob, place, .. } = &story;
    assert_eq!(counter(alice, "spacepanda_peers_blocked_total").await, 0);
    let accomplice = Intruder::new("accomplice").await;
    accomplice.meet(alice).await;
    let key_package = fresh_key_package(&accomplice.device()).expect("a KeyPackage");
    let nonce = accomplice.challenge(alice).await;
    let reply = accomplice.ask_to_join(alice, &own_link, (nonce, nonce), &key_package).await;
    assert_eq!(reply.outcome(), JoinOutcome::Unknown, "an invite of a member");
    // The owner's own invite still admits.
    let carol = victim("carol").await;
    carol.join(&alices).await;
    assert_eq!(look_roster(alice, place).await, 4);
    bob.send(&place.channel, "welcome, carol").await;
    wait_until("carol to be greeted", async || carol.has(&place.channel, 1).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_one_space_says_nothing_in_another() {
    let mut story = Infiltrated::new().await;
    let private = story.alice.create_space("Alice's own").await.space_id;
    let private = story.alice.general(&private).await;
    let Infiltrated { alice, bob, mole, place, .. } = &mut story;
    mole.say(&[alice, bob], &private, "I am not in here").await;
    mole.say(&[alice, bob], &place.channel, "I am in here").await;
    wait_until("the text in its own space", async || alice.has(&place.channel, 1).await).await;
    assert_eq!(alice.texts(&private).await.expect("texts"), Vec::<String>::new());
    story.unharmed(&["I am in here"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_different_things_to_different_people_does_not_part_them() {
    let mut story = Infiltrated::new().await;
    let Infiltrated { alice, bob, mole, place, .. } = &mut story;
    let other = mole.next_event(text_in(&place.channel, "said to bob"));
    let other = mole.sign(other).encoded().to_vec();
    mole.say(&[alice], &place.channel, "said to alice").await;
    mole.say(&[alice], &place.channel, "and more to alice").await;
    let frame = mole.fresh(&[other]);
    assert_eq!(mole.push(bob, &frame).await, FrameOutcome::Stored);

    // What the honest ones say refers to what they heard, and must arrive all the same.
    for number in 0..10 {
        alice.send(&place.channel, &format!("alice {number}")).await;
        bob.send(&place.channel, &format!("bob {number}")).await;
    }
    for (person, other) in [(&*alice, "bob"), (&*bob, "alice")] {
        wait_until("all that the other said", async || {
            let texts = person.texts(&place.channel).await.map_err(|status| status.to_string())?;
            let heard = texts.iter().filter(|text| text.starts_with(&format!("{other} "))).count();
            when(heard == 10, format!("{} read {texts:?}", person.name()))
        })
        .await;
        assert_eq!(counter(person, "spacepanda_peers_blocked_total").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lie_about_what_is_withheld_hides_nothing() {
    let mut story = Infiltrated::new().await;
    let Infiltrated { alice, bob, mole, place, .. } = &mut story;
    alice.send(&place.channel, "a first word").await;
    let (_, genuine) = mole.hears_text("a first word").await;
    wait_until("bob to read it", async || bob.has(&place.channel, 1).await).await;
    let lies = (1..=3).map(|next| {
        carried_event::Kind::Withheld(wire::WithheldEvent {
            log: genuine.event.log.0.to_vec(),
            seq: genuine.event.seq + next,
            event_id: vec![7; 32],
            lamport: genuine.event.lamport + next,
            author: genuine.event.author.0.to_vec(),
        })
    });
    let frame = mole.carry(lies.collect());
    assert_eq!(mole.push(bob, &frame).await, FrameOutcome::Stored);
    alice.send(&place.channel, "a second word").await;
    story.unharmed(&["a first word", "a second word"]).await;
}

/// The event that would come next in its author's log, signed by the mole.
fn in_the_name_of(genuine: &SignedEvent, mole: &Mole, channel: &str) -> Vec<u8> {
    let signed = wire::SignedEvent::decode(genuine.encoded()).expect("protobuf");
    let mut event = wire::Event::decode(&*signed.event).expect("protobuf");
    event.seq += 1;
    event.lamport += 1;
    event.prev = genuine.id.0.to_vec();
    let channel_id = uuid::Uuid::parse_str(channel).expect("an id").into_bytes().to_vec();
    event.body = wire::TextBody { channel_id, text: "forged".into(), reply_to: Vec::new() }.encode_to_vec();
    let event = event.encode_to_vec();
    let bytes = [b"spacepanda/event/1\0", mole.gid.as_bytes(), &event].concat();
    let signature = mole.intruder.device().sign(&bytes).to_vec();
    wire::SignedEvent { event, signature }.encode_to_vec()
}

async fn look_roster(person: &crate::harness::Person, place: &crate::harness::Place) -> usize {
    person.members(&place.space).await.expect("members").len()
}
