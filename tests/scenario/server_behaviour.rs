//! The server as an operator and a browser meet it: locks, signals, TLS, gRPC-Web, health, metrics.

use std::{fs, time::Duration};

use prost::Message as _;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use spacepanda_proto::api::v1::{CreateProfileRequest, Session, auth_service_client::AuthServiceClient};
use tonic::{
    Code,
    transport::{Certificate, ClientTlsConfig, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::harness::{
    Cluster, PASSWORD, Server, http, meet,
    server::{assert_exit, ends_within, run},
    wait_until,
};

/// What a bad configuration exits with (`EX_USAGE`).
const EXIT_USAGE: i32 = 64;

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_data_directory_exits_with_a_clear_line() {
    let alice = Server::start("alice").await.sign_up("alice").await;
    // It listens elsewhere, so that only the directory can stop it.
    let output = ends_within(Duration::from_secs(10), alice.server.command()).await;
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
    assert!(said.contains("another process uses this data directory"), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    alice.create_space("the first one works on").await;

    // The lock dies with its holder, however it dies.
    alice.server.kill_9();
    alice.server.restart().await;
    alice.wake().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_open_streams_and_exits_0() {
    let (_cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let place = meet(&alice, &[&bob]).await;
    let mut feeds = Vec::new();
    for _ in 0..5 {
        let mut feed = alice.events(None).await;
        feed.until_caught_up().await;
        feeds.push(feed);
    }
    let last = alice.send(&place.channel, "one last thing").await;
    alice.server.stop().await;
    for mut feed in feeds {
        feed.until_end().await;
    }
    alice.server.restart().await;
    alice.wake().await;
    assert_eq!(alice.message(&last.message_id).await.expect("kept").text, "one last thing");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_does_not_serve_other_machines_in_plaintext_unasked() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let data = data.to_str().expect("UTF-8");
    let output = run(&["serve", "--listen", "0.0.0.0:0", "--data-dir", data]).await;
    assert_exit(&output, EXIT_USAGE);
    assert!(String::from_utf8_lossy(&output.stderr).to_lowercase().contains("tls"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_is_one_line_and_exit_64() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("config.toml");
    let path = file.to_str().expect("UTF-8");
    for bad in ["[server]\nunheard_of = 1\n", "this is no TOML", "[server]\nlisten = 'nowhere'\n"] {
        fs::write(&file, bad).expect("the file");
        let output = run(&["serve", "--config", path]).await;
        assert_exit(&output, EXIT_USAGE);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    }
    assert_exit(&run(&["serve", "--config", "/nowhere/config.toml"]).await, EXIT_USAGE);
    assert_exit(&run(&["serve", "--no-such-flag"]).await, EXIT_USAGE);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_makes_its_own_certificate_and_prints_the_fingerprint() {
    // Two crypto providers may be linked; an error only says that one was chosen before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = Server::plan("secure").flags(&["--tls-self-signed"]).start().await;
    let pem = fs::read(server.data_dir().join("tls").join("cert.pem")).expect("the certificate is kept");
    let der = CertificateDer::from_pem_slice(&pem).expect("a certificate");
    let fingerprint = hex::encode(Sha256::digest(&der));
    let printed = || server.printed().to_lowercase().replace(':', "");
    wait_until("the fingerprint", async || {
        if printed().contains(&fingerprint) { Ok(()) } else { Err(server.printed()) }
    })
    .await;

    let url = format!("https://{}", server.address());
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)).domain_name("localhost");
    let endpoint = Endpoint::from_shared(url).expect("a URL").tls_config(tls).expect("TLS");
    let channel = endpoint.connect().await.expect("the client trusts this certificate");
    let profile = profile("alice");
    AuthServiceClient::new(channel).create_profile(profile.clone()).await.expect("over TLS");

    // Neither without TLS nor with another authority.
    server.accounts().create_profile(profile.clone()).await.expect_err("plaintext");
    let other = Server::plan("other").flags(&["--tls-self-signed"]).start().await;
    let foreign = fs::read(other.data_dir().join("tls").join("cert.pem")).expect("its certificate");
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(foreign)).domain_name("localhost");
    let url = format!("https://{}", server.address());
    let endpoint = Endpoint::from_shared(url).expect("a URL").tls_config(tls).expect("TLS");
    endpoint.connect().await.expect_err("another authority");

    server.restart().await;
    assert_eq!(printed().matches(&fingerprint).count(), 2, "the certificate is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_talks_grpc_web_over_http_1() {
    let server = Server::start("home").await;
    let answer = grpc_web(&server, "application/grpc-web+proto", &profile("alice")).await;
    assert_eq!(answer.status(), Some(200), "{}", answer.head);
    assert!(answer.head.contains("content-type: application/grpc-web"), "{}", answer.head);
    let (message, trailers) = web_frames(&answer.body);
    let session = Session::decode(message.as_slice()).expect("a session");
    assert_eq!(session.username, "alice");
    assert!(trailers.contains("grpc-status:0") || trailers.contains("grpc-status: 0"), "{trailers}");

    // A refusal is a grpc-status too, not an HTTP error.
    let refused = grpc_web(&server, "application/grpc-web+proto", &profile("alice")).await;
    assert_eq!(refused.status(), Some(200));
    let told = format!("{}{}", refused.head, String::from_utf8_lossy(&refused.body));
    let code = Code::AlreadyExists as i32;
    assert!(
        [format!("grpc-status:{code}"), format!("grpc-status: {code}")].iter().any(|s| told.contains(s)),
        "{told}"
    );
    assert_eq!(server.person(session).all_spaces().await.len(), 0, "the token works over HTTP/2");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_answer() {
    let server = Server::plan("home").metrics().start().await;
    let request = HealthCheckRequest { service: String::new() };
    let health = HealthClient::new(server.channel()).check(request).await.expect("health").into_inner();
    assert_eq!(health.status(), ServingStatus::Serving);

    server.sign_up("alice").await;
    let metrics = server.metrics().await;
    assert!(metrics.lines().any(|line| line.starts_with("# TYPE spacepanda_")), "{metrics}");
    assert!(!metrics.contains("alice"));
    let nothing = http::get(server.address(), "/nothing").await.expect("HTTP answers");
    assert_ne!(nothing.status(), Some(500));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_explains_itself() {
    for arguments in [["--help"].as_slice(), &["--version"], &["serve", "--help"], &["completions", "bash"]] {
        let output = run(arguments).await;
        assert_exit(&output, 0);
        assert!(!output.stdout.is_empty(), "{arguments:?}");
    }
    assert_exit(&run(&["no-such-command"]).await, EXIT_USAGE);
}

fn profile(username: &str) -> CreateProfileRequest {
    CreateProfileRequest { username: username.into(), password: PASSWORD.into(), ..Default::default() }
}

async fn grpc_web(server: &Server, content_type: &str, request: &CreateProfileRequest) -> http::Answer {
    let message = request.encode_to_vec();
    let mut body = vec![0];
    body.extend(u32::try_from(message.len()).expect("small").to_be_bytes());
    body.extend(message);
    let headers = [("content-type", content_type), ("accept", content_type), ("x-grpc-web", "1")];
    let path = "/spacepanda.api.v1.AuthService/CreateProfile";
    http::post(server.address(), path, &headers, &body).await.expect("an answer")
}

/// The message and the trailers of an answer: two frames, the second marked with the high bit.
fn web_frames(body: &[u8]) -> (Vec<u8>, String) {
    let frame = |at: usize| {
        let length = u32::from_be_bytes(body[at + 1..at + 5].try_into().expect("four bytes")) as usize;
        (body[at], &body[at + 5..at + 5 + length])
    };
    let (kind, message) = frame(0);
    assert_eq!(kind, 0);
    let (kind, trailers) = frame(5 + message.len());
    assert_eq!(kind, 0x80);
    (message.to_vec(), String::from_utf8_lossy(trailers).to_lowercase())
}
