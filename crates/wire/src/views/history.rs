//! A job's history.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use yard_domain::{Event, HistoryLine, Outcome, TeamId, Timestamp};
use yard_ports::store::JobEvent;

use super::time::time_text;

/// A job's history, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HistoryView {
    /// Which job.
    pub id: String,
    /// Its lines.
    pub lines: Vec<LineView>,
    /// Ask for lines after this one to go on; left out if there are no more now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u32>,
}

/// One thing that happened to a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LineView {
    /// Its place, from 1.
    pub seq: u32,
    /// When.
    pub at: String,
    /// Who.
    pub actor: String,
    /// The state before; left out on the first line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The state after.
    pub to: String,
    /// What happened, as a stable code.
    pub event: String,
    /// What happened, for people.
    pub message: String,
    /// The event's data; times as texts.
    #[schema(value_type = Object)]
    pub data: Value,
}

/// One thing that happened to some job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// Its place in the order of all events: where to go on after it. On a job's own stream it is left out; there `seq`
    /// says that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// Which job.
    pub job: String,
    /// Whose.
    pub team: String,
    /// What happened.
    #[serde(flatten)]
    pub line: LineView,
}

impl From<&JobEvent> for EventView {
    fn from(event: &JobEvent) -> Self {
        Self { id: Some(event.pos), ..Self::of_line(&event.team, &event.line) }
    }
}

impl EventView {
    /// A line of a job of this team.
    pub fn of_line(team: &TeamId, line: &HistoryLine) -> Self {
        Self { id: None, job: line.job.to_string(), team: team.to_string(), line: line.into() }
    }
}

impl From<&HistoryLine> for LineView {
    fn from(line: &HistoryLine) -> Self {
        Self {
            seq: line.seq,
            at: time_text(line.at),
            actor: line.actor.to_string(),
            from: line.from.map(|s| s.code().to_owned()),
            to: line.to.code().to_owned(),
            event: line.event.code().to_owned(),
            message: sentence(&line.event),
            data: readable(line.event.data()),
        }
    }
}

fn sentence(event: &Event) -> String {
    match event {
        Event::Accepted { queue_deadline } => format!("accepted; may wait until {queue_deadline}"),
        Event::Claimed { lease } => format!("a scheduler took it in hand (lease {lease})"),
        Event::Released { reason } => format!("back in the queue: {}", reason.code()),
        Event::Placed { attempt, cluster, deadline } => {
            format!("attempt {attempt} placed on {cluster}; to be launched by {deadline}")
        }
        Event::LaunchBegun { deadline, .. } => {
            format!("the cluster is being called; to be running by {deadline}")
        }
        Event::Started { deadline } => format!("running; may run until {deadline}"),
        Event::Retried { failure, not_before, .. } => {
            format!("the attempt ended: {failure}; another one not before {not_before}")
        }
        Event::Ended { outcome: Outcome::Succeeded } => "succeeded".to_owned(),
        Event::Ended { outcome: Outcome::Failed(failure) } => format!("failed: {failure}"),
        Event::Ended { outcome: Outcome::Stopped } => "stopped".to_owned(),
        Event::Ended { outcome: Outcome::Expired } => "waited longer than its queue timeout".to_owned(),
        Event::StopRequested { reason } if reason.is_empty() => "somebody wants it stopped".to_owned(),
        Event::StopRequested { reason } => format!("somebody wants it stopped: {reason}"),
        Event::PreemptRequested { for_team, reason, .. } => {
            format!("to make room for a job of team {for_team}: {reason}")
        }
    }
}

/// `deadline_us: 1795…` becomes `deadline: "2026-…"`.
fn readable(data: Value) -> Value {
    let Value::Object(map) = data else { return data };
    let readable = map.into_iter().map(|(name, value)| match (name.strip_suffix("_us"), value.as_i64()) {
        (Some(short), Some(us)) => (short.to_owned(), Value::String(time_text(Timestamp::from_micros(us)))),
        _ => (name, value),
    });
    Value::Object(readable.collect::<Map<_, _>>())
}
