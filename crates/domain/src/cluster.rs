//! Clusters: where jobs run, what they have, and whether they take new ones.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ids::ClusterId;
use crate::resources::Capacity;
use crate::time::Timestamp;

/// Which clusters a job may run on. An empty selector is every cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ClusterSelector {
    /// Only these clusters, unless empty.
    pub only: BTreeSet<ClusterId>,
    /// Not these clusters.
    pub avoid: BTreeSet<ClusterId>,
    /// Only clusters that have every one of these labels with this value.
    pub labels: BTreeMap<String, String>,
    /// Only clusters that are driven by a driver of this kind: the others could not do what the job says.
    pub driver: Option<String>,
    /// Rather clusters that have these labels with this value: a score, not a rule.
    pub prefer: BTreeMap<String, String>,
}

impl ClusterSelector {
    /// Whether `cluster` is among those selected.
    pub fn admits(&self, cluster: &Cluster) -> bool {
        !self.avoid.contains(&cluster.id)
            && (self.only.is_empty() || self.only.contains(&cluster.id))
            && self.driver.as_ref().is_none_or(|driver| *driver == cluster.driver)
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
    /// It answers, and what runs goes on, but it can't begin anything now; its message says why.
    NotReady,
    /// It does not answer; its jobs stay as they are until their grace ends.
    Unreachable,
}

impl ClusterHealth {
    /// The stable code stored and shown.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ready => "ready",
            Self::NotReady => "not_ready",
            Self::Unreachable => "unreachable",
        }
    }

    /// Reads [`ClusterHealth::code`] back.
    pub fn from_code(code: &str) -> Option<Self> {
        [Self::Unknown, Self::Ready, Self::NotReady, Self::Unreachable].into_iter().find(|s| s.code() == code)
    }

    /// Whether it was heard of when it was last asked.
    pub fn answers(self) -> bool {
        matches!(self, Self::Ready | Self::NotReady)
    }
}

/// A cluster as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Which one.
    pub id: ClusterId,
    /// The driver's kind, `ray`, `process` or `kuberay`.
    pub driver: String,
    /// What selectors match on.
    pub labels: BTreeMap<String, String>,
    /// What may be used of it: declared, as last observed, or (elastic) the ceiling that its autoscaler may reach.
    /// `None` until it is known.
    pub capacity: Option<Capacity>,
    /// Set if an autoscaler grows it up to `capacity`.
    pub elastic: Option<Elastic>,
    /// What it costs per hour when used whole, in millionths of the installation's currency.
    pub cost_per_hour_micro: Option<u64>,
    /// An operator's word.
    pub switch: ClusterSwitch,
    /// What its dispatcher last found.
    pub health: ClusterHealth,
    /// When it last answered.
    pub last_seen: Option<Timestamp>,
    /// Whether its dispatcher holds launches back because calls keep failing.
    pub breaker_open: bool,
    /// Launches that failed lately, as its dispatcher counts them (decaying).
    pub recent_failures: u32,
    /// Whether it stands in the configuration; one that was taken out keeps its row until its jobs ended.
    pub configured: bool,
    /// What went wrong last, for people.
    pub message: Option<String>,
}

/// What an autoscaler makes of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elastic {
    /// What is there now, as last observed; `None` until it has been.
    pub present: Option<Capacity>,
    /// How long the autoscaler usually takes to add what is missing.
    pub delay: Duration,
}

impl Cluster {
    /// A cluster of which only its name and the kind of its driver are known: open, not seen yet.
    pub fn new(id: ClusterId, driver: impl Into<String>) -> Self {
        Self {
            id,
            driver: driver.into(),
            labels: BTreeMap::new(),
            capacity: None,
            elastic: None,
            cost_per_hour_micro: None,
            switch: ClusterSwitch::Open,
            health: ClusterHealth::Unknown,
            last_seen: None,
            breaker_open: false,
            recent_failures: 0,
            configured: true,
            message: None,
        }
    }

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
    /// What it has, if it could be read.
    pub capacity: Option<Capacity>,
    /// Whether launches are held back because calls keep failing.
    pub breaker_open: bool,
    /// Launches that failed lately (decaying).
    pub recent_failures: u32,
    /// What went wrong, for people.
    pub message: Option<String>,
}
