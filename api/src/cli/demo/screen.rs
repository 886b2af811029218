//! The story on the terminal: one column a person, one row a message.
//!
//! Prints nothing when scripts read the output.

use std::time::Duration;

use owo_colors::Style;

use crate::cli::{
    failure::Failure,
    output::{Output, bold, dim, paint},
};

const COLUMN_WIDTH: usize = 26;

/// What one person sees of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cell {
    /// It is theirs.
    Sent,
    /// It arrived after this time.
    Arrived(Duration),
    /// Their server does not run.
    Down,
    /// It was shown in an earlier row.
    Earlier,
}

/// Prints the story as it happens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    out: Output,
}

impl Screen {
    pub(super) fn new(out: Output) -> Self {
        Self { out }
    }

    /// Says what happens now.
    pub(super) fn step(self, text: &str) -> Result<(), Failure> {
        self.print(&format!("{} {text}", paint("*", Style::new().cyan().bold())))
    }

    /// Says that something bad happens now.
    pub(super) fn blow(self, text: &str) -> Result<(), Failure> {
        self.print(&paint(&format!("x {text}"), Style::new().red().bold()))
    }

    /// The people's names above their columns.
    pub(super) fn names(self, names: &[&str]) -> Result<(), Failure> {
        let row: String = names.iter().map(|name| bold(&padded(name))).collect();
        self.print(&format!("\n  {row}"))
    }

    /// A message in everyone's column.
    pub(super) fn message(self, text: &str, cells: &[Cell]) -> Result<(), Failure> {
        let row: String = cells.iter().map(|cell| painted(*cell, text)).collect();
        self.print(&format!("  {}", row.trim_end()))
    }

    fn print(self, text: &str) -> Result<(), Failure> {
        if self.out.is_json() { Ok(()) } else { self.out.line(text) }
    }
}

fn painted(cell: Cell, text: &str) -> String {
    let words = padded(&words(cell, text));
    match cell {
        Cell::Sent => paint(&words, Style::new().green()),
        Cell::Arrived(_) => words,
        Cell::Down => paint(&words, Style::new().red().dimmed()),
        Cell::Earlier => dim(&words),
    }
}

fn words(cell: Cell, text: &str) -> String {
    match cell {
        Cell::Sent => format!("> {text}"),
        Cell::Arrived(after) => format!("{text} {}", milliseconds(after)),
        Cell::Down => "(down)".to_owned(),
        Cell::Earlier => ".".to_owned(),
    }
}

/// Milliseconds with one decimal.
pub(super) fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}

/// Padding comes before colour, whose codes have a length but no width.
fn padded(text: &str) -> String {
    format!("{text:<COLUMN_WIDTH$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_fill_their_column() {
        let arrived = words(Cell::Arrived(Duration::from_micros(1_340)), "Hi!");
        assert_eq!(arrived, "Hi! 1.3 ms");
        assert_eq!(padded(&arrived).chars().count(), COLUMN_WIDTH);
        assert_eq!(words(Cell::Sent, "Hi!"), "> Hi!");
    }
}
