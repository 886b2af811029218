//! A vault that is damaged, and a disk that is full: said clearly, and nothing gets worse by it.

use std::{fs, path::PathBuf};

use spacepanda_core::{keys::SessionToken, store::server::ServerStore};
use tonic::Code;

use crate::harness::{Cluster, Person, Server, meet, refused, same_world};

/// SQLCipher's page.
const PAGE: usize = 4096;
/// Bytes that a file may have while the disk is "full".
const LIMIT: u64 = 1 << 20;
const LONG: usize = 30_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_vault_is_told_and_left_alone_and_the_others_live() {
    let house = Server::start("house").await;
    let (alice, bob) = (house.sign_up("alice").await, house.sign_up("bob").await);
    let place = meet(&alice, &[&bob]).await;
    alice.send(&place.channel, "on a good disk").await;
    same_world(&[&alice, &bob], &place.space, 1).await;
    house.stop().await;

    let path = vault_of(&alice).await;
    let good = fs::read(&path).expect("the vault");
    let pages = good.len() / PAGE;
    assert!(pages > 10);
    for (what, first, count) in
        [("its first page", 0, 1), ("every page but the first", 1, pages - 1), ("all", 0, pages)]
    {
        let mut bad = good.clone();
        for page in first..first + count {
            bad[page * PAGE + 200..page * PAGE + 232].fill(0xa5);
        }
        fs::write(&path, &bad).expect("written");
        house.restart().await;
        refused(alice.try_status().await, Code::DataLoss, "VAULT_DAMAGED");
        refused(alice.try_send(&place.channel, "anyone?").await, Code::DataLoss, "VAULT_DAMAGED");
        bob.wake().await;
        bob.send(&place.channel, &format!("I live on, without {what}")).await;
        house.stop().await;
        assert!(fs::read(&path).expect("the vault") == bad, "the file was touched: {what}");
    }

    // From a good copy all is well again.
    fs::write(&path, &good).expect("written");
    house.restart().await;
    alice.wake().await;
    bob.wake().await;
    same_world(&[&alice, &bob], &place.space, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_what_it_cannot_keep_and_keeps_what_it_took() {
    let plan = |plan: crate::harness::server::Plan| plan.survives_file_limits();
    let (_cluster, [alice, bob]) = Cluster::with(["alice", "bob"], plan).await;
    let place = meet(&alice, &[&bob]).await;
    if !alice.server.limit_files(Some(LIMIT)) {
        eprintln!("SKIPPED: prlimit (util-linux) is missing, the disk cannot be made full");
        return;
    }
    let (mut kept, mut refusals) = (Vec::new(), 0);
    // A refused step may leave room for a smaller one: each answer is taken at its word.
    while refusals < 3 {
        let text = format!("{} {}", kept.len(), "x".repeat(LONG));
        match alice.try_send(&place.channel, &text).await {
            Ok(_) => kept.push(text),
            Err(status) => {
                refused::<()>(Err(status), Code::ResourceExhausted, "DISK_FULL");
                refusals += 1;
            }
        }
        assert!(kept.len() < 500, "the limit is never reached");
    }
    assert!(!kept.is_empty());
    // Still alive, and still readable.
    assert_eq!(alice.texts(&place.channel).await.expect("readable"), kept);

    // kill -9, so that nothing is tidied up on the way out.
    alice.server.kill_9();
    alice.server.restart().await;
    alice.wake().await;
    assert_eq!(alice.texts(&place.channel).await.expect("readable"), kept);
    alice.send(&place.channel, "there is room again").await;
    let world = same_world(&[&alice, &bob], &place.space, kept.len() + 1).await;
    assert_eq!(world.texts().last(), Some(&"there is room again"));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_there_is_room_again_a_server_goes_on_without_a_restart() {
    let plan = |plan: crate::harness::server::Plan| plan.survives_file_limits();
    let (_cluster, [alice, bob]) = Cluster::with(["alice", "bob"], plan).await;
    let place = meet(&alice, &[&bob]).await;
    // The receiver's disk is full this time: the sender keeps what was not taken.
    if !bob.server.limit_files(Some(LIMIT)) {
        eprintln!("SKIPPED: prlimit (util-linux) is missing, the disk cannot be made full");
        return;
    }
    let sent: usize = 80;
    for number in 0..sent {
        alice.send(&place.channel, &format!("{number} {}", "x".repeat(LONG))).await;
    }
    crate::harness::wait_until("bob's disk to be full", async || {
        let status = bob.try_send(&place.channel, &"z".repeat(LONG)).await;
        match status {
            Err(status) if status.code() == Code::ResourceExhausted => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let bobs = bob.texts(&place.channel).await.expect("readable");
    let bobs = bobs.iter().filter(|text| text.starts_with('z')).count();
    assert!(bob.server.limit_files(None));
    same_world(&[&alice, &bob], &place.space, sent + bobs).await;
}

/// The file of a person's vault; the server must be stopped.
async fn vault_of(person: &Person) -> PathBuf {
    let data = person.server.data_dir();
    let token = SessionToken::parse(&person.session.session_token).expect("a token");
    let server = ServerStore::open(&data.join("server.db")).await.expect("server.db");
    let login = server.token(&token.hash(), 0).await.expect("read").expect("the login");
    server.close().await;
    data.join("vaults").join(format!("{}.db", hex::encode(login.vault.0)))
}
