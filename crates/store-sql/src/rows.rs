//! A job's row, to and from the domain. A row that fits no state is an error that names it, never a default.

use std::time::Duration;

use yard_domain::lifecycle::OpenAttempt;
use yard_domain::retry::RetryCounts;
use yard_domain::{
    AttemptNumber, ClusterId, Failure, FailureClass, JobId, JobState, LeaseToken, Lifecycle, Outcome,
    RetryPolicy, StateName, Timestamp,
};

use crate::backend::{Row, Value};
use crate::codec::read_request;
use crate::fault::Fault;
use crate::reader::Reader;
use crate::sql::Set;

/// The columns that make up a [`JobRecord`], in the order in which [`JobRecord::read`] takes them.
pub(crate) const JOB_COLUMNS: &str = "id, team, request, max_retries, queue_timeout_us, run_timeout_us, version, \
     state, stop_us, attempts, retries_own, retries_infra, preemptions, not_before_us, deadline_us, \
     lease_token, cluster, failure_class, failure_exit, failure_message, since_us, placed_us, launched_us, started_us, \
     preempt_us";

/// The clock that `clock_us` shows: the queue deadline.
pub(crate) const CLOCK_QUEUE: i64 = 1;
/// The clock that `clock_us` shows: the end of a backoff.
pub(crate) const CLOCK_BACKOFF: i64 = 2;
/// The clock that `clock_us` shows: when it ended.
pub(crate) const CLOCK_ENDED: i64 = 3;

/// The clock that `clock_us` shows: when it was placed, while it is on a cluster. (Not a clock that runs out: a place
/// in the order in which attempts were placed, in an index that is there anyway.)
pub(crate) const CLOCK_PLACED: i64 = 4;

/// When the stages of the open attempt were reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stages {
    pub(crate) placed: Option<Timestamp>,
    pub(crate) launched: Option<Timestamp>,
    pub(crate) started: Option<Timestamp>,
}

/// A job's row as transitions need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JobRecord {
    pub(crate) job: Lifecycle,
    pub(crate) since: Timestamp,
    pub(crate) stages: Stages,
    /// When somebody asked for it to be stopped.
    pub(crate) stop: Option<Timestamp>,
    /// When its open attempt was asked to make room.
    pub(crate) preempt: Option<Timestamp>,
}

/// The columns of a row that tell its state.
struct Marks {
    state: StateName,
    not_before: Option<Timestamp>,
    deadline: Option<Timestamp>,
    lease: Option<LeaseToken>,
    cluster: Option<ClusterId>,
    number: AttemptNumber,
    failure: Option<Failure>,
}

impl JobRecord {
    /// Reads the [`JOB_COLUMNS`] of a row.
    pub(crate) fn read(row: Row) -> Result<Self, Fault> {
        let mut r = Reader::new("jobs", row);
        Self::take(&mut r)
    }

    /// As [`JobRecord::read`], leaving further columns in the reader.
    pub(crate) fn take(r: &mut Reader) -> Result<Self, Fault> {
        let id = r.job_id("id")?;
        let team = r.coded("team", |t| t.parse().ok())?;
        let request = r.coded("request", read_request)?;
        let retry = RetryPolicy { max_retries: r.small("max_retries")? };
        let queue_timeout = Duration::from_micros(r.small("queue_timeout_us")?);
        let run_timeout = Duration::from_micros(r.small("run_timeout_us")?);
        let version = r.small("version")?;
        let state = r.coded("state", StateName::from_code)?;
        let stop = r.opt_time("stop_us")?;
        let attempts = r.small("attempts")?;
        let counts = RetryCounts {
            own: r.small("retries_own")?,
            infra: r.small("retries_infra")?,
            preempted: r.small("preemptions")?,
        };
        let marks = Marks {
            state,
            not_before: r.opt_time("not_before_us")?,
            deadline: r.opt_time("deadline_us")?,
            lease: r.opt_int("lease_token")?.map(LeaseToken),
            cluster: r.opt_coded("cluster", |c| c.parse().ok())?,
            number: AttemptNumber(attempts),
            failure: read_failure(r)?,
        };
        let state = marks.state(r)?;
        let since = r.time("since_us")?;
        let stages = Stages {
            placed: r.opt_time("placed_us")?,
            launched: r.opt_time("launched_us")?,
            started: r.opt_time("started_us")?,
        };
        let preempt = current_preemption(r.opt_time("preempt_us")?, stages.placed);
        let job = Lifecycle {
            id,
            team,
            request,
            retry,
            queue_timeout,
            run_timeout,
            version,
            state,
            stop_requested: stop.is_some(),
            preempt_requested: preempt.is_some(),
            attempts,
            counts,
        };
        Ok(Self { job, since, stages, stop, preempt })
    }

