use std::collections::BTreeMap;

use yard_domain::WorkerShape;

use super::*;
use crate::quantity;
use crate::schema::Schemas;

const TEMPLATE: &str = r#"
default_profile: cpu
profiles:
  cpu: {image: "rayproject/ray:2.60.0"}
  gpu:
    image: registry.example/ray-gpu:1
    ray_version: "2.60.0"
    submission_mode: K8sJobMode
    job_may_set: [image, env]
    head_min: {cpu: 1, memory: 2Gi}
    pod: {serviceAccountName: ray, tolerations: [{key: batch, operator: Exists}], nodeSelector: {pool: batch}}
    container: {env: [{name: A, value: all}, {name: B, value: all}], volumeMounts: [{name: tmp, mountPath: /tmp}]}
    head: {pod: {nodeSelector: {pool: system}}, ray_start_params: {num-cpus: "0"}}
    worker: {pod: {tolerations: [{key: gpu, operator: Exists}]}, container: {env: [{name: B, value: worker}]}}
    gpu_types: {a100: {pod: {nodeSelector: {gpu: a100}}, resource: example.com/a100}}
    custom_resources: {fpga: example.com/fpga}
"#;

fn launch(request: Request, shape: Option<RayClusterShape>) -> LaunchRequest {
    let job = JobId(uuid::Uuid::from_u128(7));
    LaunchRequest {
        name: RemoteName::new(job, AttemptNumber(2)),
        instance: InstanceId(uuid::Uuid::from_u128(9)),
        job,
        attempt: AttemptNumber(2),
        team: "ads".parse().unwrap(),
        job_name: "train".to_owned(),
        entrypoint: "python train.py".to_owned(),
        runtime_env: json!({"pip": ["x"], "env_vars": {"A": "B", "YARD_TEAM": "forged"}})
            .as_object()
            .unwrap()
            .clone(),
        request,
        ray_cluster: shape,
        metadata: BTreeMap::from([
            ("k".to_owned(), "v".to_owned()),
            (INSTANCE.to_owned(), "forged".to_owned()),
        ]),
        run_timeout: Duration::from_secs(100),
    }
}

fn amounts(cpu_milli: u64, gpu: u64, gib: u64) -> Request {
    Request { cpu_milli, gpu_milli: gpu * 1_000, memory_bytes: gib << 30, ..Request::default() }
}

fn charged(request: Request) -> Request {
    Request { jobs: 1, ..request }
}

fn workers(min: u32, max: u32, each: Request) -> WorkerShape {
    WorkerShape { min, max, each, gpu_type: None }
}

fn rendered(launch: &LaunchRequest) -> Result<Value, String> {
    let template = Template::parse(TEMPLATE).unwrap();
    let job = render(&template, "ml", launch)?;
    assert_eq!(Schemas::get().unwrap().job(&job), [], "{job:#}");
    Ok(job)
}

/// What the pods of a RayJob ask for when there are most of them.
fn asked(job: &Value) -> BTreeMap<String, u64> {
    let mut sum = BTreeMap::new();
    let mut add = |resources: &Value, times: u64| {
        for (name, amount) in resources["requests"].as_object().into_iter().flatten() {
            *sum.entry(name.clone()).or_default() +=
                quantity::milli(amount.as_str().unwrap()).unwrap() * times;
        }
    };
    let cluster = &job["spec"]["rayClusterSpec"];
    let of = |template: &Value| template["spec"]["containers"][0]["resources"].clone();
    add(&of(&cluster["headGroupSpec"]["template"]), 1);
    add(&cluster["autoscalerOptions"]["resources"], 1);
    add(&of(&job["spec"]["submitterPodTemplate"]), 1);
    for group in cluster["workerGroupSpecs"].as_array().into_iter().flatten() {
        add(&of(&group["template"]), group["maxReplicas"].as_u64().unwrap());
    }
    sum
}

#[test]
fn a_plain_job_is_a_head_that_gets_all_of_the_charge() {
    let job = rendered(&launch(charged(amounts(1_500, 0, 4)), None)).unwrap();
    let (name, id) = ("yard-00000000000000000000000000000007-2", "00000000-0000-0000-0000-000000000007");
    assert_eq!(
        (job["metadata"]["name"].as_str(), job["metadata"]["namespace"].as_str()),
        (Some(name), Some("ml"))
    );
    assert_eq!(
        job["metadata"]["labels"],
        json!({"app.kubernetes.io/managed-by": "switchyard", "yard.instance": "00000000000000000000000000000009",
            "yard.job": id, "yard.attempt": "2", "yard.team": "ads"})
    );
    assert_eq!(job["metadata"]["annotations"]["ray.io/disable-provisioned-head-restart"], "true");
    let spec = &job["spec"];
    let expected = json!({"jobId": name, "backoffLimit": 0, "shutdownAfterJobFinishes": true, "ttlSecondsAfterFinished": 60,
        "activeDeadlineSeconds": 1_000, "preRunningDeadlineSeconds": 900, "submissionMode": "HTTPMode",
        "entrypoint": "python train.py"});
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&spec[key], value, "{key}");
    }
    let env: Value = serde_json::from_str(spec["runtimeEnvYAML"].as_str().unwrap()).unwrap();
    assert_eq!(
        env,
        json!({"pip": ["x"], "env_vars": {"A": "B", "YARD_TEAM": "ads", "YARD_ATTEMPT": "2", "YARD_JOB_ID": id,
            "YARD_REMOTE_NAME": name}})
    );
    assert_eq!(
        (&spec["metadata"]["k"], &spec["metadata"]["yard.instance"]),
        (&json!("v"), &job["metadata"]["labels"]["yard.instance"])
    );
    assert_eq!(spec["rayClusterSpec"]["workerGroupSpecs"], Value::Null);
    assert_eq!(
        asked(&job),
        BTreeMap::from([("cpu".to_owned(), 1_500), ("memory".to_owned(), (4 << 30) * 1_000)])
    );
}

