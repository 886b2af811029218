//! The demo that a new user runs: three servers, three people, one kill, and it says what it saw.

use std::{fs, process::Command, time::Duration};

use serde_json::Value;

use crate::harness::{
    server::{assert_exit, ends_within, program},
    wait::when,
    wait_until,
};

/// What it may take by its own account, in milliseconds.
const TOTAL_MS: f64 = 20_000.0;
/// Longer than the demo waits for a story that does not go on.
const WITHIN: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_finds_its_story_complete_and_is_quick() {
    let output = ends_within(WITHIN, demo(&["--json"])).await;
    assert_exit(&output, 0);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["complete"], true, "{report}");
    assert!(report["sent"].as_u64().is_some_and(|sent| sent > 5), "{report}");
    assert_eq!(report["people"].as_array().map(Vec::len), Some(3), "{report}");
    let total = report["total_ms"].as_f64().expect("a number");
    assert!(total < TOTAL_MS, "{total} ms: {report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_told_the_story_in_words_and_colours() {
    let output = ends_within(WITHIN, demo(&[])).await;
    assert_exit(&output, 0);
    let told = String::from_utf8_lossy(&output.stdout).to_lowercase();
    for word in ["kill", "alice", "bob", "carol", "same messages in the same order", " ms"] {
        assert!(told.contains(word), "the demo does not mention {word:?}:\n{told}");
    }
    assert!(!told.contains('\u{1b}'), "colours that nobody asked for:\n{told}");

    let mut command = demo(&[]);
    command.env_remove("NO_COLOR").env("FORCE_COLOR", "1");
    let output = ends_within(WITHIN, command).await;
    assert!(String::from_utf8_lossy(&output.stdout).contains("\u{1b}["), "no colours");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_for_real_fails_the_demo() {
    let mut command = tokio::process::Command::from(demo(&["--json"]));
    let demo = command.kill_on_drop(true).stdout(std::process::Stdio::piped()).spawn().expect("it starts");
    let id = demo.id().expect("it runs");
    let child = wait_until("the three servers", async || {
        let children = children(id);
        when(children.len() >= 3, children.len())?;
        children.into_iter().min().ok_or_else(String::new)
    })
    .await;
    let killed = Command::new("sh").args(["-c", &format!("kill -KILL {child}")]).status();
    assert!(killed.expect("sh").success());
    let output = tokio::time::timeout(WITHIN, demo.wait_with_output()).await.expect("in time");
    assert_ne!(output.expect("it ends").status.code(), Some(0));
}

fn demo(flags: &[&str]) -> Command {
    let mut command = program();
    command.arg("demo").args(flags);
    command
}

/// The processes that a process has started, whichever of its threads did.
fn children(id: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let lists = tasks.map(|task| fs::read_to_string(task.path().join("children")));
    let lists = lists.map(Result::unwrap_or_default);
    lists
        .flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|child| child.parse().ok())
        .collect()
}
