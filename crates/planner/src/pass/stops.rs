//! Who is stopped for a head.

use super::{Held, Pass};
use crate::Preemption;
use crate::caused::Caused;
use crate::dense::NONE;
use crate::preempt::{Search, Way};
use crate::reserve::{Head, Slot, Why};

impl Pass<'_> {
    pub(super) fn may_preempt(&self, head: Head) -> bool {
        let class = self.policy.class_of(head.order.priority());
        let rules = self.policy.preemption;
        (rules.reclaim || rules.within_team) && self.policy.classes.get(class).is_some_and(|c| c.preempts)
    }

    pub(super) fn preempt(&mut self, head: Head, older: &[Head], caused: &mut Caused) -> bool {
        let stopped = self.plan.preemptions.len();
        let search = Search {
            facts: self.snapshot,
            policy: self.policy,
            ahead: &self.ahead(),
            keeps: &self.keeps,
            caused,
            head,
            victims_max: (self.policy.preemption.victims_max as usize).saturating_sub(stopped),
        };
        let (way, timeless) = search.way();
        if !timeless {
            self.holds_until = self.now;
        }
        let Some(way) = way else { return false };
        let before = self.keeps.clone();
        for (v, _) in &way.victims {
            self.count_as_leaving(*v);
        }
        let slot = Slot { cluster: crate::dense::ix(way.cluster), start: way.start, expected: way.start };
        if !self.keep(head, slot, Why::Stops, older) {
            self.keeps = before;
            for (v, _) in &way.victims {
                self.leaving[*v as usize] = false;
            }
            return false;
        }
        caused.note(self.snapshot, head, &way);
        let held = Held::Preempting { cluster: slot.cluster, victims: way.awaited };
        self.held.insert(head.group, held);
        self.stop(head, &way);
        true
    }

    fn stop(&mut self, head: Head, way: &Way) {
        let group = &self.snapshot.groups[head.group as usize];
        for (v, cause) in &way.victims {
            let run = &self.snapshot.running[*v as usize];
            self.plan.preemptions.push(Preemption {
                victim: run.job,
                attempt: run.attempt,
                team: run.team.clone(),
                cluster: run.cluster.clone(),
                for_team: group.team.clone(),
                for_shape: group.shape,
                cause: *cause,
            });
        }
    }

    /// Counts an attempt as asked to stop, so that it ends sooner.
    fn count_as_leaving(&mut self, attempt: u32) {
        let ended = self.ahead().latest(attempt);
        self.leaving[attempt as usize] = true;
        let ends = self.ahead().latest(attempt);
        let dense = &self.snapshot.dense;
        let a = &dense.attempts[attempt as usize];
        let nodes = if a.team == NONE { &[] } else { dense.path(a.team) };
        let cluster = (a.cluster != NONE).then_some(a.cluster as usize);
        for pool in nodes.iter().map(|n| dense.node_pool(*n)).chain(cluster) {
            self.keeps.freed(pool, dense.held.row(attempt as usize), ends, ended);
        }
    }
}
