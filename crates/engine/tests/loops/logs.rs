//! Logs are kept while jobs run, whatever happens to dispatchers, clusters and the archive.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use yard_domain::lease::LeaseTerms;
use yard_domain::{AttemptNumber, ClusterHealth, JobId, RemoteName, Seal, StateName, Timestamp};
use yard_engine::archive::LogKeeping;
use yard_engine::archive::retention::LogSweeper;
use yard_engine::keeper::Keeper;
use yard_engine::settings::{DispatcherSettings, LogSettings};
use yard_ports::store::AttemptRef;
use yard_ports::{DriverError, LogArchive, PodLog, RemoteStatus};
use yard_testkit::null_driver::{NullDriver, NullFault, NullPlan};

use crate::world::{PATIENCE, World, settings};

/// Of the job's first attempt.
fn first(job: JobId) -> (AttemptRef, RemoteName) {
    let attempt = AttemptNumber(1);
    (AttemptRef { job, attempt }, RemoteName::new(job, attempt))
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A world with one endless job.
async fn with_one() -> (World, JobId) {
    let mut world = World::new(NullPlan::endless()).await;
    let job = world.submit("lab", 0, Duration::from_mins(1)).await;
    (world, job)
}

async fn until_kept(world: &World, attempt: AttemptRef, whose: PodLog) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while world.archive.pods(attempt, whose).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "it is not kept");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn cluster_of(world: &World, job: JobId) -> NullDriver {
    let (_, name) = first(job);
    world.clusters.values().find(|d| d.status(&name).is_some()).unwrap().clone()
}

#[tokio::test]
async fn a_log_is_kept_while_it_grows_and_sealed_before_the_attempt_is_removed() {
    let (world, job) = with_one().await;
    let forgetful = DispatcherSettings { keep_remote: Duration::ZERO, ..settings() };
    let replica = world.replica("one", &forgetful).await;
    world.until(job, |s| s == StateName::Running).await;
    let (attempt, name) = first(job);
    let cluster = cluster_of(&world, job);
    let mut text = String::new();
    for i in 0..5 {
        let line = format!("{i} {}\n", "x".repeat(i * 700));
        cluster.print(&name, &line);
        text.push_str(&line);
        eventually("what was printed is kept", || world.archive.text(attempt).1 == text).await;
    }
    assert_eq!(world.archive.text(attempt).0.seal(), None);
    world.archive.fail(true);
    cluster.print(&name, "the end\n");
    cluster.finish(&name, RemoteStatus::Succeeded);
    assert_eq!(world.until(job, StateName::is_end).await, StateName::Succeeded);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(cluster.counters().forget_calls, 0, "it must wait for its log");
    world.archive.fail(false);
    eventually("it is removed", || cluster.counters().forget_calls == 1).await;
    let (log, kept) = world.archive.text(attempt);
    assert_eq!((log.seal(), kept), (Some(Seal::Complete), format!("{text}the end\n")));
    replica.drain().await;
    world.check().await;
}

#[tokio::test]
async fn what_pods_print_is_kept_at_the_end() {
    let (world, job) = with_one().await;
    let forgetful = DispatcherSettings { keep_remote: Duration::ZERO, ..settings() };
    let replica = world.replica("one", &forgetful).await;
    world.until(job, |s| s == StateName::Running).await;
    let (attempt, name) = first(job);
    let cluster = cluster_of(&world, job);
    cluster.print(&name, "out\n");
    cluster.print_pod(&name, PodLog::Head, "head\n");
    eventually("its log is kept", || world.archive.text(attempt).1 == "out\n").await;
    assert!(world.archive.pods(attempt, PodLog::Head).await.is_err(), "only its end is worth the calls");
    cluster.print_pod(&name, PodLog::Workers, "workers\n");
    world.archive.fail(true);
    cluster.finish(&name, RemoteStatus::Succeeded);
    world.until(job, StateName::is_end).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(cluster.counters().forget_calls, 0, "it must wait for what its pods printed");
    world.archive.fail(false);
    eventually("it is removed", || cluster.counters().forget_calls == 1).await;
    assert_eq!(world.archive.pods(attempt, PodLog::Head).await.unwrap(), "head\n");
    assert_eq!(world.archive.pods(attempt, PodLog::Workers).await.unwrap(), "workers\n");
    assert!(world.archive.pods(attempt, PodLog::Submitter).await.is_err());
    replica.drain().await;
}

#[tokio::test]
async fn what_pods_print_is_kept_before_a_stop() {
    let (world, job) = with_one().await;
    let replica = world.replica("one", &settings()).await;
    world.until(job, |s| s == StateName::Running).await;
    let (attempt, name) = first(job);
    let cluster = cluster_of(&world, job);
    cluster.print_pod(&name, PodLog::Head, "last words\n");
    // It never stops: what is kept can't be from its end.
    let away = NullFault { error: DriverError::Unreachable("away".to_owned()), effect: false };
    cluster.fail_stops(10_000, &away);
    world.store.request_stop(job, "user:test", "enough").await.unwrap();
    until_kept(&world, attempt, PodLog::Head).await;
    assert_eq!(cluster.status(&name), Some(RemoteStatus::Running));
    replica.drain().await;
}

