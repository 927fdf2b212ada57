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
//! - [`absent`]: stands in for the driver of a cluster that was taken out of the configuration

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
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};
use yard_domain::{ClusterId, InstanceId, Lease, LeaseScope};
use yard_ports::{Driver, Store, StoreError};

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
}

/// All dispatchers of one replica.
pub struct Dispatchers {
    shared: Shared,
    clusters: Arc<HashMap<ClusterId, ClusterRuntime>>,
    rng: SmallRng,
    running: HashMap<ClusterId, (Held, CancellationToken)>,
    actors: JoinSet<(ClusterId, Held)>,
    presence: Option<Held>,
    idle: BTreeMap<ClusterId, u32>,
}

impl Dispatchers {
    /// For these clusters; `seed` spreads waits.
    pub fn new(shared: Shared, clusters: HashMap<ClusterId, ClusterRuntime>, seed: u64) -> Self {
        Self {
            shared,
            clusters: Arc::new(clusters),
            rng: SmallRng::seed_from_u64(seed),
            running: HashMap::new(),
            actors: JoinSet::new(),
            presence: None,
            idle: BTreeMap::new(),
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
                Some(ended) = self.actors.join_next() => self.ended(ended).await,
            }
        }
        for (_, stop) in self.running.values() {
            stop.cancel();
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
        let clusters: BTreeSet<ClusterId> =
            self.shared.store.clusters().await?.into_iter().map(|c| c.id).collect();
        let leases = self.shared.store.leases().await?;
        self.count_idle(&clusters, &leases);
        let verdict = election::decide(self.shared.keeper.holder(), &clusters, &leases, &self.idle);
        for cluster in verdict.acquire {
            self.take(cluster).await?;
        }
        if let Some((_, stop)) = verdict.give_back.and_then(|c| self.running.get(&c)) {
            stop.cancel();
        }
        Ok(())
    }

    fn count_idle(&mut self, clusters: &BTreeSet<ClusterId>, leases: &[Lease]) {
        let taken =
            |c: &ClusterId| leases.iter().any(|l| matches!(&l.scope, LeaseScope::Dispatch(d) if d == c));
        let idle = clusters.iter().filter(|c| !taken(c));
        self.idle = idle.map(|c| (c.clone(), self.idle.get(c).map_or(1, |n| n + 1))).collect();
    }

    async fn take(&mut self, cluster: ClusterId) -> Result<(), StoreError> {
        if self.running.contains_key(&cluster) {
            // The lease was lost, but the actor has not noticed yet.
            return Ok(());
        }
        let scope = LeaseScope::Dispatch(cluster.clone());
        let Some(held) = self.shared.keeper.acquire(&scope, self.shared.settings.lease).await? else {
            debug!(%cluster, "another replica was faster");
            return Ok(());
        };
        let runtime = self.clusters.get(&cluster).cloned().unwrap_or_else(|| {
            warn!(%cluster, "the cluster is not in the configuration; its jobs count as lost when the grace ends");
            ClusterRuntime {
                driver: Arc::new(absent::AbsentDriver),
                launches: LaunchLimits::default(),
                reads_capacity: false,
                jobs_max: 0,
                resync: Duration::from_mins(5),
            }
        });
        info!(%cluster, token = %held.lease().token, "dispatching");
        let stop = CancellationToken::new();
        let actor =
            Actor::new(cluster.clone(), self.shared.clone(), runtime, held.clone(), self.rng.random());
        self.running.insert(cluster.clone(), (held.clone(), stop.clone()));
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
                for (_, (held, stop)) in self.running.drain() {
                    stop.cancel();
                    self.shared.keeper.give_back(&held).await;
                }
            }
        }
    }
}
