//! Objects that stand for themselves: signed words, links, addresses, lengths.
//!
//! The first byte of most inputs says whether the rest is the whole object, or only what is signed in it.

use ed25519_dalek::{Signer as _, SigningKey};
use prost::Message as _;
use spacepanda_proto::peer::v1 as wire;

use crate::{
    certificate::Certificate,
    event::{Body, ChangeKind, Event, SignedEvent},
    group::{
        authorize::Justification,
        policy::{Policy, PolicyAccount},
    },
    id::{AccountId, ChannelId, DeviceId, GroupId, InviteId, LogId, StateId},
    invite::InviteLink,
    letter::{letter_key, open_signed, seal, seal_signed},
    model::Role,
    router::{Address, PeerAddress, PeerId, reads_request},
};

pub(super) const GID: GroupId = GroupId([7; 16]);
const LETTER_SECRET: [u8; 32] = [9; 32];

pub(super) fn account_key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number + 1; 32])
}

pub(super) fn device_key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number + 101; 32])
}

pub(super) fn device(number: u8) -> DeviceId {
    DeviceId(device_key(number).verifying_key().to_bytes())
}

pub(super) fn account(number: u8) -> AccountId {
    AccountId(account_key(number).verifying_key().to_bytes())
}

pub(super) fn certificate(number: u8) -> Certificate {
    let letter_key = letter_key(&LETTER_SECRET);
    Certificate::issue(&account_key(number), device(number), vec![number + 1; 38], letter_key, 1)
}

/// An event of someone's, if it can be one.
pub(super) fn event(author: u8, body: Body) -> Option<SignedEvent> {
    let event = Event {
        gid: GID,
        log: LogId([author + 1; 16]),
        seq: 1,
        prev: None,
        lamport: 1,
        deps: Vec::new(),
        seen_sid: StateId([0; 32]),
        wall_ms: 1,
        author: device(author),
        body,
    };
    SignedEvent::sign(&device_key(author), event).ok()
}

/// Two inputs: the whole, and what is signed in it.
pub(super) fn whole_and_inner(whole: &[u8], inner: &[u8]) -> Vec<Vec<u8>> {
    vec![[&[0], whole].concat(), [&[1], inner].concat()]
}

pub(super) fn peer_messages() -> Vec<Vec<u8>> {
    use wire::{peer_request::Kind as Request, peer_response::Kind as Response};
    let request = |kind| wire::PeerRequest { kind: Some(kind) }.encode_to_vec();
    vec![
        request(Request::Hello(wire::Hello { certificate: certificate(0).encoded().to_vec() })),
        request(Request::PushFrames(wire::PushFrames { frames: vec![vec![1; 512], Vec::new()] })),
        wire::PeerResponse {
            kind: Some(Response::JoinChallenge(wire::JoinChallenge { nonce: vec![1; 32] })),
        }
        .encode_to_vec(),
    ]
}

pub(super) fn takes_peer_message(input: &[u8]) -> bool {
    let request = wire::PeerRequest::decode(input).is_ok_and(|request| request.kind.is_some());
    let response = wire::PeerResponse::decode(input).is_ok_and(|response| response.kind.is_some());
    let bundle = wire::JoinBundle::decode(input).is_ok();
    request || response || bundle
}

pub(super) fn length_prefixes() -> Vec<Vec<u8>> {
    vec![vec![0, 0, 0, 3, 1, 2, 3], vec![0, 64, 0, 0], vec![255; 8], vec![0, 0, 64, 1]]
}

pub(super) fn takes_length_prefix(input: &[u8]) -> bool {
    reads_request(input)
}

pub(super) fn events() -> Vec<Vec<u8>> {
    let text = Body::Text { channel: ChannelId([1; 16]), text: "hello".into(), reply_to: None };
    let invite = Body::Invite {
        invite: InviteId([2; 16]),
        public_key: [3; 32],
        role: Role::Member,
        max_uses: 1,
        expires_at_ms: 1,
        epoch: 1,
    };
    let removal = Body::ChangeRequest { kind: ChangeKind::Remove, target: account(1), generation: 0 };
    let signed = [text, invite, removal].into_iter().filter_map(|body| event(0, body));
    let parts = signed.flat_map(|signed| {
        let inner =
            wire::SignedEvent::decode(signed.encoded()).map(|signed| signed.event).unwrap_or_default();
        whole_and_inner(signed.encoded(), &inner)
    });
    parts.collect()
}

pub(super) fn takes_event(input: &[u8]) -> bool {
    let Some((mode, rest)) = input.split_first() else { return false };
    let encoded = match (mode % 2, wire::Event::decode(rest)) {
        (1, Ok(event)) => {
            let event = wire::Event { author: device(0).0.to_vec(), ..event };
            let bytes = event.encode_to_vec();
            let signed = [b"spacepanda/event/1\0", &*event.gid, &bytes].concat();
            let signature = device_key(0).sign(&signed).to_bytes().to_vec();
            wire::SignedEvent { event: bytes, signature }.encode_to_vec()
        }
        _ => rest.to_vec(),
    };
    let Ok(read) = SignedEvent::decode(&encoded) else { return false };
    let again = SignedEvent::decode(read.encoded());
    assert!(again.is_ok_and(|again| again == read), "an event reads back as another one");
    true
}

