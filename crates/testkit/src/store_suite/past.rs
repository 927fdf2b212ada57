//! What was: holdings, runs and arrivals by pages, past use that fades, forecasts that are held to what came.

use std::collections::BTreeSet;
use std::time::Duration;

use uuid::Uuid;
use yard_domain::lifecycle::AttemptEnd;
use yard_domain::{
    AccountOwner, Catalog, ClusterSelector, Failure, FailureClass, JobId, PastUse, Policy, Priority,
    Timestamp,
};
use yard_ports::store::{ForecastError, QueueView, TimeCursor};

use super::World;
use super::world::{LONG, apply, cluster, cluster_id, eventually, rules, team};

const START: TimeCursor = TimeCursor { at: Timestamp::from_micros(0), job: JobId(Uuid::nil()) };

/// Open attempts, the last placed first, each with what placement must know of it.
pub async fn holdings_are_the_last_placed_first(w: &World) {
    let mut placed = Vec::new();
    for cluster in ["east", "west", "east"] {
        placed.push(w.accept_with("ads", 1, |_, job| job.spec.priority = Priority::new(3).unwrap()).await[0]);
        w.place_all(cluster).await;
    }
    w.accept("ml", 1).await;
    let holdings = w.store.open_holdings(2).await.unwrap();
    assert_eq!(holdings.iter().map(|h| h.attempt.job).collect::<Vec<_>>(), [placed[2], placed[1]]);
    let (first, view) = (&holdings[0], w.view(placed[2]).await);
    assert_eq!((first.team.as_str(), first.cluster.as_str()), ("ads", "east"));
    assert_eq!((first.shape, first.order, &first.request), (view.shape, view.order, &view.lifecycle.request));
    assert_eq!((first.placed_at, first.started_at, first.run_timeout), (view.since, None, LONG));
    assert_eq!(first.order.priority().get(), 3);
    let (lease, attempts) = w.launch_all("east").await;
    w.store.record_started(&lease, &attempts).await.unwrap();
    let started: BTreeSet<_> = w
        .store
        .open_holdings(10)
        .await
        .unwrap()
        .into_iter()
        .filter(|h| h.started_at.is_some())
        .map(|h| h.attempt.job)
        .collect();
    assert!(started.contains(&placed[0]) && started.contains(&placed[2]) && !started.contains(&placed[1]));
    w.end(&lease, &attempts, &AttemptEnd::Succeeded).await;
    assert_eq!(w.store.open_holdings(10).await.unwrap().len(), 1);
}

/// Every run that ended, once, whatever the pages; jobs that never ran are none, however many lie between.
pub async fn runs_that_ended_by_pages(w: &World) {
    let mut ran = Vec::new();
    for round in 0..3 {
        ran.extend(w.accept("ads", 2).await);
        let (lease, attempts) = w.run_all("east").await;
        let failed = AttemptEnd::Failed(Failure::new(FailureClass::User, Some(1), "no"));
        let end = if round == 1 { failed } else { AttemptEnd::Succeeded };
        w.end(&lease, &attempts, &end).await;
        for job in w.accept("ads", 5).await {
            w.store.request_stop(job, "ann", "x").await.unwrap();
        }
    }
    for size in [1, 2, 3, 100] {
        let (mut after, mut seen) = (START, Vec::new());
        loop {
            let page = w.store.ended_runs(after, size).await.unwrap();
            let Some(last) = page.last() else { break };
            assert!(page.len() <= size as usize);
            after = TimeCursor { at: last.ended_at, job: last.job };
            seen.extend(page);
        }
        assert!(seen.is_sorted_by_key(|run| (run.ended_at, run.job)), "{seen:?}");
        let jobs: BTreeSet<_> = seen.iter().map(|run| run.job).collect();
        assert_eq!((seen.len(), jobs), (6, ran.iter().copied().collect()), "pages of {size}");
        for run in seen {
            let view = w.view(run.job).await;
            let attempt = &view.attempts[0];
            assert_eq!(run.ran, attempt.ended_at.unwrap().since(attempt.started_at.unwrap()));
            assert_eq!((run.shape, Some(run.ended_at)), (view.shape, view.ended_at));
            assert_eq!(run.succeeded, attempt.end.as_deref() == Some("succeeded"));
        }
    }
    let lease = w.scheduler().await;
    w.claim(&lease, 1).await;
    assert_eq!(w.store.ended_runs(START, 0).await.unwrap(), []);
}

