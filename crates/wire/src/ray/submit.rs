//! `POST /api/jobs/`: a submission of Ray's client as a document of ours.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::python_type;
use super::settings::{SETTINGS, place, take};
use crate::submission::VERSION;

/// Ray's fields that ask for resources, and where they stand in a document of ours.
const RESOURCES: &[(&str, &str)] = &[
    ("entrypoint_num_cpus", "cpu"),
    ("entrypoint_num_gpus", "gpu"),
    ("entrypoint_memory", "memory"),
    ("entrypoint_resources", "custom"),
];

/// The fields of Ray's `JobSubmitRequest`.
const FIELDS: &[&str] = &[
    "entrypoint",
    "submission_id",
    "job_id",
    "runtime_env",
    "metadata",
    "entrypoint_num_cpus",
    "entrypoint_num_gpus",
    "entrypoint_memory",
    "entrypoint_resources",
    "entrypoint_label_selector",
];

/// What a submission is read with.
#[derive(Debug, Clone, Default)]
pub struct RayContext<'a> {
    /// The team if the submission names none.
    pub default_team: Option<&'a str>,
    /// The request's headers, names in lower case.
    pub headers: &'a [(String, String)],
    /// The labels that some cluster has.
    pub cluster_labels: BTreeSet<&'a str>,
    /// The submission id if it brings none.
    pub new_id: String,
}

/// A submission of Ray's client.
#[derive(Debug, Clone, PartialEq)]
pub struct RaySubmission {
    /// Its id: the job's key.
    pub id: String,
    /// The document of ours that says the same.
    pub document: Value,
}

/// Reads `body`; `Err` has everything that is wrong, in Ray's words where Ray has them, a line each.
pub fn submission(body: &Value, context: &RayContext<'_>) -> Result<RaySubmission, Vec<String>> {
    let Value::Object(given) = body else {
        return Err(vec![format!("the body must be a JSON object, got {}", python_type(body))]);
    };
    let given: Map<String, Value> =
        given.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), v.clone())).collect();
    let mut problems = shape_problems(&given);
    if !problems.is_empty() {
        return Err(problems);
    }
    let text = |name: &str| given.get(name).and_then(Value::as_str);
    let id = text("submission_id").or(text("job_id")).unwrap_or(&context.new_id).to_owned();
    let mut document = Map::new();
    document.insert("v".to_owned(), json!(VERSION));
    document.insert("key".to_owned(), json!(id));
    document.insert("entrypoint".to_owned(), given.get("entrypoint").cloned().unwrap_or_default());
    if let Some(env) = given.get("runtime_env").filter(|env| env.as_object().is_some_and(|e| !e.is_empty())) {
        document.insert("runtime_env".to_owned(), env.clone());
    }
    for (field, ours) in RESOURCES {
        if let Some(amount) = given.get(*field).and_then(|v| asked(ours, v)) {
            place(&mut document, ("resources", ours), amount);
        }
    }
    let mut metadata: BTreeMap<String, String> = texts(given.get("metadata"));
    let settings = take(&mut metadata, context.headers, &mut problems);
    for (setting, value) in settings {
        place(&mut document, setting.field, value);
    }
    if !metadata.is_empty() {
        document.insert("metadata".to_owned(), json!(metadata));
    }
    labels(&given, context, &mut document, &mut problems);
    if !document.contains_key("team") {
        match context.default_team {
            Some(team) => _ = document.insert("team".to_owned(), json!(team)),
            None => problems.push(
                "team: must be there: put \"yard.team\" into the job's metadata, or send the header X-Yard-Team, \
                 or have an operator set ray_api.default_team"
                    .to_owned(),
            ),
        }
    }
    if problems.is_empty() {
        Ok(RaySubmission { id, document: Value::Object(document) })
    } else {
        Err(problems)
    }
}

/// The name that Ray's client knows a document's field by.
pub fn client_field(path: &str) -> String {
    let ray = RESOURCES.iter().find_map(|(ray, ours)| {
        let rest = path.strip_prefix("resources.")?.strip_prefix(ours)?;
        Some(format!("{ray}{rest}"))
    });
    let setting = || {
        SETTINGS.iter().find_map(|s| {
            let (section, field) = s.field;
            let whole = if section.is_empty() { field.to_owned() } else { format!("{section}.{field}") };
            let rest =
                path.strip_prefix(&whole).filter(|rest| rest.is_empty() || rest.starts_with(['.', '[']))?;
            Some(format!("metadata.{}{rest}", s.metadata_key()))
        })
    };
    let key = || (path == "key").then(|| "submission_id".to_owned());
    ray.or_else(setting).or_else(key).unwrap_or_else(|| path.to_owned())
}

