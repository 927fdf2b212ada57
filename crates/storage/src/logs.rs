//! Logs as objects: `logs/<job>/<attempt>/<first byte>-<byte after the last>.gz`, numbers padded with zeros.
//!
//! A chunk's name says which bytes of the log it has, so a listing is all that is needed to plan a read, and two writers
//! that cut differently never write over each other. The last chunk's name ends in `.end.gz`, or `.lost.gz` if the log
//! went with its cluster. Beside them, `head.gz`, `workers.gz` and `submitter.gz` are what the attempt's pods printed.
//! Job ids sort by time, so where listings come in order retention reads only what is old.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::{GzDecoder, GzEncoder};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use yard_domain::{JobId, KeptChunk, KeptLog, Seal, Span, Timestamp};
use yard_ports::store::AttemptRef;
use yard_ports::{ArchiveError, JobLogs, LogArchive, PodLog};

use crate::Place;

/// What all keys begin with.
const ROOT: &str = "logs";
/// Chunks up to this size are (de)compressed where they are; larger ones on a thread for it.
const INLINE_BYTES: usize = 16 << 10;
/// A chunk may not become longer than this when it is unpacked, whatever its name says.
const UNPACKED_MAX: u64 = 1 << 30;
/// What pods printed is handed out whole: so much of it at most, in bytes.
const PODS_MAX: u64 = 64 << 20;

/// The logs in an object store.
#[derive(Debug, Clone)]
pub struct LogObjects {
    objects: Arc<dyn ObjectStore>,
    in_order: bool,
}

impl LogObjects {
    /// In this store, which was opened at `place`.
    pub fn new(objects: Arc<dyn ObjectStore>, place: &Place) -> Self {
        // S3 lists by key; a file system as it likes.
        Self { objects, in_order: matches!(place, Place::S3(_)) }
    }

    /// Calls `see` with every object of the logs whose job comes after `after`, until it wants no more.
    async fn scan(
        &self,
        after: Option<JobId>,
        mut see: impl FnMut(JobId, &ObjectMeta) -> bool,
    ) -> Result<(), ArchiveError> {
        let root = Path::from(ROOT);
        // '~' comes after everything that a key of this job could go on with.
        let mut found = match after {
            Some(job) => self.objects.list_with_offset(Some(&root), &Path::from(format!("{ROOT}/{job}~"))),
            None => self.objects.list(Some(&root)),
        };
        while let Some(object) = found.try_next().await.map_err(|e| unavailable(&e))? {
            let job = object.location.parts().nth(1).and_then(|part| part.as_ref().parse::<JobId>().ok());
            if let Some(job) = job.filter(|job| after.is_none_or(|after| *job > after))
                && !see(job, &object)
            {
                return Ok(());
            }
        }
        Ok(())
    }
}

#[async_trait]
impl LogArchive for LogObjects {
    async fn kept(&self, attempt: AttemptRef) -> Result<KeptLog, ArchiveError> {
        let found = self.objects.list(Some(&folder(attempt)));
        let found: Vec<ObjectMeta> = found.try_collect().await.map_err(|e| unavailable(&e))?;
        Ok(KeptLog::new(found.iter().filter_map(|o| parse(o.location.filename()?)).collect()))
    }

    async fn put(&self, attempt: AttemptRef, chunk: KeptChunk, bytes: Bytes) -> Result<(), ArchiveError> {
        let packed = aside(bytes.len(), move || pack(&bytes)).await?;
        let put = self.objects.put(&key(attempt, chunk), packed.into()).await;
        put.map(drop).map_err(|e| unavailable(&e))
    }

    async fn get(&self, attempt: AttemptRef, chunk: KeptChunk) -> Result<Bytes, ArchiveError> {
        let key = key(attempt, chunk);
        let got = self.objects.get(&key).await.map_err(|e| unavailable(&e))?;
        let packed = got.bytes().await.map_err(|e| unavailable(&e))?;
        let len = chunk.span.len();
        aside(usize::try_from(len).unwrap_or(usize::MAX), move || unpack(&packed, len))
            .await
            .map_err(|e| ArchiveError::Damaged(format!("{key}: {e}")))
    }

