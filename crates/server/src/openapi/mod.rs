//! The API's description for programs: `GET /openapi.json`.
//!
//! Derived from the handlers and the types (utoipa); what holds for many operations is put in here, so that it can't be
//! forgotten: problems, security, what parameters may be, links, and examples, which are real values of the wire types.

mod answers;
mod examples;
mod links;
mod parameters;
mod schemas;

use axum::Json;
use axum::extract::State;
use serde_json::Value;
use utoipa::OpenApi as _;
use yard_wire::Limits;

use crate::config::ServerConfig;
use crate::routes;
use crate::state::AppState;

pub use examples::CATALOG as CATALOG_EXAMPLE;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Switchyard",
        description = "One queue in, many Ray clusters out. Errors are RFC 9457 problems."
    ),
    paths(
        routes::submit::submit,
        routes::bulk::submit,
        routes::jobs::list,
        routes::job::get,
        routes::explain::job,
        routes::history::history,
        routes::events::all,
        routes::events::job,
        routes::logs::logs,
        routes::stop::stop,
        routes::receipt::receipt,
        routes::teams::list,
        routes::explain::team,
        routes::clusters::list,
        routes::clusters::drain,
        routes::clusters::resume,
        routes::catalog::put,
        routes::catalog::get,
        routes::catalog::versions,
        routes::audit::audit,
        routes::audit_log::list,
        routes::tokens::create,
        routes::tokens::list,
        routes::tokens::revoke,
        routes::workload::workload,
        routes::deliveries::list,
        routes::deliveries::retry,
        routes::health::healthz,
        routes::health::readyz,
        routes::metrics::metrics,
    )
)]
struct Description;

/// The OpenAPI document of a server with these limits.
pub fn document(config: &ServerConfig, limits: &Limits) -> Value {
    // What was derived is plain data: it always becomes JSON.
    let mut document = serde_json::to_value(Description::openapi()).unwrap_or_default();
    schemas::complete(&mut document["components"]["schemas"], limits);
    document["components"]["securitySchemes"] = answers::security_schemes();
    let Some(paths) = document["paths"].as_object_mut() else { return document };
    for (path, item) in paths {
        let Some(item) = item.as_object_mut() else { continue };
        for (method, operation) in item {
            let method = method.to_uppercase().parse().unwrap_or_default();
            answers::complete(operation, &method, path);
            parameters::complete(operation, path, config);
            links::complete(operation);
            examples::complete(operation);
            if operation["operationId"] == "stop_job" {
                operation["requestBody"]["required"] = Value::Bool(false);
            }
        }
    }
    document
}

pub(crate) async fn serve(State(state): State<AppState>) -> Json<Value> {
    Json(document(&state.config, &state.limits))
}

/// Path, method and description of every operation in a document.
#[cfg(test)]
pub(crate) fn every_operation(document: &Value) -> impl Iterator<Item = (&str, String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths.iter().flat_map(|(path, item)| {
        let item = item.as_object().unwrap();
        item.iter().map(|(method, operation)| (path.as_str(), method.to_uppercase(), operation))
    })
}

/// Path and method of every operation in the document.
#[cfg(test)]
pub(crate) fn operations() -> Vec<(String, String)> {
    let document = document(&ServerConfig::default(), &Limits::default());
    every_operation(&document).map(|(path, method, _)| (path.to_owned(), method)).collect()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use yard_wire::views::ProblemCode;

    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn every_described_operation_is_there_and_others_are_problems() {
        let world = World::new().await;
        for (path, method) in operations() {
            let real = path.replace("{id}", "no-such").replace("{team}", "a").replace("{key}", "b");
            // A stream without an end, unless it is refused.
            let real = if real == "/v1/events" { format!("{real}?after=x") } else { real };
            let request = Request::builder().method(method.as_str()).uri(&real).body(Body::empty()).unwrap();
            let answer = world.send(request).await;
            let code =
                serde_json::from_slice::<serde_json::Value>(&answer.bytes).unwrap_or_default()["detail"]
                    .clone();
            assert_ne!(answer.status.as_u16(), 405, "{method} {path}");
            assert!(!code.as_str().unwrap_or_default().contains("no such page"), "{method} {path}");
            let request = Request::builder().method("PATCH").uri(&real).body(Body::empty()).unwrap();
            let answer = world.send(request).await;
            answer.problem(405, "method_not_allowed");
            assert!(answer.headers["allow"].to_str().unwrap().contains(&method), "{method} {path}");
        }
        world.get("/v2/jobs").await.problem(404, "not_found");
        assert_eq!(world.get("/openapi.json").await.json()["info"]["title"], "Switchyard");
    }

    #[test]
    fn errors_are_problems_and_none_that_any_request_may_meet_is_left_out() {
        let document = document(&ServerConfig::default(), &Limits::default());
        assert_eq!(document["openapi"], "3.1.0");
        let mut seen = 0;
        for (path, method, operation) in every_operation(&document) {
            let responses = operation["responses"].as_object().unwrap();
            for (status, response) in responses.iter().filter(|(s, _)| s.starts_with(['4', '5'])) {
                let kinds: Vec<_> = response["content"].as_object().unwrap().keys().collect();
                assert_eq!(kinds, ["application/problem+json"], "{method} {path} {status}");
            }
            let always = ["400", "401", "429", "500", "503", "504"];
            for status in always.iter().filter(|_| path.starts_with("/v1/")) {
                assert!(responses.contains_key(*status), "{method} {path} lacks {status}");
            }
            assert_eq!(operation.get("security").is_some(), responses.contains_key("401"), "{method} {path}");
            assert!(method == "GET" || responses.contains_key("403"), "{method} {path}");
            seen += 1;
        }
        assert!(seen >= 28, "{seen} operations");
    }

    #[test]
    fn the_handbook_names_every_operation_and_problem() {
        let handbook = include_str!("../../../../docs/http-api.md");
        for (path, method) in operations() {
            assert!(
                handbook.contains(&format!("`{method} {path}`")),
                "{method} {path} is not in docs/http-api.md"
            );
        }
        for code in ProblemCode::ALL {
            let (name, status, _) = code.parts();
            let row = format!("| `{name}` | {status} |");
            assert!(handbook.contains(&row), "{row} is not in docs/http-api.md");
        }
    }
}
