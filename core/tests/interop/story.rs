//! Both kinds of members in one group, which either founded.

use crate::{
    member::{Followed, Heard, Member},
    other::{Habits, Other, Stranger},
    ours::{Joiner, Ours},
    paper::{
        MODERATOR, admission, invited_admission, leave, promotion, refresh, rejoining, removal,
        requested_removal,
    },
};

/// Alice's group: Alice and Bob run our engine, Mina another.
pub(crate) fn with_a_guest() -> (Ours, Ours, Other) {
    let mut alice = Ours::found(1);
    let (mina, bob) = (Stranger::new(2, &Habits::default()), Joiner::new(3));
    let sent = alice.commit(&admission(&alice, &[&mina.request(), &bob.request()]));
    let (welcome, route_secret) = (sent.welcome.unwrap(), alice.view().route_secret);
    (alice, bob.join(&welcome, route_secret), mina.join(&welcome, route_secret))
}

/// Mina's group: Mina runs another implementation, Alice and Bob our engine.
pub(crate) fn of_a_host() -> (Other, Ours, Ours) {
    let mut mina = Stranger::new(2, &Habits::default()).found();
    let (alice, bob) = (Joiner::new(1), Joiner::new(3));
    let sent = mina.commit(&admission(&mina, &[&alice.request(), &bob.request()]));
    let (welcome, route_secret) = (sent.welcome.unwrap(), mina.view().route_secret);
    (mina, alice.join(&welcome, route_secret), bob.join(&welcome, route_secret))
}

fn assert_one_state(members: &[&mut dyn Member]) {
    let first = members[0].view();
    members.iter().for_each(|member| assert_eq!(member.view(), first));
    let devices: Vec<_> = members.iter().map(|member| member.device().id().0).collect();
    let roster: Vec<_> = first.roster.iter().map(|(_, device)| *device).collect();
    assert_eq!(roster, devices, "in the order of their leaves");
}

/// Everyone writes twice, the second message is read first.
fn assert_talk(members: &mut [&mut dyn Member], so_far: u32) {
    assert_one_state(members);
    for sender in 0..members.len() {
        let by = members[sender].device().id().0;
        let counters = [so_far, so_far + 1];
        let frames = counters.map(|counter| members[sender].write(&format!("{sender}: {counter}")));
        for receiver in (0..members.len()).filter(|receiver| *receiver != sender) {
            for (counter, frame) in counters.into_iter().zip(&frames).rev() {
                let text = format!("{sender}: {counter}");
                assert_eq!(members[receiver].read(frame), Heard { text, by, counter });
            }
        }
    }
}

#[test]
fn a_guest_joins_reads_is_read_and_follows_every_commit() {
    let mut alice = Ours::found(1);
    let mina = Stranger::new(2, &Habits::default());
    let sent = alice.commit(&admission(&alice, &[&mina.request()]));
    let mut mina = mina.join(&sent.welcome.unwrap(), alice.view().route_secret);
    assert_eq!(alice.view().epoch, 1);
    assert_talk(&mut [&mut alice, &mut mina], 0);

    // Somebody is added who runs our engine.
    let bob = Joiner::new(3);
    let sent = alice.commit(&admission(&alice, &[&bob.request()]));
    let mut bob = bob.join(&sent.welcome.unwrap(), alice.view().route_secret);
    assert_eq!(mina.follow(&sent.frame), Followed::Stayed);
    assert_talk(&mut [&mut alice, &mut mina, &mut bob], 0);

    // The owner changes its keys, and does so again.
    for epoch in 3..5 {
        let sent = alice.commit(&refresh(&alice));
        for member in [&mut mina as &mut dyn Member, &mut bob] {
            assert_eq!(member.follow(&sent.frame), Followed::Stayed);
        }
        assert_eq!(mina.view().epoch, epoch);
        assert_talk(&mut [&mut alice, &mut mina, &mut bob], 0);
        assert_talk(&mut [&mut alice, &mut mina, &mut bob], 2);
    }

    // Bob is removed: new keys, and a new route.
    let route_before = mina.view().route_secret;
    let sent = alice.commit(&removal(&alice, bob.device()));
    assert_eq!(mina.follow(&sent.frame), Followed::Stayed);
    assert_eq!(bob.follow(&sent.frame), Followed::Removed);
    assert_talk(&mut [&mut alice, &mut mina], 0);
    assert_ne!(mina.view().route_secret, route_before);

    // Mina is removed, and reads no more.
    let last_keys = mina.envelope();
    let sent = alice.commit(&removal(&alice, mina.device()));
    assert!(last_keys.open(&sent.frame).is_some());
    assert_eq!(mina.follow(&sent.frame), Followed::Removed);
    assert!(last_keys.open(&alice.write("alone")).is_none());
}

