//! A log by byte offset, over an interface that only gives it whole: Ray's, however it is reached.
//!
//! Ray also has a WebSocket that sends a log as it grows, but only from its beginning, in a rhythm of a
//! second, and without saying how the job ended: reading the whole again is no later, needs no second
//! protocol, and its cost is bounded by the pause between reads ([`WholeLog::poll`]).

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use tokio::time::{Instant, sleep};
use yard_ports::{DriverError, LogStream};

/// Pauses are at least this many times as long as the read before took.
const PAUSE_PER_READ: u32 = 10;
/// Largest piece handed out at once, in bytes.
const CHUNK: usize = 64 << 10;

/// One attempt's log.
#[async_trait]
pub trait WholeLog: Send + Sync + 'static {
    /// Whether the attempt has ended (or is not there any more).
    async fn has_ended(&self) -> Result<bool, DriverError>;

    /// The whole log as it is now. [`DriverError::NotFound`] if there is none and will be none.
    async fn whole(&self) -> Result<Bytes, DriverError>;

    /// Shortest pause between reads.
    fn poll(&self) -> Duration;

    /// How long it may be unreadable before its reader is told.
    fn patience(&self) -> Duration;
}

/// The log from `offset` on.
pub async fn stream(log: impl WholeLog, offset: u64, follow: bool) -> Result<LogStream, DriverError> {
    let mut reader = Reader {
        log,
        offset: usize::try_from(offset).unwrap_or(usize::MAX),
        ended: !follow,
        unread: Bytes::new(),
        pause: Duration::ZERO,
        failing_since: None,
    };
    // Here already, so that the log of a job that isn't there is an error of the call.
    match reader.read().await {
        Err(DriverError::Unclear(_)) if follow => reader.pause = reader.log.poll(),
        first => first?,
    }
    Ok(futures::stream::try_unfold(reader, |mut reader| async move {
        Ok(reader.next().await?.map(|chunk| (chunk, reader)))
    })
    .boxed())
}

struct Reader<L> {
    log: L,
    /// Up to where the log has been read.
    offset: usize,
    /// Whether nothing comes after what has been read.
    ended: bool,
    unread: Bytes,
    pause: Duration,
    failing_since: Option<Instant>,
}

impl<L: WholeLog> Reader<L> {
    async fn next(&mut self) -> Result<Option<Bytes>, DriverError> {
        loop {
            if !self.unread.is_empty() {
                return Ok(Some(self.unread.split_to(CHUNK.min(self.unread.len()))));
            }
            if self.ended {
                return Ok(None);
            }
            sleep(self.pause).await;
            match self.read().await {
                Ok(()) => self.failing_since = None,
                // Forgotten meanwhile: so it had ended.
                Err(DriverError::NotFound) => self.ended = true,
                Err(error) => {
                    let since = *self.failing_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= self.log.patience() {
                        return Err(error);
                    }
                }
            }
        }
    }

    async fn read(&mut self) -> Result<(), DriverError> {
        let started = Instant::now();
        // Asked before the log is read: what has ended writes nothing more.
        let ended = self.ended || self.log.has_ended().await?;
        let mut log = self.log.whole().await?;
        if log.len() > self.offset {
            self.unread = log.split_off(self.offset);
            self.offset += self.unread.len();
        }
        self.ended = ended;
        self.pause = self.log.poll().max(started.elapsed() * PAUSE_PER_READ);
        Ok(())
    }
}
