//! What only this driver can suffer: dead launchers, dead shims, too many shims.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test code fails by panicking, in its helpers too"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use serde_json::json;
use yard_domain::{AttemptNumber, FailureClass, InstanceId, JobId, RemoteName, Request};
use yard_driver_process::{ProcessConfig, ProcessDriver, ShimCommand};
use yard_ports::{Driver, DriverError, LaunchOutcome, LaunchRequest, Observation, RemoteStatus};

const SHIM: &str = env!("CARGO_BIN_EXE_yard-process-shim");
const PATIENCE: Duration = Duration::from_secs(20);

fn config(dir: &Path) -> ProcessConfig {
    let shim = ShimCommand { program: SHIM.into(), args: vec![] };
    ProcessConfig { stop_grace: Duration::from_secs(2), ..ProcessConfig::new(dir.join("cluster"), shim) }
}

fn driver(dir: &Path) -> ProcessDriver {
    ProcessDriver::new(config(dir)).unwrap()
}

fn request(job: JobId, entrypoint: &str) -> LaunchRequest {
    LaunchRequest {
        name: RemoteName::new(job, AttemptNumber(1)),
        instance: InstanceId(uuid::Uuid::nil()),
        job,
        attempt: AttemptNumber(1),
        team: "t".parse().unwrap(),
        job_name: "test".to_owned(),
        entrypoint: entrypoint.to_owned(),
        runtime_env: serde_json::Map::new(),
        request: Request::default(),
        ray_cluster: None,
        metadata: BTreeMap::new(),
        run_timeout: Duration::from_hours(1),
    }
}

fn new_request(entrypoint: &str) -> LaunchRequest {
    request(JobId(uuid::Uuid::new_v4()), entrypoint)
}

