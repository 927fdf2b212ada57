//! A snapshot as numbers: names are looked up once, when it is put together, so that a pass compares small integers
//! in arrays and allocates nothing per decision.
//!
//! Resources are numbered in the order in which a request names them (cpu, gpu, memory, jobs, then custom ones by
//! name), requests are lists of `(resource, amount)` without zeros, and everything that can be full (a cluster, a
//! quota node) is a *pool*: clusters first, then the nodes of the quota tree, each with one row of amounts.

use std::collections::HashMap;
use std::sync::OnceLock;

use yard_domain::job::QueueOrder;
use yard_domain::{QuotaTree, Shape};

use crate::intern::{Interned, Names, capacity_of_all, elastic, micros, open, queues};
use crate::snapshot::{ClusterView, Group, Running, TeamView};

/// No index.
pub(crate) const NONE: u32 = u32::MAX;

/// The resource that counts jobs.
pub(crate) const JOBS: u32 = 3;

/// A request: resources with amounts above zero, in order.
pub(crate) type Asks = [(u32, u64)];

/// An index as it is kept; what exceeds it would not fit into memory either.
pub(crate) fn ix(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(NONE)
}

/// Rows of unlike length, one after the other.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rows<T> {
    start: Vec<u32>,
    items: Vec<T>,
}

impl<T: Copy> Rows<T> {
    pub(crate) fn new() -> Self {
        Self { start: vec![0], items: Vec::new() }
    }

    pub(crate) fn push(&mut self, row: impl IntoIterator<Item = T>) {
        self.items.extend(row);
        self.start.push(ix(self.items.len()));
    }

    /// The items by the row each belongs to, in the order given; those of row [`NONE`] are left out.
    pub(crate) fn bucket(rows: usize, items: impl Iterator<Item = (u32, T)> + Clone, none: T) -> Self {
        let mut start = vec![0u32; rows + 1];
        for (row, _) in items.clone().filter(|(row, _)| *row != NONE) {
            start[row as usize + 1] += 1;
        }
        for row in 0..rows {
            start[row + 1] += start[row];
        }
        let mut next = start.clone();
        let mut sorted = vec![none; start[rows] as usize];
        for (row, item) in items.filter(|(row, _)| *row != NONE) {
            sorted[next[row as usize] as usize] = item;
            next[row as usize] += 1;
        }
        Self { start, items: sorted }
    }

    pub(crate) fn row(&self, row: usize) -> &[T] {
        &self.items[self.start[row] as usize..self.start[row + 1] as usize]
    }

    pub(crate) fn row_mut(&mut self, row: usize) -> &mut [T] {
        &mut self.items[self.start[row] as usize..self.start[row + 1] as usize]
    }
}

/// What jobs of one shape ask for, whoever's they are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ShapeInfo {
    pub(crate) shape: Shape,
    /// A group of it.
    pub(crate) group: u32,
    pub(crate) selector: u32,
    /// Microseconds.
    pub(crate) run_timeout: i64,
}

/// An open attempt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Attempt {
    /// [`NONE`] if it is not known.
    pub(crate) team: u32,
    /// [`NONE`] if it is not known.
    pub(crate) cluster: u32,
    pub(crate) ends_by: i64,
    pub(crate) expected_end: i64,
    pub(crate) leaving: bool,
}

/// Who holds what: indexes of attempts, those that end first by their run timeouts first.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Holders {
    pub(crate) cluster: Rows<u32>,
    pub(crate) team: Rows<u32>,
    /// By the top node of their team's tree.
    pub(crate) tree: Rows<u32>,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Dense {
    /// Names of resources.
    pub(crate) names: Vec<String>,
    /// How many resources there are.
    pub(crate) width: usize,
    pub(crate) clusters: usize,
    pub(crate) teams: usize,
    /// Per pool and resource: what there is, at most.
    pub(crate) cap: Vec<u64>,
    /// Per pool and resource: what is in use.
    pub(crate) used: Vec<u64>,
    /// Per cluster and resource: [`inverse`] of what there is.
    pub(crate) inverse: Vec<u64>,
    /// Per cluster: what an autoscaler has made of it so far, and its delay in seconds.
    pub(crate) elastic: Vec<Option<(Vec<u64>, u64)>>,
    /// Per cluster: attempts placed there that do not run yet.
    pub(crate) in_flight: Vec<u32>,
    /// Per node of the quota tree.
    pub(crate) parent: Vec<u32>,
    pub(crate) weight: Vec<u64>,
    /// Per node and resource: what is guaranteed; `u64::MAX` where it is not governed.
    pub(crate) nominal: Vec<u64>,
    /// Per node and resource: the whole of which shares are taken; 0 where it does not count.
    pub(crate) total: Vec<u64>,
    /// Per node and resource: past use.
    pub(crate) past: Vec<u64>,
    /// Per node: itself and everything above it.
    pub(crate) path: Rows<u32>,
    /// Members before their cohorts.
    pub(crate) upwards: Vec<u32>,
    /// Per top node: its teams.
    pub(crate) teams_by_root: Rows<u32>,
    pub(crate) shapes: Vec<ShapeInfo>,
    /// Per shape.
    pub(crate) asks: Rows<(u32, u64)>,
    /// Per selector: the clusters that are open to it and that take jobs.
    pub(crate) open: Rows<u32>,
    /// Per selector: a group that has it.
    pub(crate) selector_group: Vec<u32>,
    pub(crate) group_shape: Vec<u32>,
    pub(crate) group_team: Vec<u32>,
    /// Per group, in microseconds.
    pub(crate) expected_run: Vec<i64>,
    /// Per team: its jobs in order, each with its group.
    pub(crate) queue: Rows<(QueueOrder, u32)>,
    pub(crate) attempts: Vec<Attempt>,
    /// Per attempt.
    pub(crate) held: Rows<(u32, u64)>,
    holders: OnceLock<Holders>,
}

