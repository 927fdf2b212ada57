//! What goes wrong with a real server: deadlocks and lock timeouts are redone and counted, cut connections are
//! replaced, a schema that doesn't fit is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panicking")]

#[allow(dead_code, reason = "each test file uses its part of it")]
mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use metrics::{Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use sqlx::{AssertSqlSafe, Row};
use yard_domain::lifecycle::AttemptEnd;
use yard_domain::{Cohort, Lease, LeaseScope, Limits, Outcome, RetryRules, SubmissionKey, Team};
use yard_ports::store::{
    CatalogDocument, ClaimRequest, ClaimedJob, EndOrder, PlacementOrder, PlacementReport, QueueHead,
    QueueView, Recorded, StopAnswer, Store, StoreError,
};
use yard_store_mysql::{MySqlOptions, connect, migrate};
use yard_store_sql::{RetryOptions, StoreOptions};
use yard_testkit::store_suite::{Database, World};

use crate::common::{Schema, calm, options};

/// Counts by name and labels, for the whole test process.
#[derive(Default)]
struct Counts(Mutex<BTreeMap<String, u64>>);

struct OneCount(String, &'static Counts);

impl CounterFn for OneCount {
    fn increment(&self, value: u64) {
        *self.1.0.lock().unwrap().entry(self.0.clone()).or_default() += value;
    }

    fn absolute(&self, _: u64) {}
}

struct Recording(&'static Counts);

impl Recorder for Recording {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels: Vec<String> = key.labels().map(|l| format!("{}={}", l.key(), l.value())).collect();
        Counter::from_arc(Arc::new(OneCount(format!("{} {}", key.name(), labels.join(" ")), self.0)))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

fn count(of: &str) -> u64 {
    static COUNTS: OnceLock<&'static Counts> = OnceLock::new();
    let counts = COUNTS.get_or_init(|| {
        let counts: &'static Counts = Box::leak(Box::default());
        metrics::set_global_recorder(Recording(counts)).ok().unwrap();
        counts
    });
    counts.0.lock().unwrap().get(of).copied().unwrap_or(0)
}

/// Counts are of the whole process: who looks at one keeps the test on the other server from adding to it.
static COUNTING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A job's row is in other hands for longer than the store waits for locks.
async fn lock_timeouts_are_redone(variable: &str) {
    let Some(schema) = Schema::fresh(variable).await.map(Arc::new) else { return };
    let what = "yard_store_tx_retries_total name=request_stop code=lock_timeout";
    let _counting = COUNTING.lock().await;
    let before = count(what);
    let hasty = MySqlOptions { lock_wait_timeout: Duration::from_secs(1), ..options(calm()) };
    let store = connect(&schema.url, &hasty).await.unwrap();
    let world = World::new(schema.clone()).await;
    let job = world.accept("ads", 1).await[0];
    let pool = schema.pool().await;
    let mut rival = pool.begin().await.unwrap();
    sqlx::raw_sql("SELECT id FROM jobs FOR UPDATE").fetch_all(&mut *rival).await.unwrap();
    let stop = tokio::spawn(async move { store.request_stop(job, "ann", "x").await.unwrap() });
    while count(what) == before {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    rival.rollback().await.unwrap();
    assert_eq!(stop.await.unwrap(), StopAnswer::Stopped);
    world.check_sound().await;
    pool.close().await;
    schema.remove().await;
}

/// A rival locks a job first and its accounts then, against the order that the store keeps. It has written more, so
/// the server lets it go on and the store's transaction is redone.
async fn deadlocks_are_redone(variable: &str) {
    let Some(schema) = Schema::fresh(variable).await.map(Arc::new) else { return };
    let what = "yard_store_tx_retries_total name=record_ends code=deadlock";
    let _counting = COUNTING.lock().await;
    let before = count(what);
    let world = World::new(schema.clone()).await;
    world.accept("ads", 1).await;
    let (lease, attempts) = world.run_all("east").await;
    let pool = schema.pool().await;
    let mut rival = pool.begin().await.unwrap();
    for i in 0..50 {
        let sql = format!("INSERT INTO meta (name) VALUES ('rival-{i}')");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *rival).await.unwrap();
    }
    sqlx::raw_sql("SELECT id FROM jobs FOR UPDATE").fetch_all(&mut *rival).await.unwrap();
    let store = world.store.clone();
    let end = EndOrder { attempt: attempts[0], end: AttemptEnd::Succeeded, jitter: 0.5 };
    let ends =
        tokio::spawn(async move { store.record_ends(&lease, &RetryRules::default(), &[end]).await.unwrap() });
    let account = "SELECT owner FROM accounts WHERE owner = 'team:ads' FOR UPDATE";
    // Until the store has its accounts, so that the job is all it waits for.
    while sqlx::raw_sql(AssertSqlSafe(format!("{account} NOWAIT"))).fetch_all(&pool).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    sqlx::raw_sql(account).fetch_all(&mut *rival).await.unwrap();
    rival.rollback().await.unwrap();
    assert_eq!(ends.await.unwrap(), [Recorded::Ended(Outcome::Succeeded)]);
    assert_eq!(count(what), before + 1);
    world.check_sound().await;
    pool.close().await;
    schema.remove().await;
}

/// A cohort of `ads` and `ml`, one job each, and `alone` beside it; a queued job of each, claimed by a scheduler that
/// knows the catalog already.
struct Waiting {
    store: Arc<dyn Store>,
    lease: Lease,
    claimed: BTreeMap<String, ClaimedJob>,
}

impl Waiting {
    async fn new(schema: &Schema, world: &World) -> Self {
        let hasty = MySqlOptions { lock_wait_timeout: Duration::from_secs(1), ..options(calm()) };
        let store = connect(&schema.url, &hasty).await.unwrap();
        let mut catalog = store.catalog().await.unwrap();
        let one = Limits { jobs: Some(1), ..Limits::default() };
        let team = |id: &str, cohort: Option<&str>| Team {
            cohort: cohort.map(|c| c.parse().unwrap()),
            quota: one.clone(),
            ..Team::new(id.parse().unwrap())
        };
        catalog.teams = vec![team("ads", Some("all")), team("alone", None), team("ml", Some("all"))];
        catalog.cohorts = vec![Cohort::new("all".parse().unwrap())];
        store.apply_catalog(&catalog, CatalogDocument::configuration("cohort", "test")).await.unwrap();
        for team in ["ads", "alone", "ml"] {
            world.accept(team, 1).await;
        }
        let scope = LeaseScope::Scheduler("s".to_owned());
        let lease = store.acquire_lease(&scope, "s", Duration::from_mins(5)).await.unwrap().unwrap();
        let heads = store.load_placement_input(QueueView { groups: 9, depth: 1 }).await.unwrap().heads;
        let request = |h: QueueHead| ClaimRequest { team: h.team, shape: h.shape, max: 1 };
        let requests: Vec<_> = heads.into_iter().map(request).collect();
        let claimed = store.claim(&lease, &requests).await.unwrap();
        let claimed = claimed.into_iter().map(|c| (c.team.to_string(), c)).collect();
        Self { store, lease, claimed }
    }

    /// Places one team's job on a cluster.
    fn place(&self, team: &str, cluster: &str) -> tokio::task::JoinHandle<PlacementReport> {
        let job = self.claimed[team].clone();
        let order = PlacementOrder { job: job.id, team: job.team, cluster: cluster.parse().unwrap() };
        let (store, lease) = (Arc::clone(&self.store), self.lease.clone());
        tokio::spawn(async move { store.commit_placements(&lease, &[order]).await.unwrap() })
    }
}

/// Until a placement has waited in vain for a lock, once more than `before`.
async fn a_placement_waited(before: u64) {
    eventually(|| async { (count(PLACEMENT_TIMEOUTS) > before).then_some(()) }).await;
}

const PLACEMENT_TIMEOUTS: &str = "yard_store_tx_retries_total name=commit_placements code=lock_timeout";

/// While somebody else charges a tree, a placement of any of its teams waits, and then sees what was charged. Teams
/// in no cohort don't wait, nor do ends of the tree's teams.
async fn placements_of_one_tree_follow_one_another(variable: &str) {
    let Some(schema) = Schema::fresh(variable).await.map(Arc::new) else { return };
    let world = World::new(schema.clone()).await;
    world.accept("ml", 1).await;
    let (east, running) = world.run_all("east").await;
    let waiting = Waiting::new(&schema, &world).await;
    let (pool, before) = (schema.pool().await, count(PLACEMENT_TIMEOUTS));
    let mut rival = pool.begin().await.unwrap();
    sqlx::raw_sql("SELECT id FROM cohorts WHERE id = 'all' FOR UPDATE").fetch_all(&mut *rival).await.unwrap();
    let ads = waiting.place("ads", "west");
    assert_eq!(waiting.place("alone", "east").await.unwrap().placed.len(), 1);
    let end = EndOrder { attempt: running[0], end: AttemptEnd::Succeeded, jitter: 0.5 };
    let ended = waiting.store.record_ends(&east, &RetryRules::default(), &[end]).await.unwrap();
    assert_eq!(ended, [Recorded::Ended(Outcome::Succeeded)]);
    a_placement_waited(before).await;
    let charge = "UPDATE accounts a JOIN accounts b SET a.used = REPLACE(b.used, '\"jobs\":1', '\"jobs\":2') \
                  WHERE a.owner = 'team:ml' AND b.owner = 'team:alone'";
    assert_eq!(sqlx::raw_sql(charge).execute(&mut *rival).await.unwrap().rows_affected(), 1);
    rival.commit().await.unwrap();
    assert_eq!(ads.await.unwrap().dropped.len(), 1, "all that the cohort has is in use");
    pool.close().await;
    schema.remove().await;
}

/// While somebody applies a catalog, placements wait, and then go by that catalog.
async fn placements_go_by_the_catalog_they_waited_for(variable: &str) {
    let Some(schema) = Schema::fresh(variable).await.map(Arc::new) else { return };
    let world = World::new(schema.clone()).await;
    let waiting = Waiting::new(&schema, &world).await;
    let (pool, before) = (schema.pool().await, count(PLACEMENT_TIMEOUTS));
    let mut rival = pool.begin().await.unwrap();
    for sql in [
        "UPDATE catalog_in_force SET generation = generation + 1",
        "UPDATE teams SET quota = REPLACE(quota, '\"jobs\":1', '\"jobs\":0') WHERE id = 'alone'",
    ] {
        assert_eq!(sqlx::raw_sql(sql).execute(&mut *rival).await.unwrap().rows_affected(), 1, "{sql}");
    }
    let alone = waiting.place("alone", "east");
    a_placement_waited(before).await;
    rival.commit().await.unwrap();
    assert_eq!(alone.await.unwrap().dropped.len(), 1, "it has no quota any more");
    assert_eq!(waiting.place("ads", "east").await.unwrap().placed.len(), 1);
    world.check_sound().await;
    pool.close().await;
    schema.remove().await;
}

/// Asks until there is an answer.
async fn eventually<T>(ask: impl AsyncFn() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "no answer");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Every connection is cut, as by a restart of the server: the next calls find new ones.
async fn cut_connections_are_replaced(variable: &str) {
    let Some(schema) = Schema::fresh(variable).await.map(Arc::new) else { return };
    let job = World::new(schema.clone()).await.accept("ads", 1).await[0];
    // Each call may find all eight dead, one after the other.
    let retry = RetryOptions { delay_max: Duration::from_millis(10), ..RetryOptions::default() };
    let usual = options(calm());
    let quick = MySqlOptions { store: StoreOptions { retry, ..usual.store }, ..usual };
    let store = connect(&schema.url, &quick).await.unwrap();
    let pool = schema.pool().await;
    for round in 0..3 {
        let many = (0..8).map(|_| store.clone()).map(|s| tokio::spawn(async move { s.now().await.unwrap() }));
        for task in many.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        let ours =
            "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()";
        // MySQL 9 can't show the list while somebody runs a statement that holds bytes: then it is asked again.
        let connections = eventually(|| async { sqlx::raw_sql(ours).fetch_all(&pool).await.ok() }).await;
        for row in connections {
            let id: u64 = row.try_get_unchecked(0).unwrap();
            // It may have gone by itself.
            let _ = sqlx::raw_sql(AssertSqlSafe(format!("KILL {id}"))).execute(&pool).await;
        }
        match round {
            0 => assert_eq!(store.request_stop(job, "ann", "x").await.unwrap(), StopAnswer::Stopped),
            1 => assert!(store.receipt(&key()).await.unwrap().is_none()),
            _ => assert_eq!(store.clusters().await.unwrap().len(), 2),
        }
    }
    pool.close().await;
    schema.remove().await;
}

fn key() -> SubmissionKey {
    SubmissionKey { team: "ads".to_owned(), key: "absent".to_owned() }
}

/// No schema, an older one, a newer one, one of another build: each refused with what to do; migrating again, or
/// eight at once, is fine.
/// Whoever hangs up while a transaction begins leaves the connection to the next one as if he had never come.
async fn callers_who_go_away_leave_nothing_open(variable: &str) {
    let Some(schema) = Schema::fresh(variable).await.map(Arc::new) else { return };
    let store = connect(&schema.url, &MySqlOptions { connections_max: 1, ..options(calm()) }).await.unwrap();
    let world = World::new(schema.clone()).await;
    let mut gone = 0;
    for (wait_us, jobs) in (0..1_000).step_by(4).zip(1u64..) {
        gone += u32::from(tokio::time::timeout(Duration::from_micros(wait_us), store.stats()).await.is_err());
        world.accept("ads", 1).await;
        // In a transaction that is still open, this is refused or says what was true when that began.
        assert_eq!(store.stats().await.unwrap().open.values().sum::<u64>(), jobs, "after {wait_us} us");
    }
    assert!(gone > 0, "nobody has gone away while it began");
}

async fn schemas_that_do_not_fit_are_refused(variable: &str) {
    let Some(schema) = Schema::empty(variable).await else { return };
    let refused = async || match connect(&schema.url, &options(calm())).await {
        Err(StoreError::Schema(text)) => text,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("accepted"),
    };
    assert!(refused().await.contains("run `yard migrate`"));
    let at_once: Vec<_> = (0..8)
        .map(|_| {
            let url = schema.url.clone();
            tokio::spawn(async move { migrate(&url, &options(calm())).await.unwrap() })
        })
        .collect();
    for task in at_once {
        task.await.unwrap();
    }
    let instance = connect(&schema.url, &options(calm())).await.unwrap().instance().await.unwrap();
    migrate(&schema.url, &options(calm())).await.unwrap();
    let store = connect(&schema.url, &options(calm())).await.unwrap();
    assert_eq!(store.instance().await.unwrap(), instance);
    schema.tamper("UPDATE _sqlx_migrations SET checksum = 'other' WHERE version = 1").await;
    assert!(refused().await.contains("another build"));
    schema.tamper("UPDATE _sqlx_migrations SET success = 0 WHERE version = 1").await;
    assert!(refused().await.contains("not applied to its end"));
    schema.tamper("DELETE FROM _sqlx_migrations").await;
    assert!(refused().await.contains("run `yard migrate`"));
    schema.tamper("INSERT INTO _sqlx_migrations VALUES (9999, 'later', NOW(), 1, 'x', 0)").await;
    assert!(refused().await.contains("newer yard"));
    let migrated = migrate(&schema.url, &options(calm())).await;
    assert!(
        matches!(&migrated, Err(StoreError::Schema(text)) if text.contains("newer yard")),
        "{migrated:?}"
    );
    schema.remove().await;
}

/// Passwords stay out of errors.
#[tokio::test]
async fn errors_do_not_repeat_the_url() {
    for url in
        ["mysql://yard:secret@:bad/", "mysql//yard:secret@nowhere", "mysql://yard:secret@127.0.0.1:1/yard"]
    {
        let hasty = MySqlOptions { acquire_timeout: Duration::from_millis(200), ..options(calm()) };
        let error = connect(url, &hasty).await.err().map(|e| e.to_string()).unwrap();
        assert!(!error.contains("secret"), "{error}");
    }
}

macro_rules! on_both {
    ($($name:ident),*) => {
        mod mariadb {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name("YARD_TEST_MARIADB_URL").await;
            })*
        }
        mod mysql {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name("YARD_TEST_MYSQL_URL").await;
            })*
        }
    };
}

on_both!(
    lock_timeouts_are_redone,
    deadlocks_are_redone,
    placements_of_one_tree_follow_one_another,
    placements_go_by_the_catalog_they_waited_for,
    cut_connections_are_replaced,
    callers_who_go_away_leave_nothing_open,
    schemas_that_do_not_fit_are_refused
);
