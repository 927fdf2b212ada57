//! One pass of the planner over 100,000 queued jobs of 1,000 teams in nested cohorts, and 100 clusters.
//!
//! A *decision* is one queued job that the pass has dealt with: placed, refused, or skipped with its group, because the
//! group's first job was refused (all its jobs ask for the same). Jobs that a pass does not come to, because it has reached
//! the most placements of one pass, are none. The floor is what cannot be saved: to look once at every job's place in the
//! queue and add up what it asks for.

pub mod explain;
mod made_up;

use std::collections::HashMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use yard_domain::{Request, Timestamp};
use yard_planner::{Hold, Plan, Planner, Policy, Snapshot};

use crate::report::{Detail, Finding, Target};
use crate::stats::{median, millis};
use crate::{Result, plan::made_up::Size};

/// Runs the benchmark; it needs no database.
pub fn run(bench: &crate::Plan) -> Result<Vec<Finding>> {
    let size = |shapes, percent| Size {
        jobs: bench.pick(100_000, 1_000),
        clusters: bench.pick(100, 10),
        teams: bench.pick(1_000, 50),
        shapes,
        percent,
    };
    let jobs = bench.pick(100_000, 1_000);
    let alike = Case::new("300 shapes, half full", size(300, 50))?;
    let unlike = Case::new("all shapes unlike, half full", size(jobs, 50))?;
    let full = Case::new("300 shapes, full", size(300, 100))?;
    let all = Policy { placements_max: 100_000, ..Policy::default() };
    let usual = Policy { placements_max: 1_000, ..Policy::default() };
    let stopping = Policy { classes: made_up::classes()?, ..all.clone() };
    let rounds = bench.rounds.max(3);
    let mut findings = vec![
        alike.pass(&all, rounds, Some(Target::AtMost(100.0))),
        unlike.pass(&all, rounds, Some(Target::AtMost(1_000.0))),
        full.pass(&all, rounds, Some(Target::AtMost(100.0))),
        full.pass(&stopping, rounds, None),
        alike.pass(&usual, rounds, None),
    ];
    let each = alike.decisions(&all, rounds);
    findings.push(each.target(Target::AtLeast(200_000.0)));
    findings.extend(alike.again(&all, rounds).map(|finding| finding.target(Target::AtMost(5.0))));
    Ok(findings)
}

struct Case {
    what: &'static str,
    snapshot: Snapshot,
}

impl Case {
    fn new(what: &'static str, size: Size) -> Result<Self> {
        Ok(Self { what, snapshot: Snapshot::new(made_up::parts(size)?) })
    }

    fn label(&self, policy: &Policy) -> String {
        let stopping = if policy.classes.len() > 1 { ", with preemption" } else { "" };
        format!("one pass, {}, at most {} placements{stopping}", self.what, policy.placements_max)
    }

    fn pass(&self, policy: &Policy, rounds: usize, target: Option<Target>) -> Finding {
        let mut times = Vec::new();
        let mut made = Plan::default();
        for _ in 0..rounds {
            let (took, plan) = timed(|| yard_planner::plan(&self.snapshot, policy, now(), 7));
            times.push((millis(took), millis(timed(|| look(&self.snapshot)).0)));
            made = plan;
        }
        let refused = made.refusals.iter().filter(|r| r.hold != Hold::PassFull).count();
        let least = times.iter().map(|t| t.0).fold(f64::INFINITY, f64::min);
        let details = vec![
            Detail::new("the shortest round", least, "ms"),
            Detail::new("placed", made.placements.len() as f64, "jobs"),
            Detail::new("refused", refused as f64, "groups"),
            Detail::new("room kept for heads", made.reservations.len() as f64, "jobs"),
            Detail::new("asked to make room", made.preemptions.len() as f64, "jobs"),
        ];
        let note = format!(
            "{} groups of {} teams, {} clusters, {} open attempts; floor: to look at every queued job once",
            self.snapshot.groups.len(),
            self.snapshot.teams.len(),
            self.snapshot.clusters.len(),
            self.snapshot.running.len()
        );
        let finding = Finding::beside("plan", self.label(policy), "ms", times).details(details).note(note);
        match target {
            Some(target) => finding.target(target),
            None => finding,
        }
    }

    fn decisions(&self, policy: &Policy, rounds: usize) -> Finding {
        let rates = (0..rounds).map(|_| {
            let (took, plan) = timed(|| yard_planner::plan(&self.snapshot, policy, now(), 7));
            dealt_with(&self.snapshot, &plan) as f64 / took.as_secs_f64()
        });
        Finding::alone("plan", "decisions in the first of these", median(&rates.collect::<Vec<_>>()), "/s")
    }

    /// The same once more: on the very same snapshot, and on one put together anew from equal parts.
    fn again(&self, policy: &Policy, rounds: usize) -> [Finding; 2] {
        let mut planner = Planner::default();
        planner.plan(&self.snapshot, policy, now(), 7);
        let (mut same, mut equal) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            same.push(millis(timed(|| planner.plan(&self.snapshot, policy, now(), 7)).0));
            let copy = Snapshot::new(self.snapshot.clone().into_parts());
            equal.push(millis(timed(|| planner.plan(&copy, policy, now(), 7)).0));
        }
        [
            Finding::alone("plan", "a pass when nothing changed", median(&same), "ms"),
            Finding::alone("plan", "the same, loaded anew from equal parts", median(&equal), "ms"),
        ]
    }
}

fn now() -> Timestamp {
    Timestamp::from_micros(made_up::NOW)
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let began = Instant::now();
    let done = black_box(work());
    (began.elapsed(), done)
}

/// The floor.
fn look(snapshot: &Snapshot) -> (i64, Request) {
    let mut sum = Request::default();
    let mut last = 0;
    for group in &snapshot.groups {
        for order in &group.orders {
            last = last.max(order.0);
            sum.add(&group.request);
        }
    }
    (last, sum)
}

fn dealt_with(snapshot: &Snapshot, plan: &Plan) -> usize {
    let mut left: HashMap<_, usize> =
        snapshot.groups.iter().map(|g| ((g.team.as_str(), g.shape), g.orders.len())).collect();
    for placed in &plan.placements {
        if let Some(left) = left.get_mut(&(placed.team.as_str(), placed.shape)) {
            *left = left.saturating_sub(1);
        }
    }
    let refused = plan.refusals.iter().filter(|r| r.hold != Hold::PassFull);
    let skipped = refused.filter_map(|r| left.get(&(r.team.as_str(), r.shape))).sum::<usize>();
    plan.placements.len() + skipped
}
