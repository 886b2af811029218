//! Checks of single fields. Each takes the field's name, to say it when the value is wrong.

use std::time::Duration;

use spacepanda_core::{
    id::{AccountId, EventId},
    router::PeerId,
};
use uuid::Uuid;

use crate::status::Refusal;

/// Characters of a name.
const MAX_NAME: usize = 100;
/// Characters of a description or topic.
const MAX_DESCRIPTION: usize = 1000;
/// Bytes of a message's text.
const MAX_TEXT: usize = 32 * 1024;
/// Bytes of a link, address or other opaque text; far above any real one.
const MAX_OPAQUE: usize = 16 * 1024;
/// Bytes of a peer id in text; real ones have about 50.
const MAX_PEER_ID: usize = 128;

type Checked<T> = Result<T, Refusal>;

/// A UUID in the hyphenated form.
pub(crate) fn uuid(field: &'static str, text: &str) -> Checked<Uuid> {
    match Uuid::try_parse(text) {
        Ok(uuid) if text.len() == uuid::fmt::Hyphenated::LENGTH => Ok(uuid),
        _ => Err(Refusal::field(field, "is not a UUID")),
    }
}

/// `request_id`: a UUID, or empty for none.
pub(crate) fn request_id(text: &str) -> Checked<Option<Uuid>> {
    if text.is_empty() { Ok(None) } else { uuid("request_id", text).map(Some) }
}

/// 32 bytes in lower-case hex.
fn hex32(field: &'static str, text: &str) -> Checked<[u8; 32]> {
    let mut bytes = [0; 32];
    let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    match hex::decode_to_slice(text, &mut bytes) {
        Ok(()) if lower => Ok(bytes),
        _ => Err(Refusal::field(field, "is not 64 digits of lower-case hex")),
    }
}

/// The id of an account.
pub(crate) fn account(field: &'static str, text: &str) -> Checked<AccountId> {
    hex32(field, text).map(AccountId)
}

/// The id of a message.
pub(crate) fn message(field: &'static str, text: &str) -> Checked<EventId> {
    hex32(field, text).map(EventId)
}

/// The id of a message, or empty for none.
pub(crate) fn optional_message(field: &'static str, text: &str) -> Checked<Option<EventId>> {
    if text.is_empty() { Ok(None) } else { message(field, text).map(Some) }
}

/// A name that people see: trimmed, 1 to 100 characters, none of them a control character.
pub(crate) fn name(field: &'static str, text: &str) -> Checked<String> {
    let name = optional_name(field, text)?;
    if name.is_empty() { Err(Refusal::field(field, "is empty")) } else { Ok(name) }
}

/// As [`name`], or empty.
pub(crate) fn optional_name(field: &'static str, text: &str) -> Checked<String> {
    let name = text.trim();
    if longer(name, MAX_NAME) {
        return Err(Refusal::field(field, "has more than 100 characters"));
    }
    if name.chars().any(char::is_control) {
        return Err(Refusal::field(field, "has control characters"));
    }
    Ok(name.to_owned())
}

/// A description or topic: up to 1,000 characters, control characters only to break lines.
pub(crate) fn description(field: &'static str, text: String) -> Checked<String> {
    if longer(&text, MAX_DESCRIPTION) {
        return Err(Refusal::field(field, "has more than 1000 characters"));
    }
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return Err(Refusal::field(field, "has control characters"));
    }
    Ok(text)
}

/// A message's text: 1 byte to 32 KiB.
pub(crate) fn text(field: &'static str, text: String) -> Checked<String> {
    match text.len() {
        0 => Err(Refusal::field(field, "is empty")),
        1..=MAX_TEXT => Ok(text),
        _ => Err(Refusal::field(field, "has more than 32 KiB")),
    }
}

/// Text that the core takes apart itself, such as a link: here only not absurdly long. `reason` is the one
/// that the core's refusal has too.
pub(crate) fn opaque(reason: &'static str, field: &'static str, text: String) -> Checked<String> {
    match text.len() {
        0 => Err(Refusal::bad_field(reason, field, "is empty")),
        1..=MAX_OPAQUE => Ok(text),
        _ => Err(Refusal::bad_field(reason, field, "is too long")),
    }
}

