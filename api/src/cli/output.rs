//! Standard output and error: one JSON document, or text for people.
//!
//! What peers wrote passes through [`printable`] before it reaches a terminal.

use std::{
    io::{self, Write as _},
    time::{Duration, SystemTime},
};

use comfy_table::{ContentArrangement, Table, presets};
use owo_colors::{OwoColorize as _, Stream, Style};
use prost_types::Timestamp;
use serde_json::Value;

use super::failure::Failure;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Where results go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    json: bool,
}

impl Output {
    /// JSON for scripts, or text for people.
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether scripts read it.
    pub(super) fn is_json(self) -> bool {
        self.json
    }

    /// Prints a result in the form that was asked for.
    ///
    /// # Errors
    /// When standard output is closed.
    pub(super) fn show(
        self,
        document: impl FnOnce() -> Value,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if self.json { self.line(&document().to_string()) } else { self.line(&text()) }
    }

    /// Prints one line (or block) on standard output.
    ///
    /// # Errors
    /// When standard output is closed.
    pub(super) fn line(self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|error| {
            Failure::local_fault("OUTPUT_CLOSED", format!("standard output cannot be written: {error}"))
        })
    }

    /// Tells people something on standard error that is no result.
    pub(super) fn note(self, text: &str) {
        if !self.json {
            error_line(text);
        }
    }

    /// Reports why the command failed.
    pub(super) fn failure(self, failure: &Failure) {
        if self.json {
            error_line(&failure.to_json().to_string());
            return;
        }
        let label =
            "error:".if_supports_color(Stream::Stderr, |label| label.style(Style::new().red().bold()));
        error_line(&format!("{label} {}", printable(&failure.message)));
    }
}

fn error_line(text: &str) {
    // Nothing is left to tell when standard error is closed too.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// The text in a style, when standard output shows colours.
pub(super) fn paint(text: &str, style: Style) -> String {
    text.if_supports_color(Stream::Stdout, |text| text.style(style)).to_string()
}

/// The text in bold.
pub(super) fn bold(text: &str) -> String {
    paint(text, Style::new().bold())
}

/// The text in the background.
pub(super) fn dim(text: &str) -> String {
    paint(text, Style::new().dimmed())
}

/// A table with this header, without frames.
pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.iter().map(|title| bold(title)));
    table
}

/// The text without what would steer a terminal or reverse its reading order.
pub(super) fn printable(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' | '\t' => c,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(shown).collect()
}

/// One line of [`printable`] text, for names in tables.
pub(super) fn printable_line(text: &str) -> String {
    printable(text).replace(['\n', '\t'], " ")
}

/// The first characters of an id; enough to name it again.
pub(super) fn short(id: &str) -> String {
    id.chars().take(8).collect()
}

/// How long ago, in words; the date when more than a week.
pub(super) fn ago(then: Option<&Timestamp>, now: SystemTime) -> String {
    let Some(then) = then.and_then(|stamp| SystemTime::try_from(*stamp).ok()) else {
        return "-".to_owned();
    };
    let seconds = now.duration_since(then).unwrap_or(Duration::ZERO).as_secs();
    match seconds {
        0..10 => "now".to_owned(),
        10..MINUTE => format!("{seconds} s ago"),
        MINUTE..HOUR => format!("{} min ago", seconds / MINUTE),
        HOUR..DAY => format!("{} h ago", seconds / HOUR),
        seconds if seconds < 7 * DAY => format!("{} d ago", seconds / DAY),
        _ => humantime::format_rfc3339_seconds(then).to_string().chars().take(10).collect(),
    }
}

/// How long until then, in words.
pub(super) fn until(then: Option<&Timestamp>, now: SystemTime) -> String {
    let Some(then) = then.and_then(|stamp| SystemTime::try_from(*stamp).ok()) else {
        return "-".to_owned();
    };
    match then.duration_since(now).map(|left| left.as_secs()) {
        Err(_) | Ok(0) => "expired".to_owned(),
        Ok(seconds @ 1..MINUTE) => format!("in {seconds} s"),
        Ok(seconds @ MINUTE..HOUR) => format!("in {} min", seconds.div_ceil(MINUTE)),
        Ok(seconds @ HOUR..DAY) => format!("in {} h", seconds.div_ceil(HOUR)),
        Ok(seconds) => format!("in {} d", seconds.div_ceil(DAY)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn stamp(seconds: u64) -> Timestamp {
        at(seconds).into()
    }

    #[test]
    fn times_are_told_relative_to_now() {
        let now = 30 * DAY;
        let told = |back: u64| ago(Some(&stamp(now - back)), at(now));
        assert_eq!(told(3), "now");
        assert_eq!(told(59), "59 s ago");
        assert_eq!(told(61), "1 min ago");
        assert_eq!(told(5 * HOUR + 5), "5 h ago");
        assert_eq!(told(3 * DAY), "3 d ago");
        assert_eq!(told(20 * DAY), "1970-01-11");
        assert_eq!(ago(Some(&stamp(now + 50)), at(now)), "now", "a clock ahead is no error");
        assert_eq!(ago(None, at(now)), "-");
    }

    #[test]
    fn remaining_time_is_rounded_up() {
        assert_eq!(until(Some(&stamp(7 * DAY - 1)), at(0)), "in 7 d");
        assert_eq!(until(Some(&stamp(90)), at(0)), "in 2 min");
        assert_eq!(until(Some(&stamp(5)), at(6)), "expired");
    }

    #[test]
    fn peers_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\u{202e}c\nd"), "a\u{fffd}[2Jb\u{fffd}c\nd");
        assert_eq!(printable_line("a\nb"), "a b");
    }

    #[test]
    fn short_ids_never_split_a_character() {
        assert_eq!(short("0123456789"), "01234567");
        assert_eq!(short("ééééééééé"), "éééééééé");
    }
}
