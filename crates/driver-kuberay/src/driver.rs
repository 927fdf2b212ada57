//! The driver itself: the port's calls.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use yard_domain::{Capacity, RemoteName};
use yard_ports::{Driver, DriverError, LaunchOutcome, LaunchRequest, LogStream, ObservationStream, PodLog};

use crate::cluster::Cluster;
use crate::config::KubeRayConfig;
use crate::{capacity, logs, observe, pod_logs, render};

/// Runs each attempt as a RayJob with a Ray cluster of its own.
#[derive(Clone)]
pub struct KubeRayDriver {
    cluster: Arc<Cluster>,
}

impl KubeRayDriver {
    /// A driver for the cluster of `config`. Nothing is called yet.
    pub fn new(config: KubeRayConfig) -> Self {
        Self { cluster: Arc::new(Cluster::new(config)) }
    }
}

/// The RayJob that a launch would make, as YAML. `Err` says what of it the cluster can't honour.
pub fn render_yaml(config: &KubeRayConfig, request: &LaunchRequest) -> Result<String, String> {
    let job = render::render(&config.template, &config.namespace, request)?;
    serde_saphyr::to_string(&job).map_err(|error| error.to_string())
}

#[async_trait]
impl Driver for KubeRayDriver {
    fn kind(&self) -> &'static str {
        "kuberay"
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<LaunchOutcome, DriverError> {
        self.cluster.launch(request).await
    }

    fn observe(&self) -> ObservationStream {
        observe::stream(Arc::clone(&self.cluster)).boxed()
    }

    fn not_ready(&self) -> Option<String> {
        self.cluster.operator_silent()
    }

    async fn stop(&self, name: &RemoteName) -> Result<(), DriverError> {
        let Some(grace) = self.cluster.stop(name).await? else { return Ok(()) };
        // Should this process die meanwhile, whoever asks again finds that the grace is over.
        let (cluster, name) = (Arc::clone(&self.cluster), name.clone());
        tokio::spawn(async move {
            tokio::time::sleep(grace).await;
            match cluster.job(&name).await {
                Ok(job) if !crate::status::status(&job).is_end() => {
                    if let Err(error) = cluster.suspend(&name).await {
                        tracing::warn!(%name, %error, "could not end it after the grace; whoever asks again will");
                    }
                }
                _ => {}
            }
        });
        Ok(())
    }

    async fn forget(&self, name: &RemoteName) -> Result<(), DriverError> {
        self.cluster.forget(name).await
    }

    async fn logs(&self, name: &RemoteName, offset: u64, follow: bool) -> Result<LogStream, DriverError> {
        logs::stream(Arc::clone(&self.cluster), name.clone(), offset, follow).await
    }

    fn has_pod_logs(&self) -> bool {
        true
    }

    async fn pod_logs(
        &self,
        name: &RemoteName,
        wanted: &[PodLog],
    ) -> Result<Vec<(PodLog, Bytes)>, DriverError> {
        pod_logs::read(&self.cluster, name, wanted).await
    }

    /// What the nodes have, less what pods that are not Switchyard's ask for.
    async fn capacity(&self) -> Result<Option<Capacity>, DriverError> {
        capacity::read(&self.cluster).await
    }
}

impl fmt::Debug for KubeRayDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the template: its environment variables may be secrets.
        let config = &self.cluster.config;
        let shown = (&config.access, &config.namespace);
        f.debug_struct("KubeRayDriver")
            .field("access", shown.0)
            .field("namespace", shown.1)
            .finish_non_exhaustive()
    }
}
