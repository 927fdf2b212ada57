//! The driver against a real Kubernetes API server; the test plays the operator, and writes what it would write.
//!
//! `python3 tests/env/up.py --kube -- cargo test -p yard-driver-kuberay`; with `--kuberay` in place of `--kube` the conformance
//! suite runs with the real operator and a real Ray head, and the rest is left out.

#![expect(clippy::unwrap_used, reason = "test code fails by panicking, in its helpers too")]

mod operator;
mod proxy;
mod world;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::ResourceExt;
use serde_json::json;
use yard_domain::{FailureClass, RayClusterShape, RemoteName};
use yard_driver_kuberay::KubeRayDriver;
use yard_ports::{Driver, DriverError, LaunchOutcome, Observation, ObservationStream, RemoteStatus};
use yard_testkit::driver_suite::{self, Target};

use operator::Operator;
use proxy::Proxy;
use world::{PATIENCE, WithRay, World, request};

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let Some(world) = World::begin("the conformance suite on Kubernetes").await else { return };
    let operator = Operator::begin(&world);
    driver_suite::run(Arc::new(world), 4).await;
    drop(operator);
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_with_the_real_operator_and_ray() {
    let Some(world) = World::with_ray("the conformance suite with KubeRay and Ray").await else { return };
    driver_suite::run(Arc::new(WithRay { world, scratch: tempfile::tempdir().unwrap() }), 4).await;
}