/// What arrived in a window, once, whatever the pages, with what became of it.
pub async fn arrivals_by_pages(w: &World) {
    let before = w.now().await;
    let set = |i: usize, job: &mut yard_domain::NewJob| {
        job.spec.priority = Priority::new(i64::try_from(i).unwrap()).unwrap();
        job.spec.clusters = ClusterSelector {
            avoid: [cluster_id("north")].into(),
            prefer: [("tier".to_owned(), "gold".to_owned())].into(),
            ..ClusterSelector::default()
        };
    };
    let jobs = w.accept_with("ads", 5, set).await;
    let (lease, attempts) = w.run_all("east").await;
    w.end(&lease, &attempts[..2], &AttemptEnd::Succeeded).await;
    let lost = AttemptEnd::Failed(Failure::new(FailureClass::Lost, None, "gone"));
    w.end(&lease, &attempts[2..3], &lost).await;
    let middle = eventually("the clock", async || Some(w.now().await).filter(|now| *now > before)).await;
    let later = w.accept("ml", 3).await;
    let until = w.now().await.plus(Duration::from_millis(1));
    for size in [1, 2, 100] {
        let (mut after, mut seen) = (TimeCursor { at: before, ..START }, Vec::new());
        loop {
            let page = w.store.arrivals(after, until, size).await.unwrap();
            let Some(last) = page.last() else { break };
            after = TimeCursor { at: last.at, job: last.job };
            seen.extend(page);
        }
        let ids: Vec<_> = seen.iter().map(|a| a.job).collect();
        assert_eq!(ids, [jobs.clone(), later.clone()].concat(), "pages of {size}");
        let shown: Vec<_> =
            seen.iter().map(|a| (a.priority.get(), a.waited.is_some(), a.ran.is_some())).collect();
        let ran = |p, ran| (p, true, ran);
        assert_eq!(shown[..5], [ran(0, true), ran(1, true), ran(2, true), ran(3, false), ran(4, false)]);
        assert_eq!(shown[5..], [(0, false, false); 3]);
        assert!(seen[0].clusters.avoid.contains(&cluster_id("north")) && seen[0].clusters.prefer.len() == 1);
        assert_eq!(
            (seen[0].run_timeout, seen[0].queue_timeout, seen[0].request.cpu_milli),
            (LONG, LONG, 1_000)
        );
    }
    let first = w.store.arrivals(TimeCursor { at: before, ..START }, middle, 100).await.unwrap();
    assert!(first.len() <= 5 && first.iter().all(|a| a.at < middle), "{first:?}");
    assert_eq!(w.store.arrivals(TimeCursor { at: until, ..START }, until, 100).await.unwrap(), []);
}

async fn past(w: &World, id: &str) -> Option<PastUse> {
    let owner = AccountOwner::Team(id.parse().unwrap());
    w.store.accounts().await.unwrap().into_iter().find(|a| a.owner == owner).unwrap().past
}

