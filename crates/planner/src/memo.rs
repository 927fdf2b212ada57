//! The last plan: for a pass in which nothing has changed, and for the room that it promised.

use std::sync::Arc;

use yard_domain::Timestamp;

use crate::pass::{Made, Pass};
use crate::reserve::Promise;
use crate::{Plan, Policy, Snapshot};

/// Plans like [`plan`](crate::plan), and remembers the last plan, so that a pass over an unchanged snapshot costs no
/// more than to see that it is unchanged: nothing if it is the very same one (a clone), a comparison if it was put
/// together anew from equal parts.
///
/// # Why the remembered plan is the one that would be made
///
/// A pass is a fixed sequence of steps that meets `now` only in comparisons with times of the snapshot (has an attempt's
/// run timeout passed? does this job end before that one starts?), apart from the times it hands out. Each comparison
/// notes the last `now` at which it comes out the same; up to the earliest of those, the pass would take the same
/// steps. Times handed out that count from `now` (the start of a job for which others stop, work lost by victims) end it
/// at once. The one time that may lie behind `now`, the last reservation's `expected`, is moved up to `now`, as a new
/// plan would have it; where others were reckoned beside it, that ends it too.
///
/// # What was promised
///
/// A reservation keeps room while it gathers; when the last piece of it is there, the head simply fits, and in a plan
/// that knows nothing of the reservation a team with a smaller share could take its turn and a piece of the room, over
/// and over. So what had to gather from several attempts, and what others were stopped for, is remembered from plan to
/// plan, and as soon as it fits beside what is kept for older heads, it is placed before all turns, the oldest first. Other
/// heads are left to the turns at first, and honoured in the same way once room has been promised to them for as long as
/// they may run: so a head starts after (older blocked heads + 2) × the longest run timeout at the latest.
/// Promises are lost with the process: then the head is promised room anew.
///
/// Another seed alone makes no new plan if the last one places and stops nothing: then it only orders refusals.
#[derive(Debug, Default)]
pub struct Planner {
    last: Option<Last>,
    promises: Promises,
}

/// What was promised, without the last plan: for whoever plans again and again, never twice on the same, and wants the
/// snapshot's parts back.
#[derive(Debug, Default)]
pub struct Promises(Vec<Promise>);

impl Promises {
    /// What [`plan`](crate::plan) returns for these arguments, but with promised room honoured (see [`Planner`]).
    pub fn plan(&mut self, snapshot: &Snapshot, policy: &Policy, now: Timestamp, seed: u64) -> Plan {
        self.made(snapshot, policy, now, seed).0
    }

    /// The plan, and until when the same arguments give the same.
    fn made(&mut self, snapshot: &Snapshot, policy: &Policy, now: Timestamp, seed: u64) -> (Plan, Timestamp) {
        let Made { plan, holds_until, promises, .. } = Pass::new(snapshot, policy, now, seed, &self.0).run();
        self.0 = promises;
        (plan, holds_until)
    }
}

#[derive(Debug)]
struct Last {
    snapshot: Snapshot,
    policy: Policy,
    now: Timestamp,
    holds_until: Timestamp,
    seed: u64,
    plan: Arc<Plan>,
}

impl Last {
    fn holds(&self, snapshot: &Snapshot, policy: &Policy, now: Timestamp, seed: u64) -> bool {
        let seed_matters = !self.plan.placements.is_empty() || !self.plan.preemptions.is_empty();
        (self.now..=self.holds_until).contains(&now)
            && (seed == self.seed || !seed_matters)
            && *policy == self.policy
            && snapshot.is(&self.snapshot)
    }
}

impl Planner {
    /// What [`plan`](crate::plan) returns for these arguments, but with promised room honoured (see [`Planner`]).
    pub fn plan(&mut self, snapshot: &Snapshot, policy: &Policy, now: Timestamp, seed: u64) -> Arc<Plan> {
        if let Some(last) = self.last.as_mut().filter(|last| last.holds(snapshot, policy, now, seed)) {
            if last.plan.reservations.iter().any(|r| r.expected < now) {
                for reservation in &mut Arc::make_mut(&mut last.plan).reservations {
                    reservation.expected = reservation.expected.max(now);
                }
            }
            return last.plan.clone();
        }
        let (plan, holds_until) = self.promises.made(snapshot, policy, now, seed);
        let plan = Arc::new(plan);
        let (snapshot, policy) = (snapshot.clone(), policy.clone());
        self.last = Some(Last { snapshot, policy, now, holds_until, seed, plan: plan.clone() });
        plan
    }
}
