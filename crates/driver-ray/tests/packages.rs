//! Packages that a cluster must have before a job is submitted to it.

#![expect(clippy::unwrap_used, reason = "test code fails by panicking, in its helpers too")]

#[expect(dead_code, reason = "these tests need a part of it")]
mod fake;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fake::{Fake, Reply};
use futures::{FutureExt, StreamExt, stream};
use serde_json::json;
use yard_domain::{AttemptNumber, InstanceId, JobId, RemoteName, Request};
use yard_driver_ray::{RayConfig, RayDriver};
use yard_ports::{Driver, DriverError, LaunchRequest, PackageContent, PackageError, Packages};

/// Has one package, in two pieces.
struct One;

#[async_trait]
impl Packages for One {
    fn makes_links(&self) -> bool {
        false
    }

    async fn link(&self, uri: &str, _: std::time::Duration) -> Result<String, PackageError> {
        Err(PackageError::NoLink { uri: uri.to_owned(), reason: "none here".to_owned() })
    }

    async fn open(&self, uri: &str) -> Result<PackageContent, PackageError> {
        match uri {
            "gcs://here.zip" => {
                let pieces = [Ok(Bytes::from_static(b"\"con")), Ok(Bytes::from_static(b"tent\""))];
                Ok(PackageContent { bytes: 9, stream: stream::iter(pieces).boxed() })
            }
            "gcs://down.zip" => {
                Err(PackageError::Unavailable { uri: uri.to_owned(), reason: "no storage".to_owned() })
            }
            _ => Err(PackageError::Missing(uri.to_owned())),
        }
    }
}

fn request(env: &serde_json::Value) -> LaunchRequest {
    let job = JobId(uuid::Uuid::new_v4());
    LaunchRequest {
        name: RemoteName::new(job, AttemptNumber(1)),
        instance: InstanceId(uuid::Uuid::new_v4()),
        job,
        attempt: AttemptNumber(1),
        team: "t".parse().unwrap(),
        job_name: "test".to_owned(),
        entrypoint: "exit 0".to_owned(),
        runtime_env: env.as_object().unwrap().clone(),
        request: Request::default(),
        ray_cluster: None,
        metadata: BTreeMap::new(),
        run_timeout: Duration::from_hours(1),
    }
}

/// A head that keeps packages; `put` is what it says to an upload.
async fn head(put: fn() -> Reply) -> Fake {
    let kept = Arc::new(Mutex::new(BTreeSet::new()));
    Fake::start(move |received| {
        let kept = Arc::clone(&kept);
        async move {
            let mut kept = kept.lock().unwrap();
            match received.line.split_once(' ').unwrap() {
                ("GET", path) if kept.contains(path) => Reply::Status(200, String::new()),
                ("GET", _) => Reply::Status(404, "does not exist".to_owned()),
                ("PUT", path) => {
                    let reply = put();
                    if matches!(reply, Reply::Status(200, _)) {
                        kept.insert(path.to_owned());
                    }
                    reply
                }
                _ => Reply::json(&json!({"submission_id": "x"})),
            }
        }
        .boxed()
    })
    .await
}

fn lines(fake: &Fake) -> Vec<String> {
    fake.received().into_iter().map(|r| r.line).collect()
}

fn driver(fake: &Fake) -> RayDriver {
    RayDriver::new(RayConfig::new(&fake.address)).unwrap().with_packages(Arc::new(One))
}

#[tokio::test]
async fn a_package_is_brought_once_before_the_job() {
    let fake = head(|| Reply::Status(200, String::new())).await;
    let driver = driver(&fake);
    let env =
        json!({"working_dir": "gcs://here.zip", "py_modules": ["gcs://here.zip", "s3://elsewhere/x.zip"]});
    let (one, two) = (request(&env), request(&env));
    let both = async |request| {
        driver.prepare(request).await?;
        driver.launch(request).await
    };
    let (first, second) = tokio::join!(both(&one), both(&two));
    first.unwrap();
    second.unwrap();
    let lines = lines(&fake);
    let puts: Vec<_> = fake.received().into_iter().filter(|r| r.line.starts_with("PUT")).collect();
    assert_eq!(puts.len(), 1, "{lines:?}");
    assert_eq!((puts[0].line.as_str(), &puts[0].body), ("PUT /api/packages/gcs/here.zip", &json!("content")));
    let put = lines.iter().position(|l| l.starts_with("PUT")).unwrap();
    let submit = lines.iter().position(|l| l.starts_with("POST")).unwrap();
    assert!(put < submit, "{lines:?}");
}

#[tokio::test]
async fn what_keeps_a_package_away_is_told_before_the_launch() {
    let refuses =
        head(|| Reply::Status(413, "Maximum request body size 104857600 exceeded".to_owned())).await;
    let fails = head(|| Reply::Status(500, "Traceback".to_owned())).await;
    let good = head(|| Reply::Status(200, String::new())).await;
    for (fake, uri, refused) in [
        (&good, "gcs://missing.zip", true),
        (&good, "gcs://../api/jobs", true),
        (&good, "gcs://down.zip", false),
        (&refuses, "gcs://here.zip", true),
        (&fails, "gcs://here.zip", false),
    ] {
        let error = driver(fake).prepare(&request(&json!({"working_dir": uri}))).await.unwrap_err();
        match &error {
            DriverError::Refused(said) => assert!(refused && !said.is_empty(), "{uri}: {error}"),
            // Not unclear: nothing has been launched.
            DriverError::Unreachable(_) => assert!(!refused, "{uri}: {error}"),
            _ => panic!("{uri}: {error}"),
        }
        assert!(!lines(fake).iter().any(|l| l.starts_with("POST")), "{uri}");
    }
}
