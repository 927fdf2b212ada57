//! Rounds of plan, apply and end: what the engine does, in virtual time.

use std::collections::HashMap;
use std::time::Duration;

use yard_domain::job::QueueOrder;
use yard_domain::{AttemptNumber, JobId, Request, Timestamp};
use yard_planner::{Group, Parts, Plan, Planner, Policy, Running, Snapshot};

use super::check_after;
use super::promise::Promise;

/// The world between two plans.
pub struct Rounds {
    pub parts: Parts,
    pub policy: Policy,
    pub now: Timestamp,
    pub seed: u64,
    /// Knows what it has promised.
    planner: Planner,
    /// What must have been promised.
    promised: Vec<Promise>,
    /// Where a job came from, for when it goes back to the queue.
    origin: HashMap<JobId, (Group, QueueOrder)>,
    next_job: u64,
}

impl Rounds {
    /// Starts from a snapshot's parts. What runs in it goes back to the queue as jobs of an hour, after all that wait.
    pub fn new(parts: Parts, policy: Policy, now: Timestamp, seed: u64) -> Self {
        let mut rounds = Self {
            parts,
            policy,
            now,
            seed,
            planner: Planner::default(),
            promised: Vec::new(),
            origin: HashMap::new(),
            next_job: 1_000_000,
        };
        for (i, r) in rounds.parts.running.iter().enumerate() {
            let run_timeout = Duration::from_hours(1);
            let clusters =
                yard_domain::ClusterSelector { only: [r.cluster.clone()].into(), ..Default::default() };
            let group = Group {
                team: r.team.clone(),
                shape: yard_domain::job::shape_of(&r.request, &clusters, run_timeout),
                request: r.request.clone(),
                clusters,
                run_timeout,
                expected_run: run_timeout,
                orders: Vec::new(),
            };
            let accepted = i64::try_from(i).unwrap();
            rounds.origin.insert(r.job, (group, QueueOrder::new(r.priority, accepted)));
        }
        rounds
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.parts.clone())
    }

    /// Plans on the world as it is; `Err`: the plan is wrong.
    pub fn plan(&mut self) -> Result<Plan, String> {
        let snapshot = self.snapshot();
        let plan = self.planner.plan(&snapshot, &self.policy, self.now, self.seed);
        let wrong = check_after(&snapshot, &self.policy, self.now, &plan, &mut self.promised);
        if wrong.is_empty() { Ok((*plan).clone()) } else { Err(format!("{wrong:#?}\n{plan:#?}")) }
    }

    /// Starts what the plan places and marks what it stops. The jobs started, in the plan's order.
    pub fn apply(&mut self, plan: &Plan) -> Vec<(JobId, QueueOrder)> {
        let mut started = Vec::new();
        for p in &plan.placements {
            let group =
                self.parts.groups.iter_mut().find(|g| g.team == p.team && g.shape == p.shape).unwrap();
            group.orders.sort_unstable();
            let order = group.orders.remove(0);
            let origin = Group { orders: Vec::new(), ..group.clone() };
            let job = job_id(self.next_job);
            self.next_job += 1;
            self.change_used(&origin, &p.cluster, true);
            self.parts.running.push(Running {
                job,
                attempt: AttemptNumber(1),
                team: p.team.clone(),
                shape: p.shape,
                cluster: p.cluster.clone(),
                request: origin.request.clone(),
                priority: order.priority(),
                started: Some(self.now),
                ends_by: self.now.plus(origin.run_timeout),
                expected_end: self.now.plus(origin.expected_run),
                leaving: false,
            });
            self.origin.insert(job, (origin, order));
            started.push((job, order));
        }
        self.parts.groups.retain(|g| !g.orders.is_empty());
        for p in &plan.preemptions {
            self.parts.running.iter_mut().find(|r| r.job == p.victim).unwrap().leaving = true;
        }
        started
    }

    /// What has been asked to stop has stopped half a minute later, and waits again.
    pub fn requeue_leaving(&mut self) -> usize {
        let leaving: Vec<JobId> = self.parts.running.iter().filter(|r| r.leaving).map(|r| r.job).collect();
        for job in &leaving {
            self.end(*job);
            let (group, order) = self.origin.remove(job).unwrap();
            self.submit(group, order);
        }
        if !leaving.is_empty() {
            self.now = self.now.plus(Duration::from_secs(30));
        }
        leaving.len()
    }

    /// Puts a job into the queue.
    pub fn submit(&mut self, group: Group, order: QueueOrder) {
        match self.parts.groups.iter_mut().find(|g| g.team == group.team && g.shape == group.shape) {
            Some(g) => g.orders.push(order),
            None => self.parts.groups.push(Group { orders: vec![order], ..group }),
        }
    }

    /// Ends an open attempt.
    pub fn end(&mut self, job: JobId) {
        let i = self.parts.running.iter().position(|r| r.job == job).unwrap();
        let r = self.parts.running.remove(i);
        let (group, _) = self.origin[&job].clone();
        self.change_used(&group, &r.cluster, false);
    }

    /// Lets time pass until the next open attempt ends by its timeout, and ends all that end then. `false`: none is.
    pub fn pass_to_next_end(&mut self) -> bool {
        let Some(next) = self.parts.running.iter().map(|r| r.ends_by).min() else { return false };
        self.now = self.now.max(next);
        let due: Vec<JobId> =
            self.parts.running.iter().filter(|r| r.ends_by <= self.now).map(|r| r.job).collect();
        for job in due {
            self.end(job);
        }
        true
    }

    fn change_used(&mut self, group: &Group, cluster: &yard_domain::ClusterId, more: bool) {
        let team = self.parts.teams.iter_mut().find(|t| t.team.id == group.team).map(|t| &mut t.used);
        let cluster = self.parts.clusters.iter_mut().find(|c| c.cluster.id == *cluster).map(|c| &mut c.used);
        let sums: [Option<&mut Request>; 2] = [team, cluster];
        for used in sums.into_iter().flatten() {
            if more {
                used.add(&group.request);
            } else {
                used.checked_sub(&group.request).unwrap();
            }
        }
    }
}

/// A job's id from a number.
pub fn job_id(number: u64) -> JobId {
    JobId::new(number, [0; 10])
}