    async fn delete(&self, attempt: AttemptRef, chunk: KeptChunk) -> Result<(), ArchiveError> {
        match self.objects.delete(&key(attempt, chunk)).await {
            Err(object_store::Error::NotFound { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(unavailable(&error)),
        }
    }

    async fn put_pods(&self, attempt: AttemptRef, whose: PodLog, bytes: Bytes) -> Result<(), ArchiveError> {
        let bytes =
            bytes.slice(bytes.len().saturating_sub(usize::try_from(PODS_MAX).unwrap_or(usize::MAX))..);
        let packed = aside(bytes.len(), move || pack(&bytes)).await?;
        let put = self.objects.put(&pods_key(attempt, whose), packed.into()).await;
        put.map(drop).map_err(|e| unavailable(&e))
    }

    async fn pods(&self, attempt: AttemptRef, whose: PodLog) -> Result<Bytes, ArchiveError> {
        let key = pods_key(attempt, whose);
        let got = self.objects.get(&key).await.map_err(|e| unavailable(&e))?;
        let packed = got.bytes().await.map_err(|e| unavailable(&e))?;
        aside(usize::MAX, move || unpack_bounded(&packed, PODS_MAX))
            .await
            .map_err(|e| ArchiveError::Damaged(format!("{key}: {e}")))
    }

    async fn jobs(
        &self,
        after: Option<JobId>,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<JobLogs>, ArchiveError> {
        let mut jobs: BTreeMap<JobId, Timestamp> = BTreeMap::new();
        self.scan(after, |job, object| {
            if made_at(job) >= before {
                return !self.in_order;
            }
            let written = Timestamp::from_micros(object.last_modified.timestamp_micros());
            let newest = jobs.entry(job).or_insert(written);
            *newest = written.max(*newest);
            if jobs.len() > limit {
                jobs.pop_last();
                return !self.in_order;
            }
            true
        })
        .await?;
        Ok(jobs.into_iter().map(|(job, written_at)| JobLogs { job, written_at }).collect())
    }

    async fn delete_job(&self, job: JobId, limit: usize) -> Result<usize, ArchiveError> {
        let folder = Path::from(format!("{ROOT}/{job}"));
        let mut found = self.objects.list(Some(&folder));
        let mut keys = Vec::new();
        while keys.len() < limit
            && let Some(object) = found.try_next().await.map_err(|e| unavailable(&e))?
        {
            keys.push(object.location);
        }
        for key in &keys {
            match self.objects.delete(key).await {
                Err(object_store::Error::NotFound { .. }) | Ok(()) => {}
                Err(error) => return Err(unavailable(&error)),
            }
        }
        Ok(keys.len())
    }
}

fn folder(attempt: AttemptRef) -> Path {
    Path::from(format!("{ROOT}/{}/{}", attempt.job, attempt.attempt))
}

fn key(attempt: AttemptRef, chunk: KeptChunk) -> Path {
    let seal = match chunk.seal {
        None => "",
        Some(Seal::Complete) => ".end",
        Some(Seal::Lost) => ".lost",
    };
    folder(attempt).join(format!("{:020}-{:020}{seal}.gz", chunk.span.start, chunk.span.end))
}

fn pods_key(attempt: AttemptRef, whose: PodLog) -> Path {
    folder(attempt).join(format!("{}.gz", whose.code()))
}

/// The chunk that a file name stands for; `None` for what isn't ours.
fn parse(name: &str) -> Option<KeptChunk> {
    let name = name.strip_suffix(".gz")?;
    let (name, seal) = match (name.strip_suffix(".end"), name.strip_suffix(".lost")) {
        (Some(rest), _) => (rest, Some(Seal::Complete)),
        (_, Some(rest)) => (rest, Some(Seal::Lost)),
        _ => (name, None),
    };
    let (start, end) = name.split_once('-')?;
    let span = Span { start: start.parse().ok()?, end: end.parse().ok()? };
    (span.start <= span.end && span.len() <= UNPACKED_MAX).then_some(KeptChunk { span, seal })
}

/// When a job was made, as its id says.
fn made_at(job: JobId) -> Timestamp {
    let (seconds, nanos) = job.0.get_timestamp().map_or((0, 0), |t| t.to_unix());
    let micros = seconds.saturating_mul(1_000_000).saturating_add(u64::from(nanos / 1_000));
    Timestamp::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}

fn pack(bytes: &[u8]) -> io::Result<Bytes> {
    let mut packed = Vec::new();
    GzEncoder::new(bytes, Compression::fast()).read_to_end(&mut packed)?;
    Ok(packed.into())
}

/// Unpacks what must come to exactly `len` bytes.
fn unpack(packed: &[u8], len: u64) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    GzDecoder::new(packed).take(len + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != len {
        return Err(io::Error::other(format!("it has not the {len} bytes that its name says")));
    }
    Ok(bytes.into())
}

/// Unpacks what may come to at most `max` bytes.
fn unpack_bounded(packed: &[u8], max: u64) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    GzDecoder::new(packed).take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::other(format!("it has more than {max} bytes")));
    }
    Ok(bytes.into())
}

