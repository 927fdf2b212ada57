//! Planning again on a changed snapshot, a bounded number of times and for a bounded time.

use std::time::Duration;

use yard_domain::{ClusterId, Timestamp};

use super::{Bounds, Change, Counterfactual, Target, placed_on};
use crate::order::mix;
use crate::{Plan, Policy, Snapshot};

/// A pass's tie-breaks are made anew each time, so what is promised must hold under others too.
const OTHER_SEEDS: u64 = 2;

/// No more plans may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spent;

/// What a search comes back with.
pub(super) type Found<T> = Result<T, Spent>;

/// Makes plans, and counts them.
pub(super) struct Lab<'a> {
    policy: &'a Policy,
    now: Timestamp,
    seed: u64,
    plans: u32,
    plans_max: u32,
    spent: bool,
    /// A part of the search ends here, so that the others have their turn too.
    pause_at: u32,
    /// How long ago the question was asked.
    elapsed: &'a dyn Fn() -> Duration,
    time_max: Duration,
    /// As `pause_at`, in time.
    pause_time: Duration,
    /// When the last plan was there, and the longest time from one to the next: the next may take as long.
    last: Duration,
    longest: Duration,
}

impl<'a> Lab<'a> {
    /// The search may take half of the time; the rest is for the forecast.
    pub(super) fn new(
        policy: &'a Policy,
        now: Timestamp,
        seed: u64,
        bounds: Bounds,
        elapsed: &'a dyn Fn() -> Duration,
    ) -> Self {
        let (plans_max, time_max) = (bounds.plans_max, bounds.time_max / 2);
        Self {
            policy,
            now,
            seed,
            plans: 0,
            plans_max,
            spent: false,
            pause_at: plans_max,
            elapsed,
            time_max,
            pause_time: time_max,
            last: elapsed(),
            longest: Duration::ZERO,
        }
    }

    pub(super) fn policy(&self) -> &'a Policy {
        self.policy
    }

    /// How many plans were made.
    pub(super) fn plans(&self) -> u32 {
        self.plans
    }

    /// Whether something was left undone at the bound.
    pub(super) fn is_spent(&self) -> bool {
        self.spent
    }

    /// Does a part of the search with at most the `1/parts`-th of what is left, in plans and in time.
    pub(super) fn part<T>(&mut self, parts: u32, search: impl FnOnce(&mut Self) -> Found<T>) -> Option<T> {
        let left = self.plans_max.saturating_sub(self.plans);
        self.pause_at = self.plans.saturating_add(left.div_ceil(parts.max(1))).min(self.plans_max);
        self.last = (self.elapsed)();
        self.pause_time = self.last + self.time_max.saturating_sub(self.last) / parts.max(1);
        search(self).ok()
    }

    pub(super) fn plan(&mut self, snapshot: &Snapshot) -> Found<Plan> {
        self.plan_with(snapshot, self.seed)
    }

    fn plan_with(&mut self, snapshot: &Snapshot, seed: u64) -> Found<Plan> {
        if self.plans >= self.pause_at || (self.elapsed)() + self.longest >= self.pause_time {
            self.spent = true;
            return Err(Spent);
        }
        self.plans += 1;
        let plan = crate::plan(snapshot, self.policy, self.now, seed);
        let before = std::mem::replace(&mut self.last, (self.elapsed)());
        self.longest = self.longest.max(self.last.saturating_sub(before));
        Ok(plan)
    }

    /// Where the job is placed with this change; `None` if it still waits.
    pub(super) fn with(
        &mut self,
        snapshot: &Snapshot,
        target: &Target,
        change: &Change,
    ) -> Found<Option<ClusterId>> {
        let (snapshot, target) = change.apply(snapshot, target);
        let plan = self.plan(&snapshot)?;
        Ok(placed_on(&snapshot, &plan.placements, &target))
    }

    /// The change as something to be told, if the job is placed with it however ties are broken.
    pub(super) fn confirm(
        &mut self,
        snapshot: &Snapshot,
        target: &Target,
        change: Change,
    ) -> Found<Option<Counterfactual>> {
        let (changed, moved) = change.apply(snapshot, target);
        let plan = self.plan(&changed)?;
        let Some(cluster) = placed_on(&changed, &plan.placements, &moved) else { return Ok(None) };
        for other in 1..=OTHER_SEEDS {
            let plan = self.plan_with(&changed, mix(self.seed, other))?;
            if placed_on(&changed, &plan.placements, &moved).is_none() {
                return Ok(None);
            }
        }
        Ok(Some(Counterfactual { expected: change.expected(), change, cluster }))
    }
}
