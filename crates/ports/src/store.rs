//! The store: the one truth. Each verb is one transaction (or one read); no handle leaves, no network call
//! happens inside. Verbs that write on behalf of a scheduler or dispatcher take its [`Lease`], check it
//! inside the same transaction, and answer [`StoreError::LeaseLost`] without having written anything if it
//! is not valid any more. Every transition writes its line of history in the same transaction.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;
use yard_domain::catalog::{CatalogSource, CatalogVersion};
use yard_domain::event::ReleaseReason;
use yard_domain::job::{Priority, QueueOrder};
use yard_domain::ledger::Drift;
use yard_domain::lifecycle::AttemptEnd;
use yard_domain::{
    Account, Arrival, AttemptNumber, Catalog, Cluster, ClusterId, ClusterReport, ClusterSelector,
    ClusterSwitch, Cohort, HistoryLine, InstanceId, JobId, Lease, LeaseScope, LeaseToken, Lifecycle, Outcome,
    Policy, Receipt, Request, RetryRules, Shape, StateName, SubmissionKey, Team, TeamId, Timestamp, Verdict,
};

use crate::packages::{KeptPackage, PackageRow};

/// Why a store call failed, by what may be done about it.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The database can't be reached, or gave up (deadlocks beyond the retries): nothing was committed, or
    /// (connection cut during commit) it is not known; every verb may be called again as it is.
    #[error("the database can't be used now: {0}")]
    Unavailable(String),
    /// The lease is not valid any more: nothing was written.
    #[error("the lease {scope} (token {token}) is not valid any more")]
    LeaseLost {
        /// What it covered.
        scope: String,
        /// Its fencing number.
        token: LeaseToken,
    },
    /// A row does not fit the model: names table and row.
    #[error("table {table}, row {row}: {problem}")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// The row's key.
        row: String,
        /// What does not fit.
        problem: String,
    },
    /// The schema is not the one this binary was made for.
    #[error("{0}")]
    Schema(String),
    /// A bug or a misconfiguration: the database refuses the statement itself.
    #[error("the database refuses a statement ({context}): {reason}")]
    Rejected {
        /// The verb.
        context: &'static str,
        /// What the database said.
        reason: String,
    },
}

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

/// What became of a catalog to be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyAnswer {
    /// It is in force, as this version.
    Applied(u64),
    /// Its document is that of the version in force: there is no new version.
    Unchanged(u64),
    /// Another version is in force than the one the writer knew: nothing was written.
    Conflict(u64),
}

/// A document to be applied, and by whom.
#[derive(Debug, Clone, Copy)]
pub struct CatalogDocument<'a> {
    /// The document as written.
    pub text: &'a str,
    /// Who.
    pub by: &'a str,
    /// How.
    pub source: CatalogSource,
    /// The version that the writer knew to be in force: another one is a conflict. `None`: whatever is in force.
    pub expected: Option<u64>,
}

impl<'a> CatalogDocument<'a> {
    /// A process's configuration as it starts.
    pub fn configuration(text: &'a str, by: &'a str) -> Self {
        Self { text, by, source: CatalogSource::Configuration, expected: None }
    }
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

/// A job whose launch has been begun and committed: now the cluster may be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchOrder {
    /// The moving part, in state `Launching`.
    pub job: Lifecycle,
    /// The attempt.
    pub attempt: AttemptNumber,
    /// The canonical document as stored.
    pub document: String,
}

/// What became of a batch of launches to be begun.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LaunchBatch {
    /// To be launched now.
    pub orders: Vec<LaunchOrder>,
    /// Ended instead, because somebody wants them stopped.
    pub stopped: Vec<JobId>,
    /// Back in the queue instead, because they are to make room.
    pub preempted: Vec<JobId>,
}

/// An attempt on a cluster, as its dispatcher must know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveAttempt {
    /// Which job.
    pub job: JobId,
    /// Which attempt.
    pub attempt: AttemptNumber,
    /// Whose.
    pub team: TeamId,
    /// `Placed`, `Launching` or `Running`.
    pub state: StateName,
    /// The clock of that state.
    pub deadline: Timestamp,
    /// Whether it is to be stopped, and why.
    pub stopping: Option<StopCause>,
}

/// Which job and attempt, and whose: what a dispatcher names when it reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AttemptRef {
    /// Which job.
    pub job: JobId,
    /// Which attempt.
    pub attempt: AttemptNumber,
}

