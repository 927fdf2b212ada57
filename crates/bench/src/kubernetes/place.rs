//! A namespace of its own on the API server that is measured.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
    PostParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use uuid::Uuid;
use yard_domain::{AttemptNumber, InstanceId, JobId, RemoteName, Request};
use yard_driver_kuberay::{Access, KubeRayConfig, KubeRayDriver, Template};
use yard_ports::{Driver, LaunchRequest};

use super::{LONGEST, wait};
use crate::Result;
use crate::stats::rate;

/// Calls at once.
pub const IN_FLIGHT: usize = 32;
const TEMPLATE: &str = "profiles: {plain: {image: 'rayproject/ray:2.60.0'}}";

/// See the module.
pub struct Place {
    pub client: Client,
    pub namespace: String,
    kubeconfig: PathBuf,
}

impl Place {
    pub async fn create(kubeconfig: &Path) -> Result<Self> {
        let client = connect(kubeconfig).await?;
        let namespace = format!("bench-{}", Uuid::new_v4().simple());
        let place = Self { client, kubeconfig: kubeconfig.to_owned(), namespace: namespace.clone() };
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        place.api("v1", "Namespace", false).create(&PostParams::default(), &read(object)?).await?;
        Ok(place)
    }

    pub async fn remove(self) -> Result<()> {
        self.empty().await?;
        self.api("v1", "Namespace", false).delete(&self.namespace, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Takes all RayJobs away, and returns when they are gone.
    pub async fn empty(&self) -> Result<()> {
        wait(async || {
            // The API server gives up after a minute; what is left is asked for again.
            _ = self.jobs().delete_collection(&DeleteParams::default(), &ListParams::default()).await;
            Ok(self.count().await? == 0)
        })
        .await
    }

    pub fn api(&self, version: &str, kind: &str, namespaced: bool) -> Api<DynamicObject> {
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        if namespaced {
            Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
        } else {
            Api::all_with(self.client.clone(), &resource)
        }
    }

    pub fn jobs(&self) -> Api<DynamicObject> {
        self.api("ray.io/v1", "RayJob", true)
    }

    pub fn driver(&self) -> Result<Arc<KubeRayDriver>> {
        driver(&self.kubeconfig, &self.namespace, None)
    }

    /// How many RayJobs there are.
    pub async fn count(&self) -> Result<usize> {
        let page = self.jobs().list_metadata(&ListParams::default().limit(1)).await?;
        let more = page.metadata.remaining_item_count.unwrap_or(0);
        Ok(page.items.len() + usize::try_from(more)?)
    }

    pub async fn set_running(&self, name: &str) -> Result<()> {
        let status = json!({"status": {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}});
        self.jobs().patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await?;
        Ok(())
    }
}

pub async fn connect(kubeconfig: &Path) -> Result<Client> {
    let file = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// A driver; `nodes` is a label selector.
pub fn driver(kubeconfig: &Path, namespace: &str, nodes: Option<String>) -> Result<Arc<KubeRayDriver>> {
    let access = Access::Kubeconfig { path: kubeconfig.to_owned(), context: None };
    let mut config = KubeRayConfig::new("bench", access, namespace, Template::parse(TEMPLATE)?);
    // No operator is there: the benchmark writes what it would.
    config.operator_patience = LONGEST;
    config.liveness_grace = LONGEST;
    config.list_timeout = LONGEST;
    config.node_selector = nodes;
    Ok(Arc::new(KubeRayDriver::new(config)))
}

pub fn read(object: Value) -> Result<DynamicObject> {
    Ok(serde_json::from_value(object)?)
}

/// RayJobs made by the driver alone: how many per second.
pub async fn raw(place: &Place, n: usize) -> Result<f64> {
    let driver = place.driver()?;
    // The client is made, the connections stand.
    driver.launch(&request()?).await?;
    let began = Instant::now();
    at_once((0..n).map(|_| async {
        driver.launch(&request()?).await?;
        Ok(())
    }))
    .await?;
    Ok(rate(n, began.elapsed()))
}

/// Carries all of it out, [`IN_FLIGHT`] at once.
pub async fn at_once(all: impl Iterator<Item = impl Future<Output = Result<()>>>) -> Result<()> {
    let mut all = futures::stream::iter(all).buffer_unordered(IN_FLIGHT);
    while let Some(done) = all.next().await {
        done?;
    }
    Ok(())
}

fn request() -> Result<LaunchRequest> {
    let (job, attempt) = (JobId(Uuid::new_v4()), AttemptNumber(1));
    Ok(LaunchRequest {
        name: RemoteName::new(job, attempt),
        instance: InstanceId(Uuid::nil()),
        job,
        attempt,
        team: "bench".parse()?,
        job_name: "train-resnet".to_owned(),
        entrypoint: "python train.py --epochs 3".to_owned(),
        runtime_env: serde_json::Map::new(),
        request: Request { cpu_milli: 1_000, jobs: 1, ..Request::default() },
        ray_cluster: None,
        metadata: BTreeMap::new(),
        run_timeout: Duration::from_hours(1),
    })
}
