//! The document as it is stored: canonical JSON of a submission with every default filled in, so that what a job runs
//! under stays what it was when the installation's defaults change.
//!
//! It is written straight from the job's parts, once per job on the way in. Fields are in the order of their names,
//! as the canonical form wants it; a test holds both together, and to the schema.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;
use yard_domain::{ClusterId, JobSpec, Request};

use crate::canonical::{CanonicalMap, CanonicalNumber};
use crate::quantity::{exact_memory_text, milli_number};
use crate::submission::{Memory, RayCluster, Retry, Timeouts, VERSION};

/// The stored document of a job.
pub(crate) fn effective_document(team: &str, key: &str, spec: &JobSpec) -> String {
    let ray_cluster =
        spec.ray_cluster.as_ref().and_then(|shape| match serde_json::to_value(RayCluster::of(shape)) {
            Ok(Value::Object(map)) => Some(map),
            _ => None,
        });
    let full = Effective {
        clusters: Clusters {
            avoid: names(&spec.clusters.avoid),
            labels: Some(&spec.clusters.labels).filter(|labels| !labels.is_empty()),
            only: names(&spec.clusters.only),
            prefer: Some(&spec.clusters.prefer).filter(|labels| !labels.is_empty()),
        },
        entrypoint: &spec.entrypoint,
        key,
        metadata: &spec.metadata,
        name: &spec.name,
        priority: spec.priority.get(),
        ray_cluster: ray_cluster.as_ref().map(CanonicalMap),
        resources: resources(&spec.request),
        retry: Retry { max_retries: Some(spec.retry.max_retries) },
        runtime_env: CanonicalMap(&spec.runtime_env),
        team,
        timeouts: Timeouts {
            queue_s: Some(spec.timeouts.queue.as_secs()),
            run_s: Some(spec.timeouts.run.as_secs()),
        },
        v: VERSION,
    };
    // Maps with text keys and finite numbers only: this always has a JSON form.
    serde_json::to_string(&full).unwrap_or_default()
}

fn names(clusters: &BTreeSet<ClusterId>) -> Option<Vec<String>> {
    (!clusters.is_empty()).then(|| clusters.iter().map(ToString::to_string).collect())
}

fn resources(request: &Request) -> Resources<'_> {
    let bytes = request.memory_bytes;
    let memory = (bytes > 0).then(|| exact_memory_text(bytes).map_or(Memory::Bytes(bytes), Memory::Text));
    let number = |milli: &u64| CanonicalNumber(milli_number(*milli));
    let custom: BTreeMap<_, _> =
        request.custom_milli.iter().map(|(name, m)| (name.as_str(), number(m))).collect();
    Resources {
        cpu: number(&request.cpu_milli),
        custom: (!custom.is_empty()).then_some(custom),
        gpu: number(&request.gpu_milli),
        memory,
    }
}

#[derive(Serialize)]
struct Effective<'a> {
    clusters: Clusters<'a>,
    entrypoint: &'a str,
    key: &'a str,
    metadata: &'a BTreeMap<String, String>,
    name: &'a str,
    priority: i16,
    #[serde(skip_serializing_if = "Option::is_none")]
    ray_cluster: Option<CanonicalMap<'a>>,
    resources: Resources<'a>,
    retry: Retry,
    runtime_env: CanonicalMap<'a>,
    team: &'a str,
    timeouts: Timeouts,
    v: u32,
}

#[derive(Serialize)]
struct Resources<'a> {
    cpu: CanonicalNumber,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom: Option<BTreeMap<&'a str, CanonicalNumber>>,
    gpu: CanonicalNumber,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
}

#[derive(Serialize)]
struct Clusters<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    avoid: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<&'a BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    only: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefer: Option<&'a BTreeMap<String, String>>,
}
