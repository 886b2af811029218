//! A vault that is damaged, and a disk that is full: said clearly, and nothing gets worse by it.

use std::{collections::BTreeSet, fs, path::PathBuf};

use spacepanda_core::{keys::SessionToken, store::server::ServerStore};
use spacepanda_proto::api::v1::CreateProfileRequest;
use tonic::Code;

use crate::harness::{Cluster, PASSWORD, Person, Server, client::request_id, meet, refused, same_world};

/// SQLCipher's page.
const PAGE: usize = 4096;
/// Bytes that a file may have while the disk is "full".
const LIMIT: u64 = 3 << 20;
const LONG: usize = 30_000;
/// Bytes that a file may have, of which a new account needs more.
const TOO_LITTLE: [u64; 3] = [1 << 10, 40 << 10, 120 << 10];

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
    alice.server.limit_files(Some(LIMIT));
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
    bob.server.limit_files(Some(LIMIT));
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
    bob.server.limit_files(None);
    same_world(&[&alice, &bob], &place.space, sent + bobs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_the_disk_has_no_room_for_leaves_nothing_behind() {
    let house = Server::plan("house").survives_file_limits().start().await;
    let alice = house.sign_up("alice").await;
    let alices = accounts_on_disk(&house);
    assert_eq!(alices.len(), 1);
    let request = CreateProfileRequest {
        username: "bob".into(),
        password: PASSWORD.into(),
        request_id: request_id(),
        ..Default::default()
    };
    // No room for the first page, and none for the last ones.
    for room in TOO_LITTLE {
        house.limit_files(Some(room));
        let refusal = house.accounts().create_profile(request.clone()).await;
        refused(refusal, Code::ResourceExhausted, "DISK_FULL");
        assert_eq!(accounts_on_disk(&house), alices, "with {room} bytes");
    }
    assert!(alice.all_spaces().await.is_empty(), "others are served");
    // It ends as it should, with the disk still full.
    house.stop().await;
    assert_eq!(accounts_on_disk(&house), alices);

    house.restart().await;
    let session = house.accounts().create_profile(request).await.expect("there is room again").into_inner();
    house.person(session).create_space("my own").await;
    assert_eq!(accounts_on_disk(&house).len(), 2);
    alice.wake().await;
}

/// The vaults that have files, by what their names begin with.
fn accounts_on_disk(server: &Server) -> BTreeSet<String> {
    let files = fs::read_dir(server.data_dir().join("vaults")).expect("the vaults").flatten();
    let name = |file: fs::DirEntry| file.file_name().to_string_lossy().into_owned();
    files.map(name).map(|name| name.split('.').next().unwrap_or_default().to_owned()).collect()
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
