//! A job's output as one stream of bytes, wherever they are: what the archive has is read from there, and what comes
//! after from the cluster, at the very next byte.
//!
//! - this file: opens the log of one attempt, and decides where it is read
//! - [`reader`]: reads it
//! - [`sequence`]: the logs of several attempts, one after the other, as a job moves on

mod reader;
pub(crate) mod sequence;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use tokio::time::timeout;
use tracing::warn;
use yard_domain::{JobId, KeptLog, Part, RemoteName, Seal};
use yard_ports::store::{AttemptRef, AttemptView};
use yard_ports::{ArchiveError, Driver, DriverError};
use yard_wire::views::ProblemCode;

use crate::problem::ApiError;
use crate::state::AppState;
use reader::{Reader, Step};

/// Longest wait for a listing of the archive: the cluster may have the log all the same.
const ARCHIVE_PATIENCE: Duration = Duration::from_secs(5);

/// A log's bytes. It breaks off, and does not end, when there is more that can't be given now.
pub(crate) type Bytestream = BoxStream<'static, io::Result<Bytes>>;

/// What is wanted of an attempt's log.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wish {
    /// From this byte on.
    pub(crate) offset: u64,
    /// Whether to go on until the attempt has ended.
    pub(crate) follow: bool,
    /// Only the log's own bytes: no lines of ours, and an end before bytes that were not kept.
    pub(crate) plain: bool,
}

/// How much of a log there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// It is archived to its end.
    Complete,
    /// Its end went with its cluster.
    Lost,
    /// It may go on.
    Open,
}

impl Extent {
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Lost => "lost",
            Self::Open => "open",
        }
    }
}

/// A log that is open for reading.
pub(crate) struct Opened {
    /// Offset of the first byte.
    pub(crate) offset: u64,
    /// Whether the cluster was reached; otherwise everything comes from the archive.
    pub(crate) live: bool,
    /// How much there is.
    pub(crate) extent: Extent,
    /// Offset after its last byte, if that is known.
    pub(crate) total: Option<u64>,
    /// It ends before bytes that were not kept, though there is more behind them.
    pub(crate) more: bool,
    /// Its bytes.
    pub(crate) bytes: Bytestream,
}

/// Everything kept of an attempt. An archive that can't be asked is like an empty one: the cluster may have the log.
async fn kept(state: &AppState, attempt: AttemptRef) -> KeptLog {
    let late = |_| Err(ArchiveError::Unavailable("it does not answer in time".to_owned()));
    match timeout(ARCHIVE_PATIENCE, state.logs.kept(attempt)).await.unwrap_or_else(late) {
        Ok(log) => log,
        Err(error) => {
            warn!(job = %attempt.job, attempt = %attempt.attempt, %error, "the archive of a log could not be asked");
            KeptLog::default()
        }
    }
}

/// Who can be asked about an attempt.
pub(crate) fn driver(state: &AppState, attempt: &AttemptView) -> Result<Arc<dyn Driver>, ApiError> {
    (state.driver)(&attempt.cluster).ok_or_else(|| {
        let detail = format!(
            "attempt {} ran on {}, which this server can't talk to: it is not in the catalog any more, or its secret is not here",
            attempt.number, attempt.cluster
        );
        ApiError::new(ProblemCode::ClusterUnreachable, detail)
    })
}

/// Where the cluster is asked: behind what the archive has, or for everything if that has a hole.
fn live_from(log: &KeptLog, offset: u64) -> u64 {
    let whole = log.read(offset..u64::MAX).iter().all(|part| matches!(part, Part::Kept { .. }));
    if whole { log.end().max(offset) } else { offset }
}

/// Opens the log of one attempt.
pub(crate) async fn open(
    state: &AppState,
    job: JobId,
    attempt: &AttemptView,
    wish: Wish,
) -> Result<Opened, ApiError> {
    let r = AttemptRef { job, attempt: attempt.number };
    let log = kept(state, r).await;
    if log.seal() == Some(Seal::Complete) {
        return Ok(opened(state, r, attempt, wish, &log, None));
    }
    let from = live_from(&log, wish.offset);
    let live = match driver(state, attempt) {
        Ok(driver) => {
            driver.logs(&RemoteName::new(job, attempt.number), from, wish.follow).await.map_err(|e| {
                // What the cluster said of an attempt that the archive has is no news for the reader.
                if log.is_empty() || matches!(e, DriverError::NotFound) {
                    ApiError::from(e)
                } else {
                    unreachable(&e)
                }
            })
        }
        Err(error) => Err(error),
    };
    match live {
        Ok(live) => Ok(opened(state, r, attempt, wish, &log, Some((from, live)))),
        Err(error) if log.is_empty() => Err(error.about(job)),
        Err(_) => Ok(opened(state, r, attempt, wish, &log, None)),
    }
}

fn unreachable(error: &DriverError) -> ApiError {
    warn!(%error, "a cluster could not be asked for a log; the archive is read");
    ApiError::new(ProblemCode::ClusterUnreachable, "its log is read from the archive")
}

