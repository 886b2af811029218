//! Starting and being told to stop at any moment: what is printed, how it ends, what is kept.

use std::{
    fs::File,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use futures::future::join_all;
use tempfile::TempDir;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::harness::{
    Server, reflection,
    refusal::{never_answered, reason},
    server::{ends_within, program},
    wait::{comes_true, when, within},
    wait_until,
};

const STOPS_WITHIN: Duration = Duration::from_secs(10);
/// A stop that waits for nobody; well under half of the grace period of 8 s.
const AT_ONCE: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn it_says_what_to_do_next_and_how_to_stop_also_into_a_file() {
    let server = Server::start("home").await;
    let printed = wait_until("the advice", async || {
        let printed = server.printed();
        when(printed.contains("Ctrl-C"), &printed).map(|()| printed)
    })
    .await;
    assert!(printed.starts_with(&format!("listening on {}\n", server.address())), "{printed}");
    let next = printed.lines().find(|line| line.contains("spacepanda signup")).expect("what to do next");
    assert!(next.contains(&format!("--server http://{}", server.address())), "{next}");
    assert!(printed.contains(&server.data_dir().display().to_string()), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_at_the_first_byte_of_the_greeting_ends_it_in_order() {
    for signal in ["TERM", "INT"] {
        for number in 0..20 {
            let dir = TempDir::new().expect("a directory");
            let status = signalled_at_its_first_line(signal, Watched::Stdout, dir.path()).await;
            assert_eq!(status.code(), Some(0), "SIG{signal} {number}: {status}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_while_it_starts_ends_it_in_order() {
    for signal in ["TERM", "INT"] {
        for number in 0..20 {
            let dir = TempDir::new().expect("a directory");
            let status = signalled_at_its_first_line(signal, Watched::Stderr, dir.path()).await;
            assert_eq!(status.code(), Some(0), "SIG{signal} {number}: {status}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_open_at_sigterm_is_told_why_it_ends() {
    let alice = Server::start("home").await.sign_up("alice").await;
    let mut feed = alice.events(None).await;
    feed.until_caught_up().await;
    alice.server.stop().await;
    let status = feed.until_end().await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "SERVER_STOPPING"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_amid_a_stop_is_stored() {
    const SENDERS: usize = 64;
    let alice = Server::start("home").await.sign_up("alice").await;
    let space = alice.create_space("Garden").await.space_id;
    let channel = alice.general(&space).await;
    // Each sends until the server is gone; the stop falls amid all of them.
    let senders = (0..SENDERS).map(|sender| {
        let (alice, channel) = (&alice, &channel);
        async move {
            let mut acknowledged = Vec::new();
            for number in 0.. {
                match alice.try_send(channel, &format!("{sender}.{number}")).await {
                    Ok(message) => acknowledged.push(message.message_id),
                    Err(status) => {
                        assert!(never_answered(&status), "{status:?}");
                        break;
                    }
                }
            }
            acknowledged
        }
    });
    let stop = async {
        wait_until("some messages", async || {
            let sent = alice.history(&channel).await.map_err(|status| status.to_string())?.len();
            when(sent >= SENDERS, sent)
        })
        .await;
        alice.server.stop().await;
    };
    let (acknowledged, ()) = tokio::join!(join_all(senders), stop);
    let acknowledged = acknowledged.concat();
    assert!(acknowledged.len() >= SENDERS, "{}", acknowledged.len());

    alice.server.restart().await;
    alice.wake().await;
    let stored = alice.history(&channel).await.expect("the history");
    for id in acknowledged {
        assert_eq!(stored.iter().filter(|message| message.message_id == id).count(), 1, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_start_with_the_same_directory_and_port_names_the_directory() {
    let server = Server::start("home").await;
    let mut command = program();
    command.args(["serve", "--listen", &server.address().to_string()]);
    command.arg("--data-dir").arg(server.data_dir());
    let output = ends_within(STOPS_WITHIN, command).await;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("another process uses this data directory"), "{said}");
    assert!(!said.contains("ddress already in use"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_named_and_leaves_the_directory_free() {
    let (server, dir) = (Server::start("home").await, TempDir::new().expect("a directory"));
    let mut command = program();
    command.args(["serve", "--listen", &server.address().to_string()]);
    command.arg("--data-dir").arg(dir.path().join("data"));
    let output = ends_within(STOPS_WITHIN, command).await;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&format!("cannot listen on {}", server.address())), "{said}");
    let status = signalled_at_its_first_line("TERM", Watched::Stdout, dir.path()).await;
    assert_eq!(status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_has_a_health_of_its_own() {
    let server = Server::start("home").await;
    let mut health = HealthClient::new(server.channel());
    let mut services = reflection::services(&server.channel()).await.expect("reflection");
    services.retain(|name| name.starts_with("spacepanda."));
    assert!(services.len() >= 5, "{services:?}");
    for service in services.into_iter().chain([String::new()]) {
        let answer = health.check(HealthCheckRequest { service: service.clone() }).await;
        assert_eq!(answer.expect(&service).into_inner().status(), ServingStatus::Serving, "{service}");
    }
    let unknown = health.check(HealthCheckRequest { service: "spacepanda.NoSuch".into() }).await;
    assert_eq!(unknown.expect_err("unknown").code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_its_health_or_reads_its_description_does_not_hold_up_the_stop() {
    let server = Server::start("home").await;
    let watch = HealthClient::new(server.channel()).watch(HealthCheckRequest::default()).await;
    let mut watch = watch.expect("watch").into_inner();
    let first = watch.message().await.expect("an answer").expect("a status");
    assert_eq!(first.status(), ServingStatus::Serving);
    let mut description = reflection::open(&server.channel()).await.expect("reflection");
    description.message().await.expect("an answer").expect("a list");

    server.stop_within(AT_ONCE).await;
    let last = within(AT_ONCE, "the end of the watch", async || match watch.message().await {
        Ok(Some(status)) => Err(format!("{status:?}")),
        Ok(None) => panic!("a stream of a stopping server does not end as if all was said"),
        Err(status) => Ok(status),
    })
    .await;
    assert_eq!((last.code(), reason(&last).as_str()), (Code::Unavailable, "SERVER_STOPPING"));
    description.message().await.expect_err("it has ended too");
}

#[derive(Clone, Copy)]
enum Watched {
    Stdout,
    Stderr,
}

/// Starts a server and sends it a signal as soon as it has printed a line: the shell that reads the line is
/// the one that sends it.
async fn signalled_at_its_first_line(signal: &str, watched: Watched, dir: &Path) -> ExitStatus {
    let log = dir.join("log");
    let mut command = program();
    command.args(["serve", "--listen", "127.0.0.1:0", "--peer-listen", "/ip4/127.0.0.1/tcp/0"]);
    command.args(["--log-level", "debug", "--data-dir"]).arg(dir.join("data"));
    let mut server = match watched {
        Watched::Stdout => command.stdout(Stdio::piped()).stderr(File::create(&log).expect("a log")).spawn(),
        Watched::Stderr => command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn(),
    }
    .expect("the program starts");
    let mut sender = Command::new("sh");
    sender.args([
        "-c",
        &format!("read line; kill -{signal} \"$0\"; cat >/dev/null"),
        &server.id().to_string(),
    ]);
    let mut sender = match watched {
        Watched::Stdout => sender.stdin(server.stdout.take().expect("piped")),
        Watched::Stderr => sender.stdin(server.stderr.take().expect("piped")),
    }
    .spawn()
    .expect("sh");
    let ended = comes_true(STOPS_WITHIN, async || {
        server.try_wait().expect("waiting").ok_or_else(|| String::from("it still runs"))
    })
    .await;
    for child in [&mut server, &mut sender] {
        end(child);
    }
    let status = ended.unwrap_or_else(|seen| panic!("{seen}: {:?}", std::fs::read_to_string(&log)));
    assert_eq!(status.signal(), None, "SIG{signal} was handled");
    status
}

fn end(child: &mut Child) {
    // It may have ended already.
    let _ = child.kill();
    let _ = child.wait();
}
