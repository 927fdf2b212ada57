//! `GET /v1/jobs/{id}`: one job, whole.

use axum::Json;
use axum::extract::State;
use yard_wire::views::{JobView, Problem};

use super::{JobPath, no_such_job};
use crate::problem::ApiError;
use crate::query::Params;
use crate::state::AppState;

#[utoipa::path(
    get, path = "/v1/jobs/{id}", tag = "jobs", summary = "Show one job",
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, body = JobView), (status = 404, description = "There is no such job", body = Problem))
)]
pub(crate) async fn get(
    State(state): State<AppState>,
    JobPath(id): JobPath,
    params: Params,
) -> Result<Json<JobView>, ApiError> {
    params.finish()?;
    let job = state.store.job(id).await?.ok_or_else(|| no_such_job(id))?;
    let now = state.store.now().await?;
    Ok(Json(JobView::new(&job, now)?))
}
