//! What the behaviours start from: a store with teams and clusters, and short ways to move jobs along.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use uuid::Uuid;
use yard_domain::event::Event;
use yard_domain::lifecycle::AttemptEnd;
use yard_domain::{
    AccountOwner, Arrival, Capacity, Catalog, Cluster, ClusterHealth, ClusterId, ClusterSelector,
    ClusterSwitch, HistoryLine, JobId, JobSpec, JobState, Lease, LeaseScope, Lifecycle, Limits, NewJob,
    Priority, Request, RetryPolicy, RetryRules, StateName, SubmissionKey, Team, Timeouts, Timestamp, Verdict,
};
use yard_ports::store::{
    ApplyAnswer, AttemptRef, CatalogDocument, ClaimRequest, ClaimedJob, EndOrder, JobFilter, JobView,
    PlacementOrder, PlacementReport, QueueView, Recorded, Store, StoreLimits,
};

use super::Database;

/// A lease that outlasts a test.
pub(super) const LONG: Duration = Duration::from_mins(5);
/// A lease, or a clock, that runs out during a test.
pub(super) const SHORT: Duration = Duration::from_millis(300);

/// A store with the teams `ads` and `ml` (at most 1,000 jobs each) and the clusters `east` and `west` (1,000 jobs
/// each), and what tests do to it.
pub struct World {
    /// The database under the store.
    pub database: Arc<dyn Database>,
    /// The store.
    pub store: Arc<dyn Store>,
    tampered: AtomicBool,
}

/// Clocks that no test runs into.
pub(super) fn calm() -> StoreLimits {
    StoreLimits { place_deadline: LONG, launch_deadline: LONG }
}

/// Retries without waits.
pub(super) fn rules() -> RetryRules {
    RetryRules { max_infra_retries: 2, backoff_initial: Duration::ZERO, backoff_max: Duration::ZERO }
}

pub(super) fn team(id: &str, jobs: u64) -> Team {
    let quota = Limits { jobs: Some(jobs), ..Limits::default() };
    Team { quota, ..Team::new(id.parse().expect("a name")) }
}

pub(super) fn cluster(id: &str, jobs: u64) -> Cluster {
    Cluster {
        elastic: None,
        cost_per_hour_micro: None,
        breaker_open: false,
        recent_failures: 0,
        id: cluster_id(id),
        driver: "null".to_owned(),
        labels: BTreeMap::from([("region".to_owned(), id.to_owned())]),
        capacity: Some(Capacity(Request { cpu_milli: 1_000_000, jobs, ..Request::default() })),
        switch: ClusterSwitch::Open,
        health: ClusterHealth::Ready,
        last_seen: None,
        configured: true,
        message: None,
        ray_profiles: None,
        gpu_blocks: Vec::new(),
    }
}

pub(super) fn cluster_id(id: &str) -> ClusterId {
    id.parse().expect("a name")
}

pub(super) fn fresh_id() -> JobId {
    JobId(Uuid::now_v7())
}

/// Puts a catalog in force, whatever was before.
pub(super) async fn apply(w: &World, catalog: &Catalog) {
    let text = Uuid::new_v4().to_string();
    let document = CatalogDocument::configuration(&text, "test");
    let answer = w.store.apply_catalog(catalog, document).await.expect("apply");
    assert!(matches!(answer, ApplyAnswer::Applied(_)), "{answer:?}");
}

/// A job of 1 cpu that may run anywhere, without own retries.
pub(super) fn new_job(team: &str, key: &str) -> NewJob {
    let spec = JobSpec {
        name: format!("job {key}"),
        entrypoint: "true".to_owned(),
        runtime_env: serde_json::Map::new(),
        request: Request { cpu_milli: 1_000, jobs: 1, ..Request::default() },
        ray_cluster: None,
        priority: Priority::default(),
        clusters: ClusterSelector::default(),
        retry: RetryPolicy { max_retries: 0 },
        timeouts: Timeouts { queue: LONG, run: LONG },
        metadata: BTreeMap::new(),
    };
    let document = format!("{{\"key\":\"{key}\"}}");
    NewJob {
        id: fresh_id(),
        team: team.parse().expect("a name"),
        key: key.to_owned(),
        body_hash: [7; 32],
        spec,
        document,
    }
}