impl Dense {
    pub(crate) fn new(
        teams: &[TeamView],
        clusters: &[ClusterView],
        groups: &[Group],
        group_team: Vec<u32>,
        running: &[Running],
        quota: &QuotaTree,
    ) -> Self {
        let interned = Interned::new(groups, clusters);
        let names = Names::new(teams, clusters, groups, &interned.shapes, running);
        let width = names.all.len();
        let mut dense = Self {
            width,
            clusters: clusters.len(),
            teams: teams.len(),
            cap: Vec::new(),
            used: Vec::new(),
            inverse: Vec::new(),
            elastic: clusters.iter().map(|c| elastic(c, &names)).collect(),
            in_flight: vec![0; clusters.len()],
            parent: quota.nodes().iter().map(|n| n.parent.map_or(NONE, ix)).collect(),
            weight: quota.nodes().iter().map(|n| u64::from(n.weight.max(1))).collect(),
            nominal: Vec::new(),
            total: Vec::new(),
            past: vec![0; quota.nodes().len() * width],
            path: Rows::new(),
            upwards: quota.upwards().iter().map(|i| ix(*i)).collect(),
            teams_by_root: Rows::new(),
            asks: Rows::new(),
            open: Rows::new(),
            selector_group: interned.selector_group,
            queue: queues(teams.len(), groups, &group_team),
            shapes: interned.shapes,
            group_shape: interned.group_shape,
            group_team,
            expected_run: groups.iter().map(|g| micros(g.expected_run.min(g.run_timeout))).collect(),
            attempts: Vec::with_capacity(running.len()),
            held: Rows::new(),
            holders: OnceLock::new(),
            names: Vec::new(),
        };
        dense.fill_clusters(clusters, &names);
        dense.fill_nodes(teams, clusters, quota, &names);
        for shape in &dense.shapes {
            dense.asks.push(names.asks(&groups[shape.group as usize].request));
        }
        for group in &dense.selector_group {
            dense.open.push(open(clusters, &groups[*group as usize]));
        }
        dense.fill_running(teams, clusters, running, &names);
        dense.names = names.all.iter().map(|n| (*n).to_owned()).collect();
        dense
    }

    fn fill_clusters(&mut self, clusters: &[ClusterView], names: &Names<'_>) {
        for view in clusters {
            let whole = view.cluster.capacity.as_ref().map(|c| &c.0);
            let row = whole.map_or_else(|| vec![0; self.width], |whole| names.row(whole));
            self.inverse.extend(row.iter().map(|cap| inverse(*cap)));
            self.cap.extend(row);
            self.used.extend(names.row(&view.used));
        }
    }

    fn fill_nodes(
        &mut self,
        teams: &[TeamView],
        clusters: &[ClusterView],
        quota: &QuotaTree,
        names: &Names<'_>,
    ) {
        let (nodes, width) = (quota.nodes(), self.width);
        let all = capacity_of_all(clusters, names);
        let mut used = vec![0; nodes.len() * width];
        for (i, view) in teams.iter().enumerate() {
            used[i * width..][..width].copy_from_slice(&names.row(&view.used));
            self.past[i * width..][..width].copy_from_slice(&names.row(&view.past));
        }
        for &i in quota.upwards() {
            let Some(parent) = nodes[i].parent else { continue };
            for r in 0..width {
                for sums in [&mut used, &mut self.past] {
                    sums[parent * width + r] = sums[parent * width + r].saturating_add(sums[i * width + r]);
                }
            }
        }
        self.used.extend(used);
        for (i, node) in nodes.iter().enumerate() {
            self.path.push(quota.path(i).map(ix));
            self.cap.extend(names.bounds(&node.ceiling));
            self.nominal.extend(names.bounds(&node.nominal));
            let top = names.bounds(&nodes[quota.root_of(i)].nominal);
            self.total.extend((0..width).map(|r| match top[r] {
                u64::MAX if r == JOBS as usize => 0,
                u64::MAX => all[r],
                governed => governed,
            }));
        }
        let roots = (0..teams.len()).map(|t| (ix(quota.root_of(t)), ix(t)));
        self.teams_by_root = Rows::bucket(nodes.len(), roots, NONE);
    }

