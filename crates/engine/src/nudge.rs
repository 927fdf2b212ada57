//! Nudges: wake a loop of this process early. They carry nothing and may be lost: timers come anyway.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use yard_domain::ClusterId;

/// The wake-up calls of one process.
#[derive(Debug, Clone, Default)]
pub struct Nudges {
    scheduler: Arc<Notify>,
    dispatchers: Arc<Mutex<HashMap<ClusterId, Arc<Notify>>>>,
}

impl Nudges {
    /// Something may be placeable now.
    pub fn scheduler(&self) {
        self.scheduler.notify_one();
    }

    /// Something is to be launched or stopped on this cluster.
    pub fn dispatcher(&self, cluster: &ClusterId) {
        self.of(cluster).notify_one();
    }

    /// Something may be to be stopped on any cluster.
    pub fn all_dispatchers(&self) {
        for notify in self.dispatchers.lock().unwrap_or_else(PoisonError::into_inner).values() {
            notify.notify_one();
        }
    }

    /// What the scheduler waits on.
    pub fn scheduler_signal(&self) -> Arc<Notify> {
        self.scheduler.clone()
    }

    /// What the dispatcher of a cluster waits on.
    pub fn of(&self, cluster: &ClusterId) -> Arc<Notify> {
        let mut map = self.dispatchers.lock().unwrap_or_else(PoisonError::into_inner);
        map.entry(cluster.clone()).or_default().clone()
    }
}
