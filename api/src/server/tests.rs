//! The server's outside over real sockets, with the services that need no accounts.

use std::{path::Path, time::Duration};

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_check_response, health_client::HealthClient};

use super::*;

const LONG: Duration = Duration::from_secs(20);

struct Running {
    address: SocketAddr,
    stopping: CancellationToken,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
    metrics: CallMetrics,
}

async fn start(tls: Option<TlsAcceptor>) -> Running {
    let (listener, address) = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (stopping, metrics) = (CancellationToken::new(), CallMetrics::default());
    let (_, routes) = with_standard_services(Routes::default(), &stopping).unwrap();
    let serving = tokio::spawn(serve(routes, listener, tls, metrics.clone(), stopping.clone()));
    Running { address, stopping, serving, metrics }
}

/// A server with a certificate made in `directory`.
async fn start_tls(directory: &Path) -> Running {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut config = Config::default();
    config.server.data_dir = directory.to_owned();
    config.tls.self_signed = true;
    start(Some(TlsAcceptor::from(tls::load(&config).unwrap().unwrap().config))).await
}

async fn serving(channel: Channel) -> health_check_response::ServingStatus {
    let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap();
    answer.into_inner().status()
}

/// Sends one HTTP/1.1 request that closes the connection, and reads the whole answer.
async fn http1(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
    headers: &str,
    body: &[u8],
) -> String {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    timeout(LONG, stream.read_to_end(&mut answer)).await.expect("in time").unwrap();
    String::from_utf8_lossy(&answer).to_lowercase()
}

const WEB: &str = "content-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\norigin: http://a.test\r\n";

/// An empty message in a gRPC frame.
const EMPTY: [u8; 5] = [0; 5];

const CHECK: &str = "/grpc.health.v1.Health/Check";

#[tokio::test]
async fn health_answers_and_stopping_ends_it() {
    let server = start(None).await;
    let channel = Endpoint::new(format!("http://{}", server.address)).unwrap().connect().await.unwrap();
    assert_eq!(serving(channel.clone()).await, health_check_response::ServingStatus::Serving);

    server.stopping.cancel();
    timeout(LONG, server.serving).await.expect("it ends").unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn reflection_answers_in_both_versions() {
    use tonic_reflection::pb::{
        v1::{self, server_reflection_client::ServerReflectionClient as V1},
        v1alpha::{self, server_reflection_client::ServerReflectionClient as V1Alpha},
    };
    let server = start(None).await;
    let channel = Endpoint::new(format!("http://{}", server.address)).unwrap().connect().await.unwrap();

    let list = v1::server_reflection_request::MessageRequest::ListServices(String::new());
    let request = v1::ServerReflectionRequest { message_request: Some(list), ..Default::default() };
    let mut answers = V1::new(channel.clone())
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let listed = format!("{:?}", answers.message().await.unwrap());

    let list = v1alpha::server_reflection_request::MessageRequest::ListServices(String::new());
    let request = v1alpha::ServerReflectionRequest { message_request: Some(list), ..Default::default() };
    let mut answers =
        V1Alpha::new(channel).server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let listed_alpha = format!("{:?}", answers.message().await.unwrap());

    for service in ["AuthService", "SpaceService", "MessageService", "EventService", "NetworkService"] {
        assert!(listed.contains(&format!("spacepanda.api.v1.{service}")), "{listed}");
        assert!(listed_alpha.contains(&format!("spacepanda.api.v1.{service}")), "{listed_alpha}");
    }
    assert!(listed.contains("grpc.health.v1.Health"));
}

#[tokio::test]
async fn browsers_call_over_http1() {
    let server = start(None).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let answer = http1(stream, "POST", CHECK, WEB, &EMPTY).await;
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    assert!(answer.contains("access-control-allow-origin: *"), "{answer}");
    assert!(answer.contains("grpc-status-details-bin"), "exposed to pages: {answer}");
    assert!(answer.contains("grpc-status:0"), "the trailers in the body: {answer}");
}

#[tokio::test]
async fn pages_may_send_their_token() {
    let server = start(None).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let headers = "origin: http://a.test\r\naccess-control-request-method: POST\r\n\
                   access-control-request-headers: authorization,x-grpc-web\r\n";
    let answer = http1(stream, "OPTIONS", CHECK, headers, &[]).await;
    assert!(answer.contains("access-control-allow-headers: authorization,x-grpc-web"), "{answer}");
}

#[tokio::test]
async fn both_http_versions_work_under_tls() {
    let directory = tempfile::tempdir().unwrap();
    let server = start_tls(directory.path()).await;
    let pem = std::fs::read(directory.path().join("tls/cert.pem")).unwrap();

    let trust = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&pem)).domain_name("localhost");
    let endpoint = Endpoint::new(format!("https://{}", server.address)).unwrap().tls_config(trust).unwrap();
    let status = serving(endpoint.connect().await.unwrap()).await;
    assert_eq!(status, health_check_response::ServingStatus::Serving);

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let answer = http1(stream, "POST", CHECK, WEB, &EMPTY).await;
    assert!(answer.starts_with("http/1.1 200") && answer.contains("grpc-status:0"), "{answer}");
}

