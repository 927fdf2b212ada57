//! An installation for tests of the loops: the real SQLite store, clusters in memory, replicas that crash or drain.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use yard_domain::lease::LeaseTerms;
use yard_domain::{
    Arrival, Capacity, Catalog, Cluster, ClusterId, ClusterSelector, JobId, JobSpec, Limits, NewJob,
    Priority, Request, RetryPolicy, RetryRules, StateName, SubmissionKey, Team, Timeouts, Verdict,
};
use yard_engine::Nudges;
use yard_engine::archive::LogKeeping;
use yard_engine::dispatch::{ClusterRuntime, Dispatchers, Shared};
use yard_engine::keeper::Keeper;
use yard_engine::placement::Scheduler;
use yard_engine::settings::{DispatcherSettings, LaunchLimits, LogSettings, SchedulerSettings};
use yard_engine::sweep::Sweeper;
use yard_ports::store::{CatalogDocument, JobFilter, StoreLimits};
use yard_ports::{Driver, Store};
use yard_testkit::memory_archive::MemoryArchive;
use yard_testkit::null_driver::{NullConfig, NullDriver, NullPlan};

use crate::holding::Holding;

pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct World {
    pub store: Arc<dyn Store>,
    pub clusters: BTreeMap<&'static str, NullDriver>,
    pub next: u8,
    pub archive: MemoryArchive,
    pub logs: LogSettings,
    pub launches: LaunchLimits,
    /// If set, the first launch call on each cluster waits for a permit.
    pub first_launches: Option<Arc<Semaphore>>,
    _dir: tempfile::TempDir,
}

/// One replica: all loops; dropped at once (crash) or drained.
pub struct Replica {
    pub soft: CancellationToken,
    pub keeper: CancellationToken,
    pub tasks: Vec<JoinHandle<()>>,
    pub nudges: Nudges,
}

pub fn cluster(id: &str, cpus: u64) -> Cluster {
    Cluster {
        capacity: Some(Capacity(Request { cpu_milli: cpus * 1_000, jobs: 100, ..Request::default() })),
        ..Cluster::new(id.parse().unwrap(), "null")
    }
}

pub fn team(id: &str, cpus: u64) -> Team {
    let quota = Limits { cpu_milli: Some(cpus * 1_000), ..Limits::default() };
    Team { quota, ..Team::new(id.parse().unwrap()) }
}

pub fn retry() -> RetryRules {
    RetryRules {
        max_infra_retries: 5,
        backoff_initial: Duration::from_millis(10),
        backoff_max: Duration::from_millis(50),
    }
}

impl World {
    /// Teams `ads` with 3 cpus and `lab` with 100, in no cohort; clusters `east` and `west` with 4 cpus each.
    pub async fn new(plan: NullPlan) -> Self {
        let teams = [team("ads", 3), team("lab", 100)];
        Self::with(plan, &Catalog::of(teams, [cluster("east", 4), cluster("west", 4)])).await
    }

