//! Where the logs of attempts are kept, whatever becomes of their clusters.

use async_trait::async_trait;
use bytes::Bytes;
use thiserror::Error;
use yard_domain::{JobId, KeptChunk, KeptLog, Timestamp};

use crate::driver::PodLog;
use crate::store::AttemptRef;

/// Why the archive could not do it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ArchiveError {
    /// There is no such chunk (any more).
    #[error("the chunk is not there")]
    NotFound,
    /// What is there is not what was written.
    #[error("a chunk is damaged: {0}")]
    Damaged(String),
    /// Not now.
    #[error("the object storage did not do it: {0}")]
    Unavailable(String),
}

/// A job of which logs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobLogs {
    /// Which.
    pub job: JobId,
    /// When the newest of its chunks was written, by the storage's clock.
    pub written_at: Timestamp,
}

/// Keeps logs in chunks. What is written is complete once the call is over, and never changes: a chunk is named by its
/// bytes' place in the log, and a log only grows.
#[async_trait]
pub trait LogArchive: Send + Sync {
    /// Everything kept of an attempt's log.
    async fn kept(&self, attempt: AttemptRef) -> Result<KeptLog, ArchiveError>;

    /// Writes a chunk; the same again is harmless. `bytes` are `chunk.span.len()` long.
    async fn put(&self, attempt: AttemptRef, chunk: KeptChunk, bytes: Bytes) -> Result<(), ArchiveError>;

    /// A chunk's bytes.
    async fn get(&self, attempt: AttemptRef, chunk: KeptChunk) -> Result<Bytes, ArchiveError>;

    /// Deletes a chunk; one that isn't there is deleted.
    async fn delete(&self, attempt: AttemptRef, chunk: KeptChunk) -> Result<(), ArchiveError>;

    /// Keeps what an attempt's pods have printed, in place of what was kept of it before.
    async fn put_pods(&self, attempt: AttemptRef, whose: PodLog, bytes: Bytes) -> Result<(), ArchiveError>;

    /// What is kept of that.
    async fn pods(&self, attempt: AttemptRef, whose: PodLog) -> Result<Bytes, ArchiveError>;

    /// Jobs of which there are logs, by id, after `after`: at most `limit`, and only such as were made before `before`
    /// (an id tells when).
    async fn jobs(
        &self,
        after: Option<JobId>,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<JobLogs>, ArchiveError>;

    /// Deletes up to `limit` chunks (and pods' logs) of a job; how many.
    async fn delete_job(&self, job: JobId, limit: usize) -> Result<usize, ArchiveError>;
}