async fn aside(
    len: usize,
    work: impl FnOnce() -> io::Result<Bytes> + Send + 'static,
) -> Result<Bytes, ArchiveError> {
    let done = if len <= INLINE_BYTES {
        work()
    } else {
        tokio::task::spawn_blocking(work).await.map_err(|e| ArchiveError::Unavailable(e.to_string()))?
    };
    done.map_err(|e| ArchiveError::Damaged(e.to_string()))
}

fn unavailable(error: &object_store::Error) -> ArchiveError {
    match error {
        object_store::Error::NotFound { .. } => ArchiveError::NotFound,
        other => ArchiveError::Unavailable(Chain(other).to_string()),
    }
}

/// An error with its sources: object_store's own text often says only 'generic'.
struct Chain<'a>(&'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(error) = next {
            write!(f, ": {error}")?;
            next = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yard_domain::AttemptNumber;

    fn attempt(made_ms: u64, attempt: u32) -> AttemptRef {
        AttemptRef { job: JobId::new(made_ms, [7; 10]), attempt: AttemptNumber(attempt) }
    }

    fn chunk(start: u64, end: u64, seal: Option<Seal>) -> KeptChunk {
        KeptChunk { span: Span { start, end }, seal }
    }

    async fn logs(root: &std::path::Path) -> LogObjects {
        let place = Place::Folder(root.to_owned());
        LogObjects::new(crate::open(&place).await.unwrap(), &place)
    }

    #[tokio::test]
    async fn chunks_come_back_as_they_were_and_can_be_deleted() {
        let root = tempfile::tempdir().unwrap();
        let (logs, a) = (logs(root.path()).await, attempt(1, 1));
        assert_eq!(logs.kept(a).await, Ok(KeptLog::default()));
        let large = Bytes::from(vec![b'x'; 100_000]);
        let all = [
            (chunk(0, 100_000, None), large),
            (chunk(100_000, 100_003, None), Bytes::from_static(b"abc")),
            (chunk(100_003, 100_003, Some(Seal::Complete)), Bytes::new()),
        ];
        for (chunk, bytes) in &all {
            logs.put(a, *chunk, bytes.clone()).await.unwrap();
            logs.put(a, *chunk, bytes.clone()).await.unwrap();
        }
        logs.put(attempt(1, 11), chunk(0, 1, Some(Seal::Lost)), Bytes::from_static(b"y")).await.unwrap();
        assert_eq!(logs.kept(a).await, Ok(KeptLog::new(all.iter().map(|(c, _)| *c).collect())));
        for (chunk, bytes) in &all {
            assert_eq!(logs.get(a, *chunk).await.as_ref(), Ok(bytes));
            logs.delete(a, *chunk).await.unwrap();
            logs.delete(a, *chunk).await.unwrap();
            assert_eq!(logs.get(a, *chunk).await, Err(ArchiveError::NotFound));
        }
        assert_eq!(logs.kept(attempt(1, 11)).await.unwrap().seal(), Some(Seal::Lost));
    }

