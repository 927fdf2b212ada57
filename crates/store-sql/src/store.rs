//! The port, verb by verb, handed to the transactions that do the work.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use yard_domain::catalog::CatalogVersion;
use yard_domain::event::ReleaseReason;
use yard_domain::ledger::Drift;
use yard_domain::{
    Account, Arrival, Catalog, Cluster, ClusterId, ClusterReport, ClusterSwitch, HistoryLine, InstanceId,
    JobId, Lease, LeaseScope, Receipt, RetryRules, SubmissionKey, Team, TeamId, Timestamp, Verdict,
};
use yard_ports::packages::{KeptPackage, PackageRow};
use yard_ports::store::{
    ActiveAttempt, ApplyAnswer, AttemptRef, CatalogDocument, ClaimRequest, ClaimedJob, EndOrder, EndedRun,
    EventPage, ForecastBucket, ForecastError, JobFilter, JobPage, JobView, LaunchBatch, OpenHolding,
    PastArrival, PlacementInput, PlacementOrder, PlacementReport, PreemptOrder, QueuePlace, QueueStats,
    QueueView, Recorded, StopAnswer, StopCause, Store, StoreError, StoreLimits, SweepReport, TimeCursor,
    WaitNote,
};

use crate::backend::Backend;
use crate::groups::Seen;
use crate::in_force::Remembered;
use crate::load::Shapes;
use crate::tx::{RetryOptions, Runner, Work};
use crate::{
    apply, audit, catalog, claim, clusters, doors, ends, events, forecasts, holdings, intake, launch, leases,
    list, load, packages, past, place, placement, shown, sweep, views,
};

/// How the store behaves, whatever the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreOptions {
    /// The clocks that the store sets.
    pub limits: StoreLimits,
    /// How transactions are redone.
    pub retry: RetryOptions,
}

impl From<StoreLimits> for StoreOptions {
    fn from(limits: StoreLimits) -> Self {
        Self { limits, retry: RetryOptions::default() }
    }
}

/// The store on some database.
pub struct SqlStore {
    runner: Runner,
    limits: StoreLimits,
    shapes: Shapes,
    seen: Seen,
    remembered: Remembered,
    /// This process's row of a door.
    slot: u8,
}

impl SqlStore {
    /// The store on `backend`, whose schema must have been checked.
    pub fn new(backend: Arc<dyn Backend>, options: StoreOptions) -> Self {
        let runner = Runner { backend, retry: options.retry };
        Self {
            runner,
            limits: options.limits,
            shapes: Shapes::default(),
            seen: Seen::default(),
            remembered: Remembered::default(),
            slot: uuid::Uuid::new_v4().as_bytes()[0] % doors::SLOTS,
        }
    }

    /// Writes the rows that every installation has, unless they are there. Adapters call it after migrating.
    pub async fn seed(&self) -> Result<(), StoreError> {
        self.run(catalog::Seed).await
    }

    pub(crate) async fn run<W: Work>(&self, work: W) -> Result<W::Out, StoreError> {
        self.runner.run(&work).await
    }
}

#[async_trait]
impl Store for SqlStore {
    async fn now(&self) -> Result<Timestamp, StoreError> {
        self.run(catalog::Now).await
    }

    async fn instance(&self) -> Result<InstanceId, StoreError> {
        self.run(catalog::Instance).await
    }

    async fn apply_catalog(
        &self,
        catalog: &Catalog,
        document: CatalogDocument<'_>,
    ) -> Result<ApplyAnswer, StoreError> {
        self.run(apply::ApplyCatalog { catalog, document }).await
    }

    async fn catalog(&self) -> Result<Catalog, StoreError> {
        self.run(catalog::CatalogInForce).await
    }

    async fn catalog_version(&self) -> Result<u64, StoreError> {
        self.run(catalog::Version).await
    }

