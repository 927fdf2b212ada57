//! The loops over the real SQLite store and clusters in memory: whole lives of jobs, failures, takeovers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use yard_domain::lease::LeaseTerms;
use yard_domain::{Catalog, Failure, FailureClass, StateName};
use yard_engine::settings::DispatcherSettings;
use yard_ports::store::{JobFilter, StopAnswer};
use yard_ports::{DriverError, RemoteStatus};
use yard_testkit::null_driver::{NullDriver, NullFault, NullPlan};

use crate::world::{PATIENCE, World, cluster, settings, team};

#[tokio::test]
async fn jobs_run_to_their_end_on_both_clusters_within_quota() {
    let mut world = World::new(NullPlan::succeed_after(Duration::from_millis(20))).await;
    let jobs = world.submit_many(60).await;
    let replica = world.replica("one", &settings()).await;
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
    let replica = world.replica("one", &settings()).await;
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
    let replica = world.replica("one", &settings()).await;
    assert_eq!(world.ended(&jobs).await, BTreeMap::from([("succeeded", 20)]));
    replica.drain().await;
    world.check().await;
}

#[tokio::test]
async fn a_launch_call_that_takes_long_holds_up_no_others() {
    let catalog = Catalog::of([team("lab", 100)], [cluster("east", 100), cluster("west", 100)]);
    let mut world = World::with(NullPlan::succeed_after(Duration::ZERO), &catalog).await;
    world.launches.in_flight_max = 4;
    let first = Arc::new(Semaphore::new(0));
    world.first_launches = Some(first.clone());
    let mut jobs = Vec::new();
    for _ in 0..40 {
        jobs.push(world.submit("lab", 0, Duration::from_mins(1)).await);
    }
    // Nobody looks for placed jobs by the clock.
    let settings = DispatcherSettings {
        // Nor does a lease that is renewed late keep launches back, for which nobody would look again.
        lease: LeaseTerms { ttl: Duration::from_secs(10), margin: Duration::from_secs(3) },
        poll_interval: Duration::from_hours(1),
        ..settings()
    };
    let replica = world.replica("one", &settings).await;
    let succeeded = JobFilter { states: vec![StateName::Succeeded], limit: 100, ..JobFilter::default() };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while world.store.jobs(&succeeded).await.unwrap().jobs.len() < 38 {
        assert!(tokio::time::Instant::now() < deadline, "the others wait for the first");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    first.add_permits(2);
    assert_eq!(world.ended(&jobs).await, BTreeMap::from([("succeeded", 40)]));
    replica.drain().await;
    world.check().await;
}

#[tokio::test]
async fn stops_reach_jobs_in_every_state() {
    let mut world = World::new(NullPlan::endless()).await;
    let jobs = world.submit_many(20).await;
    let replica = world.replica("one", &settings()).await;
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
    let replica = world.replica("one", &settings()).await;
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
    let mut replica = world.replica("r0", &settings()).await;
    for i in 1..4 {
        world.until(jobs[i * 5], |s| s != StateName::Queued).await;
        replica.crash().await;
        replica = world.replica(&format!("r{i}"), &settings()).await;
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
    let (a, b) = (world.replica("a", &settings()).await, world.replica("b", &settings()).await);
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
    let replica = world.replica("one", &grace).await;
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
