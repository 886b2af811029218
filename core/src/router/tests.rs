//! Routers with real sockets on 127.0.0.1.

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
    time::Instant,
};

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt, StreamExt as _};
use libp2p::{
    StreamProtocol, SwarmBuilder, noise, ping,
    request_response::{self, ProtocolSupport},
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
};

use super::*;
use crate::metrics::{Rejection, RejectionLabels, RequestDirection, RequestLabels, RequestOutcome};

const DEADLINE: Duration = Duration::from_secs(20);

/// A router that answers every request with its reverse, and what else it told.
struct Node {
    router: Router,
    events: mpsc::Receiver<RouterEvent>,
    task: JoinHandle<()>,
    metrics: Metrics,
}

fn loopback(port: u16) -> Address {
    Address::tcp(Ipv4Addr::LOCALHOST.into(), port)
}

fn config(seed: u8, port: u16, kept_port: u16) -> RouterConfig {
    RouterConfig { kept_port, ..RouterConfig::new(Zeroizing::new([seed; 32]), loopback(port)) }
}

async fn node_with(config: RouterConfig) -> Node {
    let metrics = Metrics::new();
    let (router, events, task) = start(config, &metrics).await.unwrap();
    Node { router, events, task, metrics }
}

async fn node(seed: u8) -> Node {
    node_with(config(seed, 0, 0)).await
}

impl Node {
    fn id(&self) -> PeerId {
        *self.router.peer_id()
    }

    fn addresses(&self) -> Vec<Address> {
        self.router.listen_addresses()
    }

    async fn dial(&self, other: &Self) -> Result<PeerLink, DialError> {
        self.router.dial(&other.id(), other.addresses()).await
    }

