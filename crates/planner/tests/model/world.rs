//! A snapshot as plain tables: who is above whom, what is guaranteed, what is in use, what fits.

use std::collections::BTreeMap;

use yard_domain::{Cluster, ClusterHealth, ClusterSwitch, QuotaOwner, Request, TeamId, Timestamp};
use yard_planner::{Group, Policy, Snapshot};

use super::promise::Promised;

/// Amounts by the resource's name; signed, so that sums and differences need no care.
pub type Amounts = BTreeMap<String, i128>;

/// What a request asks for; nothing that it asks none of.
pub fn amounts(request: &Request) -> Amounts {
    let asked = request.amounts().filter(|(_, amount)| *amount > 0);
    asked.map(|(name, amount)| (name.to_owned(), i128::from(amount))).collect()
}

/// A team or cohort.
pub struct Node {
    pub owner: QuotaOwner,
    pub parent: Option<usize>,
    pub weight: i128,
    /// As declared for this node alone.
    own: Amounts,
    max: Amounts,
}

/// What every team and cluster has in use, by their index in the snapshot.
#[derive(Clone)]
pub struct Load {
    pub teams: Vec<Amounts>,
    pub clusters: Vec<Amounts>,
}

impl Load {
    /// `sign` is 1 for a job that starts and -1 for one that ends. What ends cannot have used more than there was:
    /// the list of what runs may be a little newer or older than the sums.
    pub fn change(&mut self, team: usize, cluster: usize, request: &Amounts, sign: i128) {
        for load in [&mut self.teams[team], &mut self.clusters[cluster]] {
            for (name, amount) in request {
                let sum = load.entry(name.clone()).or_default();
                *sum = (*sum + sign * amount).max(0);
            }
        }
    }
}

/// A snapshot and what follows from it.
pub struct World<'a> {
    pub snapshot: &'a Snapshot,
    pub policy: &'a Policy,
    pub now: Timestamp,
    /// Teams first, with the same indexes as in the snapshot, then cohorts.
    pub nodes: Vec<Node>,
    /// Groups whose first job was promised room by earlier plans.
    pub promised: BTreeMap<usize, Promised>,
}

impl<'a> World<'a> {
    pub fn new(snapshot: &'a Snapshot, policy: &'a Policy, now: Timestamp) -> Self {
        let teams = snapshot.teams.len();
        let cohort = |id| {
            let id: &yard_domain::CohortId = id;
            snapshot.cohorts.iter().position(|c| c.id == *id).map(|i| teams + i)
        };
        let limits = |l: &yard_domain::Limits| -> Amounts {
            l.bounds().map(|(name, bound)| (name.to_owned(), i128::from(bound))).collect()
        };
        let of_teams = snapshot.teams.iter().map(|view| Node {
            owner: QuotaOwner::Team(view.team.id.clone()),
            parent: view.team.cohort.as_ref().and_then(cohort),
            weight: i128::from(view.team.weight.max(1)),
            own: limits(&view.team.quota),
            max: limits(&view.team.max),
        });
        let of_cohorts = snapshot.cohorts.iter().map(|c| Node {
            owner: QuotaOwner::Cohort(c.id.clone()),
            parent: c.parent.as_ref().and_then(cohort),
            weight: i128::from(c.weight.max(1)),
            own: limits(&c.quota),
            max: limits(&c.max),
        });
        Self { snapshot, policy, now, nodes: of_teams.chain(of_cohorts).collect(), promised: BTreeMap::new() }
    }

    /// A node and everything above it, from below.
    pub fn path(&self, node: usize) -> Vec<usize> {
        let mut path = vec![node];
        while let Some(parent) = self.nodes[path[path.len() - 1]].parent {
            path.push(parent);
        }
        path
    }

    pub fn root(&self, node: usize) -> usize {
        self.path(node).pop().unwrap()
    }

    pub fn children(&self, node: Option<usize>) -> Vec<usize> {
        (0..self.nodes.len()).filter(|i| self.nodes[*i].parent == node).collect()
    }

    /// The guaranteed amount; `None` if nobody in the node's tree names the resource.
    pub fn nominal(&self, node: usize, resource: &str) -> Option<i128> {
        let root = self.root(node);
        let governed =
            (0..self.nodes.len()).any(|i| self.root(i) == root && self.nodes[i].own.contains_key(resource));
        governed.then(|| self.guaranteed(node, resource))
    }

    fn guaranteed(&self, node: usize, resource: &str) -> i128 {
        let own = self.nodes[node].own.get(resource).copied().unwrap_or(0);
        own + self.children(Some(node)).into_iter().map(|c| self.guaranteed(c, resource)).sum::<i128>()
    }

    /// The most a node may use; `None`: no bound. Nobody lends to the top.
    pub fn ceiling(&self, node: usize, resource: &str) -> Option<i128> {
        let max = self.nodes[node].max.get(resource).copied();
        match self.nodes[node].parent {
            Some(_) => max,
            None => [max, self.nominal(node, resource)].into_iter().flatten().min(),
        }
    }

    /// Whether a group's first job was promised room that it takes as soon as it is there.
    pub fn is_firm(&self, head: usize) -> bool {
        self.promised.get(&head).is_some_and(|promised| promised.firm)
    }

