//! Whose head is there. An operator that makes no new head for one that died (`ray.io/disable-provisioned-head-restart`) leaves
//! the RayJob `Running` until its deadline, and says nothing; so heads are counted from here.

use std::collections::HashSet;

use kube::api::ApiResource;
use kube::core::{GroupVersionKind, ObjectMeta};
use yard_domain::{AttemptNumber, RemoteName};
use yard_ports::DriverError;

use crate::cluster::Cluster;
use crate::orphans::list_metadata;
use crate::render::{ATTEMPT, INSTANCE, JOB};

/// The attempts that have a head's pod. One that is being deleted counts: on a node that is cut off it may still run.
pub(crate) async fn list(cluster: &Cluster) -> Result<HashSet<RemoteName>, DriverError> {
    let pods = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", "Pod"), "pods");
    let found = list_metadata(cluster, &pods, &format!("{INSTANCE},ray.io/node-type=head")).await?;
    Ok(found.iter().filter_map(attempt).collect())
}

fn attempt(metadata: &ObjectMeta) -> Option<RemoteName> {
    let labels = metadata.labels.as_ref()?;
    let (job, attempt) = (labels.get(JOB)?.parse().ok()?, labels.get(ATTEMPT)?.parse().ok()?);
    Some(RemoteName::new(job, AttemptNumber(attempt)))
}
