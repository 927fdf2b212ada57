//! The fence: no write without a valid lease. What a stale holder asks for changes no row.

use std::future::Future;

use yard_domain::event::ReleaseReason;
use yard_domain::lifecycle::AttemptEnd;
use yard_domain::{ClusterHealth, ClusterReport, Lease, LeaseScope};
use yard_ports::store::{
    AttemptRef, ClaimRequest, ClaimedJob, ForecastError, PlacementOrder, PreemptOrder, StoreError, WaitNote,
};

use super::World;
use super::world::{LONG, SHORT, cluster_id, ends, eventually, rules};

/// Jobs in every state that a lease's holder could write to.
struct Stage {
    claimed: Vec<ClaimedJob>,
    running: Vec<AttemptRef>,
    launching: Vec<AttemptRef>,
    request: ClaimRequest,
}

async fn stage(w: &World, scheduler: &Lease, dispatcher: &Lease) -> Stage {
    let place = async |n: u32| {
        let claimed = w.claim(scheduler, n).await;
        w.commit(scheduler, &claimed, "east").await;
    };
    let begin = async || {
        let batch = w.store.begin_launches(dispatcher, 1).await.unwrap();
        batch.orders.iter().map(|o| AttemptRef { job: o.job.id, attempt: o.attempt }).collect::<Vec<_>>()
    };
    let jobs = w.accept("ads", 6).await;
    let view = w.view(jobs[0]).await;
    let request = ClaimRequest { team: view.lifecycle.team, shape: view.shape, max: 10 };
    place(3).await;
    let running = begin().await;
    w.store.record_started(dispatcher, &running).await.unwrap();
    let launching = begin().await;
    let claimed = w.claim(scheduler, 1).await;
    Stage { claimed, running, launching, request }
}

/// Everything that could have been changed, as text.
async fn snapshot(w: &World) -> String {
    let mut jobs = Vec::new();
    for job in w.all_jobs().await {
        jobs.push((w.view(job.id).await, w.history(job.id).await));
    }
    let accounts = w.store.accounts().await.unwrap();
    let (clusters, errors) = (w.store.clusters().await.unwrap(), w.store.forecast_errors().await.unwrap());
    format!("{jobs:?} {accounts:?} {clusters:?} {errors:?}")
}

async fn refuse<T: std::fmt::Debug>(
    verb: &str,
    lease: &Lease,
    answer: impl Future<Output = Result<T, StoreError>>,
) {
    match answer.await {
        Err(StoreError::LeaseLost { scope, token }) => {
            assert_eq!((scope, token), (lease.scope.to_string(), lease.token), "{verb}");
        }
        other => panic!("{verb} under a lost lease: {other:?}"),
    }
}

