//! Nothing that people wrote, named or hold secret is in any file of the server, in its log or on the wire.

use spacepanda_core::{invite::InviteLink, keys::SessionToken, router::PeerId};
use spacepanda_proto::api::v1::{CreateChannelRequest, CreateProfileRequest, CreateSpaceRequest, Session};

use crate::harness::{
    Cluster, PASSWORD, Person, Server,
    client::request_id,
    hostile::Intruder,
    same_world,
    secrets::{Secret, none_in, none_in_log, none_on_disk},
};

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

    let place = talk(&bob, &alice).await;
    let invite = bob.invite_for(&place.space, 1).await;
    // Whoever introduces themselves is shown the certificate.
    let stranger = Intruder::new("stranger").await;
    let certificates = [stranger.meet(&alice).await, stranger.meet(&bob).await];
    // One clean end, one that leaves the write-ahead log behind.
    alice.server.stop().await;
    bob.server.kill_9();

    let mut secrets = written();
    secrets.extend(
        ["Alice", "alice", PASSWORD, invite.link.trim_start_matches("spacepanda:")].map(Secret::text),
    );
    let link = InviteLink::parse(&invite.link).expect("a link");
    secrets.push(Secret::bytes("the link's seed", link.seed.as_slice()));
    for person in [&alice, &bob] {
        let Session { session_token, recovery_phrase, .. } = &person.session;
        let token = SessionToken::parse(session_token).expect("a token");
        secrets.extend([session_token, recovery_phrase].map(|text| Secret::text(text)));
        secrets.push(Secret::bytes("a token's bytes", token.as_bytes()));
    }
    let mut ids = place.ids();
    ids.push(Secret::id("the invite", &invite.invite_id));
    for person in [&alice, &bob] {
        ids.push(Secret::id("an account", person.account()));
        ids.push(Secret::text(person.peer_id()));
    }
    ids.extend(certificates.iter().map(|certificate| Secret::bytes("a device", &certificate.device.0)));
    for person in [&alice, &bob] {
        none_on_disk(&secrets, &person.server.data_dir());
        let log = person.server.log();
        none_in_log(&secrets, &log);
        none_in_log(&ids, &log);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiretap_between_two_servers_hears_nothing() {
    let (cluster, [alice, bob]) = Cluster::of(["alice", NAME]).await;
    cluster.record();
    let place = talk(&bob, &alice).await;
    let invite = bob.invite_for(&place.space, 1).await;

    let recorded = cluster.recorded();
    let heard = |what: &[u8]| recorded.iter().any(|bytes| bytes.windows(what.len()).any(|part| part == what));
    assert!(heard(b"/noise"), "the tap is where the servers talk, and hears how they begin");
    assert!(recorded.iter().map(Vec::len).sum::<usize>() > 4_000, "with all that was said");
    let mut secrets = written();
    secrets.extend(place.ids());
    secrets.push(Secret::id("the invite", &invite.invite_id));
    for person in [&alice, &bob] {
        secrets.push(Secret::id("an account", person.account()));
        secrets.push(Secret::text(person.peer_id()));
        let peer = PeerId::parse(person.peer_id()).expect("a peer id");
        secrets.push(Secret::bytes("a router", &peer.to_bytes()));
    }
    for bytes in &recorded {
        none_in(&secrets, "what was recorded", bytes);
    }
}

/// All that people wrote and named.
fn written() -> Vec<Secret> {
    let named = [NAME, DISPLAY_NAME, PASSWORD_TEXT, DEVICE, SPACE, DESCRIPTION, CHANNEL, TOPIC];
    named.into_iter().chain(TEXTS).map(Secret::text).collect()
}

/// Where they talked.
struct Talk {
    space: String,
    channel: String,
    messages: Vec<String>,
}

impl Talk {
    fn ids(&self) -> Vec<Secret> {
        let messages = self.messages.iter().map(|id| Secret::id("a message", id));
        let places = [Secret::id("the space", &self.space), Secret::id("the channel", &self.channel)];
        places.into_iter().chain(messages).collect()
    }
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
async fn talk(bob: &Person, alice: &Person) -> Talk {
    let request = CreateSpaceRequest {
        name: SPACE.into(),
        description: DESCRIPTION.into(),
        request_id: request_id(),
        ..Default::default()
    };
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
    let messages = [bob.send(&channel, TEXTS[0]).await, alice.send(&channel, TEXTS[1]).await]
        .map(|sent| sent.message_id);
    same_world(&[bob, alice], &space, 2).await;
    Talk { space, channel, messages: messages.to_vec() }
}
