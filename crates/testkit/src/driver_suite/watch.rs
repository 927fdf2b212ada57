//! Following a driver's observations.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;
use tokio::time::{Instant, timeout_at};
use yard_domain::RemoteName;
use yard_ports::{Observation, ObservationStream, RemoteJob, RemoteStatus};

/// Longest pause between observations.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// What an observer knows, with everything it was shown of each attempt in order.
pub(super) struct Watch {
    stream: ObservationStream,
    patience: Duration,
    shown: HashMap<RemoteName, Vec<RemoteJob>>,
    there: HashMap<RemoteName, RemoteJob>,
    fulls: usize,
}

impl Watch {
    pub(super) fn new(stream: ObservationStream, patience: Duration) -> Self {
        Self { stream, patience, shown: HashMap::new(), there: HashMap::new(), fulls: 0 }
    }

    /// Takes the next observation in.
    async fn step(&mut self, deadline: Instant, waiting_for: &str) {
        let next = timeout_at(deadline, self.stream.next()).await;
        let item = next.unwrap_or_else(|_| panic!("nothing came of {waiting_for}"));
        match item.expect("observations never end").expect("the cluster answers all the time") {
            Observation::Full(jobs) => {
                self.fulls += 1;
                self.there = jobs.iter().map(|job| (job.name.clone(), job.clone())).collect();
                for job in jobs {
                    self.note(job);
                }
            }
            Observation::Alive => assert!(self.fulls > 0, "the first observation must be a full one"),
            Observation::Changed(job) => {
                assert!(self.fulls > 0, "the first observation must be a full one");
                self.there.insert(job.name.clone(), job.clone());
                self.note(job);
            }
        }
    }

    fn note(&mut self, job: RemoteJob) {
        let shown = self.shown.entry(job.name.clone()).or_default();
        let Some(last) = shown.last() else { return shown.push(job) };
        assert!(rank(&last.status) <= rank(&job.status), "{} went back from {last:?} to {job:?}", job.name);
        if last != &job {
            assert!(!last.status.is_end(), "{} changed after its end: {last:?}, {job:?}", job.name);
            shown.push(job);
        }
    }

    /// Waits for anything, but not for long.
    pub(super) async fn sign_of_life(&mut self) {
        self.step(Instant::now() + SILENCE_MAX, "a sign of life").await;
    }

    /// The first full listing.
    pub(super) async fn first_full(&mut self) -> &HashMap<RemoteName, RemoteJob> {
        let deadline = Instant::now() + self.patience;
        self.step(deadline, "the first full listing").await;
        assert_eq!(self.fulls, 1, "the first observation must be a full one");
        &self.there
    }

    /// Waits until the attempt is shown in a status that `is_it`, and returns how it is shown.
    pub(super) async fn until(&mut self, name: &RemoteName, is_it: fn(&RemoteStatus) -> bool) -> RemoteJob {
        let deadline = Instant::now() + self.patience;
        loop {
            if let Some(job) = self.there.get(name).filter(|job| is_it(&job.status)) {
                return job.clone();
            }
            let waiting_for = format!("{name}, shown as {:?}", self.there.get(name).map(|job| &job.status));
            self.step(deadline, &waiting_for).await;
        }
    }

    /// Waits for its end.
    pub(super) async fn end(&mut self, name: &RemoteName) -> RemoteStatus {
        self.until(name, RemoteStatus::is_end).await.status
    }

    /// Waits until it runs.
    pub(super) async fn running(&mut self, name: &RemoteName) {
        self.until(name, |status| *status == RemoteStatus::Running).await;
    }
}

fn rank(status: &RemoteStatus) -> u8 {
    match status {
        RemoteStatus::Pending => 0,
        RemoteStatus::Running => 1,
        RemoteStatus::Succeeded | RemoteStatus::Failed(_) | RemoteStatus::Stopped => 2,
    }
}
