//! A cluster, as the parts of the driver share it: its jobs by name, and what was launched from here lately.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use reqwest::Method;
use tokio::time::Instant;
use yard_domain::{InstanceId, RemoteName};
use yard_ports::{DriverError, LaunchRequest, RemoteJob, RemoteStatus};

use crate::client::{Api, Call, CallError};
use crate::config::{RayConfig, RayConfigError};
use crate::status::{is_lost, status};
use crate::wire::{JobDetails, Logs, Submission};

/// A cluster, as the parts of the driver share it.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) api: Api,
    pub(crate) config: RayConfig,
    /// What was launched from here lately: a listing that was asked for before then may not have it yet.
    launched: Mutex<HashMap<RemoteName, (Instant, InstanceId)>>,
}

impl Cluster {
    pub(crate) fn new(config: RayConfig) -> Result<Self, RayConfigError> {
        Ok(Self { api: Api::new(&config)?, config, launched: Mutex::default() })
    }

    /// Submits an attempt as a job.
    pub(crate) async fn submit(&self, request: &LaunchRequest) -> Result<(), CallError> {
        let submission = Submission::new(request, self.config.reserve_entrypoint);
        let body = serde_json::to_vec(&submission)
            .map_err(|error| CallError::Driver(DriverError::Refused(error.to_string())))?;
        let call = Call {
            name: "submit",
            method: Method::POST,
            path: "api/jobs/",
            body: Some(Bytes::from(body)),
            timeout: self.config.submit_timeout,
        };
        // What it says besides 'yes' is the id, which is known.
        self.api.call(call).await.map(drop)
    }

    /// Looks at what has the name already. Whatever goes wrong here: something is there.
    pub(crate) async fn read_back(&self, request: &LaunchRequest) -> Result<RemoteStatus, DriverError> {
        let found = self.job(&request.name).await;
        let job =
            found.map_err(|error| DriverError::Unclear(format!("it is there; reading it back: {error}")))?;
        if job.instance() != Some(request.instance) {
            return Err(DriverError::NameTaken(request.name.to_string()));
        }
        let status = status(&job);
        // The observation says so when its processes are dead.
        Ok(if is_lost(&status) { RemoteStatus::Running } else { status })
    }

    async fn job(&self, name: &RemoteName) -> Result<JobDetails, DriverError> {
        Ok(self.api.read(Call::get("get", &job_path(name), self.config.call_timeout)).await?)
    }

    /// A call without a body.
    pub(crate) async fn simple(
        &self,
        name: &'static str,
        method: Method,
        path: &str,
    ) -> Result<Bytes, CallError> {
        self.api.call(Call { name, method, path, body: None, timeout: self.config.call_timeout }).await
    }

    /// Remembers that it is there, for listings that were asked for before.
    pub(crate) fn note_launched(&self, request: &LaunchRequest) {
        let now = Instant::now();
        // Longer ago than any listing under way was asked for.
        let old = self.config.list_timeout.saturating_mul(2);
        let mut launched = self.launched.lock().unwrap_or_else(PoisonError::into_inner);
        launched.retain(|_, (at, _)| now.duration_since(*at) < old);
        launched.insert(request.name.clone(), (now, request.instance));
    }

    /// All jobs of Switchyard's form.
    pub(crate) async fn list(&self) -> Result<Vec<RemoteJob>, DriverError> {
        let asked = Instant::now();
        let listed: Vec<JobDetails> =
            self.api.read(Call::get("list", "api/jobs/", self.config.list_timeout)).await?;
        let shown = |job: JobDetails| {
            Some(RemoteJob { name: job.name()?, instance: job.instance(), status: status(&job) })
        };
        let mut jobs: Vec<RemoteJob> =
            listed.into_iter().filter(|job| !job.is_ghost()).filter_map(shown).collect();
        let mut launched = self.launched.lock().unwrap_or_else(PoisonError::into_inner).clone();
        launched.retain(|_, (at, _)| *at >= asked);
        for job in &jobs {
            launched.remove(&job.name);
        }
        // Answered while the listing was under way: it is there, though not in it.
        jobs.extend(launched.into_iter().map(|(name, (_, instance))| RemoteJob {
            name,
            instance: Some(instance),
            status: RemoteStatus::Pending,
        }));
        Ok(jobs)
    }

    /// Whether the job has ended (or is not there any more).
    pub(crate) async fn has_ended(&self, name: &RemoteName) -> Result<bool, DriverError> {
        match self.job(name).await {
            Ok(job) => Ok(status(&job).is_end()),
            Err(DriverError::NotFound) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The whole log as it is now.
    pub(crate) async fn log(&self, name: &RemoteName) -> Result<Bytes, DriverError> {
        let path = format!("{}/logs", job_path(name));
        match self.api.read::<Logs>(Call::get("logs", &path, self.config.logs_timeout)).await {
            Ok(log) => Ok(Bytes::from(log.logs)),
            // Ray reads the file as UTF-8 text, all or nothing: it also fails in the middle of a character.
            Err(CallError::Refusal(refusal)) if refusal.text.contains("UnicodeDecodeError") => {
                Err(DriverError::Unclear("Ray can't read the log as UTF-8 (as it is now)".to_owned()))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Where a job is.
pub(crate) fn job_path(name: &RemoteName) -> String {
    // A remote name has nothing in it that a path would need encoded.
    format!("api/jobs/{name}")
}