    pub fn team(&self, id: &TeamId) -> Option<usize> {
        self.snapshot.teams.iter().position(|t| t.team.id == *id)
    }

    /// What a node's teams use together.
    pub fn used(&self, load: &Load, node: usize, resource: &str) -> i128 {
        let below = (0..load.teams.len()).filter(|t| self.path(*t).contains(&node));
        below.map(|t| load.teams[t].get(resource).copied().unwrap_or(0)).sum()
    }

    /// What is in use before the plan.
    pub fn load(&self) -> Load {
        Load {
            teams: self.snapshot.teams.iter().map(|t| amounts(&t.used)).collect(),
            clusters: self.snapshot.clusters.iter().map(|c| amounts(&c.used)).collect(),
        }
    }

    /// The lowest quota that has no room for the request, with the resource and what is left of it.
    pub fn quota_short(&self, load: &Load, team: usize, request: &Amounts) -> Vec<(usize, String, i128)> {
        let mut short = Vec::new();
        for node in self.path(team) {
            for (name, amount) in request {
                if let Some(ceiling) = self.ceiling(node, name) {
                    let left = (ceiling - self.used(load, node, name)).max(0);
                    if *amount > left {
                        short.push((node, name.clone(), left));
                    }
                }
            }
        }
        short
    }

    /// The resources that a cluster has too little left of, with what is left.
    pub fn room_short(&self, load: &Load, cluster: usize, request: &Amounts) -> Vec<(String, i128)> {
        let Some(capacity) = &self.snapshot.clusters[cluster].cluster.capacity else { return Vec::new() };
        let left = |name: &str| {
            let used = load.clusters[cluster].get(name).copied().unwrap_or(0);
            (i128::from(capacity.0.amount(name)) - used).max(0)
        };
        let short = request.iter().filter(|(name, amount)| **amount > left(name));
        short.map(|(name, _)| (name.clone(), left(name))).collect()
    }

    /// Whether quota and room allow it, whatever is kept for others.
    pub fn fits(&self, load: &Load, team: usize, cluster: usize, request: &Amounts) -> bool {
        self.quota_short(load, team, request).is_empty() && self.room_short(load, cluster, request).is_empty()
    }

    /// The clusters that the hard rules leave to a group.
    pub fn admissible(&self, group: &Group) -> Vec<usize> {
        let clusters = &self.snapshot.clusters;
        (0..clusters.len()).filter(|c| hard(group, &clusters[*c].cluster).is_empty()).collect()
    }
}

/// Whether the cluster can make the Ray cluster that is asked for. Random profiles differ by the least cpu of a head only, and
/// random workers have cpu alone.
fn made(group: &Group, cluster: &Cluster) -> bool {
    let Some(profiles) = &cluster.ray_profiles else { return true };
    let pods = group.clusters.pods.as_ref();
    let named = pods.and_then(|pods| pods.profile.as_ref()).unwrap_or(&profiles.default);
    let Some(profile) = profiles.profiles.get(named) else { return false };
    let workers =
        pods.and_then(|pods| pods.workers.as_ref()).map_or(0, |w| u64::from(w.max) * w.each.cpu_milli);
    let asked = group.request.cpu_milli;
    workers <= asked && (asked == 0 || asked - workers >= profile.head_min.cpu_milli)
}

/// Whether one node can have all GPUs that the head asks for (random workers have none).
fn has_block(group: &Group, cluster: &Cluster) -> bool {
    let largest = cluster.gpu_blocks.iter().map(|blocks| blocks.largest).max();
    let asked = group.request.gpu_milli;
    asked == 0 || cluster.elastic.is_some() || largest.is_none_or(|largest| asked <= largest)
}

/// Every hard rule, room apart, by which the cluster may not take the group's jobs: the codes that are true, in
/// the order in which they should be told.
pub fn hard(group: &Group, cluster: &Cluster) -> Vec<&'static str> {
    let selector = &group.clusters;
    let labelled = selector.labels.iter().all(|(k, v)| cluster.labels.get(k) == Some(v));
    let too_small = cluster.capacity.as_ref().is_some_and(|capacity| {
        amounts(&group.request).iter().any(|(name, a)| *a > i128::from(capacity.0.amount(name)))
    });
    let rules = [
        ("not_selected", !selector.only.is_empty() && !selector.only.contains(&cluster.id)),
        ("avoided", selector.avoid.contains(&cluster.id)),
        ("label_missing", !labelled),
        ("no_ray_cluster", !made(group, cluster)),
        ("not_configured", !cluster.configured),
        ("capacity_unknown", cluster.capacity.is_none()),
        ("too_small", too_small),
        ("no_block", !has_block(group, cluster)),
        ("drained", cluster.switch == ClusterSwitch::Drained),
        ("breaker_open", cluster.breaker_open),
        ("not_seen_yet", cluster.health == ClusterHealth::Unknown),
        ("unreachable", cluster.health == ClusterHealth::Unreachable),
    ];
    rules.into_iter().filter(|(_, holds)| *holds).map(|(code, _)| code).collect()
}
