//! The state machine of a job.
//!
//! A *decision* method ([`Lifecycle::claim`], [`Lifecycle::place`], …) checks that the transition is allowed
//! and returns the [`Event`] that says so; [`Lifecycle::apply`] folds an event into the state. Stores do
//! both in one transaction and write the event as a line of history. docs/state-machine.md shows
//! [`TRANSITIONS`]; a test holds it to this file.

use std::time::Duration;

use thiserror::Error;

use crate::event::{Event, HistoryLine, ReleaseReason};
use crate::failure::{Failure, Outcome};
use crate::ids::{AttemptNumber, ClusterId, JobId, LeaseToken, TeamId};
use crate::resources::Request;
use crate::retry::{self, RetryCounts, RetryPolicy, RetryRules, RetryVerdict};
use crate::time::Timestamp;

/// The name of a state, without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateName {
    /// Waiting to be placed.
    Queued,
    /// In a scheduler's hands.
    Claimed,
    /// Given to a cluster, charged, not yet launched.
    Placed,
    /// The cluster is being called or has not shown it running yet.
    Launching,
    /// The cluster shows it running.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
    /// Ended by a wish.
    Stopped,
    /// Ended by the queue timeout.
    Expired,
}

impl StateName {
    /// Every state.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Claimed,
        Self::Placed,
        Self::Launching,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Stopped,
        Self::Expired,
    ];

    /// The stable code stored and shown.
    pub fn code(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Claimed => "claimed",
            Self::Placed => "placed",
            Self::Launching => "launching",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Expired => "expired",
        }
    }

    /// Reads [`StateName::code`] back.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.code() == code)
    }

    /// Whether a job in it stays in it.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Stopped | Self::Expired)
    }
}

/// Every allowed transition: from (`None` = not there yet), event code, to.
pub const TRANSITIONS: &[(Option<StateName>, &str, StateName)] = {
    use StateName as S;
    &[
        (None, "accepted", S::Queued),
        (Some(S::Queued), "claimed", S::Claimed),
        (Some(S::Queued), "stopped", S::Stopped),
        (Some(S::Queued), "expired", S::Expired),
        (Some(S::Claimed), "released", S::Queued),
        (Some(S::Claimed), "placed", S::Placed),
        (Some(S::Claimed), "stopped", S::Stopped),
        (Some(S::Placed), "launch_begun", S::Launching),
        (Some(S::Placed), "retried", S::Queued),
        (Some(S::Placed), "failed", S::Failed),
        (Some(S::Placed), "stopped", S::Stopped),
        (Some(S::Launching), "started", S::Running),
        (Some(S::Launching), "retried", S::Queued),
        (Some(S::Launching), "succeeded", S::Succeeded),
        (Some(S::Launching), "failed", S::Failed),
        (Some(S::Launching), "stopped", S::Stopped),
        (Some(S::Running), "retried", S::Queued),
        (Some(S::Running), "succeeded", S::Succeeded),
        (Some(S::Running), "failed", S::Failed),
        (Some(S::Running), "stopped", S::Stopped),
    ]
};

/// An attempt that has not ended: it holds a charge on its team and its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenAttempt {
    /// Which launch this is.
    pub number: AttemptNumber,
    /// Where.
    pub cluster: ClusterId,
}

/// Where a job stands, with what belongs to standing there. Every state that is not an end has a clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobState {
    /// Waiting to be placed.
    Queued {
        /// Not to be placed before (a retry's backoff).
        not_before: Option<Timestamp>,
        /// When it expires.
        deadline: Timestamp,
    },
    /// In a scheduler's hands, for as long as the lease lasts.
    Claimed {
        /// Whose.
        lease: LeaseToken,
        /// When it expires, should it go back to the queue.
        queue_deadline: Timestamp,
    },
    /// Given to a cluster; nothing has been sent there yet.
    Placed {
        /// The open attempt.
        attempt: OpenAttempt,
        /// By when the launch must have begun.
        deadline: Timestamp,
    },
    /// The call may have been made.
    Launching {
        /// The open attempt.
        attempt: OpenAttempt,
        /// By when the cluster must show it.
        deadline: Timestamp,
    },
    /// The cluster shows it running.
    Running {
        /// The open attempt.
        attempt: OpenAttempt,
        /// When its run timeout ends.
        deadline: Timestamp,
    },
    /// It has ended.
    Ended(Outcome),
}

