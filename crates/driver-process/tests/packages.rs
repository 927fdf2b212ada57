//! Packages of a runtime environment on this host.

#![expect(clippy::unwrap_used, reason = "test code fails by panicking, in its helpers too")]

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use yard_domain::{AttemptNumber, InstanceId, JobId, RemoteName, Request};
use yard_driver_process::{ProcessConfig, ProcessDriver, ShimCommand};
use yard_ports::{Driver, DriverError, LaunchRequest, PackageContent, PackageError, Packages};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

const SHIM: &str = env!("CARGO_BIN_EXE_yard-process-shim");

/// Has a good package, with `word` in it, and a bad one.
struct Few;

#[async_trait]
impl Packages for Few {
    fn makes_links(&self) -> bool {
        false
    }

    async fn link(&self, uri: &str, _: std::time::Duration) -> Result<String, PackageError> {
        Err(PackageError::NoLink { uri: uri.to_owned(), reason: "none here".to_owned() })
    }

    async fn open(&self, uri: &str) -> Result<PackageContent, PackageError> {
        let bytes = match uri {
            "gcs://good.zip" => {
                let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
                zip.start_file("inside/word", SimpleFileOptions::default()).unwrap();
                zip.write_all(b"hello\n").unwrap();
                zip.finish().unwrap().into_inner()
            }
            "gcs://bad.zip" => b"no zip at all".to_vec(),
            _ => return Err(PackageError::Missing(uri.to_owned())),
        };
        let length = bytes.len() as u64;
        Ok(PackageContent { bytes: length, stream: stream::iter([Ok(Bytes::from(bytes))]).boxed() })
    }
}

fn driver(dir: &Path) -> ProcessDriver {
    let shim = ShimCommand { program: SHIM.into(), args: vec![] };
    ProcessDriver::new(ProcessConfig::new(dir.join("cluster"), shim)).unwrap().with_packages(Arc::new(Few))
}

fn request(entrypoint: &str, env: &serde_json::Value) -> LaunchRequest {
    let job = JobId(uuid::Uuid::new_v4());
    LaunchRequest {
        name: RemoteName::new(job, AttemptNumber(1)),
        instance: InstanceId(uuid::Uuid::nil()),
        job,
        attempt: AttemptNumber(1),
        team: "t".parse().unwrap(),
        job_name: "test".to_owned(),
        entrypoint: entrypoint.to_owned(),
        runtime_env: env.as_object().unwrap().clone(),
        request: Request::default(),
        ray_cluster: None,
        metadata: BTreeMap::new(),
        run_timeout: Duration::from_hours(1),
    }
}

#[tokio::test]
async fn a_command_finds_what_was_unpacked() {
    let dir = tempfile::tempdir().unwrap();
    let driver = driver(dir.path());
    let env = json!({"working_dir": "gcs://good.zip", "py_modules": ["gcs://good.zip"]});
    let request = request("cat inside/word; cat \"${PYTHONPATH##*:}/inside/word\"", &env);
    let unprepared = driver.launch(&request).await.unwrap_err();
    assert!(matches!(&unprepared, DriverError::Unreachable(_)), "{unprepared}");
    // Asked for twice, it is fetched once.
    for _ in 0..2 {
        driver.prepare(&request).await.unwrap();
        assert_eq!(std::fs::read_dir(dir.path().join("cluster")).unwrap().count(), 1);
    }
    driver.launch(&request).await.unwrap();
    // One that is there already wants nothing more.
    driver.prepare(&request).await.unwrap();
    driver.launch(&request).await.unwrap();
    let log = driver.logs(&request.name, 0, true).await.unwrap();
    let pieces: Vec<Bytes> = log.try_collect().await.unwrap();
    assert_eq!(pieces.concat(), b"hello\nhello\n");
    // Nothing is left of what was fetched.
    let left: Vec<_> =
        std::fs::read_dir(dir.path().join("cluster")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, [request.name.as_str()]);
}

#[tokio::test]
async fn what_cannot_be_unpacked_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let driver = driver(dir.path());
    for (uri, part) in [("gcs://bad.zip", "is no zip file"), ("gcs://none.zip", "gcs://none.zip is not here")]
    {
        let request = request("true", &json!({"working_dir": uri}));
        let launched = match driver.prepare(&request).await {
            Ok(()) => driver.launch(&request).await.map(drop),
            failed => failed,
        };
        let error = launched.unwrap_err();
        assert!(matches!(&error, DriverError::Refused(said) if said.contains(part)), "{error}");
    }
    assert_eq!(std::fs::read_dir(dir.path().join("cluster")).unwrap().count(), 0);
}