    /// What has to be written so that the row `before` says what this record says. `now` tells whether a
    /// backoff is over already.
    pub(crate) fn changes(&self, before: &Self, now: Timestamp) -> Vec<Set> {
        let version = i64::from(self.job.version) - i64::from(before.job.version);
        let mut sets = vec![Set::Add("version", version)];
        // Whatever leaves the queue had been woken, or its clock columns are written anyway.
        let old = before.columns(None);
        let new = self.columns(Some(now));
        sets.extend(old.into_iter().zip(new).filter(|(o, n)| o.1 != n.1).map(|(_, (c, v))| Set::To(c, v)));
        sets
    }

    /// The columns that transitions write. A backoff counts as over if no time is given.
    pub(crate) fn columns(&self, now: Option<Timestamp>) -> Vec<(&'static str, Value)> {
        let job = &self.job;
        let (state, attempt) = (&job.state, job.state.open_attempt());
        let backoff = match state {
            JobState::Queued { not_before, .. } => {
                not_before.filter(|t| now.is_some_and(|now| !t.is_due(now)))
            }
            _ => None,
        };
        let ready = match state {
            JobState::Queued { .. } => backoff.is_none().then_some(1_i64),
            JobState::Claimed { .. } => Some(0),
            _ => None,
        };
        let (kind, clock) = match (state, backoff) {
            (_, Some(until)) => (Some(CLOCK_BACKOFF), Some(until)),
            (JobState::Queued { .. } | JobState::Claimed { .. }, None) => {
                (Some(CLOCK_QUEUE), state.deadline())
            }
            (JobState::Ended(_), None) => (Some(CLOCK_ENDED), Some(self.since)),
            _ => (Some(CLOCK_PLACED), self.stages.placed),
        };
        let not_before = if let JobState::Queued { not_before, .. } = state { *not_before } else { None };
        let lease = if let JobState::Claimed { lease, .. } = state { Some(lease.0) } else { None };
        let pending = if let JobState::Placed { .. } = state { self.stages.placed } else { None };
        let failure =
            if let JobState::Ended(Outcome::Failed(failure)) = state { Some(failure) } else { None };
        let ended = matches!(state, JobState::Ended(_)).then_some(self.since);
        let time = |t: Option<Timestamp>| Value::from(t.map(Timestamp::as_micros));
        vec![
            ("state", state.name().code().into()),
            ("since_us", self.since.as_micros().into()),
            ("ready", ready.into()),
            ("clock_kind", kind.into()),
            ("clock_us", time(clock)),
            ("cluster", attempt.map(|a| a.cluster.as_str()).into()),
            ("pending_us", time(pending)),
            ("deadline_us", time(state.deadline())),
            ("not_before_us", time(not_before)),
            ("lease_token", lease.into()),
            ("stop_us", time(self.stop)),
            ("preempt_us", time(self.preempt)),
            ("attempts", job.attempts.into()),
            ("placed_us", time(self.stages.placed)),
            ("launched_us", time(self.stages.launched)),
            ("started_us", time(self.stages.started)),
            ("retries_own", job.counts.own.into()),
            ("retries_infra", job.counts.infra.into()),
            ("preemptions", job.counts.preempted.into()),
            ("ended_us", time(ended)),
            ("failure_class", failure.map(|f| f.class.code()).into()),
            ("failure_exit", failure.and_then(|f| f.exit_code).map(i64::from).into()),
            ("failure_message", failure.map(|f| f.message.as_str()).into()),
        ]
    }

