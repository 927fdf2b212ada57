//! Events: what happened to a job. Each is one line of history, and folding them rebuilds the job's state.

use std::fmt;

use serde_json::{Value, json};

use crate::failure::{Failure, FailureClass, Outcome};
use crate::ids::{AttemptNumber, ClusterId, JobId, LeaseToken, TeamId};
use crate::lifecycle::StateName;
use crate::retry::Budget;
use crate::time::Timestamp;

/// Who did it: `scheduler:<holder>`, `dispatcher:<holder>`, `intake`, `user:<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Actor(pub String);

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a claimed job went back to the queue without having been placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseReason {
    /// The team or cluster had no room left when the placement was to be committed.
    NoRoom,
    /// The scheduler that had claimed it lost its lease.
    LeaseExpired,
    /// The scheduler gave it back on shutting down.
    Shutdown,
}

impl ReleaseReason {
    /// The stable code stored and shown.
    pub fn code(self) -> &'static str {
        match self {
            Self::NoRoom => "no_room",
            Self::LeaseExpired => "lease_expired",
            Self::Shutdown => "shutdown",
        }
    }

    fn from_code(code: &str) -> Option<Self> {
        [Self::NoRoom, Self::LeaseExpired, Self::Shutdown].into_iter().find(|r| r.code() == code)
    }
}

/// What happened to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It was accepted and queued.
    Accepted {
        /// When the wait in the queue ends.
        queue_deadline: Timestamp,
    },
    /// A scheduler claimed it under this lease.
    Claimed {
        /// The fencing number.
        lease: LeaseToken,
    },
    /// It went back to the queue unplaced.
    Released {
        /// Why.
        reason: ReleaseReason,
    },
    /// It was given to a cluster as a new attempt, and charged.
    Placed {
        /// The attempt made for it.
        attempt: AttemptNumber,
        /// Where.
        cluster: ClusterId,
        /// By when its launch must have begun.
        deadline: Timestamp,
    },
    /// The dispatcher is about to call the cluster.
    LaunchBegun {
        /// The dispatcher's fencing number.
        lease: LeaseToken,
        /// By when the cluster must show it running.
        deadline: Timestamp,
    },
    /// The cluster shows it running.
    Started {
        /// When its run timeout ends.
        deadline: Timestamp,
    },
    /// The attempt ended and the charge was refunded; the job is queued for another.
    Retried {
        /// Why the attempt ended.
        failure: Failure,
        /// Which retry budget pays.
        budget: Budget,
        /// Not to be placed before.
        not_before: Timestamp,
        /// When the wait in the queue ends.
        queue_deadline: Timestamp,
    },
    /// The job ended for good; if an attempt was open, it ended too and its charge was refunded.
    Ended {
        /// How.
        outcome: Outcome,
    },
    /// Somebody wants it stopped. A fact, not a state: it can't be lost in a race.
    StopRequested {
        /// Why, in the asker's words.
        reason: String,
    },
    /// Its attempt is to make room for another job. A fact, not a state, and forgotten when the attempt has ended.
    PreemptRequested {
        /// Which attempt.
        attempt: AttemptNumber,
        /// For whose job.
        for_team: TeamId,
        /// Why this one, for people.
        reason: String,
    },
}

/// A line of history that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {code:?} cannot be read: {problem}")]
pub struct UnreadableEvent {
    /// The stored code.
    pub code: String,
    /// What is missing or wrong.
    pub problem: String,
}

impl Event {
    /// The stable code stored, shown and counted.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Accepted { .. } => "accepted",
            Self::Claimed { .. } => "claimed",
            Self::Released { .. } => "released",
            Self::Placed { .. } => "placed",
            Self::LaunchBegun { .. } => "launch_begun",
            Self::Started { .. } => "started",
            Self::Retried { .. } => "retried",
            Self::Ended { outcome: Outcome::Succeeded } => "succeeded",
            Self::Ended { outcome: Outcome::Failed(_) } => "failed",
            Self::Ended { outcome: Outcome::Stopped } => "stopped",
            Self::Ended { outcome: Outcome::Expired } => "expired",
            Self::StopRequested { .. } => "stop_requested",
            Self::PreemptRequested { .. } => "preempt_requested",
        }
    }

    /// The data that goes with the code, as stored and shown.
    pub fn data(&self) -> Value {
        match self {
            Self::Accepted { queue_deadline } => json!({"queue_deadline_us": queue_deadline.as_micros()}),
            Self::Claimed { lease } => json!({"lease": lease.0}),
            Self::Released { reason } => json!({"reason": reason.code()}),
            Self::Placed { attempt, cluster, deadline } => {
                json!({"attempt": attempt.0, "cluster": cluster.as_str(), "deadline_us": deadline.as_micros()})
            }
            Self::LaunchBegun { lease, deadline } => {
                json!({"lease": lease.0, "deadline_us": deadline.as_micros()})
            }
            Self::Started { deadline } => json!({"deadline_us": deadline.as_micros()}),
            Self::Retried { failure, budget, not_before, queue_deadline } => json!({
                "failure": failure_data(failure), "budget": budget_code(*budget),
                "not_before_us": not_before.as_micros(), "queue_deadline_us": queue_deadline.as_micros(),
            }),
            Self::Ended { outcome: Outcome::Failed(failure) } => json!({"failure": failure_data(failure)}),
            Self::Ended { .. } => json!({}),
            Self::StopRequested { reason } => json!({"reason": reason}),
            Self::PreemptRequested { attempt, for_team, reason } => {
                json!({"attempt": attempt.0, "for_team": for_team.as_str(), "reason": reason})
            }
        }
    }

    /// Reads back what [`Event::code`] and [`Event::data`] wrote.
    pub fn read(code: &str, data: &Value) -> Result<Self, UnreadableEvent> {
        Reader { code, data }.event()
    }
}

