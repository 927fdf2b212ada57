//! The store: the one truth. Each verb is one transaction (or one read); no handle leaves, no network call
//! happens inside. Verbs that write on behalf of a scheduler or dispatcher take its [`Lease`], check it
//! inside the same transaction, and answer [`StoreError::LeaseLost`] without having written anything if it
//! is not valid any more. Every transition writes its line of history in the same transaction.

mod dispatcher;
mod installation;
mod scheduler;
mod shown;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;
use yard_domain::catalog::CatalogVersion;
use yard_domain::event::ReleaseReason;
use yard_domain::ledger::Drift;
use yard_domain::{
    Account, Arrival, Catalog, Cluster, ClusterId, ClusterReport, ClusterSwitch, HistoryLine, InstanceId,
    JobId, Lease, LeaseScope, LeaseToken, Receipt, RetryRules, SubmissionKey, Team, TeamId, Timestamp,
    Verdict,
};

use crate::packages::{KeptPackage, PackageRow};

pub use dispatcher::{ActiveAttempt, AttemptRef, EndOrder, LaunchBatch, LaunchOrder, Recorded};
pub use installation::{ApplyAnswer, CatalogDocument};
pub use scheduler::{
    ClaimRequest, ClaimedJob, EndedRun, ForecastBucket, ForecastError, OpenHolding, PastArrival,
    PlacementInput, PlacementOrder, PlacementReport, PreemptOrder, QueueHead, QueueView, StopCause,
    TimeCursor, WaitNote,
};
pub use shown::{
    AttemptView, EventPage, JobEvent, JobFilter, JobPage, JobRow, JobView, QueuePlace, QueueStats, StopAnswer,
};

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
    /// the order of all events. Answers how many lines; 0 if all that is committed has one, and `None` if another process is
    /// at it, so that nothing is known of what it leaves. Positions appear in their order: whoever sees one sees, from
    /// then on, every smaller one that there will ever be.
    async fn number_events(&self, limit: u32) -> Result<Option<u64>, StoreError>;
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