/// Every leased verb, under leases that are not valid any more.
async fn all_verbs_are_refused(w: &World, stage: &Stage, scheduler: &Lease, dispatcher: &Lease) {
    let before = snapshot(w).await;
    let (s, d) = (scheduler, dispatcher);
    let order =
        |c: &ClaimedJob| PlacementOrder { job: c.id, team: c.team.clone(), cluster: cluster_id("east") };
    let orders: Vec<_> = stage.claimed.iter().map(order).collect();
    let ids: Vec<_> = stage.claimed.iter().map(|c| c.id).collect();
    let note = WaitNote {
        team: stage.request.team.clone(),
        shape: stage.request.shape,
        code: "stale".to_owned(),
        message: String::new(),
        clusters: std::collections::BTreeMap::new(),
        expected_start: None,
    };
    let report = ClusterReport {
        ray_profiles: None,
        gpu_blocks: None,
        breaker_open: false,
        recent_failures: 0,
        cluster: cluster_id("east"),
        health: ClusterHealth::Unreachable,
        capacity: None,
        message: None,
    };
    let ends = ends(&stage.running, &AttemptEnd::Succeeded);
    refuse("claim", s, w.store.claim(s, std::slice::from_ref(&stage.request))).await;
    refuse("commit_placements", s, w.store.commit_placements(s, &orders)).await;
    refuse("release_claims", s, w.store.release_claims(s, &ids, ReleaseReason::Shutdown)).await;
    refuse("note_waits", s, w.store.note_waits(s, &[note])).await;
    let preempt = PreemptOrder {
        attempt: stage.running[0],
        for_team: stage.request.team.clone(),
        reason: "stale".to_owned(),
    };
    let late = ForecastError { horizon: LONG, late_us: 0 };
    refuse("request_preemptions", s, w.store.request_preemptions(s, &[preempt])).await;
    refuse("add_forecast_errors", s, w.store.add_forecast_errors(s, &[late])).await;
    refuse("sweep_clocks", s, w.store.sweep_clocks(s, &rules(), 10)).await;
    refuse("begin_launches", d, w.store.begin_launches(d, 10)).await;
    refuse("record_started", d, w.store.record_started(d, &stage.launching)).await;
    refuse("record_ends", d, w.store.record_ends(d, &rules(), &ends)).await;
    refuse("report_cluster", d, w.store.report_cluster(d, &report)).await;
    assert_eq!(snapshot(w).await, before);
}

/// Taken over by another: every verb of the holder before is refused, the new holder's works on the same jobs.
pub async fn a_stale_lease_writes_nothing(w: &World) {
    let (s1, d1) = (w.scheduler().await, w.dispatcher("east").await);
    let stage = stage(w, &s1, &d1).await;
    let (_, d2) = (w.scheduler().await, w.dispatcher("east").await);
    all_verbs_are_refused(w, &stage, &s1, &d1).await;
    let recorded = w.end(&d2, &stage.running, &AttemptEnd::Succeeded).await;
    assert!(matches!(recorded[0], yard_ports::store::Recorded::Ended(_)), "{recorded:?}");
}

/// Ended, though nobody has taken it over: refused all the same.
pub async fn an_expired_lease_writes_nothing(w: &World) {
    let (s1, d1) = (w.scheduler().await, w.dispatcher("east").await);
    let stage = stage(w, &s1, &d1).await;
    let leases = w.store.renew_leases(&[s1, d1], SHORT).await.unwrap();
    let [Some(s), Some(d)] = &leases[..] else { panic!("{leases:?}") };
    eventually("the leases' end", async || {
        let now = w.now().await;
        (!s.is_valid(now) && !d.is_valid(now)).then_some(())
    })
    .await;
    all_verbs_are_refused(w, &stage, s, d).await;
}

/// A scheduler's lease is no dispatcher's, nor the other way round, nor is mere presence any of them.
pub async fn leases_of_the_wrong_kind_are_refused(w: &World) {
    let scheduler = w.scheduler().await;
    let dispatcher = w.dispatcher("east").await;
    let presence = LeaseScope::Presence("p".to_owned());
    let presence = w.store.acquire_lease(&presence, "p", LONG).await.unwrap().unwrap();
    for wrong in [&scheduler, &presence] {
        let answer = w.store.begin_launches(wrong, 1).await;
        assert!(matches!(answer, Err(StoreError::Rejected { .. })), "{answer:?}");
    }
    for wrong in [&dispatcher, &presence] {
        let answer = w.store.sweep_clocks(wrong, &rules(), 1).await;
        assert!(matches!(answer, Err(StoreError::Rejected { .. })), "{answer:?}");
    }
    let other = ClusterReport {
        ray_profiles: None,
        gpu_blocks: None,
        breaker_open: false,
        recent_failures: 0,
        cluster: cluster_id("west"),
        health: ClusterHealth::Unreachable,
        capacity: None,
        message: None,
    };
    let answer = w.store.report_cluster(&dispatcher, &other).await;
    assert!(matches!(answer, Err(StoreError::Rejected { .. })), "{answer:?}");
}
