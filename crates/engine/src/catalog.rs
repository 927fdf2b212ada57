//! What submissions are checked against: teams, clusters, quotas and capacities, as last read from the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use yard_domain::TeamId;
use yard_ports::{Store, StoreError};
use yard_wire::Admission;

/// Which teams each door may submit for; a door that is not in it may for all.
pub type Doors = BTreeMap<String, BTreeSet<TeamId>>;

/// The present admission context; cheap to clone and to read.
#[derive(Debug, Clone)]
pub struct Catalog {
    rx: watch::Receiver<Arc<Admission>>,
}

impl Catalog {
    /// The present context.
    pub fn admission(&self) -> Arc<Admission> {
        self.rx.borrow().clone()
    }

    /// The channel behind it.
    pub fn receiver(&self) -> watch::Receiver<Arc<Admission>> {
        self.rx.clone()
    }
}

/// Keeps a [`Catalog`] fresh.
pub struct CatalogLoop {
    store: Arc<dyn Store>,
    tx: watch::Sender<Arc<Admission>>,
    interval: Duration,
    doors: Doors,
}

/// Reads the catalogue for the first time. The loop returned keeps it fresh.
pub async fn load(
    store: Arc<dyn Store>,
    doors: Doors,
    interval: Duration,
) -> Result<(Catalog, CatalogLoop), StoreError> {
    let (tx, rx) = watch::channel(Arc::new(read(store.as_ref(), &doors).await?));
    Ok((Catalog { rx }, CatalogLoop { store, tx, interval, doors }))
}

async fn read(store: &dyn Store, doors: &Doors) -> Result<Admission, StoreError> {
    let (teams, clusters) = (store.teams().await?, store.clusters().await?);
    Ok(Admission::new(teams, clusters, doors.clone()))
}

impl CatalogLoop {
    /// Reads again and again until `cancel`; with the database away the last state stands.
    pub async fn run(self, cancel: CancellationToken) {
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(self.interval) => {}
            }
            match read(self.store.as_ref(), &self.doors).await {
                Ok(admission) => _ = self.tx.send_replace(Arc::new(admission)),
                Err(error) => warn!(%error, "could not refresh the catalogue; the last state stands"),
            }
        }
    }
}
