//! One watch of all RayJobs, with a sign of life in between.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, FuturesUnordered};
use futures::{FutureExt, Stream, StreamExt, future::BoxFuture};
use kube::Api;
use kube::runtime::watcher::{self, Event};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};
use yard_domain::{Failure, RemoteName};
use yard_ports::{DriverError, Observation, RemoteStatus};

use crate::client::kind_of;
use crate::cluster::{Cluster, no_crd};
use crate::facts::RayJob;
use crate::heads;
use crate::orphans::{self, RayCluster};
use crate::render::INSTANCE;
use crate::status::status;
use crate::table::{Overdue, Step, Table};

/// Pauses before the next watch after one that failed.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A deletion that takes longer hangs: on a finalizer, most likely.
const DELETION_PATIENCE: Duration = Duration::from_mins(2);
/// Failures looked into at once.
const LOOKUPS_MAX: usize = 16;

type Item = Result<Observation, DriverError>;
type Watching = BoxStream<'static, Result<Event<RayJob>, watcher::Error>>;

/// What came of something that ran beside the watch.
enum Done {
    Explained(RemoteName, Failure),
    Ended(Overdue, Result<(), DriverError>),
    Listed(Result<Vec<RayCluster>, DriverError>),
    Heads(Result<HashSet<RemoteName>, DriverError>),
    /// It has moved on, though the watch had not shown that yet.
    Moved(Box<RayJob>),
}

/// Observations without end.
pub(crate) fn stream(cluster: Arc<Cluster>) -> impl Stream<Item = Item> + Send {
    let now = Instant::now();
    let watch = Watch {
        cluster,
        table: Table::default(),
        ready: VecDeque::new(),
        watching: None,
        listed: None,
        work: FuturesUnordered::new(),
        waiting: VecDeque::new(),
        checked: false,
        have_full: false,
        connect_at: now,
        pause: PAUSE_MIN,
        probe_at: now,
        relist_at: now,
        sweep_at: now,
        told_hanging: 0,
    };
    futures::stream::unfold(watch, |mut watch| async move { Some((watch.next().await, watch)) })
}

struct Watch {
    cluster: Arc<Cluster>,
    table: Table,
    ready: VecDeque<Item>,
    watching: Option<Watching>,
    /// The names of the list that is coming in.
    listed: Option<HashSet<RemoteName>>,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    waiting: VecDeque<BoxFuture<'static, Done>>,
    /// Whether the API server has once been asked what it thinks of our RayJobs.
    checked: bool,
    /// Whether everything has been shown since the last error.
    have_full: bool,
    connect_at: Instant,
    pause: Duration,
    probe_at: Instant,
    relist_at: Instant,
    sweep_at: Instant,
    told_hanging: usize,
}