#[test]
fn a_host_lets_ours_in_and_out_and_they_follow_every_commit() {
    let (mut mina, mut alice, mut bob) = of_a_host();
    assert_eq!(alice.view().epoch, 1);
    assert_talk(&mut [&mut mina, &mut alice, &mut bob], 0);

    // The host changes its keys.
    let sent = mina.commit(&refresh(&mina));
    for member in [&mut alice, &mut bob] {
        assert_eq!(member.follow(&sent.frame), Followed::Stayed);
    }
    assert_talk(&mut [&mut mina, &mut alice, &mut bob], 0);

    // It lets in one of each kind.
    let (carol, nina) = (Joiner::new(4), Stranger::new(5, &Habits::default()));
    let sent = mina.commit(&admission(&mina, &[&carol.request(), &nina.request()]));
    let (welcome, route_secret) = (sent.welcome.unwrap(), mina.view().route_secret);
    let mut carol = carol.join(&welcome, route_secret);
    let mut nina = nina.join(&welcome, route_secret);
    for member in [&mut alice, &mut bob] {
        assert_eq!(member.follow(&sent.frame), Followed::Stayed);
    }
    assert_talk(&mut [&mut mina, &mut alice, &mut bob, &mut carol, &mut nina], 0);

    // Bob is removed.
    let route_before = alice.view().route_secret;
    let sent = mina.commit(&removal(&mina, bob.device()));
    assert_eq!(bob.follow(&sent.frame), Followed::Removed);
    for member in [&mut alice as &mut dyn Member, &mut carol, &mut nina] {
        assert_eq!(member.follow(&sent.frame), Followed::Stayed);
    }
    assert_talk(&mut [&mut mina, &mut alice, &mut carol, &mut nina], 0);
    assert_ne!(alice.view().route_secret, route_before);

    // Alice asks to go.
    let request = alice.device().asks_to_leave();
    let sent = mina.commit(&leave(&mina, alice.device(), request));
    assert_eq!(alice.follow(&sent.frame), Followed::Removed);
    for member in [&mut carol as &mut dyn Member, &mut nina] {
        assert_eq!(member.follow(&sent.frame), Followed::Stayed);
    }
    assert_talk(&mut [&mut mina, &mut carol, &mut nina], 0);

    // A leaf that was freed is given again.
    let dave = Joiner::new(6);
    let sent = mina.commit(&admission(&mina, &[&dave.request()]));
    let mut dave = dave.join(&sent.welcome.unwrap(), mina.view().route_secret);
    for member in [&mut carol as &mut dyn Member, &mut nina] {
        assert_eq!(member.follow(&sent.frame), Followed::Stayed);
    }
    assert_talk(&mut [&mut mina, &mut dave, &mut carol, &mut nina], 0);
}

#[test]
fn a_guest_commits_what_others_ask_for() {
    let (mut alice, mut bob, mut mina) = with_a_guest();

    // New keys of its own, for which nobody has to ask.
    let sent = mina.commit(&refresh(&mina));
    for member in [&mut alice, &mut bob] {
        assert_eq!(member.follow(&sent.frame), Followed::Stayed);
    }
    assert_talk(&mut [&mut alice, &mut mina, &mut bob], 0);

    // Carol comes with the owner's invite.
    let carol = Joiner::new(4);
    let sent = mina.commit(&invited_admission(&mina, alice.device(), &[&carol.request()]));
    let mut carol = carol.join(&sent.welcome.unwrap(), mina.view().route_secret);
    for member in [&mut alice, &mut bob] {
        assert_eq!(member.follow(&sent.frame), Followed::Stayed);
    }
    assert_talk(&mut [&mut alice, &mut mina, &mut bob, &mut carol], 0);

    // Bob asks for a fresh leaf.
    let fresh = Joiner::new(3);
    let sent = mina.commit(&rejoining(&mina, &fresh.request(), bob.encryption_key()));
    assert_eq!(bob.follow(&sent.frame), Followed::Removed, "the old leaf");
    let mut bob = fresh.join(&sent.welcome.unwrap(), mina.view().route_secret);
    for member in [&mut alice, &mut carol] {
        assert_eq!(member.follow(&sent.frame), Followed::Stayed);
    }
    assert_talk(&mut [&mut alice, &mut mina, &mut bob, &mut carol], 0);

    // The owner asks that Mina moderates, which Bob commits; and Mina removes Carol then.
    let sent = bob.commit(&promotion(&bob, alice.device(), mina.device(), MODERATOR));
    for member in [&mut alice as &mut dyn Member, &mut mina, &mut carol] {
        assert_eq!(member.follow(&sent.frame), Followed::Stayed);
    }
    let sent = mina.commit(&removal(&mina, carol.device()));
    assert_eq!(carol.follow(&sent.frame), Followed::Removed);
    for member in [&mut alice, &mut bob] {
        assert_eq!(member.follow(&sent.frame), Followed::Stayed);
    }
    assert_talk(&mut [&mut alice, &mut mina, &mut bob], 0);

    // Bob asks to go.
    let request = bob.device().asks_to_leave();
    let sent = mina.commit(&leave(&mina, bob.device(), request));
    assert_eq!(bob.follow(&sent.frame), Followed::Removed);
    assert_eq!(alice.follow(&sent.frame), Followed::Stayed);
    assert_talk(&mut [&mut alice, &mut mina], 0);

    // And what the owner asks for is committed by Mina, to the last.
    let dora = Joiner::new(5);
    let sent = mina.commit(&invited_admission(&mina, alice.device(), &[&dora.request()]));
    let mut dora = dora.join(&sent.welcome.unwrap(), mina.view().route_secret);
    assert_eq!(alice.follow(&sent.frame), Followed::Stayed);
    let sent = mina.commit(&requested_removal(&mina, alice.device(), dora.device()));
    assert_eq!(dora.follow(&sent.frame), Followed::Removed);
    assert_eq!(alice.follow(&sent.frame), Followed::Stayed);
    assert_talk(&mut [&mut alice, &mut mina], 0);
}
