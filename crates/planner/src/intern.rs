//! What a snapshot's names become numbers by, while it is put together.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use yard_domain::job::QueueOrder;
use yard_domain::{Cluster, ClusterSelector, Limits, Request, Shape};

use crate::dense::{JOBS, NONE, Rows, ShapeInfo, ix};
use crate::snapshot::{ClusterView, Group, Running, TeamView};

pub(crate) fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// The names of resources, while a snapshot is put together.
pub(crate) struct Names<'a> {
    pub(crate) all: Vec<&'a str>,
    custom: HashMap<&'a str, u32>,
}

impl<'a> Names<'a> {
    pub(crate) fn new(
        teams: &'a [TeamView],
        clusters: &'a [ClusterView],
        groups: &'a [Group],
        shapes: &[ShapeInfo],
        running: &'a [Running],
    ) -> Self {
        let of_teams = teams.iter().flat_map(|t| {
            let limits = t.team.quota.custom_milli.keys().chain(t.team.max.custom_milli.keys());
            limits.chain(t.used.custom_milli.keys()).chain(t.past.custom_milli.keys())
        });
        let of_clusters = clusters.iter().flat_map(|c| {
            let present = c.cluster.elastic.iter().filter_map(|e| e.present.as_ref());
            let whole = c.cluster.capacity.iter().chain(present).flat_map(|c| c.0.custom_milli.keys());
            whole.chain(c.used.custom_milli.keys())
        });
        let of_shapes = shapes.iter().flat_map(|s| groups[s.group as usize].request.custom_milli.keys());
        let of_running = running.iter().flat_map(|r| r.request.custom_milli.keys());
        let custom: BTreeSet<&str> =
            of_teams.chain(of_clusters).chain(of_shapes).chain(of_running).map(String::as_str).collect();
        let all: Vec<&str> = ["cpu", "gpu", "memory", "jobs"].into_iter().chain(custom).collect();
        let custom = all.iter().zip(0u32..).skip(4).map(|(name, i)| (*name, i)).collect();
        Self { all, custom }
    }

    pub(crate) fn asks(&self, request: &Request) -> impl Iterator<Item = (u32, u64)> {
        let Request { cpu_milli, gpu_milli, memory_bytes, jobs, custom_milli } = request;
        let custom = custom_milli.iter().filter_map(|(n, a)| Some((*self.custom.get(n.as_str())?, *a)));
        [(0, *cpu_milli), (1, *gpu_milli), (2, *memory_bytes), (JOBS, *jobs)]
            .into_iter()
            .chain(custom)
            .filter(|(_, amount)| *amount > 0)
    }

    pub(crate) fn row(&self, request: &Request) -> Vec<u64> {
        let mut row = vec![0; self.all.len()];
        for (r, amount) in self.asks(request) {
            row[r as usize] = amount;
        }
        row
    }

    pub(crate) fn bounds(&self, limits: &Limits) -> Vec<u64> {
        let mut row = vec![u64::MAX; self.all.len()];
        for (r, bound) in
            [limits.cpu_milli, limits.gpu_milli, limits.memory_bytes, limits.jobs].iter().enumerate()
        {
            row[r] = bound.unwrap_or(u64::MAX);
        }
        for (name, bound) in &limits.custom_milli {
            if let Some(r) = self.custom.get(name.as_str()) {
                row[*r as usize] = *bound;
            }
        }
        row
    }
}

/// Shapes and selectors, each once. A selector counts once for each set of clusters that are closed to it for what its
/// shapes ask for.
pub(crate) struct Interned {
    pub(crate) shapes: Vec<ShapeInfo>,
    pub(crate) group_shape: Vec<u32>,
    pub(crate) selector_group: Vec<u32>,
}

