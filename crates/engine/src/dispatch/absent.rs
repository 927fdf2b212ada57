//! The driver of a cluster that still has jobs and that nobody can drive: its secret is nowhere, or it was taken out and
//! no version of the catalog that can be read knows it. It can't be reached, so its jobs stay as they are until the
//! cluster-lost grace ends.

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream;
use yard_domain::{Capacity, RemoteName};
use yard_ports::{Driver, DriverError, LaunchOutcome, LaunchRequest, LogStream, ObservationStream};

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct AbsentDriver;

fn absent() -> DriverError {
    DriverError::Unreachable(
        "no process can drive the cluster: it is not in the catalog, or its secret is not to be had"
            .to_owned(),
    )
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
