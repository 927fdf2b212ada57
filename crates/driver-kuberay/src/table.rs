//! What the cluster showed last, what is new, and what has stood still for too long. Pure.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;
use yard_domain::{Failure, FailureClass, InstanceId, RemoteName};
use yard_ports::{RemoteJob, RemoteStatus};

use crate::facts::RayJob;
use crate::orphans::{Orphans, RayCluster};
use crate::status::{needs_evidence, status};

/// The RayJobs of Switchyard's form. Small on purpose: there may be tens of thousands.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: HashMap<RemoteName, Row>,
    orphans: Orphans,
}

#[derive(Debug)]
struct Row {
    instance: Option<InstanceId>,
    shown: RemoteStatus,
    /// Whether the operator has looked at it at all.
    taken_up: bool,
    /// Since when it stands as it does, by this process's clock.
    since: Instant,
    /// Deadlines that it carries itself.
    pre_running: Duration,
    active: Duration,
    /// Its Ray cluster's name.
    ray_cluster: Box<str>,
    /// Since when it has run without a head, as far as anybody looked.
    beheaded_since: Option<Instant>,
    deleting_since: Option<Instant>,
    /// Whether somebody looks into its failure, or ends it.
    busy: bool,
}

/// What follows from a look at a RayJob.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Nothing that an observer must be told.
    Same,
    /// It stands otherwise.
    Show(RemoteJob),
    /// It has failed, and its pods may know why.
    Explain(RemoteName, Failure),
    /// It was started a second time by the operator, which nobody asked for.
    End(Overdue),
}

/// A RayJob that is to be ended from here, because nobody else will.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Overdue {
    pub(crate) name: RemoteName,
    pub(crate) ray_cluster: Box<str>,
    pub(crate) failure: Failure,
}

impl Table {
    /// Takes a RayJob in as it is now.
    pub(crate) fn apply(&mut self, job: &RayJob, now: Instant) -> Step {
        let Some(name) = job.name() else { return Step::Same };
        let stands = status(job);
        let is_new = !self.rows.contains_key(&name);
        let row = self.rows.entry(name.clone()).or_insert_with(|| Row::new(job, now));
        row.update(job, now);
        if row.busy || row.shown.is_end() {
            return Step::Same;
        }
        if row.shown == RemoteStatus::Running && stands == RemoteStatus::Pending {
            row.busy = true;
            let said = "its head was lost, and the operator has submitted the job once more, which is not how Switchyard retries";
            let failure = Failure::new(FailureClass::Lost, None, said);
            return Step::End(Overdue { name, ray_cluster: row.ray_cluster.clone(), failure });
        }
        if let RemoteStatus::Failed(failure) = &stands
            && needs_evidence(failure)
        {
            row.busy = true;
            return Step::Explain(name, failure.clone());
        }
        if stands == row.shown && !is_new {
            return Step::Same;
        }
        row.show(stands, now);
        Step::Show(row.remote(name))
    }

    /// Takes in what was found out about a failure, or what a RayJob was ended with. `None` if it is gone.
    pub(crate) fn settle(&mut self, name: &RemoteName, failure: Failure, now: Instant) -> Option<RemoteJob> {
        let row = self.rows.get_mut(name)?;
        row.busy = false;
        if !row.shown.is_end() {
            row.show(RemoteStatus::Failed(failure), now);
        }
        Some(row.remote(name.clone()))
    }

    /// An end that could not be made: it is due again.
    pub(crate) fn release(&mut self, name: &RemoteName) {
        if let Some(row) = self.rows.get_mut(name) {
            row.busy = false;
        }
    }

    /// Takes a RayJob out. Whether it is gone before it had ended.
    pub(crate) fn remove(&mut self, name: &RemoteName) -> bool {
        self.rows.remove(name).is_some_and(|row| !row.shown.is_end())
    }

