//! The machine's unlock key: given later, handed over by systemd, and refused when others can read it.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use crate::harness::{
    Server,
    server::{ends_within, program},
    wait::when,
    wait_until,
};

#[tokio::test(flavor = "multi_thread")]
async fn an_unlock_key_given_later_covers_who_came_back_by_token() {
    let directory = tempfile::tempdir().expect("a directory");
    let key = directory.path().join("unlock.key");
    let with_key = ["--unlock-key-file", key.to_str().expect("UTF-8")];
    let alice = Server::plan("alice").metrics().start().await.sign_up("alice").await;

    alice.server.restart_with(&with_key).await;
    assert_eq!(open_sessions(&alice.server).await, 0, "the key covers nobody yet");
    // No password comes: a token is enough.
    alice.wake().await;
    for _ in 0..2 {
        alice.server.restart_with(&with_key).await;
        one_session_opens(&alice.server).await;
    }
    alice.status().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_of_systemd_is_taken_whatever_its_mode() {
    let credentials = tempfile::tempdir().expect("a directory");
    let key = credentials.path().join("unlock.key");
    readable_key(&key);
    let plan = Server::plan("alice").metrics().variable("CREDENTIALS_DIRECTORY", credentials.path());
    let server = plan.flags(&["--unlock-key-file", key.to_str().expect("UTF-8")]).start().await;
    let alice = server.sign_up("alice").await;
    alice.server.restart().await;
    one_session_opens(&alice.server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_others_can_read_is_refused_with_the_remedy() {
    let directory = tempfile::tempdir().expect("a directory");
    let (key, elsewhere) = (directory.path().join("unlock.key"), directory.path().join("credentials"));
    readable_key(&key);
    let mut command = program();
    command.args(["serve", "--listen", "127.0.0.1:0", "--peer-listen", "/ip4/127.0.0.1/tcp/0", "--data-dir"]);
    command.arg(directory.path().join("data")).arg("--unlock-key-file").arg(&key);
    // A directory of credentials, but not the key's.
    command.env("CREDENTIALS_DIRECTORY", elsewhere);
    let output = ends_within(Duration::from_secs(10), command).await;
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = said.lines().filter(|line| line.contains("unlock key file")).collect();
    assert!(matches!(lines[..], [line] if line.contains("chmod 600")), "{said}");
}

fn readable_key(path: &Path) {
    fs::write(path, hex::encode(rand::random::<[u8; 32]>())).expect("the key file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o444)).expect("0444");
}

async fn open_sessions(server: &Server) -> u64 {
    let metrics = server.metrics().await;
    let line = metrics.lines().find_map(|line| line.strip_prefix("spacepanda_open_sessions "));
    line.expect("sessions are counted").parse().expect("a count")
}

/// Nothing here calls the account.
async fn one_session_opens(server: &Server) {
    wait_until("the account to come back by itself", async || {
        let open = open_sessions(server).await;
        when(open == 1, format!("{open} sessions are open"))
    })
    .await;
}
