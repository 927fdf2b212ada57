//! Teams, clusters and the audit of their accounts.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use yard_domain::ledger::Drift;
use yard_domain::{
    Account, AccountOwner, Catalog, Cluster, Elastic, GpuBlocks, Limits, QuotaOwner, QuotaTree, RayProfiles,
    Request, Team, TeamId,
};
use yard_ports::store::QueueStats;

use super::amounts::{Amounts, Quota};
use super::time::time_text;
use crate::quantity::milli_number;

/// Every configured team.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TeamList {
    /// The teams, by id.
    pub teams: Vec<TeamView>,
}

/// A team with its quota and what it uses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TeamView {
    /// Its id.
    pub id: String,
    /// The cohort in which it lends and borrows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cohort: Option<String>,
    /// The share that it is owed beside its siblings.
    pub weight: u32,
    /// Nominal: what its open attempts may always use together.
    pub quota: Quota,
    /// What they may use at most when it borrows, as declared.
    #[serde(default)]
    pub max: Quota,
    /// What they use.
    pub used: Amounts,
    /// What of that is borrowed: beyond its quota, in resources that its tree of cohorts governs.
    #[serde(default)]
    pub borrowed: Amounts,
    /// What of its quota others have borrowed: their loans, shared out over all that have quota to spare in proportion to
    /// it.
    #[serde(default)]
    pub lent: Amounts,
    /// Its jobs that have not ended, by state.
    pub open: BTreeMap<String, u64>,
}

/// Every cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClusterList {
    /// The clusters, by id.
    pub clusters: Vec<ClusterView>,
}

/// A cluster with what it has and what is in use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClusterView {
    /// Its id.
    pub id: String,
    /// The driver's kind: `ray`, `kuberay`, `process`.
    pub driver: String,
    /// What selectors match on.
    pub labels: BTreeMap<String, String>,
    /// An operator's word: `open` or `drained`.
    pub switch: String,
    /// What its dispatcher last found: `ready`, `not_ready` (it answers, but nothing can begin there now), `unreachable` or
    /// `unknown`.
    pub health: String,
    /// Whether new jobs are placed on it now.
    pub takes_jobs: bool,
    /// Whether it stands in the configuration.
    pub configured: bool,
    /// When it last answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<String>,
    /// What it has; left out until it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Amounts>,
    /// Set if an autoscaler changes what there is, up to `capacity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elastic: Option<ElasticView>,
    /// What it costs per hour when used whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_per_hour: Option<f64>,
    /// Whether launches are held back because calls keep failing.
    #[serde(default)]
    pub breaker_open: bool,
    /// Launches that failed lately; fades.
    #[serde(default)]
    pub recent_failures: u32,
    /// What its open attempts are charged.
    pub used: Amounts,
    /// What is left; left out until the capacity is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free: Option<Amounts>,
    /// The profiles that jobs may name in `ray_cluster.profile`, the default first; left out where no Ray cluster is made for a
    /// job, or until its dispatcher has told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// How its GPUs lie on nodes, by kind; left out where that is not watched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuBlocksView>,
    /// What went wrong last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How the GPUs of one kind lie on a cluster's nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GpuBlocksView {
    /// The kind, as nodes are labelled; empty if they tell none.
    pub kind: String,
    /// What there is for jobs, in use or not.
    pub capacity: f64,
    /// What nobody uses.
    pub free: f64,
    /// The most that is free on one node: what one pod can have now.
    pub largest_free: f64,
    /// The most that one node has for jobs, in use or not: what one pod can ever have.
    pub largest: f64,
}

impl From<&GpuBlocks> for GpuBlocksView {
    fn from(blocks: &GpuBlocks) -> Self {
        Self {
            kind: blocks.kind.clone(),
            capacity: milli_number(blocks.capacity),
            free: milli_number(blocks.free),
            largest_free: milli_number(blocks.largest_free),
            largest: milli_number(blocks.largest),
        }
    }
}

/// What an autoscaler makes of a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ElasticView {
    /// What is there now; left out until it has been read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<Amounts>,
    /// How long it usually takes to add what is missing, in seconds.
    pub delay_s: u64,
}

impl From<&Elastic> for ElasticView {
    fn from(elastic: &Elastic) -> Self {
        let present = elastic.present.as_ref().map(|c| Amounts::from(&c.0));
        Self { present, delay_s: elastic.delay.as_secs() }
    }
}

/// The answer to drain and resume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SwitchAnswer {
    /// Which cluster.
    pub id: String,
    /// What it is now: `open` or `drained`.
    pub switch: String,
}

/// Whether every account is the sum of its open attempts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditView {
    /// Whether there is no drift.
    pub exact: bool,
    /// The accounts that are wrong.
    pub drift: Vec<DriftView>,
}

/// An account whose stored sum is not the sum of its open attempts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DriftView {
    /// `cluster` or `team`.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// What the ledger says.
    pub stored: Amounts,
    /// What the open attempts add up to.
    pub recomputed: Amounts,
}

impl TeamList {
    /// From the store's answers.
    pub fn new(catalog: &Catalog, accounts: &[Account], stats: &QueueStats) -> Self {
        let loans = loans(catalog, accounts);
        let view = |(team, (borrowed, lent)): (&Team, &(Request, Request))| TeamView {
            id: team.id.to_string(),
            cohort: team.cohort.as_ref().map(ToString::to_string),
            weight: team.weight,
            quota: Quota::from(&team.quota),
            max: Quota::from(&team.max),
            used: Amounts::from(&used_by(accounts, &AccountOwner::Team(team.id.clone()))),
            borrowed: Amounts::from(borrowed),
            lent: Amounts::from(lent),
            open: stats
                .open
                .iter()
                .filter(|((id, _), _)| *id == team.id)
                .map(|((_, state), count)| (state.code().to_owned(), *count))
                .collect(),
        };
        Self { teams: catalog.teams.iter().zip(&loans).map(view).collect() }
    }
}

