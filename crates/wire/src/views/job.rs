//! Jobs and their attempts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use yard_domain::{Failure, JobState, Lifecycle, Outcome, Timestamp};
use yard_ports::store::{self, JobRow, StopAnswer, WaitNote};

use super::amounts::Amounts;
use super::time::time_text;
use crate::launch::DocumentError;

/// A job, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    /// What a list shows of it too.
    #[serde(flatten)]
    pub summary: JobSummary,
    /// Its place inside the team's queue: higher is earlier.
    pub priority: i64,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// Why it waits; there while it is queued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// The clock that runs in this state; there until it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<Clock>,
    /// Its retries so far.
    pub retries: RetriesView,
    /// Its attempts, first to last.
    pub attempts: Vec<AttemptView>,
    /// The submission with every default filled in.
    #[schema(value_type = Object)]
    pub spec: Value,
}

/// A job in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobSummary {
    /// Its id.
    pub id: String,
    /// Who is charged.
    pub team: String,
    /// The producer's key.
    pub key: String,
    /// For people.
    pub name: String,
    /// `queued`, `claimed`, `placed`, `launching`, `running`, `succeeded`, `failed`, `stopped` or `expired`.
    pub state: String,
    /// When it entered its state.
    pub since: String,
    /// When it was accepted.
    pub created_at: String,
    /// Where its open attempt is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// How many attempts were made.
    pub attempt: u32,
    /// What it is charged while it has an open attempt.
    pub resources: Amounts,
    /// Whether somebody wants it stopped.
    pub stop_requested: bool,
    /// Why it failed; there if its state is `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureView>,
}

/// Why a job or an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailureView {
    /// `user_error`, `refused_by_cluster`, `runtime_env`, `launch_failed`, `lost`, `preempted`, `run_timeout`
    /// or `stopped_at_cluster`.
    pub class: String,
    /// The entrypoint's exit code, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// What the cluster said.
    pub message: String,
}

/// Why a job is queued and not placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Waiting {
    /// A stable code: the rule that holds it. `backoff`: the wait before a retry; `not_looked_at`: no
    /// placement pass has come to it yet; others are the planner's.
    pub code: String,
    /// For people.
    pub message: String,
    /// A sentence per cluster.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub clusters: BTreeMap<String, String>,
    /// When the first job of its team and shape will probably start, if room is kept for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_start: Option<String>,
}

/// A clock that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Clock {
    /// `queue_timeout`, `place_deadline`, `launch_deadline` or `run_timeout`.
    pub kind: String,
    /// When it runs out.
    pub at: String,
}

/// Retries so far, by who pays for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RetriesView {
    /// After failures of the job's own.
    pub own: u32,
    /// At most this many of those.
    pub own_max: u32,
    /// After lost clusters and failed launches, at the installation's cost.
    pub infra: u32,
    /// Times preempted.
    pub preempted: u32,
}

/// One launch of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    /// 1 for the first.
    pub number: u32,
    /// Where.
    pub cluster: String,
    /// Its name there.
    pub remote_name: String,
    /// When it was placed.
    pub placed_at: String,
    /// When its launch was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launched_at: Option<String>,
    /// When it was seen running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// How: `succeeded`, `stopped`, or a failure's class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// What the cluster said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The entrypoint's exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

/// A page of jobs, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobList {
    /// The database's time: ages are counted from it.
    pub now: String,
    /// The jobs.
    pub jobs: Vec<JobSummary>,
    /// The cursor of the next page; left out on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The body of a stop request; may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StopRequest {
    /// Why, for the history. Up to 500 characters.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 500)]
    pub reason: String,
}

/// What a stop request met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StopAnswerView {
    /// Which job.
    pub id: String,
    /// `stopped`: it was queued and has ended. `requested`: the wish is kept and will be carried out.
    /// `already_ended`: there was nothing to stop.
    pub answer: String,
    /// The state in which it had already ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

impl JobView {
    /// As seen when it was read.
    pub fn new(job: &store::JobView) -> Result<Self, DocumentError> {
        let life = &job.lifecycle;
        let spec: Value =
            serde_json::from_str(&job.document).map_err(|source| DocumentError { job: life.id, source })?;
        let name = spec.get("name").and_then(Value::as_str).unwrap_or_default();
        Ok(Self {
            summary: JobSummary::new(life, &job.key, name, job.created_at, job.since),
            priority: job.order.priority().get().into(),
            ended_at: job.ended_at.map(time_text),
            waiting: waiting(life, job.waiting.as_ref(), job.read_at),
            clock: clock(&life.state),
            retries: RetriesView {
                own: life.counts.own,
                own_max: life.retry.max_retries,
                infra: life.counts.infra,
                preempted: life.counts.preempted,
            },
            attempts: job.attempts.iter().map(|a| AttemptView::new(life, a)).collect(),
            spec,
        })
    }
}

