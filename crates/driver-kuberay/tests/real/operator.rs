//! Writes what the KubeRay operator would write, for the commands that the conformance suite runs.

use std::collections::HashSet;
use std::time::Duration;

use futures::StreamExt;
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::runtime::watcher::{self, Event};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::world::World;

/// Works until it is dropped.
pub struct Operator {
    task: JoinHandle<()>,
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Operator {
    pub fn begin(world: &World) -> Self {
        let jobs = world.jobs();
        Self { task: tokio::spawn(work(jobs)) }
    }
}

async fn work(jobs: Api<DynamicObject>) {
    let mut known = HashSet::new();
    let watch = watcher::watcher(jobs.clone(), watcher::Config::default());
    let mut watch = std::pin::pin!(watch);
    while let Some(event) = watch.next().await {
        let Ok(Event::Apply(job) | Event::InitApply(job)) = event else { continue };
        if known.insert(job.name_any()) {
            tokio::spawn(drive(
                jobs.clone(),
                job.name_any(),
                job.data["spec"]["entrypoint"].as_str().unwrap_or_default().to_owned(),
            ));
        }
    }
}

/// `[sleep N;] exit N`
async fn drive(jobs: Api<DynamicObject>, name: String, entrypoint: String) {
    let number = |word: &str| {
        entrypoint.split_once(word).and_then(|(_, rest)| rest.split([';', ' ']).next()?.parse::<u64>().ok())
    };
    let (sleep, exit) = (number("sleep ").unwrap_or(0), number("exit ").unwrap_or(0));
    write(
        &jobs,
        &name,
        json!({"jobDeploymentStatus": "Initializing", "jobId": name, "rayClusterName": format!("{name}-x")}),
    )
    .await;
    write(&jobs, &name, json!({"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"})).await;
    let end = Instant::now() + Duration::from_secs(sleep);
    loop {
        let Ok(Some(job)) = jobs.get_opt(&name).await else { return };
        if job.data["spec"]["suspend"] == true {
            write(&jobs, &name, json!({"jobDeploymentStatus": "Suspending"})).await;
            return write(
                &jobs,
                &name,
                json!({"jobDeploymentStatus": "Suspended", "jobStatus": "", "rayClusterName": ""}),
            )
            .await;
        }
        if Instant::now() >= end {
            let message = format!(
                "Job entrypoint command failed with exit code {exit}, last available logs:\nit broke"
            );
            let status = if exit == 0 {
                json!({"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"})
            } else {
                json!({"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "reason": "AppFailed", "message": message})
            };
            return write(&jobs, &name, status).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn write(jobs: &Api<DynamicObject>, name: &str, status: Value) {
    // It may be gone.
    _ = jobs.patch_status(name, &PatchParams::default(), &Patch::Merge(json!({"status": status}))).await;
}