#[tokio::test]
async fn one_silent_handshake_holds_up_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let server = start_tls(directory.path()).await;
    let silent = TcpStream::connect(server.address).await.unwrap();
    let pem = std::fs::read(directory.path().join("tls/cert.pem")).unwrap();
    let trust = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&pem)).domain_name("localhost");
    let endpoint = Endpoint::new(format!("https://{}", server.address)).unwrap().tls_config(trust).unwrap();
    timeout(LONG, endpoint.connect()).await.expect("in time").unwrap();
    drop(silent);
}

#[tokio::test]
async fn garbage_gets_a_reason_and_the_server_lives() {
    let server = start(None).await;
    let truncated = [0, 0, 0, 0, 2, 0x0a, 0x7f];
    let too_large = [0, 0x7f, 0xff, 0xff, 0xff];
    for (path, body, code) in
        [("/made.up/Method", &EMPTY[..], 12), (CHECK, &truncated[..], 3), (CHECK, &too_large[..], 3)]
    {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let answer = http1(stream, "POST", path, WEB, body).await;
        assert!(answer.contains(&format!("grpc-status: {code}\r\n")), "{path} {code}: {answer}");
        assert!(answer.contains("grpc-status-details-bin: "), "{answer}");
    }
    let stream = TcpStream::connect(server.address).await.unwrap();
    assert!(http1(stream, "GET", "/", "", &[]).await.starts_with("http/1.1 4"));
    let stream = TcpStream::connect(server.address).await.unwrap();
    assert!(http1(stream, "POST", CHECK, WEB, &EMPTY).await.contains("grpc-status:0"));
}

#[tokio::test]
async fn a_compressed_request_is_refused_with_a_reason_and_what_is_understood() {
    let server = start(None).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let answer = http1(stream, "POST", CHECK, &format!("{WEB}grpc-encoding: gzip\r\n"), &EMPTY).await;
    assert!(answer.contains("grpc-status: 12\r\n"), "{answer}");
    assert!(answer.contains("grpc-status-details-bin: "), "{answer}");
    assert!(answer.contains("grpc-accept-encoding: identity"), "{answer}");
}

#[tokio::test]
async fn metrics_are_served_on_their_own_port() {
    let server = start(None).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    http1(stream, "POST", CHECK, WEB, &EMPTY).await;

    let (listener, address) = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    serve_metrics(
        listener,
        metrics::router(Metrics::default(), server.metrics.clone()),
        server.stopping.clone(),
    );
    let page = http1(TcpStream::connect(address).await.unwrap(), "GET", "/metrics", "", &[]).await;
    assert!(page.starts_with("http/1.1 200"), "{page}");
    assert!(page.contains(r#"spacepanda_grpc_calls_total{method="other",code="ok"} 1"#), "{page}");
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let (listener, address) = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let error = listen(address).await.unwrap_err().to_string();
    assert!(error.contains(&address.to_string()), "{error}");
    drop(listener);
}
