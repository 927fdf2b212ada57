//! A cluster in memory that answers its first launch call only when it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tokio::sync::Semaphore;
use yard_domain::{Capacity, RemoteName};
use yard_ports::{Driver, DriverError, LaunchOutcome, LaunchRequest, LogStream, ObservationStream};
use yard_testkit::null_driver::NullDriver;

pub struct Holding {
    pub inner: NullDriver,
    /// The first call waits for a permit.
    pub first: Arc<Semaphore>,
    called: AtomicBool,
}

impl Holding {
    pub fn new(inner: NullDriver, first: Arc<Semaphore>) -> Self {
        Self { inner, first, called: AtomicBool::new(false) }
    }
}

#[async_trait]
impl Driver for Holding {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<LaunchOutcome, DriverError> {
        if !self.called.swap(true, Ordering::Relaxed) {
            self.first.acquire().await.unwrap().forget();
        }
        self.inner.launch(request).await
    }

    fn observe(&self) -> ObservationStream {
        self.inner.observe()
    }

    async fn stop(&self, name: &RemoteName) -> Result<(), DriverError> {
        self.inner.stop(name).await
    }

    async fn forget(&self, name: &RemoteName) -> Result<(), DriverError> {
        self.inner.forget(name).await
    }

    async fn logs(&self, name: &RemoteName, offset: u64, follow: bool) -> Result<LogStream, DriverError> {
        self.inner.logs(name, offset, follow).await
    }

    async fn capacity(&self) -> Result<Option<Capacity>, DriverError> {
        self.inner.capacity().await
    }
}
