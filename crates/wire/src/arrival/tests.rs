use std::collections::BTreeMap;
use std::fmt::Write;

use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;
use yard_domain::{
    Capacity, Catalog, Cluster, ClusterHealth, ClusterSwitch, Priority, PriorityClass, Request, Team,
};

use super::*;
use crate::canonical::canonical_text;

fn cluster(id: &str, region: &str, capacity: Option<Capacity>) -> Cluster {
    Cluster {
        elastic: None,
        cost_per_hour_micro: None,
        breaker_open: false,
        recent_failures: 0,
        id: id.parse().unwrap(),
        driver: "ray".to_owned(),
        labels: [("region".to_owned(), region.to_owned())].into(),
        capacity,
        switch: ClusterSwitch::Open,
        health: ClusterHealth::Ready,
        last_seen: None,
        configured: true,
        message: None,
        ray_profiles: None,
        gpu_blocks: Vec::new(),
    }
}

fn capacity(cpu: u64, gpu: u64, gib: u64, a100: u64) -> Capacity {
    let custom_milli = if a100 > 0 { [("A100".to_owned(), a100 * 1_000)].into() } else { BTreeMap::new() };
    Capacity(Request {
        cpu_milli: cpu * 1_000,
        gpu_milli: gpu * 1_000,
        memory_bytes: gib << 30,
        jobs: 100,
        custom_milli,
    })
}

fn installation() -> Admission {
    let team = |id: &str, gpu: Option<u64>| Team {
        quota: yard_domain::Limits { gpu_milli: gpu.map(|g| g * 1_000), ..yard_domain::Limits::default() },
        ..Team::new(id.parse().unwrap())
    };
    let mut catalog = Catalog::of(
        vec![team("ads", Some(4)), team("search", None)],
        vec![
            cluster("east", "us-east-1", Some(capacity(16, 8, 64, 2))),
            cluster("west", "us-west-2", Some(capacity(32, 0, 128, 0))),
        ],
    );
    let class = |id: &str, priority| PriorityClass {
        id: id.parse().unwrap(),
        priority: Priority::new(priority).unwrap(),
        preempts: false,
        preemptible: false,
    };
    catalog.policy.classes = vec![class("urgent", 500), class("normal", 0)];
    Admission::new(catalog, [("sqs:search-jobs".to_owned(), ["search".parse().unwrap()].into())].into())
}

fn source(door: &str) -> Source {
    Source { door: door.to_owned(), message_id: "m-1".to_owned(), sent_at: None, by: None, key: None }
}

fn judge_from(raw: &[u8], source: &Source) -> Arrival {
    let (admission, limits, defaults) = (installation(), Limits::default(), Defaults::default());
    Intake { admission: &admission, limits: &limits, defaults: &defaults }.arrival(
        raw,
        source,
        JobId(Uuid::nil()),
    )
}

fn judge(document: &Value) -> Arrival {
    judge_from(document.to_string().as_bytes(), &source("sqs:all"))
}

fn errors(arrival: &Arrival) -> String {
    let mut out = format!("receipt {}\n", arrival.key);
    match &arrival.content {
        Ok(job) => writeln!(out, "accepted: {}", job.document).unwrap(),
        Err(errors) => {
            for e in errors {
                writeln!(out, "{:?} {}: {}", e.field, e.code, e.message).unwrap();
            }
        }
    }
    out
}

fn example() -> Value {
    json!({"v":1,"team":"ads","key":"nightly-2026-11-22","name":"train","entrypoint":"python train.py","runtime_env":{},
        "resources":{"cpu":2,"gpu":1,"memory":"8GiB","custom":{"A100":1}},"priority":0,
        "clusters":{"only":["east"],"labels":{"region":"us-east-1"}},"retry":{"max_retries":2},
        "timeouts":{"queue_s":86400,"run_s":21600},"metadata":{"k":"v"}})
}

