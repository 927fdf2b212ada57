//! Why a job waits, and what would change it. Nothing here guesses: the rule that holds it is the plan's own, and each
//! [`Counterfactual`] was found by changing the snapshot and planning again until *this* job was placed.
//!
//! - [`change`]: what could be different, and a snapshot in which it is
//! - `lab`: planning again, a bounded number of times
//! - `search`: the least changes that do
//! - [`ahead`]: who goes first, and why
//! - [`team`]: the same questions for a whole team

pub mod ahead;
pub mod change;
mod lab;
mod search;
pub mod team;

pub use ahead::{Ahead, Reason};
pub use change::{Change, Ending, Extra, Obstacle};
pub use team::{TeamExplanation, TeamGain, TeamHold, explain_team};

use std::time::Duration;

use yard_domain::job::QueueOrder;
use yard_domain::{Block, ClusterId, JobId, Request, Shape, TeamId, Timestamp};

use crate::board::Board;
use crate::forecast::{Forecast, forecast};
use crate::pass::{Made, Pass};
use crate::{Group, GroupRefusal, Hold, Placement, Plan, Policy, Preemption, Refusal, Reservation, Snapshot};
use lab::Lab;

/// Most places filled in before a job: so deep in the queue nothing hangs on the exact number.
const SEAT_MAX: usize = 100_000;

/// Which waiting job is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Whose.
    pub team: TeamId,
    /// Of which shape.
    pub shape: Shape,
    /// Its place in the team's queue.
    pub order: QueueOrder,
}

/// A waiting job with everything that placing it depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// The job as its group; the only one of `orders` is its own place.
    pub job: Group,
    /// How many jobs of the group go before it.
    pub before: u64,
}

impl Seat {
    /// The job in it; `None` if there is none.
    pub fn target(&self) -> Option<Target> {
        let order = *self.job.orders.first()?;
        Some(Target { team: self.job.team.clone(), shape: self.job.shape, order })
    }
}

/// Makes sure that the snapshot has the job and those of its group before it. A snapshot is cut off somewhere (so many
/// groups, so many places of each); the places between are then taken to be just before the job's.
pub fn seat(snapshot: Snapshot, seat: &Seat) -> Snapshot {
    let Some(target) = seat.target() else { return snapshot };
    let mut parts = snapshot.into_parts();
    let known = parts.groups.iter().find(|g| g.team == target.team && g.shape == target.shape);
    let orders = known.map(|g| g.orders.as_slice()).unwrap_or_default();
    let before = orders.iter().filter(|order| **order < target.order).count() as u64;
    let missing = usize::try_from(seat.before.saturating_sub(before)).unwrap_or(usize::MAX).min(SEAT_MAX);
    let mut more = vec![QueueOrder(target.order.0 - 1); missing];
    if !orders.contains(&target.order) {
        more.push(target.order);
    }
    change::join(&mut parts.groups, Group { orders: more, ..seat.job.clone() });
    Snapshot::new(parts)
}

/// How much work an explanation may be. Counted in plans, so that the same question has the same answer on any machine,
/// as long as they are made in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Most plans made to find what would change it.
    pub plans_max: u32,
    /// Most plans made to find when it will start.
    pub forecast_plans_max: u32,
    /// How far into the future is looked for its start.
    pub horizon: Duration,
    /// Most entries of each list in an explanation.
    pub entries_max: u32,
    /// Longest that all of it takes: no plan is begun that would not be there by then, if it takes as long as the longest
    /// so far. (The pass itself, and the first plan of
    /// the forecast, are made in any case.)
    pub time_max: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            plans_max: 64,
            forecast_plans_max: 64,
            horizon: Duration::from_hours(24 * 7),
            entries_max: 10,
            time_max: Duration::from_secs(4),
        }
    }
}

/// What the next pass does with the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It places it there.
    Starts(ClusterId),
    /// It leaves it waiting, by this rule.
    Held(Hold),
    /// The snapshot has no such job: it is not queued any more, or its team is not configured.
    Absent,
}