    /// Takes out everything that a whole list did not have.
    pub(crate) fn keep(&mut self, listed: &HashSet<RemoteName>) {
        self.rows.retain(|name, _| listed.contains(name));
    }

    /// Everything as last shown; without what has ended and is being deleted.
    pub(crate) fn all(&self) -> Vec<RemoteJob> {
        let there = self.rows.iter().filter(|(_, row)| !(row.deleting_since.is_some() && row.shown.is_end()));
        let there = there.map(|(name, row)| row.remote(name.clone()));
        there.chain(self.orphans.shown().filter(|orphan| !self.rows.contains_key(&orphan.name))).collect()
    }

    /// Takes in what Ray clusters there are. Returns those that have been without their RayJob for `grace` now, and how many
    /// have none.
    pub(crate) fn sweep(
        &mut self,
        found: &[RayCluster],
        now: Instant,
        grace: Duration,
    ) -> (Vec<RemoteJob>, usize) {
        let due = self.orphans.sweep(found, |name| self.rows.contains_key(name), now, grace);
        (due, self.orphans.len())
    }

    /// What has stood still beyond its own deadlines and `grace`.
    pub(crate) fn overdue(&mut self, now: Instant, grace: Duration) -> Vec<Overdue> {
        let mut overdue = Vec::new();
        for (name, row) in &mut self.rows {
            let (deadline, class, stood) = match row.shown {
                RemoteStatus::Pending => (row.pre_running, FailureClass::Launch, "Initializing"),
                RemoteStatus::Running => (row.active, FailureClass::RunTimeout, "Running"),
                _ => continue,
            };
            let since = now.duration_since(row.since);
            if row.busy || since <= deadline.saturating_add(grace) {
                continue;
            }
            row.busy = true;
            let said =
                format!("the operator left it {stood} for {} s, beyond its own deadline", since.as_secs());
            let failure = Failure::new(class, None, said);
            overdue.push(Overdue { name: name.clone(), ray_cluster: row.ray_cluster.clone(), failure });
        }
        overdue
    }

    /// What runs and had no head in `heads`, nor when it was looked before, `grace` ago or longer: a head is never made again.
    pub(crate) fn beheaded(
        &mut self,
        heads: &HashSet<RemoteName>,
        now: Instant,
        grace: Duration,
    ) -> Vec<Overdue> {
        let mut ended = Vec::new();
        for (name, row) in &mut self.rows {
            if row.shown != RemoteStatus::Running || heads.contains(name) {
                row.beheaded_since = None;
                continue;
            }
            let since = *row.beheaded_since.get_or_insert(now);
            if row.busy || row.deleting_since.is_some() || now.duration_since(since) < grace || since == now {
                continue;
            }
            row.busy = true;
            let failure = Failure::new(FailureClass::Lost, None, "its head is gone, and no other is made");
            ended.push(Overdue { name: name.clone(), ray_cluster: row.ray_cluster.clone(), failure });
        }
        ended
    }

    /// A RayJob that no operator has looked at for `patience`, and for how long.
    pub(crate) fn not_taken_up(&self, now: Instant, patience: Duration) -> Option<(&RemoteName, Duration)> {
        let waiting = self.rows.iter().filter(|(_, row)| !row.taken_up && row.deleting_since.is_none());
        let waiting = waiting.map(|(name, row)| (name, now.duration_since(row.since)));
        waiting.filter(|(_, since)| *since > patience).max_by_key(|(_, since)| *since)
    }

    /// How many deletions hang longer than `patience`, and one of them.
    pub(crate) fn hanging(&self, now: Instant, patience: Duration) -> (usize, Option<&RemoteName>) {
        let hangs = |row: &Row| row.deleting_since.is_some_and(|since| now.duration_since(since) > patience);
        let mut hanging = self.rows.iter().filter(|(_, row)| hangs(row)).map(|(name, _)| name);
        let first = hanging.next();
        (hanging.count() + usize::from(first.is_some()), first)
    }
}

