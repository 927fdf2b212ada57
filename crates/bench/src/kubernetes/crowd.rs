//! Many nodes, and pods on them, as a large cluster has them; and the coming and going of pods.

use std::time::{Duration, Instant};

use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams};
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use super::place::{IN_FLIGHT, Place, at_once, read};
use super::{node_label, wait};
use crate::Result;
use crate::stats::rate;

/// The label of what is made here, beside that of the namespace.
const LABEL: &str = "yard-bench";
/// Of a node, and of each pod, in thousandths of a CPU.
const NODE_CPU_MILLI: u64 = 64_000;
pub const POD_CPU_MILLI: u64 = 500;
/// Parts in which pods are deleted, side by side.
const SHARDS: usize = 8;
/// One of so many nodes has GPUs; one of so many pods is Switchyard's.
const GPU_EVERY: usize = 4;
const OURS_EVERY: usize = 10;
/// Pods of a node with GPUs that have one each.
const GPU_PODS: usize = 4;
/// Changes per second.
pub const CHURN: u32 = 50;

/// See the module.
pub struct Crowd<'a> {
    place: &'a Place,
    nodes: usize,
    pods: usize,
}

/// How fast it was made, and how long the text of one pod is.
pub struct Made {
    pub per_s: f64,
    pub pod_bytes: usize,
}

impl<'a> Crowd<'a> {
    pub fn new(place: &'a Place, nodes: usize, pods: usize) -> Self {
        Self { place, nodes: nodes.max(1), pods }
    }

    /// Makes all of it.
    pub async fn make(&self) -> Result<Made> {
        let accounts = self.place.api("v1", "ServiceAccount", true);
        wait(async || Ok(accounts.get_opt("default").await?.is_some())).await?;
        let (nodes, pods) = (self.place.api("v1", "Node", false), self.pods_api());
        let began = Instant::now();
        at_once((0..self.nodes).map(|i| create(&nodes, self.node(i)))).await?;
        at_once((0..self.pods).map(|i| create(&pods, self.pod(i)))).await?;
        let per_s = rate(self.nodes + self.pods, began.elapsed());
        let first = pods.get("pod-0").await?;
        Ok(Made { per_s, pod_bytes: serde_json::to_string(&first)?.len() })
    }

    /// Takes all of it away.
    pub async fn unmake(&self) -> Result<()> {
        let pods = self.pods_api();
        at_once((0..SHARDS).map(|shard| delete_all(&pods, format!("{LABEL}={shard}")))).await?;
        delete_all(&self.place.api("v1", "Node", false), node_label(&self.place.namespace)).await
    }

    /// CPUs that there are for Switchyard's pods, in thousandths: all, less what pods of others have.
    pub fn cpu_milli(&self) -> u64 {
        let foreign = (0..self.pods).filter(|i| !is_ours(*i)).count() as u64;
        self.nodes as u64 * NODE_CPU_MILLI - foreign * POD_CPU_MILLI
    }

    fn pods_api(&self) -> Api<DynamicObject> {
        self.place.api("v1", "Pod", true)
    }

    fn node_name(&self, i: usize) -> String {
        format!("{}-{}", self.place.namespace, i % self.nodes)
    }

