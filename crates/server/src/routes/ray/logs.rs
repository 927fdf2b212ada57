//! `GET /api/jobs/{id}/logs`: the log of the last attempt, in one piece.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use futures::StreamExt;
use serde_json::{Value, json};
use yard_domain::RemoteName;
use yard_ports::DriverError;

use super::{RayError, find};
use crate::problem::ApiError;
use crate::routes::logs::driver;
use crate::state::AppState;

pub(super) async fn logs(
    State(state): State<AppState>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, RayError> {
    let job = find(&state, &headers, &id).await?;
    let Some(attempt) = job.attempts.last() else { return Ok(Json(json!({"logs": ""}))) };
    let id = job.lifecycle.id;
    let driver = driver(&state, id, attempt)?;
    let log = match driver.logs(&RemoteName::new(id, attempt.number), 0, false).await {
        Ok(log) => log,
        Err(DriverError::NotFound) => return Ok(Json(json!({"logs": ""}))),
        Err(error) => return Err(ApiError::from(error).into()),
    };
    let max = state.ray.config.log_bytes_max;
    let (mut kept, mut left_out, mut log) = (Vec::new(), 0, log);
    while let Some(chunk) = log.next().await {
        kept.extend_from_slice(&chunk.map_err(ApiError::from)?);
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

/// Cuts all but the last `max` bytes; how many that were.
fn keep_end(kept: &mut Vec<u8>, max: usize) -> usize {
    let cut = kept.len().saturating_sub(max);
    kept.drain(..cut);
    cut
}
