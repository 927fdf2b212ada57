//! Nodes and pods as they are read: only the fields that are counted.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::Resource;
use kube::core::ObjectMeta;
use serde::Deserialize;

use super::board::{Amounts, Resources};
use crate::quantity;
use crate::render::INSTANCE;

/// The labels that say what kind of GPU a node has; the first that is there counts.
const GPU_LABELS: [&str; 3] =
    ["nvidia.com/gpu.product", "cloud.google.com/gke-accelerator", "k8s.amazonaws.com/accelerator"];

type Quantities = BTreeMap<String, Quantity>;

/// A node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Node {
    #[serde(deserialize_with = "crate::lean_meta::read")]
    pub(crate) metadata: ObjectMeta,
    spec: NodeSpec,
    status: NodeStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct NodeSpec {
    unschedulable: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct NodeStatus {
    allocatable: Quantities,
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

impl Node {
    /// Ready, and not cordoned.
    pub(crate) fn is_usable(&self) -> bool {
        let ready = self.status.conditions.iter().any(|c| c.kind == "Ready" && c.status == "True");
        ready && !self.spec.unschedulable
    }

    pub(crate) fn allocatable(&self, resources: &Resources) -> Amounts {
        amounts(resources, &self.status.allocatable)
    }

    pub(crate) fn gpu_type(&self) -> &str {
        let labels = self.metadata.labels.as_ref();
        GPU_LABELS.iter().find_map(|name| labels?.get(*name)).map_or("", String::as_str)
    }
}

/// A pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Pod {
    #[serde(deserialize_with = "crate::lean_meta::read")]
    pub(crate) metadata: ObjectMeta,
    spec: PodSpec,
    status: PodStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: String,
    containers: Vec<Container>,
    init_containers: Vec<Container>,
    overhead: Quantities,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    resources: ContainerResources,
    restart_policy: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ContainerResources {
    requests: Quantities,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    phase: String,
}

impl Pod {
    /// Its node; `None` if it has none, or takes nothing of it any more.
    pub(crate) fn node(&self) -> Option<&str> {
        let over = matches!(self.status.phase.as_str(), "Succeeded" | "Failed");
        Some(self.spec.node_name.as_str()).filter(|name| !name.is_empty() && !over)
    }

    pub(crate) fn uid(&self) -> Option<u128> {
        uuid::Uuid::try_parse(self.metadata.uid.as_deref()?).ok().map(|uid| uid.as_u128())
    }

    /// Whether it is one of those that this cluster of ours, whose namespace this is, is charged for. Another cluster of the
    /// catalog, and another installation, may have theirs on the same nodes.
    pub(crate) fn is_ours(&self, namespace: &str) -> bool {
        let labels = self.metadata.labels.as_ref();
        self.metadata.namespace.as_deref() == Some(namespace)
            && labels.is_some_and(|labels| labels.contains_key(INSTANCE))
    }

    /// What it takes of its node: its containers together, or the largest of those that run before them.
    pub(crate) fn amounts(&self, resources: &Resources) -> Amounts {
        let (mut running, mut before) = (resources.zero(), resources.zero());
        for container in &self.spec.containers {
            add(&mut running, &amounts(resources, &container.resources.requests));
        }
        for container in &self.spec.init_containers {
            let asked = amounts(resources, &container.resources.requests);
            if container.restart_policy == "Always" {
                add(&mut running, &asked);
            } else {
                before.iter_mut().zip(&asked).for_each(|(most, asked)| *most = (*most).max(*asked));
            }
        }
        running.iter_mut().zip(&before).for_each(|(sum, before)| *sum = (*sum).max(*before));
        add(&mut running, &amounts(resources, &self.spec.overhead));
        running
    }
}

fn add(sum: &mut Amounts, more: &Amounts) {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.saturating_add(*more));
}

fn amounts(resources: &Resources, quantities: &Quantities) -> Amounts {
    let mut amounts = resources.zero();
    for (name, Quantity(text)) in quantities {
        let Some(at) = resources.index(name) else { continue };
        let read = if name == "memory" { quantity::whole(text) } else { quantity::milli(text) };
        amounts[at] = read.unwrap_or(0);
    }
    amounts
}

macro_rules! resource {
    ($type:ty, $scope:ty, $kind:literal, $plural:literal) => {
        impl Resource for $type {
            type DynamicType = ();
            type Scope = $scope;

            fn kind((): &()) -> Cow<'_, str> {
                $kind.into()
            }

            fn group((): &()) -> Cow<'_, str> {
                "".into()
            }

            fn version((): &()) -> Cow<'_, str> {
                "v1".into()
            }

            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

resource!(Node, ClusterResourceScope, "Node", "nodes");
resource!(Pod, NamespaceResourceScope, "Pod", "pods");

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::template::Template;

    #[test]
    fn a_pod_takes_what_its_containers_ask_for_together() {
        let template = Template::parse("profiles: {p: {image: x}}").unwrap();
        let resources = Resources::of(&template);
        let asks = |cpu: &str| json!({"requests": {"cpu": cpu, "memory": "1Gi"}});
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"uid": "00000000-0000-0000-0000-000000000007", "namespace": "ml", "labels": {"yard.instance": "x"}},
            "spec": {"nodeName": "n", "overhead": {"cpu": "50m"}, "containers": [{"resources": asks("500m")}, {"resources": asks("1")}],
                "initContainers": [{"resources": asks("4")}, {"resources": asks("100m"), "restartPolicy": "Always"}]},
            "status": {"phase": "Pending"},
        }))
        .unwrap();
        assert_eq!((pod.node(), pod.uid()), (Some("n"), Some(7)));
        assert_eq!((pod.is_ours("ml"), pod.is_ours("other")), (true, false));
        assert_eq!(*pod.amounts(&resources), [4_050, 3 << 30, 0]);
        let node: Node = serde_json::from_value(json!({
            "metadata": {"labels": {"nvidia.com/gpu.product": "A100"}},
            "status": {"allocatable": {"cpu": "3920m", "memory": "2Ki", "nvidia.com/gpu": "8", "pods": "110"},
                "conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .unwrap();
        assert_eq!((node.is_usable(), node.gpu_type()), (true, "A100"));
        assert_eq!(*node.allocatable(&resources), [3_920, 2_048, 8_000]);
    }
}
