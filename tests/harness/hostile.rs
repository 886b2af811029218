//! Hostile parties inside the test: real routers and real keys, with nothing of the server's manners.
//!
//! They never run inside a server. What a story wants refused is made here and judged in the story.

mod mole;
mod overlong;

use std::sync::{Arc, Mutex, PoisonError};

use prost::Message as _;
use spacepanda_core::{
    certificate::Certificate,
    clock::now_ms,
    group::{
        authorize::sign_join,
        identity::DeviceIdentity,
        key_package::{FreshKeyPackage, fresh_key_package},
    },
    invite::InviteLink,
    metrics::Metrics,
    router::{self, Address, PeerAddress, PeerId, Reply, RequestError, Router, RouterConfig, RouterEvent},
    store::identity::Identity,
};
use spacepanda_proto::peer::v1::{
    EchoReply, FrameOutcome, Hello, JoinChallengeRequest, JoinOutcome, JoinReply, JoinRequest, PeerRequest,
    PeerResponse, PushFrames, PushFramesReply, PushLetter, PushLetterReply, PushSupportsReply, Refusal,
    RefusalReason, peer_request, peer_response,
};
use tokio::sync::mpsc;

pub(crate) use self::{
    mole::{Heard, Mole, text_in},
    overlong::announce_too_much,
};
use super::{client::Person, cluster::peer_port, server::Server, wait::wait_until, wait::when};

/// A server whose refusals can be read, and which logs all it may: with metrics, and with no proxy before its
/// peer port.
pub(crate) async fn victim(name: &str) -> Person {
    Server::plan(name).metrics().flags(&["--log-level", "trace"]).start().await.sign_up(name).await
}

/// A stranger with keys and a router of its own.
pub(crate) struct Intruder {
    /// Its keys.
    pub(crate) identity: Identity,
    router: Router,
    received: Received,
    shown: Shown,
}

/// The certificate that it answers a Hello with.
type Shown = Arc<Mutex<Vec<u8>>>;

/// Frames that were pushed to it, in order.
type Received = Arc<Mutex<Vec<Vec<u8>>>>;

impl Intruder {
    /// A new stranger.
    pub(crate) async fn new(name: &str) -> Self {
        Self::with(Identity::generate(name, name, now_ms())).await
    }

    /// Someone whose keys it has.
    pub(crate) async fn with(identity: Identity) -> Self {
        let listen = Address::parse("/ip4/127.0.0.1/tcp/0").expect("an address");
        let config = RouterConfig::new(identity.peer_secret.clone(), listen);
        let (router, events, _) = router::start(config, &Metrics::new()).await.expect("a router");
        let received = Received::default();
        let shown = Shown::new(Mutex::new(identity.certificate.encoded().to_vec()));
        tokio::spawn(answer(events, Arc::clone(&shown), Arc::clone(&received)));
        Self { identity, router, received, shown }
    }

