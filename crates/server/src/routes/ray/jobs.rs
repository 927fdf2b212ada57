//! Version, list, info, stop, delete.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
use yard_ports::store::StopAnswer;
use yard_wire::ray::{JobDetails, is_final, ray_status};

use super::{RayError, find, find_to_change, redact_waits, team_of};
use crate::access::Caller;
use crate::state::AppState;

/// The version of the Jobs API: 4 has DELETE.
const API_VERSION: &str = "4";

pub(super) async fn version(State(state): State<AppState>) -> Json<Value> {
    Json(json!({
        "version": API_VERSION,
        "ray_version": state.ray.config.ray_version,
        "ray_commit": concat!("switchyard-", env!("CARGO_PKG_VERSION")),
        "session_name": "switchyard",
    }))
}

pub(super) async fn info(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<JobDetails>, RayError> {
    let mut job = find(&state, &caller, &headers, &id).await?;
    redact_waits(&state, &caller, std::slice::from_mut(&mut job)).await?;
    Ok(Json(JobDetails::new(&job, is_browser(&headers))?))
}

pub(super) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Json<Vec<JobDetails>>, RayError> {
    let teams = match team_of(&headers)? {
        // As with the native list: of a team that is not seen, there is nothing.
        Some(team) => Some(if caller.sees(&team) { vec![team] } else { Vec::new() }),
        None => caller.teams(),
    };
    let mut jobs = state.store.shown_jobs(teams.as_deref(), state.ray.config.list_max).await?;
    redact_waits(&state, &caller, &mut jobs).await?;
    let browser = is_browser(&headers);
    let details = jobs.iter().map(|job| JobDetails::new(job, browser)).collect::<Result<Vec<_>, _>>()?;
    Ok(Json(details))
}

pub(super) async fn stop(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, RayError> {
    let job = find_to_change(&state, &caller, &headers, &id).await?;
    let answer =
        state.store.request_stop(job.lifecycle.id, &caller.actor(), "through the Ray Jobs API").await?;
    let stopped = match answer {
        StopAnswer::Stopped => true,
        StopAnswer::Requested => {
            (state.nudge)();
            true
        }
        StopAnswer::AlreadyEnded(_) => false,
        StopAnswer::NoSuchJob => return Err(RayError::no_such_job(&id)),
    };
    Ok(Json(json!({"stopped": stopped})))
}

/// Takes the job out of this API's view. Our own record of it stays as long as any other's.
pub(super) async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, RayError> {
    let job = find_to_change(&state, &caller, &headers, &id).await?;
    let current = &job.lifecycle.state;
    if !is_final(current) {
        let text = format!(
            "RuntimeError: Attempted to delete job '{id}', but it is in a non-terminal state {}.",
            ray_status(current)
        );
        return Err(RayError::new(StatusCode::INTERNAL_SERVER_ERROR, text));
    }
    state.store.hide_job(job.lifecycle.id).await?;
    Ok(Json(json!({"deleted": true})))
}

/// Ray's own rule: a browser is not shown the values of environment variables.
fn is_browser(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    agent.starts_with("Mozilla") || headers.keys().any(|name| name.as_str().starts_with("sec-fetch-"))
}
