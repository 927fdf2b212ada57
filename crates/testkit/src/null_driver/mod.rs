//! A driver that runs nothing: a cluster in memory, for tests of the engine and for benchmarks.
//!
//! It is as strict as a real one is kind: it keeps count of every launch, and remembers each that should not
//! have been (one attempt started twice, two attempts of one job alive at once). What it does and when it
//! fails is told by its methods while it is in use; clones are handles on the same cluster.
//!
//! Costs about 100 bytes per attempt, and a few microseconds per call.

mod state;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use yard_domain::{Capacity, RemoteName};
use yard_ports::{
    Driver, DriverError, LaunchOutcome, LaunchRequest, LogStream, ObservationStream, PodLog, RemoteStatus,
};

use state::{Item, State, key_of};

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
    /// How long an observer is left without news before it gets a sign of life.
    pub alive_interval: Duration,
}

impl Default for NullConfig {
    /// Everything succeeds at once.
    fn default() -> Self {
        Self {
            plan: NullPlan::succeed_after(Duration::ZERO),
            capacity: None,
            latency: Duration::ZERO,
            alive_interval: Duration::from_secs(2),
        }
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

    /// Adds to an attempt's output, whether it has been launched or not.
    pub fn print(&self, name: &RemoteName, text: &str) {
        if let Some(key) = key_of(name) {
            self.state().logs.entry(key).or_default().extend_from_slice(text.as_bytes());
        }
    }

    /// Adds to what an attempt's pods print; the others of the attempt are taken for not there. An attempt whose pods never
    /// print has none.
    pub fn print_pod(&self, name: &RemoteName, whose: PodLog, text: &str) {
        if let Some(key) = key_of(name) {
            let mut state = self.state();
            state.pods.entry(key).or_default().entry(whose).or_default().extend_from_slice(text.as_bytes());
        }
    }

    /// Leaves only this of what an attempt's pods have printed, as when some of them are gone.
    pub fn leave_of_pod(&self, name: &RemoteName, whose: PodLog, text: &str) {
        if let Some(key) = key_of(name) {
            self.state().pods.entry(key).or_default().insert(whose, text.as_bytes().to_vec());
        }
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

    /// Says that nothing can begin there, and why, or that it can again. Launches are not refused all the same.
    pub fn set_not_ready(&self, why: Option<&str>) {
        self.state().not_ready = why.map(str::to_owned);
    }

    /// Cuts the link (every call is [`DriverError::Unreachable`]; attempts go on) or mends it.
    pub fn set_reachable(&self, reachable: bool) {
        let mut state = self.state();
        state.settle();
        if std::mem::replace(&mut state.reachable, reachable) != reachable {
            let item = state.look();
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
        state.status(key_of(name)?)
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
        // Fails only if the receiver, which is here, were gone.
        let _ = sender.send(state.look());
        state.watchers.push(sender);
        let watch = Watch { news: receiver, last_shown: Instant::now() };
        futures::stream::unfold((self.clone(), watch), |(driver, mut watch)| async move {
            let item = driver.next(&mut watch).await?;
            Some((item, (driver, watch)))
        })
        .boxed()
    }

    fn not_ready(&self) -> Option<String> {
        self.state().not_ready.clone()
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
        state.forget(key)
    }

    /// What [`NullDriver::print`] has given it by now; there is nothing to follow.
    async fn logs(&self, name: &RemoteName, offset: u64, _follow: bool) -> Result<LogStream, DriverError> {
        let state = self.state();
        state.check_link()?;
        let key = state.find(name)?;
        let Some(log) = state.logs.get(&key) else { return Ok(futures::stream::empty().boxed()) };
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(log.len());
        let rest: Vec<_> = log[from..].chunks(100).map(|b| Ok(Bytes::copy_from_slice(b))).collect();
        Ok(futures::stream::iter(rest).boxed())
    }

    fn has_pod_logs(&self) -> bool {
        true
    }

    async fn pod_logs(
        &self,
        name: &RemoteName,
        wanted: &[PodLog],
    ) -> Result<Vec<(PodLog, Bytes)>, DriverError> {
        let state = self.state();
        state.check_link()?;
        let pods = key_of(name).and_then(|key| state.pods.get(&key));
        let found = pods.into_iter().flatten().filter(|(whose, _)| wanted.contains(whose));
        Ok(found.map(|(whose, text)| (*whose, Bytes::copy_from_slice(text))).collect())
    }

    async fn capacity(&self) -> Result<Option<Capacity>, DriverError> {
        let state = self.state();
        state.check_link()?;
        Ok(state.capacity.clone())
    }
}

impl NullDriver {
    /// The next observation. Nothing runs in the background: what is due is found by whoever looks.
    async fn next(&self, watch: &mut Watch) -> Option<Item> {
        loop {
            let look_again = {
                let mut state = self.state();
                state.settle();
                if let Ok(item) = watch.news.try_recv() {
                    return Some(watch.shown(item));
                }
                let idle_until = watch.last_shown + state.alive_interval;
                if Instant::now() >= idle_until {
                    return Some(watch.shown(state.alive()));
                }
                state.next_due().map_or(idle_until, |due| due.min(idle_until))
            };
            tokio::select! {
                item = watch.news.recv() => return item.map(|item| watch.shown(item)),
                () = sleep_until(look_again) => {}
            }
        }
    }
}

/// One observer.
struct Watch {
    news: mpsc::UnboundedReceiver<Item>,
    last_shown: Instant,
}

impl Watch {
    fn shown(&mut self, item: Item) -> Item {
        self.last_shown = Instant::now();
        item
    }
}
