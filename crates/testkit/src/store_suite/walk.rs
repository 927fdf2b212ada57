//! A random walk: schedulers, dispatchers, producers and people at once, with leases that end under them. The
//! checks that follow every test (exact ledger, histories that replay) are the point.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use yard_domain::event::ReleaseReason;
use yard_domain::lifecycle::AttemptEnd;
use yard_domain::{
    Catalog, Cohort, Failure, FailureClass, JobId, Lease, LeaseScope, Policy, RetryPolicy, RetryRules, Team,
};
use yard_ports::store::{
    AttemptRef, CatalogDocument, ClaimRequest, EndOrder, JobFilter, OpenHolding, PlacementOrder,
    PreemptOrder, QueueView, StopCause, Store, StoreError, StoreLimits,
};

use super::World;
use super::world::{apply, arrival, cluster, cluster_id, new_job, team};

const STEPS: usize = 60;

fn limits() -> StoreLimits {
    StoreLimits { place_deadline: Duration::from_millis(20), launch_deadline: Duration::from_millis(200) }
}

fn rules() -> RetryRules {
    let backoff = Duration::from_millis(5);
    RetryRules { max_infra_retries: 3, backoff_initial: backoff, backoff_max: backoff }
}

/// A lost lease is part of the walk; anything else is not.
fn tolerate<T: Default>(result: Result<T, StoreError>) -> T {
    match result {
        Ok(value) => value,
        Err(StoreError::LeaseLost { .. }) => T::default(),
        Err(other) => panic!("{other}"),
    }
}

/// How long leases last: they end under those who hold them.
const TTL: Duration = Duration::from_millis(30);

async fn lease(store: &dyn Store, scope: LeaseScope, holder: &str, ttl: Duration) -> Option<Lease> {
    store.acquire_lease(&scope, holder, ttl).await.expect("acquire")
}

async fn schedule(store: Arc<dyn Store>, name: String, ttl: Duration, mut rng: StdRng) {
    for _ in 0..STEPS {
        let Some(lease) = lease(&*store, LeaseScope::Scheduler(name.clone()), &name, ttl).await else {
            continue;
        };
        tolerate(store.sweep_clocks(&lease, &rules(), rng.random_range(1..20)).await);
        let input = store.load_placement_input(QueueView { groups: 10, depth: 2 }).await.expect("load");
        let max = rng.random_range(1..8);
        let requests: Vec<_> =
            input.heads.into_iter().map(|h| ClaimRequest { team: h.team, shape: h.shape, max }).collect();
        let claimed = tolerate(store.claim(&lease, &requests).await);
        if rng.random_bool(0.1) {
            // It dies here; the sweep of another finds its claims.
            tokio::time::sleep(Duration::from_millis(35)).await;
        }
        let (some, rest) = claimed.split_at(rng.random_range(0..=claimed.len()));
        let mut place = |c: &yard_ports::store::ClaimedJob| PlacementOrder {
            job: c.id,
            team: c.team.clone(),
            cluster: cluster_id(if rng.random_bool(0.5) { "east" } else { "west" }),
        };
        let orders: Vec<_> = some.iter().map(&mut place).collect();
        tolerate(store.commit_placements(&lease, &orders).await);
        let rest: Vec<JobId> = rest.iter().map(|c| c.id).collect();
        tolerate(store.release_claims(&lease, &rest, ReleaseReason::Shutdown).await);
    }
}

