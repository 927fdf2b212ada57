//! What waits, by team and shape, as the store keeps it; and how long such jobs ran so far.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use yard_domain::job::QueueOrder;
use yard_domain::{ClusterSelector, Request, Shape};

use crate::number::seconds;

/// Jobs of one team and shape.
#[derive(Debug)]
pub(super) struct GroupState {
    pub(super) team: usize,
    pub(super) shape: Shape,
    pub(super) request: Request,
    pub(super) clusters: ClusterSelector,
    pub(super) run_timeout: Duration,
    /// Whether such a job could run anywhere, were everything free.
    pub(super) fits: bool,
    /// Those that may be placed now, by their place in the queue, then by index.
    pub(super) queue: BTreeSet<(QueueOrder, u32)>,
    runs: f64,
    mean_s: f64,
    changed: bool,
}

impl GroupState {
    /// How long such jobs ran on average; the run timeout while none has ended.
    pub(super) fn expected_run(&self) -> Duration {
        if self.runs > 0.0 { seconds(self.mean_s).min(self.run_timeout) } else { self.run_timeout }
    }

    /// The first place in its queue.
    pub(super) fn head(&self) -> Option<QueueOrder> {
        self.queue.first().map(|(order, _)| *order)
    }
}

/// Every group there has been.
#[derive(Debug, Default)]
pub(super) struct Groups {
    pub(super) list: Vec<GroupState>,
    index: HashMap<(usize, Shape), usize>,
    /// Groups in which something waits, by the place of their first job.
    heads: BTreeSet<(QueueOrder, usize)>,
    changed: Vec<usize>,
}

impl Groups {
    pub(super) fn find(&self, team: usize, shape: Shape) -> Option<usize> {
        self.index.get(&(team, shape)).copied()
    }

    pub(super) fn add(
        &mut self,
        team: usize,
        shape: Shape,
        like: (&Request, &ClusterSelector, Duration),
        fits: bool,
    ) -> usize {
        let group = self.list.len();
        self.index.insert((team, shape), group);
        self.list.push(GroupState {
            team,
            shape,
            request: like.0.clone(),
            clusters: like.1.clone(),
            run_timeout: like.2,
            fits,
            queue: BTreeSet::new(),
            runs: 0.0,
            mean_s: 0.0,
            changed: false,
        });
        group
    }

    pub(super) fn push(&mut self, group: usize, order: QueueOrder, job: u32) {
        self.change(group, |state| _ = state.queue.insert((order, job)));
    }

    /// Whether the job was there.
    pub(super) fn remove(&mut self, group: usize, order: QueueOrder, job: u32) -> bool {
        let mut found = false;
        self.change(group, |state| found = state.queue.remove(&(order, job)));
        found
    }

    /// The first in the queue, taken out.
    pub(super) fn pop(&mut self, group: usize) -> Option<u32> {
        let mut first = None;
        self.change(group, |state| first = state.queue.pop_first());
        first.map(|(_, job)| job)
    }

    /// An attempt ran this long to a good end.
    pub(super) fn ran(&mut self, group: usize, run: Duration) {
        self.change(group, |state| {
            state.runs += 1.0;
            state.mean_s += (run.as_secs_f64() - state.mean_s) / state.runs;
        });
    }

    fn change(&mut self, group: usize, change: impl FnOnce(&mut GroupState)) {
        let state = &mut self.list[group];
        let before = state.head();
        change(state);
        let after = state.head();
        if !state.changed {
            state.changed = true;
            self.changed.push(group);
        }
        if before != after {
            before.map(|head| self.heads.remove(&(head, group)));
            after.map(|head| self.heads.insert((head, group)));
        }
    }

    /// Whether nothing waits that may be placed.
    pub(super) fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// How many groups something waits in.
    pub(super) fn waiting(&self) -> usize {
        self.heads.len()
    }

    /// Groups in which something waits, first place first.
    pub(super) fn by_head(&self) -> impl Iterator<Item = (QueueOrder, usize)> + '_ {
        self.heads.iter().copied()
    }

    /// Those that changed since the last call.
    pub(super) fn take_changed(&mut self) -> Vec<usize> {
        let changed = std::mem::take(&mut self.changed);
        for group in &changed {
            self.list[*group].changed = false;
        }
        changed
    }
}
