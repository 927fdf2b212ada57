//! What is due when: a heap of events in virtual time. Those of one instant come in the order they were put in.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use yard_domain::{AttemptNumber, Request, Timestamp};

/// Something that will happen. One about an attempt or a wait that is over by then is passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Due {
    /// A launched attempt shows as running, or its launch has failed.
    Started(Attempt),
    /// A running attempt ends by itself.
    Ends(Attempt, How),
    /// An attempt that was asked to make room has gone.
    Leaves(Attempt),
    /// A job's backoff is over.
    Wakes(u32),
    /// A job's wait is over, if it still is the wait that began at this version of it.
    Expires(u32, u32),
    /// An autoscaler has added what was missing for so much in use.
    Grown(usize, Request),
    /// What an autoscaler added may have been idle for long enough.
    Idle(usize),
    /// A dead cluster's attempts count as lost, if it still is the death of this number.
    Buried(usize, u32),
    /// An incident of the scenario.
    Incident(usize),
}

/// An attempt, by the index of its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) job: u32,
    pub(super) number: AttemptNumber,
}

/// How a running attempt ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Succeeds,
    FailsByItself,
    RunsTooLong,
}

#[derive(Debug)]
struct Entry {
    at: Timestamp,
    seq: u64,
    due: Due,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.seq) == (other.at, other.seq)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.seq).cmp(&(other.at, other.seq))
    }
}

/// The heap.
#[derive(Debug, Default)]
pub(super) struct Calendar {
    heap: BinaryHeap<Reverse<Entry>>,
    seq: u64,
}

impl Calendar {
    pub(super) fn put(&mut self, at: Timestamp, due: Due) {
        self.seq += 1;
        self.heap.push(Reverse(Entry { at, seq: self.seq, due }));
    }

    pub(super) fn next_at(&self) -> Option<Timestamp> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// The next event, if it is due by `now`.
    pub(super) fn take(&mut self, now: Timestamp) -> Option<Due> {
        if !self.next_at()?.is_due(now) {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry.due)
    }
}
