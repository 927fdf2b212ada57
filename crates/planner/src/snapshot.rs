//! What a plan is decided on.

use std::collections::HashMap;

use yard_domain::job::QueueOrder;
use yard_domain::{Cluster, ClusterSelector, Request, Shape, Team, TeamId};

/// A team and what it has in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeamView {
    /// The team with its quota.
    pub team: Team,
    /// What its open attempts have been charged.
    pub used: Request,
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
    /// Places in the queue of those seen, in order: no more of the group are placed in one plan.
    pub orders: Vec<QueueOrder>,
}

/// Everything that a plan is decided on. Groups of teams that are not in `teams` are left out by
/// [`Snapshot::new`]: their jobs wait until the team is known again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Every team.
    pub teams: Vec<TeamView>,
    /// Every cluster.
    pub clusters: Vec<ClusterView>,
    /// What waits and may be placed.
    pub groups: Vec<Group>,
    team_of_group: Vec<usize>,
}

impl Snapshot {
    /// Puts a snapshot together. The order of the arguments' elements does not matter: all three are sorted.
    pub fn new(mut teams: Vec<TeamView>, mut clusters: Vec<ClusterView>, mut groups: Vec<Group>) -> Self {
        teams.sort_by(|a, b| a.team.id.cmp(&b.team.id));
        clusters.sort_by(|a, b| a.cluster.id.cmp(&b.cluster.id));
        let index: HashMap<TeamId, usize> =
            teams.iter().enumerate().map(|(i, t)| (t.team.id.clone(), i)).collect();
        groups.retain(|g| index.contains_key(&g.team) && !g.orders.is_empty());
        for group in &mut groups {
            group.orders.sort_unstable();
        }
        groups.sort_by(|a, b| (&a.team, a.shape).cmp(&(&b.team, b.shape)));
        let team_of_group = groups.iter().map(|g| index[&g.team]).collect();
        Self { teams, clusters, groups, team_of_group }
    }

    /// The index in `teams` of a group's team.
    pub fn team_of(&self, group: usize) -> usize {
        self.team_of_group[group]
    }
}
