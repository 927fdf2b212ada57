//! What is kept for heads that fit nowhere now, and what was promised them before.

use std::collections::HashMap;

use super::Pass;
use crate::caused::Caused;
use crate::order::{Turn, mix};
use crate::reserve::{Ahead, Head, Keep, Keeps, Promise, Slot, Why};

/// How a head finds the world before anything is placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeadState {
    Fits,
    Blocked,
    /// Room by an earlier plan, and is not to be passed over by turns if it is firm.
    Promised(Before),
}

/// What an earlier plan promised a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Before {
    since: i64,
    firm: bool,
    /// Where, if that cluster is still known.
    cluster: Option<usize>,
}

impl Pass<'_> {
    /// Keeps room for the heads that fit nowhere now, the oldest first: where they start by themselves, or where
    /// others are stopped for them. What was promised room by an earlier plan and finds it now, takes it.
    pub(super) fn keep_room(&mut self) {
        let mut heads = self.heads();
        // Owners before borrowers: else the room of a borrower that was stopped would be kept for its own, older job, and
        // another had to be stopped.
        heads.sort_by_cached_key(|(h, _)| (self.would_borrow(h), h.order.accepted_at_micros(), h.team));
        let mut older = Vec::new();
        let mut caused: Option<Caused> = None;
        let (mut kept, mut searches) = (0, self.policy.preemption.victims_max);
        for (head, state) in heads {
            let promised = match state {
                HeadState::Fits => {
                    older.push(head);
                    continue;
                }
                HeadState::Blocked => None,
                HeadState::Promised(before) => Some(before),
            };
            if promised.is_some_and(|before| before.firm) && self.honour(head) {
                continue;
            }
            let mut made = false;
            if self.may_preempt(head) && searches > 0 {
                searches -= 1;
                let caused = caused.get_or_insert_with(|| Caused::new(self.snapshot));
                made = self.preempt(head, &older, caused);
            }
            let there = promised.and_then(|before| before.cluster);
            if !made && kept < self.policy.reservations_max && self.reserve(head, there, &older) {
                made = true;
                kept += 1;
            }
            if made {
                self.promise(head, promised);
            }
        }
        self.take_due();
    }

    /// Promises what was kept last: firmly, if it was promised so before, others stop for it, or its room has to gather.
    fn promise(&mut self, head: Head, before: Option<Before>) {
        let Some(cluster) = self.keeps.list.last().map(|keep| keep.slot.cluster) else { return };
        let (since, firm) = before.map_or((self.now, false), |before| (before.since, before.firm));
        let gathers = self.ahead().gathers(head, cluster);
        if let Some(keep) = self.keeps.list.last_mut() {
            keep.since = since;
            keep.firm |= firm || gathers;
        }
    }

    /// The first job of each team that could run somewhere.
    fn heads(&mut self) -> Vec<(Head, HeadState)> {
        let dense = &self.snapshot.dense;
        let promises = self.promises;
        let promised: HashMap<&str, &Promise> =
            promises.iter().map(|promise| (promise.team.as_str(), promise)).collect();
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
            let info = &dense.shapes[shape as usize];
            let promise = promised.get(view.team.id.as_str());
            let promise = promise.filter(|p| p.order == order && p.shape == info.shape);
            let firm_in = promise.map_or(0, |p| self.firm_in(p, info.run_timeout));
            let fits = somewhere && self.pools.quota_short(team, dense.asks(shape)).is_none();
            let state = match promise {
                Some(p) if fits && firm_in > 0 => {
                    self.open_promises.push((*p).clone());
                    HeadState::Fits
                }
                Some(p) => {
                    let cluster =
                        self.snapshot.clusters.binary_search_by(|c| c.cluster.id.cmp(&p.cluster)).ok();
                    HeadState::Promised(Before { since: p.since, firm: firm_in <= 0, cluster })
                }
                None if fits => HeadState::Fits,
                None => HeadState::Blocked,
            };
            heads.push((Head { team, group, shape, order }, state));
        }
        heads
    }

    /// How much longer turns may pass over a promise; not, if this is not above 0.
    fn firm_in(&mut self, promise: &Promise, run_timeout: i64) -> i64 {
        let firm_in = promise.since.saturating_add(run_timeout).saturating_sub(self.now);
        if promise.firm {
            return 0;
        }
        if firm_in > 0 {
            self.mind(firm_in - 1);
        }
        firm_in
    }

    /// Keeps room for a head, unless an older one that fits now would then fit no more: what is kept holds up only
    /// what came later.
    pub(super) fn keep(&mut self, head: Head, slot: Slot, why: Why, older: &[Head]) -> bool {
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
        let mut free = |pool| keeps.blocker(pool, None, asks, ends, slack).is_none();
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
        if self.held_by_quota(turn, None, asks, ends, &mut slack).is_some() {
            return false;
        }
        // What others take in this plan is not charged yet, and what should have ended by now may still be there.
        let keeps = &self.keeps;
        let ahead = Ahead { dense, pools: &self.pools, leaving: &self.leaving, now: self.now };
        let fits = |pool| asks.iter().all(|(r, a)| ahead.free_beside_due(keeps, pool, *r) >= *a);
        if !dense.path(head.team).iter().all(|n| fits(dense.node_pool(*n))) {
            return false;
        }
        let admits = |c| keeps.blocker(c, None, asks, ends, &mut slack).is_none() && fits(c);
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

    /// Whether it would use more than the nominal quota of its team, if that is one that could borrow. What is in use in
    /// the cohorts above does not matter: that a sibling borrows makes no borrower of an owner.
    fn would_borrow(&self, head: &Head) -> bool {
        let dense = &self.snapshot.dense;
        let [team, _, ..] = dense.path(head.team) else { return false };
        let nominal = &dense.nominal[*team as usize * dense.width..][..dense.width];
        let used = self.pools.of_node(*team);
        let over = |(r, a): &(u32, u64)| used[*r as usize].saturating_add(*a) > nominal[*r as usize];
        dense.asks(head.shape).iter().any(over)
    }

    fn reserve(&mut self, head: Head, promised: Option<usize>, older: &[Head]) -> bool {
        let ahead =
            Ahead { dense: &self.snapshot.dense, pools: &self.pools, leaving: &self.leaving, now: self.now };
        let mut score = |c| self.scorer.alone(&self.pools, head.shape, c);
        let slot = ahead.slot(&self.keeps, head, promised, &mut score, &mut self.holds_until);
        slot.is_some_and(|slot| self.keep(head, slot, Why::Waits, older))
    }
}
