//! What every driver must do: the conformance suite of [`yard_ports::Driver`].
//!
//! A behaviour that is not here does not exist. A driver's own tests give a [`Target`] and call [`run`]; each
//! case makes its own attempts, so cases may run side by side on one cluster.
//!
//! Attempts leave marks in a folder which the suite reads, so launches are counted where they happen, not
//! where they are asked for.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "the suite is test code: it fails by panicking")]

mod cases;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use uuid::Uuid;
use yard_domain::{AttemptNumber, InstanceId, JobId, RemoteName, Request};
use yard_ports::{Driver, LaunchRequest};

pub use cases::CASES;
use watch::Watch;

/// The cluster under test.
pub trait Target: Send + Sync + 'static {
    /// A driver for it. Each is made anew, as after a restart of yard.
    fn driver(&self) -> Arc<dyn Driver>;

    /// A folder that the attempts can write to and this process can read; `None` if nothing is really run
    /// (then the cases that are about the command itself are left out).
    fn scratch(&self) -> Option<PathBuf>;

    /// Longest that anything should take here.
    fn patience(&self) -> Duration;
}

/// One behaviour.
pub struct Case {
    /// What it shows.
    pub name: &'static str,
    /// Whether it needs a target that really runs commands.
    pub needs_commands: bool,
    run: fn(Bench) -> BoxFuture<'static, ()>,
}

/// Runs every case, up to `parallel` at once.
///
/// # Panics
/// At the end, if any case failed; each says so when it does.
pub async fn run(target: Arc<dyn Target>, parallel: usize) {
    let commands = target.scratch().is_some();
    let cases = CASES.iter().filter(|case| commands || !case.needs_commands);
    let results = futures::stream::iter(cases.map(|case| {
        let bench = Bench::new(Arc::clone(&target));
        async move { (case.name, tokio::spawn((case.run)(bench)).await) }
    }));
    let failed: Vec<_> = results
        .buffer_unordered(parallel.max(1))
        .inspect(|(name, result)| println!("{} {name}", if result.is_ok() { "ok     " } else { "FAILED " }))
        .filter_map(async |(name, result)| result.is_err().then_some(name))
        .collect()
        .await;
    assert!(failed.is_empty(), "these cases failed: {failed:?}");
}

/// What a case works with: a target, and attempts of its own.
struct Bench {
    target: Arc<dyn Target>,
    driver: Arc<dyn Driver>,
    instance: InstanceId,
}

impl Bench {
    fn new(target: Arc<dyn Target>) -> Self {
        let driver = target.driver();
        Self { target, driver, instance: InstanceId(Uuid::new_v4()) }
    }

    fn watch(&self) -> Watch {
        Watch::new(self.driver.observe(), self.target.patience())
    }

    /// A request for a new job that leaves a mark and then does `work`.
    fn request(&self, work: &str) -> LaunchRequest {
        let (job, attempt) = (JobId(Uuid::new_v4()), AttemptNumber(1));
        let name = RemoteName::new(job, attempt);
        let mark = self.file(&name, "runs").map(|file| format!("echo run >> '{}'; ", file.display()));
        LaunchRequest {
            instance: self.instance,
            job,
            attempt,
            team: "suite".parse().expect("a name"),
            job_name: "suite".to_owned(),
            entrypoint: format!("{}{work}", mark.unwrap_or_default()),
            runtime_env: serde_json::Map::new(),
            request: Request { jobs: 1, ..Request::default() },
            ray_cluster: None,
            metadata: BTreeMap::from([("purpose".to_owned(), "suite".to_owned())]),
            run_timeout: Duration::from_hours(1),
            name,
        }
    }

    /// A file that the attempt of this name can write to.
    fn file(&self, name: &RemoteName, kind: &str) -> Option<PathBuf> {
        self.target.scratch().map(|dir| dir.join(format!("{name}.{kind}")))
    }

    /// Waits until the command of `request` has begun: being shown as running may come a moment before.
    async fn mark_of(&self, request: &LaunchRequest) {
        let Some(file) = self.file(&request.name, "runs") else { return };
        let marked = async {
            while !file.exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(self.target.patience(), marked).await.expect("its command leaves a mark");
    }

    /// Asserts how often the command of `request` was started; of a target without commands nothing is asked.
    fn assert_runs(&self, request: &LaunchRequest, expected: usize) {
        if let Some(file) = self.file(&request.name, "runs") {
            let marks = std::fs::read_to_string(file).unwrap_or_default();
            assert_eq!(marks.lines().count(), expected, "runs of {}", request.name);
        }
    }
}
