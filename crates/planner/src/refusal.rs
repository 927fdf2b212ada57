//! Why not: a stable code for programs and metrics, a sentence for people.

use std::fmt;

use yard_domain::resources::Shortage;

/// Why a job was not placed on one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The job names other clusters.
    NotSelected,
    /// The job asks for a label that the cluster does not have.
    LabelMissing {
        /// The label.
        label: String,
        /// The value asked for.
        value: String,
    },
    /// The cluster was taken out of the configuration.
    NotConfigured,
    /// The cluster's capacity is neither declared nor read yet.
    CapacityUnknown,
    /// Even empty, the cluster is too small.
    TooSmall(Shortage),
    /// An operator drained it.
    Drained,
    /// It has not answered yet since it was configured.
    NotSeenYet,
    /// It does not answer.
    Unreachable,
    /// It has no room now.
    Full(Shortage),
}

impl Refusal {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotSelected => "not_selected",
            Self::LabelMissing { .. } => "label_missing",
            Self::NotConfigured => "not_configured",
            Self::CapacityUnknown => "capacity_unknown",
            Self::TooSmall(_) => "too_small",
            Self::Drained => "drained",
            Self::NotSeenYet => "not_seen_yet",
            Self::Unreachable => "unreachable",
            Self::Full(_) => "full",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSelected => f.write_str("the job names other clusters"),
            Self::LabelMissing { label, value } => write!(f, "the cluster has no label {label}={value}"),
            Self::NotConfigured => f.write_str("the cluster was taken out of the configuration"),
            Self::CapacityUnknown => f.write_str("its capacity has not been read yet"),
            Self::TooSmall(short) => write!(f, "too small even when empty ({short})"),
            Self::Drained => f.write_str("drained by an operator"),
            Self::NotSeenYet => f.write_str("it has not answered yet"),
            Self::Unreachable => f.write_str("it does not answer"),
            Self::Full(short) => write!(f, "no room now ({short})"),
        }
    }
}

/// The rule that holds a group's jobs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Hold {
    /// The team's quota.
    Quota(Shortage),
    /// No cluster takes them now: see the refusals.
    NoCluster,
    /// The pass had reached its limit of placements: the next one goes on.
    PassFull,
}

impl Hold {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Quota(_) => "team_quota",
            Self::NoCluster => "no_cluster",
            Self::PassFull => "pass_full",
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quota(short) => write!(f, "the team's quota is used up ({short})"),
            Self::NoCluster => f.write_str("no cluster can take it now"),
            Self::PassFull => f.write_str("its turn comes in the next pass"),
        }
    }
}
