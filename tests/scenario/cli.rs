//! The command line client, as a script uses it: two people on two servers, JSON, exit codes.

use crate::harness::{Server, server::free_port, terminal::Terminal, wait::when, wait_until};

/// Exit codes that scripts rely on.
const NOT_LOGGED_IN: i32 = 3;
const NOT_FOUND: i32 = 4;
const UNREACHABLE: i32 = 5;
const REFUSED: i32 = 6;

#[tokio::test(flavor = "multi_thread")]
async fn two_people_meet_and_talk_from_the_command_line() {
    let (home, office) = (Server::start("home").await, Server::start("office").await);
    let (alice, bob) = (Terminal::at(&home), Terminal::at(&office));

    let alices = alice.json(&["signup", "alice", "--display-name", "Alice"]).await;
    assert_eq!(alices["username"], "alice");
    assert!(!alices.to_string().contains("session_token"), "the token goes to the credentials file only");
    is_private(&alice);
    bob.json(&["signup", "bob"]).await;
    assert_eq!(bob.json(&["whoami"]).await["username"], "bob");

    let address = alices["listen_addresses"][0].as_str().expect("an address");
    assert_eq!(bob.json(&["peer", "connect", address]).await["peer_id"], alices["peer_id"]);
    assert_eq!(bob.json(&["peer", "list"]).await["peers"][0]["account_id"], alices["account_id"]);

    let space = alice.json(&["space", "create", "Garden"]).await["space_id"].clone();
    let space = space.as_str().expect("an id");
    let link = alice.json(&["space", "invite", space]).await["link"].clone();
    bob.json(&["space", "join", link.as_str().expect("a link"), "--wait"]).await;
    for terminal in [&alice, &bob] {
        wait_until("two members", async || {
            let members = terminal.json(&["space", "members", space]).await;
            when(members["members"].as_array().is_some_and(|list| list.len() == 2), members)
        })
        .await;
    }
    let sent = alice.json(&["send", "Garden/general", "hello from a script"]).await;
    assert_eq!(sent["text"], "hello from a script");
    bob.reads("hello from a script").await;
    bob.json(&["send", "Garden/general", "hello", "--wait-sent"]).await;
    alice.reads("hello").await;

    let status = alice.json(&["status"]).await;
    let (group, other) =
        (&status["spaces"][0]["group"], bob.json(&["status"]).await["spaces"][0]["group"].clone());
    assert_eq!((&group["check"], &group["epoch"]), (&other["check"], &other["epoch"]));

    alice.json(&["channel", "create", space, "plans"]).await;
    let channels = alice.json(&["channel", "list", space]).await;
    assert_eq!(channels["channels"].as_array().expect("channels").len(), 2);
    bob.json(&["space", "leave", space]).await;
    assert_eq!(bob.json(&["space", "list"]).await["spaces"].as_array().expect("spaces").len(), 0);
    alice.json(&["logout"]).await;
    alice.fails(&["whoami"], NOT_LOGGED_IN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_have_exit_codes_and_say_what_happened() {
    let home = Server::start("home").await;
    let alice = Terminal::at(&home);
    alice.fails(&["whoami"], NOT_LOGGED_IN).await;
    alice.fails(&["login", "alice"], NOT_LOGGED_IN).await;
    alice.json(&["signup", "alice"]).await;
    alice.fails(&["signup", "alice"], REFUSED).await;
    let error = alice.fails(&["space", "members", "No such space"], NOT_FOUND).await;
    assert_eq!(error["error"]["code"], "NOT_FOUND");
    alice.fails(&["send", "nowhere/general", "hello"], NOT_FOUND).await;
    alice.json(&["login", "alice"]).await;

    home.stop().await;
    alice.fails(&["space", "list"], UNREACHABLE).await;
    let nobody = alice.moved_to(format!("http://{}", free_port()));
    nobody.fails(&["login", "alice"], UNREACHABLE).await;
}

/// The login is in files that nobody else can read.
fn is_private(terminal: &Terminal) {
    use std::os::unix::fs::PermissionsExt as _;
    let files: Vec<_> = std::fs::read_dir(terminal.config_dir()).expect("readable").flatten().collect();
    assert!(!files.is_empty(), "a login was stored");
    for file in files.iter().filter(|file| file.path().is_file()) {
        let mode = file.metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?}", file.file_name());
    }
}