    fn node(&self, i: usize) -> Value {
        let mut labels = json!({
            "kubernetes.io/hostname": self.node_name(i), "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux",
            "topology.kubernetes.io/region": "region-1", "topology.kubernetes.io/zone": format!("zone-{}", i % 3),
            "node.kubernetes.io/instance-type": "large", LABEL: self.place.namespace,
        });
        let mut amounts = json!({
            "cpu": (NODE_CPU_MILLI / 1_000).to_string(), "memory": "257698037Ki", "pods": "110",
            "ephemeral-storage": "209702892Ki", "hugepages-1Gi": "0", "hugepages-2Mi": "0",
        });
        if let Some(kind) = gpu_kind(i) {
            labels["nvidia.com/gpu.product"] = json!(kind);
            amounts["nvidia.com/gpu"] = json!("8");
        }
        let condition = |kind: &str, status: &str| {
            json!({"type": kind, "status": status, "reason": "KubeletSays", "message": "as the kubelet says",
                "lastHeartbeatTime": "2026-11-25T00:00:00Z", "lastTransitionTime": "2026-11-25T00:00:00Z"})
        };
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": self.node_name(i), "labels": labels},
            "status": {
                "allocatable": amounts, "capacity": amounts,
                "conditions": [condition("MemoryPressure", "False"), condition("DiskPressure", "False"),
                    condition("PIDPressure", "False"), condition("Ready", "True")],
                "nodeInfo": {"architecture": "amd64", "bootID": "b", "containerRuntimeVersion": "containerd://2", "kernelVersion": "6",
                    "kubeProxyVersion": "", "kubeletVersion": "v1.36.0", "machineID": "m", "operatingSystem": "linux",
                    "osImage": "Linux", "systemUUID": "s"},
                "images": (0..10).map(|image| json!({"names": [format!("registry.example/image-{image}:1")], "sizeBytes": 1})).collect::<Vec<_>>(),
            },
        })
    }

    fn pod(&self, i: usize) -> Value {
        let node = i % self.nodes;
        let has_gpu = gpu_kind(node).is_some() && i / self.nodes < GPU_PODS;
        let mut pod = pod(&format!("pod-{i}"), &self.node_name(i), &(i % SHARDS).to_string(), has_gpu);
        if is_ours(i) {
            pod["metadata"]["labels"]["yard.instance"] = json!("00000000-0000-0000-0000-000000000000");
        }
        pod
    }

    /// Makes a pod of somebody else.
    pub async fn add(&self, name: &str, i: usize, label: &str) -> Result<()> {
        create(&self.pods_api(), pod(name, &self.node_name(i), label, false)).await
    }

    /// Takes a pod away.
    pub async fn remove(&self, name: &str) -> Result<()> {
        self.pods_api().delete(name, &DeleteParams::default().grace_period(0)).await?;
        Ok(())
    }

    /// Has pods come and go for this long, [`CHURN`] changes per second. How many there were.
    pub async fn churn(&self, span: Duration) -> Result<f64> {
        let began = Instant::now();
        let mut turn = tokio::time::interval(Duration::from_secs(2) / CHURN);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (prefix, mut made) = (uuid::Uuid::new_v4().simple(), 0);
        let name = |i: usize| format!("churn-{prefix}-{i}");
        // So many are there at once.
        let staying = IN_FLIGHT;
        while began.elapsed() < span {
            turn.tick().await;
            self.add(&name(made), made, "churn").await?;
            if let Some(oldest) = made.checked_sub(staying) {
                self.remove(&name(oldest)).await?;
            }
            made += 1;
        }
        let changes = rate(2 * made, began.elapsed());
        at_once((made.saturating_sub(staying)..made).map(|i| {
            let name = name(i);
            async move { self.remove(&name).await }
        }))
        .await?;
        Ok(changes)
    }
}

async fn create(api: &Api<DynamicObject>, object: Value) -> Result<()> {
    api.create(&PostParams::default(), &read(object)?).await?;
    Ok(())
}

async fn delete_all(api: &Api<DynamicObject>, label: String) -> Result<()> {
    let which = ListParams::default().labels(&label);
    wait(async || {
        // The API server gives up after a minute; what is left is asked for again.
        _ = api.delete_collection(&DeleteParams::default().grace_period(0), &which).await;
        Ok(api.list_metadata(&which.clone().limit(1)).await?.items.is_empty())
    })
    .await
}

/// The kind of GPU that a node has.
fn gpu_kind(node: usize) -> Option<&'static str> {
    let kinds = ["NVIDIA-A100-SXM4-80GB", "NVIDIA-H100-80GB-HBM3"];
    node.is_multiple_of(GPU_EVERY).then(|| kinds[node / GPU_EVERY % kinds.len()])
}

fn is_ours(pod: usize) -> bool {
    pod.is_multiple_of(OURS_EVERY)
}

/// A pod of a web service, as long as such are.
fn pod(name: &str, node: &str, shard: &str, has_gpu: bool) -> Value {
    let mut amounts = json!({"cpu": format!("{POD_CPU_MILLI}m"), "memory": "1Gi"});
    if has_gpu {
        amounts["nvidia.com/gpu"] = json!("1");
    }
    let env: Vec<Value> = (0..12)
        .map(|i| json!({"name": format!("SETTING_{i}"), "value": format!("https://service-{i}.example.svc.cluster.local:8443/v1")}))
        .collect();
    let probe =
        json!({"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 10, "failureThreshold": 3});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/name": "web", "app.kubernetes.io/instance": "web-1", "pod-template-hash": "6b8d9f5c77", LABEL: shard},
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "9090", "checksum/config": "0123456789abcdef0123456789abcdef"},
        },
        "spec": {
            "nodeName": node, "terminationGracePeriodSeconds": 0, "enableServiceLinks": false,
            "initContainers": [{"name": "prepare", "image": "registry.example/prepare:1.2.3", "resources": {"requests": {"cpu": "100m"}}}],
            "containers": [{
                "name": "web", "image": "registry.example/web:1.2.3", "args": ["--port=8080", "--config=/etc/web/config.yaml"], "env": env,
                "ports": [{"containerPort": 8080, "name": "http"}], "livenessProbe": probe, "readinessProbe": probe,
                "resources": {"requests": amounts, "limits": amounts},
                "volumeMounts": [{"name": "config", "mountPath": "/etc/web"}, {"name": "scratch", "mountPath": "/scratch"}],
            }],
            "volumes": [{"name": "config", "configMap": {"name": "web"}}, {"name": "scratch", "emptyDir": {}}],
            "tolerations": [{"key": "batch", "operator": "Exists", "effect": "NoSchedule"}],
        },
    })
}