impl JobState {
    /// The state's name.
    pub fn name(&self) -> StateName {
        match self {
            Self::Queued { .. } => StateName::Queued,
            Self::Claimed { .. } => StateName::Claimed,
            Self::Placed { .. } => StateName::Placed,
            Self::Launching { .. } => StateName::Launching,
            Self::Running { .. } => StateName::Running,
            Self::Ended(Outcome::Succeeded) => StateName::Succeeded,
            Self::Ended(Outcome::Failed(_)) => StateName::Failed,
            Self::Ended(Outcome::Stopped) => StateName::Stopped,
            Self::Ended(Outcome::Expired) => StateName::Expired,
        }
    }

    /// The open attempt, in the states that have one.
    pub fn open_attempt(&self) -> Option<&OpenAttempt> {
        match self {
            Self::Placed { attempt, .. }
            | Self::Launching { attempt, .. }
            | Self::Running { attempt, .. } => Some(attempt),
            Self::Queued { .. } | Self::Claimed { .. } | Self::Ended(_) => None,
        }
    }

    /// The clock that runs in this state; `None` only in an end (and while claimed: the lease is the clock).
    pub fn deadline(&self) -> Option<Timestamp> {
        match self {
            Self::Queued { deadline, .. }
            | Self::Placed { deadline, .. }
            | Self::Launching { deadline, .. }
            | Self::Running { deadline, .. } => Some(*deadline),
            Self::Claimed { queue_deadline, .. } => Some(*queue_deadline),
            Self::Ended(_) => None,
        }
    }
}

/// Why a transition may not be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TransitionError {
    /// The job is in a state from which this can't happen.
    #[error("job {job} is {}, so it can't be {wanted}", state.code())]
    WrongState {
        /// Which job.
        job: JobId,
        /// Where it stands.
        state: StateName,
        /// The event's code.
        wanted: &'static str,
    },
    /// The write is about another attempt or claim than the current one.
    #[error("job {job}: this is about attempt or claim {given}, but {current} is current")]
    Stale {
        /// Which job.
        job: JobId,
        /// The attempt or token of the writer.
        given: i64,
        /// The current one.
        current: i64,
    },
}

/// How an attempt ended, as seen by its dispatcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptEnd {
    /// It did what it was to do.
    Succeeded,
    /// It did not.
    Failed(Failure),
    /// It was stopped because somebody asked for it.
    Stopped,
}

/// The moving part of a job: what transitions read and write. The fixed part is [`crate::job::JobSpec`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifecycle {
    /// Which job.
    pub id: JobId,
    /// Who is charged.
    pub team: TeamId,
    /// What is charged.
    pub request: Request,
    /// Its retries.
    pub retry: RetryPolicy,
    /// Longest wait in the queue, anew after each attempt.
    pub queue_timeout: Duration,
    /// Longest run of one attempt.
    pub run_timeout: Duration,
    /// Lines of history so far; the next line's `seq` is one more.
    pub version: u32,
    /// Where it stands.
    pub state: JobState,
    /// Whether somebody wants it stopped.
    pub stop_requested: bool,
    /// Whether its open attempt is to make room for another job.
    pub preempt_requested: bool,
    /// Attempts made so far.
    pub attempts: u32,
    /// Retries so far.
    pub counts: RetryCounts,
}

impl Lifecycle {
    fn wrong(&self, wanted: &'static str) -> TransitionError {
        TransitionError::WrongState { job: self.id, state: self.state.name(), wanted }
    }

    fn current_attempt(
        &self,
        number: AttemptNumber,
        wanted: &'static str,
    ) -> Result<&OpenAttempt, TransitionError> {
        let open = self.state.open_attempt().ok_or_else(|| self.wrong(wanted))?;
        if open.number == number {
            return Ok(open);
        }
        let (given, current) = (i64::from(number.0), i64::from(open.number.0));
        Err(TransitionError::Stale { job: self.id, given, current })
    }

    fn check_claim(&self, lease: LeaseToken, wanted: &'static str) -> Result<(), TransitionError> {
        match self.state {
            JobState::Claimed { lease: current, .. } if current == lease => Ok(()),
            JobState::Claimed { lease: current, .. } => {
                Err(TransitionError::Stale { job: self.id, given: lease.0, current: current.0 })
            }
            _ => Err(self.wrong(wanted)),
        }
    }