/// How a job arrives.
pub(super) fn arrival(job: NewJob) -> Arrival {
    Arrival {
        key: SubmissionKey { team: job.team.to_string(), key: job.key.clone() },
        by: None,
        source: "test".to_owned(),
        message_id: format!("message-{}", job.id),
        sent_at: None,
        body_hash: job.body_hash,
        content: Ok(Box::new(job)),
    }
}

/// The job that a verdict made or found.
pub(super) fn accepted(verdict: &Verdict) -> JobId {
    match verdict {
        Verdict::Accepted { job, .. } => *job,
        other => panic!("not accepted: {other:?}"),
    }
}

/// Waits until `probe` gives a value; fails the test after ten seconds.
pub(super) async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl World {
    /// The world on a database with nothing but the schema.
    pub async fn new(database: Arc<dyn Database>) -> Self {
        let store = database.open(calm()).await;
        let teams = [team("ads", 1_000), team("ml", 1_000)];
        let catalog = Catalog::of(teams, [cluster("east", 1_000), cluster("west", 1_000)]);
        let document = CatalogDocument::configuration("", "test");
        let answer = store.apply_catalog(&catalog, document).await.expect("apply");
        assert_eq!(answer, ApplyAnswer::Applied(1));
        Self { database, store, tampered: AtomicBool::new(false) }
    }

    /// Runs a statement past the store; the checks at the end are left out.
    pub(super) async fn tamper(&self, sql: &str) {
        self.tampered.store(true, Ordering::Relaxed);
        self.database.tamper(sql).await;
    }

    pub(super) async fn now(&self) -> Timestamp {
        self.store.now().await.expect("now")
    }

    /// Accepts `n` jobs of a team, with keys and ids of their own.
    pub async fn accept(&self, team: &str, n: usize) -> Vec<JobId> {
        self.accept_with(team, n, |_, _| {}).await
    }

    /// As [`World::accept`], each job changed by `change`.
    pub(super) async fn accept_with(
        &self,
        team: &str,
        n: usize,
        change: impl Fn(usize, &mut NewJob),
    ) -> Vec<JobId> {
        let make = |i| {
            let mut job = new_job(team, &Uuid::new_v4().to_string());
            change(i, &mut job);
            arrival(job)
        };
        let arrivals: Vec<Arrival> = (0..n).map(make).collect();
        self.store.accept(&arrivals).await.expect("accept").iter().map(accepted).collect()
    }

    pub(super) async fn scheduler_for(&self, holder: &str, ttl: Duration) -> Lease {
        let scope = LeaseScope::Scheduler(holder.to_owned());
        self.store.acquire_lease(&scope, holder, ttl).await.expect("acquire").expect("granted")
    }

    pub(super) async fn scheduler(&self) -> Lease {
        self.scheduler_for("s1", LONG).await
    }

    pub(super) async fn dispatcher(&self, cluster: &str) -> Lease {
        let scope = LeaseScope::Dispatch(cluster_id(cluster));
        self.store.acquire_lease(&scope, "d1", LONG).await.expect("acquire").expect("granted")
    }

    /// Claims up to `max` of each group that waits.
    pub(super) async fn claim(&self, lease: &Lease, max: u32) -> Vec<ClaimedJob> {
        let input = self.store.load_placement_input(QueueView { groups: 100, depth: 1 }).await.expect("load");
        let requests: Vec<ClaimRequest> =
            input.heads.into_iter().map(|h| ClaimRequest { team: h.team, shape: h.shape, max }).collect();
        self.store.claim(lease, &requests).await.expect("claim")
    }

    pub(super) async fn commit(
        &self,
        lease: &Lease,
        claimed: &[ClaimedJob],
        cluster: &str,
    ) -> PlacementReport {
        let cluster = cluster_id(cluster);
        let order =
            |c: &ClaimedJob| PlacementOrder { job: c.id, team: c.team.clone(), cluster: cluster.clone() };
        let orders: Vec<PlacementOrder> = claimed.iter().map(order).collect();
        self.store.commit_placements(lease, &orders).await.expect("commit")
    }

    /// Everything that waits is placed on a cluster.
    pub async fn place_all(&self, cluster: &str) -> Vec<JobId> {
        let lease = self.scheduler().await;
        let claimed = self.claim(&lease, 1_000).await;
        self.commit(&lease, &claimed, cluster).await.placed.into_iter().map(|(id, _)| id).collect()
    }

    /// As [`World::place_all`], and launches are begun under a fresh dispatcher's lease.
    pub async fn launch_all(&self, cluster: &str) -> (Lease, Vec<AttemptRef>) {
        self.place_all(cluster).await;
        let lease = self.dispatcher(cluster).await;
        let batch = self.store.begin_launches(&lease, 1_000).await.expect("begin");
        let attempts =
            batch.orders.iter().map(|o| AttemptRef { job: o.job.id, attempt: o.attempt }).collect();
        (lease, attempts)
    }

    /// As [`World::launch_all`], and seen running.
    pub async fn run_all(&self, cluster: &str) -> (Lease, Vec<AttemptRef>) {
        let (lease, attempts) = self.launch_all(cluster).await;
        let recorded = self.store.record_started(&lease, &attempts).await.expect("started");
        assert!(recorded.iter().all(|r| matches!(r, Recorded::Started { .. })), "{recorded:?}");
        (lease, attempts)
    }

    pub(super) async fn end(
        &self,
        lease: &Lease,
        attempts: &[AttemptRef],
        end: &AttemptEnd,
    ) -> Vec<Recorded> {
        self.store.record_ends(lease, &rules(), &ends(attempts, end)).await.expect("ends")
    }

    pub(super) async fn view(&self, id: JobId) -> JobView {
        let before = self.store.now().await.expect("now");
        let view = self.store.job(id).await.expect("job").expect("there is such a job");
        let after = self.store.now().await.expect("now");
        assert!((before..=after).contains(&view.read_at), "{before} to {after}: {}", view.read_at);
        undated(view)
    }

    pub(super) async fn state(&self, id: JobId) -> StateName {
        self.view(id).await.lifecycle.state.name()
    }

    pub(super) async fn history(&self, id: JobId) -> Vec<HistoryLine> {
        self.store.history(id, 0, 10_000).await.expect("history")
    }

    pub(super) async fn codes(&self, id: JobId) -> Vec<&'static str> {
        self.history(id).await.iter().map(|line| line.event.code()).collect()
    }

    /// How many jobs an owner is charged for.
    pub(super) async fn jobs_charged(&self, owner: &AccountOwner) -> u64 {
        let accounts = self.store.accounts().await.expect("accounts");
        accounts.iter().find(|a| a.owner == *owner).map_or(0, |a| a.used.jobs)
    }

    /// Every job, by pages.
    pub(super) async fn all_jobs(&self) -> Vec<Lifecycle> {
        let mut filter = JobFilter { limit: 500, ..JobFilter::default() };
        let mut all: Vec<Lifecycle> = Vec::new();
        loop {
            let page = self.store.jobs(&filter).await.expect("jobs").jobs;
            filter.before = page.last().map(|row| row.lifecycle.id);
            let full = page.len() == 500;
            all.extend(page.into_iter().map(|row| row.lifecycle));
            if !full {
                return all;
            }
        }
    }

    /// What must hold after every test: the ledger is exact, and history replays to the stored state.
    pub async fn check_sound(&self) {
        if self.tampered.load(Ordering::Relaxed) {
            return;
        }
        assert_eq!(self.store.audit().await.expect("audit"), []);
        for job in self.all_jobs().await {
            self.check_history(&job).await;
        }
    }

    async fn check_history(&self, job: &Lifecycle) {
        let lines = self.history(job.id).await;
        let seqs: Vec<u32> = lines.iter().map(|line| line.seq).collect();
        assert_eq!(seqs, (1..=job.version).collect::<Vec<_>>(), "{job:?}");
        assert!(matches!(lines[0].event, Event::Accepted { .. }), "{lines:?}");
        assert!(lines.iter().is_sorted_by_key(|line| line.at), "{lines:?}");
        for pair in lines.windows(2) {
            assert_eq!(pair[1].from, Some(pair[0].to), "{lines:?}");
        }
        // All that a replay does not overwrite comes from the job; its state is junk on purpose.
        let fresh = Lifecycle { state: JobState::Ended(yard_domain::Outcome::Expired), ..job.clone() };
        let replayed = Lifecycle::replay(fresh, &lines).expect("history replays");
        assert_eq!(&replayed, job);
    }
}

pub(super) fn ends(attempts: &[AttemptRef], end: &AttemptEnd) -> Vec<EndOrder> {
    attempts.iter().map(|a| EndOrder { attempt: *a, end: end.clone(), jitter: 0.5 }).collect()
}

/// A view without when it was read, so that two looks can be compared.
pub(super) fn undated(view: JobView) -> JobView {
    JobView { read_at: Timestamp::from_micros(0), ..view }
}
