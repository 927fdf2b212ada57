//! The Ray Jobs API, for Ray's own client: `ray job …` and `ray.job_submission`. docs/ray-api.md says what is the same
//! and what differs. Not part of the OpenAPI document: Ray's client is its definition.
//!
//! Jobs are found by their submission id, which is their key; it is unique within a team only. A job of a team that the
//! caller does not see is not there: Ray's own 404.

mod jobs;
mod logs;
mod packages;
mod submit;
mod tail;

#[cfg(test)]
mod tests;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use yard_domain::{Right, TeamId};
use yard_ports::StoreError;
use yard_ports::store::JobView;
use yard_wire::DocumentError;
use yard_wire::views::ProblemCode;

use super::logs::Streams;
use crate::access::{Caller, redact};
use crate::layers;
use crate::problem::ApiError;
use crate::state::AppState;
use crate::{RayApi, ServerConfig};

/// The header that narrows everything to one team.
const TEAM_HEADER: &str = "x-yard-team";

/// The routes, with their limits.
pub(crate) fn routes(state: &AppState, streams: &Streams) -> Router {
    let config = &state.config;
    let jobs = Router::new()
        .route("/api/version", get(jobs::version))
        .route("/api/jobs/", get(jobs::list).post(submit::submit))
        .route("/api/jobs/{id}", get(jobs::info).delete(jobs::delete))
        .route("/api/jobs/{id}/stop", post(jobs::stop))
        .route("/api/jobs/{id}/logs", get(logs::log))
        .route("/api/jobs/{id}/logs/tail", get(tail::tail).layer(axum::Extension(streams.clone())))
        .with_state(state.clone());
    let RayApi { config: ray, .. } = state.ray.as_ref();
    let uploads = ServerConfig {
        request_timeout: ray.upload_timeout,
        concurrency_max: ray.uploads_max,
        ..config.as_ref().clone()
    };
    let packages = Router::new()
        .route("/api/packages/{protocol}/{name}", get(packages::exists).put(packages::put))
        .route("/api/packages/link/{grant}/{name}", get(packages::download))
        .with_state(state.clone());
    layers::guard(jobs, config).merge(layers::guard(packages, &uploads))
}

/// An error as Ray's server words it: plain text.
#[derive(Debug)]
pub(super) struct RayError {
    status: StatusCode,
    text: String,
    retry_after: Option<u64>,
    /// Our own word for it, for the audit log.
    code: Option<ProblemCode>,
}

impl RayError {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), retry_after: None, code: None }
    }

    fn no_such_job(id: &str) -> Self {
        let text = format!("Job {id} does not exist");
        Self { code: Some(ProblemCode::NotFound), ..Self::new(StatusCode::NOT_FOUND, text) }
    }
}

impl IntoResponse for RayError {
    fn into_response(self) -> Response {
        let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
        let mut response = (self.status, kind, self.text).into_response();
        if let Some(code) = self.code {
            response.extensions_mut().insert(code);
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<ApiError> for RayError {
    fn from(error: ApiError) -> Self {
        let problem = error.problem();
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let text = format!("{}: {}", problem.title, problem.detail);
        Self { status, text, retry_after: error.wait(), code: Some(error.code()) }
    }
}

impl From<StoreError> for RayError {
    fn from(error: StoreError) -> Self {
        ApiError::from(error).into()
    }
}

impl From<DocumentError> for RayError {
    fn from(error: DocumentError) -> Self {
        ApiError::from(error).into()
    }
}

/// The team that the request is narrowed to, if it is.
fn team_of(headers: &HeaderMap) -> Result<Option<TeamId>, RayError> {
    let Some(given) = headers.get(TEAM_HEADER) else { return Ok(None) };
    let team = String::from_utf8_lossy(given.as_bytes()).parse::<TeamId>();
    team.map(Some).map_err(|e| RayError::new(StatusCode::BAD_REQUEST, format!("header {TEAM_HEADER}: {e}")))
}

/// The job of this submission id: of the team that the request names, or of any that the caller sees.
async fn find(state: &AppState, caller: &Caller, headers: &HeaderMap, id: &str) -> Result<JobView, RayError> {
    let mut teams: Vec<TeamId> = match (team_of(headers)?, caller.teams()) {
        (Some(team), _) => vec![team],
        (None, Some(teams)) => teams,
        (None, None) => state.admission.borrow().teams.keys().cloned().collect(),
    };
    teams.retain(|team| caller.sees(team));
    let mut found = Vec::new();
    for job in state.store.shown_jobs_of_key(id, &teams).await? {
        found.extend(state.store.job(job).await?);
    }
    if found.len() > 1 {
        let default = state.ray.config.default_team.as_ref();
        if let Some(of_default) = found.iter().position(|job| Some(&job.lifecycle.team) == default) {
            return Ok(found.swap_remove(of_default));
        }
        let teams: Vec<String> = found.iter().map(|job| job.lifecycle.team.to_string()).collect();
        let text = format!(
            "Job {id} exists in several teams ({}): say which with the header X-Yard-Team",
            teams.join(", ")
        );
        return Err(RayError::new(StatusCode::BAD_REQUEST, text));
    }
    found.pop().ok_or_else(|| RayError::no_such_job(id))
}

/// As [`find`], of a job that the caller is about to change.
async fn find_to_change(
    state: &AppState,
    caller: &Caller,
    headers: &HeaderMap,
    id: &str,
) -> Result<JobView, RayError> {
    let job = find(state, caller, headers, id).await?;
    let team = &job.lifecycle.team;
    caller.about_job(team, job.lifecycle.id);
    caller.need(Right::Stop, team)?;
    Ok(job)
}

/// Takes the names of teams that the caller does not see out of why these jobs wait.
async fn redact_waits(state: &AppState, caller: &Caller, jobs: &mut [JobView]) -> Result<(), RayError> {
    if caller.sees_all() {
        return Ok(());
    }
    let waits: Vec<_> = jobs.iter_mut().filter_map(|job| job.waiting.as_mut()).collect();
    let texts: Vec<(String, Vec<String>)> =
        waits.iter().map(|note| (note.message.clone(), note.clusters.values().cloned().collect())).collect();
    if texts.is_empty() {
        return Ok(());
    }
    let told = redact::for_caller(state, caller, texts).await?;
    for (note, (message, clusters)) in waits.into_iter().zip(told) {
        note.message = message;
        for (why, told) in note.clusters.values_mut().zip(clusters) {
            *why = told;
        }
    }
    Ok(())
}
