//! Ray clusters whose `RayJob` is gone: what Kubernetes's garbage collector should have taken and did not. They are shown as
//! attempts that have ended, so that whoever watches forgets them like any other; their pods cost room until then.

use std::collections::HashMap;
use std::time::Duration;

use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::core::ObjectMeta;
use tokio::time::{Instant, timeout};
use uuid::Uuid;
use yard_domain::{Failure, FailureClass, InstanceId, RemoteName};
use yard_ports::{DriverError, RemoteJob, RemoteStatus};

use crate::client::kind_of;
use crate::cluster::Cluster;
use crate::render::{ATTEMPT, INSTANCE, JOB};

/// Ray clusters in one answer of the API server.
const PAGE: u32 = 500;

/// A Ray cluster that bears our labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RayCluster {
    /// Its own name.
    pub(crate) name: String,
    /// It and no other of that name.
    pub(crate) uid: Option<String>,
    /// Whose attempt it was made for.
    pub(crate) attempt: RemoteName,
    instance: Option<InstanceId>,
    /// Whether it is being deleted.
    pub(crate) is_deleting: bool,
}

impl RayCluster {
    /// `None` if its labels aren't of Switchyard's form.
    fn new(metadata: &ObjectMeta) -> Option<Self> {
        let labels = metadata.labels.as_ref()?;
        let (job, attempt) = (labels.get(JOB)?.parse().ok()?, labels.get(ATTEMPT)?.parse().ok()?);
        Some(Self {
            name: metadata.name.clone()?,
            uid: metadata.uid.clone(),
            attempt: RemoteName::new(job, yard_domain::AttemptNumber(attempt)),
            instance: labels.get(INSTANCE).and_then(|id| Uuid::try_parse(id).ok()).map(InstanceId),
            is_deleting: metadata.deletion_timestamp.is_some(),
        })
    }
}

/// All that bear our labels, or those of one attempt.
pub(crate) async fn list(
    cluster: &Cluster,
    attempt: Option<&RemoteName>,
) -> Result<Vec<RayCluster>, DriverError> {
    let kind = GroupVersionKind::gvk("ray.io", "v1", "RayCluster");
    let resource = ApiResource::from_gvk_with_plural(&kind, "rayclusters");
    let labels = match attempt.and_then(|name| RemoteName::parse(name.as_str())) {
        Some((job, attempt)) => format!("{JOB}={job},{ATTEMPT}={attempt}"),
        None => INSTANCE.to_owned(),
    };
    let found = list_metadata(cluster, &resource, &labels).await?;
    Ok(found.iter().filter_map(RayCluster::new).collect())
}

