//! The log of the job's command, from Ray's own interface, through the API server.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;
use yard_domain::RemoteName;
use yard_driver_ray::whole_log::{self, WholeLog};
use yard_ports::{DriverError, LogStream};

use crate::client::{Call, CallError};
use crate::cluster::Cluster;
use crate::status::status;

/// The log from `offset` on.
pub(crate) async fn stream(
    cluster: Arc<Cluster>,
    name: RemoteName,
    offset: u64,
    follow: bool,
) -> Result<LogStream, DriverError> {
    whole_log::stream(Log { cluster, name }, offset, follow).await
}

struct Log {
    cluster: Arc<Cluster>,
    name: RemoteName,
}

#[derive(Deserialize)]
struct Answer {
    logs: String,
}

#[async_trait]
impl WholeLog for Log {
    async fn has_ended(&self) -> Result<bool, DriverError> {
        match self.cluster.job(&self.name).await {
            Ok(job) => Ok(status(&job).is_end()),
            Err(DriverError::NotFound) => Ok(true),
            Err(error) => Err(error),
        }
    }

    async fn whole(&self) -> Result<Bytes, DriverError> {
        if self.cluster.headless.has(&self.name) {
            return Ok(Bytes::new());
        }
        let job = self.cluster.job(&self.name).await?;
        // No head yet, or no more: there is nothing (else) to be read.
        let Some((service, port)) = job.dashboard() else { return Ok(Bytes::new()) };
        let path = self.cluster.ray_path(service, port, &format!("api/jobs/{}/logs", self.name));
        let call = Call::get("ray_logs", &path, self.cluster.config.list_timeout);
        match self.cluster.api.read::<Answer>(call).await {
            Ok(log) => Ok(Bytes::from(log.logs)),
            // Ray reads the file as UTF-8 text, all or nothing: it also fails in the middle of a character.
            Err(CallError::Refusal(refusal)) if refusal.message.contains("UnicodeDecodeError") => {
                Err(DriverError::Unclear("Ray can't read the log as UTF-8 (as it is now)".to_owned()))
            }
            // Not submitted yet, or its head went with its log.
            Err(CallError::Refusal(refusal)) if matches!(refusal.status.as_u16(), 404 | 503) => {
                if status(&job).is_end() { Err(DriverError::NotFound) } else { Ok(Bytes::new()) }
            }
            Err(error) => Err(error.into()),
        }
    }

    fn poll(&self) -> Duration {
        self.cluster.config.log_poll
    }

    fn patience(&self) -> Duration {
        self.cluster.config.log_patience
    }
}
