//! The one active dispatcher of a cluster: an actor that owns the [`Board`].
//!
//! On takeover it loads the cluster's open attempts and compares them with the first complete list from the
//! cluster: what runs is adopted, what was begun and is not there is called again (the same name, so it is
//! the same launch), what is there and is not current is stopped.
//!
//! - this file: the loop, takeover, clocks, and carrying out what the board decides
//! - [`launching`]: from a placed attempt to the answer of its launch call
//! - [`observing`]: what the cluster shows, and whether it answers

mod launching;
mod observing;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use yard_domain::{Capacity, ClusterHealth, ClusterId, ClusterReport, GpuBlocks, RemoteName, Timestamp};
use yard_ports::store::{ActiveAttempt, AttemptRef, Recorded};
use yard_ports::{DriverError, RemoteJob, StoreError};

use super::board::{Action, Board};
use super::breaker::{Breaker, RecentFailures};
use super::clock::DbClock;
use super::gauges::Gauges;
use super::launcher::{Answer, FAILED_CALLS_MAX, Launcher};
use super::leftovers::Leftovers;
use super::recorder::Recorder;
use super::{ClusterRuntime, Shared, at};
use crate::archive::Archiver;
use crate::keeper::Held;

/// Stop and forget calls out at once.
const CALLS_MAX: usize = 16;
/// Attempts read per page on takeover.
const PAGE: u32 = 5_000;
/// How often clocks and wishes are looked at, whatever the poll interval.
const CLOCK_TICK: Duration = Duration::from_secs(1);
/// After a store call that failed, board and store are compared this soon: it may have been committed all the same.
const COMPARE_AFTER_ERROR: Duration = Duration::from_secs(1);
/// A stop that shows no effect is asked for again after this long.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// What came back from a call that ran beside the actor.
enum Done {
    Stopped(AttemptRef, Result<(), DriverError>),
    Forgotten(RemoteName, Result<(), DriverError>),
    Capacity(Result<Option<Capacity>, DriverError>, Vec<GpuBlocks>),
}

/// See the module.
pub struct Actor {
    cluster: ClusterId,
    shared: Shared,
    runtime: ClusterRuntime,
    held: Held,
    board: Board,
    recorder: Recorder,
    breaker: Breaker,
    failures: RecentFailures,
    /// What the last report said of the breaker.
    told_holding: bool,
    launcher: Launcher,
    failed_calls: mpsc::Receiver<()>,
    launches: JoinSet<(AttemptRef, Answer)>,
    launch_cancels: HashMap<AttemptRef, CancellationToken>,
    /// Whether the store had as many launches to begin as there was room for: it may have more.
    more_to_launch: bool,
    calls: JoinSet<Done>,
    call_slots: Arc<Semaphore>,
    leftovers: Leftovers,
    archiver: Archiver,
    gauges: Gauges,
    clock: DbClock,
    seen_at: Instant,
    have_list: bool,
    health: ClusterHealth,
    capacity: Option<Capacity>,
    gpu_blocks: Option<Vec<GpuBlocks>>,
    message: Option<String>,
}

impl Actor {
    /// A dispatcher under a lease that has just been acquired.
    pub fn new(cluster: ClusterId, shared: Shared, runtime: ClusterRuntime, held: Held, seed: u64) -> Self {
        let s = &shared.settings;
        let rng = SmallRng::seed_from_u64(seed);
        let (failed_tx, failed_calls) = mpsc::channel(FAILED_CALLS_MAX);
        let recorder = Recorder::new(shared.store.clone(), held.clone(), s.retry, s.linger, s.batch_max, rng);
        Self {
            board: Board::default(),
            recorder,
            breaker: Breaker::new(s.breaker_threshold, s.breaker_pause),
            failures: RecentFailures::new(s.failures_half_life, Instant::now()),
            told_holding: false,
            launcher: Launcher::new(runtime.driver.clone(), held.clone(), &runtime.launches, s, failed_tx),
            failed_calls,
            launches: JoinSet::new(),
            launch_cancels: HashMap::new(),
            more_to_launch: false,
            calls: JoinSet::new(),
            call_slots: Arc::new(Semaphore::new(CALLS_MAX)),
            leftovers: Leftovers::new(shared.logs.as_ref().map_or(Duration::ZERO, |l| l.settings.end_wait)),
            archiver: Archiver::start(None, runtime.driver.clone(), CancellationToken::new()),
            gauges: Gauges::of(&cluster),
            clock: DbClock::new(Timestamp::from_micros(0), Instant::now()),
            seen_at: Instant::now(),
            have_list: false,
            health: ClusterHealth::Unknown,
            capacity: None,
            gpu_blocks: None,
            message: None,
            cluster,
            shared,
            runtime,
            held,
        }
    }

