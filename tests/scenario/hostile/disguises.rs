//! Whoever is dialled has to show a certificate too: another's, or a broken one, is nobody's.

use prost::Message as _;
use spacepanda_core::{
    certificate::Certificate,
    clock::{now_ms, random},
    id::{AccountId, GroupId, InviteId},
    invite::InviteLink,
    router::PeerAddress,
};
use spacepanda_proto::{
    api::v1::{JoinState, event::Kind},
    peer::v1::SignedCertificate,
};
use tonic::Code;

use crate::harness::{
    hostile::{Intruder, rejected, rejected_exactly, victim},
    refused,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_answers_with_anothers_certificate_or_a_broken_one_is_told_and_not_remembered() {
    let (alice, bob) = (victim("alice").await, victim("bob").await);
    let mallory = Intruder::new("mallory").await;
    let address = mallory.address();
    let stolen = mallory.meet(&bob).await;
    let mut feed = alice.events(None).await;

    mallory.shows(stolen.encoded());
    refused(alice.try_connect(&address).await, Code::FailedPrecondition, "PEER_CERTIFICATE_INVALID");
    assert!(rejected(&alice, "certificate").await >= 1);
    assert!(alice.peers().await.is_empty(), "nothing is pinned");

    // From here on over a connection that is up, so that each try is one Hello.
    let other = Intruder::new("mallory again").await;
    let address = other.address();
    other.dial(&alice).await;
    let before = rejected(&alice, "certificate").await;
    let own = other.identity.certificate.encoded().to_vec();
    let mut unsigned = SignedCertificate::decode(&*own).expect("protobuf");
    unsigned.signature[10] ^= 1;
    // Well signed, by its own account, for another's router.
    let adopted = Certificate::issue(
        &other.identity.account,
        stolen.device,
        stolen.peer_id.clone(),
        stolen.letter_key,
        0,
    );
    let broken = [unsigned.encode_to_vec(), adopted.encoded().to_vec(), vec![9; 80], Vec::new()];
    for (number, certificate) in (1..).zip(broken) {
        other.shows(&certificate);
        refused(alice.try_connect(&address).await, Code::FailedPrecondition, "PEER_CERTIFICATE_INVALID");
        rejected_exactly(&alice, "certificate", before + number).await;
        assert!(alice.peers().await.is_empty(), "nothing is pinned");
    }

    // The same router with its own certificate is welcome, and the only one that alice ever told of.
    other.shows(&own);
    alice.try_connect(&address).await.expect("connected");
    let known = alice.peers().await;
    assert_eq!(known.len(), 1);
    assert_eq!(known[0].account_id, other.identity.certificate.account.to_string());
    let first = feed.next_matching("the first peer", |kind| match kind {
        Kind::PeerChanged(changed) => Some(changed.peer.clone()?.peer_id),
        _ => None,
    });
    assert_eq!(first.await, known[0].peer_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_goes_to_nobody_but_the_account_in_the_link() {
    let (alice, bob) = (victim("alice").await, victim("bob").await);
    let mallory = Intruder::new("mallory").await;
    let bobs = mallory.meet(&bob).await;
    let link = link_to(&mallory, bobs.account);

    // Bob's account is in the link, and Bob's certificate is shown: not on Bob's connection.
    mallory.shows(bobs.encoded());
    let (state, _) = alice.try_join(&link).await.expect("accepted");
    assert_eq!(state, JoinState::Pending, "nobody who counts has answered");
    assert!(rejected(&alice, "certificate").await >= 1);

    // Mallory's own account is not the inviter's.
    mallory.shows(mallory.identity.certificate.encoded());
    let another = link_to(&mallory, bobs.account);
    refused(alice.try_join(&another).await, Code::InvalidArgument, "INVITE_INVALID");
    assert!(alice.all_spaces().await.is_empty());
}

/// A link to a group that nobody has, which leads to this router and names that account.
fn link_to(router: &Intruder, account: AccountId) -> String {
    let address = PeerAddress::parse(&router.address()).expect("an address");
    let link = InviteLink {
        gid: GroupId::random(),
        seed: random(),
        invite: InviteId::random(),
        peer_id: address.peer.to_bytes(),
        addresses: vec![address.address.to_bytes()],
        expires_at_ms: now_ms().unsigned_abs() + 3_600_000,
        account,
    };
    link.encode()
}
