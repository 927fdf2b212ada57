//! What an operator declares: teams, cohorts, clusters and the placement policy, as one whole.

use crate::cluster::Cluster;
use crate::policy::Policy;
use crate::quota::{QuotaFault, faults};
use crate::team::{Cohort, Team};
use crate::time::Timestamp;

/// Everything declared. What operators and dispatchers said of clusters since (switch, health, observed capacity) is
/// not part of it: in a declaration those fields stand as [`Cluster::new`] makes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    /// Who is charged.
    pub teams: Vec<Team>,
    /// Who lends to whom.
    pub cohorts: Vec<Cohort>,
    /// Where jobs run.
    pub clusters: Vec<Cluster>,
    /// How placement decides.
    pub policy: Policy,
}

impl Catalog {
    /// These teams and clusters, without cohorts, under the default policy.
    pub fn of(teams: impl Into<Vec<Team>>, clusters: impl Into<Vec<Cluster>>) -> Self {
        Self { teams: teams.into(), clusters: clusters.into(), ..Self::default() }
    }

    /// Everything that is wrong with it as a whole.
    pub fn faults(&self) -> Vec<QuotaFault> {
        faults(&self.teams, &self.cohorts)
    }
}

/// Where a version of the catalog came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatalogSource {
    /// The configuration file of a process that started.
    Configuration,
    /// Somebody applied it.
    Applied,
}

impl CatalogSource {
    /// The stable code stored and shown.
    pub fn code(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Applied => "applied",
        }
    }

    /// Reads [`CatalogSource::code`] back.
    pub fn from_code(code: &str) -> Option<Self> {
        [Self::Configuration, Self::Applied].into_iter().find(|s| s.code() == code)
    }
}

/// A version of the catalog as kept: the document as it was written, who and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogVersion {
    /// 1 for the first; grows by one.
    pub number: u64,
    /// When, by the database's clock.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// How.
    pub source: CatalogSource,
    /// The document (TOML).
    pub text: String,
}
