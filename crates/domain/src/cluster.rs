//! Clusters: where jobs run, what they have, and whether they take new ones.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::ClusterId;
use crate::resources::Capacity;
use crate::time::Timestamp;

/// Which clusters a job may run on. An empty selector is every cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ClusterSelector {
    /// Only these clusters, unless empty.
    pub only: BTreeSet<ClusterId>,
    /// Only clusters that have every one of these labels with this value.
    pub labels: BTreeMap<String, String>,
}

impl ClusterSelector {
    /// Whether `cluster` is among those selected.
    pub fn admits(&self, cluster: &Cluster) -> bool {
        (self.only.is_empty() || self.only.contains(&cluster.id))
            && self.labels.iter().all(|(k, v)| cluster.labels.get(k) == Some(v))
    }
}

/// An operator's word on whether a cluster takes new jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClusterSwitch {
    /// Takes new jobs.
    Open,
    /// Takes no new jobs; those it has run to their end.
    Drained,
}

impl ClusterSwitch {
    /// The stable code stored and shown.
    pub fn code(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Drained => "drained",
        }
    }

    /// Reads [`ClusterSwitch::code`] back.
    pub fn from_code(code: &str) -> Option<Self> {
        [Self::Open, Self::Drained].into_iter().find(|s| s.code() == code)
    }
}

/// What the cluster's dispatcher last found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClusterHealth {
    /// Nobody has looked yet.
    Unknown,
    /// It answers.
    Ready,
    /// It does not answer; its jobs stay as they are until their grace ends.
    Unreachable,
}

impl ClusterHealth {
    /// The stable code stored and shown.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ready => "ready",
            Self::Unreachable => "unreachable",
        }
    }

    /// Reads [`ClusterHealth::code`] back.
    pub fn from_code(code: &str) -> Option<Self> {
        [Self::Unknown, Self::Ready, Self::Unreachable].into_iter().find(|s| s.code() == code)
    }
}

/// A cluster as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Which one.
    pub id: ClusterId,
    /// The driver's kind, for people: `ray`, `process`.
    pub driver: String,
    /// What selectors match on.
    pub labels: BTreeMap<String, String>,
    /// What it has: declared, or as last observed. `None` until either is known.
    pub capacity: Option<Capacity>,
    /// An operator's word.
    pub switch: ClusterSwitch,
    /// What its dispatcher last found.
    pub health: ClusterHealth,
    /// When it last answered.
    pub last_seen: Option<Timestamp>,
    /// Whether it stands in the configuration; one that was taken out keeps its row until its jobs ended.
    pub configured: bool,
    /// What went wrong last, for people.
    pub message: Option<String>,
}

impl Cluster {
    /// Whether new jobs may be placed on it.
    pub fn takes_jobs(&self) -> bool {
        self.configured && self.switch == ClusterSwitch::Open && self.health == ClusterHealth::Ready
    }
}

/// What a dispatcher tells the store about its cluster, now and then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterReport {
    /// Which one.
    pub cluster: ClusterId,
    /// Whether it answered.
    pub health: ClusterHealth,
    /// What it has, if it could be read or is declared.
    pub capacity: Option<Capacity>,
    /// What went wrong, for people.
    pub message: Option<String>,
}
