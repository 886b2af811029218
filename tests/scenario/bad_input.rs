//! Every method of every service, as reflection lists them, with input it must refuse.
//!
//! A method without a row in the table of `cases` fails the test: nothing is added unnoticed.

mod cases;

use std::collections::BTreeSet;

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

use self::cases::{Case, Known, cases};
use crate::harness::{Person, Place, Server, meet, raw, reflection, refusal::reason, refused, refused_with};

const SERVICES: [&str; 5] =
    ["AuthService", "SpaceService", "MessageService", "EventService", "NetworkService"];
/// The only ones that answer without a token.
const OPEN: [&str; 2] =
    ["/spacepanda.api.v1.AuthService/CreateProfile", "/spacepanda.api.v1.AuthService/Unlock"];
/// Over the limit of 4 MiB.
const OVERSIZED: usize = 5 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn every_method_refuses_bad_input_with_its_code_and_the_server_lives_on() {
    let house = House::open().await;
    for method in house.methods().await {
        let known = house.known();
        let Some(cases) = cases(&method, &known) else { panic!("{method} has no cases of bad input") };
        for case in cases {
            house.refuses(&method, case).await;
        }
    }
    house.still_works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_wants_a_token_but_two() {
    let house = House::open().await;
    for method in house.methods().await {
        if OPEN.contains(&method.as_str()) {
            continue;
        }
        let call = async |authorization| raw::call(&house.channel, &method, Vec::new(), authorization).await;
        refused(call(None).await, Code::Unauthenticated, "TOKEN_MISSING");
        let real = &house.alice.session.session_token;
        let (basic, longer) = (format!("Basic {real}"), format!("Bearer {real}x"));
        for wrong in ["", "Bearer", "Bearer ", "Bearer x", &basic, &longer] {
            refused_with(call(Some(wrong)).await, Code::Unauthenticated);
        }
        let mut other = real.clone();
        let first = if other.starts_with('A') { "B" } else { "A" };
        other.replace_range(..1, first);
        let other = format!("Bearer {other}");
        refused(call(Some(&other)).await, Code::Unauthenticated, "TOKEN_INVALID");
    }
    house.still_works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_or_too_large_is_refused_everywhere() {
    let house = House::open().await;
    for method in house.methods().await {
        refused(house.call(&method, vec![0xff; 16]).await, Code::InvalidArgument, "REQUEST_MALFORMED");
        refused(house.call(&method, vec![0; OVERSIZED]).await, Code::InvalidArgument, "REQUEST_TOO_LARGE");
    }
    for nowhere in ["/spacepanda.api.v1.SpaceService/Nothing", "/nobody.Here/Nothing"] {
        refused_with(house.call(nowhere, Vec::new()).await, Code::Unimplemented);
    }
    house.still_works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_in_every_request_never_hit_an_inner_error() {
    /// Password hashing makes these slow, and they are limited per address.
    const SLOW: [&str; 2] = ["CreateProfile", "Unlock"];
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    eprintln!("replay with SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let house = House::open().await;
    for method in house.methods().await {
        // What dials out or logs out is not for random input.
        if ["ConnectPeer", "JoinSpace", "Lock"].iter().any(|name| method.ends_with(name)) {
            continue;
        }
        let slow = SLOW.iter().any(|name| method.ends_with(name));
        let bodies: Vec<_> =
            cases(&method, &house.known()).expect("cases").into_iter().map(|c| c.body).collect();
        for _ in 0..if slow { 3 } else { 50 } {
            let mut body = match bodies.len() {
                0 => Vec::new(),
                length => bodies[rng.random_range(0..length)].clone(),
            };
            body.extend((0..rng.random_range(0..8)).map(|_| rng.random::<u8>()));
            for _ in 0..3 {
                let at = rng.random_range(0..body.len().max(1));
                body.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << rng.random_range(0..8));
            }
            if let Err(status) = house.call(&method, body.clone()).await {
                let inner = matches!(status.code(), Code::Internal | Code::Unknown | Code::DataLoss);
                assert!(!inner, "{method} with {}: {status:?}", hex::encode(&body[..body.len().min(200)]));
            }
        }
    }
    house.still_works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_the_services_by_both_protocols() {
    let server = Server::start("home").await;
    let channel = server.channel();
    let by_v1 = reflection::services(&channel).await.expect("v1");
    let by_alpha = reflection::services_by_alpha(&channel).await.expect("v1alpha");
    let expected: BTreeSet<_> = SERVICES.iter().map(|name| format!("spacepanda.api.v1.{name}")).collect();
    for services in [by_v1, by_alpha] {
        assert!(services.is_superset(&expected), "{services:?}");
        assert!(services.contains("grpc.health.v1.Health"), "{services:?}");
        let ours = services.iter().filter(|name| name.starts_with("spacepanda.")).count();
        assert_eq!(ours, expected.len(), "a service that this test does not know: {services:?}");
    }
}

/// A server with an account that has a space and a message.
struct House {
    server: Server,
    channel: Channel,
    alice: Person,
    place: Place,
    message_id: String,
}

impl House {
    async fn open() -> Self {
        let server = Server::start("home").await;
        let alice = server.sign_up("alice").await;
        let place = meet(&alice, &[]).await;
        let message_id = alice.send(&place.channel, "hello").await.message_id;
        Self { channel: server.channel(), server, alice, place, message_id }
    }

    fn known(&self) -> Known<'_> {
        Known {
            space: &self.place.space,
            channel: &self.place.channel,
            message: &self.message_id,
            account: self.alice.account(),
        }
    }

    async fn methods(&self) -> BTreeSet<String> {
        let mut methods = BTreeSet::new();
        for service in SERVICES {
            let found = reflection::methods(&self.channel, &format!("spacepanda.api.v1.{service}")).await;
            let found = found.expect("reflection");
            assert!(!found.is_empty(), "{service} has methods");
            methods.extend(found);
        }
        methods
    }

    async fn call(&self, method: &str, body: Vec<u8>) -> Result<Vec<u8>, Status> {
        let authorization = format!("Bearer {}", self.alice.session.session_token);
        raw::call(&self.channel, method, body, Some(&authorization)).await
    }

    async fn refuses(&self, method: &str, case: Case) {
        let what = format!("{method}: {}", case.what);
        let status = match self.call(method, case.body).await {
            Ok(_) => panic!("{what} was answered"),
            Err(status) => status,
        };
        assert_eq!(status.code(), case.code, "{what}: {status:?}");
        assert!(!reason(&status).is_empty() && !status.message().is_empty(), "{what}: {status:?}");
        if let Some(expected) = case.reason {
            assert_eq!(reason(&status), expected, "{what}: {status:?}");
        }
        if let Some(field) = case.field {
            let bad = status.get_details_bad_request().unwrap_or_else(|| panic!("{what}: no BadRequest"));
            assert_eq!(bad.field_violations[0].field, field, "{what}: {status:?}");
        }
    }

    /// The same process still serves the same account.
    async fn still_works(&self) {
        self.alice.send(&self.place.channel, "still here").await;
        self.server.log_in("alice", "laptop").await;
        let spaces = self.alice.all_spaces().await;
        assert!(spaces.iter().any(|space| space.space_id == self.place.space));
        self.server.stop().await;
    }
}
