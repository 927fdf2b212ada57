//! A placement pass: plan, place, ask victims to leave.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use yard_domain::{LeaseToken, Timestamp};
use yard_planner::{Hold, Placement, Plan, Preemption};

use super::calendar::{Attempt, Due};
use super::state::job_index;
use super::{FAR, Simulation};
use crate::model::Model;

/// The one scheduler's lease.
const LEASE: LeaseToken = LeaseToken(1);

impl Simulation<'_> {
    pub(super) fn pass(&mut self) {
        self.changed = false;
        self.last_pass = Some(self.now);
        self.passes += 1;
        self.recorder.heads(self.now, &self.teams);
        let at = (self.teams.as_mut_slice(), self.clusters.as_slice());
        let snapshot = self.view.snapshot(&self.model, &mut self.groups, &self.jobs, at, self.now);
        let seed = drawn(self.model.seed, [self.passes, 0]).random();
        let plan = (self.decide)(&snapshot, &self.policy, self.now, seed);
        self.view.keep(snapshot);
        self.considered += u64::from(plan.considered);
        self.reservation_due = next_reservation(&plan, self.now);
        for placement in &plan.placements {
            self.place(placement);
        }
        for preemption in &plan.preemptions {
            self.preempt(preemption);
        }
        // What a pass did not see, or had no placements left for, is for the next one.
        let unseen = !plan.placements.is_empty()
            && (self.groups.waiting() > self.model.groups_max || self.group_was_deeper(&plan));
        self.changed = self.changed || unseen || plan.refusals.iter().any(|r| r.hold == Hold::PassFull);
    }

    /// Whether all that was seen of a group was placed, and there is more of it.
    fn group_was_deeper(&self, plan: &Plan) -> bool {
        if plan.placements.len() < self.model.depth {
            return false;
        }
        let mut placed = std::collections::HashMap::new();
        for p in &plan.placements {
            *placed.entry((&p.team, p.shape)).or_insert(0usize) += 1;
        }
        placed.iter().any(|((team, shape), count)| {
            let team = self.teams.binary_search_by(|t| t.team.id.cmp(team)).ok();
            let group = team.and_then(|team| self.groups.find(team, *shape));
            *count >= self.model.depth && group.is_some_and(|g| !self.groups.list[g].queue.is_empty())
        })
    }

    fn place(&mut self, placement: &Placement) {
        let team = self.teams.binary_search_by(|t| t.team.id.cmp(&placement.team)).ok();
        let group = team.and_then(|team| self.groups.find(team, placement.shape));
        let cluster = self.clusters.iter().position(|c| c.cluster.id == placement.cluster);
        let (Some(team), Some(group), Some(c)) = (team, group, cluster) else {
            self.audit.violated(self.now, || format!("the planner placed something unknown: {placement:?}"));
            return;
        };
        let Some(index) = self.groups.pop(group) else {
            self.audit.violated(self.now, || format!("the planner placed more than waits: {placement:?}"));
            return;
        };
        let Some(job) = self.jobs.get(index) else { return };
        let (order, request) = (job.order, job.life.request.clone());
        self.leave_queue(team, order, index, &request);
        let claim = self.jobs.get(index).map(|job| job.life.claim(LEASE));
        claim.and_then(|decision| self.apply(index, decision));
        let cluster = placement.cluster.clone();
        let place = self.jobs.get(index).map(|job| job.life.place(LEASE, cluster, self.now.plus(FAR)));
        place.and_then(|decision| self.apply(index, decision));
        self.charged(index, c);
    }

    /// A job has just been placed: charges it and begins its launch.
    fn charged(&mut self, index: u32, c: usize) {
        let Some(job) = self.jobs.get_mut(index) else { return };
        let Some(open) = job.life.state.open_attempt() else { return };
        let attempt = Attempt { job: index, number: open.number };
        job.cluster = c;
        job.started = None;
        let (team, class, accepted_at) = (job.team, job.class, job.accepted_at);
        let request = job.life.request.clone();
        let launch = job.life.begin_launch(attempt.number, LEASE, self.now.plus(FAR));
        let first = attempt.number.0 == 1;
        self.apply(index, launch);
        self.recorder.placed(team, class, first.then(|| self.now.since(accepted_at)));
        self.waiting -= 1;
        self.open += 1;
        self.teams[team].count_past(self.now);
        self.teams[team].used.add(&request);
        let cluster = &mut self.clusters[c];
        cluster.used.add(&request);
        cluster.open.insert(index);
        let mut there = self.now;
        if let Some(scaling) = &mut cluster.scaling {
            let (at, grow) = scaling.used(&cluster.used, self.now);
            there = at;
            if let Some(up_to) = grow {
                self.calendar.put(at, Due::Grown(c, up_to));
            }
        }
        let delay = luck(&self.model, attempt).launch_delay;
        self.calendar.put(there.plus(delay), Due::Started(attempt));
        self.view.opened(attempt);
    }

    fn preempt(&mut self, preemption: &Preemption) {
        let index = job_index(preemption.victim);
        let asked = self.jobs.get(index).and_then(|job| {
            let reason = preemption.cause.code();
            job.life.request_preemption(preemption.attempt, preemption.for_team.clone(), reason)
        });
        let Some(event) = asked else { return };
        self.apply(index, Ok(event));
        self.recorder.preemption_asked(preemption.cause);
        let attempt = Attempt { job: index, number: preemption.attempt };
        self.calendar.put(self.now.plus(self.model.preempt_grace), Due::Leaves(attempt));
    }
}

fn next_reservation(plan: &Plan, now: Timestamp) -> Option<Timestamp> {
    plan.reservations.iter().flat_map(|r| [r.expected, r.start_by]).filter(|at| *at > now).min()
}

/// What chance has in store for an attempt: by the seed, the job's number of arrival and the attempt's, and nothing else,
/// so that two policies meet the same failures.
#[derive(Debug, Clone, Copy)]
pub(super) struct Luck {
    pub(super) launch_delay: std::time::Duration,
    pub(super) launch_fails: bool,
    /// After which share of its run it fails by its own fault.
    pub(super) fails_after: Option<f64>,
    pub(super) jitter: f64,
}

pub(super) fn luck(model: &Model, attempt: Attempt) -> Luck {
    let mut rng = drawn(model.seed, [u64::from(attempt.job), u64::from(attempt.number.0)]);
    let [delay, launch, user, after, jitter]: [f64; 5] = std::array::from_fn(|_| rng.random());
    let (shortest, longest) = model.launch_delay;
    Luck {
        launch_delay: shortest + longest.saturating_sub(shortest).mul_f64(delay),
        launch_fails: launch < model.launch_failure_rate,
        fails_after: (user < model.user_failure_rate).then_some(after),
        jitter,
    }
}

/// Numbers that follow from the run's seed and what they are for.
fn drawn(seed: u64, purpose: [u64; 2]) -> Xoshiro256PlusPlus {
    // seed_from_u64 spreads a number over the whole state, so each step makes of two numbers one that is well mixed.
    let step = |from: u64, by: u64| {
        Xoshiro256PlusPlus::seed_from_u64(from.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(by))
            .random::<u64>()
    };
    Xoshiro256PlusPlus::seed_from_u64(purpose.into_iter().fold(seed, step))
}
