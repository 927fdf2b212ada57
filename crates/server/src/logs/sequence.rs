//! The logs of a job's attempts, one after the other, each headed by a line. Following goes on with the next attempt when
//! there is one, on whichever cluster, until the job has ended.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use yard_domain::{AttemptNumber, JobId};
use yard_ports::store::{AttemptView, JobView};
use yard_wire::views::ProblemCode;

use super::{Bytestream, Wish, line, open};
use crate::state::AppState;

/// See the module.
pub(crate) struct Sequence {
    state: AppState,
    job: JobId,
    wish: Wish,
    /// What is read now.
    current: Option<Bytestream>,
    /// Attempts to be read after that.
    next: VecDeque<AttemptView>,
    last: AttemptNumber,
    fresh_line: bool,
}

impl Sequence {
    /// Goes on behind a log that is open.
    pub(crate) fn after(
        state: AppState,
        job: JobId,
        first: Bytestream,
        number: AttemptNumber,
        wish: Wish,
    ) -> Self {
        let wish = Wish { offset: 0, ..wish };
        Self { state, job, wish, current: Some(first), next: VecDeque::new(), last: number, fresh_line: true }
    }

    /// All attempts of a job, from the first.
    pub(crate) fn all(state: AppState, job: &JobView, wish: Wish) -> Self {
        let next = job.attempts.clone().into();
        let job = job.lifecycle.id;
        Self { state, job, wish, current: None, next, last: AttemptNumber(0), fresh_line: true }
    }

    /// Its bytes.
    pub(crate) fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send {
        stream::unfold(Some(self), |open| async move {
            let mut sequence = open?;
            match sequence.step().await {
                Some(Ok(bytes)) => Some((Ok(bytes), Some(sequence))),
                Some(Err(error)) => Some((Err(error), None)),
                None => None,
            }
        })
    }

    async fn step(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            if let Some(current) = &mut self.current {
                match current.next().await {
                    Some(Ok(bytes)) => {
                        self.fresh_line = bytes.last().is_none_or(|b| *b == b'\n');
                        return Some(Ok(bytes));
                    }
                    Some(Err(error)) => return Some(Err(error)),
                    None => self.current = None,
                }
            }
            if let Some(attempt) = self.next.pop_front() {
                if let Some(head) = self.begin(attempt).await {
                    return Some(head);
                }
            } else if !self.wish.follow || !self.look().await {
                return None;
            }
        }
    }

    /// Opens an attempt's log; gives the line that heads it. `None` if it has to be tried again.
    async fn begin(&mut self, attempt: AttemptView) -> Option<io::Result<Bytes>> {
        let (number, cluster) = (attempt.number, attempt.cluster.clone());
        let text = match open(&self.state, self.job, &attempt, self.wish).await {
            Ok(opened) => {
                self.current = Some(opened.bytes);
                format!("attempt {number} on {cluster}")
            }
            // Placed and not launched, perhaps.
            Err(_) if self.wish.follow && attempt.ended_at.is_none() => {
                self.pause().await;
                return None;
            }
            Err(error) if error.code() == ProblemCode::NoLog => {
                format!("attempt {number} on {cluster}: no log of it is kept")
            }
            Err(_) => format!("attempt {number} on {cluster}: its log can't be read now"),
        };
        self.last = number;
        let head = line(&text);
        let head = if self.fresh_line { head } else { [&b"\n"[..], &head].concat().into() };
        self.fresh_line = true;
        Some(Ok(head))
    }

    /// Looks for an attempt after the last one; `false` if there will be none.
    async fn look(&mut self) -> bool {
        match self.state.store.job(self.job).await {
            Ok(Some(job)) => {
                self.next.extend(job.attempts.into_iter().filter(|a| a.number > self.last));
                if self.next.is_empty() {
                    if job.lifecycle.state.name().is_end() {
                        return false;
                    }
                    self.pause().await;
                }
                true
            }
            Ok(None) => false,
            Err(_) => {
                self.pause().await;
                true
            }
        }
    }

    async fn pause(&mut self) {
        tokio::time::sleep(self.state.config.logs.look_interval).await;
    }
}
