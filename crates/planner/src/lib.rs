//! Which queued jobs go to which clusters: [`plan`] is one synchronous, deterministic function of a
//! [`Snapshot`], a [`Policy`], a time and a seed.
//!
//! It works on *groups* (one team, one shape), because jobs of a group are interchangeable: the engine
//! claims as many jobs of each group as the plan places, first in the queue first. For every group of which
//! something was left unplaced, the plan says why, cluster by cluster.
//!
//! - [`snapshot`]: what is decided on; `dense`, `intern`: the same as numbers
//! - `pass`: one pass from beginning to end; `pools`: what is in use meanwhile
//! - `reserve`: room kept for what fits nowhere now; `preempt`, `caused`: what is stopped to make room
//! - `order`: whose turn it is; `score`: which cluster is best
//! - [`Planner`]: the last plan, for a pass in which nothing has changed
//! - [`filter`], `board`: why not there; [`refusal`]: stable codes and sentences
//! - [`mod@explain`]: why a job waits and what would change it, by planning again
//! - [`mod@forecast`]: when it will start, by planning forward in virtual time

mod board;
mod caused;
mod dense;
pub mod explain;
pub mod filter;
pub mod forecast;
mod intern;
mod memo;
mod order;
mod pass;
mod pools;
mod preempt;
pub mod refusal;
mod reserve;
mod score;
pub mod snapshot;

pub use board::ClusterRefusals;
pub use explain::{
    Bounds, Change, Counterfactual, Explanation, Standing, Target, TeamExplanation, explain, explain_team,
};
pub use forecast::{Forecast, Unknown, forecast};
pub use memo::{Planner, Promises};
pub use refusal::{Hold, Refusal};
pub use snapshot::{ClusterView, Facts, Group, Parts, Running, Snapshot, TeamView};
pub use yard_domain::policy::{Fit, Policy};

use yard_domain::job::QueueOrder;
use yard_domain::{AttemptNumber, ClusterId, JobId, Shape, TeamId, Timestamp};

/// One job of this group goes to this cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Whose.
    pub team: TeamId,
    /// Which shape.
    pub shape: Shape,
    /// Where.
    pub cluster: ClusterId,
}

/// An open attempt is to be stopped, so that a waiting job can have its room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preemption {
    /// The job to be stopped; it goes back to the queue, and no retry is charged.
    pub victim: JobId,
    /// Which attempt of it.
    pub attempt: AttemptNumber,
    /// Whose it is.
    pub team: TeamId,
    /// Where it runs.
    pub cluster: ClusterId,
    /// Whose job gets the room.
    pub for_team: TeamId,
    /// Of which shape that job is.
    pub for_shape: Shape,
    /// The right to it.
    pub cause: PreemptionCause,
}

/// By what right a job is stopped for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PreemptionCause {
    /// Its team uses more than its nominal share, and another team of the cohort wants its own back.
    Reclaim,
    /// A job of a higher class of the same team waits.
    HigherClass,
}

impl PreemptionCause {
    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Reclaim => "reclaim",
            Self::HigherClass => "higher_class",
        }
    }
}

impl std::fmt::Display for PreemptionCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Reclaim => "its team uses more than its nominal share, and the other wants its own back",
            Self::HigherClass => "the other job is of a higher class of the same team",
        })
    }
}

/// Room kept free for the head of a team that fits nowhere now: others are placed only if they do not delay it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Whose job.
    pub team: TeamId,
    /// Of which shape.
    pub shape: Shape,
    /// Its place in the queue.
    pub order: QueueOrder,
    /// Where it will start.
    pub cluster: ClusterId,
    /// By when at the latest, if what is open ends by its run timeouts and the cluster stays.
    pub start_by: Timestamp,
    /// When probably, from how long such jobs ran in the past.
    pub expected: Timestamp,
}

/// Why jobs of a group were left waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRefusal {
    /// Whose.
    pub team: TeamId,
    /// Which shape.
    pub shape: Shape,
    /// The rule that holds them.
    pub hold: Hold,
    /// Why not there, for every cluster; empty unless the hold is [`Hold::NoCluster`].
    pub clusters: ClusterRefusals,
}

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they were decided.
    pub placements: Vec<Placement>,
    /// What is to be stopped.
    pub preemptions: Vec<Preemption>,
    /// What is kept free for whom, first come first: at most `reservations_max` of the policy, one for each head for
    /// which others have been asked to stop, and one for each that finds its promised room in a pass that is full.
    pub reservations: Vec<Reservation>,
    /// One for each group of which something seen was left unplaced.
    pub refusals: Vec<GroupRefusal>,
    /// How many turns were taken: jobs placed, and groups refused as a whole.
    pub considered: u32,
}

/// Decides. Deterministic in its arguments: the order in which the snapshot's parts were listed does not matter, `now`
/// is compared with run timeouts (reservations, backfilling, work lost by preemption), and `seed` only breaks ties.
///
/// It knows nothing of earlier plans. Whoever plans again and again uses a [`Planner`], which honours its reservations.
pub fn plan(snapshot: &Snapshot, policy: &Policy, now: Timestamp, seed: u64) -> Plan {
    pass::Pass::new(snapshot, policy, now, seed, &[]).run().plan
}

#[cfg(test)]
mod tests;
