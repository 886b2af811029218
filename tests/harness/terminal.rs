//! A shell of one person: the program as a command line client, with a configuration of its own.
//!
//! It must not know the API: what it knows of the server it knows from the program.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout},
    time::timeout,
};

use super::{
    client::PASSWORD,
    server::{Server, ends_within, program},
    wait::{DEADLINE, wait_until, when},
};

/// Where one person types.
pub(crate) struct Terminal {
    server: String,
    config: TempDir,
}

impl Terminal {
    /// For a running server.
    pub(crate) fn at(server: &Server) -> Self {
        Self::with_url(format!("http://{}", server.address()))
    }

    /// For whatever answers at this URL.
    pub(crate) fn with_url(server: String) -> Self {
        Self { server, config: tempfile::tempdir().expect("a directory") }
    }

    /// Where the login is kept.
    pub(crate) fn config_dir(&self) -> &Path {
        self.config.path()
    }

    /// The same person's logins, another server.
    pub(crate) fn moved_to(self, server: String) -> Self {
        Self { server, ..self }
    }

    /// The program with these arguments, as typed.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command.args(arguments).env("SPACEPANDA_SERVER", &self.server);
        command.env("SPACEPANDA_CONFIG_DIR", self.config.path()).env("SPACEPANDA_PASSWORD", PASSWORD);
        command
    }

    /// What the program says to people.
    pub(crate) async fn text(&self, arguments: &[&str]) -> String {
        let output = ends_within(DEADLINE, self.command(arguments)).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {:?} {said}", output.status);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The JSON that a command prints when it succeeds.
    pub(crate) async fn json(&self, arguments: &[&str]) -> Value {
        self.json_and_exit(arguments, 0).await
    }

    /// The JSON that a command prints when it ends with this code, but did not fail.
    pub(crate) async fn json_and_exit(&self, arguments: &[&str], code: i32) -> Value {
        let output = self.run(arguments).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    }

    /// The JSON on standard error of a command that must fail with this code.
    pub(crate) async fn fails(&self, arguments: &[&str], code: i32) -> Value {
        let output = self.run(arguments).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "a failure prints nothing to standard output");
        serde_json::from_slice(&output.stderr).unwrap_or_else(|error| panic!("{arguments:?}: {error} {said}"))
    }

    /// Waits until the channel's latest messages hold this text.
    pub(crate) async fn reads(&self, text: &str) {
        wait_until(&format!("{text:?} to be read"), async || {
            let page = self.json(&["read", "Garden/general"]).await;
            let messages = page["messages"].as_array().ok_or("no messages")?;
            when(messages.iter().any(|message| message["text"] == text), page)
        })
        .await;
    }

    /// Starts a command that prints JSON lines until it is stopped.
    pub(crate) fn follow(&self, arguments: &[&str]) -> Follower {
        let mut command = tokio::process::Command::from(self.command(arguments));
        command.arg("--json").stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Follower { lines, _child: child }
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        command.arg("--json");
        // The longest that any command waits by itself is 30 s.
        ends_within(DEADLINE * 2, command).await
    }
}

/// A command that goes on; killed when dropped.
pub(crate) struct Follower {
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Follower {
    /// The next line.
    pub(crate) async fn line(&mut self) -> Value {
        let line = timeout(DEADLINE, self.lines.next_line()).await.expect("a line in time");
        let line = line.expect("readable").expect("the command goes on");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }
}