    /// Dispatches until `cancel`, or until the lease is lost.
    pub async fn run(mut self, cancel: CancellationToken) -> Result<(), StoreError> {
        self.read_clock().await?;
        self.take_over().await?;
        self.archiver =
            Archiver::start(self.shared.logs.clone(), self.runtime.driver.clone(), cancel.child_token());
        let mut stream = self.runtime.driver.observe().ready_chunks(self.shared.settings.batch_max.max(1));
        let nudge = self.shared.nudges.of(&self.cluster);
        let mut poll = tokio::time::interval(self.shared.settings.poll_interval);
        let mut tick = tokio::time::interval(CLOCK_TICK);
        let mut report = tokio::time::interval(self.shared.settings.report_interval);
        let resync = self.runtime.resync;
        let mut compare = tokio::time::interval_at(Instant::now() + resync, resync);
        for interval in [&mut poll, &mut tick, &mut report, &mut compare] {
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        }
        loop {
            let flush_at = self.recorder.due_at();
            let step = tokio::select! {
                () = cancel.cancelled() => break,
                () = self.held.lost().cancelled() => return Ok(()),
                () = at(flush_at), if flush_at.is_some() => self.flush().await,
                Some(seen) = stream.next() => self.observe(seen).await,
                Some(()) = self.failed_calls.recv() => self.call_failed().await,
                Some(Ok((r, answer))) = self.launches.join_next(), if !self.launches.is_empty() => self.launched(r, answer).await,
                Some(Ok(done)) = self.calls.join_next(), if !self.calls.is_empty() => self.call_done(done).await,
                () = nudge.notified() => self.poll().await,
                _ = poll.tick() => self.poll().await,
                _ = tick.tick() => self.tick().await,
                _ = report.tick() => self.report().await,
                _ = compare.tick() => self.compare().await,
            };
            if self.survive(step)? {
                compare.reset_after(COMPARE_AFTER_ERROR.min(resync));
            }
        }
        self.drain().await
    }

    /// A database that is away is waited for; a lost lease ends the dispatcher. Whether something went wrong.
    fn survive(&self, step: Result<(), StoreError>) -> Result<bool, StoreError> {
        match step {
            Err(error @ StoreError::LeaseLost { .. }) => {
                self.held.mark_lost();
                Err(error)
            }
            Err(error) => {
                warn!(cluster = %self.cluster, %error, "the dispatcher goes on and tries again");
                Ok(true)
            }
            Ok(()) => Ok(false),
        }
    }

    /// Lets the launch calls that are out come back and commits what is known; jobs run on.
    async fn drain(mut self) -> Result<(), StoreError> {
        for cancel in self.launch_cancels.values() {
            cancel.cancel();
        }
        while let Some(Ok((r, answer))) = self.launches.join_next().await {
            self.launched(r, answer).await?;
        }
        while self.recorder.due_at().is_some() && self.held.is_trusted() {
            self.flush().await?;
        }
        Ok(())
    }

    async fn read_clock(&mut self) -> Result<(), StoreError> {
        let asked = Instant::now();
        self.clock = DbClock::new(self.shared.store.now().await?, asked);
        Ok(())
    }

    async fn load_open(&self) -> Result<Vec<ActiveAttempt>, StoreError> {
        let mut open = Vec::new();
        loop {
            let after = open.last().map(|a: &ActiveAttempt| a.job);
            let page = self.shared.store.active_attempts(&self.cluster, after, PAGE).await?;
            let full = page.len() == PAGE as usize;
            open.extend(page);
            if !full {
                return Ok(open);
            }
        }
    }

