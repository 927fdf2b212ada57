//! What one explanation of a waiting job costs, beside one pass of the planner over the same queue.

use std::time::Instant;

use yard_planner::{Bounds, Group, Hold, Plan, Policy, Snapshot, Target};

use super::made_up::{self, Size};
use super::{now, timed};
use crate::Result;
use crate::report::{self, Detail, Finding};
use crate::stats::millis;

/// Jobs of how many teams wait, and of how many unlike shapes, on clusters filled to so many hundredths.
const CASES: [(usize, usize, usize, u64); 4] =
    [(20_000, 200, 28, 50), (20_000, 200, 28, 100), (100_000, 200, 1_500, 50), (100_000, 200, 1_500, 100)];
/// What one may take, in milliseconds: a person waits for it.
const MOST_MS: f64 = 5_000.0;

/// Explains, for each way in which jobs are held, the last one held so.
pub fn run(bench: &crate::Plan) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (jobs, teams, shapes, percent) in CASES {
        let size = Size {
            jobs: bench.pick(jobs, 1_000),
            clusters: bench.pick(50, 10),
            teams: bench.pick(teams, 20),
            shapes,
            percent,
        };
        let snapshot = Snapshot::new(made_up::parts(size)?);
        let policy = Policy { placements_max: 1_000, ..Policy::default() };
        let plan = yard_planner::plan(&snapshot, &policy, now(), 7);
        for (code, target) in waiting(&snapshot, &plan) {
            findings.push(one(&snapshot, &policy, (code, &target), size, bench.rounds));
        }
    }
    Ok(findings)
}

/// One waiting job for each rule that holds some: the last of the last group.
fn waiting(snapshot: &Snapshot, plan: &Plan) -> Vec<(&'static str, Target)> {
    let mut found: Vec<(&'static str, Target)> = Vec::new();
    for refusal in plan.refusals.iter().rev() {
        let code = match refusal.hold {
            Hold::Quota(_) => "quota",
            Hold::NoCluster => "no cluster",
            Hold::QuotaReserved { .. } => "quota kept",
            Hold::Preempting { .. } => "preempting",
            Hold::PassFull => "a full pass",
        };
        let ours = |g: &&Group| g.team == refusal.team && g.shape == refusal.shape;
        let order = snapshot.groups.iter().find(ours).and_then(|g| g.orders.last()).copied();
        if let (Some(order), false) = (order, found.iter().any(|(known, _)| *known == code)) {
            let target = Target { team: refusal.team.clone(), shape: refusal.shape, order };
            found.push((code, target));
        }
    }
    found
}

fn one(
    snapshot: &Snapshot,
    policy: &Policy,
    (code, target): (&str, &Target),
    size: Size,
    rounds: usize,
) -> Finding {
    let mut times = Vec::new();
    let mut details = Vec::new();
    for _ in 0..rounds.min(3) {
        let (pass, _) = timed(|| yard_planner::plan(snapshot, policy, now(), 7));
        let (took, found) = timed(|| {
            let began = Instant::now();
            let elapsed = || began.elapsed();
            yard_planner::explain(snapshot, policy, now(), 7, target, Bounds::default(), &elapsed)
        });
        times.push((millis(took), millis(pass)));
        details = vec![
            Detail::new("plans for what would change it", f64::from(found.plans), "plans"),
            Detail::new("changes found", found.counterfactuals.len() as f64, "changes"),
            Detail::new("given up at a bound", f64::from(u8::from(found.cut_short)), "(1: yes)"),
        ];
    }
    let what = format!(
        "one explanation, {} jobs in {} groups, {} % full, held by {code}",
        size.jobs,
        snapshot.groups.len(),
        size.percent
    );
    let note = format!("{} teams, {} clusters, floor: one pass", size.teams, size.clusters);
    Finding::beside("explain", what, "ms", times)
        .details(details)
        .note(note)
        .target(report::Target::AtMost(MOST_MS))
}
