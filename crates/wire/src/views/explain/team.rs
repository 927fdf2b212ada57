//! Why a team's jobs wait.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use yard_domain::Timestamp;
use yard_planner::explain::TeamExplanation;

use super::{AheadView, ChangeView, ClusterAnswerView, SearchView};
use crate::views::time::time_text;

/// Why a team's jobs wait, and what would change most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TeamExplanationView {
    /// The database's time.
    pub now: String,
    /// Which team.
    pub team: String,
    /// How many of its jobs wait; exact.
    pub queued: u64,
    /// How many the next pass places, of those that it looks at.
    pub starting: u32,
    /// For people, in a sentence.
    pub message: String,
    /// Its dominant share for its weight: the largest part, over resources, that it uses of what there is.
    pub share: f64,
    /// What holds its jobs, most jobs first; of those that a pass looks at.
    pub holds: Vec<TeamHoldView>,
    /// What would let more of them start in the next pass, largest gain first. Each was tried on the planner.
    pub changes: Vec<ChangeView>,
    /// Who goes before its first waiting job.
    pub ahead: Vec<AheadView>,
    /// How much was tried.
    pub search: SearchView,
}

/// Jobs of a team held by one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TeamHoldView {
    /// The rule's stable code.
    pub code: String,
    /// For people, of the first of them.
    pub message: String,
    /// How many jobs.
    pub jobs: u32,
    /// Of how many shapes.
    pub shapes: u32,
    /// When the first of them was accepted.
    pub first: String,
    /// What each cluster says to the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<ClusterAnswerView>,
}

impl TeamExplanationView {
    /// Of a team of which so many jobs wait.
    pub fn new(team: &yard_domain::TeamId, queued: u64, now: Timestamp, found: &TeamExplanation) -> Self {
        let changes: Vec<ChangeView> = found
            .gains
            .iter()
            .map(|gain| ChangeView { jobs_more: Some(gain.jobs), ..ChangeView::of(&gain.change) })
            .collect();
        let most = changes.first().map_or_else(String::new, |c| {
            format!("; {} more would start {}", c.jobs_more.unwrap_or_default(), c.message)
        });
        let message = match (queued, found.holds.first()) {
            (0, _) => "nothing of it waits".to_owned(),
            (n, None) => format!("{n} wait, and nothing holds those that a pass looks at"),
            (n, Some(hold)) => {
                format!("{n} wait, {} of them because {}{most}", hold.jobs, hold.refusal.hold)
            }
        };
        Self {
            now: time_text(now),
            team: team.to_string(),
            queued,
            starting: found.starting,
            message,
            share: found.share.unwrap_or_default() as f64 / 1_000_000.0,
            holds: found.holds.iter().map(TeamHoldView::from).collect(),
            changes,
            ahead: found.ahead.iter().map(AheadView::from).collect(),
            search: SearchView { plans: found.plans, cut_short: found.cut_short },
        }
    }
}

impl From<&yard_planner::explain::TeamHold> for TeamHoldView {
    fn from(hold: &yard_planner::explain::TeamHold) -> Self {
        let first = Timestamp::from_micros(hold.first.accepted_at_micros());
        let clusters = hold.refusal.clusters.iter().map(|(cluster, refusal)| ClusterAnswerView {
            cluster: cluster.to_string(),
            code: refusal.code().to_owned(),
            message: refusal.to_string(),
        });
        Self {
            code: hold.refusal.hold.code().to_owned(),
            message: hold.refusal.hold.to_string(),
            jobs: hold.jobs,
            shapes: hold.groups,
            first: time_text(first),
            clusters: clusters.collect(),
        }
    }
}
