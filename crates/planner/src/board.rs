//! Refusals cluster by cluster, worked out when somebody reads them.
//!
//! With many groups and clusters most of a plan would be refusals that nobody reads. So a plan keeps one picture of
//! all clusters as it leaves them, shared by its refusals. What a group was refused for in the middle of a plan still
//! holds at its end, because room only shrinks: the refusals read from the picture are justified beside the whole plan.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use yard_domain::{ClusterId, Request, Timestamp};

use crate::filter;
use crate::pools::Pools;
use crate::refusal::Refusal;
use crate::reserve::Keeps;
use crate::snapshot::Snapshot;

/// The clusters as a plan leaves them.
pub(crate) struct Board {
    snapshot: Snapshot,
    /// Per cluster.
    used: Vec<Request>,
    keeps: Keeps,
    now: i64,
}

impl Board {
    pub(crate) fn new(snapshot: Snapshot, pools: &Pools<'_>, keeps: Keeps, now: i64) -> Arc<Self> {
        let dense = &snapshot.dense;
        let mut used = vec![Request::default(); dense.clusters];
        for (c, used) in used.iter_mut().enumerate() {
            for (name, amount) in dense.names.iter().zip(&pools.used[c * dense.width..]) {
                used.set(name, *amount);
            }
        }
        Arc::new(Self { snapshot, used, keeps, now })
    }

    /// Why not there, for every cluster that does not take a job of the group.
    pub(crate) fn refusals(&self, group: u32) -> Vec<(ClusterId, Refusal)> {
        let dense = &self.snapshot.dense;
        let g = &self.snapshot.groups[group as usize];
        let shape = dense.group_shape[group as usize];
        let ends = self.now.saturating_add(dense.shapes[shape as usize].run_timeout);
        let mut refusals = Vec::with_capacity(self.used.len());
        for (c, view) in self.snapshot.clusters.iter().enumerate() {
            let reserved = || {
                let mut slack = i64::MAX;
                let own = self.keeps.own(group);
                let keep = self.keeps.blocker(c, own, dense.asks(shape), ends, &mut slack)?;
                let keep = &self.keeps.list[keep as usize];
                let team = self.snapshot.teams[keep.head.team as usize].team.id.clone();
                Some(Refusal::Reserved { team, start_by: Timestamp::from_micros(keep.slot.start) })
            };
            let refusal = match filter::check(&view.cluster, &self.used[c], &g.request, &g.clusters) {
                Err(refusal) => Some(refusal),
                Ok(()) => reserved(),
            };
            refusals.extend(refusal.map(|refusal| (view.cluster.id.clone(), refusal)));
        }
        refusals
    }
}

/// Why not there, for every cluster: reads as a slice of [`ClusterId`] and [`Refusal`], in the order of the clusters'
/// ids, as the whole plan leaves the clusters. Worked out when first read, and kept.
#[derive(Clone)]
pub struct ClusterRefusals {
    of: Option<(Arc<Board>, u32)>,
    read: OnceLock<Box<[(ClusterId, Refusal)]>>,
}

impl ClusterRefusals {
    pub(crate) fn of(board: &Arc<Board>, group: u32) -> Self {
        Self { of: Some((board.clone(), group)), read: OnceLock::new() }
    }

    /// No refusals: something else holds the group.
    pub fn none() -> Self {
        Self { of: None, read: OnceLock::new() }
    }
}

impl Deref for ClusterRefusals {
    type Target = [(ClusterId, Refusal)];

    fn deref(&self) -> &Self::Target {
        let Some((board, group)) = &self.of else { return &[] };
        self.read.get_or_init(|| board.refusals(*group).into())
    }
}

impl<'a> IntoIterator for &'a ClusterRefusals {
    type Item = &'a (ClusterId, Refusal);
    type IntoIter = std::slice::Iter<'a, (ClusterId, Refusal)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for ClusterRefusals {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for ClusterRefusals {}

impl fmt::Debug for ClusterRefusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
