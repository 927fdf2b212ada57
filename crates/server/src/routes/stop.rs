//! `POST /v1/jobs/{id}/stop`: ask for a job to be stopped.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use yard_ports::store::StopAnswer;
use yard_wire::views::{FieldProblem, Problem, ProblemCode, StopAnswerView, StopRequest};

use super::submit::json_body;
use super::{JobPath, no_such_job};
use crate::layers::CALLER;
use crate::problem::ApiError;
use crate::state::AppState;

/// Longest reason, in characters.
const REASON_CHARS_MAX: usize = 500;

#[utoipa::path(
    post, path = "/v1/jobs/{id}/stop", tag = "jobs", summary = "Ask for a job to be stopped",
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
    JobPath(id): JobPath,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<StopAnswerView>), ApiError> {
    let reason = reason(&headers, body, state.config.body_max_bytes)?;
    let answer = state.store.request_stop(id, CALLER, &reason).await?;
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
    let request: StopRequest = serde_json::from_slice(&body).map_err(|e| {
        ApiError::new(
            ProblemCode::BadRequest,
            format!("the body must be {{\"reason\": \"…\"}}, or nothing: {e}"),
        )
    })?;
    let chars = request.reason.chars().count();
    if chars > REASON_CHARS_MAX {
        let message = format!("has {chars} characters; at most {REASON_CHARS_MAX} are allowed");
        let error = FieldProblem { field: "reason".to_owned(), code: "too_large".to_owned(), message };
        return Err(ApiError::fields(ProblemCode::Rejected, "the reason is too long", vec![error]));
    }
    Ok(request.reason)
}
