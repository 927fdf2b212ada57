//! How placement decides: declared with the teams, kept in the store, the same for every scheduler.

use std::time::Duration;

use crate::ids::ClassId;
use crate::job::Priority;

/// Everything about placement that is a choice. See docs/placement.md.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Most placements in one plan.
    pub placements_max: u32,
    /// After this long, past use counts half in the order between teams; `None`: only what is in use now counts.
    pub half_life: Option<Duration>,
    /// How a cluster is chosen among those that have room.
    pub scores: Scores,
    /// Most heads of teams that hold a reservation at once; 0: none, and wide jobs may starve.
    pub reservations_max: u32,
    /// When jobs are stopped to make room for others.
    pub preemption: Preemption,
    /// The priority classes, highest first; never empty.
    pub classes: Vec<PriorityClass>,
}

/// Whether jobs are spread over clusters or packed onto as few as possible.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fit {
    /// The least used one: keeps wide jobs waiting longest, but loses least with one cluster.
    #[default]
    Spread,
    /// The fullest one that still has room: keeps room together for wide jobs.
    Pack,
}

impl Fit {
    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Spread => "spread",
            Self::Pack => "pack",
        }
    }

    /// Reads [`Fit::code`] back.
    pub fn from_code(code: &str) -> Option<Self> {
        [Self::Spread, Self::Pack].into_iter().find(|f| f.code() == code)
    }
}

/// What makes one cluster better than another, each with its weight (0: does not count). Every part is scaled to the
/// same range before it is weighed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scores {
    /// Which way fullness counts.
    pub fit: Fit,
    /// The weight of fullness.
    pub fit_weight: u32,
    /// The weight of the cost per hour.
    pub cost_weight: u32,
    /// The weight of the labels that the job prefers.
    pub locality_weight: u32,
    /// The weight of launches that failed lately.
    pub failures_weight: u32,
    /// The weight of jobs placed there and not running yet, and of an autoscaler's delay.
    pub queue_weight: u32,
}

impl Default for Scores {
    fn default() -> Self {
        Self {
            fit: Fit::Spread,
            fit_weight: 10,
            cost_weight: 5,
            locality_weight: 20,
            failures_weight: 10,
            queue_weight: 5,
        }
    }
}

/// When jobs are stopped to make room for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preemption {
    /// Whether borrowers are stopped when a team of their cohort wants its nominal share back.
    pub reclaim: bool,
    /// Whether a team's own lower classes are stopped for its higher ones.
    pub within_team: bool,
    /// Most jobs stopped by one plan.
    pub victims_max: u32,
}

impl Default for Preemption {
    fn default() -> Self {
        Self { reclaim: true, within_team: true, victims_max: 100 }
    }
}

/// A band of priorities under a name: every job of at least its priority, up to the next class's, belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriorityClass {
    /// Its name.
    pub id: ClassId,
    /// The lowest priority in it, and that of a job which names the class.
    pub priority: Priority,
    /// Whether jobs may be stopped for its jobs.
    pub preempts: bool,
    /// Whether its jobs may be stopped for others.
    pub preemptible: bool,
}

impl Default for Policy {
    /// One class of everything that neither preempts nor is preempted.
    fn default() -> Self {
        Self {
            placements_max: 1_000,
            half_life: None,
            scores: Scores::default(),
            reservations_max: 16,
            preemption: Preemption::default(),
            classes: vec![PriorityClass {
                id: ClassId::of_default(),
                priority: Priority::LOWEST,
                preempts: false,
                preemptible: false,
            }],
        }
    }
}

impl Policy {
    /// The class that a priority falls into: an index into `classes`, where a smaller one is a higher class. What lies
    /// below the lowest class belongs to it as well.
    pub fn class_of(&self, priority: Priority) -> usize {
        let last = self.classes.len().saturating_sub(1);
        self.classes.iter().position(|c| priority >= c.priority).unwrap_or(last)
    }

    /// The class of this name.
    pub fn class(&self, id: &ClassId) -> Option<&PriorityClass> {
        self.classes.iter().find(|c| c.id == *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_a_band_of_priorities() {
        let class = |id: &str, priority| PriorityClass {
            id: id.parse().unwrap(),
            priority: Priority::new(priority).unwrap(),
            preempts: true,
            preemptible: true,
        };
        let policy = Policy { classes: vec![class("high", 100), class("normal", 0)], ..Policy::default() };
        let of = |p| policy.classes[policy.class_of(Priority::new(p).unwrap())].id.to_string();
        assert_eq!([1_000, 100, 99, 0, -5].map(of), ["high", "high", "normal", "normal", "normal"]);
        assert_eq!(Policy::default().class_of(Priority::default()), 0);
    }
}
