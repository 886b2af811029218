//! A peer that announces a request longer than any may be; the product's own router cannot.

use std::io;

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, StreamExt as _};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, SwarmBuilder, noise, ping,
    request_response::{self, ProtocolSupport},
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use tokio::task::JoinHandle;

use crate::harness::{client::Person, wait::DEADLINE};

/// Writes what it is given as it is, without a length of its own.
#[derive(Clone)]
struct Bare;

impl request_response::Codec for Bare {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        _: &mut T,
    ) -> io::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        io.read_to_end(&mut all).await?;
        Ok(all)
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&request).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        _: &mut T,
        _: Vec<u8>,
    ) -> io::Result<()> {
        Ok(())
    }
}

/// A router closes connections that do not answer its pings.
#[derive(NetworkBehaviour)]
struct Hostile {
    ping: ping::Behaviour,
    exchange: request_response::Behaviour<Bare>,
}

/// Announces one byte more than 4 MiB to someone's router, time after time, from one peer id.
///
/// The attack ends when the handle is aborted.
pub(crate) async fn announce_too_much(victim: &Person, times: usize) -> JoinHandle<()> {
    let address: Multiaddr = victim.peer_address().await.parse().expect("a multiaddr");
    let peer: PeerId = victim.peer_id().parse().expect("a peer id");
    let protocol = (StreamProtocol::new("/spacepanda/peer/1"), ProtocolSupport::Full);
    let exchange =
        request_response::Behaviour::with_codec(Bare, [protocol], request_response::Config::default());
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::new(), noise::Config::new, yamux::Config::default)
        .expect("a transport")
        .with_behaviour(|_| Hostile { ping: ping::Behaviour::default(), exchange })
        .expect("a behaviour")
        .with_swarm_config(|config| config.with_idle_connection_timeout(DEADLINE))
        .build();
    let length = (4 * 1024 * 1024 + 1_u32).to_be_bytes();
    let request = [&length[..], &[7; 100]].concat();
    tokio::spawn(async move {
        for _ in 0..times {
            let exchange = &mut swarm.behaviour_mut().exchange;
            exchange.send_request_with_addresses(&peer, request.clone(), vec![address.clone()]);
            // One after the other: the victim closes the stream, and nobody answers.
            while !is_over(&swarm.select_next_some().await) {}
        }
        while swarm.next().await.is_some() {}
    })
}

fn is_over(event: &SwarmEvent<HostileEvent>) -> bool {
    use request_response::{Event, Message};
    matches!(
        event,
        SwarmEvent::Behaviour(HostileEvent::Exchange(
            Event::OutboundFailure { .. } | Event::Message { message: Message::Response { .. }, .. }
        ))
    )
}
