//! Shows a plan to a person.

use std::fmt::Write;

use yard_domain::{Shape, TeamId, Timestamp};
use yard_planner::Plan;

use super::read::{NOW, Scenario};

/// One line for each decision, in the plan's order.
pub fn plan(scenario: &Scenario, plan: &Plan) -> String {
    let job = |team: &TeamId, shape: Shape| format!("{team}/{}", scenario.queued[&(team.clone(), shape)]);
    let mut lines = Vec::new();
    let mut placements = plan.placements.iter().peekable();
    while let Some(first) = placements.next() {
        let mut count = 1;
        while placements.next_if(|next| *next == first).is_some() {
            count += 1;
        }
        let times = if count > 1 { format!(" ({count} times)") } else { String::new() };
        lines.push(format!("place {} on {}{times}", job(&first.team, first.shape), first.cluster));
    }
    for p in &plan.preemptions {
        let whose = job(&p.for_team, p.for_shape);
        let victim = &scenario.running[&p.victim];
        lines.push(format!("stop {}/{victim} on {} for {whose} ({})", p.team, p.cluster, p.cause.code()));
    }
    for r in &plan.reservations {
        let (by, expected) = (span(r.start_by), span(r.expected));
        lines.push(format!(
            "reserve {} for {} by {by}, probably {expected}",
            r.cluster,
            job(&r.team, r.shape)
        ));
    }
    for r in &plan.refusals {
        lines.push(format!("refuse {}: {} [{}]", job(&r.team, r.shape), r.hold, r.hold.code()));
        for (cluster, refusal) in &r.clusters {
            lines.push(format!("  {cluster}: {refusal} [{}]", refusal.code()));
        }
    }
    lines.iter().fold(String::new(), |mut text, line| {
        writeln!(text, "{line}").unwrap();
        text
    })
}

/// From now: `now`, `+90s`, `+30m`, `+2h`.
fn span(at: Timestamp) -> String {
    let seconds = at.since(NOW).as_secs();
    match seconds {
        0 => "now".to_owned(),
        s if s % 3_600 == 0 => format!("+{}h", s / 3_600),
        s if s % 60 == 0 => format!("+{}m", s / 60),
        s => format!("+{s}s"),
    }
}
