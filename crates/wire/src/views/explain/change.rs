//! What would have to be different.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use yard_domain::QuotaOwner;
use yard_planner::explain::{Ending, Extra};
use yard_planner::{Change, Counterfactual};

use crate::quantity::milli_number;
use crate::views::time::time_text;

/// Something that could be different.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChangeView {
    /// `job_ends`, `jobs_end`, `cluster_resumed`, `cluster_back`, `more_quota`, `higher_priority` or `smaller_request`.
    pub code: String,
    /// For people, as the end of "it starts …".
    pub message: String,
    /// Where the job would then be placed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placed_on: Option<String>,
    /// When it is to be expected by itself; left out if somebody has to make the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// Of a team: how many more of its jobs the next pass would place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs_more: Option<u32>,
    /// The jobs whose ends it takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<EndingView>,
    /// The cluster that would have to take jobs again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// What is in that cluster's way: `drained`, `unreachable`, `not_seen_yet`, `breaker_open`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub obstacles: Vec<String>,
    /// Whose quota: `team` or `cohort`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_kind: Option<String>,
    /// The id of that team or cohort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// How much more quota; its max too, where that is set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra: Vec<AmountView>,
    /// The priority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
    /// The priority class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The most it could ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<AmountView>,
}

/// An amount of one resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AmountView {
    /// `cpu`, `gpu`, `memory`, `jobs`, or a custom resource's name.
    pub resource: String,
    /// How much: memory in bytes, everything else in units.
    pub amount: f64,
}

/// The end of a job that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndingView {
    /// Which.
    pub job: String,
    /// Whose.
    pub team: String,
    /// Where it runs.
    pub cluster: String,
    /// When it will probably end.
    pub expected: String,
    /// When at the latest.
    pub by: String,
}

impl From<&Counterfactual> for ChangeView {
    fn from(found: &Counterfactual) -> Self {
        Self {
            placed_on: Some(found.cluster.to_string()),
            expected: found.expected.map(time_text),
            ..Self::of(&found.change)
        }
    }
}

impl ChangeView {
    /// Of a change alone, whatever it does.
    pub(super) fn of(change: &Change) -> Self {
        let plain = Self { code: change.code().to_owned(), message: change.to_string(), ..Self::default() };
        match change {
            Change::Quota { owner, extra } => {
                let (kind, id) = match owner {
                    QuotaOwner::Team(id) => ("team", id.to_string()),
                    QuotaOwner::Cohort(id) => ("cohort", id.to_string()),
                };
                let extra = extra.iter().map(|Extra { resource, amount }| AmountView::new(resource, *amount));
                Self { owner_kind: Some(kind.to_owned()), owner: Some(id), extra: extra.collect(), ..plain }
            }
            Change::Ends(jobs) => Self { jobs: jobs.iter().map(EndingView::from).collect(), ..plain },
            Change::Cluster { cluster, obstacles } => Self {
                cluster: Some(cluster.to_string()),
                obstacles: obstacles.iter().map(|o| o.code().to_owned()).collect(),
                ..plain
            },
            Change::Priority { priority, class } => Self {
                priority: Some(priority.get().into()),
                class: class.as_ref().map(ToString::to_string),
                ..plain
            },
            Change::Request { resource, amount, .. } => {
                Self { request: Some(AmountView::new(resource, *amount)), ..plain }
            }
        }
    }
}

impl AmountView {
    fn new(resource: &str, amount: u64) -> Self {
        let amount = match resource {
            "memory" | "jobs" => amount as f64,
            _ => milli_number(amount),
        };
        Self { resource: resource.to_owned(), amount }
    }
}

impl From<&Ending> for EndingView {
    fn from(ending: &Ending) -> Self {
        Self {
            job: ending.job.to_string(),
            team: ending.team.to_string(),
            cluster: ending.cluster.to_string(),
            expected: time_text(ending.expected),
            by: time_text(ending.by),
        }
    }
}
