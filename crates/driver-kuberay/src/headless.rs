//! Which RayJobs have no head to be asked yet, as the watch shows them. Thousands may wait, and their logs are looked for
//! again and again: without a call as long as this is known.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use yard_domain::RemoteName;

use crate::facts::RayJob;
use crate::status::status;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Headless(Mutex<HashSet<RemoteName>>);

impl Headless {
    /// Takes in what the watch shows.
    pub(crate) fn watched(&self, job: &RayJob) {
        let Some(name) = job.name() else { return };
        if may_have_log(job) {
            self.lock().remove(&name);
        } else {
            self.lock().insert(name);
        }
    }

    /// Takes in what was read beside the watch, which may be behind: it is kept to what the watch will correct.
    pub(crate) fn read(&self, job: &RayJob) {
        if may_have_log(job)
            && let Some(name) = job.name()
        {
            self.lock().remove(&name);
        }
    }

    /// Takes out one that is gone.
    pub(crate) fn remove(&self, name: &RemoteName) {
        self.lock().remove(name);
    }

    /// Takes out those that a whole list did not have.
    pub(crate) fn keep(&self, listed: &HashSet<RemoteName>) {
        self.lock().retain(|name| listed.contains(name));
    }

    /// Nothing is known any more: the watch has ended.
    pub(crate) fn clear(&self) {
        *self.lock() = HashSet::new();
    }

    /// Whether this one is known to have none.
    pub(crate) fn has(&self, name: &RemoteName) -> bool {
        self.lock().contains(name)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<RemoteName>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn may_have_log(job: &RayJob) -> bool {
    job.dashboard().is_some() || status(job).is_end()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(number: u8, deployment: &str, job_status: &str, dashboard: &str) -> RayJob {
        serde_json::from_value(json!({
            "metadata": {"name": format!("yard-0000000000000000000000000000000{number}-1")},
            "status": {"jobDeploymentStatus": deployment, "jobStatus": job_status, "dashboardURL": dashboard},
        }))
        .unwrap()
    }

    #[test]
    fn what_waits_for_its_head_is_known_until_it_has_one_or_has_ended_or_the_watch_is_gone() {
        let known = Headless::default();
        let waiting = [1, 2, 3, 4].map(|n| job(n, "Initializing", "", ""));
        let names = waiting.each_ref().map(|job| job.name().unwrap());
        let has = || names.each_ref().map(|name| known.has(name));
        known.read(&waiting[0]);
        assert_eq!(has(), [false; 4], "only a watch would take it out again");
        for job in &waiting {
            known.watched(job);
        }
        assert_eq!(has(), [true; 4]);
        known.watched(&job(1, "Running", "RUNNING", "head-svc.ray.svc:8265"));
        known.read(&job(2, "Complete", "SUCCEEDED", ""));
        assert_eq!(has(), [false, false, true, true]);
        known.keep(&names[2..3].iter().cloned().collect());
        assert_eq!(has(), [false, false, true, false]);
        known.clear();
        assert_eq!(has(), [false; 4]);
    }
}
