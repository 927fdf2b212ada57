//! Why a job or a team waits: a sentence first, then what would change it, then the details.

use std::fmt::Write;

use yard_domain::Timestamp;
use yard_wire::views::{
    AheadView, ChangeView, ClusterAnswerView, ExpectedStartView, ExplanationView, TeamExplanationView,
    parse_time,
};

use super::{clean, span, table};

/// Why a job is where it is.
pub fn explanation(view: &ExplanationView) -> String {
    let now = parse_time(&view.now);
    let mut out = match view.state.as_str() {
        "queued" => format!("It waits: {} ({}).\n", clean(&view.message), view.code),
        _ => format!("It does not wait: {}.\n", clean(&view.message)),
    };
    if let Some(position) = &view.position {
        let (all, same) = (position.ahead, position.ahead_same_shape);
        _ = match all {
            0 => writeln!(out, "It is the first of team {}.", view.team),
            _ => writeln!(out, "{all} of team {} go first, {same} of them asking for the same.", view.team),
        };
    }
    if let Some(start) = &view.expected_start {
        out += &expected(start, now);
    }
    if let Some(kept) = &view.reservation {
        let by = when(&kept.start_by, now);
        _ = writeln!(
            out,
            "Room is kept for the first of its shape on {}, by {by} at the latest.",
            kept.cluster
        );
    }
    for leaving in &view.making_room {
        let (job, team, cluster) = (&leaving.job, &leaving.team, &leaving.cluster);
        _ = writeln!(out, "Job {job} of team {team} on {cluster} makes room ({}).", leaving.cause);
    }
    if view.code != "starts_now" && view.state == "queued" {
        out += &changes("It would start in the next pass", &view.changes, now);
        out += cut_short(view.search.as_ref().is_some_and(|s| s.cut_short));
    }
    out += &clusters(&view.clusters);
    out += &ahead(&view.ahead);
    out.trim_end().to_owned()
}

/// What holds a team's jobs.
pub fn team_explanation(view: &TeamExplanationView) -> String {
    let now = parse_time(&view.now);
    let mut out = format!("Team {}: {}.\n", view.team, clean(&view.message));
    _ = writeln!(
        out,
        "Its dominant share for its weight is {:.1}%; the next pass places {} of its jobs.",
        view.share * 100.0,
        view.starting
    );
    out += &changes("More of it would start in the next pass", &view.changes, now);
    out += cut_short(view.search.cut_short);
    if !view.holds.is_empty() {
        let mut t = table(&["JOBS", "SHAPES", "HELD BY", "OLDEST", "WHY"]);
        for hold in &view.holds {
            t.add_row([
                hold.jobs.to_string(),
                hold.shapes.to_string(),
                hold.code.clone(),
                super::age(&hold.first, now),
                clean(&hold.message),
            ]);
        }
        _ = write!(out, "\n{}\n", t.trim_fmt());
    }
    for hold in view.holds.iter().filter(|hold| !hold.clusters.is_empty()) {
        out += &clusters(&hold.clusters);
    }
    out += &ahead(&view.ahead);
    out.trim_end().to_owned()
}

fn expected(start: &ExpectedStartView, now: Option<Timestamp>) -> String {
    let mut out = match (&start.at, &start.after, &start.cluster) {
        (Some(at), Some(after), Some(cluster)) if at == after => {
            format!("It is expected to start at {} on {cluster}.", when(at, now))
        }
        (Some(at), Some(after), Some(cluster)) => {
            format!(
                "It is expected to start between {} and {} on {cluster}.",
                when(after, now),
                when(at, now)
            )
        }
        _ => format!("No start is forecast: {}.", clean(&start.message)),
    };
    if let Some(error) = &start.past_error {
        _ = write!(out, " ({})", clean(&error.message));
    }
    out + "\n"
}

fn changes(head: &str, list: &[ChangeView], now: Option<Timestamp>) -> String {
    if list.is_empty() {
        return "\nNo single change was found that would let it start now.\n".to_owned();
    }
    let mut out = format!("\n{head}\n");
    for change in list {
        let mut notes = Vec::new();
        notes.extend(change.jobs_more.map(|n| format!("{n} more")));
        notes.extend(change.expected.as_ref().map(|at| format!("expected at {}", when(at, now))));
        notes.extend(change.placed_on.as_ref().map(|cluster| format!("on {cluster}")));
        let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
        _ = writeln!(out, "  - {}{notes}", clean(&change.message));
    }
    out
}

