//! The conformance suite on real processes.

#![expect(clippy::unwrap_used, reason = "test code fails by panicking, in its helpers too")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use yard_driver_process::{ProcessConfig, ProcessDriver, ShimCommand};
use yard_ports::Driver;
use yard_testkit::driver_suite::{self, Target};

struct Host {
    dir: tempfile::TempDir,
}

impl Target for Host {
    fn driver(&self) -> Arc<dyn Driver> {
        let shim = ShimCommand { program: env!("CARGO_BIN_EXE_yard-process-shim").into(), args: vec![] };
        let config = ProcessConfig {
            stop_grace: Duration::from_secs(3),
            ..ProcessConfig::new(self.dir.path().join("cluster"), shim)
        };
        Arc::new(ProcessDriver::new(config).unwrap())
    }

    fn scratch(&self) -> Option<PathBuf> {
        Some(self.dir.path().to_owned())
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(30)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    driver_suite::run(Arc::new(Host { dir: tempfile::tempdir().unwrap() }), 4).await;
}
