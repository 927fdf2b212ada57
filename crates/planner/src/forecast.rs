//! When a job will probably start: the planner itself, run forward in virtual time over what is open and what waits.
//!
//! Open attempts end when they are expected to, placed jobs run as long as such jobs usually do, and after every end
//! the planner plans again. Where an autoscaler must first add something for a job, it starts later by the delay that this
//! usually takes. What nobody can know is left out: jobs that will yet arrive, clusters that come and go. So
//! it is a forecast, and its past error is kept beside it.

use std::fmt;
use std::time::Duration;

use yard_domain::job::QueueOrder;
use yard_domain::{AttemptNumber, ClusterId, JobId, Request, Timestamp};

use crate::explain::change::release;
use crate::explain::{Bounds, Target, find_group, placed_on};
use crate::reserve::STOP_GRACE;
use crate::{ClusterView, Group, Parts, Placement, Plan, Policy, Preemption, Running, Snapshot};

/// How long an attempt that was asked to make room is taken to need for it: as plans take it.
const GRACE: Duration = Duration::from_micros(STOP_GRACE.unsigned_abs());
/// How long an attempt that has outrun its expected end is taken to go on at least.
const OVERDUE_MIN: Duration = Duration::from_mins(1);

/// When a job will probably start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forecast {
    /// Then and there.
    Starts {
        /// Where.
        cluster: ClusterId,
        /// When.
        at: Timestamp,
        /// It does not start before: with many attempts open, several ends are taken together.
        after: Timestamp,
    },
    /// It can't be said.
    Unknown(Unknown),
}

/// Why no start is forecast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unknown {
    /// Not within the horizon.
    BeyondHorizon,
    /// Not found within the bound on plans; up to then, it had not started.
    BeyondPlans,
    /// When everything open has ended it still is not placed: something else must change.
    Never,
    /// What is still in use then is held by attempts that the snapshot does not have.
    Unseen,
    /// The snapshot does not have the job.
    Absent,
}

impl Unknown {
    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::BeyondHorizon => "beyond_horizon",
            Self::BeyondPlans => "too_far",
            Self::Never => "never_as_it_is",
            Self::Unseen => "unseen",
            Self::Absent => "absent",
        }
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BeyondHorizon => "it does not start within the time that is looked ahead",
            Self::BeyondPlans => "its start is further ahead than was looked",
            Self::Never => {
                "it does not start even when everything that is open has ended: something else must change"
            }
            Self::Unseen => "what it waits for is held by jobs that were not looked at",
            Self::Absent => "it is not among the jobs that may be placed",
        })
    }
}

/// Runs the planner forward until the job is placed, or `elapsed` (since the question was asked) reaches its bound.
pub fn forecast(
    snapshot: &Snapshot,
    policy: &Policy,
    now: Timestamp,
    seed: u64,
    target: &Target,
    bounds: Bounds,
    elapsed: &dyn Fn() -> Duration,
) -> Forecast {
    if crate::explain::rank(snapshot, target).is_none() {
        return Forecast::Unknown(Unknown::Absent);
    }
    let until = now.plus(bounds.horizon);
    let mut future = Future { snapshot: snapshot.clone(), now, first: now, placed: 0, preempted: Vec::new() };
    let (mut last, mut longest) = (elapsed(), Duration::ZERO);
    for left in (0..bounds.forecast_plans_max).rev() {
        // The rest of the plan goes at once: it shares the snapshot, which is taken apart next.
        let Plan { placements, preemptions, .. } = crate::plan(&future.snapshot, policy, future.now, seed);
        if let Some(cluster) = placed_on(&future.snapshot, &placements, target) {
            let delay = future.growth_before(&cluster, &placements, target);
            return Forecast::Starts { cluster, at: future.now.plus(delay), after: future.first.plus(delay) };
        }
        let before = std::mem::replace(&mut last, elapsed());
        longest = longest.max(last.saturating_sub(before));
        let Some(left) = in_time(left, bounds.time_max.saturating_sub(last), longest) else {
            return Forecast::Unknown(Unknown::BeyondPlans);
        };
        let full = placements.len() >= policy.placements_max as usize;
        future.carry_out(&placements, &preemptions);
        if !full && !future.go_on(left) {
            return Forecast::Unknown(future.at_the_end());
        }
        if future.now > until {
            return Forecast::Unknown(Unknown::BeyondHorizon);
        }
    }
    Forecast::Unknown(Unknown::BeyondPlans)
}

/// How many of `left` plans there is still time for; `None` if for none.
fn in_time(left: u32, time: Duration, each: Duration) -> Option<u32> {
    let most = time.as_nanos().checked_div(each.as_nanos()).unwrap_or(u128::from(u32::MAX));
    if time.is_zero() || most == 0 {
        return None;
    }
    Some(left.min(u32::try_from(most).unwrap_or(u32::MAX)))
}

struct Future {
    snapshot: Snapshot,
    now: Timestamp,
    /// The first of the ends since the plan before.
    first: Timestamp,
    placed: u64,
    /// What was asked to make room since the beginning: it will wait again.
    preempted: Vec<JobId>,
}

impl Future {
    fn change(&mut self, change: impl FnOnce(&mut Parts)) {
        let mut parts = std::mem::take(&mut self.snapshot).into_parts();
        change(&mut parts);
        self.snapshot = Snapshot::new(parts);
    }

