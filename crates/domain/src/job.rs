//! What was submitted: the parts of a job that never change.

use std::collections::BTreeMap;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::cluster::ClusterSelector;
use crate::ids::{JobId, Shape, TeamId};
use crate::ray_cluster::RayClusterShape;
use crate::ray_profiles::PodDemand;
use crate::resources::Request;
use crate::retry::RetryPolicy;

/// A job's priority inside its team: -1000 (last) to 1000 (first), 0 by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(i16);

impl Priority {
    /// The highest and, negated, the lowest.
    pub const MAX: i16 = 1_000;

    /// The lowest.
    pub const LOWEST: Self = Self(-Self::MAX);

    /// `None` if out of range.
    pub fn new(value: i64) -> Option<Self> {
        let value = i16::try_from(value).ok()?;
        (-Self::MAX..=Self::MAX).contains(&value).then_some(Self(value))
    }

    /// The number.
    pub fn get(self) -> i16 {
        self.0
    }
}

/// The place of a job in its team's queue as one growing number: priority first (higher is earlier), then
/// the time of acceptance. One integer, so that one index column orders the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueOrder(pub i64);

impl QueueOrder {
    /// Bits left for the time: 2^52 µs reach to the year 2112.
    const TIME_BITS: u32 = 52;

    /// The place of a job of `priority` accepted at `at_micros`.
    pub fn new(priority: Priority, at_micros: i64) -> Self {
        let rank = i64::from(Priority::MAX) - i64::from(priority.get());
        Self((rank << Self::TIME_BITS) | at_micros.clamp(0, (1 << Self::TIME_BITS) - 1))
    }

    /// The time of acceptance in it, in microseconds since the epoch.
    pub fn accepted_at_micros(self) -> i64 {
        self.0 & ((1 << Self::TIME_BITS) - 1)
    }

    /// The priority in it.
    pub fn priority(self) -> Priority {
        let rank = i16::try_from(self.0 >> Self::TIME_BITS).unwrap_or(Priority::MAX);
        Priority(Priority::MAX.saturating_sub(rank))
    }
}

/// The clocks of a job, with the installation's defaults filled in: there is always one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Longest wait in the queue, from acceptance or from the end of the attempt before.
    pub queue: Duration,
    /// Longest run of one attempt.
    pub run: Duration,
}

/// What a job is to do and under which rules.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSpec {
    /// For people.
    pub name: String,
    /// The shell command to run.
    pub entrypoint: String,
    /// Ray's runtime environment, as given.
    pub runtime_env: serde_json::Map<String, serde_json::Value>,
    /// What it is charged and what the cluster must have free.
    pub request: Request,
    /// The Ray cluster that it wants to itself, where clusters are made per job.
    pub ray_cluster: Option<RayClusterShape>,
    /// Its place inside the team's queue.
    pub priority: Priority,
    /// Where it may run.
    pub clusters: ClusterSelector,
    /// Its retries.
    pub retry: RetryPolicy,
    /// Its clocks.
    pub timeouts: Timeouts,
    /// The producer's own notes, handed to the cluster.
    pub metadata: BTreeMap<String, String>,
}

impl JobSpec {
    /// The grouping key of request, selector and run timeout, see [`Shape`].
    pub fn shape(&self) -> Shape {
        shape_of(&self.request, &self.clusters, self.timeouts.run)
    }
}

