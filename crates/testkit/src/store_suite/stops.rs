//! Stops: a wish to stop is never lost, in whatever state it meets the job.

use yard_domain::event::ReleaseReason;
use yard_domain::lifecycle::AttemptEnd;
use yard_domain::{AccountOwner, Failure, FailureClass, Outcome, RetryPolicy, StateName};
use yard_ports::store::StopCause;
use yard_ports::store::{Recorded, StopAnswer};

use super::World;
use super::world::{cluster_id, fresh_id};

async fn stop(w: &World, id: yard_domain::JobId) -> StopAnswer {
    w.store.request_stop(id, "ann", "not needed").await.unwrap()
}

/// Queued: wish and end in one.
pub async fn a_queued_job_stops_at_once(w: &World) {
    let job = w.accept("ads", 1).await[0];
    assert_eq!(stop(w, job).await, StopAnswer::Stopped);
    assert_eq!(w.state(job).await, StateName::Stopped);
    assert_eq!(w.codes(job).await, ["accepted", "stop_requested", "stopped"]);
    assert_eq!(w.history(job).await[1].actor.0, "user:ann");
    assert_eq!(stop(w, job).await, StopAnswer::AlreadyEnded(StateName::Stopped));
    let lease = w.scheduler().await;
    assert_eq!(w.claim(&lease, 10).await.len(), 0);
}

/// Claimed: it ends instead of being placed, and nothing is charged.
pub async fn a_claimed_job_stops_at_placement(w: &World) {
    let jobs = w.accept("ads", 2).await;
    let lease = w.scheduler().await;
    let claimed = w.claim(&lease, 2).await;
    assert_eq!(stop(w, jobs[0]).await, StopAnswer::Requested);
    assert_eq!(stop(w, jobs[0]).await, StopAnswer::Requested, "asking again changes nothing");
    assert_eq!(w.state(jobs[0]).await, StateName::Claimed);
    let report = w.commit(&lease, &claimed, "east").await;
    assert_eq!((report.stopped, report.placed.len()), (vec![jobs[0]], 1));
    assert_eq!(w.codes(jobs[0]).await, ["accepted", "claimed", "stop_requested", "stopped"]);
    assert_eq!(w.jobs_charged(&AccountOwner::Cluster(cluster_id("east"))).await, 1);
}

/// Claimed and given back: it ends instead of waiting again.
pub async fn a_claimed_job_stops_at_release(w: &World) {
    let jobs = w.accept("ads", 1).await;
    let lease = w.scheduler().await;
    w.claim(&lease, 1).await;
    stop(w, jobs[0]).await;
    assert_eq!(w.store.release_claims(&lease, &jobs, ReleaseReason::Shutdown).await.unwrap(), 1);
    assert_eq!(w.state(jobs[0]).await, StateName::Stopped);
}

/// Placed: it ends when its launch would begin, refunded, and nothing is sent.
pub async fn a_placed_job_stops_before_its_launch(w: &World) {
    let jobs = w.accept("ads", 3).await;
    w.place_all("east").await;
    assert_eq!(stop(w, jobs[1]).await, StopAnswer::Requested);
    let lease = w.dispatcher("east").await;
    let batch = w.store.begin_launches(&lease, 10).await.unwrap();
    let launched: Vec<_> = batch.orders.iter().map(|o| o.job.id).collect();
    assert_eq!((batch.stopped, launched), (vec![jobs[1]], vec![jobs[0], jobs[2]]));
    let view = w.view(jobs[1]).await;
    assert_eq!(view.lifecycle.state.name(), StateName::Stopped);
    assert_eq!((view.attempts[0].end.as_deref(), view.attempts[0].launched_at), (Some("stopped"), None));
    assert_eq!(w.jobs_charged(&AccountOwner::Cluster(cluster_id("east"))).await, 2);
    assert_eq!(w.store.stop_wishes(&cluster_id("east")).await.unwrap(), []);
}

/// Launching or running: its dispatcher finds the wish until the attempt has ended.
pub async fn a_running_job_is_wished_to_stop(w: &World) {
    let jobs = w.accept("ads", 3).await;
    let (lease, attempts) = w.run_all("east").await;
    for job in &jobs[..2] {
        assert_eq!(stop(w, *job).await, StopAnswer::Requested);
    }
    let east = cluster_id("east");
    assert_eq!(
        w.store.stop_wishes(&east).await.unwrap(),
        [0, 1].map(|i| (attempts[i], StopCause::Requested))
    );
    assert_eq!(w.store.stop_wishes(&cluster_id("west")).await.unwrap(), []);
    let active = w.store.active_attempts(&east, None, 10).await.unwrap();
    assert_eq!(active.iter().map(|a| a.stopping.is_some()).collect::<Vec<_>>(), [true, true, false]);
    let recorded = w.end(&lease, &attempts[..1], &AttemptEnd::Stopped).await;
    assert_eq!(recorded, [Recorded::Ended(Outcome::Stopped)]);
    assert_eq!(w.store.stop_wishes(&east).await.unwrap(), [(attempts[1], StopCause::Requested)]);
    // It succeeded before the wish could reach it.
    let recorded = w.end(&lease, &attempts[1..2], &AttemptEnd::Succeeded).await;
    assert_eq!(recorded, [Recorded::Ended(Outcome::Succeeded)]);
    assert_eq!(w.store.stop_wishes(&east).await.unwrap(), []);
}

/// With a wish to stop, a failed attempt is the last one, whatever retries are left.
pub async fn a_stop_rules_out_another_attempt(w: &World) {
    let job = w.accept_with("ads", 1, |_, job| job.spec.retry = RetryPolicy { max_retries: 5 }).await[0];
    let (lease, attempts) = w.run_all("east").await;
    stop(w, job).await;
    let lost = AttemptEnd::Failed(Failure::new(FailureClass::Lost, None, "gone"));
    assert_eq!(w.end(&lease, &attempts, &lost).await, [Recorded::Ended(Outcome::Stopped)]);
    assert_eq!(w.store.stop_wishes(&cluster_id("east")).await.unwrap(), []);
}

/// No such job, or one that has ended.
pub async fn stopping_what_is_not_there(w: &World) {
    assert_eq!(stop(w, fresh_id()).await, StopAnswer::NoSuchJob);
    let job = w.accept("ads", 1).await[0];
    let (lease, attempts) = w.run_all("east").await;
    w.end(&lease, &attempts, &AttemptEnd::Succeeded).await;
    assert_eq!(stop(w, job).await, StopAnswer::AlreadyEnded(StateName::Succeeded));
    assert_eq!(w.codes(job).await.last(), Some(&"succeeded"));
}
