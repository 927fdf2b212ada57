//! From a stored document to what a driver needs.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use thiserror::Error;
use yard_domain::{AttemptNumber, InstanceId, JobId, NewJob, RayClusterShape, RemoteName};
use yard_ports::LaunchRequest;
use yard_ports::store::LaunchOrder;

use crate::submission::RayCluster;

/// A stored document that can't be read: the row was changed past Switchyard, or by a version to come.
#[derive(Debug, Error)]
#[error("the stored document of job {job} can't be read")]
pub struct DocumentError {
    /// Which job.
    pub job: JobId,
    /// What is wrong with it.
    #[source]
    pub source: serde_json::Error,
}

/// The parts of a stored document that no column has. Unknown fields are passed over: a later version may have
/// stored more.
#[derive(Deserialize)]
struct Stored {
    #[serde(default)]
    name: String,
    entrypoint: String,
    #[serde(default)]
    runtime_env: Map<String, Value>,
    #[serde(default)]
    ray_cluster: Option<RayCluster>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

/// What to hand to the driver for a launch that has been begun.
pub fn launch_request(order: &LaunchOrder, instance: InstanceId) -> Result<LaunchRequest, DocumentError> {
    let job = &order.job;
    let stored = read(&order.document, job.id)?;
    Ok(LaunchRequest {
        name: RemoteName::new(job.id, order.attempt),
        instance,
        job: job.id,
        attempt: order.attempt,
        team: job.team.clone(),
        job_name: stored.name,
        entrypoint: stored.entrypoint,
        runtime_env: stored.runtime_env,
        request: job.request.clone(),
        ray_cluster: shape(stored.ray_cluster, job.id)?,
        metadata: stored.metadata,
        run_timeout: job.run_timeout,
    })
}

/// What a driver would be handed for an attempt of a job that need not be in the store.
pub fn preview(
    job: &NewJob,
    attempt: AttemptNumber,
    instance: InstanceId,
) -> Result<LaunchRequest, DocumentError> {
    let stored = read(&job.document, job.id)?;
    Ok(LaunchRequest {
        name: RemoteName::new(job.id, attempt),
        instance,
        job: job.id,
        attempt,
        team: job.team.clone(),
        job_name: stored.name,
        entrypoint: stored.entrypoint,
        runtime_env: stored.runtime_env,
        request: job.spec.request.clone(),
        ray_cluster: shape(stored.ray_cluster, job.id)?,
        metadata: stored.metadata,
        run_timeout: job.spec.timeouts.run,
    })
}

fn read(document: &str, job: JobId) -> Result<Stored, DocumentError> {
    serde_json::from_str(document).map_err(|source| DocumentError { job, source })
}

fn shape(kept: Option<RayCluster>, job: JobId) -> Result<Option<RayClusterShape>, DocumentError> {
    let Some(kept) = kept else { return Ok(None) };
    let shape = kept.shape().ok_or_else(|| {
        let source = serde::de::Error::custom("ray_cluster has amounts that are none");
        DocumentError { job, source }
    })?;
    Ok(Some(shape))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;
    use yard_domain::lifecycle::OpenAttempt;
    use yard_domain::{AttemptNumber, JobState, Lifecycle, Request, RetryPolicy, Timestamp};

    use super::*;

    fn order(document: &str) -> LaunchOrder {
        let attempt = OpenAttempt { number: AttemptNumber(2), cluster: "east".parse().unwrap() };
        let job = Lifecycle {
            id: JobId(Uuid::nil()),
            team: "ads".parse().unwrap(),
            request: Request { cpu_milli: 500, jobs: 1, ..Request::default() },
            retry: RetryPolicy { max_retries: 0 },
            queue_timeout: Duration::from_mins(1),
            run_timeout: Duration::from_secs(90),
            version: 4,
            state: JobState::Launching { attempt, deadline: Timestamp::from_micros(0) },
            stop_requested: false,
            preempt_requested: false,
            attempts: 2,
            counts: yard_domain::retry::RetryCounts::default(),
        };
        LaunchOrder { job, attempt: AttemptNumber(2), document: document.to_owned() }
    }

    #[test]
    fn hands_over_what_the_document_says() {
        let document = r#"{"v":1,"name":"n","entrypoint":"python x.py","runtime_env":{"pip":["a"]},"ray_cluster":{"profile":"gpu","workers":{"count":2,"cpu":0.5}},"metadata":{"k":"v"},"later":1}"#;
        let request = launch_request(&order(document), InstanceId(Uuid::nil())).unwrap();
        assert_eq!(request.name.as_str(), "yard-00000000000000000000000000000000-2");
        assert_eq!((request.job_name.as_str(), request.entrypoint.as_str()), ("n", "python x.py"));
        assert_eq!(request.runtime_env["pip"][0], "a");
        let shape = request.ray_cluster.unwrap();
        let workers = shape.workers.unwrap();
        assert_eq!((shape.profile.as_deref(), workers.min, workers.max), (Some("gpu"), 2, 2));
        assert_eq!(workers.each.cpu_milli, 500);
        assert_eq!(request.metadata["k"], "v");
        assert_eq!(request.request.cpu_milli, 500);
        assert_eq!(request.run_timeout, Duration::from_secs(90));
    }

    #[test]
    fn says_whose_document_is_broken() {
        let error = launch_request(&order("{"), InstanceId(Uuid::nil())).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the stored document of job 00000000-0000-0000-0000-000000000000 can't be read"
        );
    }
}
