//! A namespace of its own on the test environment's API server.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use yard_domain::{AttemptNumber, InstanceId, JobId, RemoteName, Request};
use yard_driver_kuberay::{Access, KubeRayConfig, KubeRayDriver, Template};
use yard_ports::{Driver, LaunchRequest};
use yard_testkit::driver_suite::Target;

pub const PATIENCE: Duration = Duration::from_mins(1);

const TEMPLATE: &str = r#"
default_profile: plain
profiles:
  plain: {image: "rayproject/ray:2.60.0", pre_running_deadline_s: 2}
  full:
    image: rayproject/ray-gpu:2.60.0
    ray_version: "2.60.0"
    submission_mode: K8sJobMode
    job_may_set: [image, env]
    pod: {serviceAccountName: default, tolerations: [{key: batch, operator: Exists}], volumes: [{name: tmp, emptyDir: {}}]}
    container: {env: [{name: B, value: c}], volumeMounts: [{name: tmp, mountPath: /scratch}]}
    gpu_types: {a100: {pod: {nodeSelector: {gpu: a100}}}}
"#;

pub struct World {
    pub namespace: String,
    pub client: Client,
    kubeconfig: Value,
    dir: tempfile::TempDir,
}

pub fn request(entrypoint: &str) -> LaunchRequest {
    let job = JobId(uuid::Uuid::new_v4());
    LaunchRequest {
        name: RemoteName::new(job, AttemptNumber(1)),
        instance: InstanceId(uuid::Uuid::new_v4()),
        job,
        attempt: AttemptNumber(1),
        team: "suite".parse().unwrap(),
        job_name: "test".to_owned(),
        entrypoint: entrypoint.to_owned(),
        runtime_env: serde_json::Map::new(),
        request: Request { cpu_milli: 1_000, jobs: 1, ..Request::default() },
        ray_cluster: None,
        metadata: BTreeMap::new(),
        run_timeout: Duration::from_hours(1),
    }
}

fn leave_out(test: &str, why: &str) -> Option<World> {
    std::io::stderr().write_all(format!("left out: {test}: {why}\n").as_bytes()).unwrap();
    None
}

impl World {
    /// For a test that plays the operator. `None`, and said aloud past the test runner's capture, where there is no API
    /// server, or one with a real operator.
    pub async fn begin(test: &str) -> Option<Self> {
        if std::env::var_os("YARD_TEST_KUBERAY").is_some() {
            return leave_out(test, "there is a real operator (YARD_TEST_KUBERAY is set)");
        }
        Self::with_any(test).await
    }

    /// For a test with the real operator and a real Ray head.
    pub async fn with_ray(test: &str) -> Option<Self> {
        if std::env::var_os("YARD_TEST_KUBERAY").is_none() {
            return leave_out(test, "YARD_TEST_KUBERAY is not set (see tests/env/README.md)");
        }
        Self::with_any(test).await
    }

