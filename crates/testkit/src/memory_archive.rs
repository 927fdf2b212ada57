//! An archive of logs in memory, which can be made to fail.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use yard_domain::{JobId, KeptChunk, KeptLog, Part, Timestamp};
use yard_ports::store::AttemptRef;
use yard_ports::{ArchiveError, JobLogs, LogArchive, PodLog};

/// Clones are handles on the same archive.
#[derive(Clone, Default)]
pub struct MemoryArchive {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    logs: HashMap<AttemptRef, BTreeMap<KeptChunk, Bytes>>,
    pods: HashMap<(AttemptRef, PodLog), Bytes>,
    written_at: HashMap<JobId, Timestamp>,
    failing: bool,
    puts: u64,
}

impl MemoryArchive {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn working(&self) -> Result<MutexGuard<'_, State>, ArchiveError> {
        let state = self.state();
        if state.failing {
            return Err(ArchiveError::Unavailable("told to fail".to_owned()));
        }
        Ok(state)
    }

    /// From now on every call fails, or none.
    pub fn fail(&self, failing: bool) {
        self.state().failing = failing;
    }

    /// Writes so far.
    pub fn puts(&self) -> u64 {
        self.state().puts
    }

    /// Says when the newest chunk of a job was written (otherwise: at the beginning of time).
    pub fn written_at(&self, job: JobId, at: Timestamp) {
        self.state().written_at.insert(job, at);
    }

    /// Everything kept of an attempt, as a reader would see it; bytes that are missing are left out.
    pub fn text(&self, attempt: AttemptRef) -> (KeptLog, String) {
        let state = self.state();
        let chunks = state.logs.get(&attempt).cloned().unwrap_or_default();
        let log = KeptLog::new(chunks.keys().copied().collect());
        let mut bytes = BytesMut::new();
        for part in log.read(0..u64::MAX) {
            if let Part::Kept { chunk, from, to } = part {
                let place = |at: u64| usize::try_from(at - chunk.span.start).unwrap_or(usize::MAX);
                bytes.extend_from_slice(&chunks[&chunk][place(from)..place(to)]);
            }
        }
        (log, String::from_utf8_lossy(&bytes).into_owned())
    }
}

#[async_trait]
impl LogArchive for MemoryArchive {
    async fn kept(&self, attempt: AttemptRef) -> Result<KeptLog, ArchiveError> {
        let state = self.working()?;
        Ok(KeptLog::new(state.logs.get(&attempt).into_iter().flat_map(|l| l.keys().copied()).collect()))
    }

    async fn put(&self, attempt: AttemptRef, chunk: KeptChunk, bytes: Bytes) -> Result<(), ArchiveError> {
        let mut state = self.working()?;
        if bytes.len() as u64 != chunk.span.len() {
            return Err(ArchiveError::Damaged(format!("{chunk:?} with {} bytes", bytes.len())));
        }
        state.puts += 1;
        state.logs.entry(attempt).or_default().insert(chunk, bytes);
        Ok(())
    }

    async fn get(&self, attempt: AttemptRef, chunk: KeptChunk) -> Result<Bytes, ArchiveError> {
        let state = self.working()?;
        state.logs.get(&attempt).and_then(|l| l.get(&chunk)).cloned().ok_or(ArchiveError::NotFound)
    }

    async fn delete(&self, attempt: AttemptRef, chunk: KeptChunk) -> Result<(), ArchiveError> {
        self.working()?.logs.entry(attempt).or_default().remove(&chunk);
        Ok(())
    }

    async fn put_pods(&self, attempt: AttemptRef, whose: PodLog, bytes: Bytes) -> Result<(), ArchiveError> {
        self.working()?.pods.insert((attempt, whose), bytes);
        Ok(())
    }

    async fn pods(&self, attempt: AttemptRef, whose: PodLog) -> Result<Bytes, ArchiveError> {
        self.working()?.pods.get(&(attempt, whose)).cloned().ok_or(ArchiveError::NotFound)
    }

    async fn jobs(
        &self,
        after: Option<JobId>,
        _before: Timestamp,
        limit: usize,
    ) -> Result<Vec<JobLogs>, ArchiveError> {
        let state = self.working()?;
        let mut jobs: Vec<JobId> =
            state.logs.iter().filter(|(_, l)| !l.is_empty()).map(|(r, _)| r.job).collect();
        jobs.sort_unstable();
        jobs.dedup();
        let jobs = jobs.into_iter().filter(|job| after.is_none_or(|after| *job > after)).take(limit);
        let at = |job| state.written_at.get(&job).copied().unwrap_or(Timestamp::from_micros(0));
        Ok(jobs.map(|job| JobLogs { job, written_at: at(job) }).collect())
    }

    async fn delete_job(&self, job: JobId, limit: usize) -> Result<usize, ArchiveError> {
        let mut state = self.working()?;
        let mut deleted = 0;
        for (_, chunks) in state.logs.iter_mut().filter(|(r, _)| r.job == job) {
            while deleted < limit && chunks.pop_first().is_some() {
                deleted += 1;
            }
        }
        let pods: Vec<_> = state.pods.keys().filter(|(r, _)| r.job == job).copied().collect();
        for key in pods.into_iter().take(limit - deleted) {
            state.pods.remove(&key);
            deleted += 1;
        }
        Ok(deleted)
    }
}
