//! What an API server does when it is in trouble, scripted: answers that are lost, late, or say 'later'.

#![expect(clippy::unwrap_used, reason = "test code fails by panicking, in its helpers too")]

mod server;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::StreamExt;
use serde_json::json;
use yard_domain::{AttemptNumber, FailureClass, InstanceId, JobId, RemoteName, Request};
use yard_driver_kuberay::{Access, KubeRayConfig, KubeRayDriver, Template};
use yard_ports::{Driver, DriverError, LaunchOutcome, LaunchRequest, Observation, RemoteStatus};

use server::{Answer, Server};

const PATIENCE: Duration = Duration::from_secs(30);

fn driver(server: &Server, dir: &tempfile::TempDir) -> KubeRayDriver {
    driver_probing(server, dir, Duration::from_millis(200))
}

/// With this time between two signs of life.
fn driver_probing(server: &Server, dir: &tempfile::TempDir, interval: Duration) -> KubeRayDriver {
    let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server.address()}}], "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
    let path = dir.path().join("kubeconfig");
    std::fs::write(&path, kubeconfig.to_string()).unwrap();
    let template = Template::parse("profiles: {a: {image: x}}").unwrap();
    let access = Access::Kubeconfig { path, context: None };
    let mut config = KubeRayConfig::new("k8s", access, "ml", template);
    config.call_timeout = Duration::from_secs(3);
    config.probe_interval = interval;
    KubeRayDriver::new(config)
}

fn request() -> LaunchRequest {
    let job = JobId(uuid::Uuid::new_v4());
    LaunchRequest {
        name: RemoteName::new(job, AttemptNumber(1)),
        instance: InstanceId(uuid::Uuid::from_u128(9)),
        job,
        attempt: AttemptNumber(1),
        team: "t".parse().unwrap(),
        job_name: "test".to_owned(),
        entrypoint: "true".to_owned(),
        runtime_env: serde_json::Map::new(),
        request: Request { cpu_milli: 1_000, jobs: 1, ..Request::default() },
        ray_cluster: None,
        metadata: BTreeMap::new(),
        run_timeout: Duration::from_hours(1),
    }
}

/// As the API server shows it.
fn rayjob(name: &RemoteName, deployment: &str, job: &str, version: u32) -> serde_json::Value {
    json!({"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": name.as_str(), "namespace": "ml",
        "resourceVersion": version.to_string(), "labels": {"yard.instance": InstanceId(uuid::Uuid::from_u128(9)).to_string()}},
        "spec": {}, "status": {"jobDeploymentStatus": deployment, "jobStatus": job}})
}

fn list(items: &[serde_json::Value], version: u32) -> Answer {
    let list = json!({"apiVersion": "ray.io/v1", "kind": "RayJobList", "metadata": {"resourceVersion": version.to_string()},
        "items": items});
    Answer::json(200, &list)
}

fn status(code: u16, reason: &str, message: &str) -> Answer {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": code});
    Answer::json(code, &body)
}

#[tokio::test]
async fn a_lost_answer_is_unclear_and_the_next_call_adopts() {
    let (dir, job) = (tempfile::tempdir().unwrap(), request());
    let name = job.name.clone();
    let server = Server::begin(move |call, seen| match (call.method.as_str(), seen) {
        // It has its effect; the answer does not come.
        ("POST", 0) => Answer::Cut,
        ("POST", _) => status(409, "AlreadyExists", "already exists"),
        _ => Answer::json(200, &rayjob(&name, "Running", "RUNNING", 1)),
    })
    .await;
    let driver = driver(&server, &dir);
    let error = driver.launch(&job).await.unwrap_err();
    assert!(matches!(error, DriverError::Unclear(_)), "{error}");
    assert_eq!(driver.launch(&job).await.unwrap(), LaunchOutcome::Adopted(RemoteStatus::Running));
    let mut theirs = job.clone();
    theirs.instance = InstanceId(uuid::Uuid::from_u128(10));
    assert!(matches!(driver.launch(&theirs).await, Err(DriverError::NameTaken(_))));
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_time_is_unclear() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::begin(|_, _| Answer::Never).await;
    let error = driver(&server, &dir).launch(&request()).await.unwrap_err();
    assert!(matches!(&error, DriverError::Unclear(said) if said.contains("within 3 s")), "{error}");
}

#[tokio::test]
async fn a_server_that_says_later_is_asked_later() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::begin(|_, seen| match seen {
        0 => status(429, "TooManyRequests", "slow down").with_header("Retry-After: 1"),
        _ => Answer::json(201, &json!({})),
    })
    .await;
    let driver = driver(&server, &dir);
    let started = Instant::now();
    let error = driver.launch(&request()).await.unwrap_err();
    assert!(matches!(&error, DriverError::Unreachable(said) if said.contains("slow down")), "{error}");
    assert_eq!(driver.launch(&request()).await.unwrap(), LaunchOutcome::Launched);
    assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
    assert_eq!(server.calls(), 2);
}

#[tokio::test]
async fn a_crd_that_is_missing_or_too_old_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Server::begin(|_, _| Answer::text(404, "404 page not found")).await;
    let error = driver(&missing, &dir).observe().next().await.unwrap().unwrap_err();
    assert!(matches!(&error, DriverError::Unreachable(said) if said.contains("install KubeRay")), "{error}");
    let old = "strict decoding error: unknown field \"spec.preRunningDeadlineSeconds\"";
    let too_old = Server::begin(move |_, _| status(400, "BadRequest", old)).await;
    let error = driver(&too_old, &dir).observe().next().await.unwrap().unwrap_err();
    assert!(
        matches!(&error, DriverError::Unreachable(said) if said.contains("too old") && said.contains("preRunning")),
        "{error}"
    );
}

