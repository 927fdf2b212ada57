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
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

pub(crate) use faults::{Faults, nearest, quote};
pub use ray_cluster::{RayCluster, Workers};
pub(crate) use reader::{Draft, is_key, read};

/// The only version of the document there is.
pub const VERSION: u32 = 1;

// What texts may be, as the reader sees it. Bounds that are configuration stand in the schema with their defaults.
/// A DNS label.
const LABEL: &str = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$";
/// One line with something to see on it.
const VISIBLE_LINE: &str = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$";
/// Something that a shell can take.
const COMMAND: &str = r"^[^\x00]*[^\s\x00][^\x00]*$";
/// Names that are no custom resource's.
const TAKEN: &str = "^([cC][pP][uU]|[gG][pP][uU]|[mM][eE][mM][oO][rR][yY]|[jJ][oO][bB][sS]|\
                     [oO][bB][jJ][eE][cC][tT]_[sS][tT][oO][rR][eE]_[mM][eE][mM][oO][rR][yY])$";
/// The name of a custom resource.
fn custom_name() -> Value {
    json!({"pattern": "^[A-Za-z0-9_.:/-]{1,63}$", "not": {"pattern": TAKEN}})
}

/// How much of a custom resource.
fn custom_amount() -> Value {
    json!({"type": "number", "exclusiveMinimum": 0, "maximum": 1_000_000, "multipleOf": 0.001})
}

/// Above zero, at most 1 PiB or nearly so, and with whole bytes: of a KiB, eighths are.
const AMOUNT: &str = concat!(
    r"^\s*(0*[1-9][0-9]{0,14}(\.0+)?(\s*B)?",
    r"|((0*[1-9][0-9]{0,11}(\.(0+|(125|25|375|5|625|75|875)0*))?|0+\.(125|25|375|5|625|75|875)0*)\s*KiB)",
    r"|((0*[1-9][0-9]{0,8}(\.(0+|(125|25|375|5|625|75|875)0*))?|0+\.(125|25|375|5|625|75|875)0*)\s*MiB)",
    r"|((0*[1-9][0-9]{0,5}(\.(0+|(125|25|375|5|625|75|875)0*))?|0+\.(125|25|375|5|625|75|875)0*)\s*GiB)",
    r"|((0*[1-9][0-9]{0,2}(\.(0+|(125|25|375|5|625|75|875)0*))?|0+\.(125|25|375|5|625|75|875)0*)\s*TiB))\s*$",
);

/// A label or its value.
fn short_text() -> Value {
    json!({"type": "string", "maxLength": 63, "pattern": r"^[^\x00-\x1f\x7f-\x9f]*$"})
}

/// A Ray job to be kept until it is done. A field that is left out (or null) takes the installation's default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    title = "Switchyard submission, version 1",
    // Fields that are null count as left out.
    extend("not" = json!({
        "required": ["priority", "priority_class"],
        "properties": {"priority": {"type": "integer"}, "priority_class": {"type": "string"}},
    })),
)]
pub struct Submission {
    /// The version of this document: 1.
    #[schemars(extend("const" = 1))]
    pub v: u32,
    /// Who is charged: a DNS label (1 to 63 of a-z, 0-9 and '-').
    #[schemars(regex(pattern = LABEL))]
    pub team: String,
    /// Your own name for this submission, unique within the team for ever: the same document under the same
    /// key is the same job, another document is a conflict. Visible ASCII. Default: made from the message's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200), regex(pattern = "^[!-~]+$"))]
    pub key: Option<String>,
    /// For people. Default: the key, or the beginning of the entrypoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200), regex(pattern = VISIBLE_LINE))]
    pub name: Option<String>,
    /// The shell command to run on the cluster.
    #[schemars(length(min = 1, max = 65536), regex(pattern = COMMAND))]
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
    #[schemars(regex(pattern = LABEL))]
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
    #[schemars(extend(
        "maxProperties" = 64,
        "propertyNames" = json!({"minLength": 1, "maxLength": 128, "not": {"pattern": r"^yard\."}}),
        "additionalProperties" = json!({"type": "string", "maxLength": 4096}),
    ))]
    pub metadata: Option<BTreeMap<String, String>>,
}

/// What a job asks for. A resource that is left out takes the installation's default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// CPUs, at most 3 decimals; 0 is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000), extend("multipleOf" = 0.001))]
    pub cpu: Option<f64>,
    /// GPUs, at most 3 decimals; 0 is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000), extend("multipleOf" = 0.001))]
    pub gpu: Option<f64>,
    /// Memory: bytes as a number, or a text with a unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Ray's custom resources by name, at most 3 decimals, above 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend(
        "maxProperties" = 32,
        "propertyNames" = custom_name(),
        "additionalProperties" = custom_amount(),
    ))]
    pub custom: Option<BTreeMap<String, f64>>,
}

/// An amount of memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(untagged)]
pub enum Memory {
    /// In bytes.
    Bytes(#[schemars(range(min = 1, max = 1_125_899_906_842_624_u64))] u64),
    /// With a unit: B, KiB, MiB, GiB or TiB (powers of 1024). It must come to a whole number of bytes.
    Text(#[schemars(regex(pattern = AMOUNT))] String),
}

/// Where a job may run: on clusters that are named and that have all the labels.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Clusters {
    /// Only on these clusters; empty is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(regex(pattern = LABEL)))]
    pub only: Option<Vec<String>>,
    /// Not on these clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(regex(pattern = LABEL)))]
    pub avoid: Option<Vec<String>>,
    /// Only on clusters that have every one of these labels with this value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32, "propertyNames" = short_text(), "additionalProperties" = short_text()))]
    pub labels: Option<BTreeMap<String, String>>,
    /// Rather on clusters that have these labels with this value: it counts in the choice, and keeps none out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32, "propertyNames" = short_text(), "additionalProperties" = short_text()))]
    pub prefer: Option<BTreeMap<String, String>>,
}

/// What happens when a job fails.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Retries (not attempts) after failures of the job's own. Lost clusters and failed launches are retried
    /// at the installation's cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub max_retries: Option<u32>,
}

/// A job's clocks, in whole seconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    /// Longest wait in the queue, anew after each attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 7_776_000))]
    pub queue_s: Option<u64>,
    /// Longest run of one attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_592_000))]
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

/// The same for an OpenAPI document: each type's schema by its name.
pub fn components() -> Vec<(String, Value)> {
    let text = schema().to_string().replace("#/$defs/", "#/components/schemas/");
    let Ok(Value::Object(mut whole)) = serde_json::from_str(&text) else { return Vec::new() };
    let parts = whole.remove("$defs");
    for name in ["$schema", "title"] {
        whole.remove(name);
    }
    let mut components = vec![("Submission".to_owned(), Value::Object(whole))];
    if let Some(Value::Object(parts)) = parts {
        components.extend(parts);
    }
    components
}

#[cfg(test)]
mod tests;
