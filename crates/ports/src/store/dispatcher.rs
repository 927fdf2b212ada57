//! What dispatchers read and write: launches, what runs, how attempts end.

use yard_domain::lifecycle::AttemptEnd;
use yard_domain::{AttemptNumber, JobId, Lifecycle, Outcome, StateName, TeamId, Timestamp};

use super::StopCause;

/// A job whose launch has been begun and committed: now the cluster may be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchOrder {
    /// The moving part, in state `Launching`.
    pub job: Lifecycle,
    /// The attempt.
    pub attempt: AttemptNumber,
    /// The canonical document as stored.
    pub document: String,
}

/// What became of a batch of launches to be begun.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LaunchBatch {
    /// To be launched now.
    pub orders: Vec<LaunchOrder>,
    /// Ended instead, because somebody wants them stopped.
    pub stopped: Vec<JobId>,
    /// Back in the queue instead, because they are to make room.
    pub preempted: Vec<JobId>,
}

/// An attempt on a cluster, as its dispatcher must know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveAttempt {
    /// Which job.
    pub job: JobId,
    /// Which attempt.
    pub attempt: AttemptNumber,
    /// Whose.
    pub team: TeamId,
    /// `Placed`, `Launching` or `Running`.
    pub state: StateName,
    /// The clock of that state.
    pub deadline: Timestamp,
    /// Whether it is to be stopped, and why.
    pub stopping: Option<StopCause>,
}

/// Which job and attempt, and whose: what a dispatcher names when it reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AttemptRef {
    /// Which job.
    pub job: JobId,
    /// Which attempt.
    pub attempt: AttemptNumber,
}

/// An attempt that ended, to be recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct EndOrder {
    /// Which.
    pub attempt: AttemptRef,
    /// How.
    pub end: AttemptEnd,
    /// In `0.0..=1.0`: spreads the wait before a retry.
    pub jitter: f64,
}

/// What became of reported starts or ends, in the order of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// Running (for starts).
    Started {
        /// When its run timeout ends.
        deadline: Timestamp,
    },
    /// The attempt ended and its job waits for another.
    Requeued {
        /// Not before.
        not_before: Timestamp,
    },
    /// The job ended.
    Ended(Outcome),
    /// It had been recorded before, or is about an attempt that isn't current: nothing was written.
    Stale,
}
