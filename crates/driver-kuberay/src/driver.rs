//! The driver itself: the port's calls.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use yard_domain::{Capacity, GpuBlocks, RayProfiles, RemoteName};
use yard_ports::packages::{package_uris, put_links};
use yard_ports::{
    Driver, DriverError, LaunchOutcome, LaunchRequest, LogStream, ObservationStream, Packages, PodLog,
};

use crate::cluster::Cluster;
use crate::config::KubeRayConfig;
use crate::{capacity, logs, observe, pod_logs, render};

/// How much longer than its attempt a link to a package is good: until workers of its last minutes have fetched it.
const LINK_MARGIN: Duration = Duration::from_hours(1);

/// Runs each attempt as a RayJob with a Ray cluster of its own.
#[derive(Clone)]
pub struct KubeRayDriver {
    cluster: Arc<Cluster>,
    packages: Option<Arc<dyn Packages>>,
    profiles: Arc<RayProfiles>,
}

impl KubeRayDriver {
    /// A driver for the cluster of `config`. Nothing is called yet.
    pub fn new(config: KubeRayConfig) -> Self {
        let profiles = config.template.rules();
        Self { cluster: Arc::new(Cluster::new(config)), packages: None, profiles }
    }

    /// A driver that gives its Ray clusters links to uploaded packages: they don't stand yet when a RayJob is made, so
    /// nothing can be brought to them.
    #[must_use]
    pub fn with_packages(self, packages: Arc<dyn Packages>) -> Self {
        let profiles = RayProfiles { links: packages.makes_links(), ..(*self.profiles).clone() };
        Self { packages: Some(packages), profiles: Arc::new(profiles), ..self }
    }

    /// The request as it is to be launched: with links in the place of packages.
    async fn linked<'r>(&self, request: &'r LaunchRequest) -> Result<Cow<'r, LaunchRequest>, DriverError> {
        let uris = package_uris(&request.runtime_env);
        if uris.is_empty() {
            return Ok(Cow::Borrowed(request));
        }
        let Some(packages) = &self.packages else {
            return Err(DriverError::Refused("runtime_env: there are no packages here".to_owned()));
        };
        let template = &self.cluster.config.template;
        let life = render::longest_life(template, request).map_err(DriverError::Refused)?;
        let mut links = BTreeMap::new();
        for uri in uris {
            let link = packages.link(&uri, life.saturating_add(LINK_MARGIN)).await?;
            links.insert(uri, link);
        }
        let mut request = request.clone();
        put_links(&mut request.runtime_env, &links);
        Ok(Cow::Owned(request))
    }
}

/// The RayJob that a launch would make, as YAML; uploaded packages stand in it by their URIs, not yet by links. `Err` says
/// what of it the cluster can't honour.
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
        self.cluster.launch(self.linked(request).await?.as_ref()).await
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

    fn gpu_blocks(&self) -> Vec<GpuBlocks> {
        capacity::gpu_blocks(&self.cluster)
    }

    fn ray_profiles(&self) -> Option<Arc<RayProfiles>> {
        Some(self.profiles.clone())
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
