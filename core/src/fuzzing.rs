//! Every decoder of what others send, and the rules that they feed, given arbitrary bytes (feature `testing`).
//!
//! The bodies of the fuzz targets in `fuzz/`, which libFuzzer drives, and of a test here that replays their corpus
//! and seeded mutations of it wherever `cargo test` runs. A body must not panic, take longer than a second or
//! allocate much, whatever it is given, and says whether it was given something valid: a target that never takes
//! anything tests nothing.

mod choice;
mod members;
mod script;
mod wire;
mod words;

#[cfg(test)]
mod tests;

/// One thing that is fed with bytes.
pub struct Target {
    /// The name of the fuzz target and of its directory in the corpus.
    pub name: &'static str,
    /// Inputs of which some are valid, to begin from.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Takes any input; whether it was valid.
    pub takes: fn(&[u8]) -> bool,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "peer_message", seeds: wire::peer_messages, takes: wire::takes_peer_message },
    Target { name: "length_prefix", seeds: wire::length_prefixes, takes: wire::takes_length_prefix },
    Target { name: "frame", seeds: members::frames, takes: members::takes_frame },
    Target { name: "opened_frame", seeds: members::bodies, takes: members::takes_body },
    Target { name: "commit", seeds: members::commits, takes: members::takes_commit },
    Target { name: "application", seeds: members::applications, takes: members::takes_application },
    Target { name: "plaintext", seeds: members::plaintexts, takes: members::takes_plaintext },
    Target { name: "welcome", seeds: members::welcomes, takes: members::takes_welcome },
    Target { name: "key_package", seeds: members::key_packages, takes: members::takes_key_package },
    Target { name: "event", seeds: wire::events, takes: wire::takes_event },
    Target { name: "certificate", seeds: wire::certificates, takes: wire::takes_certificate },
    Target { name: "policy", seeds: wire::policies, takes: wire::takes_policy },
    Target { name: "justification", seeds: wire::justifications, takes: wire::takes_justification },
    Target { name: "tip", seeds: words::tips, takes: words::takes_tip },
    Target { name: "support", seeds: words::supports, takes: words::takes_support },
    Target { name: "skeleton", seeds: words::skeletons, takes: words::takes_skeleton },
    Target { name: "echo", seeds: words::echoes, takes: words::takes_echo },
    Target { name: "comparison", seeds: words::comparisons, takes: words::takes_comparison },
    Target { name: "letter", seeds: wire::letters, takes: wire::takes_letter },
    Target { name: "invite_link", seeds: wire::links, takes: wire::takes_link },
    Target { name: "address", seeds: wire::addresses, takes: wire::takes_address },
    Target { name: "head", seeds: choice::stories, takes: choice::takes_story },
    Target { name: "requests", seeds: choice::wishes, takes: choice::takes_wishes },
];

/// Feeds the target of this name, for a driver; whether there is one.
pub fn feed(name: &str, input: &[u8]) -> bool {
    let target = TARGETS.iter().find(|target| target.name == name);
    target.is_some_and(|target| {
        (target.takes)(input);
        true
    })
}