    /// A scheduler takes it in hand.
    pub fn claim(&self, lease: LeaseToken) -> Result<Event, TransitionError> {
        match self.state {
            JobState::Queued { .. } => Ok(Event::Claimed { lease }),
            _ => Err(self.wrong("claimed")),
        }
    }

    /// It goes back to the queue from the claim `lease`; if it is to be stopped, it ends instead.
    pub fn release(&self, lease: LeaseToken, reason: ReleaseReason) -> Result<Event, TransitionError> {
        self.check_claim(lease, "released")?;
        if self.stop_requested {
            return Ok(Event::Ended { outcome: Outcome::Stopped });
        }
        Ok(Event::Released { reason })
    }

    /// The scheduler that holds it gives it to a cluster. If it is to be stopped, it ends instead.
    pub fn place(
        &self,
        lease: LeaseToken,
        cluster: ClusterId,
        deadline: Timestamp,
    ) -> Result<Event, TransitionError> {
        self.check_claim(lease, "placed")?;
        if self.stop_requested {
            return Ok(Event::Ended { outcome: Outcome::Stopped });
        }
        Ok(Event::Placed { attempt: AttemptNumber(self.attempts).next(), cluster, deadline })
    }

    /// The dispatcher is about to call the cluster. If it is to be stopped, it ends instead: nothing was sent.
    pub fn begin_launch(
        &self,
        number: AttemptNumber,
        lease: LeaseToken,
        deadline: Timestamp,
    ) -> Result<Event, TransitionError> {
        self.current_attempt(number, "launch_begun")?;
        match self.state {
            JobState::Placed { .. } if self.stop_requested => Ok(Event::Ended { outcome: Outcome::Stopped }),
            JobState::Placed { .. } => Ok(Event::LaunchBegun { lease, deadline }),
            _ => Err(self.wrong("launch_begun")),
        }
    }

    /// The cluster shows it running.
    pub fn start(&self, number: AttemptNumber, now: Timestamp) -> Result<Event, TransitionError> {
        self.current_attempt(number, "started")?;
        match self.state {
            JobState::Launching { .. } => Ok(Event::Started { deadline: now.plus(self.run_timeout) }),
            _ => Err(self.wrong("started")),
        }
    }

    /// The open attempt ended: the job ends with it, or is queued for another. `jitter` in `0.0..=1.0`
    /// spreads the wait. A wish to stop rules out another attempt, but not that this one has succeeded.
    pub fn finish_attempt(
        &self,
        number: AttemptNumber,
        end: AttemptEnd,
        rules: &RetryRules,
        now: Timestamp,
        jitter: f64,
    ) -> Result<Event, TransitionError> {
        self.current_attempt(number, "ended")?;
        let unsent = matches!(self.state, JobState::Placed { .. });
        let outcome = match end {
            AttemptEnd::Succeeded if unsent => return Err(self.wrong("succeeded")),
            AttemptEnd::Succeeded => Outcome::Succeeded,
            AttemptEnd::Stopped => Outcome::Stopped,
            AttemptEnd::Failed(_) if self.stop_requested => Outcome::Stopped,
            AttemptEnd::Failed(failure) => {
                match retry::decide(rules, self.retry, self.counts, failure.class, jitter) {
                    RetryVerdict::GiveUp => Outcome::Failed(failure),
                    RetryVerdict::Retry { after, budget } => {
                        let not_before = now.plus(after);
                        let queue_deadline = not_before.plus(self.queue_timeout);
                        return Ok(Event::Retried { failure, budget, not_before, queue_deadline });
                    }
                }
            }
        };
        Ok(Event::Ended { outcome })
    }

    /// Its wait in the queue is over.
    pub fn expire(&self, now: Timestamp) -> Result<Event, TransitionError> {
        match self.state {
            JobState::Queued { deadline, .. } if deadline.is_due(now) => {
                Ok(Event::Ended { outcome: Outcome::Expired })
            }
            _ => Err(self.wrong("expired")),
        }
    }

