//! What is sent to Ray's Jobs interface and read from it: only the fields that matter here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;
use yard_domain::{InstanceId, RemoteName};
use yard_ports::LaunchRequest;

/// The metadata key that says whose a job is.
const INSTANCE: &str = "yard.instance";

/// The body of `POST /api/jobs/`.
#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "Ray's names")]
pub(crate) struct Submission<'a> {
    submission_id: &'a str,
    entrypoint: &'a str,
    runtime_env: Map<String, Value>,
    metadata: BTreeMap<&'a str, String>,
    #[serde(flatten)]
    resources: Option<EntrypointResources<'a>>,
}

#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "Ray's names")]
struct EntrypointResources<'a> {
    entrypoint_num_cpus: f64,
    entrypoint_num_gpus: f64,
    entrypoint_memory: u64,
    entrypoint_resources: BTreeMap<&'a str, f64>,
}

impl<'a> Submission<'a> {
    /// `request` as Ray takes it.
    pub(crate) fn new(request: &'a LaunchRequest, reserve_entrypoint: bool) -> Self {
        let mut metadata: BTreeMap<&str, String> =
            request.metadata.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        metadata.extend([
            (INSTANCE, request.instance.to_string()),
            ("yard.job", request.job.to_string()),
            ("yard.attempt", request.attempt.to_string()),
            ("yard.team", request.team.to_string()),
            ("yard.name", request.job_name.clone()),
        ]);
        Self {
            submission_id: request.name.as_str(),
            entrypoint: &request.entrypoint,
            runtime_env: runtime_env(request),
            metadata,
            resources: reserve_entrypoint.then(|| EntrypointResources::new(request)),
        }
    }
}

impl<'a> EntrypointResources<'a> {
    fn new(request: &'a LaunchRequest) -> Self {
        let asked = &request.request;
        let units = |milli: u64| milli as f64 / 1_000.0;
        Self {
            entrypoint_num_cpus: units(asked.cpu_milli),
            entrypoint_num_gpus: units(asked.gpu_milli),
            entrypoint_memory: asked.memory_bytes,
            entrypoint_resources: asked
                .custom_milli
                .iter()
                .map(|(name, milli)| (name.as_str(), units(*milli)))
                .collect(),
        }
    }
}

/// The runtime environment as given, with the variables that tell a command what it is. One whose `env_vars`
/// are not what Ray wants goes as it is: Ray says what is wrong with it.
fn runtime_env(request: &LaunchRequest) -> Map<String, Value> {
    let mut env = request.runtime_env.clone();
    let vars = env.entry("env_vars").or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(vars) = vars {
        let own = [
            ("YARD_JOB_ID", request.job.to_string()),
            ("YARD_ATTEMPT", request.attempt.to_string()),
            ("YARD_TEAM", request.team.to_string()),
            ("YARD_REMOTE_NAME", request.name.to_string()),
        ];
        vars.extend(own.map(|(name, value)| (name.to_owned(), Value::String(value))));
    }
    env
}

/// One job of `GET /api/jobs/` or `GET /api/jobs/{id}`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct JobDetails {
    /// `None` for drivers that were not submitted.
    pub(crate) submission_id: Option<String>,
    pub(crate) status: String,
    pub(crate) entrypoint: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) error_type: Option<String>,
    pub(crate) driver_exit_code: Option<i32>,
    pub(crate) metadata: Option<BTreeMap<String, Value>>,
}

impl JobDetails {
    /// Whether this is a trace of a job that is not there any more: what Ray keeps when something is still
    /// said of a job that was deleted.
    pub(crate) fn is_ghost(&self) -> bool {
        self.metadata.is_none() && self.entrypoint.as_deref() == Some("Entrypoint not found.")
    }

    /// Its name, if it is of Switchyard's form.
    pub(crate) fn name(&self) -> Option<RemoteName> {
        let (job, attempt) = RemoteName::parse(self.submission_id.as_deref()?)?;
        Some(RemoteName::new(job, attempt))
    }

    /// Whose it is, if it says so.
    pub(crate) fn instance(&self) -> Option<InstanceId> {
        let text = self.metadata.as_ref()?.get(INSTANCE)?.as_str()?;
        Uuid::try_parse(text).ok().map(InstanceId)
    }
}

/// The answer of `GET /api/jobs/{id}/logs`.
#[derive(Debug, Deserialize)]
pub(crate) struct Logs {
    pub(crate) logs: String,
}

