//! Room kept for heads that fit nowhere now, so that what fits does not hold them up for ever: EASY backfilling
//! (Lifka, "The ANL/IBM SP Scheduling System", JSSPP 1995), with several reservations and several pools.
//!
//! The head of a team that passes all hard rules somewhere, but has no room there now, is kept room on the cluster
//! where it can start first, if every open attempt ends by its run timeout. It needs room in several *pools* at once:
//! the cluster, and each quota node on its team's path. Another job is placed past it if, in every pool that both
//! use, it ends before the head starts, or fits into what is left beside the head then; that *spare* it uses up.

use yard_domain::job::QueueOrder;
use yard_domain::{ClusterId, Shape, TeamId};

use crate::dense::{Asks, Attempt, Dense};
use crate::pools::Pools;

/// How long an attempt that has been asked to stop is taken to need for it, in microseconds, unless its run timeout
/// ends before.
pub(crate) const STOP_GRACE: i64 = 30_000_000;

/// A head: the first job in its team's queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) team: u32,
    pub(crate) group: u32,
    pub(crate) shape: u32,
    pub(crate) order: QueueOrder,
}

/// Where and when a head is to start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    pub(crate) cluster: u32,
    pub(crate) start: i64,
    /// From history; before now if what is waited for is late.
    pub(crate) expected: i64,
}

/// Why room is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// It waits until enough has ended by itself.
    Waits,
    /// Others have been asked to stop for it.
    Stops,
    /// Its room is there now, and it takes it in this plan.
    Due,
}

/// Room kept.
#[derive(Debug, Clone)]
pub(crate) struct Keep {
    pub(crate) head: Head,
    pub(crate) slot: Slot,
    end: i64,
    expected_end: i64,
    asks: Vec<(u32, u64)>,
    /// Since when room is kept for it, by this plan or earlier ones.
    pub(crate) since: i64,
    /// Whether later plans honour it at once: see [`Promise`].
    pub(crate) firm: bool,
    pub(crate) why: Why,
}

/// Room kept by an earlier plan that a later one must honour, whoever's turn it would be. At once, if it is *firm*: room
/// that had to gather from several attempts, or for which others were stopped. Where a single end makes room, turns are
/// fairer than age, so others may be served first; but a team whose share stays the largest would never have its turn,
/// so that a promise becomes firm once it is as old as the job may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Promise {
    pub(crate) team: TeamId,
    pub(crate) shape: Shape,
    pub(crate) order: QueueOrder,
    pub(crate) cluster: ClusterId,
    pub(crate) since: i64,
    pub(crate) firm: bool,
}

/// What is left beside a kept job in one pool when it starts, of the resources that it asks for.
#[derive(Debug, Clone)]
pub(crate) struct Spare {
    pub(crate) keep: u32,
    pub(crate) left: Vec<(u32, u64)>,
}

impl Spare {
    fn lacks(&self, asks: &Asks) -> bool {
        asks.iter().any(|(r, a)| self.left.iter().any(|(of, left)| of == r && a > left))
    }

    fn give(&mut self, asks: &Asks) {
        for (of, left) in &mut self.left {
            let asked = asks.iter().find(|(r, _)| r == of).map_or(0, |(_, a)| *a);
            *left = left.saturating_add(asked);
        }
    }

    fn take(&mut self, asks: &Asks) {
        for (of, left) in &mut self.left {
            let asked = asks.iter().find(|(r, _)| r == of).map_or(0, |(_, a)| *a);
            *left = left.saturating_sub(asked);
        }
    }
}

/// All room kept in a plan.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keeps {
    pub(crate) list: Vec<Keep>,
    /// Per pool.
    spares: Vec<Vec<Spare>>,
}

impl Keeps {
    pub(crate) fn new(dense: &Dense) -> Self {
        Self { list: Vec::new(), spares: vec![Vec::new(); dense.clusters + dense.parent.len()] }
    }

    pub(crate) fn spares(&self, pool: usize) -> &[Spare] {
        &self.spares[pool]
    }

