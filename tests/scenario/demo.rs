//! The demo that a new user runs: three servers, three people, one kill, and it says what it saw.

use std::time::Duration;

use crate::harness::{server::program, wait::within};

/// Under 20 s in a release build; unoptimised it may take longer.
const WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_tells_its_story_and_succeeds() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("printed");
    let file = std::fs::File::create(&path).expect("a file");
    let mut demo = program().arg("demo").stdout(file).spawn().expect("the program starts");
    let read = || std::fs::read_to_string(&path).unwrap_or_default();

    let status = within(WITHIN, "the demo to end", async || {
        demo.try_wait().expect("waiting").ok_or_else(&read)
    })
    .await;
    let printed = read();
    assert!(status.success(), "{status}\n{printed}");
    let told = printed.to_lowercase();
    for word in ["kill", " ms"] {
        assert!(told.contains(word), "the demo does not mention {word:?}:\n{printed}");
    }
}
