//! What a run has shown: as types, as JSON ([`Report::json`]), as text (`Display`), as a page ([`Report::html`]).

mod compare;
mod html;
mod plot;
mod text;

use std::time::Duration;

use serde::Serialize;

pub use compare::{Change, Comparison};

/// What a run has shown. Times are in seconds; see [`crate::record`] for what exactly is measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What became of the jobs.
    pub jobs: Jobs,
    /// How long the run was, and how much was decided.
    pub runs: Runs,
    /// The clusters, by id.
    pub clusters: Vec<ClusterLine>,
    /// All waits.
    pub waits: Waits,
    /// The teams, by id.
    pub teams: Vec<TeamLine>,
    /// Waits by class, highest first.
    pub classes: Vec<(String, Waits)>,
    /// How far shares were from fair ones.
    pub share_error: Error,
    /// How long the longest waiting head waited.
    pub starvation: Age,
    /// Jobs stopped for others.
    pub preemptions: Preemptions,
    /// Attempts that were made again.
    pub retries: Retries,
    /// Broken rules.
    pub audit: Audited,
    /// What is plotted.
    pub over_time: Over,
    /// What a reader must know.
    pub notes: Vec<String>,
    /// How long it took, as measured by the caller. Everything else in a report follows from its arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall: Option<Wall>,
}

/// What became of the jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Jobs {
    /// Arrived.
    pub arrived: u64,
    /// Turned away at the door: larger than every cluster that they may run on, or than the quota.
    pub turned_away: u64,
    /// Ended well.
    pub succeeded: u64,
    /// Ended badly.
    pub failed: u64,
    /// Waited too long.
    pub expired: u64,
    /// Still waiting when nothing was to happen any more.
    pub waiting: u64,
    /// Still having an open attempt then.
    pub open: u64,
}

impl Jobs {
    pub(crate) fn count(&mut self, arrived: u64, turned_away: u64, ends: (u64, u64, u64)) {
        self.arrived += arrived;
        self.turned_away += turned_away;
        self.succeeded += ends.0;
        self.failed += ends.1;
        self.expired += ends.2;
    }
}

/// How long the run was, and how much was decided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Runs {
    /// The time that averages and plots cover: until nothing more arrives and nothing waits.
    pub window_s: f64,
    /// Until the last end.
    pub whole_s: f64,
    /// Placement passes.
    pub passes: u64,
    /// Jobs (or groups of the same, refused together) that the planner looked at.
    pub considered: u64,
    /// Attempts placed.
    pub placements: u64,
}

/// A cluster and how it was used.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClusterLine {
    /// Its id.
    pub cluster: String,
    /// Whether an autoscaler grows it.
    pub elastic: bool,
    /// Every resource that it has.
    pub resources: Vec<ResourceUse>,
    /// Of an elastic cluster: which part of its ceiling was there, on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub present: Option<f64>,
    /// The resource whose use is plotted.
    pub plotted: String,
    /// Its use over time: the mean of each bucket, as a part of the whole.
    pub over_time: Vec<f64>,
}

/// The use of a resource.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ResourceUse {
    /// Its name.
    pub resource: String,
    /// All of it, in base units.
    pub whole: u64,
    /// In use, on average over time, as a part of the whole.
    pub mean: f64,
    /// In use at most.
    pub max: f64,
}

/// Waits from acceptance to the first placement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Waits {
    /// Jobs accepted.
    pub jobs: u64,
    /// Of these, never placed.
    pub never_started: u64,
    /// Of those placed: the mean.
    pub mean_s: f64,
    /// The median.
    pub p50_s: f64,
    /// 95 % waited no longer.
    pub p95_s: f64,
    /// 99 % waited no longer.
    pub p99_s: f64,
    /// The longest.
    pub max_s: f64,
}

/// A team and what it got.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TeamLine {
    /// Its id.
    pub team: String,
    /// Its weight.
    pub weight: u32,
    /// Its waits.
    pub waits: Waits,
    /// Its dominant share, on average.
    pub share: f64,
    /// What that would have been by weight.
    pub fair_share: f64,
    /// Its attempts stopped for others.
    pub preempted: u64,
    /// How long these had run.
    pub lost_run_s: f64,
}

/// How far shares were from fair ones: the part of what is in use that is in the wrong hands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Error {
    /// On average.
    pub mean: f64,
    /// At most.
    pub max: f64,
}

/// How long the longest waiting head waited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Age {
    /// At most.
    pub max_s: f64,
}

/// Jobs stopped for others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Preemptions {
    /// Asked to stop because another team wanted its nominal share back.
    pub reclaim: u64,
    /// Asked to stop for a higher class of the same team.
    pub higher_class: u64,
    /// Stopped (the others ended before their grace was over).
    pub carried_out: u64,
    /// How long those had run.
    pub lost_run_s: f64,
}

/// Attempts that were made again, by who pays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Retries {
    /// The job's own retries.
    pub own: u64,
    /// The installation's.
    pub infra: u64,
    /// Nobody: preempted.
    pub preempted: u64,
}

/// Broken rules.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Audited {
    /// How many; a run with any has failed.
    pub violations: u64,
    /// The first of them.
    pub first: Vec<String>,
}

/// Values over time, by buckets from the first arrival on.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Over {
    /// The width of a bucket.
    pub bucket_s: f64,
    /// Means of the share error.
    pub share_error: Vec<f64>,
    /// Maxima of the starvation age.
    pub starvation_s: Vec<f64>,
    /// Means of the jobs waiting.
    pub waiting: Vec<f64>,
    /// Means of the open attempts.
    pub open: Vec<f64>,
    /// What happened to clusters: (when, what).
    pub incidents: Vec<(f64, String)>,
}

/// How long a run took on a real clock.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Wall {
    /// The whole run.
    pub total_s: f64,
    /// Of that, in the planner.
    pub planning_s: f64,
    /// [`Runs::considered`] per second in the planner.
    pub decisions_per_s: f64,
    /// Jobs per second of the whole run.
    pub jobs_per_s: f64,
}

impl Report {
    /// Whether every rule was kept.
    pub fn is_sound(&self) -> bool {
        self.audit.violations == 0
    }

    /// With what the caller's clock has shown.
    #[must_use]
    pub fn timed(mut self, total: Duration, planning: Duration) -> Self {
        let per = |count: u64, span: Duration| count as f64 / span.as_secs_f64().max(1e-9);
        self.wall = Some(Wall {
            total_s: total.as_secs_f64(),
            planning_s: planning.as_secs_f64(),
            decisions_per_s: per(self.runs.considered, planning),
            jobs_per_s: per(self.jobs.arrived, total),
        });
        self
    }

    /// As JSON.
    pub fn json(&self) -> serde_json::Value {
        // Plain numbers, texts and lists: nothing in it can fail to be JSON.
        serde_json::to_value(self).unwrap_or_default()
    }
}
