//! Ends of attempts: the job ends or waits for another, both charges are refunded, each exactly once.

use std::time::Duration;

use yard_domain::lifecycle::AttemptEnd;
use yard_domain::retry::RetryCounts;
use yard_domain::{
    AccountOwner, AttemptNumber, Failure, FailureClass, JobState, LeaseScope, Outcome, RetryPolicy,
    RetryRules, StateName,
};
use yard_ports::store::{AttemptRef, Recorded};

use super::World;
use super::world::{LONG, cluster_id, ends, fresh_id, rules};

fn failure(class: FailureClass) -> AttemptEnd {
    AttemptEnd::Failed(Failure::new(class, Some(1), "it broke"))
}

/// Succeeded: ended for good, nothing charged any more.
pub async fn success_ends_and_refunds(w: &World) {
    let jobs = w.accept("ads", 3).await;
    let (lease, attempts) = w.run_all("east").await;
    let recorded = w.end(&lease, &attempts[..2], &AttemptEnd::Succeeded).await;
    assert_eq!(recorded, [Recorded::Ended(Outcome::Succeeded), Recorded::Ended(Outcome::Succeeded)]);
    let view = w.view(jobs[0]).await;
    assert_eq!(view.lifecycle.state, JobState::Ended(Outcome::Succeeded));
    assert_eq!(view.ended_at, Some(view.since));
    let attempt = &view.attempts[0];
    assert_eq!((attempt.ended_at, attempt.end.as_deref()), (view.ended_at, Some("succeeded")));
    assert!(attempt.placed_at <= attempt.launched_at.unwrap() && attempt.launched_at <= attempt.started_at);
    assert_eq!(w.jobs_charged(&AccountOwner::Cluster(cluster_id("east"))).await, 1);
    assert_eq!(w.jobs_charged(&AccountOwner::Team("ads".parse().unwrap())).await, 1);
    let codes = w.codes(jobs[0]).await;
    assert_eq!(codes, ["accepted", "claimed", "placed", "launch_begun", "started", "succeeded"]);
}

/// Each failure is paid by its budget: the job's own, the installation's, or none; then it has failed.
pub async fn failures_are_retried_by_class(w: &World) {
    let own = |_: usize, job: &mut yard_domain::NewJob| job.spec.retry = RetryPolicy { max_retries: 1 };
    let job = w.accept_with("ads", 1, own).await[0];
    let classes = [FailureClass::User, FailureClass::Lost, FailureClass::Preempted, FailureClass::Launch];
    for (i, class) in classes.into_iter().enumerate() {
        let (lease, attempts) = w.run_all("east").await;
        assert_eq!(attempts[0].attempt.0 as usize, i + 1);
        let recorded = w.end(&lease, &attempts, &failure(class)).await;
        let view = w.view(job).await;
        let JobState::Queued { not_before: Some(not_before), deadline } = view.lifecycle.state else {
            panic!("{view:?}")
        };
        assert_eq!(recorded, [Recorded::Requeued { not_before }]);
        assert_eq!(deadline, not_before.plus(LONG), "the queue timeout runs anew");
        assert_eq!(w.jobs_charged(&AccountOwner::Cluster(cluster_id("east"))).await, 0);
    }
    let view = w.view(job).await;
    assert_eq!(view.lifecycle.counts, RetryCounts { own: 1, infra: 2, preempted: 1 });
    assert_eq!((view.lifecycle.attempts, view.attempts.len()), (4, 4));
    let (lease, attempts) = w.run_all("east").await;
    let recorded = w.end(&lease, &attempts, &failure(FailureClass::User)).await;
    let broke = Failure::new(FailureClass::User, Some(1), "it broke");
    assert_eq!(recorded, [Recorded::Ended(Outcome::Failed(broke.clone()))]);
    assert_eq!(w.view(job).await.lifecycle.state, JobState::Ended(Outcome::Failed(broke)));
}

