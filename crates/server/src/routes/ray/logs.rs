//! `GET /api/jobs/{id}/logs`: the log of the last attempt, in one piece.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use futures::StreamExt;
use serde_json::{Value, json};
use yard_wire::views::ProblemCode;

use super::{RayError, find};
use crate::access::Caller;
use crate::logs::{self, Wish};
use crate::problem::ApiError;
use crate::state::AppState;

pub(super) async fn log(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, RayError> {
    let job = find(&state, &caller, &headers, &id).await?;
    let Some(attempt) = job.attempts.last() else { return Ok(Json(json!({"logs": ""}))) };
    let id = job.lifecycle.id;
    let mut log = match logs::open(&state, id, attempt, Wish::default()).await {
        Ok(log) => log.bytes,
        Err(error) if error.code() == ProblemCode::NoLog => return Ok(Json(json!({"logs": ""}))),
        Err(error) => return Err(error.into()),
    };
    let max = state.ray.config.log_bytes_max;
    let (mut kept, mut left_out) = (Vec::new(), 0);
    while let Some(chunk) = log.next().await {
        kept.extend_from_slice(&chunk.map_err(|error| broken(&error))?);
        if kept.len() > max.saturating_mul(2) {
            left_out += keep_end(&mut kept, max);
        }
    }
    left_out += keep_end(&mut kept, max);
    let text = String::from_utf8_lossy(&kept);
    let text = if left_out == 0 {
        text.into_owned()
    } else {
        format!("[the first {left_out} bytes are left out here; all of it: GET /v1/jobs/{id}/logs]\n{text}")
    };
    Ok(Json(json!({"logs": text})))
}

fn broken(error: &std::io::Error) -> ApiError {
    ApiError::new(ProblemCode::ClusterUnreachable, error.to_string())
}

/// Cuts all but the last `max` bytes; how many that were.
fn keep_end(kept: &mut Vec<u8>, max: usize) -> usize {
    let cut = kept.len().saturating_sub(max);
    kept.drain(..cut);
    cut
}
