//! The driver of a cluster that was taken out of the configuration while it still had jobs: it can't be
//! reached, so its jobs stay as they are until the cluster-lost grace ends.

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream;
use yard_domain::{Capacity, RemoteName};
use yard_ports::{Driver, DriverError, LaunchOutcome, LaunchRequest, LogStream, ObservationStream};

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct AbsentDriver;

fn absent() -> DriverError {
    DriverError::Unreachable("the cluster is not in the configuration".to_owned())
}

#[async_trait]
impl Driver for AbsentDriver {
    fn kind(&self) -> &'static str {
        "absent"
    }

    async fn launch(&self, _: &LaunchRequest) -> Result<LaunchOutcome, DriverError> {
        Err(absent())
    }

    fn observe(&self) -> ObservationStream {
        stream::once(async { Err(absent()) }).chain(stream::pending()).boxed()
    }

    async fn stop(&self, _: &RemoteName) -> Result<(), DriverError> {
        Err(absent())
    }

    async fn forget(&self, _: &RemoteName) -> Result<(), DriverError> {
        Err(absent())
    }

    async fn logs(&self, _: &RemoteName, _: u64, _: bool) -> Result<LogStream, DriverError> {
        Err(absent())
    }

    async fn capacity(&self) -> Result<Option<Capacity>, DriverError> {
        Err(absent())
    }
}