async fn preempt(store: Arc<dyn Store>, ttl: Duration, mut rng: StdRng) {
    for _ in 0..STEPS {
        let scope = LeaseScope::Scheduler("preempts".to_owned());
        let Some(lease) = lease(&*store, scope, "preempts", ttl).await else { continue };
        let holdings = store.open_holdings(10).await.expect("holdings");
        let mut ask = |h: OpenHolding| {
            let for_team = if h.team.as_str() == "ads" { "ml" } else { "ads" };
            let for_team = for_team.parse().expect("a name");
            let order = PreemptOrder { attempt: h.attempt, for_team, reason: "walk".to_owned() };
            rng.random_bool(0.1).then_some(order)
        };
        let victims: Vec<_> = holdings.into_iter().filter_map(&mut ask).collect();
        tolerate(store.request_preemptions(&lease, &victims).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn dispatch(store: Arc<dyn Store>, cluster: &str, name: String, ttl: Duration, mut rng: StdRng) {
    let id = cluster_id(cluster);
    for _ in 0..STEPS {
        let Some(lease) = lease(&*store, LeaseScope::Dispatch(id.clone()), &name, ttl).await else {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        };
        tolerate(store.begin_launches(&lease, rng.random_range(1..10)).await.map(|b| b.orders.len()));
        let active = store.active_attempts(&id, None, 100).await.expect("active");
        let refs: Vec<_> = active.iter().map(|a| AttemptRef { job: a.job, attempt: a.attempt }).collect();
        let started: Vec<_> = refs.iter().filter(|_| rng.random_bool(0.5)).copied().collect();
        tolerate(store.record_started(&lease, &started).await);
        let wishes: HashMap<_, _> = store.stop_wishes(&id).await.expect("wishes").into_iter().collect();
        let mut ends = Vec::new();
        for attempt in refs {
            let failure = |class| AttemptEnd::Failed(Failure::new(class, Some(1), "walk"));
            let end = match rng.random_range(0..8) {
                0 => AttemptEnd::Succeeded,
                _ if wishes.get(&attempt) == Some(&StopCause::Requested) => AttemptEnd::Stopped,
                _ if wishes.contains_key(&attempt) => failure(FailureClass::Preempted),
                1 => AttemptEnd::Succeeded,
                2 => failure(FailureClass::User),
                3 => failure(FailureClass::Lost),
                4 => failure(FailureClass::Preempted),
                _ => continue,
            };
            ends.push(EndOrder { attempt, end, jitter: 0.5 });
        }
        if rng.random_bool(0.1) {
            tokio::time::sleep(Duration::from_millis(35)).await;
        }
        tolerate(store.record_ends(&lease, &rules(), &ends).await);
    }
}

async fn produce(store: Arc<dyn Store>, seed: u64, mut rng: StdRng) {
    for step in 0..STEPS / 3 {
        let mut make = |i: usize| {
            let team = if rng.random_bool(0.5) { "ads" } else { "ml" };
            let mut job = new_job(team, &format!("{seed}-{step}-{i}"));
            job.spec.request.cpu_milli = rng.random_range(1..4) * 1_000;
            job.spec.retry = RetryPolicy { max_retries: rng.random_range(0..3) };
            if rng.random_bool(0.2) {
                job.spec.timeouts.queue = Duration::from_millis(50);
            }
            arrival(job)
        };
        let batch: Vec<_> = (0..8).map(&mut make).collect();
        store.accept(&batch).await.expect("accept");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn stop(store: Arc<dyn Store>, mut rng: StdRng) {
    for _ in 0..STEPS {
        let filter = JobFilter { limit: 50, ..JobFilter::default() };
        let jobs = store.jobs(&filter).await.expect("jobs").jobs;
        if !jobs.is_empty() && rng.random_bool(0.5) {
            let row = &jobs[rng.random_range(0..jobs.len())];
            store.request_stop(row.lifecycle.id, "walk", "at random").await.expect("stop");
        }
        assert_eq!(store.audit().await.expect("audit"), [], "exact at every moment");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Somebody changes the catalog again and again: who lends to whom, and what of the past is remembered.
async fn declare(store: Arc<dyn Store>, mut rng: StdRng) {
    for step in 0..STEPS / 4 {
        let (text, half_life_ms) = (format!("walk {step}"), rng.random_range(0..100));
        let catalog = catalog(rng.random_bool(0.7), half_life_ms);
        let document = CatalogDocument::configuration(&text, "walk");
        store.apply_catalog(&catalog, document).await.expect("apply");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn catalog(together: bool, half_life_ms: u64) -> Catalog {
    let cohort = |id: &str, parent: Option<&str>| Cohort {
        parent: parent.and_then(|p| p.parse().ok()),
        ..Cohort::new(id.parse().expect("a name"))
    };
    let lends = |team: Team, to: &str| Team { cohort: to.parse().ok().filter(|_| together), ..team };
    let half_life = (half_life_ms > 20).then(|| Duration::from_millis(half_life_ms));
    Catalog {
        cohorts: vec![cohort("all", None), cohort("some", Some("all"))],
        policy: Policy { half_life, ..Policy::default() },
        ..Catalog::of(
            [lends(team("ads", 11), "some"), lends(team("ml", 8), "all")],
            [cluster("east", 12), cluster("west", 9)],
        )
    }
}

/// Everybody at once, a few hundred jobs, short clocks.
pub async fn actors_at_random(w: &World) {
    apply(w, &catalog(true, 50)).await;
    let rng = |i: u64| StdRng::seed_from_u64(0x5eed + i);
    let mut tasks = Vec::new();
    for i in 0..3 {
        let store = w.database.open(limits()).await;
        tasks.push(tokio::spawn(schedule(Arc::clone(&store), format!("s{i}"), TTL, rng(i))));
        tasks.push(tokio::spawn(dispatch(Arc::clone(&store), "east", format!("d{i}"), TTL, rng(10 + i))));
        tasks.push(tokio::spawn(dispatch(Arc::clone(&store), "west", format!("d{i}"), TTL, rng(20 + i))));
    }
    for i in 0..2 {
        tasks.push(tokio::spawn(produce(w.store.clone(), i, rng(30 + i))));
    }
    tasks.push(tokio::spawn(stop(w.store.clone(), rng(40))));
    tasks.push(tokio::spawn(preempt(w.store.clone(), TTL, rng(42))));
    tasks.push(tokio::spawn(declare(w.store.clone(), rng(45))));
    for task in tasks {
        task.await.unwrap();
    }
    // On a busy machine leases run out between steps and little gets done: then there are further rounds, with longer
    // ones.
    for round in 0..20 {
        let ttl = TTL * u32::try_from(2 + 2 * round).unwrap();
        let jobs = w.all_jobs().await;
        assert_eq!(jobs.len(), 2 * (STEPS / 3) * 8);
        let ended = jobs.iter().filter(|job| job.state.name().is_end()).count();
        let preempted = jobs.iter().filter(|job| job.counts.preempted > 0).count();
        if ended > jobs.len() / 10 && preempted > 0 {
            return;
        }
        let store = w.database.open(limits()).await;
        schedule(Arc::clone(&store), format!("s-more{round}"), ttl, rng(50 + round)).await;
        preempt(Arc::clone(&store), ttl, rng(140 + round)).await;
        dispatch(Arc::clone(&store), "east", format!("d-more{round}"), ttl, rng(80 + round)).await;
        dispatch(store, "west", format!("d-more{round}"), ttl, rng(110 + round)).await;
    }
    panic!("the walk went nowhere");
}