    /// The room kept for a group's head, if there is any that it has not taken.
    pub(crate) fn own(&self, group: u32) -> Option<u32> {
        let own = |(_, keep): &(u32, &Keep)| keep.head.group == group && keep.why != Why::Due;
        (0..).zip(&self.list).find(own).map(|(k, _)| k)
    }

    /// The room kept that a job in this pool would take, if it ends by `ends` at the latest. `slack` is lowered to the
    /// least time by which what is allowed now is early enough.
    ///
    /// `own` is what is kept for that very job: nobody holds up himself, and what starts while the job would run there has
    /// made allowance for it.
    #[inline]
    pub(crate) fn blocker(
        &self,
        pool: usize,
        own: Option<u32>,
        asks: &Asks,
        ends: i64,
        slack: &mut i64,
    ) -> Option<u32> {
        for spare in &self.spares[pool] {
            let start = self.list[spare.keep as usize].slot.start;
            if ends <= start {
                *slack = (*slack).min(start - ends);
            } else if spare.lacks(asks) && !own.is_some_and(|own| self.covers(own, pool, start)) {
                return Some(spare.keep);
            }
        }
        None
    }

    /// Whether what is kept there is in use in this pool at that time.
    fn covers(&self, keep: u32, pool: usize, at: i64) -> bool {
        let k = &self.list[keep as usize];
        (k.slot.start..k.end).contains(&at) && self.spares[pool].iter().any(|spare| spare.keep == keep)
    }

    /// The job that this was kept for starts now, elsewhere or sooner: nothing is kept for it any more.
    pub(crate) fn give_up(&mut self, keep: u32) {
        let k = &mut self.list[keep as usize];
        k.why = Why::Due;
        let (during, asks) = (k.slot.start..k.end, std::mem::take(&mut k.asks));
        for spares in &mut self.spares {
            let Some(own) = spares.iter().position(|spare| spare.keep == keep) else { continue };
            spares.remove(own);
            for spare in spares.iter_mut().filter(|s| during.contains(&self.list[s.keep as usize].slot.start))
            {
                spare.give(&asks);
            }
        }
    }

    /// Room kept has been taken by the job that it was kept for.
    pub(crate) fn take(&mut self, pool: usize, keep: u32) {
        self.spares[pool].retain(|spare| spare.keep != keep);
    }

    /// A job was placed that uses this pool.
    pub(crate) fn placed(&mut self, pool: usize, asks: &Asks, ends: i64) {
        for spare in &mut self.spares[pool] {
            if ends > self.list[spare.keep as usize].slot.start {
                spare.take(asks);
            }
        }
    }

    /// An attempt that uses this pool now ends at `ends` instead of at `ended`, because it is asked to stop: what it
    /// held is left beside what starts in between.
    pub(crate) fn freed(&mut self, pool: usize, held: &Asks, ends: i64, ended: i64) {
        for spare in &mut self.spares[pool] {
            if (ends..ended).contains(&self.list[spare.keep as usize].slot.start) {
                spare.give(held);
            }
        }
    }
}

/// What will become free, and when.
pub(crate) struct Ahead<'a> {
    pub(crate) dense: &'a Dense,
    pub(crate) pools: &'a Pools<'a>,
    /// Per attempt: whether it has been asked to stop, before this plan or by it.
    pub(crate) leaving: &'a [bool],
    pub(crate) now: i64,
}

#[derive(Clone, Copy)]
enum What {
    Ends(u32),
    KeptFrom(u32),
    KeptTo(u32),
}

/// What a head lacks of a resource in a pool; below zero if there is more than it needs.
struct Need {
    pool: usize,
    resource: u32,
    short: i128,
}

/// From when to when (exclusive).
type Window = (i64, i64);

#[derive(Clone, Copy, PartialEq)]
enum Clock {
    Latest,
    Expected,
}

