//! The RayJob CRD's own schema, made strict: what it does not know is an error, as the API server would silently drop it.

use std::sync::OnceLock;

use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// The CRD as KubeRay 1.7.0 ships it.
const CRD: &str = include_str!("../../../infra/kubernetes/crds/ray.io_rayjobs.yaml");

/// Where pods are described, in the schema's terms.
const HEAD_POD: &[&str] = &["spec", "rayClusterSpec", "headGroupSpec", "template", "spec"];

/// Something wrong with a part of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, from the document's top: `profiles.gpu.pod.tolerations[0].key`.
    pub path: String,
    /// What, and how to mend it.
    pub message: String,
}

/// What documents are checked against.
#[derive(Debug)]
pub(crate) struct Schemas {
    /// A whole RayJob.
    job: Validator,
    /// A PodSpec without what is Switchyard's to say.
    pod: Validator,
    /// A Container without what is Switchyard's to say.
    container: Validator,
}

/// What Switchyard itself says of pods.
pub(crate) const POD_OWN: &[&str] =
    &["containers", "initContainers", "ephemeralContainers", "overhead", "resources"];
/// What Switchyard itself says of containers.
pub(crate) const CONTAINER_OWN: &[&str] = &["name", "image", "resources", "resizePolicy", "command", "args"];

impl Schemas {
    /// The schemas, read once.
    pub(crate) fn get() -> Result<&'static Self, String> {
        static SCHEMAS: OnceLock<Result<Schemas, String>> = OnceLock::new();
        SCHEMAS.get_or_init(Self::read).as_ref().map_err(Clone::clone)
    }

    fn read() -> Result<Self, String> {
        let mut options = serde_saphyr::options! {};
        options.budget = None;
        let crd: Value =
            serde_saphyr::from_str_with_options(CRD, options).map_err(|error| format!("the CRD: {error}"))?;
        let versions = crd["spec"]["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let v1 = versions.iter().find(|version| version["name"] == "v1");
        let v1 = v1.ok_or("the CRD has no version v1")?;
        let mut job = v1["schema"]["openAPIV3Schema"].clone();
        make_strict(&mut job);
        let pod = HEAD_POD.iter().try_fold(&job, |at, name| at.get("properties")?.get(name));
        let pod = pod.ok_or("the CRD describes no pods")?;
        let container = pod["properties"]["containers"]["items"].clone();
        let validator =
            |schema: &Value| jsonschema::draft7::new(schema).map_err(|error| format!("the CRD: {error}"));
        Ok(Self {
            job: validator(&job)?,
            pod: validator(&without(pod.clone(), POD_OWN))?,
            container: validator(&without(container, CONTAINER_OWN))?,
        })
    }

    /// Everything that is wrong with a RayJob.
    pub(crate) fn job(&self, job: &Value) -> Vec<Problem> {
        problems(&self.job, "", job)
    }

    /// Everything that is wrong with a part of a PodSpec.
    pub(crate) fn pod(&self, path: &str, pod: &Value) -> Vec<Problem> {
        problems(&self.pod, path, pod)
    }

    /// Everything that is wrong with a part of a Container.
    pub(crate) fn container(&self, path: &str, container: &Value) -> Vec<Problem> {
        problems(&self.container, path, container)
    }
}

/// Values are not shown: environment variables may hold what must not be.
fn problems(validator: &Validator, path: &str, value: &Value) -> Vec<Problem> {
    let problem = |error: jsonschema::ValidationError<'_>| Problem {
        path: joined(path, error.instance_path().as_str()),
        message: error.masked().to_string(),
    };
    validator.iter_errors(value).map(problem).collect()
}

/// `a.b` and `/c/0/d` make `a.b.c[0].d`.
fn joined(path: &str, pointer: &str) -> String {
    let mut shown = path.to_owned();
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        if part.bytes().all(|b| b.is_ascii_digit()) && !part.is_empty() {
            shown.push('[');
            shown.push_str(&part);
            shown.push(']');
        } else {
            if !shown.is_empty() {
                shown.push('.');
            }
            shown.push_str(&part);
        }
    }
    shown
}

/// The schema of a part: some fields belong to somebody else, and none must be there.
fn without(mut schema: Value, fields: &[&str]) -> Value {
    if let Some(map) = schema.as_object_mut() {
        map.remove("required");
        if let Some(properties) = map.get_mut("properties").and_then(Value::as_object_mut) {
            properties.retain(|name, _| !fields.contains(&name.as_str()));
        }
    }
    schema
}

/// Refuses fields that are not described, except where the schema says that anything goes.
fn make_strict(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else { return };
    map.remove("description");
    if is_closed(map) {
        map.insert("additionalProperties".to_owned(), json!(false));
    }
    for key in ["properties", "patternProperties"] {
        let children = map.get_mut(key).and_then(Value::as_object_mut);
        children.into_iter().flat_map(|m| m.values_mut()).for_each(make_strict);
    }
    for key in ["items", "additionalProperties", "not"] {
        if let Some(child) = map.get_mut(key) {
            make_strict(child);
        }
    }
}

fn is_closed(map: &Map<String, Value>) -> bool {
    map.contains_key("properties")
        && !map.contains_key("additionalProperties")
        && map.get("x-kubernetes-preserve-unknown-fields") != Some(&json!(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_is_found_at_its_place_and_no_value_is_shown() {
        let schemas = Schemas::get().unwrap();
        let sound = json!({
            "nodeSelector": {"pool": "gpu"}, "serviceAccountName": "ray", "priorityClassName": "batch",
            "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "10Gi"}}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]}}},
        });
        assert_eq!(schemas.pod("", &sound), []);
        let wrong = json!({
            "nodeSelector": {"pool": 7}, "tolerations": [{"kee": "gpu"}], "volumes": [{"emptyDir": {}}],
            "containers": [], "serviceAcountName": "x",
        });
        let found = schemas.pod("profiles.gpu.pod", &wrong);
        let mut paths: Vec<_> = found.iter().map(|problem| problem.path.as_str()).collect();
        paths.sort_unstable();
        assert_eq!(
            paths,
            [
                "profiles.gpu.pod",
                "profiles.gpu.pod.nodeSelector.pool",
                "profiles.gpu.pod.tolerations[0]",
                "profiles.gpu.pod.volumes[0]",
            ]
        );
        let top = found.iter().find(|problem| problem.path == "profiles.gpu.pod").unwrap();
        assert!(top.message.contains("serviceAcountName") && top.message.contains("containers"), "{top:?}");
        let secret = schemas.container("c", &json!({"env": [{"name": "TOKEN", "value": {"x": "hunter2"}}]}));
        assert!(secret.len() == 1 && !secret[0].message.contains("hunter2"), "{secret:?}");
        assert_eq!(schemas.container("c", &json!({"env": [{"name": "A", "value": "b"}]})), []);
    }
}
