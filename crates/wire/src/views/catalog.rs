//! Teams, clusters and the audit of their accounts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use yard_domain::ledger::Drift;
use yard_domain::{Account, AccountOwner, Cluster, Request, Team};
use yard_ports::store::QueueStats;

use super::amounts::{Amounts, Quota};
use super::time::time_text;

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
    /// Its weight in the order between teams.
    pub weight: u32,
    /// What its open attempts may use together.
    pub quota: Quota,
    /// What they use.
    pub used: Amounts,
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
    /// The driver's kind: `ray`, `process`.
    pub driver: String,
    /// What selectors match on.
    pub labels: BTreeMap<String, String>,
    /// An operator's word: `open` or `drained`.
    pub switch: String,
    /// What its dispatcher last found: `ready`, `unreachable` or `unknown`.
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
    /// What its open attempts are charged.
    pub used: Amounts,
    /// What is left; left out until the capacity is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free: Option<Amounts>,
    /// What went wrong last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
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
    pub fn new(teams: &[Team], accounts: &[Account], stats: &QueueStats) -> Self {
        let view = |team: &Team| TeamView {
            id: team.id.to_string(),
            weight: team.weight,
            quota: Quota::from(&team.quota),
            used: Amounts::from(&used_by(accounts, &AccountOwner::Team(team.id.clone()))),
            open: stats
                .open
                .iter()
                .filter(|((id, _), _)| *id == team.id)
                .map(|((_, state), count)| (state.code().to_owned(), *count))
                .collect(),
        };
        Self { teams: teams.iter().map(view).collect() }
    }
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
                used: Amounts::from(&used),
                free: cluster.capacity.as_ref().map(|c| Amounts::from(&free(&c.0, &used))),
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
