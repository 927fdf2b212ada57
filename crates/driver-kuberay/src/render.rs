//! From a profile and a launch to the RayJob that is created. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};
use yard_domain::{
    AttemptNumber, InstanceId, JobId, PodDemand, PodFault, PodShares, RayClusterShape, RemoteName, Request,
};
use yard_ports::LaunchRequest;

use crate::quantity::cpu_text;
use crate::template::{Parts, Profile, SubmissionMode, Template};

/// The label that says whose a RayJob is; every one with it is of Switchyard's making.
pub(crate) const INSTANCE: &str = "yard.instance";
pub(crate) const JOB: &str = "yard.job";
pub(crate) const ATTEMPT: &str = "yard.attempt";
/// The annotation that says that somebody has asked for it to be stopped, and when (seconds since the epoch).
pub(crate) const STOP_ASKED: &str = "yard.stop-asked";

/// The annotation of a RayCluster (it has its RayJob's) by which the operator makes no new head for one that stood and died:
/// in `HTTPMode` it would submit the job to that once more, and an attempt runs at most once. KubeRay knows it from 1.6 on.
const KEEP_DEAD_HEADS_DEAD: &str = "ray.io/disable-provisioned-head-restart";

/// The error about a profile that isn't there, though the rules have let it pass.
const NO_PROFILE: &str = "the template lacks a profile that it names";
/// Longest name of a RayJob: the operator's bound.
const NAME_MAX: usize = 47;
/// Longest deadline that the CRD's 32 bits hold.
const SECONDS_MAX: u64 = i32::MAX as u64;

/// The RayJob of a launch, in `namespace`. `Err` says what of the launch the cluster can't honour.
pub(crate) fn render(template: &Template, namespace: &str, launch: &LaunchRequest) -> Result<Value, String> {
    let none = RayClusterShape::default();
    let shape = launch.ray_cluster.as_ref().unwrap_or(&none);
    if launch.name.as_str().len() > NAME_MAX {
        return Err(format!("the name {} has more than the operator's {NAME_MAX} characters", launch.name));
    }
    // Packages have been replaced by links before, where there are links.
    let demand = PodDemand::of(launch.ray_cluster.as_ref(), false);
    let shares = template.rules.cut(demand.as_ref(), &launch.request).map_err(|faults| all(&faults))?;
    let profile = template.profile(shape.profile.as_deref()).ok_or(NO_PROFILE)?;
    let plan = Plan { profile, shape, launch, shares };
    Ok(json!({
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {
            "name": launch.name.as_str(),
            "namespace": namespace,
            "labels": labels(launch),
            "annotations": {"yard.name": launch.job_name, KEEP_DEAD_HEADS_DEAD: "true"},
        },
        "spec": plan.spec(),
    }))
}

/// The longest that an attempt can be there. Counted from the RayJob's start, so the time until it runs is added to the
/// job's own.
fn longest(profile: &Profile, launch: &LaunchRequest) -> Duration {
    launch.run_timeout.max(Duration::from_secs(1)).saturating_add(profile.pre_running_deadline)
}

/// The longest that the attempt of this launch can be there.
pub(crate) fn longest_life(template: &Template, launch: &LaunchRequest) -> Result<Duration, String> {
    let named = launch.ray_cluster.as_ref().and_then(|shape| shape.profile.as_deref());
    Ok(longest(template.profile(named).ok_or(NO_PROFILE)?, launch))
}

