//! A random walk: schedulers, dispatchers, producers and people at once, with leases that end under them. The
//! checks that follow every test (exact ledger, histories that replay) are the point.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use yard_domain::event::ReleaseReason;
use yard_domain::lifecycle::AttemptEnd;
use yard_domain::{Failure, FailureClass, JobId, Lease, LeaseScope, RetryPolicy, RetryRules};
use yard_ports::store::{
    AttemptRef, ClaimRequest, EndOrder, JobFilter, PlacementOrder, QueueView, Store, StoreError, StoreLimits,
};

use super::World;
use super::world::{arrival, cluster, cluster_id, new_job, team};

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

async fn lease(store: &dyn Store, scope: LeaseScope, holder: &str) -> Option<Lease> {
    store.acquire_lease(&scope, holder, Duration::from_millis(30)).await.expect("acquire")
}

async fn schedule(store: Arc<dyn Store>, name: String, mut rng: StdRng) {
    for _ in 0..STEPS {
        let Some(lease) = lease(&*store, LeaseScope::Scheduler(name.clone()), &name).await else { continue };
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

async fn dispatch(store: Arc<dyn Store>, cluster: &str, name: String, mut rng: StdRng) {
    let id = cluster_id(cluster);
    for _ in 0..STEPS {
        let Some(lease) = lease(&*store, LeaseScope::Dispatch(id.clone()), &name).await else {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        };
        tolerate(store.begin_launches(&lease, rng.random_range(1..10)).await.map(|b| b.orders.len()));
        let active = store.active_attempts(&id, None, 100).await.expect("active");
        let refs: Vec<_> = active.iter().map(|a| AttemptRef { job: a.job, attempt: a.attempt }).collect();
        let started: Vec<_> = refs.iter().filter(|_| rng.random_bool(0.5)).copied().collect();
        tolerate(store.record_started(&lease, &started).await);
        let wishes: BTreeSet<_> =
            store.stop_wishes(&id).await.expect("wishes").iter().map(|(a, _)| a.job).collect();
        let mut ends = Vec::new();
        for attempt in refs {
            let failure = |class| AttemptEnd::Failed(Failure::new(class, Some(1), "walk"));
            let end = match rng.random_range(0..8) {
                _ if wishes.contains(&attempt.job) => AttemptEnd::Stopped,
                0 | 1 => AttemptEnd::Succeeded,
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
        let jobs = store.jobs(&filter).await.expect("jobs");
        if !jobs.is_empty() && rng.random_bool(0.5) {
            let row = &jobs[rng.random_range(0..jobs.len())];
            store.request_stop(row.lifecycle.id, "walk", "at random").await.expect("stop");
        }
        assert_eq!(store.audit().await.expect("audit"), [], "exact at every moment");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Everybody at once, a few hundred jobs, short clocks.
pub async fn actors_at_random(w: &World) {
    let clusters = [cluster("east", 12), cluster("west", 9)];
    w.store
        .apply_catalog(
            &yard_domain::Catalog::of([team("ads", 11), team("ml", 8)], clusters.clone()),
            yard_ports::store::CatalogDocument::configuration("", "test"),
        )
        .await
        .unwrap();
    let rng = |i: u64| StdRng::seed_from_u64(0x5eed + i);
    let mut tasks = Vec::new();
    for i in 0..3 {
        let store = w.database.open(limits()).await;
        tasks.push(tokio::spawn(schedule(Arc::clone(&store), format!("s{i}"), rng(i))));
        tasks.push(tokio::spawn(dispatch(Arc::clone(&store), "east", format!("d{i}"), rng(10 + i))));
        tasks.push(tokio::spawn(dispatch(Arc::clone(&store), "west", format!("d{i}"), rng(20 + i))));
    }
    for i in 0..2 {
        tasks.push(tokio::spawn(produce(w.store.clone(), i, rng(30 + i))));
    }
    tasks.push(tokio::spawn(stop(w.store.clone(), rng(40))));
    for task in tasks {
        task.await.unwrap();
    }
    // On a busy machine leases run out between steps and little gets done: then there are further rounds.
    for round in 0..20 {
        let jobs = w.all_jobs().await;
        assert_eq!(jobs.len(), 2 * (STEPS / 3) * 8);
        let ended = jobs.iter().filter(|job| job.state.name().is_end()).count();
        if ended > jobs.len() / 10 {
            return;
        }
        let store = w.database.open(limits()).await;
        schedule(Arc::clone(&store), format!("s-more{round}"), rng(50 + round)).await;
        dispatch(Arc::clone(&store), "east", format!("d-more{round}"), rng(80 + round)).await;
        dispatch(store, "west", format!("d-more{round}"), rng(110 + round)).await;
    }
    panic!("the walk went nowhere");
}