    /// From now on answers whoever introduces themselves with this certificate.
    pub(crate) fn shows(&self, certificate: &[u8]) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = certificate.to_vec();
    }

    /// Where it can be dialled.
    pub(crate) fn address(&self) -> String {
        let address = self.router.listen_addresses().into_iter().next().expect("it listens");
        PeerAddress { peer: *self.router.peer_id(), address }.to_string()
    }

    /// The device as MLS knows it.
    pub(crate) fn device(&self) -> DeviceIdentity {
        DeviceIdentity::new(self.identity.device.clone(), self.identity.certificate.clone())
    }

    /// Connects to someone's router, past any proxy before it.
    pub(crate) async fn dial(&self, victim: &Person) {
        let PeerAddress { peer, .. } = place(victim).await;
        let address = Address::parse(&format!("/ip4/127.0.0.1/tcp/{}", peer_port(victim).await.port()));
        let address = address.expect("an address");
        self.router.dial(&peer, vec![address]).await.expect("a connection");
    }

    /// Connects and shows its own certificate, as it should; gives the victim's.
    pub(crate) async fn meet(&self, victim: &Person) -> Certificate {
        self.dial(victim).await;
        match self.hello(victim, self.identity.certificate.encoded()).await {
            peer_response::Kind::Hello(hello) => Certificate::decode(&hello.certificate).expect("valid"),
            other => panic!("no introduction: {other:?}"),
        }
    }

    /// Shows any certificate.
    pub(crate) async fn hello(&self, victim: &Person, certificate: &[u8]) -> peer_response::Kind {
        self.ask(victim, peer_request::Kind::Hello(Hello { certificate: certificate.to_vec() })).await
    }

    /// Asks what is well-formed.
    pub(crate) async fn ask(&self, victim: &Person, request: peer_request::Kind) -> peer_response::Kind {
        let bytes = PeerRequest { kind: Some(request) }.encode_to_vec();
        self.raw(victim, bytes).await.expect("an answer")
    }

    /// Sends any bytes as a request.
    ///
    /// # Errors
    /// When no answer came.
    pub(crate) async fn raw(
        &self,
        victim: &Person,
        bytes: Vec<u8>,
    ) -> Result<peer_response::Kind, RequestError> {
        let answer = self.router.request(&peer_id(victim), bytes).await?;
        Ok(PeerResponse::decode(&*answer).expect("protobuf").kind.expect("a kind this version knows"))
    }

    /// Pushes frames; gives what became of each.
    pub(crate) async fn push(&self, victim: &Person, frames: &[Vec<u8>]) -> Vec<FrameOutcome> {
        match self.ask(victim, push_frames(frames)).await {
            peer_response::Kind::PushFrames(reply) => reply.outcomes().collect(),
            other => panic!("no outcomes: {other:?}"),
        }
    }

    /// Hands over a letter.
    pub(crate) async fn push_letter(&self, victim: &Person, letter: Vec<u8>) -> FrameOutcome {
        match self.ask(victim, peer_request::Kind::PushLetter(PushLetter { letter })).await {
            peer_response::Kind::PushLetter(reply) => reply.outcome(),
            other => panic!("no outcome: {other:?}"),
        }
    }

    /// A challenge of someone's server.
    pub(crate) async fn challenge(&self, host: &Person) -> [u8; 32] {
        let ask = JoinChallengeRequest {};
        match self.ask(host, peer_request::Kind::JoinChallenge(ask)).await {
            peer_response::Kind::JoinChallenge(challenge) => challenge.nonce.try_into().expect("32 bytes"),
            other => panic!("no challenge: {other:?}"),
        }
    }

    /// Asks to be added with this KeyPackage; the proof is made for `signed_nonce`.
    pub(crate) async fn ask_to_join(
        &self,
        host: &Person,
        link: &InviteLink,
        (nonce, signed_nonce): ([u8; 32], [u8; 32]),
        key_package: &FreshKeyPackage,
    ) -> JoinReply {
        let signature = sign_join(&link.seed, &link.gid, &signed_nonce, &key_package.hash).to_vec();
        let request = JoinRequest {
            gid: link.gid.0.to_vec(),
            invite_key: link.public_key().to_vec(),
            nonce: nonce.to_vec(),
            key_package: key_package.bytes.clone(),
            signature,
        };
        match self.ask(host, peer_request::Kind::Join(request)).await {
            peer_response::Kind::Join(reply) => reply,
            other => panic!("no reply: {other:?}"),
        }
    }

    /// Joins by link as anyone may, and is a member from now on.
    pub(crate) async fn join(self, host: &Person, link: &str) -> Mole {
        let link = InviteLink::parse(link).expect("a link");
        self.meet(host).await;
        let key_package = fresh_key_package(&self.device()).expect("a KeyPackage");
        // The letter waits for another member's word, and for some time where nobody gives one.
        let reply = wait_until("the letter", async || {
            let nonce = self.challenge(host).await;
            let reply = self.ask_to_join(host, &link, (nonce, nonce), &key_package).await;
            when(reply.outcome() != JoinOutcome::Pending, "it is held back")?;
            Ok(reply)
        })
        .await;
        assert_eq!(reply.outcome(), JoinOutcome::Accepted);
        Mole::enter(self, &link, key_package, &reply.letter)
    }

    /// Waits until the victim answers it no more, whatever it tries.
    pub(crate) async fn is_shut_out(&self, victim: &Person) {
        let PeerAddress { peer, address } = place(victim).await;
        wait_until("the intruder to be shut out", async || {
            // A dial comes up for a moment: who dials is known only after the handshake.
            let dialled = self.router.dial(&peer, vec![address.clone()]).await;
            let hello = Hello { certificate: self.identity.certificate.encoded().to_vec() };
            let request = PeerRequest { kind: Some(peer_request::Kind::Hello(hello)) }.encode_to_vec();
            let answer = self.router.request(&peer, request).await;
            when(answer.is_err(), format!("dialled: {}, and it was answered", dialled.is_ok()))
        })
        .await;
    }

    /// Every frame that was pushed to it, in order.
    pub(crate) fn received(&self) -> Vec<Vec<u8>> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A push of these frames.
