//! What is in use while a plan is made: clusters and quota nodes, which a placement fills together.

use crate::dense::{Asks, Dense};

/// Amounts in use per pool and resource, with this plan's placements.
pub(crate) struct Pools<'a> {
    pub(crate) dense: &'a Dense,
    pub(crate) used: Vec<u64>,
}

impl<'a> Pools<'a> {
    pub(crate) fn new(dense: &'a Dense) -> Self {
        Self { dense, used: dense.used.clone() }
    }

    fn row(&self, pool: usize) -> std::ops::Range<usize> {
        pool * self.dense.width..(pool + 1) * self.dense.width
    }

    /// Whether the pool has room for it now.
    pub(crate) fn fits(&self, pool: usize, asks: &Asks) -> bool {
        let (used, cap) = (&self.used[self.row(pool)], &self.dense.cap[self.row(pool)]);
        asks.iter().all(|(r, a)| *a <= cap[*r as usize].saturating_sub(used[*r as usize]))
    }

    /// The lowest quota node on the team's path that has no room, and its first resource that is short.
    pub(crate) fn quota_short(&self, team: u32, asks: &Asks) -> Option<(u32, u32)> {
        self.dense.path(team).iter().find_map(|n| {
            let row = self.row(self.dense.node_pool(*n));
            let (used, cap) = (&self.used[row.clone()], &self.dense.cap[row]);
            let short = asks.iter().find(|(r, a)| *a > cap[*r as usize].saturating_sub(used[*r as usize]))?;
            Some((*n, short.0))
        })
    }

    /// What is left of a resource.
    pub(crate) fn free(&self, pool: usize, resource: u32) -> u64 {
        let at = pool * self.dense.width + resource as usize;
        self.dense.cap[at].saturating_sub(self.used[at])
    }

    /// How much is missing for an amount: below zero if more than that is free.
    pub(crate) fn missing(&self, pool: usize, resource: u32, amount: u64) -> i128 {
        let at = pool * self.dense.width + resource as usize;
        i128::from(amount) + i128::from(self.used[at]) - i128::from(self.dense.cap[at])
    }

    pub(crate) fn charge(&mut self, pool: usize, asks: &Asks) {
        let row = self.row(pool);
        let used = &mut self.used[row];
        for (r, a) in asks {
            used[*r as usize] = used[*r as usize].saturating_add(*a);
        }
    }

    /// What a quota node has in use.
    pub(crate) fn of_node(&self, node: u32) -> &[u64] {
        &self.used[self.row(self.dense.node_pool(node))]
    }
}
