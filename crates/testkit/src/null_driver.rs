//! A driver that runs nothing: a cluster in memory, for tests of the engine and for benchmarks.
//!
//! It is as strict as a real one is kind: it keeps count of every launch, and remembers each that should not
//! have been (one attempt started twice, two attempts of one job alive at once). What it does and when it
//! fails is told by its methods while it is in use; clones are handles on the same cluster.
//!
//! Costs about 100 bytes per attempt, and a few microseconds per call.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use yard_domain::{AttemptNumber, Capacity, InstanceId, JobId, RemoteName};
use yard_ports::{
    Driver, DriverError, LaunchOutcome, LaunchRequest, LogStream, Observation, ObservationStream, RemoteJob,
    RemoteStatus,
};

/// What becomes of an attempt, by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NullPlan {
    /// How long it is seen as pending; zero: it is never seen so.
    pub pending: Duration,
    /// How long it then runs; zero: it is never seen running, but ended at once. `None`: until
    /// [`NullDriver::finish`] or a stop.
    pub run: Option<Duration>,
    /// How it ends.
    pub end: RemoteStatus,
}

impl NullPlan {
    /// Succeeds after `run`.
    pub fn succeed_after(run: Duration) -> Self {
        Self { pending: Duration::ZERO, run: Some(run), end: RemoteStatus::Succeeded }
    }

    /// Runs until told otherwise.
    pub fn endless() -> Self {
        Self { pending: Duration::ZERO, run: None, end: RemoteStatus::Succeeded }
    }
}

/// What can be set about a [`NullDriver`] from the start.
#[derive(Debug, Clone)]
pub struct NullConfig {
    /// What becomes of attempts, unless a script says otherwise.
    pub plan: NullPlan,
    /// What the cluster says it has.
    pub capacity: Option<Capacity>,
    /// How long a launch call takes.
    pub latency: Duration,
}

impl Default for NullConfig {
    /// Everything succeeds at once.
    fn default() -> Self {
        Self { plan: NullPlan::succeed_after(Duration::ZERO), capacity: None, latency: Duration::ZERO }
    }
}

/// A launch or stop that fails.
#[derive(Debug, Clone)]
pub struct NullFault {
    /// With this error.
    pub error: DriverError,
    /// Whether it has its effect all the same.
    pub effect: bool,
}

/// What has happened so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NullCounters {
    /// Launch calls, failed ones included.
    pub launch_calls: u64,
    /// Attempts started.
    pub started: u64,
    /// Launch calls that found their attempt there.
    pub adopted: u64,
    /// Stop calls.
    pub stop_calls: u64,
    /// Forget calls.
    pub forget_calls: u64,
    /// Attempts alive now.
    pub live: u64,
    /// Most attempts alive at one time.
    pub live_max: u64,
    /// Attempts that were started twice: must stay empty.
    pub doubled: Vec<RemoteName>,
    /// Attempts started while another attempt of their job was alive: must stay empty.
    pub overlapping: Vec<RemoteName>,
}

/// A cluster in memory; clones are the same cluster.
#[derive(Clone)]
pub struct NullDriver {
    shared: Arc<Mutex<State>>,
}

impl NullDriver {
    /// An empty cluster.
    pub fn new(config: NullConfig) -> Self {
        Self { shared: Arc::new(Mutex::new(State::new(config))) }
    }

    /// Decides from now on what becomes of each attempt; called once for each that starts, so it can note
    /// the time too. It must not call this driver.
    pub fn set_script(&self, script: impl Fn(&LaunchRequest) -> NullPlan + Send + Sync + 'static) {
        self.state().script = Some(Arc::new(script));
    }

    /// Has the next `count` launches fail.
    pub fn fail_launches(&self, count: usize, fault: &NullFault) {
        self.state().launch_faults.extend(std::iter::repeat_n(fault.clone(), count));
    }

