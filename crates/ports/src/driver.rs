//! Drivers: code that talks to one kind of cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use thiserror::Error;
use yard_domain::{
    AttemptNumber, Capacity, Failure, GpuBlocks, InstanceId, JobId, RayClusterShape, RayProfiles, RemoteName,
    Request, TeamId,
};

/// Everything a cluster needs to run one attempt. The name is a function of job and attempt, so launching
/// twice is the same launch.
#[derive(Debug, Clone)]
pub struct LaunchRequest {
    /// The attempt's name on the cluster.
    pub name: RemoteName,
    /// Whose launch this is; drivers mark it on what they make, see [`RemoteJob::instance`].
    pub instance: InstanceId,
    /// Which job.
    pub job: JobId,
    /// Which attempt.
    pub attempt: AttemptNumber,
    /// Who is charged.
    pub team: TeamId,
    /// For people.
    pub job_name: String,
    /// The shell command.
    pub entrypoint: String,
    /// Ray's runtime environment.
    pub runtime_env: serde_json::Map<String, serde_json::Value>,
    /// What it was charged.
    pub request: Request,
    /// The Ray cluster that it wants to itself. Drivers of standing clusters have none to give and may pass over it.
    pub ray_cluster: Option<RayClusterShape>,
    /// The producer's notes.
    pub metadata: BTreeMap<String, String>,
    /// The run timeout, for clusters that can keep it themselves as well.
    pub run_timeout: Duration,
}

/// What became of a launch call that did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaunchOutcome {
    /// This call started it.
    Launched,
    /// It was there already under this name and is ours: adopted as found.
    Adopted(RemoteStatus),
}

/// Where an attempt stands on its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteStatus {
    /// Known to the cluster, not running yet.
    Pending,
    /// Running.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed(Failure),
    /// Was stopped.
    Stopped,
}

impl RemoteStatus {
    /// Whether it stays so.
    pub fn is_end(&self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed(_) | Self::Stopped)
    }
}

/// One thing that runs or ran on the cluster under a name of Switchyard's form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteJob {
    /// Its name there.
    pub name: RemoteName,
    /// Which installation launched it; `None` if that can't be told. Only our own is ever stopped or deleted.
    pub instance: Option<InstanceId>,
    /// Where it stands.
    pub status: RemoteStatus,
}

/// What a cluster shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// Everything of Switchyard's form that is there: what is not in it is not there.
    Full(Vec<RemoteJob>),
    /// One thing that changed.
    Changed(RemoteJob),
    /// The cluster was asked, it answered, and nothing has changed: it is alive.
    Alive,
}

/// Observations in order; an `Err` item means that the cluster could not be asked just now (the stream goes
/// on and tries again by itself). Every stream begins with an [`Observation::Full`] or an `Err`, and repeats
/// `Full` after every `Err`. There is an item each time the cluster was asked, every few seconds at least: a
/// stream that says nothing is taken for a cluster that is silent.
pub type ObservationStream = BoxStream<'static, Result<Observation, DriverError>>;

/// A piece of an attempt's log.
pub type LogChunk = Result<Bytes, DriverError>;
/// A log, from its beginning.
pub type LogStream = BoxStream<'static, LogChunk>;

/// What prints something beside a job's command, on a cluster that is made for the job alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PodLog {
    /// Ray's head.
    Head,
    /// Ray's workers.
    Workers,
    /// What brings the command to Ray, where that is a thing of its own.
    Submitter,
}

impl PodLog {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Head, Self::Workers, Self::Submitter];

    /// A stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Workers => "workers",
            Self::Submitter => "submitter",
        }
    }
}