    async fn catalog_versions(
        &self,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<CatalogVersion>, StoreError> {
        self.run(catalog::Versions { before, limit }).await
    }

    async fn accept(&self, arrivals: &[Arrival]) -> Result<Vec<Verdict>, StoreError> {
        self.run(intake::Accept::new(arrivals, self.slot)).await
    }

    async fn receipt(&self, key: &SubmissionKey) -> Result<Option<Receipt>, StoreError> {
        self.run(intake::FindReceipt { key }).await
    }

    async fn acquire_lease(
        &self,
        scope: &LeaseScope,
        holder: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>, StoreError> {
        self.run(leases::Acquire { scope, holder, ttl }).await
    }

    async fn renew_leases(&self, leases: &[Lease], ttl: Duration) -> Result<Vec<Option<Lease>>, StoreError> {
        self.run(leases::Renew { leases, ttl }).await
    }

    async fn release_lease(&self, lease: &Lease) -> Result<(), StoreError> {
        self.run(leases::Release { lease }).await
    }

    async fn leases(&self) -> Result<Vec<Lease>, StoreError> {
        self.run(leases::Leases).await
    }

    async fn load_placement_input(&self, view: QueueView) -> Result<PlacementInput, StoreError> {
        let Self { shapes, seen, remembered, .. } = self;
        self.run(load::LoadInput { view, shapes, seen, remembered }).await
    }

    async fn open_holdings(&self, limit: u32) -> Result<Vec<OpenHolding>, StoreError> {
        self.run(holdings::OpenHoldings { limit }).await
    }

    async fn ended_runs(&self, after: TimeCursor, limit: u32) -> Result<Vec<EndedRun>, StoreError> {
        self.run(past::EndedRuns { after, limit }).await
    }

    async fn request_preemptions(&self, lease: &Lease, orders: &[PreemptOrder]) -> Result<u32, StoreError> {
        self.run(holdings::RequestPreemptions { lease, orders }).await
    }

    async fn claim(&self, lease: &Lease, requests: &[ClaimRequest]) -> Result<Vec<ClaimedJob>, StoreError> {
        self.run(claim::Claim { lease, requests }).await
    }

    async fn commit_placements(
        &self,
        lease: &Lease,
        orders: &[PlacementOrder],
    ) -> Result<PlacementReport, StoreError> {
        let Self { limits, ref remembered, .. } = *self;
        self.run(placement::CommitPlacements { lease, orders, limits, remembered }).await
    }

    async fn release_claims(
        &self,
        lease: &Lease,
        jobs: &[JobId],
        reason: ReleaseReason,
    ) -> Result<u32, StoreError> {
        self.run(claim::ReleaseClaims { lease, jobs, reason }).await
    }

    async fn note_waits(&self, lease: &Lease, notes: &[WaitNote]) -> Result<(), StoreError> {
        self.run(claim::NoteWaits { lease, notes }).await
    }

    async fn add_forecast_errors(&self, lease: &Lease, errors: &[ForecastError]) -> Result<(), StoreError> {
        self.run(forecasts::AddErrors { lease, errors }).await
    }

    async fn sweep_clocks(
        &self,
        lease: &Lease,
        rules: &RetryRules,
        limit: u32,
    ) -> Result<SweepReport, StoreError> {
        let mut report = SweepReport::default();
        let mut left = limit;
        report.woken = self.run(sweep::Wake { lease, limit: left }).await?;
        left = left.saturating_sub(report.woken);
        report.expired = self.run(sweep::Expire { lease, limit: left }).await?;
        left = left.saturating_sub(report.expired);
        report.reclaimed = self.run(sweep::Reclaim { lease, limit: left }).await?;
        left = left.saturating_sub(report.reclaimed);
        let unplace = sweep::Unplace { lease, rules, limit: left, limits: self.limits };
        report.unplaced = self.run(unplace).await?;
        Ok(report)
    }

    async fn begin_launches(&self, lease: &Lease, max: u32) -> Result<LaunchBatch, StoreError> {
        self.run(launch::BeginLaunches { lease, max, limits: self.limits }).await
    }

    async fn active_attempts(
        &self,
        cluster: &ClusterId,
        after: Option<JobId>,
        limit: u32,
    ) -> Result<Vec<ActiveAttempt>, StoreError> {
        self.run(launch::ActiveAttempts { cluster, after, limit }).await
    }

    async fn stop_wishes(&self, cluster: &ClusterId) -> Result<Vec<(AttemptRef, StopCause)>, StoreError> {
        self.run(launch::StopWishes { cluster }).await
    }

    async fn record_started(
        &self,
        lease: &Lease,
        attempts: &[AttemptRef],
    ) -> Result<Vec<Recorded>, StoreError> {
        self.run(launch::RecordStarted { lease, attempts }).await
    }

    async fn record_ends(
        &self,
        lease: &Lease,
        rules: &RetryRules,
        ends: &[EndOrder],
    ) -> Result<Vec<Recorded>, StoreError> {
        self.run(ends::RecordEnds { lease, rules, ends }).await
    }

    async fn report_cluster(&self, lease: &Lease, report: &ClusterReport) -> Result<(), StoreError> {
        self.run(clusters::ReportCluster { lease, report }).await
    }

    async fn are_current(
        &self,
        cluster: &ClusterId,
        attempts: &[AttemptRef],
    ) -> Result<Vec<bool>, StoreError> {
        self.run(launch::AreCurrent { cluster, attempts }).await
    }

    async fn job(&self, id: JobId) -> Result<Option<JobView>, StoreError> {
        self.run(views::FindJob { id }).await
    }

    async fn queue_place(&self, id: JobId) -> Result<Option<QueuePlace>, StoreError> {
        self.run(place::FindPlace { id }).await
    }

    async fn jobs(&self, filter: &JobFilter) -> Result<JobPage, StoreError> {
        self.run(list::ListJobs { filter }).await
    }

    async fn history(&self, id: JobId, after_seq: u32, limit: u32) -> Result<Vec<HistoryLine>, StoreError> {
        self.run(views::FindHistory { id, after_seq, limit }).await
    }

    async fn newest_arrivals(&self) -> Result<BTreeMap<String, Timestamp>, StoreError> {
        self.run(doors::NewestArrivals).await
    }

    async fn number_events(&self, limit: u32) -> Result<Option<u64>, StoreError> {
        // Nearly always there is nothing, which a read tells.
        if !self.run(events::AnyWithoutPosition).await? {
            return Ok(Some(0));
        }
        self.run(events::GivePositions { limit }).await
    }

    async fn event_head(&self) -> Result<u64, StoreError> {
        self.run(events::Head).await
    }

    async fn events(&self, after: u64, limit: u32) -> Result<EventPage, StoreError> {
        self.run(events::Events { after, limit }).await
    }

    async fn trim_events(&self, keep: Duration, limit: u32) -> Result<u32, StoreError> {
        self.run(events::Trim { keep, limit }).await
    }

    async fn request_stop(&self, id: JobId, by: &str, reason: &str) -> Result<StopAnswer, StoreError> {
        self.run(views::RequestStop { id, by, reason }).await
    }

    async fn switch_cluster(
        &self,
        id: &ClusterId,
        switch: ClusterSwitch,
        by: &str,
    ) -> Result<bool, StoreError> {
        self.run(clusters::SwitchCluster { id, switch, by }).await
    }

    async fn clusters(&self) -> Result<Vec<Cluster>, StoreError> {
        self.run(catalog::Clusters).await
    }

    async fn teams(&self) -> Result<Vec<Team>, StoreError> {
        self.run(catalog::Teams).await
    }

    async fn accounts(&self) -> Result<Vec<Account>, StoreError> {
        self.run(catalog::Accounts).await
    }

    async fn arrivals(
        &self,
        after: TimeCursor,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<PastArrival>, StoreError> {
        self.run(past::Arrivals { after, until, limit }).await
    }

    async fn forecast_errors(&self) -> Result<Vec<ForecastBucket>, StoreError> {
        self.run(forecasts::Errors).await
    }

    async fn stats(&self) -> Result<QueueStats, StoreError> {
        self.run(views::Stats).await
    }

    async fn shown_jobs_of_key(&self, key: &str, teams: &[TeamId]) -> Result<Vec<JobId>, StoreError> {
        self.run(shown::JobsOfKey { key, teams }).await
    }

    async fn shown_jobs(&self, teams: Option<&[TeamId]>, limit: u32) -> Result<Vec<JobView>, StoreError> {
        self.run(shown::ShownJobs { teams, limit }).await
    }

    async fn hide_job(&self, id: JobId) -> Result<(), StoreError> {
        self.run(shown::Hide { id }).await
    }

    async fn keep_package(&self, package: &PackageRow, keep: Duration) -> Result<KeptPackage, StoreError> {
        self.run(packages::Keep { package, keep }).await
    }

    async fn use_package(&self, uri: &str, keep: Duration) -> Result<Option<PackageRow>, StoreError> {
        self.run(packages::Use { uri, keep }).await
    }

    async fn expire_packages(&self, limit: u32) -> Result<Vec<String>, StoreError> {
        self.run(packages::Expire { limit }).await
    }

    async fn named_objects(&self, objects: &[String]) -> Result<Vec<String>, StoreError> {
        self.run(packages::NamedObjects { objects }).await
    }

    async fn audit(&self) -> Result<Vec<Drift>, StoreError> {
        self.run(audit::Audit).await
    }

    async fn purge(&self, keep: Duration, limit: u32) -> Result<u32, StoreError> {
        self.run(audit::Purge { keep, limit }).await
    }
}