/// An attempt that ended, to be recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct EndOrder {
    /// Which.
    pub attempt: AttemptRef,
    /// How.
    pub end: AttemptEnd,
    /// In `0.0..=1.0`: spreads the wait before a retry.
    pub jitter: f64,
}

/// What became of reported starts or ends, in the order of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// Running (for starts).
    Started {
        /// When its run timeout ends.
        deadline: Timestamp,
    },
    /// The attempt ended and its job waits for another.
    Requeued {
        /// Not before.
        not_before: Timestamp,
    },
    /// The job ended.
    Ended(Outcome),
    /// It had been recorded before, or is about an attempt that isn't current: nothing was written.
    Stale,
}

/// What a stop request met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopAnswer {
    /// It was queued and has ended.
    Stopped,
    /// The wish is recorded; its scheduler or dispatcher will carry it out.
    Requested,
    /// It had already ended.
    AlreadyEnded(StateName),
    /// There is no such job.
    NoSuchJob,
}

/// What one sweep of the clocks did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Backoffs over: may be placed now.
    pub woken: u32,
    /// Queue timeouts: ended as expired.
    pub expired: u32,
    /// Claims whose lease has ended: back in the queue.
    pub reclaimed: u32,
    /// Placed, but not launched in time: back in the queue.
    pub unplaced: u32,
}

impl SweepReport {
    /// Whether there was nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A job as shown to people and programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobView {
    /// The moving part.
    pub lifecycle: Lifecycle,
    /// The producer's key.
    pub key: String,
    /// The canonical document as stored.
    pub document: String,
    /// Request and selector as a grouping key.
    pub shape: Shape,
    /// Its place in its team's queue.
    pub order: QueueOrder,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it entered its state.
    pub since: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Its attempts, first to last.
    pub attempts: Vec<AttemptView>,
    /// Why it waits, if it is queued and a pass has looked at it.
    pub waiting: Option<WaitNote>,
    /// The database's time when this was read.
    pub read_at: Timestamp,
}

/// An attempt as shown to people and programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptView {
    /// Which launch.
    pub number: AttemptNumber,
    /// Where.
    pub cluster: ClusterId,
    /// When it was placed.
    pub placed_at: Timestamp,
    /// When its launch was begun.
    pub launched_at: Option<Timestamp>,
    /// When it was seen running.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How: `succeeded`, `stopped`, or a failure class's code.
    pub end: Option<String>,
    /// What the cluster said, for people.
    pub message: Option<String>,
    /// The entrypoint's exit code.
    pub exit_code: Option<i32>,
}

/// Which jobs to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFilter {
    /// Of this team.
    pub team: Option<TeamId>,
    /// Of one of these teams, too: those that whoever asks may see. `None`: of any.
    pub among: Option<Vec<TeamId>>,
    /// In one of these states; empty is any.
    pub states: Vec<StateName>,
    /// With an open attempt on this cluster.
    pub cluster: Option<ClusterId>,
    /// Accepted at this time or later.
    pub accepted_from: Option<Timestamp>,
    /// Accepted before this time.
    pub accepted_before: Option<Timestamp>,
    /// Whose key begins like this.
    pub key_prefix: Option<String>,
    /// Of this name.
    pub name: Option<String>,
    /// With all of these in their metadata. A name must not hold quotes, backslashes or control characters.
    pub metadata: Vec<(String, String)>,
    /// That ask for a cluster with all of these labels. Names as with metadata.
    pub labels: Vec<(String, String)>,
    /// Older than this job: the cursor of the page before.
    pub before: Option<JobId>,
    /// At most this many.
    pub limit: u32,
    /// Look at no more than about this many jobs; what has not been looked at is for the next page. With a cluster, all
    /// its open attempts are looked at.
    pub scan_max: u32,
}

impl Default for JobFilter {
    fn default() -> Self {
        Self {
            team: None,
            among: None,
            states: Vec::new(),
            cluster: None,
            accepted_from: None,
            accepted_before: None,
            key_prefix: None,
            name: None,
            metadata: Vec::new(),
            labels: Vec::new(),
            before: None,
            limit: 0,
            scan_max: 20_000,
        }
    }
}

/// Jobs of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobPage {
    /// The jobs, newest first; may be fewer than asked for, or none, though there are more.
    pub jobs: Vec<JobRow>,
    /// The cursor of the next page, if there may be more.
    pub next: Option<JobId>,
}

