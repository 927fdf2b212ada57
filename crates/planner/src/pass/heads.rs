//! Before the turns: what becomes of the first job of each team.

use std::collections::HashMap;

use super::{Held, Pass};
use crate::caused::Caused;
use crate::dense::NONE;
use crate::order::{Turn, mix};
use crate::preempt::{Search, Way};
use crate::reserve::{Ahead, Head, Keep, Keeps, Slot, Why};
use crate::{Preemption, Promise};

/// How a head finds the world before anything is placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeadState {
    Fits,
    Blocked,
    /// Room by an earlier plan, whether it is there now or not.
    Promised,
}

impl Pass<'_> {
    /// Keeps room for the heads that fit nowhere now, where they start by themselves or where others are stopped for them:
    /// those that stay within what is theirs before those that would borrow, of each the oldest first. (Else the room
    /// of a borrower that was stopped would be kept for its own, older job, and another had to be stopped.) What was
    /// promised room by an earlier plan and finds it now, takes it.
    pub(super) fn keep_room(&mut self) {
        let mut heads = self.heads();
        heads.sort_by_cached_key(|(h, _)| (self.would_borrow(h), h.order.accepted_at_micros(), h.team));
        let mut older = Vec::new();
        let mut caused: Option<Caused> = None;
        let (mut kept, mut searches) = (0, self.policy.preemption.victims_max);
        for (head, state) in heads {
            let promised = state == HeadState::Promised;
            if state == HeadState::Fits {
                older.push(head);
                continue;
            }
            if promised && self.honour(head) {
                continue;
            }
            let mut made = false;
            if self.may_preempt(head) && searches > 0 {
                searches -= 1;
                let caused = caused.get_or_insert_with(|| Caused::new(self.snapshot));
                made = self.preempt(head, &older, caused);
            }
            if !made && kept < self.policy.reservations_max && self.reserve(head, &older) {
                made = true;
                kept += 1;
            }
            if made {
                self.promise(head, promised);
            }
        }
        self.take_due();
    }

    /// Promises what was kept last, if it was promised before, others stop for it, or its room has to gather.
    fn promise(&mut self, head: Head, before: bool) {
        let Some(cluster) = self.keeps.list.last().map(|keep| keep.slot.cluster) else { return };
        let promised = before || self.ahead().gathers(head, cluster);
        if let Some(keep) = self.keeps.list.last_mut() {
            keep.promised |= promised;
        }
    }

    /// The first job of each team that could run somewhere.
    fn heads(&mut self) -> Vec<(Head, HeadState)> {
        let dense = &self.snapshot.dense;
        let promised: HashMap<&str, &Promise> =
            self.snapshot.promised.iter().map(|promise| (promise.team.as_str(), promise)).collect();
        let mut heads = Vec::new();
        for (view, team) in self.snapshot.teams.iter().zip(0u32..) {
            let Some((order, group)) = dense.queue.row(team as usize).first().copied() else { continue };
            let shape = dense.group_shape[group as usize];
            let somewhere = self.fits_somewhere(shape);
            let could =
                dense.quota_could(team, shape) && (somewhere || dense.admissible(shape).next().is_some());
            if !could {
                continue;
            }
            let promise = promised.get(view.team.id.as_str());
            let state = if promise
                .is_some_and(|p| p.order == order && p.shape == dense.shapes[shape as usize].shape)
            {
                HeadState::Promised
            } else if somewhere && self.pools.quota_short(team, dense.asks(shape)).is_none() {
                HeadState::Fits
            } else {
                HeadState::Blocked
            };
            heads.push((Head { team, group, shape, order }, state));
        }
        heads
    }

    /// Whether it would use more than the nominal quota of its team, or of a cohort that could borrow.
    fn would_borrow(&self, head: &Head) -> bool {
        let dense = &self.snapshot.dense;
        let (_, below_top) = dense.path(head.team).split_last().unwrap_or((&NONE, &[]));
        below_top.iter().any(|node| {
            let nominal = &dense.nominal[*node as usize * dense.width..][..dense.width];
            let used = self.pools.of_node(*node);
            let over = |(r, a): &(u32, u64)| used[*r as usize].saturating_add(*a) > nominal[*r as usize];
            dense.asks(head.shape).iter().any(over)
        })
    }

    /// Keeps room for a head, unless an older one that fits now would then fit no more: what is kept holds up only
    /// what came later.
    fn keep(&mut self, head: Head, slot: Slot, why: Why, older: &[Head]) -> bool {
        let ahead =
            Ahead { dense: &self.snapshot.dense, pools: &self.pools, leaving: &self.leaving, now: self.now };
        let before = self.keeps.clone();
        ahead.keep(&mut self.keeps, head, slot, why);
        let mut slack = i64::MAX;
        let holds_up = older.iter().any(|h| {
            self.fits_beside(&before, *h, &mut slack) && !self.fits_beside(&self.keeps, *h, &mut slack)
        });
        self.mind(slack);
        if holds_up {
            self.keeps = before;
        }
        !holds_up
    }

    /// Whether a head fits somewhere now, beside what is kept.
    fn fits_beside(&self, keeps: &Keeps, head: Head, slack: &mut i64) -> bool {
        let dense = &self.snapshot.dense;
        let asks = dense.asks(head.shape);
        let ends = self.now.saturating_add(dense.shapes[head.shape as usize].run_timeout);
        let mut free = |pool| keeps.blocker(pool, asks, ends, slack).is_none();
        dense.path(head.team).iter().all(|n| free(dense.node_pool(*n)))
            && dense.open(head.shape).iter().any(|c| self.pools.fits(*c as usize, asks) && free(*c as usize))
    }

    /// Keeps a head the room that it finds now, if that holds up nobody older.
    fn honour(&mut self, head: Head) -> bool {
        let dense = &self.snapshot.dense;
        let asks = dense.asks(head.shape);
        let ends = self.now.saturating_add(dense.shapes[head.shape as usize].run_timeout);
        let turn = Turn { group: head.group, team: head.team };
        let mut slack = i64::MAX;
        if self.held_by_quota(turn, asks, ends, &mut slack).is_some() {
            return false;
        }
        // What others take in this plan is not charged yet, and what should have ended by now may still be there.
        let keeps = &self.keeps;
        let ahead = Ahead { dense, pools: &self.pools, leaving: &self.leaving, now: self.now };
        let fits = |pool| asks.iter().all(|(r, a)| ahead.free_beside_due(keeps, pool, *r) >= *a);
        if !dense.path(head.team).iter().all(|n| fits(dense.node_pool(*n))) {
            return false;
        }
        let admits = |c| keeps.blocker(c, asks, ends, &mut slack).is_none() && fits(c);
        let job = mix(u64::from(head.team), head.order.0.cast_unsigned());
        let best = self.scorer.best(&self.pools, head.shape, job, admits);
        self.mind(slack);
        let Some(cluster) = best.map(crate::dense::ix) else { return false };
        let slot = Slot { cluster, start: self.now, expected: self.now };
        let ahead =
            Ahead { dense: &self.snapshot.dense, pools: &self.pools, leaving: &self.leaving, now: self.now };
        ahead.keep(&mut self.keeps, head, slot, Why::Due);
        self.holds_until = self.now;
        true
    }

    /// Places what was promised room and has found it: before all turns, so that it can't be lost any more.
    fn take_due(&mut self) {
        for keep in 0..self.keeps.list.len() {
            let Keep { head, slot, why, .. } = self.keeps.list[keep];
            if why != Why::Due {
                continue;
            }
            if self.plan.placements.len() < self.policy.placements_max as usize {
                self.plan.considered += 1;
                let turn = Turn { group: head.group, team: head.team };
                self.place(turn, slot.cluster as usize, Some(crate::dense::ix(keep)));
            } else {
                self.keeps.list[keep].why = Why::Waits;
            }
        }
    }

    fn fits_somewhere(&mut self, shape: u32) -> bool {
        let (dense, nowhere) = (&self.snapshot.dense, &mut self.nowhere[shape as usize]);
        let asks = dense.asks(shape);
        *nowhere = *nowhere || !dense.open(shape).iter().any(|c| self.pools.fits(*c as usize, asks));
        !*nowhere
    }

    fn ahead(&self) -> Ahead<'_> {
        Ahead { dense: &self.snapshot.dense, pools: &self.pools, leaving: &self.leaving, now: self.now }
    }

    fn reserve(&mut self, head: Head, older: &[Head]) -> bool {
        let ahead =
            Ahead { dense: &self.snapshot.dense, pools: &self.pools, leaving: &self.leaving, now: self.now };
        let mut score = |c| self.scorer.alone(&self.pools, head.shape, c);
        let slot = ahead.slot(&self.keeps, head, &mut score, &mut self.holds_until);
        slot.is_some_and(|slot| self.keep(head, slot, Why::Waits, older))
    }

    fn may_preempt(&self, head: Head) -> bool {
        let class = self.policy.class_of(head.order.priority());
        let rules = self.policy.preemption;
        (rules.reclaim || rules.within_team) && self.policy.classes.get(class).is_some_and(|c| c.preempts)
    }

    fn preempt(&mut self, head: Head, older: &[Head], caused: &mut Caused) -> bool {
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
            self.leave(*v);
        }
        let slot = Slot { cluster: crate::dense::ix(way.cluster), start: way.start, expected: way.start };
        if !self.keep(head, slot, Why::Stops, older) {
            for (v, _) in &way.victims {
                self.leaving[*v as usize] = false;
            }
            self.keeps = before;
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
    fn leave(&mut self, attempt: u32) {
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
