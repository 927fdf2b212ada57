//! `GET /v1/jobs/{id}/history`: everything that happened to a job.

use axum::Json;
use axum::extract::State;
use yard_wire::views::{HistoryView, LineView, Problem};

use super::{JobPath, no_such_job};
use crate::problem::ApiError;
use crate::query::Params;
use crate::state::AppState;

/// Lines on a page unless the request says otherwise.
const PAGE: u32 = 200;

#[utoipa::path(
    get, path = "/v1/jobs/{id}/history", tag = "jobs", summary = "Show everything that happened to a job",
    params(
        ("id" = String, Path, description = "The job's id"),
        ("after" = Option<u32>, Query, description = "Only lines after this one"),
        ("limit" = Option<u32>, Query, description = "At most this many; by default 200"),
    ),
    responses((status = 200, body = HistoryView), (status = 404, description = "There is no such job", body = Problem))
)]
pub(crate) async fn history(
    State(state): State<AppState>,
    JobPath(id): JobPath,
    mut params: Params,
) -> Result<Json<HistoryView>, ApiError> {
    let after = params.one::<u32>("after").unwrap_or(0);
    let limit = params.number("limit", 1, state.config.page_max).unwrap_or(PAGE.min(state.config.page_max));
    params.finish()?;
    let mut lines = state.store.history(id, after, limit.saturating_add(1)).await?;
    if lines.is_empty() && state.store.job(id).await?.is_none() {
        return Err(no_such_job(id));
    }
    let more = lines.len() > limit as usize;
    lines.truncate(limit as usize);
    let next = if more { lines.last().map(|line| line.seq) } else { None };
    Ok(Json(HistoryView { id: id.to_string(), lines: lines.iter().map(LineView::from).collect(), next }))
}
