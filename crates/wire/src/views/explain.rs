//! Why a job or a team waits, and what would change it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use yard_domain::{JobState, Outcome, QuotaOwner, Timestamp};
use yard_planner::explain::{Ahead, ClusterAnswer, Ending, Extra, TeamExplanation};
use yard_planner::{Change, Counterfactual, Explanation, Forecast, Preemption, Standing};
use yard_ports::store::{self, QueuePlace};

use super::time::time_text;
use crate::quantity::milli_number;

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
    /// The same for people, in a sentence.
    pub message: String,
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

/// When a job will probably start: the planner run forward over what is open and what waits. New jobs are not foreseen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExpectedStartView {
    /// `forecast`, or why there is none: `beyond_horizon`, `too_far`, `never_as_it_is`, `unseen`, `absent`.
    pub code: String,
    /// For people.
    pub message: String,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Not before; differs from `at` where several ends were taken together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
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

/// How much was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SearchView {
    /// How many plans were made.
    pub plans: u32,
    /// Whether it was given up at its bound: other changes may do, too.
    pub cut_short: bool,
}

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

    /// Of a job that waits.
    pub fn waiting(job: &store::JobView, place: &QueuePlace, now: Timestamp, found: &Explanation) -> Self {
        let (code, cluster) = match &found.standing {
            Standing::Starts(cluster) => ("starts_now", Some(cluster.to_string())),
            Standing::Held(hold) => (hold.code(), None),
            Standing::Absent => ("team_not_configured", None),
        };
        let changes: Vec<ChangeView> = found.counterfactuals.iter().map(ChangeView::from).collect();
        let mut view = Self {
            code: code.to_owned(),
            message: sentence(&found.standing, &changes),
            cluster,
            position: Some(PositionView {
                ahead: place.ahead_of_team,
                ahead_same_shape: place.ahead_of_group,
            }),
            changes,
            clusters: found.clusters.iter().map(ClusterAnswerView::from).collect(),
            ahead: found.ahead.iter().map(AheadView::from).collect(),
            expected_start: Some(ExpectedStartView::from(&found.forecast)),
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
            view.message = format!(
                "attempt {} did not succeed; the next is not placed before {at}. If it were looked at now: {}",
                job.lifecycle.attempts, view.message
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

/// What holds it, and what would change that.
fn sentence(standing: &Standing, changes: &[ChangeView]) -> String {
    match standing {
        Standing::Starts(cluster) => format!("the next pass places it on {cluster}"),
        Standing::Absent => "its team is not configured any more, so nothing of it is placed".to_owned(),
        Standing::Held(hold) => {
            let with_time = |c: &ChangeView| match &c.expected {
                Some(at) => format!("{} (expected at {at})", c.message),
                None => c.message.clone(),
            };
            let changes: Vec<String> = changes.iter().map(with_time).collect();
            match &changes[..] {
                [] => format!("{hold}; no single change was found that would let it start now"),
                all => format!("{hold}; it starts {}", all.join(", or ")),
            }
        }
    }
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

impl From<&ClusterAnswer> for ClusterAnswerView {
    fn from(answer: &ClusterAnswer) -> Self {
        let (code, message) = match &answer.refusal {
            Some(refusal) => (refusal.code(), refusal.to_string()),
            None => ("room", "has room for it".to_owned()),
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

impl From<&Forecast> for ExpectedStartView {
    fn from(forecast: &Forecast) -> Self {
        match forecast {
            Forecast::Starts { cluster, at, after } => Self {
                code: "forecast".to_owned(),
                message: if at == after {
                    format!("expected at {at} on {cluster}")
                } else {
                    format!("expected by {at} on {cluster}, not before {after}")
                },
                at: Some(time_text(*at)),
                after: Some(time_text(*after)),
                cluster: Some(cluster.to_string()),
            },
            Forecast::Unknown(why) => Self {
                code: why.code().to_owned(),
                message: why.to_string(),
                at: None,
                after: None,
                cluster: None,
            },
        }
    }
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
    fn of(change: &Change) -> Self {
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
