//! The demo that a new user runs: three servers, three people, one kill, and it says what it saw.

use std::time::Duration;

use crate::harness::server::{assert_exit, ends_within, program};

/// Under 20 s in a release build; unoptimised it may take longer.
const WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_tells_its_story_and_succeeds() {
    let mut command = program();
    command.arg("demo");
    let output = ends_within(WITHIN, command).await;
    assert_exit(&output, 0);
    let told = String::from_utf8_lossy(&output.stdout).to_lowercase();
    for word in ["kill", " ms"] {
        assert!(told.contains(word), "the demo does not mention {word:?}:\n{told}");
    }
}
