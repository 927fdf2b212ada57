//! What arrived in the past, a job per line: the form that `yard simulate` reads.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use yard_domain::ClusterSelector;
use yard_ports::store::PastArrival;

use super::amounts::Amounts;

/// A job that arrived, as a line of `GET /v1/workload`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkloadLine {
    /// When it was accepted, in seconds since the epoch.
    pub at_s: f64,
    /// Whose.
    pub team: String,
    /// Its priority.
    pub priority: i16,
    /// What it asked for.
    pub resources: Amounts,
    /// Where it might run; left out if anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clusters: Option<SelectorView>,
    /// How long its last attempt ran; left out if none ran to an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_s: Option<f64>,
    /// Longest run.
    pub run_timeout_s: f64,
    /// Longest wait.
    pub queue_timeout_s: f64,
    /// Its id.
    pub job: String,
    /// How long it waited for its first attempt; left out if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waited_s: Option<f64>,
}

/// Where a job may run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SelectorView {
    /// Only these clusters.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub only: BTreeSet<String>,
    /// Not these clusters.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub avoid: BTreeSet<String>,
    /// Only clusters with these labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Rather clusters with these labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub prefer: BTreeMap<String, String>,
}

impl From<&ClusterSelector> for SelectorView {
    fn from(selector: &ClusterSelector) -> Self {
        Self {
            only: selector.only.iter().map(ToString::to_string).collect(),
            avoid: selector.avoid.iter().map(ToString::to_string).collect(),
            labels: selector.labels.clone(),
            prefer: selector.prefer.clone(),
        }
    }
}

impl From<&PastArrival> for WorkloadLine {
    fn from(past: &PastArrival) -> Self {
        let anywhere = past.clusters == ClusterSelector::default();
        Self {
            at_s: past.at.as_micros() as f64 / 1e6,
            team: past.team.to_string(),
            priority: past.priority.get(),
            resources: Amounts::from(&past.request),
            clusters: (!anywhere).then(|| SelectorView::from(&past.clusters)),
            run_s: past.ran.as_ref().map(Duration::as_secs_f64),
            run_timeout_s: past.run_timeout.as_secs_f64(),
            queue_timeout_s: past.queue_timeout.as_secs_f64(),
            job: past.job.to_string(),
            waited_s: past.waited.as_ref().map(Duration::as_secs_f64),
        }
    }
}