/// The grouping key of what placing a job depends on: the first 64 bits of a SHA-256 over request, selector and
/// run timeout (which bounds when it makes room again).
pub fn shape_of(request: &Request, clusters: &ClusterSelector, run_timeout: Duration) -> Shape {
    let mut hash = Sha256::new();
    let mut field = |tag: &str, value: &str| {
        // Length-prefixed, so that no two different lists of fields read the same.
        hash.update(format!("{}:{tag}{}:{value}", tag.len(), value.len()));
    };
    for (name, amount) in request.amounts() {
        field(name, &amount.to_string());
    }
    for cluster in &clusters.only {
        field("only", cluster.as_str());
    }
    for cluster in &clusters.avoid {
        field("avoid", cluster.as_str());
    }
    for (label, value) in &clusters.labels {
        field("label", label);
        field("value", value);
    }
    if let Some(driver) = &clusters.driver {
        field("driver", driver);
    }
    if let Some(pods) = &clusters.pods {
        pods_in(pods, &mut field);
    }
    for (label, value) in &clusters.prefer {
        field("prefer", label);
        field("value", value);
    }
    field("run", &run_timeout.as_micros().to_string());
    let digest = hash.finalize();
    let mut head = [0u8; 8];
    head.copy_from_slice(&digest[..8]);
    Shape(i64::from_be_bytes(head))
}

/// What is asked of a Ray cluster of the job's own.
fn pods_in(pods: &PodDemand, field: &mut impl FnMut(&str, &str)) {
    let PodDemand { profile, sets, uploads, workers } = pods;
    if let Some(profile) = profile {
        field("profile", profile);
    }
    for set in sets {
        field("sets", set.name());
    }
    if *uploads {
        field("uploads", "");
    }
    let Some(workers) = workers else { return };
    field("workers", &format!("{}-{}", workers.min, workers.max));
    for (name, amount) in workers.each.amounts() {
        field("each", name);
        field("amount", &amount.to_string());
    }
    if let Some(kind) = &workers.gpu_type {
        field("gpu_type", kind);
    }
}

/// A valid submission on its way into the store.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    /// The id it gets if its key is new.
    pub id: JobId,
    /// Who is charged.
    pub team: TeamId,
    /// The producer's key, unique for ever within the team.
    pub key: String,
    /// SHA-256 of the canonical document *as given*, before defaults: tells 'the same again' from a conflict
    /// even after the installation's defaults have changed.
    pub body_hash: [u8; 32],
    /// What it is to do.
    pub spec: JobSpec,
    /// The canonical document as stored (see the wire crate).
    pub document: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_order_puts_priority_before_age() {
        let order = |p, t| QueueOrder::new(Priority::new(p).unwrap(), t);
        let now = 1_795_386_645_000_000;
        assert!(order(1, now + 5) < order(0, now));
        assert!(order(0, now) < order(0, now + 1));
        assert!(order(1_000, now) < order(-1_000, 0));
        let o = order(-7, now);
        assert_eq!((o.priority().get(), o.accepted_at_micros()), (-7, now));
        assert!(Priority::new(1_001).is_none());
    }

    #[test]
    fn shapes_differ_by_what_placing_depends_on() {
        let request = Request { cpu_milli: 1, jobs: 1, ..Request::default() };
        let base = shape_of(&request, &ClusterSelector::default(), Duration::ZERO);
        let more = Request { cpu_milli: 2, ..request.clone() };
        assert_ne!(base, shape_of(&more, &ClusterSelector::default(), Duration::ZERO));
        let east = ClusterSelector { only: ["east".parse().unwrap()].into(), ..ClusterSelector::default() };
        assert_ne!(base, shape_of(&request, &east, Duration::ZERO));
        assert_ne!(base, shape_of(&request, &ClusterSelector::default(), Duration::from_secs(1)));
        let pods = |profile: &str| PodDemand { profile: Some(profile.to_owned()), ..PodDemand::default() };
        let own =
            |pods: PodDemand| ClusterSelector { pods: Some(Box::new(pods)), ..ClusterSelector::default() };
        let of_pods = [own(pods("a")), own(pods("b")), own(PodDemand { uploads: true, ..pods("a") })]
            .map(|selector| shape_of(&request, &selector, Duration::ZERO));
        assert!(of_pods[0] != of_pods[1] && of_pods[0] != of_pods[2] && !of_pods.contains(&base));
        assert_eq!(base, shape_of(&request.clone(), &ClusterSelector::default(), Duration::ZERO));
    }
}