pub(super) fn certificates() -> Vec<Vec<u8>> {
    let certificate = certificate(0);
    let inner = wire::SignedCertificate::decode(certificate.encoded()).map(|signed| signed.certificate);
    whole_and_inner(certificate.encoded(), &inner.unwrap_or_default())
}

pub(super) fn takes_certificate(input: &[u8]) -> bool {
    let Some((mode, rest)) = input.split_first() else { return false };
    let encoded = match (mode % 2, wire::DeviceCertificate::decode(rest)) {
        (1, Ok(certificate)) => {
            let certificate = wire::DeviceCertificate { account_key: account(0).0.to_vec(), ..certificate };
            let certificate = certificate.encode_to_vec();
            let signed = [b"spacepanda/certificate/1\0", &*certificate].concat();
            let signature = account_key(0).sign(&signed).to_bytes().to_vec();
            wire::SignedCertificate { certificate, signature }.encode_to_vec()
        }
        _ => rest.to_vec(),
    };
    Certificate::decode(&encoded).is_ok()
}

pub(super) fn policies() -> Vec<Vec<u8>> {
    let mut policy = Policy::founding(account(0));
    let founding = policy.encode();
    policy.accounts.push(PolicyAccount::entering(account(1), Role::Member));
    policy.accounts.sort_by_key(|entry| entry.account);
    vec![founding, policy.encode()]
}

pub(super) fn takes_policy(input: &[u8]) -> bool {
    let Ok(policy) = Policy::decode(input) else { return false };
    assert!(policy.encode() == input, "a policy has more than one encoding");
    true
}

pub(super) fn justifications() -> Vec<Vec<u8>> {
    let removal = Body::ChangeRequest { kind: ChangeKind::Remove, target: account(1), generation: 0 };
    let requests = event(0, removal).into_iter().collect();
    let asked = Justification { requests, ..Justification::empty(1) };
    [Justification::empty(0), asked].iter().filter_map(|reasons| reasons.encode().ok()).collect()
}

pub(super) fn takes_justification(input: &[u8]) -> bool {
    let Ok(reasons) = Justification::decode(input) else { return false };
    for join in &reasons.joins {
        let _ = join.verify(&GID);
    }
    assert!(reasons.encode().is_ok(), "what was read can be written");
    true
}

pub(super) fn letters() -> Vec<Vec<u8>> {
    let bundle = wire::JoinBundle { welcome: vec![1; 16], ..Default::default() }.encode_to_vec();
    let to = letter_key(&LETTER_SECRET);
    let whole = seal_signed(&device_key(0), &certificate(0), &LETTER_SECRET, &to, bundle.clone());
    let signed = [b"spacepanda/letter/1\0", &*bundle].concat();
    let signature = device_key(0).sign(&signed).to_bytes().to_vec();
    let certificate = certificate(0).encoded().to_vec();
    let inner = wire::SignedLetter { certificate, body: bundle, signature }.encode_to_vec();
    whole_and_inner(&whole.unwrap_or_default(), &inner)
}

pub(super) fn takes_letter(input: &[u8]) -> bool {
    let Some((mode, rest)) = input.split_first() else { return false };
    let letter = match mode % 2 {
        1 => seal(&LETTER_SECRET, &letter_key(&LETTER_SECRET), rest).unwrap_or_default(),
        _ => rest.to_vec(),
    };
    open_signed(&LETTER_SECRET, &letter).is_ok()
}

pub(super) fn links() -> Vec<Vec<u8>> {
    let address = Address::parse("/ip4/127.0.0.1/tcp/4001").map(|address| address.to_bytes());
    let link = InviteLink {
        gid: GID,
        seed: zeroize::Zeroizing::new([1; 32]),
        invite: InviteId([2; 16]),
        peer_id: PeerId::of_secret(&[3; 32]).map(|peer| peer.to_bytes()).unwrap_or_default(),
        addresses: address.into_iter().collect(),
        expires_at_ms: 1,
        account: account(0),
    };
    vec![link.encode().into_bytes()]
}

pub(super) fn takes_link(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    let Ok(link) = InviteLink::parse(&text) else { return false };
    let again = InviteLink::parse(&link.encode());
    assert!(again.is_ok_and(|again| again.encode() == link.encode()), "a link reads back as another one");
    true
}

pub(super) fn addresses() -> Vec<Vec<u8>> {
    let text = b"/ip4/192.168.1.2/tcp/4001".to_vec();
    let peer = PeerId::of_secret(&[3; 32]);
    let full = peer.map(|peer| format!("/ip6/::1/tcp/1/p2p/{peer}").into_bytes()).unwrap_or_default();
    let bytes = Address::parse("/dns4/example.org/tcp/443").map(|address| address.to_bytes());
    vec![text, full, bytes.unwrap_or_default()]
}

pub(super) fn takes_address(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    let whole = PeerAddress::parse(&text).is_ok();
    let peer = PeerId::parse(&text).is_ok() || PeerId::from_bytes(input).is_ok();
    let mut read = whole || peer;
    for address in [Address::parse(&text), Address::from_bytes(input)].into_iter().flatten() {
        let again = Address::from_bytes(&address.to_bytes());
        assert!(again.is_ok_and(|again| again == address), "an address reads back as another one");
        let _ = (address.is_dialable(), address.is_public(), address.port());
        read = true;
    }
    read
}
