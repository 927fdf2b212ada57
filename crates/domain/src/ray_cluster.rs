//! What Ray cluster a job wants to itself, on clusters that make one for each job.

use std::collections::BTreeMap;

use crate::resources::Request;

/// The Ray cluster that a job gets for itself where clusters are made per job. What it is charged does not depend on
/// the shape: the head gets what the workers (and what submits the job) leave of the charge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RayClusterShape {
    /// One of the cluster's named profiles; `None` is its default.
    pub profile: Option<String>,
    /// The container image, in place of the profile's.
    pub image: Option<String>,
    /// Environment variables of every container, beside the profile's.
    pub env: BTreeMap<String, String>,
    /// What the head was said to get; its `jobs` is 0.
    pub head: Option<Request>,
    /// Its workers; `None` is a head alone.
    pub workers: Option<WorkerShape>,
}

/// The workers of a [`RayClusterShape`]: all alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WorkerShape {
    /// At least as many; equal to `max` unless Ray's autoscaler adds and removes some.
    pub min: u32,
    /// At most as many, above 0. All of them are charged.
    pub max: u32,
    /// What each asks for; its `jobs` is 0.
    pub each: Request,
    /// The kind of GPU, as the cluster's profiles know it.
    pub gpu_type: Option<String>,
}

impl WorkerShape {
    /// Whether Ray's autoscaler adds and removes some.
    pub fn is_elastic(&self) -> bool {
        self.min < self.max
    }

    /// What all of them ask for together, when there are most.
    pub fn total(&self) -> Request {
        let times = |amount: u64| amount.saturating_mul(u64::from(self.max));
        Request {
            cpu_milli: times(self.each.cpu_milli),
            gpu_milli: times(self.each.gpu_milli),
            memory_bytes: times(self.each.memory_bytes),
            jobs: 0,
            custom_milli: self.each.custom_milli.iter().map(|(name, m)| (name.clone(), times(*m))).collect(),
        }
    }
}

impl RayClusterShape {
    /// The kind of the one driver that can honour it; `None` if any can run the job, each in its own way.
    pub fn driver(&self) -> Option<&'static str> {
        (self.profile.is_some() || self.image.is_some()).then_some("kuberay")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_workers_are_counted_and_only_a_profile_or_image_needs_a_driver() {
        let each = Request {
            cpu_milli: 1_500,
            gpu_milli: 1_000,
            memory_bytes: 3,
            jobs: 0,
            custom_milli: BTreeMap::from([("x".to_owned(), 2)]),
        };
        let workers = WorkerShape { min: 0, max: 3, each, gpu_type: None };
        let total = workers.total();
        assert_eq!(
            (total.cpu_milli, total.gpu_milli, total.memory_bytes, total.jobs, total.custom_milli["x"]),
            (4_500, 3_000, 9, 0, 6)
        );
        let plain = RayClusterShape { workers: Some(workers), ..RayClusterShape::default() };
        assert_eq!(plain.driver(), None);
        let image = RayClusterShape { image: Some("r/ray:2".to_owned()), ..plain.clone() };
        let profile = RayClusterShape { profile: Some("gpu".to_owned()), ..plain };
        assert_eq!((image.driver(), profile.driver()), (Some("kuberay"), Some("kuberay")));
    }
}
