//! What the handlers work with.

use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use yard_domain::{ClusterId, JobId, TeamId};
use yard_ports::{Driver, LogArchive, Spill, Store};
use yard_wire::{Admission, CatalogReader, Defaults, Explain, Limits};

use crate::access::Access;
use crate::config::ServerConfig;
use crate::ray::RayApi;

/// Finds the driver of a cluster.
pub type FindDriver = dyn Fn(&ClusterId) -> Option<Arc<dyn Driver>> + Send + Sync;

/// Counts a submission of a team, or says how long it has to wait.
pub type CountSubmission = dyn Fn(&TeamId) -> Result<(), Duration> + Send + Sync;

/// What the handlers work with. Cheap to clone.
#[derive(Clone)]
pub struct AppState {
    /// The truth.
    pub store: Arc<dyn Store>,
    /// Who is asking, and what they may do.
    pub access: Arc<Access>,
    /// Logs that are kept, whatever has become of their clusters.
    pub logs: Arc<dyn LogArchive>,
    /// How to read logs from a cluster; `None` if this process can't talk to it.
    pub driver: Arc<FindDriver>,
    /// Reads catalog documents.
    pub read_catalog: Arc<CatalogReader>,
    /// Counts a submission of a team against its rate; an error says how long it has to wait.
    pub submit_rate: Arc<CountSubmission>,
    /// Where submissions go while the database is away; `None` if they are refused then.
    pub spill: Option<Arc<dyn Spill>>,
    /// The installation that submissions are checked against; refreshed by the engine.
    pub admission: watch::Receiver<Arc<Admission>>,
    /// Bounds on a submission.
    pub limits: Arc<Limits>,
    /// What a submission leaves out.
    pub defaults: Arc<Defaults>,
    /// Called after a commit that scheduler or dispatchers of this process should see at once: a new job, a
    /// wish to stop, a cluster that was opened. Must return at once.
    pub nudge: Arc<dyn Fn() + Send + Sync>,
    /// Finds out why jobs wait.
    pub explainer: Arc<dyn Explain>,
    /// Makes the ids of new jobs.
    pub new_id: Arc<dyn Fn() -> JobId + Send + Sync>,
    /// This process's metrics.
    pub metrics: PrometheusHandle,
    /// The Ray Jobs API.
    pub ray: Arc<RayApi>,
    /// The server's limits.
    pub config: Arc<ServerConfig>,
    /// Cancelled when the process is to stop: it is not ready any more and ends its log streams.
    pub shutdown: CancellationToken,
}
