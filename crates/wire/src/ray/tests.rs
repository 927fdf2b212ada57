use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;

fn read(body: &Value, headers: &[(&str, &str)], team: Option<&str>) -> Result<RaySubmission, Vec<String>> {
    let headers: Vec<(String, String)> =
        headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let context = RayContext {
        default_team: team,
        headers: &headers,
        cluster_labels: BTreeSet::from(["zone"]),
        new_id: "raysubmit_new".to_owned(),
    };
    submission(body, &context)
}

#[test]
fn every_field_finds_its_place() {
    let body = json!({
        "entrypoint": "python x.py", "submission_id": "mine", "job_id": null,
        "runtime_env": {"working_dir": "gcs://_ray_pkg_1.zip"},
        "entrypoint_num_cpus": 2, "entrypoint_num_gpus": 0.5, "entrypoint_memory": 1024,
        "entrypoint_resources": {"fast": 1, "none": 0}, "entrypoint_label_selector": {"zone": "a"},
        "metadata": {"who": "me", "yard.team": "ads", "yard.priority": "7", "yard.queue_timeout_s": "60",
            "yard.clusters": "east, west", "yard.prefer_labels": "disk=ssd,net=fast"},
    });
    let read =
        read(&body, &[("x-yard-max-retries", "2"), ("x-yard-team", "ads"), ("accept", "*/*")], None).unwrap();
    assert_eq!(read.id, "mine");
    assert_eq!(
        read.document,
        json!({
            "v": 1, "team": "ads", "key": "mine", "entrypoint": "python x.py",
            "runtime_env": {"working_dir": "gcs://_ray_pkg_1.zip"},
            "resources": {"cpu": 2, "gpu": 0.5, "memory": 1024, "custom": {"fast": 1}},
            "priority": 7, "timeouts": {"queue_s": 60}, "retry": {"max_retries": 2},
            "clusters": {"only": ["east", "west"], "prefer": {"disk": "ssd", "net": "fast"}, "labels": {"zone": "a"}},
            "metadata": {"who": "me"},
        })
    );
}

#[test]
fn what_is_left_out_takes_its_default() {
    let read =
        read(&json!({"entrypoint": "x", "runtime_env": {}, "metadata": {}}), &[], Some("ads")).unwrap();
    assert_eq!(read.document, json!({"v": 1, "team": "ads", "key": "raysubmit_new", "entrypoint": "x"}));
}

#[test]
fn ray_s_own_refusals_are_in_its_words() {
    let body =
        json!({"entrypoint": 5, "metadata": {"a": 1}, "entrypoint_memory": 1.5, "x": 1, "runtime_env": []});
    let problems = read(&body, &[], Some("ads")).unwrap_err();
    for part in [
        "TypeError: entrypoint must be a string, got <class 'int'>",
        "TypeError: metadata values must be strings, got <class 'int'>",
        "TypeError: entrypoint_memory must be an integer, got <class 'float'>",
        "TypeError: runtime_env must be a dict, got <class 'list'>",
        "got an unexpected keyword argument 'x'",
    ] {
        assert!(problems.iter().any(|p| p.contains(part)), "{part}: {problems:?}");
    }
    assert!(
        read(&json!({}), &[], None).unwrap_err()[0]
            .contains("missing 1 required positional argument: 'entrypoint'")
    );
}

#[test]
fn what_cannot_be_honoured_is_refused_all_at_once() {
    let body = json!({"entrypoint": "x", "metadata": {"yard.prio": "1", "yard.team": "ads"},
        "entrypoint_label_selector": {"ray.io/accelerator-type": "H100", "zone": "!a"}});
    let problems = read(&body, &[("x-yard-team", "other"), ("x-yard-speed", "9")], None).unwrap_err();
    for part in [
        "metadata.yard.prio: there is no such setting",
        "header x-yard-team: differs from metadata.yard.team",
        "header x-yard-speed: there is no such setting",
        "entrypoint_label_selector.ray.io/accelerator-type: no cluster has this label",
        "entrypoint_label_selector.zone: only one plain value",
    ] {
        assert!(problems.iter().any(|p| p.contains(part)), "{part}: {problems:?}");
    }
    let teamless = read(&json!({"entrypoint": "x"}), &[], None).unwrap_err();
    assert!(teamless[0].contains("yard.team") && teamless[0].contains("default_team"), "{teamless:?}");
}

#[test]
fn errors_name_the_fields_that_the_client_knows() {
    for (ours, theirs) in [
        ("resources.cpu", "entrypoint_num_cpus"),
        ("resources.custom.fast", "entrypoint_resources.fast"),
        ("timeouts.queue_s", "metadata.yard.queue_timeout_s"),
        ("clusters.only[0]", "metadata.yard.clusters[0]"),
        ("team", "metadata.yard.team"),
        ("key", "submission_id"),
        ("metadata.who", "metadata.who"),
        ("entrypoint", "entrypoint"),
    ] {
        assert_eq!(client_field(ours), theirs);
    }
}

/// The handbook's table is the code's.
#[test]
fn the_handbook_names_every_setting() {
    let handbook = include_str!("../../../../docs/ray-api.md");
    for setting in SETTINGS {
        let row = format!("| `{}` |", setting.metadata_key());
        assert!(handbook.contains(&row), "{row} is not in docs/ray-api.md");
    }
}