/// What all objects of this kind with these labels are called and marked with, and nothing else of them.
pub(crate) async fn list_metadata(
    cluster: &Cluster,
    resource: &ApiResource,
    labels: &str,
) -> Result<Vec<ObjectMeta>, DriverError> {
    let config = &cluster.config;
    let client = cluster.api.client().await?;
    let api: Api<DynamicObject> = Api::namespaced_with(client, &config.namespace, resource);
    let (mut wanted, mut found) = (ListParams::default().labels(labels).limit(PAGE), Vec::new());
    loop {
        let page = timeout(config.list_timeout, api.list_metadata(&wanted)).await;
        let page = page.map_err(|_| DriverError::Unclear("no answer in time".to_owned()))?;
        let page = page.map_err(|error| kind_of(&error))?;
        found.extend(page.items.into_iter().map(|one| one.metadata));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => wanted = wanted.continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// Those that were seen without their `RayJob`. Pure.
#[derive(Debug, Default)]
pub(crate) struct Orphans {
    known: HashMap<RemoteName, Orphan>,
}

#[derive(Debug)]
struct Orphan {
    instance: Option<InstanceId>,
    ray_cluster: String,
    since: Instant,
    shown: bool,
}

impl Orphans {
    /// Takes in what there is. Returns what has been without its `RayJob` for `grace` now: the garbage collector, or a list
    /// that was read just before, had its time.
    pub(crate) fn sweep(
        &mut self,
        found: &[RayCluster],
        has_job: impl Fn(&RemoteName) -> bool,
        now: Instant,
        grace: Duration,
    ) -> Vec<RemoteJob> {
        let mut before = std::mem::take(&mut self.known);
        for cluster in found.iter().filter(|c| !c.is_deleting && !has_job(&c.attempt)) {
            let orphan = before.remove(&cluster.attempt).unwrap_or_else(|| Orphan {
                instance: cluster.instance,
                ray_cluster: cluster.name.clone(),
                since: now,
                shown: false,
            });
            self.known.insert(cluster.attempt.clone(), orphan);
        }
        let due = |orphan: &Orphan| !orphan.shown && now.duration_since(orphan.since) >= grace;
        let due = self.known.iter_mut().filter(|(_, orphan)| due(orphan));
        due.map(|(name, orphan)| {
            orphan.shown = true;
            orphan.remote(name)
        })
        .collect()
    }

    /// What is to be shown with everything else.
    pub(crate) fn shown(&self) -> impl Iterator<Item = RemoteJob> {
        self.known.iter().filter(|(_, orphan)| orphan.shown).map(|(name, orphan)| orphan.remote(name))
    }

    /// How many there are, shown or not yet.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }
}

impl Orphan {
    fn remote(&self, name: &RemoteName) -> RemoteJob {
        let said = format!("its RayJob is gone, and its Ray cluster {} is not", self.ray_cluster);
        let status = RemoteStatus::Failed(Failure::new(FailureClass::Lost, None, said));
        RemoteJob { name: name.clone(), instance: self.instance, status }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cluster(attempt: &str, deleting: bool) -> RayCluster {
        let mut metadata: ObjectMeta = serde_json::from_value(json!({"name": "rc", "uid": "u", "labels": {
            JOB: "00000000-0000-0000-0000-000000000007", ATTEMPT: attempt, INSTANCE: "00000000000000000000000000000009"}}))
        .unwrap();
        if deleting {
            metadata.deletion_timestamp = serde_json::from_value(json!("2026-11-25T10:00:00Z")).unwrap();
        }
        RayCluster::new(&metadata).unwrap()
    }

    #[test]
    fn only_what_stays_without_its_rayjob_is_shown_once_and_as_ended() {
        let (mut orphans, start, grace) = (Orphans::default(), Instant::now(), Duration::from_secs(5));
        let found = [cluster("1", false), cluster("2", false), cluster("3", true)];
        assert_eq!(found[0].attempt.as_str(), "yard-00000000000000000000000000000007-1");
        let first = found[0].attempt.clone();
        let has_job = |name: &RemoteName| *name == first;
        assert_eq!(orphans.sweep(&found, has_job, start, grace), []);
        assert_eq!((orphans.len(), orphans.shown().count()), (1, 0));
        let due = orphans.sweep(&found, has_job, start + grace, grace);
        assert_eq!((due.len(), &due[0].name), (1, &found[1].attempt));
        assert!(due[0].status.is_end() && due[0].instance.is_some());
        assert_eq!(orphans.sweep(&found, has_job, start + grace, grace), []);
        assert_eq!(orphans.shown().collect::<Vec<_>>(), due);
        // One that was only late is none any more, and its time begins anew.
        orphans.sweep(&found[..1], has_job, start + 2 * grace, grace);
        assert_eq!((orphans.len(), orphans.sweep(&found, has_job, start + 3 * grace, grace)), (0, vec![]));
    }

    #[test]
    fn labels_that_are_not_ours_are_nobodys() {
        for labels in
            [json!({}), json!({JOB: "x", ATTEMPT: "1"}), json!({JOB: "00000000-0000-0000-0000-000000000007"})]
        {
            let metadata = serde_json::from_value(json!({"name": "rc", "labels": labels})).unwrap();
            assert_eq!(RayCluster::new(&metadata), None);
        }
    }
}
