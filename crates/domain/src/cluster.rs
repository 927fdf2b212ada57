//! Clusters: where jobs run, what they have, and whether they take new ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::ids::ClusterId;
use crate::ray_profiles::{Block, GpuBlocks, PodDemand, PodFault, RayProfiles, gpus_of_one_pod};
use crate::resources::{Capacity, Request};
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
    /// What it asks of the Ray cluster that is made for it, where one is: only clusters that can make it. `None` is a head
    /// alone.
    pub pods: Option<Box<PodDemand>>,
    /// Rather clusters that have these labels with this value: a score, not a rule.
    pub prefer: BTreeMap<String, String>,
}

impl ClusterSelector {
    /// Whether `cluster` is among those selected. Whether it could make a job's Ray cluster depends on the charge too:
    /// [`ClusterSelector::unmade`].
    pub fn admits(&self, cluster: &Cluster) -> bool {
        !self.avoid.contains(&cluster.id)
            && (self.only.is_empty() || self.only.contains(&cluster.id))
            && self.driver.as_ref().is_none_or(|driver| *driver == cluster.driver)
            && self.labels.iter().all(|(k, v)| cluster.labels.get(k) == Some(v))
    }

    /// Everything for which `cluster` could never make the Ray cluster of a job of this charge; nothing where none is
    /// made, or where it is not known yet what can be.
    pub fn unmade(&self, cluster: &Cluster, charge: &Request) -> Vec<PodFault> {
        let Some(profiles) = &cluster.ray_profiles else { return Vec::new() };
        profiles.cut(self.pods.as_deref(), charge).err().unwrap_or_default()
    }

    /// What of that stands against it whatever the job is charged.
    pub fn misnamed(&self, cluster: &Cluster) -> Vec<PodFault> {
        cluster
            .ray_profiles
            .as_ref()
            .map_or_else(Vec::new, |profiles| profiles.misnamed(self.pods.as_deref()))
    }

    /// The most GPUs that one pod of a job of this charge must have on `cluster`, with how its GPUs lie on nodes (all kinds
    /// together); `None` if that is not known, or does not bind: an autoscaler may bring nodes that are not there yet.
    pub fn block(&self, cluster: &Cluster, charge: &Request) -> Option<Block> {
        if charge.gpu_milli == 0 || cluster.gpu_blocks.is_empty() || cluster.elastic.is_some() {
            return None;
        }
        let asked = gpus_of_one_pod(self.pods.as_deref(), charge);
        Some(Block { asked, there: GpuBlocks::together(&cluster.gpu_blocks) })
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
    /// What Ray clusters it can make for jobs, as its dispatcher's driver has it; `None` where none are made, or until its
    /// dispatcher has told.
    pub ray_profiles: Option<Arc<RayProfiles>>,
    /// How its GPUs lie on nodes, by kind, as last observed; empty where that is not watched.
    pub gpu_blocks: Vec<GpuBlocks>,
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
            ray_profiles: None,
            gpu_blocks: Vec::new(),
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
    /// What Ray clusters its driver can make for jobs; `None` if it makes none.
    pub ray_profiles: Option<Arc<RayProfiles>>,
    /// How its GPUs lie on nodes, by kind; `None` if that has not been read yet.
    pub gpu_blocks: Option<Vec<GpuBlocks>>,
}