#[tokio::test]
async fn what_was_kept_before_a_stop_stays_if_pods_are_gone_at_the_end() {
    let (world, job) = with_one().await;
    let forgetful = DispatcherSettings { keep_remote: Duration::ZERO, ..settings() };
    let replica = world.replica("one", &forgetful).await;
    world.until(job, |s| s == StateName::Running).await;
    let (attempt, name) = first(job);
    let cluster = cluster_of(&world, job);
    cluster.print_pod(&name, PodLog::Head, "first words\nlast words\n");
    cluster.print_pod(&name, PodLog::Workers, "worker\n");
    let away = NullFault { error: DriverError::Unreachable("away".to_owned()), effect: false };
    cluster.fail_stops(10_000, &away);
    world.store.request_stop(job, "user:test", "enough").await.unwrap();
    until_kept(&world, attempt, PodLog::Workers).await;
    cluster.leave_of_pod(&name, PodLog::Head, "last words\n");
    cluster.print_pod(&name, PodLog::Workers, "another worker\n");
    cluster.finish(&name, RemoteStatus::Stopped);
    assert_eq!(world.until(job, StateName::is_end).await, StateName::Stopped);
    eventually("it is removed", || cluster.counters().forget_calls == 1).await;
    let kept = async |whose| world.archive.pods(attempt, whose).await.unwrap();
    assert_eq!(kept(PodLog::Head).await, "first words\nlast words\n", "the longer of the two");
    assert_eq!(kept(PodLog::Workers).await, "worker\nanother worker\n");
    replica.drain().await;
}

/// Until every cluster stands so, with this message.
async fn until_health(world: &World, health: ClusterHealth, message: Option<&str>) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let clusters = world.store.clusters().await.unwrap();
        if clusters.iter().all(|c| c.health == health && c.message.as_deref() == message) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "not in time: {health:?}, but {clusters:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_cluster_that_can_begin_nothing_is_not_ready_and_says_why() {
    let mut world = World::new(NullPlan::endless()).await;
    let job = world.submit("lab", 0, Duration::from_mins(1)).await;
    let replica = world.replica("one", &settings()).await;
    world.until(job, |s| s == StateName::Running).await;
    for driver in world.clusters.values() {
        driver.set_not_ready(Some("nobody takes anything up"));
    }
    until_health(&world, ClusterHealth::NotReady, Some("nobody takes anything up")).await;
    let waits = world.submit("lab", 0, Duration::from_mins(1)).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut states = Vec::new();
    for one in [waits, job] {
        states.push(world.store.job(one).await.unwrap().unwrap().lifecycle.state.name());
    }
    assert_eq!(states, [StateName::Queued, StateName::Running]);
    for driver in world.clusters.values() {
        driver.set_not_ready(None);
    }
    until_health(&world, ClusterHealth::Ready, None).await;
    world.until(waits, |s| s == StateName::Running).await;
    replica.drain().await;
}

