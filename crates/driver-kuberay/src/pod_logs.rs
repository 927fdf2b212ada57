//! What the containers of an attempt's pods have printed, through the API server: the end of each, under a line that says
//! whose it is.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use serde::Deserialize;
use yard_domain::RemoteName;
use yard_ports::{DriverError, PodLog};

use crate::client::{Call, CallError};
use crate::cluster::Cluster;
use crate::evidence::List;

/// Containers of one pod that are read: Ray's own, and what stands beside it.
const CONTAINERS_MAX: usize = 4;
/// Logs of one attempt that are read at once.
const AT_ONCE: usize = 4;
/// Lines are asked for, bytes are meant: so many bytes are thought to be a line at first.
const LINE_BYTES: usize = 16;
/// An answer may have so many times the bytes that are kept of it; lines are longer than thought then.
const ROOM: usize = 16;
/// Most bytes of one kind's logs together.
const DOCUMENT_MAX: usize = 32 << 20;
/// With fewer and fewer lines, so often.
const TRIES_MAX: u32 = 5;

/// A pod, as far as its logs need it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Pod {
    metadata: Meta,
    status: Status,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Meta {
    name: String,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: String,
    container_statuses: Vec<Container>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    name: String,
    restart_count: u32,
}

/// One container's log that is to be read.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    pod: String,
    container: String,
    /// The container before its last restart: what it died of is there.
    previous: bool,
}

impl Pod {
    fn kind(&self) -> PodLog {
        match self.metadata.labels.get("ray.io/node-type").map(String::as_str) {
            Some("head") => PodLog::Head,
            Some("worker") => PodLog::Workers,
            _ => PodLog::Submitter,
        }
    }

    fn wanted(&self) -> impl Iterator<Item = Wanted> {
        self.status.container_statuses.iter().take(CONTAINERS_MAX).flat_map(|container| {
            let of = |previous| Wanted {
                pod: self.metadata.name.clone(),
                container: container.name.clone(),
                previous,
            };
            (container.restart_count > 0).then(|| of(true)).into_iter().chain([of(false)])
        })
    }
}

/// The logs of these kinds of pods; a kind of which there is no pod is left out. What of them can't be read says so in its
/// place: one dead node must not hide the others.
pub(crate) async fn read(
    cluster: &Cluster,
    name: &RemoteName,
    kinds: &[PodLog],
) -> Result<Vec<(PodLog, Bytes)>, DriverError> {
    let pods = pods(cluster, name).await?;
    let mut found = Vec::new();
    for kind in kinds {
        let mine: Vec<&Pod> = pods.iter().filter(|pod| pod.kind() == *kind).collect();
        if !mine.is_empty() {
            found.extend(document(cluster, &mine).await.map(|text| (*kind, text)));
        }
    }
    Ok(found)
}

async fn pods(cluster: &Cluster, name: &RemoteName) -> Result<Vec<Pod>, DriverError> {
    let Some((job, attempt)) = RemoteName::parse(name.as_str()) else { return Ok(Vec::new()) };
    let config = &cluster.config;
    let path = format!(
        "/api/v1/namespaces/{}/pods?limit=500&labelSelector=yard.job%3D{job}%2Cyard.attempt%3D{attempt}",
        config.namespace
    );
    let mut pods: List<Pod> = cluster.api.read(Call::get("pods", &path, config.call_timeout)).await?;
    pods.items.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    Ok(pods.items)
}

/// `None` if all of it has gone since the pods were listed: what was kept of it before is more.
async fn document(cluster: &Cluster, pods: &[&Pod]) -> Option<Bytes> {
    let most = cluster.config.pod_log_pods_max;
    let mut whole = BytesMut::new();
    for pod in pods.iter().take(most).filter(|pod| pod.status.container_statuses.is_empty()) {
        let phase = if pod.status.phase.is_empty() { "Pending" } else { &pod.status.phase };
        whole.extend_from_slice(
            line(&format!("pod {} is {phase}: it has no log", pod.metadata.name)).as_bytes(),
        );
    }
    let wanted: Vec<Wanted> = pods.iter().take(most).flat_map(|pod| pod.wanted()).collect();
    let (all, mut gone) = (wanted.len(), 0);
    let mut parts = stream::iter(wanted).map(|wanted| part(cluster, wanted)).buffered(AT_ONCE);
    while let Some(part) = parts.next().await {
        let Some(part) = part else {
            gone += 1;
            continue;
        };
        if whole.len() + part.len() > DOCUMENT_MAX {
            whole.extend_from_slice(
                line(&format!("the rest is left out: {DOCUMENT_MAX} bytes are the limit")).as_bytes(),
            );
            return Some(whole.freeze());
        }
        whole.extend_from_slice(&part);
    }
    if gone > 0 {
        if gone == all {
            return None;
        }
        whole.extend_from_slice(line(&format!("{gone} logs are gone")).as_bytes());
    }
    if pods.len() > most {
        let left = pods.len() - most;
        whole.extend_from_slice(
            line(&format!("{left} more pods are not read: {most} is the limit")).as_bytes(),
        );
    }
    Some(whole.freeze())
}