impl Row {
    fn new(job: &RayJob, now: Instant) -> Self {
        let deadline = |seconds: Option<u64>| seconds.map_or(Duration::MAX, Duration::from_secs);
        Self {
            instance: job.instance(),
            shown: RemoteStatus::Pending,
            taken_up: false,
            since: now,
            pre_running: deadline(job.spec.pre_running_deadline_seconds),
            active: deadline(job.spec.active_deadline_seconds),
            ray_cluster: Box::default(),
            beheaded_since: None,
            deleting_since: None,
            busy: false,
        }
    }

    fn update(&mut self, job: &RayJob, now: Instant) {
        self.taken_up = !job.status.job_deployment_status.is_empty();
        if *self.ray_cluster != *job.status.ray_cluster_name && !job.status.ray_cluster_name.is_empty() {
            self.ray_cluster = job.status.ray_cluster_name.as_str().into();
        }
        if job.is_deleting() && self.deleting_since.is_none() {
            self.deleting_since = Some(now);
        }
    }

    fn show(&mut self, status: RemoteStatus, now: Instant) {
        self.shown = status;
        self.since = now;
    }

    fn remote(&self, name: RemoteName) -> RemoteJob {
        RemoteJob { name, instance: self.instance, status: self.shown.clone() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NAME: &str = "yard-00000000000000000000000000000007-1";
    const INSTANCE: &str = "00000000000000000000000000000009";

    fn job(deployment: &str, job_status: &str) -> RayJob {
        serde_json::from_value(json!({
            "metadata": {"name": NAME, "labels": {"yard.instance": INSTANCE}},
            "spec": {"preRunningDeadlineSeconds": 10, "activeDeadlineSeconds": 100},
            "status": {"jobDeploymentStatus": deployment, "jobStatus": job_status, "rayClusterName": "rc"},
        }))
        .unwrap()
    }

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn shown(step: &Step) -> &RemoteStatus {
        let Step::Show(remote) = step else { panic!("{step:?}") };
        assert!(remote.instance.is_some());
        &remote.status
    }

    #[test]
    fn only_what_is_new_is_shown_and_an_end_stays() {
        let (mut table, now) = (Table::default(), Instant::now());
        assert_eq!(shown(&table.apply(&job("", ""), now)), &RemoteStatus::Pending);
        assert_eq!(table.apply(&job("Initializing", ""), at(now, 1)), Step::Same);
        assert_eq!(shown(&table.apply(&job("Running", "RUNNING"), at(now, 2))), &RemoteStatus::Running);
        assert_eq!(shown(&table.apply(&job("Complete", "STOPPED"), at(now, 3))), &RemoteStatus::Stopped);
        assert_eq!(table.apply(&job("Initializing", ""), at(now, 4)), Step::Same);
        let mut deleting = job("Complete", "STOPPED");
        deleting.metadata.deletion_timestamp = serde_json::from_value(json!("2026-11-25T10:00:00Z")).unwrap();
        assert_eq!(table.all().len(), 1);
        assert_eq!(table.apply(&deleting, at(now, 5)), Step::Same);
        assert_eq!(table.all().len(), 0);
        assert_eq!(table.hanging(at(now, 5), Duration::ZERO).0, 0);
        assert_eq!(table.hanging(at(now, 65), Duration::from_mins(1)), (0, None));
        assert_eq!(table.hanging(at(now, 66), Duration::from_mins(1)).0, 1);
        let name = deleting.name().unwrap();
        assert!(!table.remove(&name));
        table.apply(&job("", ""), now);
        assert!(table.remove(&name), "what was not over is missed");
    }

    #[test]
    fn a_failure_that_pods_may_explain_is_shown_when_it_has_been_looked_into() {
        let (mut table, now) = (Table::default(), Instant::now());
        table.apply(&job("Initializing", ""), now);
        let mut failed = job("Failed", "");
        failed.status.reason = "PreRunningDeadlineExceeded".to_owned();
        let Step::Explain(name, failure) = table.apply(&failed, now) else { panic!() };
        assert_eq!(failure.class, FailureClass::Launch);
        assert_eq!(table.apply(&failed, now), Step::Same);
        assert_eq!(table.all()[0].status, RemoteStatus::Pending);
        let explained = Failure::new(FailureClass::User, None, "out of memory");
        assert_eq!(
            table.settle(&name, explained.clone(), now).unwrap().status,
            RemoteStatus::Failed(explained)
        );
        assert_eq!(table.apply(&failed, now), Step::Same);
    }

    #[test]
    fn what_stands_still_is_ended_and_what_nobody_takes_up_is_told() {
        let (mut table, now) = (Table::default(), Instant::now());
        let grace = Duration::from_secs(5);
        table.apply(&job("", ""), now);
        assert_eq!(table.not_taken_up(at(now, 3), grace), None);
        assert!(table.not_taken_up(at(now, 6), grace).is_some());
        table.apply(&job("Initializing", ""), at(now, 7));
        assert_eq!(table.not_taken_up(at(now, 60), grace), None);
        assert_eq!(table.overdue(at(now, 15), grace), []);
        let overdue = table.overdue(at(now, 16), grace);
        assert_eq!(
            (overdue.len(), &*overdue[0].ray_cluster, overdue[0].failure.class),
            (1, "rc", FailureClass::Launch)
        );
        assert_eq!(table.overdue(at(now, 17), grace), [], "it is being ended");
        table.release(&overdue[0].name);
        assert_eq!(table.overdue(at(now, 18), grace).len(), 1);
        table.release(&overdue[0].name);
        table.apply(&job("Running", "RUNNING"), at(now, 20));
        assert_eq!(table.overdue(at(now, 125), grace), []);
        assert_eq!(table.overdue(at(now, 126), grace)[0].failure.class, FailureClass::RunTimeout);
    }

    #[test]
    fn what_runs_without_a_head_is_ended_at_the_second_look() {
        let (mut table, now, grace) = (Table::default(), Instant::now(), Duration::from_secs(5));
        let (none, heads) = (HashSet::new(), HashSet::from([job("", "").name().unwrap()]));
        table.apply(&job("Initializing", ""), now);
        assert_eq!(table.beheaded(&none, at(now, 10), grace), [], "it has none yet");
        table.apply(&job("Running", "RUNNING"), at(now, 11));
        assert_eq!(table.beheaded(&none, at(now, 12), grace), [], "the list may be of before");
        assert_eq!(table.beheaded(&heads, at(now, 17), grace), []);
        assert_eq!(table.beheaded(&none, at(now, 18), grace), []);
        assert_eq!(table.beheaded(&none, at(now, 22), grace), [], "not long enough");
        let ended = table.beheaded(&none, at(now, 23), grace);
        assert_eq!((ended.len(), ended[0].failure.class), (1, FailureClass::Lost));
        assert_eq!(table.beheaded(&none, at(now, 40), grace), [], "it is being ended");
        table.release(&ended[0].name);
        assert_eq!(table.beheaded(&none, at(now, 41), grace).len(), 1);
        table.apply(&job("Complete", "SUCCEEDED"), at(now, 42));
        table.release(&ended[0].name);
        table.apply(&job("Complete", "SUCCEEDED"), at(now, 43));
        assert_eq!(table.beheaded(&none, at(now, 60), grace), [], "it has ended");
    }

    #[test]
    fn a_second_start_by_the_operator_is_ended() {
        let (mut table, now) = (Table::default(), Instant::now());
        table.apply(&job("Running", "RUNNING"), now);
        let step = table.apply(&job("Running", "PENDING"), at(now, 1));
        assert!(
            matches!(&step, Step::End(Overdue { failure, .. }) if failure.class == FailureClass::Lost),
            "{step:?}"
        );
        assert_eq!(table.apply(&job("Running", "RUNNING"), at(now, 2)), Step::Same);
    }
}