    async fn with_any(test: &str) -> Option<Self> {
        let Some(path) = std::env::var_os("YARD_TEST_KUBECONFIG") else {
            return leave_out(test, "YARD_TEST_KUBECONFIG is not set (see tests/env/README.md)");
        };
        let kubeconfig = Kubeconfig::read_from(PathBuf::from(path)).unwrap();
        let config =
            Config::from_custom_kubeconfig(kubeconfig.clone(), &KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        let namespace = format!("test-{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
        let world = Self {
            namespace: namespace.clone(),
            client,
            kubeconfig: serde_json::to_value(kubeconfig).unwrap(),
            dir: tempfile::tempdir().unwrap(),
        };
        world.create("v1", "Namespace", None, json!({"metadata": {"name": namespace}})).await;
        Some(world)
    }

    // --- drivers ---

    fn write(&self, kubeconfig: &Value) -> PathBuf {
        let path = self.dir.path().join(format!("{}.json", uuid::Uuid::new_v4()));
        std::fs::write(&path, kubeconfig.to_string()).unwrap();
        path
    }

    fn config_with(&self, kubeconfig: &Value) -> KubeRayConfig {
        let access = Access::Kubeconfig { path: self.write(kubeconfig), context: None };
        let template = Template::parse(TEMPLATE).unwrap();
        let mut config = KubeRayConfig::new("kube", access, self.namespace.clone(), template);
        config.stop_grace = Duration::from_millis(200);
        config.probe_interval = Duration::from_secs(1);
        config.call_timeout = Duration::from_secs(10);
        config
    }

    pub fn config(&self) -> KubeRayConfig {
        self.config_with(&self.kubeconfig)
    }

    pub fn config_in(&self, namespace: &str) -> KubeRayConfig {
        let mut config = self.config();
        namespace.clone_into(&mut config.namespace);
        config
    }

    /// With other credentials; null takes one out.
    pub fn config_as(&self, user: &Value) -> KubeRayConfig {
        let mut kubeconfig = self.kubeconfig.clone();
        for (key, value) in user.as_object().unwrap() {
            let known = kubeconfig["users"][0]["user"].as_object_mut().unwrap();
            if value.is_null() {
                known.remove(key);
            } else {
                known.insert(key.clone(), value.clone());
            }
        }
        self.config_with(&kubeconfig)
    }

    /// By another address.
    pub fn config_at(&self, server: &str) -> KubeRayConfig {
        let mut kubeconfig = self.kubeconfig.clone();
        kubeconfig["clusters"][0]["cluster"]["server"] = json!(server);
        self.config_with(&kubeconfig)
    }

    /// `host:port` of the API server.
    pub fn server(&self) -> String {
        let server = self.kubeconfig["clusters"][0]["cluster"]["server"].as_str().unwrap();
        server.trim_start_matches("https://").trim_end_matches('/').to_owned()
    }

    // --- the cluster's other hands ---

    fn api(&self, version: &str, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    pub fn jobs(&self) -> Api<DynamicObject> {
        self.api("ray.io/v1", "RayJob", Some(&self.namespace))
    }

    async fn create(&self, version: &str, kind: &str, namespace: Option<&str>, object: Value) {
        let mut object = object;
        object["apiVersion"] = json!(version);
        object["kind"] = json!(kind);
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        self.api(version, kind, namespace).create(&PostParams::default(), &object).await.unwrap();
    }

    pub async fn job(&self, name: &RemoteName) -> DynamicObject {
        self.jobs().get(name.as_str()).await.unwrap()
    }

    pub async fn delete(&self, name: &RemoteName) {
        self.jobs().delete(name.as_str(), &DeleteParams::default()).await.unwrap();
    }

    pub async fn patch(&self, name: &RemoteName, patch: Value) {
        self.jobs().patch(name.as_str(), &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    pub async fn set_status(&self, name: &RemoteName, status: Value) {
        let patch = Patch::Merge(json!({"status": status}));
        self.jobs().patch_status(name.as_str(), &PatchParams::default(), &patch).await.unwrap();
    }

    pub async fn pod(&self, name: &str, job: &LaunchRequest, status: &Value) {
        let labels = json!({"yard.job": job.job.to_string(), "yard.attempt": job.attempt.to_string()});
        let spec = json!({"containers": [{"name": "ray-head", "image": "x:1"}], "automountServiceAccountToken": false});
        self.add_pod(name, &labels, spec).await;
        let pods = self.api("v1", "Pod", Some(&self.namespace));
        pods.patch_status(name, &PatchParams::default(), &Patch::Merge(json!({"status": status})))
            .await
            .unwrap();
    }

    pub async fn bound_pod(&self, name: &str, node: &str, ours: bool, resources: &Value) {
        let labels = if ours { json!({"yard.instance": "x"}) } else { json!({}) };
        let spec = json!({"nodeName": node, "automountServiceAccountToken": false,
            "containers": [{"name": "c", "image": "x:1", "resources": resources}]});
        self.add_pod(name, &labels, spec).await;
    }

    async fn add_pod(&self, name: &str, labels: &Value, spec: Value) {
        // The default service account comes a moment after its namespace.
        let pods = self.api("v1", "Pod", Some(&self.namespace));
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec});
        let pod: DynamicObject = serde_json::from_value(pod).unwrap();
        for _ in 0..100 {
            match pods.create(&PostParams::default(), &pod).await {
                Ok(_) => return,
                Err(error) if error.to_string().contains("service account") => {}
                Err(error) => panic!("{error}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("no service account");
    }

    pub async fn node(&self, name: &str, ready: &str, has: &Value) {
        let node = json!({"metadata": {"name": name, "labels": {"test": self.namespace}}});
        self.create("v1", "Node", None, node).await;
        let conditions = json!([{"type": "Ready", "status": ready}]);
        let status = json!({"status": {"capacity": has, "allocatable": has, "conditions": conditions}});
        let nodes = self.api("v1", "Node", None);
        nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }

    pub async fn delete_node(&self, name: &str) {
        self.api("v1", "Node", None).delete(name, &DeleteParams::default()).await.unwrap();
    }
}

/// The same with a real operator and a real Ray head, whose jobs write where this process reads.
pub struct WithRay {
    pub world: World,
    pub scratch: tempfile::TempDir,
}

impl Target for WithRay {
    fn driver(&self) -> Arc<dyn Driver> {
        let mut config = self.world.config();
        config.stop_grace = Duration::from_secs(20);
        config.log_poll = Duration::from_millis(300);
        Arc::new(KubeRayDriver::new(config))
    }

    fn scratch(&self) -> Option<PathBuf> {
        Some(self.scratch.path().to_owned())
    }

    fn patience(&self) -> Duration {
        Duration::from_mins(4)
    }
}

impl Target for World {
    fn driver(&self) -> Arc<dyn Driver> {
        Arc::new(KubeRayDriver::new(self.config()))
    }

    /// Nothing is really run.
    fn scratch(&self) -> Option<PathBuf> {
        None
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }
}