    /// The first event that the test is after; requests on the way are dropped.
    async fn wait<T>(&mut self, mut wanted: impl FnMut(RouterEvent) -> Option<T>) -> T {
        let search = async {
            loop {
                let event = self.events.recv().await.expect("the router runs");
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        };
        timeout(DEADLINE, search).await.expect("the event came in time")
    }

    async fn connected(&mut self, other: PeerId) -> bool {
        self.wait(|event| match event {
            RouterEvent::Connected { peer, outbound } if peer == other => Some(outbound),
            _ => None,
        })
        .await
    }

    async fn disconnected(&mut self, other: PeerId) {
        self.wait(|event| match event {
            RouterEvent::Disconnected { peer } if peer == other => Some(()),
            _ => None,
        })
        .await;
    }

    async fn request_from(&mut self, other: PeerId) -> (Vec<u8>, Reply) {
        self.wait(|event| match event {
            RouterEvent::Request { peer, request, reply } if peer == other => Some((request, reply)),
            _ => None,
        })
        .await
    }
}

/// Asks from one node and answers with the reverse at the other.
async fn ask(from: &Node, to: &mut Node, request: &[u8]) -> Result<Vec<u8>, RequestError> {
    let (asker, peer, request) = (from.router.clone(), to.id(), request.to_vec());
    let answer = tokio::spawn(async move { asker.request(&peer, request).await });
    let (mut received, reply) = to.request_from(from.id()).await;
    received.reverse();
    reply.send(received);
    answer.await.unwrap()
}

#[tokio::test]
async fn two_routers_meet_and_talk_both_ways() {
    let (mut alice, mut bob) = (node(1).await, node(2).await);
    let link = alice.dial(&bob).await.unwrap();
    assert!(link.outbound && link.peer == bob.id());
    assert!(alice.connected(bob.id()).await);
    assert!(!bob.connected(alice.id()).await);

    alice.wait(|event| matches!(event, RouterEvent::RoundTrip { .. }).then_some(())).await;
    assert_eq!(ask(&alice, &mut bob, b"abc").await.unwrap(), b"cba");
    assert_eq!(ask(&bob, &mut alice, b"").await.unwrap(), b"");
    let large = vec![7; MAX_REQUEST_BYTES];
    assert_eq!(ask(&bob, &mut alice, &large).await.unwrap(), large);

    let peers = alice.router.peers().await;
    assert_eq!(peers.len(), 1);
    assert!(peers[0].round_trip.is_some());
    assert!(alice.dial(&bob).await.unwrap().round_trip.is_some(), "connected already");
    assert_eq!(alice.metrics.connections.get(), 1);
    let answered = RequestLabels { direction: RequestDirection::Outbound, outcome: RequestOutcome::Answered };
    assert_eq!(bob.metrics.requests.get_or_create(&answered).get(), 2);
}

#[tokio::test]
async fn only_the_right_key_will_do() {
    let (alice, bob) = (node(1).await, node(2).await);
    let carol = PeerId::of_secret(&[3; 32]).unwrap();
    assert_eq!(alice.router.dial(&carol, bob.addresses()).await, Err(DialError::WrongPeer));
    assert_eq!(alice.router.dial(&carol, alice.addresses()).await, Err(DialError::WrongPeer));
    assert_eq!(alice.router.dial(&alice.id(), alice.addresses()).await, Err(DialError::IsSelf));
    assert!(alice.router.peers().await.is_empty());
    assert_eq!(alice.metrics.dial_failures.get(), 2);

    // An address that someone else has now does not hide the right one.
    let carol = node(3).await;
    let addresses = [alice.addresses(), bob.addresses(), carol.addresses()].concat();
    assert_eq!(alice.router.dial(&carol.id(), addresses).await.unwrap().peer, carol.id());
}

#[tokio::test]
async fn unreachable_fails_in_time() {
    let (alice, bob) = (node(1).await, PeerId::of_secret(&[2; 32]).unwrap());
    let closed = TcpSocket::new_v4().unwrap();
    closed.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let closed = loopback(closed.local_addr().unwrap().port());
    assert_eq!(alice.router.dial(&bob, vec![closed]).await, Err(DialError::Unreachable));
    assert_eq!(alice.router.dial(&bob, Vec::new()).await, Err(DialError::Unreachable));

    // Accepts and says nothing.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let silent = loopback(silent.local_addr().unwrap().port());
    let started = Instant::now();
    assert_eq!(alice.router.dial(&bob, vec![silent]).await, Err(DialError::Unreachable));
    assert!(started.elapsed() < DIAL_DEADLINE + Duration::from_secs(2));
}

#[tokio::test]
async fn lost_links_are_told_and_dialled_again() {
    let (mut alice, mut bob) = (node(1).await, node(2).await);
    assert_eq!(alice.router.request(&bob.id(), vec![1]).await, Err(RequestError::NotConnected));
    alice.dial(&bob).await.unwrap();
    bob.connected(alice.id()).await;
    alice.router.disconnect(&bob.id()).await;
    alice.disconnected(bob.id()).await;
    bob.disconnected(alice.id()).await;
    assert_eq!(alice.router.request(&bob.id(), vec![1]).await, Err(RequestError::NotConnected));
    assert_eq!(alice.metrics.connections.get(), 0);

    bob.dial(&alice).await.unwrap();
    assert!(!alice.connected(bob.id()).await);
    assert_eq!(ask(&alice, &mut bob, b"ab").await.unwrap(), b"ba");
    bob.router.stop().await;
    alice.disconnected(bob.id()).await;
}

#[tokio::test]
async fn a_stopped_router_answers_everything_and_frees_its_port() {
    let (alice, bob) = (node(1).await, node(2).await);
    alice.dial(&bob).await.unwrap();
    let port = alice.router.port();
    alice.router.stop().await;
    alice.router.stop().await;
    timeout(DEADLINE, alice.task).await.unwrap().unwrap();
    assert_eq!(alice.metrics.connections.get(), 0);
    assert_eq!(alice.router.dial(&bob.id(), bob.addresses()).await, Err(DialError::Stopped));
    assert_eq!(alice.router.request(&bob.id(), vec![]).await, Err(RequestError::Stopped));
    assert!(alice.router.peers().await.is_empty());
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
}

#[tokio::test]
async fn the_port_is_kept_across_restarts() {
    let (first, bob) = (node(1).await, node(2).await);
    let port = first.router.port();
    assert_eq!(first.addresses(), [loopback(port)]);
    bob.dial(&first).await.unwrap();
    first.router.stop().await;
    let second = node_with(config(1, 0, port)).await;
    assert_eq!(second.router.port(), port);
    assert_eq!(second.id(), first.id());
    // Taken: another one, whatever was kept.
    let third = node_with(config(3, 0, port)).await;
    assert_ne!(third.router.port(), port);
}

/// Three free ports in a row, elsewhere for each test process.
fn free_ports() -> u16 {
    let start = 20_000 + (std::process::id() * 13 % 10_000) as u16;
    (start..32_000)
        .find(|port| (0..3).all(|offset| TcpListener::bind((Ipv4Addr::LOCALHOST, port + offset)).is_ok()))
        .unwrap()
}

#[tokio::test]
async fn a_fixed_port_is_the_first_of_a_range() {
    let first = free_ports();
    let alice = node_with(config(1, first, 0)).await;
    let bob = node_with(config(2, first, 0)).await;
    assert_eq!((alice.router.port(), bob.router.port()), (first, first + 1));
    // Each one is reached at its own.
    bob.router.dial(&alice.id(), vec![loopback(first)]).await.unwrap();
    alice.router.stop().await;
    let carol = node_with(config(3, first, first + 2)).await;
    assert_eq!(carol.router.port(), first + 2, "the kept port comes before the first");
}

#[tokio::test]
async fn many_at_once_never_share_a_port() {
    let starts = (0..8).map(|seed| tokio::spawn(node(seed + 1)));
    let nodes = futures::future::join_all(starts).await;
    let mut ports: Vec<_> = nodes.iter().map(|node| node.as_ref().unwrap().router.port()).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 8);
}

