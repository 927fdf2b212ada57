//! Examples for every operation, made of the types that the server reads and writes. A test holds each to its schema, and that
//! no body is without one.

mod installation;
mod jobs;
mod problems;
mod push;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::answers::PROBLEM;
pub use installation::CATALOG;

pub(super) const JOB: &str = "019ab3c4-7d10-7e55-8c3b-2f1d5a6b7c8d";
pub(super) const TEAM: &str = "ads";
pub(super) const KEY: &str = "nightly-2026-11-22";
pub(super) const CLUSTER: &str = "east";
pub(super) const TOKEN_ID: &str = "0f3a9c0d5e6b7182";
/// When things were accepted, and what is told is as of.
pub(super) const NOW: &str = "2026-11-22T22:30:45.123456Z";
/// When they will have ended.
pub(super) const LATER: &str = "2026-11-23T04:30:45.123456Z";

const JSON: &str = "application/json";
const TEXT: &str = "text/plain";

/// An example: the kind of its body, what it shows, and the body.
struct Example(&'static str, &'static str, Value);

/// An example in JSON.
fn json_of(shows: &'static str, body: &impl Serialize) -> Example {
    // These types have nothing that JSON can't hold.
    Example(JSON, shows, serde_json::to_value(body).unwrap_or_default())
}

/// An example in text.
fn text_of(kind: &'static str, shows: &'static str, body: impl Into<String>) -> Example {
    Example(kind, shows, Value::String(body.into()))
}

/// Puts the examples of an operation into its description.
pub(super) fn complete(operation: &mut Value) {
    let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
    for example in jobs::bodies(&id).into_iter().chain(installation::bodies(&id)) {
        put(&mut operation["requestBody"]["content"], example);
    }
    let takes_body = operation.get("requestBody").is_some();
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    for (status, response) in responses {
        let Some(content) = response.get_mut("content") else { continue };
        if content.get(PROBLEM).is_some() {
            for problem in problems::examples(&id, status, takes_body) {
                put(content, Example(PROBLEM, problem.0, json!(problem.1)));
            }
        }
        let of_all = [jobs::answers, installation::answers, push::answers];
        for example in of_all.iter().flat_map(|answers| answers(&id, status)) {
            put(content, example);
        }
    }
}

fn put(content: &mut Value, Example(kind, shows, value): Example) {
    let Some(content) = content.get_mut(kind).and_then(Value::as_object_mut) else { return };
    let examples = content.entry("examples").or_insert_with(|| Value::Object(Map::new()));
    let name = shows.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    examples[name] = json!({"summary": shows, "value": value});
}

#[cfg(test)]
mod tests {
    use crate::config::ServerConfig;
    use crate::openapi::{document, every_operation};
    use serde_json::{Value, json};

    /// What is wrong with a value by a schema of the document.
    fn faults(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
        let mut schema = schema.clone();
        schema["components"] = document["components"].clone();
        let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
        validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect()
    }

    fn check(document: &Value, of: &str, content: &Value) -> usize {
        let mut seen = 0;
        for (kind, body) in content.as_object().into_iter().flatten() {
            let examples =
                body["examples"].as_object().unwrap_or_else(|| panic!("{of} has no example of {kind}"));
            for (name, example) in examples {
                // A stream is a text: the schema is about the data of each message, or about all lines.
                let mut schema = &body["schema"];
                let values: Vec<Value> = match (kind.as_str(), &example["value"]) {
                    ("text/event-stream", Value::String(text)) => {
                        schema = &schema["properties"]["data"]["contentSchema"];
                        let data = text.lines().filter_map(|l| l.strip_prefix("data: "));
                        data.map(|l| serde_json::from_str(l).unwrap()).collect()
                    }
                    ("application/jsonl", Value::String(text)) => {
                        vec![text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()).collect()]
                    }
                    (_, value) => vec![value.clone()],
                };
                assert!(!values.is_empty(), "{of}: {name} is empty");
                for value in values {
                    assert_eq!(faults(document, schema, &value), [""; 0], "{of} {kind}, {name}: {value}");
                    seen += 1;
                }
            }
        }
        seen
    }

    #[test]
    fn every_operation_has_examples_that_its_schemas_accept() {
        let document = document(&ServerConfig::default(), &yard_wire::Limits::default());
        let mut ids = Vec::new();
        for (path, method, operation) in every_operation(&document) {
            let name = format!("{method} {path}");
            ids.push(operation["operationId"].as_str().unwrap());
            if operation.get("requestBody").is_some() {
                assert!(check(&document, &name, &operation["requestBody"]["content"]) > 0, "{name}");
            }
            let mut good = 0;
            for (status, response) in operation["responses"].as_object().unwrap() {
                let seen = check(&document, &format!("{name} {status}"), &response["content"]);
                good += if status.starts_with('2') { seen } else { 0 };
            }
            assert!(good > 0, "{name} has no example of a good answer");
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                if let Some(example) = parameter.get("example") {
                    assert_eq!(
                        faults(&document, &parameter["schema"], example),
                        [""; 0],
                        "{name} {parameter}"
                    );
                } else {
                    assert_ne!(parameter["required"], true, "{name} {parameter}");
                }
            }
        }
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all, "two operations have one operationId");
    }

    #[test]
    fn a_wrong_example_would_be_found() {
        let document = document(&ServerConfig::default(), &yard_wire::Limits::default());
        let schema = &json!({"$ref": "#/components/schemas/Submission"});
        assert_eq!(faults(&document, schema, &json!({"v": 1, "team": "ads", "entrypoint": "x"})), [""; 0]);
        for wrong in [
            json!({"v": 2, "team": "ads", "entrypoint": "x"}),
            json!({"v": 1, "team": "Ads", "entrypoint": "x"}),
            json!({"v": 1, "team": "ads", "entrypoint": "x", "resources": {"cpu": 0.0001}}),
            json!({"v": 1, "team": "ads", "entrypoint": "x", "resources": {"memory": "0GiB"}}),
            json!({"v": 1, "team": "ads", "entrypoint": "x", "priority": 1, "priority_class": "high"}),
            json!({"v": 1, "team": "ads", "entrypoint": "x", "metadata": {"yard.x": "1"}}),
        ] {
            assert_ne!(faults(&document, schema, &wrong), [""; 0], "{wrong}");
        }
    }
}
