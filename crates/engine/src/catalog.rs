//! The catalog as this process has it: what submissions are checked against, and how clusters are driven. One loop
//! looks often whether the store has another version, and everything else follows from what it publishes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use yard_domain::catalog::CatalogVersion;
use yard_domain::{Cluster, ClusterId, TeamId};
use yard_ports::{Store, StoreError};
use yard_wire::Admission;

use crate::dispatch::ClusterRuntime;
use crate::rates::SubmitRates;

/// Which teams each door may submit for; a door that is not in it may for all.
pub type Doors = BTreeMap<String, BTreeSet<TeamId>>;

/// How this process drives clusters: those that it can.
pub type Runtimes = HashMap<ClusterId, ClusterRuntime>;

/// Versions looked back through for a cluster that was taken out and still has jobs.
const LOOK_BACK: u32 = 200;
/// Versions read at once when looking back.
const PAGE: u32 = 20;
/// A cluster that could not be driven is tried again after this long: its secret may have come.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// Makes drivers out of what a document says.
pub trait RuntimeBuilder: Send + Sync {
    /// How to drive the clusters that `document` declares, or `only` these of them. One that can't be driven from here is
    /// left out, and the log says why. A cluster whose settings are what they were keeps its driver. An error: the
    /// document can't be read.
    fn build(
        &self,
        document: &CatalogVersion,
        only: Option<&BTreeSet<ClusterId>>,
    ) -> Result<Runtimes, String>;
}

/// Clusters that are driven as they are here, whatever the catalog says: in tests and measurements.
pub struct Fixed(pub Runtimes);

impl RuntimeBuilder for Fixed {
    fn build(&self, _: &CatalogVersion, only: Option<&BTreeSet<ClusterId>>) -> Result<Runtimes, String> {
        let wanted = self.0.iter().filter(|(id, _)| only.is_none_or(|only| only.contains(*id)));
        Ok(wanted.map(|(id, runtime)| (id.clone(), runtime.clone())).collect())
    }
}

/// What the loop publishes; cheap to clone and to read.
#[derive(Clone)]
pub struct Catalog {
    admission: watch::Receiver<Arc<Admission>>,
    runtimes: watch::Receiver<Arc<Runtimes>>,
    rates: Arc<SubmitRates>,
}

impl Catalog {
    /// What submissions are checked against now.
    pub fn admission(&self) -> Arc<Admission> {
        self.admission.borrow().clone()
    }

    /// The channel behind it.
    pub fn receiver(&self) -> watch::Receiver<Arc<Admission>> {
        self.admission.clone()
    }

    /// How clusters are driven.
    pub fn runtimes(&self) -> watch::Receiver<Arc<Runtimes>> {
        self.runtimes.clone()
    }

    /// How fast teams may submit through this process.
    pub fn rates(&self) -> Arc<SubmitRates> {
        self.rates.clone()
    }
}

/// These clusters, for good.
pub fn fixed(runtimes: Runtimes) -> watch::Receiver<Arc<Runtimes>> {
    watch::channel(Arc::new(runtimes)).1
}

/// Keeps a [`Catalog`] fresh.
pub struct CatalogLoop {
    store: Arc<dyn Store>,
    admission: watch::Sender<Arc<Admission>>,
    runtimes: watch::Sender<Arc<Runtimes>>,
    rates: Arc<SubmitRates>,
    builder: Arc<dyn RuntimeBuilder>,
    interval: Duration,
    doors: Doors,
    /// The version that `runtimes` is of, and when what was missing in it is to be tried again.
    built: Option<(u64, Option<Instant>)>,
}