#[test]
fn what_is_left_out_is_the_teams_default_and_then_the_installations() {
    let mut admission = installation();
    let ads = admission.teams.get_mut(&"ads".parse().unwrap()).unwrap();
    ads.request.memory_bytes = Some(4 << 30);
    ads.request.cpu_milli = Some(3_000);
    let (limits, defaults) = (Limits::default(), Defaults::default());
    let intake = Intake { admission: &admission, limits: &limits, defaults: &defaults };
    let asked = |team: &str, resources: Value| {
        let document =
            json!({"v":1,"team":team,"key":"k","entrypoint":"x","resources":resources}).to_string();
        let arrival = intake.arrival(document.as_bytes(), &source("sqs:all"), JobId(Uuid::nil()));
        let request = arrival.content.unwrap().spec.request;
        (request.cpu_milli, request.gpu_milli, request.memory_bytes)
    };
    assert_eq!(asked("ads", Value::Null), (3_000, 0, 4 << 30));
    assert_eq!(asked("ads", json!({"cpu": 0.5, "gpu": 1})), (500, 1_000, 4 << 30));
    assert_eq!(asked("search", Value::Null), (1_000, 0, 0));
}

#[test]
fn the_example_becomes_a_job() {
    let arrival = judge(&example());
    let job = arrival.content.clone().unwrap();
    assert_eq!(arrival.key.to_string(), "ads/nightly-2026-11-22");
    assert_eq!(
        job.spec.request,
        Request {
            cpu_milli: 2_000,
            gpu_milli: 1_000,
            memory_bytes: 8 << 30,
            jobs: 1,
            custom_milli: [("A100".to_owned(), 1_000)].into(),
        }
    );
    assert_eq!(job.spec.timeouts.run.as_secs(), 21_600);
    assert_eq!(job.spec.retry.max_retries, 2);
    assert_eq!(job.body_hash, canonical_hash(&example()));
    insta::assert_snapshot!(job.document);
}

#[test]
fn defaults_fill_in_but_do_not_change_the_hash() {
    let least = json!({"v":1,"team":"search","entrypoint":"  echo   hi\nthere "});
    let arrival = judge(&least);
    assert_eq!(arrival.body_hash, canonical_hash(&least));
    assert_eq!(arrival.key.to_string(), "search/sqs:m-1");
    insta::assert_snapshot!(errors(&arrival));

    let nulls = json!({"v":1.0,"team":"search","key":"k","entrypoint":"x","resources":{"gpu":2,"cpu":null},"priority":null});
    let job = judge(&nulls).content.unwrap();
    assert_eq!((job.spec.request.cpu_milli, job.spec.request.gpu_milli), (1_000, 2_000));
    assert_eq!(job.spec.name, "k");
}

#[test]
fn the_effective_document_is_itself_a_submission() {
    let job = judge(&example()).content.unwrap();
    let again = judge_from(job.document.as_bytes(), &source("http")).content.unwrap();
    assert_eq!(canonical_text(&parse_strict(job.document.as_bytes()).unwrap()), job.document);
    assert_eq!((again.spec, again.document), (job.spec, job.document));
}

#[test]
fn everything_wrong_is_said_at_once() {
    let document = json!({"v":1,"team":"Ads!","key":"with space","name":" ","entrypiont":"python x","runtime_env":[],
        "resources":{"cpu":"2","gpu":-1,"memory":"8GB","custom":{"gpu":1,"A100":0,"T4":0.0001,"bad name":1},"cpus":3},
        "priority":5000,"clusters":{"only":["east","Not A Name",7],"labels":{"region":1},"regions":[]},
        "retry":{"max_retries":-1,"backoff":3},"timeouts":{"queue_s":0,"run_s":"6h"},
        "metadata":{"k":1,"yard.x":"y"},"max_retries":3,"memory":"8GiB","zzz":true});
    insta::assert_snapshot!(errors(&judge(&document)));
}

