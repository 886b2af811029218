//! What the router tells: connections come and go, peers ask.

use std::sync::{Arc, PoisonError};

use prost::Message as _;
use spacepanda_proto::peer::v1::{
    PeerRequest, PeerResponse, Refusal, RefusalReason, peer_request, peer_response,
};
use tokio::sync::mpsc;

use super::{Network, misbehaviour::Offence};
use crate::{
    clock::now_ms,
    journal::tell,
    model::PeerState,
    router::{PeerId, Reply, RouterEvent},
    store::{StoreError, feed::Entry, peer},
};

impl Network {
    /// Handles router events until the router ends.
    pub(super) async fn pump(self: Arc<Self>, mut events: mpsc::Receiver<RouterEvent>) {
        while let Some(event) = events.recv().await {
            match event {
                RouterEvent::Connected { peer, outbound } => self.on_connected(peer, outbound),
                RouterEvent::Disconnected { peer } => self.on_disconnected(peer),
                RouterEvent::Request { peer, request, reply } => self.on_request(peer, request, reply),
                RouterEvent::RoundTrip { peer, round_trip } => {
                    let mut known = self.round_trips.lock().unwrap_or_else(PoisonError::into_inner);
                    known.insert(peer, round_trip);
                }
                RouterEvent::ListenAddress { .. } => {
                    self.wake.dial.notify_one();
                    self.wake.addresses.notify_one();
                }
                RouterEvent::InboundGarbage { peer } => self.strike(&peer, Offence::Oversized),
            }
        }
        // Without a router there is no session.
        self.stop.cancel();
    }

    /// The dialler introduces itself first; whoever was dialled waits for that.
    fn on_connected(self: &Arc<Self>, peer: PeerId, outbound: bool) {
        if outbound {
            let network = Arc::clone(self);
            self.spawn("hello", async move {
                let _ = network.introduce(&peer, true).await;
            });
        }
    }

    fn on_disconnected(self: &Arc<Self>, peer: PeerId) {
        self.round_trips.lock().unwrap_or_else(PoisonError::into_inner).remove(&peer);
        let was_verified = self.links.remove(&peer);
        self.nonces.forget(&peer);
        self.wake.dial.notify_one();
        if was_verified {
            tracing::info!("a peer is disconnected");
            let network = Arc::clone(self);
            self.spawn("disconnected", async move { network.note_disconnected(peer).await });
        }
    }

    async fn note_disconnected(&self, gone: PeerId) {
        let was_told = self.strangers.went(&gone);
        let noted: Result<(), StoreError> = self
            .vault
            .write(move |tx| {
                Box::pin(async move {
                    let now = now_ms();
                    peer::note_seen(tx.conn(), &gone, now).await?;
                    if !was_told && peer::is_stranger(tx.conn(), &gone.to_bytes()).await? {
                        return Ok(());
                    }
                    tell(tx, &Entry::Peer(gone.to_bytes(), PeerState::Disconnected), now).await
                })
            })
            .await;
        if let Err(error) = noted {
            tracing::warn!(%error, "a lost connection could not be noted");
        }
    }

    fn on_request(self: &Arc<Self>, peer: PeerId, request: Vec<u8>, reply: Reply) {
        let Ok(permit) = Arc::clone(&self.served).try_acquire_owned() else {
            reply.send(refusal(RefusalReason::Busy));
            return;
        };
        let network = Arc::clone(self);
        self.spawn("request", async move {
            let response = match PeerRequest::decode(&*request) {
                Ok(PeerRequest { kind: Some(kind) }) => network.serve(&peer, kind).await,
                // A kind of a newer version, or garbage: not told apart by protobuf.
                Ok(PeerRequest { kind: None }) => refused(RefusalReason::Unsupported),
                Err(_) => {
                    network.offend(&peer, Offence::Malformed);
                    refused(RefusalReason::Malformed)
                }
            };
            reply.send(PeerResponse { kind: Some(response) }.encode_to_vec());
            drop(permit);
        });
    }

    async fn serve(self: &Arc<Self>, peer: &PeerId, request: peer_request::Kind) -> peer_response::Kind {
        if let peer_request::Kind::Hello(hello) = request {
            return self.answer_hello(peer, &hello).await;
        }
        let Some(certificate) = self.links.certificate(peer) else {
            return refused(RefusalReason::UnknownPeer);
        };
        match request {
            peer_request::Kind::Hello(_) => refused(RefusalReason::Malformed),
            peer_request::Kind::PushFrames(push) => {
                peer_response::Kind::PushFrames(self.take_push(peer, &certificate, push).await)
            }
            peer_request::Kind::JoinChallenge(_) => self.challenge(peer),
            peer_request::Kind::Join(join) => {
                peer_response::Kind::Join(self.admit(peer, &certificate, join).await)
            }
            peer_request::Kind::PushSupports(push) => {
                peer_response::Kind::PushSupports(self.take_supports(peer, &certificate, push).await)
            }
            peer_request::Kind::Reconcile(request) => self.compare_with(peer, &certificate, request).await,
            peer_request::Kind::FetchFrames(request) => self.hand_out(peer, &certificate, request).await,
            peer_request::Kind::Echo(request) => self.echo(peer, &certificate, request).await,
            peer_request::Kind::PushLetter(push) => {
                peer_response::Kind::PushLetter(self.take_letter(peer, push).await)
            }
        }
    }
}

/// A request is not served.
pub(super) fn refused(reason: RefusalReason) -> peer_response::Kind {
    peer_response::Kind::Refusal(Refusal { reason: reason.into() })
}

fn refusal(reason: RefusalReason) -> Vec<u8> {
    PeerResponse { kind: Some(refused(reason)) }.encode_to_vec()
}
