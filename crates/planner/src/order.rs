//! Whose turn it is.
//!
//! *Between teams*, hierarchical weighted dominant-resource fairness (Ghodsi et al., "Dominant Resource Fairness",
//! NSDI 2011; the hierarchy as in Bhattacharya et al., "Hierarchical Scheduling for Diverse Datacenter Workloads",
//! SoCC 2013, without its corrections for what is blocked): from a root over all trees, the child with the smallest
//! key is taken at each level, down to a team. The key is
//!
//! 1. whether the child would borrow with its next job: use more than its nominal quota of a governed resource that
//!    the job asks for,
//! 2. its dominant share for its weight: the largest, over resources, of (use + past use) / total, in millionths,
//! 3. a number drawn by the seed, then its index.
//!
//! *Inside a team*, priority, then age.
//!
//! Each inner node keeps its children in a heap; a decision changes one team and what is above it, so it costs
//! O(depth · log n).

use crate::dense::{Asks, Dense, NONE};
use crate::pools::Pools;

/// One group's turn to place its next job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) group: u32,
    pub(crate) team: u32,
}

/// Hands out turns until every group is blocked or used up.
pub(crate) struct Turns<'a> {
    dense: &'a Dense,
    /// Per team: how many of its jobs were placed or skipped.
    cursor: Vec<u32>,
    /// Per group: nothing more of it is placed in this plan.
    blocked: Vec<bool>,
    /// Per node (the last one is the root over all): the group whose job comes next.
    next: Vec<u32>,
    /// Per node: its dominant share for its weight, in millionths.
    share: Vec<u64>,
    key: Vec<u128>,
    tie: Vec<u64>,
    /// Per node: its children that have something to place.
    heaps: Vec<Vec<u32>>,
    /// Per node: where it stands in its parent's heap.
    place: Vec<u32>,
}

impl<'a> Turns<'a> {
    /// All groups, nothing placed yet.
    pub(crate) fn new(dense: &'a Dense, pools: &Pools<'_>, seed: u64) -> Self {
        let nodes = dense.parent.len();
        let mut turns = Self {
            dense,
            cursor: vec![0; dense.teams],
            blocked: vec![false; dense.group_team.len()],
            next: vec![NONE; nodes + 1],
            share: vec![0; nodes],
            key: vec![0; nodes],
            tie: (0u64..).take(nodes).map(|n| mix(seed, n)).collect(),
            heaps: vec![Vec::new(); nodes + 1],
            place: vec![NONE; nodes],
        };
        for &node in &dense.upwards {
            let n = node as usize;
            let all = (0u32..).zip(pools.of_node(node)).map(|(r, _)| r);
            turns.share[n] = all.map(|r| turns.share_of(pools, n, r)).max().unwrap_or(0);
            if n < dense.teams {
                turns.next[n] = turns.head(node);
            }
            turns.settle_node(pools, node);
        }
        turns
    }

    /// Whose turn it is: stays so until [`Turns::placed`] or [`Turns::blocked`] tells what became of it.
    pub(crate) fn peek(&self) -> Option<Turn> {
        let group = *self.next.last()?;
        (group != NONE).then(|| Turn { group, team: self.dense.group_team[group as usize] })
    }

    /// The turn was used, and the pools have been charged with it.
    pub(crate) fn placed(&mut self, pools: &Pools<'_>, turn: Turn, asks: &Asks) {
        self.cursor[turn.team as usize] += 1;
        for &node in self.dense.path(turn.team) {
            let n = node as usize;
            for (r, _) in asks {
                self.share[n] = self.share[n].max(self.share_of(pools, n, *r));
            }
        }
        self.settle(pools, turn.team);
    }

    /// Nothing of this group is placed any more in this plan.
    pub(crate) fn blocked(&mut self, pools: &Pools<'_>, turn: Turn) {
        self.blocked[turn.group as usize] = true;
        self.settle(pools, turn.team);
    }

    /// A number that tells the job whose turn it is from others of its team.
    pub(crate) fn order_of(&self, turn: Turn) -> u64 {
        let team = turn.team as usize;
        let order =
            self.dense.queue.row(team).get(self.cursor[team] as usize).map_or(0, |(order, _)| order.0);
        order.cast_unsigned()
    }

    /// The groups of a team of which something is left, each once.
    pub(crate) fn rest(&self, team: usize, seen: &mut [bool], mut each: impl FnMut(u32)) {
        for (_, group) in &self.dense.queue.row(team)[self.cursor[team] as usize..] {
            let g = *group as usize;
            if !self.blocked[g] && !std::mem::replace(&mut seen[g], true) {
                each(*group);
            }
        }
    }

