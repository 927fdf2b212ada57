//! `GET /v1/teams`: teams, their quotas and what they use.

use axum::Json;
use axum::extract::State;
use yard_wire::views::TeamList;

use crate::problem::ApiError;
use crate::query::Params;
use crate::state::AppState;

#[utoipa::path(
    get, path = "/v1/teams", tag = "installation", summary = "Show teams, their quotas and what they use",
    responses((status = 200, body = TeamList))
)]
pub(crate) async fn list(State(state): State<AppState>, params: Params) -> Result<Json<TeamList>, ApiError> {
    params.finish()?;
    let teams = state.store.teams().await?;
    let accounts = state.store.accounts().await?;
    let stats = state.store.stats().await?;
    Ok(Json(TeamList::new(&teams, &accounts, &stats)))
}