    fn fill_running(
        &mut self,
        teams: &[TeamView],
        clusters: &[ClusterView],
        running: &[Running],
        names: &Names<'_>,
    ) {
        let team_index: HashMap<&str, u32> =
            teams.iter().zip(0u32..).map(|(t, i)| (t.team.id.as_str(), i)).collect();
        let cluster_index: HashMap<&str, u32> =
            clusters.iter().zip(0u32..).map(|(c, i)| (c.cluster.id.as_str(), i)).collect();
        for run in running {
            let cluster = cluster_index.get(run.cluster.as_str()).copied().unwrap_or(NONE);
            if run.started.is_none() && cluster != NONE {
                self.in_flight[cluster as usize] += 1;
            }
            self.attempts.push(Attempt {
                team: team_index.get(run.team.as_str()).copied().unwrap_or(NONE),
                cluster,
                ends_by: run.ends_by.as_micros(),
                expected_end: run.expected_end.min(run.ends_by).as_micros(),
                leaving: run.leaving,
            });
            self.held.push(names.asks(&run.request));
        }
    }

    /// What jobs of a shape ask for.
    pub(crate) fn asks(&self, shape: u32) -> &Asks {
        self.asks.row(shape as usize)
    }

    /// The pool of a quota node.
    pub(crate) fn node_pool(&self, node: u32) -> usize {
        self.clusters + node as usize
    }

    /// A team's node and everything above it. (A team's node has the team's index.)
    pub(crate) fn path(&self, team: u32) -> &[u32] {
        self.path.row(team as usize)
    }

    pub(crate) fn root_of(&self, team: u32) -> u32 {
        self.path(team).last().copied().unwrap_or(team)
    }

    /// The clusters that take jobs and that this shape admits.
    pub(crate) fn open(&self, shape: u32) -> &[u32] {
        self.open.row(self.shapes[shape as usize].selector as usize)
    }

    /// The clusters that pass all hard rules for this shape, the too small ones left out.
    pub(crate) fn admissible(&self, shape: u32) -> impl Iterator<Item = usize> + '_ {
        let asks = self.asks(shape);
        self.open(shape).iter().map(|c| *c as usize).filter(move |c| {
            let cap = &self.cap[c * self.width..][..self.width];
            asks.iter().all(|(r, a)| *a <= cap[*r as usize])
        })
    }

    /// Whether the team's quota could ever take a job of this shape.
    pub(crate) fn quota_could(&self, team: u32, shape: u32) -> bool {
        self.path(team).iter().all(|n| {
            let ceiling = &self.cap[self.node_pool(*n) * self.width..][..self.width];
            self.asks(shape).iter().all(|(r, a)| *a <= ceiling[*r as usize])
        })
    }

    pub(crate) fn holders(&self) -> &Holders {
        self.holders.get_or_init(|| {
            let mut order: Vec<u32> = (0..ix(self.attempts.len())).collect();
            order.sort_by_key(|i| self.attempts[*i as usize].ends_by);
            let of = |key: fn(&Self, &Attempt) -> u32| {
                order.iter().map(move |i| (key(self, &self.attempts[*i as usize]), *i))
            };
            let root = |d: &Self, a: &Attempt| if a.team == NONE { NONE } else { d.root_of(a.team) };
            Holders {
                cluster: Rows::bucket(self.clusters, of(|_, a| a.cluster), NONE),
                team: Rows::bucket(self.teams, of(|_, a| a.team), NONE),
                tree: Rows::bucket(self.parent.len(), of(root), NONE),
            }
        })
    }

    /// Whether the groups are equal, by the numbers that stand for them.
    pub(crate) fn same_groups(&self, other: &Self) -> bool {
        self.queue == other.queue
            && self.group_shape == other.group_shape
            && self.group_team == other.group_team
            && self.expected_run == other.expected_run
            && self.shapes == other.shapes
            && self.names == other.names
            && self.asks == other.asks
    }
}

/// `ceil(1000 · 2^54 / cap)`: times a part of `cap`, shifted right by 54, it is the share in thousandths, never below
/// the exact one, and above it by less than one while `cap` is below 2^53.
pub(crate) fn inverse(cap: u64) -> u64 {
    (1_000u64 << 54).div_ceil(cap.max(1))
}