/// Reads the catalog for the first time. The loop returned keeps it fresh.
pub async fn load(
    store: Arc<dyn Store>,
    doors: Doors,
    interval: Duration,
    builder: Arc<dyn RuntimeBuilder>,
) -> Result<(Catalog, CatalogLoop), StoreError> {
    let (admission, admission_rx) = watch::channel(Arc::default());
    let (runtimes, runtimes_rx) = watch::channel(Arc::default());
    let rates = Arc::new(SubmitRates::default());
    let catalog = Catalog { admission: admission_rx, runtimes: runtimes_rx, rates: rates.clone() };
    let mut looping =
        CatalogLoop { store, admission, runtimes, rates, builder, interval, doors, built: None };
    looping.refresh().await?;
    Ok((catalog, looping))
}

impl CatalogLoop {
    /// Reads again and again until `cancel`; with the database away the last state stands.
    pub async fn run(mut self, cancel: CancellationToken) {
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(self.interval) => {}
            }
            if let Err(error) = self.refresh().await {
                warn!(%error, "could not refresh the catalog; the last state stands");
            }
        }
    }

    async fn refresh(&mut self) -> Result<(), StoreError> {
        // The version first: if another is applied meanwhile, what is read below is at least this one, and the next look
        // reads it again.
        let version = self.store.catalog_version().await?;
        let mut catalog = self.store.catalog().await?;
        // Every cluster, also those that were taken out and still have jobs.
        catalog.clusters = self.store.clusters().await?;
        self.rates.set(&catalog.teams);
        let clusters = catalog.clusters.clone();
        self.admission.send_replace(Arc::new(Admission::new(catalog, self.doors.clone())));
        let due = match self.built {
            Some((built, again)) => built != version || again.is_some_and(|at| at <= Instant::now()),
            None => true,
        };
        if due && version > 0 {
            self.rebuild(version, &clusters).await?;
        }
        Ok(())
    }

    async fn rebuild(&mut self, version: u64, clusters: &[Cluster]) -> Result<(), StoreError> {
        let newest = self.store.catalog_versions(None, 1).await?.into_iter().next();
        let Some(document) = newest.filter(|document| document.number >= version) else { return Ok(()) };
        if self.built.is_none_or(|(built, _)| built != document.number) {
            info!(version = document.number, by = document.by, "taking over the catalog");
        }
        let again = Instant::now() + TRY_AGAIN;
        let mut runtimes = match self.builder.build(&document, None) {
            Ok(runtimes) => runtimes,
            Err(reason) => {
                warn!(
                    version = document.number,
                    reason, "can't read the catalog in force; clusters stay as they were"
                );
                self.built = Some((document.number, Some(again)));
                return Ok(());
            }
        };
        self.keep_retired(&mut runtimes, &document, clusters).await?;
        let missing = clusters.iter().any(|c| c.configured && !runtimes.contains_key(&c.id));
        self.built = Some((document.number, missing.then_some(again)));
        self.runtimes.send_replace(Arc::new(runtimes));
        Ok(())
    }

    /// A cluster that was taken out is driven as it last was until its jobs have ended.
    async fn keep_retired(
        &mut self,
        runtimes: &mut Runtimes,
        document: &CatalogVersion,
        clusters: &[Cluster],
    ) -> Result<(), StoreError> {
        let before = self.runtimes.borrow().clone();
        let mut wanted = BTreeSet::new();
        for cluster in clusters.iter().filter(|c| !c.configured) {
            if runtimes.contains_key(&cluster.id) {
                continue;
            }
            match before.get(&cluster.id) {
                Some(runtime) => _ = runtimes.insert(cluster.id.clone(), runtime.clone()),
                None => _ = wanted.insert(cluster.id.clone()),
            }
        }
        let (mut cursor, mut left) = (document.number, LOOK_BACK);
        while !wanted.is_empty() && left > 0 {
            let page = self.store.catalog_versions(Some(cursor), PAGE.min(left)).await?;
            let Some(last) = page.last() else { break };
            (cursor, left) = (last.number, left.saturating_sub(PAGE));
            for older in &page {
                // A document that can't be read any more has nothing to say of them.
                for (id, runtime) in self.builder.build(older, Some(&wanted)).unwrap_or_default() {
                    wanted.remove(&id);
                    runtimes.insert(id, runtime);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;
