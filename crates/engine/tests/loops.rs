//! The loops over the real SQLite store and clusters in memory: whole lives of jobs, failures, takeovers.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panicking")]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use yard_domain::lease::LeaseTerms;
use yard_domain::{
    Arrival, Capacity, Cluster, ClusterHealth, ClusterId, ClusterSelector, ClusterSwitch, Failure,
    FailureClass, JobId, JobSpec, Limits, NewJob, Priority, Request, RetryPolicy, RetryRules, StateName,
    SubmissionKey, Team, Timeouts, Verdict,
};
use yard_engine::Nudges;
use yard_engine::dispatch::{ClusterRuntime, Dispatchers, Shared};
use yard_engine::keeper::Keeper;
use yard_engine::placement::Scheduler;
use yard_engine::settings::{DispatcherSettings, LaunchLimits, SchedulerSettings};
use yard_engine::sweep::Sweeper;
use yard_ports::store::{JobFilter, StopAnswer, StoreLimits};
use yard_ports::{DriverError, RemoteStatus, Store};
use yard_testkit::null_driver::{NullConfig, NullDriver, NullFault, NullPlan};

const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    store: Arc<dyn Store>,
    clusters: BTreeMap<&'static str, NullDriver>,
    next: u8,
    _dir: tempfile::TempDir,
}

/// One replica: all loops; dropped at once (crash) or drained.
struct Replica {
    soft: CancellationToken,
    keeper: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    nudges: Nudges,
}

fn cluster(id: &str, cpus: u64) -> Cluster {
    Cluster {
        elastic: None,
        cost_per_hour_micro: None,
        breaker_open: false,
        recent_failures: 0,
        id: id.parse().unwrap(),
        driver: "null".into(),
        labels: BTreeMap::new(),
        capacity: Some(Capacity(Request { cpu_milli: cpus * 1_000, jobs: 100, ..Request::default() })),
        switch: ClusterSwitch::Open,
        health: ClusterHealth::Unknown,
        last_seen: None,
        configured: true,
        message: None,
    }
}

fn team(id: &str, cpus: u64) -> Team {
    let quota = Limits { cpu_milli: Some(cpus * 1_000), ..Limits::default() };
    Team { quota, ..Team::new(id.parse().unwrap()) }
}

fn retry() -> RetryRules {
    RetryRules {
        max_infra_retries: 5,
        backoff_initial: Duration::from_millis(10),
        backoff_max: Duration::from_millis(50),
    }
}

