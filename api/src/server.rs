//! The running server: binds, serves until told to stop, then ends everything in order.
//!
//! One port for gRPC, gRPC-Web, health and reflection; a second for metrics. It knows nothing of
//! the signals or flags that made it start and stop.

mod accept;
mod calls;
mod ending;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::http::HeaderName;
use spacepanda_core::{
    home::{AccountError, Home, HomeConfig},
    metrics::Metrics,
};
use spacepanda_proto::api::v1::FILE_DESCRIPTOR_SET;
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::{LayerExt as _, Routes};
use tonic_health::{ServingStatus, server::HealthReporter};
use tonic_web::GrpcWebLayer;
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

use crate::{
    config::{Config, ConfigError},
    metrics::{self, CallMetrics},
    service::{self, Api},
    tls::{self, Tls, TlsError},
};
use accept::Connection;
use calls::CallsLayer;

/// How often an idle HTTP/2 connection is asked whether it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How long it has to answer.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// HTTP/2 streams of a connection; more wait at the client.
const MAX_STREAMS: u32 = 1024;
/// Calls of a connection worked on at a time; more wait here.
const MAX_CALLS: usize = 256;
/// Bytes of a call's headers.
const MAX_HEADERS: u32 = 16 * 1024;
/// How long a browser may remember what it is allowed.
const CORS_AGE: Duration = Duration::from_secs(3600);

/// Why the server could not start or had to end.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// An address cannot be listened on.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The configuration makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The accounts cannot be opened.
    #[error("cannot open the data directory: {0}")]
    Home(#[from] AccountError),
    /// Reflection refused our own description.
    #[error("the API's description is unusable")]
    Reflection,
    /// Serving ended by itself.
    #[error("the server ended unexpectedly")]
    Serving,
}

/// A server that is up.
pub struct Server {
    home: Arc<Home>,
    health: HealthReporter,
    address: SocketAddr,
    metrics_address: Option<SocketAddr>,
    fingerprint: Option<String>,
    stopping: CancellationToken,
    asked_to_stop: CancellationToken,
    streams: TaskTracker,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
    grace: Duration,
}

impl Server {
    /// Starts serving; from here on the addresses are known.
    ///
    /// # Errors
    /// [`ServerError`] when an address is taken, TLS files are unusable, or the data directory
    /// cannot be opened. Nothing is left running then.
    pub async fn bind(config: Config) -> Result<Self, ServerError> {
        // First: only with its lock is the data directory ours to write into, and who starts a second server
        // by mistake is told that, not that its port is taken.
        let metrics = Metrics::default();
        let home = Home::open(home_config(&config)?, metrics.clone()).await?;
        match Self::open_to_clients(&config, Arc::clone(&home), metrics).await {
            Ok(server) => Ok(server),
            Err(error) => {
                home.shutdown().await;
                Err(error)
            }
        }
    }

