//! What holds for every operation: who may ask, and the problems that may meet any request.

use axum::http::Method;
use serde_json::{Value, json};
use yard_domain::Right;

use crate::access::rules::{self, Who};

/// The media type of errors.
pub(super) const PROBLEM: &str = "application/problem+json";
/// The name of the only security scheme.
const TOKEN: &str = "token";

/// The security scheme that operations name.
pub(super) fn security_schemes() -> Value {
    json!({TOKEN: {
        "type": "http", "scheme": "bearer",
        "description": "An API token (yard_…), a token (JWT) of an issuer that is trusted, or the operator token of the configuration",
    }})
}

/// Says who may ask, and the problems that any request to this operation may meet.
pub(super) fn complete(operation: &mut Value, method: &Method, path: &str) {
    let in_api = path.starts_with("/v1/");
    let who = rules::find(method, &path.replace("{key}", "{*key}")).map(|rule| rule.who);
    let mut problems: Vec<(&str, &str)> = Vec::new();
    if let Some(Who::Has(right) | Who::Metrics(right)) = who {
        operation["security"] = json!([{TOKEN: []}]);
        problems.push(("401", "There was no token, or it is not good (any more)"));
        problems.push(("429", "More requests than one caller may send: see Retry-After"));
        if method != Method::GET {
            problems.push(("403", "The token is not good for this, or it comes from a page of another site"));
        } else if !matches!(right, Right::SeeTeam | Right::SeeShared) {
            problems.push(("403", "The token is not good for this"));
        }
    }
    if in_api {
        problems.push(("400", "The path, a parameter or the body can't be read: see errors"));
        problems.push(("500", "A fault of the server, or a row that does not fit the model"));
        problems
            .push(("503", "Too many requests at once, or the database can't be used now: see Retry-After"));
        problems.push(("504", "It took longer than the server allows; it may still take effect"));
    }
    if operation.get("requestBody").is_some() {
        problems.push(("413", "The body is too large"));
        problems.push(("415", "The body is not declared to be what it must be"));
    }
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    for (status, description) in problems {
        let response = json!({"description": description, "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}});
        responses.entry(status).or_insert(response);
    }
    for (status, response) in responses {
        // The format wants one, also where the summary has said it all.
        if response["description"].as_str().is_none_or(str::is_empty) {
            response["description"] = json!("What was asked for");
        }
        if status.starts_with(['4', '5']) {
            problem(status, response);
        }
        if let Some(stream) = response.pointer_mut("/content/text~1event-stream/schema") {
            *stream = message(stream);
        }
    }
}

/// Of a stream, the schema of each message: what it holds is in `data`, as JSON.
fn message(of_data: &Value) -> Value {
    json!({
        "type": "object",
        "description": "Of each message",
        "required": ["data"],
        "properties": {
            "id": {"type": "string", "pattern": "^[0-9]+$"},
            "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": of_data},
        },
    })
}

/// Errors are problems, and some have a header.
fn problem(status: &str, response: &mut Value) {
    if let Some(content) = response["content"].as_object_mut()
        && let Some(given) = content.remove("application/json")
    {
        content.insert(PROBLEM.to_owned(), given);
    }
    let header = match status {
        "401" => ("WWW-Authenticate", json!({"description": "Bearer", "schema": {"type": "string"}})),
        "429" | "503" => (
            "Retry-After",
            json!({"description": "After so many seconds", "schema": {"type": "integer", "minimum": 0}}),
        ),
        _ => return,
    };
    response["headers"][header.0] = header.1;
}