#[tokio::test]
async fn what_cannot_be_listened_on_is_a_clear_error() {
    let name = RouterConfig { listen: Address::parse("/dns4/localhost/tcp/0").unwrap(), ..config(1, 0, 0) };
    assert!(matches!(start(name, &Metrics::new()).await, Err(RouterError::ListenOnName)));
    let foreign = RouterConfig { listen: Address::tcp([192, 0, 2, 1].into(), 0), ..config(1, 0, 0) };
    assert!(matches!(start(foreign, &Metrics::new()).await, Err(RouterError::Listen(_))));
    // If this fails someone else listens there, which is just as well.
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 65_535));
    let error = start(config(1, 65_535, 0), &Metrics::new()).await.err().unwrap();
    assert_eq!(error.to_string(), "no free port for the router, tried from 65535 on");
    drop(taken);
}

#[tokio::test]
async fn all_interfaces_are_listed_one_by_one() {
    let alice = node_with(RouterConfig {
        listen: Address::parse("/ip4/0.0.0.0/tcp/0").unwrap(),
        announce: vec![Address::parse("/dns4/example.org/tcp/4001").unwrap()],
        ..config(1, 0, 0)
    })
    .await;
    assert!(!alice.router.is_loopback());
    assert!(alice.addresses().iter().all(Address::is_dialable));
    assert_eq!(alice.router.announced().len(), 1);
}

#[tokio::test]
async fn too_large_is_refused_here() {
    let (mut alice, mut bob) = (node(1).await, node(2).await);
    alice.dial(&bob).await.unwrap();
    let request = vec![0; MAX_REQUEST_BYTES + 1];
    assert_eq!(alice.router.request(&bob.id(), request).await, Err(RequestError::TooLarge));
    // A response that is too long closes the stream, nothing else.
    let (asker, peer) = (alice.router.clone(), bob.id());
    let answer = tokio::spawn(async move { asker.request(&peer, vec![1]).await });
    bob.request_from(alice.id()).await.1.send(vec![0; MAX_RESPONSE_BYTES + 1]);
    assert_eq!(answer.await.unwrap(), Err(RequestError::Closed));
    assert_eq!(ask(&bob, &mut alice, b"ab").await.unwrap(), b"ba");
}