/// A job in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRow {
    /// The moving part.
    pub lifecycle: Lifecycle,
    /// The producer's key.
    pub key: String,
    /// For people.
    pub name: String,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it entered its state.
    pub since: Timestamp,
}

/// A line of history in the order of all events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEvent {
    /// Its place in that order, from 1. Lines of one job are in the order of its history.
    pub pos: u64,
    /// Whose job.
    pub team: TeamId,
    /// The line.
    pub line: HistoryLine,
    /// The job's key.
    pub key: String,
    /// The job's metadata.
    pub metadata: BTreeMap<String, String>,
}

/// Some events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPage {
    /// In order. Those of jobs that were deleted since are left out.
    pub events: Vec<JobEvent>,
    /// All up to this one are in it: go on after it. What was asked for if there is nothing new.
    pub upto: u64,
    /// Whether events after the one asked for have been deleted.
    pub missed: bool,
}

/// A queued job's place in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuePlace {
    /// What placing it depends on; the only one of `orders` is its own.
    pub head: QueueHead,
    /// How many jobs of its team go before it, of those that may be placed now (backoffs over, not claimed).
    pub ahead_of_team: u64,
    /// How many of those are of its own shape.
    pub ahead_of_group: u64,
}

/// Counts for metrics and overviews.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Open (not ended) jobs by team and state.
    pub open: BTreeMap<(TeamId, StateName), u64>,
}

/// The defaults and limits that the store puts on jobs it accepts or moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreLimits {
    /// Longest from placement to the beginning of the launch.
    pub place_deadline: Duration,
    /// Longest from the beginning of the launch to being seen running.
    pub launch_deadline: Duration,
}

/// The store's verbs.
#[async_trait]
pub trait Store: crate::access::AccessStore + crate::push::PushStore {
    // --- the installation ---