/// Waits until the attempt is shown in a status that `is_it`.
async fn until(driver: &ProcessDriver, name: &RemoteName, is_it: fn(&RemoteStatus) -> bool) -> RemoteStatus {
    let mut stream = driver.observe();
    let found = async {
        loop {
            let shown = match stream.next().await.unwrap().unwrap() {
                Observation::Full(jobs) => jobs.into_iter().find(|job| job.name == *name),
                Observation::Changed(job) => Some(job).filter(|job| job.name == *name),
                Observation::Alive => None,
            };
            if let Some(job) = shown.filter(|job| is_it(&job.status)) {
                return job.status;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("it gets there")
}

async fn end(driver: &ProcessDriver, name: &RemoteName) -> RemoteStatus {
    until(driver, name, RemoteStatus::is_end).await
}

async fn failure(driver: &ProcessDriver, name: &RemoteName) -> (FailureClass, String) {
    match end(driver, name).await {
        RemoteStatus::Failed(failure) => (failure.class, failure.message),
        other => panic!("{other:?}"),
    }
}

async fn appears(file: &Path) -> String {
    let written = async {
        loop {
            match std::fs::read_to_string(file) {
                Ok(text) if text.ends_with('\n') => return text,
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, written).await.expect("the file is written")
}

fn is_alive(pid: &str) -> bool {
    let shown = Command::new("ps").args(["-o", "state=", "-p", pid]).output().unwrap();
    let state = String::from_utf8_lossy(&shown.stdout).trim().to_owned();
    !state.is_empty() && !state.starts_with('Z')
}

#[tokio::test]
async fn many_shims_run_a_command_once() {
    let dir = tempfile::tempdir().unwrap();
    // A launcher that made the folder and died before it could start a shim.
    let mut without_shim = config(dir.path());
    without_shim.shim.program = "true".into();
    let marks = dir.path().join("marks");
    let request = new_request(&format!("echo run >> '{}'; sleep 0.3", marks.display()));
    let dead = ProcessDriver::new(without_shim).unwrap();
    assert_eq!(dead.launch(&request).await.unwrap(), LaunchOutcome::Launched);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(dead.launch(&request).await.unwrap(), LaunchOutcome::Adopted(RemoteStatus::Pending));

    let folder = dir.path().join("cluster").join(request.name.as_str());
    let shims: Vec<_> = (0..16).map(|_| Command::new(SHIM).arg(&folder).spawn().unwrap()).collect();
    let driver = driver(dir.path());
    assert_eq!(end(&driver, &request.name).await, RemoteStatus::Succeeded);
    for mut shim in shims {
        assert!(shim.wait().unwrap().success());
    }
    assert!(Command::new(SHIM).arg(&folder).status().unwrap().success());
    assert_eq!(std::fs::read_to_string(marks).unwrap(), "run\n");
}

#[tokio::test]
async fn a_launch_after_a_launchers_death_starts_what_was_only_made() {
    let dir = tempfile::tempdir().unwrap();
    let mut without_shim = config(dir.path());
    without_shim.shim.program = "true".into();
    let request = new_request("exit 0");
    ProcessDriver::new(without_shim).unwrap().launch(&request).await.unwrap();
    let driver = driver(dir.path());
    until(&driver, &request.name, |status| *status == RemoteStatus::Pending).await;
    assert_eq!(driver.launch(&request).await.unwrap(), LaunchOutcome::Adopted(RemoteStatus::Pending));
    assert_eq!(end(&driver, &request.name).await, RemoteStatus::Succeeded);
}

#[tokio::test]
async fn a_stop_before_any_shim_prevents_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut without_shim = config(dir.path());
    without_shim.shim.program = "true".into();
    let marks = dir.path().join("marks");
    let request = new_request(&format!("echo run >> '{}'", marks.display()));
    ProcessDriver::new(without_shim).unwrap().launch(&request).await.unwrap();
    let driver = driver(dir.path());
    driver.stop(&request.name).await.unwrap();
    assert_eq!(end(&driver, &request.name).await, RemoteStatus::Stopped);
    assert_eq!(driver.launch(&request).await.unwrap(), LaunchOutcome::Adopted(RemoteStatus::Stopped));
    let folder = dir.path().join("cluster").join(request.name.as_str());
    assert!(Command::new(SHIM).arg(&folder).status().unwrap().success());
    assert!(!marks.exists());
}

#[tokio::test]
async fn a_shim_that_is_killed_takes_its_command_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let driver = driver(dir.path());
    let pids = dir.path().join("pids");
    let request = new_request(&format!("sleep 3600 & echo $! $$ > '{}'; wait", pids.display()));
    driver.launch(&request).await.unwrap();
    let pids = appears(&pids).await;
    let started = dir.path().join("cluster").join(request.name.as_str()).join("started");
    let shim = std::fs::read_to_string(started).unwrap();
    assert!(
        Command::new("kill").args(["-9", shim.strip_prefix("shim ").unwrap()]).status().unwrap().success()
    );
    assert_eq!(failure(&driver, &request.name).await.0, FailureClass::Lost);
    // The lock is free once the guard has killed the group; a process may take a moment to die of it.
    let died = async {
        while pids.split_whitespace().any(is_alive) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, died).await.expect("all are dead");
    let again = driver.launch(&request).await.unwrap();
    assert!(matches!(again, LaunchOutcome::Adopted(RemoteStatus::Failed(_))), "{again:?}");
}

/// Not a test by itself: the process that the test below starts and kills.
#[tokio::test]
async fn launcher_process() {
    let Some(dir) = std::env::var_os("LAUNCHER_DIR").map(PathBuf::from) else { return };
    let job = std::env::var("LAUNCHER_JOB").unwrap().parse().unwrap();
    let go_on = dir.join("go_on");
    let work = format!(
        "echo one; until [ -e '{}' ]; do sleep 0.05; done; echo two; echo three >&2",
        go_on.display()
    );
    driver(&dir).launch(&request(job, &work)).await.unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn attempts_outlive_their_launcher() {
    let dir = tempfile::tempdir().unwrap();
    let job = JobId(uuid::Uuid::new_v4());
    let mut launcher = Command::new(std::env::current_exe().unwrap())
        .args(["launcher_process", "--exact"])
        .env("LAUNCHER_DIR", dir.path())
        .env("LAUNCHER_JOB", job.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let driver = driver(dir.path());
    let request = request(job, "never used: it was launched before");
    until(&driver, &request.name, |status| *status == RemoteStatus::Running).await;
    launcher.kill().unwrap();
    launcher.wait().unwrap();
    assert_eq!(driver.launch(&request).await.unwrap(), LaunchOutcome::Adopted(RemoteStatus::Running));
    std::fs::write(dir.path().join("go_on"), "").unwrap();
    assert_eq!(end(&driver, &request.name).await, RemoteStatus::Succeeded);
    let log = driver.logs(&request.name, 0, false).await.unwrap();
    let log: Vec<u8> = log.map_ok(|piece| piece.to_vec()).try_concat().await.unwrap();
    assert_eq!(String::from_utf8(log).unwrap(), "one\ntwo\nthree\n");
}

#[tokio::test]
async fn what_a_command_leaves_behind_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let driver = driver(dir.path());
    let pids = dir.path().join("pids");
    let request = new_request(&format!("sleep 3600 & echo $! > '{}'", pids.display()));
    driver.launch(&request).await.unwrap();
    assert_eq!(end(&driver, &request.name).await, RemoteStatus::Succeeded);
    assert!(!is_alive(std::fs::read_to_string(pids).unwrap().trim()));
}

#[tokio::test]
async fn the_run_timeout_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let driver = driver(dir.path());
    let request = LaunchRequest { run_timeout: Duration::from_millis(300), ..new_request("sleep 3600") };
    driver.launch(&request).await.unwrap();
    assert_eq!(failure(&driver, &request.name).await.0, FailureClass::RunTimeout);
}

#[tokio::test]
async fn a_signal_is_the_commands_own_failure() {
    let dir = tempfile::tempdir().unwrap();
    let driver = driver(dir.path());
    let request = new_request("echo going; kill -9 $$");
    driver.launch(&request).await.unwrap();
    let expected = "killed by signal 9; its log ends: going".to_owned();
    assert_eq!(failure(&driver, &request.name).await, (FailureClass::User, expected));
}

#[tokio::test]
async fn what_this_host_cannot_do_is_said_at_once_or_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let driver = driver(dir.path());
    let with = |env: serde_json::Value, entrypoint: &str| {
        let mut request = new_request(entrypoint);
        request.runtime_env = env.as_object().unwrap().clone();
        request
    };
    let refused = driver.launch(&with(json!({"pip": ["x"], "conda": "y"}), "exit 0")).await.unwrap_err();
    assert!(
        matches!(&refused, DriverError::Refused(why) if why.contains("pip") && why.contains("conda")),
        "{refused}"
    );

    let no_dir = with(json!({"working_dir": "/no/such/folder"}), "exit 0");
    driver.launch(&no_dir).await.unwrap();
    let (class, message) = failure(&driver, &no_dir.name).await;
    assert!(class == FailureClass::RuntimeEnv && message.contains("/no/such/folder"), "{message}");

    let too_long = with(json!({}), &"x".repeat(1 << 20));
    driver.launch(&too_long).await.unwrap();
    assert_eq!(failure(&driver, &too_long.name).await.0, FailureClass::Refused);
}

#[tokio::test]
async fn commands_see_only_what_is_passed_on_of_yards_environment() {
    let dir = tempfile::tempdir().unwrap();
    let driver = driver(dir.path());
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some(), "something to be hidden");
    let request = new_request("test -n \"$PATH\" && test -z \"$CARGO_MANIFEST_DIR\" && pwd");
    driver.launch(&request).await.unwrap();
    assert_eq!(end(&driver, &request.name).await, RemoteStatus::Succeeded);
}

#[tokio::test]
async fn the_end_of_an_own_child_is_seen_without_waiting_for_the_next_look() {
    let dir = tempfile::tempdir().unwrap();
    let slow = ProcessConfig { poll_interval: Duration::from_mins(1), ..config(dir.path()) };
    let driver = ProcessDriver::new(slow).unwrap();
    let mut stream = driver.observe();
    assert_eq!(stream.next().await.unwrap().unwrap(), Observation::Full(vec![]));
    let start = Instant::now();
    driver.launch(&new_request("exit 0")).await.unwrap();
    let ended = async {
        loop {
            if let Observation::Changed(job) = stream.next().await.unwrap().unwrap()
                && job.status.is_end()
            {
                return start.elapsed();
            }
        }
    };
    let took = tokio::time::timeout(PATIENCE, ended).await.expect("it is seen");
    println!("from the launch call to the observed end: {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_read_is_an_error_and_then_all_is_shown_again() {
    let dir = tempfile::tempdir().unwrap();
    let fast = ProcessConfig { poll_interval: Duration::from_millis(20), ..config(dir.path()) };
    let driver = ProcessDriver::new(fast).unwrap();
    let request = new_request("exit 0");
    driver.launch(&request).await.unwrap();
    end(&driver, &request.name).await;
    let mut stream = driver.observe();
    assert!(matches!(stream.next().await, Some(Ok(Observation::Full(jobs))) if jobs.len() == 1));
    let (cluster, aside) = (dir.path().join("cluster"), dir.path().join("aside"));
    std::fs::rename(&cluster, &aside).unwrap();
    let cut_off = async {
        loop {
            match stream.next().await.unwrap() {
                Ok(Observation::Alive) => {}
                other => return other,
            }
        }
    };
    assert!(matches!(cut_off.await, Err(DriverError::Unreachable(_))));
    std::fs::rename(&aside, &cluster).unwrap();
    let full = async {
        loop {
            if let Ok(Observation::Full(jobs)) = stream.next().await.unwrap() {
                return jobs.len();
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, full).await.expect("it comes back"), 1);
}
