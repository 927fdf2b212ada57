//! What parameters may be, by their names: the same everywhere, and as strict as the server reads them.

use serde_json::{Value, json};
use yard_domain::StateName;

use super::examples;
use crate::config::ServerConfig;

/// A DNS label: a team, a cluster.
pub(super) const LABEL: &str = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$";
/// Where a page of deliveries ends: team, subscription, event.
const DELIVERY: &str = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/[0-9]{1,18}$";
/// `NAME=VALUE`, with a name that can be searched by.
const PAIR: &str = "^[^=\"\\\\\\u0000-\\u001f\\u007f-\\u009f]+=";
/// A number of seconds, 0 to 300.
const WAIT: &str = "^([0-2]?[0-9]{1,2}|300)s?$";

/// Says what each parameter of an operation may be, with an example.
pub(super) fn complete(operation: &mut Value, path: &str, config: &ServerConfig) {
    let Some(parameters) = operation.get_mut("parameters").and_then(Value::as_array_mut) else { return };
    for parameter in parameters {
        let name = parameter["name"].as_str().unwrap_or_default().to_owned();
        not_null(&mut parameter["schema"]);
        let Some((schema, example)) = known(path, &name, config) else { continue };
        parameter["schema"] = schema;
        // Of parameters that may be left out, an example would read as a recommendation.
        if parameter["in"] == "path" || parameter["required"] == true {
            parameter["example"] = example;
        }
    }
}

/// A parameter is there or not; it can't be null.
fn not_null(schema: &mut Value) {
    if let Some(kind) =
        schema["type"].as_array().and_then(|kinds| kinds.iter().find(|k| *k != "null").cloned())
    {
        schema["type"] = kind;
    }
}

fn known(path: &str, name: &str, config: &ServerConfig) -> Option<(Value, Value)> {
    let number =
        |min: u64, max: u64| json!({"type": "integer", "format": "int64", "minimum": min, "maximum": max});
    let text = |pattern: &str| json!({"type": "string", "pattern": pattern});
    let many = |item: Value| json!({"type": "array", "items": item});
    let job = json!({"type": "string", "format": "uuid"});
    let states: Vec<_> = StateName::ALL.into_iter().map(StateName::code).collect();
    let whole = i64::MAX.unsigned_abs();
    Some(match (path, name) {
        ("/v1/tokens/{id}", "id") | ("/v1/tokens", "cursor") => {
            (text("^[0-9a-f]{16}$"), json!(examples::TOKEN_ID))
        }
        ("/v1/deliveries/retry", "id") => (many(number(0, whole)), json!([4711])),
        ("/v1/deliveries", "state") => {
            (json!({"type": "string", "enum": ["pending", "dead"]}), json!("dead"))
        }
        ("/v1/deliveries", "cursor") => (text(DELIVERY), json!("ads/results/4711")),
        (_, "subscription") => (text(LABEL), json!("results")),
        (path, "id") if path.starts_with("/v1/jobs") => (job, json!(examples::JOB)),
        ("/v1/jobs", "cursor") => (job, json!(examples::JOB)),
        (path, "id") if path.starts_with("/v1/clusters") => (text(LABEL), json!(examples::CLUSTER)),
        ("/v1/receipts/{team}/{key}", "team") => (json!({"type": "string"}), json!(examples::TEAM)),
        ("/v1/receipts/{team}/{key}", "key") => (json!({"type": "string"}), json!(examples::KEY)),
        ("/v1/events", "team") => (many(text(LABEL)), json!([examples::TEAM])),
        ("/v1/events", "job") => (many(job), json!([examples::JOB])),
        (_, "team") => (text(LABEL), json!(examples::TEAM)),
        (_, "cluster") => (text(LABEL), json!(examples::CLUSTER)),
        (_, "state") => (many(json!({"type": "string", "enum": states})), json!(["running"])),
        (_, "metadata" | "label") => (many(text(PAIR)), json!(["dag=nightly"])),
        (_, "accepted_after" | "accepted_before" | "from" | "to") => {
            let example = if name == "to" { examples::LATER } else { examples::NOW };
            (json!({"type": "string", "format": "date-time"}), json!(example))
        }
        (_, "limit") => (number(1, config.page_max.into()), json!(20)),
        (_, "attempt") => (text("^(all|[1-9][0-9]{0,8})$"), json!("1")),
        (_, "source") => {
            (json!({"type": "string", "enum": ["job", "head", "workers", "submitter"]}), json!("head"))
        }
        (_, "wait") => (text(WAIT), json!("30s")),
        (_, "tail_bytes") => (number(1, config.logs.buffer_bytes_max as u64), json!(4096)),
        (_, "Idempotency-Key") => {
            let key = json!({"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"});
            (key, json!(examples::KEY))
        }
        (_, "If-Match") => (text("^\"[0-9]{1,18}\"$"), json!("\"7\"")),
        (_, "version" | "expected") => (number(0, whole), json!(7)),
        (path, "after" | "Last-Event-ID") if path.starts_with("/v1/jobs/") => {
            (number(0, u32::MAX.into()), json!(3))
        }
        ("/v1/audit/log", "before") => (
            json!({"type": "integer", "format": "int64", "minimum": i64::MIN, "maximum": i64::MAX}),
            json!(120),
        ),
        (_, "after" | "Last-Event-ID" | "before" | "offset" | "max_bytes") => (number(0, whole), json!(4096)),
        _ => return None,
    })
}
