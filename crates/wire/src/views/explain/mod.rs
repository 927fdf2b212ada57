//! Why a job or a team waits, and what would change it.

mod change;
mod start;
mod team;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use yard_domain::{JobState, Outcome, Timestamp};
use yard_planner::explain::{Ahead, ClusterAnswer};
use yard_planner::{Explanation, Preemption, Standing};
use yard_ports::store::{self, ForecastBucket, QueuePlace};

pub use change::{AmountView, ChangeView, EndingView};
pub use start::{ExpectedStartView, PastErrorView};
pub use team::{TeamExplanationView, TeamHoldView};

use super::time::time_text;

/// Why a job is where it is. For a job that waits: the rule that holds it, what would change that, and when it will
/// probably start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExplanationView {
    /// The database's time: what is told is as of then.
    pub now: String,
    /// Which job.
    pub job: String,
    /// Whose.
    pub team: String,
    /// Its state.
    pub state: String,
    /// When it entered that.
    pub since: String,
    /// A stable code. Of a job that waits: the rule that holds it (`team_quota`, `quota_reserved`, `preempting`,
    /// `no_cluster`, `pass_full`), `backoff`, `starts_now` or `team_not_configured`; of any other: its state.
    pub code: String,
    /// The same for people.
    pub message: String,
    /// The whole in a sentence: what holds it, and what would change that.
    pub summary: String,
    /// Where it is, or will be placed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Its place in the team's queue, while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<PositionView>,
    /// What would let it start in the next pass. Each was tried on the planner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<ChangeView>,
    /// What each cluster says to it, apart from any quota.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<ClusterAnswerView>,
    /// Who goes first, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ahead: Vec<AheadView>,
    /// When it will probably start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_start: Option<ExpectedStartView>,
    /// Room that is kept for it, or for an earlier job of its shape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<ReservationView>,
    /// Jobs that are stopped to make room for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub making_room: Vec<MakingRoomView>,
    /// How much was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchView>,
}

/// A place in the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PositionView {
    /// How many jobs of the team go before it, of those that may be placed now.
    pub ahead: u64,
    /// How many of those ask for the same.
    pub ahead_same_shape: u64,
}

/// What a cluster says to a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterAnswerView {
    /// Which one.
    pub cluster: String,
    /// `room`, or the stable code of its refusal.
    pub code: String,
    /// For people.
    pub message: String,
}

/// Some who go first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AheadView {
    /// Whose jobs.
    pub team: String,
    /// How many were seen.
    pub jobs: u32,
    /// `higher_class`, `higher_priority`, `older`, `less_share`, `its_turn` or `reserved`.
    pub code: String,
    /// For people.
    pub message: String,
}

/// Room that is kept for a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReservationView {
    /// Where.
    pub cluster: String,
    /// By when it starts at the latest, if the cluster stays.
    pub start_by: String,
    /// When probably.
    pub expected: String,
}

/// A job that is stopped to make room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MakingRoomView {
    /// Which.
    pub job: String,
    /// Whose.
    pub team: String,
    /// Where.
    pub cluster: String,
    /// By what right: `reclaim` or `higher_class`.
    pub cause: String,
}

/// How much was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SearchView {
    /// How many plans were made.
    pub plans: u32,
    /// Whether it was given up at its bound: other changes may do, too.
    pub cut_short: bool,
}

impl ExplanationView {
    /// Of a job that does not wait: where it is instead.
    pub fn elsewhere(job: &store::JobView, now: Timestamp) -> Self {
        let life = &job.lifecycle;
        Self {
            now: time_text(now),
            job: life.id.to_string(),
            team: life.team.to_string(),
            state: life.state.name().code().to_owned(),
            since: time_text(job.since),
            code: life.state.name().code().to_owned(),
            message: whereabouts(job),
            summary: whereabouts(job),
            cluster: life.state.open_attempt().map(|a| a.cluster.to_string()),
            position: None,
            changes: Vec::new(),
            clusters: Vec::new(),
            ahead: Vec::new(),
            expected_start: None,
            reservation: None,
            making_room: Vec::new(),
            search: None,
        }
    }