#[tokio::test]
async fn a_full_quota_holds_launches_back_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::begin(|call, _| match call.method.as_str() {
        "POST" => status(
            403,
            "Forbidden",
            "rayjobs.ray.io is forbidden: exceeded quota: q, requested: count/rayjobs.ray.io=1",
        ),
        _ if call.path.contains("watch=true") => Answer::Never,
        _ => list(&[], 10),
    })
    .await;
    let driver = driver(&server, &dir);
    let first = driver.observe().next().await.unwrap();
    assert!(matches!(&first, Ok(Observation::Full(jobs)) if jobs.is_empty()), "{first:?}");
    let error = driver.launch(&request()).await.unwrap_err();
    assert!(matches!(&error, DriverError::Unreachable(said) if said.contains("exceeded quota")), "{error}");
}

#[tokio::test]
async fn a_history_that_is_gone_is_read_anew_as_a_whole() {
    let (dir, job) = (tempfile::tempdir().unwrap(), request());
    let name = job.name.clone();
    let lists = std::sync::atomic::AtomicU32::new(0);
    let server = Server::begin(move |call, _| {
        if call.method == "POST" {
            return Answer::json(201, &json!({}));
        }
        if !call.path.contains("/rayjobs") {
            return Answer::json(200, &json!({"kind": "APIResourceList", "resources": []}));
        }
        if call.path.contains("watch=true") {
            if call.path.contains("resourceVersion=10") {
                let gone = json!({"type": "ERROR", "object": {"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired",
                    "message": "too old resource version"}});
                return Answer::stream(&[gone]);
            }
            return Answer::Never;
        }
        match lists.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => list(&[rayjob(&name, "Running", "RUNNING", 5)], 10),
            _ => list(&[rayjob(&name, "Complete", "SUCCEEDED", 20)], 30),
        }
    })
    .await;
    // A sign of life comes when the rest is over.
    let mut stream = driver_probing(&server, &dir, Duration::from_secs(2)).observe();
    let story = async {
        let mut story = Vec::new();
        while story.len() < 4 {
            story.push(stream.next().await.unwrap());
        }
        story
    };
    let story = tokio::time::timeout(PATIENCE, story).await.unwrap();
    assert!(
        matches!(&story[0], Ok(Observation::Full(jobs)) if jobs[0].status == RemoteStatus::Running),
        "{story:?}"
    );
    assert!(story[1].is_err(), "{story:?}");
    assert!(
        matches!(&story[2], Ok(Observation::Full(jobs)) if jobs[0].status == RemoteStatus::Succeeded),
        "{story:?}"
    );
    assert!(matches!(&story[3], Ok(Observation::Alive)), "{story:?}");
}

#[tokio::test]
async fn a_job_that_the_operator_starts_a_second_time_is_ended_as_lost() {
    let (dir, job) = (tempfile::tempdir().unwrap(), request());
    let name = job.name.clone();
    let server = Server::begin(move |call, _| {
        if call.path.contains("watch=true") {
            let again = json!({"type": "MODIFIED", "object": rayjob(&name, "Running", "PENDING", 11)});
            return Answer::stream_on(&[again]);
        }
        match call.method.as_str() {
            "GET" if call.path.contains("/rayjobs") => list(&[rayjob(&name, "Running", "RUNNING", 5)], 10),
            _ => Answer::json(200, &json!({})),
        }
    })
    .await;
    let mut stream = driver(&server, &dir).observe();
    let ended = async {
        loop {
            if let Ok(Observation::Changed(remote)) = stream.next().await.unwrap() {
                return remote.status;
            }
        }
    };
    let RemoteStatus::Failed(failure) = tokio::time::timeout(PATIENCE, ended).await.unwrap() else {
        panic!()
    };
    assert_eq!(failure.class, FailureClass::Lost, "{failure}");
    assert!(server.saw("PATCH", "\"suspend\":true"));
}

#[tokio::test]
async fn a_failure_says_why_its_pods_could_not_be_asked() {
    let (dir, job) = (tempfile::tempdir().unwrap(), request());
    let name = job.name.clone();
    let server = Server::begin(move |call, _| match call.path.as_str() {
        path if path.contains("watch=true") => Answer::stream_on(&[]),
        path if path.contains("/rayjobs") && call.method == "GET" => {
            list(&[rayjob(&name, "Failed", "FAILED", 5)], 10)
        }
        path if path.contains("/pods?") => status(403, "Forbidden", "cannot list resource \"pods\""),
        _ => Answer::json(200, &json!({})),
    })
    .await;
    let mut stream = driver(&server, &dir).observe();
    let ended = async {
        loop {
            let seen = match stream.next().await.unwrap() {
                Ok(Observation::Full(all)) => all,
                Ok(Observation::Changed(one)) => vec![one],
                Ok(_) => continue,
                Err(error) => panic!("{error}"),
            };
            if let Some(RemoteStatus::Failed(failure)) = seen.into_iter().map(|remote| remote.status).next() {
                return failure;
            }
        }
    };
    let failure = tokio::time::timeout(PATIENCE, ended).await.unwrap();
    assert!(failure.message.contains("could not be read: "), "{failure}");
    assert!(failure.message.contains("cannot list resource \"pods\""), "{failure}");
}
