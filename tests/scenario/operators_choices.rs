//! What an operator chooses does what was said: certificates, idle logins, limits, where values come from.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use prost::Message as _;
use spacepanda_proto::api::v1::{
    CreateProfileRequest, Session, UnlockRequest, auth_service_client::AuthServiceClient,
};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tonic::{
    Code, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use tonic_types::StatusExt as _;

use crate::harness::{
    PASSWORD, Server, http, refused,
    server::{assert_exit, free_port, program, run},
    wait::{DEADLINE, when},
    wait_until,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_from_pem_files_is_the_one_that_clients_see() {
    let dir = TempDir::new().expect("a directory");
    let (cert, key) = pem_files(dir.path(), "own");
    let flags = ["--tls-cert", text(&cert), "--tls-key", text(&key)];
    let server = Server::plan("home").flags(&flags).start().await;
    let mut accounts = AuthServiceClient::new(trusting(&server, &cert).await.expect("it is trusted"));
    accounts.create_profile(profile("alice")).await.expect("over TLS");
    assert!(server.printed().contains("certificate SHA-256 "), "{}", server.printed());

    let (other, _) = pem_files(dir.path(), "other");
    trusting(&server, &other).await.expect_err("another certificate");
    assert!(!server.data_dir().join("tls").exists(), "nothing was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_the_certificates_is_exit_1_and_one_line() {
    let dir = TempDir::new().expect("a directory");
    let ((cert, _), (_, key)) = (pem_files(dir.path(), "one"), pem_files(dir.path(), "two"));
    let data = dir.path().join("data");
    let output = run(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        text(&data),
        "--tls-cert",
        text(&cert),
        "--tls-key",
        text(&key),
    ])
    .await;
    assert_exit(&output, 1);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    assert!(said.contains("certificate and its key"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_ends_when_it_was_not_used_for_as_long_as_the_operator_says() {
    const IDLE: Duration = Duration::from_secs(2);
    let server = Server::plan("home").flags(&["--token-idle", "2s"]).start().await;
    let phone = server.sign_up("alice").await;
    let laptop = phone.another_device("laptop").await;
    phone.status().await;
    let begun = Instant::now();
    // One is used all the time and outlives the span twice; the other rests meanwhile.
    wait_until("two spans to pass", async || {
        laptop.status().await;
        when(begun.elapsed() > IDLE * 2, format!("{:?}", begun.elapsed()))
    })
    .await;
    refused(phone.try_status().await, Code::Unauthenticated, "TOKEN_INVALID");
    laptop.status().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_names_from_one_address_is_slowed_down_over_every_way_in() {
    let plain = Server::start("plain").await;
    slowed_down(plain.accounts()).await;
    // The same address, another protocol.
    let guess = unlock("nobody-at-all").encode_to_vec();
    let answer = web_call(&plain, "Unlock", "application/grpc-web+proto", &frame(&guess)).await;
    let told = format!("{}{}", answer.head, answer.body_text());
    let code = Code::ResourceExhausted as i32;
    assert!(told.replace(": ", ":").contains(&format!("grpc-status:{code}")), "{told}");
    assert!(told.contains("grpc-status-details-bin"), "{told}");

    let secure = Server::plan("secure").flags(&["--tls-self-signed"]).start().await;
    let cert = secure.data_dir().join("tls").join("cert.pem");
    slowed_down(AuthServiceClient::new(trusting(&secure, &cert).await.expect("it is trusted"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_may_speak_grpc_web_in_base64() {
    let server = Server::start("home").await;
    let content_type = "application/grpc-web-text+proto";
    let body = STANDARD.encode(frame(&profile("alice").encode_to_vec()));
    let answer = web_call(&server, "CreateProfile", content_type, body.as_bytes()).await;
    assert_eq!(answer.status(), Some(200), "{}", answer.head);
    assert!(answer.head.contains("content-type: application/grpc-web-text"), "{}", answer.head);
    // Each piece is padded by itself, so that padding can stand amid the whole.
    let quads = answer.body.chunks(4).map(|quad| STANDARD.decode(quad).expect("base64"));
    let bytes: Vec<u8> = quads.flatten().collect();
    let length = u32::from_be_bytes(bytes[1..5].try_into().expect("four bytes")) as usize;
    let session = Session::decode(&bytes[5..5 + length]).expect("a session");
    assert_eq!((bytes[0], session.username.as_str()), (0, "alice"));
    let trailers = String::from_utf8_lossy(&bytes[5 + length + 5..]).to_lowercase();
    assert_eq!(bytes[5 + length], 0x80);
    assert!(trailers.replace(": ", ":").contains("grpc-status:0"), "{trailers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_may_open_as_many_files_as_the_system_lets_it() {
    let server = Server::start("home").await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.process_id())).expect("limits");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    let [.., soft, hard, _unit] = files.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{files}") };
    assert_eq!(soft, hard, "{files}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let dir = TempDir::new().expect("a directory");
    let (in_file, in_environment, in_flag) = (free_port(), free_port(), free_port());
    let file = dir.path().join("config.toml");
    fs::write(&file, format!("[server]\nlisten = '{in_file}'\n")).expect("the file");
    let serve = || {
        let mut command = program();
        command.args(["serve", "--peer-listen", "/ip4/127.0.0.1/tcp/0", "--data-dir"]);
        command.arg(dir.path().join("data")).arg("--config").arg(&file);
        command
    };
    assert_eq!(first_line(serve()).await, format!("listening on {in_file}"));
    let mut command = serve();
    command.env("SPACEPANDA_LISTEN", in_environment.to_string());
    assert_eq!(first_line(command).await, format!("listening on {in_environment}"));
    let mut command = serve();
    command.env("SPACEPANDA_LISTEN", in_environment.to_string()).args(["--listen", &in_flag.to_string()]);
    assert_eq!(first_line(command).await, format!("listening on {in_flag}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_that_only_this_machine_can_use_comes_with_a_warning() {
    let local = Server::start("local").await.sign_up("alice").await;
    let space = local.create_space("Garden").await.space_id;
    assert!(!local.invite_for(&space, 1).await.warning.is_empty());

    let announce = ["--announce", "/ip4/203.0.113.5/tcp/4001"];
    let known = Server::plan("known").flags(&announce).start().await.sign_up("bob").await;
    let space = known.create_space("Garden").await.space_id;
    assert_eq!(known.invite_for(&space, 1).await.warning, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_does_not_name_the_address_and_a_directory_open_to_others_are_warned_of() {
    let dir = TempDir::new().expect("a directory");
    let (data, log) = (dir.path().join("data"), dir.path().join("log"));
    let serve = async |listen: &str| {
        let mut command = program();
        command.args(["serve", "--peer-listen", "/ip4/127.0.0.1/tcp/0", "--tls-self-signed", "--data-dir"]);
        command.arg(&data).args(["--listen", listen]).stderr(fs::File::create(&log).expect("a log"));
        first_line(command).await;
        fs::read_to_string(&log).expect("the log")
    };
    let (unnamed, open) = ("does not name the address", "other users of this machine");
    let said = serve("127.0.0.1:0").await;
    assert!(!said.contains(unnamed) && !said.contains(open), "{said}");
    let mode = |path: &Path| fs::metadata(path).expect("it exists").permissions().mode() & 0o777;
    assert_eq!((mode(&data), mode(&data.join("tls"))), (0o700, 0o700));

    let said = serve("127.0.0.2:0").await;
    assert!(said.contains(unnamed) && !said.contains(open), "{said}");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).expect("0755");
    let said = serve("127.0.0.1:0").await;
    assert!(!said.contains(unnamed) && said.contains(open), "{said}");
}

/// A certificate for `localhost` and its key, in files of this name.
fn pem_files(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (cert, key) = (dir.join(format!("{name}.cert.pem")), dir.join(format!("{name}.key.pem")));
    fs::write(&cert, made.cert.pem()).expect("written");
    fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    (cert, key)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A connection that accepts this certificate alone.
async fn trusting(server: &Server, cert: &Path) -> Result<Channel, tonic::transport::Error> {
    // Two crypto providers may be linked; an error only says that one was chosen before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let pem = Certificate::from_pem(fs::read(cert).expect("the certificate"));
    let tls = ClientTlsConfig::new().ca_certificate(pem).domain_name("localhost");
    let url = format!("https://{}", server.address());
    Endpoint::from_shared(url).expect("a URL").tls_config(tls).expect("TLS").connect().await
}

/// Every name is another, so that only the address can be what is counted.
async fn slowed_down(mut accounts: AuthServiceClient<Channel>) {
    for number in 0..60 {
        let status: Status = accounts.unlock(unlock(&format!("nobody-{number}"))).await.expect_err("unknown");
        if status.code() == Code::Unauthenticated {
            continue;
        }
        refused(Err::<(), _>(status.clone()), Code::ResourceExhausted, "TOO_MANY_ATTEMPTS");
        let wait = status.get_details_retry_info().expect("RetryInfo").retry_delay.expect("a delay");
        assert!(!wait.is_zero());
        assert!(number >= 10, "after {number} already");
        return;
    }
    panic!("60 guesses are too many");
}

fn profile(username: &str) -> CreateProfileRequest {
    CreateProfileRequest { username: username.into(), password: PASSWORD.into(), ..Default::default() }
}

fn unlock(username: &str) -> UnlockRequest {
    UnlockRequest { username: username.into(), password: PASSWORD.into(), device_name: "x".into() }
}

/// A message as gRPC frames it.
fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("small").to_be_bytes();
    [&[0], &length[..], message].concat()
}

async fn web_call(server: &Server, method: &str, content_type: &str, body: &[u8]) -> http::Answer {
    let headers = [("content-type", content_type), ("accept", content_type), ("x-grpc-web", "1")];
    let path = format!("/spacepanda.api.v1.AuthService/{method}");
    http::post(server.address(), &path, &headers, body).await.expect("an answer")
}

/// Starts the program, reads one line and ends it.
async fn first_line(command: Command) -> String {
    let mut command = tokio::process::Command::from(command);
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let line = tokio::time::timeout(DEADLINE, lines.next_line()).await.expect("in time");
    child.kill().await.expect("ended");
    line.expect("readable").expect("a line")
}
