//! What is pushed to producers, and the deliveries of it as shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use yard_domain::{Event, FailureClass, Outcome};
use yard_ports::push::{DeliveryRow, NoJob, PushEvent, Rejection};
use yard_ports::store::JobEvent;

use super::history::LineView;
use super::job::FailureView;
use super::problem::FieldProblem;
use super::time::time_text;

/// Most errors of one rejection that are pushed: a message must fit into a queue.
const ERRORS_MAX: usize = 50;
/// Most characters of one of their messages.
const ERROR_CHARS: usize = 1_000;

/// What is pushed: a verdict on a submission, or the end of a job. It has the fields of an event of `/v1/events`, as far as
/// there is a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PushView {
    /// `verdict` or `end`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its place in the order of all events.
    pub id: u64,
    /// Whose submission: the team as it stood in it.
    pub team: String,
    /// Its key.
    pub key: String,
    /// The job; of a conflict: the one that has the key. Left out on a rejection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// When, by the database's clock.
    pub at: String,
    /// `accepted`, `rejected`, `conflict`; `succeeded`, `failed`, `stopped`, `expired`.
    pub event: String,
    /// What happened, for people.
    pub message: String,
    /// Of a verdict: `accepted`, `rejected` or `conflict`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// Of a rejection: what is wrong with the submission.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldProblem>,
    /// How many more there are; its receipt has them all.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub errors_left_out: usize,
    /// Of a verdict without a job: which door it came through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Of a verdict without a job: the message's or request's own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Of an end: `succeeded`, `failed`, `stopped` or `expired`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureView>,
    /// The line's place in the job's history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u32>,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// The state before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The state after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The event's data; times as texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub data: Option<Value>,
    /// The job's metadata.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl PushView {
    /// What there is to push of an event; nothing if it is neither a verdict nor an end.
    pub fn of(event: &PushEvent) -> Option<Self> {
        match event {
            PushEvent::Line(event) => Self::of_line(event),
            PushEvent::Rejection(pos, rejection) => Some(Self::of_rejection(*pos, rejection)),
        }
    }

    fn of_line(event: &JobEvent) -> Option<Self> {
        let (kind, outcome) = match &event.line.event {
            Event::Accepted { .. } => ("verdict", None),
            Event::Ended { outcome } => ("end", Some(outcome)),
            _ => return None,
        };
        let line = LineView::from(&event.line);
        let mut view = Self {
            kind: kind.to_owned(),
            id: event.pos,
            team: event.team.to_string(),
            key: event.key.clone(),
            job: Some(event.line.job.to_string()),
            at: line.at,
            event: line.event.clone(),
            message: line.message,
            verdict: outcome.is_none().then(|| line.event.clone()),
            errors: Vec::new(),
            errors_left_out: 0,
            source: None,
            message_id: None,
            outcome: outcome.map(|_| line.event),
            failure: None,
            seq: Some(line.seq),
            actor: Some(line.actor),
            from: line.from,
            to: Some(line.to),
            data: Some(line.data),
            metadata: event.metadata.clone(),
        };
        if let Some(Outcome::Failed(failure)) = outcome {
            view.failure = Some(FailureView {
                class: failure.class.code().to_owned(),
                exit_code: failure.exit_code,
                message: failure.message.clone(),
            });
            if failure.class == FailureClass::Preempted {
                view.keep_to_itself();
            }
        }
        Some(view)
    }

    /// For whom a job made room is nothing that its own team must know.
    fn keep_to_itself(&mut self) {
        "failed: preempted".clone_into(&mut self.message);
        self.data = None;
        if let Some(failure) = &mut self.failure {
            failure.message.clear();
        }
    }

    fn of_rejection(pos: u64, rejection: &Rejection) -> Self {
        let (verdict, job, message, errors) = match &rejection.verdict {
            NoJob::Rejected(errors) => {
                let n = errors.len();
                let message = format!("rejected: {n} error{}", if n == 1 { "" } else { "s" });
                ("rejected", None, message, errors.as_slice())
            }
            NoJob::Conflict(job) => {
                let message = format!("its key belongs to job {job}, which has another document");
                ("conflict", Some(job.to_string()), message, [].as_slice())
            }
        };
        let problem = |error| {
            let problem = FieldProblem::from(error);
            FieldProblem { message: problem.message.chars().take(ERROR_CHARS).collect(), ..problem }
        };
        Self {
            kind: "verdict".to_owned(),
            id: pos,
            team: rejection.team.to_string(),
            key: rejection.key.clone(),
            job,
            at: time_text(rejection.at),
            event: verdict.to_owned(),
            message,
            verdict: Some(verdict.to_owned()),
            errors: errors.iter().take(ERRORS_MAX).map(problem).collect(),
            errors_left_out: errors.len().saturating_sub(ERRORS_MAX),
            source: Some(rejection.source.clone()),
            message_id: Some(rejection.message_id.clone()),
            outcome: None,
            failure: None,
            seq: None,
            actor: None,
            from: None,
            to: None,
            data: None,
            metadata: BTreeMap::new(),
        }
    }
}

