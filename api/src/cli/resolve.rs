//! What people type for a space, channel, member or message, to ids.
//!
//! An id, a unique name, or a unique start of an id. A full id goes to the server unlooked at.

use spacepanda_proto::api::v1 as api;
use uuid::Uuid;

use super::{
    connect::Client,
    failure::Failure,
    listing,
    output::{printable_line, short},
};

/// Fewer characters name too many things by accident.
const PREFIX_MIN: usize = 4;
/// Characters of an account's or message's id.
const HEX_ID_LENGTH: usize = 64;
/// How far back a message can be named by the start of its id.
const RECENT_MESSAGES: usize = 200;

/// Something that can be named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// The candidate that `argument` means.
///
/// # Errors
/// When none or several fit.
pub(super) fn pick(what: What, argument: &str, candidates: &[Candidate]) -> Result<String, Failure> {
    if argument.is_empty() {
        return Err(Failure::usage(format!("the {} is empty", what.word())));
    }
    let matching = |test: &dyn Fn(&Candidate) -> bool| -> Vec<&Candidate> {
        candidates.iter().filter(|candidate| test(candidate)).collect()
    };
    let folded = argument.to_lowercase();
    let long_enough = argument.chars().count() >= PREFIX_MIN;
    // Base58 peer ids differ by case, hex ids and UUIDs do not.
    let starts = |id: &str| id.starts_with(argument) || id.starts_with(&folded);
    let rounds: [&dyn Fn(&Candidate) -> bool; 4] = [
        &|candidate| candidate.id == argument || candidate.id == folded,
        &|candidate| candidate.name == argument,
        &|candidate| candidate.name.to_lowercase() == folded,
        &|candidate| long_enough && starts(&candidate.id),
    ];
    for round in rounds {
        match matching(round).as_slice() {
            [] => {}
            [one] => return Ok(one.id.clone()),
            several => return Err(ambiguous(what, argument, several)),
        }
    }
    Err(what.not_found(argument))
}

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// A space.
    Space,
    /// A channel.
    Channel,
    /// A member of a space.
    Member,
    /// A message of a channel.
    Message,
    /// A peer.
    Peer,
}

impl What {
    fn word(self) -> &'static str {
        match self {
            What::Space => "space",
            What::Channel => "channel",
            What::Member => "member",
            What::Message => "message",
            What::Peer => "peer",
        }
    }

    fn not_found(self, argument: &str) -> Failure {
        let reason = format!("{}_NOT_FOUND", self.word().to_uppercase());
        Failure::not_found(&reason, format!("no {} is called {argument} or has an id like it", self.word()))
    }
}

fn ambiguous(what: What, argument: &str, several: &[&Candidate]) -> Failure {
    let shown: Vec<String> = several
        .iter()
        .take(5)
        .map(|candidate| format!("{} ({})", short(&candidate.id), printable_line(&candidate.name)))
        .collect();
    let (count, word) = (several.len(), what.word());
    Failure::usage(format!("{count} {word}s fit {argument}: {}; give more of the id", shown.join(", ")))
}

/// The id of the space that `argument` means.
///
/// # Errors
/// When none or several fit, or a call fails.
pub(super) async fn space(client: &Client, argument: &str) -> Result<String, Failure> {
    match uuid(argument) {
        Some(id) => Ok(id),
        None => pick(What::Space, argument, &named_spaces(&listing::spaces(client).await?)),
    }
}

/// The id of the channel that `argument` means: an id, `channel`, or `space/channel`.
///
/// # Errors
/// When none or several fit, or a call fails.
pub(super) async fn channel(client: &Client, argument: &str) -> Result<String, Failure> {
    if let Some(id) = uuid(argument) {
        return Ok(id);
    }
    let spaces = listing::spaces(client).await?;
    let channels = listing::channels_of(client, spaces.clone()).await?;
    pick_channel(argument, &spaces, &channels)
}

