//! Introductions: both sides of a connection show the certificate that ties account, device and router.

use std::{
    sync::{Arc, PoisonError},
    time::Instant,
};

use spacepanda_proto::peer::v1::{Hello, RefusalReason, peer_request, peer_response};

use super::{Network, misbehaviour::Offence, pump::refused, strangers};
use crate::{
    certificate::Certificate,
    clock::now_ms,
    journal::tell,
    model::PeerState,
    router::PeerId,
    store::{StoreError, WriteTx, feed::Entry, peer},
};

/// Why an introduction failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IntroductionError {
    /// No answer.
    #[error("the peer did not answer")]
    NoAnswer,
    /// A certificate that is broken or belongs to another router.
    #[error("the peer has no valid certificate")]
    Certificate,
}

impl Network {
    /// Shows our certificate to a peer we dialled, and checks the one it answers with.
    ///
    /// # Errors
    /// [`IntroductionError`]
    pub(crate) async fn introduce(
        self: &Arc<Self>,
        peer: &PeerId,
        outbound: bool,
    ) -> Result<Certificate, IntroductionError> {
        if let Some(known) = self.links.certificate(peer) {
            return Ok(known);
        }
        let hello = peer_request::Kind::Hello(self.own_hello());
        match self.ask(peer, hello).await {
            Some(peer_response::Kind::Hello(hello)) => {
                let certificate = self.check_hello(peer, &hello)?;
                self.on_verified(peer, certificate.clone(), outbound).await;
                Ok(certificate)
            }
            Some(peer_response::Kind::Refusal(refusal)) if refusal.reason() == RefusalReason::Certificate => {
                Err(IntroductionError::Certificate)
            }
            // Busy, or not speaking our language: that says nothing about its certificate.
            _ => Err(IntroductionError::NoAnswer),
        }
    }

    /// Measures the round trip to a verified peer, until the first ping does.
    pub(crate) async fn measure(&self, peer: &PeerId) {
        if self.round_trip(peer).is_some() {
            return;
        }
        let start = Instant::now();
        let hello = peer_request::Kind::Hello(self.own_hello());
        if self.ask(peer, hello).await.is_some() {
            let mut known = self.round_trips.lock().unwrap_or_else(PoisonError::into_inner);
            known.entry(*peer).or_insert_with(|| start.elapsed());
        }
    }

    pub(super) async fn answer_hello(self: &Arc<Self>, peer: &PeerId, hello: &Hello) -> peer_response::Kind {
        match self.check_hello(peer, hello) {
            Ok(certificate) => {
                self.on_verified(peer, certificate, false).await;
                peer_response::Kind::Hello(self.own_hello())
            }
            Err(_) => refused(RefusalReason::Certificate),
        }
    }

    fn own_hello(&self) -> Hello {
        Hello { certificate: self.keys.certificate().encoded().to_vec() }
    }

    /// A certificate counts only on a connection whose Noise key is the router it names.
    fn check_hello(self: &Arc<Self>, peer: &PeerId, hello: &Hello) -> Result<Certificate, IntroductionError> {
        let checked = Certificate::decode(&hello.certificate)
            .ok()
            .filter(|certificate| certificate.peer_id == peer.to_bytes());
        if checked.is_none() {
            self.offend(peer, Offence::Certificate);
        }
        checked.ok_or(IntroductionError::Certificate)
    }

    async fn on_verified(self: &Arc<Self>, peer: &PeerId, certificate: Certificate, outbound: bool) {
        let greeting = self.greetings.begin(*peer, None);
        if !self.open_link(peer, certificate.clone()) {
            return;
        }
        self.dialling.reached(peer);
        tracing::info!(outbound, "a peer is connected");
        let (network, id, told) = (Arc::clone(self), *peer, certificate.clone());
        let noted: Result<(), StoreError> = self
            .vault
            .write(move |tx| Box::pin(async move { network.note_connected(tx, &id, &told, outbound).await }))
            .await;
        if let Err(error) = noted {
            tracing::warn!(%error, "a connection could not be noted");
        }
        let (network, peer) = (Arc::clone(self), *peer);
        self.spawn("greeting", async move {
            if let Err(error) = network.greet(&peer, &certificate, greeting).await {
                tracing::warn!(%error, "a connected peer could not be brought up to date");
            }
        });
    }

    async fn note_connected(
        &self,
        tx: &mut WriteTx<'_>,
        peer: &PeerId,
        certificate: &Certificate,
        outbound: bool,
    ) -> Result<(), StoreError> {
        let now = now_ms();
        peer::note_certificate(tx.conn(), certificate, outbound, now).await?;
        if peer::is_stranger(tx.conn(), &certificate.peer_id).await? {
            peer::drop_strangers(tx.conn(), strangers::MAX_REMEMBERED).await?;
            if !self.strangers.came(peer, Instant::now()) {
                return Ok(());
            }
        }
        tell(tx, &Entry::Peer(certificate.peer_id.clone(), PeerState::Connected), now).await
    }
}
