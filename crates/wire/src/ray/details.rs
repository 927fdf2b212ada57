//! A job as Ray's client reads it.

use serde::Serialize;
use serde_json::{Map, Value, json};
use yard_domain::{Failure, FailureClass, JobState, Outcome, Timestamp};
use yard_ports::store;

use crate::launch::DocumentError;
use crate::views;

/// How much of a log Ray puts into the message of a job that failed.
const LOGS_HINT: &str = "last available logs (truncated to 20,000 chars)";

/// Clusters that the reason of a wait is told of.
const CLUSTERS_SHOWN: usize = 5;

/// Ray's `JobDetails`. What describes a process on a node of one cluster is null.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobDetails {
    #[serde(rename = "type")]
    kind: &'static str,
    job_id: Option<String>,
    /// The job's key.
    pub submission_id: String,
    driver_info: Option<Value>,
    /// `PENDING`, `RUNNING`, `STOPPED`, `SUCCEEDED` or `FAILED`.
    pub status: &'static str,
    entrypoint: Value,
    message: String,
    error_type: Option<&'static str>,
    start_time: i64,
    end_time: Option<i64>,
    metadata: Value,
    runtime_env: Value,
    driver_agent_http_address: Option<String>,
    driver_node_id: Option<String>,
    driver_exit_code: Option<i32>,
}

/// Ray's word for where a job stands.
pub fn ray_status(state: &JobState) -> &'static str {
    match state {
        JobState::Queued { .. }
        | JobState::Claimed { .. }
        | JobState::Placed { .. }
        | JobState::Launching { .. } => "PENDING",
        JobState::Running { .. } => "RUNNING",
        JobState::Ended(Outcome::Succeeded) => "SUCCEEDED",
        JobState::Ended(Outcome::Failed(_) | Outcome::Expired) => "FAILED",
        JobState::Ended(Outcome::Stopped) => "STOPPED",
    }
}

/// Whether the job stays as it is.
pub fn is_final(state: &JobState) -> bool {
    matches!(state, JobState::Ended(_))
}

impl JobDetails {
    /// The job as seen when it was read. With `redact`, the values of environment variables are left out, as Ray does for
    /// browsers.
    pub fn new(job: &store::JobView, redact: bool) -> Result<Self, DocumentError> {
        let life = &job.lifecycle;
        let view = views::JobView::new(job)?;
        let mut spec = match view.spec {
            Value::Object(spec) => spec,
            _ => Map::new(),
        };
        let mut take = |field: &str| spec.remove(field);
        let mut runtime_env = take("runtime_env").unwrap_or_else(|| json!({}));
        if let Some(Value::Object(vars)) = runtime_env.get_mut("env_vars").filter(|_| redact) {
            vars.values_mut().for_each(|value| *value = json!("<redacted>"));
        }
        let waiting = view.waiting.map(|w| why(&w));
        Ok(Self {
            kind: "SUBMISSION",
            job_id: None,
            submission_id: job.key.clone(),
            driver_info: None,
            status: ray_status(&life.state),
            entrypoint: take("entrypoint").unwrap_or_default(),
            message: message(job, waiting),
            error_type: error_type(&life.state),
            start_time: millis(job.created_at),
            end_time: job.ended_at.map(millis),
            metadata: take("metadata").unwrap_or_else(|| json!({})),
            runtime_env,
            driver_agent_http_address: None,
            driver_node_id: None,
            driver_exit_code: exit_code(job),
        })
    }
}

/// Why it waits, with a sentence for each of the first few clusters.
fn why(waiting: &views::Waiting) -> String {
    let mut clusters: Vec<String> =
        waiting.clusters.iter().take(CLUSTERS_SHOWN).map(|(id, why)| format!("{id}: {why}")).collect();
    let more = waiting.clusters.len().saturating_sub(CLUSTERS_SHOWN);
    if more > 0 {
        clusters.push(format!("and {more} more"));
    }
    if clusters.is_empty() {
        waiting.message.clone()
    } else {
        format!("{} ({})", waiting.message, clusters.join("; "))
    }
}

fn millis(at: Timestamp) -> i64 {
    at.as_micros() / 1_000
}

fn message(job: &store::JobView, waiting: Option<String>) -> String {
    let life = &job.lifecycle;
    match &life.state {
        JobState::Queued { .. } => waiting.unwrap_or_default(),
        JobState::Claimed { .. } => "a scheduler is placing it".to_owned(),
        JobState::Placed { attempt, .. } => {
            format!("placed on {} as attempt {}; its launch has not begun", attempt.cluster, attempt.number)
        }
        JobState::Launching { attempt, .. } => {
            format!("starting on {} as attempt {}", attempt.cluster, attempt.number)
        }
        JobState::Running { attempt, .. } => {
            format!("Job is currently running. It is on {} as attempt {}.", attempt.cluster, attempt.number)
        }
        JobState::Ended(Outcome::Succeeded) => "Job finished successfully.".to_owned(),
        JobState::Ended(Outcome::Stopped) => "Job was intentionally stopped.".to_owned(),
        JobState::Ended(Outcome::Expired) => {
            format!(
                "Job failed: it waited longer than its queue timeout of {} s.",
                life.queue_timeout.as_secs()
            )
        }
        JobState::Ended(Outcome::Failed(failure)) => failed(failure),
    }
}

fn failed(failure: &Failure) -> String {
    let said = &failure.message;
    match (failure.class, failure.exit_code) {
        (FailureClass::User, Some(code)) if !said.starts_with("Job entrypoint command failed") => {
            format!("Job entrypoint command failed with exit code {code}, {LOGS_HINT}:\n{said}")
        }
        (FailureClass::User, _) => said.clone(),
        (class, _) if said.is_empty() => format!("Job failed ({}).", class.code()),
        (class, _) => format!("{said} ({})", class.code()),
    }
}

fn error_type(state: &JobState) -> Option<&'static str> {
    match state {
        JobState::Ended(Outcome::Failed(failure)) => Some(match failure.class {
            FailureClass::User => "JOB_ENTRYPOINT_COMMAND_ERROR",
            FailureClass::RuntimeEnv => "RUNTIME_ENV_SETUP_FAILURE",
            FailureClass::Refused | FailureClass::Launch => "JOB_SUPERVISOR_ACTOR_START_FAILURE",
            FailureClass::Lost => "JOB_SUPERVISOR_ACTOR_DIED",
            FailureClass::Preempted | FailureClass::RunTimeout | FailureClass::StoppedRemotely => {
                "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE"
            }
        }),
        JobState::Ended(Outcome::Expired) => Some("JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE"),
        _ => None,
    }
}

fn exit_code(job: &store::JobView) -> Option<i32> {
    match &job.lifecycle.state {
        JobState::Ended(Outcome::Succeeded) => Some(0),
        JobState::Ended(Outcome::Failed(failure)) => failure.exit_code,
        _ => None,
    }
}
