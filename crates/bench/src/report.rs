//! What was measured: as a table for people, as JSON for programs.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

/// What a finding is held against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// The ratio of figure and floor.
    RatioAtLeast(f64),
    /// The ratio of figure and base.
    RatioAtMost(f64),
    /// The figure itself.
    AtLeast(f64),
    /// The figure itself.
    AtMost(f64),
}

/// Where time went, or what a figure is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Detail {
    /// Of what.
    pub what: String,
    /// How much of it.
    pub value: f64,
    /// In which unit.
    pub unit: &'static str,
}

impl Detail {
    /// A detail.
    pub fn new(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { what: what.into(), value, unit }
    }
}

/// One measured figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Which benchmark: its subcommand.
    pub bench: &'static str,
    /// What was measured.
    pub what: String,
    /// The figure's unit, and the floor's.
    pub unit: &'static str,
    /// Ours; over several rounds, the median.
    pub figure: f64,
    /// What it is held beside: the same row writes in plain SQL, or the same call on the smaller queue.
    pub floor: Option<f64>,
    /// Figure by floor: the median of the rounds' ratios, not the ratio of medians.
    pub ratio: Option<f64>,
    /// What it should be.
    pub target: Option<Target>,
    /// Figure and floor of each round.
    pub rounds: Vec<(f64, f64)>,
    /// What the figure is made of.
    pub details: Vec<Detail>,
    /// How it was measured, if that isn't plain.
    pub note: String,
}

impl Finding {
    /// A figure with nothing beside it.
    pub fn alone(bench: &'static str, what: impl Into<String>, figure: f64, unit: &'static str) -> Self {
        Self {
            bench,
            what: what.into(),
            unit,
            figure,
            floor: None,
            ratio: None,
            target: None,
            rounds: Vec::new(),
            details: Vec::new(),
            note: String::new(),
        }
    }

    /// The median of rounds in which figure and floor were taken one right after the other.
    pub fn beside(
        bench: &'static str,
        what: impl Into<String>,
        unit: &'static str,
        rounds: Vec<(f64, f64)>,
    ) -> Self {
        let column = |pick: fn(&(f64, f64)) -> f64| -> f64 {
            crate::stats::median(&rounds.iter().map(pick).collect::<Vec<_>>())
        };
        let (figure, floor, ratio) = (column(|r| r.0), column(|r| r.1), column(|r| r.0 / r.1));
        // Beside a floor of nothing there is none.
        let ratio = Some(ratio).filter(|ratio| ratio.is_finite());
        Self { floor: Some(floor), ratio, rounds, ..Self::alone(bench, what, figure, unit) }
    }

    /// With a target.
    #[must_use]
    pub fn target(self, target: Target) -> Self {
        Self { target: Some(target), ..self }
    }

    /// With what it is made of.
    #[must_use]
    pub fn details(self, details: Vec<Detail>) -> Self {
        Self { details, ..self }
    }

    /// With a remark.
    #[must_use]
    pub fn note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    /// Whether the target is reached; `None` without a target. A figure that isn't a number reaches nothing.
    pub fn reached(&self) -> Option<bool> {
        let ratio = self.ratio.unwrap_or(f64::NAN);
        Some(match self.target? {
            Target::RatioAtLeast(min) => ratio >= min,
            Target::RatioAtMost(max) => ratio <= max,
            Target::AtLeast(min) => self.figure >= min,
            Target::AtMost(max) => self.figure <= max,
        })
    }

    fn target_text(&self) -> String {
        match self.target {
            None => String::new(),
            Some(Target::RatioAtLeast(min)) => format!("ratio ≥ {min}"),
            Some(Target::RatioAtMost(max)) => format!("ratio ≤ {max}"),
            Some(Target::AtLeast(min)) => format!("≥ {}", show(min)),
            Some(Target::AtMost(max)) => format!("≤ {}", show(max)),
        }
    }

    fn json(&self) -> Value {
        let details: Vec<Value> =
            self.details.iter().map(|d| json!({"what": d.what, "value": d.value, "unit": d.unit})).collect();
        let rounds: Vec<Value> =
            self.rounds.iter().map(|(ours, floor)| json!({"figure": ours, "floor": floor})).collect();
        json!({
            "bench": self.bench, "what": self.what, "unit": self.unit, "figure": self.figure, "floor": self.floor,
            "ratio": self.ratio, "target": self.target.map(|_| self.target_text()), "reached": self.reached(),
            "rounds": rounds, "details": details, "note": self.note,
        })
    }
}

/// Everything of one run.
#[derive(Debug, Clone)]
pub struct Report {
    /// Where it ran: the machine, the server and its durability.
    pub environment: Value,
    /// What was measured.
    pub findings: Vec<Finding>,
}

impl Report {
    /// For programs.
    pub fn json(&self) -> Value {
        let findings: Vec<Value> = self.findings.iter().map(Finding::json).collect();
        json!({"environment": self.environment, "findings": findings})
    }

    /// For people: the table, then what each figure is made of.
    pub fn text(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY);
        table.set_header(["bench", "what", "figure", "floor", "ratio", "target", ""]);
        for f in &self.findings {
            let number = |v: Option<f64>| v.map(show).unwrap_or_default();
            let reached = f.reached().map_or("", |yes| if yes { "reached" } else { "NOT REACHED" });
            let (figure, floor) = (format!("{} {}", show(f.figure), f.unit), number(f.floor));
            let ratio = f.ratio.map(|r| format!("{r:.2}")).unwrap_or_default();
            table.add_row([f.bench, &f.what, &figure, &floor, &ratio, &f.target_text(), reached]);
        }
        for column in [2, 3, 4] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let details =
            self.findings.iter().filter(|f| !f.details.is_empty() || !f.note.is_empty()).map(explain);
        format!("{table}\n{}", details.collect::<String>())
    }
}

fn explain(finding: &Finding) -> String {
    let note = if finding.note.is_empty() { String::new() } else { format!("  {}\n", finding.note) };
    let line = |d: &Detail| format!("  {:>12} {:<8} {}\n", show(d.value), d.unit, d.what);
    let details: String = finding.details.iter().map(line).collect();
    format!("\n{}: {}\n{note}{details}", finding.bench, finding.what)
}

/// Three digits or so: nobody reads more.
fn show(value: f64) -> String {
    match value.abs() {
        v if v >= 1_000.0 => thousands(value),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 0.1 || v == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |d| ("-", d));
    let mut text = String::from(sign);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_medians_of_rounds_and_targets_are_checked() {
        let rounds = vec![(10.0, 20.0), (30.0, 40.0), (9.0, 10.0)];
        let finding = Finding::beside("b", "w", "x", rounds).target(Target::RatioAtLeast(0.75));
        assert_eq!((finding.figure, finding.floor, finding.ratio), (10.0, Some(20.0), Some(0.75)));
        assert_eq!(finding.reached(), Some(true));
        assert_eq!(finding.target(Target::RatioAtMost(0.7)).reached(), Some(false));
        let nothing = Finding::alone("b", "w", f64::NAN, "x");
        assert_eq!(nothing.reached(), None);
        assert_eq!(nothing.clone().target(Target::AtMost(1.0)).reached(), Some(false));
        assert_eq!(nothing.target(Target::AtLeast(1.0)).reached(), Some(false));
    }

    #[test]
    fn numbers_are_short() {
        let shown = [1_234_567.8, 999.6, 123.4, 12.34, 1.234, 0.0123, 0.0].map(show);
        assert_eq!(shown, ["1,234,568", "1000", "123", "12.3", "1.23", "0.0123", "0.00"]);
    }
}