/// What a cluster says to the job, apart from any quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterAnswer {
    /// Which one.
    pub cluster: ClusterId,
    /// Why not; `None`: it has room for it now.
    pub refusal: Option<Refusal>,
    /// Where it may be placed, and no node has as many GPUs free now as one pod of it must have: it would wait there until
    /// one has.
    pub scattered: Option<Block>,
}

/// A change with which the next pass would place the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counterfactual {
    /// What would have to be different.
    pub change: Change,
    /// Where the job would then be placed.
    pub cluster: ClusterId,
    /// When the change is to be expected by itself; `None`: somebody has to make it.
    pub expected: Option<Timestamp>,
}

/// Why a job waits, and what would change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What the next pass does with it.
    pub standing: Standing,
    /// What every cluster says to it, as the pass leaves them. Nothing if it starts anyway.
    pub clusters: Vec<ClusterAnswer>,
    /// The room that is kept for it, or for an earlier job of its group.
    pub reservation: Option<Reservation>,
    /// What is stopped for it, or for an earlier job of its group.
    pub preemptions: Vec<Preemption>,
    /// Who goes first, its own team first.
    pub ahead: Vec<Ahead>,
    /// When it will probably start.
    pub forecast: Forecast,
    /// What would let it start in the next pass. None if it starts anyway.
    pub counterfactuals: Vec<Counterfactual>,
    /// How many plans were made to find those.
    pub plans: u32,
    /// Whether the search was given up at its bound: there may be other changes that do.
    pub cut_short: bool,
}

/// Explains a waiting job. Pure and deterministic, as [`crate::plan`] is, while `elapsed` (how long ago the question was
/// asked) stays below the time that it may take.
pub fn explain(
    snapshot: &Snapshot,
    policy: &Policy,
    now: Timestamp,
    seed: u64,
    target: &Target,
    bounds: Bounds,
    elapsed: &dyn Fn() -> Duration,
) -> Explanation {
    let mut lab = Lab::new(policy, now, seed, bounds, elapsed);
    let Made { plan, board, .. } = Pass::new(snapshot, policy, now, seed, &[]).run();
    let scene = Scene::new(snapshot, &plan, &board, target);
    let standing = standing(&scene);
    let counterfactuals = match standing {
        Standing::Held(_) => search::counterfactuals(&mut lab, &scene),
        Standing::Starts(_) | Standing::Absent => Vec::new(),
    };
    let ours = |team: &TeamId, shape: Shape| *team == target.team && shape == target.shape;
    Explanation {
        clusters: match standing {
            Standing::Held(_) => scene.cluster_answers(),
            Standing::Starts(_) | Standing::Absent => Vec::new(),
        },
        reservation: plan.reservations.iter().find(|r| ours(&r.team, r.shape)).cloned(),
        preemptions: plan.preemptions.iter().filter(|p| ours(&p.for_team, p.for_shape)).cloned().collect(),
        ahead: ahead::ahead(&scene, policy, bounds.entries_max as usize),
        forecast: forecast(snapshot, policy, now, seed, target, bounds, elapsed),
        counterfactuals,
        plans: lab.plans(),
        cut_short: lab.is_spent(),
        standing,
    }
}

fn standing(scene: &Scene<'_>) -> Standing {
    if scene.group.is_none() {
        return Standing::Absent;
    }
    match (placed_on(scene.snapshot, &scene.plan.placements, scene.target), scene.refusal) {
        (Some(cluster), _) => Standing::Starts(cluster),
        (None, Some(refusal)) => Standing::Held(refusal.hold.clone()),
        // The plan says why of every group of which it leaves something: it stopped before it came to this one.
        (None, None) => Standing::Held(Hold::PassFull),
    }
}

/// Where the plan places this very job: the jobs of a group are taken first in the queue first.
pub(crate) fn placed_on(snapshot: &Snapshot, placements: &[Placement], target: &Target) -> Option<ClusterId> {
    let rank = rank(snapshot, target)?;
    let of_group = placements.iter().filter(|p| p.team == target.team && p.shape == target.shape);
    of_group.map(|p| p.cluster.clone()).nth(rank)
}