    /// The database's time. Also tells whether it answers.
    async fn now(&self) -> Result<Timestamp, StoreError>;
    /// This installation's id, made with the schema.
    async fn instance(&self) -> Result<InstanceId, StoreError>;
    /// Puts a catalog in force and keeps its document as a new version, in one transaction. What was taken out stays, as
    /// not configured, while it has open attempts or jobs. An operator's switch, health and observed capacity are
    /// kept. A catalog from a process's configuration never replaces one that somebody applied: that is a conflict.
    async fn apply_catalog(
        &self,
        catalog: &Catalog,
        document: CatalogDocument<'_>,
    ) -> Result<ApplyAnswer, StoreError>;
    /// What is in force: what was declared, with what operators and dispatchers said of the clusters since. What was
    /// taken out is not part of it, even while it has open attempts (see [`Store::clusters`]).
    async fn catalog(&self) -> Result<Catalog, StoreError>;
    /// The number of the version in force; 0 if there is none yet. Cheap: asked often.
    async fn catalog_version(&self) -> Result<u64, StoreError>;
    /// Versions, newest first, those before `before`.
    async fn catalog_versions(
        &self,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<CatalogVersion>, StoreError>;

    // --- intake ---

    /// Commits the verdicts on a batch, in one transaction: receipts, jobs, first lines of history. The
    /// verdicts come back in the order of the arrivals. Idempotent by (team, key).
    async fn accept(&self, arrivals: &[Arrival]) -> Result<Vec<Verdict>, StoreError>;
    /// The kept record of a submission.
    async fn receipt(&self, key: &SubmissionKey) -> Result<Option<Receipt>, StoreError>;

    // --- leases ---

    /// Grants the lease of `scope` to `holder` if nobody else's is valid. A holder that asks again while its
    /// own is valid gets a fresh token. `None` if another holds it.
    async fn acquire_lease(
        &self,
        scope: &LeaseScope,
        holder: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>, StoreError>;
    /// Renews all of these (one holder's) with one statement; answers for each the lease with its new end,
    /// or `None` if it is lost. A lease that has ended is lost even if nobody took it since.
    async fn renew_leases(&self, leases: &[Lease], ttl: Duration) -> Result<Vec<Option<Lease>>, StoreError>;
    /// Gives a lease back, so that the next holder need not wait. Of a lost lease: nothing happens.
    async fn release_lease(&self, lease: &Lease) -> Result<(), StoreError>;
    /// Every lease that is valid now.
    async fn leases(&self) -> Result<Vec<Lease>, StoreError>;

    // --- scheduler ---

    /// What a pass decides on.
    async fn load_placement_input(&self, view: QueueView) -> Result<PlacementInput, StoreError>;
    /// Up to `limit` open attempts, those that were placed last first.
    async fn open_holdings(&self, limit: u32) -> Result<Vec<OpenHolding>, StoreError>;
    /// Up to `limit` runs of jobs that ended after the cursor, in the order of their ends.
    async fn ended_runs(&self, after: TimeCursor, limit: u32) -> Result<Vec<EndedRun>, StoreError>;
    /// Asks open attempts to make room, each with its line of history; those that are not open any more, or have been
    /// asked to stop already, are left as they are. Answers how many were asked.
    async fn request_preemptions(&self, lease: &Lease, orders: &[PreemptOrder]) -> Result<u32, StoreError>;
    /// Claims jobs of these groups, first in the queue first, skipping those in other hands.
    async fn claim(&self, lease: &Lease, requests: &[ClaimRequest]) -> Result<Vec<ClaimedJob>, StoreError>;
    /// Commits placements of claimed jobs, each with its charge on cluster and team, as far as there is room
    /// (checked under locks taken in one order) and the cluster takes jobs; the others go back to the queue.
    async fn commit_placements(
        &self,
        lease: &Lease,
        orders: &[PlacementOrder],
    ) -> Result<PlacementReport, StoreError>;
    /// Gives claimed jobs back.
    async fn release_claims(
        &self,
        lease: &Lease,
        jobs: &[JobId],
        reason: ReleaseReason,
    ) -> Result<u32, StoreError>;
    /// Keeps, for people, why groups wait. Replaces the notes of these groups.
    async fn note_waits(&self, lease: &Lease, notes: &[WaitNote]) -> Result<(), StoreError>;
    /// Counts how far off expected starts were.
    async fn add_forecast_errors(&self, lease: &Lease, errors: &[ForecastError]) -> Result<(), StoreError>;
    /// Moves up to `limit` jobs whose clocks have run out, or whose claim's lease has ended.
    async fn sweep_clocks(
        &self,
        lease: &Lease,
        rules: &RetryRules,
        limit: u32,
    ) -> Result<SweepReport, StoreError>;

    // --- dispatcher (the lease's scope is the cluster) ---

    /// Begins the launch of up to `max` of the cluster's placed jobs, longest placed first. Those that are to be stopped
    /// or to make room are not launched: their attempt ends here.
    async fn begin_launches(&self, lease: &Lease, max: u32) -> Result<LaunchBatch, StoreError>;
    /// A page of the cluster's open attempts in state `Launching` or `Running`, by job id: those after `after`.
    async fn active_attempts(
        &self,
        cluster: &ClusterId,
        after: Option<JobId>,
        limit: u32,
    ) -> Result<Vec<ActiveAttempt>, StoreError>;
    /// The cluster's open attempts that are to be stopped.
    async fn stop_wishes(&self, cluster: &ClusterId) -> Result<Vec<(AttemptRef, StopCause)>, StoreError>;
    /// Records attempts seen running.
    async fn record_started(
        &self,
        lease: &Lease,
        attempts: &[AttemptRef],
    ) -> Result<Vec<Recorded>, StoreError>;
    /// Records ends: job ended or requeued, attempt closed, both charges refunded, history, all in one.
    async fn record_ends(
        &self,
        lease: &Lease,
        rules: &RetryRules,
        ends: &[EndOrder],
    ) -> Result<Vec<Recorded>, StoreError>;
    /// Keeps what the dispatcher found of its cluster.
    async fn report_cluster(&self, lease: &Lease, report: &ClusterReport) -> Result<(), StoreError>;
    /// Whether each of these attempts is the current, open one of its job (on this cluster): what runs and
    /// is not is swept.
    async fn are_current(
        &self,
        cluster: &ClusterId,
        attempts: &[AttemptRef],
    ) -> Result<Vec<bool>, StoreError>;

    // --- people and programs ---

    /// One job, whole.
    async fn job(&self, id: JobId) -> Result<Option<JobView>, StoreError>;
    /// A job's place in its team's queue, exactly, in one consistent read; `None` if it is not queued.
    async fn queue_place(&self, id: JobId) -> Result<Option<QueuePlace>, StoreError>;
    /// Jobs by the order of their ids, newest first, which is nearly that of their acceptance (ids are made moments
    /// before; a job that was accepted more than a day after its id was made may be missed by `accepted_from`).
    async fn jobs(&self, filter: &JobFilter) -> Result<JobPage, StoreError>;
    /// A job's history from `after_seq` on, in order.
    async fn history(&self, id: JobId, after_seq: u32, limit: u32) -> Result<Vec<HistoryLine>, StoreError>;
    /// When the newest message of each door that has a verdict was sent, by the queue's clock. Doors that do not say when
    /// (`http`) are not in it.
    async fn newest_arrivals(&self) -> Result<BTreeMap<String, Timestamp>, StoreError>;
    /// Gives up to `limit` transactions' lines of history, of those that are committed and have none, their positions in
    /// the order of all events. Answers how many lines; 0 also if another process is at it. Positions appear in their
    /// order: whoever sees one sees, from then on, every smaller one that there will ever be.
    async fn number_events(&self, limit: u32) -> Result<u64, StoreError>;
    /// The last position that was given; 0 before the first.
    async fn event_head(&self) -> Result<u64, StoreError>;
    /// Up to `limit` events after a position.
    async fn events(&self, after: u64, limit: u32) -> Result<EventPage, StoreError>;
    /// Records a wish to stop; ends the job at once if it is queued.
    async fn request_stop(&self, id: JobId, by: &str, reason: &str) -> Result<StopAnswer, StoreError>;
    /// Opens or drains a cluster. `false` if there is no such cluster.
    async fn switch_cluster(
        &self,
        id: &ClusterId,
        switch: ClusterSwitch,
        by: &str,
    ) -> Result<bool, StoreError>;
    /// Every cluster.
    async fn clusters(&self) -> Result<Vec<Cluster>, StoreError>;
    /// Every configured team.
    async fn teams(&self) -> Result<Vec<Team>, StoreError>;
    /// Every account.
    async fn accounts(&self) -> Result<Vec<Account>, StoreError>;
    /// Up to `limit` jobs accepted from the cursor on and before `until`, in the order of their ids, which is nearly that
    /// of their acceptance (ids are made moments before). The first page's cursor is a time with the nil id; from then
    /// on it is the last job of the page before, and only the job counts.
    async fn arrivals(
        &self,
        after: TimeCursor,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<PastArrival>, StoreError>;
    /// How far off expected starts have been lately, by how far ahead they were expected.
    async fn forecast_errors(&self) -> Result<Vec<ForecastBucket>, StoreError>;
    /// Counts for metrics.
    async fn stats(&self) -> Result<QueueStats, StoreError>;

    // --- the Ray Jobs API ---

    /// Jobs under this key in any of these teams, as far as they are shown: not purged, not hidden.
    async fn shown_jobs_of_key(&self, key: &str, teams: &[TeamId]) -> Result<Vec<JobId>, StoreError>;
    /// The newest jobs that are shown, of these teams or (`None`) of all, whole.
    async fn shown_jobs(&self, teams: Option<&[TeamId]>, limit: u32) -> Result<Vec<JobView>, StoreError>;
    /// Shows a job no more. Nothing else changes.
    async fn hide_job(&self, id: JobId) -> Result<(), StoreError>;
    /// Keeps an uploaded package for at least `keep`. Where the same content is kept already, that counts and the new
    /// object is dropped; a package of the same URI is replaced.
    async fn keep_package(&self, package: &PackageRow, keep: Duration) -> Result<KeptPackage, StoreError>;
    /// A package, which is then kept for at least `keep` from now.
    async fn use_package(&self, uri: &str, keep: Duration) -> Result<Option<PackageRow>, StoreError>;
    /// Forgets up to `limit` packages whose time is over; answers the objects that nothing names any more.
    async fn expire_packages(&self, limit: u32) -> Result<Vec<String>, StoreError>;
    /// Which of these objects some package names.
    async fn named_objects(&self, objects: &[String]) -> Result<Vec<String>, StoreError>;

    // --- upkeep ---

    /// Recomputes every account from the open attempts, in one consistent read; empty is exact.
    async fn audit(&self) -> Result<Vec<Drift>, StoreError>;
    /// Forgets the positions of up to `limit` transactions' events that are older than `keep`. Histories stay.
    async fn trim_events(&self, keep: Duration, limit: u32) -> Result<u32, StoreError>;
    /// Deletes up to `limit` jobs that ended longer than `keep` ago, with attempts and history. Receipts stay: keys
    /// are unique for ever.
    async fn purge(&self, keep: Duration, limit: u32) -> Result<u32, StoreError>;
}
