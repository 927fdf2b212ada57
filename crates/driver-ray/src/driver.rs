//! The driver itself: the port's calls.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use reqwest::Method;
use tokio::time::Instant;
use yard_domain::{Capacity, InstanceId, RemoteName};
use yard_ports::{
    Driver, DriverError, LaunchOutcome, LaunchRequest, LogStream, ObservationStream, Packages, RemoteJob,
    RemoteStatus,
};

use crate::client::{Api, Call, CallError, Refusal};
use crate::config::{RayConfig, RayConfigError};
use crate::status::{is_lost, status};
use crate::supply::Supply;
use crate::whole_log::{self, WholeLog};
use crate::wire::{JobDetails, Logs, Nodes, Submission};
use crate::{capacity, observe};

/// Runs attempts as jobs of a standing Ray cluster.
#[derive(Debug, Clone)]
pub struct RayDriver {
    cluster: Arc<Cluster>,
    supply: Option<Arc<Supply>>,
}

impl RayDriver {
    /// A driver for the cluster of `config`. Nothing is called yet.
    pub fn new(config: RayConfig) -> Result<Self, RayConfigError> {
        let api = Api::new(&config)?;
        let cluster = Cluster { api, config, launched: Mutex::default() };
        Ok(Self { cluster: Arc::new(cluster), supply: None })
    }

    /// The same, with where to get the packages that runtime environments name. Without, they go on as they are.
    #[must_use]
    pub fn with_packages(self, packages: Arc<dyn Packages>) -> Self {
        Self { supply: Some(Arc::new(Supply::new(packages))), ..self }
    }
}

#[async_trait]
impl Driver for RayDriver {
    fn kind(&self) -> &'static str {
        "ray"
    }

    async fn prepare(&self, request: &LaunchRequest) -> Result<(), DriverError> {
        match &self.supply {
            Some(supply) => supply.bring(&self.cluster, request).await,
            None => Ok(()),
        }
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<LaunchOutcome, DriverError> {
        let outcome = match self.cluster.submit(request).await {
            Ok(()) => LaunchOutcome::Launched,
            Err(CallError::Refusal(refusal)) if says_it_exists(&refusal) => {
                LaunchOutcome::Adopted(self.cluster.read_back(request).await?)
            }
            Err(CallError::Refusal(refusal)) => return Err(submission_refused(&refusal)),
            Err(CallError::Driver(error)) => return Err(error),
        };
        self.cluster.note_launched(request);
        Ok(outcome)
    }

    fn observe(&self) -> ObservationStream {
        observe::stream(Arc::clone(&self.cluster)).boxed()
    }

    /// Ray's own grace (3 s unless its head says otherwise) is between SIGTERM and SIGKILL. A job that waits
    /// for resources is stopped only once it has them, or after Ray's own start timeout (15 minutes).
    async fn stop(&self, name: &RemoteName) -> Result<(), DriverError> {
        let path = format!("{}/stop", job_path(name));
        Ok(self.cluster.simple("stop", Method::POST, &path).await.map(drop)?)
    }

    /// Within the first second or so after a job's end, Ray's own monitor may write it back, as a ghost (see
    /// [`JobDetails::is_ghost`]) that stays on the head. Later it doesn't.
    async fn forget(&self, name: &RemoteName) -> Result<(), DriverError> {
        match self.cluster.simple("delete", Method::DELETE, &job_path(name)).await {
            Err(CallError::Refusal(refusal)) if refusal.text.contains("non-terminal state") => {
                Err(DriverError::Refused("it has not ended".to_owned()))
            }
            other => Ok(other.map(drop)?),
        }
    }

    async fn logs(&self, name: &RemoteName, offset: u64, follow: bool) -> Result<LogStream, DriverError> {
        let log = Log { cluster: Arc::clone(&self.cluster), name: name.clone() };
        whole_log::stream(log, offset, follow).await
    }

    async fn capacity(&self) -> Result<Option<Capacity>, DriverError> {
        // The default is the first 100 nodes, dead ones included.
        let path = "api/v0/nodes?limit=10000&filter_keys=state&filter_predicates=%3D&filter_values=ALIVE";
        let nodes: Nodes =
            self.cluster.api.read(Call::get("nodes", path, self.cluster.config.list_timeout)).await?;
        Ok(capacity::sum(&nodes.into_nodes()))
    }
}

/// The log of one job.
struct Log {
    cluster: Arc<Cluster>,
    name: RemoteName,
}

#[async_trait]
impl WholeLog for Log {
    async fn has_ended(&self) -> Result<bool, DriverError> {
        self.cluster.has_ended(&self.name).await
    }

    async fn whole(&self) -> Result<Bytes, DriverError> {
        self.cluster.log(&self.name).await
    }

    fn poll(&self) -> Duration {
        self.cluster.config.log_poll
    }

    fn patience(&self) -> Duration {
        self.cluster.config.log_patience
    }
}