    async fn take_over(&mut self) -> Result<(), StoreError> {
        let started = Instant::now();
        let open = self.load_open().await?;
        for attempt in &open {
            self.board.adopt(attempt);
        }
        if !open.is_empty() {
            info!(cluster = %self.cluster, attempts = open.len(), elapsed = ?started.elapsed(), "took over");
        }
        metrics::histogram!("yard_takeover_seconds").record(started.elapsed().as_secs_f64());
        Ok(())
    }

    /// The full comparison of board and store; repairs what no event told.
    async fn compare(&mut self) -> Result<(), StoreError> {
        let open = self.load_open().await?;
        let recorder = &self.recorder;
        let repaired = self.board.compare(&open, |r| recorder.has_end(r));
        if repaired > 0 {
            warn!(cluster = %self.cluster, repaired, "the board had drifted from the store");
            metrics::counter!("yard_board_repairs_total").increment(repaired as u64);
        }
        Ok(())
    }

    // --- carrying out ---

    async fn act(&mut self, actions: Vec<Action>) -> Result<(), StoreError> {
        let mut orphans = Vec::new();
        for action in actions {
            match action {
                Action::RecordStart(r) => self.recorder.start(r),
                Action::RecordEnd(r, end) => {
                    self.archiver.over(r);
                    self.recorder.end(r, end);
                }
                Action::Stop(r) => self.stop(r),
                Action::Relaunch(r) => self.relaunch(r).await?,
                Action::CancelLaunch(r) => {
                    self.launch_cancels.get(&r).into_iter().for_each(CancellationToken::cancel);
                }
                Action::CheckOrphan(remote) => orphans.push(remote),
            }
        }
        self.check_orphans(orphans).await
    }

    /// What runs here in our name and is not the current attempt of its job is stopped.
    async fn check_orphans(&mut self, remotes: Vec<RemoteJob>) -> Result<(), StoreError> {
        let ours =
            remotes.into_iter().filter(|r| r.instance == Some(self.shared.instance) && !r.status.is_end());
        let refs: Vec<AttemptRef> = ours
            .filter_map(|r| RemoteName::parse(r.name.as_str()))
            .map(|(job, attempt)| AttemptRef { job, attempt })
            .filter(|r| !self.recorder.has_end(*r))
            .collect();
        if refs.is_empty() {
            return Ok(());
        }
        let current = self.shared.store.are_current(&self.cluster, &refs).await?;
        for (r, _) in refs.into_iter().zip(current).filter(|(_, current)| !current) {
            warn!(cluster = %self.cluster, job = %r.job, attempt = %r.attempt, "stopping an orphan: it is not current");
            metrics::counter!("yard_orphans_stopped_total").increment(1);
            self.stop(r);
        }
        Ok(())
    }

    fn stop(&mut self, r: AttemptRef) {
        if !self.held.is_trusted() {
            return;
        }
        self.archiver.stopping(r);
        let (driver, slots) = (self.runtime.driver.clone(), self.call_slots.clone());
        self.calls.spawn(async move {
            let _slot = slots.acquire().await;
            Done::Stopped(r, driver.stop(&RemoteName::new(r.job, r.attempt)).await)
        });
    }