    /// The team's next job that is not of a blocked group.
    fn head(&mut self, team: u32) -> u32 {
        let queue = self.dense.queue.row(team as usize);
        let cursor = &mut self.cursor[team as usize];
        while let Some((_, group)) = queue.get(*cursor as usize) {
            if !self.blocked[*group as usize] {
                return *group;
            }
            *cursor += 1;
        }
        NONE
    }

    fn settle(&mut self, pools: &Pools<'_>, team: u32) {
        self.next[team as usize] = self.head(team);
        for &node in self.dense.path(team) {
            self.settle_node(pools, node);
        }
    }

    /// Gives a node whose next job is known its place among its siblings, and tells the parent its next job.
    fn settle_node(&mut self, pools: &Pools<'_>, node: u32) {
        let n = node as usize;
        let parent = self.dense.parent[n];
        let parent = if parent == NONE { self.heaps.len() - 1 } else { parent as usize };
        if self.next[n] == NONE {
            self.leave(parent, node);
        } else {
            let borrows = u128::from(self.would_borrow(pools, node));
            let share = u128::from(self.share[n].min(u64::MAX >> 1));
            self.key[n] = borrows << 127 | share << 64 | u128::from(self.tie[n]);
            self.enter(parent, node);
        }
        self.next[parent] = self.heaps[parent].first().map_or(NONE, |first| self.next[*first as usize]);
    }

    fn would_borrow(&self, pools: &Pools<'_>, node: u32) -> bool {
        let shape = self.dense.group_shape[self.next[node as usize] as usize];
        let nominal = &self.dense.nominal[node as usize * self.dense.width..][..self.dense.width];
        let used = pools.of_node(node);
        self.dense
            .asks(shape)
            .iter()
            .any(|(r, a)| used[*r as usize].saturating_add(*a) > nominal[*r as usize])
    }

    fn share_of(&self, pools: &Pools<'_>, node: usize, resource: u32) -> u64 {
        let r = resource as usize;
        let at = node * self.dense.width + r;
        let used = pools.used[self.dense.clusters * self.dense.width + at];
        share(used.saturating_add(self.dense.past[at]), self.dense.total[at], self.dense.weight[node])
    }

    fn before(&self, a: u32, b: u32) -> bool {
        (self.key[a as usize], a) < (self.key[b as usize], b)
    }

    /// Puts a node into its parent's heap, or to its new place there.
    fn enter(&mut self, parent: usize, node: u32) {
        if self.place[node as usize] == NONE {
            self.place[node as usize] = crate::dense::ix(self.heaps[parent].len());
            self.heaps[parent].push(node);
        }
        let at = self.rise(parent, self.place[node as usize] as usize);
        self.sink(parent, at);
    }

    fn leave(&mut self, parent: usize, node: u32) {
        let at = std::mem::replace(&mut self.place[node as usize], NONE);
        if at == NONE {
            return;
        }
        self.heaps[parent].swap_remove(at as usize);
        if let Some(moved) = self.heaps[parent].get(at as usize) {
            self.place[*moved as usize] = at;
            let at = self.rise(parent, at as usize);
            self.sink(parent, at);
        }
    }

    fn swap(&mut self, parent: usize, a: usize, b: usize) {
        let heap = &mut self.heaps[parent];
        heap.swap(a, b);
        self.place[heap[a] as usize] = crate::dense::ix(a);
        self.place[heap[b] as usize] = crate::dense::ix(b);
    }

    fn rise(&mut self, parent: usize, mut at: usize) -> usize {
        while at > 0 && self.before(self.heaps[parent][at], self.heaps[parent][(at - 1) / 2]) {
            self.swap(parent, at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
        at
    }

    fn sink(&mut self, parent: usize, mut at: usize) {
        loop {
            let heap = &self.heaps[parent];
            let mut least = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < heap.len() && self.before(heap[child], heap[least]) {
                    least = child;
                }
            }
            if least == at {
                return;
            }
            self.swap(parent, at, least);
            at = least;
        }
    }
}

/// A share in millionths, for a weight; of nothing, there is none.
pub(crate) fn share(amount: u64, total: u64, weight: u64) -> u64 {
    if total == 0 {
        return 0;
    }
    // Nearly always the short way: 2^44 is 17 million million, or 16 TiB of memory.
    let of_total = if amount < 1 << 44 {
        amount * 1_000_000 / total
    } else {
        u64::try_from(u128::from(amount) * 1_000_000 / u128::from(total)).unwrap_or(u64::MAX)
    };
    if weight > 1 { of_total / weight } else { of_total }
}

/// A well-mixed number of two (SplitMix64's finaliser): a seeded, stateless tie-breaker.
pub fn mix(seed: u64, value: u64) -> u64 {
    let mut z = seed ^ value.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
