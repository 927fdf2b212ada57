//! Why not: a stable code for programs and metrics, a sentence for people.

use std::fmt;

use yard_domain::resources::Shortage;
use yard_domain::{Block, ClusterId, PodFault, QuotaShortage, TeamId, Timestamp};

/// Why a job was not placed on one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The job names other clusters.
    NotSelected,
    /// The job avoids it.
    Avoided,
    /// The job asks for a label that the cluster does not have.
    LabelMissing {
        /// The label.
        label: String,
        /// The value asked for.
        value: String,
    },
    /// The job says something that only clusters of another driver can do.
    OtherDriver {
        /// The kind of driver that can.
        driver: String,
    },
    /// It could never make the Ray cluster that the job asks for.
    NoRayCluster(Vec<PodFault>),
    /// The cluster was taken out of the configuration.
    NotConfigured,
    /// The cluster's capacity is neither declared nor read yet.
    CapacityUnknown,
    /// Even empty, the cluster is too small.
    TooSmall(Shortage),
    /// It has enough GPUs, but no node has as many as one pod of the job must have.
    NoBlock(Block),
    /// An operator drained it.
    Drained,
    /// It has not answered yet since it was configured.
    NotSeenYet,
    /// It answers, and can't begin anything now.
    NotReady,
    /// It does not answer.
    Unreachable,
    /// Its dispatcher holds launches back, because calls keep failing.
    BreakerOpen,
    /// It has no room now.
    Full(Shortage),
    /// Its room is kept for another job, which this one would delay.
    Reserved {
        /// Whose job.
        team: TeamId,
        /// When that one starts at the latest.
        start_by: Timestamp,
    },
}

impl Refusal {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotSelected => "not_selected",
            Self::Avoided => "avoided",
            Self::LabelMissing { .. } => "label_missing",
            Self::OtherDriver { .. } => "other_driver",
            Self::NoRayCluster(_) => "no_ray_cluster",
            Self::NotConfigured => "not_configured",
            Self::CapacityUnknown => "capacity_unknown",
            Self::TooSmall(_) => "too_small",
            Self::NoBlock(_) => "no_block",
            Self::Drained => "drained",
            Self::NotSeenYet => "not_seen_yet",
            Self::NotReady => "not_ready",
            Self::Unreachable => "unreachable",
            Self::BreakerOpen => "breaker_open",
            Self::Full(_) => "full",
            Self::Reserved { .. } => "reserved",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSelected => f.write_str("the job names other clusters"),
            Self::Avoided => f.write_str("the job avoids it"),
            Self::LabelMissing { label, value } => write!(f, "the cluster has no label {label}={value}"),
            Self::OtherDriver { driver } => {
                write!(f, "the job names a profile or image, which only {driver} clusters have")
            }
            Self::NoRayCluster(faults) => {
                for (i, PodFault { message, .. }) in faults.iter().enumerate() {
                    write!(f, "{}{message}", if i == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
            Self::NotConfigured => f.write_str("the cluster was taken out of the configuration"),
            Self::CapacityUnknown => f.write_str("its capacity has not been read yet"),
            Self::TooSmall(short) => write!(f, "too small even when empty ({short})"),
            Self::NoBlock(block) => block.fmt(f),
            Self::Drained => f.write_str("drained by an operator"),
            Self::NotSeenYet => f.write_str("it has not answered yet"),
            Self::NotReady => f.write_str("it can't begin anything now; its message says why"),
            Self::Unreachable => f.write_str("it does not answer"),
            Self::BreakerOpen => f.write_str("launches there keep failing; it is left alone for a while"),
            Self::Full(short) => write!(f, "no room now ({short})"),
            Self::Reserved { team, .. } => {
                write!(f, "its room is kept for a job of team {team} that goes first")
            }
        }
    }
}

/// The rule that holds a group's jobs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Hold {
    /// The quota of the team, or of a cohort above it.
    Quota(QuotaShortage),
    /// What is left of the quota is kept for another job, which this one would delay.
    QuotaReserved {
        /// Whose job.
        team: TeamId,
        /// When that one starts at the latest.
        start_by: Timestamp,
    },
    /// Other jobs have been asked to stop to make room for it.
    Preempting {
        /// Where it will run.
        cluster: ClusterId,
        /// How many it waits for.
        victims: u32,
    },
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
            Self::QuotaReserved { .. } => "quota_reserved",
            Self::Preempting { .. } => "preempting",
            Self::NoCluster => "no_cluster",
            Self::PassFull => "pass_full",
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quota(short) => write!(f, "quota is used up ({short})"),
            Self::QuotaReserved { team, .. } => {
                write!(f, "the rest of the quota is kept for a job of team {team} that goes first")
            }
            Self::Preempting { cluster, victims } => {
                write!(f, "{victims} other jobs on {cluster} have been asked to stop for it")
            }
            Self::NoCluster => f.write_str("no cluster can take it now"),
            Self::PassFull => f.write_str("its turn comes in the next pass"),
        }
    }
}