#[tokio::test]
async fn an_unanswered_request_ends() {
    let quick = RouterConfig { request_timeout: Duration::from_millis(200), ..config(1, 0, 0) };
    let (alice, mut bob) = (node_with(quick).await, node(2).await);
    alice.dial(&bob).await.unwrap();
    let (asker, peer) = (alice.router.clone(), bob.id());
    let dropped = tokio::spawn(async move { asker.request(&peer, vec![1]).await });
    drop(bob.request_from(alice.id()).await);
    assert_eq!(dropped.await.unwrap(), Err(RequestError::Closed));
    let (asker, peer) = (alice.router.clone(), bob.id());
    let kept = tokio::spawn(async move { asker.request(&peer, vec![1]).await });
    let unanswered = bob.request_from(alice.id()).await;
    assert_eq!(kept.await.unwrap(), Err(RequestError::Timeout));
    drop(unanswered);
}

#[tokio::test]
async fn a_reader_that_is_behind_costs_its_peers_only_refusals() {
    const PEERS: u8 = 8;
    const EACH: u64 = 120;
    let mut bob = node(100).await;
    let mut peers = Vec::new();
    let mut asked = tokio::task::JoinSet::new();
    for seed in 1..=PEERS {
        let peer = node(seed).await;
        peer.dial(&bob).await.unwrap();
        bob.connected(peer.id()).await;
        peers.push(peer);
    }
    for peer in &peers {
        for _ in 0..EACH {
            let (asker, id) = (peer.router.clone(), bob.id());
            asked.spawn(async move { asker.request(&id, vec![1]).await });
        }
    }
    // No one reads: the first to end are refused, and then someone reads again.
    let first = timeout(DEADLINE, asked.join_next()).await.unwrap().unwrap().unwrap();
    assert_eq!(first, Err(RequestError::Closed));
    assert_eq!(bob.router.peers().await.len(), usize::from(PEERS), "the loop itself still answers");
    let refused = RequestLabels { direction: RequestDirection::Inbound, outcome: RequestOutcome::Refused };
    let metrics = bob.metrics.clone();
    let (router, id) = (bob.router.clone(), bob.id());
    let reader = tokio::spawn(async move {
        while let Some(event) = bob.events.recv().await {
            if let RouterEvent::Request { request, reply, .. } = event {
                reply.send(request);
            }
        }
    });
    let (mut answered, mut closed) = (0, 1);
    while let Some(answer) = timeout(DEADLINE, asked.join_next()).await.unwrap() {
        match answer.unwrap() {
            Ok(_) => answered += 1,
            Err(RequestError::Closed) => closed += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(answered + closed, u64::from(PEERS) * EACH);
    assert_eq!(metrics.requests.get_or_create(&refused).get(), closed);
    assert_eq!(peers[0].router.request(&id, vec![7]).await.unwrap(), [7]);
    router.stop().await;
    reader.await.unwrap();
}

#[tokio::test]
async fn a_blocked_peer_stays_out_both_ways() {
    let (mut alice, mut bob) = (node(1).await, node(2).await);
    alice.dial(&bob).await.unwrap();
    bob.connected(alice.id()).await;
    bob.router.block(&alice.id(), Duration::from_secs(60)).await;
    bob.disconnected(alice.id()).await;
    alice.disconnected(bob.id()).await;
    assert!(bob.router.is_blocked(&alice.id()).await);
    assert!(!alice.router.is_blocked(&bob.id()).await);
    assert_eq!(bob.dial(&alice).await, Err(DialError::Blocked));
    // The handshake may end before the refusal: then the link is gone at once.
    if alice.dial(&bob).await.is_ok() {
        alice.disconnected(bob.id()).await;
    }
    assert!(bob.router.peers().await.is_empty());
    assert_eq!(bob.metrics.peers_blocked.get(), 1);
    let carol = node(3).await;
    carol.dial(&bob).await.unwrap();
}

#[tokio::test]
async fn garbage_on_the_socket_harms_no_one() {
    let (alice, mut bob) = (node(1).await, node(2).await);
    let place = (Ipv4Addr::LOCALHOST, bob.router.port());
    let mut open = Vec::new();
    for round in 0..4u8 {
        let mut stream = TcpStream::connect(place).await.unwrap();
        // The other side may hang up in the middle of it.
        let _ = stream.write_all(&vec![round.wrapping_mul(91); 70_000]).await;
        open.push(stream);
        open.push(TcpStream::connect(place).await.unwrap());
    }
    drop(open.split_off(2));
    alice.dial(&bob).await.unwrap();
    assert_eq!(ask(&alice, &mut bob, b"ab").await.unwrap(), b"ba");
}

#[tokio::test]
async fn simultaneous_dials_are_one_link() {
    let (mut alice, mut bob) = (node(1).await, node(2).await);
    let (one, other) = tokio::join!(alice.dial(&bob), bob.dial(&alice));
    one.unwrap();
    other.unwrap();
    assert_eq!((alice.router.peers().await.len(), bob.router.peers().await.len()), (1, 1));
    alice.router.disconnect(&bob.id()).await;
    let mut told = Vec::new();
    alice
        .wait(|event| match event {
            RouterEvent::Connected { .. } => {
                told.push("up");
                None
            }
            RouterEvent::Disconnected { .. } => {
                told.push("down");
                Some(())
            }
            _ => None,
        })
        .await;
    assert_eq!(told, ["up", "down"]);
    bob.disconnected(alice.id()).await;
}

/// Writes its request as it is, without a length of its own.
#[derive(Clone)]
struct Raw;

impl request_response::Codec for Raw {
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
        AsyncWriteExt::write_all(io, &request).await
    }

    /// Announces more than anyone may send.
    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        _: Vec<u8>,
    ) -> io::Result<()> {
        AsyncWriteExt::write_all(io, &[0xff; 8]).await
    }
}