    /// With these teams and clusters `east` and `west`.
    pub async fn with(plan: NullPlan, catalog: &Catalog) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("yard.db");
        let limits =
            StoreLimits { place_deadline: Duration::from_mins(1), launch_deadline: Duration::from_secs(5) };
        let options = yard_store_sqlite::SqliteOptions::new(limits);
        yard_store_sqlite::migrate(&path, &options).await.unwrap();
        let store = yard_store_sqlite::connect(&path, &options).await.unwrap();
        store.apply_catalog(catalog, CatalogDocument::configuration("", "test")).await.unwrap();
        let driver = || NullDriver::new(NullConfig { plan: plan.clone(), ..NullConfig::default() });
        Self {
            store,
            clusters: BTreeMap::from([("east", driver()), ("west", driver())]),
            next: 0,
            archive: MemoryArchive::default(),
            logs: LogSettings {
                chunk_interval: Duration::from_millis(50),
                chunk_bytes: 1_000,
                end_wait: PATIENCE,
                ..LogSettings::default()
            },
            launches: LaunchLimits { rate_per_s: 1_000.0, burst: 100, in_flight_max: 50 },
            first_launches: None,
            _dir: dir,
        }
    }

    pub async fn submit(&mut self, team: &str, retries: u32, run: Duration) -> JobId {
        self.submit_job(team, |spec| {
            spec.retry = RetryPolicy { max_retries: retries };
            spec.timeouts.run = run;
        })
        .await
    }

    /// A job that asks for a cpu and may run for a minute, unless `change` says otherwise.
    pub async fn submit_job(&mut self, team: &str, change: impl FnOnce(&mut JobSpec)) -> JobId {
        self.next += 1;
        let request = Request { cpu_milli: 1_000, jobs: 1, ..Request::default() };
        let mut job = NewJob {
            id: JobId::new(1_795_386_645_000 + u64::from(self.next), [self.next; 10]),
            team: team.parse().unwrap(),
            key: format!("k{}", self.next),
            body_hash: [self.next; 32],
            spec: JobSpec {
                name: "test".into(),
                entrypoint: "true".into(),
                runtime_env: serde_json::Map::new(),
                request,
                ray_cluster: None,
                priority: Priority::default(),
                clusters: ClusterSelector::default(),
                retry: RetryPolicy { max_retries: 0 },
                timeouts: Timeouts { queue: Duration::from_mins(10), run: Duration::from_mins(1) },
                metadata: BTreeMap::new(),
            },
            document: r#"{"v":1,"team":"ads","entrypoint":"true"}"#.into(),
        };
        change(&mut job.spec);
        let arrival = Arrival {
            key: SubmissionKey { team: team.into(), key: job.key.clone() },
            by: None,
            source: "test".into(),
            message_id: "m".into(),
            sent_at: None,
            body_hash: job.body_hash,
            content: Ok(Box::new(job.clone())),
        };
        let verdicts = self.store.accept(&[arrival]).await.unwrap();
        assert_eq!(verdicts, [Verdict::Accepted { job: job.id, first: true }]);
        job.id
    }

    pub async fn submit_many(&mut self, n: u32) -> Vec<JobId> {
        let mut jobs = Vec::new();
        for i in 0..n {
            jobs.push(self.submit(if i % 2 == 0 { "ads" } else { "lab" }, 0, Duration::from_mins(1)).await);
        }
        jobs
    }

    pub async fn replica(&self, name: &str, settings: &DispatcherSettings) -> Replica {
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
            settings: *settings,
            instance: self.store.instance().await.unwrap(),
            logs: Some(LogKeeping { archive: Arc::new(self.archive.clone()), settings: self.logs.clone() }),
        };
        let runtimes: HashMap<ClusterId, ClusterRuntime> = self
            .clusters
            .iter()
            .map(|(id, driver)| {
                let driver: Arc<dyn Driver> = match &self.first_launches {
                    Some(first) => Arc::new(Holding::new(driver.clone(), first.clone())),
                    None => Arc::new(driver.clone()),
                };
                (
                    id.parse().unwrap(),
                    ClusterRuntime {
                        driver,
                        launches: self.launches,
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
    pub async fn ended(&self, jobs: &[JobId]) -> BTreeMap<&'static str, usize> {
        let mut ends = BTreeMap::new();
        for job in jobs {
            let state = self.until(*job, StateName::is_end).await;
            *ends.entry(state.code()).or_default() += 1;
        }
        ends
    }

    pub async fn until(&self, job: JobId, wanted: impl Fn(StateName) -> bool) -> StateName {
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
    pub async fn check(&self) {
        assert_eq!(self.store.audit().await.unwrap(), []);
        for account in self.store.accounts().await.unwrap() {
            assert!(account.used.is_zero(), "{account:?}");
        }
        for driver in self.clusters.values() {
            let counters = driver.counters();
            assert_eq!((counters.doubled, counters.overlapping, counters.live), (vec![], vec![], 0));
        }
        for row in self.store.jobs(&JobFilter { limit: 1_000, ..JobFilter::default() }).await.unwrap().jobs {
            let lines = self.store.history(row.lifecycle.id, 0, 1_000).await.unwrap();
            let replayed = yard_domain::Lifecycle::replay(row.lifecycle.clone(), &lines).unwrap();
            assert_eq!(replayed, row.lifecycle);
        }
    }
}

impl Replica {
    pub async fn drain(self) {
        self.soft.cancel();
        let mut tasks = self.tasks.into_iter();
        let keeper = tasks.next().unwrap();
        for task in tasks {
            tokio::time::timeout(PATIENCE, task).await.expect("a task does not drain").unwrap();
        }
        self.keeper.cancel();
        keeper.await.unwrap();
    }

    pub async fn crash(self) {
        for task in self.tasks {
            task.abort();
            _ = task.await;
        }
    }
}

pub fn settings() -> DispatcherSettings {
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
