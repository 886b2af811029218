//! Accounts: names, passwords, tokens that outlive a restart, and servers that come back alone.

use std::{fs, os::unix::fs::PermissionsExt as _};

use spacepanda_proto::api::v1::{CreateProfileRequest, DeliveryState, PeerState, Session, UnlockRequest};
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use crate::harness::{
    Cluster, PASSWORD, Server, meet, refused, refused_with, same_world,
    server::{ends_within, program},
    wait::when,
    wait_until,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_account_gets_what_it_needs_once() {
    let server = Server::start("home").await;
    let profile = profile("Alice_1", PASSWORD);
    let session = server.accounts().create_profile(profile).await.expect("sign up").into_inner();
    assert_eq!(session.username, "alice_1", "case-folded");
    assert_eq!(session.display_name, "alice_1", "empty: the user name");
    assert_eq!(session.recovery_phrase.split_whitespace().count(), 12);
    assert!(session.account_id.len() == 64 && session.account_id.bytes().all(is_lower_hex));
    assert!(session.listen_addresses.iter().all(|address| address.ends_with(&session.peer_id)));
    assert!(!session.listen_addresses.is_empty() && session.session_token.len() >= 43);

    let again = unlock(&server, "ALICE_1", PASSWORD).await.expect("log in").into_inner();
    assert_eq!(again.account_id, session.account_id);
    assert_ne!(again.session_token, session.session_token);
    assert!(again.recovery_phrase.is_empty(), "only told once");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_passwords_have_rules() {
    let server = Server::start("home").await;
    server.sign_up("alice").await;
    for taken in ["alice", "ALICE", "Alice"] {
        let result = server.accounts().create_profile(profile(taken, PASSWORD)).await;
        refused(result, Code::AlreadyExists, "USERNAME_TAKEN");
    }
    for (name, password, field) in [
        ("b", PASSWORD, "username"),
        (&*"b".repeat(33), PASSWORD, "username"),
        ("bob smith", PASSWORD, "username"),
        ("bøb", PASSWORD, "username"),
        ("", PASSWORD, "username"),
        ("bob", "seven77", "password"),
        ("bob", "", "password"),
    ] {
        let result = server.accounts().create_profile(profile(name, password)).await;
        let status = refused_with(result, Code::InvalidArgument);
        let fields = status.get_details_bad_request().expect("BadRequest").field_violations;
        assert_eq!(fields[0].field, field, "{name:?} {password:?}");
        assert!(!status.message().contains(password) || password.is_empty(), "no password in an error");
    }
    unlock(&server, "alice", PASSWORD).await.expect("the first account is untouched");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_name_and_a_wrong_password_look_the_same() {
    let server = Server::start("home").await;
    server.sign_up("alice").await;
    let wrong =
        refused(unlock(&server, "alice", "wrong password").await, Code::Unauthenticated, "WRONG_CREDENTIALS");
    let unknown =
        refused(unlock(&server, "nobody", PASSWORD).await, Code::Unauthenticated, "WRONG_CREDENTIALS");
    assert_eq!(wrong.message(), unknown.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_is_slowed_down_and_says_for_how_long() {
    let server = Server::start("home").await;
    let alice = server.sign_up("alice").await;
    let mut last = None;
    for _ in 0..100 {
        let status = unlock(&server, "alice", "a wrong guess").await.expect_err("wrong");
        if status.code() == Code::ResourceExhausted {
            last = Some(status);
            break;
        }
        assert_eq!(status.code(), Code::Unauthenticated);
    }
    let status = last.expect("100 guesses are too many");
    refused(Err::<(), _>(status.clone()), Code::ResourceExhausted, "TOO_MANY_ATTEMPTS");
    let retry = status.get_details_retry_info().expect("RetryInfo").retry_delay.expect("a delay");
    assert!(!retry.is_zero());
    // Who is logged in does not notice.
    alice.create_space("still here").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_brings_its_account_back_after_a_restart() {
    let (_cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let place = meet(&alice, &[&bob]).await;
    for crash in [false, true] {
        if crash {
            bob.server.kill_9();
        } else {
            bob.server.stop().await;
        }
        alice.send(&place.channel, "while you were away").await;
        bob.server.restart().await;
        // The very first call is already answered: nobody asks for the password.
        bob.status().await;
    }
    same_world(&[&alice, &bob], &place.space, 2).await;
    let wrong = server_person_with_token(&bob.server, &bob.session, "not-a-token");
    refused_with(wrong.try_status().await, Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_an_unlock_key_a_server_receives_after_a_restart_without_any_call() {
    let key_dir = tempfile::tempdir().expect("a directory");
    let key = key_dir.path().join("unlock.key");
    fs::write(&key, hex::encode(rand::random::<[u8; 32]>())).expect("the key file");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("0600");
    let key = key.to_str().expect("UTF-8").to_owned();
    let (_cluster, [alice, bob]) =
        Cluster::with(["alice", "bob"], |plan| plan.flags(&["--unlock-key-file", &key])).await;
    let place = meet(&alice, &[&bob]).await;

    bob.server.stop().await;
    let sent = alice.send(&place.channel, "are you up?").await;
    bob.server.restart().await;
    wait_until("bob's server to process it, without bob", async || {
        let message = alice.message(&sent.message_id).await.map_err(|status| status.to_string())?;
        let delivery = message.delivery.unwrap_or_default();
        when(delivery.state() == DeliveryState::Delivered, format!("{delivery:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_unlock_key_a_restarted_server_stays_locked_until_called() {
    let (_cluster, [alice, bob]) = Cluster::of(["alice", "bob"]).await;
    let place = meet(&alice, &[&bob]).await;
    bob.server.stop().await;
    let sent = alice.send(&place.channel, "are you up?").await;
    bob.server.restart().await;
    let arrives = crate::harness::comes_true(std::time::Duration::from_secs(3), async || {
        let message = alice.message(&sent.message_id).await.map_err(|status| status.to_string())?;
        when(message.delivery.unwrap_or_default().state() == DeliveryState::Delivered, "not delivered")
    });
    assert!(arrives.await.is_err(), "the vault opened without a token, a password or a key");
    bob.wake().await;
    same_world(&[&alice, &bob], &place.space, 1).await;
    assert_eq!(alice.peer(&bob).await.expect("known").state(), PeerState::Connected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unlock_key_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let key = dir.path().join("unlock.key");
    fs::write(&key, "00".repeat(32)).expect("the key file");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("0644");
    let mut command = program();
    command.args(["serve", "--listen", "127.0.0.1:0", "--peer-listen", "/ip4/127.0.0.1/tcp/0", "--data-dir"]);
    command.arg(dir.path().join("data")).arg("--unlock-key-file").arg(&key);
    let output = ends_within(std::time::Duration::from_secs(10), command).await;
    assert!(!output.status.success());
    assert!(!String::from_utf8_lossy(&output.stderr).contains(&"00".repeat(32)), "the key in an error");
}

fn profile(username: &str, password: &str) -> CreateProfileRequest {
    CreateProfileRequest { username: username.into(), password: password.into(), ..Default::default() }
}

async fn unlock(server: &Server, username: &str, password: &str) -> Result<Response<Session>, Status> {
    let request =
        UnlockRequest { username: username.into(), password: password.into(), device_name: "x".into() };
    server.accounts().unlock(request).await
}

fn server_person_with_token(server: &Server, session: &Session, token: &str) -> crate::harness::Person {
    server.person(Session { session_token: token.into(), ..session.clone() })
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}
