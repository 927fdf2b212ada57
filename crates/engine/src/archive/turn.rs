//! One turn of one attempt: what its log has that the archive has not is read from the cluster and written.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tracing::{debug, warn};
use yard_domain::{KeepBounds, KeptChunk, KeptLog, RemoteName, Seal, Span};
use yard_ports::store::AttemptRef;
use yard_ports::{ArchiveError, Driver, DriverError, PodLog};

use super::LogKeeping;
use super::agenda::{Due, Stage};

/// A last chunk that is shorter is written again with what comes next in it, in bytes.
const GROW_BELOW: u64 = 64 << 10;
/// Most bytes read in one turn: others are waiting.
const TURN_BYTES: usize = 16 << 20;

/// What came of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The archive has all it will get.
    Settled,
    /// There is more to read now.
    More,
    /// All there is for now.
    Later,
    /// Cluster or archive did not answer.
    Failed,
}

/// Takes turns on one cluster.
pub struct Turns {
    /// The cluster.
    pub driver: Arc<dyn Driver>,
    /// Where logs go.
    pub keeping: LogKeeping,
}

/// What a turn fails with; what was written by then stays.
enum Problem {
    Cluster(DriverError),
    Archive(ArchiveError),
}

impl From<ArchiveError> for Problem {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error)
    }
}

/// How far the cluster's log was read in a turn.
enum Read {
    ToTheEnd,
    /// As much as a turn may.
    Enough,
    BrokeOff(DriverError),
}

impl Turns {
    /// Takes one turn. Returns what is kept now, as far as that is known.
    pub async fn take(&self, due: Due) -> (Option<KeptLog>, Outcome) {
        let Due { attempt, last_try, .. } = due;
        let mut log = match due.kept {
            Some(log) => log,
            None => match self.keeping.archive.kept(attempt).await {
                Ok(log) => log,
                Err(error) => return (None, failed(attempt, &Problem::Archive(error), last_try)),
            },
        };
        let pods = due.stage >= Stage::Stopping && log.seal() != Some(Seal::Complete);
        let kept = if pods { self.keep_pods(attempt).await } else { Ok(()) };
        let kept = match kept {
            // A stop does not wait, and there is another turn at its end.
            Err(_) if last_try || due.stage < Stage::Over => Ok(()),
            kept => kept,
        };
        let read = match kept {
            Ok(()) => self.read(&mut log, attempt, due.stage).await,
            Err(problem) => Err(problem),
        };
        let outcome = match read {
            // Readable to the last, and never seen to end.
            Ok(Outcome::Later) if last_try => Outcome::Settled,
            Ok(outcome) => outcome,
            Err(problem) => {
                if last_try && matches!(problem, Problem::Cluster(_)) {
                    _ = self.lost(attempt, &mut log).await;
                }
                failed(attempt, &problem, last_try)
            }
        };
        (Some(log), outcome)
    }

    /// Keeps what the attempt's pods have printed, as far as they are there. It comes before the end of the log, so that a
    /// log that is complete says that nothing is left to do.
    async fn keep_pods(&self, attempt: AttemptRef) -> Result<(), Problem> {
        if !self.driver.has_pod_logs() {
            return Ok(());
        }
        let name = RemoteName::new(attempt.job, attempt.attempt);
        let found = match self.driver.pod_logs(&name, &PodLog::ALL).await {
            Ok(found) => found,
            Err(error @ (DriverError::Unreachable(_) | DriverError::Unclear(_))) => {
                return Err(Problem::Cluster(error));
            }
            // It will be so the next time, too; the log must not wait for it.
            Err(error) => {
                warn!(job = %attempt.job, attempt = %attempt.attempt, %error, "what its pods printed can't be read");
                metrics::counter!("yard_log_archive_errors_total", "what" => "cluster").increment(1);
                return Ok(());
            }
        };
        for (whose, bytes) in found {
            // Pods print more and more, unless some of them are gone by now: then what was kept before a stop is the better.
            match self.keeping.archive.pods(attempt, whose).await {
                Ok(before) if before.len() > bytes.len() => continue,
                Ok(_) | Err(ArchiveError::NotFound | ArchiveError::Damaged(_)) => {}
                Err(error) => return Err(error.into()),
            }
            let len = bytes.len() as u64;
            self.keeping.archive.put_pods(attempt, whose, bytes).await?;
            metrics::counter!("yard_log_bytes_archived_total").increment(len);
        }
        Ok(())
    }