#[test]
fn a_document_without_a_version_is_read_on_and_one_of_another_is_not() {
    let rest = json!({"team":"ads","key":"k","colour":"red"});
    let fields = |document: &Value| {
        let arrival = judge(document);
        assert_eq!((arrival.key.team.as_str(), arrival.key.key.as_str()), ("ads", "k"));
        let errors = arrival.content.unwrap_err();
        errors.into_iter().map(|e| format!("{} {}", e.field, e.code)).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(fields(&rest), "v missing, entrypoint missing, colour unknown_field");
    let mut other = rest;
    other["v"] = json!(2);
    assert_eq!(fields(&other), "v invalid");
}

#[test]
fn each_quantity_has_its_own_error() {
    let cases = [
        json!({"cpu": 1.0005}),
        json!({"cpu": 1e9}),
        json!({"cpu": true}),
        json!({"memory": 0}),
        json!({"memory": -5}),
        json!({"memory": 1.5}),
        json!({"memory": "lots"}),
        json!({"memory": "8Gi"}),
        json!({"memory": "4096TiB"}),
        json!({"memory": ["8GiB"]}),
        json!({"custom": {"Memory": 1}}),
        json!({"custom": {"jobs": 1}}),
        json!({"custom": {"A100": null}}),
        json!({"custom": 3}),
        json!("2 cpus"),
    ];
    let mut all = String::new();
    for resources in cases {
        let arrival = judge(&json!({"v":1,"team":"ads","key":"k","entrypoint":"x","resources":resources}));
        writeln!(all, "{resources}\n{}", errors(&arrival)).unwrap();
    }
    insta::assert_snapshot!(all);
}

#[test]
fn what_is_no_document_has_one_clear_error() {
    let mut all = String::new();
    for raw in [
        &b""[..],
        b"hello",
        b"[1,2]",
        b"{\"v\":1,\"team\":\"ads\",\"team\":\"search\",\"entrypoint\":\"x\"}",
        b"{\"v\":2,\"team\":\"ads\",\"key\":\"mine\",\"entrypoint\":\"x\",\"novel\":1}",
        b"{\"team\":\"ads\",\"entrypoint\":\"x\"}",
        b"{\"v\":1}",
        b"{\"v\":1,\"team\":null,\"entrypoint\":\" \"} x",
        b"{\"v\":1,\"team\":\"\xff\"}",
    ] {
        writeln!(all, "{}\n{}", String::from_utf8_lossy(raw), errors(&judge_from(raw, &source("sqs:all"))))
            .unwrap();
    }
    insta::assert_snapshot!(all);
}

#[test]
fn what_is_too_long_is_refused() {
    let metadata: BTreeMap<String, String> = (0..65).map(|i| (format!("k{i}"), "v".to_owned())).collect();
    let mut document = json!({"v":1,"team":"t".repeat(64),"key":"k".repeat(201),"name":"ä".repeat(201),
        "entrypoint":"x".repeat(70_000),"runtime_env":{"a":"x".repeat(300_000)},"metadata":metadata});
    document["metadata"]["k1"] = json!("v".repeat(5_000));
    document["metadata"]["l".repeat(129)] = json!("v");
    insta::assert_snapshot!(errors(&judge(&document)));

    let huge = json!({"v":1,"team":"ads","entrypoint":"x","metadata":{"a":"x".repeat(1 << 20)}});
    insta::assert_snapshot!(errors(&judge(&huge)));

    let many: serde_json::Map<_, _> = (0..500).map(|i| (format!("field{i:03}"), Value::from(i))).collect();
    let Err(list) = judge(&json!({"v":1,"team":"ads","entrypoint":"x","resources":many})).content else {
        panic!("accepted")
    };
    assert_eq!(list.len(), 101);
    assert_eq!(list[100].message, "400 more errors are not listed");
}

#[test]
fn the_installation_has_its_say() {
    let with = |team: &str, resources: Value, clusters: Value| json!({"v":1,"team":team,"key":"k","entrypoint":"x","resources":resources,"clusters":clusters});
    let cases = [
        with("adds", json!({}), json!({})),
        with("nobody", json!({"gpu":9}), json!({})),
        with("ads", json!({"gpu":5}), json!({})),
        with("search", json!({"gpu":9}), json!({})),
        with("search", json!({"gpu":1,"cpu":20}), json!({})),
        with("search", json!({"custom":{"H100":1}}), json!({})),
        with("search", json!({"gpu":1}), json!({"only":["west"]})),
        with("search", json!({}), json!({"only":["wset"]})),
        with("search", json!({}), json!({"only":["wset","east"]})),
        with("search", json!({}), json!({"labels":{"region":"eu"}})),
        with("search", json!({}), json!({"only":["west"],"labels":{"region":"us-east-1"}})),
    ];
    let mut all = String::new();
    for document in cases {
        writeln!(all, "{document}\n{}", errors(&judge(&document))).unwrap();
    }
    insta::assert_snapshot!(all);
}

#[test]
fn an_unknown_cluster_is_told_beside_what_else_is_wrong() {
    let cases = [
        (json!({"cpu":"2"}), json!({"only":["wset"]}), "resources.cpu"),
        (json!({}), json!({"only":["wset"],"labels":{"region":1}}), "clusters.labels.region"),
    ];
    for (resources, clusters, wrong) in cases {
        let document = json!({"v":1,"team":"search","key":"k","entrypoint":"x","resources":resources,"clusters":clusters});
        let told = judge(&document).content.unwrap_err();
        let fields: Vec<&str> = told.iter().map(|e| e.field.as_str()).collect();
        assert_eq!(fields, [wrong, "clusters"]);
        assert!(told[1].message.contains("did you mean \"west\""), "{}", told[1].message);
    }
}

#[test]
fn doors_bind_teams_and_unknown_capacity_could_fit() {
    let document = json!({"v":1,"team":"ads","key":"k","entrypoint":"x"});
    let raw = document.to_string();
    let arrival = judge_from(raw.as_bytes(), &source("sqs:search-jobs"));
    assert_eq!(
        errors(&arrival),
        "receipt ads/k\n\"team\" team_not_allowed: sqs:search-jobs may not submit for team \"ads\"\n"
    );
    // Also of what can't be read, and however much else is wrong.
    let many: Vec<String> = (0..200).map(|i| format!("\"x{i}\":1")).collect();
    for raw in ["{\"team\":\"ads\",\"key\":1}".to_owned(), format!("{{\"team\":\"ads\",{}}}", many.join(","))]
    {
        let arrival = judge_from(raw.as_bytes(), &source("sqs:search-jobs"));
        let told = arrival.content.unwrap_err();
        let kept_out = told.iter().filter(|e| e.code == "team_not_allowed").count();
        assert_eq!((arrival.key.team.as_str(), kept_out), ("ads", 1), "{told:?}");
        let own = judge_from(raw.replace("ads", "search").as_bytes(), &source("sqs:search-jobs"));
        assert!(own.content.unwrap_err().iter().all(|e| e.code != "team_not_allowed"));
    }
    let mut admission = installation();
    admission.clusters.push(cluster("new", "x", None));
    let big = json!({"v":1,"team":"search","key":"k","entrypoint":"x","resources":{"cpu":1000}}).to_string();
    let (limits, defaults) = (Limits::default(), Defaults::default());
    let judged = |admission: &Admission| {
        let intake = Intake { admission, limits: &limits, defaults: &defaults };
        intake.arrival(big.as_bytes(), &source("http"), JobId(Uuid::nil())).content.is_ok()
    };
    assert!(judged(&admission));
    admission.clusters[2].configured = false;
    assert!(!judged(&admission));
}

#[test]
fn a_key_may_come_beside_the_document() {
    let beside = |key: &str, document: Value| {
        let source = Source { key: Some(key.to_owned()), ..source("http") };
        errors(&judge_from(document.to_string().as_bytes(), &source))
            .lines()
            .take(2)
            .collect::<Vec<_>>()
            .join(" | ")
    };
    let plain = json!({"v":1,"team":"ads","entrypoint":"x"});
    let keyed = json!({"v":1,"team":"ads","key":"own","entrypoint":"x"});
    assert!(beside("k1", plain.clone()).starts_with("receipt ads/k1 | accepted: "));
    assert!(beside("own", keyed.clone()).starts_with("receipt ads/own | accepted: "));
    assert_eq!(
        beside("other", keyed),
        "receipt ads/own | \"Idempotency-Key\" invalid: differs from the document's \"key\": give one of them, or the same in both"
    );
    assert!(beside("a b", plain).starts_with("receipt ads/http:m-1 | \"Idempotency-Key\" invalid"));
}

proptest! {
    #[test]
    fn no_bytes_panic_and_every_refusal_says_why(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
        let arrival = judge_from(&raw, &source("http"));
        prop_assert!(arrival.content.is_err_and(|e| !e.is_empty()));
    }

    #[test]
    fn the_hash_ignores_spelling_and_sees_content(cpu in 1u32..16, priority in -1000i32..=1000) {
        let a = json!({"v":1,"team":"search","key":"k","entrypoint":"x","priority":priority,"resources":{"cpu":cpu}});
        let spelt = format!(
            "{{ \"resources\":{{\"cpu\":{cpu}.0}},\n\"priority\":{priority}e0,\"entrypoint\":\"\\u0078\",\"key\":\"k\",\"team\":\"search\",\"v\":1}}"
        );
        let one = judge(&a);
        let other = judge_from(spelt.as_bytes(), &source("http"));
        prop_assert_eq!(one.body_hash, other.body_hash);
        let (one, other) = (one.content.unwrap(), other.content.unwrap());
        prop_assert_eq!(one, other);
        let mut changed = a;
        changed["priority"] = json!((priority + 1).rem_euclid(1000) - 2000);
        prop_assert_ne!(judge(&changed).body_hash, judge_from(spelt.as_bytes(), &source("http")).body_hash);
    }
}

/// What a document is compared by must stay the same for ever, whatever fields are added: this is the hash that the first
/// version gave.
#[test]
fn the_hash_of_a_document_without_newer_fields_is_what_it_was() {
    let document = json!({"v": 1, "team": "search", "key": "nightly", "entrypoint": "python x.py", "priority": 5,
        "resources": {"cpu": 2, "memory": "8GiB"}, "clusters": {"only": ["east"], "labels": {"region": "us-east-1"}}});
    let mut hash = String::new();
    judge(&document).body_hash.iter().for_each(|b| _ = write!(hash, "{b:02x}"));
    assert_eq!(hash, "2f5ae5135458014d6505bcdf8093249c307494ab1913f81cc8672341f9228e62");
}

fn job(document: &Value) -> yard_domain::NewJob {
    *judge(document).content.unwrap_or_else(|e| panic!("{e:?}"))
}

#[test]
fn a_class_is_a_priority_by_name() {
    let base = json!({"v": 1, "team": "search", "key": "k", "entrypoint": "x"});
    let with = |fields: Value| {
        let mut document = base.clone();
        document.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        document
    };
    let urgent = job(&with(json!({"priority_class": "urgent"})));
    assert_eq!(urgent.spec.priority.get(), 500);
    // What is stored is the priority that it was: classes may change.
    let stored: Value = serde_json::from_str(&urgent.document).unwrap();
    assert_eq!((&stored["priority"], stored.get("priority_class")), (&json!(500), None));
    let wrong = errors(&judge(&with(json!({"priority_class": "urgnt"}))));
    assert!(wrong.contains("unknown_class") && wrong.contains("did you mean \"urgent\"?"), "{wrong}");
    assert!(wrong.contains("there are: urgent; normal"), "{wrong}");
    let both = errors(&judge(&with(json!({"priority_class": "urgent", "priority": 3}))));
    assert!(both.contains("keep one of the two"), "{both}");
    assert!(errors(&judge(&with(json!({"priority_class": 7})))).contains("must be a text"));
}

#[test]
fn clusters_are_avoided_and_preferred() {
    let with = |clusters: Value| json!({"v": 1, "team": "search", "key": "k", "entrypoint": "x", "clusters": clusters});
    let found = job(&with(json!({"avoid": ["west"], "prefer": {"region": "eu"}})));
    assert_eq!(found.spec.clusters.avoid, ["west".parse().unwrap()].into());
    assert_eq!(found.spec.clusters.prefer, [("region".to_owned(), "eu".to_owned())].into());
    let stored: Value = serde_json::from_str(&found.document).unwrap();
    assert_eq!(stored["clusters"], json!({"avoid": ["west"], "prefer": {"region": "eu"}}));
    let nowhere = errors(&judge(&with(json!({"avoid": ["west", "east"]}))));
    assert!(nowhere.contains("never_fits") && nowhere.contains("to be avoided"), "{nowhere}");
    let both = errors(&judge(&with(json!({"only": ["west"], "avoid": ["west"]}))));
    assert!(both.contains("clusters.avoid") && both.contains("keep it in one"), "{both}");
    assert!(errors(&judge(&with(json!({"avoid": "west"})))).contains("list of cluster names"));
}

#[test]
fn what_no_quota_and_no_autoscaler_could_ever_allow_is_refused() {
    let gpus =
        |gpu: u64| yard_domain::Limits { gpu_milli: Some(gpu * 1_000), ..yard_domain::Limits::default() };
    let member = |id: &str, quota: u64, max: Option<u64>| Team {
        cohort: Some("all".parse().unwrap()),
        quota: gpus(quota),
        max: max.map(gpus).unwrap_or_default(),
        ..Team::new(id.parse().unwrap())
    };
    let mut grows = cluster("grows", "us", Some(capacity(64, 40, 64, 0)));
    grows.elastic =
        Some(yard_domain::Elastic { present: Some(capacity(0, 0, 0, 0)), delay: std::time::Duration::ZERO });
    let mut catalog = Catalog::of([member("a", 4, None), member("b", 4, Some(6))], [grows]);
    catalog.cohorts = vec![yard_domain::Cohort::new("all".parse().unwrap())];
    let admission = Admission::new(catalog, [].into());
    let (limits, defaults) = (Limits::default(), Defaults::default());
    let verdict = |team: &str, gpu: u64| {
        let document =
            json!({"v": 1, "team": team, "key": "k", "entrypoint": "x", "resources": {"gpu": gpu}});
        let intake = Intake { admission: &admission, limits: &limits, defaults: &defaults };
        errors(&intake.arrival(document.to_string().as_bytes(), &source("http"), JobId(Uuid::nil())))
    };
    // More than its own quota, but it may borrow; and the cluster has nothing now, but grows.
    assert!(judge_is_job(&verdict("a", 8)), "{}", verdict("a", 8));
    assert!(verdict("a", 9).contains("cohort all"), "{}", verdict("a", 9));
    assert!(judge_is_job(&verdict("b", 6)));
    assert!(verdict("b", 7).contains("team b"), "{}", verdict("b", 7));
}

fn judge_is_job(told: &str) -> bool {
    !told.contains("never_fits")
}

#[test]
fn a_ray_cluster_of_its_own_is_charged_whole_and_kept_with_the_job() {
    let arrival = judge(&json!({"v":1,"team":"ads","key":"k","entrypoint":"x","ray_cluster":{
        "env":{"A":"b"},"head":{"cpu":1,"memory":"1GiB"},"workers":{"min":1,"max":2,"cpu":0.5,"gpu":0.5,"gpu_type":"a100"}}}));
    let job = arrival.content.unwrap();
    let charged = &job.spec.request;
    assert_eq!(
        (charged.cpu_milli, charged.gpu_milli, charged.memory_bytes, charged.jobs),
        (2_000, 1_000, 1 << 30, 1)
    );
    assert!(
        job.document.contains(
            r#""ray_cluster":{"env":{"A":"b"},"head":{"cpu":1,"gpu":0,"memory":"1GiB"},"workers":{"cpu":0.5,"gpu":0.5,"gpu_type":"a100","max":2,"min":1}},"resources":{"cpu":2,"#
        ),
        "{}",
        job.document
    );
    let kept: crate::Submission = serde_json::from_str(&job.document).unwrap();
    assert_eq!(kept.ray_cluster.unwrap().shape(), job.spec.ray_cluster);
    assert_eq!(job.spec.clusters.driver, None);
}

#[test]
fn a_shape_that_does_not_fit_or_can_not_be_is_said_by_field() {
    let errors_of = |shape: Value, resources: Value| {
        let document =
            json!({"v":1,"team":"ads","key":"k","entrypoint":"x","ray_cluster":shape,"resources":resources});
        let errors = judge(&document).content.unwrap_err();
        errors.into_iter().map(|e| format!("{} {}", e.field, e.code)).collect::<Vec<_>>()
    };
    let workers = |count: u32| json!({"workers": {"count": count, "cpu": 1}});
    assert_eq!(errors_of(workers(3), json!({"cpu": 2})), ["ray_cluster.workers out_of_range"]);
    let fits =
        json!({"v":1,"team":"ads","key":"k","entrypoint":"x","ray_cluster":workers(1),"resources":{"cpu":2}});
    assert_eq!(judge(&fits).content.unwrap().spec.request.cpu_milli, 2_000);
    let all_wrong = json!({"profile":"Not a name","image":"with space","env":{"1x":"a","B":2},"colour":"red","workers":{
        "count":1,"max":0,"min":5000,"cpu":-1,"gpu_type":"a100","size":1}});
    assert_eq!(
        errors_of(all_wrong, Value::Null),
        [
            "ray_cluster.profile invalid",
            "ray_cluster.image invalid",
            "ray_cluster.env.1x invalid",
            "ray_cluster.env.B invalid",
            "ray_cluster.workers.min out_of_range",
            "ray_cluster.workers.max out_of_range",
            "ray_cluster.workers.count invalid",
            "ray_cluster.workers.cpu out_of_range",
            "ray_cluster.workers.gpu_type invalid",
            "ray_cluster.workers.size unknown_field",
            "ray_cluster.colour unknown_field",
        ]
    );
    // A profile is something that only one kind of cluster has, and here there is none of it.
    let nowhere = json!({"v":1,"team":"ads","key":"k","entrypoint":"x","ray_cluster":{"profile":"gpu"}});
    let error = judge(&nowhere).content.unwrap_err().remove(0);
    assert!(error.code == "never_fits" && error.message.contains("only kuberay clusters"), "{error:?}");
}
