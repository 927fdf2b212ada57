//! What a plan is decided on.

use std::collections::HashMap;
use std::time::Duration;

use yard_domain::job::{Priority, QueueOrder};
use yard_domain::{
    AttemptNumber, Cluster, ClusterId, ClusterSelector, Cohort, JobId, QuotaTree, Request, Shape, Team,
    TeamId, Timestamp,
};

/// A team and what it has in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeamView {
    /// The team with its quota.
    pub team: Team,
    /// What its open attempts have been charged.
    pub used: Request,
    /// The mean of its past use, fading (see [`yard_domain::PastUse`]); nothing if the policy remembers none.
    pub past: Request,
}

/// A cluster and what is in use on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterView {
    /// The cluster with its capacity.
    pub cluster: Cluster,
    /// What its open attempts have been charged.
    pub used: Request,
}

/// Queued jobs of one team and shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Whose.
    pub team: TeamId,
    /// Which shape.
    pub shape: Shape,
    /// What each asks for.
    pub request: Request,
    /// Where they may run.
    pub clusters: ClusterSelector,
    /// Longest run of each: it makes room again by then.
    pub run_timeout: Duration,
    /// How long such a job usually runs, from history; at most the run timeout.
    pub expected_run: Duration,
    /// Places in the queue of those seen, in order: no more of the group are placed in one plan.
    pub orders: Vec<QueueOrder>,
}

/// An open attempt: what it holds, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Which job.
    pub job: JobId,
    /// Which attempt of it.
    pub attempt: AttemptNumber,
    /// Whose.
    pub team: TeamId,
    /// Its grouping key.
    pub shape: Shape,
    /// Where.
    pub cluster: ClusterId,
    /// What it is charged.
    pub request: Request,
    /// The job's priority.
    pub priority: Priority,
    /// Since when it runs; `None` while it is placed or launching, so that no work would be lost with it.
    pub started: Option<Timestamp>,
    /// By when it must have ended: its run timeout (from now, if it does not run yet).
    pub ends_by: Timestamp,
    /// When it will probably have ended, from history; at most `ends_by`.
    pub expected_end: Timestamp,
    /// Whether it has been asked to stop already, by a person or to make room.
    pub leaving: bool,
}

/// The parts of a snapshot, in any order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parts {
    /// Every team.
    pub teams: Vec<TeamView>,
    /// Every cohort.
    pub cohorts: Vec<Cohort>,
    /// Every cluster.
    pub clusters: Vec<ClusterView>,
    /// What waits and may be placed.
    pub groups: Vec<Group>,
    /// What is open. May be left out or be incomplete (it may have been read a little before the rest): reservations
    /// and preemptions are then fewer, and never wrong, because `used` counts what is in use.
    pub running: Vec<Running>,
}

/// Everything that a plan is decided on. Groups of teams that are not in `teams` are left out by
/// [`Snapshot::new`]: their jobs wait until the team is known again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Every team, by id.
    pub teams: Vec<TeamView>,
    /// Every cluster, by id.
    pub clusters: Vec<ClusterView>,
    /// What waits and may be placed, by team and shape.
    pub groups: Vec<Group>,
    /// What is open, by job.
    pub running: Vec<Running>,
    /// Every cohort, by id.
    pub cohorts: Vec<Cohort>,
    /// Teams (same indexes as `teams`) and cohorts with what they lend each other.
    pub quota: QuotaTree,
    team_of_group: Vec<usize>,
}

impl Snapshot {
    /// Puts a snapshot together. The order of the parts' elements does not matter: all are sorted.
    pub fn new(parts: Parts) -> Self {
        let Parts { mut teams, mut cohorts, mut clusters, mut groups, mut running } = parts;
        teams.sort_by(|a, b| a.team.id.cmp(&b.team.id));
        cohorts.sort_by(|a, b| a.id.cmp(&b.id));
        clusters.sort_by(|a, b| a.cluster.id.cmp(&b.cluster.id));
        running.sort_by_key(|r| r.job);
        let index: HashMap<TeamId, usize> =
            teams.iter().enumerate().map(|(i, t)| (t.team.id.clone(), i)).collect();
        groups.retain(|g| index.contains_key(&g.team) && !g.orders.is_empty());
        for group in &mut groups {
            group.orders.sort_unstable();
        }
        groups.sort_by(|a, b| (&a.team, a.shape).cmp(&(&b.team, b.shape)));
        let team_of_group = groups.iter().map(|g| index[&g.team]).collect();
        let declared: Vec<Team> = teams.iter().map(|t| t.team.clone()).collect();
        let quota = QuotaTree::new(&declared, &cohorts);
        Self { teams, clusters, groups, running, cohorts, quota, team_of_group }
    }

    /// The parts it was put together from, sorted: for asking what would be if one of them were different.
    pub fn into_parts(self) -> Parts {
        let Self { teams, clusters, groups, running, cohorts, .. } = self;
        Parts { teams, cohorts, clusters, groups, running }
    }

    /// The index in `teams` of a group's team.
    pub fn team_of(&self, group: usize) -> usize {
        self.team_of_group[group]
    }
}
