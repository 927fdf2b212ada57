//! RayJobs as they are read: only the fields that matter here.

use std::borrow::Cow;

use k8s_openapi::NamespaceResourceScope;
use kube::Resource;
use kube::core::ObjectMeta;
use serde::Deserialize;
use uuid::Uuid;
use yard_domain::{InstanceId, RemoteName};

use crate::render::{INSTANCE, STOP_ASKED};

/// A RayJob.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct RayJob {
    #[serde(default, deserialize_with = "crate::lean_meta::read")]
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    pub(crate) spec: Spec,
    #[serde(default)]
    pub(crate) status: Status,
}

/// What was asked for, as far as it is needed to judge what became of it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Spec {
    pub(crate) active_deadline_seconds: Option<u64>,
    pub(crate) pre_running_deadline_seconds: Option<u64>,
    pub(crate) submission_mode: String,
}

/// What the operator wrote.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(clippy::struct_field_names, reason = "KubeRay's names")]
pub(crate) struct Status {
    pub(crate) job_status: String,
    pub(crate) job_deployment_status: String,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) ray_cluster_name: String,
    /// `host:port`.
    #[serde(rename = "dashboardURL")]
    pub(crate) dashboard_url: String,
}

impl RayJob {
    /// Its name, if it is of Switchyard's form.
    pub(crate) fn name(&self) -> Option<RemoteName> {
        let (job, attempt) = RemoteName::parse(self.metadata.name.as_deref()?)?;
        Some(RemoteName::new(job, attempt))
    }

    /// Whose it is, if it says so.
    pub(crate) fn instance(&self) -> Option<InstanceId> {
        Uuid::try_parse(self.metadata.labels.as_ref()?.get(INSTANCE)?).ok().map(InstanceId)
    }

    /// When somebody first asked for it to be stopped, in seconds since the epoch.
    pub(crate) fn stop_asked(&self) -> Option<u64> {
        self.metadata.annotations.as_ref()?.get(STOP_ASKED)?.parse().ok()
    }

    /// Whether it is being deleted.
    pub(crate) fn is_deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Where its head's dashboard is: service and port. `None` until it is known.
    pub(crate) fn dashboard(&self) -> Option<(&str, u16)> {
        let (host, port) = self.status.dashboard_url.rsplit_once(':')?;
        let service = host.split('.').next().filter(|name| !name.is_empty())?;
        let sound = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        Some((service, port.parse().ok()?)).filter(|_| service.bytes().all(sound))
    }
}

impl Resource for RayJob {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "RayJob".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "ray.io".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "rayjobs".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
