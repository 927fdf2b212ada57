//! Packages that clients of the Ray Jobs API upload: names in the store, content once in the object store.
//!
//! - [`Shelf::put`] streams an upload into an object of its own and hashes it on the way; the store then says whether
//!   the same content was there already, and the new object goes.
//! - [`Shelf`] is the drivers' [`Packages`]: it opens what a runtime environment names, and counts that as a use.
//! - [`Shelf::run`] removes what no job can want any more, and objects that an upload left behind when it died.

mod collect;
mod name;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tracing::warn;
use uuid::Uuid;
use yard_ports::packages::{PackageContent, PackageError, PackageRow};
use yard_ports::{Packages, Store, StoreError};

pub use name::{BadName, PackageUri};

/// The folder of all packages in the object store.
const FOLDER: &str = "packages";
/// What is sent to the object store at once: S3 wants at least 5 MiB of every part but the last.
const PART_BYTES: usize = 8 << 20;

/// Bounds. Every one is configuration; these are the defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackageLimits {
    /// Largest package, in bytes. Default 100 MiB: more a Ray head does not take (docs/facts/ray-2.60.md).
    pub bytes_max: u64,
    /// How long a package is kept after the last moment at which a job that named it could want it. Default 30 days.
    pub keep: Duration,
    /// From one look for what may go to the next. Default 1 h.
    pub collect_interval: Duration,
}

impl Default for PackageLimits {
    fn default() -> Self {
        Self {
            bytes_max: 100 << 20,
            keep: Duration::from_hours(30 * 24),
            collect_interval: Duration::from_hours(1),
        }
    }
}

/// Why an upload was not kept.
#[derive(Debug, Error)]
pub enum PutError {
    /// It is larger than allowed.
    #[error("the package is larger than the {0} bytes that are allowed (ray_api.package_bytes_max)")]
    TooLarge(u64),
    /// The client's side broke off.
    #[error("the upload broke off: {0}")]
    Broken(String),
    /// The object store failed.
    #[error("the object store failed: {0}")]
    Objects(#[from] object_store::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All packages of the installation.
#[derive(Clone)]
pub struct Shelf {
    store: Arc<dyn Store>,
    objects: Arc<dyn ObjectStore>,
    limits: PackageLimits,
    /// How long a job may go on wanting a package after it was submitted or launched.
    life: Duration,
}

impl Shelf {
    /// The shelf over `store` and `objects`. `life`: the longest that a job can wait and run without being launched
    /// anew, as the installation's limits have it.
    pub fn new(
        store: Arc<dyn Store>,
        objects: Arc<dyn ObjectStore>,
        limits: PackageLimits,
        life: Duration,
    ) -> Self {
        Self { store, objects, limits, life }
    }

    fn keep(&self) -> Duration {
        self.limits.keep.saturating_add(self.life)
    }

    /// Whether the package is here; if so, it is kept on.
    pub async fn touch(&self, uri: &str) -> Result<bool, StoreError> {
        Ok(self.store.use_package(uri, self.keep()).await?.is_some())
    }

    /// Whether an upload that is declared to be so long may be sent at all.
    pub fn check_length(&self, bytes: Option<u64>) -> Result<(), PutError> {
        let max = self.limits.bytes_max;
        if bytes.is_some_and(|bytes| bytes > max) { Err(PutError::TooLarge(max)) } else { Ok(()) }
    }

    /// Keeps what `content` streams under this name.
    pub async fn put<E: std::fmt::Display>(
        &self,
        uri: &PackageUri,
        content: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<(), PutError> {
        let object = Path::from(format!("{FOLDER}/{}", Uuid::new_v4().simple()));
        let mut upload = self.objects.put_multipart(&object).await?;
        let sent = match send(upload.as_mut(), content, self.limits.bytes_max).await {
            Ok(sent) => sent,
            Err(error) => {
                // What can't be taken back now is found as nobody's later.
                _ = upload.abort().await;
                return Err(error);
            }
        };
        let row = PackageRow {
            uri: uri.as_str().to_owned(),
            object: object.to_string(),
            sha256: sent.sha256,
            bytes: sent.bytes,
        };
        let kept = self.store.keep_package(&row, self.keep()).await?;
        metrics::counter!("yard_package_bytes_total").increment(sent.bytes);
        self.remove(kept.dropped).await;
        Ok(())
    }

    /// Removes objects; what can't be removed now is found as nobody's later.
    async fn remove(&self, objects: Vec<String>) {
        for object in objects {
            match self.objects.delete(&Path::from(object.as_str())).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => warn!(object, %error, "a package's content can't be removed now"),
            }
        }
    }
}

struct Sent {
    sha256: [u8; 32],
    bytes: u64,
}

async fn send<E: std::fmt::Display>(
    upload: &mut dyn MultipartUpload,
    content: impl Stream<Item = Result<Bytes, E>>,
    max: u64,
) -> Result<Sent, PutError> {
    let (mut hash, mut bytes, mut part) = (Sha256::new(), 0u64, Vec::new());
    let mut content = std::pin::pin!(content);
    while let Some(chunk) = content.next().await {
        let chunk = chunk.map_err(|e| PutError::Broken(e.to_string()))?;
        bytes = bytes.saturating_add(chunk.len() as u64);
        if bytes > max {
            return Err(PutError::TooLarge(max));
        }
        hash.update(&chunk);
        part.extend_from_slice(&chunk);
        if part.len() >= PART_BYTES {
            upload.put_part(PutPayload::from(std::mem::take(&mut part))).await?;
        }
    }
    if !part.is_empty() || bytes == 0 {
        upload.put_part(PutPayload::from(part)).await?;
    }
    upload.complete().await?;
    Ok(Sent { sha256: hash.finalize().into(), bytes })
}

#[async_trait]
impl Packages for Shelf {
    async fn open(&self, uri: &str) -> Result<PackageContent, PackageError> {
        let failed = |reason: String| PackageError::Unavailable { uri: uri.to_owned(), reason };
        let found = self.store.use_package(uri, self.keep()).await.map_err(|e| failed(e.to_string()))?;
        let Some(found) = found else { return Err(PackageError::Missing(uri.to_owned())) };
        match self.objects.get(&Path::from(found.object.as_str())).await {
            Ok(content) => {
                let stream = content.into_stream().map(|chunk| chunk.map_err(std::io::Error::other)).boxed();
                Ok(PackageContent { bytes: found.bytes, stream })
            }
            Err(object_store::Error::NotFound { .. }) => Err(PackageError::Missing(uri.to_owned())),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests;
