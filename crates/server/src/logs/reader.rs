//! Reads the log of one attempt, step by step.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use tracing::warn;
use yard_domain::{KeptChunk, RemoteName, Seal};
use yard_ports::store::{AttemptRef, AttemptView};
use yard_ports::{ArchiveError, DriverError, LogStream};

use super::{Wish, driver, kept, line, plan};
use crate::state::AppState;

/// How often a plan is made anew because chunks were replaced while they were being read.
const PLANS_MAX: u32 = 5;
/// Looks without news after which a log whose attempt is over is taken for finished: nobody archives its rest.
const LOOKS_AFTER_END: u32 = 30;
/// Largest piece handed out at once, in bytes.
const PIECE: usize = 64 << 10;

/// What is done next.
pub(super) enum Step {
    /// The bytes from `from` up to `to`, out of a chunk.
    Chunk { chunk: KeptChunk, from: u64, to: u64 },
    /// Bytes that are read already.
    Ready(Bytes),
    /// A line of ours.
    Note(Bytes),
    /// Go on at this byte.
    Skip(u64),
    /// What the cluster sends, to its end.
    Live(LogStream),
    /// Look again and again whether archive or cluster have more.
    Watch,
}

impl Step {
    pub(super) fn note(text: &str) -> Self {
        Self::Note(line(text))
    }
}

pub(super) struct Reader {
    state: AppState,
    r: AttemptRef,
    attempt: AttemptView,
    wish: Wish,
    /// The next byte of the log.
    at: u64,
    steps: VecDeque<Step>,
    plans: u32,
    looks: u32,
    /// Whether the last byte given ended a line.
    fresh_line: bool,
}

impl Reader {
    pub(super) fn new(
        state: AppState,
        r: AttemptRef,
        attempt: AttemptView,
        wish: Wish,
        at: u64,
        steps: VecDeque<Step>,
    ) -> Self {
        Self { state, r, attempt, wish, at, steps, plans: 0, looks: 0, fresh_line: true }
    }

    pub(super) fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send {
        stream::unfold(Some(self), |open| async move {
            let mut reader = open?;
            match reader.next().await {
                Ok(bytes) => bytes.map(|bytes| (Ok(bytes), Some(reader))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while let Some(step) = self.steps.pop_front() {
            match step {
                Step::Ready(mut bytes) => {
                    let piece = bytes.split_to(PIECE.min(bytes.len()));
                    if !bytes.is_empty() {
                        self.steps.push_front(Step::Ready(bytes));
                    }
                    self.at += piece.len() as u64;
                    self.fresh_line = piece.last().is_none_or(|b| *b == b'\n');
                    if !piece.is_empty() {
                        return Ok(Some(piece));
                    }
                }
                Step::Note(text) => {
                    let text = if self.fresh_line { text } else { [&b"\n"[..], &text].concat().into() };
                    self.fresh_line = true;
                    return Ok(Some(text));
                }
                Step::Skip(to) => self.at = to,
                Step::Chunk { chunk, from, to } => self.chunk(chunk, from, to).await?,
                Step::Live(mut stream) => match stream.next().await {
                    None => {}
                    Some(Ok(bytes)) => {
                        self.steps.push_front(Step::Live(stream));
                        self.steps.push_front(Step::Ready(bytes));
                    }
                    Some(Err(error)) => {
                        warn!(job = %self.r.job, %error, "a log broke off");
                        return Err(io::Error::other("the cluster's log broke off"));
                    }
                },
                Step::Watch => self.watch().await,
            }
        }
        Ok(None)
    }

    async fn chunk(&mut self, chunk: KeptChunk, from: u64, to: u64) -> io::Result<()> {
        match self.state.logs.get(self.r, chunk).await {
            Ok(bytes) => {
                let place = |at: u64| {
                    let at = usize::try_from(at.saturating_sub(chunk.span.start)).unwrap_or(usize::MAX);
                    at.min(bytes.len())
                };
                self.steps.push_front(Step::Ready(bytes.slice(place(from)..place(to))));
                self.plans = 0;
                Ok(())
            }
            // Written again with more in it since the plan was made.
            Err(ArchiveError::NotFound) if self.plans < PLANS_MAX => {
                self.plans += 1;
                self.plan_again(to).await;
                Ok(())
            }
            Err(error) => {
                warn!(job = %self.r.job, %error, "a log broke off");
                Err(io::Error::other("the archive's log broke off"))
            }
        }
    }

    /// Plans anew what was to come out of chunks.
    async fn plan_again(&mut self, mut to: u64) {
        while let Some(Step::Chunk { .. } | Step::Skip(_) | Step::Note(_)) = self.steps.front() {
            if let Some(Step::Chunk { to: further, .. }) = self.steps.pop_front() {
                to = further;
            }
        }
        let log = kept(&self.state, self.r).await;
        let planned = plan(log.read(self.at..to), Wish { offset: self.at, ..self.wish });
        for step in planned.steps.into_iter().rev() {
            self.steps.push_front(step);
        }
    }

    /// One look, after a pause: at the cluster, which may be there again, and at the archive, which others write.
    async fn watch(&mut self) {
        tokio::time::sleep(self.state.config.logs.look_interval).await;
        // Before the log: what is over then writes nothing more.
        let over = match self.state.store.job(self.r.job).await {
            Ok(Some(job)) => {
                let now = job.attempts.into_iter().find(|a| a.number == self.attempt.number);
                now.is_none_or(|a| a.ended_at.is_some())
            }
            Ok(None) => true,
            Err(_) => false,
        };
        let log = kept(&self.state, self.r).await;
        if log.end() <= self.at && log.seal().is_none() {
            match self.live().await {
                Ok(stream) => return self.steps.push_back(Step::Live(stream)),
                Err(_) if over && self.looks >= LOOKS_AFTER_END => {
                    return self.steps.extend(self.rest_is_lost());
                }
                Err(_) => self.looks += u32::from(over),
            }
        } else {
            self.looks = 0;
        }
        let planned = plan(log.read(self.at..u64::MAX), Wish { offset: self.at, ..self.wish });
        self.steps.extend(planned.steps);
        match log.seal() {
            _ if planned.more => {}
            Some(Seal::Complete) => {}
            Some(Seal::Lost) => self.steps.extend(self.rest_is_lost()),
            None => self.steps.push_back(Step::Watch),
        }
    }

    fn rest_is_lost(&self) -> Option<Step> {
        let text =
            format!("the rest of this log is not kept: {} did not have it to the end", self.attempt.cluster);
        (!self.wish.plain).then(|| Step::note(&text))
    }

    async fn live(&mut self) -> Result<LogStream, DriverError> {
        let unknown = |_| DriverError::Unreachable("not from here".to_owned());
        let driver = driver(&self.state, &self.attempt).map_err(unknown)?;
        driver.logs(&RemoteName::new(self.r.job, self.r.attempt), self.at, true).await
    }
}
