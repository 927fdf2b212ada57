//! Dispatch: placed jobs are launched on their cluster at a bounded rate, watched, and their ends recorded.
//!
//! - this file: takes and gives back clusters as the [`crate::election`] says, and runs an actor for each
//! - [`actor`]: the one active dispatcher of a cluster
//! - [`board`]: what it knows and what follows from what it sees (pure)
//! - [`launcher`]: launch calls through the token bucket
//! - [`recorder`]: starts and ends, committed in batches
//! - [`breaker`]: holds launches back while calls fail
//! - [`clock`]: the database's time between two readings of it
//! - [`leftovers`]: what has ended on the cluster and is to be removed there
//! - [`gauges`]: what it shows of itself
//! - [`absent`]: stands in for the driver of a cluster that nobody can drive

pub mod absent;
pub mod actor;
pub mod board;
pub mod breaker;
pub mod clock;
pub mod gauges;
pub mod launcher;
pub mod leftovers;
pub mod recorder;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};
use yard_domain::{ClusterId, InstanceId, Lease, LeaseScope};
use yard_ports::{Driver, Store, StoreError};

use crate::archive::LogKeeping;
use crate::catalog::Runtimes;
use crate::election;
use crate::keeper::{Held, Keeper};
use crate::nudge::Nudges;
use crate::settings::{DispatcherSettings, LaunchLimits};
use actor::Actor;

/// A cluster as configured in this process.
#[derive(Clone)]
pub struct ClusterRuntime {
    /// How to talk to it.
    pub driver: Arc<dyn Driver>,
    /// How fast it may be driven.
    pub launches: LaunchLimits,
    /// Whether its capacity is read from it; otherwise it is declared, and the store has it.
    pub reads_capacity: bool,
    /// Jobs on its head at once, for a capacity that is read from the cluster.
    pub jobs_max: u64,
    /// Pause between full comparisons of what is known here with what the store says.
    pub resync: Duration,
}

/// Everything the dispatchers of a process share.
#[derive(Clone)]
pub struct Shared {
    /// The truth.
    pub store: Arc<dyn Store>,
    /// For leases.
    pub keeper: Keeper,
    /// Whom to wake.
    pub nudges: Nudges,
    /// Limits and times.
    pub settings: DispatcherSettings,
    /// This installation.
    pub instance: InstanceId,
    /// Where logs are kept; without it they stay on their clusters only.
    pub logs: Option<LogKeeping>,
}

impl ClusterRuntime {
    /// Whether nothing about how the cluster is driven differs: the same driver under the same limits.
    fn is(&self, other: &Self) -> bool {
        let limits = |r: &Self| (r.launches, r.reads_capacity, r.jobs_max, r.resync);
        Arc::ptr_eq(&self.driver, &other.driver) && limits(self) == limits(other)
    }

    /// Of a cluster that can't be driven from here.
    fn absent() -> Self {
        Self {
            driver: Arc::new(absent::AbsentDriver),
            launches: LaunchLimits::default(),
            reads_capacity: false,
            jobs_max: 0,
            resync: Duration::from_mins(5),
        }
    }
}

/// Looks for which a cluster that can't be driven from here must have been free before it is taken all the same, so
/// that its jobs' clocks run. Whoever can drive it takes it long before.
const ABSENT_LOOKS: u32 = 30;

/// A cluster that is dispatched from here.
struct Tenure {
    held: Held,
    stop: CancellationToken,
    /// `None` if it can't be driven from here.
    runtime: Option<ClusterRuntime>,
}

/// All dispatchers of one replica.
pub struct Dispatchers {
    shared: Shared,
    clusters: watch::Receiver<Arc<Runtimes>>,
    rng: SmallRng,
    running: HashMap<ClusterId, Tenure>,
    actors: JoinSet<(ClusterId, Held)>,
    presence: Option<Held>,
    idle: BTreeMap<ClusterId, u32>,
    /// Given back for others to take.
    offered: BTreeSet<ClusterId>,
    /// Offered, and nobody took them: others can't drive them.
    kept: BTreeSet<ClusterId>,
    /// How many replicas there were at the last look.
    replicas: usize,
}

impl Dispatchers {
    /// For these clusters, as they are from time to time; `seed` spreads waits.
    pub fn new(shared: Shared, clusters: watch::Receiver<Arc<Runtimes>>, seed: u64) -> Self {
        Self {
            shared,
            clusters,
            rng: SmallRng::seed_from_u64(seed),
            running: HashMap::new(),
            actors: JoinSet::new(),
            presence: None,
            idle: BTreeMap::new(),
            offered: BTreeSet::new(),
            kept: BTreeSet::new(),
            replicas: 0,
        }
    }

    /// Takes, runs and gives back clusters until `cancel`; then finishes what is in hand.
    pub async fn run(mut self, cancel: CancellationToken) {
        loop {
            if let Err(error) = self.look().await {
                warn!(%error, "could not look at who dispatches what");
            }
            let pause = self.shared.settings.election_interval.mul_f64(self.rng.random_range(0.75..1.25));
            tokio::select! {
                () = cancel.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
                () = news(&mut self.clusters) => {}
                Some(ended) = self.actors.join_next() => self.ended(ended).await,
            }
        }
        for tenure in self.running.values() {
            tenure.stop.cancel();
        }
        while let Some(ended) = self.actors.join_next().await {
            self.ended(ended).await;
        }
        if let Some(presence) = self.presence.take() {
            self.shared.keeper.give_back(&presence).await;
        }
    }