/// The id of a peer, in libp2p's text form.
pub(crate) fn peer(field: &'static str, text: String) -> Checked<String> {
    // Decoding takes the square of the length.
    if text.len() <= MAX_PEER_ID && PeerId::parse(&text).is_ok() {
        return Ok(text);
    }
    Err(Refusal::field(field, "is not a peer id"))
}

/// A span between bounds; `default` when unset.
pub(crate) fn span(
    field: &'static str,
    value: Option<prost_types::Duration>,
    default: Duration,
    bounds: std::ops::RangeInclusive<Duration>,
) -> Checked<Duration> {
    let Some(value) = value else { return Ok(default) };
    match Duration::try_from(value) {
        Ok(span) if bounds.contains(&span) => Ok(span),
        _ => Err(Refusal::field(field, "is outside what is allowed")),
    }
}

/// Counts no further than needed: the text may be megabytes.
fn longer(text: &str, limit: usize) -> bool {
    text.chars().nth(limit).is_some()
}

/// What a test sees of a refusal: the field it names.
#[cfg(test)]
pub(crate) fn refused_field<T>(result: Checked<T>) -> String {
    use tonic_types::StatusExt as _;
    let status = tonic::Status::from(result.err().expect("a refusal"));
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    status.get_error_details().bad_request().unwrap().field_violations[0].field.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_uuids_or_nothing() {
        assert_eq!(request_id("").unwrap(), None);
        let id = Uuid::new_v4();
        assert_eq!(request_id(&id.to_string()).unwrap(), Some(id));
        for bad in ["x", " ", &id.simple().to_string(), &format!("{{{id}}}"), &id.urn().to_string()] {
            assert_eq!(refused_field(request_id(bad)), "request_id", "{bad}");
        }
    }

    #[test]
    fn ids_are_lower_case_hex_of_their_length() {
        let id = "ab".repeat(32);
        assert_eq!(account("a", &id).unwrap().to_string(), id);
        assert_eq!(optional_message("m", "").unwrap(), None);
        for bad in ["", "ab", &"AB".repeat(32), &"xy".repeat(32), &"ab".repeat(33)] {
            assert_eq!(refused_field(message("m", bad)), "m", "{bad}");
        }
    }

    #[test]
    fn names_are_trimmed_and_bounded() {
        assert_eq!(name("n", "  Räume ").unwrap(), "Räume");
        assert_eq!(name("n", &"ä".repeat(100)).unwrap().chars().count(), 100);
        assert_eq!(optional_name("n", " ").unwrap(), "");
        for bad in ["", "   ", "a\nb", "a\u{0}b", "a\u{7f}b", &"a".repeat(101)] {
            assert_eq!(refused_field(name("n", bad)), "n", "{bad:?}");
        }
    }

    #[test]
    fn descriptions_may_have_lines() {
        assert!(description("d", "one\n\ttwo".into()).is_ok());
        assert!(description("d", "é".repeat(1000)).is_ok());
        assert_eq!(refused_field(description("d", "a".repeat(1001))), "d");
        assert_eq!(refused_field(description("d", "\u{1b}[31m".into())), "d");
    }

    #[test]
    fn texts_are_counted_in_bytes() {
        assert!(text("t", "a".repeat(MAX_TEXT)).is_ok());
        assert_eq!(refused_field(text("t", "ä".repeat(MAX_TEXT / 2 + 1))), "t");
        assert_eq!(refused_field(text("t", String::new())), "t");
    }

    #[test]
    fn peer_ids_are_told_from_other_texts() {
        let id = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
        assert_eq!(peer("p", id.to_owned()).unwrap(), id);
        for bad in ["", "x", "/p2p/x", id.trim_start_matches('1'), &"1".repeat(MAX_PEER_ID + 1)] {
            assert_eq!(refused_field(peer("p", bad.to_owned())), "p", "{bad}");
        }
    }

    #[test]
    fn spans_have_bounds_and_a_default() {
        let one = Duration::from_secs(1);
        let check = |value| span("s", value, one, one..=one * 60);
        let wire = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
        assert_eq!(check(None).unwrap(), one);
        assert_eq!(check(wire(60, 0)).unwrap(), one * 60);
        for bad in [wire(0, 999_999_999), wire(60, 1), wire(-5, 0), wire(i64::MAX, 0), wire(0, 0)] {
            assert_eq!(refused_field(check(bad)), "s", "{bad:?}");
        }
    }
}
