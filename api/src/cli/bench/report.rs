//! The table: metric, measured, raw limit, ratio, goal.

use std::{fs, thread};

use owo_colors::Style;
use serde_json::{Value, json};

use crate::cli::output::{dim, paint, table};

/// Limits of the parts alone, measured on the reference machine.
///
/// Release builds on loopback, medians, about +-15 %.
pub(super) mod reference {
    /// What the raw limits were measured on.
    pub(crate) const MACHINE: &str = "reference machine: 2 virtual cores";
    /// SQLCipher, WAL, synchronous=FULL, 1-KiB rows, 100 a transaction.
    pub(crate) const DURABLE_INSERTS_PER_SECOND: f64 = 22_400.0;
    /// One durable SQLCipher transaction of one row.
    pub(crate) const DURABLE_TRANSACTION_MS: f64 = 0.267;
    /// Two durable transactions and one libp2p request-response round trip of 1 KiB each way (0.132 ms).
    pub(crate) const SEND_TO_VISIBLE_MS: f64 = DURABLE_TRANSACTION_MS + 0.132 + DURABLE_TRANSACTION_MS;
    /// openmls, suite 0x0001, one thread: the commit that adds one to a fresh tree of 100.
    pub(crate) const ADD_TO_100_MS: f64 = 6.7;
    /// openmls, suite 0x0001, one thread: processing a commit in a populated tree of 100.
    pub(crate) const PROCESS_AT_100_MS: f64 = 0.78;
    /// An idle listening libp2p swarm without Kademlia.
    pub(crate) const IDLE_SWARM_KIB: f64 = 21.0;
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) metric: &'static str,
    pub(super) unit: &'static str,
    pub(super) measured: f64,
    /// The same without the product around it.
    pub(super) raw: Option<f64>,
    pub(super) goal: Option<f64>,
    pub(super) higher_is_better: bool,
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        self.raw.filter(|raw| *raw > 0.0).map(|raw| self.measured / raw)
    }

    fn met(&self) -> Option<bool> {
        self.goal
            .map(|goal| if self.higher_is_better { self.measured >= goal } else { self.measured <= goal })
    }

    fn goal_text(&self) -> String {
        let sign = if self.higher_is_better { ">=" } else { "<=" };
        match (self.goal, self.met()) {
            (Some(goal), Some(true)) => paint(&format!("{sign} {goal} met"), Style::new().green()),
            (Some(goal), _) => paint(&format!("{sign} {goal} MISSED"), Style::new().red().bold()),
            (None, _) => String::new(),
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "metric": self.metric,
            "unit": self.unit,
            "measured": self.measured,
            "raw_limit": self.raw,
            "ratio": self.ratio(),
            "goal": self.goal,
            "goal_met": self.met(),
        })
    }
}

/// Where it was measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Machine {
    cores: usize,
    model: String,
    /// Whether this build is optimised.
    optimised: bool,
}

impl Machine {
    /// This machine and this build.
    pub(super) fn here() -> Self {
        Self {
            cores: thread::available_parallelism().map_or(1, usize::from),
            model: fs::read_to_string("/proc/cpuinfo")
                .ok()
                .and_then(|text| model_name(&text))
                .unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            optimised: !cfg!(debug_assertions),
        }
    }
}

fn model_name(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// All that was measured.
#[derive(Debug, Clone)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) rows: Vec<Row>,
}

impl Report {
    pub(super) fn to_text(&self) -> String {
        let mut rows = table(&["METRIC", "MEASURED", "RAW LIMIT", "RATIO", "GOAL"]);
        for row in &self.rows {
            rows.add_row([
                row.metric.to_owned(),
                format!("{} {}", figure(row.measured), row.unit),
                row.raw.map(|raw| format!("{} {}", figure(raw), row.unit)).unwrap_or_default(),
                row.ratio().map(|ratio| format!("{ratio:.2} x")).unwrap_or_default(),
                row.goal_text(),
            ]);
        }
        let Machine { cores, model, optimised } = &self.machine;
        let build = if *optimised { "" } else { "; unoptimised build, its figures mean nothing" };
        let here = format!("measured on: {cores} cores, {model}{build}");
        let raw = format!("raw limits: {}, release build, loopback", reference::MACHINE);
        format!("{rows}\n\n{}\n{}", dim(&here), dim(&raw))
    }

    pub(super) fn to_json(&self) -> Value {
        let Machine { cores, model, optimised } = &self.machine;
        json!({
            "machine": {"cores": cores, "cpu_model": model, "optimised_build": optimised},
            "raw_limits": reference::MACHINE,
            "rows": self.rows.iter().map(Row::to_json).collect::<Value>(),
        })
    }
}

/// Three significant places or more.
fn figure(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(measured: f64, higher_is_better: bool) -> Row {
        Row { metric: "m", unit: "ms", measured, raw: Some(4.0), goal: Some(10.0), higher_is_better }
    }

    #[test]
    fn a_goal_has_a_direction() {
        assert_eq!(row(12.0, true).met(), Some(true));
        assert_eq!(row(12.0, false).met(), Some(false));
        assert_eq!(row(10.0, false).met(), Some(true));
        assert!(row(12.0, false).goal_text().contains("<= 10 MISSED"));
        assert_eq!(Row { goal: None, ..row(1.0, true) }.met(), None);
    }

    #[test]
    fn the_table_has_measured_raw_ratio_and_goal() {
        let machine = Machine { cores: 2, model: "Test CPU".into(), optimised: true };
        let report = Report { machine, rows: vec![row(8.0, false)] };
        let text = report.to_text();
        for part in ["8.00 ms", "4.00 ms", "2.00 x", "<= 10 met", "2 cores, Test CPU", "2 virtual cores"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(report.to_json()["rows"][0]["ratio"], 2.0);
    }

    #[test]
    fn the_cpu_is_named() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n";
        assert_eq!(model_name(text).unwrap(), "Some CPU @ 2 GHz");
        assert_eq!(model_name("processor: 0"), None);
    }
}
