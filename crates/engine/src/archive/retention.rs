//! Deletes logs that are older than they have to be, in small batches, by one process at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use yard_domain::lease::LeaseTerms;
use yard_domain::{JobId, LeaseScope, TeamId, Timestamp};
use yard_ports::{ArchiveError, JobLogs, Store, StoreError};

use super::LogKeeping;
use crate::keeper::{Held, Keeper};

/// Jobs looked at in one page.
const PAGE: usize = 500;

/// The loop of one replica; whoever has the lease works.
pub struct LogSweeper {
    /// Says whose a job is.
    pub store: Arc<dyn Store>,
    /// For its lease.
    pub keeper: Keeper,
    /// The terms of that lease.
    pub lease: LeaseTerms,
    /// Where logs are, and how long they are kept.
    pub keeping: LogKeeping,
}

/// Why a pass ended before everything was looked at.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

impl LogSweeper {
    /// Sweeps until `cancel`.
    pub async fn run(self, cancel: CancellationToken) {
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(self.keeping.settings.sweep_interval) => {}
            }
            let scope = LeaseScope::Scheduler("logs/sweep".to_owned());
            let held = match self.keeper.acquire(&scope, self.lease).await {
                Ok(Some(held)) => held,
                // Another is at it.
                Ok(None) => continue,
                Err(error) => {
                    warn!(%error, "could not look for old logs");
                    continue;
                }
            };
            let swept = tokio::select! {
                () = cancel.cancelled() => Ok(()),
                swept = self.sweep(&held) => swept,
            };
            if let Err(error) = swept {
                warn!(%error, "could not delete old logs; the next sweep tries again");
            }
            self.keeper.give_back(&held).await;
        }
    }

    /// One pass over everything that may be old enough.
    async fn sweep(&self, held: &Held) -> Result<(), Cut> {
        let settings = &self.keeping.settings;
        let shortest = settings.keep_by_team.values().fold(settings.keep, |a, b| a.min(*b));
        let mut after: Option<JobId> = None;
        let (mut jobs, mut chunks) = (0_u64, 0_u64);
        loop {
            let now = self.store.now().await?;
            let page = self.keeping.archive.jobs(after, minus(now, shortest), PAGE).await?;
            for found in &page {
                if !self.may_go(found, now).await? {
                    continue;
                }
                jobs += 1;
                loop {
                    if !held.is_trusted() {
                        return Ok(());
                    }
                    let deleted = self.keeping.archive.delete_job(found.job, settings.sweep_batch).await?;
                    chunks += deleted as u64;
                    metrics::counter!("yard_log_chunks_deleted_total").increment(deleted as u64);
                    if deleted < settings.sweep_batch {
                        break;
                    }
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some(last.job),
                _ => break,
            }
        }
        if jobs > 0 {
            info!(jobs, chunks, "deleted old logs");
        }
        Ok(())
    }

    /// Whether a job has ended and its team's time for its logs is over. What is known of no job is kept for the longest
    /// time of all.
    async fn may_go(&self, found: &JobLogs, now: Timestamp) -> Result<bool, StoreError> {
        let settings = &self.keeping.settings;
        let keep = match self.store.job(found.job).await? {
            Some(view) if !view.lifecycle.state.name().is_end() => return Ok(false),
            Some(view) => self.keep_of(&view.lifecycle.team),
            None => settings.keep_by_team.values().fold(settings.keep, |a, b| a.max(*b)),
        };
        Ok(now.since(found.written_at) >= keep)
    }

    fn keep_of(&self, team: &TeamId) -> Duration {
        let settings = &self.keeping.settings;
        settings.keep_by_team.get(team).copied().unwrap_or(settings.keep)
    }
}

fn minus(now: Timestamp, span: Duration) -> Timestamp {
    let span = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.as_micros().saturating_sub(span))
}
