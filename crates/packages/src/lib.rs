//! Packages that clients of the Ray Jobs API upload: names in the store, content once in the object store.
//!
//! - [`Shelf::put`] streams an upload into an object of its own and hashes it on the way; the store then says whether
//!   the same content was there already, and the new object goes.
//! - [`Shelf`] is the drivers' [`Packages`]: it opens what a runtime environment names, and counts that as a use.
//! - [`Links`] are how a cluster fetches a package that can't be brought to it; [`Shelf::download`] is what they open.
//! - [`Shelf::run`] removes what no job can want any more, and objects that an upload left behind when it died.

mod collect;
mod link;
mod name;
mod shield;

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tracing::warn;
use uuid::Uuid;
use yard_ports::packages::{PACKAGE_SCHEME, PackageContent, PackageError, PackageRow, package_name};
use yard_ports::{Packages, Store, StoreError};

pub use link::{BadLink, BadLinkKey, LINK_PATH, LinkKey, Links};
pub use name::{BadName, PackageUri};
use shield::Archive;

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

/// Why a link gives no package.
#[derive(Debug, Error)]
pub enum DownloadError {
    /// The link is not good.
    #[error(transparent)]
    Link(#[from] BadLink),
    /// This process has no key for links.
    #[error("this server serves no packages by link")]
    NoLinks,
    /// The package can't be had.
    #[error(transparent)]
    Package(#[from] PackageError),
}

/// All packages of the installation.
#[derive(Clone)]
pub struct Shelf {
    store: Arc<dyn Store>,
    objects: Arc<dyn ObjectStore>,
    limits: PackageLimits,
    /// How long a job may go on wanting a package after it was submitted or launched.
    life: Duration,
    links: Option<Links>,
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
        Self { store, objects, limits, life, links: None }
    }

    /// Makes links, and serves them.
    #[must_use]
    pub fn with_links(self, links: Option<Links>) -> Self {
        Self { links, ..self }
    }

    /// The package that a link opens, as Ray has to get it.
    pub async fn download(&self, grant: &str, name: &str) -> Result<PackageContent, DownloadError> {
        let links = self.links.as_ref().ok_or(DownloadError::NoLinks)?;
        let uri = format!("{PACKAGE_SCHEME}{name}");
        let now = self.store.now().await.map_err(|e| unavailable(&uri, &e))?;
        links.check(grant, name, now)?;
        let row = self.row(&uri).await?;
        Ok(if is_zip(name) { self.shielded(row).await? } else { self.content(row).await? })
    }

    /// The package of this URI. Counts as a use of it.
    async fn row(&self, uri: &str) -> Result<PackageRow, PackageError> {
        let found = self.store.use_package(uri, self.keep()).await.map_err(|e| unavailable(uri, &e))?;
        found.ok_or_else(|| PackageError::Missing(uri.to_owned()))
    }

    async fn content(&self, row: PackageRow) -> Result<PackageContent, PackageError> {
        let content = self.objects.get(&Path::from(row.object.as_str())).await;
        let stream = content.map_err(|e| unreadable(&row.uri, e))?.into_stream();
        Ok(PackageContent { bytes: row.bytes, stream: stream.map(|c| c.map_err(io::Error::other)).boxed() })
    }

    /// The archive with an empty file at its top: see [`shield`].
    async fn shielded(&self, row: PackageRow) -> Result<PackageContent, PackageError> {
        let object = Path::from(row.object.as_str());
        let end = row.bytes.saturating_sub(shield::END_MAX)..row.bytes;
        let tail = self.range(&row.uri, &object, end).await?;
        let Some(archive) = Archive::read(row.bytes, &tail) else { return Err(no_archive(&row.uri)) };
        let directory = self.range(&row.uri, &object, archive.directory()).await?;
        let end = Bytes::from(archive.end(&directory));
        let start = archive.directory().start;
        let bytes = start + end.len() as u64;
        let last = stream::iter([Ok(end)]);
        if start == 0 {
            return Ok(PackageContent { bytes, stream: last.boxed() });
        }
        let files = GetOptions::new().with_range(Some(GetRange::Bounded(0..start)));
        let files = self.objects.get_opts(&object, files).await.map_err(|e| unreadable(&row.uri, e))?;
        let files = files.into_stream().map(|chunk| chunk.map_err(io::Error::other));
        Ok(PackageContent { bytes, stream: files.chain(last).boxed() })
    }

    async fn range(&self, uri: &str, object: &Path, range: Range<u64>) -> Result<Bytes, PackageError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        self.objects.get_range(object, range).await.map_err(|e| unreadable(uri, e))
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
        let row = self.row(uri).await?;
        self.content(row).await
    }

    fn makes_links(&self) -> bool {
        self.links.is_some()
    }

    async fn link(&self, uri: &str, life: Duration) -> Result<String, PackageError> {
        let no_link = |reason: &str| PackageError::NoLink { uri: uri.to_owned(), reason: reason.to_owned() };
        let Some(links) = &self.links else {
            return Err(no_link(
                "set ray_api.link_url and ray_api.link_key_env, so that clusters can fetch packages; or name the files by \
                 a URL of your own (https://, s3://), or put them into the image",
            ));
        };
        let Some(name) = package_name(uri) else { return Err(PackageError::Missing(uri.to_owned())) };
        let row = self.row(uri).await?;
        if is_zip(name) {
            // What the link would not give must not be launched.
            let end = row.bytes.saturating_sub(shield::END_MAX)..row.bytes;
            let tail = self.range(uri, &Path::from(row.object.as_str()), end).await?;
            Archive::read(row.bytes, &tail).ok_or_else(|| no_archive(uri))?;
        } else if !has_extension(name, "whl") {
            return Err(no_link("only .zip and .whl can be fetched by a link"));
        }
        let now = self.store.now().await.map_err(|e| unavailable(uri, &e))?;
        Ok(links.sign(name, now, life))
    }
}

fn is_zip(name: &str) -> bool {
    has_extension(name, "zip")
}

/// Ray compares with lower case only.
fn has_extension(name: &str, extension: &str) -> bool {
    std::path::Path::new(name).extension().is_some_and(|found| found == extension)
}

fn no_archive(uri: &str) -> PackageError {
    let reason = "it is no zip archive of at most 65,533 files and 4 GiB".to_owned();
    PackageError::NoLink { uri: uri.to_owned(), reason }
}

fn unavailable(uri: &str, reason: &dyn std::fmt::Display) -> PackageError {
    PackageError::Unavailable { uri: uri.to_owned(), reason: reason.to_string() }
}

fn unreadable(uri: &str, error: object_store::Error) -> PackageError {
    match error {
        object_store::Error::NotFound { .. } => PackageError::Missing(uri.to_owned()),
        error => unavailable(uri, &error),
    }
}

#[cfg(test)]
mod tests;