    /// Has the next `count` stops fail.
    pub fn fail_stops(&self, count: usize, fault: &NullFault) {
        self.state().stop_faults.extend(std::iter::repeat_n(fault.clone(), count));
    }

    /// Cuts the link (every call is [`DriverError::Unreachable`]; attempts go on) or mends it.
    pub fn set_reachable(&self, reachable: bool) {
        let mut state = self.state();
        state.settle();
        if std::mem::replace(&mut state.reachable, reachable) != reachable {
            let item = if reachable { Ok(Observation::Full(state.all())) } else { Err(cut_off()) };
            state.tell(&item);
        }
    }

    /// The cluster dies and comes back empty, as a Ray head does.
    pub fn lose_everything(&self) {
        let mut state = self.state();
        state.settle();
        state.lose_everything();
    }

    /// Ends an attempt now. `false` if it isn't alive.
    pub fn finish(&self, name: &RemoteName, end: RemoteStatus) -> bool {
        let mut state = self.state();
        state.settle();
        key_of(name).is_some_and(|key| state.end(key, Some(Arc::new(end))))
    }

    /// What has happened so far.
    pub fn counters(&self) -> NullCounters {
        let mut state = self.state();
        state.settle();
        state.counters.clone()
    }

    /// Where an attempt stands; `None` if it isn't there.
    pub fn status(&self, name: &RemoteName) -> Option<RemoteStatus> {
        let mut state = self.state();
        state.settle();
        state.jobs.get(&key_of(name)?).map(Job::status)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A script that panics has failed its test already.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for NullDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NullDriver").field("counters", &self.counters()).finish()
    }
}

#[async_trait]
impl Driver for NullDriver {
    fn kind(&self) -> &'static str {
        "null"
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<LaunchOutcome, DriverError> {
        let latency = self.state().latency;
        if !latency.is_zero() {
            sleep(latency).await;
        }
        let mut state = self.state();
        state.settle();
        state.counters.launch_calls += 1;
        state.check_link()?;
        match state.launch_faults.pop_front() {
            Some(NullFault { error, effect }) => {
                if effect {
                    state.launch(request)?;
                }
                Err(error)
            }
            None => state.launch(request),
        }
    }

    fn observe(&self) -> ObservationStream {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.state();
        state.settle();
        let first = if state.reachable { Ok(Observation::Full(state.all())) } else { Err(cut_off()) };
        // Fails only if the receiver, which is here, were gone.
        let _ = sender.send(first);
        state.watchers.push(sender);
        let watch = (self.clone(), receiver);
        futures::stream::unfold(watch, |(driver, mut receiver)| async move {
            let item = driver.next(&mut receiver).await?;
            Some((item, (driver, receiver)))
        })
        .boxed()
    }

    async fn stop(&self, name: &RemoteName) -> Result<(), DriverError> {
        let mut state = self.state();
        state.settle();
        state.counters.stop_calls += 1;
        state.check_link()?;
        let fault = state.stop_faults.pop_front();
        if fault.as_ref().is_none_or(|fault| fault.effect) {
            let key = state.find(name)?;
            state.end(key, Some(Arc::new(RemoteStatus::Stopped)));
        }
        fault.map_or(Ok(()), |fault| Err(fault.error))
    }

    async fn forget(&self, name: &RemoteName) -> Result<(), DriverError> {
        let mut state = self.state();
        state.settle();
        state.counters.forget_calls += 1;
        state.check_link()?;
        let key = state.find(name)?;
        if state.jobs.get(&key).is_some_and(|job| job.phase != Phase::Ended) {
            return Err(DriverError::Refused("it has not ended".to_owned()));
        }
        state.jobs.remove(&key);
        state.gone.insert(key);
        Ok(())
    }

    /// There is never any output, so there is nothing to follow either.
    async fn logs(&self, name: &RemoteName, _offset: u64, _follow: bool) -> Result<LogStream, DriverError> {
        let state = self.state();
        state.check_link()?;
        state.find(name)?;
        Ok(futures::stream::empty().boxed())
    }