/// How many of its group go before the job; `None` if the snapshot does not have it.
pub(crate) fn rank(snapshot: &Snapshot, target: &Target) -> Option<usize> {
    let group = group_of(snapshot, target)?;
    snapshot.groups[group].orders.binary_search(&target.order).ok()?;
    Some(snapshot.groups[group].orders.partition_point(|order| *order < target.order))
}

fn group_of(snapshot: &Snapshot, target: &Target) -> Option<usize> {
    find_group(&snapshot.groups, &target.team, target.shape)
}

/// Where a group is among all of a snapshot, which are sorted.
pub(crate) fn find_group(groups: &[Group], team: &TeamId, shape: Shape) -> Option<usize> {
    groups.binary_search_by(|g| (&g.team, g.shape).cmp(&(team, shape))).ok()
}

/// A snapshot with its plan, seen from one job.
struct Scene<'a> {
    snapshot: &'a Snapshot,
    plan: &'a Plan,
    board: &'a Board,
    target: &'a Target,
    /// Its group, if the snapshot has the job.
    group: Option<usize>,
    /// Why the plan leaves jobs of its group.
    refusal: Option<&'a GroupRefusal>,
    /// What is in use once the plan is carried out, per node of the quota tree.
    quota_used: Vec<Request>,
}

impl<'a> Scene<'a> {
    fn new(snapshot: &'a Snapshot, plan: &'a Plan, board: &'a Board, target: &'a Target) -> Self {
        let quota_used = quota_used_after(snapshot, plan);
        let group = rank(snapshot, target).and_then(|_| group_of(snapshot, target));
        let refusal = plan.refusals.iter().find(|r| r.team == target.team && r.shape == target.shape);
        Self { snapshot, plan, board, target, group, refusal, quota_used }
    }

    /// How many of the group the plan leaves that go before the job, itself among them.
    fn short_by(&self) -> u64 {
        let rank = rank(self.snapshot, self.target).unwrap_or(0);
        let ours = |p: &&Placement| p.team == self.target.team && p.shape == self.target.shape;
        (rank + 1).saturating_sub(self.plan.placements.iter().filter(ours).count()) as u64
    }

    /// What every cluster says, as the plan leaves them.
    fn cluster_answers(&self) -> Vec<ClusterAnswer> {
        let Some(group) = self.group else { return Vec::new() };
        let refusals = self.board.refusals(crate::dense::ix(group));
        let answer = |view: &crate::ClusterView| {
            let id = &view.cluster.id;
            let refusal = refusals.iter().find(|(c, _)| c == id).map(|(_, refusal)| refusal.clone());
            // What can never be is told by the refusal.
            let group = &self.snapshot.groups[group];
            let block = group.clusters.block(&view.cluster, &group.request);
            let scattered = block.filter(|block| block.is_not_now() && !block.is_never());
            ClusterAnswer { cluster: id.clone(), refusal, scattered }
        };
        self.snapshot.clusters.iter().map(answer).collect()
    }
}

/// What is in use once the plan is carried out, per node of the quota tree.
fn quota_used_after(snapshot: &Snapshot, plan: &Plan) -> Vec<Request> {
    let mut used = snapshot.quota.usage(|team| {
        snapshot.teams.binary_search_by(|t| t.team.id.cmp(team)).ok().map(|i| &snapshot.teams[i].used)
    });
    for p in &plan.placements {
        let target = Target { team: p.team.clone(), shape: p.shape, order: QueueOrder(0) };
        let Some(group) = group_of(snapshot, &target) else { continue };
        snapshot.quota.charge(&mut used, snapshot.team_of(group), &snapshot.groups[group].request);
    }
    used
}

/// The jobs of a list, for a sentence: all, or the first few and how many more.
fn names(jobs: &[JobId]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<String> = jobs.iter().take(SHOWN).map(ToString::to_string).collect();
    match jobs.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests;