/// Why a call to a cluster failed, by what may be done about it.
#[derive(Debug, Clone, Error)]
pub enum DriverError {
    /// The cluster was not reached, or said 'not now' before doing anything: the effect has *not* happened.
    #[error("cluster can't be reached: {0}")]
    Unreachable(String),
    /// The answer was lost (timeout, connection cut, 5xx): the effect *may* have happened. Look before
    /// trying again.
    #[error("no clear answer from the cluster: {0}")]
    Unclear(String),
    /// The cluster refuses this very request: the same again would be refused again.
    #[error("the cluster refuses: {0}")]
    Refused(String),
    /// Our credentials are not accepted. Like [`DriverError::Unreachable`], but waiting alone won't help.
    #[error("the cluster does not accept our credentials: {0}")]
    Unauthorized(String),
    /// Something else already has this name there, and it is not ours.
    #[error("the name is taken on the cluster by something that is not ours: {0}")]
    NameTaken(String),
    /// There is nothing of this name there.
    #[error("not found on the cluster")]
    NotFound,
}

impl DriverError {
    /// Whether the call may have had its effect all the same.
    pub fn effect_possible(&self) -> bool {
        matches!(self, Self::Unclear(_))
    }

    /// A stable code, for metrics and history.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Unclear(_) => "unclear",
            Self::Refused(_) => "refused",
            Self::Unauthorized(_) => "unauthorized",
            Self::NameTaken(_) => "name_taken",
            Self::NotFound => "not_found",
        }
    }
}

/// Code that talks to one cluster. Every call has its own timeout inside the driver; none retries by itself.
#[async_trait]
pub trait Driver: Send + Sync {
    /// `ray`, `process`, …
    fn kind(&self) -> &'static str;

    /// Brings the cluster what a launch needs there beforehand, which may take long (packages). Starts nothing, and may be
    /// called any number of times. Whoever calls it looks at its lease again before it launches.
    async fn prepare(&self, _request: &LaunchRequest) -> Result<(), DriverError> {
        Ok(())
    }

    /// Starts an attempt, or finds that it has been started. Idempotent by `request.name`: however often
    /// and from however many places it is called, the attempt runs at most once.
    async fn launch(&self, request: &LaunchRequest) -> Result<LaunchOutcome, DriverError>;

    /// What the cluster shows, from now on: one list or watch, never a call per job.
    fn observe(&self) -> ObservationStream;

    /// Why nothing can begin there now though the cluster answers, for people; `None` if it can. Asked after each
    /// observation: what is known is told, nobody is called.
    fn not_ready(&self) -> Option<String> {
        None
    }

    /// Asks for the attempt to be stopped, first gently, then by force after the driver's grace. Returns
    /// when the wish has been taken, not when it has stopped (the observation shows that). Stopping what
    /// has ended is `Ok`; what was never there is [`DriverError::NotFound`].
    async fn stop(&self, name: &RemoteName) -> Result<(), DriverError>;

    /// Removes what is left of an attempt that has ended. [`DriverError::NotFound`] if there is nothing.
    async fn forget(&self, name: &RemoteName) -> Result<(), DriverError>;

    /// The attempt's output from `offset` bytes on. With `follow`, the stream goes on until the attempt has
    /// ended and everything has been read; without, it ends where the log ends now.
    async fn logs(&self, name: &RemoteName, offset: u64, follow: bool) -> Result<LogStream, DriverError>;

    /// Whether each attempt has a cluster of its own here, whose pods' logs are the attempt's.
    fn has_pod_logs(&self) -> bool {
        false
    }

    /// What those of `wanted` have printed that are there (or still are): the end of it, as a text for people, bounded by
    /// the driver. Drivers without such logs have nothing.
    async fn pod_logs(
        &self,
        _name: &RemoteName,
        _wanted: &[PodLog],
    ) -> Result<Vec<(PodLog, Bytes)>, DriverError> {
        Ok(Vec::new())
    }

    /// What the cluster has in all (not what is free), read from it; `None` if it can't tell.
    async fn capacity(&self) -> Result<Option<Capacity>, DriverError>;

    /// How its GPUs lie on nodes, by kind, as [`Driver::capacity`] saw it last; empty if it doesn't look.
    fn gpu_blocks(&self) -> Vec<GpuBlocks> {
        Vec::new()
    }

    /// What Ray clusters it can make for jobs, each of its own; `None` if it makes none. Known without the cluster. It
    /// refuses the launch of a job whose charge it can't cut by these into pods, and of no other for that reason.
    fn ray_profiles(&self) -> Option<Arc<RayProfiles>> {
        None
    }
}
