//! Brings a cluster the packages that a job's runtime environment names, before the job is submitted to it.

use std::fmt;
use std::sync::Arc;

use reqwest::Method;
use tokio::sync::Mutex;
use yard_ports::packages::{package_name, package_uris};
use yard_ports::{DriverError, LaunchRequest, Packages};

use crate::client::{Call, CallError};
use crate::cluster::Cluster;

/// Where packages come from, and the one upload that is under way: of many jobs with one package, the first brings it.
pub(crate) struct Supply {
    packages: Arc<dyn Packages>,
    under_way: Mutex<()>,
}

impl Supply {
    pub(crate) fn new(packages: Arc<dyn Packages>) -> Self {
        Self { packages, under_way: Mutex::default() }
    }

    /// Returns when the cluster has every package. Nothing has been launched if it fails.
    pub(crate) async fn bring(&self, cluster: &Cluster, request: &LaunchRequest) -> Result<(), DriverError> {
        for uri in package_uris(&request.runtime_env) {
            let name = package_name(&uri)
                .ok_or_else(|| DriverError::Refused(format!("{uri:?} is not the name of a package")))?;
            let path = format!("api/packages/gcs/{name}");
            if has(cluster, &path).await? {
                continue;
            }
            let _only_one = self.under_way.lock().await;
            if !has(cluster, &path).await? {
                self.send(cluster, &uri, &path).await?;
            }
        }
        Ok(())
    }

    async fn send(&self, cluster: &Cluster, uri: &str, path: &str) -> Result<(), DriverError> {
        let content = self.packages.open(uri).await?;
        let bytes = content.bytes;
        match cluster.api.upload(path, content, cluster.config.package_timeout).await {
            Ok(()) => {
                metrics::counter!("yard_ray_package_bytes_total").increment(bytes);
                Ok(())
            }
            Err(CallError::Refusal(refusal)) if refusal.text.contains("exceeds the maximum size") => {
                Err(DriverError::Refused(format!("runtime_env: package {uri} is too large for the cluster")))
            }
            Err(error) => Err(not_launched(error)),
        }
    }
}

async fn has(cluster: &Cluster, path: &str) -> Result<bool, DriverError> {
    let timeout = cluster.config.call_timeout;
    match cluster.api.call(Call { name: "package", method: Method::GET, path, body: None, timeout }).await {
        Ok(_) => Ok(true),
        Err(CallError::Refusal(refusal)) if refusal.status.as_u16() == 404 => Ok(false),
        Err(error) => Err(not_launched(error)),
    }
}

/// Whatever became of the package: the job has not been launched.
fn not_launched(error: CallError) -> DriverError {
    match DriverError::from(error) {
        DriverError::Unclear(said) => DriverError::Unreachable(format!("bringing a package: {said}")),
        DriverError::NotFound => DriverError::Unreachable("it takes no packages at this address".to_owned()),
        other => other,
    }
}

impl fmt::Debug for Supply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Supply")
    }
}