/// Puts the steps together; pure but for what it hands on.
fn opened(
    state: &AppState,
    r: AttemptRef,
    attempt: &AttemptView,
    wish: Wish,
    log: &KeptLog,
    live: Option<(u64, yard_ports::LogStream)>,
) -> Opened {
    let over = attempt.ended_at.is_some();
    let is_live = live.is_some();
    let extent = match log.seal() {
        Some(Seal::Complete) => Extent::Complete,
        _ if is_live => Extent::Open,
        Some(Seal::Lost) => Extent::Lost,
        None if over => Extent::Lost,
        None => Extent::Open,
    };
    let to = live.as_ref().map_or(u64::MAX, |(from, _)| *from);
    let planned = plan(log.read(wish.offset..to), wish);
    let mut steps = planned.steps;
    if !planned.more {
        match live {
            Some((_, stream)) => steps.push_back(Step::Live(stream)),
            None if wish.follow && log.seal().is_none() => {
                let cluster = &attempt.cluster;
                let line = format!(
                    "{cluster} can't be asked for the log now: this comes from the archive, some seconds late"
                );
                steps.extend((!wish.plain).then(|| Step::note(&line)));
                steps.push_back(Step::Watch);
            }
            None if extent != Extent::Complete && !wish.plain => {
                let cluster = &attempt.cluster;
                steps.push_back(Step::note(&match extent {
                    Extent::Lost => {
                        format!("the rest of this log is not kept: {cluster} did not have it to the end")
                    }
                    _ => format!("{cluster} can't be asked for the rest of this log now"),
                }));
            }
            None => {}
        }
    }
    let total = (extent == Extent::Complete).then(|| log.end());
    let reader = Reader::new(state.clone(), r, attempt.clone(), wish, planned.offset, steps);
    let bytes = reader.into_stream().boxed();
    Opened { offset: planned.offset, live: is_live, extent, total, more: planned.more, bytes }
}

struct Planned {
    offset: u64,
    steps: VecDeque<Step>,
    more: bool,
}

/// The steps to read these parts. A reader of plain bytes is taken over a hole at the beginning and stops at the next; any
/// other reads a line in its place.
fn plan(parts: Vec<Part>, wish: Wish) -> Planned {
    let mut planned = Planned { offset: wish.offset, steps: VecDeque::new(), more: false };
    for part in parts {
        match part {
            Part::Kept { chunk, from, to } => planned.steps.push_back(Step::Chunk { chunk, from, to }),
            Part::Missing { to, .. } if wish.plain && planned.steps.is_empty() => planned.offset = to,
            Part::Missing { .. } if wish.plain => {
                planned.more = true;
                break;
            }
            Part::Missing { from, to } => {
                let line = format!("{} bytes of this log, from byte {from} on, were not kept", to - from);
                planned.steps.push_back(Step::note(&line));
                planned.steps.push_back(Step::Skip(to));
            }
        }
    }
    planned
}

/// A line of ours in a log.
fn line(text: &str) -> Bytes {
    format!("--- {text} ---\n").into()
}

/// The end of a log, at most `max` bytes of it, and the offset of its first byte.
pub(crate) async fn tail(
    state: &AppState,
    job: JobId,
    attempt: &AttemptView,
    max: usize,
) -> Result<(Opened, u64, Bytes), ApiError> {
    let log = kept(state, AttemptRef { job, attempt: attempt.number }).await;
    let from = log.end().saturating_sub(max as u64);
    // Behind the last hole: what is before it is not the log's end.
    let from = log.read(from..u64::MAX).iter().fold(from, |at, part| match part {
        Part::Missing { to, .. } => *to,
        Part::Kept { .. } => at,
    });
    let wish = Wish { offset: from, follow: false, plain: true };
    let mut opened = open(state, job, attempt, wish).await?;
    let (mut end, mut kept) = (opened.offset, bytes::BytesMut::new());
    while let Some(bytes) = opened.bytes.next().await {
        let bytes =
            bytes.map_err(|e| ApiError::new(ProblemCode::ClusterUnreachable, e.to_string()).about(job))?;
        end += bytes.len() as u64;
        kept.extend_from_slice(&bytes);
        if kept.len() > 2 * max {
            kept = kept.split_off(kept.len() - max);
        }
    }
    let kept = kept.split_off(kept.len().saturating_sub(max)).freeze();
    let offset = end - kept.len() as u64;
    Ok((opened, offset, kept))
}

/// Up to `max` bytes of a stream, held in memory.
pub(crate) async fn collect(bytes: &mut Bytestream, max: usize) -> io::Result<Bytes> {
    let mut kept = bytes::BytesMut::new();
    while kept.len() < max {
        match bytes.next().await {
            Some(more) => kept.extend_from_slice(&more?),
            None => break,
        }
    }
    kept.truncate(max);
    Ok(kept.freeze())
}

/// Breaks a stream off when the server is to stop or `max` bytes have been given, so that a reader can tell.
pub(crate) fn bounded(
    bytes: Bytestream,
    state: &AppState,
    max: u64,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let cut = Box::pin(state.shutdown.clone().cancelled_owned());
    stream::unfold(Some((bytes, cut, max)), |open| async move {
        let (mut bytes, mut cut, left) = open?;
        if left == 0 {
            return Some((Err(io::Error::other("this is as much as one answer may have")), None));
        }
        tokio::select! {
            biased;
            () = &mut cut => Some((Err(io::Error::other("the server is stopping")), None)),
            next = bytes.next() => match next? {
                Ok(mut chunk) => {
                    chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                    let left = left - chunk.len() as u64;
                    Some((Ok(chunk), Some((bytes, cut, left))))
                }
                Err(error) => Some((Err(error), None)),
            },
        }
    })
}