pub(crate) fn push_frames(frames: &[Vec<u8>]) -> peer_request::Kind {
    peer_request::Kind::PushFrames(PushFrames { frames: frames.to_vec() })
}

/// The refusal in an answer; panics when it was served.
pub(crate) fn refusal(answer: &peer_response::Kind) -> RefusalReason {
    match answer {
        peer_response::Kind::Refusal(refusal) => refusal.reason(),
        other => panic!("it was served: {other:?}"),
    }
}

/// How often a person's server has refused input of peers for this reason.
pub(crate) async fn rejected(person: &Person, reason: &str) -> u64 {
    counter(person, &format!("spacepanda_peer_input_rejected_total{{reason=\"{reason}\"}}")).await
}

/// A counter of a person's server; 0 while it has not been used.
pub(crate) async fn counter(person: &Person, name: &str) -> u64 {
    let metrics = person.server.metrics().await;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().expect("a count"))
}

/// Waits until the counter of refusals stands at exactly this.
pub(crate) async fn rejected_exactly(person: &Person, reason: &str, times: u64) {
    wait_until(&format!("{times} refusals as {reason} by {}", person.name()), async || {
        let seen = rejected(person, reason).await;
        when(seen == times, format!("{seen}"))
    })
    .await;
}

async fn place(victim: &Person) -> PeerAddress {
    PeerAddress::parse(&victim.peer_address().await).expect("an address")
}

fn peer_id(victim: &Person) -> PeerId {
    PeerId::parse(victim.peer_id()).expect("a peer id")
}

/// Answers like a polite member and keeps every frame.
async fn answer(mut events: mpsc::Receiver<RouterEvent>, shown: Shown, received: Received) {
    while let Some(event) = events.recv().await {
        let RouterEvent::Request { request, reply, .. } = event else { continue };
        let Ok(PeerRequest { kind: Some(kind) }) = PeerRequest::decode(&*request) else { continue };
        match kind {
            peer_request::Kind::Hello(_) => {
                let certificate = shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
                respond(reply, peer_response::Kind::Hello(Hello { certificate }));
            }
            peer_request::Kind::PushFrames(push) => {
                let outcomes = vec![FrameOutcome::Stored.into(); push.frames.len()];
                received.lock().unwrap_or_else(PoisonError::into_inner).extend(push.frames);
                respond(reply, peer_response::Kind::PushFrames(PushFramesReply { outcomes }));
            }
            peer_request::Kind::PushLetter(_) => {
                let outcome = FrameOutcome::Stored.into();
                respond(reply, peer_response::Kind::PushLetter(PushLetterReply { outcome }));
            }
            peer_request::Kind::PushSupports(_) => {
                respond(reply, peer_response::Kind::PushSupports(PushSupportsReply::default()));
            }
            peer_request::Kind::Echo(_) => respond(reply, peer_response::Kind::Echo(EchoReply::default())),
            // It does as it did before frames were compared.
            peer_request::Kind::Reconcile(_) | peer_request::Kind::FetchFrames(_) => {
                let reason = RefusalReason::Unsupported.into();
                respond(reply, peer_response::Kind::Refusal(Refusal { reason }));
            }
            // Nobody asks an intruder to let them in.
            peer_request::Kind::JoinChallenge(_) | peer_request::Kind::Join(_) => {}
        }
    }
}

fn respond(reply: Reply, kind: peer_response::Kind) {
    reply.send(PeerResponse { kind: Some(kind) }.encode_to_vec());
}