fn all(faults: &[PodFault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A RayJob of each profile, for the API server to look at.
pub(crate) fn samples(template: &Template, namespace: &str) -> Vec<Value> {
    let sample = |name: &String| {
        let (job, attempt) = (JobId(uuid::Uuid::nil()), AttemptNumber(1));
        let launch = LaunchRequest {
            name: RemoteName::new(job, attempt),
            instance: InstanceId(uuid::Uuid::nil()),
            job,
            attempt,
            team: "sample".parse().ok()?,
            job_name: "sample".to_owned(),
            entrypoint: "true".to_owned(),
            runtime_env: Map::new(),
            request: Request { cpu_milli: 1_000_000, memory_bytes: 1 << 40, jobs: 1, ..Request::default() },
            ray_cluster: Some(RayClusterShape { profile: Some(name.clone()), ..RayClusterShape::default() }),
            metadata: BTreeMap::new(),
            run_timeout: Duration::from_mins(1),
        };
        render(template, namespace, &launch).ok()
    };
    template.profiles.keys().filter_map(sample).collect()
}

/// All that a RayJob is made from.
struct Plan<'a> {
    profile: &'a Profile,
    shape: &'a RayClusterShape,
    launch: &'a LaunchRequest,
    shares: PodShares,
}

impl Plan<'_> {
    fn spec(&self) -> Value {
        let longest = longest(self.profile, self.launch);
        let mut spec = json!({
            "entrypoint": self.launch.entrypoint,
            "jobId": self.launch.name.as_str(),
            "runtimeEnvYAML": Value::Object(runtime_env(self.launch)).to_string(),
            "metadata": self.metadata(),
            "submissionMode": self.profile.submission_mode.name(),
            "backoffLimit": 0,
            "shutdownAfterJobFinishes": true,
            "ttlSecondsAfterFinished": self.profile.ttl.as_secs(),
            "activeDeadlineSeconds": longest.as_secs().min(SECONDS_MAX),
            "preRunningDeadlineSeconds": self.profile.pre_running_deadline.as_secs(),
            "rayClusterSpec": self.ray_cluster(),
        });
        if self.profile.submission_mode == SubmissionMode::K8sJob {
            spec["submitterPodTemplate"] = self.submitter();
            // A submitter that is tried again could submit the job again after its head has died.
            spec["submitterConfig"] = json!({"backoffLimit": 0});
        }
        spec
    }

    fn metadata(&self) -> BTreeMap<&str, String> {
        let launch = self.launch;
        let mut metadata: BTreeMap<&str, String> =
            launch.metadata.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        metadata.extend([
            (INSTANCE, launch.instance.to_string()),
            (JOB, launch.job.to_string()),
            (ATTEMPT, launch.attempt.to_string()),
            ("yard.team", launch.team.to_string()),
            ("yard.name", launch.job_name.clone()),
        ]);
        metadata
    }

    fn ray_cluster(&self) -> Value {
        let mut cluster = Map::new();
        if let Some(version) = &self.profile.ray_version {
            cluster.insert("rayVersion".to_owned(), json!(version));
        }
        cluster.insert(
            "headGroupSpec".to_owned(),
            json!({
                "rayStartParams": start_params(&[&self.profile.all, &self.profile.head], &self.shares.head),
                "template": self.pod("ray-head", &[&self.profile.all, &self.profile.head], &self.shares.head, None),
            }),
        );
        let Some(workers) = &self.shape.workers else { return Value::Object(cluster) };
        if workers.is_elastic() {
            let idle_s = self.profile.idle_timeout.as_secs();
            cluster.insert("enableInTreeAutoscaling".to_owned(), json!(true));
            let resources = self.resources(&self.shares.autoscaler, None);
            cluster.insert(
                "autoscalerOptions".to_owned(),
                json!({"idleTimeoutSeconds": idle_s, "resources": resources}),
            );
        }
        let parts = [&self.profile.all, &self.profile.worker];
        cluster.insert(
            "workerGroupSpecs".to_owned(),
            json!([{
                "groupName": "workers",
                "replicas": workers.min,
                "minReplicas": workers.min,
                "maxReplicas": workers.max,
                "rayStartParams": start_params(&parts, &self.shares.worker),
                "template": self.pod("ray-worker", &parts, &self.shares.worker, workers.gpu_type.as_deref()),
            }]),
        );
        Value::Object(cluster)
    }

    fn submitter(&self) -> Value {
        let mut template =
            self.pod("ray-job-submitter", &[&self.profile.submitter_pod], &self.shares.submitter, None);
        template["spec"]["restartPolicy"] = json!("Never");
        template
    }

    fn pod(&self, container: &str, parts: &[&Parts], share: &Request, gpu_type: Option<&str>) -> Value {
        let kind = gpu_type.and_then(|name| self.profile.gpu_types.get(name));
        let (mut pod, mut main) = (Map::new(), Map::new());
        for part in parts {
            merge(&mut pod, &part.pod);
            merge(&mut main, &part.container);
        }
        if let Some(kind) = kind {
            merge(&mut pod, &kind.pod);
        }
        let job_env = Map::from_iter([("env".to_owned(), self.env())]);
        merge(&mut main, &job_env);
        main.insert("name".to_owned(), json!(container));
        main.insert("image".to_owned(), json!(self.shape.image.as_ref().unwrap_or(&self.profile.image)));
        main.insert(
            "resources".to_owned(),
            self.resources(share, kind.and_then(|kind| kind.resource.as_deref())),
        );
        pod.insert("containers".to_owned(), json!([main]));
        json!({"metadata": {"labels": labels(self.launch)}, "spec": pod})
    }

    fn env(&self) -> Value {
        self.shape.env.iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
    }

    /// Requests are the share. Memory and extended resources are also the limit; CPUs may be borrowed when they are idle.
    fn resources(&self, share: &Request, gpu_resource: Option<&str>) -> Value {
        let (mut requests, mut limits) = (Map::new(), Map::new());
        let mut bound = |name: &str, amount: String| {
            requests.insert(name.to_owned(), json!(amount));
            limits.insert(name.to_owned(), json!(amount));
        };
        if share.memory_bytes > 0 {
            bound("memory", share.memory_bytes.to_string());
        }
        if share.gpu_milli > 0 {
            bound(gpu_resource.unwrap_or(&self.profile.gpu_resource), (share.gpu_milli / 1_000).to_string());
        }
        for (name, milli) in &share.custom_milli {
            if let Some(resource) = self.profile.custom_resources.get(name) {
                bound(resource, (milli / 1_000).to_string());
            }
        }
        if share.cpu_milli > 0 {
            requests.insert("cpu".to_owned(), json!(cpu_text(share.cpu_milli)));
        }
        json!({"requests": requests, "limits": limits})
    }
}

