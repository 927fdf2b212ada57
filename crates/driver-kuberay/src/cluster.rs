//! One Kubernetes cluster: every call that the driver makes of it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use yard_domain::{Failure, RemoteName};
use yard_ports::{DriverError, LaunchOutcome, LaunchRequest};

use crate::capacity::Watched;
use crate::client::{Api, Call, CallError, Refusal};
use crate::config::KubeRayConfig;
use crate::evidence::{self, Event, List, Pod};
use crate::facts::RayJob;
use crate::headless::Headless;
use crate::orphans;
use crate::render::{self, STOP_ASKED};
use crate::status::status;

/// Most events that are read of one pod.
const EVENTS_MAX: u32 = 20;
/// Most pods of one attempt whose events are read.
const WAITING_PODS_MAX: usize = 3;
/// Longest that a failure is looked into.
const EVIDENCE_TIMEOUT: Duration = Duration::from_secs(10);

/// A cluster, as the parts of the driver share it.
pub(crate) struct Cluster {
    pub(crate) api: Api,
    pub(crate) config: KubeRayConfig,
    pub(crate) watched: Watched,
    pub(crate) headless: Headless,
    /// Why no launch is begun now: the operator leaves RayJobs alone.
    operator_silent: Mutex<Option<String>>,
}

impl Cluster {
    pub(crate) fn new(config: KubeRayConfig) -> Self {
        Self {
            api: Api::new(&config),
            watched: Watched::default(),
            headless: Headless::default(),
            operator_silent: Mutex::default(),
            config,
        }
    }

    /// Says that the operator is silent, or that it is not. Whether that is news.
    pub(crate) fn set_operator_silent(&self, why: Option<String>) -> bool {
        let mut told = self.operator_silent.lock().unwrap_or_else(PoisonError::into_inner);
        let news = told.is_some() != why.is_some();
        *told = why;
        news
    }