/// A line of ours.
fn line(text: &str) -> String {
    format!("--- {text} ---\n")
}

/// `None` if it is gone.
async fn part(cluster: &Cluster, wanted: Wanted) -> Option<BytesMut> {
    let Wanted { pod, container, previous } = &wanted;
    let before = if *previous { ", before its last restart" } else { "" };
    let whose = format!("pod {pod}, container {container}{before}");
    let mut part = BytesMut::new();
    match end_of(cluster, &wanted).await {
        Ok((bytes, whole)) => {
            let end = if whole { String::new() } else { format!(": its last {} bytes", bytes.len()) };
            part.extend_from_slice(line(&format!("{whose}{end}")).as_bytes());
            part.extend_from_slice(&bytes);
            if bytes.last().is_some_and(|last| *last != b'\n') {
                part.extend_from_slice(b"\n");
            }
        }
        Err(DriverError::NotFound) => return None,
        Err(error) => {
            metrics::counter!("yard_kuberay_pod_logs_unread_total").increment(1);
            tracing::warn!(pod, container, %error, "the log of a pod can't be read");
            part.extend_from_slice(line(&format!("{whose}: {}", unread(&error))).as_bytes());
        }
    }
    Some(part)
}

/// Why there is nothing, for whoever may read the job's log: the API server's own words may hold addresses.
fn unread(error: &DriverError) -> &'static str {
    match error {
        DriverError::Refused(_) => "it has no log (yet)",
        DriverError::Unauthorized(_) => "it may not be read: the right to get pods/log is missing",
        _ => "it could not be read",
    }
}

/// The end of a container's log, and whether that is all of it. Kubernetes can count lines from the end, bytes only from the
/// beginning of those: when lines are longer than thought, fewer are asked for.
async fn end_of(cluster: &Cluster, wanted: &Wanted) -> Result<(Bytes, bool), DriverError> {
    let config = &cluster.config;
    let keep = config.pod_log_bytes_max.max(1);
    let (mut lines, room) = ((keep / LINE_BYTES).max(1), keep.saturating_mul(ROOM));
    for _ in 0..TRIES_MAX {
        let Wanted { pod, container, previous } = wanted;
        let path = format!(
            "/api/v1/namespaces/{}/pods/{pod}/log?container={container}&previous={previous}&tailLines={lines}&limitBytes={room}",
            config.namespace
        );
        let call = Call::get("pod_log", &path, config.list_timeout);
        let bytes = match cluster.api.call(call).await {
            Ok(bytes) => bytes,
            // Rotated away, or the runtime has thrown it out.
            Err(CallError::Refusal(refusal))
                if *previous && refusal.status == http::StatusCode::BAD_REQUEST =>
            {
                return Err(DriverError::NotFound);
            }
            Err(error) => return Err(error.into()),
        };
        if bytes.len() < room || lines == 1 {
            let given = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()).count();
            let whole = given < lines && bytes.len() <= keep;
            return Ok((bytes.slice(bytes.len().saturating_sub(keep)..), whole));
        }
        lines = (lines / (2 * ROOM)).max(1);
    }
    Err(DriverError::Refused("its lines are too long".to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(label: &str, containers: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "labels": {"ray.io/node-type": label}},
            "status": {"phase": "Running", "containerStatuses": containers}}))
        .unwrap()
    }

    #[test]
    fn each_pod_is_of_a_kind_and_what_was_restarted_is_read_twice() {
        let head = pod("head", &json!([{"name": "ray-head", "restartCount": 1}, {"name": "autoscaler"}]));
        let wanted: Vec<_> = head.wanted().map(|w| (w.container, w.previous)).collect();
        let own = |name: &str, previous| (name.to_owned(), previous);
        assert_eq!(wanted, [own("ray-head", true), own("ray-head", false), own("autoscaler", false)]);
        let none = json!([]);
        let kinds = [head, pod("worker", &none), Pod::default()].map(|pod| pod.kind());
        assert_eq!(kinds, PodLog::ALL);
    }
}