/// Which RayJob, RayCluster and pods belong to which attempt.
fn labels(launch: &LaunchRequest) -> Value {
    json!({
        "app.kubernetes.io/managed-by": "switchyard",
        INSTANCE: launch.instance.to_string(),
        JOB: launch.job.to_string(),
        ATTEMPT: launch.attempt.to_string(),
        "yard.team": launch.team.to_string(),
    })
}

/// Of `ray start`: the profile's, and Ray's custom resources.
fn start_params(parts: &[&Parts], share: &Request) -> BTreeMap<String, String> {
    let mut params: BTreeMap<String, String> =
        parts.iter().flat_map(|part| part.ray_start_params.clone()).collect();
    if !share.custom_milli.is_empty() {
        let units = |milli: u64| milli as f64 / 1_000.0;
        let custom: Map<String, Value> =
            share.custom_milli.iter().map(|(name, milli)| (name.clone(), json!(units(*milli)))).collect();
        // It goes through a shell: KubeRay wants it quoted.
        let text = Value::Object(custom).to_string().replace('"', "\\\"");
        params.insert("resources".to_owned(), format!("\"{text}\""));
    }
    params
}

/// The runtime environment with the variables that tell a command what it is. One whose `env_vars` are not what Ray
/// wants goes as it is: Ray says what is wrong with it.
fn runtime_env(launch: &LaunchRequest) -> Map<String, Value> {
    let mut env = launch.runtime_env.clone();
    let vars = env.entry("env_vars").or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(vars) = vars {
        let own = [
            ("YARD_JOB_ID", launch.job.to_string()),
            ("YARD_ATTEMPT", launch.attempt.to_string()),
            ("YARD_TEAM", launch.team.to_string()),
            ("YARD_REMOTE_NAME", launch.name.to_string()),
        ];
        vars.extend(own.map(|(name, value)| (name.to_owned(), Value::String(value))));
    }
    env
}

/// Puts `from` over `into`: tables key by key, lists behind each other (what bears a name already there replaces it), all
/// else as it is.
fn merge(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
            (Some(Value::Array(old)), Value::Array(new)) => {
                let named = |item: &Value| item.get("name").cloned();
                old.retain(|item| {
                    named(item).is_none() || !new.iter().any(|other| named(other) == named(item))
                });
                old.extend(new.iter().cloned());
            }
            _ => _ = into.insert(key.clone(), value.clone()),
        }
    }
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