impl World {
    async fn new(plan: NullPlan) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("yard.db");
        let limits =
            StoreLimits { place_deadline: Duration::from_mins(1), launch_deadline: Duration::from_secs(5) };
        let options = yard_store_sqlite::SqliteOptions::new(limits);
        yard_store_sqlite::migrate(&path, &options).await.unwrap();
        let store = yard_store_sqlite::connect(&path, &options).await.unwrap();
        store
            .apply_catalog(
                &yard_domain::Catalog::of(
                    [team("ads", 3), team("lab", 100)],
                    [cluster("east", 4), cluster("west", 4)],
                ),
                yard_ports::store::CatalogDocument::configuration("", "test"),
            )
            .await
            .unwrap();
        let driver = || NullDriver::new(NullConfig { plan: plan.clone(), ..NullConfig::default() });
        Self { store, clusters: BTreeMap::from([("east", driver()), ("west", driver())]), next: 0, _dir: dir }
    }

    async fn submit(&mut self, team: &str, retries: u32, run: Duration) -> JobId {
        self.next += 1;
        let request = Request { cpu_milli: 1_000, jobs: 1, ..Request::default() };
        let job = NewJob {
            id: JobId::new(1_795_386_645_000 + u64::from(self.next), [self.next; 10]),
            team: team.parse().unwrap(),
            key: format!("k{}", self.next),
            body_hash: [self.next; 32],
            spec: JobSpec {
                name: "test".into(),
                entrypoint: "true".into(),
                runtime_env: serde_json::Map::new(),
                request,
                priority: Priority::default(),
                clusters: ClusterSelector::default(),
                retry: RetryPolicy { max_retries: retries },
                timeouts: Timeouts { queue: Duration::from_mins(10), run },
                metadata: BTreeMap::new(),
            },
            document: r#"{"v":1,"team":"ads","entrypoint":"true"}"#.into(),
        };
        let arrival = Arrival {
            key: SubmissionKey { team: team.into(), key: job.key.clone() },
            source: "test".into(),
            message_id: "m".into(),
            body_hash: job.body_hash,
            content: Ok(Box::new(job.clone())),
        };
        let verdicts = self.store.accept(&[arrival]).await.unwrap();
        assert_eq!(verdicts, [Verdict::Accepted { job: job.id, first: true }]);
        job.id
    }

    async fn submit_many(&mut self, n: u32) -> Vec<JobId> {
        let mut jobs = Vec::new();
        for i in 0..n {
            jobs.push(self.submit(if i % 2 == 0 { "ads" } else { "lab" }, 0, Duration::from_mins(1)).await);
        }
        jobs
    }

    async fn replica(&self, name: &str, settings: DispatcherSettings) -> Replica {
        let (soft, keeper_stop, nudges) =
            (CancellationToken::new(), CancellationToken::new(), Nudges::default());
        let keeper = Keeper::new(self.store.clone(), name);
        let scheduling = SchedulerSettings {
            pass_interval: Duration::from_millis(20),
            sweep_interval: Duration::from_millis(20),
            lease: LeaseTerms { ttl: Duration::from_secs(1), margin: Duration::from_millis(300) },
            ..SchedulerSettings::default()
        };
        let scheduler = Scheduler::new(self.store.clone(), keeper.clone(), nudges.clone(), scheduling, 1);
        let sweeper = Sweeper {
            store: self.store.clone(),
            keeper: keeper.clone(),
            nudges: nudges.clone(),
            settings: scheduling,
            retry: settings.retry,
        };
        let shared = Shared {
            store: self.store.clone(),
            keeper: keeper.clone(),
            nudges: nudges.clone(),
            settings,
            instance: self.store.instance().await.unwrap(),
        };
        let runtimes: HashMap<ClusterId, ClusterRuntime> = self
            .clusters
            .iter()
            .map(|(id, driver)| {
                let launches = LaunchLimits { rate_per_s: 1_000.0, burst: 100, in_flight_max: 50 };
                let driver = Arc::new(driver.clone());
                (
                    id.parse().unwrap(),
                    ClusterRuntime {
                        driver,
                        launches,
                        reads_capacity: false,
                        jobs_max: 100,
                        resync: PATIENCE,
                    },
                )
            })
            .collect();
        let dispatchers = Dispatchers::new(shared, yard_engine::catalog::fixed(runtimes), 2);
        let tasks = vec![
            tokio::spawn(keeper.run(keeper_stop.clone())),
            tokio::spawn(scheduler.run(soft.clone())),
            tokio::spawn(sweeper.run(soft.clone())),
            tokio::spawn(dispatchers.run(soft.clone())),
        ];
        Replica { soft, keeper: keeper_stop, tasks, nudges }
    }

    /// Waits until every job has ended; returns how, by state.
    async fn ended(&self, jobs: &[JobId]) -> BTreeMap<&'static str, usize> {
        let mut ends = BTreeMap::new();
        for job in jobs {
            let state = self.until(*job, StateName::is_end).await;
            *ends.entry(state.code()).or_default() += 1;
        }
        ends
    }

    async fn until(&self, job: JobId, wanted: impl Fn(StateName) -> bool) -> StateName {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let view = self.store.job(job).await.unwrap().unwrap();
            let state = view.lifecycle.state.name();
            if wanted(state) {
                return state;
            }
            if tokio::time::Instant::now() > deadline {
                let history = self.store.history(job, 0, 100).await.unwrap();
                panic!("{job} is still {state:?}: {view:#?}\n{history:#?}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What must hold at the end of every test.
    async fn check(&self) {
        assert_eq!(self.store.audit().await.unwrap(), []);
        for account in self.store.accounts().await.unwrap() {
            assert!(account.used.is_zero(), "{account:?}");
        }
        for driver in self.clusters.values() {
            let counters = driver.counters();
            assert_eq!((counters.doubled, counters.overlapping, counters.live), (vec![], vec![], 0));
        }
        for row in self.store.jobs(&JobFilter { limit: 1_000, ..JobFilter::default() }).await.unwrap() {
            let lines = self.store.history(row.lifecycle.id, 0, 1_000).await.unwrap();
            let replayed = yard_domain::Lifecycle::replay(row.lifecycle.clone(), &lines).unwrap();
            assert_eq!(replayed, row.lifecycle);
        }
    }
}

impl Replica {
    async fn drain(self) {
        self.soft.cancel();
        let mut tasks = self.tasks.into_iter();
        let keeper = tasks.next().unwrap();
        for task in tasks {
            tokio::time::timeout(PATIENCE, task).await.expect("a task does not drain").unwrap();
        }
        self.keeper.cancel();
        keeper.await.unwrap();
    }

    async fn crash(self) {
        for task in self.tasks {
            task.abort();
            _ = task.await;
        }
    }
}

fn settings() -> DispatcherSettings {
    DispatcherSettings {
        lease: LeaseTerms { ttl: Duration::from_secs(1), margin: Duration::from_millis(300) },
        poll_interval: Duration::from_millis(20),
        election_interval: Duration::from_millis(50),
        report_interval: Duration::from_millis(200),
        launch_backoff_initial: Duration::from_millis(10),
        launch_backoff_max: Duration::from_millis(50),
        breaker_pause: Duration::from_millis(100),
        retry: retry(),
        ..DispatcherSettings::default()
    }
}

#[tokio::test]
async fn jobs_run_to_their_end_on_both_clusters_within_quota() {
    let mut world = World::new(NullPlan::succeed_after(Duration::from_millis(20))).await;
    let jobs = world.submit_many(60).await;
    let replica = world.replica("one", settings()).await;
    assert_eq!(world.ended(&jobs).await, BTreeMap::from([("succeeded", 60)]));
    let launched: u64 = world.clusters.values().map(|d| d.counters().started).sum();
    assert_eq!(launched, 60);
    for driver in world.clusters.values() {
        let counters = driver.counters();
        assert!(counters.live_max <= 4 && counters.started > 0, "{counters:?}");
    }
    replica.drain().await;
    assert_eq!(world.store.leases().await.unwrap(), []);
    world.check().await;
}

#[tokio::test]
async fn failures_are_retried_by_cause_and_given_up() {
    let mut world = World::new(NullPlan::succeed_after(Duration::ZERO)).await;
    let flaky = world.submit("lab", 2, Duration::from_mins(1)).await;
    let hopeless = world.submit("lab", 1, Duration::from_mins(1)).await;
    for driver in world.clusters.values() {
        driver.set_script(move |request| {
            let fails = request.job == hopeless || (request.job == flaky && request.attempt.0 < 3);
            let end = if fails {
                RemoteStatus::Failed(Failure::new(FailureClass::User, Some(7), "boom"))
            } else {
                RemoteStatus::Succeeded
            };
            NullPlan { end, ..NullPlan::succeed_after(Duration::ZERO) }
        });
    }
    let replica = world.replica("one", settings()).await;
    assert_eq!(world.until(flaky, StateName::is_end).await, StateName::Succeeded);
    assert_eq!(world.until(hopeless, StateName::is_end).await, StateName::Failed);
    let view = world.store.job(hopeless).await.unwrap().unwrap();
    assert_eq!(view.attempts.len(), 2);
    assert_eq!(view.attempts[1].exit_code, Some(7));
    assert_eq!(world.store.job(flaky).await.unwrap().unwrap().attempts.len(), 3);
    replica.drain().await;
    world.check().await;
}

#[tokio::test]
async fn lost_answers_and_refusals_start_nothing_twice() {
    let mut world = World::new(NullPlan::succeed_after(Duration::from_millis(5))).await;
    let jobs = world.submit_many(20).await;
    for driver in world.clusters.values() {
        driver.fail_launches(3, &NullFault { error: DriverError::Unclear("cut".into()), effect: true });
        driver.fail_launches(3, &NullFault { error: DriverError::Unclear("cut".into()), effect: false });
        driver.fail_launches(2, &NullFault { error: DriverError::Unreachable("no".into()), effect: false });
    }
    let replica = world.replica("one", settings()).await;
    assert_eq!(world.ended(&jobs).await, BTreeMap::from([("succeeded", 20)]));
    replica.drain().await;
    world.check().await;
}

#[tokio::test]
async fn stops_reach_jobs_in_every_state() {
    let mut world = World::new(NullPlan::endless()).await;
    let jobs = world.submit_many(20).await;
    let replica = world.replica("one", settings()).await;
    world.until(jobs[0], |s| s == StateName::Running).await;
    for job in &jobs {
        let answer = world.store.request_stop(*job, "user:test", "enough").await.unwrap();
        assert!(matches!(answer, StopAnswer::Stopped | StopAnswer::Requested));
        replica.nudges.all_dispatchers();
    }
    assert_eq!(world.ended(&jobs).await, BTreeMap::from([("stopped", 20)]));
    let again = world.store.request_stop(jobs[0], "user:test", "").await.unwrap();
    assert_eq!(again, StopAnswer::AlreadyEnded(StateName::Stopped));
    replica.drain().await;
    world.check().await;
}

#[tokio::test]
async fn a_run_timeout_stops_and_fails() {
    let mut world = World::new(NullPlan::endless()).await;
    let job = world.submit("lab", 3, Duration::from_millis(100)).await;
    let replica = world.replica("one", settings()).await;
    assert_eq!(world.until(job, StateName::is_end).await, StateName::Failed);
    let view = world.store.job(job).await.unwrap().unwrap();
    assert_eq!(view.attempts.len(), 1, "not retried");
    assert_eq!(view.attempts[0].end.as_deref(), Some("run_timeout"));
    replica.drain().await;
    world.check().await;
}

#[tokio::test]
async fn a_crashed_replica_is_taken_over_and_running_jobs_go_on() {
    let mut world = World::new(NullPlan::succeed_after(Duration::from_millis(800))).await;
    let jobs = world.submit_many(30).await;
    let mut replica = world.replica("r0", settings()).await;
    for i in 1..4 {
        world.until(jobs[i * 5], |s| s != StateName::Queued).await;
        replica.crash().await;
        replica = world.replica(&format!("r{i}"), settings()).await;
    }
    assert_eq!(world.ended(&jobs).await, BTreeMap::from([("succeeded", 30)]));
    let started: u64 = world.clusters.values().map(|d| d.counters().started).sum();
    assert_eq!(started, 30, "no job was launched twice");
    replica.drain().await;
    world.check().await;
}

#[tokio::test]
async fn two_replicas_share_the_clusters() {
    let mut world = World::new(NullPlan::succeed_after(Duration::from_millis(10))).await;
    let (a, b) = (world.replica("a", settings()).await, world.replica("b", settings()).await);
    let jobs = world.submit_many(40).await;
    assert_eq!(world.ended(&jobs).await, BTreeMap::from([("succeeded", 40)]));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let leases = world.store.leases().await.unwrap();
        let holder = |l: &yard_domain::Lease| {
            matches!(l.scope, yard_domain::LeaseScope::Dispatch(_)).then(|| l.holder.clone())
        };
        let holders: std::collections::BTreeSet<_> = leases.iter().filter_map(holder).collect();
        if holders.len() == 2 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "not shared: {leases:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    a.drain().await;
    b.drain().await;
    world.check().await;
}

#[tokio::test]
async fn a_silent_cluster_keeps_its_jobs_until_its_grace_ends() {
    let mut world = World::new(NullPlan::endless()).await;
    let job = world.submit("lab", 0, Duration::from_mins(1)).await;
    let grace = DispatcherSettings {
        unreachable_after: Duration::from_millis(200),
        lost_grace: Duration::from_secs(3),
        ..settings()
    };
    let replica = world.replica("one", grace).await;
    world.until(job, |s| s == StateName::Running).await;
    let view = world.store.job(job).await.unwrap().unwrap();
    let at = view.attempts[0].cluster.clone();
    let silent = &world.clusters[at.as_str()];
    silent.set_reachable(false);
    world.until(job, |s| s != StateName::Running).await;
    let view = world.store.job(job).await.unwrap().unwrap();
    assert_eq!(view.attempts[0].end.as_deref(), Some("lost"));
    let line = world.store.history(job, 0, 100).await.unwrap();
    let (started, lost) = (
        line.iter().find(|l| l.event.code() == "started"),
        line.iter().find(|l| l.event.code() == "retried"),
    );
    assert!(lost.unwrap().at.since(started.unwrap().at) >= Duration::from_secs(3), "not before the grace");
    world.until(job, |s| s == StateName::Running).await;
    let view = world.store.job(job).await.unwrap().unwrap();
    assert_ne!(view.attempts[1].cluster, at, "the other cluster has it now");
    silent.set_reachable(true);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while silent.counters().live > 0 {
        assert!(tokio::time::Instant::now() < deadline, "the orphan is not swept");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.store.request_stop(job, "user:test", "").await.unwrap();
    world.ended(&[job]).await;
    replica.drain().await;
    let counters: Vec<_> = world.clusters.values().map(NullDriver::counters).collect();
    assert!(counters.iter().all(|c| c.doubled.is_empty() && c.live == 0), "{counters:?}");
    assert_eq!(world.store.audit().await.unwrap(), []);
}
