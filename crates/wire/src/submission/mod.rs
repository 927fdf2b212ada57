//! The one versioned document that producers send, through whichever door.
//!
//! The types here are the schema (docs/schemas/submission.v1.json) and what clients build. Reading goes
//! through the [`reader`](self), not through serde: serde stops at the first error and names no path, while a
//! producer that fires and forgets must get everything at once. Tests hold the two together: whatever the
//! reader accepts, the types accept, and both know the same fields.

mod faults;
mod ray_cluster;
mod reader;
mod sections;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

pub(crate) use faults::{Faults, nearest, quote};
pub use ray_cluster::{RayCluster, Workers};
pub(crate) use reader::{Draft, is_key, read};

/// The only version of the document there is.
pub const VERSION: u32 = 1;

/// A Ray job to be kept until it is done. A field that is left out (or null) takes the installation's default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Switchyard submission, version 1")]
pub struct Submission {
    /// The version of this document: 1.
    #[schemars(extend("const" = 1))]
    pub v: u32,
    /// Who is charged: a DNS label (1 to 63 of a-z, 0-9 and '-').
    #[schemars(regex(pattern = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"))]
    pub team: String,
    /// Your own name for this submission, unique within the team for ever: the same document under the same
    /// key is the same job, another document is a conflict. Visible ASCII. Default: made from the message's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1), regex(pattern = "^[!-~]+$"))]
    pub key: Option<String>,
    /// For people. Default: the key, or the beginning of the entrypoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub name: Option<String>,
    /// The shell command to run on the cluster.
    #[schemars(length(min = 1))]
    pub entrypoint: String,
    /// Ray's runtime environment, handed on as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub runtime_env: Option<Map<String, Value>>,
    /// What the job is charged and what its cluster must have free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// The Ray cluster that it wants to itself, where clusters are made per job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ray_cluster: Option<RayCluster>,
    /// Its place inside the team's queue: higher is earlier. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1000, max = 1000))]
    pub priority: Option<i64>,
    /// The name of one of the installation's priority classes: its priority is the job's. Not together with `priority`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"))]
    pub priority_class: Option<String>,
    /// Where it may run. Default: anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clusters: Option<Clusters>,
    /// What happens when it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Its clocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// Your own notes, handed to the cluster. Keys must not begin with `yard.`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
}

/// What a job asks for. A resource that is left out takes the installation's default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// CPUs, at most 3 decimals; 0 is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub cpu: Option<f64>,
    /// GPUs, at most 3 decimals; 0 is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub gpu: Option<f64>,
    /// Memory: bytes as a number, or a text with a unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Ray's custom resources by name, at most 3 decimals, above 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<BTreeMap<String, f64>>,
}

/// An amount of memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(untagged)]
pub enum Memory {
    /// In bytes.
    Bytes(#[schemars(range(min = 1))] u64),
    /// With a unit: B, KiB, MiB, GiB or TiB (powers of 1024).
    Text(#[schemars(regex(pattern = r"^\s*[0-9]+(\.[0-9]+)?\s*(B|KiB|MiB|GiB|TiB)?\s*$"))] String),
}

/// Where a job may run: on clusters that are named and that have all the labels.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Clusters {
    /// Only on these clusters; empty is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<Vec<String>>,
    /// Not on these clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avoid: Option<Vec<String>>,
    /// Only on clusters that have every one of these labels with this value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Rather on clusters that have these labels with this value: it counts in the choice, and keeps none out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefer: Option<BTreeMap<String, String>>,
}

/// What happens when a job fails.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Retries (not attempts) after failures of the job's own. Lost clusters and failed launches are retried
    /// at the installation's cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
}

/// A job's clocks, in whole seconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    /// Longest wait in the queue, anew after each attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub queue_s: Option<u64>,
    /// Longest run of one attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub run_s: Option<u64>,
}

impl Submission {
    /// The least there can be: a team and a command.
    pub fn new(team: impl Into<String>, entrypoint: impl Into<String>) -> Self {
        Self {
            v: VERSION,
            team: team.into(),
            key: None,
            name: None,
            entrypoint: entrypoint.into(),
            runtime_env: None,
            resources: None,
            ray_cluster: None,
            priority: None,
            priority_class: None,
            clusters: None,
            retry: None,
            timeouts: None,
            metadata: None,
        }
    }
}

/// The JSON schema of [`Submission`], as docs/schemas/submission.v1.json holds it.
pub fn schema() -> Value {
    schemars::schema_for!(Submission).to_value()
}

#[cfg(test)]
mod tests;