#[test]
fn head_workers_submitter_and_autoscaler_come_to_exactly_the_charge() {
    let mut each = amounts(4_000, 1, 16);
    each.custom_milli = BTreeMap::from([("fpga".to_owned(), 2_000), ("licence".to_owned(), 500)]);
    let mut total = amounts(20_000, 3, 60);
    total.custom_milli = BTreeMap::from([("fpga".to_owned(), 6_000), ("licence".to_owned(), 1_500)]);
    for (min, autoscaled) in [(3, false), (0, true)] {
        let shape = RayClusterShape {
            profile: Some("gpu".to_owned()),
            image: Some("mine:2".to_owned()),
            env: BTreeMap::from([("B".to_owned(), "job".to_owned())]),
            head: None,
            workers: Some(WorkerShape { gpu_type: Some("a100".to_owned()), ..workers(min, 3, each.clone()) }),
        };
        let job = rendered(&launch(charged(total.clone()), Some(shape))).unwrap();
        let sum = asked(&job);
        let expected = [
            ("cpu", 20_000),
            ("memory", (60 << 30) * 1_000),
            ("example.com/a100", 3_000),
            ("example.com/fpga", 6_000),
        ];
        assert_eq!(sum, expected.map(|(name, amount)| (name.to_owned(), amount)).into());
        let cluster = &job["spec"]["rayClusterSpec"];
        assert_eq!(cluster["enableInTreeAutoscaling"].as_bool(), autoscaled.then_some(true));
        let group = &cluster["workerGroupSpecs"][0];
        assert_eq!(
            (group["minReplicas"].as_u64(), group["maxReplicas"].as_u64()),
            (Some(u64::from(min)), Some(3))
        );
        assert_eq!(group["rayStartParams"]["resources"], "\"{\\\"fpga\\\":2.0,\\\"licence\\\":0.5}\"");
        let (head, worker) = (&cluster["headGroupSpec"]["template"]["spec"], &group["template"]["spec"]);
        assert_eq!(head["nodeSelector"], json!({"pool": "system"}));
        assert_eq!(worker["nodeSelector"], json!({"pool": "batch", "gpu": "a100"}));
        assert_eq!(worker["tolerations"].as_array().unwrap().len(), 2);
        let env = json!([{"name": "A", "value": "all"}, {"name": "B", "value": "job"}]);
        assert_eq!((&worker["containers"][0]["env"], &head["containers"][0]["env"]), (&env, &env));
        assert_eq!(worker["containers"][0]["image"], "mine:2");
        assert_eq!(job["spec"]["submitterConfig"]["backoffLimit"], 0);
    }
}

#[test]
fn what_the_cluster_can_not_honour_is_refused_with_the_numbers() {
    let gpu = |workers: Option<WorkerShape>| RayClusterShape {
        profile: Some("gpu".to_owned()),
        workers,
        ..RayClusterShape::default()
    };
    let refused = |request: Request, shape: RayClusterShape| {
        rendered(&launch(charged(request), Some(shape))).unwrap_err()
    };
    let small = refused(amounts(1_000, 0, 8), gpu(None));
    assert!(small.contains("head_min") && small.contains("cpu: asks 1, 0.5 free"), "{small}");
    let none_left = refused(amounts(4_000, 0, 8), gpu(Some(workers(2, 2, amounts(2_000, 0, 1)))));
    assert!(none_left.contains("what submits the job") && none_left.contains("cpu"), "{none_left}");
    let half = refused(Request { gpu_milli: 500, ..amounts(4_000, 0, 8) }, gpu(None));
    assert!(half.contains("0.5 gpu") && half.contains("whole"), "{half}");
    let kind = WorkerShape { gpu_type: Some("h100".to_owned()), ..workers(1, 1, amounts(1_000, 1, 1)) };
    let kind = refused(amounts(8_000, 1, 16), gpu(Some(kind)));
    assert!(kind.contains("\"h100\"") && kind.ends_with("there are: a100"), "{kind}");
    let image = RayClusterShape { image: Some("x".to_owned()), ..RayClusterShape::default() };
    assert!(refused(amounts(1_000, 0, 0), image).contains("job_may_set"));
    let nowhere = RayClusterShape { profile: Some("tpu".to_owned()), ..RayClusterShape::default() };
    assert!(refused(amounts(1_000, 0, 0), nowhere).contains("there are: cpu, gpu"));
}

#[test]
fn what_was_not_charged_is_not_asked_for() {
    // A job that asks for one cpu and no memory: the submitter's memory is nobody's.
    let shape = RayClusterShape { profile: Some("gpu".to_owned()), ..RayClusterShape::default() };
    let job = rendered(&launch(charged(amounts(1_500, 0, 0)), Some(shape))).unwrap();
    assert_eq!(asked(&job), BTreeMap::from([("cpu".to_owned(), 1_500)]));
}