/// The id of the member of a space that `argument` means.
///
/// # Errors
/// When none or several fit, or a call fails.
pub(super) async fn member(client: &Client, space_id: &str, argument: &str) -> Result<String, Failure> {
    if is_hex_id(argument) {
        return Ok(argument.to_owned());
    }
    let candidates: Vec<_> = listing::members(client, space_id)
        .await?
        .into_iter()
        .map(|member| Candidate { id: member.account_id, name: member.display_name })
        .collect();
    pick(What::Member, argument, &candidates)
}

/// The id of the message of a channel that `argument` means; the start of an id of a recent one.
///
/// # Errors
/// When none or several fit, or a call fails.
pub(super) async fn message(client: &Client, channel_id: &str, argument: &str) -> Result<String, Failure> {
    if is_hex_id(argument) {
        return Ok(argument.to_owned());
    }
    let (recent, _) = listing::history(client, channel_id, "", RECENT_MESSAGES).await?;
    let candidates: Vec<_> =
        recent.into_iter().map(|m| Candidate { id: m.message_id, name: String::new() }).collect();
    pick(What::Message, argument, &candidates)
}

/// The peer id that `argument` means: a peer id, a start of one, or its account's id.
///
/// # Errors
/// When none or several fit, or a call fails.
pub(super) async fn peer(client: &Client, argument: &str) -> Result<String, Failure> {
    let peers = listing::peers(client).await?;
    let candidates: Vec<_> =
        peers.into_iter().map(|peer| Candidate { id: peer.peer_id, name: peer.account_id }).collect();
    pick(What::Peer, argument, &candidates)
}

fn pick_channel(
    argument: &str,
    spaces: &[api::Space],
    channels: &[(api::Space, api::Channel)],
) -> Result<String, Failure> {
    if argument.contains('/') {
        return pick_qualified(argument, spaces, channels);
    }
    let plain: Vec<_> = channels
        .iter()
        .map(|(_, channel)| Candidate { id: channel.channel_id.clone(), name: channel.name.clone() })
        .collect();
    pick(What::Channel, argument, &plain).map_err(|failure| say_how_to_qualify(failure, argument, channels))
}

/// `space/channel` at the first slash where both sides fit; names may hold slashes themselves.
fn pick_qualified(
    argument: &str,
    spaces: &[api::Space],
    channels: &[(api::Space, api::Channel)],
) -> Result<String, Failure> {
    let mut refused = None;
    let split_at = |(position, _): (usize, &str)| {
        let (left, right) = argument.split_at_checked(position)?;
        Some((left, right.strip_prefix('/')?))
    };
    for (left, right) in argument.match_indices('/').filter_map(split_at) {
        let picked = pick(What::Space, left, &named_spaces(spaces)).and_then(|space_id| {
            let inside: Vec<_> = channels
                .iter()
                .filter(|(space, _)| space.space_id == space_id)
                .map(|(_, channel)| Candidate { id: channel.channel_id.clone(), name: channel.name.clone() })
                .collect();
            pick(What::Channel, right, &inside)
        });
        match picked {
            Ok(id) => return Ok(id),
            Err(failure) => refused = refused.or(Some(failure)),
        }
    }
    Err(refused.unwrap_or_else(|| What::Channel.not_found(argument)))
}

fn say_how_to_qualify(failure: Failure, argument: &str, channels: &[(api::Space, api::Channel)]) -> Failure {
    let same_name: Vec<String> = channels
        .iter()
        .filter(|(_, channel)| channel.name.eq_ignore_ascii_case(argument))
        .map(|(space, channel)| printable_line(&qualified(space, channel)))
        .collect();
    if same_name.len() < 2 {
        return failure;
    }
    Failure::usage(format!("several channels are called {argument}: {}", same_name.join(", ")))
}

fn qualified(space: &api::Space, channel: &api::Channel) -> String {
    format!("{}/{}", space.name, channel.name)
}

fn named_spaces(spaces: &[api::Space]) -> Vec<Candidate> {
    spaces.iter().map(|space| Candidate { id: space.space_id.clone(), name: space.name.clone() }).collect()
}

fn uuid(argument: &str) -> Option<String> {
    Uuid::try_parse(argument).ok().map(|id| id.to_string())
}