impl Watch {
    async fn next(&mut self) -> Item {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return item;
            }
            while self.work.len() < LOOKUPS_MAX
                && let Some(next) = self.waiting.pop_front()
            {
                self.work.push(next);
            }
            let Some(watching) = &mut self.watching else {
                sleep_until(self.connect_at).await;
                self.connect().await;
                continue;
            };
            tokio::select! {
                event = watching.next() => match event {
                    Some(Ok(event)) => self.event(event),
                    Some(Err(error)) => {
                        tell_expired(&error);
                        self.failed(watch_error(&error)).await;
                    }
                    None => self.failed(DriverError::Unclear("the watch has ended".to_owned())).await,
                },
                Some(done) = self.work.next(), if !self.work.is_empty() => self.done(done),
                () = sleep_until(self.probe_at) => self.probe().await,
            }
        }
    }

    async fn connect(&mut self) {
        if !self.checked {
            if let Err(error) = self.cluster.check().await {
                return self.failed(error).await;
            }
            self.checked = true;
        }
        let client = match self.cluster.api.client().await {
            Ok(client) => client,
            Err(error) => return self.failed(error).await,
        };
        let config = &self.cluster.config;
        let longest = u32::try_from(config.watch_timeout.as_secs()).unwrap_or(u32::MAX).max(1);
        let wanted = watcher::Config::default().labels(INSTANCE).timeout(longest);
        let api: Api<RayJob> = Api::namespaced(client, &config.namespace);
        let now = Instant::now();
        self.relist_at = now + config.resync_interval;
        self.probe_at = now + config.probe_interval;
        self.listed = None;
        self.watching = Some(watcher::watcher(api, wanted).boxed());
    }

    /// The watch is given up, and begun anew with a whole list after a pause.
    async fn failed(&mut self, error: DriverError) {
        if matches!(error, DriverError::Unauthorized(_)) {
            self.cluster.api.renew().await;
        }
        self.watching = None;
        self.cluster.headless.clear();
        self.have_full = false;
        self.connect_at = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        self.ready.push_back(Err(error));
    }

    fn event(&mut self, event: Event<RayJob>) {
        let now = Instant::now();
        match event {
            Event::Init => self.listed = Some(HashSet::new()),
            Event::InitApply(job) => {
                if let (Some(listed), Some(name)) = (&mut self.listed, job.name()) {
                    listed.insert(name);
                }
                self.apply(&job, now);
            }
            Event::InitDone => {
                if let Some(listed) = self.listed.take() {
                    self.table.keep(&listed);
                    self.cluster.headless.keep(&listed);
                }
                self.have_full = true;
                self.pause = PAUSE_MIN;
                self.ready.push_back(Ok(Observation::Full(self.table.all())));
            }
            Event::Apply(job) => self.apply(&job, now),
            Event::Delete(job) => {
                let Some(name) = job.name() else { return };
                self.cluster.headless.remove(&name);
                if self.table.remove(&name) && self.have_full {
                    self.ready.push_back(Ok(Observation::Full(self.table.all())));
                }
            }
        }
    }

    fn apply(&mut self, job: &RayJob, now: Instant) {
        // Before it is shown: whoever hears of an end reads the log.
        self.cluster.headless.watched(job);
        let step = self.table.apply(job, now);
        self.take(step);
    }

    fn take(&mut self, step: Step) {
        let cluster = Arc::clone(&self.cluster);
        match step {
            Step::Show(job) if self.have_full => self.ready.push_back(Ok(Observation::Changed(job))),
            // What comes in with a list is shown with it.
            Step::Same | Step::Show(_) => {}
            Step::Explain(name, failure) => self.waiting.push_back(
                async move {
                    let failure = cluster.explain(&name, failure).await;
                    Done::Explained(name, failure)
                }
                .boxed(),
            ),
            Step::End(overdue) => self.end(overdue),
        }
    }

    fn end(&mut self, overdue: Overdue) {
        self.waiting.push_back(end(Arc::clone(&self.cluster), overdue).boxed());
    }

    /// The same of what runs without a head, if it does: a watch that has died without a word may have kept its end back.
    fn end_if_running(&mut self, beheaded: Overdue) {
        let cluster = Arc::clone(&self.cluster);
        self.waiting.push_back(
            async move {
                match cluster.job(&beheaded.name).await {
                    Ok(job) if status(&job) != RemoteStatus::Running => Done::Moved(Box::new(job)),
                    Ok(_) => end(cluster, beheaded).await,
                    Err(error) => Done::Ended(beheaded, Err(error)),
                }
            }
            .boxed(),
        );
    }

    fn done(&mut self, done: Done) {
        let now = Instant::now();
        let settled = match done {
            Done::Listed(found) => return self.swept(found, now),
            Done::Heads(found) => return self.counted(found, now),
            Done::Moved(job) => {
                if let Some(name) = job.name() {
                    self.table.release(&name);
                }
                return self.apply(&job, now);
            }
            Done::Explained(name, failure) => self.table.settle(&name, failure, now),
            Done::Ended(overdue, Ok(())) => self.table.settle(&overdue.name, overdue.failure, now),
            Done::Ended(overdue, Err(error)) => {
                warn!(name = %overdue.name, %error, "could not end it; tried again later");
                self.table.release(&overdue.name);
                None
            }
        };
        if let Some(job) = settled.filter(|_| self.have_full) {
            self.ready.push_back(Ok(Observation::Changed(job)));
        }
    }

    /// Asks whether the API server is there, and looks at what should have moved.
    async fn probe(&mut self) {
        let answer = self.cluster.probe().await;
        let now = Instant::now();
        self.probe_at = now + self.cluster.config.probe_interval;
        if let Err(error) = answer {
            return self.failed(error).await;
        }
        if !self.have_full {
            return;
        }
        for overdue in self.table.overdue(now, self.cluster.config.liveness_grace) {
            self.end(overdue);
        }
        self.look_at_operator(now);
        self.look_at_deletions(now);
        self.look_for_orphans(now);
        if now >= self.relist_at {
            self.watching = None;
            self.connect_at = now;
        }
        self.ready.push_back(Ok(Observation::Alive));
    }

    fn look_at_operator(&self, now: Instant) {
        let silent = self.table.not_taken_up(now, self.cluster.config.operator_patience);
        let why = silent.map(|(name, since)| {
            let since = since.as_secs();
            format!("the KubeRay operator has not taken up {name} for {since} s: is it running, and does it watch this namespace?")
        });
        let said = why.clone().unwrap_or_default();
        if self.cluster.set_operator_silent(why) {
            if said.is_empty() {
                info!("the KubeRay operator takes up RayJobs again");
            } else {
                warn!(said, "no further RayJobs are made");
            }
        }
    }

    /// Ray clusters and their heads are not watched: each Ray cluster has its RayJob, but for those that nobody has any more,
    /// and each RayJob that runs has its head, but for those that died.
    fn look_for_orphans(&mut self, now: Instant) {
        if now < self.sweep_at {
            return;
        }
        self.sweep_at = now + self.cluster.config.liveness_grace / 2;
        let cluster = Arc::clone(&self.cluster);
        self.waiting.push_back(async move { Done::Listed(orphans::list(&cluster, None).await) }.boxed());
        let cluster = Arc::clone(&self.cluster);
        self.waiting.push_back(async move { Done::Heads(heads::list(&cluster).await) }.boxed());
    }

    fn counted(&mut self, heads: Result<HashSet<RemoteName>, DriverError>, now: Instant) {
        let heads = match heads {
            Ok(heads) => heads,
            Err(error) => {
                warn!(%error, "could not look for heads that are gone");
                return;
            }
        };
        // What is not known completely may have ended well, and its head have gone with that.
        if !self.have_full {
            return;
        }
        for beheaded in self.table.beheaded(&heads, now, self.cluster.config.liveness_grace / 2) {
            self.end_if_running(beheaded);
        }
    }

    fn swept(&mut self, found: Result<Vec<RayCluster>, DriverError>, now: Instant) {
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                warn!(%error, "could not look for Ray clusters whose RayJob is gone");
                return;
            }
        };
        // What is not known completely may be there.
        if !self.have_full {
            return;
        }
        let (due, all) = self.table.sweep(&found, now, self.cluster.config.liveness_grace);
        metrics::gauge!("yard_kuberay_orphans", "cluster" => self.cluster.config.name.clone())
            .set(u32::try_from(all).unwrap_or(u32::MAX));
        for orphan in due {
            warn!(name = %orphan.name, "a Ray cluster is there whose RayJob is gone");
            self.ready.push_back(Ok(Observation::Changed(orphan)));
        }
    }

    /// Deletions that hang are reported, not forced.
    fn look_at_deletions(&mut self, now: Instant) {
        let (hanging, example) = self.table.hanging(now, DELETION_PATIENCE);
        metrics::gauge!("yard_kuberay_deletions_hanging", "cluster" => self.cluster.config.name.clone())
            .set(u32::try_from(hanging).unwrap_or(u32::MAX));
        if hanging > self.told_hanging
            && let Some(name) = example
        {
            warn!(hanging, example = %name, "deleted RayJobs are still there: a finalizer that nobody takes off, most likely");
        }
        self.told_hanging = hanging;
    }
}