/// A cluster, as the parts of the driver share it.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) api: Api,
    pub(crate) config: RayConfig,
    /// What was launched from here lately: a listing that was asked for before then may not have it yet.
    launched: Mutex<HashMap<RemoteName, (Instant, InstanceId)>>,
}

impl Cluster {
    async fn submit(&self, request: &LaunchRequest) -> Result<(), CallError> {
        let submission = Submission::new(request, self.config.reserve_entrypoint);
        let body = serde_json::to_vec(&submission)
            .map_err(|error| CallError::Driver(DriverError::Refused(error.to_string())))?;
        let call = Call {
            name: "submit",
            method: Method::POST,
            path: "api/jobs/",
            body: Some(Bytes::from(body)),
            timeout: self.config.submit_timeout,
        };
        // What it says besides 'yes' is the id, which is known.
        self.api.call(call).await.map(drop)
    }

    /// Looks at what has the name already. Whatever goes wrong here: something is there.
    async fn read_back(&self, request: &LaunchRequest) -> Result<RemoteStatus, DriverError> {
        let found = self.job(&request.name).await;
        let job =
            found.map_err(|error| DriverError::Unclear(format!("it is there; reading it back: {error}")))?;
        if job.instance() != Some(request.instance) {
            return Err(DriverError::NameTaken(request.name.to_string()));
        }
        let status = status(&job);
        // The observation says so when its processes are dead.
        Ok(if is_lost(&status) { RemoteStatus::Running } else { status })
    }

    async fn job(&self, name: &RemoteName) -> Result<JobDetails, DriverError> {
        Ok(self.api.read(Call::get("get", &job_path(name), self.config.call_timeout)).await?)
    }

    async fn simple(&self, name: &'static str, method: Method, path: &str) -> Result<Bytes, CallError> {
        self.api.call(Call { name, method, path, body: None, timeout: self.config.call_timeout }).await
    }

    fn note_launched(&self, request: &LaunchRequest) {
        let now = Instant::now();
        // Longer ago than any listing under way was asked for.
        let old = self.config.list_timeout.saturating_mul(2);
        let mut launched = self.launched.lock().unwrap_or_else(PoisonError::into_inner);
        launched.retain(|_, (at, _)| now.duration_since(*at) < old);
        launched.insert(request.name.clone(), (now, request.instance));
    }

    /// All jobs of Switchyard's form.
    pub(crate) async fn list(&self) -> Result<Vec<RemoteJob>, DriverError> {
        let asked = Instant::now();
        let listed: Vec<JobDetails> =
            self.api.read(Call::get("list", "api/jobs/", self.config.list_timeout)).await?;
        let shown = |job: JobDetails| {
            Some(RemoteJob { name: job.name()?, instance: job.instance(), status: status(&job) })
        };
        let mut jobs: Vec<RemoteJob> =
            listed.into_iter().filter(|job| !job.is_ghost()).filter_map(shown).collect();
        let mut launched = self.launched.lock().unwrap_or_else(PoisonError::into_inner).clone();
        launched.retain(|_, (at, _)| *at >= asked);
        for job in &jobs {
            launched.remove(&job.name);
        }
        // Answered while the listing was under way: it is there, though not in it.
        jobs.extend(launched.into_iter().map(|(name, (_, instance))| RemoteJob {
            name,
            instance: Some(instance),
            status: RemoteStatus::Pending,
        }));
        Ok(jobs)
    }

    /// Whether the job has ended (or is not there any more).
    pub(crate) async fn has_ended(&self, name: &RemoteName) -> Result<bool, DriverError> {
        match self.job(name).await {
            Ok(job) => Ok(status(&job).is_end()),
            Err(DriverError::NotFound) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The whole log as it is now.
    pub(crate) async fn log(&self, name: &RemoteName) -> Result<Bytes, DriverError> {
        let path = format!("{}/logs", job_path(name));
        match self.api.read::<Logs>(Call::get("logs", &path, self.config.logs_timeout)).await {
            Ok(log) => Ok(Bytes::from(log.logs)),
            // Ray reads the file as UTF-8 text, all or nothing: it also fails in the middle of a character.
            Err(CallError::Refusal(refusal)) if refusal.text.contains("UnicodeDecodeError") => {
                Err(DriverError::Unclear("Ray can't read the log as UTF-8 (as it is now)".to_owned()))
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn job_path(name: &RemoteName) -> String {
    // A remote name has nothing in it that a path would need encoded.
    format!("api/jobs/{name}")
}

/// Ray 2.60 says it with 500, from inside of a traceback; the agent that it comes from says 400.
fn says_it_exists(refusal: &Refusal) -> bool {
    matches!(refusal.status.as_u16(), 400 | 500) && refusal.text.contains("already exists")
}

fn submission_refused(refusal: &Refusal) -> DriverError {
    match refusal.error() {
        DriverError::NotFound => {
            DriverError::Unreachable("there is no Jobs interface at this address".to_owned())
        }
        // The head passes its agent's refusal on as an error of its own; before anything was made.
        DriverError::Unclear(said) if refusal.text.contains("status code 400") => DriverError::Refused(said),
        error => error,
    }
}