/// Reported again, or about an attempt that is not current: nothing changes.
pub async fn a_repeated_end_is_stale(w: &World) {
    let jobs = w.accept_with("ads", 2, |_, job| job.spec.retry = RetryPolicy { max_retries: 3 }).await;
    let (lease, attempts) = w.run_all("east").await;
    let absent = AttemptRef { job: fresh_id(), attempt: AttemptNumber(1) };
    let later = AttemptRef { attempt: AttemptNumber(2), ..attempts[1] };
    let report = [attempts[0], attempts[0], absent, later];
    let recorded = w.end(&lease, &report, &AttemptEnd::Succeeded).await;
    let wanted = [Recorded::Ended(Outcome::Succeeded), Recorded::Stale, Recorded::Stale, Recorded::Stale];
    assert_eq!(recorded, wanted);
    assert_eq!(w.end(&lease, &attempts[..1], &failure(FailureClass::Lost)).await, [Recorded::Stale]);
    assert_eq!(w.state(jobs[0]).await, StateName::Succeeded);
    // The second is retried: its first attempt's end, told again, does not touch its second.
    w.end(&lease, &attempts[1..], &failure(FailureClass::User)).await;
    let (lease, second) = w.run_all("east").await;
    assert_eq!(second, [later]);
    assert_eq!(w.end(&lease, &attempts[1..], &failure(FailureClass::User)).await, [Recorded::Stale]);
    assert_eq!(w.state(jobs[1]).await, StateName::Running);
    // Nor can what was never launched have succeeded.
    let placed = w.accept("ads", 1).await;
    w.place_all("east").await;
    let attempt = AttemptRef { job: placed[0], attempt: AttemptNumber(1) };
    assert_eq!(w.end(&lease, &[attempt], &AttemptEnd::Succeeded).await, [Recorded::Stale]);
    assert_eq!(w.state(placed[0]).await, StateName::Placed);
}

/// The same report from eight tasks at once: each end is recorded by one of them, refunded once.
pub async fn concurrent_ends_refund_once(w: &World) {
    w.accept("ads", 60).await;
    w.accept("ml", 60).await;
    let (lease, attempts) = w.run_all("east").await;
    let tasks: Vec<_> = (0..8)
        .map(|i| {
            let (store, lease, mut attempts) = (w.store.clone(), lease.clone(), attempts.clone());
            attempts.rotate_left(i * 13);
            tokio::spawn(async move {
                let mut recorded = 0;
                for part in attempts.chunks(50) {
                    let answers =
                        store.record_ends(&lease, &rules(), &ends(part, &AttemptEnd::Succeeded)).await;
                    recorded += answers.unwrap().iter().filter(|r| **r != Recorded::Stale).count();
                }
                recorded
            })
        })
        .collect();
    let mut recorded = 0;
    for task in tasks {
        recorded += task.await.unwrap();
    }
    assert_eq!(recorded, 120);
    for account in w.store.accounts().await.unwrap() {
        assert!(account.used.is_zero(), "{account:?}");
    }
}

/// A dispatcher reports on its own cluster only.
pub async fn ends_of_another_cluster_are_stale(w: &World) {
    let jobs = w.accept("ads", 1).await;
    let (_, attempts) = w.run_all("east").await;
    let west = w.dispatcher("west").await;
    assert_eq!(w.end(&west, &attempts, &AttemptEnd::Succeeded).await, [Recorded::Stale]);
    assert_eq!(w.store.record_started(&west, &attempts).await.unwrap(), [Recorded::Stale]);
    assert_eq!(w.state(jobs[0]).await, StateName::Running);
}

/// Every attempt is kept with where, when and how it ended, whatever stage it had reached.
pub async fn attempts_are_kept(w: &World) {
    let jobs = w.accept("ads", 1).await;
    let rules = RetryRules { backoff_initial: Duration::ZERO, ..rules() };
    w.place_all("west").await;
    let scope = LeaseScope::Dispatch(cluster_id("west"));
    let west = w.store.acquire_lease(&scope, "d9", LONG).await.unwrap().unwrap();
    let unsent = [AttemptRef { job: jobs[0], attempt: AttemptNumber(1) }];
    let lost = failure(FailureClass::Lost);
    w.store.record_ends(&west, &rules, &ends(&unsent, &lost)).await.unwrap();
    let (east, launched) = w.launch_all("east").await;
    w.store.record_ends(&east, &rules, &ends(&launched, &AttemptEnd::Succeeded)).await.unwrap();
    let attempts = w.view(jobs[0]).await.attempts;
    assert_eq!(attempts.iter().map(|a| a.number.0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(attempts.iter().map(|a| a.cluster.as_str()).collect::<Vec<_>>(), ["west", "east"]);
    let (first, second) = (&attempts[0], &attempts[1]);
    assert_eq!((first.launched_at, first.started_at), (None, None));
    assert_eq!((first.end.as_deref(), first.message.as_deref()), (Some("lost"), Some("it broke")));
    assert_eq!(first.exit_code, Some(1));
    assert!(second.launched_at.is_some() && second.started_at.is_none());
    assert_eq!((second.end.as_deref(), second.message.as_deref()), (Some("succeeded"), None));
    assert!(first.ended_at.unwrap() <= second.placed_at);
}