    #[tokio::test]
    async fn what_pods_printed_is_beside_the_log_and_goes_with_it() {
        let root = tempfile::tempdir().unwrap();
        let (logs, a) = (logs(root.path()).await, attempt(1, 1));
        assert_eq!(logs.pods(a, PodLog::Head).await, Err(ArchiveError::NotFound));
        logs.put_pods(a, PodLog::Head, Bytes::from_static(b"early")).await.unwrap();
        logs.put_pods(a, PodLog::Head, Bytes::from_static(b"late")).await.unwrap();
        logs.put_pods(a, PodLog::Workers, Bytes::new()).await.unwrap();
        logs.put(a, chunk(0, 4, None), Bytes::from_static(b"four")).await.unwrap();
        assert_eq!(logs.pods(a, PodLog::Head).await, Ok(Bytes::from_static(b"late")));
        assert_eq!(logs.pods(a, PodLog::Workers).await, Ok(Bytes::new()));
        assert_eq!(logs.kept(a).await, Ok(KeptLog::new(vec![chunk(0, 4, None)])));
        assert_eq!(logs.delete_job(a.job, 9).await, Ok(3));
        assert_eq!(logs.pods(a, PodLog::Head).await, Err(ArchiveError::NotFound));
    }

    #[tokio::test]
    async fn what_is_damaged_is_never_handed_out() {
        let root = tempfile::tempdir().unwrap();
        let (logs, a) = (logs(root.path()).await, attempt(1, 1));
        logs.put(a, chunk(0, 4, None), Bytes::from_static(b"four")).await.unwrap();
        let packed = logs.objects.get(&key(a, chunk(0, 4, None))).await.unwrap().bytes().await.unwrap();
        for (wrong, content) in [(chunk(0, 3, None), packed.clone()), (chunk(0, 9, None), packed.slice(..8))]
        {
            logs.objects.put(&key(a, wrong), content.into()).await.unwrap();
            let error = logs.get(a, wrong).await.unwrap_err();
            assert!(matches!(&error, ArchiveError::Damaged(why) if why.contains("logs/")), "{error}");
        }
    }

    #[tokio::test]
    async fn old_jobs_are_found_in_pages_and_deleted_in_pieces() {
        let root = tempfile::tempdir().unwrap();
        let logs = logs(root.path()).await;
        for made in [5_000, 1_000, 3_000, 2_000, 4_000] {
            for n in 1..=3 {
                logs.put(attempt(made, n), chunk(0, 1, None), Bytes::from_static(b"x")).await.unwrap();
            }
        }
        let ids = |found: Vec<JobLogs>| found.into_iter().map(|j| j.job).collect::<Vec<_>>();
        let of = |ms: u64| attempt(ms, 1).job;
        let before = Timestamp::from_micros(4_500_000);
        let first = ids(logs.jobs(None, before, 2).await.unwrap());
        assert_eq!(first, [of(1_000), of(2_000)]);
        assert_eq!(ids(logs.jobs(Some(first[1]), before, 9).await.unwrap()), [of(3_000), of(4_000)]);
        assert!(logs.jobs(None, before, 1).await.unwrap()[0].written_at > before);
        assert_eq!(logs.delete_job(of(1_000), 2).await, Ok(2));
        assert_eq!(logs.delete_job(of(1_000), 2).await, Ok(1));
        assert_eq!(logs.delete_job(of(1_000), 2).await, Ok(0));
        assert_eq!(ids(logs.jobs(None, before, 1).await.unwrap()), [of(2_000)]);
    }

    #[test]
    fn names_that_are_not_ours_are_no_chunks() {
        for name in ["", "x.gz", "1-.gz", "2-1.gz", "00-01", "0-99999999999.gz", "0-1.end.lost.gz"] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