/// Counted with every charge and refund, fading ever after; remembered only if the policy says so.
pub async fn past_use_is_counted_and_fades(w: &World) {
    let with = |half_life: Option<Duration>| Catalog {
        policy: Policy { half_life, ..Policy::default() },
        ..Catalog::of([team("ads", 100), team("ml", 100)], [cluster("east", 100)])
    };
    assert_eq!(past(w, "ads").await, None);
    let half_life = Duration::from_millis(200);
    apply(w, &with(Some(half_life))).await;
    assert_eq!(past(w, "ads").await.unwrap().mean.len(), 0);
    w.accept("ads", 4).await;
    let (lease, attempts) = w.run_all("east").await;
    let rising = eventually("use to count", async || {
        past(w, "ads").await.filter(|p| p.mean.get("jobs").is_some_and(|jobs| *jobs > 2.0))
    })
    .await;
    assert!(rising.mean["cpu"] > 2_000.0 && rising.mean["jobs"] <= 4.0, "{rising:?}");
    // What a pass is given has been counted up to its time, and is not written.
    let input = w.store.load_placement_input(QueueView { groups: 1, depth: 1 }).await.unwrap();
    let mut loaded = input.accounts.into_iter().filter_map(|a| a.past);
    assert!(loaded.all(|p| p.as_of == input.now && p.half_life == half_life));
    w.end(&lease, &attempts, &AttemptEnd::Succeeded).await;
    eventually("use to fade", async || {
        past(w, "ads").await.filter(|p| p.mean.get("jobs").is_none_or(|jobs| *jobs < 1.0))
    })
    .await;
    assert!(past(w, "ml").await.unwrap().mean.is_empty());
    let clusters = w.store.accounts().await.unwrap();
    assert!(clusters.iter().all(|a| a.past.is_none() == matches!(a.owner, AccountOwner::Cluster(_))));
    // Another half-life keeps what was counted; none forgets it.
    w.accept("ads", 2).await;
    w.run_all("east").await;
    eventually("use to count", async || {
        past(w, "ads").await.filter(|p| p.mean.get("jobs").is_some_and(|jobs| *jobs > 1.0))
    })
    .await;
    apply(w, &with(Some(Duration::from_hours(1_000)))).await;
    let kept = past(w, "ads").await.unwrap();
    assert!(kept.half_life == Duration::from_hours(1_000) && kept.mean["jobs"] > 1.0, "{kept:?}");
    apply(w, &with(None)).await;
    assert_eq!(past(w, "ads").await, None);
}

/// Counted by how far ahead and how late; what is old counts less and less.
pub async fn forecasts_are_held_to_what_came(w: &World) {
    assert_eq!(w.store.forecast_errors().await.unwrap(), []);
    let lease = w.scheduler().await;
    let error = |minutes, late_s: i64| ForecastError {
        horizon: Duration::from_mins(minutes),
        late_us: late_s * 1_000_000,
    };
    w.store.add_forecast_errors(&lease, &[]).await.unwrap();
    let errors = [error(0, 10), error(0, -10), error(0, 100), error(30, -7_000), error(5_000, 100_000)];
    w.store.add_forecast_errors(&lease, &errors).await.unwrap();
    let buckets = w.store.forecast_errors().await.unwrap();
    assert_eq!(buckets.iter().map(|b| b.starts).collect::<Vec<_>>(), [2, 1, 1, 1]);
    for e in errors {
        let holds = |b: &&yard_ports::store::ForecastBucket| {
            b.horizon_from <= e.horizon
                && b.horizon_to.is_none_or(|to| e.horizon < to)
                && b.late_from_us.is_none_or(|from| from <= e.late_us)
                && b.late_to_us.is_none_or(|to| e.late_us <= to)
        };
        assert_eq!(buckets.iter().filter(holds).count(), 1, "{e:?} {buckets:?}");
    }
    let mut tasks = Vec::new();
    for i in 0..4 {
        let (store, lease) = (w.store.clone(), w.scheduler_for(&format!("s{i}"), LONG).await);
        tasks.push(tokio::spawn(async move {
            for _ in 0..10 {
                store.add_forecast_errors(&lease, &[error(0, 10); 50]).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let starts: Vec<_> = w.store.forecast_errors().await.unwrap().iter().map(|b| b.starts).collect();
    assert_eq!(starts.len(), 3, "the one that was late by minutes has faded");
    assert!(starts[0] > 500 && starts[0] < 1_024, "{starts:?}");
    w.store.sweep_clocks(&w.scheduler().await, &rules(), 1).await.unwrap();
}
