//! The loop that owns the swarm. It waits for no peer and no reader: what takes time is a map entry.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt as _, StreamExt as _};
use libp2p::{
    Multiaddr, PeerId as Peer, Swarm,
    core::transport::ListenerId,
    ping,
    request_response::{self, InboundFailure, Message, OutboundFailure, OutboundRequestId, ResponseChannel},
    swarm::{
        ConnectionId, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Interval, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{
    Address, DialError, PeerId, PeerLink, Reply, RequestError, RouterEvent, Shared,
    behaviour::{Behaviour, BehaviourEvent, MAX_STREAMS, PING_INTERVAL, PING_TIMEOUT},
    codec::{self, Request, Response},
    dial::Dial,
    links::{Link, Links},
    outlet::Outlet,
};
use crate::metrics::{Metrics, Rejection, RequestDirection, RequestOutcome};

/// Dials at once; more are unreachable for now and tried again later.
const MAX_DIALS: usize = 256;
/// Own requests to one peer without an answer; the other streams are for the peer's requests.
const MAX_IN_FLIGHT: usize = MAX_STREAMS / 2;
/// libp2p keeps the first lost ping to itself; a link is dead after one.
const SILENCE: Duration = PING_INTERVAL.saturating_add(PING_TIMEOUT);
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// What the handle asks for.
pub(super) enum Command {
    Dial { peer: Peer, addresses: Vec<Multiaddr>, reply: oneshot::Sender<Result<PeerLink, DialError>> },
    Request { peer: Peer, request: Vec<u8>, reply: oneshot::Sender<Result<Vec<u8>, RequestError>> },
    Disconnect { peer: Peer, reply: oneshot::Sender<()> },
    Block { peer: Peer, duration: Duration, reply: oneshot::Sender<()> },
    IsBlocked { peer: Peer, reply: oneshot::Sender<bool> },
    Peers { reply: oneshot::Sender<Vec<PeerLink>> },
}

struct Waiting {
    peer: Peer,
    reply: oneshot::Sender<Result<Vec<u8>, RequestError>>,
}

/// The loop's state.
pub(super) struct Task {
    swarm: Swarm<Behaviour>,
    listener: ListenerId,
    commands: mpsc::Receiver<Command>,
    outlet: Outlet,
    shared: Arc<Shared>,
    links: Links<Peer, ConnectionId>,
    requests: HashMap<OutboundRequestId, Waiting>,
    dials: HashMap<ConnectionId, Dial>,
    checks: Interval,
    metrics: Metrics,
    stopping: CancellationToken,
}

impl Task {
    pub(super) fn new(
        swarm: Swarm<Behaviour>,
        listener: ListenerId,
        commands: mpsc::Receiver<Command>,
        outlet: Outlet,
        shared: Arc<Shared>,
        metrics: Metrics,
        stopping: CancellationToken,
    ) -> Self {
        let mut checks = interval(CHECK_INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            swarm,
            listener,
            commands,
            outlet,
            shared,
            links: Links::new(),
            requests: HashMap::new(),
            dials: HashMap::new(),
            checks,
            metrics,
            stopping,
        }
    }

    /// Runs until the listening addresses of now are known; the listener is bound already.
    pub(super) async fn reach_listening(&mut self) {
        loop {
            let event = if self.shared.listening().is_empty() {
                self.swarm.select_next_some().await
            } else if let Some(Some(event)) = self.swarm.next().now_or_never() {
                event
            } else {
                return;
            };
            self.on_swarm_event(event);
        }
    }

    /// Runs until stopped, or until no handle is left.
    pub(super) async fn run(mut self) {
        loop {
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => break,
                command = self.commands.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => break,
                },
                () = self.outlet.drain(), if self.outlet.has_backlog() => {}
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
                _ = self.checks.tick(), if !self.links.is_empty() => self.on_check(Instant::now()),
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        // Whoever asked may have stopped waiting for the answer.
        match command {
            Command::Dial { peer, addresses, reply } => self.on_dial(Dial::new(peer, addresses, reply)),
            Command::Request { peer, request, reply } => self.on_request(peer, request, reply),
            Command::Disconnect { peer, reply } => {
                let _ = self.swarm.disconnect_peer_id(peer);
                let _ = reply.send(());
            }
            Command::Block { peer, duration, reply } => {
                self.on_block(peer, duration);
                let _ = reply.send(());
            }
            Command::IsBlocked { peer, reply } => {
                let _ = reply.send(self.is_blocked(&peer));
            }
            Command::Peers { reply } => {
                let links = self.links.iter().map(|(peer, link)| peer_link(peer, link));
                let _ = reply.send(links.collect());
            }
        }
    }

    fn on_dial(&mut self, dial: Dial) {
        if self.is_blocked(&dial.peer) {
            return self.end_dial(dial, Err(DialError::Blocked));
        }
        if let Some(link) = self.links.get(&dial.peer) {
            let link = peer_link(&dial.peer, link);
            return self.end_dial(dial, Ok(link));
        }
        if dial.addresses.is_empty() || self.dials.len() >= MAX_DIALS {
            return self.end_dial(dial, Err(DialError::Unreachable));
        }
        self.attempt(dial);
    }

    fn attempt(&mut self, mut dial: Dial) {
        // Only the given addresses, and from a port of its own: the listening port is not shared.
        let attempt = DialOpts::peer_id(dial.peer)
            .addresses(dial.addresses.clone())
            .condition(PeerCondition::Always)
            .allocate_new_port()
            .build();
        let id = attempt.connection_id();
        match self.swarm.dial(attempt) {
            Ok(()) => {
                self.dials.insert(id, dial);
            }
            Err(error) => {
                let error = dial.failed(&error).unwrap_or(DialError::Unreachable);
                self.end_dial(dial, Err(error));
            }
        }
    }

    fn end_dial(&mut self, dial: Dial, result: Result<PeerLink, DialError>) {
        if result.is_err() {
            self.metrics.dial_failures.inc();
        }
        let _ = dial.reply.send(result);
    }

    fn on_request(
        &mut self,
        peer: Peer,
        bytes: Vec<u8>,
        reply: oneshot::Sender<Result<Vec<u8>, RequestError>>,
    ) {
        // Asked for a peer it is not connected to, the exchange would dial on its own.
        let connected = self.swarm.behaviour_mut().exchange().is_connected(&peer);
        let Some(link) = self.links.get_mut(&peer).filter(|_| connected) else {
            let _ = reply.send(Err(RequestError::NotConnected));
            return;
        };
        if link.in_flight >= MAX_IN_FLIGHT {
            self.metrics.request(RequestDirection::Outbound, RequestOutcome::Refused);
            let _ = reply.send(Err(RequestError::Busy));
            return;
        }
        link.in_flight += 1;
        let request = Request::Whole(bytes, None);
        let id = self.swarm.behaviour_mut().exchange().send_request(&peer, request);
        self.requests.insert(id, Waiting { peer, reply });
    }

    fn on_block(&mut self, peer: Peer, duration: Duration) {
        self.swarm.behaviour_mut().gate().block(peer, duration, Instant::now());
        let _ = self.swarm.disconnect_peer_id(peer);
        self.metrics.peers_blocked.inc();
    }

    fn is_blocked(&mut self, peer: &Peer) -> bool {
        self.swarm.behaviour_mut().gate().is_blocked(peer, Instant::now())
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Exchange(event)) => self.on_exchange(event),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(event)) => self.on_ping(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_opened(peer_id, connection_id, endpoint.is_dialer());
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, .. } => {
                self.on_closed(peer_id, connection_id);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                self.on_dial_error(connection_id, &error);
            }
            SwarmEvent::NewListenAddr { address, .. } => self.on_listen_address(&address, true),
            SwarmEvent::ExpiredListenAddr { address, .. } => self.on_listen_address(&address, false),
            SwarmEvent::ListenerClosed { listener_id, .. } if listener_id == self.listener => {
                tracing::error!("the router's listener failed; stopping the router");
                self.stopping.cancel();
            }
            _ => {}
        }
    }

    fn on_opened(&mut self, peer: Peer, connection: ConnectionId, outbound: bool) {
        let first = self.links.opened(peer, connection, outbound, Instant::now());
        self.metrics.connections.inc_by(i64::from(first));
        if first && self.outlet.is_overrun() {
            let _ = self.swarm.disconnect_peer_id(peer);
        } else if first && let Some(link) = self.links.get_mut(&peer) {
            link.told = true;
            self.outlet.tell(RouterEvent::Connected { peer: PeerId(peer), outbound });
        }
        let Some(link) = self.links.get(&peer).map(|link| peer_link(&peer, link)) else { return };
        for (_, dial) in self.dials.extract_if(|_, dial| dial.peer == peer) {
            let _ = dial.reply.send(Ok(link.clone()));
        }
    }

    fn on_closed(&mut self, peer: Peer, connection: ConnectionId) {
        let Some(link) = self.links.closed(&peer, &connection) else { return };
        self.metrics.connections.dec();
        if link.told {
            self.outlet.tell(RouterEvent::Disconnected { peer: PeerId(peer) });
        }
    }

    fn on_dial_error(&mut self, id: ConnectionId, error: &libp2p::swarm::DialError) {
        let Some(mut dial) = self.dials.remove(&id) else { return };
        match dial.failed(error) {
            Some(error) => self.end_dial(dial, Err(error)),
            None if dial.reply.is_closed() => {}
            None => self.attempt(dial),
        }
    }

    fn on_listen_address(&mut self, address: &Multiaddr, added: bool) {
        let Ok(address) = Address::from_multiaddr(address) else { return };
        self.shared.set_listening(&address, added);
        self.outlet.tell(RouterEvent::ListenAddress { address, added });
    }

    fn on_ping(&mut self, event: ping::Event) {
        let Ok(round_trip) = event.result else {
            self.swarm.close_connection(event.connection);
            return;
        };
        self.links.alive(&event.peer, &event.connection, round_trip, Instant::now());
        // The next one comes in 15 s: a reader that is behind misses little.
        self.outlet.offer(RouterEvent::RoundTrip { peer: PeerId(event.peer), round_trip });
    }

    fn on_check(&mut self, now: Instant) {
        for connection in self.links.silent(SILENCE, now) {
            self.swarm.close_connection(connection);
        }
    }

    fn on_exchange(&mut self, event: request_response::Event<Request, Response>) {
        use request_response::Event;
        match event {
            Event::Message { peer, message: Message::Request { request, channel, .. }, .. } => {
                self.on_peer_request(peer, request, channel);
            }
            Event::Message { message: Message::Response { request_id, response }, .. } => {
                let Response::Read(bytes) = response else { return };
                self.end_request(request_id, Ok(bytes));
            }
            Event::OutboundFailure { peer, request_id, error, .. } => {
                if matches!(&error, OutboundFailure::Io(error) if codec::is_violation(error)) {
                    self.on_violation(peer);
                }
                self.end_request(request_id, Err(request_error(&error)));
            }
            // Refused, and counted then.
            Event::InboundFailure { error: InboundFailure::ResponseOmission, .. } => {}
            Event::InboundFailure { error: InboundFailure::Timeout, .. } => {
                self.metrics.request(RequestDirection::Inbound, RequestOutcome::Timeout);
            }
            Event::InboundFailure { .. } => {
                self.metrics.request(RequestDirection::Inbound, RequestOutcome::Failed);
            }
            Event::ResponseSent { .. } => {
                self.metrics.request(RequestDirection::Inbound, RequestOutcome::Answered);
            }
        }
    }

    fn on_peer_request(&mut self, peer: Peer, request: Request, channel: ResponseChannel<Response>) {
        // What is not handed on is dropped with its channel, which closes the stream.
        let (bytes, memory) = match request {
            Request::Whole(bytes, memory) if self.outlet.has_room() => (bytes, memory),
            Request::Oversized => return self.on_violation(peer),
            Request::Whole(..) | Request::Busy => {
                return self.metrics.request(RequestDirection::Inbound, RequestOutcome::Refused);
            }
        };
        let (sender, answer) = oneshot::channel();
        // Fails only when the connection is gone, and then the answer has nowhere to go.
        let _ = self.swarm.behaviour_mut().exchange().send_response(channel, Response::Later(answer));
        let reply = Reply { sender, _memory: memory };
        self.outlet.offer(RouterEvent::Request { peer: PeerId(peer), request: bytes, reply });
    }

    fn on_violation(&mut self, peer: Peer) {
        self.metrics.reject(Rejection::Oversized);
        self.outlet.offer(RouterEvent::InboundGarbage { peer: PeerId(peer) });
    }

    fn end_request(&mut self, id: OutboundRequestId, result: Result<Vec<u8>, RequestError>) {
        let Some(waiting) = self.requests.remove(&id) else { return };
        if let Some(link) = self.links.get_mut(&waiting.peer) {
            link.in_flight = link.in_flight.saturating_sub(1);
        }
        let outcome = match &result {
            Ok(_) => RequestOutcome::Answered,
            Err(RequestError::Timeout) => RequestOutcome::Timeout,
            Err(_) => RequestOutcome::Failed,
        };
        self.metrics.request(RequestDirection::Outbound, outcome);
        let _ = waiting.reply.send(result);
    }
}

impl Drop for Task {
    /// Also after a panic the gauge tells the truth.
    fn drop(&mut self) {
        self.metrics.connections.dec_by(i64::try_from(self.links.len()).unwrap_or_default());
    }
}

fn peer_link<C>(peer: &Peer, link: &Link<C>) -> PeerLink {
    PeerLink { peer: PeerId(*peer), outbound: link.outbound, round_trip: link.round_trip }
}

fn request_error(error: &OutboundFailure) -> RequestError {
    match error {
        OutboundFailure::DialFailure => RequestError::NotConnected,
        OutboundFailure::Timeout => RequestError::Timeout,
        OutboundFailure::ConnectionClosed => RequestError::Closed,
        OutboundFailure::UnsupportedProtocols => RequestError::Unsupported,
        OutboundFailure::Io(error) if codec::is_busy(error) => RequestError::Busy,
        OutboundFailure::Io(_) => RequestError::Closed,
    }
}
