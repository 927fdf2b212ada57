//! The driver on a real Ray cluster: the conformance suite, and what is Ray's own.
//!
//! Needs a cluster on this host, whose jobs can write where this process can read:
//! `python3 tests/env/up.py --ray 1 -- cargo test -p yard-driver-ray`.

#![expect(clippy::unwrap_used, reason = "test code fails by panicking, in its helpers too")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use serde_json::json;
use yard_domain::{AttemptNumber, Failure, FailureClass, InstanceId, JobId, RemoteName, Request};
use yard_driver_ray::{RayConfig, RayDriver, Token};
use yard_ports::{Driver, DriverError, LaunchRequest, Observation, RemoteStatus};
use yard_testkit::driver_suite::{self, Target};

const PATIENCE: Duration = Duration::from_mins(3);

/// The clusters of the test environment; none is said aloud, past the test runner's capture.
fn clusters(test: &str) -> Vec<RayConfig> {
    let list = |name| std::env::var(name).unwrap_or_default();
    let (addresses, tokens) = (list("YARD_TEST_RAY_ADDRESSES"), list("YARD_TEST_RAY_TOKENS"));
    if addresses.is_empty() {
        let line =
            format!("left out: {test}: YARD_TEST_RAY_ADDRESSES is not set (see tests/env/README.md)\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return Vec::new();
    }
    let config = |(address, token): (&str, &str)| RayConfig {
        token: Some(Token::new(token)),
        ..RayConfig::new(address)
    };
    addresses.split(',').zip(tokens.split(',')).map(config).collect()
}

struct Ray {
    config: RayConfig,
    scratch: tempfile::TempDir,
}

impl Target for Ray {
    fn driver(&self) -> Arc<dyn Driver> {
        Arc::new(RayDriver::new(self.config.clone()).unwrap())
    }

    fn scratch(&self) -> Option<PathBuf> {
        Some(self.scratch.path().to_owned())
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let Some(config) = clusters("the conformance suite on Ray").into_iter().next() else { return };
    driver_suite::run(Arc::new(Ray { config, scratch: tempfile::tempdir().unwrap() }), 4).await;
}

fn request(entrypoint: &str) -> LaunchRequest {
    let job = JobId(uuid::Uuid::new_v4());
    LaunchRequest {
        name: RemoteName::new(job, AttemptNumber(1)),
        instance: InstanceId(uuid::Uuid::new_v4()),
        job,
        attempt: AttemptNumber(1),
        team: "t".parse().unwrap(),
        job_name: "test".to_owned(),
        entrypoint: entrypoint.to_owned(),
        runtime_env: serde_json::Map::new(),
        request: Request { jobs: 1, ..Request::default() },
        ray_cluster: None,
        metadata: BTreeMap::new(),
        run_timeout: Duration::from_hours(1),
    }
}

async fn end(driver: &RayDriver, name: &RemoteName) -> RemoteStatus {
    let mut stream = driver.observe();
    let found = async {
        loop {
            let shown = match stream.next().await.unwrap().unwrap() {
                Observation::Full(jobs) => jobs.into_iter().find(|job| job.name == *name),
                Observation::Changed(job) => Some(job).filter(|job| job.name == *name),
                Observation::Alive => None,
            };
            if let Some(job) = shown.filter(|job| job.status.is_end()) {
                return job.status;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap()
}

#[tokio::test]
async fn every_cluster_says_what_it_has() {
    for config in clusters("the capacity of Ray") {
        let capacity = RayDriver::new(config).unwrap().capacity().await.unwrap().unwrap().0;
        assert!(capacity.cpu_milli >= 1_000 && capacity.memory_bytes > 1 << 20, "{capacity:?}");
        let marks = |name: &&String| name.starts_with("node:") || name.as_str() == "object_store_memory";
        assert_eq!(capacity.custom_milli.keys().find(marks), None);
    }
}

#[tokio::test]
async fn a_wrong_token_is_unauthorized_and_no_server_is_unreachable() {
    let Some(config) = clusters("a wrong token on Ray").into_iter().next() else { return };
    let wrong = RayDriver::new(RayConfig { token: Some(Token::new("wrong")), ..config.clone() }).unwrap();
    assert!(matches!(wrong.launch(&request("exit 0")).await, Err(DriverError::Unauthorized(_))));
    assert!(matches!(wrong.observe().next().await, Some(Err(DriverError::Unauthorized(_)))));
    let none = RayDriver::new(RayConfig { token: None, ..config }).unwrap();
    assert!(matches!(none.capacity().await, Err(DriverError::Unauthorized(_))));
    let nobody = RayDriver::new(RayConfig::new("http://127.0.0.1:9")).unwrap();
    assert!(matches!(nobody.launch(&request("exit 0")).await, Err(DriverError::Unreachable(_))));
}

#[tokio::test]
async fn resources_are_set_aside_and_bad_runtime_envs_said() {
    let Some(config) = clusters("resources and runtime environments on Ray").into_iter().next() else {
        return;
    };
    let driver = RayDriver::new(config).unwrap();
    let mut reserved = request("exit 0");
    reserved.request = Request { cpu_milli: 500, memory_bytes: 10 << 20, jobs: 1, ..Request::default() };
    driver.launch(&reserved).await.unwrap();
    let mut nowhere = request("exit 0");
    nowhere.runtime_env = json!({"working_dir": "nonsense"}).as_object().unwrap().clone();
    driver.launch(&nowhere).await.unwrap();
    let mut typed_wrong = request("exit 0");
    typed_wrong.runtime_env = json!({"env_vars": "no object"}).as_object().unwrap().clone();
    let refused = driver.launch(&typed_wrong).await;
    assert_eq!(end(&driver, &reserved.name).await, RemoteStatus::Succeeded);
    let RemoteStatus::Failed(Failure { class, message, .. }) = end(&driver, &nowhere.name).await else {
        panic!()
    };
    assert_eq!(class, FailureClass::RuntimeEnv, "{message}");
    assert!(message.contains("nonsense is not a valid path") && !message.contains("Traceback"), "{message}");
    // Ray takes it and fails later, or refuses it: both are the submission's own fault.
    if refused.is_ok() {
        let RemoteStatus::Failed(failure) = end(&driver, &typed_wrong.name).await else { panic!() };
        assert_eq!(failure.class, FailureClass::RuntimeEnv, "{failure}");
    } else {
        assert!(matches!(refused, Err(DriverError::Refused(_))), "{refused:?}");
    }
}
