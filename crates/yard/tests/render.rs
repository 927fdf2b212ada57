//! `yard render` as a user runs it.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use std::path::Path;
use std::process::{Command, Output};

const CONFIG: &str = r#"
[database]
url = "sqlite:yard.db"
[[team]]
id = "ads"
[[cluster]]
id = "kube"
driver = "kuberay"
in_cluster = true
namespace = "ml"
template = """
profiles:
  cpu: {image: 'rayproject/ray:2.60.0', head_min: {cpu: 2}}
"""
[[cluster]]
id = "here"
driver = "process"
dir = "x"
capacity = { cpu = 4 }
"#;

fn render(folder: &Path, document: &str, cluster: &str) -> Output {
    std::fs::write(folder.join("yard.toml"), CONFIG).unwrap();
    std::fs::write(folder.join("job.json"), document).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_yard"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("YARD")) {
        command.env_remove(name);
    }
    command.args(["render", "job.json", "--cluster", cluster]).current_dir(folder).output().unwrap()
}

#[test]
fn a_submission_is_shown_as_the_rayjob_that_it_would_become() {
    let folder = tempfile::tempdir().unwrap();
    let document = r#"{"v":1,"team":"ads","key":"k","entrypoint":"python x.py","ray_cluster":{"head":{"cpu":2},
        "workers":{"count":3,"cpu":4,"gpu":1}}}"#;
    let out = render(folder.path(), document, "kube");
    assert!(out.status.success(), "{out:?}");
    let text = String::from_utf8(out.stdout).unwrap();
    for part in
        ["kind: RayJob", "namespace: ml", "entrypoint: python x.py", "maxReplicas: 3", "nvidia.com/gpu:"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn what_can_not_be_rendered_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let small = r#"{"v":1,"team":"ads","key":"k","entrypoint":"x"}"#;
    for (document, cluster, part) in [
        (
            small,
            "kube",
            "cluster kube refuses it: resources.cpu: the head would get less than the profile's head_min",
        ),
        (small, "here", "is driven by process"),
        (small, "nowhere", "there are: kube, here"),
        (r#"{"v":1,"team":"add","entrypoint":""}"#, "kube", "did you mean \"ads\""),
    ] {
        let out = render(folder.path(), document, cluster);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.code() == Some(2) && said.contains(part), "{part}: {said}");
    }
}
