//! What a plan is decided on.

use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use yard_domain::job::{Priority, QueueOrder};
use yard_domain::{
    AttemptNumber, Cluster, ClusterId, ClusterSelector, Cohort, JobId, QuotaTree, Request, Shape, Team,
    TeamId, Timestamp,
};

use crate::dense::Dense;

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

/// Everything that a plan is decided on, sorted. Read through [`Snapshot`].
pub struct Facts {
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
    /// The same as numbers, for the planner.
    pub(crate) dense: Dense,
}

/// Everything that a plan is decided on: an immutable, shared [`Facts`], so that a clone costs nothing and what was
/// derived from the parts always fits them. To ask what would be if a part were different, take the parts
/// ([`Snapshot::into_parts`]), change them, and put them together again.
///
/// Groups of teams that are not in `teams` are left out by [`Snapshot::new`]: their jobs wait until the team is known
/// again.
#[derive(Clone)]
pub struct Snapshot(Arc<Facts>);

impl Deref for Snapshot {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.0
    }
}

impl Snapshot {
    /// Puts a snapshot together. The order of the parts' elements does not matter: all are sorted.
    pub fn new(parts: Parts) -> Self {
        let Parts { mut teams, mut cohorts, mut clusters, groups, mut running } = parts;
        teams.sort_by(|a, b| a.team.id.cmp(&b.team.id));
        cohorts.sort_by(|a, b| a.id.cmp(&b.id));
        clusters.sort_by(|a, b| a.cluster.id.cmp(&b.cluster.id));
        running.sort_unstable_by_key(|r| (r.job, r.attempt));
        let (groups, team_of_group) = sorted(groups, &teams);
        let declared: Vec<Team> = teams.iter().map(|t| t.team.clone()).collect();
        let quota = QuotaTree::new(&declared, &cohorts);
        let dense = Dense::new(&teams, &clusters, &groups, team_of_group, &running, &quota);
        Self(Arc::new(Facts { teams, clusters, groups, running, cohorts, quota, dense }))
    }

    /// The parts it was put together from, sorted: for asking what would be if one of them were different.
    pub fn into_parts(self) -> Parts {
        match Arc::try_unwrap(self.0) {
            Ok(Facts { teams, clusters, groups, running, cohorts, .. }) => {
                Parts { teams, cohorts, clusters, groups, running }
            }
            Err(shared) => Parts {
                teams: shared.teams.clone(),
                cohorts: shared.cohorts.clone(),
                clusters: shared.clusters.clone(),
                groups: shared.groups.clone(),
                running: shared.running.clone(),
            },
        }
    }

    /// The index in `teams` of a group's team.
    pub fn team_of(&self, group: usize) -> usize {
        self.dense.group_team[group] as usize
    }

    /// Whether both are the very same facts, or equal ones.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.dense.same_groups(&other.dense)
                && self.teams == other.teams
                && self.clusters == other.clusters
                && self.cohorts == other.cohorts
                && self.running == other.running)
    }
}

/// Groups by team and shape, with the indexes of their teams. Teams are looked up once and compared as numbers.
fn sorted(mut groups: Vec<Group>, teams: &[TeamView]) -> (Vec<Group>, Vec<u32>) {
    let index: HashMap<&str, u32> = teams.iter().zip(0u32..).map(|(t, i)| (t.team.id.as_str(), i)).collect();
    groups.retain(|g| index.contains_key(g.team.as_str()) && !g.orders.is_empty());
    let mut keys: Vec<(u32, i64, usize)> = Vec::with_capacity(groups.len());
    for (at, group) in groups.iter_mut().enumerate() {
        group.orders.sort_unstable();
        keys.push((index[group.team.as_str()], group.shape.0, at));
    }
    if !keys.is_sorted() {
        keys.sort_unstable();
        let mut taken: Vec<Option<Group>> = groups.into_iter().map(Some).collect();
        groups = keys.iter().filter_map(|(_, _, at)| taken[*at].take()).collect();
    }
    (groups, keys.iter().map(|(team, _, _)| *team).collect())
}

impl Default for Snapshot {
    /// Nothing at all.
    fn default() -> Self {
        Self::new(Parts::default())
    }
}

impl PartialEq for Snapshot {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.teams == other.teams
                && self.cohorts == other.cohorts
                && self.clusters == other.clusters
                && self.groups == other.groups
                && self.running == other.running)
    }
}

impl Eq for Snapshot {}

impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Facts")
            .field("teams", &self.teams)
            .field("cohorts", &self.cohorts)
            .field("clusters", &self.clusters)
            .field("groups", &self.groups)
            .field("running", &self.running)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