    async fn look(&mut self) -> Result<(), StoreError> {
        if self.presence.as_ref().is_none_or(|p| p.lost().is_cancelled()) {
            let scope = LeaseScope::Presence(self.shared.keeper.holder().to_owned());
            self.presence = self.shared.keeper.acquire(&scope, self.shared.settings.lease).await?;
        }
        let mut clusters: BTreeSet<ClusterId> =
            self.shared.store.clusters().await?.into_iter().map(|c| c.id).collect();
        let leases = self.shared.store.leases().await?;
        self.count_idle(&clusters, &leases);
        let runtimes = self.clusters.borrow().clone();
        self.stop_outdated(&clusters, &runtimes);
        clusters.retain(|c| {
            let waited = self.idle.get(c).is_some_and(|looks| *looks >= ABSENT_LOOKS);
            runtimes.contains_key(c) || self.running.contains_key(c) || waited
        });
        self.learn_what_others_take(&leases);
        let holder = self.shared.keeper.holder();
        let verdict = election::decide(holder, &clusters, &leases, &self.idle, &self.kept);
        for cluster in verdict.acquire {
            let runtime = runtimes.get(&cluster).cloned();
            self.take(cluster, runtime).await?;
        }
        if let Some(cluster) = verdict.give_back
            && let Some(tenure) = self.running.get(&cluster)
        {
            tenure.stop.cancel();
            self.offered.insert(cluster);
        }
        Ok(())
    }

    /// Stops what is not there any more, and what is to be driven in another way: it is taken again at one of the next
    /// looks, and its jobs run on meanwhile.
    fn stop_outdated(&self, clusters: &BTreeSet<ClusterId>, runtimes: &Runtimes) {
        for (id, tenure) in &self.running {
            let changed = match (&tenure.runtime, runtimes.get(id)) {
                (Some(now), Some(next)) => !now.is(next),
                (None, Some(_)) => true,
                // Not known here any more, or not to be had right now: as before, until its jobs have ended.
                (_, None) => false,
            };
            if (changed || !clusters.contains(id)) && !tenure.stop.is_cancelled() {
                info!(cluster = %id, "the cluster's settings have changed, or it is gone: its dispatcher stops");
                tenure.stop.cancel();
            }
        }
    }

    /// A cluster that was offered and stayed free until this replica took it again is kept from then on, or it would go
    /// to and fro for ever. Forgotten when replicas come or go.
    fn learn_what_others_take(&mut self, leases: &[Lease]) {
        let replicas = leases.iter().filter(|l| matches!(l.scope, LeaseScope::Presence(_))).count();
        if replicas != self.replicas {
            self.replicas = replicas;
            self.offered.clear();
            self.kept.clear();
        }
        let me = self.shared.keeper.holder();
        for lease in leases {
            if let LeaseScope::Dispatch(cluster) = &lease.scope
                && &*lease.holder != me
            {
                self.offered.remove(cluster);
                self.kept.remove(cluster);
            }
        }
    }

    fn count_idle(&mut self, clusters: &BTreeSet<ClusterId>, leases: &[Lease]) {
        let taken =
            |c: &ClusterId| leases.iter().any(|l| matches!(&l.scope, LeaseScope::Dispatch(d) if d == c));
        let idle = clusters.iter().filter(|c| !taken(c));
        self.idle = idle.map(|c| (c.clone(), self.idle.get(c).map_or(1, |n| n + 1))).collect();
    }

    async fn take(&mut self, cluster: ClusterId, runtime: Option<ClusterRuntime>) -> Result<(), StoreError> {
        if self.running.contains_key(&cluster) {
            // The lease was lost, but the actor has not noticed yet.
            return Ok(());
        }
        let scope = LeaseScope::Dispatch(cluster.clone());
        let Some(held) = self.shared.keeper.acquire(&scope, self.shared.settings.lease).await? else {
            debug!(%cluster, "another replica was faster");
            return Ok(());
        };
        if self.offered.remove(&cluster) {
            self.kept.insert(cluster.clone());
        }
        if runtime.is_none() {
            warn!(%cluster, "the cluster can't be driven from here, and nobody else does; its jobs count as lost when the grace ends");
        }
        info!(%cluster, token = %held.lease().token, "dispatching");
        let stop = CancellationToken::new();
        let driven = runtime.clone().unwrap_or_else(ClusterRuntime::absent);
        let actor = Actor::new(cluster.clone(), self.shared.clone(), driven, held.clone(), self.rng.random());
        let tenure = Tenure { held: held.clone(), stop: stop.clone(), runtime };
        self.running.insert(cluster.clone(), tenure);
        self.actors.spawn(async move {
            match actor.run(stop).await {
                Ok(()) => debug!(%cluster, "dispatcher stopped"),
                Err(error) => warn!(%cluster, %error, "dispatcher stopped"),
            }
            (cluster, held)
        });
        Ok(())
    }

    async fn ended(&mut self, ended: Result<(ClusterId, Held), tokio::task::JoinError>) {
        match ended {
            Ok((cluster, held)) => {
                self.running.remove(&cluster);
                self.shared.keeper.give_back(&held).await;
            }
            Err(error) => {
                // A bug. Its lease runs out by itself once nobody renews it; so stop renewing all that has no actor.
                error!(%error, "a dispatcher panicked");
                for (_, tenure) in self.running.drain() {
                    tenure.stop.cancel();
                    self.shared.keeper.give_back(&tenure.held).await;
                }
            }
        }
    }
}

/// Waits until then; for ever if there is no such time.
pub(crate) async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Waits for other clusters; for ever if there will be none.
async fn news(clusters: &mut watch::Receiver<Arc<Runtimes>>) {
    if clusters.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
