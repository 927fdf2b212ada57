//! Which subscriptions there are, by the catalog in force.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};
use yard_ports::{Store, StoreError};

use super::{PushBuilder, Subscription};

/// Read again after so long though the version is the same: a secret may have changed, or come.
const READ_AGAIN: Duration = Duration::from_secs(30);

/// Every subscription; nothing if the document in force can't be read here.
pub type Listed = Option<Arc<[Subscription]>>;

/// Reads the catalog in force whenever it is another.
pub struct Book {
    store: Arc<dyn Store>,
    builder: Arc<dyn PushBuilder>,
    known: Mutex<Option<Known>>,
}

struct Known {
    version: u64,
    listed: Listed,
    at: Instant,
}

impl Book {
    /// An empty one.
    pub fn new(store: Arc<dyn Store>, builder: Arc<dyn PushBuilder>) -> Self {
        Self { store, builder, known: Mutex::default() }
    }

    /// The subscriptions of a version that was in force at some moment of this call, or later: whatever was committed before
    /// the call under a subscription is seen together with it.
    pub async fn read(&self) -> Result<Listed, StoreError> {
        let mut known = self.known.lock().await;
        let version = self.store.catalog_version().await?;
        if let Some(known) = known.as_ref()
            && known.version == version
            && known.at.elapsed() < READ_AGAIN
        {
            return Ok(known.listed.clone());
        }
        let newest = self.store.catalog_versions(None, 1).await?.into_iter().next();
        let is_news = known.as_ref().is_none_or(|known| known.version != version);
        let (version, listed) = match newest {
            None => (0, Some(Arc::<[Subscription]>::default())),
            Some(document) => match self.builder.build(&document).await {
                Ok(subscriptions) => (document.number, Some(Arc::from(subscriptions))),
                Err(reason) => {
                    if is_news {
                        let version = document.number;
                        warn!(
                            version,
                            reason, "can't read the catalog in force; others must push new events"
                        );
                    }
                    (document.number, None)
                }
            },
        };
        if let (true, Some(listed)) = (is_news, &listed) {
            info!(version, subscriptions = listed.len(), "subscriptions of the catalog in force");
        }
        *known = Some(Known { version, listed: listed.clone(), at: Instant::now() });
        Ok(listed)
    }
}
