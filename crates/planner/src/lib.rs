//! Which queued jobs go to which clusters: [`plan`] is one synchronous, deterministic function of a
//! [`Snapshot`], a [`Policy`], a time and a seed.
//!
//! It works on *groups* (one team, one shape), because jobs of a group are interchangeable: the engine
//! claims as many jobs of each group as the plan places, first in the queue first. For every group of which
//! something was left unplaced, the plan says why, cluster by cluster.
//!
//! - [`snapshot`]: what is decided on
//! - [`order`]: whose turn it is
//! - [`filter`]: which clusters could take a job now, and the refusals of the others
//! - [`score`]: which of those is best
//! - [`refusal`]: why not, as stable codes and sentences

pub mod filter;
pub mod order;
pub mod refusal;
pub mod score;
pub mod snapshot;

pub use refusal::{Hold, Refusal};
pub use snapshot::{ClusterView, Group, Parts, Running, Snapshot, TeamView};
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
    /// Why not there, for every cluster; empty if the team's quota holds them everywhere.
    pub clusters: Vec<(ClusterId, Refusal)>,
}

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they were decided.
    pub placements: Vec<Placement>,
    /// What is to be stopped.
    pub preemptions: Vec<Preemption>,
    /// What is kept free for whom, first come first.
    pub reservations: Vec<Reservation>,
    /// One for each group of which something seen was left unplaced.
    pub refusals: Vec<GroupRefusal>,
    /// How many jobs were looked at.
    pub considered: u32,
}

/// Decides. Deterministic in its arguments; `seed` only breaks ties. `now` is part of the signature because
/// policies may depend on it (ageing, reservations); the present one orders by acceptance alone.
pub fn plan(snapshot: &Snapshot, policy: &Policy, _now: Timestamp, seed: u64) -> Plan {
    let mut state = State::new(snapshot, policy, seed);
    while state.plan.placements.len() < policy.placements_max as usize {
        let Some(turn) = state.turns.take() else { break };
        state.take_turn(turn);
    }
    state.refuse_the_rest();
    state.plan
}

struct State<'a> {
    snapshot: &'a Snapshot,
    policy: &'a Policy,
    seed: u64,
    /// What each cluster and team has in use, with this plan's placements.
    cluster_used: Vec<yard_domain::Request>,
    quota_used: Vec<yard_domain::Request>,
    turns: order::Turns,
    plan: Plan,
}

impl<'a> State<'a> {
    fn new(snapshot: &'a Snapshot, policy: &'a Policy, seed: u64) -> Self {
        Self {
            snapshot,
            policy,
            seed,
            cluster_used: snapshot.clusters.iter().map(|c| c.used.clone()).collect(),
            quota_used: quota_used(snapshot),
            turns: order::Turns::new(snapshot, seed),
            plan: Plan::default(),
        }
    }

    /// Places the first job of the group whose turn it is, or refuses the whole group for this pass: all its
    /// jobs ask for the same, and room only shrinks while a plan is made.
    fn take_turn(&mut self, turn: order::Turn) {
        let group = &self.snapshot.groups[turn.group];
        self.plan.considered += 1;
        if let Err(short) = self.snapshot.quota.allows(&self.quota_used, turn.team, &group.request) {
            self.refuse(turn, Hold::Quota(short), Vec::new());
            return;
        }
        match filter::candidates(self.snapshot, &self.cluster_used, group) {
            Ok(candidates) => {
                let best = score::best(
                    self.snapshot,
                    &self.cluster_used,
                    group,
                    &candidates,
                    self.policy.scores.fit,
                    self.seed,
                );
                self.place(turn, best);
            }
            Err(refusals) => self.refuse(turn, Hold::NoCluster, refusals),
        }
    }

    fn place(&mut self, turn: order::Turn, cluster: usize) {
        let group = &self.snapshot.groups[turn.group];
        self.cluster_used[cluster].add(&group.request);
        self.snapshot.quota.charge(&mut self.quota_used, turn.team, &group.request);
        self.plan.placements.push(Placement {
            team: group.team.clone(),
            shape: group.shape,
            cluster: self.snapshot.clusters[cluster].cluster.id.clone(),
        });
        self.turns.placed(turn);
    }

    fn refuse(&mut self, turn: order::Turn, hold: Hold, clusters: Vec<(ClusterId, Refusal)>) {
        let group = &self.snapshot.groups[turn.group];
        self.plan.refusals.push(GroupRefusal {
            team: group.team.clone(),
            shape: group.shape,
            hold,
            clusters,
        });
        self.turns.blocked(turn);
    }

    fn refuse_the_rest(&mut self) {
        while let Some(turn) = self.turns.take() {
            self.refuse(turn, Hold::PassFull, Vec::new());
        }
    }
}

fn quota_used(snapshot: &Snapshot) -> Vec<yard_domain::Request> {
    let used: std::collections::HashMap<_, _> =
        snapshot.teams.iter().map(|t| (&t.team.id, &t.used)).collect();
    snapshot.quota.usage(|team| used.get(team).copied())
}

#[cfg(test)]
mod tests;
