//! What is simulated: teams, clusters and jobs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use yard_domain::job::{Priority, QueueOrder};
use yard_domain::{Cluster, ClusterHealth, JobId, Lifecycle, PastUse, Policy, Request, Team, Timestamp};

/// A team, what it uses and what waits of it.
#[derive(Debug)]
pub(crate) struct TeamState {
    pub(crate) team: Team,
    pub(crate) used: Request,
    pub(crate) past: Option<PastUse>,
    /// What its waiting jobs ask for together.
    pub(crate) wanted: Request,
    /// Its jobs that may be placed, by their place in the queue, then by index; each since when it waits.
    pub(crate) waiting: BTreeMap<(QueueOrder, u32), Timestamp>,
}

impl TeamState {
    pub(super) fn new(team: Team, policy: &Policy, start: Timestamp) -> Self {
        Self {
            team,
            used: Request::default(),
            past: policy.half_life.map(|half_life| PastUse::new(half_life, start)),
            wanted: Request::default(),
            waiting: BTreeMap::new(),
        }
    }

    /// Counts what was in use up to now; before `used` changes, and before a pass.
    pub(super) fn count_past(&mut self, now: Timestamp) {
        if let Some(past) = &mut self.past {
            past.advance(&self.used, now);
        }
    }

    /// The first of its jobs that may be placed: since when it waits.
    pub(crate) fn head_waits_since(&self) -> Option<Timestamp> {
        self.waiting.first_key_value().map(|(_, since)| *since)
    }
}

/// A cluster and what runs on it.
#[derive(Debug)]
pub(crate) struct ClusterState {
    pub(crate) cluster: Cluster,
    pub(crate) used: Request,
    /// Jobs with an open attempt on it.
    pub(super) open: BTreeSet<u32>,
    /// Set while it is dead: nothing that was on it lives.
    pub(super) dead: bool,
    /// How often it has died.
    pub(super) deaths: u32,
    pub(super) scaling: Option<super::autoscaler::Scaling>,
}

impl ClusterState {
    pub(super) fn new(mut cluster: Cluster) -> Self {
        cluster.health = ClusterHealth::Ready;
        let scaling = cluster.elastic.as_ref().map(super::autoscaler::Scaling::new);
        let used = Request::default();
        Self { cluster, used, open: BTreeSet::new(), dead: false, deaths: 0, scaling }
    }

    /// What is there now: of an elastic cluster what its autoscaler has added so far.
    pub(crate) fn present(&self) -> Request {
        let whole = || self.cluster.capacity.as_ref().map(|c| c.0.clone()).unwrap_or_default();
        self.scaling.as_ref().map_or_else(whole, |s| s.present.clone())
    }
}

/// A job that has arrived and not ended.
#[derive(Debug)]
pub(crate) struct Job {
    pub(super) life: Lifecycle,
    pub(super) team: usize,
    pub(super) group: usize,
    pub(super) class: usize,
    pub(super) order: QueueOrder,
    pub(super) priority: Priority,
    pub(super) accepted_at: Timestamp,
    pub(super) run: Duration,
    /// Where its open attempt is.
    pub(super) cluster: usize,
    /// Since when its open attempt runs.
    pub(super) started: Option<Timestamp>,
}

/// The id of the job of this index: ids sort by arrival, and say the index.
pub(super) fn job_id(at: Timestamp, index: u32) -> JobId {
    let mut bytes = [0; 10];
    bytes[6..].copy_from_slice(&index.to_be_bytes());
    JobId::new(u64::try_from(at.as_micros() / 1_000).unwrap_or(0), bytes)
}

/// The index in a [`job_id`].
pub(super) fn job_index(id: JobId) -> u32 {
    let bytes = id.0.as_bytes();
    u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]])
}

/// Every job that has arrived, by index; `None` once it has ended or was turned away.
#[derive(Debug, Default)]
pub(super) struct Jobs(pub(super) Vec<Option<Box<Job>>>);

impl Jobs {
    pub(super) fn get(&self, index: u32) -> Option<&Job> {
        self.0.get(index as usize)?.as_deref()
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Job> {
        self.0.get_mut(index as usize)?.as_deref_mut()
    }

    pub(super) fn remove(&mut self, index: u32) {
        if let Some(slot) = self.0.get_mut(index as usize) {
            *slot = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_its_index_and_ids_sort_by_arrival() {
        let at = Timestamp::from_micros(1_795_386_645_000_000);
        for index in [0, 1, 255, 65_536, u32::MAX] {
            assert_eq!(job_index(job_id(at, index)), index);
        }
        assert!(job_id(at, 1) < job_id(at, 2));
        assert!(job_id(at, 9) < job_id(at.plus(Duration::from_secs(1)), 1));
    }
}
