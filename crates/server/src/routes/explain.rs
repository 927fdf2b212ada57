//! `GET /v1/jobs/{id}/explain`, `GET /v1/teams/{team}/explain`: why jobs wait, and what would change it.

use axum::Json;
use axum::extract::{Path, State};
use yard_domain::TeamId;
use yard_wire::views::{ExplanationView, Problem, ProblemCode, TeamExplanationView};

use super::{JobPath, no_such_job};
use crate::problem::ApiError;
use crate::query::Params;
use crate::state::AppState;

#[utoipa::path(
    get, path = "/v1/jobs/{id}/explain", tag = "jobs", summary = "Why a job waits, and what would change it",
    description = "What would change it was found by planning again on a changed snapshot: each entry of `changes` holds as \
                   of `now`. A job that does not wait is told where it is instead.",
    params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, body = ExplanationView),
        (status = 404, description = "There is no such job", body = Problem),
    )
)]
pub(crate) async fn job(
    State(state): State<AppState>,
    JobPath(id): JobPath,
    params: Params,
) -> Result<Json<ExplanationView>, ApiError> {
    params.finish()?;
    let job = state.store.job(id).await?.ok_or_else(|| no_such_job(id))?;
    Ok(Json(state.explainer.job(&job).await?))
}

#[utoipa::path(
    get, path = "/v1/teams/{team}/explain", tag = "installation", summary = "Why a team's jobs wait, and what would change most",
    params(("team" = String, Path, description = "The team's id")),
    responses(
        (status = 200, body = TeamExplanationView),
        (status = 404, description = "There is no such team", body = Problem),
    )
)]
pub(crate) async fn team(
    State(state): State<AppState>,
    Path(team): Path<String>,
    params: Params,
) -> Result<Json<TeamExplanationView>, ApiError> {
    params.finish()?;
    let id: TeamId = team.parse().map_err(|e: yard_domain::ids::InvalidName| {
        ApiError::new(ProblemCode::BadRequest, format!("the path does not hold a team's id: {e}"))
    })?;
    let found = state.explainer.team(&id).await?;
    found.map(Json).ok_or_else(|| ApiError::not_found(format!("there is no team {id}")))
}
