//! Jobs that could never become a Ray cluster of their own are refused at the door.

use std::sync::Arc;

use serde_json::json;
use uuid::Uuid;
use yard_domain::{
    Capacity, Catalog, Cluster, ClusterHealth, JobField, PodDemand, RayProfile, RayProfiles, Request, Team,
};

use super::*;

fn amounts(cpu_milli: u64, gib: u64) -> Request {
    Request { cpu_milli, memory_bytes: gib << 30, ..Request::default() }
}

/// A Kubernetes cluster whose default profile allows nothing, and one that lets jobs set their image.
fn kube(id: &str) -> Cluster {
    let open = RayProfile {
        job_may_set: [JobField::Image].into(),
        gpu_types: ["a100".to_owned()].into(),
        whole: ["fpga".to_owned()].into(),
        head_min: amounts(1_000, 2),
        ..RayProfile::default()
    };
    let profiles = [("plain".to_owned(), RayProfile::default()), ("open".to_owned(), open)].into();
    Cluster {
        capacity: Some(Capacity(Request { gpu_milli: 8_000, jobs: 9, ..amounts(64_000, 256) })),
        health: ClusterHealth::Ready,
        ray_profiles: Some(Arc::new(RayProfiles { default: "plain".to_owned(), links: false, profiles })),
        ..Cluster::new(id.parse().unwrap(), "kuberay")
    }
}

fn standing(id: &str, gpu: u64) -> Cluster {
    let capacity = Request { gpu_milli: gpu * 1_000, jobs: 9, ..amounts(64_000, 256) };
    Cluster { driver: "ray".to_owned(), ray_profiles: None, capacity: Some(Capacity(capacity)), ..kube(id) }
}

/// The verdict of an installation of these clusters: the job, or each error's field and message.
fn judged(clusters: &[Cluster], more: &Value) -> Result<Box<yard_domain::NewJob>, Vec<(String, String)>> {
    let mut document = json!({"v": 1, "team": "ads", "key": "k", "entrypoint": "x"});
    for (key, value) in more.as_object().unwrap() {
        document[key] = value.clone();
    }
    let admission =
        Admission::new(Catalog::of([Team::new("ads".parse().unwrap())], clusters.to_vec()), [].into());
    let (limits, defaults) = (Limits::default(), Defaults::default());
    let source =
        Source { door: "http".to_owned(), message_id: "m".to_owned(), sent_at: None, by: None, key: None };
    let intake = Intake { admission: &admission, limits: &limits, defaults: &defaults };
    let arrival = intake.arrival(document.to_string().as_bytes(), &source, JobId(Uuid::nil()));
    arrival.content.map_err(|errors| {
        assert!(errors.iter().all(|e| e.code == "never_fits" || e.code == "out_of_range"), "{errors:?}");
        errors.into_iter().map(|e| (e.field, e.message)).collect()
    })
}

fn fields(clusters: &[Cluster], more: &Value) -> Vec<String> {
    judged(clusters, more).err().unwrap_or_default().into_iter().map(|(field, _)| field).collect()
}

#[test]
fn a_profile_that_no_cluster_has_is_refused_with_those_there_are() {
    let more = json!({"ray_cluster": {"profile": "tpu"}});
    let errors = judged(&[kube("k1"), kube("k2"), standing("east", 8)], &more).unwrap_err();
    let told = "no cluster could ever run it: k1: has no profile \"tpu\"; there are: open, plain; k2: has no profile \"tpu\"; \
                there are: open, plain";
    assert_eq!(errors, [("ray_cluster.profile".to_owned(), told.to_owned())]);
}

#[test]
fn all_that_can_not_be_made_is_said_at_once() {
    let more = json!({
        "resources": {"cpu": 2.5, "gpu": 1.5, "memory": "2GiB", "custom": {"fpga": 0.5}},
        "ray_cluster": {"profile": "open", "image": "mine", "env": {"A": "b"},
            "workers": {"count": 1, "cpu": 2, "gpu": 1, "memory": "1GiB", "gpu_type": "h100"}},
    });
    let expected = [
        "ray_cluster.env",
        "ray_cluster.workers.gpu_type",
        "resources.cpu",
        "resources.custom.fpga",
        "resources.gpu",
    ];
    assert_eq!(fields(&[kube("k")], &more), expected);
    // A default profile is judged as one that is named.
    assert_eq!(fields(&[kube("k")], &json!({"ray_cluster": {"image": "mine"}})), ["ray_cluster.image"]);
    assert_eq!(fields(&[kube("k")], &json!({"resources": {"gpu": 0.5}})), ["resources.gpu"]);
    let packaged = json!({"runtime_env": {"working_dir": "gcs://_ray_pkg_0123.zip"}});
    assert_eq!(fields(&[kube("k")], &packaged), ["runtime_env"]);
}

#[test]
fn a_cluster_that_can_run_it_is_enough() {
    let half = json!({"resources": {"gpu": 0.5}});
    assert!(judged(&[kube("k"), standing("east", 8)], &half).is_ok());
    assert_eq!(fields(&[kube("k"), standing("east", 0)], &half), ["resources.gpu", "resources.gpu"]);
    let only = json!({"resources": {"gpu": 0.5}, "clusters": {"only": ["k"]}});
    assert_eq!(fields(&[kube("k"), standing("east", 8)], &only), ["resources.gpu"]);
    // Until its dispatcher has told what can be made there, a cluster counts as able.
    let told_nothing = Cluster { ray_profiles: None, ..kube("later") };
    assert!(judged(&[kube("k"), told_nothing], &json!({"ray_cluster": {"profile": "tpu"}})).is_ok());
}

#[test]
fn what_is_named_wrongly_is_told_beside_other_errors() {
    let more = json!({"resources": {"cpu": -1}, "ray_cluster": {"profile": "tpu"}});
    assert_eq!(fields(&[kube("k")], &more), ["resources.cpu", "ray_cluster.profile"]);
    assert_eq!(fields(&[kube("k")], &json!({"resources": {"cpu": -1}})), ["resources.cpu"]);
}

#[test]
fn what_placement_depends_on_goes_with_the_job() {
    let more = json!({"ray_cluster": {"profile": "open", "image": "mine", "head": {"cpu": 1, "memory": "2GiB"},
        "workers": {"count": 2, "cpu": 1, "memory": "1GiB"}}});
    let job = judged(&[kube("k")], &more).unwrap();
    let shape = job.spec.ray_cluster.as_ref();
    let pods = job.spec.clusters.pods.as_deref();
    assert_eq!(pods, PodDemand::of(shape, false).as_ref());
    assert_eq!(pods.unwrap().workers.as_ref().unwrap().max, 2);
    assert_eq!(judged(&[kube("k")], &json!({})).unwrap().spec.clusters.pods, None);
}
