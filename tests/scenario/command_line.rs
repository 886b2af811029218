//! The command line client beyond the first steps: wrong usage, following, several logins, waiting, TLS.

use std::{collections::BTreeSet, fs, io::Write as _, process::Stdio};

use serde_json::Value;

use crate::harness::{
    PASSWORD, Server,
    server::{assert_exit, ends_within, program, run},
    terminal::Terminal,
    wait::{DEADLINE, when},
    wait_until,
};

/// Exit codes that scripts rely on.
const USAGE: i32 = 2;
const NOT_LOGGED_IN: i32 = 3;
const NOT_FOUND: i32 = 4;
const REFUSED: i32 = 6;
const PENDING: i32 = 7;
/// Of the server's own command line (`EX_USAGE`).
const EX_USAGE: i32 = 64;

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_of_a_client_command_is_exit_2_and_json_for_scripts() {
    for wrong in [
        ["send"].as_slice(),
        &["space"],
        &["space", "invite", "x", "--uses", "0"],
        &["space", "create", "x", "--no-such-flag"],
        &["--profile", "work", "read"],
        &["events", "--after", "yesterday"],
    ] {
        let people = run(wrong).await;
        assert_exit(&people, USAGE);
        let said = String::from_utf8_lossy(&people.stderr);
        assert_eq!((said.trim_end().lines().count(), people.stdout.len()), (1, 0), "{wrong:?}: {said}");

        for json in [[&["--json"], wrong].concat(), [wrong, &["--json"]].concat()] {
            let script = run(&json).await;
            assert_exit(&script, USAGE);
            assert!(script.stdout.is_empty(), "{json:?}");
            let said: Value = serde_json::from_slice(&script.stderr).expect("JSON on standard error");
            assert_eq!(said["error"]["reason"], "USAGE", "{json:?}");
            assert_eq!(said["error"]["code"], "INVALID_ARGUMENT", "{json:?}");
            assert!(said["error"]["message"].as_str().is_some_and(|text| text.len() > 5), "{said}");
        }
    }
    // What is no client's command keeps the code of the server's command line.
    for wrong in [["no-such-command"].as_slice(), &["serve", "--no-such-flag"], &["registration-token", "x"]]
    {
        assert_exit(&run(wrong).await, EX_USAGE);
    }
    let help = run(&["--help"]).await;
    let help = String::from_utf8_lossy(&help.stdout);
    for code in ["  0  ", "  2  ", "  7  ", " 64  "] {
        assert!(help.lines().any(|line| line.starts_with(code)), "{code:?} is not explained:\n{help}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_member_may_not_do_is_refused_and_not_failed() {
    let (_servers, alice, bob, space) = two_members().await;
    let error = bob.fails(&["space", "invite", &space], REFUSED).await;
    assert_eq!(error["error"]["code"], "PERMISSION_DENIED");
    alice.json(&["space", "invite", &space]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn following_a_channel_across_a_restart_shows_each_message_once() {
    let home = Server::start("home").await;
    let alice = Terminal::at(&home);
    alice.json(&["signup", "alice"]).await;
    alice.json(&["space", "create", "Garden"]).await;
    alice.json(&["send", "Garden/general", "before"]).await;
    let mut following = alice.follow(&["read", "Garden/general", "--follow"]);
    let mut shown = vec![following.line().await["text"].clone()];
    for text in ["one", "two"] {
        alice.json(&["send", "Garden/general", text]).await;
        shown.push(following.line().await["text"].clone());
    }
    home.restart().await;
    for text in ["three", "four"] {
        alice.json(&["send", "Garden/general", text]).await;
        shown.push(following.line().await["text"].clone());
    }
    assert_eq!(shown, ["before", "one", "two", "three", "four"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_json_lines_that_can_be_resumed() {
    let home = Server::start("home").await;
    let alice = Terminal::at(&home);
    alice.json(&["signup", "alice"]).await;
    alice.json(&["space", "create", "Garden"]).await;
    let until_message = async |after: &str| {
        let mut events = alice.follow(&["events", "--after", after]);
        let mut seqs = Vec::new();
        loop {
            let event = events.line().await;
            seqs.push(event["seq"].as_u64().expect("a seq"));
            if event.to_string().contains("a line for the feed") {
                return seqs;
            }
        }
    };
    alice.json(&["send", "Garden/general", "a line for the feed"]).await;
    let all = until_message("0").await;
    assert!(all.len() > 1 && all.is_sorted_by(|a, b| a < b), "{all:?}");
    let rest = until_message(&all[0].to_string()).await;
    assert_eq!(rest, all[1..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_removed_and_an_invite_revoked_by_name() {
    let (_servers, alice, bob, space) = two_members().await;
    let shown = alice.json(&["space", "show", "Garden"]).await;
    assert_eq!((&shown["name"], &shown["member_count"]), (&"Garden".into(), &2.into()));
    assert!(shown["group"]["check"].as_str().is_some_and(|check| check.len() == 16), "{shown}");

    let invite = alice.json(&["space", "invite", "Garden"]).await;
    alice.json(&["space", "revoke", invite["invite_id"].as_str().expect("an id")]).await;
    let link = invite["link"].as_str().expect("a link");
    let error = bob.fails(&["space", "join", link], REFUSED).await;
    assert!(["ALREADY_MEMBER", "INVITE_REVOKED"].iter().any(|reason| error["error"]["reason"] == *reason));

    alice.json(&["space", "remove", "Garden", "bob"]).await;
    wait_until("bob to be out", async || {
        let spaces = bob.json(&["space", "list"]).await;
        when(spaces["spaces"].as_array().is_some_and(Vec::is_empty), spaces)
    })
    .await;
    bob.fails(&["space", "show", &space], NOT_FOUND).await;
    let error = bob.fails(&["space", "join", link], REFUSED).await;
    assert_eq!(error["error"]["reason"], "INVITE_REVOKED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_is_forgotten_by_the_start_of_its_id() {
    let (home, office) = (Server::start("home").await, Server::start("office").await);
    let (alice, bob) = (Terminal::at(&home), Terminal::at(&office));
    let address = alice.json(&["signup", "alice"]).await["listen_addresses"][0].clone();
    bob.json(&["signup", "bob"]).await;
    let peer = bob.json(&["peer", "connect", address.as_str().expect("an address")]).await["peer_id"].clone();
    let start: String = peer.as_str().expect("an id").chars().take(20).collect();
    bob.json(&["peer", "disconnect", &start]).await;
    wait_until("nobody to be remembered", async || {
        let peers = bob.json(&["peer", "list"]).await;
        when(peers["peers"].as_array().is_some_and(Vec::is_empty), peers)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_keep_several_logins_apart() {
    let home = Server::start("home").await;
    let shell = Terminal::at(&home);
    shell.json(&["signup", "alice"]).await;
    shell.json(&["signup", "bob", "--profile", "second"]).await;
    assert_eq!(shell.json(&["whoami"]).await["username"], "alice");
    assert_eq!(shell.json(&["--profile", "second", "whoami"]).await["username"], "bob");
    shell.json(&["logout", "--profile", "second"]).await;
    shell.fails(&["whoami", "--profile", "second"], NOT_LOGGED_IN).await;
    assert_eq!(shell.json(&["whoami"]).await["username"], "alice");
}

#[tokio::test(flavor = "multi_thread")]
async fn people_read_tables_instead_of_json() {
    let home = Server::start("home").await;
    let alice = Terminal::at(&home);
    let address = alice.json(&["signup", "alice", "--display-name", "Alice"]).await;
    let address = address["listen_addresses"][0].as_str().expect("an address").to_owned();
    alice.json(&["space", "create", "Garden"]).await;
    let status = alice.text(&["status"]).await;
    for told in ["Alice", "Garden", address.as_str(), &home.address().to_string()] {
        assert!(status.contains(told), "{told:?} is missing:\n{status}");
    }
    assert!(serde_json::from_str::<Value>(&status).is_err() && !status.contains('\u{1b}'), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_accepted_but_not_complete_is_exit_7() {
    let ([home, office], alice, bob, space) = two_members().await;
    let link = alice.json(&["space", "create", "Second"]).await["space_id"].clone();
    let link = alice.json(&["space", "invite", link.as_str().expect("an id")]).await["link"].clone();
    home.stop().await;
    let joining = bob.json_and_exit(&["space", "join", link.as_str().expect("a link")], PENDING).await;
    assert_eq!(joining["state"], "JOIN_STATE_PENDING", "{joining}");
    let sent = bob.json_and_exit(&["send", "Garden/general", "anyone?", "--wait-sent"], PENDING).await;
    assert_eq!(sent["delivery"]["state"], "DELIVERY_STATE_QUEUED", "{sent}");

    home.restart().await;
    // The account's first call brings it back; then both complete by themselves.
    alice.reads("anyone?").await;
    wait_until("the join to complete", async || {
        let spaces = bob.json(&["space", "list"]).await;
        when(spaces["spaces"].as_array().is_some_and(|list| list.len() == 2), spaces)
    })
    .await;
    drop((office, space));
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_with_the_servers_own_certificate_and_a_password_from_standard_input() {
    let home = Server::plan("home").flags(&["--tls-self-signed"]).start().await;
    let shell = Terminal::with_url(format!("https://{}", home.address()));
    let ca = home.data_dir().join("tls").join("cert.pem");
    let ca = ca.to_str().expect("UTF-8");
    shell.fails(&["signup", "alice"], 5).await;
    for arguments in [["signup", "alice"], ["login", "alice"]] {
        let mut command = shell.command(&arguments);
        command.args(["--ca", ca, "--password-stdin", "--json"]).env_remove("SPACEPANDA_PASSWORD");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        writeln!(child.stdin.take().expect("piped"), "{PASSWORD}").expect("written");
        let output = tokio::task::spawn_blocking(|| child.wait_with_output()).await.expect("a task");
        assert_exit(&output.expect("it ends"), 0);
    }
    // The certificate is remembered with the login.
    assert_eq!(shell.json(&["whoami"]).await["username"], "alice");
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_know_the_commands_in_every_shell() {
    let mut scripts = BTreeSet::new();
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]).await;
        assert_exit(&output, 0);
        let script = String::from_utf8_lossy(&output.stdout).into_owned();
        for word in ["signup", "space", "completions", "wait-sent"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
        scripts.insert(script);
    }
    assert_eq!(scripts.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_token_is_taken_from_a_file_or_the_environment_and_never_an_argument() {
    let home = Server::plan("home").everywhere().start().await;
    let shell = Terminal::at(&home);
    shell.json(&["signup", "alice"]).await;
    let error = shell.fails(&["signup", "bob"], REFUSED).await;
    assert_eq!(error["error"]["reason"], "REGISTRATION_CLOSED");

    let token = registration_token(&home).await;
    shell.fails(&["signup", "bob", "--registration-token", &token], USAGE).await;
    let mut command = shell.command(&["signup", "bob", "--profile", "bob", "--json"]);
    command.env("SPACEPANDA_REGISTRATION_TOKEN", &token);
    assert_exit(&ends_within(DEADLINE, command).await, 0);

    let file = shell.config_dir().join("token");
    fs::write(&file, registration_token(&home).await).expect("a file");
    let path = file.to_str().expect("UTF-8");
    shell.json(&["signup", "carol", "--profile", "carol", "--registration-token-file", path]).await;
    let error = shell.fails(&["signup", "dave", "--registration-token-file", path], REFUSED).await;
    assert_eq!(error["error"]["reason"], "REGISTRATION_CLOSED", "each admits one");
    shell.fails(&["signup", "dave", "--registration-token-file", "/nowhere/token"], USAGE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_token_needs_a_server_that_has_run_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = run(&["registration-token", "--data-dir", dir.path().to_str().expect("UTF-8")]).await;
    assert_exit(&output, 1);
    assert!(output.stdout.is_empty());
    assert_eq!(String::from_utf8_lossy(&output.stderr).trim_end().lines().count(), 1);
    assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 0, "nothing was made");
}

/// What the operator gets beside the running server.
async fn registration_token(server: &Server) -> String {
    let mut command = program();
    command.arg("registration-token").arg("--data-dir").arg(server.data_dir());
    let output = ends_within(DEADLINE, command).await;
    assert_exit(&output, 0);
    String::from_utf8(output.stdout).expect("ASCII").trim_end().to_owned()
}

/// Alice and Bob on servers of their own in Alice's space `Garden`.
async fn two_members() -> ([Server; 2], Terminal, Terminal, String) {
    let (home, office) = (Server::start("home").await, Server::start("office").await);
    let (alice, bob) = (Terminal::at(&home), Terminal::at(&office));
    alice.json(&["signup", "alice"]).await;
    bob.json(&["signup", "bob"]).await;
    let space = alice.json(&["space", "create", "Garden"]).await["space_id"].clone();
    let space = space.as_str().expect("an id").to_owned();
    let link = alice.json(&["space", "invite", &space]).await["link"].clone();
    bob.json(&["space", "join", link.as_str().expect("a link"), "--wait"]).await;
    wait_until("bob to be told to alice", async || {
        let members = alice.json(&["space", "members", &space]).await;
        when(members["members"].as_array().is_some_and(|list| list.len() == 2), members)
    })
    .await;
    ([home, office], alice, bob, space)
}
