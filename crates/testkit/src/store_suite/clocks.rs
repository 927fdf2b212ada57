//! Clocks: no state can be stayed in for ever; the sweep moves on what waits too long.

use std::time::Duration;

use yard_domain::event::Event;
use yard_domain::lifecycle::AttemptEnd;
use yard_domain::retry::RetryCounts;
use yard_domain::{Failure, FailureClass, JobState, RetryRules, StateName};
use yard_ports::store::{ClaimRequest, QueueView, StoreLimits, SweepReport};

use super::World;
use super::world::{LONG, SHORT, calm, ends, eventually, rules};

/// Not to be claimed before its backoff is over and swept; then it stands where its age puts it.
pub async fn a_backoff_ends(w: &World) {
    let job = w.accept("ads", 1).await[0];
    let (east, attempts) = w.run_all("east").await;
    let lost = AttemptEnd::Failed(Failure::new(FailureClass::Lost, None, "gone"));
    let patient = RetryRules { backoff_initial: SHORT, backoff_max: SHORT, ..rules() };
    w.store.record_ends(&east, &patient, &ends(&attempts, &lost)).await.unwrap();
    let younger = w.accept("ads", 1).await[0];
    let lease = w.scheduler().await;
    let view = w.view(job).await;
    let JobState::Queued { not_before: Some(not_before), .. } = view.lifecycle.state else {
        panic!("{view:?}")
    };
    let heads = w.store.load_placement_input(QueueView { groups: 9, depth: 9 }).await.unwrap().heads;
    assert_eq!(heads[0].orders.len(), 1, "only the younger one may be placed");
    let early = w.store.sweep_clocks(&lease, &rules(), 100).await.unwrap();
    assert!(early.is_empty() || w.now().await >= not_before, "{early:?}");
    let report = eventually("the backoff's end", async || {
        if early.woken == 1 {
            return Some(early);
        }
        let report = w.store.sweep_clocks(&lease, &rules(), 100).await.unwrap();
        (!report.is_empty()).then_some(report)
    })
    .await;
    assert_eq!(report, SweepReport { woken: 1, ..SweepReport::default() });
    assert!(w.now().await >= not_before);
    assert_eq!(w.view(job).await.lifecycle, view.lifecycle, "waking is no transition");
    let claimed: Vec<_> = w.claim(&lease, 10).await.iter().map(|c| c.id).collect();
    assert_eq!(claimed, [job, younger], "its age counts from its acceptance");
}

/// What waits longer than its queue timeout ends as expired; what is claimed meanwhile does not.
pub async fn a_queue_timeout_expires(w: &World) {
    let hasty = |_: usize, job: &mut yard_domain::NewJob| job.spec.timeouts.queue = SHORT;
    let jobs = w.accept_with("ads", 2, hasty).await;
    let calm_job = w.accept("ads", 1).await[0];
    let lease = w.scheduler().await;
    let claimed = w.claim(&lease, 1).await;
    let expired = eventually("the queue timeout", async || {
        let report = w.store.sweep_clocks(&lease, &rules(), 100).await.unwrap();
        (!report.is_empty()).then_some(report)
    })
    .await;
    assert_eq!(expired, SweepReport { expired: 1, ..SweepReport::default() });
    assert_eq!(w.state(jobs[1]).await, StateName::Expired);
    assert_eq!((w.state(jobs[0]).await, w.state(calm_job).await), (StateName::Claimed, StateName::Queued));
    let view = w.view(jobs[1]).await;
    assert!(view.since >= view.created_at.plus(SHORT));
    assert_eq!(w.codes(jobs[1]).await, ["accepted", "expired"]);
    // Given back after its time: the next sweep ends it.
    w.store
        .release_claims(&lease, &[claimed[0].id], yard_domain::event::ReleaseReason::NoRoom)
        .await
        .unwrap();
    assert_eq!(w.store.sweep_clocks(&lease, &rules(), 100).await.unwrap().expired, 1);
}