impl Interned {
    pub(crate) fn new(groups: &[Group], clusters: &[ClusterView]) -> Self {
        let mut known: HashMap<Shape, u32> = HashMap::new();
        let mut selectors: HashMap<(&ClusterSelector, Vec<u32>), u32> = HashMap::new();
        let choosy = Choosy::new(clusters);
        let mut interned = Self {
            shapes: Vec::new(),
            group_shape: Vec::with_capacity(groups.len()),
            selector_group: Vec::new(),
        };
        for (g, group) in groups.iter().enumerate() {
            // A shape is a hash: should two unlike groups share one, each is on its own.
            let like = known.get(&group.shape).copied().filter(|s| {
                let other = &groups[interned.shapes[*s as usize].group as usize];
                other.request == group.request
                    && other.run_timeout == group.run_timeout
                    && other.clusters == group.clusters
            });
            let index = like.unwrap_or_else(|| {
                let selector =
                    *selectors.entry((&group.clusters, choosy.closed(group))).or_insert_with(|| {
                        interned.selector_group.push(ix(g));
                        ix(interned.selector_group.len() - 1)
                    });
                let run_timeout = micros(group.run_timeout);
                interned.shapes.push(ShapeInfo { shape: group.shape, group: ix(g), selector, run_timeout });
                ix(interned.shapes.len() - 1)
            });
            known.entry(group.shape).or_insert(index);
            interned.group_shape.push(index);
        }
        interned
    }
}

/// Clusters that may be closed to a shape for how its charge is cut into pods.
struct Choosy<'a>(Vec<(u32, &'a Cluster)>);

impl<'a> Choosy<'a> {
    fn new(clusters: &'a [ClusterView]) -> Self {
        let choosy = clusters.iter().zip(0u32..).map(|(view, i)| (i, &view.cluster));
        Self(choosy.filter(|(_, c)| c.ray_profiles.is_some() || !c.gpu_blocks.is_empty()).collect())
    }

    /// Those that are closed to the group. Costs nothing where there are none.
    fn closed(&self, group: &Group) -> Vec<u32> {
        let closed = self.0.iter().filter(|(_, cluster)| is_closed(cluster, &group.clusters, &group.request));
        closed.map(|(i, _)| *i).collect()
    }
}

/// Whether no job of this charge could ever be launched on the cluster, as it is now.
fn is_closed(cluster: &Cluster, selector: &ClusterSelector, request: &Request) -> bool {
    !selector.unmade(cluster, request).is_empty()
        || selector.block(cluster, request).is_some_and(|block| block.is_never())
}

/// The clusters that take jobs and that are open to the group.
pub(crate) fn open<'a>(clusters: &'a [ClusterView], group: &'a Group) -> impl Iterator<Item = u32> + 'a {
    let selector = &group.clusters;
    let open = clusters.iter().zip(0u32..).filter(|(view, _)| {
        let c = &view.cluster;
        c.takes_jobs()
            && c.capacity.is_some()
            && !c.breaker_open
            && selector.admits(c)
            && !is_closed(c, selector, &group.request)
    });
    open.map(|(_, i)| i)
}

pub(crate) fn elastic(view: &ClusterView, names: &Names<'_>) -> Option<(Vec<u64>, u64)> {
    let elastic = view.cluster.elastic.as_ref()?;
    let present = elastic.present.as_ref().map_or_else(|| vec![0; names.all.len()], |p| names.row(&p.0));
    Some((present, elastic.delay.as_secs()))
}

pub(crate) fn capacity_of_all(clusters: &[ClusterView], names: &Names<'_>) -> Vec<u64> {
    let mut sum = vec![0u64; names.all.len()];
    for capacity in
        clusters.iter().filter(|c| c.cluster.configured).filter_map(|c| c.cluster.capacity.as_ref())
    {
        for (r, amount) in names.asks(&capacity.0) {
            sum[r as usize] = sum[r as usize].saturating_add(amount);
        }
    }
    sum
}

/// Each team's jobs in the order in which they come.
pub(crate) fn queues(teams: usize, groups: &[Group], group_team: &[u32]) -> Rows<(QueueOrder, u32)> {
    let jobs = groups
        .iter()
        .zip(group_team)
        .zip(0u32..)
        .flat_map(|((group, team), g)| group.orders.iter().map(move |order| (*team, (*order, g))));
    let mut rows = Rows::bucket(teams, jobs, (QueueOrder(0), NONE));
    for team in 0..teams {
        rows.row_mut(team).sort_unstable();
    }
    rows
}