#[derive(NetworkBehaviour)]
struct Hostile {
    ping: ping::Behaviour,
    exchange: request_response::Behaviour<Raw>,
}

fn hostile() -> Swarm<Hostile> {
    let protocol = (StreamProtocol::new("/spacepanda/peer/1"), ProtocolSupport::Full);
    let exchange =
        request_response::Behaviour::with_codec(Raw, [protocol], request_response::Config::default());
    let builder = SwarmBuilder::with_existing_identity(peer_id::keypair(&[66; 32]).unwrap())
        .with_tokio()
        .with_tcp(tcp::Config::new(), noise::Config::new, yamux::Config::default)
        .unwrap();
    builder
        .with_behaviour(|_| Hostile { ping: ping::Behaviour::default(), exchange })
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(DEADLINE))
        .build()
}

#[tokio::test]
async fn an_oversized_request_is_refused_and_the_server_lives() {
    let (alice, mut bob) = (node(1).await, node(2).await);
    let mut mallory = hostile();
    let mallory_id = PeerId(*mallory.local_peer_id());
    let place = bob.addresses()[0].to_multiaddr();
    mallory.behaviour_mut().exchange.send_request_with_addresses(&bob.id().0, vec![0xff; 100], vec![place]);
    let attack = tokio::spawn(async move { while mallory.next().await.is_some() {} });
    bob.wait(|event| match event {
        RouterEvent::InboundGarbage { peer } if peer == mallory_id => Some(()),
        RouterEvent::Request { .. } => panic!("nothing to hand on"),
        _ => None,
    })
    .await;
    let oversized = RejectionLabels { reason: Rejection::Oversized };
    assert_eq!(bob.metrics.rejected.get_or_create(&oversized).get(), 1);
    alice.dial(&bob).await.unwrap();
    assert_eq!(ask(&alice, &mut bob, b"ab").await.unwrap(), b"ba");
    attack.abort();
}

#[tokio::test]
async fn an_oversized_response_is_refused_too() {
    let mut bob = node(2).await;
    let mut mallory = hostile();
    let mallory_id = PeerId(*mallory.local_peer_id());
    mallory.dial(bob.addresses()[0].to_multiaddr()).unwrap();
    let attack = tokio::spawn(async move {
        while let Some(event) = mallory.next().await {
            if let SwarmEvent::Behaviour(HostileEvent::Exchange(request_response::Event::Message {
                message: request_response::Message::Request { channel, .. },
                ..
            })) = event
            {
                let _ = mallory.behaviour_mut().exchange.send_response(channel, Vec::new());
            }
        }
    });
    bob.connected(mallory_id).await;
    let answer = bob.router.request(&mallory_id, vec![1]).await;
    assert_eq!(answer, Err(RequestError::Closed));
    bob.wait(|event| matches!(event, RouterEvent::InboundGarbage { .. }).then_some(())).await;
    attack.abort();
}
