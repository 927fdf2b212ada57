//! Where simulated jobs come from. A workload is an iterator over [`SimJob`]s in the order of their arrival.
//!
//! - [`standard`]: the standard run: 15 teams, 4 clusters, generators fitted to published figures ([`fit`])
//! - [`jsonl`]: JSON Lines, a job per line
//! - [`swf`]: the Standard Workload Format

pub mod fit;
pub mod jsonl;
pub mod standard;
pub mod swf;

use std::fmt;
use std::time::Duration;

use yard_domain::{ClusterSelector, Priority, Request, TeamId, Timestamp};

/// A job that will arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimJob {
    /// When.
    pub at: Timestamp,
    /// Whose.
    pub team: TeamId,
    /// Its place inside the team's queue.
    pub priority: Priority,
    /// What it asks for.
    pub request: Request,
    /// Where it may run.
    pub clusters: ClusterSelector,
    /// How long an attempt runs if nothing disturbs it: known to the simulator, not to the planner.
    pub run: Duration,
    /// Longest run of an attempt.
    pub run_timeout: Duration,
    /// Longest wait.
    pub queue_timeout: Duration,
    /// Retries after failures of its own.
    pub max_retries: u32,
}

impl SimJob {
    /// The run timeout of a job that states none.
    pub const RUN_TIMEOUT: Duration = Duration::from_hours(24);
    /// The queue timeout of a job that states none.
    pub const QUEUE_TIMEOUT: Duration = Duration::from_hours(24 * 7);
}

/// Something wrong with a line of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineFault {
    /// Which line, from 1.
    pub line: usize,
    /// Which field; empty if it is about the line as a whole.
    pub field: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for LineFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

/// A workload that was read from a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Read {
    /// Its jobs, in the order of their arrival.
    pub jobs: Vec<SimJob>,
    /// What a reader of the report must know: lines left out and why.
    pub notes: Vec<String>,
    /// The processors of the machine that it was recorded on, if the file says so.
    pub processors: Option<u64>,
}