    /// Placed jobs run from now on, and jobs asked to make room do so.
    fn carry_out(&mut self, placements: &[Placement], preemptions: &[Preemption]) {
        let (now, mut placed) = (self.now, self.placed);
        self.change(|parts| {
            for p in placements {
                let group = find_group(&parts.groups, &p.team, p.shape).map(|g| &mut parts.groups[g]);
                let Some(group) = group.filter(|g| !g.orders.is_empty()) else { continue };
                placed += 1;
                let from = now.plus(growth(&parts.clusters, &p.cluster, &Request::default(), &group.request));
                let running = started(group, p.cluster.clone(), from, placed);
                group.orders.remove(0);
                charge(parts, &running);
                parts.running.push(running);
            }
            for p in preemptions {
                for r in parts.running.iter_mut().filter(|r| r.job == p.victim) {
                    r.leaving = true;
                    r.ends_by = r.ends_by.min(now.plus(GRACE));
                    r.expected_end = r.ends_by;
                }
            }
        });
        self.placed = placed;
        self.preempted.extend(preemptions.iter().map(|p| p.victim));
    }

    /// How long the job, placed there as one of these, waits for the cluster to grow.
    fn growth_before(&self, cluster: &ClusterId, placements: &[Placement], target: &Target) -> Duration {
        let groups = &self.snapshot.groups;
        let group_of = |team, shape| find_group(groups, team, shape).map(|g| &groups[g]);
        let Some(own) = group_of(&target.team, target.shape) else { return Duration::ZERO };
        let mut ahead = own.orders.iter().take_while(|order| **order != target.order).count();
        let mut beside = Request::default();
        for p in placements {
            if (&p.team, p.shape) == (&target.team, target.shape) {
                // Those of a group are placed in its order: after those ahead comes this one.
                let Some(less) = ahead.checked_sub(1) else { break };
                ahead = less;
            }
            if p.cluster == *cluster
                && let Some(group) = group_of(&p.team, p.shape)
            {
                beside.add(&group.request);
            }
        }
        growth(&self.snapshot.clusters, cluster, &beside, &own.request)
    }

    /// Nothing is open any more.
    fn at_the_end(&self) -> Unknown {
        if self.snapshot.teams.iter().all(|t| t.used.is_zero()) { Unknown::Never } else { Unknown::Unseen }
    }

    /// Goes on to the next end, or (so that `left` more plans reach past all that is open) past several. `false` if
    /// nothing is open.
    fn go_on(&mut self, left: u32) -> bool {
        let (now, preempted) = (self.now, std::mem::take(&mut self.preempted));
        let mut ends: Vec<Timestamp> = self.snapshot.running.iter().map(|r| probable_end(r, now)).collect();
        ends.sort_unstable();
        let together = ends.len().div_ceil(left.max(1) as usize).max(1);
        let Some(next) = ends.get(together - 1).copied() else { return false };
        let first = ends[0];
        self.change(|parts| {
            let gone: Vec<Running> = parts.running.extract_if(.., |r| probable_end(r, now) <= next).collect();
            for running in &gone {
                release(&mut parts.teams, &mut parts.clusters, running);
                if preempted.contains(&running.job) {
                    requeue(parts, running, next);
                }
            }
        });
        self.preempted = preempted;
        (self.first, self.now) = (first, next);
        true
    }
}

/// The delay of the cluster's autoscaler, if what is present there has no room for the request beside what is in use and
/// what is placed there at the same time.
fn growth(clusters: &[ClusterView], cluster: &ClusterId, beside: &Request, request: &Request) -> Duration {
    let view = clusters.binary_search_by(|c| c.cluster.id.cmp(cluster)).map(|i| &clusters[i]);
    let Ok((view, elastic)) = view.and_then(|v| v.cluster.elastic.as_ref().map(|e| (v, e)).ok_or(0)) else {
        return Duration::ZERO;
    };
    let mut used = view.used.clone();
    used.add(beside);
    match &elastic.present {
        Some(present) if present.allows(&used, request).is_ok() => Duration::ZERO,
        Some(_) | None => elastic.delay,
    }
}

fn started(group: &Group, cluster: ClusterId, now: Timestamp, number: u64) -> Running {
    let ends_by = now.plus(group.run_timeout);
    Running {
        // Of its own kind: no real job's id is from that far in the future.
        job: JobId::new((1 << 48) - 1 - number, [0xff; 10]),
        attempt: AttemptNumber(1),
        team: group.team.clone(),
        shape: group.shape,
        cluster,
        request: group.request.clone(),
        priority: group.orders[0].priority(),
        started: Some(now),
        ends_by,
        expected_end: now.plus(group.expected_run).min(ends_by),
        leaving: false,
    }
}

fn charge(parts: &mut Parts, running: &Running) {
    if let Ok(i) = parts.teams.binary_search_by(|t| t.team.id.cmp(&running.team)) {
        parts.teams[i].used.add(&running.request);
    }
    if let Ok(i) = parts.clusters.binary_search_by(|c| c.cluster.id.cmp(&running.cluster)) {
        parts.clusters[i].used.add(&running.request);
    }
}

/// One that made room waits again, behind its equals (when it was accepted is not known here). Of a shape of which
/// nothing waits it is left out: where it may run is not known either.
fn requeue(parts: &mut Parts, running: &Running, at: Timestamp) {
    if let Some(group) = find_group(&parts.groups, &running.team, running.shape) {
        parts.groups[group].orders.push(QueueOrder::new(running.priority, at.as_micros()));
    }
}

/// When an attempt will probably have ended, as seen at `now`. One that has outrun what was expected is taken to go on
/// for as long again as it is overdue.
fn probable_end(running: &Running, now: Timestamp) -> Timestamp {
    if running.expected_end > now {
        return running.expected_end;
    }
    let overdue = now.since(running.expected_end).max(OVERDUE_MIN);
    let latest = if running.ends_by > now { running.ends_by } else { now.plus(OVERDUE_MIN) };
    now.plus(overdue).min(latest)
}
