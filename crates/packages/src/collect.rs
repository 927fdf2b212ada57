//! Removes what no job can want any more.

use std::time::Duration;

use futures::TryStreamExt;
use object_store::path::Path;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use yard_domain::Timestamp;

use crate::{FOLDER, PutError, Shelf};

/// Packages forgotten in one transaction.
const EXPIRE_BATCH: u32 = 100;
/// An object that no package names this long after it was written is not part of an upload any more.
const ABANDONED_AFTER: Duration = Duration::from_hours(24);
/// Objects looked up in the store at once.
const LOOK_UP: usize = 256;

impl Shelf {
    /// Collects now and then until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            match self.collect_now().await {
                Ok(0) => {}
                Ok(removed) => info!(removed, "removed packages that no job can want any more"),
                Err(error) => warn!(%error, "packages can't be collected now"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.limits.collect_interval) => {}
            }
        }
    }

    async fn collect_now(&self) -> Result<usize, PutError> {
        let now = self.store.now().await?;
        self.collect(now).await
    }

    /// Removes packages whose time is over and objects that are nobody's; answers how many objects. `now` is only
    /// compared with the object store's own times, to leave uploads under way alone: a day is enough for both clocks.
    pub async fn collect(&self, now: Timestamp) -> Result<usize, PutError> {
        let mut removed = 0;
        loop {
            let objects = self.store.expire_packages(EXPIRE_BATCH).await?;
            if objects.is_empty() {
                break;
            }
            removed += objects.len();
            self.remove(objects).await;
        }
        let folder = Path::from(FOLDER);
        let mut old = Vec::new();
        let mut listed = self.objects.list(Some(&folder));
        while let Some(meta) = listed.try_next().await? {
            let age = now.as_micros().saturating_sub(meta.last_modified.timestamp_micros());
            if u64::try_from(age).is_ok_and(|age| Duration::from_micros(age) > ABANDONED_AFTER) {
                old.push(meta.location.to_string());
            }
        }
        for batch in old.chunks(LOOK_UP) {
            let named = self.store.named_objects(batch).await?;
            let nobodys: Vec<String> = batch.iter().filter(|o| !named.contains(o)).cloned().collect();
            removed += nobodys.len();
            self.remove(nobodys).await;
        }
        Ok(removed)
    }
}
