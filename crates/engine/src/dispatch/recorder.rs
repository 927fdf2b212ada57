//! Gathers starts and ends and commits them in batches. What could not be committed stays and is tried again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::time::Instant;
use yard_domain::RetryRules;
use yard_domain::lifecycle::AttemptEnd;
use yard_ports::store::{AttemptRef, EndOrder, Recorded};
use yard_ports::{Store, StoreError};

use crate::keeper::Held;

/// The reports of one dispatcher that are on their way into the store.
pub struct Recorder {
    store: Arc<dyn Store>,
    held: Held,
    rules: RetryRules,
    linger: Duration,
    batch_max: usize,
    rng: SmallRng,
    starts: Vec<AttemptRef>,
    ends: Vec<EndOrder>,
    pending: HashSet<AttemptRef>,
    due_at: Option<Instant>,
}

/// What a flush committed, in order.
pub type Committed = Vec<(AttemptRef, Recorded)>;

impl Recorder {
    /// A recorder under this lease.
    pub fn new(
        store: Arc<dyn Store>,
        held: Held,
        rules: RetryRules,
        linger: Duration,
        batch_max: usize,
        rng: SmallRng,
    ) -> Self {
        let (starts, ends, pending) = (Vec::new(), Vec::new(), HashSet::new());
        Self {
            store,
            held,
            rules,
            linger,
            batch_max: batch_max.max(1),
            rng,
            starts,
            ends,
            pending,
            due_at: None,
        }
    }

    /// Reports a start.
    pub fn start(&mut self, r: AttemptRef) {
        self.starts.push(r);
        self.note();
    }

    /// Reports an end; a second report of the same is left out.
    pub fn end(&mut self, r: AttemptRef, end: AttemptEnd) {
        if self.pending.insert(r) {
            let jitter = self.rng.random_range(0.0..=1.0);
            self.ends.push(EndOrder { attempt: r, end, jitter });
            self.note();
        }
    }

    fn note(&mut self) {
        let now = Instant::now();
        let at =
            if self.starts.len().max(self.ends.len()) >= self.batch_max { now } else { now + self.linger };
        self.due_at = Some(self.due_at.map_or(at, |due| due.min(at)));
    }

    /// When to flush; `None` if there is nothing.
    pub fn due_at(&self) -> Option<Instant> {
        self.due_at
    }

    /// Whether its end is on the way.
    pub fn has_end(&self, r: AttemptRef) -> bool {
        self.pending.contains(&r)
    }

    /// Commits one batch of starts, then one of ends. On an error everything not committed stays; the next
    /// try is `retry_in` later.
    pub async fn flush(&mut self, retry_in: Duration) -> Result<Committed, StoreError> {
        let result = self.commit().await;
        let left = !self.starts.is_empty() || !self.ends.is_empty();
        self.due_at = match &result {
            _ if !left => None,
            Ok(_) => Some(Instant::now()),
            Err(_) => Some(Instant::now() + retry_in),
        };
        result
    }

    async fn commit(&mut self) -> Result<Committed, StoreError> {
        let mut committed = Vec::new();
        if !self.starts.is_empty() {
            let n = self.starts.len().min(self.batch_max);
            let recorded = self.store.record_started(&self.held.lease(), &self.starts[..n]).await?;
            committed.extend(self.starts.drain(..n).zip(recorded));
        }
        // An end may only overtake its own start if that start has been committed.
        if !self.ends.is_empty() && self.starts.is_empty() {
            let n = self.ends.len().min(self.batch_max);
            let recorded = self.store.record_ends(&self.held.lease(), &self.rules, &self.ends[..n]).await?;
            for (end, recorded) in self.ends.drain(..n).zip(recorded) {
                self.pending.remove(&end.attempt);
                committed.push((end.attempt, recorded));
            }
        }
        Ok(committed)
    }
}