/// Some deliveries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeliveryList {
    /// The deliveries, by team, subscription and event.
    pub deliveries: Vec<DeliveryView>,
    /// The cursor of the next page; left out on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// An event on its way to a subscription.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeliveryView {
    /// Whose subscription.
    pub team: String,
    /// Its name.
    pub subscription: String,
    /// Which event: its place in the order of all.
    pub id: u64,
    /// `pending` or `dead`.
    pub state: String,
    /// How often it has been tried.
    pub attempts: u32,
    /// When it was made.
    pub created_at: String,
    /// Of what is pending: when its turn is, unless another of its job is to go first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<String>,
    /// Of what is dead: since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_at: Option<String>,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// What is sent.
    #[schema(value_type = PushView)]
    pub body: Value,
}

impl From<&DeliveryRow> for DeliveryView {
    fn from(row: &DeliveryRow) -> Self {
        let time = Some(time_text(row.due_at));
        let (due_at, dead_at) = match row.state {
            yard_domain::DeliveryState::Pending => (time, None),
            yard_domain::DeliveryState::Dead => (None, time),
        };
        Self {
            team: row.subscription.team.to_string(),
            subscription: row.subscription.name.to_string(),
            id: row.pos,
            state: row.state.code().to_owned(),
            attempts: row.attempts,
            created_at: time_text(row.created_at),
            due_at,
            dead_at,
            last_error: row.last_error.clone(),
            body: serde_json::from_str(&row.body).unwrap_or_else(|_| Value::String(row.body.clone())),
        }
    }
}

/// The answer to a wish to send deliveries again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResendAnswer {
    /// How many are pending again.
    pub resent: u32,
    /// Whether there are more that the wish was about: ask again.
    pub more: bool,
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use yard_domain::{Actor, Failure, FieldError, HistoryLine, JobId, StateName, TeamId, Timestamp};

    use super::*;

    fn line(event: Event, from: Option<StateName>, to: StateName) -> PushEvent {
        let (job, at) =
            (JobId::new(1_700_000_000_000, [3; 10]), Timestamp::from_micros(1_700_000_000_000_000));
        let line = HistoryLine { job, seq: 4, at, actor: Actor("dispatcher:a".to_owned()), from, to, event };
        let team: TeamId = "ads".parse().unwrap();
        let metadata = BTreeMap::from([("dag".to_owned(), "nightly".to_owned())]);
        PushEvent::Line(JobEvent { pos: 9, team, line, key: "k".to_owned(), metadata })
    }

    fn pushed(event: &PushEvent) -> Value {
        serde_json::to_value(PushView::of(event).unwrap()).unwrap()
    }

    #[test]
    fn an_end_says_how_and_why() {
        let failure = Failure::new(FailureClass::User, Some(3), "boom");
        let outcome = Outcome::Failed(failure);
        let event = line(Event::Ended { outcome }, Some(StateName::Running), StateName::Failed);
        assert_eq!(
            pushed(&event),
            json!({
                "type": "end", "id": 9, "team": "ads", "key": "k",
                "job": "018bcfe5-6800-7303-8303-030303030303", "at": "2023-11-14T22:13:20.000000Z",
                "event": "failed", "message": "failed: user_error (exit 3): boom", "outcome": "failed",
                "failure": {"class": "user_error", "exit_code": 3, "message": "boom"},
                "seq": 4, "actor": "dispatcher:a", "from": "running", "to": "failed",
                "data": {"failure": {"class": "user_error", "exit_code": 3, "message": "boom"}},
                "metadata": {"dag": "nightly"},
            })
        );
        let started = Event::Started { deadline: Timestamp::from_micros(1) };
        assert_eq!(PushView::of(&line(started, None, StateName::Running)), None);
        let accepted = Event::Accepted { queue_deadline: Timestamp::from_micros(1) };
        let accepted = pushed(&line(accepted, None, StateName::Queued));
        assert_eq!((&accepted["type"], &accepted["verdict"]), (&json!("verdict"), &json!("accepted")));
    }

    #[test]
    fn for_whom_a_job_made_room_is_not_told() {
        let failure = Failure::new(FailureClass::Preempted, None, "for job 7 of team secret");
        let outcome = Outcome::Failed(failure);
        let event = line(Event::Ended { outcome }, Some(StateName::Running), StateName::Failed);
        let text = pushed(&event).to_string();
        assert!(text.contains("preempted") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn a_rejection_has_its_errors_within_bounds() {
        let error =
            |i: usize| FieldError { field: format!("f{i}"), code: "invalid", message: "ä".repeat(3_000) };
        let mut rejection = Rejection {
            id: JobId::new(1, [0; 10]),
            team: "ads".parse().unwrap(),
            key: "k".to_owned(),
            at: Timestamp::from_micros(0),
            verdict: NoJob::Rejected((0..60).map(error).collect()),
            source: "sqs:main".to_owned(),
            message_id: "m".to_owned(),
        };
        let view = pushed(&PushEvent::Rejection(7, rejection.clone()));
        assert_eq!((&view["event"], &view["errors_left_out"]), (&json!("rejected"), &json!(10)));
        assert!(view.to_string().len() < 200_000 && view.get("job").is_none());
        rejection.verdict = NoJob::Conflict(JobId::new(2, [0; 10]));
        let view = pushed(&PushEvent::Rejection(8, rejection));
        assert_eq!((&view["verdict"], &view["type"]), (&json!("conflict"), &json!("verdict")));
        assert!(view["job"].is_string() && view.get("errors").is_none());
    }
}