/// The answer of `GET /api/v0/nodes`.
#[derive(Debug, Deserialize)]
pub(crate) struct Nodes {
    data: NodesData,
}

#[derive(Debug, Deserialize)]
struct NodesData {
    result: NodesResult,
}

#[derive(Debug, Deserialize)]
struct NodesResult {
    result: Vec<Node>,
}

/// A node.
#[derive(Debug, Deserialize)]
pub(crate) struct Node {
    pub(crate) state: String,
    pub(crate) resources_total: Option<BTreeMap<String, f64>>,
}

impl Nodes {
    pub(crate) fn into_nodes(self) -> Vec<Node> {
        self.data.result.result
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use yard_domain::{AttemptNumber, JobId, Request};

    use super::*;

    fn request() -> LaunchRequest {
        let job = JobId(Uuid::from_u128(7));
        LaunchRequest {
            name: RemoteName::new(job, AttemptNumber(2)),
            instance: InstanceId(Uuid::from_u128(9)),
            job,
            attempt: AttemptNumber(2),
            team: "ads".parse().unwrap(),
            job_name: "train".to_owned(),
            entrypoint: "python train.py".to_owned(),
            runtime_env: json!({"pip": ["x"], "env_vars": {"A": "B", "YARD_TEAM": "forged"}})
                .as_object()
                .unwrap()
                .clone(),
            request: Request {
                cpu_milli: 1_500,
                memory_bytes: 1 << 30,
                jobs: 1,
                custom_milli: BTreeMap::from([("fast".to_owned(), 500)]),
                ..Request::default()
            },
            ray_cluster: None,
            metadata: BTreeMap::from([
                ("k".to_owned(), "v".to_owned()),
                (INSTANCE.to_owned(), "forged".to_owned()),
            ]),
            run_timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn a_submission_carries_whose_it_is_and_what_it_may_use() {
        let sent = serde_json::to_value(Submission::new(&request(), true)).unwrap();
        assert_eq!(
            sent,
            json!({
                "submission_id": "yard-00000000000000000000000000000007-2",
                "entrypoint": "python train.py",
                "runtime_env": {"pip": ["x"], "env_vars": {
                    "A": "B", "YARD_TEAM": "ads", "YARD_ATTEMPT": "2", "YARD_JOB_ID": "00000000-0000-0000-0000-000000000007",
                    "YARD_REMOTE_NAME": "yard-00000000000000000000000000000007-2",
                }},
                "metadata": {
                    "k": "v", "yard.instance": "00000000000000000000000000000009", "yard.team": "ads", "yard.attempt": "2",
                    "yard.job": "00000000-0000-0000-0000-000000000007", "yard.name": "train",
                },
                "entrypoint_num_cpus": 1.5, "entrypoint_num_gpus": 0.0, "entrypoint_memory": 1 << 30,
                "entrypoint_resources": {"fast": 0.5},
            })
        );
        let free = serde_json::to_value(Submission::new(&request(), false)).unwrap();
        assert_eq!(free.get("entrypoint_num_cpus"), None);
    }

    #[test]
    fn jobs_of_others_have_no_name_or_no_instance() {
        let read = |value: Value| serde_json::from_value::<JobDetails>(value).unwrap();
        let driver =
            read(json!({"type": "DRIVER", "submission_id": null, "status": "RUNNING", "metadata": {}}));
        assert_eq!(driver.name(), None);
        assert_eq!(read(json!({"submission_id": "raysubmit_1", "status": "RUNNING"})).name(), None);
        let name = request().name;
        let ours = read(json!({"submission_id": name.as_str(), "status": "PENDING",
            "metadata": {INSTANCE: "00000000000000000000000000000009", "n": 1}}));
        assert_eq!((ours.name(), ours.instance()), (Some(name.clone()), Some(request().instance)));
        let forged = read(json!({"submission_id": name.as_str(), "status": "PENDING", "metadata": null}));
        assert_eq!((forged.name(), forged.instance()), (Some(name.clone()), None));
        let ghost = read(json!({"submission_id": name.as_str(), "status": "FAILED", "metadata": null,
            "entrypoint": "Entrypoint not found.", "error_type": "JOB_SUPERVISOR_ACTOR_DIED"}));
        assert!(ghost.is_ghost() && !ours.is_ghost() && !forged.is_ghost());
    }
}