    /// Of a job that waits. `errors` is how far off expected starts have been.
    pub fn waiting(
        job: &store::JobView,
        place: &QueuePlace,
        now: Timestamp,
        found: &Explanation,
        errors: &[ForecastBucket],
    ) -> Self {
        let (code, cluster) = match &found.standing {
            Standing::Starts(cluster) => ("starts_now", Some(cluster.to_string())),
            Standing::Held(hold) => (hold.code(), None),
            Standing::Absent => ("team_not_configured", None),
        };
        let changes: Vec<ChangeView> = found.counterfactuals.iter().map(ChangeView::from).collect();
        let message = sentence(&found.standing);
        let mut view = Self {
            code: code.to_owned(),
            summary: with_changes(&message, &found.standing, &changes),
            message,
            cluster,
            position: Some(PositionView {
                ahead: place.ahead_of_team,
                ahead_same_shape: place.ahead_of_group,
            }),
            changes,
            clusters: found.clusters.iter().map(ClusterAnswerView::from).collect(),
            ahead: found.ahead.iter().map(AheadView::from).collect(),
            expected_start: Some(ExpectedStartView::new(&found.forecast, now, errors)),
            reservation: found.reservation.as_ref().map(|r| ReservationView {
                cluster: r.cluster.to_string(),
                start_by: time_text(r.start_by),
                expected: time_text(r.expected),
            }),
            making_room: found.preemptions.iter().map(MakingRoomView::from).collect(),
            search: Some(SearchView { plans: found.plans, cut_short: found.cut_short }),
            ..Self::elsewhere(job, now)
        };
        if let JobState::Queued { not_before: Some(at), .. } = job.lifecycle.state
            && !at.is_due(now)
        {
            let tries = job.lifecycle.attempts;
            view.message = format!(
                "attempt {tries} did not succeed; the next is not placed before {at}. After that: {}",
                view.message
            );
            view.summary = format!(
                "attempt {tries} did not succeed; the next is not placed before {at}. After that: {}",
                view.summary
            );
            "backoff".clone_into(&mut view.code);
        }
        view
    }
}

/// Where a job is that does not wait.
fn whereabouts(job: &store::JobView) -> String {
    let life = &job.lifecycle;
    let on = life.state.open_attempt().map(|a| a.cluster.to_string()).unwrap_or_default();
    let since = job.since;
    let stopping = match (life.state.name().is_end(), life.stop_requested, life.preempt_requested) {
        (false, true, _) => "; somebody has asked for it to be stopped",
        (false, false, true) => "; it has been asked to make room and will wait again",
        _ => "",
    };
    let place = match &life.state {
        JobState::Queued { .. } => "it waits".to_owned(),
        JobState::Claimed { .. } => "a scheduler is placing it at this moment".to_owned(),
        JobState::Placed { .. } => format!("it was placed on {on} at {since} and waits there for its launch"),
        JobState::Launching { .. } => format!("it is being launched on {on} since {since}"),
        JobState::Running { .. } => format!("it runs on {on} since {since}"),
        JobState::Ended(Outcome::Succeeded) => format!("it succeeded at {since}"),
        JobState::Ended(Outcome::Failed(failure)) => {
            format!("it failed at {since} ({}): {}", failure.class.code(), failure.message)
        }
        JobState::Ended(Outcome::Stopped) => format!("it was stopped at {since}"),
        JobState::Ended(Outcome::Expired) => format!("it waited longer than it may, until {since}"),
    };
    place + stopping
}

/// What holds it.
fn sentence(standing: &Standing) -> String {
    match standing {
        Standing::Starts(cluster) => format!("the next pass places it on {cluster}"),
        Standing::Absent => "its team is not configured any more, so nothing of it is placed".to_owned(),
        Standing::Held(hold) => hold.to_string(),
    }
}

/// What holds it, and what would change that.
fn with_changes(message: &str, standing: &Standing, changes: &[ChangeView]) -> String {
    if !matches!(standing, Standing::Held(_)) {
        return message.to_owned();
    }
    let one = |c: &ChangeView| match &c.expected {
        Some(at) => format!("{} (expected at {at})", c.message),
        None => c.message.clone(),
    };
    let all: Vec<String> = changes.iter().map(one).collect();
    match &all[..] {
        [] => format!("{message}; no single change was found that would let it start now"),
        all => format!("{message}; it starts {}", all.join(", or ")),
    }
}

impl From<&ClusterAnswer> for ClusterAnswerView {
    fn from(answer: &ClusterAnswer) -> Self {
        let (code, message) = match &answer.refusal {
            Some(refusal) => (refusal.code(), refusal.to_string()),
            None => ("room", "has room for it".to_owned()),
        };
        let message = match &answer.scattered {
            Some(block) => format!("{message}; {block}"),
            None => message,
        };
        Self { cluster: answer.cluster.to_string(), code: code.to_owned(), message }
    }
}

impl From<&Ahead> for AheadView {
    fn from(ahead: &Ahead) -> Self {
        Self {
            team: ahead.team.to_string(),
            jobs: ahead.jobs,
            code: ahead.reason.code().to_owned(),
            message: ahead.to_string(),
        }
    }
}

impl From<&Preemption> for MakingRoomView {
    fn from(preemption: &Preemption) -> Self {
        Self {
            job: preemption.victim.to_string(),
            team: preemption.team.to_string(),
            cluster: preemption.cluster.to_string(),
            cause: preemption.cause.code().to_owned(),
        }
    }
}