/// Placed, but its launch never began: the attempt failed, the charge is refunded, the job waits again.
pub async fn a_late_launch_is_undone(w: &World) {
    let hasty = w.database.open(StoreLimits { place_deadline: SHORT, ..calm() }).await;
    let jobs = w.accept("ads", 2).await;
    let lease = w.scheduler().await;
    let claimed = w.claim(&lease, 2).await;
    let order = |c: &yard_ports::store::ClaimedJob| yard_ports::store::PlacementOrder {
        job: c.id,
        team: c.team.clone(),
        cluster: super::world::cluster_id("east"),
    };
    let orders: Vec<_> = claimed.iter().map(order).collect();
    hasty.commit_placements(&lease, &orders).await.unwrap();
    let east = w.dispatcher("east").await;
    assert_eq!(hasty.begin_launches(&east, 1).await.unwrap().orders[0].job.id, jobs[0]);
    let report = eventually("the placement's deadline", async || {
        let report = hasty.sweep_clocks(&lease, &rules(), 100).await.unwrap();
        (!report.is_empty()).then_some(report)
    })
    .await;
    assert_eq!(report, SweepReport { unplaced: 1, ..SweepReport::default() });
    assert_eq!((w.state(jobs[0]).await, w.state(jobs[1]).await), (StateName::Launching, StateName::Queued));
    let view = w.view(jobs[1]).await;
    assert_eq!(view.attempts[0].end.as_deref(), Some("launch_failed"));
    assert_eq!(view.lifecycle.counts, RetryCounts { infra: 1, ..RetryCounts::default() });
    assert_eq!(w.jobs_charged(&yard_domain::AccountOwner::Team("ads".parse().unwrap())).await, 1);
}

/// A scheduler that died with claims: they go back once its lease has ended, and it can't use them any more.
pub async fn claims_of_a_dead_scheduler_come_back(w: &World) {
    let jobs = w.accept("ads", 4).await;
    let dying = w.scheduler_for("dying", LONG).await;
    let claimed = w.claim(&dying, 2).await;
    let dying = w.store.renew_leases(&[dying], SHORT).await.unwrap().remove(0).unwrap();
    let gone = w.scheduler_for("gone", LONG).await;
    w.claim(&gone, 1).await;
    w.store.release_lease(&gone).await.unwrap();
    let lease = w.scheduler().await;
    // The released lease's claim comes back at once, the dying one's when it has ended.
    let mut reclaimed = w.store.sweep_clocks(&lease, &rules(), 100).await.unwrap().reclaimed;
    assert!(reclaimed == 1 || !dying.is_valid(w.now().await), "{reclaimed}");
    eventually("all claims", async || {
        reclaimed += w.store.sweep_clocks(&lease, &rules(), 100).await.unwrap().reclaimed;
        (reclaimed == 3).then_some(())
    })
    .await;
    assert!(!dying.is_valid(w.now().await));
    let back = w.history(claimed[0].id).await;
    let reason = yard_domain::event::ReleaseReason::LeaseExpired;
    assert_eq!(back.last().unwrap().event, Event::Released { reason });
    let again = w.claim(&lease, 10).await;
    assert_eq!(again.iter().map(|c| c.id).collect::<Vec<_>>(), jobs);
}

/// However often it is swept, what a live scheduler has claimed stays in its hands: also under a fresh lease.
pub async fn claims_of_a_live_scheduler_stay(w: &World) {
    w.accept("ads", 40).await;
    let sweeper = w.scheduler_for("sweeper", LONG).await;
    let head = w.store.load_placement_input(QueueView { groups: 1, depth: 1 }).await.unwrap().heads.remove(0);
    let store = w.store.clone();
    let claims = tokio::spawn(async move {
        let mut mine = Vec::new();
        for i in 0..10 {
            let scope = yard_domain::LeaseScope::Scheduler(format!("s{i}"));
            let lease = store.acquire_lease(&scope, "s", LONG).await.unwrap().unwrap();
            let request = ClaimRequest { team: head.team.clone(), shape: head.shape, max: 4 };
            mine.extend(store.claim(&lease, &[request]).await.unwrap());
        }
        mine
    });
    while !claims.is_finished() {
        assert_eq!(w.store.sweep_clocks(&sweeper, &rules(), 100).await.unwrap(), SweepReport::default());
    }
    for job in claims.await.unwrap() {
        assert_eq!(w.state(job.id).await, StateName::Claimed);
    }
}

/// No more than asked for in one sweep; the rest in the next.
pub async fn a_sweep_is_bounded(w: &World) {
    let hasty = |_: usize, job: &mut yard_domain::NewJob| job.spec.timeouts.queue = Duration::from_micros(1);
    w.accept_with("ads", 25, hasty).await;
    let lease = w.scheduler().await;
    let mut sizes = Vec::new();
    eventually("every expiry", async || {
        sizes.push(w.store.sweep_clocks(&lease, &rules(), 10).await.unwrap().expired);
        (sizes.iter().sum::<u32>() == 25).then_some(())
    })
    .await;
    assert!(sizes.iter().all(|n| *n <= 10), "{sizes:?}");
}