    async fn open_to_clients(
        config: &Config,
        home: Arc<Home>,
        core_metrics: Metrics,
    ) -> Result<Self, ServerError> {
        let tls = tls::load(config)?;
        let (listener, address) = listen(config.server.listen).await?;
        let metrics_listener = match config.metrics.listen {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let asked_to_stop = CancellationToken::new();
        let stopping = asked_to_stop.child_token();
        let streams = TaskTracker::new();
        let calls = CallMetrics::default();
        let api = Api::new(
            Arc::clone(&home),
            core_metrics.clone(),
            stopping.clone(),
            streams.clone(),
            config.server.listen.ip().is_loopback(),
        );
        let (health, routes) = with_standard_services(api.routes(), &stopping)?;
        report(&health, ServingStatus::Serving).await;
        let acceptor = tls.as_ref().map(|tls| TlsAcceptor::from(Arc::clone(&tls.config)));
        let serving = tokio::spawn(serve(routes, listener, acceptor, calls.clone(), stopping.clone()));
        let metrics_address = metrics_listener.map(|(listener, address)| {
            serve_metrics(listener, metrics::router(core_metrics, calls), stopping.clone());
            address
        });
        Ok(Self {
            home,
            health,
            address,
            metrics_address,
            fingerprint: tls.map(|Tls { fingerprint, .. }| fingerprint),
            stopping,
            asked_to_stop,
            streams,
            serving,
            grace: config.server.shutdown_grace,
        })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where Prometheus reads, if anywhere.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// SHA-256 of the TLS certificate, `AB:CD:..`; none without TLS.
    pub fn fingerprint(&self) -> Option<&str> {
        self.fingerprint.as_deref()
    }

    /// Asks the server to stop; [`Server::join`] waits until it has.
    pub fn shutdown(&self) {
        self.asked_to_stop.cancel();
    }

    /// Waits until the server is stopping, asked or not.
    pub async fn ended(&self) {
        self.stopping.cancelled().await;
    }

    /// Waits for the end: calls and streams first, then sessions and databases, all within the
    /// grace period.
    ///
    /// # Errors
    /// [`ServerError::Serving`] when nobody had asked it to stop.
    pub async fn join(mut self) -> Result<(), ServerError> {
        self.stopping.cancelled().await;
        tracing::info!("stopping");
        report(&self.health, ServingStatus::NotServing).await;
        let drain = self.grace / 2;
        self.streams.close();
        let drained = timeout(drain, async {
            self.streams.wait().await;
            (&mut self.serving).await.is_ok_and(|served| served.is_ok())
        });
        if drained.await.is_err() {
            tracing::warn!("connections were still open after the grace period");
            self.serving.abort();
        }
        if timeout(self.grace - drain, self.home.shutdown()).await.is_err() {
            tracing::warn!("sessions were still open after the grace period");
        }
        if self.asked_to_stop.is_cancelled() { Ok(()) } else { Err(ServerError::Serving) }
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServerError> {
    let fail = |error| ServerError::Listen(address, error);
    let listener = TcpListener::bind(address).await.map_err(fail)?;
    let bound = listener.local_addr().map_err(fail)?;
    Ok((listener, bound))
}

fn home_config(config: &Config) -> Result<HomeConfig, ConfigError> {
    Ok(HomeConfig {
        data_dir: config.server.data_dir.clone(),
        token_idle: config.accounts.token_idle,
        unlock_key_file: config.accounts.unlock_key_file.clone(),
        network: config.peers.network()?,
    })
}

/// Tells whoever asks for the health of the server, or of one of its services.
async fn report(health: &HealthReporter, status: ServingStatus) {
    for service in std::iter::once("").chain(service::NAMES) {
        health.set_service_status(service, status).await;
    }
}

/// Adds health and both versions of reflection, whose streams end when the server stops.
fn with_standard_services(
    routes: Routes,
    stopping: &CancellationToken,
) -> Result<(HealthReporter, Routes), ServerError> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let describe = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let v1 = describe().build_v1().map_err(|_| ServerError::Reflection)?;
    let v1alpha = describe().build_v1alpha().map_err(|_| ServerError::Reflection)?;
    let routes = routes
        .add_service(ending::layer(stopping.clone()).named_layer(health))
        .add_service(ending::layer(stopping.clone()).named_layer(v1))
        .add_service(ending::layer(stopping.clone()).named_layer(v1alpha));
    Ok((reporter, routes))
}

async fn serve(
    routes: Routes,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    metrics: CallMetrics,
    stopping: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    // However serving ends, the rest of the server ends with it.
    let _rest = stopping.clone().drop_guard();
    let connections: ReceiverStream<io::Result<Connection>> =
        accept::connections(listener, tls, stopping.clone());
    tonic::transport::Server::builder()
        .accept_http1(true)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .http2_max_header_list_size(MAX_HEADERS)
        .max_concurrent_streams(MAX_STREAMS)
        .concurrency_limit_per_connection(MAX_CALLS)
        .layer(cors())
        .layer(GrpcWebLayer::new())
        .layer(CallsLayer::new(metrics))
        .add_routes(routes)
        .serve_with_incoming_shutdown(connections, stopping.cancelled())
        .await
}

/// Any page may call: a call without its token can do nothing, and browsers hold none for us.
fn cors() -> CorsLayer {
    let exposed = ["grpc-status", "grpc-message", "grpc-status-details-bin"].map(HeaderName::from_static);
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods(Any)
        // A wildcard would leave out `authorization`.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(exposed)
        .max_age(CORS_AGE)
}

fn serve_metrics(listener: TcpListener, router: axum::Router, stopping: CancellationToken) {
    tokio::spawn(async move {
        let serving = axum::serve(listener, router).with_graceful_shutdown(stopping.cancelled_owned());
        if let Err(error) = serving.await {
            tracing::error!(%error, "the metrics endpoint ended");
        }
    });
}

#[cfg(test)]
mod tests;
