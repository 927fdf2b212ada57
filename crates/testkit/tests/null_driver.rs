//! The null driver: the conformance suite, and what only it can do.

#![expect(clippy::unwrap_used, reason = "test code fails by panicking, in its helpers too")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use yard_domain::{AttemptNumber, Failure, FailureClass, InstanceId, JobId, RemoteName, Request};
use yard_ports::{Driver, DriverError, LaunchOutcome, LaunchRequest, Observation, RemoteStatus};
use yard_testkit::driver_suite::{self, Target};
use yard_testkit::null_driver::{NullConfig, NullDriver, NullFault, NullPlan};

struct Null(NullDriver);

impl Target for Null {
    fn driver(&self) -> Arc<dyn Driver> {
        Arc::new(self.0.clone())
    }

    fn scratch(&self) -> Option<PathBuf> {
        None
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(10)
    }
}

/// The suite's commands, as far as they matter here.
fn play(request: &LaunchRequest) -> NullPlan {
    if request.entrypoint.contains("sleep 3600") {
        return NullPlan::endless();
    }
    let code = request.entrypoint.rsplit_once("exit ").map_or(0, |(_, code)| code.parse().unwrap());
    let failed = || RemoteStatus::Failed(Failure::new(FailureClass::User, Some(code), ""));
    let end = if code == 0 { RemoteStatus::Succeeded } else { failed() };
    NullPlan { end, ..NullPlan::succeed_after(Duration::from_millis(50)) }
}

#[tokio::test]
async fn conforms() {
    let driver = NullDriver::new(NullConfig::default());
    driver.set_script(play);
    driver_suite::run(Arc::new(Null(driver.clone())), 4).await;
    let counters = driver.counters();
    assert_eq!(
        (counters.doubled.len(), counters.overlapping.len(), counters.live),
        (0, 0, 0),
        "{counters:?}"
    );
}

fn request(job: JobId, attempt: u32) -> LaunchRequest {
    let attempt = AttemptNumber(attempt);
    LaunchRequest {
        name: RemoteName::new(job, attempt),
        instance: InstanceId(uuid::Uuid::nil()),
        job,
        attempt,
        team: "t".parse().unwrap(),
        job_name: String::new(),
        entrypoint: String::new(),
        runtime_env: serde_json::Map::new(),
        request: Request::default(),
        ray_cluster: None,
        metadata: std::collections::BTreeMap::default(),
        run_timeout: Duration::from_hours(1),
    }
}

fn job() -> JobId {
    JobId(uuid::Uuid::new_v4())
}

#[tokio::test]
async fn a_fault_comes_with_or_without_its_effect() {
    let driver = NullDriver::new(NullConfig { plan: NullPlan::endless(), ..NullConfig::default() });
    let request = request(job(), 1);
    driver.fail_launches(1, &NullFault { error: DriverError::Unreachable("no".to_owned()), effect: false });
    driver.fail_launches(1, &NullFault { error: DriverError::Unclear("hm".to_owned()), effect: true });
    assert!(matches!(driver.launch(&request).await, Err(DriverError::Unreachable(_))));
    assert_eq!(driver.status(&request.name), None);
    assert!(matches!(driver.launch(&request).await, Err(DriverError::Unclear(_))));
    assert_eq!(driver.status(&request.name), Some(RemoteStatus::Running));
    assert_eq!(driver.launch(&request).await.unwrap(), LaunchOutcome::Adopted(RemoteStatus::Running));
    let counters = driver.counters();
    assert_eq!((counters.launch_calls, counters.started, counters.adopted, counters.live), (3, 1, 1, 1));
}

#[tokio::test]
async fn launches_that_should_not_have_been_are_remembered() {
    let driver = NullDriver::new(NullConfig { plan: NullPlan::endless(), ..NullConfig::default() });
    let (first, second) = (request(job(), 1), request(job(), 1));
    driver.launch(&first).await.unwrap();
    let next = request(first.job, 2);
    driver.launch(&next).await.unwrap();
    driver.launch(&second).await.unwrap();
    driver.stop(&second.name).await.unwrap();
    driver.forget(&second.name).await.unwrap();
    driver.launch(&second).await.unwrap();
    let counters = driver.counters();
    assert_eq!((counters.overlapping, counters.doubled), (vec![next.name], vec![second.name]));
    assert_eq!((counters.live, counters.live_max), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn an_observer_sees_each_step_at_its_time_and_a_cut_link_as_such() {
    let plan =
        NullPlan { pending: Duration::from_secs(5), ..NullPlan::succeed_after(Duration::from_secs(7)) };
    let driver = NullDriver::new(NullConfig {
        plan,
        alive_interval: Duration::from_hours(1),
        ..NullConfig::default()
    });
    let mut stream = driver.observe();
    let mut next = async || stream.next().await.unwrap();
    assert_eq!(next().await.unwrap(), Observation::Full(vec![]));
    let start = tokio::time::Instant::now();
    let request = request(job(), 1);
    driver.launch(&request).await.unwrap();
    let steps = [(0, RemoteStatus::Pending), (5, RemoteStatus::Running), (12, RemoteStatus::Succeeded)];
    for (at, expected) in steps {
        let Observation::Changed(job) = next().await.unwrap() else { panic!("a change") };
        assert_eq!((job.status, start.elapsed()), (expected, Duration::from_secs(at)));
    }
    driver.set_reachable(false);
    assert!(matches!(next().await, Err(DriverError::Unreachable(_))));
    driver.set_reachable(true);
    assert!(matches!(next().await, Ok(Observation::Full(jobs)) if jobs.len() == 1));
    driver.lose_everything();
    assert_eq!(next().await.unwrap(), Observation::Full(vec![]));
}

#[tokio::test(start_paused = true)]
async fn an_idle_cluster_shows_that_it_is_there() {
    let driver = NullDriver::new(NullConfig::default());
    let mut stream = driver.observe();
    let start = tokio::time::Instant::now();
    assert_eq!(stream.next().await.unwrap().unwrap(), Observation::Full(vec![]));
    for at in [2, 4] {
        assert_eq!(stream.next().await.unwrap().unwrap(), Observation::Alive);
        assert_eq!(start.elapsed(), Duration::from_secs(at));
    }
    driver.set_reachable(false);
    for at in [4, 6] {
        assert!(stream.next().await.unwrap().is_err());
        assert_eq!(start.elapsed(), Duration::from_secs(at));
    }
}

#[tokio::test]
async fn a_hundred_thousand_attempts_are_no_trouble() {
    let driver = NullDriver::new(NullConfig { plan: NullPlan::endless(), ..NullConfig::default() });
    let mut stream = driver.observe();
    let start = std::time::Instant::now();
    for _ in 0..100_000 {
        driver.launch(&request(job(), 1)).await.unwrap();
    }
    let mut running = 0;
    while running < 100_000 {
        running += usize::from(matches!(stream.next().await, Some(Ok(Observation::Changed(_)))));
    }
    println!("100,000 launches, each observed: {:?}", start.elapsed());
    assert_eq!(driver.counters().live, 100_000);
}