fn is_hex_id(argument: &str) -> bool {
    argument.len() == HEX_ID_LENGTH && argument.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::failure::FailureKind;

    fn candidates(rows: &[(&str, &str)]) -> Vec<Candidate> {
        rows.iter().map(|(id, name)| Candidate { id: (*id).into(), name: (*name).into() }).collect()
    }

    fn kind(result: Result<String, Failure>) -> FailureKind {
        result.unwrap_err().kind
    }

    #[test]
    fn an_id_wins_over_a_name_and_a_name_over_a_start_of_an_id() {
        let rows = candidates(&[("aaaa1111", "beef0000"), ("beef0000", "x"), ("beef1234", "beef12")]);
        assert_eq!(pick(What::Space, "beef0000", &rows).unwrap(), "beef0000");
        assert_eq!(pick(What::Space, "beef12", &rows).unwrap(), "beef1234");
        assert_eq!(pick(What::Space, "AAAA", &rows).unwrap(), "aaaa1111");
    }

    #[test]
    fn an_exact_name_wins_over_one_of_another_case() {
        let rows = candidates(&[("1", "Team"), ("2", "team")]);
        assert_eq!(pick(What::Space, "team", &rows).unwrap(), "2");
        assert_eq!(pick(What::Space, "Team", &rows).unwrap(), "1");
        assert_eq!(kind(pick(What::Space, "TEAM", &rows)), FailureKind::Usage);
    }

    #[test]
    fn ambiguous_arguments_are_usage_errors_and_unknown_ones_not_found() {
        let rows = candidates(&[("abcd1", "x"), ("abcd2", "x")]);
        assert_eq!(kind(pick(What::Space, "x", &rows)), FailureKind::Usage);
        assert_eq!(kind(pick(What::Space, "abcd", &rows)), FailureKind::Usage);
        assert_eq!(kind(pick(What::Space, "abc", &rows)), FailureKind::NotFound);
        assert_eq!(pick(What::Member, "nope", &rows).unwrap_err().reason, "MEMBER_NOT_FOUND");
        assert_eq!(kind(pick(What::Message, "", &candidates(&[("abcd1", "")]))), FailureKind::Usage);
    }

    #[test]
    fn peer_ids_keep_their_case() {
        let rows = candidates(&[("12D3KooWAb", "a"), ("12D3KooWab", "b")]);
        assert_eq!(pick(What::Peer, "12D3KooWAb", &rows).unwrap(), "12D3KooWAb");
    }

    fn space(id: &str, name: &str) -> api::Space {
        api::Space { space_id: id.into(), name: name.into(), ..Default::default() }
    }

    fn channels(rows: &[(&api::Space, &str, &str)]) -> Vec<(api::Space, api::Channel)> {
        rows.iter()
            .map(|(space, id, name)| {
                let channel =
                    api::Channel { channel_id: (*id).into(), name: (*name).into(), ..Default::default() };
                ((*space).clone(), channel)
            })
            .collect()
    }

    #[test]
    fn a_channel_is_named_alone_or_with_its_space() {
        let spaces = [space("s1", "Garden"), space("s2", "a/b")];
        let rows = channels(&[
            (&spaces[0], "c1", "general"),
            (&spaces[1], "c2", "general"),
            (&spaces[0], "c3", "plans"),
            (&spaces[1], "c4", "x/y"),
        ]);
        let pick = |argument| pick_channel(argument, &spaces, &rows);
        assert_eq!(pick("plans").unwrap(), "c3");
        assert_eq!(pick("garden/general").unwrap(), "c1");
        assert_eq!(pick("a/b/general").unwrap(), "c2");
        assert_eq!(pick("a/b/x/y").unwrap(), "c4");
        assert_eq!(kind(pick("garden/none")), FailureKind::NotFound);
        let ambiguous = pick("general").unwrap_err();
        assert_eq!(ambiguous.kind, FailureKind::Usage);
        assert!(ambiguous.message.contains("Garden/general, a/b/general"));
    }

    #[test]
    fn full_ids_are_recognised() {
        assert_eq!(
            uuid("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11").unwrap(),
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
        );
        assert!(uuid("general").is_none());
        assert!(is_hex_id(&"0f".repeat(32)));
        assert!(!is_hex_id("0f"));
    }
}
