//! Nothing that people wrote, named or hold secret is in any file of the server or in its log.

use std::{fs, path::Path};

use spacepanda_proto::api::v1::{CreateChannelRequest, CreateProfileRequest, CreateSpaceRequest};

use crate::harness::{Person, Server, client::request_id, same_world};

const NAME: &str = "quokkawombat";
const DISPLAY_NAME: &str = "Numbat Bandicoot";
const PASSWORD_TEXT: &str = "echidna platypus 77";
const DEVICE: &str = "device-of-the-potoroo";
const SPACE: &str = "Bilby burrow";
const DESCRIPTION: &str = "where the wallabies whisper";
const CHANNEL: &str = "kookaburra-corner";
const TOPIC: &str = "laughing at dawn";
const TEXTS: [&str; 2] = ["the cassowary flies at midnight", "but lyrebirds never tell"];

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_disk_and_a_shared_log_tell_nothing() {
    let alice = talkative("alice").await.sign_up("alice").await;
    let server = talkative("bob").await;
    let bob = special_person(&server).await;
    // A failed login and a refused call put their input through the error paths too.
    let wrong = spacepanda_proto::api::v1::UnlockRequest {
        username: NAME.into(),
        password: format!("{PASSWORD_TEXT} wrong"),
        device_name: DEVICE.into(),
    };
    server.accounts().unlock(wrong).await.expect_err("a wrong password");
    bob.try_connect(&format!("/ip4/127.0.0.1/tcp/1/p2p/{}", alice.peer_id())).await.expect_err("nobody");

    let space = talk(&bob, &alice).await;
    let link = bob.invite(&space).await;
    // One clean end, one that leaves the write-ahead log behind.
    alice.server.stop().await;
    bob.server.kill_9();

    let mut secrets = vec![link.clone(), link.trim_start_matches("spacepanda:").to_owned()];
    for person in [&alice, &bob] {
        secrets.push(person.session.session_token.clone());
        if !person.session.recovery_phrase.is_empty() {
            secrets.push(person.session.recovery_phrase.clone());
        }
    }
    let written = [NAME, DISPLAY_NAME, PASSWORD_TEXT, DEVICE, SPACE, DESCRIPTION, CHANNEL, TOPIC];
    secrets.extend(written.iter().chain(&TEXTS).map(ToString::to_string));
    secrets.extend(["Alice".into(), "alice".into(), crate::harness::PASSWORD.into()]);

    let ids = ids(&[&alice, &bob], &space);
    for person in [&alice, &bob] {
        for secret in &secrets {
            assert_eq!(
                files_with(&person.server.data_dir(), secret),
                Vec::<String>::new(),
                "{secret:?} on disk"
            );
        }
        let log = person.server.log();
        assert!(log.lines().count() > 3, "a log was written");
        for hidden in secrets.iter().chain(&ids) {
            assert!(!log.contains(hidden.as_str()), "{hidden:?} in the log");
        }
        for address in ["127.0.0.1", "/ip4/", "/tcp/", "/p2p/"] {
            assert!(!log.contains(address), "an address in the log: {}", line_with(&log, address));
        }
    }
}

/// The search itself finds what is there, however it is written.
#[test]
fn the_search_finds_a_planted_secret_in_a_file_and_in_a_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let deep = dir.path().join("a").join("b");
    fs::create_dir_all(&deep).expect("directories");
    for (name, bytes) in [
        ("raw", b"..bilby..".to_vec()),
        ("hex", hex::encode("bilby").into_bytes()),
        ("wide", "bilby".encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("bilby", Vec::new()),
        ("innocent", b"b i l b y".to_vec()),
    ] {
        fs::write(deep.join(name), bytes).expect("written");
    }
    let mut found = files_with(dir.path(), "bilby");
    found.sort();
    assert_eq!(found, ["a/b/bilby", "a/b/hex", "a/b/raw", "a/b/wide"]);
}

async fn talkative(name: &str) -> Server {
    Server::plan(name).flags(&["--log-level", "trace"]).start().await
}

async fn special_person(server: &Server) -> Person {
    let profile = CreateProfileRequest {
        username: NAME.into(),
        password: PASSWORD_TEXT.into(),
        display_name: DISPLAY_NAME.into(),
        device_name: DEVICE.into(),
        request_id: request_id(),
        ..Default::default()
    };
    let session = server.accounts().create_profile(profile).await.expect("sign up").into_inner();
    assert_eq!(session.recovery_phrase.split_whitespace().count(), 12);
    server.person(session)
}

/// A space with a channel and messages both ways.
async fn talk(bob: &Person, alice: &Person) -> String {
    let request =
        CreateSpaceRequest { name: SPACE.into(), description: DESCRIPTION.into(), request_id: request_id() };
    let space = bob.spaces().create_space(request).await.expect("a space").into_inner().space_id;
    let channel = CreateChannelRequest {
        space_id: space.clone(),
        name: CHANNEL.into(),
        topic: TOPIC.into(),
        request_id: request_id(),
        ..Default::default()
    };
    let channel = bob.spaces().create_channel(channel).await.expect("a channel").into_inner().channel_id;
    alice.join(&bob.invite(&space).await).await;
    same_world(&[bob, alice], &space, 0).await;
    bob.send(&channel, TEXTS[0]).await;
    alice.send(&channel, TEXTS[1]).await;
    same_world(&[bob, alice], &space, 2).await;
    space
}

/// Ids that a log must not hold in full.
fn ids(people: &[&Person], space: &str) -> Vec<String> {
    let mut ids = vec![space.to_owned(), space.replace('-', "")];
    for person in people {
        ids.extend([person.account().to_owned(), person.peer_id().to_owned()]);
    }
    ids
}

/// The files below `dir` that hold `secret` as text, hex or UTF-16, or are named after it.
fn files_with(dir: &Path, secret: &str) -> Vec<String> {
    let wide: Vec<u8> = secret.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let forms = [secret.as_bytes().to_vec(), hex::encode(secret).into_bytes(), wide];
    let mut found = Vec::new();
    visit(dir, &mut |path| {
        let name = path.strip_prefix(dir).expect("below").to_string_lossy().into_owned();
        let bytes = fs::read(path).expect("readable");
        let inside = forms.iter().any(|form| bytes.windows(form.len()).any(|window| window == form));
        if inside || name.contains(secret) {
            found.push(name);
        }
    });
    found
}

fn visit(dir: &Path, each: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(dir).expect("readable").flatten() {
        let path = entry.path();
        if path.is_dir() {
            visit(&path, each);
        } else if path.is_file() {
            each(&path);
        }
    }
}

fn line_with<'a>(log: &'a str, text: &str) -> &'a str {
    log.lines().find(|line| line.contains(text)).unwrap_or_default()
}
