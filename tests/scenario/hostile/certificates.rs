//! Someone else's certificate, or a broken one, opens no door.

use prost::Message as _;
use spacepanda_core::{
    certificate::Certificate, group::key_package::fresh_key_package, invite::InviteLink,
    store::identity::Identity,
};
use spacepanda_proto::peer::v1::{FrameOutcome, JoinOutcome, RefusalReason, SignedCertificate};

use crate::harness::{
    hostile::{Intruder, push_frames, refusal, rejected, victim},
    meet, same_world,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_counts_only_on_its_own_routers_connection() {
    let (alice, bob) = (victim("alice").await, victim("bob").await);
    let place = meet(&alice, &[&bob]).await;
    let intruder = Intruder::new("mallory").await;
    // Bob shows his to everyone who introduces themselves.
    let stolen = intruder.meet(&bob).await;
    assert_eq!(stolen.account.to_string(), bob.account());

    intruder.dial(&alice).await;
    let own = intruder.identity.certificate.encoded().to_vec();
    let mut unsigned = SignedCertificate::decode(&*own).expect("protobuf");
    unsigned.signature[10] ^= 1;
    // Well signed, by an account of its own, for Bob's device and Bob's router.
    let adopted = Certificate::issue(
        &intruder.identity.account,
        stolen.device,
        stolen.peer_id.clone(),
        stolen.letter_key,
        0,
    );
    let forged =
        [stolen.encoded().to_vec(), unsigned.encode_to_vec(), adopted.encoded().to_vec(), vec![9; 80]];
    for (number, certificate) in (1..).zip(forged) {
        let answer = intruder.hello(&alice, &certificate).await;
        assert_eq!(refusal(&answer), RefusalReason::Certificate);
        assert_eq!(rejected(&alice, "certificate").await, number);
        let answer = intruder.ask(&alice, push_frames(&[])).await;
        assert_eq!(refusal(&answer), RefusalReason::UnknownPeer, "it is served in nobody's name");
    }
    intruder.meet(&alice).await;

    alice.send(&place.channel, "is it you, bob?").await;
    bob.send(&place.channel, "it was me all along").await;
    same_world(&[&alice, &bob], &place.space, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_introduction_does_not_change_who_a_peer_is() {
    let alice = victim("alice").await;
    let (intruder, other) = (Intruder::new("mallory").await, Intruder::new("other").await);
    intruder.meet(&alice).await;
    let answer = intruder.hello(&alice, other.identity.certificate.encoded()).await;
    assert_eq!(refusal(&answer), RefusalReason::Certificate);
    let known = alice.peers().await;
    assert_eq!(known.len(), 1);
    assert_eq!(known[0].account_id, intruder.identity.certificate.account.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_must_be_who_introduced_themselves() {
    let (alice, bob) = (victim("alice").await, victim("bob").await);
    let space = alice.create_space("The garden").await.space_id;
    let text = alice.invite(&space).await;
    let link = InviteLink::parse(&text).expect("a link");
    let (intruder, friend) = (Intruder::new("mallory").await, Intruder::new("friend").await);
    intruder.meet(&alice).await;

    let key_package = fresh_key_package(&friend.device()).expect("a KeyPackage");
    let nonce = intruder.challenge(&alice).await;
    let reply = intruder.ask_to_join(&alice, &link, (nonce, nonce), &key_package).await;
    assert_eq!(reply.outcome(), JoinOutcome::Unknown);
    assert!(reply.letter.is_empty());
    assert_eq!(rejected(&alice, "certificate").await, 1);

    // It cost the link nothing.
    bob.join(&text).await;
    assert_eq!(same_world(&[&alice, &bob], &space, 0).await.roster.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn naming_anothers_device_brings_nothing_that_is_meant_for_it() {
    let (alice, bob) = (victim("alice").await, victim("bob").await);
    let place = meet(&alice, &[&bob]).await;
    let intruder = Intruder::new("mallory").await;
    let bobs = intruder.meet(&bob).await;
    bob.server.stop().await;

    // Its own account and router, well signed; only the device is Bob's.
    let Identity { account, certificate: own, .. } = &intruder.identity;
    let claim = Certificate::issue(account, bobs.device, own.peer_id.clone(), own.letter_key, 0);
    intruder.dial(&alice).await;
    intruder.hello(&alice, claim.encoded()).await;
    let mut junk = vec![0; 512];
    junk[0] = 1;
    assert_eq!(intruder.push(&alice, &[junk]).await, [FrameOutcome::Foreign], "it parks nothing");
    let sent = alice.send(&place.channel, "for bob alone").await;
    // Alice has nobody to give it to, and keeps it until she has.
    bob.server.restart().await;
    bob.wake().await;
    same_world(&[&alice, &bob], &place.space, 1).await;
    assert_eq!(bob.message(&sent.message_id).await.expect("bob has it").text, "for bob alone");
    assert_eq!(intruder.received(), Vec::<Vec<u8>>::new());
}
