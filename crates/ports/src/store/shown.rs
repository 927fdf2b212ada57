//! What people and programs ask for: jobs, lists, events, stops.

use std::collections::BTreeMap;

use yard_domain::job::QueueOrder;
use yard_domain::{
    AttemptNumber, ClusterId, HistoryLine, JobId, Lifecycle, Shape, StateName, TeamId, Timestamp,
};

use super::{QueueHead, WaitNote};

/// What a stop request met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopAnswer {
    /// It was queued and has ended.
    Stopped,
    /// The wish is recorded; its scheduler or dispatcher will carry it out.
    Requested,
    /// It had already ended.
    AlreadyEnded(StateName),
    /// There is no such job.
    NoSuchJob,
}

/// A job as shown to people and programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobView {
    /// The moving part.
    pub lifecycle: Lifecycle,
    /// The producer's key.
    pub key: String,
    /// The canonical document as stored.
    pub document: String,
    /// Request and selector as a grouping key.
    pub shape: Shape,
    /// Its place in its team's queue.
    pub order: QueueOrder,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it entered its state.
    pub since: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Its attempts, first to last.
    pub attempts: Vec<AttemptView>,
    /// Why it waits, if it is queued and a pass has looked at it.
    pub waiting: Option<WaitNote>,
    /// The database's time when this was read.
    pub read_at: Timestamp,
}

/// An attempt as shown to people and programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptView {
    /// Which launch.
    pub number: AttemptNumber,
    /// Where.
    pub cluster: ClusterId,
    /// When it was placed.
    pub placed_at: Timestamp,
    /// When its launch was begun.
    pub launched_at: Option<Timestamp>,
    /// When it was seen running.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How: `succeeded`, `stopped`, or a failure class's code.
    pub end: Option<String>,
    /// What the cluster said, for people.
    pub message: Option<String>,
    /// The entrypoint's exit code.
    pub exit_code: Option<i32>,
}

/// Which jobs to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFilter {
    /// Of this team.
    pub team: Option<TeamId>,
    /// Of one of these teams, too: those that whoever asks may see. `None`: of any.
    pub among: Option<Vec<TeamId>>,
    /// In one of these states; empty is any.
    pub states: Vec<StateName>,
    /// With an open attempt on this cluster.
    pub cluster: Option<ClusterId>,
    /// Accepted at this time or later.
    pub accepted_from: Option<Timestamp>,
    /// Accepted before this time.
    pub accepted_before: Option<Timestamp>,
    /// Whose key begins like this.
    pub key_prefix: Option<String>,
    /// Of this name.
    pub name: Option<String>,
    /// With all of these in their metadata. A name must not hold quotes, backslashes or control characters.
    pub metadata: Vec<(String, String)>,
    /// That ask for a cluster with all of these labels. Names as with metadata.
    pub labels: Vec<(String, String)>,
    /// Older than this job: the cursor of the page before.
    pub before: Option<JobId>,
    /// At most this many.
    pub limit: u32,
    /// Look at no more than about this many jobs; what has not been looked at is for the next page. With a cluster, all
    /// its open attempts are looked at.
    pub scan_max: u32,
}

impl Default for JobFilter {
    fn default() -> Self {
        Self {
            team: None,
            among: None,
            states: Vec::new(),
            cluster: None,
            accepted_from: None,
            accepted_before: None,
            key_prefix: None,
            name: None,
            metadata: Vec::new(),
            labels: Vec::new(),
            before: None,
            limit: 0,
            scan_max: 20_000,
        }
    }
}

/// Jobs of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobPage {
    /// The jobs, newest first; may be fewer than asked for, or none, though there are more.
    pub jobs: Vec<JobRow>,
    /// The cursor of the next page, if there may be more.
    pub next: Option<JobId>,
}

/// A job in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRow {
    /// The moving part.
    pub lifecycle: Lifecycle,
    /// The producer's key.
    pub key: String,
    /// For people.
    pub name: String,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it entered its state.
    pub since: Timestamp,
}

/// A line of history in the order of all events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEvent {
    /// Its place in that order, from 1. Lines of one job are in the order of its history.
    pub pos: u64,
    /// Whose job.
    pub team: TeamId,
    /// The line.
    pub line: HistoryLine,
    /// The job's key.
    pub key: String,
    /// The job's metadata.
    pub metadata: BTreeMap<String, String>,
}

/// Some events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPage {
    /// In order. Those of jobs that were deleted since are left out.
    pub events: Vec<JobEvent>,
    /// All up to this one are in it: go on after it. What was asked for if there is nothing new.
    pub upto: u64,
    /// Whether events after the one asked for have been deleted.
    pub missed: bool,
}

/// A queued job's place in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuePlace {
    /// What placing it depends on; the only one of `orders` is its own.
    pub head: QueueHead,
    /// How many jobs of its team go before it, of those that may be placed now (backoffs over, not claimed).
    pub ahead_of_team: u64,
    /// How many of those are of its own shape.
    pub ahead_of_group: u64,
}

/// Counts for metrics and overviews.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Open (not ended) jobs by team and state.
    pub open: BTreeMap<(TeamId, StateName), u64>,
}