fn cut_short(yes: bool) -> &'static str {
    if yes {
        "Not everything was tried, because the search reached its bound: other changes may do as well.\n"
    } else {
        ""
    }
}

fn clusters(list: &[ClusterAnswerView]) -> String {
    if list.is_empty() {
        return String::new();
    }
    let mut t = table(&["CLUSTER", "SAYS", "WHY"]);
    for answer in list {
        t.add_row([answer.cluster.clone(), answer.code.clone(), clean(&answer.message)]);
    }
    format!("\n{}\n", t.trim_fmt())
}

fn ahead(list: &[AheadView]) -> String {
    if list.is_empty() {
        return String::new();
    }
    let lines: Vec<String> = list.iter().map(|a| format!("  - {}", clean(&a.message))).collect();
    format!("\nWho goes first\n{}\n", lines.join("\n"))
}

/// `14:05:00 UTC (in 12m)`, with the day if it is another one.
fn when(text: &str, now: Option<Timestamp>) -> String {
    let (Some(at), Some(now)) = (parse_time(text), now) else { return clean(text) };
    let (day, time) = (text.get(..10).unwrap_or_default(), text.get(11..19).unwrap_or_default());
    let today = now.to_string().get(..10) == Some(day);
    let distance =
        if at < now { format!("{} ago", span(now.since(at))) } else { format!("in {}", span(at.since(now))) };
    if today { format!("{time} UTC ({distance})") } else { format!("{day} {time} UTC ({distance})") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_says_the_sentence_first() {
        let now = "2026-11-22T12:00:00.000000Z";
        let later = "2026-11-22T12:12:00.000000Z";
        let view: ExplanationView = serde_json::from_value(json!({
            "now": now, "job": "01900000-0000-7000-8000-000000000001", "team": "ads", "state": "queued", "since": now,
            "code": "team_quota", "message": "quota is used up (team ads, gpu: asks 2, 0 free)", "summary": "",
            "position": {"ahead": 3, "ahead_same_shape": 1},
            "changes": [
                {"code": "job_ends", "message": "when job 7 of team ads on east ends", "expected": later, "placed_on": "east"},
                {"code": "more_quota", "message": "with +2 gpu of quota for team ads", "placed_on": "west"},
            ],
            "clusters": [
                {"cluster": "east", "code": "full", "message": "no room now (gpu: asks 2, 0 free)"},
                {"cluster": "west", "code": "room", "message": "has room for it"},
            ],
            "ahead": [{"team": "ads", "jobs": 3, "code": "older", "message": "3 jobs of the same team have waited longer"}],
            "expected_start": {"code": "forecast", "message": "", "at": later, "after": later, "cluster": "east",
                "past_error": {"starts": 120, "message": "expected starts about so far ahead were within 4 min half of the time"}},
            "reservation": {"cluster": "east", "start_by": "2026-11-23T02:00:00.000000Z", "expected": later},
            "making_room": [{"job": "9", "team": "ml\u{1b}", "cluster": "east", "cause": "reclaim"}],
            "search": {"plans": 64, "cut_short": true},
        }))
        .unwrap();
        let running: ExplanationView = serde_json::from_value(json!({
            "now": now, "job": "1", "team": "ads", "state": "running", "since": now, "code": "running",
            "message": "it runs on east since …", "summary": "",
        }))
        .unwrap();
        let team: TeamExplanationView = serde_json::from_value(json!({
            "now": now, "team": "ads", "queued": 7, "starting": 1, "share": 0.25,
            "message": "7 wait, 4 of them because quota is used up",
            "holds": [{"code": "team_quota", "message": "quota is used up", "jobs": 4, "shapes": 2,
                "first": "2026-11-22T11:00:00.000000Z"}],
            "changes": [{"code": "more_quota", "message": "with +8 gpu of quota for team ads", "jobs_more": 4}],
            "ahead": [], "search": {"plans": 9, "cut_short": false},
        }))
        .unwrap();
        let all = [explanation(&view), explanation(&running), team_explanation(&team)];
        insta::assert_snapshot!(all.join("\n\n---\n\n"));
    }
}
