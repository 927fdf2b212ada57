//! The API's description for programs: `GET /openapi.json`.

use axum::Json;
use utoipa::OpenApi as _;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, ResponseBuilder};

use crate::routes;

/// The media type of errors.
const PROBLEM: &str = "application/problem+json";

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

/// The OpenAPI document.
pub fn document() -> OpenApi {
    let mut document = Description::openapi();
    for (path, item) in &mut document.paths.paths {
        let operations = [
            (&mut item.get, false),
            (&mut item.put, true),
            (&mut item.post, true),
            (&mut item.delete, true),
            (&mut item.patch, true),
        ];
        for (operation, changes) in operations {
            if let Some(operation) = operation {
                complete(operation, path.starts_with("/v1/"), changes);
            }
        }
    }
    document
}

/// What holds for every operation: errors are problems, and those that may meet any request are said.
fn complete(operation: &mut Operation, in_api: bool, changes: bool) {
    let responses = &mut operation.responses.responses;
    let mut say = |status: &str, description: &str| {
        let problem = Content::new(Some(Ref::from_schema_name("Problem")));
        let response = ResponseBuilder::new().description(description).content(PROBLEM, problem).build();
        responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(response));
    };
    if in_api {
        say("400", "The path, a parameter or the body can't be read: see errors");
        if changes {
            say("403", "It comes from a page of another site, open in a browser");
        }
        say("500", "A fault of the server, or a row that does not fit the model");
        say("503", "Too many requests at once, or the database can't be used now: see Retry-After");
        say("504", "It took longer than the server allows; it may still take effect");
    }
    for (status, response) in responses {
        if let (RefOr::T(response), true) = (response, status.starts_with(['4', '5']))
            && let Some(content) = response.content.shift_remove("application/json")
        {
            response.content.insert(PROBLEM.to_owned(), content);
        }
    }
}

pub(crate) async fn serve() -> Json<OpenApi> {
    Json(document())
}

/// Path and method of every operation in the document.
#[cfg(test)]
pub(crate) fn operations() -> Vec<(String, String)> {
    let document = serde_json::to_value(document()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let of = |(path, item): (&String, &serde_json::Value)| {
        let methods = item.as_object().unwrap().keys().map(|m| m.to_uppercase());
        methods.map(|m| (path.clone(), m)).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of).collect()
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
        assert_eq!(operations().len(), 30);
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
        let document = serde_json::to_value(document()).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        for (path, method) in operations() {
            let responses = document["paths"][&path][method.to_lowercase()]["responses"].as_object().unwrap();
            for (status, response) in responses.iter().filter(|(s, _)| s.starts_with(['4', '5'])) {
                let kinds: Vec<_> = response["content"].as_object().unwrap().keys().collect();
                assert_eq!(kinds, ["application/problem+json"], "{method} {path} {status}");
            }
            for status in ["400", "500", "503", "504"].iter().filter(|_| path.starts_with("/v1/")) {
                assert!(responses.contains_key(*status), "{method} {path} lacks {status}");
            }
            assert_eq!(responses.contains_key("403"), method != "GET", "{method} {path}");
        }
    }

    #[test]
    fn the_handbook_names_every_operation_and_problem() {
        let handbook = include_str!("../../../docs/http-api.md");
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