    async fn read(&self, log: &mut KeptLog, attempt: AttemptRef, stage: Stage) -> Result<Outcome, Problem> {
        let (over, ended) = (stage >= Stage::Over, stage == Stage::Ended);
        if log.seal() == Some(Seal::Complete) {
            return Ok(Outcome::Settled);
        }
        let chunk_bytes = self.keeping.settings.chunk_bytes.max(1);
        let mut at = log.resume_at(GROW_BELOW.min(chunk_bytes as u64));
        let name = RemoteName::new(attempt.job, attempt.attempt);
        let mut stream = match self.driver.logs(&name, at, false).await {
            Ok(stream) => stream,
            Err(DriverError::NotFound) if over => {
                self.lost(attempt, log).await?;
                return Ok(Outcome::Settled);
            }
            // Not launched yet, or about to be found missing.
            Err(DriverError::NotFound) => return Ok(Outcome::Later),
            Err(error) => return Err(Problem::Cluster(error)),
        };
        let (mut buffer, mut read) = (BytesMut::new(), 0);
        let how = loop {
            match stream.next().await {
                None => break Read::ToTheEnd,
                Some(Err(error)) => break Read::BrokeOff(error),
                Some(Ok(bytes)) => {
                    read += bytes.len();
                    buffer.extend_from_slice(&bytes);
                }
            }
            while buffer.len() >= chunk_bytes {
                let bytes = buffer.split_to(chunk_bytes).freeze();
                at += bytes.len() as u64;
                self.write(attempt, log, at, bytes, None).await?;
            }
            if read >= TURN_BYTES {
                break Read::Enough;
            }
        };
        let seal = (ended && matches!(how, Read::ToTheEnd)).then_some(Seal::Complete);
        let end = at + buffer.len() as u64;
        if end > log.end() {
            self.write(attempt, log, end, buffer.freeze(), seal).await?;
        } else if seal.is_some() {
            self.write(attempt, log, log.end(), Bytes::new(), seal).await?;
        }
        match how {
            Read::BrokeOff(error) => Err(Problem::Cluster(error)),
            Read::Enough => Ok(Outcome::More),
            Read::ToTheEnd if ended => Ok(Outcome::Settled),
            Read::ToTheEnd => Ok(Outcome::Later),
        }
    }

    /// Says in the archive that the rest went with the cluster. Of an attempt without a log there is nothing to say.
    async fn lost(&self, attempt: AttemptRef, log: &mut KeptLog) -> Result<(), ArchiveError> {
        if log.is_empty() || log.seal().is_some() {
            return Ok(());
        }
        self.write(attempt, log, log.end(), Bytes::new(), Some(Seal::Lost)).await
    }

    /// Writes the chunk that ends at `end`, then deletes what it replaces and what is too much.
    async fn write(
        &self,
        attempt: AttemptRef,
        log: &mut KeptLog,
        end: u64,
        bytes: Bytes,
        seal: Option<Seal>,
    ) -> Result<(), ArchiveError> {
        let span = Span { start: end - bytes.len() as u64, end };
        let chunk = KeptChunk { span, seal };
        let archive = &self.keeping.archive;
        archive.put(attempt, chunk, bytes).await?;
        metrics::counter!("yard_log_bytes_archived_total").increment(span.len());
        let mut gone = log.add(chunk);
        let total = self.keeping.settings.attempt_bytes_max;
        gone.extend(log.shed(KeepBounds { total, head: total / 2 }));
        for chunk in gone {
            if let Err(error) = archive.delete(attempt, chunk).await {
                // It stays, and reads the same.
                debug!(job = %attempt.job, attempt = %attempt.attempt, %error, "could not delete a chunk of a log");
            }
        }
        Ok(())
    }
}

fn failed(attempt: AttemptRef, problem: &Problem, last_try: bool) -> Outcome {
    let (what, error) = match problem {
        Problem::Cluster(error) => ("cluster", error.to_string()),
        Problem::Archive(error) => ("storage", error.to_string()),
    };
    metrics::counter!("yard_log_archive_errors_total", "what" => what).increment(1);
    let (job, attempt) = (attempt.job, attempt.attempt);
    if last_try {
        warn!(%job, %attempt, what, error, "the end of a log could not be archived in time: it is given up");
        metrics::counter!("yard_logs_given_up_total").increment(1);
        Outcome::Settled
    } else {
        debug!(%job, %attempt, what, error, "a log could not be archived now");
        Outcome::Failed
    }
}