    async fn call_done(&mut self, done: Done) -> Result<(), StoreError> {
        match done {
            Done::Stopped(r, answer) => {
                if let Err(error) = &answer {
                    debug!(job = %r.job, attempt = %r.attempt, %error, "stop was not taken");
                }
                let actions = self.board.stop_answered(r, &answer, self.clock.now());
                self.act(actions).await
            }
            Done::Forgotten(name, Err(error)) if !matches!(error, DriverError::NotFound) => {
                debug!(%name, %error, "could not remove it from the cluster; it stays until the next takeover");
                Ok(())
            }
            Done::Forgotten(..) | Done::Capacity(Ok(None), _) => Ok(()),
            Done::Capacity(Ok(Some(mut capacity)), blocks) => {
                capacity.0.jobs = self.runtime.jobs_max;
                let scattered = self.gpu_blocks.as_ref() != Some(&blocks);
                self.gpu_blocks = Some(blocks);
                if self.capacity.as_ref() != Some(&capacity) {
                    info!(cluster = %self.cluster, ?capacity, "read the cluster's capacity");
                    self.capacity = Some(capacity);
                } else if !scattered {
                    return Ok(());
                }
                self.send_report().await
            }
            Done::Capacity(Err(error), _) => {
                self.silent(&error);
                Ok(())
            }
        }
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        let committed = self.recorder.flush(self.shared.settings.poll_interval).await?;
        let mut freed = false;
        for (r, recorded) in committed {
            match recorded {
                Recorded::Started { deadline } => self.board.started(r, deadline),
                Recorded::Requeued { .. } | Recorded::Ended(_) => {
                    self.board.settled(r);
                    freed = true;
                }
                Recorded::Stale if self.recorder.has_end(r) => {}
                Recorded::Stale => {
                    debug!(job = %r.job, attempt = %r.attempt, "the store has moved on without us");
                    self.board.settled(r);
                }
            }
        }
        if freed {
            self.shared.nudges.scheduler();
        }
        Ok(())
    }

    // --- clocks ---

    async fn tick(&mut self) -> Result<(), StoreError> {
        let silent = self.seen_at.elapsed();
        if self.health.answers() && silent > self.shared.settings.unreachable_after {
            warn!(cluster = %self.cluster, ?silent, "the cluster does not answer; its jobs stay as they are");
            self.health = ClusterHealth::Unreachable;
            self.report().await?;
        }
        let mut actions = self.board.due(self.clock.now(), ASK_AGAIN);
        if silent > self.shared.settings.lost_grace {
            actions.extend(self.board.lose(self.shared.settings.batch_max));
        } else if self.have_list && self.message.is_none() {
            actions.extend(self.board.owed());
        }
        self.forget_old();
        self.gauges.show(self.board.len(), self.breaker.is_open());
        self.act(actions).await?;
        self.tell_breaker().await
    }

    fn forget_old(&mut self) {
        let now = Instant::now();
        let archiver = &self.archiver;
        for name in self.leftovers.take_due(now, |r| archiver.is_settled(r)) {
            let (driver, slots) = (self.runtime.driver.clone(), self.call_slots.clone());
            self.calls.spawn(async move {
                let _slot = slots.acquire().await;
                let answer = driver.forget(&name).await;
                Done::Forgotten(name, answer)
            });
        }
    }

    fn read_capacity(&mut self) {
        if !self.runtime.reads_capacity {
            return;
        }
        let driver = self.runtime.driver.clone();
        self.calls.spawn(async move {
            let capacity = driver.capacity().await;
            Done::Capacity(capacity, driver.gpu_blocks())
        });
    }

    async fn report(&mut self) -> Result<(), StoreError> {
        self.read_clock().await?;
        if self.health.answers() {
            self.read_capacity();
        } else if self.seen_at.elapsed() > self.shared.settings.unreachable_after {
            self.health = ClusterHealth::Unreachable;
        }
        self.send_report().await
    }

    /// Placement is to know at once whether launches are held back.
    async fn tell_breaker(&mut self) -> Result<(), StoreError> {
        if self.is_holding(Instant::now()) == self.told_holding { Ok(()) } else { self.send_report().await }
    }

    fn is_holding(&self, now: Instant) -> bool {
        self.breaker.is_holding(self.board.calls_in_flight(), now)
    }

    async fn send_report(&mut self) -> Result<(), StoreError> {
        let now = Instant::now();
        self.told_holding = self.is_holding(now);
        let report = ClusterReport {
            breaker_open: self.told_holding,
            recent_failures: self.failures.count(now),
            cluster: self.cluster.clone(),
            health: self.health,
            capacity: self.capacity.clone(),
            message: self.message.clone(),
            ray_profiles: self.runtime.driver.ray_profiles(),
            // Where the capacity is declared, nobody looks.
            gpu_blocks: if self.runtime.reads_capacity { self.gpu_blocks.clone() } else { Some(Vec::new()) },
        };
        self.shared.store.report_cluster(&self.held.lease(), &report).await?;
        if self.health == ClusterHealth::Ready {
            self.shared.nudges.scheduler();
        }
        Ok(())
    }
}
