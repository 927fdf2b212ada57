//! The report as one page that needs nothing from anywhere.

use std::fmt::Write;

use super::compare::{CHANGE_HEAD, cells};
use super::plot::{COLOURS, Line, Range, Unit, escape, legend, lines, ranges};
use super::text::{WAITS_HEAD, count, percent, span, waits};
use super::{Change, Comparison, Report};

const STYLE: &str = include_str!("page.css");

impl Report {
    /// As a page.
    pub fn html(&self) -> String {
        let title = format!("{} jobs, seed {}", count(self.jobs.arrived), self.seed);
        page(&title, &format!("{}<div class=\"grid-1\">{}</div>{}", tiles(self), plots(self), tables(self)))
    }
}

impl Comparison {
    /// As a page: what changes first, then both runs beside each other.
    pub fn html(&self) -> String {
        let (all, classes, teams) = self.changes();
        let title =
            format!("{} jobs: {} → {}", count(self.before.jobs.arrived), self.before_name, self.after_name);
        let head = ["", &self.before_name, &self.after_name];
        let figures = self.figures().into_iter().map(|row| (row.to_vec(), None)).collect::<Vec<_>>();
        let mut body = section("The runs as wholes", &table(&head, &figures));
        for (what, changes) in [("team", &teams), ("class", &classes)] {
            let rows: Vec<_> = changes.iter().chain([&all]).map(change_row).collect();
            body +=
                &section(&format!("Waits by {what}"), &table(&[&[what][..], &CHANGE_HEAD].concat(), &rows));
        }
        body += "<div class=\"grid-2\">";
        for (name, report) in [(&self.before_name, &self.before), (&self.after_name, &self.after)] {
            _ = write!(
                body,
                "<div><h2>{}</h2>{}{}{}</div>",
                escape(name),
                tiles(report),
                plots(report),
                tables(report)
            );
        }
        page(&title, &(body + "</div>"))
    }
}

/// A row, coloured by whether its p95 has become better or worse by more than a twentieth.
fn change_row(change: &Change) -> (Vec<String>, Option<&'static str>) {
    let tone = match (&change.before, &change.after) {
        (Some(before), Some(after)) if after.p95_s < before.p95_s * 0.95 - 1.0 => Some("better"),
        (Some(before), Some(after)) if after.p95_s > before.p95_s * 1.05 + 1.0 => Some("worse"),
        _ => None,
    };
    (std::iter::once(change.name.clone()).chain(cells(change)).collect(), tone)
}

fn page(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>yard simulate: {title}</title><style>{STYLE}</style></head>\
         <body><main><header><small>yard simulate</small><h1>{title}</h1></header>{body}</main></body></html>\n"
    )
}

fn section(title: &str, content: &str) -> String {
    format!("<section><h2>{}</h2>{content}</section>", escape(title))
}

fn figure(title: &str, explanation: &str, content: &str) -> String {
    format!(
        "<figure><h3>{}</h3><figcaption>{}</figcaption>{content}</figure>",
        escape(title),
        escape(explanation)
    )
}

fn tiles(report: &Report) -> String {
    let Report { jobs, runs, .. } = report;
    let verdict = match report.audit.violations {
        0 => ("good", "all kept".to_owned()),
        n => ("bad", format!("{} broken", count(n))),
    };
    let mut tiles = vec![
        ("", "time covered", span(runs.window_s)),
        ("", "succeeded", count(jobs.succeeded)),
        ("", "failed or expired", count(jobs.failed + jobs.expired)),
        ("", "wait, p50 / p95", format!("{} / {}", span(report.waits.p50_s), span(report.waits.p95_s))),
        ("", "share error, mean", percent(report.share_error.mean)),
        ("", "starvation age, max", span(report.starvation.max_s)),
        ("", "preempted", count(report.preemptions.carried_out)),
        (verdict.0, "rules", verdict.1),
    ];
    if let Some(wall) = &report.wall {
        tiles.push(("", "decisions/s", count(crate::number::whole(wall.decisions_per_s))));
        tiles.push(("", "took", span(wall.total_s)));
    }
    let tile = |(class, name, value): (&str, &str, String)| {
        format!("<div class=\"tile {class}\"><b>{}</b><small>{}</small></div>", escape(&value), escape(name))
    };
    format!("<div class=\"tiles\">{}</div>", tiles.into_iter().map(tile).collect::<String>())
}

