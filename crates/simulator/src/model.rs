//! What the world around the planner is like: how often it is asked, how long launches take, what fails.

use std::time::Duration;

use yard_domain::{ClusterId, RetryRules};

/// Everything about the simulated world that is neither catalog nor workload.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Breaks ties and draws failures and delays. The same seed, the same report.
    pub seed: u64,
    /// Shortest time between two placement passes.
    pub pass_interval: Duration,
    /// Most (team, shape) groups that a pass looks at: those whose first jobs come first.
    pub groups_max: usize,
    /// Most places in the queue that a pass sees of each group.
    pub depth: usize,
    /// Most placements of one pass.
    pub placements_max: u32,
    /// Shortest and longest time from a placement to the job's running, evenly spread.
    pub launch_delay: (Duration, Duration),
    /// The share of attempts that fail by their own fault, at some time during their run.
    pub user_failure_rate: f64,
    /// The share of attempts whose launch fails.
    pub launch_failure_rate: f64,
    /// From the wish that an attempt makes room to its end.
    pub preempt_grace: Duration,
    /// From the loss of a cluster until its attempts count as lost.
    pub lost_grace: Duration,
    /// How long what an autoscaler added may be idle before it is taken away.
    pub idle_after: Duration,
    /// Retries, as the installation allows them.
    pub retry: RetryRules,
    /// Most violations of rules that are told in words; all are counted.
    pub violations_max: usize,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            seed: 1,
            pass_interval: Duration::from_secs(1),
            groups_max: 1_000,
            depth: 200,
            placements_max: 1_000,
            launch_delay: (Duration::from_secs(2), Duration::from_secs(10)),
            user_failure_rate: 0.02,
            launch_failure_rate: 0.005,
            preempt_grace: Duration::from_secs(30),
            lost_grace: Duration::from_mins(10),
            idle_after: Duration::from_mins(10),
            retry: RetryRules::default(),
            violations_max: 20,
        }
    }
}

/// Something that happens to a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// How long after the first arrival.
    pub after: Duration,
    /// To which cluster.
    pub cluster: ClusterId,
    /// What.
    pub trouble: Trouble,
}

/// What may happen to a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// An operator drains it.
    Drain,
    /// An operator opens it again.
    Resume,
    /// It dies, with all that runs on it.
    Lost,
    /// It is there again, empty.
    Back,
}

impl Trouble {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Drain, Self::Resume, Self::Lost, Self::Back];

    /// The word for it in scenarios and reports.
    pub fn code(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Resume => "resume",
            Self::Lost => "lost",
            Self::Back => "back",
        }
    }

    /// Reads [`Trouble::code`] back.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.code() == code)
    }
}