impl JobSummary {
    fn new(life: &Lifecycle, key: &str, name: &str, created_at: Timestamp, since: Timestamp) -> Self {
        Self {
            id: life.id.to_string(),
            team: life.team.to_string(),
            key: key.to_owned(),
            name: name.to_owned(),
            state: life.state.name().code().to_owned(),
            since: time_text(since),
            created_at: time_text(created_at),
            cluster: life.state.open_attempt().map(|a| a.cluster.to_string()),
            attempt: life.attempts,
            resources: Amounts::from(&life.request),
            stop_requested: life.stop_requested,
            failure: match &life.state {
                JobState::Ended(Outcome::Failed(failure)) => Some(failure.into()),
                _ => None,
            },
        }
    }

    /// Whether it stays in its state.
    pub fn has_ended(&self) -> bool {
        yard_domain::StateName::from_code(&self.state).is_some_and(yard_domain::StateName::is_end)
    }
}

impl From<&JobRow> for JobSummary {
    fn from(row: &JobRow) -> Self {
        Self::new(&row.lifecycle, &row.key, &row.name, row.created_at, row.since)
    }
}

impl From<&Failure> for FailureView {
    fn from(failure: &Failure) -> Self {
        Self {
            class: failure.class.code().to_owned(),
            exit_code: failure.exit_code,
            message: failure.message.clone(),
        }
    }
}

impl AttemptView {
    fn new(life: &Lifecycle, attempt: &store::AttemptView) -> Self {
        Self {
            number: attempt.number.0,
            cluster: attempt.cluster.to_string(),
            remote_name: yard_domain::RemoteName::new(life.id, attempt.number).to_string(),
            placed_at: time_text(attempt.placed_at),
            launched_at: attempt.launched_at.map(time_text),
            started_at: attempt.started_at.map(time_text),
            ended_at: attempt.ended_at.map(time_text),
            end: attempt.end.clone(),
            message: attempt.message.clone().filter(|m| !m.is_empty()),
            exit_code: attempt.exit_code,
        }
    }
}

impl StopAnswerView {
    /// `None` if there is no such job.
    pub fn new(id: yard_domain::JobId, answer: StopAnswer) -> Option<Self> {
        let (answer, state) = match answer {
            StopAnswer::Stopped => ("stopped", None),
            StopAnswer::Requested => ("requested", None),
            StopAnswer::AlreadyEnded(state) => ("already_ended", Some(state.code().to_owned())),
            StopAnswer::NoSuchJob => return None,
        };
        Some(Self { id: id.to_string(), answer: answer.to_owned(), state })
    }
}

fn waiting(life: &Lifecycle, note: Option<&WaitNote>, now: Timestamp) -> Option<Waiting> {
    let JobState::Queued { not_before, .. } = life.state else { return None };
    let plain = |code: &str, message: String| Waiting {
        code: code.to_owned(),
        message,
        clusters: BTreeMap::new(),
        expected_start: None,
    };
    Some(match (not_before, note) {
        (Some(at), _) if !at.is_due(now) => {
            let failed = life.attempts;
            plain("backoff", format!("attempt {failed} did not succeed; the next is not placed before {at}"))
        }
        (_, Some(note)) => Waiting {
            code: note.code.clone(),
            message: note.message.clone(),
            clusters: note.clusters.iter().map(|(id, why)| (id.to_string(), why.clone())).collect(),
            expected_start: note.expected_start.map(time_text),
        },
        (_, None) => plain("not_looked_at", "no placement pass has come to it yet".to_owned()),
    })
}

fn clock(state: &JobState) -> Option<Clock> {
    let kind = match state {
        JobState::Queued { .. } | JobState::Claimed { .. } => "queue_timeout",
        JobState::Placed { .. } => "place_deadline",
        JobState::Launching { .. } => "launch_deadline",
        JobState::Running { .. } => "run_timeout",
        JobState::Ended(_) => return None,
    };
    Some(Clock { kind: kind.to_owned(), at: time_text(state.deadline()?) })
}
