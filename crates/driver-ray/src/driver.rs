//! The driver itself: the port's calls.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use reqwest::Method;
use yard_domain::{Capacity, RemoteName};
use yard_ports::{Driver, DriverError, LaunchOutcome, LaunchRequest, LogStream, ObservationStream, Packages};

use crate::client::{Call, CallError, Refusal};
use crate::cluster::{Cluster, job_path};
use crate::config::{RayConfig, RayConfigError};
use crate::supply::Supply;
use crate::whole_log::{self, WholeLog};
use crate::wire::Nodes;
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
        Ok(Self { cluster: Arc::new(Cluster::new(config)?), supply: None })
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