/// What Ray's own dataclass would refuse, in its words.
fn shape_problems(given: &Map<String, Value>) -> Vec<String> {
    let mut problems = Vec::new();
    for name in given.keys().filter(|name| !FIELDS.contains(&name.as_str())) {
        let name: String = name.chars().take(100).collect();
        problems.push(format!(
            "TypeError: JobSubmitRequest.__init__() got an unexpected keyword argument '{name}'"
        ));
    }
    if !given.contains_key("entrypoint") {
        problems.push(
            "TypeError: JobSubmitRequest.__init__() missing 1 required positional argument: 'entrypoint'"
                .to_owned(),
        );
    }
    for (name, value) in given {
        let wanted = match name.as_str() {
            "entrypoint" => (!value.is_string()).then_some("a string"),
            "submission_id" | "job_id" => (!value.is_string()).then_some("a string if provided"),
            "runtime_env" | "metadata" | "entrypoint_resources" | "entrypoint_label_selector" => {
                (!value.is_object()).then_some("a dict")
            }
            "entrypoint_num_cpus" | "entrypoint_num_gpus" => (!value.is_number()).then_some("a number"),
            "entrypoint_memory" => (!value.is_i64() && !value.is_u64()).then_some("an integer"),
            _ => None,
        };
        if let Some(wanted) = wanted {
            problems.push(format!("TypeError: {name} must be {wanted}, got {}", python_type(value)));
        }
        let inside = value.as_object().into_iter().flat_map(Map::values);
        let wrong = match name.as_str() {
            "metadata" | "entrypoint_label_selector" => {
                inside.map(|v| ("strings", v)).find(|(_, v)| !v.is_string())
            }
            "entrypoint_resources" => inside.map(|v| ("numbers", v)).find(|(_, v)| !v.is_number()),
            _ => None,
        };
        if let Some((wanted, wrong)) = wrong {
            problems.push(format!("TypeError: {name} values must be {wanted}, got {}", python_type(wrong)));
        }
    }
    problems
}

/// What is asked of a resource. To Ray, no memory and none of a custom resource are the same as not asking.
fn asked(ours: &str, value: &Value) -> Option<Value> {
    let zero = |v: &Value| v.as_f64() == Some(0.0);
    match (ours, value) {
        ("memory", v) if zero(v) => None,
        ("custom", Value::Object(all)) => {
            let some: Map<String, Value> =
                all.iter().filter(|(_, v)| !zero(v)).map(|(k, v)| (k.clone(), v.clone())).collect();
            (!some.is_empty()).then_some(Value::Object(some))
        }
        (_, v) => Some(v.clone()),
    }
}

fn texts(value: Option<&Value>) -> BTreeMap<String, String> {
    let pairs = value.and_then(Value::as_object).into_iter().flatten();
    pairs.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
}

/// A label selector is about the nodes of one cluster in Ray; here it chooses the cluster. What clusters have no label
/// for, or what asks for more than one value, can't be honoured.
fn labels(
    given: &Map<String, Value>,
    context: &RayContext<'_>,
    document: &mut Map<String, Value>,
    problems: &mut Vec<String>,
) {
    for (label, value) in texts(given.get("entrypoint_label_selector")) {
        let path = format!("entrypoint_label_selector.{label}");
        let known = || {
            let known: Vec<&str> = context.cluster_labels.iter().copied().collect();
            if known.is_empty() {
                "no cluster has labels".to_owned()
            } else {
                format!("clusters have: {}", known.join(", "))
            }
        };
        if !context.cluster_labels.contains(label.as_str()) {
            problems.push(format!(
                "{path}: no cluster has this label, and labels of nodes can't be selected through Switchyard ({})",
                known()
            ));
        } else if value.starts_with('!') || value.contains(['(', ')', ',']) {
            problems.push(format!("{path}: only one plain value can be selected, not {value:?}"));
        } else {
            let chosen = document.entry("clusters").or_insert_with(|| json!({}));
            let labels = chosen.as_object_mut().map(|c| c.entry("labels").or_insert_with(|| json!({})));
            if let Some(Value::Object(labels)) = labels {
                match labels.insert(label, json!(value)) {
                    Some(other) if other != json!(value) => {
                        problems.push(format!("{path}: differs from metadata.yard.cluster_labels"));
                    }
                    _ => {}
                }
            }
        }
    }
}