    /// Somebody wants it stopped: a queued job ends at once, any other that has not ended carries the wish.
    /// Asking again changes nothing (`Ok(None)`), nor does asking after the end.
    pub fn request_stop(&self, reason: &str) -> Option<Event> {
        match self.state {
            JobState::Ended(_) => None,
            _ if self.stop_requested => None,
            _ => Some(Event::StopRequested { reason: reason.to_owned() }),
        }
    }

    /// Its open attempt is to make room for another job. `None` if that attempt is not open any more, is to be
    /// stopped anyhow, or has been asked already.
    pub fn request_preemption(
        &self,
        attempt: AttemptNumber,
        for_team: TeamId,
        reason: &str,
    ) -> Option<Event> {
        let open = self.state.open_attempt().is_some_and(|open| open.number == attempt);
        let reason = reason.to_owned();
        (open && !self.stop_requested && !self.preempt_requested).then_some(Event::PreemptRequested {
            attempt,
            for_team,
            reason,
        })
    }

    /// A queued job with a wish to stop ends here and now.
    pub fn stop_queued(&self) -> Option<Event> {
        let queued = matches!(self.state, JobState::Queued { .. });
        (queued && self.stop_requested).then_some(Event::Ended { outcome: Outcome::Stopped })
    }

    /// Folds one event into the state. Only events that a decision method returned for this very state (or
    /// that were read back from history in order) make sense here; others are refused.
    pub fn apply(&mut self, event: &Event) -> Result<(), TransitionError> {
        let attempt = self.state.open_attempt().cloned();
        let next = match (event, &self.state) {
            (Event::Claimed { lease }, JobState::Queued { deadline, .. }) => {
                JobState::Claimed { lease: *lease, queue_deadline: *deadline }
            }
            (Event::Released { .. }, JobState::Claimed { queue_deadline, .. }) => {
                JobState::Queued { not_before: None, deadline: *queue_deadline }
            }
            (Event::Placed { attempt, cluster, deadline }, JobState::Claimed { .. }) => {
                self.attempts = attempt.0;
                let attempt = OpenAttempt { number: *attempt, cluster: cluster.clone() };
                JobState::Placed { attempt, deadline: *deadline }
            }
            (Event::LaunchBegun { deadline, .. }, JobState::Placed { attempt, .. }) => {
                JobState::Launching { attempt: attempt.clone(), deadline: *deadline }
            }
            (Event::Started { deadline }, JobState::Launching { attempt, .. }) => {
                JobState::Running { attempt: attempt.clone(), deadline: *deadline }
            }
            (Event::Retried { budget, not_before, queue_deadline, .. }, _) if attempt.is_some() => {
                self.counts = self.counts.after(*budget);
                self.preempt_requested = false;
                JobState::Queued { not_before: Some(*not_before), deadline: *queue_deadline }
            }
            (Event::StopRequested { .. }, state) if !state.name().is_end() => {
                self.stop_requested = true;
                state.clone()
            }
            (Event::PreemptRequested { attempt: number, .. }, state)
                if attempt.as_ref().is_some_and(|open| open.number == *number) =>
            {
                self.preempt_requested = true;
                state.clone()
            }
            (Event::Ended { outcome }, _) if self.may_end(event.code()) => {
                self.preempt_requested = false;
                JobState::Ended(outcome.clone())
            }
            _ => return Err(self.wrong(event.code())),
        };
        self.state = next;
        self.version += 1;
        Ok(())
    }

    fn may_end(&self, code: &str) -> bool {
        TRANSITIONS.iter().any(|(from, event, _)| *from == Some(self.state.name()) && *event == code)
    }

    /// Rebuilds a job's moving part from the whole of its history. `fresh` is the job as it was at
    /// acceptance; its state is overwritten by the first line.
    pub fn replay(fresh: Lifecycle, lines: &[HistoryLine]) -> Result<Lifecycle, TransitionError> {
        let mut job = fresh;
        for (i, line) in lines.iter().enumerate() {
            match (&line.event, i) {
                (Event::Accepted { queue_deadline }, 0) => {
                    job.state = JobState::Queued { not_before: None, deadline: *queue_deadline };
                    job.version = 1;
                    job.stop_requested = false;
                    job.preempt_requested = false;
                    job.attempts = 0;
                    job.counts = RetryCounts::default();
                }
                (event, _) => job.apply(event)?,
            }
        }
        Ok(job)
    }
}