#[tokio::test]
async fn the_next_dispatcher_goes_on_from_what_is_kept() {
    let (world, job) = with_one().await;
    let replica = world.replica("one", &settings()).await;
    world.until(job, |s| s == StateName::Running).await;
    let (attempt, name) = first(job);
    let cluster = cluster_of(&world, job);
    cluster.print(&name, "before\n");
    eventually("it is kept", || world.archive.text(attempt).1 == "before\n").await;
    replica.crash().await;
    cluster.print(&name, "between\n");
    let replica = world.replica("two", &settings()).await;
    eventually("it is kept", || world.archive.text(attempt).1 == "before\nbetween\n").await;
    cluster.print(&name, "after\n");
    cluster.finish(&name, RemoteStatus::Succeeded);
    world.until(job, StateName::is_end).await;
    eventually("it is sealed", || world.archive.text(attempt).0.seal() == Some(Seal::Complete)).await;
    assert_eq!(world.archive.text(attempt).1, "before\nbetween\nafter\n");
    let puts = world.archive.puts();
    replica.drain().await;
    // A third one finds what has ended there, and nothing to do.
    let replica = world.replica("three", &settings()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(world.archive.puts(), puts);
    replica.drain().await;
    world.check().await;
}

#[tokio::test]
async fn of_a_lost_attempt_there_is_what_was_kept() {
    let (world, job) = with_one().await;
    let replica = world.replica("one", &settings()).await;
    world.until(job, |s| s == StateName::Running).await;
    let (attempt, name) = first(job);
    let cluster = cluster_of(&world, job);
    cluster.print(&name, "famous last words\n");
    eventually("it is kept", || world.archive.text(attempt).1 == "famous last words\n").await;
    for driver in world.clusters.values() {
        driver.set_script(|_| NullPlan::succeed_after(Duration::ZERO));
    }
    cluster.lose_everything();
    assert_eq!(world.until(job, StateName::is_end).await, StateName::Succeeded);
    eventually("it is sealed", || world.archive.text(attempt).0.seal() == Some(Seal::Lost)).await;
    assert_eq!(world.archive.text(attempt).1, "famous last words\n");
    let second = AttemptRef { job, attempt: AttemptNumber(2) };
    eventually("the second one, too", || world.archive.text(second).0.seal() == Some(Seal::Complete)).await;
    replica.drain().await;
    world.check().await;
}

#[tokio::test]
async fn a_log_beyond_its_bound_keeps_its_head_and_its_tail() {
    let (mut world, job) = with_one().await;
    world.logs = LogSettings { attempt_bytes_max: 10_000, chunk_bytes: 1_000, ..world.logs.clone() };
    let replica = world.replica("one", &settings()).await;
    world.until(job, |s| s == StateName::Running).await;
    let (attempt, name) = first(job);
    let cluster = cluster_of(&world, job);
    let lines: Vec<String> = (0..5_000).map(|i| format!("line {i}\n")).collect();
    let text = lines.concat();
    cluster.print(&name, &text);
    cluster.finish(&name, RemoteStatus::Succeeded);
    eventually("it is sealed", || world.archive.text(attempt).0.seal() == Some(Seal::Complete)).await;
    let (log, kept) = world.archive.text(attempt);
    assert_eq!(log.end(), text.len() as u64);
    assert!((9_000..=11_000).contains(&kept.len()), "{}", kept.len());
    assert!(kept.starts_with(&text[..5_000]) && kept.ends_with(&text[text.len() - 4_000..]));
    replica.drain().await;
}

#[tokio::test]
async fn many_attempts_take_turns_with_one_reader() {
    let mut world = World::new(NullPlan::endless()).await;
    world.logs.readers_max = 1;
    let jobs = world.submit_many(4).await;
    let replica = world.replica("one", &settings()).await;
    for job in &jobs {
        world.until(*job, |s| s == StateName::Running).await;
        cluster_of(&world, *job).print(&first(*job).1, &job.to_string());
    }
    for job in &jobs {
        eventually("it is kept", || world.archive.text(first(*job).0).1 == job.to_string()).await;
    }
    replica.drain().await;
}

#[tokio::test]
async fn old_logs_go_by_team_and_those_of_running_jobs_stay() {
    let mut world = World::new(NullPlan::endless()).await;
    let jobs = world.submit_many(4).await; // of ads, lab, ads, lab
    let replica = world.replica("one", &settings()).await;
    for job in &jobs {
        world.until(*job, |s| s == StateName::Running).await;
        cluster_of(&world, *job).print(&first(*job).1, "x");
    }
    for job in &jobs[..3] {
        cluster_of(&world, *job).finish(&first(*job).1, RemoteStatus::Succeeded);
        eventually("it is sealed", || world.archive.text(first(*job).0).0.seal().is_some()).await;
    }
    eventually("it is kept", || world.archive.text(first(jobs[3]).0).1 == "x").await;
    let now = world.store.now().await.unwrap();
    let days_ago = |days: i64| Timestamp::from_micros(now.as_micros() - days * 86_400_000_000);
    for (job, days) in jobs.iter().zip([8, 8, 6, 99]) {
        world.archive.written_at(*job, days_ago(days));
    }
    let day = Duration::from_hours(24);
    let settings = LogSettings {
        keep: 9 * day,
        keep_by_team: [("ads".parse().unwrap(), 7 * day)].into(),
        sweep_interval: Duration::from_millis(20),
        sweep_batch: 1,
        ..world.logs.clone()
    };
    let sweeper = LogSweeper {
        store: world.store.clone(),
        keeper: Keeper::new(world.store.clone(), "sweeper"),
        lease: LeaseTerms { ttl: Duration::from_secs(5), margin: Duration::from_secs(1) },
        keeping: LogKeeping { archive: Arc::new(world.archive.clone()), settings },
    };
    let stop = CancellationToken::new();
    let sweeping = tokio::spawn(sweeper.run(stop.clone()));
    eventually("the old one of ads goes", || world.archive.text(first(jobs[0]).0).0.is_empty()).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    for job in &jobs[1..] {
        assert_eq!(world.archive.text(first(*job).0).1, "x");
    }
    world.archive.written_at(jobs[1], days_ago(10));
    eventually("so does the older one of lab", || world.archive.text(first(jobs[1]).0).0.is_empty()).await;
    stop.cancel();
    sweeping.await.unwrap();
    replica.drain().await;
}
