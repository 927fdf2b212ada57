//! The cluster's state, behind the driver's lock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use yard_domain::{AttemptNumber, Capacity, InstanceId, JobId, RemoteName};
use yard_ports::{DriverError, LaunchOutcome, LaunchRequest, Observation, PodLog, RemoteJob, RemoteStatus};

use super::{NullConfig, NullCounters, NullFault, NullPlan};

pub(super) type Item = Result<Observation, DriverError>;
pub(super) type Key = (JobId, AttemptNumber);
type Script = Arc<dyn Fn(&LaunchRequest) -> NullPlan + Send + Sync>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Pending,
    Running,
    Ended,
}

struct Job {
    instance: InstanceId,
    phase: Phase,
    /// How it ends, or ended.
    end: Arc<RemoteStatus>,
    /// How long it runs, once it does.
    run: Option<Duration>,
}

impl Job {
    fn status(&self) -> RemoteStatus {
        match self.phase {
            Phase::Pending => RemoteStatus::Pending,
            Phase::Running => RemoteStatus::Running,
            Phase::Ended => RemoteStatus::clone(&self.end),
        }
    }

    fn shown(&self, key: Key) -> RemoteJob {
        RemoteJob {
            name: RemoteName::new(key.0, key.1),
            instance: Some(self.instance),
            status: self.status(),
        }
    }
}

pub(super) struct State {
    plan: NullPlan,
    /// `plan.end`, shared by all that end so.
    usual_end: Arc<RemoteStatus>,
    pub(super) capacity: Option<Capacity>,
    pub(super) latency: Duration,
    pub(super) alive_interval: Duration,
    pub(super) script: Option<Script>,
    pub(super) launch_faults: VecDeque<NullFault>,
    pub(super) stop_faults: VecDeque<NullFault>,
    pub(super) reachable: bool,
    jobs: HashMap<Key, Job>,
    /// What attempts have printed; most print nothing.
    pub(super) logs: HashMap<Key, Vec<u8>>,
    pub(super) not_ready: Option<String>,
    pub(super) pods: HashMap<Key, BTreeMap<PodLog, Vec<u8>>>,
    /// Attempts that were here and are forgotten or lost.
    gone: HashSet<Key>,
    /// How many attempts of each job are alive.
    live: HashMap<JobId, u32>,
    /// When to move on which attempt.
    due: BinaryHeap<Reverse<(Instant, Key)>>,
    pub(super) watchers: Vec<mpsc::UnboundedSender<Item>>,
    pub(super) counters: NullCounters,
}

impl State {
    pub(super) fn new(config: NullConfig) -> Self {
        Self {
            usual_end: Arc::new(config.plan.end.clone()),
            plan: config.plan,
            capacity: config.capacity,
            latency: config.latency,
            alive_interval: config.alive_interval,
            script: None,
            launch_faults: VecDeque::new(),
            stop_faults: VecDeque::new(),
            reachable: true,
            jobs: HashMap::new(),
            logs: HashMap::new(),
            not_ready: None,
            pods: HashMap::new(),
            gone: HashSet::new(),
            live: HashMap::new(),
            due: BinaryHeap::new(),
            watchers: Vec::new(),
            counters: NullCounters::default(),
        }
    }

    pub(super) fn check_link(&self) -> Result<(), DriverError> {
        if self.reachable { Ok(()) } else { Err(cut_off()) }
    }

    pub(super) fn find(&self, name: &RemoteName) -> Result<Key, DriverError> {
        key_of(name).filter(|key| self.jobs.contains_key(key)).ok_or(DriverError::NotFound)
    }

    pub(super) fn launch(&mut self, request: &LaunchRequest) -> Result<LaunchOutcome, DriverError> {
        let key = (request.job, request.attempt);
        if let Some(job) = self.jobs.get(&key) {
            if job.instance != request.instance {
                return Err(DriverError::NameTaken(request.name.to_string()));
            }
            self.counters.adopted += 1;
            return Ok(LaunchOutcome::Adopted(job.status()));
        }
        if self.gone.contains(&key) {
            self.counters.doubled.push(request.name.clone());
        }
        let live = self.live.entry(key.0).or_default();
        if *live > 0 {
            self.counters.overlapping.push(request.name.clone());
        }
        *live += 1;
        self.counters.started += 1;
        self.counters.live += 1;
        self.counters.live_max = self.counters.live_max.max(self.counters.live);
        let (pending, run, end) = match &self.script {
            Some(script) => {
                let plan = script(request);
                (plan.pending, plan.run, Arc::new(plan.end))
            }
            None => (self.plan.pending, self.plan.run, Arc::clone(&self.usual_end)),
        };
        self.jobs.insert(key, Job { instance: request.instance, phase: Phase::Pending, end, run });
        if pending.is_zero() {
            self.start(key, Instant::now());
        } else {
            self.due.push(Reverse((Instant::now() + pending, key)));
            self.show(key);
        }
        Ok(LaunchOutcome::Launched)
    }