impl Ahead<'_> {
    /// When an attempt has ended at the latest.
    pub(crate) fn latest(&self, attempt: u32) -> i64 {
        let a = &self.dense.attempts[attempt as usize];
        if self.leaving[attempt as usize] { a.ends_by.min(self.now + STOP_GRACE) } else { a.ends_by }
    }

    fn end_of(&self, attempt: u32, clock: Clock) -> i64 {
        match clock {
            Clock::Latest => self.latest(attempt).max(self.now),
            Clock::Expected => self.latest(attempt).min(self.dense.attempts[attempt as usize].expected_end),
        }
    }

    /// Whether an attempt holds room in a pool.
    pub(crate) fn holds(&self, attempt: &Attempt, pool: usize) -> bool {
        if pool < self.dense.clusters {
            attempt.cluster as usize == pool
        } else {
            attempt.team != crate::dense::NONE && self.on_path(attempt.team, pool)
        }
    }

    fn on_path(&self, team: u32, pool: usize) -> bool {
        self.dense.path(team).iter().any(|n| self.dense.node_pool(*n) == pool)
    }

    fn keep_holds(&self, keep: &Keep, pool: usize) -> bool {
        if pool < self.dense.clusters {
            keep.slot.cluster as usize == pool
        } else {
            self.on_path(keep.head.team, pool)
        }
    }

    /// What is free in a pool now, beside what is to take its room in this plan.
    pub(crate) fn free_beside_due(&self, keeps: &Keeps, pool: usize, resource: u32) -> u64 {
        let due = keeps.list.iter().filter(|keep| keep.why == Why::Due && self.keep_holds(keep, pool));
        let amount = |keep: &Keep| keep.asks.iter().find(|(r, _)| *r == resource).map_or(0, |(_, a)| *a);
        let taken = due.fold(0u64, |sum, keep| sum.saturating_add(amount(keep)));
        self.pools.free(pool, resource).saturating_sub(taken)
    }

    /// Attempts that hold room in a pool, and others.
    fn around(&self, pool: usize) -> &[u32] {
        let holders = self.dense.holders();
        match pool.checked_sub(self.dense.clusters) {
            None => holders.cluster.row(pool),
            Some(node) => holders.tree.row(self.dense.path.row(node).last().map_or(node, |n| *n as usize)),
        }
    }

    /// The pools on the team's path that can be short of what is asked.
    fn quota_pools(&self, team: u32) -> impl Iterator<Item = usize> + '_ {
        self.dense.path(team).iter().map(|n| self.dense.node_pool(*n))
    }

    fn needs(&self, pools: impl Iterator<Item = usize>, asks: &Asks) -> Vec<Need> {
        let mut needs = Vec::new();
        for pool in pools {
            for (resource, amount) in asks {
                if self.dense.cap[pool * self.dense.width + *resource as usize] != u64::MAX {
                    let short = self.pools.missing(pool, *resource, *amount);
                    needs.push(Need { pool, resource: *resource, short });
                }
            }
        }
        needs
    }

    /// Where and when a head can start, by the latest ends of what is open and beside what is kept; of several clusters,
    /// on the `promised` one. `None` if what is known to be open does not explain what is in use. `holds_until` is lowered
    /// to the last time at which the answer is the same.
    pub(crate) fn slot(
        &self,
        keeps: &Keeps,
        head: Head,
        promised: Option<usize>,
        score: &mut dyn FnMut(usize) -> u64,
        holds_until: &mut i64,
    ) -> Option<Slot> {
        let quota: Vec<usize> = self.quota_pools(head.team).collect();
        let run = self.dense.shapes[head.shape as usize].run_timeout;
        let by_quota = self.windows(keeps, head, &quota, Clock::Latest);
        self.bound(&quota, holds_until);
        let mut starts: Vec<(i64, usize)> = Vec::new();
        for c in self.dense.admissible(head.shape) {
            let there = self.windows(keeps, head, &[c], Clock::Latest);
            self.bound(&[c], holds_until);
            starts.extend(meet(&by_quota, &there, run).map(|start| (start, c)));
        }
        let start = starts.iter().map(|(start, _)| *start).min()?;
        let by_quota = self.windows(keeps, head, &quota, Clock::Expected);
        let expected_run = self.dense.expected_run[head.group as usize];
        // What should have ended by now is late: there is nothing in it to stay for.
        let promised = promised.filter(|_| start > self.now);
        let best = starts.iter().filter(|(at, _)| *at == start).map(|(_, c)| {
            let there = self.windows(keeps, head, &[*c], Clock::Expected);
            let expected = meet(&by_quota, &there, expected_run).unwrap_or(start).min(start);
            (Some(*c) != promised, expected, score(*c), *c)
        });
        let (_, expected, _, cluster) = best.min()?;
        Some(Slot { cluster: crate::dense::ix(cluster), start, expected })
    }

    /// Until when the latest ends around these pools, seen from now, stay what they are.
    fn bound(&self, pools: &[usize], holds_until: &mut i64) {
        let Some(last) = pools.last() else { return };
        for i in self.around(*last) {
            let ends = if self.leaving[*i as usize] { self.now } else { self.latest(*i) };
            *holds_until = (*holds_until).min(ends.max(self.now));
        }
    }

    /// When all of these pools have room for a head. The pools are one cluster, or nodes of one tree.
    fn windows(&self, keeps: &Keeps, head: Head, pools: &[usize], clock: Clock) -> Vec<Window> {
        let mut needs = self.needs(pools.iter().copied(), self.dense.asks(head.shape));
        let from = if clock == Clock::Latest { self.now } else { i64::MIN };
        let Some(last) = pools.last().filter(|_| !needs.is_empty()) else { return vec![(from, i64::MAX)] };
        let mut events: Vec<(i64, What)> =
            self.around(*last).iter().map(|i| (self.end_of(*i, clock), What::Ends(*i))).collect();
        let mut starts = 0;
        for (keep, k) in keeps.list.iter().zip(0u32..) {
            if pools.iter().any(|pool| self.keep_holds(keep, *pool)) {
                let (start, end) = match clock {
                    Clock::Latest => (keep.slot.start, keep.end),
                    // Taken by this very plan: at no time is it there for anybody else.
                    Clock::Expected if keep.why == Why::Due => (i64::MIN, keep.expected_end),
                    Clock::Expected => (keep.slot.expected, keep.expected_end),
                };
                events.extend([(start, What::KeptFrom(k)), (end, What::KeptTo(k))]);
                starts += 1;
            }
        }
        // Nearly sorted already, which the stable sort makes use of.
        events.sort_by_key(|(at, _)| *at);
        let mut windows = Vec::new();
        let mut open = needs.iter().all(|n| n.short <= 0).then_some(from);
        let mut events = events.into_iter().peekable();
        while let Some((at, what)) = events.next() {
            self.apply(keeps, &mut needs, what);
            starts -= i32::from(matches!(what, What::KeptFrom(_)));
            if events.peek().is_some_and(|(next, _)| *next == at) {
                continue;
            }
            match (open, needs.iter().all(|n| n.short <= 0)) {
                (None, true) => open = Some(at),
                (Some(since), false) => {
                    windows.push((since, at));
                    open = None;
                }
                (Some(_), true) if starts == 0 => break,
                _ => {}
            }
        }
        windows.extend(open.map(|since| (since, i64::MAX)));
        windows
    }

    fn apply(&self, keeps: &Keeps, needs: &mut [Need], what: What) {
        let amount = |asks: &Asks, resource| {
            asks.iter().find(|(r, _)| *r == resource).map_or(0, |(_, amount)| i128::from(*amount))
        };
        for need in needs {
            match what {
                What::Ends(i) if self.holds(&self.dense.attempts[i as usize], need.pool) => {
                    need.short -= amount(self.dense.held.row(i as usize), need.resource);
                }
                What::KeptFrom(k) if self.keep_holds(&keeps.list[k as usize], need.pool) => {
                    need.short += amount(&keeps.list[k as usize].asks, need.resource);
                }
                What::KeptTo(k) if self.keep_holds(&keeps.list[k as usize], need.pool) => {
                    need.short -= amount(&keeps.list[k as usize].asks, need.resource);
                }
                _ => {}
            }
        }
    }

    /// Whether a head's room has to gather from several attempts: no single end on its cluster would make it.
    pub(crate) fn gathers(&self, head: Head, cluster: u32) -> bool {
        let asks = self.dense.asks(head.shape);
        let pools = self.quota_pools(head.team).chain([cluster as usize]);
        let mut needs = self.needs(pools, asks);
        needs.retain(|n| n.short > 0);
        !self.around(cluster as usize).iter().any(|i| {
            let attempt = &self.dense.attempts[*i as usize];
            let held = self.dense.held.row(*i as usize);
            needs.iter().all(|n| {
                self.holds(attempt, n.pool)
                    && held.iter().any(|(r, a)| *r == n.resource && i128::from(*a) >= n.short)
            })
        })
    }

    /// Keeps room for a head, beside what is kept already.
    pub(crate) fn keep(&self, keeps: &mut Keeps, head: Head, slot: Slot, why: Why) {
        let asks = self.dense.asks(head.shape);
        let run = self.dense.shapes[head.shape as usize].run_timeout;
        let expected_run = self.dense.expected_run[head.group as usize];
        let end = slot.start.saturating_add(run);
        let number = crate::dense::ix(keeps.list.len());
        let all = self.quota_pools(head.team).chain([slot.cluster as usize]);
        for pool in all {
            let mut spare = Spare { keep: number, left: self.spare(keeps, pool, asks, (slot.start, why)) };
            spare.left.retain(|(_, left)| *left != u64::MAX);
            for other in &mut keeps.spares[pool] {
                if (slot.start..end).contains(&keeps.list[other.keep as usize].slot.start) {
                    other.take(asks);
                }
            }
            keeps.spares[pool].push(spare);
        }
        let expected_end = slot.expected.saturating_add(expected_run);
        let asks = asks.to_vec();
        let (since, firm) = (self.now, why != Why::Waits);
        keeps.list.push(Keep { head, slot, end, expected_end, asks, since, firm, why });
    }

    /// What is left in a pool at a time beside what is kept then and a request that is kept room for; `u64::MAX` where there is no bound.
    fn spare(&self, keeps: &Keeps, pool: usize, asks: &Asks, (at, why): (i64, Why)) -> Vec<(u32, u64)> {
        let mut needs = self.needs(std::iter::once(pool), asks);
        // Others are stopped for it because what is about to end does not suffice: only they count then. What has
        // outlasted its run timeout, as on a cluster that does not answer, would else let others in over and over.
        let counts = |i: u32| why != Why::Stops || self.leaving[i as usize];
        let ended = |i: u32| counts(i) && self.end_of(i, Clock::Latest) <= at;
        for i in self.around(pool).iter().filter(|i| ended(**i)) {
            self.apply(keeps, &mut needs, What::Ends(*i));
        }
        for (keep, k) in keeps.list.iter().zip(0u32..) {
            if (keep.slot.start..keep.end).contains(&at) {
                self.apply(keeps, &mut needs, What::KeptFrom(k));
            }
        }
        needs.iter().map(|n| (n.resource, u64::try_from(-n.short).unwrap_or(0))).collect()
    }
}

/// The first time that lies in windows of both for `length`.
fn meet(a: &[Window], b: &[Window], length: i64) -> Option<i64> {
    let both = a.iter().flat_map(|x| b.iter().map(move |y| (x.0.max(y.0), x.1.min(y.1))));
    both.filter(|(from, to)| from < to && (*to == i64::MAX || to.saturating_sub(length) >= *from))
        .map(|(from, _)| from)
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_meet_where_both_are_open_long_enough() {
        let a = [(10, 20), (30, i64::MAX)];
        assert_eq!(meet(&a, &[(0, i64::MAX)], 10), Some(10));
        assert_eq!(meet(&a, &[(0, i64::MAX)], 11), Some(30));
        assert_eq!(meet(&a, &[(15, 50), (60, i64::MAX)], 20), Some(30));
        assert_eq!(meet(&a, &[(15, 50), (60, i64::MAX)], 21), Some(60));
        assert_eq!(meet(&a, &[], 1), None);
    }
}