    /// Which job.
    pub(crate) fn id(&self) -> JobId {
        self.job.id
    }
}

/// A wish to make room is about the attempt that was open then. A binary that does not know the column leaves it
/// behind when it ends that attempt.
pub(crate) fn current_preemption(preempt: Option<Timestamp>, placed: Option<Timestamp>) -> Option<Timestamp> {
    preempt.filter(|at| placed.is_some_and(|placed| *at >= placed))
}

fn read_failure(r: &mut Reader) -> Result<Option<Failure>, Fault> {
    let class = r.opt_coded("failure_class", FailureClass::from_code)?;
    let exit_code = r.opt_int("failure_exit")?.map(i32::try_from).transpose();
    let exit_code = exit_code.map_err(|_| r.bad("failure_exit", &"out of range"))?;
    let message = r.opt_text("failure_message")?;
    Ok(class.map(|class| Failure::new(class, exit_code, message.unwrap_or_default())))
}

impl Marks {
    fn state(self, r: &Reader) -> Result<JobState, Fault> {
        let missing = |column| move || r.bad(column, &"is NULL in this state");
        let deadline = self.deadline.ok_or_else(missing("deadline_us"));
        let number = self.number;
        let attempt = || {
            let cluster = self.cluster.clone().ok_or_else(missing("cluster"))?;
            if number.0 == 0 {
                return Err(r.bad("attempts", &"is 0 in this state"));
            }
            Ok::<_, Fault>(OpenAttempt { number, cluster })
        };
        let state = match self.state {
            StateName::Queued => JobState::Queued { not_before: self.not_before, deadline: deadline? },
            StateName::Claimed => {
                let lease = self.lease.ok_or_else(missing("lease_token"))?;
                JobState::Claimed { lease, queue_deadline: deadline? }
            }
            StateName::Placed => JobState::Placed { attempt: attempt()?, deadline: deadline? },
            StateName::Launching => JobState::Launching { attempt: attempt()?, deadline: deadline? },
            StateName::Running => JobState::Running { attempt: attempt()?, deadline: deadline? },
            StateName::Succeeded => JobState::Ended(Outcome::Succeeded),
            StateName::Failed => {
                JobState::Ended(Outcome::Failed(self.failure.ok_or_else(missing("failure_class"))?))
            }
            StateName::Stopped => JobState::Ended(Outcome::Stopped),
            StateName::Expired => JobState::Ended(Outcome::Expired),
        };
        if state.open_attempt().is_none() && self.cluster.is_some() {
            return Err(r.bad("cluster", &"is set in a state without an open attempt"));
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yard_domain::Request;

    fn record() -> JobRecord {
        let at = Timestamp::from_micros(1_000);
        let job = Lifecycle {
            id: JobId::new(1, [1; 10]),
            team: "ads".parse().unwrap(),
            request: Request { jobs: 1, ..Request::default() },
            retry: RetryPolicy { max_retries: 0 },
            queue_timeout: Duration::from_secs(1),
            run_timeout: Duration::from_secs(1),
            version: 1,
            state: JobState::Queued { not_before: None, deadline: at.plus(Duration::from_secs(1)) },
            stop_requested: false,
            preempt_requested: false,
            attempts: 0,
            counts: RetryCounts::default(),
        };
        JobRecord { job, since: at, stages: Stages::default(), stop: None, preempt: None }
    }

    #[test]
    fn only_what_changes_is_written() {
        let before = record();
        let mut after = before.clone();
        let event = after.job.claim(LeaseToken(7)).unwrap();
        after.job.apply(&event).unwrap();
        after.since = Timestamp::from_micros(2_000);
        let sets = after.changes(&before, after.since);
        let expected = [
            Set::Add("version", 1),
            Set::To("state", "claimed".into()),
            Set::To("since_us", Value::Int(2_000)),
            Set::To("ready", Value::Int(0)),
            Set::To("lease_token", Value::Int(7)),
        ];
        assert_eq!(sets, expected);
    }
}