/// Ends a RayJob from here.
async fn end(cluster: Arc<Cluster>, mut overdue: Overdue) -> Done {
    warn!(name = %overdue.name, why = %overdue.failure, "ending what the operator does not");
    metrics::counter!("yard_kuberay_ended_here_total").increment(1);
    // Before its pods go: they may know why nothing came of it.
    overdue.failure = cluster.explain_end(&overdue.name, &overdue.ray_cluster, overdue.failure).await;
    let ended = cluster.end(&overdue.name, &overdue.ray_cluster).await;
    Done::Ended(overdue, ended)
}

/// A watch that asked for more of the past than the API server has: seldom, and worth knowing when it isn't.
fn tell_expired(error: &watcher::Error) {
    let (watcher::Error::WatchError(status) | watcher::Error::WatchStartFailed(kube::Error::Api(status))) =
        error
    else {
        return;
    };
    if status.code == 410 {
        info!(
            said = status.message,
            "the API server has forgotten where the watch was: everything is listed again"
        );
        metrics::counter!("yard_kuberay_watches_expired_total").increment(1);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.cluster.headless.clear();
    }
}

fn watch_error(error: &watcher::Error) -> DriverError {
    let kind = match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => kind_of(error),
        watcher::Error::WatchError(status) => kind_of(&kube::Error::Api(status.clone())),
        watcher::Error::NoResourceVersion => DriverError::Unclear(error.to_string()),
    };
    match kind {
        DriverError::NotFound => no_crd(),
        kind => kind,
    }
}
