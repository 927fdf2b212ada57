//! What becomes of attempts, and of the clusters they are on.

use yard_domain::lifecycle::AttemptEnd;
use yard_domain::{ClusterHealth, ClusterSwitch, Event, Failure, FailureClass};

use super::Simulation;
use super::calendar::{Attempt, Due, How};
use super::pass::luck;
use crate::model::Trouble;

impl Simulation<'_> {
    /// Whether the attempt is its job's open one, and its cluster lives.
    fn lives(&self, attempt: Attempt) -> bool {
        self.jobs.get(attempt.job).is_some_and(|job| {
            let open = job.life.state.open_attempt();
            open.is_some_and(|open| open.number == attempt.number) && !self.clusters[job.cluster].dead
        })
    }

    pub(super) fn started(&mut self, attempt: Attempt) {
        if !self.lives(attempt) {
            return;
        }
        let luck = luck(&self.model, attempt);
        if luck.launch_fails {
            self.finish(attempt, failed(FailureClass::Launch));
            return;
        }
        let Some(job) = self.jobs.get_mut(attempt.job) else { return };
        let (run, run_timeout) = (job.run, job.life.run_timeout);
        job.started = Some(self.now);
        let start = job.life.start(attempt.number, self.now);
        self.apply(attempt.job, start);
        let (after, how) = match luck.fails_after {
            Some(share) => (run.mul_f64(share), How::FailsByItself),
            None => (run, How::Succeeds),
        };
        let (after, how) = if after > run_timeout { (run_timeout, How::RunsTooLong) } else { (after, how) };
        self.calendar.put(self.now.plus(after), Due::Ends(attempt, how));
    }

    pub(super) fn ends(&mut self, attempt: Attempt, how: How) {
        if !self.lives(attempt) {
            return;
        }
        if how == How::Succeeds
            && let Some(job) = self.jobs.get(attempt.job)
        {
            let (group, run) = (job.group, job.run);
            self.groups.ran(group, run);
        }
        let end = match how {
            How::Succeeds => AttemptEnd::Succeeded,
            How::FailsByItself => failed(FailureClass::User),
            How::RunsTooLong => failed(FailureClass::RunTimeout),
        };
        self.finish(attempt, end);
    }

    pub(super) fn leaves(&mut self, attempt: Attempt) {
        if !self.lives(attempt) {
            return;
        }
        if let Some(job) = self.jobs.get(attempt.job) {
            let lost = job.started.map(|since| self.now.since(since)).unwrap_or_default();
            self.recorder.preempted(job.team, lost);
        }
        self.finish(attempt, failed(FailureClass::Preempted));
    }

    /// An open attempt ends: gives back what it held; the job ends with it or waits again.
    fn finish(&mut self, attempt: Attempt, end: AttemptEnd) {
        let index = attempt.job;
        let Some(job) = self.jobs.get(index) else { return };
        let (team, class, c, id) = (job.team, job.class, job.cluster, job.life.id);
        let request = job.life.request.clone();
        let jitter = luck(&self.model, attempt).jitter;
        let decision = job.life.finish_attempt(attempt.number, end, &self.model.retry, self.now, jitter);
        let Some(event) = self.apply(index, decision) else { return };
        self.open -= 1;
        self.teams[team].count_past(self.now);
        let cluster = &mut self.clusters[c];
        let short = self.teams[team].used.checked_sub(&request).and(cluster.used.checked_sub(&request));
        if let Err(short) = short {
            self.audit.violated(self.now, || format!("more was given back than was in use ({short})"));
        }
        cluster.open.remove(&index);
        if cluster.scaling.as_mut().is_some_and(|s| s.freed(&cluster.used)) {
            self.calendar.put(self.now.plus(self.model.idle_after), Due::Idle(c));
        }
        self.view.closed(id);
        self.changed = true;
        match event {
            Event::Retried { budget, not_before, queue_deadline, .. } => {
                self.recorder.retried(budget);
                self.waiting += 1;
                if let Some(job) = self.jobs.get_mut(index) {
                    job.started = None;
                    let version = job.life.version;
                    self.calendar.put(queue_deadline, Due::Expires(index, version));
                }
                self.enqueue(index, not_before);
            }
            Event::Ended { outcome } => {
                self.recorder.ended(self.now, team, class, &outcome);
                self.jobs.remove(index);
            }
            _ => {}
        }
    }

    pub(super) fn idle(&mut self, c: usize) {
        let cluster = &mut self.clusters[c];
        if cluster.scaling.as_mut().is_some_and(|s| s.shrink(&cluster.used)) {
            self.calendar.put(self.now.plus(self.model.idle_after), Due::Idle(c));
        }
    }

    pub(super) fn incident(&mut self, incident: usize) {
        let (id, trouble) = (self.incidents[incident].cluster.clone(), self.incidents[incident].trouble);
        let Some(c) = self.clusters.iter().position(|c| c.cluster.id == id) else { return };
        self.recorder.incident(self.now, &id, trouble);
        let cluster = &mut self.clusters[c];
        match trouble {
            Trouble::Drain => cluster.cluster.switch = ClusterSwitch::Drained,
            Trouble::Resume => cluster.cluster.switch = ClusterSwitch::Open,
            Trouble::Lost if !cluster.dead => {
                cluster.cluster.health = ClusterHealth::Unreachable;
                cluster.dead = true;
                cluster.deaths += 1;
                if let Some(scaling) = &mut cluster.scaling {
                    scaling.lost();
                }
                let death = cluster.deaths;
                self.calendar.put(self.now.plus(self.model.lost_grace), Due::Buried(c, death));
            }
            Trouble::Back if cluster.dead => {
                self.bury(c);
                let cluster = &mut self.clusters[c];
                cluster.cluster.health = ClusterHealth::Ready;
                cluster.dead = false;
            }
            Trouble::Lost | Trouble::Back => {}
        }
        self.audit.cluster_takes_jobs(&id, self.clusters[c].cluster.takes_jobs());
        self.changed = true;
    }

    /// What was on a dead cluster is lost.
    pub(super) fn bury(&mut self, c: usize) {
        let open: Vec<u32> = self.clusters[c].open.iter().copied().collect();
        for job in open {
            let number = self.jobs.get(job).and_then(|j| Some(j.life.state.open_attempt()?.number));
            if let Some(number) = number {
                self.finish(Attempt { job, number }, failed(FailureClass::Lost));
            }
        }
    }
}

fn failed(class: FailureClass) -> AttemptEnd {
    AttemptEnd::Failed(Failure::new(class, None, "simulated"))
}
