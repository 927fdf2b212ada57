//! What schedulers read and write: queues, claims, placements, preemptions, what a forecast is made from.

use std::collections::BTreeMap;
use std::time::Duration;

use yard_domain::job::{Priority, QueueOrder};
use yard_domain::{
    Account, Cluster, ClusterId, ClusterSelector, Cohort, JobId, Policy, Request, Shape, Team, TeamId,
    Timestamp,
};

use super::AttemptRef;

/// A group of queued jobs that the planner treats alike: one team, one shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueHead {
    /// Who is charged.
    pub team: TeamId,
    /// Request and selector as a grouping key.
    pub shape: Shape,
    /// What each asks for.
    pub request: Request,
    /// Where they may run.
    pub clusters: ClusterSelector,
    /// Longest run of each.
    pub run_timeout: Duration,
    /// The places in the queue of the first few, in order (at most `QueueView::depth` of them): enough to interleave
    /// shapes by priority and age.
    pub orders: Vec<QueueOrder>,
}

/// Bounds on what one look at the queue loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueView {
    /// Most (team, shape) groups.
    pub groups: u32,
    /// Most places read of each group.
    pub depth: u32,
}

/// What a placement pass decides on. Read in this order, each read seeing at least what the one before saw:
/// queue heads, then clusters, then accounts. Accounts last: a charge committed meanwhile makes the plan
/// more careful, never less, and the commit checks again under locks.
#[derive(Debug, Clone, PartialEq)]
pub struct PlacementInput {
    /// The database's time of reading.
    pub now: Timestamp,
    /// What waits and may be placed now (backoffs over, not claimed).
    pub heads: Vec<QueueHead>,
    /// Every cluster, with jobs or without.
    pub clusters: Vec<Cluster>,
    /// Every team.
    pub teams: Vec<Team>,
    /// Every cohort.
    pub cohorts: Vec<Cohort>,
    /// How placement decides.
    pub policy: Policy,
    /// What is in use.
    pub accounts: Vec<Account>,
}

/// An open attempt, as placement must know it: what it holds, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenHolding {
    /// Which.
    pub attempt: AttemptRef,
    /// Whose.
    pub team: TeamId,
    /// Its grouping key.
    pub shape: Shape,
    /// Where.
    pub cluster: ClusterId,
    /// What it is charged.
    pub request: Request,
    /// The job's place in the queue, with its priority.
    pub order: QueueOrder,
    /// When it was placed.
    pub placed_at: Timestamp,
    /// Since when it runs.
    pub started_at: Option<Timestamp>,
    /// Longest run.
    pub run_timeout: Duration,
    /// Whether it has been asked to stop, by a person or to make room.
    pub leaving: bool,
}

/// An attempt to be stopped to make room for another job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreemptOrder {
    /// Which.
    pub attempt: AttemptRef,
    /// For whose job.
    pub for_team: TeamId,
    /// Why this one, for people.
    pub reason: String,
}

/// Why an attempt is to be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopCause {
    /// Somebody wants the job stopped: it ends.
    Requested,
    /// To make room: the job goes back to the queue.
    Preempted,
}

/// A run that ended, for estimates of how long such jobs take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedRun {
    /// Which job.
    pub job: JobId,
    /// Whose.
    pub team: TeamId,
    /// Its grouping key.
    pub shape: Shape,
    /// Whether it succeeded.
    pub succeeded: bool,
    /// When the job ended: the cursor of the next page, with `job`.
    pub ended_at: Timestamp,
    /// How long its last attempt ran.
    pub ran: Duration,
}

/// A job that arrived in the past, for replaying what really came under another policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastArrival {
    /// Which job: the cursor of the next page, with `at`.
    pub job: JobId,
    /// Whose.
    pub team: TeamId,
    /// When it was accepted.
    pub at: Timestamp,
    /// Its priority.
    pub priority: Priority,
    /// What it asked for.
    pub request: Request,
    /// Where it might run.
    pub clusters: ClusterSelector,
    /// Longest run.
    pub run_timeout: Duration,
    /// Longest wait.
    pub queue_timeout: Duration,
    /// How long its last attempt ran; `None` if it never ran to an end.
    pub ran: Option<Duration>,
    /// How long it waited for its first attempt; `None` if there was none.
    pub waited: Option<Duration>,
}

/// Where to go on reading in an order by time, then job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeCursor {
    /// The time of the last one read.
    pub at: Timestamp,
    /// The last one read.
    pub job: JobId,
}

/// A wish to claim up to `max` jobs of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRequest {
    /// Whose jobs.
    pub team: TeamId,
    /// Which shape.
    pub shape: Shape,
    /// At most this many: never more than there are free slots.
    pub max: u32,
}

/// A claimed job, as far as placing it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedJob {
    /// Which.
    pub id: JobId,
    /// Whose.
    pub team: TeamId,
    /// Its grouping key.
    pub shape: Shape,
}

/// One claimed job to be put on one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacementOrder {
    /// Which job.
    pub job: JobId,
    /// Whose.
    pub team: TeamId,
    /// Where.
    pub cluster: ClusterId,
}

/// What became of a batch of placements.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlacementReport {
    /// Placed and charged.
    pub placed: Vec<(JobId, ClusterId)>,
    /// No room left when it came to it (or the cluster takes no jobs now): back in the queue.
    pub dropped: Vec<JobId>,
    /// Ended because somebody wants them stopped.
    pub stopped: Vec<JobId>,
    /// Not ours any more (claim lost): untouched, and counted as stale writes.
    pub stale: Vec<JobId>,
}

/// Why the jobs of one group wait, as the last pass found: shown with each of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitNote {
    /// Whose jobs.
    pub team: TeamId,
    /// Which shape.
    pub shape: Shape,
    /// A stable code: the rule that holds them.
    pub code: String,
    /// For people.
    pub message: String,
    /// A sentence per cluster.
    pub clusters: BTreeMap<ClusterId, String>,
    /// When the first of them will probably start, if room is kept for it.
    pub expected_start: Option<Timestamp>,
}

/// How far off an expected start turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForecastError {
    /// How far ahead of the start it was expected.
    pub horizon: Duration,
    /// How much later than expected the job started, in microseconds; negative if it was earlier.
    pub late_us: i64,
}

/// How many starts that were expected about so far ahead came about so late. Counts fade: those of the last thousand or
/// so starts of a horizon are what counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForecastBucket {
    /// Expected at least so far ahead,
    pub horizon_from: Duration,
    /// but not as far as this; `None`: however far.
    pub horizon_to: Option<Duration>,
    /// At least so late, in microseconds (negative: early); `None`: however early.
    pub late_from_us: Option<i64>,
    /// At most so late; `None`: however late.
    pub late_to_us: Option<i64>,
    /// How many starts.
    pub starts: u64,
}
