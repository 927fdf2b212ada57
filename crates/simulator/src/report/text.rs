//! The report for a terminal.

use std::fmt;

use super::{Report, Waits};

/// A span for people: `45 s`, `3.4 min`, `2.1 h`, `12.3 d`.
pub(super) fn span(seconds: f64) -> String {
    match seconds {
        s if s < 0.05 => "0 s".to_owned(),
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{:.1} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3_600.0),
        s => format!("{:.1} d", s / 86_400.0),
    }
}

/// A count for people: `1,234,567`.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A part of a whole: `43.2 %`.
pub(super) fn percent(part: f64) -> String {
    format!("{:.1} %", part * 100.0)
}

/// Rows under a head, the first column to the left, the others to the right.
pub(super) fn table(f: &mut fmt::Formatter<'_>, head: &[&str], rows: &[Vec<String>]) -> fmt::Result {
    let width = |i: usize| {
        let cells = rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.chars().count());
        cells.chain([head[i].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::from("  ");
        for (i, (cell, width)) in cells.zip(&widths).enumerate() {
            let cell = if i == 0 { format!("{cell:<width$}") } else { format!("  {cell:>width$}") };
            text.push_str(&cell);
        }
        writeln!(f, "{}", text.trim_end())
    };
    line(&mut head.iter().copied())?;
    rows.iter().try_for_each(|row| line(&mut row.iter().map(String::as_str)))
}

pub(super) const WAITS_HEAD: [&str; 7] = ["jobs", "never", "mean", "p50", "p95", "p99", "max"];

pub(super) fn waits(waits: &Waits) -> impl Iterator<Item = String> {
    let times = [waits.mean_s, waits.p50_s, waits.p95_s, waits.p99_s, waits.max_s];
    [count(waits.jobs), count(waits.never_started)].into_iter().chain(times.map(span))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { jobs, runs, .. } = self;
        writeln!(f, "{} jobs over {}, seed {}", count(jobs.arrived), span(runs.window_s), self.seed)?;
        writeln!(
            f,
            "  succeeded {}, failed {}, expired {}, turned away {}, still waiting {}, still open {}",
            count(jobs.succeeded),
            count(jobs.failed),
            count(jobs.expired),
            count(jobs.turned_away),
            count(jobs.waiting),
            count(jobs.open)
        )?;
        writeln!(
            f,
            "  {} placements in {} passes; {} decisions",
            count(runs.placements),
            count(runs.passes),
            count(runs.considered)
        )?;
        if let Some(wall) = &self.wall {
            writeln!(
                f,
                "  took {} ({} in the planner): {:.0} decisions/s, {:.0} jobs/s",
                span(wall.total_s),
                span(wall.planning_s),
                wall.decisions_per_s,
                wall.jobs_per_s
            )?;
        }
        clusters(self, f)?;
        let all = [("all".to_owned(), self.waits)];
        let rows = |lines: &mut dyn Iterator<Item = &(String, Waits)>| -> Vec<Vec<String>> {
            lines.map(|(name, w)| std::iter::once(name.clone()).chain(waits(w)).collect()).collect()
        };
        writeln!(f, "\nWaits by class")?;
        table(f, &[&["class"][..], &WAITS_HEAD].concat(), &rows(&mut self.classes.iter().chain(&all)))?;
        teams(self, f)?;
        totals(self, f)
    }
}

fn clusters(report: &Report, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "\nUtilisation")?;
    let mut rows = Vec::new();
    for c in &report.clusters {
        for r in &c.resources {
            let all = yard_domain::resources::show_quantity(&r.resource, r.whole);
            rows.push(vec![c.cluster.clone(), r.resource.clone(), all, percent(r.mean), percent(r.max)]);
        }
        if let Some(present) = c.present {
            let note = format!("{} there", c.plotted);
            rows.push(vec![c.cluster.clone(), note, String::new(), percent(present), String::new()]);
        }
    }
    table(f, &["cluster", "resource", "whole", "mean", "max"], &rows)
}

fn teams(report: &Report, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "\nWaits and shares by team")?;
    let rows: Vec<Vec<String>> = report
        .teams
        .iter()
        .map(|t| {
            let own = [t.team.clone(), t.weight.to_string()];
            let shares = [percent(t.share), percent(t.fair_share), count(t.preempted)];
            own.into_iter().chain(waits(&t.waits)).chain(shares).collect()
        })
        .collect();
    let head = [&["team", "weight"][..], &WAITS_HEAD, &["share", "fair", "preempted"]].concat();
    table(f, &head, &rows)
}

fn totals(report: &Report, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Report { preemptions: p, retries: r, .. } = report;
    writeln!(
        f,
        "\nShare error: mean {}, max {}",
        percent(report.share_error.mean),
        percent(report.share_error.max)
    )?;
    writeln!(f, "Starvation age: max {}", span(report.starvation.max_s))?;
    writeln!(
        f,
        "Preemptions: {} to reclaim, {} for a higher class; {} carried out, {} of run lost",
        count(p.reclaim),
        count(p.higher_class),
        count(p.carried_out),
        span(p.lost_run_s)
    )?;
    writeln!(f, "Retries: {} own, {} infra, {} preempted", count(r.own), count(r.infra), count(r.preempted))?;
    for (at, what) in &report.over_time.incidents {
        writeln!(f, "Incident after {}: {what}", span(*at))?;
    }
    for note in &report.notes {
        writeln!(f, "Note: {note}")?;
    }
    match report.audit.violations {
        0 => writeln!(f, "Rules: all kept (every job ended once or waits; never over quota or capacity)"),
        n => {
            writeln!(f, "RULES BROKEN: {n}")?;
            report.audit.first.iter().try_for_each(|what| writeln!(f, "  {what}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_counts_are_short() {
        let spans = [0.0, 4.25, 45.0, 600.0, 10_000.0, 400_000.0].map(span);
        assert_eq!(spans, ["0 s", "4.2 s", "45 s", "10.0 min", "2.8 h", "4.6 d"]);
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }
}
