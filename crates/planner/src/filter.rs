//! Which clusters could take a job of a group now, and the refusals of the others.

use yard_domain::{Capacity, Cluster, ClusterHealth, ClusterId, ClusterSelector, ClusterSwitch, Request};

use crate::refusal::Refusal;
use crate::snapshot::{Group, Snapshot};

/// The indexes of the clusters that could take it; if there is none, every cluster's refusal.
pub fn candidates(
    snapshot: &Snapshot,
    used: &[Request],
    group: &Group,
) -> Result<Vec<usize>, Vec<(ClusterId, Refusal)>> {
    let mut fits = Vec::new();
    let mut refusals = Vec::new();
    for (i, view) in snapshot.clusters.iter().enumerate() {
        match check(&view.cluster, &used[i], &group.request, &group.clusters) {
            Ok(()) => fits.push(i),
            Err(refusal) => refusals.push((view.cluster.id.clone(), refusal)),
        }
    }
    if fits.is_empty() { Err(refusals) } else { Ok(fits) }
}

/// Whether a cluster with this in use could take the request now. The order of checks is the order of what
/// is hardest to change: the job's own choice, then the operator's, then the cluster's state, then room.
pub fn check(
    cluster: &Cluster,
    used: &Request,
    request: &Request,
    selector: &ClusterSelector,
) -> Result<(), Refusal> {
    if !selector.only.is_empty() && !selector.only.contains(&cluster.id) {
        return Err(Refusal::NotSelected);
    }
    if selector.avoid.contains(&cluster.id) {
        return Err(Refusal::Avoided);
    }
    if let Some((label, value)) = selector.labels.iter().find(|(k, v)| cluster.labels.get(*k) != Some(*v)) {
        return Err(Refusal::LabelMissing { label: label.clone(), value: value.clone() });
    }
    if !cluster.configured {
        return Err(Refusal::NotConfigured);
    }
    let Some(capacity) = &cluster.capacity else {
        return Err(if cluster.health == ClusterHealth::Unreachable {
            Refusal::Unreachable
        } else {
            Refusal::CapacityUnknown
        });
    };
    if let Err(short) = capacity.allows(&Request::default(), request) {
        return Err(Refusal::TooSmall(short));
    }
    if cluster.switch == ClusterSwitch::Drained {
        return Err(Refusal::Drained);
    }
    match cluster.health {
        ClusterHealth::Ready if cluster.breaker_open => Err(Refusal::BreakerOpen),
        ClusterHealth::Ready => room(capacity, used, request),
        ClusterHealth::Unknown => Err(Refusal::NotSeenYet),
        ClusterHealth::Unreachable => Err(Refusal::Unreachable),
    }
}

fn room(capacity: &Capacity, used: &Request, request: &Request) -> Result<(), Refusal> {
    capacity.allows(used, request).map_err(Refusal::Full)
}