fn failure_data(failure: &Failure) -> Value {
    json!({"class": failure.class.code(), "exit_code": failure.exit_code, "message": failure.message})
}

fn budget_code(budget: Budget) -> &'static str {
    match budget {
        Budget::Own => "own",
        Budget::Infra => "infra",
        Budget::Free => "free",
        Budget::Never => "never",
    }
}

struct Reader<'a> {
    code: &'a str,
    data: &'a Value,
}

impl Reader<'_> {
    fn event(&self) -> Result<Event, UnreadableEvent> {
        Ok(match self.code {
            "accepted" => Event::Accepted { queue_deadline: self.time("queue_deadline_us")? },
            "claimed" => Event::Claimed { lease: LeaseToken(self.int("lease")?) },
            "released" => Event::Released { reason: self.coded("reason", ReleaseReason::from_code)? },
            "placed" => Event::Placed {
                attempt: self.attempt()?,
                cluster: self.text("cluster")?.parse().map_err(|_| self.bad("cluster"))?,
                deadline: self.time("deadline_us")?,
            },
            "launch_begun" => Event::LaunchBegun {
                lease: LeaseToken(self.int("lease")?),
                deadline: self.time("deadline_us")?,
            },
            "started" => Event::Started { deadline: self.time("deadline_us")? },
            "retried" => Event::Retried {
                failure: self.failure()?,
                budget: self.coded("budget", |c| {
                    [Budget::Own, Budget::Infra, Budget::Free, Budget::Never]
                        .into_iter()
                        .find(|b| budget_code(*b) == c)
                })?,
                not_before: self.time("not_before_us")?,
                queue_deadline: self.time("queue_deadline_us")?,
            },
            "succeeded" => Event::Ended { outcome: Outcome::Succeeded },
            "failed" => Event::Ended { outcome: Outcome::Failed(self.failure()?) },
            "stopped" => Event::Ended { outcome: Outcome::Stopped },
            "expired" => Event::Ended { outcome: Outcome::Expired },
            "stop_requested" => Event::StopRequested { reason: self.text("reason")?.to_owned() },
            "preempt_requested" => Event::PreemptRequested {
                attempt: self.attempt()?,
                for_team: self.text("for_team")?.parse().map_err(|_| self.bad("for_team"))?,
                reason: self.text("reason")?.to_owned(),
            },
            _ => return Err(self.bad("code")),
        })
    }

    fn bad(&self, field: &str) -> UnreadableEvent {
        UnreadableEvent { code: self.code.to_owned(), problem: format!("{field} is missing or invalid") }
    }

    fn attempt(&self) -> Result<AttemptNumber, UnreadableEvent> {
        u32::try_from(self.int("attempt")?).map(AttemptNumber).map_err(|_| self.bad("attempt"))
    }

    fn int(&self, field: &str) -> Result<i64, UnreadableEvent> {
        self.data.get(field).and_then(Value::as_i64).ok_or_else(|| self.bad(field))
    }

    fn text(&self, field: &str) -> Result<&str, UnreadableEvent> {
        self.data.get(field).and_then(Value::as_str).ok_or_else(|| self.bad(field))
    }

    fn time(&self, field: &str) -> Result<Timestamp, UnreadableEvent> {
        self.int(field).map(Timestamp::from_micros)
    }

    fn coded<T>(&self, field: &str, read: impl Fn(&str) -> Option<T>) -> Result<T, UnreadableEvent> {
        read(self.text(field)?).ok_or_else(|| self.bad(field))
    }

    fn failure(&self) -> Result<Failure, UnreadableEvent> {
        let data = self.data.get("failure").ok_or_else(|| self.bad("failure"))?;
        let inner = Reader { code: self.code, data };
        let exit_code = data.get("exit_code").and_then(Value::as_i64).and_then(|c| i32::try_from(c).ok());
        Ok(Failure::new(inner.coded("class", FailureClass::from_code)?, exit_code, inner.text("message")?))
    }
}

/// One line of a job's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryLine {
    /// Whose.
    pub job: JobId,
    /// Its place in the job's history, from 1.
    pub seq: u32,
    /// When, by the database's clock.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// The state before; `None` for the first line.
    pub from: Option<StateName>,
    /// The state after.
    pub to: StateName,
    /// What happened.
    pub event: Event,
}
