//! The protocols of a router and the swarm that speaks them. No state of our own.

use std::time::Duration;

use libp2p::{
    StreamProtocol, Swarm, SwarmBuilder,
    core::upgrade,
    identify,
    identity::Keypair,
    noise, ping,
    request_response::{self, ProtocolSupport},
    swarm::NetworkBehaviour,
    tcp, yamux,
};

use super::{RouterError, codec::Codec, gate::Gate};
use crate::metrics::Metrics;

const PROTOCOL: StreamProtocol = StreamProtocol::new("/spacepanda/peer/1");
const IDENTIFY_VERSION: &str = "/spacepanda/1";
/// The product only: a version or a host name would tell strangers what to attack.
const AGENT_VERSION: &str = "spacepanda";

/// Requests at once on one connection, in both directions; more are dropped.
pub(super) const MAX_STREAMS: usize = 256;
/// The same with room for identify, ping and streams that are closing.
const MAX_YAMUX_STREAMS: usize = 320;
const IDLE_CONNECTION: Duration = Duration::from_secs(600);
const HANDSHAKE: Duration = Duration::from_secs(10);
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(15);
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Everything a router speaks.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    gate: Gate,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    exchange: request_response::Behaviour<Codec>,
}

impl Behaviour {
    fn new(key: &Keypair, request_timeout: Duration, metrics: &Metrics) -> Self {
        // Addresses that peers claim here are neither kept nor told on.
        let identify = identify::Config::new(IDENTIFY_VERSION.to_owned(), key.public())
            .with_agent_version(AGENT_VERSION.to_owned())
            .with_cache_size(0)
            .with_hide_listen_addrs(true);
        let ping = ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT);
        let exchange = request_response::Config::default()
            .with_request_timeout(request_timeout)
            .with_max_concurrent_streams(MAX_STREAMS);
        Self {
            gate: Gate::default(),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(ping),
            exchange: request_response::Behaviour::with_codec(
                Codec::new(metrics),
                [(PROTOCOL, ProtocolSupport::Full)],
                exchange,
            ),
        }
    }

    pub(super) fn gate(&mut self) -> &mut Gate {
        &mut self.gate
    }

    pub(super) fn exchange(&mut self) -> &mut request_response::Behaviour<Codec> {
        &mut self.exchange
    }
}

/// A swarm over TCP that does not listen yet.
pub(super) fn swarm(
    key: Keypair,
    request_timeout: Duration,
    metrics: &Metrics,
) -> Result<Swarm<Behaviour>, RouterError> {
    let yamux = || {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(MAX_YAMUX_STREAMS);
        config
    };
    let builder = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::new().nodelay(true), noise::Config::new, yamux)
        .map_err(|_| RouterError::Identity)?
        .with_behaviour(|key| Behaviour::new(key, request_timeout, metrics));
    let Ok(builder) = builder;
    Ok(builder
        .with_swarm_config(|config| {
            // One protocol is offered on each stream, so its name travels with the request: no round trip
            // to agree on it first.
            config
                .with_idle_connection_timeout(IDLE_CONNECTION)
                .with_substream_upgrade_protocol_override(upgrade::Version::V1Lazy)
        })
        .with_connection_timeout(HANDSHAKE)
        .build())
}
