//! What everyone ended up with, and what is missing of it.

use std::{collections::HashSet, time::Duration};

use owo_colors::Style;
use serde_json::{Value, json};

use super::screen::milliseconds;
use crate::cli::{
    failure::Failure,
    output::{Output, paint, table},
};

/// A message that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) message_id: String,
    pub(super) text: String,
    pub(super) author: String,
}

/// What one person's server holds at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    pub(super) name: String,
    /// Ids in the order shown.
    pub(super) messages: Vec<String>,
    /// Messages that the event stream showed more than once.
    pub(super) repeated: usize,
    pub(super) epoch: u64,
    pub(super) check: String,
    /// Account and role, sorted.
    pub(super) members: Vec<String>,
}

/// The end of the story.
#[derive(Debug, Clone)]
pub(super) struct Report {
    pub(super) sent: Vec<Sent>,
    pub(super) views: Vec<View>,
    /// From the call to the receiver's event, for receivers that were up.
    pub(super) times: Vec<Duration>,
    /// From the restart to the last message missed.
    pub(super) catch_up: Duration,
}

impl Report {
    /// What is not as it should be, in words; empty when all is well.
    pub(super) fn missing(&self) -> Vec<String> {
        let Some(first) = self.views.first() else { return vec!["everyone".to_owned()] };
        let mut missing: Vec<String> = self.views.iter().flat_map(|view| self.lacks(view)).collect();
        for view in &self.views {
            let differs = |what: &str| format!("{} has another {what} than {}", view.name, first.name);
            if view.messages != first.messages {
                missing.push(differs("order of messages"));
            }
            if view.check != first.check || view.check.is_empty() {
                missing.push(differs("group state"));
            }
            if view.members != first.members || view.members.len() != self.views.len() {
                missing.push(differs("list of members"));
            }
        }
        missing
    }

    fn lacks(&self, view: &View) -> Vec<String> {
        let held: HashSet<&str> = view.messages.iter().map(String::as_str).collect();
        let mut lacks: Vec<String> = self
            .sent
            .iter()
            .filter(|sent| !held.contains(sent.message_id.as_str()))
            .map(|sent| format!("{} does not have \"{}\" of {}", view.name, sent.text, sent.author))
            .collect();
        if view.repeated > 0 || held.len() != view.messages.len() {
            lacks.push(format!("{} was shown a message twice", view.name));
        }
        lacks
    }

    /// Prints the result.
    pub(super) fn print(&self, out: Output, total: Duration) -> Result<(), Failure> {
        out.show(|| self.to_json(total), || self.to_text(total))
    }

    /// Shortest, median and longest.
    fn spread(&self) -> [Duration; 3] {
        let mut times = self.times.clone();
        times.sort_unstable();
        let at = |index: usize| times.get(index).copied().unwrap_or_default();
        [at(0), at(times.len() / 2), at(times.len().saturating_sub(1))]
    }

    fn to_text(&self, total: Duration) -> String {
        let mut rows = table(&["", "MESSAGES", "EPOCH", "CHECK", "MEMBERS"]);
        for view in &self.views {
            rows.add_row([
                view.name.clone(),
                format!("{} of {}", view.messages.len(), self.sent.len()),
                view.epoch.to_string(),
                view.check.clone(),
                view.members.len().to_string(),
            ]);
        }
        let [min, median, max] = self.spread().map(milliseconds);
        let verdict = if self.missing().is_empty() {
            paint("Everyone has the same messages in the same order.", Style::new().green().bold())
        } else {
            paint("Something is missing.", Style::new().red().bold())
        };
        format!(
            "\n{rows}\n\n{verdict}\nsend to visible: min {min}, median {median}, max {max}; \
             back after a crash: {}; in all {:.1} s",
            milliseconds(self.catch_up),
            total.as_secs_f64(),
        )
    }

    fn to_json(&self, total: Duration) -> Value {
        let [min, median, max] = self.spread().map(in_milliseconds);
        let view = |view: &View| {
            json!({
                "name": view.name,
                "messages": view.messages,
                "repeated": view.repeated,
                "epoch": view.epoch,
                "check": view.check,
                "members": view.members.len(),
            })
        };
        json!({
            "complete": self.missing().is_empty(),
            "missing": self.missing(),
            "sent": self.sent.len(),
            "people": self.views.iter().map(view).collect::<Value>(),
            "send_to_visible_ms": {"min": min, "median": median, "max": max},
            "catch_up_ms": in_milliseconds(self.catch_up),
            "total_ms": in_milliseconds(total),
        })
    }
}

fn in_milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(name: &str, messages: &[&str]) -> View {
        View {
            name: name.into(),
            messages: messages.iter().map(|id| (*id).to_owned()).collect(),
            repeated: 0,
            epoch: 2,
            check: "aa".into(),
            members: vec!["1".into(), "2".into()],
        }
    }

    fn report(views: Vec<View>) -> Report {
        let sent =
            |id: &str| Sent { message_id: id.into(), text: format!("text {id}"), author: "Alice".into() };
        Report {
            sent: vec![sent("a"), sent("b")],
            views,
            times: [3, 1, 2].map(Duration::from_millis).to_vec(),
            catch_up: Duration::from_millis(5),
        }
    }

    #[test]
    fn equal_views_miss_nothing() {
        let report = report(vec![view("Alice", &["a", "b"]), view("Bob", &["a", "b"])]);
        assert_eq!(report.missing(), Vec::<String>::new());
        assert_eq!(report.to_json(Duration::ZERO)["complete"], true);
        assert_eq!(report.spread().map(|time| time.as_millis()), [1, 2, 3]);
    }

    #[test]
    fn each_fault_is_named() {
        let good = view("Alice", &["a", "b"]);
        let missing = |bad: View| report(vec![good.clone(), bad]).missing().join("; ");
        assert!(missing(view("Bob", &["a"])).contains("Bob does not have \"text b\" of Alice"));
        assert!(missing(view("Bob", &["b", "a"])).contains("another order"));
        assert!(missing(view("Bob", &["a", "b", "b"])).contains("twice"));
        let base = view("Bob", &["a", "b"]);
        assert!(missing(View { repeated: 1, ..base.clone() }).contains("twice"));
        assert!(missing(View { check: "bb".into(), ..base.clone() }).contains("another group state"));
        assert!(missing(View { members: vec!["1".into()], ..base }).contains("another list of members"));
        assert!(!report(Vec::new()).missing().is_empty());
    }
}