    async fn capacity(&self) -> Result<Option<Capacity>, DriverError> {
        let state = self.state();
        state.check_link()?;
        Ok(state.capacity.clone())
    }
}

type Item = Result<Observation, DriverError>;
type Key = (JobId, AttemptNumber);
type Script = Arc<dyn Fn(&LaunchRequest) -> NullPlan + Send + Sync>;

impl NullDriver {
    /// The next observation. Nothing runs in the background: what is due is found by whoever looks.
    async fn next(&self, receiver: &mut mpsc::UnboundedReceiver<Item>) -> Option<Item> {
        loop {
            if let Ok(item) = receiver.try_recv() {
                return Some(item);
            }
            let due = {
                let mut state = self.state();
                state.settle();
                state.due.peek().map(|Reverse((at, ..))| *at)
            };
            let Some(due) = due else { return receiver.recv().await };
            tokio::select! {
                item = receiver.recv() => return item,
                () = sleep_until(due) => {}
            }
        }
    }
}

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

struct State {
    plan: NullPlan,
    /// `plan.end`, shared by all that end so.
    usual_end: Arc<RemoteStatus>,
    capacity: Option<Capacity>,
    latency: Duration,
    script: Option<Script>,
    launch_faults: VecDeque<NullFault>,
    stop_faults: VecDeque<NullFault>,
    reachable: bool,
    jobs: HashMap<Key, Job>,
    /// Attempts that were here and are forgotten or lost.
    gone: HashSet<Key>,
    /// How many attempts of each job are alive.
    live: HashMap<JobId, u32>,
    /// When to move on which attempt.
    due: BinaryHeap<Reverse<(Instant, Key)>>,
    watchers: Vec<mpsc::UnboundedSender<Item>>,
    counters: NullCounters,
}

impl State {
    fn new(config: NullConfig) -> Self {
        Self {
            usual_end: Arc::new(config.plan.end.clone()),
            plan: config.plan,
            capacity: config.capacity,
            latency: config.latency,
            script: None,
            launch_faults: VecDeque::new(),
            stop_faults: VecDeque::new(),
            reachable: true,
            jobs: HashMap::new(),
            gone: HashSet::new(),
            live: HashMap::new(),
            due: BinaryHeap::new(),
            watchers: Vec::new(),
            counters: NullCounters::default(),
        }
    }

    fn check_link(&self) -> Result<(), DriverError> {
        if self.reachable { Ok(()) } else { Err(cut_off()) }
    }

    fn find(&self, name: &RemoteName) -> Result<Key, DriverError> {
        key_of(name).filter(|key| self.jobs.contains_key(key)).ok_or(DriverError::NotFound)
    }

    fn launch(&mut self, request: &LaunchRequest) -> Result<LaunchOutcome, DriverError> {
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
    fn end(&mut self, key: Key, end: Option<Arc<RemoteStatus>>) -> bool {
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
    fn settle(&mut self) {
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

    fn lose_everything(&mut self) {
        let all: Vec<Key> = self.jobs.keys().copied().collect();
        for key in all {
            if self.jobs.remove(&key).is_some_and(|job| job.phase != Phase::Ended) {
                self.count_death(key);
            }
            self.gone.insert(key);
        }
        self.due.clear();
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

    fn tell(&mut self, item: &Item) {
        self.watchers.retain(|watcher| watcher.send(item.clone()).is_ok());
    }

    fn all(&self) -> Vec<RemoteJob> {
        self.jobs.iter().map(|(key, job)| job.shown(*key)).collect()
    }
}

fn cut_off() -> DriverError {
    DriverError::Unreachable("the link is cut".to_owned())
}

fn key_of(name: &RemoteName) -> Option<Key> {
    RemoteName::parse(name.as_str())
}
