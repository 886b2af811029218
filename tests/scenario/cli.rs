//! The command line client, as a script uses it: two people on two servers, JSON, exit codes.

use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{
    PASSWORD, Server,
    server::{ends_within, free_port, program},
    wait::{DEADLINE, when},
    wait_until,
};

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
    alice.is_private();
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
    let nobody = Terminal { server: format!("http://{}", free_port()), config: alice.config };
    nobody.fails(&["login", "alice"], UNREACHABLE).await;
}

/// A shell of one person.
struct Terminal {
    server: String,
    config: TempDir,
}

impl Terminal {
    fn at(server: &Server) -> Self {
        let config = tempfile::tempdir().expect("a directory");
        Self { server: format!("http://{}", server.address()), config }
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = program();
        command.args(arguments).arg("--json").env("SPACEPANDA_SERVER", &self.server);
        command.env("SPACEPANDA_CONFIG_DIR", self.config.path()).env("SPACEPANDA_PASSWORD", PASSWORD);
        ends_within(DEADLINE, command).await
    }

    /// The JSON that a command prints when it succeeds.
    async fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {:?} {said}", output.status);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    }

    /// The JSON on standard error of a command that must fail with this code.
    async fn fails(&self, arguments: &[&str], code: i32) -> Value {
        let output = self.run(arguments).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "a failure prints nothing to standard output");
        serde_json::from_slice(&output.stderr).unwrap_or_else(|error| panic!("{arguments:?}: {error} {said}"))
    }

    async fn reads(&self, text: &str) {
        wait_until(&format!("{text:?} to be read"), async || {
            let page = self.json(&["read", "Garden/general"]).await;
            let messages = page["messages"].as_array().ok_or("no messages")?;
            when(messages.iter().any(|message| message["text"] == text), page)
        })
        .await;
    }

    /// The login is in files that nobody else can read.
    fn is_private(&self) {
        use std::os::unix::fs::PermissionsExt as _;
        let files: Vec<_> = std::fs::read_dir(self.config.path()).expect("readable").flatten().collect();
        assert!(!files.is_empty(), "a login was stored");
        for file in files.iter().filter(|file| file.path().is_file()) {
            let mode = file.metadata().expect("metadata").permissions().mode();
            assert_eq!(mode & 0o077, 0, "{:?}", file.file_name());
        }
    }
}
