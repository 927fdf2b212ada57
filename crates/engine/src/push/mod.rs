//! Push: what happens to submissions is sent to those who subscribed to it (docs/adr/0011-push.md).
//!
//! - this file: takes and gives back subscriptions, and runs what works on them
//! - [`book`]: which subscriptions there are, by the catalog in force
//! - [`planner`]: events → deliveries, in one process at a time
//! - [`courier`]: deliveries of one subscription → its receiver, in one process at a time
//! - [`pace`]: how many deliveries may be under way (pure)

pub mod book;
pub mod courier;
pub mod pace;
pub mod planner;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};
use yard_domain::catalog::CatalogVersion;
use yard_domain::{InstanceId, LeaseScope, PushKinds, PushRetry, SubscriptionId};
use yard_ports::{PushSender, Store, StoreError};

use crate::keeper::{Held, Keeper};
use crate::settings::PushSettings;
use book::Book;
use courier::Courier;
use planner::Planner;

/// A subscription as this process has it.
#[derive(Clone)]
pub struct Subscription {
    /// Which.
    pub id: SubscriptionId,
    /// What it is told.
    pub kinds: PushKinds,
    /// When a delivery is tried again.
    pub retry: PushRetry,
    /// Most deliveries under way at once.
    pub in_flight_max: usize,
    /// The way to its receiver; `None`: it can't be had from here, and is left to others.
    pub sender: Option<Arc<dyn PushSender>>,
}

impl Subscription {
    /// Whether nothing about it differs: the same way under the same limits.
    fn is(&self, other: &Self) -> bool {
        let same_way = match (&self.sender, &other.sender) {
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            (ours, theirs) => ours.is_none() && theirs.is_none(),
        };
        same_way
            && (self.kinds, self.retry, self.in_flight_max) == (other.kinds, other.retry, other.in_flight_max)
    }
}

/// Makes subscriptions out of what a document says.
#[async_trait]
pub trait PushBuilder: Send + Sync {
    /// Every subscription that `document` declares. One whose settings and secrets are what they were keeps its sender. An
    /// error: the document can't be read.
    async fn build(&self, document: &CatalogVersion) -> Result<Vec<Subscription>, String>;
}

/// What everything about push in a process shares.
#[derive(Clone)]
pub struct Shared {
    /// The truth.
    pub store: Arc<dyn Store>,
    /// For leases.
    pub keeper: Keeper,
    /// Limits and times.
    pub settings: PushSettings,
    /// This installation: its events are told from others' by it.
    pub instance: InstanceId,
}

/// What works here under a lease of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    Plan,
    Send(SubscriptionId),
}

impl Work {
    fn scope(&self) -> LeaseScope {
        match self {
            Self::Plan => LeaseScope::push_plan(),
            Self::Send(id) => LeaseScope::push(id),
        }
    }
}

struct Running {
    held: Held,
    stop: CancellationToken,
    subscription: Option<Subscription>,
}

/// The push loop of one replica. Any number may run: each takes what nobody has.
pub struct Pushers {
    shared: Shared,
    book: Arc<Book>,
    rng: SmallRng,
    running: BTreeMap<Work, Running>,
    tasks: JoinSet<Work>,
    /// There are new deliveries.
    made: Arc<Notify>,
}

impl Pushers {
    /// With what `builder` makes of the catalog in force; `seed` spreads waits.
    pub fn new(shared: Shared, builder: Arc<dyn PushBuilder>, seed: u64) -> Self {
        Self {
            book: Arc::new(Book::new(shared.store.clone(), builder)),
            shared,
            rng: SmallRng::seed_from_u64(seed),
            running: BTreeMap::new(),
            tasks: JoinSet::new(),
            made: Arc::default(),
        }
    }

    /// Works until `cancel`; then finishes what is under way.
    pub async fn run(mut self, cancel: CancellationToken) {
        loop {
            if let Err(error) = self.look().await {
                warn!(%error, "could not look at who pushes what");
            }
            let pause = self.shared.settings.election_interval.mul_f64(self.rng.random_range(0.75..1.25));
            tokio::select! {
                () = cancel.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
                Some(ended) = self.tasks.join_next() => self.ended(ended).await,
            }
        }
        for running in self.running.values() {
            running.stop.cancel();
        }
        while let Some(ended) = self.tasks.join_next().await {
            self.ended(ended).await;
        }
    }

    async fn look(&mut self) -> Result<(), StoreError> {
        let listed = self.book.read().await?;
        let subscriptions = listed.as_deref().unwrap_or_default();
        self.stop_outdated(listed.as_deref());
        let mut wanted: BTreeMap<Work, Option<Subscription>> = subscriptions
            .iter()
            .filter(|s| s.sender.is_some())
            .map(|s| (Work::Send(s.id.clone()), Some(s.clone())))
            .collect();
        // Who can't read the catalog does not know whom events are for.
        if listed.is_some() {
            wanted.insert(Work::Plan, None);
        }
        wanted.retain(|work, _| !self.running.contains_key(work));
        if wanted.is_empty() {
            return Ok(());
        }
        let taken: BTreeSet<LeaseScope> =
            self.shared.store.leases().await?.into_iter().map(|lease| lease.scope).collect();
        for (work, subscription) in wanted {
            if !taken.contains(&work.scope()) {
                self.take(work, subscription).await?;
            }
        }
        Ok(())
    }

    /// Stops what is not there any more, or is to be done in another way: it is taken again at one of the next looks.
    fn stop_outdated(&self, listed: Option<&[Subscription]>) {
        for (work, running) in &self.running {
            let goes_on = match (listed, &running.subscription) {
                (Some(listed), Some(now)) => listed.iter().any(|s| s.id == now.id && s.is(now)),
                // The document can't be read here: deliveries go on as they were.
                (None, Some(_)) => true,
                (listed, None) => listed.is_some(),
            };
            if !goes_on && !running.stop.is_cancelled() {
                debug!(?work, "stops: the catalog in force says otherwise");
                running.stop.cancel();
            }
        }
    }

    async fn take(&mut self, work: Work, subscription: Option<Subscription>) -> Result<(), StoreError> {
        let lease = self.shared.settings.lease;
        let Some(held) = self.shared.keeper.acquire(&work.scope(), lease).await? else {
            return Ok(());
        };
        let stop = CancellationToken::new();
        let (shared, held_by_it, made) = (self.shared.clone(), held.clone(), self.made.clone());
        let (stopped, name, seed) = (stop.clone(), work.clone(), self.rng.random());
        if let Some(subscription) = subscription.clone() {
            info!(subscription = %subscription.id, "pushing");
            let courier = Courier::new(shared, subscription, held_by_it, made, seed);
            self.tasks.spawn(async move {
                courier.run(stopped).await;
                name
            });
        } else {
            let planner = Planner::new(shared, self.book.clone(), held_by_it, made);
            self.tasks.spawn(async move {
                planner.run(stopped).await;
                name
            });
        }
        self.running.insert(work, Running { held, stop, subscription });
        Ok(())
    }

    async fn ended(&mut self, ended: Result<Work, JoinError>) {
        match ended {
            Ok(work) => {
                if let Some(running) = self.running.remove(&work) {
                    self.shared.keeper.give_back(&running.held).await;
                }
            }
            Err(error) => {
                // A bug, and it is not known whose. Everything is begun anew.
                error!(%error, "a task of push panicked");
                self.tasks.abort_all();
                for (_, running) in std::mem::take(&mut self.running) {
                    self.shared.keeper.give_back(&running.held).await;
                }
            }
        }
    }
}