fn plots(report: &Report) -> String {
    let over = &report.over_time;
    let draw = |l: &[Line<'_>], unit, top| lines(l, over.bucket_s, unit, top, &over.incidents);
    let each = format!("Each point is {} long.", span(over.bucket_s));
    let names: Vec<String> =
        report.clusters.iter().take(COLOURS).map(|c| format!("{} ({})", c.cluster, c.plotted)).collect();
    let used: Vec<Line<'_>> =
        report.clusters.iter().zip(&names).map(|(c, name)| Line { name, values: &c.over_time }).collect();
    let others = report.clusters.len().saturating_sub(COLOURS);
    let more = if others > 0 { format!(" {others} more clusters are in the table.") } else { String::new() };
    let legend_of = |l: &[Line<'_>]| legend(&l.iter().map(|l| l.name).collect::<Vec<_>>());
    let mut html = figure(
        "Utilisation by cluster",
        &format!("What is charged, of what the cluster has (an elastic one: of its ceiling).{more} {each}"),
        &(legend_of(&used) + &draw(&used, Unit::Percent, Some(1.0))),
    );
    let jobs = [
        Line { name: "waiting", values: &over.waiting },
        Line { name: "placed, launching or running", values: &over.open },
    ];
    html += &figure("Jobs", &each, &(legend_of(&jobs) + &draw(&jobs, Unit::Count, None)));
    html += &figure(
        "Share error",
        "The part of what is in use that would belong to other teams by weight, among teams with demand.",
        &draw(&[Line { name: "share error", values: &over.share_error }], Unit::Percent, None),
    );
    html += &figure(
        "Starvation age",
        "How long the longest waiting head of a team has waited.",
        &draw(&[Line { name: "oldest head", values: &over.starvation_s }], Unit::Seconds, None),
    );
    let range = |name, w: &super::Waits| Range { name, points: [w.p50_s, w.p95_s, w.p99_s, w.max_s] };
    let teams: Vec<Range<'_>> = report.teams.iter().map(|t| range(t.team.as_str(), &t.waits)).collect();
    let classes: Vec<Range<'_>> = report.classes.iter().map(|(name, w)| range(name.as_str(), w)).collect();
    let key = "<p class=\"legend\"><span><i class=\"k50\"></i>p50</span><span><i class=\"k95\"></i>p95</span>\
               <span><i class=\"k99\"></i>p99</span><span><i class=\"kmax\"></i>longest</span></p>";
    html += &figure(
        "Waits by team",
        "Acceptance to first placement, logarithmic.",
        &(key.to_owned() + &ranges(&teams)),
    );
    html + &figure(
        "Waits by class",
        "Acceptance to first placement, logarithmic.",
        &(key.to_owned() + &ranges(&classes)),
    )
}

fn tables(report: &Report) -> String {
    let plain = |rows: Vec<Vec<String>>| rows.into_iter().map(|row| (row, None)).collect::<Vec<_>>();
    let teams = report.teams.iter().map(|t| {
        let own = [t.team.clone(), t.weight.to_string()];
        let rest = [percent(t.share), percent(t.fair_share), count(t.preempted), span(t.lost_run_s)];
        own.into_iter().chain(waits(&t.waits)).chain(rest).collect()
    });
    let head =
        [&["team", "weight"][..], &WAITS_HEAD, &["share", "fair share", "preempted", "run lost"]].concat();
    let mut html = section("Teams", &table(&head, &plain(teams.collect())));
    let all = ("all".to_owned(), report.waits);
    let classes = report.classes.iter().chain([&all]);
    let classes = classes.map(|(name, w)| std::iter::once(name.clone()).chain(waits(w)).collect());
    html += &section("Classes", &table(&[&["class"][..], &WAITS_HEAD].concat(), &plain(classes.collect())));
    let clusters = report.clusters.iter().flat_map(|c| {
        c.resources.iter().map(|r| {
            let whole = yard_domain::resources::show_quantity(&r.resource, r.whole);
            vec![c.cluster.clone(), r.resource.clone(), whole, percent(r.mean), percent(r.max)]
        })
    });
    let head = ["cluster", "resource", "whole", "mean use", "most used"];
    html += &section("Clusters", &table(&head, &plain(clusters.collect())));
    let Report { preemptions: p, retries: r, jobs, runs, .. } = report;
    let counts = [
        ("arrived", count(jobs.arrived)),
        ("turned away at the door", count(jobs.turned_away)),
        ("succeeded", count(jobs.succeeded)),
        ("failed", count(jobs.failed)),
        ("expired", count(jobs.expired)),
        ("still waiting", count(jobs.waiting)),
        (
            "retries: own, infra, preempted",
            format!("{}, {}, {}", count(r.own), count(r.infra), count(r.preempted)),
        ),
        ("asked to stop: reclaim, higher class", format!("{}, {}", count(p.reclaim), count(p.higher_class))),
        ("stopped for others, run lost", format!("{}, {}", count(p.carried_out), span(p.lost_run_s))),
        (
            "passes, decisions, placements",
            [runs.passes, runs.considered, runs.placements].map(count).join(", "),
        ),
    ];
    let counts = counts.map(|(name, value)| vec![name.to_owned(), value]).to_vec();
    html += &section("Counts", &table(&["", ""], &plain(counts)));
    let incidents =
        report.over_time.incidents.iter().map(|(at, what)| format!("after {}: {what}", span(*at)));
    let words: Vec<String> =
        report.audit.first.iter().cloned().chain(report.notes.iter().cloned()).chain(incidents).collect();
    if !words.is_empty() {
        let items = words.iter().map(|w| ["<li>", &escape(w), "</li>"].concat()).collect::<String>();
        html += &section("Notes", &format!("<ul>{items}</ul>"));
    }
    html
}

/// A table; each row may have a class.
fn table(head: &[&str], rows: &[(Vec<String>, Option<&'static str>)]) -> String {
    let mut html = String::from("<div class=\"scroll\"><table><thead><tr>");
    for cell in head {
        _ = write!(html, "<th>{}</th>", escape(cell));
    }
    html += "</tr></thead><tbody>";
    for (row, class) in rows {
        _ = write!(html, "<tr class=\"{}\">", class.unwrap_or_default());
        for cell in row {
            _ = write!(html, "<td>{}</td>", escape(cell));
        }
        html += "</tr>";
    }
    html + "</tbody></table></div>"
}