async fn until(
    stream: &mut ObservationStream,
    name: &RemoteName,
    is_it: fn(&RemoteStatus) -> bool,
) -> RemoteStatus {
    let found = async {
        loop {
            let shown = match stream.next().await.unwrap() {
                Ok(Observation::Full(jobs)) => jobs.into_iter().find(|job| job.name == *name),
                Ok(Observation::Changed(job)) => Some(job).filter(|job| job.name == *name),
                Ok(Observation::Alive) | Err(_) => None,
            };
            if let Some(job) = shown.filter(|job| is_it(&job.status)) {
                return job.status;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap()
}

#[tokio::test]
async fn a_right_that_is_missing_is_named() {
    let Some(world) = World::begin("missing rights on Kubernetes").await else { return };
    let nobody = KubeRayDriver::new(world.config_as(&json!({"as": "nobody"})));
    let error = nobody.launch(&request("exit 0")).await.unwrap_err();
    assert!(
        matches!(&error, DriverError::Unauthorized(said) if said.contains("cannot create resource \"rayjobs\"")),
        "{error}"
    );
    let error = nobody.observe().next().await.unwrap().unwrap_err();
    assert!(matches!(&error, DriverError::Unauthorized(said) if said.contains("rayjobs")), "{error}");
    let error = nobody.capacity().await.unwrap_err();
    assert!(
        matches!(&error, DriverError::Unauthorized(said) if said.contains("cannot list resource")),
        "{error}"
    );
    let stranger =
        KubeRayDriver::new(world.config_as(&json!({"token": "of nobody", "client-certificate-data": null,
        "client-key-data": null, "client-certificate": null, "client-key": null})));
    let error = stranger.launch(&request("exit 0")).await.unwrap_err();
    assert!(matches!(error, DriverError::Unauthorized(_)), "{error}");
    let nowhere = KubeRayDriver::new(world.config_at("https://127.0.0.1:9"));
    assert!(matches!(nowhere.launch(&request("exit 0")).await, Err(DriverError::Unreachable(_))));
    let lost = KubeRayDriver::new(world.config_in("no-such-namespace"));
    let error = lost.launch(&request("exit 0")).await.unwrap_err();
    assert!(
        matches!(&error, DriverError::Unreachable(said) if said.contains("no-such-namespace")),
        "{error}"
    );
}

#[tokio::test]
async fn a_watch_that_is_cut_begins_anew_with_everything() {
    let Some(world) = World::begin("a cut watch on Kubernetes").await else { return };
    let proxy = Proxy::begin(world.server()).await;
    let driver = KubeRayDriver::new(world.config_at(&proxy.address()));
    let mut stream = driver.observe();
    assert!(matches!(stream.next().await.unwrap(), Ok(Observation::Full(jobs)) if jobs.is_empty()));
    let job = request("sleep 3600");
    assert_eq!(driver.launch(&job).await.unwrap(), LaunchOutcome::Launched);
    until(&mut stream, &job.name, |status| *status == RemoteStatus::Pending).await;
    proxy.cut();
    let error = async {
        loop {
            if let Err(error) = stream.next().await.unwrap() {
                return error;
            }
        }
    };
    let error = tokio::time::timeout(PATIENCE, error).await.unwrap();
    assert!(matches!(error, DriverError::Unreachable(_) | DriverError::Unclear(_)), "{error}");
    assert!(matches!(
        driver.launch(&request("exit 0")).await,
        Err(DriverError::Unreachable(_) | DriverError::Unclear(_))
    ));
    // Meanwhile it ends.
    world.set_status(&job.name, json!({"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"})).await;
    proxy.mend();
    let full = async {
        loop {
            match stream.next().await.unwrap() {
                Err(_) => {}
                Ok(Observation::Full(jobs)) => return jobs,
                Ok(other) => panic!("{other:?} before everything was shown again"),
            }
        }
    };
    let full = tokio::time::timeout(PATIENCE, full).await.unwrap();
    assert_eq!(full.iter().find(|remote| remote.name == job.name).unwrap().status, RemoteStatus::Succeeded);
}

#[tokio::test]
async fn pods_explain_a_failure() {
    let Some(world) = World::begin("pods that explain a failure").await else { return };
    let driver = world.driver();
    let job = request("exit 0");
    driver.launch(&job).await.unwrap();
    let mut stream = driver.observe();
    until(&mut stream, &job.name, |status| *status == RemoteStatus::Pending).await;
    world.pod("head", &job, &json!({"phase": "Pending", "containerStatuses": [{"name": "ray-head", "image": "x:1", "imageID": "",
        "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]})).await;
    let failed =
        json!({"jobDeploymentStatus": "Failed", "reason": "PreRunningDeadlineExceeded", "message": "900 s"});
    world.set_status(&job.name, failed).await;
    let RemoteStatus::Failed(failure) = until(&mut stream, &job.name, RemoteStatus::is_end).await else {
        panic!()
    };
    assert_eq!(failure.class, FailureClass::Launch);
    assert!(
        failure.message.starts_with("image pull: x:1 of pod head") && failure.message.contains("900 s"),
        "{failure}"
    );
}

#[tokio::test]
async fn what_the_operator_leaves_alone_holds_further_launches_and_what_it_leaves_standing_is_ended() {
    let Some(world) = World::begin("an operator that is away").await else { return };
    let mut config = world.config();
    config.operator_patience = Duration::from_secs(1);
    config.liveness_grace = Duration::from_secs(1);
    config.probe_interval = Duration::from_millis(200);
    let driver = KubeRayDriver::new(config);
    let mut stream = driver.observe();
    let job = request("exit 0");
    driver.launch(&job).await.unwrap();
    let refused = async {
        loop {
            stream.next().await.unwrap().unwrap();
            let mut dry = request("exit 0");
            dry.ray_cluster = Some(RayClusterShape::default());
            match driver.launch(&dry).await {
                Ok(_) => world.delete(&dry.name).await,
                Err(error) => return error,
            }
        }
    };
    let error = tokio::time::timeout(PATIENCE, refused).await.unwrap();
    assert!(
        matches!(&error, DriverError::Unreachable(said) if said.contains("operator has not taken up")),
        "{error}"
    );
    // It is back, and then leaves the job standing beyond its deadline (2 s in this world's template).
    world
        .set_status(&job.name, json!({"jobDeploymentStatus": "Initializing", "rayClusterName": "gone"}))
        .await;
    let RemoteStatus::Failed(failure) = until(&mut stream, &job.name, RemoteStatus::is_end).await else {
        panic!()
    };
    assert_eq!(failure.class, FailureClass::Launch, "{failure}");
    assert!(failure.message.contains("left it Initializing"), "{failure}");
    assert_eq!(world.job(&job.name).await.data["spec"]["suspend"], true);
    assert_eq!(driver.launch(&request("exit 0")).await.unwrap(), LaunchOutcome::Launched);
}

#[tokio::test]
async fn a_deletion_that_somebody_holds_up_is_not_forced_and_not_shown() {
    let Some(world) = World::begin("a deletion that hangs").await else { return };
    let driver = world.driver();
    let job = request("exit 0");
    driver.launch(&job).await.unwrap();
    world.patch(&job.name, json!({"metadata": {"finalizers": ["ray.io/rayjob-finalizer"]}})).await;
    world.set_status(&job.name, json!({"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"})).await;
    driver.forget(&job.name).await.unwrap();
    assert!(world.job(&job.name).await.metadata.deletion_timestamp.is_some());
    let Ok(Observation::Full(jobs)) = driver.observe().next().await.unwrap() else { panic!() };
    assert!(jobs.iter().all(|remote| remote.name != job.name));
    world.patch(&job.name, json!({"metadata": {"finalizers": null}})).await;
}

#[tokio::test]
async fn capacity_is_what_nodes_have_less_what_others_take() {
    let Some(world) = World::begin("capacity on Kubernetes").await else { return };
    let name = world.namespace.clone();
    for (node, ready) in [("a", "True"), ("b", "True"), ("c", "False")] {
        world
            .node(
                &format!("{name}-{node}"),
                ready,
                &json!({"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "4"}),
            )
            .await;
    }
    let asks = |cpu: &str, gpu: &str| json!({"requests": {"cpu": cpu, "nvidia.com/gpu": gpu}, "limits": {"nvidia.com/gpu": gpu}});
    world.bound_pod("theirs", &format!("{name}-a"), false, &asks("1500m", "1")).await;
    world.bound_pod("ours", &format!("{name}-b"), true, &asks("2", "3")).await;
    let mut config = world.config();
    config.node_selector = Some(format!("test={name}"));
    let driver = KubeRayDriver::new(config);
    let expected = async {
        loop {
            let capacity = driver.capacity().await.unwrap().unwrap().0;
            if (capacity.cpu_milli, capacity.gpu_milli, capacity.memory_bytes) == (14_500, 7_000, 64 << 30) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, expected).await.unwrap();
    world.delete_node(&format!("{name}-b")).await;
    let less = async {
        while driver.capacity().await.unwrap().unwrap().0.cpu_milli != 6_500 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, less).await.unwrap();
    for node in ["a", "c"] {
        world.delete_node(&format!("{name}-{node}")).await;
    }
}

#[tokio::test]
async fn every_field_that_is_rendered_is_known_to_the_server() {
    let Some(world) = World::begin("rendered RayJobs on Kubernetes").await else { return };
    let driver = world.driver();
    let mut job = request("exit 0");
    job.request.cpu_milli = 20_000;
    job.request.memory_bytes = 64 << 30;
    job.request.gpu_milli = 2_000;
    let each = yard_domain::Request {
        cpu_milli: 4_000,
        gpu_milli: 1_000,
        memory_bytes: 8 << 30,
        ..Default::default()
    };
    job.ray_cluster = Some(RayClusterShape {
        profile: Some("full".to_owned()),
        image: Some("mine:1".to_owned()),
        env: [("A".to_owned(), "b".to_owned())].into(),
        head: None,
        workers: Some(yard_domain::WorkerShape { min: 0, max: 2, each, gpu_type: Some("a100".to_owned()) }),
    });
    assert_eq!(driver.launch(&job).await.unwrap(), LaunchOutcome::Launched);
    let made = world.job(&job.name).await;
    assert_eq!(made.labels()["yard.team"], "suite");
    assert_eq!(
        made.data["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["image"],
        "mine:1"
    );
}