    /// Why no launch is begun now.
    pub(crate) fn operator_silent(&self) -> Option<String> {
        self.operator_silent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn jobs_path(&self) -> String {
        format!("/apis/ray.io/v1/namespaces/{}/rayjobs", self.config.namespace)
    }

    fn job_path(&self, name: &RemoteName) -> String {
        format!("{}/{name}", self.jobs_path())
    }

    // --- launch ---

    pub(crate) async fn launch(&self, request: &LaunchRequest) -> Result<LaunchOutcome, DriverError> {
        let job = render::render(&self.config.template, &self.config.namespace, request)
            .map_err(DriverError::Refused)?;
        if let Some(why) = self.operator_silent() {
            return Err(DriverError::Unreachable(why));
        }
        match self.create(&job, "").await {
            Ok(_) => Ok(LaunchOutcome::Launched),
            Err(CallError::Refusal(refusal)) if refusal.status == StatusCode::CONFLICT => {
                self.adopt(request).await
            }
            Err(CallError::Refusal(refusal)) => Err(launch_refused(&refusal)),
            Err(CallError::Driver(error)) => Err(error),
        }
    }

    async fn create(&self, job: &Value, query: &str) -> Result<Bytes, CallError> {
        let body = Bytes::from(job.to_string());
        // What the CRD does not know must not be dropped without a word.
        let path = format!("{}?fieldValidation=Strict&fieldManager=switchyard{query}", self.jobs_path());
        let timeout = self.config.call_timeout;
        self.api
            .call(Call { name: "create", method: Method::POST, path: &path, body: Some(body), timeout })
            .await
    }

    /// Looks at what has the name already. Whatever goes wrong here: something is there.
    async fn adopt(&self, request: &LaunchRequest) -> Result<LaunchOutcome, DriverError> {
        let found = self.job(&request.name).await;
        let job =
            found.map_err(|error| DriverError::Unclear(format!("it is there; reading it back: {error}")))?;
        if job.instance() == Some(request.instance) {
            Ok(LaunchOutcome::Adopted(status(&job)))
        } else {
            Err(DriverError::NameTaken(request.name.to_string()))
        }
    }

    /// Has the API server say what it thinks of a RayJob of each profile, making none: whether the CRD is there and new
    /// enough, and whether we may make RayJobs.
    pub(crate) async fn check(&self) -> Result<(), DriverError> {
        for job in render::samples(&self.config.template, &self.config.namespace) {
            match self.create(&job, "&dryRun=All").await {
                Ok(_) => {}
                Err(CallError::Refusal(refusal)) if refusal.message.contains("unknown field") => {
                    let said = format!(
                        "the RayJob CRD is too old: {}: install KubeRay 1.6 or newer",
                        refusal.message
                    );
                    return Err(DriverError::Unreachable(said));
                }
                // A quota that is full now has room again one day.
                Err(CallError::Refusal(refusal)) if refusal.is_full_quota() => {}
                Err(CallError::Refusal(refusal)) => match launch_refused(&refusal) {
                    // What is wrong with this one need not be wrong with every job.
                    DriverError::Refused(said) => {
                        tracing::warn!(said, "the API server would refuse jobs of a profile");
                    }
                    error => return Err(error),
                },
                Err(CallError::Driver(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether the API server is there, knows us, and has RayJobs.
    pub(crate) async fn probe(&self) -> Result<(), DriverError> {
        let timeout = self.config.call_timeout;
        match self.api.call(Call::get("probe", "/apis/ray.io/v1", timeout)).await.map_err(DriverError::from) {
            Err(DriverError::NotFound) => Err(no_crd()),
            other => other.map(drop),
        }
    }

    // --- one RayJob ---

    pub(crate) async fn job(&self, name: &RemoteName) -> Result<RayJob, DriverError> {
        let job = self.api.read(Call::get("get", &self.job_path(name), self.config.call_timeout)).await?;
        self.headless.read(&job);
        Ok(job)
    }

    async fn patch(&self, name: &RemoteName, patch: &Value) -> Result<(), CallError> {
        let path = format!("{}?fieldManager=switchyard", self.job_path(name));
        let (body, timeout) = (Some(Bytes::from(patch.to_string())), self.config.call_timeout);
        self.api
            .call(Call { name: "patch", method: Method::PATCH, path: &path, body, timeout })
            .await
            .map(drop)
    }

    /// Asks for a stop: of the Ray job first, and after the grace of its Ray cluster. The RayJob itself stays, suspended:
    /// what is deleted could be made again.
    pub(crate) async fn stop(&self, name: &RemoteName) -> Result<Option<Duration>, DriverError> {
        let job = self.job(name).await?;
        if status(&job).is_end() || job.is_deleting() {
            return Ok(None);
        }
        let now = wall_clock_s();
        let asked = job.stop_asked().unwrap_or(now);
        let left = self.config.stop_grace.saturating_sub(Duration::from_secs(now.saturating_sub(asked)));
        let dashboard = job.dashboard().filter(|_| !left.is_zero());
        let Some((service, port)) = dashboard else { return self.suspend(name).await.map(|()| None) };
        if job.stop_asked().is_none() {
            self.patch(name, &json!({"metadata": {"annotations": {STOP_ASKED: now.to_string()}}})).await?;
        }
        let path = self.ray_path(service, port, &format!("api/jobs/{name}/stop"));
        let timeout = self.config.call_timeout;
        let asked = self
            .api
            .call(Call { name: "ray_stop", method: Method::POST, path: &path, body: None, timeout })
            .await;
        if let Err(error) = asked {
            tracing::debug!(%name, error = %DriverError::from(error), "Ray did not take the stop; its cluster is ended after the grace");
        }
        Ok(Some(left))
    }

    /// Has the operator end the Ray cluster, and makes sure that it is not started again.
    pub(crate) async fn suspend(&self, name: &RemoteName) -> Result<(), DriverError> {
        Ok(self.patch(name, &json!({"spec": {"suspend": true}})).await?)
    }

    /// Ends what the operator has left standing: the RayJob is suspended, and its Ray cluster deleted, in case the operator
    /// does not.
    pub(crate) async fn end(&self, name: &RemoteName, ray_cluster: &str) -> Result<(), DriverError> {
        match self.suspend(name).await {
            Ok(()) | Err(DriverError::NotFound) => {}
            Err(error) => return Err(error),
        }
        if ray_cluster.is_empty() {
            return Ok(());
        }
        match self.delete(&self.ray_cluster_path(ray_cluster), None).await {
            Ok(()) | Err(DriverError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn delete(&self, path: &str, uid: Option<&str>) -> Result<(), DriverError> {
        let mut options =
            json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"});
        if let Some(uid) = uid {
            options["preconditions"] = json!({"uid": uid});
        }
        let (body, timeout) = (Some(Bytes::from(options.to_string())), self.config.call_timeout);
        Ok(self
            .api
            .call(Call { name: "delete", method: Method::DELETE, path, body, timeout })
            .await
            .map(drop)?)
    }

    pub(crate) async fn forget(&self, name: &RemoteName) -> Result<(), DriverError> {
        let job = match self.job(name).await {
            Ok(job) => job,
            Err(DriverError::NotFound) => return self.forget_orphans(name).await,
            Err(error) => return Err(error),
        };
        if !status(&job).is_end() {
            return Err(DriverError::Refused("it has not ended".to_owned()));
        }
        // Everything else that was made for it is owned by it, and goes with it.
        self.delete(&self.job_path(name), job.metadata.uid.as_deref()).await
    }

    /// Deletes Ray clusters of an attempt whose RayJob is gone.
    async fn forget_orphans(&self, name: &RemoteName) -> Result<(), DriverError> {
        let mut found = orphans::list(self, Some(name)).await?;
        found.retain(|cluster| !cluster.is_deleting);
        if found.is_empty() {
            return Err(DriverError::NotFound);
        }
        for cluster in found {
            tracing::warn!(%name, ray_cluster = cluster.name, "deleting a Ray cluster whose RayJob is gone");
            metrics::counter!("yard_kuberay_orphans_deleted_total").increment(1);
            match self.delete(&self.ray_cluster_path(&cluster.name), cluster.uid.as_deref()).await {
                Ok(()) | Err(DriverError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn ray_cluster_path(&self, name: &str) -> String {
        format!("/apis/ray.io/v1/namespaces/{}/rayclusters/{name}", self.config.namespace)
    }

    // --- beside the RayJob ---

    /// Ray's own interface, through the API server: no route into the cluster is needed.
    pub(crate) fn ray_path(&self, service: &str, port: u16, path: &str) -> String {
        format!("/api/v1/namespaces/{}/services/{service}:{port}/proxy/{path}", self.config.namespace)
    }

    /// The failure with what its pods have to say about it.
    pub(crate) async fn explain(&self, name: &RemoteName, failure: Failure) -> Failure {
        match tokio::time::timeout(EVIDENCE_TIMEOUT, self.pods(name)).await {
            Ok(Ok((pods, events))) => evidence::explain(failure, &pods, &events),
            Ok(Err(error)) => evidence::unread(&failure, "its pods", &error),
            Err(_) => {
                evidence::unread(&failure, "its pods", &DriverError::Unclear("no answer in time".to_owned()))
            }
        }
    }

    /// The same of what is ended from here: its operator may have taken the pod away that knew, and said why.
    pub(crate) async fn explain_end(
        &self,
        name: &RemoteName,
        ray_cluster: &str,
        failure: Failure,
    ) -> Failure {
        let failure = self.explain(name, failure).await;
        match tokio::time::timeout(EVIDENCE_TIMEOUT, self.events(ray_cluster)).await {
            Ok(Ok(events)) => evidence::explain_head(failure, &events),
            Ok(Err(error)) => evidence::unread(&failure, "the events of its Ray cluster", &error),
            Err(_) => evidence::unread(
                &failure,
                "the events of its Ray cluster",
                &DriverError::Unclear("no answer in time".to_owned()),
            ),
        }
    }

    /// What is told about an object of this name.
    async fn events(&self, name: &str) -> Result<Vec<Event>, DriverError> {
        let path = format!(
            "/api/v1/namespaces/{}/events?limit={EVENTS_MAX}&fieldSelector=involvedObject.name%3D{name}",
            self.config.namespace
        );
        let events: List<Event> = self.api.read(Call::get("events", &path, self.config.call_timeout)).await?;
        Ok(events.items)
    }

    async fn pods(&self, name: &RemoteName) -> Result<(Vec<Pod>, Vec<(String, Event)>), DriverError> {
        let Some((job, attempt)) = RemoteName::parse(name.as_str()) else { return Ok(Default::default()) };
        let (namespace, timeout) = (&self.config.namespace, self.config.call_timeout);
        let path = format!(
            "/api/v1/namespaces/{namespace}/pods?limit=500&labelSelector=yard.job%3D{job}%2Cyard.attempt%3D{attempt}"
        );
        let pods: List<Pod> = self.api.read(Call::get("pods", &path, timeout)).await?;
        let mut events = Vec::new();
        for pod in pods.items.iter().filter(|pod| pod.is_waiting()).take(WAITING_PODS_MAX) {
            let of_pod = self.events(&pod.metadata.name).await?;
            events.extend(of_pod.into_iter().map(|event| (pod.metadata.name.clone(), event)));
        }
        Ok((pods.items, events))
    }
}

/// Kept on the RayJob for whichever process asks again: only the wall clock is common to them.
#[expect(clippy::disallowed_methods, reason = "the one look at the clock that dates a stop")]
fn wall_clock_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

pub(crate) fn no_crd() -> DriverError {
    DriverError::Unreachable(
        "the cluster has no RayJobs: the CRD rayjobs.ray.io (version v1) is missing: install KubeRay"
            .to_owned(),
    )
}

fn launch_refused(refusal: &Refusal) -> DriverError {
    match refusal.error() {
        // The namespace or the CRD.
        DriverError::NotFound if refusal.reason.is_empty() => no_crd(),
        DriverError::NotFound => DriverError::Unreachable(refusal.message.clone()),
        error => error,
    }
}