/// What each team, in order, has borrowed and lent.
fn loans(catalog: &Catalog, accounts: &[Account]) -> Vec<(Request, Request)> {
    let tree = QuotaTree::new(&catalog.teams, &catalog.cohorts);
    let used: HashMap<&TeamId, &Request> = accounts
        .iter()
        .filter_map(|a| if let AccountOwner::Team(team) = &a.owner { Some((team, &a.used)) } else { None })
        .collect();
    let usage = tree.usage(|team| used.get(team).copied());
    let mut loans = vec![(Request::default(), Request::default()); catalog.teams.len()];
    // By tree and resource: what is borrowed in it, and what all its members could spare.
    let mut sums: BTreeMap<(usize, String), (u64, u64)> = BTreeMap::new();
    // What a node has beside its members. Nodes are in the order of the declaration, teams first.
    let declared: Vec<&Limits> =
        catalog.teams.iter().map(|t| &t.quota).chain(catalog.cohorts.iter().map(|c| &c.quota)).collect();
    let own = |i: usize, name: &str| declared[i].limit(name).unwrap_or(0);
    for (i, node) in tree.nodes().iter().enumerate() {
        let is_team = matches!(node.owner, QuotaOwner::Team(_));
        for (name, _) in node.nominal.bounds() {
            let used = if is_team { usage[i].amount(name) } else { 0 };
            let sum = sums.entry((tree.root_of(i), name.to_owned())).or_default();
            sum.0 = sum.0.saturating_add(used.saturating_sub(own(i, name)));
            sum.1 = sum.1.saturating_add(own(i, name).saturating_sub(used));
        }
    }
    for (i, (borrowed, lent)) in loans.iter_mut().enumerate() {
        for (name, nominal) in tree.nodes()[i].nominal.bounds() {
            let used = usage[i].amount(name);
            borrowed.set(name, used.saturating_sub(nominal));
            let spare = u128::from(nominal.saturating_sub(used));
            let Some((all, spared)) = sums.get(&(tree.root_of(i), name.to_owned())) else { continue };
            let share = u128::from(*all) * spare / u128::from(*spared).max(1);
            lent.set(name, u64::try_from(share.min(spare)).unwrap_or(u64::MAX));
        }
    }
    loans
}

impl ClusterList {
    /// From the store's answers.
    pub fn new(clusters: &[Cluster], accounts: &[Account]) -> Self {
        let view = |cluster: &Cluster| {
            let used = used_by(accounts, &AccountOwner::Cluster(cluster.id.clone()));
            ClusterView {
                id: cluster.id.to_string(),
                driver: cluster.driver.clone(),
                labels: cluster.labels.clone(),
                switch: cluster.switch.code().to_owned(),
                health: cluster.health.code().to_owned(),
                takes_jobs: cluster.takes_jobs(),
                configured: cluster.configured,
                last_seen: cluster.last_seen.map(time_text),
                capacity: cluster.capacity.as_ref().map(|c| Amounts::from(&c.0)),
                elastic: cluster.elastic.as_ref().map(ElasticView::from),
                cost_per_hour: cluster.cost_per_hour_micro.map(|micro| micro as f64 / 1e6),
                breaker_open: cluster.breaker_open,
                recent_failures: cluster.recent_failures,
                used: Amounts::from(&used),
                free: cluster.capacity.as_ref().map(|c| Amounts::from(&free(&c.0, &used))),
                profiles: cluster.ray_profiles.as_deref().map(profiles).unwrap_or_default(),
                gpus: cluster.gpu_blocks.iter().map(GpuBlocksView::from).collect(),
                message: cluster.message.clone(),
            }
        };
        Self { clusters: clusters.iter().map(view).collect() }
    }
}

impl From<&[Drift]> for AuditView {
    fn from(drift: &[Drift]) -> Self {
        let view = |d: &Drift| DriftView {
            kind: d.owner.kind().to_owned(),
            id: d.owner.id().to_owned(),
            stored: Amounts::from(&d.stored),
            recomputed: Amounts::from(&d.recomputed),
        };
        Self { exact: drift.is_empty(), drift: drift.iter().map(view).collect() }
    }
}

/// The names, the default first.
fn profiles(all: &RayProfiles) -> Vec<String> {
    let others = all.profiles.keys().filter(|name| **name != all.default);
    std::iter::once(&all.default).chain(others).cloned().collect()
}

fn used_by(accounts: &[Account], owner: &AccountOwner) -> Request {
    accounts.iter().find(|a| a.owner == *owner).map(|a| a.used.clone()).unwrap_or_default()
}

/// What is left of a capacity; a cluster that has shrunk below its charges has nothing left.
fn free(capacity: &Request, used: &Request) -> Request {
    let left = |name: &str, have: u64| have.saturating_sub(used.amount(name));
    Request {
        cpu_milli: left("cpu", capacity.cpu_milli),
        gpu_milli: left("gpu", capacity.gpu_milli),
        memory_bytes: left("memory", capacity.memory_bytes),
        jobs: left("jobs", capacity.jobs),
        custom_milli: capacity.custom_milli.iter().map(|(n, have)| (n.clone(), left(n, *have))).collect(),
    }
}
