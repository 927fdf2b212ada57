//! `POST /v1/jobs/{id}/stop`: ask for a job to be stopped.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use serde_json::Value;
use yard_domain::Right;
use yard_ports::store::StopAnswer;
use yard_wire::views::{FieldProblem, Problem, ProblemCode, StopAnswerView, StopRequest};

use super::submit::json_body;
use super::{JobPath, find_job, no_such_job};
use crate::access::Caller;
use crate::problem::ApiError;
use crate::state::AppState;

/// Longest reason, in characters.
const REASON_CHARS_MAX: usize = 500;

#[utoipa::path(
    post, path = "/v1/jobs/{id}/stop", operation_id = "stop_job", tag = "jobs", summary = "Ask for a job to be stopped",
    description = "The wish is kept, whatever dies. Asking again, or after the job's end, changes nothing.",
    params(("id" = String, Path, description = "The job's id")),
    request_body(content = StopRequest, description = "May be left out"),
    responses(
        (status = 200, description = "It has ended: just now, or before", body = StopAnswerView),
        (status = 202, description = "The wish is kept and will be carried out", body = StopAnswerView),
        (status = 404, description = "There is no such job", body = Problem),
    )
)]
pub(crate) async fn stop(
    State(state): State<AppState>,
    caller: Caller,
    JobPath(id): JobPath,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<StopAnswerView>), ApiError> {
    let reason = reason(&headers, body, state.config.body_max_bytes)?;
    let team = find_job(&state, &caller, id).await?.lifecycle.team;
    caller.about_job(&team, id);
    caller.need(Right::Stop, &team)?;
    let answer = state.store.request_stop(id, &caller.actor(), &reason).await?;
    let view = StopAnswerView::new(id, answer).ok_or_else(|| no_such_job(id))?;
    let status = match answer {
        StopAnswer::Requested => {
            (state.nudge)();
            StatusCode::ACCEPTED
        }
        _ => StatusCode::OK,
    };
    Ok((status, Json(view)))
}

fn reason(headers: &HeaderMap, body: Result<Bytes, BytesRejection>, max: usize) -> Result<String, ApiError> {
    if body.as_ref().is_ok_and(Bytes::is_empty) {
        return Ok(String::new());
    }
    let body = json_body(headers, body, max)?;
    let document: Value = serde_json::from_slice(&body)
        .map_err(|e| ApiError::new(ProblemCode::BadRequest, format!("the body is not valid JSON: {e}")))?;
    let Value::Object(fields) = &document else {
        return Err(ApiError::new(
            ProblemCode::BadRequest,
            "the body must be {\"reason\": \"…\"}, or nothing",
        ));
    };
    let errors: Vec<FieldProblem> = fields.iter().filter_map(|(name, value)| wrong(name, value)).collect();
    if !errors.is_empty() {
        return Err(ApiError::fields(
            ProblemCode::BadRequest,
            "the body has wrong fields: see errors",
            errors,
        ));
    }
    Ok(fields.get("reason").and_then(Value::as_str).unwrap_or_default().to_owned())
}

/// What is wrong with a field of a [`StopRequest`], if anything is.
fn wrong(name: &str, value: &Value) -> Option<FieldProblem> {
    let (code, message) = match value {
        _ if name != "reason" => ("unknown_field", "there is no such field; known is reason".to_owned()),
        Value::Null => return None,
        Value::String(reason) => match reason.chars().count() {
            0..=REASON_CHARS_MAX => return None,
            n => ("too_large", format!("has {n} characters; at most {REASON_CHARS_MAX} are allowed")),
        },
        _ => ("invalid", "must be a text in quotes".to_owned()),
    };
    Some(FieldProblem { field: name.chars().take(100).collect(), code: code.to_owned(), message, line: None })
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use serde_json::json;

    use crate::testing::World;

    #[tokio::test]
    async fn a_queued_job_ends_and_a_running_one_carries_the_wish() {
        let world = World::new().await;
        let (running, queued) = (world.job("a").await, world.job("b").await);
        world.run(running, "east").await;
        let nudged = world.nudged();
        let answer = world.post(&format!("/v1/jobs/{running}/stop"), &json!({"reason": "wrong data"})).await;
        assert_eq!((answer.status.as_u16(), answer.json()["answer"].clone()), (202, json!("requested")));
        assert_eq!(world.nudged(), nudged + 1);
        assert_eq!(world.get(&format!("/v1/jobs/{running}")).await.json()["stop_requested"], true);
        let history = world.get(&format!("/v1/jobs/{running}/history")).await.json();
        let last = history["lines"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(
            (&last["event"], &last["data"]["reason"]),
            (&json!("stop_requested"), &json!("wrong data"))
        );
        assert_eq!(last["actor"], "user:bootstrap");

        let path = format!("/v1/jobs/{queued}/stop");
        let bodyless = world.send(Request::post(&path).body(Body::empty()).unwrap()).await;
        assert_eq!((bodyless.status.as_u16(), bodyless.json()["answer"].clone()), (200, json!("stopped")));
        let again = world.post(&path, &json!({})).await.json();
        assert_eq!((&again["answer"], &again["state"]), (&json!("already_ended"), &json!("stopped")));
    }

    #[tokio::test]
    async fn a_wrong_request_changes_nothing() {
        let world = World::new().await;
        let id = world.job("a").await;
        let path = format!("/v1/jobs/{id}/stop");
        let wrong = world.post(&path, &json!({"reason": 5, "why": "x"})).await.problem(400, "bad_request");
        let fields: Vec<_> = wrong["errors"].as_array().unwrap().iter().map(|e| e["field"].clone()).collect();
        assert_eq!(fields, [json!("reason"), json!("why")]);
        let long = world.post(&path, &json!({"reason": "x".repeat(501)})).await.problem(400, "bad_request");
        assert_eq!(long["errors"][0]["code"], "too_large");
        world.post(&path, &json!(["reason"])).await.problem(400, "bad_request");
        world
            .post("/v1/jobs/00000000-0000-0000-0000-000000000000/stop", &json!({}))
            .await
            .problem(404, "not_found");
        assert_eq!(world.get(&format!("/v1/jobs/{id}")).await.json()["state"], "queued");
    }
}
