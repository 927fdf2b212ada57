//! Two runs of one workload side by side.

use std::fmt;

use serde::Serialize;

use super::text::{count, percent, span, table};
use super::{Report, Waits};

/// Two runs of one workload.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// What the first is called: `present`.
    pub before_name: String,
    /// The first.
    pub before: Report,
    /// What the second is called: `new`.
    pub after_name: String,
    /// The second.
    pub after: Report,
}

/// The waits of one team (or class, or all) in both.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Whose.
    pub name: String,
    /// In the first run; `None` if it is not there.
    pub before: Option<Waits>,
    /// In the second.
    pub after: Option<Waits>,
}

impl Comparison {
    /// The waits of all, of every class and of every team, in both.
    pub fn changes(&self) -> (Change, Vec<Change>, Vec<Change>) {
        let all =
            Change { name: "all".to_owned(), before: Some(self.before.waits), after: Some(self.after.waits) };
        let teams = |r: &Report| r.teams.iter().map(|t| (t.team.clone(), t.waits)).collect::<Vec<_>>();
        (
            all,
            pair(&self.before.classes, &self.after.classes),
            pair(&teams(&self.before), &teams(&self.after)),
        )
    }

    /// Whether every rule was kept in both.
    pub fn is_sound(&self) -> bool {
        self.before.is_sound() && self.after.is_sound()
    }

    /// As JSON.
    pub fn json(&self) -> serde_json::Value {
        let (all, classes, teams) = self.changes();
        let mut runs = serde_json::Map::new();
        runs.insert(self.before_name.clone(), self.before.json());
        runs.insert(self.after_name.clone(), self.after.json());
        serde_json::json!({"runs": runs, "waits": {"all": all, "classes": classes, "teams": teams}})
    }

    /// Rows of figures of the runs as wholes: (what, before, after).
    pub(super) fn figures(&self) -> Vec<[String; 3]> {
        let row = |what: &str, show: &dyn Fn(&Report) -> String| {
            [what.to_owned(), show(&self.before), show(&self.after)]
        };
        vec![
            row("jobs succeeded", &|r| count(r.jobs.succeeded)),
            row("jobs never started", &|r| count(r.waits.never_started)),
            row("share error, mean", &|r| percent(r.share_error.mean)),
            row("starvation age, max", &|r| span(r.starvation.max_s)),
            row("preemptions carried out", &|r| count(r.preemptions.carried_out)),
            row("run lost by them", &|r| span(r.preemptions.lost_run_s)),
            row("broken rules", &|r| count(r.audit.violations)),
        ]
    }
}

fn pair(before: &[(String, Waits)], after: &[(String, Waits)]) -> Vec<Change> {
    let find = |list: &[(String, Waits)], name: &str| list.iter().find(|(n, _)| n == name).map(|(_, w)| *w);
    let new = after.iter().filter(|(name, _)| find(before, name).is_none());
    before
        .iter()
        .chain(new)
        .map(|(name, _)| Change { name: name.clone(), before: find(before, name), after: find(after, name) })
        .collect()
}

/// A difference of spans: `+3.0 min`, `-12 s`, `same`.
pub(super) fn difference(before: f64, after: f64) -> String {
    let by = after - before;
    if by.abs() < 0.05 {
        return "same".to_owned();
    }
    format!("{}{}", if by > 0.0 { "+" } else { "-" }, span(by.abs()))
}

/// The cells of a change: before, after and difference of p50, p95, p99 and max.
pub(super) fn cells(change: &Change) -> Vec<String> {
    let at = |w: &Option<Waits>, of: fn(&Waits) -> f64| w.as_ref().map_or("–".to_owned(), |w| span(of(w)));
    let of: [fn(&Waits) -> f64; 4] = [|w| w.p50_s, |w| w.p95_s, |w| w.p99_s, |w| w.max_s];
    of.into_iter()
        .flat_map(|of| {
            let by = match (&change.before, &change.after) {
                (Some(before), Some(after)) => difference(of(before), of(after)),
                _ => "–".to_owned(),
            };
            [at(&change.before, of), at(&change.after, of), by]
        })
        .collect()
}

pub(super) const CHANGE_HEAD: [&str; 12] =
    ["p50", "→", "by", "p95", "→", "by", "p99", "→", "by", "max", "→", "by"];

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all, classes, teams) = self.changes();
        writeln!(f, "{} jobs, {} → {}", count(self.before.jobs.arrived), self.before_name, self.after_name)?;
        let figures: Vec<Vec<String>> = self.figures().into_iter().map(Vec::from).collect();
        table(f, &["", &self.before_name, &self.after_name], &figures)?;
        for (what, changes) in [("team", teams), ("class", classes)] {
            writeln!(f, "\nWaits by {what}")?;
            let row = |c: &Change| std::iter::once(c.name.clone()).chain(cells(c)).collect();
            let rows: Vec<Vec<String>> = changes.iter().chain([&all]).map(row).collect();
            table(f, &[&[what][..], &CHANGE_HEAD].concat(), &rows)?;
        }
        for (name, report) in [(&self.before_name, &self.before), (&self.after_name, &self.after)] {
            writeln!(f, "\n===== {name} =====\n{report}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_have_a_sign() {
        let got = [(10.0, 10.01), (60.0, 3_660.0), (3_660.0, 60.0)].map(|(a, b)| difference(a, b));
        assert_eq!(got, ["same", "+60.0 min", "-60.0 min"]);
    }

    #[test]
    fn what_is_only_in_one_is_shown() {
        let waits = Waits::default();
        let changes =
            pair(&[("a".into(), waits), ("b".into(), waits)], &[("b".into(), waits), ("c".into(), waits)]);
        let got: Vec<_> =
            changes.iter().map(|c| (c.name.as_str(), c.before.is_some(), c.after.is_some())).collect();
        assert_eq!(got, [("a", true, false), ("b", true, true), ("c", false, true)]);
    }
}