    fn start(&mut self, key: Key, at: Instant) {
        let Some(job) = self.jobs.get_mut(&key) else { return };
        job.phase = Phase::Running;
        match job.run {
            Some(Duration::ZERO) => {
                self.end(key, None);
            }
            run => {
                self.due.extend(run.map(|run| Reverse((at + run, key))));
                self.show(key);
            }
        }
    }

    /// Ends an attempt as planned, or as `end` says. `false` if it isn't alive.
    pub(super) fn end(&mut self, key: Key, end: Option<Arc<RemoteStatus>>) -> bool {
        let Some(job) = self.jobs.get_mut(&key).filter(|job| job.phase != Phase::Ended) else { return false };
        job.phase = Phase::Ended;
        job.end = end.unwrap_or_else(|| Arc::clone(&job.end));
        self.count_death(key);
        self.show(key);
        true
    }

    fn count_death(&mut self, key: Key) {
        self.counters.live -= 1;
        if let Some(live) = self.live.get_mut(&key.0) {
            *live -= 1;
            if *live == 0 {
                self.live.remove(&key.0);
            }
        }
    }

    /// Moves on everything that is due.
    pub(super) fn settle(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((at, key))) = self.due.peek().copied().filter(|Reverse((at, _))| *at <= now) {
            self.due.pop();
            match self.jobs.get(&key).map(|job| job.phase) {
                Some(Phase::Pending) => self.start(key, at),
                Some(Phase::Running) => {
                    self.end(key, None);
                }
                Some(Phase::Ended) | None => {}
            }
        }
    }

    pub(super) fn lose_everything(&mut self) {
        let all: Vec<Key> = self.jobs.keys().copied().collect();
        for key in all {
            if self.jobs.remove(&key).is_some_and(|job| job.phase != Phase::Ended) {
                self.count_death(key);
            }
            self.gone.insert(key);
        }
        self.due.clear();
        self.logs.clear();
        self.pods.clear();
        if self.reachable {
            self.tell(&Ok(Observation::Full(Vec::new())));
        }
    }

    fn show(&mut self, key: Key) {
        if let Some(job) = self.jobs.get(&key).filter(|_| self.reachable && !self.watchers.is_empty()) {
            let item = Ok(Observation::Changed(job.shown(key)));
            self.tell(&item);
        }
    }

    pub(super) fn tell(&mut self, item: &Item) {
        self.watchers.retain(|watcher| watcher.send(item.clone()).is_ok());
    }

    /// What an observer is shown who knows nothing.
    pub(super) fn look(&self) -> Item {
        if self.reachable { Ok(Observation::Full(self.all())) } else { Err(cut_off()) }
    }

    /// What an observer is shown who knows everything.
    pub(super) fn alive(&self) -> Item {
        if self.reachable { Ok(Observation::Alive) } else { Err(cut_off()) }
    }

    /// When something will have happened by itself.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    pub(super) fn status(&self, key: Key) -> Option<RemoteStatus> {
        self.jobs.get(&key).map(Job::status)
    }

    pub(super) fn forget(&mut self, key: Key) -> Result<(), DriverError> {
        if self.jobs.get(&key).is_some_and(|job| job.phase != Phase::Ended) {
            return Err(DriverError::Refused("it has not ended".to_owned()));
        }
        self.jobs.remove(&key);
        self.logs.remove(&key);
        self.pods.remove(&key);
        self.gone.insert(key);
        Ok(())
    }

    fn all(&self) -> Vec<RemoteJob> {
        self.jobs.iter().map(|(key, job)| job.shown(*key)).collect()
    }
}

fn cut_off() -> DriverError {
    DriverError::Unreachable("the link is cut".to_owned())
}

pub(super) fn key_of(name: &RemoteName) -> Option<Key> {
    RemoteName::parse(name.as_str())
}
