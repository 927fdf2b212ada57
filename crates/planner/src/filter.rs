//! Whether a cluster could take a job now, told for people. A pass itself uses the same rules as bits and numbers
//! (`dense`, `pools`).

use yard_domain::{Block, Capacity, Cluster, ClusterHealth, ClusterSelector, ClusterSwitch, Request};

use crate::refusal::Refusal;

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
    if let Some(driver) = selector.driver.as_ref().filter(|driver| **driver != cluster.driver) {
        return Err(Refusal::OtherDriver { driver: driver.clone() });
    }
    let unmade = selector.unmade(cluster, request);
    if !unmade.is_empty() {
        return Err(Refusal::NoRayCluster(unmade));
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
    if let Some(block) = selector.block(cluster, request).filter(Block::is_never) {
        return Err(Refusal::NoBlock(block));
    }
    if cluster.switch == ClusterSwitch::Drained {
        return Err(Refusal::Drained);
    }
    match cluster.health {
        ClusterHealth::Ready if cluster.breaker_open => Err(Refusal::BreakerOpen),
        ClusterHealth::Ready => room(capacity, used, request),
        ClusterHealth::NotReady => Err(Refusal::NotReady),
        ClusterHealth::Unknown => Err(Refusal::NotSeenYet),
        ClusterHealth::Unreachable => Err(Refusal::Unreachable),
    }
}

fn room(capacity: &Capacity, used: &Request, request: &Request) -> Result<(), Refusal> {
    capacity.allows(used, request).map_err(Refusal::Full)
}
